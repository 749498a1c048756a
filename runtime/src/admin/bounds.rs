//! What a request may be and how long it may take to come: refused here before a route sees it, and without reading it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::{HeaderValue, Method, Request, StatusCode, Version, header};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

use super::error::ApiError;
use super::images::MAX_IMAGE_BYTES;
use super::request::MAX_BODY_BYTES;

/// Longest path with its query.
pub(super) const MAX_URI_BYTES: usize = 8 * 1024;
/// Headers of a request.
pub(super) const MAX_HEADERS: usize = 64;
/// Bytes of all headers together.
pub(super) const MAX_HEADER_BYTES: usize = 16 * 1024;
/// Bytes buffered of a connection: more than a request line and headers at their bounds, so that the refusal can say why.
pub(super) const MAX_BUFFER_BYTES: usize = 48 * 1024;
/// Slower than so many bytes a second on the whole, a body is given up.
const SLOWEST_BODY: u64 = 4 * 1024;

/// How long a client may take, and how many there may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections on the socket of this system.
    pub local: usize,
    /// Of those, live views.
    pub streams: usize,
    /// How long a further one waits for a seat before it is told to come again.
    pub waiting: Duration,
    /// Connections from other machines.
    pub remote: usize,
    /// Of those, from one address.
    pub per_address: usize,
    /// Connections beyond these that are told to come again.
    pub refused: usize,
    /// For the handshake of TLS.
    pub handshake: Duration,
    /// For the handshake and the request of a connection that will be told to come again.
    pub refusing: Duration,
    /// For the headers of a request, and between two requests.
    pub headers: Duration,
    /// Longest silence in a body.
    pub body_silence: Duration,
    /// For a client that takes nothing of its answer.
    pub unread: Duration,
    /// For the bytes that a refused client goes on to send: so that it reads the refusal.
    pub parting: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            local: 64,
            streams: 48,
            waiting: Duration::from_secs(1),
            remote: 128,
            per_address: 64,
            refused: 64,
            handshake: Duration::from_secs(10),
            refusing: Duration::from_secs(1),
            headers: Duration::from_secs(10),
            body_silence: Duration::from_secs(10),
            unread: Duration::from_secs(20),
            parting: Duration::from_secs(2),
        }
    }
}

/// Why a request is refused for what it is, before anything of its body is read.
pub(super) fn refusal<B>(request: &Request<B>) -> Option<ApiError> {
    if let Some(refused) = ambiguous(request) {
        return Some(refused);
    }
    let uri = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    if uri > MAX_URI_BYTES {
        let message = format!("the path with its query has {uri} bytes; it may have {MAX_URI_BYTES}");
        return Some(
            ApiError::new(StatusCode::URI_TOO_LONG, "uriTooLong", message).hint("put what is long into the body"),
        );
    }
    let headers: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if headers > MAX_HEADER_BYTES {
        let message = format!("the headers have {headers} bytes; they may have {MAX_HEADER_BYTES}");
        return Some(ApiError::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headersTooLarge", message));
    }
    let length = request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse::<u64>().ok()?;
    let most = if is_upload(request) { MAX_IMAGE_BYTES } else { MAX_BODY_BYTES as u64 };
    (length > most).then(|| {
        let message = format!("the body of the request has {length} bytes; it may have {most}");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "tooLarge", message)
    })
}

/// Why a request cannot be told for certain, or expects what is not done.
fn ambiguous<B>(request: &Request<B>) -> Option<ApiError> {
    let headers = request.headers();
    let hosts = headers.get_all(header::HOST).iter().count();
    let is_missing = hosts == 0 && request.version() == Version::HTTP_11;
    if hosts > 1 {
        return Some(ApiError::invalid("the request has two Host headers"));
    }
    if is_missing {
        return Some(ApiError::invalid("the request has no Host header, which HTTP/1.1 needs"));
    }
    let is_known = |expected: &&HeaderValue| expected.as_bytes().eq_ignore_ascii_case(b"100-continue");
    let unknown = headers.get_all(header::EXPECT).iter().find(|expected| !is_known(expected))?;
    let message = format!("the request expects {unknown:?}, which is not known");
    let refused = ApiError::new(StatusCode::EXPECTATION_FAILED, "expectationFailed", message);
    Some(refused.hint("100-continue is, or leave the header out"))
}

/// True for the one kind of request whose body is not a document.
pub(super) fn is_upload<B>(request: &Request<B>) -> bool {
    request.method() == Method::POST && request.uri().path() == "/images"
}

/// The body did not come in time.
#[derive(Debug, thiserror::Error)]
#[error("the body of the request came too slowly: {0}")]
pub(super) struct TooSlow(&'static str);

/// A body that has to keep coming.
pub(super) struct Paced {
    inner: Incoming,
    silence: Duration,
    began: Instant,
    bytes: u64,
    /// Made when there is something to wait for.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    pub(super) fn new(inner: Incoming, silence: Duration) -> Paced {
        let began = Instant::from_std(crate::clock::now());
        Paced { inner, silence, began, bytes: 0, timer: None }
    }

    /// When it will have been too slow, if nothing comes until then; and why.
    fn deadline(&self) -> (Instant, &'static str) {
        let now = Instant::from_std(crate::clock::now());
        let silent = now + self.silence;
        // Twice the silence to begin with, then as much as the slowest line needs for what has come.
        let whole = self.began + self.silence * 2 + Duration::from_millis(self.bytes * 1000 / SLOWEST_BODY);
        if whole < silent { (whole.max(now), "it trickles") } else { (silent, "nothing comes") }
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                self.timer = None;
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(other) => Poll::Ready(other.map(|frame| frame.map_err(Into::into))),
            Poll::Pending => {
                let (deadline, why) = self.deadline();
                let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
                match timer.as_mut().poll(cx) {
                    Poll::Ready(()) => Poll::Ready(Some(Err(Box::new(TooSlow(why))))),
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(method: &str, uri: &str, headers: &[(&str, String)]) -> Option<String> {
        let mut request = Request::builder().method(method).uri(uri).header("host", "a");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        refusal(&request.body(()).unwrap()).map(|error| format!("{error:?}"))
    }

    #[test]
    fn what_is_too_large_is_refused_by_what_it_says_of_itself() {
        let length = |bytes: u64| [("content-length", bytes.to_string())];
        assert_eq!(refused("PUT", "/deployment", &length(4 << 20)), None);
        let table = [
            (refused("PUT", "/deployment", &length((4 << 20) + 1)), "413"),
            (refused("POST", "/images?file=x", &length(100 << 20)), ""),
            (refused("POST", "/images?file=x", &length(1 << 30)), "413"),
            (refused("GET", &format!("/logs?grep={}", "a".repeat(9000)), &[]), "414"),
            (refused("GET", "/logs", &[("x-a", "a".repeat(9000)), ("x-b", "b".repeat(9000))]), "431"),
        ];
        for (found, status) in table {
            assert_eq!(found.is_none(), status.is_empty(), "{found:?}");
            assert!(found.unwrap_or_default().contains(status));
        }
    }
}
