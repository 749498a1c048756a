//! Every route of the management API, and what answers where there is none.

use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, patch, post, put};

use super::access::authorize;
use super::error::{ApiError, iot_hub};
use super::identities::{bulk, configuration, credentials, list, registry, statistics};
use super::{
    check, dead_letters, deployment, health, images, inputs, logs, losses, message_routes, messages, methods, metrics,
    modules, openapi, query, secrets, support, twins, waiting,
};
use crate::handle::Handle;

/// Time of a request that only asks or commands.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Time of a request that applies a deployment.
const DEPLOY_TIMEOUT: Duration = Duration::from_secs(300);

/// The table of routes: the path and, for each verb, what answers. From it come the router, the operations of the OpenAPI
/// document and what a 404 lists, so that no route is without its documentation: each handler has its `#[utoipa::path]`.
macro_rules! routes {
    ($($group:ident: { $($path:literal: $($verb:ident $file:ident::$handler:ident),+;)+ })+) => {
        /// Every operation of the management API, as annotated.
        #[derive(utoipa::OpenApi)]
        #[openapi(paths($($($($file::$handler),+),+),+), components(schemas(super::error::ErrorDocument)))]
        pub(super) struct Operations;

        /// Every route: verb and path.
        #[cfg(test)]
        pub(super) const ROUTES: &[(&str, &str)] = &[$($($((stringify!($verb), $path),)+)+)+];

        $(fn $group() -> Router<Handle> {
            Router::new()$($(.route($path, $verb($file::$handler)))+)+
        })+
    };
}

routes! {
    commands: {
        "/health": get health::show;
        "/check": get check::show;
        "/metrics": get metrics::show;
        "/losses": get losses::show;
        "/deadLetters": get dead_letters::list;
        "/deadLetters/{id}": get dead_letters::show;
        "/deadLetters/resend": post dead_letters::resend;
        "/deadLetters/purge": post dead_letters::purge;
        "/support-bundle": get support::bundle;
        "/openapi.json": get openapi::show;
        "/modules": get modules::list, post modules::add;
        "/modules/{name}/start": post modules::start;
        "/modules/{name}/stop": post modules::stop;
        "/modules/{name}/restart": post modules::restart;
        "/modules/{name}/inputs/{input}": post inputs::send;
        "/images/{reference}": delete images::remove;
        "/deployment/plan": post deployment::plan;
        "/deployment/export": get deployment::export;
        "/deployment/history": get deployment::history;
        "/deployment/history/{id}": get deployment::show_one;
        "/secrets": get secrets::list;
        "/secrets/{name}": get secrets::show, put secrets::put, delete secrets::remove;
        "/routes": get message_routes::list;
        "/routes/{name}": put message_routes::put, delete message_routes::remove;
        "/devices": get registry::list, post bulk::change;
        "/devices/query": post query::twins;
        "/devices/{device}": get registry::get_device, put registry::put_device, delete registry::delete_device;
        "/devices/{device}/modules": get registry::list_modules;
        "/devices/{device}/modules/{module}": get registry::get_module, put registry::put_module, delete registry::delete_module;
        "/statistics/devices": get statistics::devices;
        "/statistics/service": get statistics::service;
        "/identities": get list::all;
        "/identities/{device}/token": post credentials::device_token;
        "/identities/{device}/rotate": post credentials::rotate_device;
        "/identities/{device}/connection-string": get credentials::device_connection_string;
        "/identities/{device}/modules/{module}/token": post credentials::module_token;
        "/identities/{device}/modules/{module}/rotate": post credentials::rotate_module;
        "/identities/{device}/modules/{module}/connection-string": get credentials::module_connection_string;
        "/policies/{name}/connection-string": get credentials::policy_connection_string;
        "/policies/{name}/rotate": post credentials::rotate_policy;
        "/twins/{device}": get twins::get_device, patch twins::patch_device, put twins::replace_device;
        "/twins/{device}/modules/{module}": get twins::get_module, patch twins::patch_module, put twins::replace_module;
        "/twins/{device}/history": get twins::device_history;
        "/twins/{device}/modules/{module}/history": get twins::module_history;
        "/twins/{device}/undo": post twins::undo_device;
        "/twins/{device}/modules/{module}/undo": post twins::undo_module;
    }
    deploys: {
        "/deployment": get deployment::show, put deployment::apply;
        "/deployment/rollback": post deployment::roll_back;
        "/devices/{device}/applyConfigurationContent": post configuration::apply;
    }
    lasting: {
        "/modules/{name}": get modules::show, delete modules::remove;
        "/images": get images::list, post images::add;
        "/modules/{name}/wait": get waiting::status;
        "/modules/{name}/acknowledged": get waiting::acknowledged;
        "/deployment/wait": get waiting::deployment;
        "/logs": get logs::of_all;
        "/modules/{name}/logs": get logs::of_module;
        "/twins/{device}/methods": post methods::device;
        "/twins/{device}/modules/{module}/methods": post methods::module;
        "/messages": get messages::tail;
    }
}

/// The management API of `handle`.
pub(super) fn router(handle: Handle) -> Router {
    let commands = commands().layer(from_fn(|request, next| within(REQUEST_TIMEOUT, request, next)));
    let deploys = deploys().layer(from_fn(|request, next| within(DEPLOY_TIMEOUT, request, next)));
    // The others keep time themselves.
    let counted = from_fn_with_state(handle.clone(), metrics::count);
    let all = commands.merge(deploys).merge(lasting()).route_layer(from_fn(authorize));
    without_strangers(all).layer(counted).with_state(handle)
}

/// Answers what `router` does not know.
pub(super) fn without_strangers<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    let router = router.fallback(unknown_path).method_not_allowed_fallback(wrong_verb);
    router.layer(from_fn(decodable)).layer(from_fn(iot_hub::dress))
}

/// Refuses a path whose escapes are no text: its segments are ids, which routes get decoded.
async fn decodable(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if !escapes_are_whole(path) {
        return ApiError::invalid(format!("the path {path} holds a % without two hexadecimal digits"))
            .hint("%24 stands for $, %25 for %")
            .into_response();
    }
    match percent_encoding::percent_decode_str(path).decode_utf8() {
        Ok(_) => next.run(request).await,
        Err(_) => ApiError::invalid(format!("the path {} holds escapes that are not UTF-8", request.uri().path()))
            .hint("%24 stands for $, %25 for %")
            .into_response(),
    }
}

/// Whether each `%` begins an escape.
fn escapes_are_whole(path: &str) -> bool {
    path.split('%').skip(1).all(|after| {
        let digits = after.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

async fn within(limit: Duration, request: Request, next: Next) -> Response {
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            ApiError::new(StatusCode::GATEWAY_TIMEOUT, "timeout", format!("no answer within {} s", limit.as_secs()))
                .hint("what was asked for may still happen; look with `dinrail list`")
                .into_response()
        }
    }
}

async fn unknown_path(uri: Uri) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "notFound", format!("there is no {}", uri.path()))
        .hint("the details list what there is")
        .details(openapi::lines().to_vec())
}

async fn wrong_verb(method: Method, uri: Uri) -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "methodNotAllowed", format!("{} takes no {method}", uri.path()))
        .hint("the details list what there is")
        .details(openapi::lines().to_vec())
}
