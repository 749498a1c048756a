//! Accepts connections and keeps them within their bounds: on the socket of this system, and, where that is configured, from
//! other machines. Each way in has its own seats, so that a crowd at one never locks out those at the other.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1::{self, Parts};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;

use super::AdminError;
use super::audit::{self, Asked, Entry, Who};
use super::bounds::{self, Limits, Paced};
use super::caller::Caller;
use super::error::{ApiError, iot_hub};
use super::gate::Gate;
use super::listener::{self, Bound, Connection, Listener};
use super::remote::{self, BoundRemote};
use super::seats::{LocalSeats, Seat, Seats};
use super::socket::Place;
use super::unread::Unread;
use crate::handle::{AccessFigures, Unproven};
use crate::identity::Role;

/// What requests in flight have when the server ends.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// For the line of the record of who did what to reach its file.
const RECORD_WAIT: Duration = Duration::from_secs(5);
/// Bytes that a refused client may go on to send until it reads the refusal.
const PARTING_BYTES: usize = 4 << 20;

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

/// What is the same for all connections.
pub(super) struct Hall {
    pub(super) router: Router,
    /// For those from other machines.
    pub(super) gate: Option<Arc<Gate>>,
    /// Takes the record of what was done.
    pub(super) record: Box<dyn Fn(Entry) -> oneshot::Receiver<()> + Send + Sync>,
    /// What users of this system may do who are neither root nor the runtime's own.
    pub(super) group_role: Role,
    pub(super) limits: Limits,
    /// What is turned away.
    pub(super) figures: Arc<AccessFigures>,
}

/// The ways in.
pub(super) struct Ways {
    pub(super) local: Bound,
    pub(super) place: Place,
    pub(super) remote: Option<BoundRemote>,
}

/// A running management API. Dropping it stops it.
pub struct AdminServer {
    place: Place,
    state_dir: PathBuf,
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl AdminServer {
    /// Where clients of this system reach it.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The socket, or the state directory's file that says where it listens.
    pub fn socket_path(&self) -> PathBuf {
        match &self.place {
            Place::Socket(path) => path.clone(),
            _ => self.state_dir.join(super::socket::TOKEN_FILE),
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

/// Serves these ways in for `state_dir` on a thread of its own.
pub(super) fn open(hall: Hall, ways: Ways, state_dir: &Path) -> Result<AdminServer, AdminError> {
    let Ways { local, place, remote } = ways;
    let (stop, stopped) = watch::channel(false);
    let token = match &place {
        Place::Loopback { token, .. } => Some(Arc::<str>::from(token.as_str())),
        _ => None,
    };
    let executor = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let executor = executor.map_err(AdminError::Thread)?;
    let (local, remote) = {
        let _inside = executor.enter();
        let remote = remote.map(|bound| {
            bound.socket.set_nonblocking(true)?;
            Ok((tokio::net::TcpListener::from_std(bound.socket.try_clone()?)?, bound))
        });
        (local.listen().map_err(AdminError::Thread)?, remote.transpose().map_err(AdminError::Thread)?)
    };
    let ending = Ending(stopped);
    let hall = Arc::new(hall);
    let serve = async move {
        let near = accept_local(local, hall.clone(), token, ending.clone());
        match remote {
            Some((socket, bound)) => {
                tokio::join!(near, accept_remote(socket, bound, hall, ending));
            }
            None => near.await,
        }
    };
    let thread = std::thread::Builder::new()
        .name("dinrail-admin".into())
        .spawn(move || executor.block_on(serve))
        .map_err(AdminError::Thread)?;
    Ok(AdminServer { place, state_dir: state_dir.to_owned(), stop, thread: Some(thread) })
}

async fn accept_local(listener: Listener, hall: Arc<Hall>, token: Option<Arc<str>>, ending: Ending) {
    let Limits { local, streams, refused, waiting, refusing, headers, .. } = hall.limits;
    let seats = LocalSeats::new(local, streams);
    let room = Arc::new(Semaphore::new(local + refused));
    let mut connections = JoinSet::new();
    let mut end = pin!(ending.clone().wait());
    loop {
        let next = async {
            let place = room.clone().acquire_owned().await;
            (place, listener.accept(hall.group_role).await)
        };
        let (place, accepted) = tokio::select! {
            next = next => next,
            () = &mut end => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, caller)) => {
                let peer = match (caller, &token) {
                    (Caller::TokenHolder, Some(token)) => Peer::Bearer(token.clone()),
                    (caller, _) => Peer::Known(caller),
                };
                let (seats, hall, ending) = (seats.clone(), hall.clone(), ending.clone());
                connections.spawn(async move {
                    let seat = seats.take(waiting).await;
                    let (peer, idle) = match &seat {
                        Some(_) => (peer, headers),
                        None => {
                            hall.figures.turned_away.fetch_add(1, Ordering::Relaxed);
                            (Peer::Surplus { is_local: true }, refusing)
                        }
                    };
                    converse(stream, peer, hall, ending, idle, Some(seats)).await;
                    drop((seat, place));
                });
            }
            Err(error) => rest_from(&error).await,
        }
    }
    drop(listener);
    let all_gone = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(STOP_GRACE, all_gone).await;
}

async fn accept_remote(socket: tokio::net::TcpListener, bound: BoundRemote, hall: Arc<Hall>, ending: Ending) {
    let Limits { remote, per_address, refused, .. } = hall.limits;
    let seats = Seats::new(remote, per_address, refused);
    let bound = Arc::new(bound);
    let mut connections = JoinSet::new();
    let mut end = pin!(ending.clone().wait());
    loop {
        let next = async {
            let (stream, from) = socket.accept().await?;
            Ok::<_, io::Error>((seats.take(from.ip()).await, stream, from))
        };
        let accepted = tokio::select! {
            next = next => next,
            () = &mut end => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((Some(seat), stream, from)) => {
                let (bound, hall, ending) = (bound.clone(), hall.clone(), ending.clone());
                connections.spawn(async move {
                    receive(stream, from, &seat, &bound, hall, ending).await;
                    drop(seat);
                });
            }
            Ok((None, ..)) => break,
            Err(error) => rest_from(&error).await,
        }
    }
    drop(socket);
    let all_gone = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(STOP_GRACE, all_gone).await;
}

/// Out of file descriptors, as a rule: trying again at once would only burn the processor.
async fn rest_from(error: &io::Error) {
    tracing::warn!(%error, "the management API could not accept a client");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// One client from another machine, for as long as it stays.
async fn receive(
    stream: tokio::net::TcpStream,
    from: SocketAddr,
    seat: &Seat,
    bound: &BoundRemote,
    hall: Arc<Hall>,
    ending: Ending,
) {
    let Ok(reached_at) = stream.local_addr().map(|address| address.ip()) else { return };
    bound.certificate.reached_at(reached_at);
    let (peer, handshake, headers) = match seat {
        Seat::Served(_) => (Peer::Remote { from, reached_at }, hall.limits.handshake, hall.limits.headers),
        Seat::Refused(_) => {
            hall.figures.turned_away.fetch_add(1, Ordering::Relaxed);
            (Peer::Surplus { is_local: false }, hall.limits.refusing, hall.limits.refusing)
        }
    };
    match remote::shake_hands(&bound.acceptor, stream, handshake).await {
        Ok(stream) => converse(Box::new(stream), peer, hall, ending, headers, None).await,
        Err(error) => tracing::debug!(%error, %from, "no TLS with a client of the management API"),
    }
}

/// Who a connection is, before its first request.
#[derive(Clone)]
enum Peer {
    /// As the system says.
    Known(Caller),
    /// Whoever knows this token.
    Bearer(Arc<str>),
    /// Somebody who shows a token with each request.
    Remote { from: SocketAddr, reached_at: IpAddr },
    /// One too many.
    Surplus { is_local: bool },
}

/// One client, for as long as it stays. `idle`: for the headers of a request, and between two requests. `seats`: to which it
/// gives way.
async fn converse(
    stream: Box<dyn Connection>,
    peer: Peer,
    hall: Arc<Hall>,
    ending: Ending,
    idle: Duration,
    seats: Option<LocalSeats>,
) {
    let _counted = hall.figures.connected();
    let routes = TowerToHyperService::new(hall.router.clone());
    let was_refused = Arc::new(AtomicBool::new(false));
    let service = {
        let (hall, ending, was_refused) = (hall.clone(), ending.clone(), was_refused.clone());
        let seats = seats.clone();
        service_fn(move |request: Request<Incoming>| {
            let (routes, peer, hall) = (routes.clone(), peer.clone(), hall.clone());
            let (ending, was_refused, seats) = (ending.clone(), was_refused.clone(), seats.clone());
            let answer = async move {
                let answer = answer(request, &peer, &routes, &hall, ending, seats.as_ref()).await;
                if answer.status().is_client_error() || answer.status().is_server_error() {
                    was_refused.store(true, Ordering::Relaxed);
                }
                Ok::<_, Infallible>(answer)
            };
            Box::pin(answer) as Pin<Box<dyn Future<Output = _> + Send>>
        })
    };
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(idle)
        .max_buf_size(bounds::MAX_BUFFER_BYTES)
        .max_headers(bounds::MAX_HEADERS)
        .serve_connection(TokioIo::new(Unread::new(stream, hall.limits.unread)), service);
    let give_way = async {
        match &seats {
            Some(seats) => seats.wanted(hall.limits.waiting).await,
            None => std::future::pending().await,
        }
    };
    let ends = async {
        tokio::select! {
            () = ending.wait() => {}
            () = give_way => {}
        }
    };
    let ended = tokio::select! {
        ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => ended,
        // What is in flight is answered; one that only stays open ends.
        () = ends => {
            Pin::new(&mut connection).graceful_shutdown();
            poll_fn(|cx| connection.poll_without_shutdown(cx)).await
        }
    };
    let Parts { io, read_buf, .. } = connection.into_parts();
    let mut stream = io.into_inner();
    let mut is_refused = was_refused.load(Ordering::Relaxed);
    if let Err(error) = ended {
        tracing::debug!(%error, "a client of the management API went away");
        // Hyper has answered what it cannot read; what never became whole it leaves without a word.
        is_refused |= error.is_parse();
        if error.is_timeout() && !read_buf.is_empty() {
            let _ = stream.write_all(TOO_SLOW).await;
            is_refused = true;
        }
    }
    let _ = tokio::time::timeout(hall.limits.parting, part(stream, is_refused)).await;
}

const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Ends a connection. What a refused client is still sending is taken for a moment: closed at once, the system would throw away
/// the refusal that it has not read yet.
async fn part(mut stream: Unread, is_refused: bool) {
    if stream.shutdown().await.is_err() || !is_refused {
        return;
    }
    let mut rest = [0; 4096];
    let mut bytes = 0;
    while let Ok(read @ 1..) = stream.read(&mut rest).await {
        bytes += read;
        if bytes > PARTING_BYTES {
            break;
        }
    }
}

/// Answers one request, and records it where that is due.
async fn answer(
    mut request: Request<Incoming>,
    peer: &Peer,
    routes: &TowerToHyperService<Router>,
    hall: &Hall,
    ending: Ending,
    seats: Option<&LocalSeats>,
) -> Response {
    let has_body = !request.body().is_end_stream();
    let path = request.uri().path().to_owned();
    let closed = |answer: Response| {
        let mut answer = iot_hub::dressed(answer, &path);
        // What was not read is not looked for: the next request would have to be found behind it.
        if has_body {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    };
    if let Peer::Surplus { is_local } = peer {
        return closed(too_many(hall, *is_local));
    }
    let asked = |who| Asked { method: request.method().clone(), path: path.clone(), who };
    let (asked, caller) = match admit(peer, &request, hall) {
        Ok(caller) => (asked(Who::Known(caller.clone())), caller),
        Err(refused) => {
            let (stranger, from) = *refused;
            if let Some(entry) = from.and_then(|from| audit::entry(&asked(Who::Unknown(from)), &stranger)) {
                // Whoever is not let in is not waited for either.
                drop((hall.record)(entry));
            }
            return closed(stranger);
        }
    };
    if let Some(refused) = bounds::refusal(&request) {
        hall.figures.refused_sizes.fetch_add(1, Ordering::Relaxed);
        let answer = closed(refused.into_response());
        let entry = audit::entry(&asked, &answer);
        write_down(hall, entry).await;
        return answer;
    }
    let token = request.headers().get(header::AUTHORIZATION).cloned();
    request.extensions_mut().insert(caller);
    request.extensions_mut().insert(ending);
    let silence = hall.limits.body_silence * if bounds::is_upload(&request) { 3 } else { 1 };
    let answer = match routes.call(request.map(|body| Paced::new(body, silence))).await {
        Ok(answer) => answer,
        Err(never) => match never {},
    };
    let answer = match seats {
        Some(seats) => seats.admit(answer).unwrap_or_else(|| closed(too_many_views(hall))),
        None => answer,
    };
    let answer = match (peer, &hall.gate, token) {
        (Peer::Remote { reached_at, .. }, Some(gate), Some(token)) => gate.watch(answer, token, *reached_at),
        _ => answer,
    };
    let entry = audit::entry(&asked, &answer);
    write_down(hall, entry).await;
    answer
}

/// Records an answer where that is due; what was changed is answered once that is in its file, so that it is never done and
/// unknown.
async fn write_down(hall: &Hall, entry: Option<Entry>) {
    if let Some(entry) = entry {
        // A disk that hangs holds up the record, not the operator.
        let _ = tokio::time::timeout(RECORD_WAIT, (hall.record)(entry)).await;
    }
}

/// Who asks; or the answer to one who is not let in, with the address to record it under.
fn admit(peer: &Peer, request: &Request<Incoming>, hall: &Hall) -> Result<Caller, Box<(Response, Option<String>)>> {
    match (peer, &hall.gate) {
        (Peer::Known(caller), _) => Ok(caller.clone()),
        (Peer::Bearer(token), _) if presents(request, token) => Ok(Caller::TokenHolder),
        (Peer::Remote { from, reached_at }, Some(gate)) => {
            let principal = gate.admit(request.headers(), *from, *reached_at);
            principal.map(|principal| Caller::Remote { principal, from: *from }).map_err(|stranger| {
                let from = stranger.is_told.then(|| from.ip().to_canonical().to_string());
                Box::new((*stranger.answer, from))
            })
        }
        _ => {
            hall.figures.refuse_token(Unproven::Missing);
            Err(Box::new((token_missing().into_response(), Some("this system".to_owned()))))
        }
    }
}

fn too_many(hall: &Hall, is_local: bool) -> Response {
    let Limits { local, remote, per_address, .. } = hall.limits;
    let (message, hint) = if is_local {
        let message = format!("there are too many connections on this system: {local} are served at a time");
        (message, "end some programs that use the management API (`dinrail tail`, `logs -f`, `wait`), or try again")
    } else {
        let bounds = format!("{remote} are served at a time, {per_address} from one address");
        let hint = "try again in a moment, and keep connections for several requests";
        (format!("there are too many connections: {bounds}"), hint)
    };
    come_again("tooManyConnections", message, hint)
}

fn too_many_views(hall: &Hall) -> Response {
    let message = format!("there are too many live views on this system: {} at a time", hall.limits.streams);
    come_again("tooManyStreams", message, "end some of them: `dinrail tail`, `dinrail logs -f`")
}

fn come_again(code: &'static str, message: String, hint: &'static str) -> Response {
    let told = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, message);
    let mut answer = told.hint(hint).into_response();
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
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
            let body = axum::body::Body::new(OneLineThenSilence(Some("{}\n"), Box::pin(ending.wait())));
            ([(header::CONTENT_TYPE, "application/x-ndjson")], body)
        };
        let slow = || async {
            std::future::pending::<()>().await;
        };
        let router = Router::new()
            .route("/quick", get(|| async { "1" }))
            .route("/large", get(|| async { vec![0u8; 8 << 20] }))
            .route("/endless", get(endless));
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

    fn hall(router: Router, limits: Limits) -> Hall {
        let record = Box::new(|_: Entry| oneshot::channel().1);
        Hall { router, gate: None, record, group_role: Role::Operator, limits, figures: Arc::default() }
    }

    fn serve_local(router: Router, state: &Path, (local, place): (Bound, Place)) -> AdminServer {
        open(hall(router, Limits::default()), Ways { local, place, remote: None }, state).unwrap()
    }

    fn serve_example() -> (tempfile::TempDir, AdminServer, Client) {
        serve_within(Limits::default())
    }

    fn serve_within(limits: Limits) -> (tempfile::TempDir, AdminServer, Client) {
        let state = tempfile::tempdir().unwrap();
        let (local, place) = listener::bind(state.path(), None).unwrap();
        let server = open(hall(example(), limits), Ways { local, place, remote: None }, state.path()).unwrap();
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
        let patient = Limits { waiting: Duration::from_secs(60), ..Limits::default() };
        let (state, _server, _client) = serve_within(patient);
        let clients: Vec<_> = (0..Limits::default().local + 8)
            .map(|_| {
                let state = state.path().to_owned();
                std::thread::spawn(move || Client::find(&[state]).unwrap().get::<u32>("/quick").unwrap())
            })
            .collect();

        assert!(clients.into_iter().all(|client| client.join().unwrap() == 1));
    }

    #[test]
    fn live_views_leave_seats_for_short_requests_and_one_too_many_is_told_to_end_some() {
        let limits = Limits { local: 4, streams: 2, waiting: Duration::from_secs(60), ..Limits::default() };
        let (state, _server, client) = serve_within(limits);
        let (first_line, seen) = std::sync::mpsc::channel();
        for _ in 0..2 {
            let (viewer, first_line) = (Client::find(&[state.path().to_owned()]).unwrap(), first_line.clone());
            std::thread::spawn(move || {
                viewer.lines("/endless", None, |_| {
                    first_line.send(()).unwrap();
                    ControlFlow::Continue(())
                })
            });
            seen.recv().unwrap();
        }

        let refused = client.lines("/endless", None, |_| ControlFlow::Break(())).unwrap_err();

        let ClientError::Refused { status: 503, error } = refused else { panic!("{refused}") };
        assert!(error.hint.as_deref().unwrap_or_default().contains("dinrail tail"), "{error:?}");
        assert_eq!(client.get::<u32>("/quick").unwrap(), 1);
    }

    #[test]
    #[cfg(unix)]
    fn a_client_that_finds_all_seats_taken_is_told_and_idle_connections_give_way() {
        use std::io::{Read, Write};
        let hour = Duration::from_secs(3600);
        let limits = Limits { local: 2, waiting: SHORT, headers: hour, ..Limits::default() };
        let (_state, server, client) = serve_within(limits);
        let ask = |path: &str| {
            let mut stream = std::os::unix::net::UnixStream::connect(server.socket_path()).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            write!(stream, "GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
            stream
        };
        // Each stays open, and hears the end of the connection when it had to give way.
        let mut idle = [ask("/quick"), ask("/quick")];
        let mut first = [0; 8];
        idle.iter_mut().for_each(|idle| idle.read_exact(&mut first).unwrap());
        let quick = || client.get::<u32>("/quick");
        assert!((0..200).any(|_| quick().is_ok()), "they never gave way");
        drop(idle);

        let _busy = [ask("/never"), ask("/never")];
        let refused = loop {
            match quick() {
                Err(refused) => break refused,
                Ok(_) => std::thread::yield_now(),
            }
        };
        let ClientError::Refused { status: 503, error } = refused else { panic!("{refused}") };
        assert_eq!(error.code, "tooManyConnections");
    }

    #[test]
    #[cfg(unix)]
    fn a_client_that_does_not_take_its_answer_is_given_up() {
        use std::io::Write;
        let limits = Limits { local: 1, waiting: Duration::from_secs(20), unread: SHORT, ..Limits::default() };
        let (_state, server, client) = serve_within(limits);
        let mut deaf = std::os::unix::net::UnixStream::connect(server.socket_path()).unwrap();
        deaf.write_all(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();

        // There is one seat, and the deaf one has it until then.
        assert_eq!(client.get::<u32>("/quick").unwrap(), 1);
    }

    #[test]
    fn loopback_takes_only_those_who_know_the_token() {
        let state = tempfile::tempdir().unwrap();
        let (bound, place) = listener::bind_loopback(state.path()).unwrap();
        let Place::Loopback { addr, .. } = place.clone() else { panic!("not loopback") };
        let _server = serve_local(example(), state.path(), (bound, place.clone()));

        assert_eq!(Client::at(place).unwrap().get::<u32>("/quick").unwrap(), 1);
        let stranger = Client::at(Place::Loopback { addr, token: "0".repeat(64) }).unwrap();
        assert!(matches!(stranger.get::<u32>("/quick"), Err(ClientError::Refused { status: 401, .. })));
    }

    /// So short that a test can wait for it.
    const SHORT: Duration = Duration::from_millis(100);

    fn impatient() -> Limits {
        Limits { headers: SHORT, body_silence: SHORT, handshake: SHORT, ..Limits::default() }
    }

    /// What is answered to these octets, sent as they are, until the server closes.
    fn answer_to(limits: Limits, octets: &[u8]) -> String {
        use std::io::{Read, Write};
        let state = tempfile::tempdir().unwrap();
        let (local, place) = listener::bind_loopback(state.path()).unwrap();
        let Place::Loopback { addr, token } = place.clone() else { panic!("not loopback") };
        let echo = |body: axum::body::Body| async {
            crate::admin::request::json::<serde_json::Value>(body).await.map(|body| body.to_string())
        };
        let router = example().route("/echo", axum::routing::post(echo));
        let _server = open(hall(router, limits), Ways { local, place, remote: None }, state.path()).unwrap();
        let mut stream = std::net::TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let octets = String::from_utf8_lossy(octets).replace("TOKEN", &format!("authorization: Bearer {token}"));
        stream.write_all(octets.as_bytes()).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    #[test]
    fn headers_that_never_end_are_given_up_with_408_and_an_idle_connection_without_a_word() {
        let half = answer_to(impatient(), b"GET /quick HTTP/1.1\r\nhost: a\r\nx-slow: ");
        assert!(half.starts_with("HTTP/1.1 408 "), "{half}");
        assert_eq!(answer_to(impatient(), b""), "");
        let idle = answer_to(impatient(), b"GET /quick HTTP/1.1\r\nhost: a\r\nTOKEN\r\n\r\n");
        assert!(idle.starts_with("HTTP/1.1 200 ") && idle.matches("HTTP/1.1").count() == 1, "{idle}");
    }

    #[test]
    fn a_body_that_stops_coming_is_given_up_with_408() {
        let head = b"POST /echo HTTP/1.1\r\nhost: a\r\nTOKEN\r\ncontent-length: 100\r\n\r\n{";
        let answer = answer_to(impatient(), head);
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("came too slowly"), "{answer}");
    }

    #[test]
    fn requests_that_come_all_at_once_are_answered_one_by_one() {
        let one = "POST /echo HTTP/1.1\r\nhost: a\r\nTOKEN\r\ncontent-length: 1\r\n\r\n7";
        let answer = answer_to(impatient(), one.repeat(50).as_bytes());
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 50, "{answer}");
    }

    #[test]
    fn what_is_too_large_or_no_request_is_answered_at_once() {
        let with =
            |line: &str, headers: &str| format!("{line} HTTP/1.1\r\nhost: a\r\nTOKEN\r\n{headers}\r\n").into_bytes();
        let table = [
            (with("POST /echo", "content-length: 104857600\r\n"), "413"),
            (with(&format!("GET /quick?{}", "a".repeat(9_000)), ""), "414"),
            (with("GET /quick", &format!("x-large: {}\r\n", "a".repeat(17_000))), "431"),
            (with("GET /quick", &"x: a\r\n".repeat(100)), "431"),
            (b"nonsense\r\n\r\n".to_vec(), "400"),
            (with("GET /quick", "host: b\r\n"), "400"),
            (b"GET /quick HTTP/1.1\r\nTOKEN\r\n\r\n".to_vec(), "400"),
            (with("POST /echo", "expect: magic\r\ncontent-length: 1\r\n"), "417"),
            (b"GET /quick HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(), "401"),
        ];
        for (octets, status) in table {
            let answer = answer_to(impatient(), &octets);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {answer}");
        }
    }
}
