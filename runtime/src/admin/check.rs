//! `GET /check`.

use axum::Json;
use axum::extract::State;

use super::error::ApiError;
use crate::handle::Handle;
use crate::view::CheckView;

pub(super) async fn show(State(handle): State<Handle>) -> Result<Json<CheckView>, ApiError> {
    Ok(Json(handle.check().await?))
}
