//! What clients are shown of messages that were lost.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The ledger of losses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LossesView {
    /// Messages that are gone, all entries together.
    pub lost: u64,
    /// Messages that were set aside as poisonous, which is not lost yet.
    pub parked: u64,
    /// Of these, the ones that are still there: `dinrail dead-letter list`; of the name that was asked for, where one was.
    #[serde(default)]
    pub dead_letters: u64,
    /// Sequences of this run are of this epoch.
    #[serde(default)]
    pub epoch: u64,
    /// By sender, output, endpoint and reason, each with one or more ranges.
    pub entries: Vec<LossEntry>,
}

/// One line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LossEntry {
    /// Identity of the sender.
    pub sender: String,
    /// Its output.
    pub output: String,
    /// The endpoint that did not get the messages.
    pub endpoint: String,
    /// `full`, `tooLarge`, `expired`, `storeFull`, `notStored`, `parked`, `purged`, `stopped`, `runtimeDied`, `dropOldest` or
    /// `dropNewest`; `notAcknowledged`: among these numbers an unclean end skipped some, of which
    /// no message was acknowledged (those that were are not lost); `withdrawn`: numbers of
    /// what a handler staged that failed; `bookLost`: another epoch began.
    pub reason: String,
    /// How many.
    pub count: u64,
    /// The first of them.
    pub first: LossPlace,
    /// The last of them.
    pub last: LossPlace,
    /// There may have been fewer: nobody was left to count.
    #[serde(default)]
    pub is_upper_bound: bool,
    /// Of the range from the first to the last, not every one was lost.
    #[serde(default)]
    pub is_covering: bool,
    /// When the first of them was lost, RFC 3339; `null` where nobody knows.
    #[serde(default)]
    pub first_time_utc: Option<String>,
    /// When the last of them was lost.
    #[serde(default)]
    pub last_time_utc: Option<String>,
}

/// Place of a message in what its sender sent to its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LossPlace {
    /// Counts up where sequences begin again, which is when the book of them was lost.
    pub epoch: u64,
    /// Counts up with each message, over restarts too; 0 where it is not known.
    pub sequence: u64,
}
