//! What was lost, counted by sender, output, endpoint and reason, with the range of sequences it happened in.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::lane::{Source, lock};

/// One line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Sender.
    pub sender: Arc<str>,
    /// Output.
    pub output: Arc<str>,
    /// Endpoint that did not get the messages.
    pub endpoint: Arc<str>,
    /// `full`: a lane had no room · `storeFull`: the byte budget is spent · `notStored`: the disk failed · `parked`: set
    /// aside as poisonous, which is not lost yet · `stopped`: waited in memory when the runtime ended · `purged`: discarded by
    /// a person who removed the receiver.
    pub reason: &'static str,
    /// Epoch of both sequences.
    pub epoch: u64,
    /// Sequence of the first message that was lost.
    pub first: u64,
    /// Sequence of the last message that was lost.
    pub last: u64,
    /// How many.
    pub count: u64,
}

type Key = (Arc<str>, Arc<str>, Arc<str>, &'static str, u64);

/// The ledger of this run; what was counted since the last [`Losses::take`] is not on disk yet.
#[derive(Default)]
pub struct Losses {
    fresh: Mutex<HashMap<Key, Loss>>,
}

impl Losses {
    /// Counts one message.
    pub fn count(&self, source: &Source, endpoint: &Arc<str>, reason: &'static str, sequence: u64) {
        self.add(source, endpoint, reason, sequence, 1);
    }

    /// Counts messages that nobody may look at any more; their sequences are not known and stay 0.
    pub fn count_unseen(&self, source: &Source, endpoint: &Arc<str>, reason: &'static str, count: u64) {
        self.add(source, endpoint, reason, 0, count);
    }

    fn add(&self, source: &Source, endpoint: &Arc<str>, reason: &'static str, sequence: u64, count: u64) {
        let key = (source.identity.clone(), source.output.clone(), endpoint.clone(), reason, source.epoch);
        let mut fresh = lock(&self.fresh);
        let is_first = !fresh.contains_key(&key);
        let loss = fresh.entry(key).or_insert_with(|| Loss {
            sender: source.identity.clone(),
            output: source.output.clone(),
            endpoint: endpoint.clone(),
            reason,
            epoch: source.epoch,
            first: sequence,
            last: sequence,
            count: 0,
        });
        loss.last = sequence;
        loss.count += count;
        drop(fresh);
        // Parked is not lost: whoever parks says more about it.
        if is_first && reason != "parked" {
            // In the log of whose it was: however often it happens, it takes nobody else's room.
            let module = source.identity.rsplit_once("/modules/").map(|(_, name)| name);
            tracing::error!(module, sender = %source.identity, output = %source.output, %endpoint, reason, sequence, "message lost");
        }
    }

    /// Counts again what was taken and could not be kept.
    pub fn put_back(&self, losses: Vec<Loss>) {
        let mut fresh = lock(&self.fresh);
        for loss in losses {
            let (sender, output, endpoint) = (loss.sender.clone(), loss.output.clone(), loss.endpoint.clone());
            fresh
                .entry((sender, output, endpoint, loss.reason, loss.epoch))
                .and_modify(|later| {
                    later.first = later.first.min(loss.first);
                    later.last = later.last.max(loss.last);
                    later.count += loss.count;
                })
                .or_insert(loss);
        }
    }

    /// What was counted since the last call.
    pub fn take(&self) -> Vec<Loss> {
        lock(&self.fresh).drain().map(|(_, loss)| loss).collect()
    }
}
