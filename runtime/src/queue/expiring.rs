//! What has outlived its time to live on disk goes, in small steps, counted in the ledger in the same change.
//!
//! Rows that a consumer has taken into memory are its own: it sees itself that they are over. All others are looked at here.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::disk::Disk;
use super::lane::lock;
use super::losses::{EXPIRED, line};
use crate::clock;
use crate::database::tables::clock::{self as clock_table, ExpiredRow};
use crate::database::tables::loss::{self, LossRow};
use crate::database::tables::queue::{self, ClockMark, StoredMessage};
use crate::database::{File, StoreError};

/// Messages that one change removes.
const STEP: u32 = 500;
/// Messages that one change looks at, at most, where consumers have the first ones in their hands.
const MOST_LOOKED_AT: u32 = STEP * 256;
/// Between two looks. What a consumer is just reading has been read by then, so that it is known to be its own.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether a consumer has taken a row of an endpoint and priority into memory: it is its own then. `[writer]`, must not wait.
pub type InHands = dyn Fn(&Arc<str>, u32, i64) -> bool + Send + Sync;

/// Hears of what is gone how many rows were of an endpoint and priority, and what the ledger has of it, once it has it.
/// `[writer]`, must not wait.
pub type Gone = dyn Fn(&BTreeMap<(Arc<str>, u32), (u64, u64)>) + Send + Sync;

/// What is known of times to live on disk.
#[derive(Default)]
pub(super) struct Expiring {
    /// When the next one is over, in the store's time; far away where there is none. 0: not known.
    next_us: AtomicI64,
    is_under_way: AtomicBool,
    /// When there was a look, and the store's time then.
    last: Mutex<Option<(Instant, i64)>>,
    /// What went since it was told last, by endpoint.
    gone: Mutex<BTreeMap<Arc<str>, u64>>,
}

impl Expiring {
    /// Notes the times to live of what is put on disk by a change. `[writer]`
    pub fn note<'m>(&self, rows: impl Iterator<Item = &'m StoredMessage>, mark: ClockMark) {
        if let Some(secs) = rows.filter_map(|row| row.ttl_secs).min() {
            let left = i64::try_from(secs.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
            self.next_us.fetch_min(mark.store_us.unwrap_or_default().saturating_add(left), Ordering::Relaxed);
        }
    }
}

/// What one step found.
#[derive(Default)]
struct Found {
    rows: Vec<ExpiredRow>,
    losses: Vec<LossRow>,
    is_all: bool,
    next_us: i64,
}

impl Disk {
    /// Removes what is over, now and then: waits for nobody. To be called every second or so. `[control]`
    pub fn expire(&self) {
        let expiring = &self.shared.expiring;
        let (now, now_us) = (clock::now(), self.clock.now_us());
        let mut last = lock(&expiring.last);
        let until_us = match *last {
            Some((at, until_us)) if now.saturating_duration_since(at) >= PATIENCE => until_us,
            Some(_) => return,
            None => {
                *last = Some((now, now_us));
                return;
            }
        };
        *last = Some((now, now_us));
        drop(last);
        if expiring.next_us.load(Ordering::Relaxed) <= until_us && !expiring.is_under_way.swap(true, Ordering::AcqRel) {
            self.expire_step(until_us);
        }
    }

    fn expire_step(&self, until_us: i64) {
        let (found, disk, seen) = (Arc::new(Mutex::new(Found::default())), self.clone(), self.clone());
        let result = found.clone();
        let job = move |tx: &rusqlite::Connection| {
            // What is put on disk from now on notes itself again.
            seen.shared.expiring.next_us.store(i64::MAX, Ordering::Relaxed);
            let (mut limit, mut is_all) = (STEP, false);
            let mut rows = Vec::new();
            // What a consumer that is stuck has in its hands must not hide what nobody has.
            while rows.is_empty() && !is_all && limit <= MOST_LOOKED_AT {
                rows = clock_table::expired(tx, until_us, limit)?;
                is_all = rows.len() < limit as usize;
                rows.retain(|row| !seen.is_in_hands(&row.endpoint, row.priority, row.id));
                limit *= 4;
            }
            is_all &= rows.len() <= STEP as usize;
            rows.truncate(STEP as usize);
            let losses = ranges(&rows);
            loss::add(tx, &losses, clock::wall_us())?;
            queue::delete(tx, &rows.iter().map(|row| row.id).collect::<Vec<_>>())?;
            let next_us = clock_table::next_expiry(tx, until_us)?.unwrap_or(i64::MAX);
            *lock(&result) = Found { rows, losses, is_all, next_us };
            Ok(())
        };
        let completion =
            move |outcome: Result<(), StoreError>| disk.expired(until_us, outcome, std::mem::take(&mut *lock(&found)));
        self.database.submit_now(File::Queue, Box::new(job), Box::new(completion));
    }

    /// `[writer]`
    fn expired(&self, until_us: i64, outcome: Result<(), StoreError>, found: Found) {
        let expiring = &self.shared.expiring;
        if let Err(error) = outcome {
            tracing::debug!("what has outlived its time to live could not be removed: {error}");
            expiring.next_us.store(0, Ordering::Relaxed);
            expiring.is_under_way.store(false, Ordering::Release);
            return;
        }
        self.shared.messages.fetch_sub(found.rows.len() as u64, Ordering::Relaxed);
        let mut by_endpoint: BTreeMap<&Arc<str>, (u64, u64)> = BTreeMap::new();
        let mut by_backlog: BTreeMap<(Arc<str>, u32), (u64, u64)> = BTreeMap::new();
        for row in &found.rows {
            let (count, bytes) = by_backlog.entry((row.endpoint.clone(), row.priority)).or_default();
            (*count, *bytes) = (*count + 1, *bytes + row.bytes);
            let (count, bytes) = by_endpoint.entry(&row.endpoint).or_default();
            (*count, *bytes) = (*count + 1, *bytes + row.bytes);
        }
        for (endpoint, (messages, bytes)) in by_endpoint {
            self.budget.give(endpoint, bytes);
            *lock(&expiring.gone).entry(endpoint.clone()).or_default() += messages;
        }
        if let Some(gone) = self.shared.gone.get().filter(|_| !found.losses.is_empty()) {
            gone(&by_backlog);
        }
        // Those that a consumer has in its hands are looked at again when it may have given them back.
        expiring.next_us.fetch_min(found.next_us, Ordering::Relaxed);
        if !found.is_all && !found.rows.is_empty() {
            return self.expire_step(until_us);
        }
        for (endpoint, messages) in std::mem::take(&mut *lock(&expiring.gone)) {
            tracing::error!(%endpoint, messages, "messages outlived their time to live and are lost");
        }
        expiring.is_under_way.store(false, Ordering::Release);
    }

    /// Says what expired or was set aside in the hands of consumers and is in the ledger now. `[writer]`
    pub(super) fn tell_ledger(&self, losses: Vec<LossRow>) {
        let expired = || losses.iter().filter(|loss| loss.reason == EXPIRED);
        let messages: u64 = expired().map(|loss| loss.count).sum();
        if let Some(first) = expired().next() {
            tracing::error!(endpoint = first.endpoint, messages, "messages outlived their time to live and are lost");
        }
        if let Some(gone) = self.shared.gone.get().filter(|_| !losses.is_empty()) {
            gone(&BTreeMap::new());
        }
    }

    /// Says which rows are in the hands of consumers; once, before anything is sent.
    pub fn on_expiry(&self, in_hands: impl Fn(&Arc<str>, u32, i64) -> bool + Send + Sync + 'static) {
        let _ = self.shared.in_hands.set(Box::new(in_hands));
    }

    /// Says who hears what is gone, for those who listen for losses; once, before anything is sent.
    pub fn on_gone(&self, gone: impl Fn(&BTreeMap<(Arc<str>, u32), (u64, u64)>) + Send + Sync + 'static) {
        let _ = self.shared.gone.set(Box::new(gone));
    }

    fn is_in_hands(&self, endpoint: &Arc<str>, priority: u32, row: i64) -> bool {
        match self.shared.in_hands.get() {
            Some(in_hands) => in_hands(endpoint, priority, row),
            // Nobody takes what is meant for the hub; whoever takes other messages looks for himself.
            None => &**endpoint != "$upstream",
        }
    }
}

/// Ledger lines of messages: numbers that follow each other are one range.
fn ranges(rows: &[ExpiredRow]) -> Vec<LossRow> {
    let of = |row: &ExpiredRow| line(&row.sender, &row.output, &row.endpoint, EXPIRED, row.number);
    loss::joined(rows.iter().map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_follow_each_other_are_one_range_of_the_ledger() {
        let row = |sender: &str, epoch, sequence| ExpiredRow {
            id: 0,
            endpoint: "$upstream".into(),
            priority: 0,
            sender: sender.into(),
            output: "o".into(),
            number: (epoch, sequence),
            bytes: 1,
        };
        let rows = [row("a", 1, 3), row("b", 1, 4), row("a", 1, 2), row("a", 2, 4), row("a", 1, 9)];

        let told: Vec<_> =
            ranges(&rows).into_iter().map(|range| (range.sender, range.first, range.last, range.count)).collect();

        let a = || "a".to_owned();
        let expected = [
            (a(), (1, 2), (1, 3), 2),
            (a(), (1, 9), (1, 9), 1),
            (a(), (2, 4), (2, 4), 1),
            ("b".to_owned(), (1, 4), (1, 4), 1),
        ];
        assert_eq!(told, expected);
    }
}
