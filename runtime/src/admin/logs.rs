//! `GET /modules/{name}/logs`, `GET /logs`: lines of the log, as they are kept (see [`crate::handle::LogQuery`]).
//!
//! Parameters: `tail` (200; `all` with `since`), `since` and `until` (RFC 3339, or a span back from now), `level`, `grep`,
//! `runtime=true` (only its own lines), `audit=true` (who did what), `follow=true`. Without `follow` the answer is an array, with it a line each, and
//! `{"skipped": n}` where the client was too slow for n lines. Files are read on a thread of their own, for each client one.

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use tokio::sync::{mpsc, oneshot};

use super::error::{ApiError, refusal};
use super::messages::Lines;
use super::request::Params;
use super::server::Ending;
use crate::handle::{Handle, LogFollow, LogFollowed, LogQuery, LogWhich, RefusalKind};

/// Chunks between the reading thread and the connection.
const BUFFERED_LINES: usize = 64;
/// How often a thread that has nothing to tell looks whether its client is still there.
const LOOK: std::time::Duration = std::time::Duration::from_millis(500);

/// For the OpenAPI document: what [`Handle::log_query`] reads.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only described")]
struct LogParams {
    /// So many of the newest lines, 200 unless told; `all` with `since`
    tail: Option<String>,
    /// RFC 3339, or a span back from now such as `15m`
    since: Option<String>,
    /// The same
    until: Option<String>,
    /// `error`, `warn`, `info`, `debug` or `trace`: this and graver ones
    level: Option<String>,
    /// Regular expression
    grep: Option<String>,
    /// Then also what comes, a line each as `application/x-ndjson`
    follow: Option<bool>,
}

/// Lines of all logs.
#[utoipa::path(
    get, path = "/logs", tag = "logs",
    params(
        LogParams,
        ("runtime" = Option<bool>, Query, description = "Only the runtime's own"),
        ("audit" = Option<bool>, Query, description = "Only the record of who did what")
    ),
    responses(
        (
            status = 200,
            description = "Lines, oldest first",
            content((Vec<Object> = "application/json"), (Object = "application/x-ndjson"))
        )
    )
)]
pub(super) async fn of_all(
    State(handle): State<Handle>,
    Extension(ending): Extension<Ending>,
    params: Params,
) -> Result<Response, ApiError> {
    let which = match (params.is_set("audit"), params.is_set("runtime")) {
        (true, _) => LogWhich::Audit,
        (false, true) => LogWhich::Runtime,
        (false, false) => LogWhich::All,
    };
    answer(handle, which, &params, ending).await
}

/// Lines of the log of a module.
#[utoipa::path(
    get, path = "/modules/{name}/logs", tag = "logs",
    params(LogParams),
    responses(
        (
            status = 200,
            description = "Lines, oldest first",
            content((Vec<Object> = "application/json"), (Object = "application/x-ndjson"))
        )
    )
)]
pub(super) async fn of_module(
    State(handle): State<Handle>,
    Path(name): Path<String>,
    Extension(ending): Extension<Ending>,
    params: Params,
) -> Result<Response, ApiError> {
    handle.has_log(&name).await?;
    answer(handle, LogWhich::Module(name), &params, ending).await
}

async fn answer(handle: Handle, which: LogWhich, params: &Params, ending: Ending) -> Result<Response, ApiError> {
    let query = handle.log_query(which, |name| params.text(name))?;
    if params.is_set("follow") { follow(handle, query, ending).await } else { document(handle, query).await }
}

async fn document(handle: Handle, query: LogQuery) -> Result<Response, ApiError> {
    let lines = on_thread(move || handle.log(&query)).await?.map_err(unreadable)?;
    let bytes = lines.iter().map(|line| line.len() + 2).sum::<usize>() + 2;
    let mut document = Vec::with_capacity(bytes);
    for line in &lines {
        document.extend_from_slice(if document.is_empty() { b"[" } else { b",\n" });
        document.extend_from_slice(line.trim_ascii_end());
    }
    document.extend_from_slice(if document.is_empty() { b"[]" } else { b"]" });
    Ok(([(header::CONTENT_TYPE, "application/json")], document).into_response())
}

async fn follow(handle: Handle, query: LogQuery, ending: Ending) -> Result<Response, ApiError> {
    let (lines, receiver) = mpsc::channel(BUFFERED_LINES);
    let (opened, is_open) = oneshot::channel();
    let work = move || match handle.follow_log(query) {
        Ok(follow) => {
            if opened.send(Ok(())).is_ok() {
                pump(follow, &lines);
            }
        }
        Err(error) => drop(opened.send(Err(error))),
    };
    spawn(work)?;
    is_open.await.map_err(|_| ApiError::from(crate::handle::Refusal::ending()))?.map_err(unreadable)?;
    let body = Body::new(Lines::until(receiver, ending));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

fn pump(mut follow: LogFollow, lines: &mpsc::Sender<String>) {
    while !lines.is_closed() {
        let line = match follow.next(LOOK) {
            LogFollowed::Line(line) => String::from_utf8_lossy(&line).into_owned(),
            LogFollowed::Skipped(count) => format!("{{\"skipped\":{count}}}\n"),
            LogFollowed::Quiet => continue,
            LogFollowed::Ended => return,
        };
        if lines.blocking_send(line).is_err() {
            return;
        }
    }
}

async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    let (done, wait) = oneshot::channel();
    spawn(move || drop(done.send(work())))?;
    wait.await.map_err(|_| crate::handle::Refusal::ending().into())
}

fn spawn(work: impl FnOnce() + Send + 'static) -> Result<(), ApiError> {
    let thread = std::thread::Builder::new().name("log-reader".to_owned()).stack_size(256 << 10).spawn(work);
    thread.map(drop).map_err(|error| refusal(RefusalKind::Failed, format!("no thread to read the log: {error}")).into())
}

fn unreadable(error: std::io::Error) -> ApiError {
    refusal(RefusalKind::Failed, format!("the log cannot be read: {error}")).into()
}
