//! Direct methods: calls under way, their deadlines and their bounds.
//!
//! ```text
//!  command line ─┐                        ┌─► instance: waits in its line, is taken up, answers
//!  HTTP ─────────┼─► Calls::begin ─► call ┤
//!  module ───────┘        │               └─► $edgeAgent: a built-in answers
//!                         └─ deadline, end of the instance, full line: the caller is answered, once, whatever happens
//! ```
//!
//! Guarantee: who calls is answered exactly once, at the latest at the deadline; the caller's name is stamped by the runtime.
//! Invariant: everything that waits is bounded, by number and by bytes, for each caller and for each instance, so that no caller
//! takes the place of all others. Nothing is stored: a call does not outlive the runtime.

pub mod builtin;
mod calls;
mod error;
mod figures;
mod request;
mod waiting;

pub use calls::{Calls, Hear, MAX_OPEN, MAX_OPEN_PER_CALLER, Pending, Reply};
pub use error::CallError;
pub use figures::{DURATION_BUCKETS_US, Durations, Figures, Outcome};
pub use request::{
    Call, MAX_NAME_CHARS, MAX_PAYLOAD_BYTES, MAX_TIMEOUT, MIN_TIMEOUT, MethodAnswer, MethodRequest, name_problem,
    size_problem,
};
pub use waiting::{MAX_WAITING, MAX_WAITING_BYTES, Waiting};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a poisoned lock guards here stays usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
