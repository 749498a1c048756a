//! What `send` says of many messages.

use serde::{Deserialize, Serialize};

/// What became of many messages that were sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SendSummary {
    /// The input.
    pub input: String,
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
