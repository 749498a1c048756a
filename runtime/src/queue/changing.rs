//! Changing ways: what an output sends to an endpoint in one priority goes one way at a time, through a lane of one kind or as
//! rows. Where that changes while something is left of the way before, what comes now stands behind it.
//!
//! A lane that is no longer sent to is *left*: nothing comes into it any more, and it is forgotten once it is empty. The lane that
//! takes its place is a new one, and its consumer does not touch it before all that it stands behind is through. Rows know their
//! numbers: they let lanes that were left go first where these hold smaller ones of the same output.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::backlog::{Backlog, RowsBefore};
use super::evicting::{Evicting, OnFull};
use super::lane::{self, Lane, Record, Source};
use super::target::{Sink, TargetSpec};
use super::{Held, Keeping, LaneKey, Queue, QueueLane};

/// A lane that was left, and what waits to come into it.
type LeftLane = (Arc<Lane>, Option<Arc<Evicting>>);

/// Identity of the sender, and name of the output.
type OutputKey = (Arc<str>, Arc<str>);

/// The lanes of a queue.
#[derive(Default)]
pub(super) struct Lanes {
    /// Those that are sent to.
    pub current: HashMap<LaneKey, Held>,
    /// Those that are not, with what is left in them.
    left: Vec<(u32, Held)>,
    /// What was taken out of lanes that are forgotten.
    taken: HashMap<OutputKey, (Arc<Source>, u64)>,
    /// Outputs whose messages go to disk first, with the priority.
    stored: HashSet<(OutputKey, u32)>,
}

/// What has to be through before a lane is touched.
pub(super) struct Before {
    is_over: AtomicBool,
    lanes: Vec<LeftLane>,
    rows: Option<(Arc<Backlog>, RowsBefore)>,
}

impl Before {
    /// `None` where nothing is there.
    pub(super) fn of(lanes: Vec<LeftLane>, rows: Option<(Arc<Backlog>, RowsBefore)>) -> Option<Arc<Before>> {
        let is_any = !lanes.is_empty() || rows.is_some();
        is_any.then(|| Arc::new(Before { is_over: AtomicBool::new(false), lanes, rows }))
    }

    /// True once it is through.
    ///
    /// # Safety
    /// The caller is the one consumer of the inbox.
    pub(super) unsafe fn is_over(&self, lane: &QueueLane) -> bool {
        if self.is_over.load(Ordering::Relaxed) {
            return true;
        }
        // SAFETY: the caller's promise.
        let is_over = self.lanes.iter().all(is_empty) && unsafe { self.is_past_rows(lane) };
        self.is_over.store(is_over, Ordering::Relaxed);
        is_over
    }

    /// True where no row is before it any more.
    ///
    /// # Safety
    /// As [`Before::is_over`].
    pub(super) unsafe fn is_past_rows(&self, lane: &QueueLane) -> bool {
        let Some((backlog, rows)) = &self.rows else { return true };
        // SAFETY: the caller's promise.
        unsafe { backlog.is_past(rows, lane.lane.source(), first(&lane.lane, lane.kept())) }
    }
}

/// The number of the oldest message of a lane.
///
/// # Safety
/// The caller is the one consumer of the inbox.
unsafe fn first(lane: &Lane, kept: Option<&Arc<Evicting>>) -> Option<u64> {
    // SAFETY: the caller's promise.
    let in_lane = unsafe { lane.peek() }.map(|first| first.sequence);
    in_lane.or_else(|| kept.and_then(|kept| kept.first()))
}

fn is_empty((lane, kept): &LeftLane) -> bool {
    kept.as_ref().map_or_else(|| lane.waiting(), |kept| kept.waiting_with(lane)).0 == 0
}

impl Lanes {
    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Held> {
        self.current.values().chain(self.left.iter().map(|(_, held)| held))
    }

    /// Senders, and how many of their messages were taken out of lanes, of those too that are forgotten.
    pub(super) fn taken(&self) -> Vec<(Arc<Source>, u64)> {
        let now = self.all().map(|held| (held.lane.source().clone(), held.lane.taken()));
        now.chain(self.taken.values().cloned()).collect()
    }

    fn leave(&mut self, key: &LaneKey) {
        if let Some(held) = self.current.remove(key) {
            self.left.push((key.priority, held));
        }
    }

    /// Forgets what was left and is empty.
    fn forget_empty(&mut self) {
        let Lanes { left, taken, .. } = self;
        left.retain(|(_, held)| {
            if held.waiting().0 > 0 {
                return true;
            }
            let source = held.lane.source();
            let of_source = taken.entry((source.identity.clone(), source.output.clone()));
            of_source.or_insert_with(|| (source.clone(), 0)).1 += held.lane.taken();
            false
        });
    }

    /// Leaves all lanes of an output in one priority but those of `keeping`, and says which of them are not empty.
    fn leave_others(&mut self, source: &Source, priority: u32, keeping: Keeping) -> Vec<LeftLane> {
        let kinds = [OnFull::DropOldest, OnFull::DropNewest, OnFull::Hold].map(Keeping::Evicting);
        for kind in kinds.into_iter().chain([Keeping::Spilling, Keeping::Plain]) {
            if kind != keeping {
                self.leave(&LaneKey::of(source, priority, kind));
            }
        }
        self.forget_empty();
        let is_of = |(of, held): &&(u32, Held)| *of == priority && held.is_of(source);
        self.left.iter().filter(is_of).map(|(_, held)| (held.lane.clone(), held.kept.clone())).collect()
    }
}

impl Queue {
    /// Makes place for a lane of this kind: what is left of other ways of the output, which it stands behind.
    pub(super) fn leave_for(
        &self,
        lanes: &mut Lanes,
        source: &Source,
        priority: u32,
        keeping: Keeping,
        is_new: bool,
    ) -> Option<Arc<Before>> {
        lanes.stored.remove(&((source.identity.clone(), source.output.clone()), priority));
        if !is_new {
            return None;
        }
        let left = lanes.leave_others(source, priority, keeping);
        // What spills goes to disk behind the rows by itself.
        let rows = match keeping {
            Keeping::Spilling => None,
            _ if self.is_live_first.load(Ordering::Relaxed) => None,
            _ => lane::lock(&self.backlogs)
                .get(&priority)
                .and_then(|backlog| Some((backlog.clone(), backlog.rows_before()?))),
        };
        let before = Before::of(left, rows)?;
        lanes.leave(&LaneKey::of(source, priority, keeping));
        self.has_left.store(true, Ordering::Release);
        Some(before)
    }

    /// The messages of an output become rows from now on: what was sent by another way goes first.
    pub(super) fn leave_for_rows(&self, source: &Source, priority: u32) {
        let mut lanes = lane::lock(&self.lanes);
        lanes.stored.insert(((source.identity.clone(), source.output.clone()), priority));
        if !lanes.leave_others(source, priority, Keeping::Spilling).is_empty() {
            self.has_left.store(true, Ordering::Release);
        }
    }

    /// True where a row is live: somebody consumes, and its output does not send by a lane that goes before all rows anyway.
    pub(super) fn is_live(&self, sender: &Arc<str>, output: &Arc<str>, priority: u32) -> bool {
        let is_asked = self.is_live_first.load(Ordering::Relaxed) && self.inbox.is_consumed();
        is_asked && lane::lock(&self.lanes).stored.contains(&((sender.clone(), output.clone()), priority))
    }

    /// True while an older message of the same output is in a lane that was left. `record` has a row.
    ///
    /// # Safety
    /// The caller is the one consumer of the inbox.
    pub(super) unsafe fn has_older(&self, record: &Record<'_>, priority: u32) -> bool {
        if !self.has_left.load(Ordering::Acquire) {
            return false;
        }
        let mut lanes = lane::lock(&self.lanes);
        lanes.forget_empty();
        if lanes.left.is_empty() {
            self.has_left.store(false, Ordering::Release);
        }
        lanes.left.iter().any(|(of, held)| {
            let source = held.lane.source();
            // Rows of earlier epochs are older than all that is in memory.
            *of == priority && held.is_of(record.source) && source.epoch == record.source.epoch && {
                // SAFETY: the caller's promise.
                unsafe { first(&held.lane, held.kept.as_ref()) }.is_some_and(|first| first < record.sequence)
            }
        })
    }
}

/// What becomes of messages without room, for each target. Where routes of one output lead to one place and want different things,
/// all of them spill: in order there is only one line.
pub(super) fn keepings(specs: &[TargetSpec]) -> Vec<Keeping> {
    let place = |spec: &TargetSpec| match &spec.sink {
        Sink::Input { module, input } | Sink::Stored { module, input } => {
            Some((module.clone(), input.clone(), spec.priority))
        }
        _ => None,
    };
    let can_expire =
        |spec: &TargetSpec| specs.iter().any(|other| other.ttl_secs.is_some() && place(other) == place(spec));
    let own = |spec: &TargetSpec| {
        let is_memory = matches!(spec.sink, Sink::Input { .. });
        is_memory.then(|| Keeping::of(spec.when_full, can_expire(spec)))
    };
    let keeping = |spec: &TargetSpec| match &spec.sink {
        Sink::Listener(_) => Keeping::of(spec.when_full, spec.ttl_secs.is_some()),
        _ => {
            let mut others = specs.iter().filter(|other| place(other) == place(spec));
            own(spec).filter(|_| others.all(|other| own(other) == own(spec))).unwrap_or(Keeping::Spilling)
        }
    };
    specs.iter().map(keeping).collect()
}
