//! `GET /health`.

use axum::Json;
use axum::extract::State;

use super::error::ApiError;
use crate::handle::Handle;
use crate::view::HealthView;

pub(super) async fn show(State(handle): State<Handle>) -> Result<Json<HealthView>, ApiError> {
    Ok(Json(handle.health().await?))
}
