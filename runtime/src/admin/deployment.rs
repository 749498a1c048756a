//! `GET /deployment`, `PUT /deployment`, `POST /deployment/plan|rollback`, `GET /deployment/export`,
//! `GET /deployment/history[/{id}]`.
//!
//! A manifest comes as `{"manifest": …, "origin": …, "images": {…}}`: the document itself or its text (then problems have the
//! lines of the text), where it came from, and the digest of each image that it names by path.
//! `missing` says of such images why they are not there. The text is JSON or, where the origin ends so or the text is none, YAML.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::Value;

use super::audit::{Naming, naming};
use super::error::{ApiError, refusal};
use super::request::{self, By, Params};
use crate::handle::{DeployRequest, Handle, RefusalKind};
use crate::view::{DeploymentSummary, DeploymentView, ExportView, PlanView};

/// The deployment in force.
#[utoipa::path(
    get, path = "/deployment", tag = "deployment",
    responses((status = 200, body = DeploymentView), (status = 404))
)]
pub(super) async fn show(State(handle): State<Handle>) -> Result<Json<DeploymentView>, ApiError> {
    match handle.deployment().await? {
        Some(deployment) => Ok(Json(deployment)),
        None => Err(none_in_force()),
    }
}

/// The manifest in force, as another device can take it.
#[utoipa::path(
    get, path = "/deployment/export", tag = "deployment",
    responses((status = 200, body = ExportView), (status = 404))
)]
pub(super) async fn export(State(handle): State<Handle>) -> Result<Json<ExportView>, ApiError> {
    handle.export().await?.map(Json).ok_or_else(none_in_force)
}

/// Applies a manifest.
#[utoipa::path(
    put, path = "/deployment", tag = "deployment",
    params(("force" = Option<bool>, Query, description = "Also desired properties that the modules' images do not take")),
    request_body = ManifestDocument,
    responses((status = 200, body = DeploymentView), (status = 409))
)]
pub(super) async fn apply(
    State(handle): State<Handle>,
    by: By,
    params: Params,
    body: Body,
) -> Result<Naming<DeploymentView>, ApiError> {
    let document: ManifestDocument = request::object(body).await?;
    let is_forced = params.is_set("force");
    let deployed = handle.deploy(DeployRequest { by: by.0, is_forced, ..document.into() }).await?;
    Ok(naming(format!("deployment {} from {}", deployed.id, deployed.origin), deployed))
}

/// All deployments that are kept, latest first.
#[utoipa::path(
    get, path = "/deployment/history", tag = "deployment",
    responses((status = 200, body = Vec<DeploymentSummary>))
)]
pub(super) async fn history(State(handle): State<Handle>) -> Result<Json<Vec<DeploymentSummary>>, ApiError> {
    Ok(Json(handle.deployment_history().await?))
}

/// A deployment that is kept.
#[utoipa::path(
    get, path = "/deployment/history/{id}", tag = "deployment",
    responses((status = 200, body = DeploymentView))
)]
pub(super) async fn show_one(
    State(handle): State<Handle>,
    Path(id): Path<String>,
) -> Result<Json<DeploymentView>, ApiError> {
    let id = id.parse().map_err(|_| ApiError::invalid(format!("'{id}' is not the number of a deployment")))?;
    Ok(Json(handle.deployment_of(id).await?))
}

/// `{"to": 3}`; without a number: to the last good one before the one in force.
#[utoipa::path(
    post, path = "/deployment/rollback", tag = "deployment",
    request_body = Option<RollbackDocument>,
    responses((status = 200, body = DeploymentView), (status = 404), (status = 409))
)]
pub(super) async fn roll_back(
    State(handle): State<Handle>,
    by: By,
    body: Body,
) -> Result<Naming<DeploymentView>, ApiError> {
    let wanted: Option<RollbackDocument> = request::object_or_nothing(body).await?;
    let rolled_back = handle.roll_back(wanted.and_then(|wanted| wanted.to), &by.0).await?;
    Ok(naming(format!("deployment {}", rolled_back.id), rolled_back))
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct RollbackDocument {
    /// Its number; the last good one before the one in force unless told.
    to: Option<i64>,
}

/// What applying a manifest would do.
#[utoipa::path(
    post, path = "/deployment/plan", tag = "deployment",
    params(("force" = Option<bool>, Query, description = "Also desired properties that the modules' images do not take")),
    request_body = ManifestDocument,
    responses((status = 200, body = PlanView), (status = 409))
)]
pub(super) async fn plan(State(handle): State<Handle>, params: Params, body: Body) -> Result<Json<PlanView>, ApiError> {
    let document: ManifestDocument = request::object(body).await?;
    let is_forced = params.is_set("force");
    Ok(Json(handle.plan(DeployRequest { is_forced, ..document.into() }).await?))
}

pub(super) fn none_in_force() -> ApiError {
    ApiError::from(refusal(RefusalKind::NotFound, "no deployment is in force"))
        .hint("apply one with `dinrail deploy FILE`")
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct ManifestDocument {
    /// The document, or its text as JSON or YAML.
    manifest: Value,
    /// Where it came from.
    origin: Option<String>,
    /// Digests of the images that it names by path.
    #[serde(default)]
    images: BTreeMap<String, String>,
    /// Images that it names by path and that are not there, with the reason.
    #[serde(default)]
    missing: BTreeMap<String, String>,
}

impl From<ManifestDocument> for DeployRequest {
    fn from(document: ManifestDocument) -> DeployRequest {
        let text = match document.manifest {
            Value::String(text) => text,
            manifest => manifest.to_string(),
        };
        let origin = document.origin.unwrap_or_else(|| "api".into());
        DeployRequest {
            text,
            origin,
            by: String::new(),
            images: document.images,
            missing: document.missing,
            ..DeployRequest::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifest_is_taken_as_text_and_as_document() {
        let read = |text| DeployRequest::from(serde_json::from_str::<ManifestDocument>(text).unwrap());

        let as_text = read(r#"{"manifest": "{ \"a\": 1 }", "origin": "m.json", "images": {"./x.so": "sha256:00"}}"#);
        assert_eq!((as_text.text.as_str(), as_text.origin.as_str()), ("{ \"a\": 1 }", "m.json"));
        assert_eq!(as_text.images["./x.so"], "sha256:00");
        let as_document = read(r#"{"manifest": { "a": 1 }}"#);
        assert_eq!((as_document.text.as_str(), as_document.origin.as_str()), (r#"{"a":1}"#, "api"));
    }
}
