//! `/twins/{device}[/modules/{module}]`: GET, PATCH and PUT as in IoT Hub's service API, `If-Match` included; and what it does not
//! have: `…/history` and `…/undo`.

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::Value;

use super::error::ApiError;
use super::methods::told;
use super::request::{self, By, Params, Target};
use crate::handle::{Handle, Refusal, TwinChange, TwinPart, TwinWish};
use crate::name::Identity;
use crate::view::TwinHistoryView;

/// Changes of a history that are given unless told.
const USUAL_CHANGES: u64 = 100;

/// What every change brings along: who asks, on which state, and whether a schema shall stop it.
pub(super) struct Terms {
    if_match: Option<String>,
    is_forced: bool,
    by: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Terms {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Terms, ApiError> {
        let By(by) = By::from_request_parts(parts, state).await?;
        let params = Params::from_request_parts(parts, state).await?;
        Ok(Terms { if_match: request::if_match(&parts.headers)?, is_forced: params.is_set("force"), by })
    }
}

impl Terms {
    fn of(self, wish: TwinWish) -> TwinChange {
        TwinChange { wish, if_match: self.if_match, is_forced: self.is_forced, by: self.by }
    }
}

/// For the OpenAPI document: what [`Terms`] reads of the headers.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only described")]
struct ExpectedEtag {
    /// The etag that is expected, quoted; `*` for any
    #[param(rename = "If-Match")]
    if_match: Option<String>,
}

/// For the OpenAPI document: what [`Terms`] reads of the query.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only described")]
struct Force {
    /// Also what the module's image does not take
    force: Option<bool>,
}

/// For the OpenAPI document.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only described")]
struct HistoryParams {
    /// Only changes at, in or around this path
    path: Option<String>,
    /// So many at most; 100 unless told
    limit: Option<u64>,
}

/// The twin of the device.
#[utoipa::path(
    get, path = "/twins/{device}", tag = "twins",
    params(("version" = Option<u64>, Query, description = "Tags and desired properties as they were at this `$version`")),
    responses((status = 200, body = Object, headers(("etag" = String, description = "The etag of the document"))))
)]
pub(super) async fn get_device(state: State<Handle>, target: Target, params: Params) -> Result<Response, ApiError> {
    get_module(state, target, params).await
}

/// The twin of a module.
#[utoipa::path(
    get, path = "/twins/{device}/modules/{module}", tag = "twins",
    params(("version" = Option<u64>, Query, description = "Tags and desired properties as they were at this `$version`")),
    responses((status = 200, body = Object, headers(("etag" = String, description = "The etag of the document"))))
)]
pub(super) async fn get_module(
    State(handle): State<Handle>,
    Target(id): Target,
    params: Params,
) -> Result<Response, ApiError> {
    let found = match params.number("version")? {
        Some(version) => handle.past_twin(&id, version).await,
        None => handle.twin(&id).await,
    };
    twin(&handle, &id, found)
}

/// Merges into tags and desired properties of the device.
#[utoipa::path(
    patch, path = "/twins/{device}", tag = "twins",
    params(ExpectedEtag, Force),
    request_body = Object,
    responses(
        (status = 200, body = Object, headers(("etag" = String, description = "The etag of the document"))),
        (status = 409),
        (status = 412)
    )
)]
pub(super) async fn patch_device(
    state: State<Handle>,
    target: Target,
    terms: Terms,
    body: Body,
) -> Result<Response, ApiError> {
    patch_module(state, target, terms, body).await
}

/// Merges into tags and desired properties of a module.
#[utoipa::path(
    patch, path = "/twins/{device}/modules/{module}", tag = "twins",
    params(ExpectedEtag, Force),
    request_body = Object,
    responses(
        (status = 200, body = Object, headers(("etag" = String, description = "The etag of the document"))),
        (status = 409),
        (status = 412)
    )
)]
pub(super) async fn patch_module(
    State(handle): State<Handle>,
    Target(id): Target,
    terms: Terms,
    body: Body,
) -> Result<Response, ApiError> {
    let wish = TwinWish::Patch(request::document(body).await?);
    let changed = handle.change_twin(&id, terms.of(wish)).await;
    twin(&handle, &id, changed)
}

/// Replaces tags and desired properties of the device; a part that is missing is emptied.
#[utoipa::path(
    put, path = "/twins/{device}", tag = "twins",
    params(ExpectedEtag, Force),
    request_body = Object,
    responses(
        (status = 200, body = Object, headers(("etag" = String, description = "The etag of the document"))),
        (status = 409),
        (status = 412)
    )
)]
pub(super) async fn replace_device(
    state: State<Handle>,
    target: Target,
    terms: Terms,
    body: Body,
) -> Result<Response, ApiError> {
    replace_module(state, target, terms, body).await
}

/// Replaces tags and desired properties of a module; a part that is missing is emptied.
#[utoipa::path(
    put, path = "/twins/{device}/modules/{module}", tag = "twins",
    params(ExpectedEtag, Force),
    request_body = Object,
    responses(
        (status = 200, body = Object, headers(("etag" = String, description = "The etag of the document"))),
        (status = 409),
        (status = 412)
    )
)]
pub(super) async fn replace_module(
    State(handle): State<Handle>,
    Target(id): Target,
    terms: Terms,
    body: Body,
) -> Result<Response, ApiError> {
    let wish = TwinWish::Replace(request::document(body).await?);
    let changed = handle.change_twin(&id, terms.of(wish)).await;
    twin(&handle, &id, changed)
}

/// Who changed tags and desired properties of the device.
#[utoipa::path(
    get, path = "/twins/{device}/history", tag = "twins",
    params(HistoryParams),
    responses((status = 200, body = TwinHistoryView))
)]
pub(super) async fn device_history(
    state: State<Handle>,
    target: Target,
    params: Params,
) -> Result<Json<TwinHistoryView>, ApiError> {
    module_history(state, target, params).await
}

/// Who changed tags and desired properties of a module.
#[utoipa::path(
    get, path = "/twins/{device}/modules/{module}/history", tag = "twins",
    params(HistoryParams),
    responses((status = 200, body = TwinHistoryView))
)]
pub(super) async fn module_history(
    State(handle): State<Handle>,
    Target(id): Target,
    params: Params,
) -> Result<Json<TwinHistoryView>, ApiError> {
    let limit = usize::try_from(params.number("limit")?.unwrap_or(USUAL_CHANGES)).unwrap_or(usize::MAX);
    let path = params.text("path").map(str::to_owned).filter(|path| !path.is_empty());
    handle.twin_history(&id, path, limit).await.map(Json).map_err(|refusal| told(&handle, &id, refusal))
}

/// Puts tags or desired properties of the device back as they were at a version: a change like any other.
#[utoipa::path(
    post, path = "/twins/{device}/undo", tag = "twins",
    params(ExpectedEtag, Force),
    request_body = UndoDocument,
    responses(
        (status = 200, body = Object, headers(("etag" = String, description = "The etag of the document"))),
        (status = 409),
        (status = 412)
    )
)]
pub(super) async fn undo_device(
    state: State<Handle>,
    target: Target,
    terms: Terms,
    body: Body,
) -> Result<Response, ApiError> {
    undo_module(state, target, terms, body).await
}

/// Puts tags or desired properties of a module back as they were at a version: a change like any other.
#[utoipa::path(
    post, path = "/twins/{device}/modules/{module}/undo", tag = "twins",
    params(ExpectedEtag, Force),
    request_body = UndoDocument,
    responses(
        (status = 200, body = Object, headers(("etag" = String, description = "The etag of the document"))),
        (status = 409),
        (status = 412)
    )
)]
pub(super) async fn undo_module(
    State(handle): State<Handle>,
    Target(id): Target,
    terms: Terms,
    body: Body,
) -> Result<Response, ApiError> {
    let UndoDocument { to, section } = request::object(body).await?;
    let part = match section {
        UndoSection::Desired => TwinPart::Desired,
        UndoSection::Tags => TwinPart::Tags,
    };
    let changed = handle.change_twin(&id, terms.of(TwinWish::Undo { part, to })).await;
    twin(&handle, &id, changed)
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct UndoDocument {
    /// The `$version` to go back to, of the section.
    to: u64,
    /// Desired properties unless told.
    #[serde(default)]
    section: UndoSection,
}

#[derive(Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
enum UndoSection {
    #[default]
    Desired,
    Tags,
}

/// The root document with its etag as a header.
fn twin(handle: &Handle, id: &Identity, answer: Result<Value, Refusal>) -> Result<Response, ApiError> {
    Ok(with_etag(answer.map_err(|refusal| told(handle, id, refusal))?))
}

fn with_etag(root: Value) -> Response {
    let etag = root["etag"].as_str().and_then(|tag| HeaderValue::from_str(&format!("\"{tag}\"")).ok());
    let mut response = Json(root).into_response();
    if let Some(etag) = etag {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etag_of_the_document_is_the_etag_of_the_answer() {
        let response = with_etag(serde_json::json!({"etag": "AAAAAAAAAAE="}));

        assert_eq!(response.headers()[header::ETAG], "\"AAAAAAAAAAE=\"");
    }
}
