//! `GET, POST /modules`, `GET, DELETE /modules/{name}`, `POST /modules/{name}/start|stop|restart`.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};

use super::ModuleAnswer;
use super::audit::{Naming, naming};
use super::error::ApiError;
use super::request::{self, By, Params};
use crate::handle::Handle;
use crate::view::{AddRequest, ModuleDetail, ModuleView, RemovedView};

/// All instances.
#[utoipa::path(get, path = "/modules", tag = "modules", responses((status = 200, body = Vec<ModuleView>)))]
pub(super) async fn list(State(handle): State<Handle>) -> Result<Json<Vec<ModuleView>>, ApiError> {
    Ok(Json(handle.modules().await?))
}

/// Everything about one instance.
#[utoipa::path(get, path = "/modules/{name}", tag = "modules", responses((status = 200, body = ModuleDetail)))]
pub(super) async fn show(State(handle): State<Handle>, Path(name): Path<String>) -> ModuleAnswer {
    Ok(Json(handle.module_in_full(&name).await?))
}

/// Adds an instance without a manifest.
#[utoipa::path(
    post, path = "/modules", tag = "modules",
    request_body = AddRequest,
    responses((status = 200, body = ModuleDetail), (status = 409))
)]
pub(super) async fn add(State(handle): State<Handle>, by: By, body: Body) -> Result<Naming<ModuleDetail>, ApiError> {
    let added = handle.add(request::object(body).await?, &by.0).await?;
    Ok(naming(added.module.name.clone(), added))
}

/// Answers when its worker is gone or given up; `purge=true`: when what it left is discarded too.
#[utoipa::path(
    delete, path = "/modules/{name}", tag = "modules",
    params(("purge" = Option<bool>, Query, description = "Discards its identity, twin, data and messages too")),
    responses((status = 200, body = RemovedView), (status = 409))
)]
pub(super) async fn remove(
    State(handle): State<Handle>,
    Path(name): Path<String>,
    params: Params,
    by: By,
) -> Result<Json<RemovedView>, ApiError> {
    let purge = match params.text("purge") {
        None | Some("false") => false,
        Some("true" | "") => true,
        Some(other) => return Err(ApiError::invalid(format!("purge={other} is neither true nor false"))),
    };
    Ok(Json(handle.remove(&name, purge, &by.0).await?))
}

/// Starts an instance, also one that failed or is quarantined.
#[utoipa::path(
    post, path = "/modules/{name}/start", tag = "modules",
    responses((status = 200, body = ModuleDetail), (status = 409))
)]
pub(super) async fn start(State(handle): State<Handle>, Path(name): Path<String>, by: By) -> ModuleAnswer {
    handle.start(&name, &by.0).await?;
    Ok(Json(handle.module(&name).await?))
}

/// Stops an instance; this holds until a start.
#[utoipa::path(
    post, path = "/modules/{name}/stop", tag = "modules",
    responses((status = 200, body = ModuleDetail), (status = 409))
)]
pub(super) async fn stop(State(handle): State<Handle>, Path(name): Path<String>, by: By) -> ModuleAnswer {
    handle.stop(&name, &by.0).await?;
    Ok(Json(handle.module(&name).await?))
}

/// Stops an instance and starts it again.
#[utoipa::path(
    post, path = "/modules/{name}/restart", tag = "modules",
    responses((status = 200, body = ModuleDetail), (status = 409))
)]
pub(super) async fn restart(State(handle): State<Handle>, Path(name): Path<String>, by: By) -> ModuleAnswer {
    handle.restart(&name, &by.0).await?;
    Ok(Json(handle.module(&name).await?))
}
