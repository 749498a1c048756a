//! Twins: what an identity should be (desired, tags) and what it says that it is (reported).
//!
//! [`Twins`] holds every twin in memory as committed, in a [`TwinSnapshot`] that is read without waiting. A change is
//! merged and written out on the caller's thread against the newest *pending* state; the database's writer only stores
//! the bytes. Then:
//!
//! ```text
//!   caller, twin's lock:  check → merge with pending → in line     (a revision is only a plan here)
//!   writer:               commit, synced → publish snapshot → listeners → completion, in the order of the line
//!                         failed         → completion with the error; whatever was merged on top of it fails as well,
//!                                          and the pending state falls back to the committed one
//! ```
//!
//! Changes of desired properties and tags are written down with the way back ([`history`](Twins::history)); a schema of the module's
//! image is asked before ([`Schemas`]), outside of the lock.
//!
//! Guarantee: readers see committed state only; per section, revisions are published in order and without gaps.
//! Invariant: the writer's thread never takes a twin's lock, since who holds it may wait for the writer.

mod change;
mod edit;
mod error;
mod etag;
mod figures;
mod history;
mod metadata;
mod parsed;
pub mod patch;
mod pending;
mod registry;
pub mod rules;
mod schema;
pub mod secret;
mod snapshot;
mod store;
mod text;

pub use change::{Change, Preview};
pub use error::TwinError;
pub use etag::matches as etag_matches;
pub use figures::Figures;
pub use history::{HistoryLimits, NoVersion, Past, PastChange, PathChange, between};
pub use registry::{DesiredChange, Twins};
pub use schema::{Schema, Schemas};
pub use snapshot::{Accepted, Acknowledgement, Facts, Part, Section, TwinSnapshot};
pub use text::read as read_document;

#[cfg(test)]
mod history_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
