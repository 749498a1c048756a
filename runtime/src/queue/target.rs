//! Where messages go: what a route means to the queues.

use std::sync::Arc;

use std::time::Duration;

use super::backlog::Backlog;
pub use super::gate::Gate;
use super::lane::Source;
use super::{Queue, QueueLane};
use crate::routing::Condition;

/// What becomes of a message for which a lane has no room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum WhenFull {
    /// It goes to disk, as does all that follows until that is delivered.
    #[default]
    Spill,
    /// The oldest that its receiver does not have in hand gives its place to it.
    DropOldest,
    /// It is dropped and counted; nobody waits.
    DropNewest,
    /// Its sender is held so long, then gets an error.
    Block(Duration),
    /// It is left out and counted apart; for listeners such as `tail`, which nobody waits for.
    Skip,
}

/// Where the messages of an output go.
#[derive(Clone)]
pub struct TargetSpec {
    /// The endpoint.
    pub sink: Sink,
    /// 0 is the most urgent.
    pub priority: u32,
    /// Seconds for which a message is worth keeping.
    pub ttl_secs: Option<u64>,
    /// Largest message in bytes, body and properties together.
    pub max_bytes: usize,
    /// What becomes of it where there is no room in memory.
    pub when_full: WhenFull,
    /// Which messages; all where it has none.
    pub condition: Option<Condition>,
    /// Leads to the endpoint of the target before it, and takes only what that one leaves.
    pub is_alternative: bool,
    /// How many of those; for listeners.
    pub gate: Option<Arc<Gate>>,
}

impl TargetSpec {
    /// The most urgent, without further limits.
    pub fn new(sink: Sink) -> TargetSpec {
        TargetSpec {
            sink,
            priority: 0,
            ttl_secs: None,
            max_bytes: usize::MAX,
            when_full: WhenFull::Spill,
            condition: None,
            is_alternative: false,
            gate: None,
        }
    }
}

/// An endpoint.
#[derive(Clone)]
pub enum Sink {
    /// An input of a module of this device, in memory.
    Input {
        /// Name of the module.
        module: Arc<str>,
        /// Name of its input.
        input: Arc<str>,
    },
    /// An input of a module of this device, on disk first.
    Stored {
        /// Name of the module.
        module: Arc<str>,
        /// Name of its input.
        input: Arc<str>,
    },
    /// On disk, under the endpoint's name, for whoever forwards it.
    Disk(Arc<str>),
    /// Someone who listens in.
    Listener(Arc<Queue>),
}

/// Gives the targets of a source; made anew at each change of the routes.
pub type Router = dyn Fn(&Source) -> Vec<TargetSpec> + Send + Sync;

/// An endpoint as an output's messages find it.
#[derive(Clone)]
pub(super) struct Target {
    pub to: To,
    pub priority: u32,
    pub ttl_secs: Option<u64>,
    pub max_bytes: usize,
    pub when_full: WhenFull,
    /// Messages of this output go to the same endpoint in the same priority in memory and on disk, whichever route wants them.
    pub is_mixed: bool,
}

#[derive(Clone)]
pub(super) enum To {
    Lane(Arc<QueueLane>),
    /// On disk first; its consumer gets it from there.
    Rows(Arc<Queue>, Arc<Backlog>),
    Disk(Arc<str>),
}

/// Marks the targets of which [`Target::is_mixed`] is true.
pub(super) fn mixed(mut targets: Vec<Target>) -> Vec<Target> {
    let place = |target: &Target| match &target.to {
        To::Lane(lane) if lane.spills_to().is_some() => Some((false, lane.queue.endpoint().clone(), target.priority)),
        To::Rows(queue, _) => Some((true, queue.endpoint().clone(), target.priority)),
        _ => None,
    };
    let places: Vec<_> = targets.iter().map(place).collect();
    for (target, own) in targets.iter_mut().zip(&places) {
        let Some((is_row, endpoint, priority)) = own else { continue };
        target.is_mixed |=
            places.iter().flatten().any(|(other, at, p)| other != is_row && at == endpoint && p == priority);
    }
    targets
}

impl Target {
    /// Whether messages for it are gone when the runtime ends without a word. What a listener misses is nobody's loss.
    pub(super) fn is_memory(&self) -> bool {
        matches!(&self.to, To::Lane(_)) && self.when_full != WhenFull::Skip
    }

    /// The lane that it goes into as long as there is room: nothing comes before that, and nothing else is to be done.
    #[inline]
    pub(super) fn open_lane(&self) -> Option<&Arc<QueueLane>> {
        match &self.to {
            To::Lane(lane) if !self.is_mixed && lane.is_open() => Some(lane),
            _ => None,
        }
    }

    pub(super) fn endpoint(&self) -> &Arc<str> {
        match &self.to {
            To::Lane(lane) => lane.queue.endpoint(),
            To::Rows(queue, _) => queue.endpoint(),
            To::Disk(endpoint) => endpoint,
        }
    }
}
