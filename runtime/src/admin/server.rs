//! Accepts connections and keeps them within their bounds.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{Request, StatusCode, header};
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::AdminError;
use super::error::ApiError;
use super::listener::{self, Bound, Caller, Connection, Listener};
use super::socket::Place;

/// Clients at a time; further ones wait to be accepted.
pub const MAX_CONNECTIONS: usize = 64;
/// Headers of a request.
const MAX_HEADERS: usize = 64;
/// Bytes of all headers together, and of what is buffered of a body.
const MAX_BUFFER_BYTES: usize = 16 * 1024;
/// For the headers of a request, and between two requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// What requests in flight have when the server ends.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// Ends when the server does. An extension of every request, for answers that go on for ever.
#[derive(Clone)]
pub(super) struct Ending(watch::Receiver<bool>);

impl Ending {
    /// Returns when the server ends.
    pub(super) async fn wait(mut self) {
        // An error means that the server is gone already.
        let _ = self.0.wait_for(|ends| *ends).await;
    }
}

/// A running management API. Dropping it stops it.
pub struct AdminServer {
    place: Place,
    state_dir: PathBuf,
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl AdminServer {
    /// Where clients reach it.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The socket, or the state directory's file that says where it listens.
    pub fn socket_path(&self) -> PathBuf {
        match &self.place {
            Place::Socket(path) => path.clone(),
            Place::Loopback { .. } => self.state_dir.join(super::socket::TOKEN_FILE),
        }
    }

    /// Accepts nobody any more, lets requests in flight end for two seconds, and returns. Live views end at once.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        // Removed first: a client must not find a server that no longer accepts.
        listener::remove_traces(&self.state_dir, &self.place);
        self.stop.send_replace(true);
        if thread.join().is_err() {
            tracing::warn!("the thread of the management API ended in a panic");
        }
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.end();
    }
}

/// Serves `router` for `state_dir` on a thread of its own.
pub(super) fn open(router: Router, state_dir: &Path, session: Option<&Path>) -> Result<AdminServer, AdminError> {
    let (bound, place) = listener::bind(state_dir, session)?;
    serve_bound(router, bound, place, state_dir)
}

fn serve_bound(router: Router, bound: Bound, place: Place, state_dir: &Path) -> Result<AdminServer, AdminError> {
    let (stop, stopped) = watch::channel(false);
    let token = match &place {
        Place::Loopback { token, .. } => Some(Arc::<str>::from(token.as_str())),
        Place::Socket(_) => None,
    };
    let executor = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let executor = executor.map_err(AdminError::Thread)?;
    let listener = {
        let _inside = executor.enter();
        bound.listen().map_err(AdminError::Thread)?
    };
    let thread = std::thread::Builder::new()
        .name("dinrail-admin".into())
        .spawn(move || executor.block_on(accept_all(listener, router, token, Ending(stopped))))
        .map_err(AdminError::Thread)?;
    Ok(AdminServer { place, state_dir: state_dir.to_owned(), stop, thread: Some(thread) })
}

async fn accept_all(listener: Listener, router: Router, token: Option<Arc<str>>, ending: Ending) {
    let seats = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut end = pin!(ending.clone().wait());
    loop {
        let next = async {
            let seat = seats.clone().acquire_owned().await;
            (seat, listener.accept().await)
        };
        let (seat, accepted) = tokio::select! {
            next = next => next,
            () = &mut end => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, caller)) => {
                let conversation = converse(stream, caller, router.clone(), token.clone(), ending.clone());
                connections.spawn(async move {
                    conversation.await;
                    drop(seat);
                });
            }
            // Out of file descriptors, as a rule: trying again at once would only burn the processor.
            Err(error) => {
                tracing::warn!(%error, "the management API could not accept a client");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    let all_gone = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(STOP_GRACE, all_gone).await;
}

/// One client, for as long as it stays.
async fn converse(
    stream: Box<dyn Connection>,
    caller: Caller,
    router: Router,
    token: Option<Arc<str>>,
    ending: Ending,
) {
    let routes = TowerToHyperService::new(router);
    let for_requests = ending.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let admitted = token.as_ref().is_none_or(|token| presents(&request, token));
        request.extensions_mut().insert(caller);
        request.extensions_mut().insert(for_requests.clone());
        let answer = routes.call(request);
        async move { if admitted { answer.await } else { Ok::<_, Infallible>(token_missing().into_response()) } }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_BUFFER_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = ending.wait() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client of the management API went away");
    }
}

fn token_missing() -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", "the token of the management API is missing or wrong")
        .hint("it is in admin.token in the state directory, and new with every start of the runtime")
}

fn presents(request: &Request<Incoming>, token: &str) -> bool {
    let given =
        request.headers().get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    // Compared to the end, so that the time taken tells nothing about where they differ.
    given.is_some_and(|given| {
        given.len() == token.len() && given.iter().zip(token.bytes()).fold(0, |all, (a, b)| all | (a ^ b)) == 0
    })
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use axum::routing::get;
    use hyper::body::Bytes;

    use super::*;
    use crate::admin::client::{Client, ClientError, LinesEnd};
    use crate::admin::routes;

    fn example() -> Router {
        let endless = |axum::Extension(ending): axum::Extension<Ending>| async {
            axum::body::Body::new(OneLineThenSilence(Some("{}\n"), Box::pin(ending.wait())))
        };
        let slow = || async {
            std::future::pending::<()>().await;
        };
        let router = Router::new().route("/quick", get(|| async { "1" })).route("/endless", get(endless));
        routes::without_strangers(router.route("/never", get(slow)))
    }

    /// As a live view: ends when the server does.
    struct OneLineThenSilence(Option<&'static str>, std::pin::Pin<Box<dyn Future<Output = ()> + Send>>);

    impl hyper::body::Body for OneLineThenSilence {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
            match self.0.take() {
                Some(line) => std::task::Poll::Ready(Some(Ok(hyper::body::Frame::data(line.into())))),
                None => self.1.as_mut().poll(cx).map(|()| None),
            }
        }
    }

    fn serve_example() -> (tempfile::TempDir, AdminServer, Client) {
        let state = tempfile::tempdir().unwrap();
        let server = open(example(), state.path(), None).unwrap();
        let client = Client::find(&[state.path().to_owned()]).unwrap();
        (state, server, client)
    }

    #[test]
    fn unknown_path_lists_what_there_is() {
        let (_state, _server, client) = serve_example();

        let refused = client.get::<u32>("/nonsense").unwrap_err();

        let ClientError::Refused { status: 404, error } = refused else { panic!("{refused}") };
        assert_eq!(error.message, "there is no /nonsense");
        assert!(error.details.iter().any(|route| route == "GET, POST /modules"), "{error:?}");
    }

    #[test]
    fn stopped_server_leaves_nobody_waiting_and_nothing_behind() {
        let (state, server, client) = serve_example();
        let (first_line, seen) = std::sync::mpsc::channel();
        let tail = std::thread::spawn(move || {
            client.lines("/endless", None, |_| {
                first_line.send(()).unwrap();
                ControlFlow::Continue(())
            })
        });
        seen.recv().unwrap();

        let started = std::time::Instant::now();
        server.stop();

        assert!(started.elapsed() < STOP_GRACE, "the live view held the server up");
        assert_eq!(tail.join().unwrap().unwrap(), LinesEnd::RuntimeEnded);
        assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 0);
        assert!(matches!(Client::find(&[state.path().to_owned()]), Err(ClientError::NoRuntime(_))));
    }

    #[test]
    fn request_that_never_ends_does_not_hold_up_the_end() {
        let (_state, server, client) = serve_example();
        let asked = std::thread::spawn(move || client.get::<u32>("/never").is_err());
        std::thread::yield_now();

        server.stop();

        assert!(asked.join().unwrap());
    }

    #[test]
    fn more_clients_than_seats_are_all_served_in_turn() {
        let (state, _server, _client) = serve_example();
        let clients: Vec<_> = (0..MAX_CONNECTIONS + 8)
            .map(|_| {
                let state = state.path().to_owned();
                std::thread::spawn(move || Client::find(&[state]).unwrap().get::<u32>("/quick").unwrap())
            })
            .collect();

        assert!(clients.into_iter().all(|client| client.join().unwrap() == 1));
    }

    #[test]
    fn loopback_takes_only_those_who_know_the_token() {
        let state = tempfile::tempdir().unwrap();
        let (bound, place) = listener::bind_loopback(state.path()).unwrap();
        let Place::Loopback { addr, .. } = place.clone() else { panic!("not loopback") };
        let _server = serve_bound(example(), bound, place.clone(), state.path()).unwrap();

        assert_eq!(Client::at(place).unwrap().get::<u32>("/quick").unwrap(), 1);
        let stranger = Client::at(Place::Loopback { addr, token: "0".repeat(64) }).unwrap();
        assert!(matches!(stranger.get::<u32>("/quick"), Err(ClientError::Refused { status: 401, .. })));
    }
}
