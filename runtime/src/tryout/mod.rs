//! `dinrail try`: one module, run as the runtime would run it, in a child process with a scratch state directory.
//!
//! The child (`child`) boots a private runtime and drives it over its [`Handle`](crate::handle::Handle): the loader, worker,
//! queues and twins are the real ones. Between module and runtime stands a lens (`lens`, `host_lens`) that passes every call
//! on and notes it before it is made. So the parent (`parent`) knows, whatever becomes of the child, which call was the last.
//!
//! Guarantee: whatever the module does, the parent ends, and says what was seen. Invariant: a note is in the file before the
//! call that it is about begins.
//!
//! ```text
//! verb ──Plan──► parent ──spawns──► child ──Handle──► runtime ◄──lens──► module
//!                  ▲                  │ notes, a line of JSON each            │
//!                  └──────────────────┴───────────────────────────────────────┘
//! ```

mod child;
mod event;
mod host_lens;
mod lens;
mod parent;
mod plan;
mod record;
mod report;
mod threads;

pub use child::run as run_child;
pub use event::Event;
pub use parent::{TryError, run};
pub use plan::{Plan, Step};
pub use report::Report;
