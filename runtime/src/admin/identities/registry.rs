//! `/devices`, `/devices/{device}`, `/devices/{device}/modules[/{module}]`: as in IoT Hub's service API.
//!
//! ```text
//! GET     200, 404                          keys are in it for owners only, for others they are null
//! PUT     without If-Match: makes it        device 200, module 201; 409 where it is there
//!         with If-Match:    changes it      200; 404, 412. What the document does not name stays
//! DELETE  204, 404, 412                     of a device its modules too
//! ```

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::body::IdentityBody;
use super::document::document;
use crate::admin::audit::GivesKeys;
use crate::admin::error::ApiError;
use crate::admin::error::iot_hub::HubCode;
use crate::admin::methods::told;
use crate::admin::request::{self, By, MayHaveKeys, Params};
use crate::handle::{Handle, IdentityState, NewIdentity, RefusalKind};
use crate::name::Identity;

/// Devices that a list has. Source: IoT Hub's registry.
const MAX_DEVICES: u64 = 1000;

/// The devices of the registry, sorted.
#[utoipa::path(
    get, path = "/devices", tag = "identities",
    params(("top" = Option<u64>, Query, description = "At most so many: 1 to 1000, 1000 unless told")),
    responses((status = 200, body = Vec<Object>))
)]
pub(in crate::admin) async fn list(
    State(handle): State<Handle>,
    keys: MayHaveKeys,
    params: Params,
) -> Result<Response, ApiError> {
    let top = params.number("top")?.unwrap_or(MAX_DEVICES);
    if !(1..=MAX_DEVICES).contains(&top) {
        return Err(ApiError::invalid(format!("top={top} is not a number from 1 to {MAX_DEVICES}"))
            .hint("all of them: POST /devices/query with SELECT * FROM devices, in pages")
            .iot_hub(&HubCode::INVALID_RESULT_COUNT));
    }
    let top = usize::try_from(top).unwrap_or(usize::MAX);
    Ok(list_of(&handle.devices(top, keys.0)?))
}

/// The modules of a device, sorted.
#[utoipa::path(
    get, path = "/devices/{device}/modules", tag = "identities",
    responses((status = 200, body = Vec<Object>))
)]
pub(in crate::admin) async fn list_modules(
    State(handle): State<Handle>,
    keys: MayHaveKeys,
    Path(device): Path<String>,
) -> Result<Response, ApiError> {
    let device = Identity::device(&device)?;
    let modules = handle.modules_of(&device, keys.0).map_err(|refusal| told(&handle, &device, refusal))?;
    Ok(list_of(&modules))
}

/// A device of the registry; with its keys for owners.
#[utoipa::path(
    get, path = "/devices/{device}", tag = "identities",
    responses((status = 200, body = Object, headers(("etag" = String, description = "The etag of the document"))))
)]
pub(in crate::admin) async fn get_device(
    State(handle): State<Handle>,
    keys: MayHaveKeys,
    Path(device): Path<String>,
) -> Result<Response, ApiError> {
    Ok(answer(StatusCode::OK, &handle.identity(&Identity::device(&device)?, keys.0)?))
}

/// A module of the registry; with its keys for owners.
#[utoipa::path(
    get, path = "/devices/{device}/modules/{module}", tag = "identities",
    responses((status = 200, body = Object, headers(("etag" = String, description = "The etag of the document"))))
)]
pub(in crate::admin) async fn get_module(
    State(handle): State<Handle>,
    keys: MayHaveKeys,
    Path((device, module)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let id = Identity::module(&device, &module)?;
    let found = handle.identity(&id, keys.0).map_err(|refusal| told(&handle, &id, refusal))?;
    Ok(answer(StatusCode::OK, &found))
}

/// Makes a device, or changes what is named of it.
#[utoipa::path(
    put, path = "/devices/{device}", tag = "identities",
    params(("If-Match" = Option<String>, Header, description = "The etag that is expected, quoted, or `*` for any; without it the identity is made")),
    request_body = Object,
    responses((status = 200, body = Object, headers(("etag" = String, description = "The etag of the document"))), (status = 409), (status = 412))
)]
pub(in crate::admin) async fn put_device(
    State(handle): State<Handle>,
    keys: MayHaveKeys,
    by: By,
    Path(device): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    put(handle, Identity::device(&device)?, keys, by, headers, body).await
}

/// Makes a module, or changes what is named of it.
#[utoipa::path(
    put, path = "/devices/{device}/modules/{module}", tag = "identities",
    params(("If-Match" = Option<String>, Header, description = "The etag that is expected, quoted, or `*` for any; without it the identity is made")),
    request_body = Object,
    responses(
        (status = 200, body = Object, headers(("etag" = String, description = "The etag of the document"))),
        (status = 201, body = Object, headers(("etag" = String, description = "The etag of the document"))),
        (status = 409),
        (status = 412)
    )
)]
pub(in crate::admin) async fn put_module(
    State(handle): State<Handle>,
    keys: MayHaveKeys,
    by: By,
    Path((device, module)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    put(handle, Identity::module(&device, &module)?, keys, by, headers, body).await
}

/// Removes a device with its modules and their twins.
#[utoipa::path(
    delete, path = "/devices/{device}", tag = "identities",
    params(("If-Match" = Option<String>, Header, description = "The etag that is expected, quoted; `*` for any")),
    responses((status = 204), (status = 409), (status = 412))
)]
pub(in crate::admin) async fn delete_device(
    State(handle): State<Handle>,
    by: By,
    Path(device): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    delete(handle, Identity::device(&device)?, by, headers).await
}

/// Removes a module with its twin.
#[utoipa::path(
    delete, path = "/devices/{device}/modules/{module}", tag = "identities",
    params(("If-Match" = Option<String>, Header, description = "The etag that is expected, quoted; `*` for any")),
    responses((status = 204), (status = 409), (status = 412))
)]
pub(in crate::admin) async fn delete_module(
    State(handle): State<Handle>,
    by: By,
    Path((device, module)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    delete(handle, Identity::module(&device, &module)?, by, headers).await
}

async fn put(
    handle: Handle,
    id: Identity,
    keys: MayHaveKeys,
    by: By,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let is_update = headers.contains_key(header::IF_MATCH);
    let expected = request::if_match(&headers)?;
    let body: Option<IdentityBody> = request::object_unquoted(body).await?;
    let body = body.unwrap_or_default();
    same("deviceId", body.device_id.as_deref(), Some(id.device_id()))?;
    same("moduleId", body.module_id.as_deref(), id.module_id())?;
    let change = body.into_change(id.module_id().is_none() && id.device_id() == handle.device_id())?;
    if is_update {
        let updated = handle.identity_update(&id, change, expected, &by.0).await;
        updated.map_err(|refusal| told(&handle, &id, refusal))?;
        return Ok(answer(StatusCode::OK, &handle.identity(&id, keys.0)?));
    }
    let new = vec![NewIdentity { identity: id.clone(), change }];
    handle.identities_add(new, &by.0).await?.map_err(|(_, refusal)| match refusal.kind {
        // The path names the module, but what is missing is its device.
        RefusalKind::NotFound => ApiError::from(refusal).iot_hub(&HubCode::DEVICE_NOT_FOUND),
        _ => ApiError::from(refusal),
    })?;
    let status = if id.module_id().is_some() { StatusCode::CREATED } else { StatusCode::OK };
    Ok(answer(status, &handle.identity(&id, keys.0)?))
}

/// That the document is about what the path names.
fn same(member: &str, said: Option<&str>, path: Option<&str>) -> Result<(), ApiError> {
    match said {
        Some(said) if Some(said) != path => Err(ApiError::invalid(format!(
            "{member} is '{said}', but the path names {}",
            path.map_or("none".to_owned(), |path| format!("'{path}'"))
        ))
        .hint("send it to the path of its own, or leave the member out")),
        _ => Ok(()),
    }
}

async fn delete(handle: Handle, id: Identity, by: By, headers: HeaderMap) -> Result<StatusCode, ApiError> {
    let expected = request::if_match(&headers)?;
    match handle.identity_remove(&id, expected, &by.0).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(refusal) if refusal.kind == RefusalKind::Conflict => {
            Err(ApiError::from(refusal).iot_hub(&HubCode::INVALID_OPERATION))
        }
        Err(refusal) => Err(told(&handle, &id, refusal)),
    }
}

fn list_of(states: &[IdentityState]) -> Response {
    let documents: Vec<Value> = states.iter().map(document).collect();
    marked(Json(documents).into_response(), states)
}

/// Whoever takes keys is recorded.
fn marked(mut response: Response, states: &[IdentityState]) -> Response {
    if states.iter().any(|state| state.keys.is_some()) {
        response.extensions_mut().insert(GivesKeys);
    }
    response
}

/// The document with its etag as a header.
fn answer(status: StatusCode, state: &IdentityState) -> Response {
    let mut response = (status, Json(document(state))).into_response();
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", state.record.etag())) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    marked(response, std::slice::from_ref(state))
}
