//! `/twins/{device}[/modules/{module}]`: GET, PATCH and PUT as in IoT Hub's service API, `If-Match` included.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::error::ApiError;
use super::request::{self, By};
use crate::handle::{Handle, Refusal};
use crate::name::Identity;

type ModulePath = Path<(String, String)>;

/// The twin of the device.
#[utoipa::path(
    get, path = "/twins/{device}", tag = "twins",
    responses((status = 200, body = Object, headers(("etag" = String, description = "The etag of the document"))))
)]
pub(super) async fn get_device(State(handle): State<Handle>, Path(device): Path<String>) -> Result<Response, ApiError> {
    twin(handle.twin(&Identity::device(&device)?).await)
}

/// The twin of a module.
#[utoipa::path(
    get, path = "/twins/{device}/modules/{module}", tag = "twins",
    responses((status = 200, body = Object, headers(("etag" = String, description = "The etag of the document"))))
)]
pub(super) async fn get_module(
    State(handle): State<Handle>,
    Path((device, module)): ModulePath,
) -> Result<Response, ApiError> {
    twin(handle.twin(&Identity::module(&device, &module)?).await)
}

/// Merges into tags and desired properties of the device.
#[utoipa::path(
    patch, path = "/twins/{device}", tag = "twins",
    params(("If-Match" = Option<String>, Header, description = "The etag that is expected, quoted; `*` for any")),
    request_body = Object,
    responses(
        (status = 200, body = Object, headers(("etag" = String, description = "The etag of the document"))),
        (status = 409),
        (status = 412)
    )
)]
pub(super) async fn patch_device(
    State(handle): State<Handle>,
    Path(device): Path<String>,
    by: By,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    patch(handle, Identity::device(&device)?, by, headers, body).await
}

/// Merges into tags and desired properties of a module.
#[utoipa::path(
    patch, path = "/twins/{device}/modules/{module}", tag = "twins",
    params(("If-Match" = Option<String>, Header, description = "The etag that is expected, quoted; `*` for any")),
    request_body = Object,
    responses(
        (status = 200, body = Object, headers(("etag" = String, description = "The etag of the document"))),
        (status = 409),
        (status = 412)
    )
)]
pub(super) async fn patch_module(
    State(handle): State<Handle>,
    Path((device, module)): ModulePath,
    by: By,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    patch(handle, Identity::module(&device, &module)?, by, headers, body).await
}

/// Replaces tags and desired properties of the device.
#[utoipa::path(
    put, path = "/twins/{device}", tag = "twins",
    params(("If-Match" = Option<String>, Header, description = "The etag that is expected, quoted; `*` for any")),
    request_body = Object,
    responses(
        (status = 200, body = Object, headers(("etag" = String, description = "The etag of the document"))),
        (status = 409),
        (status = 412)
    )
)]
pub(super) async fn replace_device(
    State(handle): State<Handle>,
    Path(device): Path<String>,
    by: By,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    replace(handle, Identity::device(&device)?, by, headers, body).await
}

/// Replaces tags and desired properties of a module.
#[utoipa::path(
    put, path = "/twins/{device}/modules/{module}", tag = "twins",
    params(("If-Match" = Option<String>, Header, description = "The etag that is expected, quoted; `*` for any")),
    request_body = Object,
    responses(
        (status = 200, body = Object, headers(("etag" = String, description = "The etag of the document"))),
        (status = 409),
        (status = 412)
    )
)]
pub(super) async fn replace_module(
    State(handle): State<Handle>,
    Path((device, module)): ModulePath,
    by: By,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    replace(handle, Identity::module(&device, &module)?, by, headers, body).await
}

async fn patch(handle: Handle, id: Identity, by: By, headers: HeaderMap, body: Body) -> Result<Response, ApiError> {
    let expected = request::if_match(&headers)?;
    let document = request::json(body).await?;
    twin(handle.twin_patch(&id, document, expected, &by.0).await)
}

async fn replace(handle: Handle, id: Identity, by: By, headers: HeaderMap, body: Body) -> Result<Response, ApiError> {
    let expected = request::if_match(&headers)?;
    let document = request::json(body).await?;
    twin(handle.twin_replace(&id, document, expected, &by.0).await)
}

/// The root document with its etag as a header.
fn twin(answer: Result<Value, Refusal>) -> Result<Response, ApiError> {
    let root = answer?;
    let etag = root["etag"].as_str().and_then(|tag| HeaderValue::from_str(&format!("\"{tag}\"")).ok());
    let mut response = Json(root).into_response();
    if let Some(etag) = etag {
        response.headers_mut().insert(header::ETAG, etag);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etag_of_the_document_is_the_etag_of_the_answer() {
        let response = twin(Ok(serde_json::json!({"etag": "AAAAAAAAAAE="}))).unwrap();

        assert_eq!(response.headers()[header::ETAG], "\"AAAAAAAAAAE=\"");
    }
}
