//! Where messages go: what a route means to the queues.

use std::sync::Arc;

use std::time::Duration;

use super::Queue;
pub use super::gate::Gate;
use super::lane::Source;
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
