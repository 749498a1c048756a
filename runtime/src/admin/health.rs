//! `GET /health`.

use axum::Json;
use axum::extract::State;

use super::error::ApiError;
use crate::handle::Handle;
use crate::view::HealthView;

/// State of the runtime.
#[utoipa::path(
    get, operation_id = "health", path = "/health", tag = "runtime",
    responses((status = 200, body = HealthView))
)]
pub(super) async fn show(State(handle): State<Handle>) -> Result<Json<HealthView>, ApiError> {
    Ok(Json(handle.health().await?))
}
