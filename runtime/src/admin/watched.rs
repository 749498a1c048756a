//! The body of an answer that goes on for ever, to a client from another machine: it ends once the token that it was asked for
//! with holds no more.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::header;
use axum::response::Response;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::clock;

/// How often a token is looked at again.
const LOOK: Duration = Duration::from_secs(2);

/// The answer, which ends with the token where it is a live view.
pub(super) fn watched(answer: Response, holds: impl Fn() -> bool + Send + 'static) -> Response {
    let kind = answer.headers().get(header::CONTENT_TYPE);
    if kind.is_none_or(|kind| kind != "application/x-ndjson") {
        return answer;
    }
    let timer = Box::pin(tokio::time::sleep(LOOK));
    answer.map(|inner| axum::body::Body::new(Watched { inner, holds: Box::new(holds), timer }))
}

struct Watched {
    inner: axum::body::Body,
    holds: Box<dyn Fn() -> bool + Send>,
    timer: Pin<Box<Sleep>>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        while self.timer.as_mut().poll(cx).is_ready() {
            if !(self.holds)() {
                let why = std::io::Error::new(std::io::ErrorKind::PermissionDenied, "the token holds no more");
                return Poll::Ready(Some(Err(axum::Error::new(why))));
            }
            self.timer.as_mut().reset(Instant::from_std(clock::now() + LOOK));
        }
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
