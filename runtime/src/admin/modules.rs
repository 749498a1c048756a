//! `GET /modules[/{name}]`, `POST /modules/{name}/start|stop|restart`.

use axum::Json;
use axum::extract::{Path, State};

use super::ModuleAnswer;
use super::error::ApiError;
use super::request::By;
use crate::handle::Handle;
use crate::view::ModuleView;

pub(super) async fn list(State(handle): State<Handle>) -> Result<Json<Vec<ModuleView>>, ApiError> {
    Ok(Json(handle.modules().await?))
}

pub(super) async fn show(State(handle): State<Handle>, Path(name): Path<String>) -> ModuleAnswer {
    Ok(Json(handle.module(&name).await?))
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
