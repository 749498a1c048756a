//! `GET /check`.

use axum::Json;
use axum::extract::State;

use super::error::ApiError;
use crate::handle::Handle;
use crate::view::CheckView;

/// Looks at the device, the state directory and everything that runs.
#[utoipa::path(
    get, operation_id = "check", path = "/check", tag = "runtime",
    responses((status = 200, body = CheckView))
)]
pub(super) async fn show(State(handle): State<Handle>) -> Result<Json<CheckView>, ApiError> {
    Ok(Json(handle.check().await?))
}
