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
    /// By sender, output, endpoint and reason.
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
    /// `full`, `storeFull`, `notStored`, `parked`, `stopped`, `purged`, `runtimeDied` and so on.
    pub reason: String,
    /// How many.
    pub count: u64,
    /// The first of them.
    pub first: LossPlace,
    /// The last of them.
    pub last: LossPlace,
}

/// Place of a message in what its sender sent to its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LossPlace {
    /// Run of the runtime, counting up.
    pub epoch: u64,
    /// Counts up within an epoch; 0 where it is not known.
    pub sequence: u64,
}
