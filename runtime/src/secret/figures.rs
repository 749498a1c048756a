//! What was given out and what was not, counted since the runtime started. Reading and counting never wait.

use std::sync::atomic::{AtomicU64, Ordering};

use super::error::Unresolved;

/// Words for why a secret was not given, in the order of their counters.
const REASONS: [&str; 3] = ["not_set", "not_allowed", "not_readable"];

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Figures {
    given: AtomicU64,
    refused: [AtomicU64; REASONS.len()],
}

impl Figures {
    /// Values that went into the code of modules.
    pub fn given(&self) -> u64 {
        self.given.load(Ordering::Relaxed)
    }

    /// How often a secret was looked up for a module and could not be given, with the word for the reason.
    pub fn refused(&self) -> [(&'static str, u64); REASONS.len()] {
        std::array::from_fn(|at| (REASONS[at], self.refused[at].load(Ordering::Relaxed)))
    }

    /// Counts values that a module is about to be given.
    pub fn count_given(&self, values: usize) {
        self.given.fetch_add(values as u64, Ordering::Relaxed);
    }

    pub(super) fn count_refused(&self, why: &Unresolved) {
        let at = match why {
            Unresolved::NotSet { .. } => 0,
            Unresolved::NotAllowed { .. } => 1,
            Unresolved::NotReadable { .. } => 2,
        };
        self.refused[at].fetch_add(1, Ordering::Relaxed);
    }
}
