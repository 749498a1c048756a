//! `GET /messages?route=FROM …`: messages as they pass, a JSON document a line, until the client goes or the runtime ends.
//!
//! `known=true` refuses a route whose source names what is not there; `sample=n` takes each nth of them, `rate=n` no more than n in any second. A line is
//! [`Message::to_json`](crate::message::Message::to_json), or `{"skipped": n}` where the client was too slow for n messages, or
//! `{"overRate": n}` where n were more than it wanted. While the
//! device's clock is not trusted a message has `clock` with its `boot` and `monotonicUs`; once it is, a line `{"clock": {"isTrusted":
//! true, "boot", "offsetUs"}}` says what to add to these for the true time. A slow client holds up nobody: its connection fills, then this stops reading, then the tail leaves out.

use std::ops::RangeInclusive;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use hyper::body::{Bytes, Frame};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::error::ApiError;
use super::request::Params;
use super::server::Ending;
use crate::handle::{Handle, Tail, TailItem, Worth};
use crate::message::Message;

/// Lines between the tail and the connection.
const BUFFERED_LINES: usize = 64;
/// Lines are put together up to about this, so that a flood is not one write a message.
const CHUNK_BYTES: usize = 32 * 1024;

/// Messages as they pass, a JSON document a line, until the client goes.
#[utoipa::path(
    get, path = "/messages", tag = "messages",
    params(
        ("route" = Option<String>, Query, description = "`FROM … [WHERE …]`; everything unless told"),
        ("known" = Option<bool>, Query, description = "`true`: refused where the route names a module or output that nobody has"),
        ("sample" = Option<u64>, Query, description = "Of that each so-manieth message"),
        ("rate" = Option<u32>, Query, description = "No more than so many in any second")
    ),
    responses((status = 200, body = Object, content_type = "application/x-ndjson"), (status = 404))
)]
pub(super) async fn tail(
    State(handle): State<Handle>,
    Extension(ending): Extension<Ending>,
    params: Params,
) -> Result<Response, ApiError> {
    let sample = number(&params, "sample", 1..=u64::from(u32::MAX))?.unwrap_or(1);
    let rate = number(&params, "rate", 1..=1_000_000)?.and_then(|rate| u32::try_from(rate).ok());
    if params.truth("known")? {
        handle.source_is_known(params.text("route")).await?;
    }
    let tail = handle.tail(params.text("route"), sample, rate)?;
    let (lines, receiver) = mpsc::channel(BUFFERED_LINES);
    tokio::spawn(follow(tail, handle, lines, ending));
    let body = Body::new(Lines { receiver, ending: None });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

fn number(params: &Params, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, ApiError> {
    let Some(text) = params.text(name) else { return Ok(None) };
    match text.parse() {
        Ok(number) if range.contains(&number) => Ok(Some(number)),
        _ => {
            let (from, to) = (range.start(), range.end());
            Err(ApiError::invalid(format!("{name}={text} is no whole number from {from} to {to}")))
        }
    }
}

async fn follow(mut tail: Tail, handle: Handle, lines: mpsc::Sender<String>, ending: Ending) {
    let mut is_owed = false;
    let pump = async {
        while let Some(item) = tail.next().await {
            let worth = handle.clock_worth();
            if worth.is_trusted && std::mem::take(&mut is_owed) {
                let right = json!({"isTrusted": true, "boot": worth.boot, "offsetUs": worth.offset_us});
                if lines.send(format!("{}\n", json!({"clock": right}))).await.is_err() {
                    break;
                }
            }
            let line = match item {
                TailItem::Message(message) => {
                    is_owed |= !worth.is_trusted;
                    timed(&message, worth)
                }
                TailItem::Skipped(count) => json!({"skipped": count}),
                TailItem::OverRate(count) => json!({"overRate": count}),
            };
            if lines.send(format!("{line}\n")).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = pump => {}
        () = lines.closed() => {}
        () = ending.wait() => {}
    }
}

/// A message; while nobody knows what the clock is worth, with what its true time can be told from once it is known.
fn timed(message: &Message, worth: Worth) -> Value {
    let mut document = message.to_json();
    if !worth.is_trusted {
        let monotonic_us = message.stamp.created_us - worth.offset_us;
        document["clock"] = json!({"isTrusted": false, "boot": worth.boot, "monotonicUs": monotonic_us});
    }
    document
}

/// The lines as the body of an answer.
pub(super) struct Lines {
    receiver: mpsc::Receiver<String>,
    ending: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Lines {
    /// Lines until their sender ends, or the server does.
    pub(super) fn until(receiver: mpsc::Receiver<String>, ending: Ending) -> Lines {
        Lines { receiver, ending: Some(Box::pin(ending.wait())) }
    }
}

impl hyper::body::Body for Lines {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.ending.as_mut().is_some_and(|ending| ending.as_mut().poll(cx).is_ready()) {
            // What was said so far is told still.
            self.ending = None;
            self.receiver.close();
        }
        let mut chunk = match self.receiver.poll_recv(cx) {
            Poll::Ready(Some(line)) => line,
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => return Poll::Pending,
        };
        while chunk.len() < CHUNK_BYTES {
            let Ok(line) = self.receiver.try_recv() else { break };
            chunk.push_str(&line);
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(chunk)))))
    }
}
