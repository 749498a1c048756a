//! `GET /losses?name=NAME`.

use axum::Json;
use axum::extract::State;

use super::error::ApiError;
use super::request::Params;
use crate::handle::Handle;
use crate::view::LossesView;

/// Messages that were dropped, expired or parked, counted by reason.
#[utoipa::path(
    get, path = "/losses", tag = "messages",
    params(("name" = Option<String>, Query, description = "Only what this module sent or was to get")),
    responses((status = 200, body = LossesView), (status = 404))
)]
pub(super) async fn show(State(handle): State<Handle>, params: Params) -> Result<Json<LossesView>, ApiError> {
    Ok(Json(handle.losses(params.text("name").filter(|name| !name.is_empty())).await?))
}
