//! The durable end of the queues: messages that are on disk before their sender hears "done".
//!
//! Guarantee: a message whose completion said `Ok` is committed and synced. What is sent while a commit is being synced gathers
//! and goes with the next one, in one change: the more senders, the larger the groups. What handlers did is brought here by
//! [`Settling`], and is never refused.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::Inbox;
use super::budget::{Budget, Limits};
use super::expiring::{Expiring, Gone, InHands};
use super::ingest::SendError;
use super::lane::lock;
pub use super::settling::{End, RowBehind, Settlement, Settling};
use super::store_clock::StoreClock;
use crate::clock;
use crate::database::tables::clock as clock_table;
use crate::database::tables::ids::Ids;
use crate::database::tables::keeping;
pub use crate::database::tables::queue::ReadLimits;
use crate::database::tables::queue::{self, ClockMark, Endpoints, ReadMessage, StoredMessage, Tries};
use crate::database::{Database, File, StoreError, Work};

/// Bytes that may gather for the next commit; one more sender is always let in when nothing has.
const MAX_GATHERED_BYTES: usize = 8 << 20;
/// Rows tried before that are remembered at most; beyond it, their count begins anew.
const MAX_TRIED: usize = 100_000;

/// From this time of a commit on it is worth a moment to have in it those who were told by the last one: they mostly send again at
/// once, and would wait for two syncs else.
const SLOW_COMMIT: Duration = Duration::from_millis(1);
/// That moment, as a share of the commit.
const MOMENT: u32 = 16;

/// See the module's documentation. Clones are the same.
#[derive(Clone)]
pub struct Disk {
    pub(super) database: Database,
    pub(super) budget: Arc<Budget>,
    pub(super) clock: Arc<StoreClock>,
    pub(super) shared: Arc<Shared>,
}

#[derive(Default)]
pub(super) struct Shared {
    pub messages: AtomicU64,
    pub parked: AtomicU64,
    pub ids: Ids,
    pub arrived: OnceLock<Box<Arrived>>,
    gathered: Mutex<Gathered>,
    has_room: Condvar,
    has_expected: Condvar,
    /// Touched by the writer's thread only.
    taken: Mutex<Taken>,
    lines: Mutex<HashMap<Arc<str>, Arc<Settling>>>,
    /// How many of them wait for the disk to work again.
    pub paused: AtomicUsize,
    tried: Mutex<HashMap<i64, Tries>>,
    tried_count: AtomicUsize,
    /// Id of the last message that was put before all others.
    kept: Mutex<Option<i64>>,
    pub expiring: Expiring,
    pub in_hands: OnceLock<Box<InHands>>,
    pub gone: OnceLock<Box<Gone>>,
    counted: Mutex<Counted>,
}

/// Hears how many messages of an endpoint and priority waited at the start.
type HearCounted = dyn Fn(&queue::Count) + Send + Sync;

/// What was counted at the start, and who is to hear it: whichever is there first waits for the other.
#[derive(Default)]
struct Counted {
    waiting: Vec<queue::Count>,
    hear: Option<Box<HearCounted>>,
}

/// Hears which rows are committed, in the order of their ids; the first has this id and the others follow it. `[writer]`, must
/// not wait.
pub type Arrived = dyn Fn(&[StoredMessage], i64) + Send + Sync;

/// What a sender is ready to do for its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// Nothing: it waits for nobody.
    Hurries,
    /// It waits while the disk is far behind.
    Waits,
    /// That, and it makes the commit if nobody else writes.
    Attends,
}

/// What was sent since the last change was made.
#[derive(Default)]
struct Gathered {
    entries: Vec<Entry>,
    bytes: usize,
    /// Senders that wait for room.
    held: usize,
    /// A change that will take it is at the writer.
    has_work: bool,
    /// That change waits until there is so much; 0: it does not.
    expected: usize,
}

/// What one sender handed in.
struct Entry {
    rows: Vec<StoredMessage>,
    monotonic_us: Option<i64>,
    done: Box<dyn FnOnce(Result<i64, StoreError>) + Send>,
}

/// What the change under way stores.
#[derive(Default)]
struct Taken {
    entries: Vec<Entry>,
    has_run: bool,
    first: i64,
    endpoints: Endpoints,
    /// When it began.
    since: Option<Instant>,
    /// Whom the last change told, with those who were in line then.
    told: usize,
    /// How long that change took.
    took: Duration,
}

impl Disk {
    /// Takes up what is there; counting it may take until later. `limits`: bytes of messages that may wait.
    pub fn open(database: Database, limits: Limits, clock: StoreClock) -> Result<Disk, StoreError> {
        let (shared, budget) = (Arc::new(Shared::default()), Arc::new(Budget::new(limits, database.room().clone())));
        super::counting::count(&database, &shared, &budget)?;
        Ok(Disk { database, budget, clock: Arc::new(clock), shared })
    }

    /// The time by which times to live go.
    pub fn clock(&self) -> &Arc<StoreClock> {
        &self.clock
    }

    /// What waits, by endpoint and priority.
    pub fn left(&self) -> Result<Vec<queue::Left>, StoreError> {
        self.database.read(File::Queue, queue::left)
    }

    /// Stores messages before all that is there, in order, and behind those that this stored before; `behind` goes behind all that
    /// is there, but for what its outputs sent later. Waits for the disk. For the end of the runtime.
    pub fn keep(&self, rows: &[StoredMessage], behind: &[StoredMessage]) -> Result<(), StoreError> {
        self.budget.take_rows_anyway(rows);
        self.budget.take_rows_anyway(behind);
        let (kept, last_ones, mark) = (rows.to_vec(), behind.to_vec(), self.clock.mark());
        let mut last = lock(&self.shared.kept);
        let (before, shared) = (*last, self.shared.clone());
        let stored = self.database.call(File::Queue, move |tx| {
            keeping::put_behind(tx, &last_ones, mark, &shared.ids)?;
            match kept.is_empty() {
                true => Ok(before),
                false => keeping::put_before(tx, &kept, mark, before).map(Some),
            }
        });
        *last = stored?;
        Ok(())
    }

    /// Says who hears of committed rows; once, before anything is sent.
    pub fn on_arrival(&self, arrived: impl Fn(&[StoredMessage], i64) + Send + Sync + 'static) {
        // A second one would be a defect of ours, and the first goes on hearing everything.
        let _ = self.shared.arrived.set(Box::new(arrived));
    }

    /// Says who hears how much of what is there waits where, once that has been counted; once.
    pub fn on_counted(&self, hear: impl Fn(&queue::Count) + Send + Sync + 'static) {
        let mut counted = lock(&self.shared.counted);
        std::mem::take(&mut counted.waiting).iter().for_each(&hear);
        counted.hear = Some(Box::new(hear));
    }

    /// Messages that wait, messages that are parked, and bytes of both.
    pub fn stored(&self) -> (u64, u64, u64) {
        // What was there at the start may be removed before it has been counted.
        let read = |counter: &AtomicU64| u64::try_from(counter.load(Ordering::Relaxed).cast_signed()).unwrap_or(0);
        (read(&self.shared.messages), read(&self.shared.parked), self.budget.held().0)
    }

    /// How much may wait, and how much does.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Whether the byte budget allows these rows.
    pub fn check(&self, rows: &[StoredMessage]) -> Result<(), SendError> {
        self.budget.check_rows(rows)
    }

    /// The rows that the byte budget allows just now, and the endpoints of the others, with why.
    pub fn admit(&self, rows: Vec<StoredMessage>) -> (Vec<StoredMessage>, Vec<(Arc<str>, SendError)>) {
        self.budget.admit(rows)
    }

    /// Puts messages in line for the next commit; `done` hears the id of the first, which the others follow, or why they are not
    /// stored: on the writer's thread, must not wait. `[any thread]`; waits only while the disk is far behind.
    pub fn enqueue(
        &self,
        rows: Vec<StoredMessage>,
        done: impl FnOnce(Result<i64, StoreError>) + Send + 'static,
    ) -> Result<(), SendError> {
        self.gather(rows, Patience::Waits, done)
    }

    /// [`Disk::enqueue`] for a sender that may wait for the commit. If it `attends`, it calls [`Disk::attend`] at once, holding no
    /// lock: where nobody else writes, it makes the commit itself.
    pub fn enqueue_from(
        &self,
        rows: Vec<StoredMessage>,
        attends: bool,
        done: impl FnOnce(Result<i64, StoreError>) + Send + 'static,
    ) -> Result<(), SendError> {
        self.gather(rows, if attends { Patience::Attends } else { Patience::Waits }, done)
    }

    /// See [`Disk::enqueue_from`]. Returns at once where somebody else writes.
    pub fn attend(&self) {
        self.database.attend();
    }

    /// [`Disk::enqueue`] for few messages of somebody who must not wait, however far behind the disk is.
    pub fn enqueue_now(
        &self,
        rows: Vec<StoredMessage>,
        done: impl FnOnce(Result<i64, StoreError>) + Send + 'static,
    ) -> Result<(), SendError> {
        self.gather(rows, Patience::Hurries, done)
    }

    fn gather(
        &self,
        rows: Vec<StoredMessage>,
        patience: Patience,
        done: impl FnOnce(Result<i64, StoreError>) + Send + 'static,
    ) -> Result<(), SendError> {
        let Some(first) = rows.first() else {
            done(Ok(0));
            return Ok(());
        };
        if self.shared.paused.load(Ordering::Relaxed) > 0 && self.is_paused(&first.sender) {
            // It would be stored before what its sender's handlers did earlier.
            return Err(SendError::NotStored { endpoint: first.endpoint.to_string() });
        }
        self.budget.take_rows(&rows)?;
        let held = queue::held_bytes(&rows);
        let entry = Entry { rows, monotonic_us: clock::monotonic_us(), done: Box::new(done) };
        let mut gathered = lock(&self.shared.gathered);
        let is_full = |gathered: &Gathered| gathered.bytes > 0 && gathered.bytes + held > MAX_GATHERED_BYTES;
        while patience != Patience::Hurries && is_full(&gathered) && !self.database.is_writer() {
            gathered.held += 1;
            gathered = self.shared.has_room.wait(gathered).unwrap_or_else(PoisonError::into_inner);
            gathered.held -= 1;
        }
        gathered.bytes += held;
        gathered.entries.push(entry);
        let has_work = std::mem::replace(&mut gathered.has_work, true);
        let is_expected = gathered.expected > 0 && gathered.entries.len() >= gathered.expected;
        drop(gathered);
        if is_expected {
            self.shared.has_expected.notify_one();
        }
        if !has_work {
            let (storing, stored, clock, budget) =
                (self.shared.clone(), self.shared.clone(), self.clock.clone(), self.budget.clone());
            let job = move |tx: &rusqlite::Connection| storing.store(tx, clock.mark());
            let completion = move |outcome: Result<(), StoreError>| stored.stored(outcome, &budget);
            // One at a time, and what it holds is bounded above.
            let work = Work::new(Box::new(completion)).job(File::Queue, Box::new(job)).hurried();
            self.database.submit_work(if patience == Patience::Attends { work.attended() } else { work });
        }
        Ok(())
    }

    /// Reads messages that wait for an endpoint, with ids above `after_id`, in order. `[any thread]`; takes turns with other
    /// readers, and waits for nobody's commit.
    pub fn read_after(
        &self,
        endpoint: &Arc<str>,
        priority: u32,
        after_id: i64,
        limits: ReadLimits,
    ) -> Result<Vec<ReadMessage>, StoreError> {
        let read = |conn: &_| queue::read_after(conn, endpoint, priority, after_id, limits);
        let mut found = self.database.read(File::Queue, read)?;
        for read in &mut found {
            let left = read.message.ttl_secs.zip(read.ttl_from_us);
            read.left_us = left.map(|(secs, from)| {
                self.clock.left_us(from, i64::try_from(secs.saturating_mul(1_000_000)).unwrap_or(i64::MAX))
            });
        }
        let tried = found.iter().filter(|message| message.tries != Tries::default());
        let tried: Vec<_> = tried.map(|message| (message.id, message.tries)).collect();
        if !tried.is_empty() {
            let mut known = lock(&self.shared.tried);
            known.extend(tried);
            if known.len() > MAX_TRIED {
                known.clear();
            }
            self.shared.tried_count.store(known.len(), Ordering::Relaxed);
        }
        Ok(found)
    }

    /// The id before that of the next message above `after_id` whose time to live is not over; or the last one of `limit` that
    /// were looked at.
    pub fn next_living(
        &self,
        endpoint: &Arc<str>,
        priority: u32,
        after_id: i64,
        limit: u32,
    ) -> Result<i64, StoreError> {
        let now_us = self.clock.now_us();
        let look = |conn: &_| clock_table::next_living(conn, endpoint, priority, (after_id, limit), now_us);
        self.database.read(File::Queue, look)
    }

    /// How often a row had been delivered before it was read from disk.
    pub fn tries(&self, row: i64) -> Tries {
        if self.shared.tried_count.load(Ordering::Relaxed) == 0 {
            return Tries::default();
        }
        lock(&self.shared.tried).get(&row).copied().unwrap_or_default()
    }

    /// Where the ends of an instance's deliveries are brought to the disk, the same over all its lives. `inbox` is nudged when
    /// the instance waits for that.
    pub fn settling(&self, identity: &Arc<str>, inbox: &Arc<Inbox>) -> Arc<Settling> {
        let mut lines = lock(&self.shared.lines);
        let make = || Arc::new(Settling::new(identity.clone(), inbox.clone(), self.clone()));
        lines.entry(identity.clone()).or_insert_with(make).clone()
    }

    /// [`Disk::settling`] where there is one already.
    pub fn find_settling(&self, identity: &str) -> Option<Arc<Settling>> {
        lock(&self.shared.lines).get(identity).cloned()
    }

    fn is_paused(&self, identity: &str) -> bool {
        lock(&self.shared.lines).get(identity).is_some_and(|line| line.is_paused())
    }

    /// Tries again what could not be committed. To be called now and then.
    pub fn retry(&self) {
        if self.shared.paused.load(Ordering::Relaxed) == 0 {
            return;
        }
        let lines: Vec<_> = lock(&self.shared.lines).values().cloned().collect();
        lines.iter().for_each(|line| line.retry());
    }

    /// What handlers staged, or set aside, and no disk took, for the end of the runtime: only what is not made anew from a row
    /// that is still there.
    pub fn take_unstored(&self) -> Vec<StoredMessage> {
        let lines: Vec<_> = lock(&self.shared.lines).values().cloned().collect();
        lines.iter().flat_map(|line| line.take_unstored()).collect()
    }

    /// Removes everything that is stored for an endpoint that begins with `prefix`, counted as lost for `reason`. Waits for the
    /// disk.
    pub fn purge(&self, prefix: &str, reason: &'static str) -> Result<queue::Purged, StoreError> {
        let prefix = prefix.to_owned();
        let purged = self.database.call(File::Queue, move |tx| queue::purge(tx, &prefix, reason))?;
        self.shared.messages.fetch_sub(purged.messages, Ordering::Relaxed);
        self.shared.parked.fetch_sub(purged.parked, Ordering::Relaxed);
        purged.bytes.iter().for_each(|(endpoint, bytes)| self.budget.give(endpoint, *bytes));
        Ok(purged)
    }
}

impl Shared {
    /// Stores what has gathered. May be run again where the change failed with others. `[writer]`
    fn store(&self, tx: &rusqlite::Connection, mark: ClockMark) -> rusqlite::Result<()> {
        let mut taken = lock(&self.taken);
        let Taken { entries, has_run, first, endpoints, since, told, took } = &mut *taken;
        if !*has_run {
            if *took >= SLOW_COMMIT {
                self.expect(*told, *took / MOMENT);
            }
            *since = Some(clock::now());
            (*has_run, *entries) = (true, self.take_gathered());
        }
        endpoints.settle(false);
        if entries.is_empty() {
            return Ok(());
        }
        let mut all = Vec::with_capacity(entries.iter().map(|entry| entry.rows.len()).sum());
        entries.iter().for_each(|entry| all.extend(entry.rows.iter().map(|row| (row, entry.monotonic_us))));
        self.expiring.note(all.iter().map(|(row, _)| *row), mark);
        *first = queue::append(tx, &all, mark, &self.ids, endpoints)?;
        Ok(())
    }

    /// Waits until so much has gathered, for a moment.
    fn expect(&self, count: usize, moment: Duration) {
        let until = clock::now() + moment;
        let mut gathered = lock(&self.gathered);
        gathered.expected = count;
        while gathered.entries.len() < count {
            let left = until.saturating_duration_since(clock::now());
            if left.is_zero() {
                break;
            }
            gathered = self.has_expected.wait_timeout(gathered, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        gathered.expected = 0;
    }

    fn take_gathered(&self) -> Vec<Entry> {
        let mut gathered = lock(&self.gathered);
        (gathered.bytes, gathered.has_work) = (0, false);
        let (entries, wakes) = (std::mem::take(&mut gathered.entries), gathered.held > 0);
        drop(gathered);
        if wakes {
            self.has_room.notify_all();
        }
        entries
    }

    /// Tells who waits for it. `[writer]`
    fn stored(&self, outcome: Result<(), StoreError>, budget: &Budget) {
        let mut taken = lock(&self.taken);
        // A change that did not even begin, or whose database is closed, fails with all that waits for it.
        let entries = if taken.has_run { std::mem::take(&mut taken.entries) } else { self.take_gathered() };
        taken.has_run = false;
        taken.endpoints.settle(outcome.is_ok());
        taken.took = taken.since.take().map_or(Duration::ZERO, |since| since.elapsed());
        taken.told = entries.len() + lock(&self.gathered).entries.len();
        let mut first = taken.first;
        drop(taken);
        for Entry { rows, done, .. } in entries {
            let tell = || match &outcome {
                Ok(()) => {
                    self.messages.fetch_add(rows.len() as u64, Ordering::Relaxed);
                    self.tell_arrived(&rows, first);
                    done(Ok(first));
                }
                Err(error) => {
                    budget.give_rows(&rows);
                    done(Err(error.clone()));
                }
            };
            // One that panics must not keep the others from hearing.
            if catch_unwind(AssertUnwindSafe(tell)).is_err() {
                tracing::error!("a completion of a durable send panicked");
            }
            first += rows.len() as i64;
        }
    }

    /// Hands on what was counted at the start.
    pub fn tell_counted(&self, counts: &[queue::Count]) {
        let mut counted = lock(&self.counted);
        for count in counts.iter().filter(|count| !count.is_parked) {
            match &counted.hear {
                Some(hear) => hear(count),
                None => counted.waiting.push(count.clone()),
            }
        }
    }

    pub fn tell_arrived(&self, rows: &[StoredMessage], first: i64) {
        if let Some(arrived) = self.arrived.get() {
            arrived(rows, first);
        }
    }

    pub fn forget_tries(&self, row: i64) {
        if self.tried_count.load(Ordering::Relaxed) > 0 {
            let mut tried = lock(&self.tried);
            tried.remove(&row);
            self.tried_count.store(tried.len(), Ordering::Relaxed);
        }
    }
}
