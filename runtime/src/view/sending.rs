//! What `send` says of the messages that it sent, be it one or many.

use serde::{Deserialize, Serialize};

use super::Status;

/// What became of messages that were sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SendSummary {
    /// Identity of the receiver; `null` where none was taken.
    pub to: Option<String>,
    /// The input.
    pub input: String,
    /// State of the receiver when it got the last one: a message to one that is not running waits. `null` as above.
    pub receiver: Option<Status>,
    /// How many were taken.
    pub sent: u64,
    /// How many were refused.
    pub refused: u64,
    /// Why.
    pub reasons: Vec<SendRefusal>,
}

/// Messages that were refused for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SendRefusal {
    /// The reason.
    pub message: String,
    /// How many.
    pub count: u64,
    /// Where the first of them came from.
    pub first: String,
}
