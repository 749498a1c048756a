//! `GET, POST /modules`, `GET, DELETE /modules/{name}`, `POST /modules/{name}/start|stop|restart`.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};

use super::ModuleAnswer;
use super::error::ApiError;
use super::request::{self, By, Params};
use crate::handle::Handle;
use crate::view::{ModuleView, RemovedView};

pub(super) async fn list(State(handle): State<Handle>) -> Result<Json<Vec<ModuleView>>, ApiError> {
    Ok(Json(handle.modules().await?))
}

pub(super) async fn show(State(handle): State<Handle>, Path(name): Path<String>) -> ModuleAnswer {
    Ok(Json(handle.module_in_full(&name).await?))
}

pub(super) async fn add(State(handle): State<Handle>, by: By, body: Body) -> ModuleAnswer {
    Ok(Json(handle.add(request::json(body).await?, &by.0).await?))
}

/// Answers when its worker is gone or given up; `purge=true`: when what it left is discarded too.
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

pub(super) async fn start(State(handle): State<Handle>, Path(name): Path<String>, by: By) -> ModuleAnswer {
    handle.start(&name, &by.0).await?;
    Ok(Json(handle.module(&name).await?))
}

pub(super) async fn stop(State(handle): State<Handle>, Path(name): Path<String>, by: By) -> ModuleAnswer {
    handle.stop(&name, &by.0).await?;
    Ok(Json(handle.module(&name).await?))
}

pub(super) async fn restart(State(handle): State<Handle>, Path(name): Path<String>, by: By) -> ModuleAnswer {
    handle.restart(&name, &by.0).await?;
    Ok(Json(handle.module(&name).await?))
}
