//! Every route of the management API, and what answers where there is none.

use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use super::error::ApiError;
use super::{
    check, deployment, health, images, inputs, logs, message_routes, messages, methods, modules, support, twins,
    waiting,
};
use crate::handle::Handle;

/// Time of a request that only asks or commands.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Time of a request that applies a deployment.
const DEPLOY_TIMEOUT: Duration = Duration::from_secs(300);

/// What is shown to whoever asks for something that is not there.
const ROUTES: [&str; 32] = [
    "GET /health",
    "GET /check",
    "GET /support-bundle?folder=NAME&withValues=true",
    "GET, POST /modules",
    "GET, DELETE /modules/{name}?purge=true",
    "POST /modules/{name}/start",
    "POST /modules/{name}/stop",
    "POST /modules/{name}/restart",
    "POST /modules/{name}/inputs/{input}",
    "GET /modules/{name}/wait?for=STATUS&timeoutMs=N",
    "GET /modules/{name}/acknowledged?version=N&timeoutMs=N",
    "GET /images",
    "POST /images?file=NAME",
    "DELETE /images/{reference}",
    "GET /deployment",
    "PUT /deployment",
    "POST /deployment/plan",
    "GET /deployment/export",
    "GET /deployment/wait?id=N&timeoutMs=N",
    "GET /routes",
    "PUT, DELETE /routes/{name}?replace=true",
    "GET /deployment/history",
    "GET /deployment/history/{id}",
    "POST /deployment/rollback",
    "GET, PATCH, PUT /twins/{device}",
    "GET, PATCH, PUT /twins/{device}/modules/{module}",
    "POST /twins/{device}/modules/{module}/methods",
    "POST /twins/{device}/methods",
    "GET /messages?route=FROM …",
    "GET /logs?tail=N&since=T&until=T&level=L&grep=RE&runtime=true&follow=true",
    "GET /modules/{name}/logs?…",
    "all: ?api-version=… is accepted and ignored",
];

/// The management API of `handle`.
pub(super) fn router(handle: Handle) -> Router {
    let commands = Router::new()
        .route("/health", get(health::show))
        .route("/check", get(check::show))
        .route("/support-bundle", get(support::bundle))
        .route("/modules", get(modules::list).post(modules::add))
        .route("/modules/{name}/start", post(modules::start))
        .route("/modules/{name}/stop", post(modules::stop))
        .route("/modules/{name}/restart", post(modules::restart))
        .route("/modules/{name}/inputs/{input}", post(inputs::send))
        .route("/images/{reference}", axum::routing::delete(images::remove))
        .route("/deployment/plan", post(deployment::plan))
        .route("/deployment/export", get(deployment::export))
        .route("/routes", get(message_routes::list))
        .route("/routes/{name}", axum::routing::put(message_routes::put).delete(message_routes::remove))
        .route("/deployment/history", get(deployment::history))
        .route("/deployment/history/{id}", get(deployment::show_one))
        .route("/twins/{device}", get(twins::get_device).patch(twins::patch_device).put(twins::replace_device))
        .route(
            "/twins/{device}/modules/{module}",
            get(twins::get_module).patch(twins::patch_module).put(twins::replace_module),
        )
        .layer(from_fn(|request, next| within(REQUEST_TIMEOUT, request, next)));
    let deploys = Router::new()
        .route("/deployment", get(deployment::show).put(deployment::apply))
        .route("/deployment/rollback", post(deployment::roll_back))
        .layer(from_fn(|request, next| within(DEPLOY_TIMEOUT, request, next)));
    // These keep time themselves.
    let lasting = Router::new()
        .route("/modules/{name}", get(modules::show).delete(modules::remove))
        .route("/images", get(images::list).post(images::add))
        .route("/modules/{name}/wait", get(waiting::status))
        .route("/modules/{name}/acknowledged", get(waiting::acknowledged))
        .route("/deployment/wait", get(waiting::deployment))
        .route("/logs", get(logs::of_all))
        .route("/modules/{name}/logs", get(logs::of_module))
        .route("/twins/{device}/methods", post(methods::device))
        .route("/twins/{device}/modules/{module}/methods", post(methods::module))
        .route("/messages", get(messages::tail));
    without_strangers(commands.merge(deploys).merge(lasting)).with_state(handle)
}

/// Answers what `router` does not know.
pub(super) fn without_strangers<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router.fallback(unknown_path).method_not_allowed_fallback(wrong_verb)
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
        .details(ROUTES.map(str::to_owned).to_vec())
}

async fn wrong_verb(method: Method, uri: Uri) -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "methodNotAllowed", format!("{} takes no {method}", uri.path()))
        .hint("the details list what there is")
        .details(ROUTES.map(str::to_owned).to_vec())
}
