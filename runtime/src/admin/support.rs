//! `GET /support-bundle?folder=NAME&withValues=true`: a zip file.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::error::ApiError;
use super::request::Params;
use crate::handle::Handle;
use crate::support::file_name;

/// The support bundle: a zip file without secrets.
#[utoipa::path(
    get, path = "/support-bundle", tag = "runtime",
    params(
        ("folder" = Option<String>, Query, description = "Name of the folder in the zip file"),
        ("withValues" = Option<bool>, Query, description = "With the values of desired properties and tags")
    ),
    responses((status = 200, body = Vec<u8>, content_type = "application/zip"))
)]
pub(super) async fn bundle(State(handle): State<Handle>, params: Params) -> Result<Response, ApiError> {
    let folder = file_name(params.text("folder").unwrap_or("dinrail-support"));
    let with_values = params.text("withValues") == Some("true");
    let bytes = handle.support_bundle(folder, with_values).await?;
    Ok(([(header::CONTENT_TYPE, "application/zip")], bytes).into_response())
}
