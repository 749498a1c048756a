//! What an instance can reach through the runtime: routes, store, twins, methods and the control loop.

use std::sync::Arc;

use super::completions::Completions;
use crate::identity::Identities;
use crate::log::Logs;
use crate::method::{Calls, MethodRequest};
use crate::queue::disk::Disk;
use crate::queue::ingest::Ingest;
use crate::secret::Secrets;
use crate::twin::Twins;

/// Delivers a direct method call to the target's instance, or answers it with the reason why not.
pub type CallMethod = dyn Fn(&str, MethodRequest) + Send + Sync;

/// See the module's documentation.
pub struct Services {
    /// Routes and memory queues.
    pub ingest: Arc<Ingest>,
    /// Durable queues.
    pub disk: Arc<Disk>,
    /// Twins.
    pub twins: Twins,
    /// Who signs for whom.
    pub identities: Identities,
    /// Secrets.
    pub secrets: Secrets,
    /// Deliveries of one message at most, before it is set aside however often its handler asks for another one.
    pub max_attempts: u32,
    /// Tells modules what has ended.
    pub completions: Completions,
    /// Direct method calls under way.
    pub calls: Calls,
    /// The log.
    pub logs: Logs,
    /// Direct methods.
    pub call_method: Box<CallMethod>,
    /// Says that something which clients may wait for has changed.
    pub changed: Box<dyn Fn() + Send + Sync>,
}
