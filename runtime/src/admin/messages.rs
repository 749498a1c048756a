//! `GET /messages?route=FROM …`: messages as they pass, a JSON document a line, until the client goes or the runtime ends.
//!
//! A line is [`Message::to_json`](crate::message::Message::to_json), or `{"skipped": n}` where the client was too slow for n
//! messages. A slow client holds up nobody: its connection fills, then this stops reading, then the tail leaves out.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use hyper::body::{Bytes, Frame};
use serde_json::json;
use tokio::sync::mpsc;

use super::error::ApiError;
use super::request::Params;
use super::server::Ending;
use crate::handle::{Handle, Tail, TailItem};

/// Lines between the tail and the connection.
const BUFFERED_LINES: usize = 64;
/// Lines are put together up to about this, so that a flood is not one write a message.
const CHUNK_BYTES: usize = 32 * 1024;

/// Messages as they pass, a JSON document a line, until the client goes.
#[utoipa::path(
    get, path = "/messages", tag = "messages",
    params(("route" = Option<String>, Query, description = "`FROM … [WHERE …]`; everything unless told")),
    responses((status = 200, body = Object, content_type = "application/x-ndjson"))
)]
pub(super) async fn tail(
    State(handle): State<Handle>,
    Extension(ending): Extension<Ending>,
    params: Params,
) -> Result<Response, ApiError> {
    let tail = handle.tail(params.text("route"))?;
    let (lines, receiver) = mpsc::channel(BUFFERED_LINES);
    tokio::spawn(follow(tail, lines, ending));
    let body = Body::new(Lines { receiver, ending: None });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

async fn follow(mut tail: Tail, lines: mpsc::Sender<String>, ending: Ending) {
    let pump = async {
        while let Some(item) = tail.next().await {
            let line = match item {
                TailItem::Message(message) => message.to_json(),
                TailItem::Skipped(count) => json!({"skipped": count}),
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
