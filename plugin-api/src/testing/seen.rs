//! What a test gets to see.

use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::abi::{DR_ACCEPT, DR_DEFER, DR_PANIC, DR_PARK, DR_RETRY, DrVerdict};
use crate::client::Level;

/// A message that the module sent and that was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Output; empty for a message to the hub.
    pub output: String,
    /// Body.
    pub body: Vec<u8>,
    /// Application properties, in order.
    pub properties: Vec<(String, String)>,
    /// Message id.
    pub message_id: Option<String>,
    /// Correlation id.
    pub correlation_id: Option<String>,
    /// Content type.
    pub content_type: Option<String>,
    /// Content encoding.
    pub content_encoding: Option<String>,
}

impl Sent {
    /// Body as text; panics where it is none.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// Body read as JSON; panics where it does not fit.
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).expect("the body is the expected JSON")
    }

    /// An application property.
    pub fn property(&self, key: &str) -> Option<&str> {
        self.properties.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

/// A line that the module logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Severity.
    pub level: Level,
    /// Module path, or `panic`.
    pub target: String,
    /// Text and fields.
    pub text: String,
    /// `file:line`, where it is known.
    pub place: Option<String>,
}

/// What became of a delivered message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Handled: what was staged is committed.
    Accepted,
    /// To be delivered again.
    Retry {
        /// Least time until then.
        after: Option<Duration>,
    },
    /// Set aside, with the reason.
    Parked(String),
    /// To be decided; see [`Bench::decided`](super::Bench::decided).
    Deferred,
    /// The handler failed, with the chain of causes.
    Failed(String),
    /// The handler panicked, with text and place.
    Panicked(String),
}

/// A verdict as the module gave it, with its reason.
pub(super) fn read_verdict(verdict: DrVerdict, reason: String) -> Verdict {
    let ms = verdict.retry_after_ms;
    match verdict.kind {
        DR_ACCEPT => Verdict::Accepted,
        DR_RETRY => Verdict::Retry { after: (ms > 0).then(|| Duration::from_millis(ms)) },
        DR_PARK => Verdict::Parked(reason),
        DR_DEFER => Verdict::Deferred,
        DR_PANIC => Verdict::Panicked(reason),
        _ => Verdict::Failed(reason),
    }
}
