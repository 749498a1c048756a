//! Queues: where messages wait for whoever consumes an endpoint, with or without an instance behind it.
//!
//! A [`Queue`] belongs to an endpoint, `identity/input` or `$upstream`. It consists of [`lane::Lane`]s, one for each output that
//! sends to it. Queues that are consumed together share an [`Inbox`], which knows the lanes that have something and wakes the
//! consumer. A sender's own thread puts the message into the lane; there is no thread in between.
//!
//! Guarantee: per (sender, output, priority) messages come out in the order in which they went in, and none is taken out
//! before its consumer has decided about it. Invariant: a lane is on the ready list, or in its consumer's hands, exactly while
//! its `scheduled` flag is set.

pub mod budget;
mod choosing;
mod counting;
mod dead_letters;
pub mod disk;
pub mod expiring;
mod gate;
pub mod inbox;
pub mod ingest;
pub mod kept;
pub mod lane;
pub mod losses;
pub mod outgoing;
mod placing;
mod record;
pub mod sequences;
mod settled;
pub mod settling;
pub mod store_clock;
mod sweeping;
pub mod target;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

pub use inbox::{Consumer, Inbox};
pub use lane::{Lane, LaneLimits, Record, Source};
pub use target::WhenFull;

/// The messages that wait for one endpoint.
pub struct Queue {
    endpoint: Arc<str>,
    input: Arc<str>,
    inbox: Arc<Inbox>,
    limits: LaneLimits,
    lanes: Mutex<HashMap<LaneKey, Arc<Lane>>>,
    skipped: AtomicU64,
}

/// Lanes differ by the output that fills them and by priority.
type LaneKey = (Arc<str>, Arc<str>, u32);

impl Queue {
    /// An empty queue whose lanes announce themselves at `inbox`.
    pub fn new(endpoint: &str, input: &str, inbox: Arc<Inbox>, limits: LaneLimits) -> Queue {
        Queue {
            endpoint: endpoint.into(),
            input: input.into(),
            inbox,
            limits,
            lanes: Mutex::new(HashMap::new()),
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

    /// The lane for one output and priority; the same one each time.
    pub fn lane(self: &Arc<Self>, source: &Arc<Source>, priority: u32) -> Arc<QueueLane> {
        let key = (source.identity.clone(), source.output.clone(), priority);
        let lane = lane::lock(&self.lanes)
            .entry(key)
            .or_insert_with(|| Arc::new(Lane::new(source.clone(), self.limits)))
            .clone();
        Arc::new(QueueLane { lane, queue: self.clone(), priority })
    }

    /// All lanes.
    pub(super) fn lanes(&self) -> Vec<Arc<Lane>> {
        lane::lock(&self.lanes).values().cloned().collect()
    }

    /// How many messages of whom wait.
    pub(super) fn left(&self) -> Vec<(Arc<Source>, u64)> {
        let lanes = lane::lock(&self.lanes);
        let left = lanes.values().map(|lane| (lane.source().clone(), lane.waiting().0));
        left.filter(|(_, count)| *count > 0).collect()
    }

    /// Senders, and how many of their messages were taken out.
    pub(super) fn taken(&self) -> Vec<(Arc<Source>, u64)> {
        lane::lock(&self.lanes).values().map(|lane| (lane.source().clone(), lane.taken())).collect()
    }

    /// Messages and bytes that wait.
    pub fn waiting(&self) -> (u64, u64) {
        lane::lock(&self.lanes).values().map(|lane| lane.waiting()).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    }
}

/// A lane together with the queue it belongs to: what a sender pushes into and a consumer is handed.
pub struct QueueLane {
    /// The lane.
    pub lane: Arc<Lane>,
    /// Its queue.
    pub queue: Arc<Queue>,
    /// Its priority.
    pub priority: u32,
}

impl QueueLane {
    /// Its place among the ready lanes.
    pub fn class(&self) -> u8 {
        inbox::class_of(self.priority)
    }

    /// Puts the lane on the ready list if it is not there, and wakes the consumer. To be called after each push.
    pub fn announce(self: &Arc<Self>) {
        if self.lane.needs_schedule() {
            self.queue.inbox.make_ready(self.clone());
        }
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
            if lane.lane.unschedule() {
                return None;
            }
        }
    }
}
