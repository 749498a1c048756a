//! The client of the management API that the command line uses: finds the runtime, asks, and tells apart "nobody answers",
//! "refused" and "broken off". Blocks its caller; every request has a connection and a time limit of its own.

mod body;
mod connect;
mod remote;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::{ErrorBody, ErrorDocument};
use super::socket::{self, Place};
use crate::clock;
use crate::tls::{self, Trouble};
use body::{FileBody, RequestBody};
pub use remote::{BadConnectionString, Credential, Host, Remote, shown_by};

/// Time of a request that only asks or commands.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// What a request may last beyond the time that it asks the server to wait.
const WAIT_MARGIN: Duration = Duration::from_secs(10);
/// Largest answer.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// A place where no runtime answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// The state directory.
    pub state_dir: PathBuf,
    /// What was found there.
    pub why: String,
}

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers, in any of these places.
    #[error("no runtime answers")]
    NoRuntime(Vec<Tried>),
    /// Nobody answers on another machine.
    #[error("no runtime answers on {host}: {why}")]
    NoHost {
        /// Which.
        host: String,
        /// What happened.
        why: String,
    },
    /// Somebody answers who is not trusted to be that machine.
    #[error("{}", .0.message)]
    Untrusted(Trouble),
    /// The runtime says no.
    #[error("{}", error.message)]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its words.
        error: ErrorBody,
    },
    /// The connection ended, or the answer is not one.
    #[error("the connection to the runtime on {place} broke off: {why}")]
    Broken {
        /// Where it listens.
        place: String,
        /// What happened.
        why: String,
    },
    /// Not within the time allowed.
    #[error("the runtime on {place} has not answered for {} s", limit.as_secs())]
    Timeout {
        /// Where it listens.
        place: String,
        /// The time allowed.
        limit: Duration,
    },
    /// The file for an upload.
    #[error("{} cannot be read", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The client itself cannot work.
    #[error("the client cannot be set up")]
    SetUp(#[source] std::io::Error),
}

/// How a stream of lines ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinesEnd {
    /// The reader had enough.
    Enough,
    /// Its time was up.
    TimeUp,
    /// A person pressed Ctrl-C.
    Interrupted,
    /// The runtime ended.
    RuntimeEnded,
}

/// A runtime that answers.
pub struct Client {
    executor: tokio::runtime::Runtime,
    target: Target,
}

/// Where a runtime is.
pub(super) enum Target {
    /// On this system.
    Local {
        /// Its state directory.
        state_dir: PathBuf,
        /// Where it listens.
        place: Place,
    },
    /// On another machine.
    Remote(Box<Remote>),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Local { place, .. } => place.fmt(f),
            Target::Remote(remote) => remote.host.fmt(f),
        }
    }
}

impl Client {
    /// The runtime of the first of these state directories that has one.
    pub fn find(state_dirs: &[PathBuf]) -> Result<Client, ClientError> {
        let executor = executor()?;
        let mut tried = Vec::new();
        for state_dir in state_dirs {
            let answer = socket::find(state_dir)
                .and_then(|place| executor.block_on(connect::connect(&place)).map(|_| place))
                .map_err(|error| connect::explain(state_dir, &error));
            match answer {
                Ok(place) => {
                    return Ok(Client { executor, target: Target::Local { state_dir: state_dir.clone(), place } });
                }
                Err(why) => tried.push(Tried { state_dir: state_dir.clone(), why }),
            }
        }
        Err(ClientError::NoRuntime(tried))
    }

    /// The runtime that listens at `place`; nothing is tried yet.
    #[cfg(test)]
    pub(super) fn at(place: Place) -> Result<Client, ClientError> {
        Ok(Client { executor: executor()?, target: Target::Local { state_dir: PathBuf::new(), place } })
    }

    /// The runtime on another machine; nothing is tried yet.
    pub fn remote(remote: Remote) -> Result<Client, ClientError> {
        Ok(Client { executor: executor()?, target: Target::Remote(Box::new(remote)) })
    }

    /// State directory of the runtime that answers, where that is on this system.
    pub fn state_dir(&self) -> Option<&Path> {
        match &self.target {
            Target::Local { state_dir, .. } => Some(state_dir),
            Target::Remote(_) => None,
        }
    }

    /// `GET path`.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(self.request(Method::GET, path, None), REQUEST_TIMEOUT)
    }

    /// `GET path` of a route that answers with a file.
    pub fn get_bytes(&self, path: &str) -> Result<Vec<u8>, ClientError> {
        self.executor.block_on(self.within(REQUEST_TIMEOUT, async {
            let response = self.send(self.request(Method::GET, path, None)).await?;
            if !response.status().is_success() {
                return Err(self.refused(response).await);
            }
            Ok(self.collect(response).await?.to_vec())
        }))
    }

    /// `GET path` of a route that waits up to `wait`.
    pub fn get_waiting<T: DeserializeOwned>(&self, path: &str, wait: Duration) -> Result<T, ClientError> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{separator}timeoutMs={}", wait.as_millis());
        self.ask(self.request(Method::GET, &path, None), wait + WAIT_MARGIN)
    }

    /// `POST path`.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: Option<&Value>) -> Result<T, ClientError> {
        self.ask(self.request(Method::POST, path, body), REQUEST_TIMEOUT)
    }

    /// `POST path` of a route that waits up to `wait`.
    pub fn post_waiting<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
        wait: Duration,
    ) -> Result<T, ClientError> {
        self.ask(self.request(Method::POST, path, Some(body)), wait + WAIT_MARGIN)
    }

    /// `PUT path`, where `if_match` is an etag without quotes.
    pub fn put<T: DeserializeOwned>(&self, path: &str, body: &Value, if_match: Option<&str>) -> Result<T, ClientError> {
        self.ask(matching(self.request(Method::PUT, path, Some(body)), if_match), REQUEST_TIMEOUT * 10)
    }

    /// `PATCH path`, where `if_match` is an etag without quotes.
    pub fn patch<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
        if_match: Option<&str>,
    ) -> Result<T, ClientError> {
        self.ask(matching(self.request(Method::PATCH, path, Some(body)), if_match), REQUEST_TIMEOUT)
    }

    /// `POST path`, where `if_match` is an etag without quotes.
    pub fn post_matching<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
        if_match: Option<&str>,
    ) -> Result<T, ClientError> {
        self.ask(matching(self.request(Method::POST, path, Some(body)), if_match), REQUEST_TIMEOUT)
    }

    /// `DELETE path`.
    pub fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(self.request(Method::DELETE, path, None), REQUEST_TIMEOUT)
    }

    /// `DELETE path` of a route that may take up to `wait`.
    pub fn delete_waiting<T: DeserializeOwned>(&self, path: &str, wait: Duration) -> Result<T, ClientError> {
        self.ask(self.request(Method::DELETE, path, None), wait + WAIT_MARGIN)
    }

    /// `POST path` with a file as the body. `progress` hears the bytes sent so far and those in all.
    pub fn upload<T: DeserializeOwned>(
        &self,
        path: &str,
        file: &Path,
        progress: impl FnMut(u64, u64) + Send + 'static,
    ) -> Result<T, ClientError> {
        let opened = FileBody::open(file, Box::new(progress));
        let body = opened.map_err(|source| ClientError::File { path: file.to_owned(), source })?;
        let request = self.request(Method::POST, path, None).map(|_| RequestBody::Right(body));
        self.ask(request, REQUEST_TIMEOUT * 10)
    }

    /// `GET path`, line by line as they come, until the reader breaks, `limit` has passed, or a person presses Ctrl-C.
    pub fn lines(
        &self,
        path: &str,
        limit: Option<Duration>,
        mut on_line: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<LinesEnd, ClientError> {
        let request = self.request(Method::GET, path, None);
        self.executor.block_on(async {
            let mut response = self.within(REQUEST_TIMEOUT, self.send(request)).await?;
            if response.status() != StatusCode::OK {
                return Err(self.refused(response).await);
            }
            let mut partial = Vec::new();
            let mut end = std::pin::pin!(end_of_watching(limit));
            loop {
                let frame = tokio::select! {
                    frame = response.body_mut().frame() => frame,
                    end = &mut end => return Ok(end),
                };
                let Some(frame) = frame else { return Ok(LinesEnd::RuntimeEnded) };
                // A runtime that is killed breaks off in the middle of a chunk.
                let Ok(frame) = frame else { return Ok(LinesEnd::RuntimeEnded) };
                let Ok(chunk) = frame.into_data() else { continue };
                partial.extend_from_slice(&chunk);
                let complete = partial.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
                for line in partial[..complete].split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
                    if on_line(line).is_break() {
                        return Ok(LinesEnd::Enough);
                    }
                }
                partial.drain(..complete);
            }
        })
    }

    fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Request<RequestBody> {
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let mut request = Request::new(RequestBody::Left(Full::new(body)));
        *request.method_mut() = method;
        // Paths are made by `path`, which leaves nothing that a URI does not take.
        *request.uri_mut() = path.parse().unwrap_or_else(|_| hyper::Uri::from_static("/"));
        let headers = request.headers_mut();
        headers.insert(header::HOST, header::HeaderValue::from_static("localhost"));
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        let authorization = match &self.target {
            Target::Local { place: Place::Loopback { token, .. }, .. } => {
                header::HeaderValue::from_str(&format!("Bearer {token}")).ok()
            }
            Target::Local { .. } => None,
            Target::Remote(remote) => {
                remote.authority().map(|host| headers.insert(header::HOST, host));
                remote.authorization()
            }
        };
        authorization.map(|value| headers.insert(header::AUTHORIZATION, value));
        request
    }

    fn ask<T: DeserializeOwned>(&self, request: Request<RequestBody>, limit: Duration) -> Result<T, ClientError> {
        self.executor.block_on(self.within(limit, async {
            let response = self.send(request).await?;
            if !response.status().is_success() {
                return Err(self.refused(response).await);
            }
            let bytes = self.collect(response).await?;
            // 204 has no body.
            let text: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
            serde_json::from_slice(text).map_err(|error| self.broken(format!("the answer cannot be read: {error}")))
        }))
    }

    async fn within<T>(
        &self,
        limit: Duration,
        answer: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let late = |_| ClientError::Timeout { place: self.target.to_string(), limit };
        tokio::time::timeout(limit, answer).await.map_err(late)?
    }

    async fn send(&self, request: Request<RequestBody>) -> Result<Response<Incoming>, ClientError> {
        let stream = connect::reach(&self.target).await.map_err(|error| self.unreachable(&error))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(stream).await.map_err(|error| self.broken(error.to_string()))?;
        tokio::spawn(async move {
            // The request that is in flight hears of it too.
            let _ = connection.await;
        });
        sender.send_request(request).await.map_err(|error| self.broken(error.to_string()))
    }

    async fn collect(&self, response: Response<Incoming>) -> Result<Bytes, ClientError> {
        let whole = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        Ok(whole.map_err(|error| self.broken(error.to_string()))?.to_bytes())
    }

    fn unreachable(&self, error: &std::io::Error) -> ClientError {
        match &self.target {
            Target::Local { state_dir, .. } => {
                let why = connect::explain(state_dir, error);
                ClientError::NoRuntime(vec![Tried { state_dir: state_dir.clone(), why }])
            }
            Target::Remote(remote) => no_host(&remote.host, error),
        }
    }

    async fn refused(&self, response: Response<Incoming>) -> ClientError {
        let status = response.status().as_u16();
        let clocks = response.headers().get(header::DATE).and_then(|date| clocks(date.to_str().ok()?));
        let bytes = match self.collect(response).await {
            Ok(bytes) => bytes,
            Err(error) => return error,
        };
        match serde_json::from_slice::<ErrorDocument>(&bytes) {
            Ok(ErrorDocument { mut error }) => {
                if status == 401 {
                    error.details.extend(clocks);
                }
                ClientError::Refused { status, error }
            }
            Err(_) => self.broken(format!("HTTP {status}: {}", String::from_utf8_lossy(&bytes).trim())),
        }
    }

    fn broken(&self, why: String) -> ClientError {
        ClientError::Broken { place: self.target.to_string(), why }
    }
}

/// Why `host` is not reached.
pub fn no_host(host: &Host, error: &std::io::Error) -> ClientError {
    match tls::explain(&host.to_string(), error) {
        Some(trouble) => ClientError::Untrusted(trouble),
        None => ClientError::NoHost { host: host.to_string(), why: error.to_string() },
    }
}

/// Where the clocks of both sides differ by so much that tokens may seem to have expired.
fn clocks(date: &str) -> Option<String> {
    let there = jiff::fmt::rfc2822::parse(date).ok()?.timestamp().as_second();
    let apart = clock::wall_us() / 1_000_000 - there;
    let span = clock::spoken(Duration::from_secs(apart.unsigned_abs()));
    let than = if apart > 0 { "ahead of" } else { "behind" };
    (apart.unsigned_abs() > 60).then(|| format!("the clock here is {span} {than} the one there"))
}

fn executor() -> Result<tokio::runtime::Runtime, ClientError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ClientError::SetUp)
}

async fn end_of_watching(limit: Option<Duration>) -> LinesEnd {
    let time_up = async {
        match limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = time_up => LinesEnd::TimeUp,
        () = interrupted() => LinesEnd::Interrupted,
    }
}

#[cfg(unix)]
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}

/// There Ctrl-C ends the process, which is as quiet.
#[cfg(not(unix))]
async fn interrupted() {
    std::future::pending().await
}

/// The same request, done only if the etag is this one.
fn matching(mut request: Request<RequestBody>, if_match: Option<&str>) -> Request<RequestBody> {
    let quoted = |tag: &str| if tag == "*" { tag.to_owned() } else { format!("\"{tag}\"") };
    if let Some(tag) = if_match.and_then(|tag| header::HeaderValue::from_str(&quoted(tag)).ok()) {
        request.headers_mut().insert(header::IF_MATCH, tag);
    }
    request
}

/// A path of these segments, each escaped: `path(&["modules", "a/b"])` is `/modules/a%2Fb`.
pub fn path(segments: &[&str]) -> String {
    segments.iter().map(|segment| format!("/{}", escape(segment))).collect()
}

/// `base` with these parameters.
pub fn query(base: &str, parameters: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = parameters.iter().map(|(key, value)| format!("{key}={}", escape(value))).collect();
    format!("{base}?{}", pairs.join("&"))
}

fn escape(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_survives_in_a_path() {
        assert_eq!(path(&["modules", "a#b?c%d/é"]), "/modules/a%23b%3Fc%25d%2F%C3%A9");
        assert_eq!(query("/messages", &[("route", "FROM /*")]), "/messages?route=FROM%20%2F%2A");
    }

    #[test]
    fn clocks_that_differ_are_named() {
        let now = clock::wall_us();
        let date = |us| {
            jiff::fmt::rfc2822::to_string(
                &jiff::Timestamp::from_microsecond(us).unwrap().to_zoned(jiff::tz::TimeZone::UTC),
            )
            .unwrap()
        };
        assert_eq!(clocks(&date(now)), None);
        let behind = clocks(&date(now + 7_200_000_000)).unwrap();
        assert!(
            behind.starts_with("the clock here is 1 h 59 min behind") || behind.contains("2 h 0 min behind"),
            "{behind}"
        );
        assert_eq!(clocks("nonsense"), None);
    }

    #[test]
    fn every_place_tried_is_named_with_what_was_found_there() {
        let empty = tempfile::tempdir().unwrap();
        let states = [empty.path().to_owned(), empty.path().join("missing")];

        let Err(ClientError::NoRuntime(tried)) = Client::find(&states).map(|_| ()) else { panic!("found one") };

        assert_eq!(tried.iter().map(|t| &t.state_dir).collect::<Vec<_>>(), states.iter().collect::<Vec<_>>());
        assert!(tried.iter().all(|t| !t.why.is_empty()), "{tried:?}");
    }
}
