//! Instances: named, supervised workers, each running one image under one identity.
//!
//! An instance is a thread ([`worker`]) that alone calls its module ([`guest`]); the module calls back through a table of
//! functions ([`host`]) with a ticket ([`ticket`]). What both sides and the control loop share is the [`link`]. When it starts,
//! stops and starts again is decided by pure functions ([`state`]).
//!
//! Guarantee: the runtime never waits for a module. Invariant: calls of one instance never overlap.

pub mod completions;
mod delivering;
pub mod delivery;
mod device;
pub mod given;
pub mod guest;
pub mod host;
pub mod link;
mod pacing;
pub mod retrying;
mod sending;
pub mod services;
mod settle;
mod signing;
pub mod spec;
pub mod state;
#[cfg(test)]
mod testing;
pub mod threads;
pub mod ticket;
pub mod timers;
mod transition;
pub mod usage;
pub mod watchdog;
pub mod worker;

use crate::queue::lane::lock;

pub(crate) use sending::MAX_PROPERTIES;

#[cfg(test)]
mod tests;
