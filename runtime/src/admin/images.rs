//! `GET /images`, `POST /images?file=NAME[&for=deployment]` (the library as the body), `DELETE /images/{reference}`.

use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use http_body_util::BodyExt;

use super::audit::{Naming, naming};
use super::error::{ApiError, refusal};
use super::request::{self, Params};
use crate::handle::{Handle, RefusalKind};
use crate::view::ImageView;

/// Largest image that can be uploaded.
pub const MAX_IMAGE_BYTES: u64 = 512 * 1024 * 1024;
/// Longest silence in an upload.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(30);

/// Images of the store, and files that were refused.
#[utoipa::path(get, path = "/images", tag = "images", responses((status = 200, body = Vec<ImageView>)))]
pub(super) async fn list(State(handle): State<Handle>) -> Result<Json<Vec<ImageView>>, ApiError> {
    Ok(Json(handle.images().await?))
}

/// Removes an image that nothing uses.
#[utoipa::path(
    delete, path = "/images/{reference}", tag = "images",
    responses((status = 200, body = ImageView), (status = 409))
)]
pub(super) async fn remove(
    State(handle): State<Handle>,
    Path(reference): Path<String>,
) -> Result<Json<ImageView>, ApiError> {
    Ok(Json(handle.image_remove(&reference).await?))
}

/// Takes in a library.
#[utoipa::path(
    post, path = "/images", tag = "images",
    params(
        ("file" = String, Query, description = "Name of the file"),
        (
            "for" = Option<String>,
            Query,
            description = "`deployment`: it comes with a manifest, and no instance is upgraded before that is applied"
        )
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "The library"),
    responses((status = 200, body = ImageView), (status = 409))
)]
pub(super) async fn add(
    State(handle): State<Handle>,
    params: Params,
    body: Body,
) -> Result<Naming<ImageView>, ApiError> {
    let Some(name) = params.text("file").filter(|name| !name.is_empty()) else {
        return Err(ApiError::invalid("the upload has no name").hint("POST /images?file=NAME.so"));
    };
    // What comes with a manifest is used once that is applied, and under its health gate.
    let is_for_deployment = params.text("for") == Some("deployment");
    let upload = Upload::receive(handle.upload_folder(), body).await?;
    Ok(naming(name, handle.image_add(upload.path.clone(), name.to_owned(), is_for_deployment).await?))
}

/// A complete upload. Its file goes when this does, unless it was moved away before.
struct Upload {
    path: PathBuf,
}

impl Upload {
    async fn receive(folder: PathBuf, mut body: Body) -> Result<Upload, ApiError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let upload = Upload { path: folder.join(format!("upload-{}-{count}.part", std::process::id())) };
        let failed = |what: &str, error: std::io::Error| {
            let message = format!("the upload cannot be {what} {}: {error}", folder.display());
            ApiError::from(refusal(RefusalKind::Failed, message)).hint("check the space and the rights of that folder")
        };
        std::fs::create_dir_all(&folder).map_err(|error| failed("put into", error))?;
        let mut file = std::fs::File::create_new(&upload.path).map_err(|error| failed("put into", error))?;
        let mut bytes = 0u64;
        while let Some(frame) = tokio::time::timeout(CHUNK_TIMEOUT, body.frame()).await.map_err(|_| silent())? {
            let frame = frame.map_err(|error| request::broken_off(&error))?;
            let Ok(chunk) = frame.into_data() else { continue };
            bytes += chunk.len() as u64;
            if bytes > MAX_IMAGE_BYTES {
                let message = format!("an image has at most {} MiB", MAX_IMAGE_BYTES >> 20);
                return Err(refusal(RefusalKind::TooLarge, message).into());
            }
            file.write_all(&chunk).map_err(|error| failed("written to", error))?;
        }
        Ok(upload)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn silent() -> ApiError {
    let message = format!("the upload was silent for {} s", CHUNK_TIMEOUT.as_secs());
    refusal(RefusalKind::Timeout, message).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn upload_is_complete_in_its_file_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();

        let upload = Upload::receive(folder.path().join("uploads"), Body::from("library")).await.unwrap();

        assert_eq!(std::fs::read(&upload.path).unwrap(), b"library");
        drop(upload);
        assert_eq!(std::fs::read_dir(folder.path().join("uploads")).unwrap().count(), 0);
    }
}
