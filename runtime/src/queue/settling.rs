//! Settling: the ends of an instance's deliveries on their way to the disk, in the order in which its handlers ended.
//!
//! A [`Settlement`] is one transaction: the handled message goes (or is set aside, or its attempts are noted), and what its
//! handler staged comes. What the handler reported is committed before. All that waits goes with the next commit.
//!
//! Guarantee: nothing is refused, skipped or overtaken. Where a commit fails, the line pauses and is tried again from the first
//! one that is not committed; the instance takes up to [`MAX_UNCOMMITTED`] messages in the meantime, and then waits. Lines are
//! apart from each other: one whose messages find no room does not hold up another that only removes.
//!
//! ```text
//! settle ─► waiting ─(change begins)─► in hand ─committed─► told
//!              ▲                           │
//!              └────── paused ◄──failed────┘
//! ```

use std::collections::BTreeMap;
use std::num::NonZeroI64;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::Inbox;
use super::backlog::InLine;
use super::disk::Disk;
use super::lane::lock;
use crate::clock;
use crate::database::tables::loss::{self, LossRow};
use crate::database::tables::queue::{self, Endpoints, StoredMessage};
pub use crate::database::tables::queue::{Parking, Tries};
use crate::database::{Completion, File, Job, StoreError, Work};

/// Most handlers of one instance whose end is not committed yet; beyond it, messages wait.
pub const MAX_UNCOMMITTED: usize = 64;
/// Bytes of staged rows in one change, and the settlement that goes beyond.
const MAX_CHANGE_BYTES: usize = 4 << 20;

/// The row behind a message that was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowBehind {
    /// Its id.
    pub id: NonZeroI64,
    /// Where it waits.
    pub endpoint: Arc<str>,
    /// Bytes of properties and body.
    pub bytes: u64,
}

/// What becomes of a message that was delivered.
#[derive(Debug)]
pub enum End {
    /// It is done with.
    Handled,
    /// It is set aside; the ledger has it in the same change. With a message: that one, which had no row yet.
    Parked(Parking, LossRow, Option<StoredMessage>),
    /// It stays, and has been tried so often.
    Tried(Tries),
    /// Its time to live was over; the ledger has it in the same change, so that no kill comes between.
    Expired(LossRow),
}

/// Begins what is to be committed in the main file before: given the change of the queue that belongs to the same work, and what
/// hears the end of both. False: it is refused for good, and neither will be called.
pub type Before = Box<dyn FnMut(Job, Completion) -> bool + Send>;

/// The end of a delivery.
pub struct Settlement {
    /// Where the message came from disk.
    pub row: Option<RowBehind>,
    /// What becomes of it.
    pub end: End,
    /// What its handler staged.
    pub staged: Vec<StoredMessage>,
    /// Says of it that it is on its way.
    pub line: InLine,
    /// What its handler reported.
    pub before: Option<Before>,
}

/// A settlement in line.
struct Item {
    settlement: Settlement,
    monotonic_us: Option<i64>,
    /// What comes before it is committed, or there is nothing.
    is_ready: bool,
    /// Found by the last run: the row was there; ids of what was staged begin here.
    was_there: bool,
    first: i64,
}

/// See the module's documentation.
pub struct Settling {
    identity: Arc<str>,
    inbox: Arc<Inbox>,
    disk: Disk,
    uncommitted: AtomicUsize,
    is_blocked: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: BTreeMap<u64, Item>,
    last: u64,
    /// Number of the last change that was put in line, and how many have not ended.
    works: u64,
    in_line: usize,
    /// A change that takes what waits is in line and has not begun.
    has_work: bool,
    /// The change that failed: those behind it fail as well.
    failed: u64,
    is_paused: bool,
}

/// What one change holds while it is under way.
#[derive(Default)]
struct Hand {
    has_run: bool,
    items: BTreeMap<u64, Item>,
    endpoints: Endpoints,
    /// What the ledger has of it.
    losses: Vec<LossRow>,
}

impl Settling {
    pub(super) fn new(identity: Arc<str>, inbox: Arc<Inbox>, disk: Disk) -> Settling {
        let (uncommitted, is_blocked) = (AtomicUsize::new(0), AtomicBool::new(false));
        Settling { identity, inbox, disk, uncommitted, is_blocked, state: Mutex::default() }
    }

    /// True when one more message may be delivered.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.uncommitted.load(Ordering::SeqCst) < MAX_UNCOMMITTED
    }

    /// [`Settling::has_room`], with the promise that the inbox is nudged once a commit makes some. `[worker]`
    pub fn block(&self) -> bool {
        self.is_blocked.store(true, Ordering::SeqCst);
        !self.has_room()
    }

    /// Waits for the disk to work again.
    pub fn is_paused(&self) -> bool {
        lock(&self.state).is_paused
    }

    /// Puts the end of a delivery in line. `[worker]`, never waits for a commit.
    pub fn settle(self: &Arc<Self>, settlement: Settlement) {
        self.disk.budget.take_rows_anyway(&settlement.staged);
        if let Some(parked) = settlement.parked() {
            self.disk.budget.take_rows_anyway(std::slice::from_ref(parked));
        }
        self.uncommitted.fetch_add(1, Ordering::SeqCst);
        let is_ready = settlement.before.is_none();
        let item = Item { settlement, monotonic_us: clock::monotonic_us(), is_ready, was_there: false, first: 0 };
        let mut state = lock(&self.state);
        state.last += 1;
        let number = state.last;
        state.waiting.insert(number, item);
        if state.is_paused {
            return;
        }
        if is_ready {
            self.put_in_line(state);
        } else {
            drop(state);
            self.begin(number);
        }
    }

    /// Makes sure that a change is in line that takes what waits.
    fn put_in_line(self: &Arc<Self>, mut state: std::sync::MutexGuard<'_, State>) {
        if std::mem::replace(&mut state.has_work, true) {
            return;
        }
        let (job, completion) = self.change(&mut state, None);
        drop(state);
        self.disk.database.submit_work(Work::new(completion).job(File::Queue, job));
    }

    /// Begins what is to be committed before a settlement, with the change that follows it.
    fn begin(self: &Arc<Self>, number: u64) {
        let mut state = lock(&self.state);
        let Some(mut before) = state.waiting.get_mut(&number).and_then(|item| item.settlement.before.take()) else {
            return;
        };
        let (job, completion) = self.change(&mut state, Some(number));
        drop(state);
        let has_begun = before(job, completion);
        let mut state = lock(&self.state);
        // It may be in a change's hands already, or gone; then nobody begins it again.
        if let Some(item) = state.waiting.get_mut(&number) {
            if has_begun {
                item.settlement.before = Some(before);
                return;
            }
            item.is_ready = true;
        }
        if !has_begun {
            state.in_line -= 1;
            self.put_in_line(state);
        }
    }

    fn change(self: &Arc<Self>, state: &mut State, begun: Option<u64>) -> (Job, Completion) {
        state.works += 1;
        state.in_line += 1;
        let work = state.works;
        let hand = Arc::new(Mutex::new(Hand::default()));
        let (line, held) = (self.clone(), hand.clone());
        let job = move |tx: &rusqlite::Connection| line.make(tx, work, begun, &mut lock(&held));
        let line = self.clone();
        let completion = move |outcome: Result<(), StoreError>| {
            let hand = std::mem::take(&mut *lock(&hand));
            line.ended(work, begun, hand, outcome);
        };
        (Box::new(job), Box::new(completion))
    }

    /// Makes the change; may be run again where it failed with others. `[writer]`
    fn make(&self, tx: &rusqlite::Connection, work: u64, begun: Option<u64>, hand: &mut Hand) -> rusqlite::Result<()> {
        let mut state = lock(&self.state);
        if !hand.has_run {
            hand.has_run = true;
            if let Some(item) = begun.and_then(|begun| state.waiting.get_mut(&begun)) {
                item.is_ready = true;
            }
            if begun.is_none() {
                state.has_work = false;
            }
        }
        if state.failed != 0 && state.failed < work {
            return Err(rusqlite::Error::StatementChangedRows(0));
        }
        // What waits before it is another change's that failed, or not ready: then this one takes nothing.
        let mut bytes: usize = hand.items.values().map(|item| queue::held_bytes(&item.settlement.staged)).sum();
        while bytes < MAX_CHANGE_BYTES && state.waiting.first_key_value().is_some_and(|(_, item)| item.is_ready) {
            let Some((number, item)) = state.waiting.pop_first() else { break };
            bytes += queue::held_bytes(&item.settlement.staged);
            hand.items.insert(number, item);
        }
        drop(state);
        let done = hand.write(tx, &self.disk);
        let mut state = lock(&self.state);
        match &done {
            Err(_) if state.failed == 0 => state.failed = work,
            Ok(()) if state.failed == work => state.failed = 0,
            _ => {}
        }
        done
    }

    /// `[writer]`
    fn ended(self: &Arc<Self>, work: u64, begun: Option<u64>, hand: Hand, outcome: Result<(), StoreError>) {
        let mut state = lock(&self.state);
        state.in_line -= 1;
        if begun.is_none() && !hand.has_run {
            state.has_work = false;
        }
        if let Err(error) = outcome {
            if state.failed == 0 || state.failed > work {
                state.failed = work;
            }
            state.waiting.extend(hand.items);
            if !std::mem::replace(&mut state.is_paused, true) {
                self.disk.shared.paused.fetch_add(1, Ordering::Relaxed);
                let module = self.identity.rsplit_once("/modules/").map(|(_, name)| name);
                tracing::error!(
                    module,
                    "what its handlers did cannot be stored; it waits in memory, and so do its messages: {error}"
                );
            }
            return;
        }
        let is_empty = state.waiting.is_empty();
        if is_empty && std::mem::take(&mut state.is_paused) {
            self.disk.shared.paused.fetch_sub(1, Ordering::Relaxed);
            let module = self.identity.rsplit_once("/modules/").map(|(_, name)| name);
            tracing::info!(module, "what its handlers did is stored; it goes on");
        }
        if is_empty || state.failed != 0 {
            drop(state);
        } else {
            self.go_on(state);
        }
        self.account(hand);
    }

    /// Counts what is committed and tells who is to know. `[writer]`
    fn account(&self, hand: Hand) {
        let (mut hand, shared) = (hand, &self.disk.shared);
        hand.endpoints.settle(true);
        let count = hand.items.len();
        self.disk.tell_ledger(std::mem::take(&mut hand.losses));
        for item in hand.items.into_values() {
            let Item { settlement: Settlement { row, end, staged, line, .. }, was_there, first, .. } = item;
            if let Some(row) = row.filter(|_| was_there && !matches!(end, End::Tried(_))) {
                shared.messages.fetch_sub(1, Ordering::Relaxed);
                match end {
                    End::Parked(..) => drop(shared.parked.fetch_add(1, Ordering::Relaxed)),
                    _ => self.disk.budget.give(&row.endpoint, row.bytes),
                }
                shared.forget_tries(row.id.get());
            } else if matches!(end, End::Parked(.., Some(_))) {
                shared.parked.fetch_add(1, Ordering::Relaxed);
            }
            if !staged.is_empty() {
                shared.messages.fetch_add(staged.len() as u64, Ordering::Relaxed);
                shared.tell_arrived(&staged, first);
            }
            drop(line);
        }
        self.uncommitted.fetch_sub(count, Ordering::SeqCst);
        if count > 0 && self.is_blocked.swap(false, Ordering::SeqCst) {
            self.inbox.nudge();
        }
    }

    /// Takes up what waits: what comes before the first is begun where it has not been.
    fn go_on(self: &Arc<Self>, state: std::sync::MutexGuard<'_, State>) {
        let Some((number, first)) = state.waiting.first_key_value() else { return };
        if first.is_ready {
            return self.put_in_line(state);
        }
        // One that was begun is on its way, unless the line had paused.
        if state.in_line == 0 {
            let number = *number;
            drop(state);
            self.begin(number);
        }
    }

    /// Tries again what could not be committed.
    pub(super) fn retry(self: &Arc<Self>) {
        let mut state = lock(&self.state);
        // What is still in line belongs behind what has failed, or is a retry itself.
        if !state.is_paused || state.in_line > 0 {
            return;
        }
        state.failed = 0;
        self.go_on(state);
    }

    /// What no disk took, and what no row makes anew.
    pub(super) fn take_unstored(&self) -> Vec<StoredMessage> {
        let waiting = std::mem::take(&mut lock(&self.state).waiting);
        let unstored = waiting.into_values().map(|item| item.settlement).filter(|settlement| settlement.row.is_none());
        let rows = unstored.flat_map(|settlement| {
            let parked = settlement.parked().cloned();
            settlement.staged.into_iter().chain(parked)
        });
        rows.collect()
    }
}

impl Settlement {
    /// The message that is set aside and has no row yet.
    fn parked(&self) -> Option<&StoredMessage> {
        match &self.end {
            End::Parked(.., message) => message.as_ref(),
            _ => None,
        }
    }
}

impl Hand {
    fn write(&mut self, tx: &rusqlite::Connection, disk: &Disk) -> rusqlite::Result<()> {
        let Hand { items, endpoints, losses, .. } = self;
        losses.clear();
        endpoints.settle(false);
        let staged = |item: &Item| item.settlement.staged.len();
        let count: usize = items.values().map(staged).sum();
        if count > 0 {
            let mut rows = Vec::with_capacity(count);
            items.values().for_each(|item| {
                rows.extend(item.settlement.staged.iter().map(|row| (row, item.monotonic_us)));
            });
            let mark = disk.clock.mark();
            disk.shared.expiring.note(rows.iter().map(|(row, _)| *row), mark);
            let mut first = queue::append(tx, &rows, mark, &disk.shared.ids, endpoints)?;
            for item in items.values_mut() {
                item.first = first;
                first += staged(item) as i64;
            }
        }
        for item in items.values_mut() {
            let row = item.settlement.row.as_ref().map(|row| row.id.get());
            match (&item.settlement.end, row) {
                (End::Handled, Some(row)) => item.was_there = queue::delete(tx, &[row])? > 0,
                (End::Parked(parking, line, _), Some(row)) => {
                    item.was_there = queue::park(tx, row, parking)?;
                    losses.extend(item.was_there.then(|| line.clone()));
                }
                (End::Parked(parking, line, Some(message)), None) => {
                    let message = [(message, item.monotonic_us)];
                    let id = queue::append(tx, &message, disk.clock.mark(), &disk.shared.ids, endpoints)?;
                    queue::park(tx, id, parking)?;
                    losses.push(line.clone());
                }
                (End::Tried(tries), Some(row)) => queue::note_tries(tx, row, *tries)?,
                (End::Expired(loss), Some(row)) => {
                    item.was_there = queue::delete(tx, &[row])? > 0;
                    // Else it is in the ledger already.
                    losses.extend(item.was_there.then(|| loss.clone()));
                }
                (End::Handled | End::Parked(.., None) | End::Tried(_) | End::Expired(_), None) => {}
            }
        }
        if !losses.is_empty() {
            *losses = loss::joined(std::mem::take(losses));
            loss::add(tx, losses, clock::wall_us())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
