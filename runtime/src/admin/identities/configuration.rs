//! `POST /devices/{device}/applyConfigurationContent`: a deployment for this device, as in IoT Hub's service API.
//!
//! `{"modulesContent": {…}}` is a manifest; it is applied as `PUT /deployment` would. 204 says that it is in force, not that all of
//! it runs yet.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::Value;

use crate::admin::error::{ApiError, refusal};
use crate::admin::request::{self, By};
use crate::handle::{DeployRequest, Handle, RefusalKind};
use crate::name::Identity;

/// Applies `modulesContent` as the deployment of this device.
#[utoipa::path(
    post, path = "/devices/{device}/applyConfigurationContent", tag = "deployments",
    request_body = Object, responses((status = 204), (status = 409))
)]
pub(in crate::admin) async fn apply(
    State(handle): State<Handle>,
    by: By,
    Path(device): Path<String>,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let device = Identity::device(&device)?;
    let mut document: Value = request::object(body).await?;
    if device.device_id() != handle.device_id() {
        // Refused as unknown where it is.
        handle.identity(&device, false)?;
        let message = format!("{device} runs no modules of this device, so nothing can be deployed to it");
        return Err(ApiError::from(refusal(RefusalKind::Invalid, message))
            .hint(format!("this device is /devices/{}", handle.device_id())));
    }
    // Sent empty by the SDKs where there is nothing of the kind.
    if let Some(members) = document.as_object_mut() {
        for other in ["deviceContent", "moduleContent"] {
            if members.get(other).is_some_and(|content| content.is_null() || content == &serde_json::json!({})) {
                members.remove(other);
            }
        }
    }
    let request = DeployRequest {
        text: document.to_string(),
        origin: "applyConfigurationContent".to_owned(),
        by: by.0,
        ..DeployRequest::default()
    };
    handle.deploy(request).await?;
    Ok(StatusCode::NO_CONTENT)
}
