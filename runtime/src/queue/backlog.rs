//! The backlog of an endpoint in one priority: what waits for it on disk, and how it comes back into memory in order.
//!
//! Rows that arrive on disk go into the backlog's lane at once, so that delivering them needs no read. Where that lane has no room,
//! or rows are there from the last run, the backlog is *behind*: the consumer reads on from disk, batch by batch, whenever the lane
//! is empty. It is *spilling* from the moment in which some memory route found no room: from then on all messages of memory routes
//! become rows, without waiting for anything, until nothing of this is left.
//!
//! ```text
//!               a lane stayed full for 50 ms
//!    window  ───────────────────────────────►  spilling      what came before the first row is in lanes, which are served first;
//!       ▲                                         │          everything after it is a row, and rows have an order
//!       └── lane empty, not behind, none in line ─┘
//! ```
//!
//! Where what is sent now goes before what waits (*live first*), rows of durable routes that arrive while it is behind go into a lane
//! of their own, which is served before: as many as find room there while somebody consumes.
//!
//! Guarantee: per (sender, output, priority) nothing overtakes, but for live rows. Invariant: rows up to the watermark have been in
//! the lane, but for those that were skipped since their time to live was over; those above it, but for live ones, are to be read
//! from disk if the backlog is behind, and there are none if it is not.

use std::num::NonZeroI64;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use super::budget;
use super::disk::{Disk, ReadLimits};
use super::lane::{self, Body, Entry, INLINE_BODY, Lane, LaneLimits, NEVER, RowOf, Source, lock};
use super::ranges::Ranges;
use crate::database::StoreError;
use crate::database::tables::queue::{ReadMessage, StoredMessage};
use crate::{clock, memory};

/// Rows that are looked at at a time, where what is over is skipped.
const LOOK: u32 = 20_000;
/// Between two lines of the log on its beginning to spill: a store that is full ends it at once, again and again.
const TELL_AGAIN_MS: u64 = 60_000;
/// Places at which rows were skipped that are remembered.
const MAX_SKIPPED: usize = 1024;
/// How much is read from disk at a time: little enough to be of use soon, and not to fill memory.
const READ: ReadLimits = ReadLimits { messages: 256, bytes: 1 << 20 };

/// See the module's documentation.
pub struct Backlog {
    endpoint: Arc<str>,
    priority: u32,
    limits: LaneLimits,
    is_spilling: AtomicBool,
    is_behind: AtomicBool,
    /// What is sent now goes before what waits on disk.
    is_live_first: AtomicBool,
    /// When it was last said that it spills, in monotonic milliseconds; 0: never.
    told_ms: AtomicU64,
    /// Rows in line of this generation and of the one before, by its last bit.
    in_line: [AtomicU64; 2],
    /// Counts up where somebody wants to know when what is in line now is through.
    generation: AtomicU64,
    state: Mutex<State>,
    /// Made with the first row.
    lane: OnceLock<Arc<Lane>>,
    /// Made with the first row that goes before what waits.
    live_lane: OnceLock<Arc<Lane>>,
}

struct State {
    watermark: i64,
    last_arrived: i64,
    /// Rows above the watermark; less than that, by those that were there at the start, until they are counted.
    unread: i64,
    /// Bytes of their properties and bodies.
    unread_bytes: i64,
    is_counted: bool,
    /// Whose rows were seen last; neighbours are mostly of one sender.
    source: Option<Arc<Source>>,
    /// Rows above the watermark that went into the live lane.
    live: Ranges,
    /// Rows below it that never were in the lane: they were over, and are removed by whoever looks for that.
    skipped: Ranges,
}

impl State {
    fn no_longer_unread(&mut self, count: u64, bytes: u64) {
        self.add(-count.cast_signed(), -bytes.cast_signed());
    }

    fn add(&mut self, count: i64, bytes: i64) {
        (self.unread, self.unread_bytes) = (self.unread + count, self.unread_bytes + bytes);
        if self.is_counted {
            self.unread = self.unread.max(0);
            self.unread_bytes = if self.unread == 0 { 0 } else { self.unread_bytes.max(0) };
        }
    }
}

/// Rows on their way to the disk, each of a backlog: to be dropped when they are there, or will never be.
#[derive(Default)]
pub struct InLine(Vec<(Arc<Backlog>, usize)>);

/// Rows that were there, or in line, at one moment: what must be through before something else.
pub(super) struct RowsBefore {
    generation: u64,
    /// The last of them, once they are all on disk.
    last: OnceLock<i64>,
}

impl InLine {
    /// One more row.
    pub(super) fn add(&mut self, backlog: &Arc<Backlog>) {
        let slot = slot(backlog.generation.load(Ordering::SeqCst));
        backlog.in_line[slot].fetch_add(1, Ordering::SeqCst);
        self.0.push((backlog.clone(), slot));
    }

    /// The rows of another one too.
    pub fn join(&mut self, mut other: InLine) {
        self.0.append(&mut other.0);
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        for (backlog, slot) in self.0.drain(..) {
            if backlog.in_line[slot].fetch_sub(1, Ordering::SeqCst) == 1 {
                backlog.settle();
            }
        }
    }
}

impl Backlog {
    /// Nothing waits. `limits`: how much of it may be in memory.
    pub(super) fn new(endpoint: &Arc<str>, priority: u32, limits: LaneLimits) -> Backlog {
        Backlog {
            endpoint: endpoint.clone(),
            priority,
            limits,
            is_spilling: AtomicBool::new(false),
            is_behind: AtomicBool::new(false),
            is_live_first: AtomicBool::new(false),
            told_ms: AtomicU64::new(0),
            in_line: [const { AtomicU64::new(0) }; 2],
            generation: AtomicU64::new(0),
            state: Mutex::new(State {
                watermark: i64::MIN,
                last_arrived: i64::MIN,
                unread: 0,
                unread_bytes: 0,
                is_counted: true,
                source: None,
                live: Ranges::default(),
                skipped: Ranges::default(),
            }),
            lane: OnceLock::new(),
            live_lane: OnceLock::new(),
        }
    }

    /// Its priority.
    pub fn priority(&self) -> u32 {
        self.priority
    }

    /// True while messages of memory routes become rows.
    #[inline]
    pub fn is_spilling(&self) -> bool {
        self.is_spilling.load(Ordering::Acquire)
    }

    /// True while rows are to be read from disk.
    pub(super) fn is_behind(&self) -> bool {
        self.is_behind.load(Ordering::SeqCst)
    }

    /// True when what is sent now goes before what waits on disk.
    pub(super) fn is_live_first(&self) -> bool {
        self.is_live_first.load(Ordering::Relaxed)
    }

    pub(super) fn set_live_first(&self, is_live_first: bool) {
        self.is_live_first.store(is_live_first, Ordering::Relaxed);
    }

    /// The lane that its rows go through.
    pub(super) fn lane(&self) -> &Arc<Lane> {
        self.lane.get_or_init(|| self.new_lane())
    }

    fn new_lane(&self) -> Arc<Lane> {
        let of_many = Source { identity: "".into(), output: "".into(), epoch: 0 };
        Arc::new(Lane::new(Arc::new(of_many), self.limits))
    }

    /// The lane of rows that go before what waits, while there are any.
    pub(super) fn live_lane(&self) -> Option<&Arc<Lane>> {
        self.live_lane.get().filter(|lane| lane.waiting().0 > 0)
    }

    /// True where a row is the consumer's: it is or has been in one of the lanes.
    pub(super) fn is_in_hands(&self, row: i64) -> bool {
        let state = lock(&self.state);
        state.live.contains(row) || row <= state.watermark && !state.skipped.contains(row)
    }

    /// Messages and bytes in its lane, and the same of rows that are on disk only.
    pub(super) fn waiting(&self) -> ((u64, u64), (u64, u64)) {
        let lanes = self.lane.get().into_iter().chain(self.live_lane());
        let in_lane = lanes.map(|lane| lane.waiting()).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        let state = lock(&self.state);
        // One that is not counted yet is at least seen to wait.
        let least = i64::from(!state.is_counted && self.is_behind());
        (in_lane, (state.unread.max(least).unsigned_abs(), state.unread_bytes.max(0).unsigned_abs()))
    }

    /// So many rows were there from the last run, of so many bytes.
    pub(super) fn counted(&self, count: u64, bytes: u64) {
        let mut state = lock(&self.state);
        if !std::mem::replace(&mut state.is_counted, true) {
            state.add(count.cast_signed(), bytes.cast_signed());
        }
    }

    /// Rows are there from the last run, up to this id; how many, [`Backlog::counted`] says.
    pub(super) fn begin_behind(&self, last: i64) {
        let mut state = lock(&self.state);
        (state.last_arrived, state.is_counted) = (last, false);
        self.is_behind.store(true, Ordering::SeqCst);
        self.is_spilling.store(true, Ordering::Release);
    }

    /// So many rows above the watermark, of so many bytes, are gone from the disk. `[writer]`
    pub(super) fn removed(&self, count: u64, bytes: u64) {
        lock(&self.state).no_longer_unread(count, bytes);
    }

    /// Begins to spill, if it does not already.
    pub(super) fn spill(&self) {
        let _state = lock(&self.state);
        self.is_spilling.store(true, Ordering::Release);
    }

    /// Whether it is to be said that it begins to spill.
    pub(super) fn is_to_be_told(&self) -> bool {
        let (now, told) = (clock::coarse_monotonic_ms().max(1), self.told_ms.load(Ordering::Relaxed));
        let is_due = told == 0 || now.saturating_sub(told) >= TELL_AGAIN_MS;
        if is_due {
            self.told_ms.store(now, Ordering::Relaxed);
        }
        is_due
    }

    /// Rows that were in memory stay on disk for the next run: whatever comes now goes behind them. For the end of the runtime.
    pub(super) fn stay_behind(&self) {
        let _state = lock(&self.state);
        self.is_behind.store(true, Ordering::SeqCst);
        self.is_spilling.store(true, Ordering::Release);
    }

    /// A place in line for a message of a memory route, if that is to become a row; `None`: it is to go into its lane.
    pub(super) fn enter(self: &Arc<Self>) -> Option<InLine> {
        let _state = lock(&self.state);
        if !self.is_spilling.load(Ordering::Relaxed) {
            return None;
        }
        let mut line = InLine::default();
        line.add(self);
        Some(line)
    }

    /// Something of it is on disk, or on its way there, or in its lane.
    pub(super) fn has_rows(&self) -> bool {
        let has_in_lane = || self.lane.get().is_some_and(|lane| lane.waiting().0 > 0);
        self.has_in_line() || self.is_behind() || has_in_lane() || self.live_lane().is_some()
    }

    /// Rows are on their way to the disk.
    pub(super) fn has_in_line(&self) -> bool {
        self.in_line.iter().any(|rows| rows.load(Ordering::SeqCst) > 0)
    }

    /// What has to be through before that which is sent from now on by another way; `None` where nothing is there.
    pub(super) fn rows_before(&self) -> Option<RowsBefore> {
        let generation = self.generation.load(Ordering::SeqCst);
        self.has_rows().then(|| RowsBefore { generation, last: OnceLock::new() })
    }

    /// True once the consumer is done with these rows, as far as they are older than the message `number` of `source`.
    ///
    /// # Safety
    /// The caller is the one consumer of the inbox.
    pub(super) unsafe fn is_past(&self, before: &RowsBefore, source: &Source, number: Option<u64>) -> bool {
        // SAFETY: the caller's promise.
        let head = self.lane.get().and_then(|lane| unsafe { lane.peek() });
        if let (Some(head), Some(number)) = (&head, number)
            && head.source == source
            && head.sequence > number
        {
            // The rows of an output come in order. This one waits for that message.
            return true;
        }
        if before.last.get().is_none() && !self.is_stored(before.generation) {
            return false;
        }
        let last = *before.last.get_or_init(|| lock(&self.state).last_arrived);
        // SAFETY: as above.
        let live = self.live_lane().and_then(|lane| unsafe { lane.peek() });
        if live.and_then(|record| record.row).is_some_and(|row| row.get() <= last) {
            return false;
        }
        match head.and_then(|record| record.row) {
            Some(row) => row.get() > last,
            None => !self.is_behind() || lock(&self.state).watermark >= last,
        }
    }

    /// True once nothing of a generation is in line. What comes into line meanwhile may count for it, which only makes this later.
    fn is_stored(&self, generation: u64) -> bool {
        let _state = lock(&self.state);
        let now = self.generation.load(Ordering::SeqCst);
        let is_empty = |generation: u64| self.in_line[slot(generation)].load(Ordering::SeqCst) == 0;
        if now == generation && is_empty(generation + 1) {
            self.generation.store(generation + 1, Ordering::SeqCst);
        }
        match self.generation.load(Ordering::SeqCst) - generation {
            // Something of the generation before it is left.
            0 => false,
            1 => is_empty(generation),
            // The one after next began when nothing of this one was left.
            _ => true,
        }
    }

    /// Ends the spilling if nothing is left of it.
    pub(super) fn settle(&self) {
        if !self.is_spilling.load(Ordering::Relaxed) {
            return;
        }
        let _state = lock(&self.state);
        if !self.has_rows() {
            self.is_spilling.store(false, Ordering::Release);
        }
    }

    /// Takes note of a committed row: it goes into a lane, or stays on disk until it is read from there. The caller announces
    /// the lanes. `may_go_first`: it is to go before what waits, if that is wanted and there is room. `[writer]`
    pub(super) fn arrived(&self, message: &StoredMessage, id: i64, may_go_first: bool) {
        let mut state = lock(&self.state);
        // The consumer may have read it from disk before this was told.
        if id <= state.watermark {
            return;
        }
        let before = std::mem::replace(&mut state.last_arrived, id);
        let left_ms = message.ttl_secs.map(|secs| secs.saturating_mul(1000));
        if !self.is_behind() {
            if self.push(self.lane(), &mut state, message, id, left_ms) {
                state.watermark = id;
                return;
            }
        } else if may_go_first && self.is_live_first() {
            let lane = self.live_lane.get_or_init(|| self.new_lane());
            if self.push(lane, &mut state, message, id, left_ms) {
                let joins = state.live.last() == Some(before);
                state.live.add(id, id, joins);
                return;
            }
        }
        self.is_behind.store(true, Ordering::SeqCst);
        state.add(1, budget::size(message).cast_signed());
    }

    /// Reads on from disk into the lane, which is empty. True when that brought something. `[consumer]`
    pub(super) fn refill(&self, disk: &Disk) -> Result<bool, StoreError> {
        if !self.is_behind() {
            return Ok(false);
        }
        // While it is behind nobody else moves the watermark.
        let (after, seen) = {
            let state = lock(&self.state);
            (state.watermark, state.last_arrived)
        };
        let rows = disk.read_after(&self.endpoint, self.priority, after, READ)?;
        let is_last = (rows.len() as u32) < READ.messages && bytes_of(&rows) < READ.bytes;
        if !is_last && rows.iter().all(|row| row.left_us == Some(0)) && self.skip(disk, after)? {
            return Ok(false);
        }
        let mut has_all = true;
        let mut state = lock(&self.state);
        for row in &rows {
            if state.live.contains(row.id) {
                state.watermark = row.id;
                continue;
            }
            let left_ms = row.left_us.map(|left_us| left_us / 1000);
            if !self.push(self.lane(), &mut state, &row.message, row.id, left_ms) {
                has_all = false;
                break;
            }
            state.watermark = row.id;
            if row.id <= state.last_arrived {
                state.no_longer_unread(1, budget::size(&row.message));
            }
        }
        // Rows that were removed or set aside on disk leave nothing to be read up to the last one; a later one may have come.
        let has_caught_up = has_all && is_last && state.watermark >= state.last_arrived;
        if has_caught_up || (rows.is_empty() && state.last_arrived == seen) {
            self.is_behind.store(false, Ordering::SeqCst);
            // What is counted later is gone.
            (state.unread, state.unread_bytes, state.is_counted) = (0, 0, true);
        }
        let watermark = state.watermark;
        state.live.forget_up_to(watermark);
        Ok(!rows.is_empty())
    }

    /// Goes on to the next row that is not over, or as far as one look goes: what is over is left to whoever removes it, so that
    /// nobody waits for that. False where it cannot be remembered. `[consumer]`
    fn skip(&self, disk: &Disk, after: i64) -> Result<bool, StoreError> {
        if lock(&self.state).skipped.len() >= MAX_SKIPPED {
            return Ok(false);
        }
        let until = disk.next_living(&self.endpoint, self.priority, after, LOOK)?;
        let mut state = lock(&self.state);
        if until > after {
            let joins = state.skipped.last() == Some(after);
            state.skipped.add(after.saturating_add(1), until, joins);
            state.watermark = until;
        }
        Ok(until > after)
    }

    fn push(&self, lane: &Lane, state: &mut State, message: &StoredMessage, id: i64, left_ms: Option<u64>) -> bool {
        let Some(row_id) = NonZeroI64::new(id) else { return true };
        let is_of = |source: &&Arc<Source>| {
            source.epoch == message.epoch && source.identity == message.sender && source.output == message.output
        };
        let source = state.source.as_ref().filter(is_of).cloned().unwrap_or_else(|| {
            let (identity, output) = (message.sender.clone(), message.output.clone());
            Arc::new(Source { identity, output, epoch: message.epoch })
        });
        let entry = Entry {
            sequence: message.sequence,
            created_us: message.created_us,
            expires_ms: left_ms.map_or(NEVER, |left| clock::coarse_monotonic_ms().saturating_add(left)),
            row: Some(RowOf { id: row_id, source: &source }),
            meta_len: message.meta.len(),
            fill: &|out| out.put(&message.meta),
        };
        let body = match &message.body[..] {
            small if small.len() <= INLINE_BODY => Body::Inline(small),
            large => Body::Buffer(lane::host_buffer(memory::copied(large))),
        };
        // SAFETY: only whoever holds the lock of the state pushes into its lanes.
        let pushed = unsafe { lane.push(&entry, body) };
        state.source = Some(source);
        match pushed {
            Ok(()) => true,
            Err(body) => {
                if let Body::Buffer(buffer) = body {
                    lane::release(buffer);
                }
                false
            }
        }
    }
}

fn slot(generation: u64) -> usize {
    (generation & 1) as usize
}

fn bytes_of(rows: &[ReadMessage]) -> u64 {
    rows.iter().map(|row| (row.message.meta.len() + row.message.body.len()) as u64).sum()
}
