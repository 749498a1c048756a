//! What is ours about keys: `/identities/{device}[/modules/{module}]/token|rotate|connection-string`, and the same of
//! `/policies/{name}`. Keys leave this device by these routes and by the documents of the registry, for owners only.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::document::document;
use crate::admin::audit::GivesKeys;
use crate::admin::error::{ApiError, refusal};
use crate::admin::request::{self, By, Params, Target};
use crate::clock;
use crate::handle::{Handle, KeySlot, RefusalKind, Role};
use crate::name::Identity;
use crate::view::{ConnectionStringView, TokenView};

/// What holds secrets is kept by nobody on the way.
const NOT_KEPT: (HeaderName, HeaderValue) = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
const DEFAULT_TTL_SECS: u64 = 3600;

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::admin) struct TokenRequest {
    /// How long it holds: 3600 unless told, 365 days at most.
    ttl_seconds: Option<u64>,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::admin) struct RotateRequest {
    /// `primary` or `secondary`.
    key: String,
}

/// A token that proves to be a device.
#[utoipa::path(
    post, path = "/identities/{device}/token", tag = "identities",
    request_body = TokenRequest, responses((status = 200, body = TokenView))
)]
pub(in crate::admin) async fn device_token(
    State(handle): State<Handle>,
    by: By,
    Target(id): Target,
    body: Body,
) -> Result<Response, ApiError> {
    token(&handle, &id, &by, body).await
}

/// A token that proves to be a module.
#[utoipa::path(
    post, path = "/identities/{device}/modules/{module}/token", tag = "identities",
    request_body = TokenRequest, responses((status = 200, body = TokenView))
)]
pub(in crate::admin) async fn module_token(
    State(handle): State<Handle>,
    by: By,
    Target(id): Target,
    body: Body,
) -> Result<Response, ApiError> {
    token(&handle, &id, &by, body).await
}

/// Replaces one key of a device, while the other holds.
#[utoipa::path(
    post, path = "/identities/{device}/rotate", tag = "identities",
    request_body = RotateRequest, responses((status = 200, body = Object))
)]
pub(in crate::admin) async fn rotate_device(
    State(handle): State<Handle>,
    by: By,
    Target(id): Target,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    rotate(&handle, &id, &by, body).await
}

/// Replaces one key of a module, while the other holds.
#[utoipa::path(
    post, path = "/identities/{device}/modules/{module}/rotate", tag = "identities",
    request_body = RotateRequest, responses((status = 200, body = Object))
)]
pub(in crate::admin) async fn rotate_module(
    State(handle): State<Handle>,
    by: By,
    Target(id): Target,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    rotate(&handle, &id, &by, body).await
}

/// What a device connects with, its key included.
#[utoipa::path(
    get, path = "/identities/{device}/connection-string", tag = "identities",
    params(("key" = Option<String>, Query, description = "`primary` or `secondary`")),
    responses((status = 200, body = ConnectionStringView))
)]
pub(in crate::admin) async fn device_connection_string(
    State(handle): State<Handle>,
    by: By,
    Target(id): Target,
    params: Params,
) -> Result<Response, ApiError> {
    connection_string(&handle, &id, &by, &params)
}

/// What a module connects with, its key included.
#[utoipa::path(
    get, path = "/identities/{device}/modules/{module}/connection-string", tag = "identities",
    params(("key" = Option<String>, Query, description = "`primary` or `secondary`")),
    responses((status = 200, body = ConnectionStringView))
)]
pub(in crate::admin) async fn module_connection_string(
    State(handle): State<Handle>,
    by: By,
    Target(id): Target,
    params: Params,
) -> Result<Response, ApiError> {
    connection_string(&handle, &id, &by, &params)
}

/// What a program that manages this device connects with, the key of a shared access policy included.
#[utoipa::path(
    get, path = "/policies/{name}/connection-string", tag = "identities",
    params(("key" = Option<String>, Query, description = "`primary` or `secondary`")),
    responses((status = 200, body = ConnectionStringView), (status = 409))
)]
pub(in crate::admin) async fn policy_connection_string(
    State(handle): State<Handle>,
    by: By,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let role = policy(&name)?;
    let Some(host) = handle.remote_host() else {
        let message =
            "this device is not reached from other machines, so a service connection string would lead nowhere";
        return Err(ApiError::from(refusal(RefusalKind::Conflict, message))
            .hint("start the runtime with --listen 0.0.0.0:8443, or with listen = \"0.0.0.0:8443\" under [api] in its configuration (api.listen)"));
    };
    let key = handle.policy_key(role, slot(params.text("key"))?)?;
    tracing::info!("key of the policy {role} shown to {}", by.0);
    let text = format!("HostName={host};SharedAccessKeyName={role};SharedAccessKey={}", key.as_str());
    Ok(secret(&ConnectionStringView { connection_string: text }))
}

/// Replaces one key of a shared access policy, while the other holds.
#[utoipa::path(
    post, path = "/policies/{name}/rotate", tag = "identities",
    request_body = RotateRequest, responses((status = 200, body = Object))
)]
pub(in crate::admin) async fn rotate_policy(
    State(handle): State<Handle>,
    by: By,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let role = policy(&name)?;
    let RotateRequest { key } = request::object(body).await?;
    handle.policy_rotate(role, slot(Some(&key))?, &by.0).await?;
    Ok(Json(json!({"policy": role.name(), "key": key})))
}

async fn token(handle: &Handle, id: &Identity, by: &By, body: Body) -> Result<Response, ApiError> {
    let asked: Option<TokenRequest> = request::object_or_nothing(body).await?;
    let ttl_secs = asked.and_then(|asked| asked.ttl_seconds).unwrap_or(DEFAULT_TTL_SECS);
    let (token, expiry_s) = handle.identity_token(id, &handle.host(), ttl_secs, clock::wall_us())?;
    let expires_at_utc = clock::rfc3339(i64::try_from(expiry_s).unwrap_or(i64::MAX).saturating_mul(1_000_000));
    tracing::info!("a token for {id} until {expires_at_utc} made for {}", by.0);
    Ok(secret(&TokenView { token, expires_at_utc }))
}

async fn rotate(handle: &Handle, id: &Identity, by: &By, body: Body) -> Result<Json<Value>, ApiError> {
    let RotateRequest { key } = request::object(body).await?;
    handle.identity_rotate(id, slot(Some(&key))?, &by.0).await?;
    Ok(Json(document(&handle.identity(id, false)?)))
}

fn connection_string(handle: &Handle, id: &Identity, by: &By, params: &Params) -> Result<Response, ApiError> {
    let key = handle.identity_key(id, slot(params.text("key"))?)?;
    tracing::info!("key of {id} shown to {}", by.0);
    let module = id.module_id().map(|module| format!("ModuleId={module};")).unwrap_or_default();
    let text =
        format!("HostName={};DeviceId={};{module}SharedAccessKey={}", handle.host(), id.device_id(), key.as_str());
    Ok(secret(&ConnectionStringView { connection_string: text }))
}

fn secret(view: &impl Serialize) -> Response {
    (Extension(GivesKeys), [NOT_KEPT], Json(view)).into_response()
}

fn slot(text: Option<&str>) -> Result<KeySlot, ApiError> {
    let Some(text) = text else { return Ok(KeySlot::Primary) };
    text.parse()
        .map_err(|()| ApiError::invalid(format!("there is no key '{text}'")).hint("primary and secondary are possible"))
}

fn policy(name: &str) -> Result<Role, ApiError> {
    name.parse().map_err(|()| {
        ApiError::from(refusal(RefusalKind::NotFound, format!("there is no shared access policy '{name}'")))
            .hint("reader, operator and owner are there")
    })
}
