//! What was lost, counted by sender, output, endpoint and reason, with the ranges of sequences it happened in.
//!
//! Whoever loses a message counts it here, at once and in memory; the control loop brings it to the disk within a second and tells
//! those who listen for it. A message is counted once for each endpoint that does not get it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::lane::{Source, lock};
use crate::database::tables::loss::LossRow;
use crate::database::tables::queue::StoredMessage;
pub use crate::database::tables::reason::*;

/// Ranges of one line that are told apart between two looks.
const MAX_RANGES: usize = 8;

/// One range of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Sender.
    pub sender: Arc<str>,
    /// Output.
    pub output: Arc<str>,
    /// Endpoint that did not get the messages.
    pub endpoint: Arc<str>,
    /// One of the constants of [`reason`](crate::database::tables::reason).
    pub reason: &'static str,
    /// Epoch of both sequences.
    pub epoch: u64,
    /// Sequence of the first message that was lost; 0 where it is not known.
    pub first: u64,
    /// Sequence of the last message that was lost.
    pub last: u64,
    /// How many.
    pub count: u64,
}

impl Loss {
    /// As it stands in the ledger.
    pub fn row(&self) -> LossRow {
        LossRow {
            sender: self.sender.to_string(),
            output: self.output.to_string(),
            endpoint: self.endpoint.to_string(),
            reason: self.reason.to_owned(),
            first: (self.epoch, self.first),
            last: (self.epoch, self.last),
            count: self.count,
            is_upper_bound: false,
        }
    }
}

/// The line of the ledger for one message. `number`: its epoch and sequence.
pub fn line(sender: &str, output: &str, endpoint: &str, reason: &str, number: (u64, u64)) -> LossRow {
    LossRow {
        sender: sender.to_owned(),
        output: output.to_owned(),
        endpoint: endpoint.to_owned(),
        reason: reason.to_owned(),
        first: number,
        last: number,
        count: 1,
        is_upper_bound: false,
    }
}

type Key = (Arc<str>, Arc<str>, Arc<str>, &'static str, u64);

/// The ledger of this run; what was counted since the last [`Losses::take`] is not on disk yet.
#[derive(Default)]
pub struct Losses {
    fresh: Mutex<HashMap<Key, Vec<Loss>>>,
    has_grown: AtomicBool,
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

    /// Says of what a handler staged that it goes no further; nothing is counted.
    pub fn withdrawn(&self, rows: &[StoredMessage]) {
        for row in rows {
            let source = Source { identity: row.sender.clone(), output: row.output.clone(), epoch: row.epoch };
            self.add(&source, &row.endpoint, WITHDRAWN, row.sequence, 0);
        }
    }

    fn add(&self, source: &Source, endpoint: &Arc<str>, reason: &'static str, sequence: u64, count: u64) {
        let key = (source.identity.clone(), source.output.clone(), endpoint.clone(), reason, source.epoch);
        let loss = Loss {
            sender: source.identity.clone(),
            output: source.output.clone(),
            endpoint: endpoint.clone(),
            reason,
            epoch: source.epoch,
            first: sequence,
            last: sequence,
            count,
        };
        let mut fresh = lock(&self.fresh);
        let ranges = fresh.entry(key).or_default();
        let is_first = ranges.is_empty();
        append(ranges, loss);
        drop(fresh);
        if is_first && reason != WITHDRAWN {
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
            append(fresh.entry((sender, output, endpoint, loss.reason, loss.epoch)).or_default(), loss);
        }
    }

    /// The ledger on disk has lines that are to be told to those who listen for it.
    pub fn ledger_grew(&self) {
        self.has_grown.store(true, Ordering::Release);
    }

    /// Whether it has since the last call.
    pub fn take_growth(&self) -> bool {
        self.has_grown.swap(false, Ordering::AcqRel)
    }

    /// Whether something was counted since the last [`Losses::take`].
    pub fn is_any_fresh(&self) -> bool {
        lock(&self.fresh).values().flatten().any(|loss| loss.count > 0)
    }

    /// What was counted and is not on disk, because the disk takes nothing or it was just now.
    pub fn not_stored(&self) -> Vec<Loss> {
        lock(&self.fresh).values().flatten().cloned().collect()
    }

    /// What was counted since the last call.
    pub fn take(&self) -> Vec<Loss> {
        std::mem::take(&mut *lock(&self.fresh)).into_values().flatten().collect()
    }
}

/// Adds to the ranges of one line. What there is no range left for widens the last one.
fn append(ranges: &mut Vec<Loss>, loss: Loss) {
    let is_full = ranges.len() == MAX_RANGES;
    // Those that nobody knows the sequences of, together.
    let goes_on = |range: &&mut Loss| {
        loss.first == range.last + u64::from(loss.first > 0) && (range.last > 0) == (loss.first > 0)
    };
    if let Some(range) = ranges.iter_mut().rev().find(goes_on) {
        range.last = loss.last;
        range.count += loss.count;
        return;
    }
    match ranges.iter_mut().rev().find(|range| is_full && range.last > 0) {
        Some(range) => {
            if loss.first > 0 {
                (range.first, range.last) = (range.first.min(loss.first), range.last.max(loss.last));
            }
            range.count += loss.count;
        }
        None => ranges.push(loss),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(sequences: &[u64]) -> Vec<(u64, u64, u64)> {
        let source = Source { identity: "/devices/d/modules/m".into(), output: "out".into(), epoch: 3 };
        let losses = Losses::default();
        sequences.iter().for_each(|n| losses.count(&source, &"e".into(), FULL, *n));
        losses.take().iter().map(|loss| (loss.first, loss.last, loss.count)).collect()
    }

    #[test]
    fn ranges_that_do_not_meet_are_told_apart() {
        assert_eq!(counted(&[4, 5, 6, 9, 10, 20]), [(4, 6, 3), (9, 10, 2), (20, 20, 1)]);
        assert_eq!(counted(&[0, 7, 0, 8]), [(0, 0, 2), (7, 8, 2)], "those without a number are counted beside");
    }

    #[test]
    fn so_many_ranges_that_there_is_no_end_are_one_that_covers_them() {
        let every_other: Vec<u64> = (1..=100).map(|n| n * 2).collect();
        let ranges = counted(&every_other);
        assert_eq!(ranges.len(), MAX_RANGES);
        assert_eq!(ranges.last(), Some(&(16, 200, 93)));
        assert_eq!(ranges.iter().map(|range| range.2).sum::<u64>(), 100);
    }

    #[test]
    fn what_could_not_be_kept_is_counted_on() {
        let source = Source { identity: "/devices/d/modules/m".into(), output: "out".into(), epoch: 3 };
        let losses = Losses::default();
        losses.count(&source, &"e".into(), FULL, 1);
        let taken = losses.take();
        assert!(losses.take().is_empty());
        losses.put_back(taken);
        losses.count(&source, &"e".into(), FULL, 2);
        let again = losses.take();
        assert_eq!((again.len(), again[0].first, again[0].last, again[0].count), (1, 1, 2, 2));
    }
}
