//! `GET /routes`, `PUT, DELETE /routes/{name}`.
//!
//! A route comes as in a manifest: its text, or an object with `route`, `priority`, `timeToLiveSecs` and so on. `?replace=true` puts
//! it in the place of one that was added under the same name.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use serde_json::Value;

use super::error::ApiError;
use super::request::{self, By, Params};
use crate::handle::Handle;
use crate::view::RouteView;

/// Routes in force.
#[utoipa::path(get, path = "/routes", tag = "routes", responses((status = 200, body = Vec<RouteView>)))]
pub(super) async fn list(State(handle): State<Handle>) -> Result<Json<Vec<RouteView>>, ApiError> {
    Ok(Json(handle.routes().await?))
}

/// Adds a route: its text, or an object with `route`, `priority` and so on, as in a manifest.
#[utoipa::path(
    put, path = "/routes/{name}", tag = "routes",
    params(("replace" = Option<bool>, Query, description = "In the place of one that was added under the same name")),
    request_body = Value,
    responses((status = 200, body = RouteView), (status = 409))
)]
pub(super) async fn put(
    State(handle): State<Handle>,
    Path(name): Path<String>,
    params: Params,
    by: By,
    body: Body,
) -> Result<Json<RouteView>, ApiError> {
    let replace = params.truth("replace")?;
    let entry: Value = request::json(body).await?;
    Ok(Json(handle.route_put(&name, entry, replace, &by.0).await?))
}

/// Ends a route that a person added.
#[utoipa::path(
    delete, path = "/routes/{name}", tag = "routes",
    responses((status = 200, body = RouteView), (status = 409))
)]
pub(super) async fn remove(
    State(handle): State<Handle>,
    Path(name): Path<String>,
    by: By,
) -> Result<Json<RouteView>, ApiError> {
    Ok(Json(handle.route_remove(&name, &by.0).await?))
}
