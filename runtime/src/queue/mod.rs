//! Queues: where messages wait for whoever consumes an endpoint, with or without an instance behind it.
//!
//! A [`Queue`] belongs to an endpoint, `identity/input` or `$upstream`. It consists of [`lane::Lane`]s, one for each output that
//! sends to it, and for each priority of a [`Backlog`]: what waits on disk. Queues that are consumed together share an [`Inbox`],
//! which knows the lanes that have something and wakes the consumer. A sender's own thread puts the message into the lane; there
//! is no thread in between.
//!
//! Guarantee: per (sender, output, priority) messages come out in the order in which they went in, and none is taken out
//! before its consumer has decided about it. Invariant: a lane is on the ready list, or in its consumer's hands, exactly while
//! its `scheduled` flag is set.

mod arrivals;
pub mod backlog;
pub mod budget;
mod changing;
mod choosing;
mod counting;
mod dead_letters;
pub mod disk;
pub mod evicting;
pub mod expiring;
mod gate;
pub mod inbox;
pub mod ingest;
pub mod kept;
pub mod lane;
mod ledger;
pub mod losses;
pub mod outgoing;
mod placing;
mod ranges;
mod record;
pub mod sequences;
mod settled;
pub mod settling;
mod stopping;
pub mod store_clock;
mod sweeping;
pub mod target;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use backlog::Backlog;
use changing::{Before, Lanes};
use disk::Disk;
use evicting::{Evicting, OnFull};
pub use inbox::{Consumer, Inbox};
pub use lane::{Lane, LaneLimits, Record, Source};
pub(crate) use sweeping::expired_of;
pub use target::WhenFull;

/// The messages that wait for one endpoint.
pub struct Queue {
    endpoint: Arc<str>,
    input: Arc<str>,
    inbox: Arc<Inbox>,
    limits: LaneLimits,
    lanes: Mutex<Lanes>,
    /// Something is left in lanes that are no longer sent to.
    has_left: AtomicBool,
    /// By priority; made with the first lane or row of it.
    backlogs: Mutex<BTreeMap<u32, Arc<Backlog>>>,
    is_live_first: AtomicBool,
    skipped: AtomicU64,
}

/// Lanes differ by the output that fills them, by priority, and by what becomes of messages without room.
#[derive(PartialEq, Eq, Hash)]
struct LaneKey {
    identity: Arc<str>,
    output: Arc<str>,
    priority: u32,
    keeping: Keeping,
}

/// What becomes of messages without room, as far as lanes differ by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Keeping {
    /// They go to the backlog, which is served behind what is in the lane.
    Spilling,
    /// Some that wait are evicted.
    Evicting(OnFull),
    /// They are refused.
    Plain,
}

impl LaneKey {
    fn of(source: &Source, priority: u32, keeping: Keeping) -> LaneKey {
        LaneKey { identity: source.identity.clone(), output: source.output.clone(), priority, keeping }
    }
}

impl Keeping {
    /// `can_expire`: some of the messages have a time to live.
    fn of(when_full: WhenFull, can_expire: bool) -> Keeping {
        match when_full {
            WhenFull::Spill => Keeping::Spilling,
            WhenFull::DropOldest => Keeping::Evicting(OnFull::DropOldest),
            // What has expired makes room even while its consumer is stuck.
            WhenFull::DropNewest if can_expire => Keeping::Evicting(OnFull::DropNewest),
            WhenFull::Block(_) if can_expire => Keeping::Evicting(OnFull::Hold),
            WhenFull::DropNewest | WhenFull::Block(_) | WhenFull::Skip => Keeping::Plain,
        }
    }
}

struct Held {
    lane: Arc<Lane>,
    kept: Option<Arc<Evicting>>,
    before: Option<Arc<Before>>,
}

impl Held {
    fn waiting(&self) -> (u64, u64) {
        self.kept.as_ref().map_or_else(|| self.lane.waiting(), |kept| kept.waiting_with(&self.lane))
    }

    fn is_of(&self, source: &Source) -> bool {
        let own = self.lane.source();
        own.identity == source.identity && own.output == source.output
    }
}

impl Queue {
    /// An empty queue whose lanes announce themselves at `inbox`.
    pub fn new(endpoint: &str, input: &str, inbox: Arc<Inbox>, limits: LaneLimits) -> Queue {
        Queue {
            endpoint: endpoint.into(),
            input: input.into(),
            inbox,
            limits,
            lanes: Mutex::default(),
            has_left: AtomicBool::new(false),
            backlogs: Mutex::default(),
            is_live_first: AtomicBool::new(false),
            skipped: AtomicU64::new(0),
        }
    }

    /// Name of the endpoint.
    pub fn endpoint(&self) -> &Arc<str> {
        &self.endpoint
    }

    /// Name of the input, for an instance's handler.
    pub fn input(&self) -> &Arc<str> {
        &self.input
    }

    /// Ends a queue whose consumer is gone for good; what still comes into its lanes goes with them.
    pub fn close(&self) {
        self.inbox.close();
    }

    fn count_skipped(&self) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
    }

    /// Messages left out since the last call, because the listener was too slow.
    pub fn take_skipped(&self) -> u64 {
        self.skipped.swap(0, Ordering::Relaxed)
    }

    /// The lane for one output and priority whose messages go to disk where there is no room; the same one each time.
    pub fn lane(self: &Arc<Self>, source: &Arc<Source>, priority: u32) -> Arc<QueueLane> {
        self.lane_for(source, priority, Keeping::Spilling, false)
    }

    /// [`Queue::lane`] for what is to become of messages without room. Whoever sends by it holds the lock of the output, and does
    /// not send by another one of this priority any more. `is_new`: nor did it send by this one just before.
    fn lane_for(
        self: &Arc<Self>,
        source: &Arc<Source>,
        priority: u32,
        keeping: Keeping,
        is_new: bool,
    ) -> Arc<QueueLane> {
        let mut lanes = lane::lock(&self.lanes);
        let before = self.leave_for(&mut lanes, source, priority, keeping, is_new);
        let held = lanes.current.entry(LaneKey::of(source, priority, keeping)).or_insert_with(|| Held {
            lane: Arc::new(Lane::new(source.clone(), self.limits)),
            kept: match keeping {
                Keeping::Evicting(on_full) => Some(Arc::new(Evicting::new(self.limits, on_full))),
                Keeping::Spilling | Keeping::Plain => None,
            },
            before,
        });
        let stock = match (&held.kept, keeping) {
            (Some(kept), _) => Stock::Kept(kept.clone()),
            (None, Keeping::Spilling) => Stock::Spilling(self.backlog(priority)),
            (None, _) => Stock::None,
        };
        let (lane, before) = (held.lane.clone(), held.before.clone());
        Arc::new(QueueLane { lane, queue: self.clone(), priority, stock, before })
    }

    /// What waits on disk in this priority; the same one each time.
    pub fn backlog(&self, priority: u32) -> Arc<Backlog> {
        let make = || {
            let backlog = Backlog::new(&self.endpoint, priority, self.limits);
            backlog.set_live_first(self.is_live_first.load(Ordering::Relaxed));
            Arc::new(backlog)
        };
        lane::lock(&self.backlogs).entry(priority).or_insert_with(make).clone()
    }

    /// Says whether what is sent now goes before what waits on disk.
    pub(super) fn set_live_first(&self, is_live_first: bool) {
        self.is_live_first.store(is_live_first, Ordering::Relaxed);
        lane::lock(&self.backlogs).values().for_each(|backlog| backlog.set_live_first(is_live_first));
    }

    /// The messages of an output become rows from now on, or no longer: those that came before by the other way go first. True
    /// where there are any.
    pub(super) fn keep_order(&self, source: &Source, priority: u32, become_rows: bool) -> bool {
        let backlog = self.backlog(priority);
        let is_needed = if become_rows { self.waits_in_lane(source, priority) } else { backlog.has_rows() };
        if is_needed {
            backlog.spill();
        }
        is_needed
    }

    fn waits_in_lane(&self, source: &Source, priority: u32) -> bool {
        let key = LaneKey::of(source, priority, Keeping::Spilling);
        lane::lock(&self.lanes).current.get(&key).is_some_and(|held| held.lane.waiting().0 > 0)
    }

    /// True while something waits in lanes that comes before the backlog of this priority.
    fn has_before_rows(&self, priority: u32) -> bool {
        let lanes = lane::lock(&self.lanes);
        let is_any_kind = self.is_live_first.load(Ordering::Relaxed);
        let is_before = |key: &LaneKey| is_any_kind || key.keeping == Keeping::Spilling;
        let mut before = lanes.current.iter().filter(|(key, _)| key.priority == priority && is_before(key));
        before.any(|(_, held)| held.waiting().0 > 0)
    }

    /// All lanes of messages that are in memory only.
    pub(super) fn lanes(&self) -> Vec<Arc<Lane>> {
        lane::lock(&self.lanes).all().map(|held| held.lane.clone()).collect()
    }

    /// True while messages of memory routes are in no lane: in line for the disk, or where they can be evicted.
    pub(super) fn has_beside_lanes(&self) -> bool {
        // One lock at a time: whoever makes a lane takes them in the other order.
        let has_in_line = lane::lock(&self.backlogs).values().any(|backlog| backlog.has_in_line());
        let has_kept = |held: &Held| held.kept.as_ref().is_some_and(|kept| kept.waiting().0 > 0);
        has_in_line || lane::lock(&self.lanes).all().any(has_kept)
    }

    /// How many messages of whom wait in memory only.
    pub(super) fn left(&self) -> Vec<(Arc<Source>, u64)> {
        let lanes = lane::lock(&self.lanes);
        let left = lanes.all().map(|held| (held.lane.source().clone(), held.waiting().0));
        left.filter(|(_, count)| *count > 0).collect()
    }

    /// Senders, and how many of their messages were taken out.
    pub(super) fn taken(&self) -> Vec<(Arc<Source>, u64)> {
        lane::lock(&self.lanes).taken()
    }

    /// Messages and bytes that wait, in memory and on disk.
    pub fn waiting(&self) -> (u64, u64) {
        let in_lanes = self.in_lanes();
        let of_both = |(read, unread): ((u64, u64), (u64, u64))| (read.0 + unread.0, read.1 + unread.1);
        sum(lane::lock(&self.backlogs).values().map(|backlog| of_both(backlog.waiting())).chain([in_lanes]))
    }

    /// Messages and bytes that are in memory: those that are nowhere else, and those that lie on disk as well.
    pub(super) fn in_memory(&self) -> [(u64, u64); 2] {
        let in_lanes = self.in_lanes();
        [in_lanes, sum(lane::lock(&self.backlogs).values().map(|backlog| backlog.waiting().0))]
    }

    fn in_lanes(&self) -> (u64, u64) {
        sum(lane::lock(&self.lanes).all().map(Held::waiting))
    }

    /// Of the messages that wait, those that are on disk.
    pub fn on_disk(&self) -> u64 {
        lane::lock(&self.backlogs)
            .values()
            .map(|backlog| backlog.waiting())
            .map(|(read, unread)| read.0 + unread.0)
            .sum()
    }
}

fn sum(counts: impl Iterator<Item = (u64, u64)>) -> (u64, u64) {
    counts.fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
}

/// A lane together with the queue it belongs to: what a sender pushes into and a consumer is handed.
pub struct QueueLane {
    /// The lane.
    pub lane: Arc<Lane>,
    /// Its queue.
    pub queue: Arc<Queue>,
    /// Its priority.
    pub priority: u32,
    stock: Stock,
    before: Option<Arc<Before>>,
}

/// What is behind a lane.
enum Stock {
    None,
    /// Nothing; but what finds no room in it goes there.
    Spilling(Arc<Backlog>),
    /// The lane is that of a backlog, and is filled from there.
    Rows(Arc<Backlog>),
    /// Nothing: rows come into it that go before those of their backlog.
    Live,
    /// It is filled from there.
    Kept(Arc<Evicting>),
}

/// What a look behind an empty lane found.
#[derive(Debug, PartialEq, Eq)]
pub enum Restocked {
    /// It has messages again.
    Filled,
    /// There is nothing.
    Empty,
    /// The disk could not be read; try again later.
    Failed,
}

impl QueueLane {
    /// Its place among the ready lanes.
    pub fn class(&self) -> u8 {
        inbox::class_of(self.priority)
    }

    /// Puts the lane on the ready list if it is not there, and wakes the consumer. To be called after each push.
    #[inline]
    pub fn announce(self: &Arc<Self>) {
        if self.lane.needs_schedule() {
            self.queue.inbox.make_ready(self.clone());
        }
    }

    /// Messages in the lane, and in memory behind it.
    fn waiting(&self) -> u64 {
        let (in_lane, _) = self.lane.waiting();
        if let Stock::Kept(kept) = &self.stock { in_lane + kept.waiting().0 } else { in_lane }
    }

    /// Where its messages wait until its consumer takes them into the lane.
    #[inline]
    fn kept(&self) -> Option<&Arc<Evicting>> {
        match &self.stock {
            Stock::Kept(kept) => Some(kept),
            _ => None,
        }
    }

    /// Where messages go that find no room.
    #[inline]
    fn spills_to(&self) -> Option<&Arc<Backlog>> {
        match &self.stock {
            Stock::Spilling(backlog) => Some(backlog),
            _ => None,
        }
    }

    /// True where messages go into the lane itself, not behind it.
    #[inline]
    fn is_open(&self) -> bool {
        match &self.stock {
            Stock::None => true,
            Stock::Spilling(backlog) => !backlog.is_spilling(),
            Stock::Rows(_) | Stock::Live | Stock::Kept(_) => false,
        }
    }

    /// Whether it is the way of an output to this place.
    fn is_of(&self, queue: &Arc<Queue>, priority: u32, keeping: Keeping) -> bool {
        let own = match &self.stock {
            Stock::None => Keeping::Plain,
            Stock::Kept(kept) => Keeping::Evicting(kept.on_full()),
            Stock::Spilling(_) | Stock::Rows(_) | Stock::Live => Keeping::Spilling,
        };
        Arc::ptr_eq(&self.queue, queue) && self.priority == priority && own == keeping
    }

    /// Looks for more where an empty lane is filled from. `[consumer]`
    #[inline]
    pub fn restock(&self, disk: Option<&Disk>) -> Restocked {
        match &self.stock {
            Stock::None | Stock::Spilling(_) | Stock::Live => Restocked::Empty,
            Stock::Kept(kept) if kept.refill(&self.lane) => Restocked::Filled,
            Stock::Kept(_) => Restocked::Empty,
            Stock::Rows(backlog) => self.restock_rows(backlog, disk),
        }
    }

    #[cold]
    fn restock_rows(&self, backlog: &Backlog, disk: Option<&Disk>) -> Restocked {
        match disk.map(|disk| backlog.refill(disk)) {
            Some(Ok(true)) => Restocked::Filled,
            // A row that came meanwhile is in the lane.
            Some(Ok(false)) | None => {
                backlog.settle();
                Restocked::Empty
            }
            Some(Err(error)) => {
                tracing::error!(endpoint = %self.queue.endpoint, "what waits for it on disk cannot be read: {error}");
                Restocked::Failed
            }
        }
    }

    /// True for a lane of rows while others come before it. Its consumer puts it aside until one of its lanes is empty.
    /// `record` is its oldest.
    ///
    /// # Safety
    /// The caller is the inbox's one consumer.
    #[inline]
    pub unsafe fn must_yield(&self, record: &Record<'_>) -> bool {
        match &self.stock {
            Stock::Rows(backlog) => {
                // SAFETY: the caller's promise.
                backlog.live_lane().is_some()
                    || ((backlog.is_spilling() || backlog.is_live_first()) && self.queue.has_before_rows(self.priority))
                    || unsafe { self.queue.has_older(record, self.priority) }
            }
            // SAFETY: the caller's promise.
            Stock::Live => unsafe { self.queue.has_older(record, self.priority) },
            _ => false,
        }
    }

    /// True for a lane that stands behind what its output sent by another way, while something of that is left.
    ///
    /// # Safety
    /// The caller is the inbox's one consumer.
    #[inline]
    pub unsafe fn must_wait(&self) -> bool {
        // SAFETY: the caller's promise.
        self.before.as_ref().is_some_and(|before| unsafe { !before.is_over(self) })
    }

    /// [`QueueLane::must_wait`] for rows.
    ///
    /// # Safety
    /// The caller is the inbox's one consumer.
    unsafe fn must_wait_for_rows(&self) -> bool {
        // SAFETY: the caller's promise.
        self.before.as_ref().is_some_and(|before| unsafe { !before.is_past_rows(self) })
    }

    /// True while there is something behind the lane that its consumer has yet to take into it.
    pub fn has_stock(&self) -> bool {
        match &self.stock {
            Stock::None | Stock::Spilling(_) | Stock::Live => false,
            Stock::Rows(backlog) => backlog.is_behind(),
            Stock::Kept(kept) => kept.waiting().0 > 0,
        }
    }

    /// Takes the lane off the ready list, unless there is more: then it stays, and this says false.
    ///
    /// # Safety
    /// The caller is the inbox's one consumer.
    pub unsafe fn unschedule(&self) -> bool {
        // SAFETY: the caller's promise.
        unsafe { self.lane.unschedule(|| self.has_stock()) }
    }
}

/// Takes the oldest message of a lane for a consumer that needs no verdict. `None`: the lane is empty and off the ready list,
/// or it is none of this consumer's.
pub fn take_message<T>(
    lane: &Arc<QueueLane>,
    place: &mut Consumer,
    read: impl FnOnce(&Source, Record<'_>) -> T,
) -> Option<T> {
    if !place.is_of(&lane.queue.inbox) {
        return None;
    }
    loop {
        // SAFETY: `place` is the only place of a consumer at the lane's inbox, and borrowed for this call alone.
        unsafe {
            if let Some(record) = lane.lane.peek() {
                let taken = read(record.source, record);
                lane.lane.advance();
                return Some(taken);
            }
            if lane.restock(None) != Restocked::Filled && lane.unschedule() {
                return None;
            }
        }
    }
}
