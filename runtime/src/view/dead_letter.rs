//! What clients are shown of messages that were set aside.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// A page of dead letters.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadLettersView {
    /// How many there are of those that were asked for, on all pages.
    pub total: u64,
    /// The oldest first; without properties and bodies.
    pub dead_letters: Vec<DeadLetterView>,
    /// To be given as `after` for the next page; `null` on the last one.
    pub next: Option<i64>,
}

/// A message that was set aside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterView {
    /// Its id.
    pub id: i64,
    /// Where it was to go.
    pub endpoint: String,
    /// Identity of the sender.
    pub sender: String,
    /// Its output.
    pub output: String,
    /// With `sequence`: its number among what the sender has sent to the output.
    pub epoch: u64,
    /// See `epoch`.
    pub sequence: u64,
    /// When it was sent, RFC 3339.
    pub created_time_utc: String,
    /// When it was really sent, where the clock was wrong then and the right time is known by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub true_time_utc: Option<String>,
    /// When it was set aside; `null` where nobody knows.
    pub parked_time_utc: Option<String>,
    /// Why.
    pub reason: String,
    /// How often it was delivered before.
    pub attempts: u32,
    /// Bytes of its properties and its body.
    pub bytes: u64,
    /// Body, properties and system properties, where one was asked for alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Value>,
}

/// Dead letters that were put back or discarded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadLettersMoved {
    /// How many.
    pub count: u64,
    /// How many there still are, of all.
    pub left: u64,
    /// Ids that were asked for and are of no dead letter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<i64>,
}

/// Which dead letters: `ids`, or `all`, narrowed by what else is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeadLetterChoice {
    /// These.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<i64>>,
    /// Every one. Has to be said.
    #[serde(default)]
    pub all: bool,
    /// Name of a module, or an endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Set aside at least so long ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub older_than_secs: Option<u64>,
}
