//! Where messages go: what a route means to the queues.

use std::sync::Arc;

use super::Queue;
use super::lane::Source;

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
    /// On disk, under the endpoint's name, for whoever forwards it.
    Disk(Arc<str>),
    /// Someone who listens in.
    Listener(Arc<Queue>),
}

/// Gives the targets of a source; made anew at each change of the routes.
pub type Router = dyn Fn(&Source) -> Vec<TargetSpec> + Send + Sync;
