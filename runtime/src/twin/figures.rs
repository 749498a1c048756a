//! What became of changes, counted since the runtime started. Counting and reading never wait.

use std::sync::atomic::{AtomicU64, Ordering};

use super::error::TwinError;
use super::snapshot::Part;

/// Why changes are refused, as a label.
const REASONS: [&str; 5] = ["not_found", "invalid", "etag", "moved", "no_version"];

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Figures {
    committed: [AtomicU64; 3],
    lost: AtomicU64,
    refused: [AtomicU64; REASONS.len()],
}

impl Figures {
    /// Changes of a part that were committed.
    pub fn committed(&self, part: Part) -> u64 {
        self.committed[part as usize].load(Ordering::Relaxed)
    }

    /// Changes that were accepted and could not be stored.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Changes that were refused, by reason.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        REASONS.iter().zip(&self.refused).map(|(reason, count)| (*reason, count.load(Ordering::Relaxed)))
    }

    pub(super) fn count_committed(&self, part: Part) {
        self.committed[part as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_refused(&self, why: &TwinError) {
        let counter = match why {
            TwinError::NotFound { .. } => &self.refused[0],
            TwinError::Invalid { .. } | TwinError::Unfit { .. } | TwinError::Deployed { .. } => &self.refused[1],
            TwinError::EtagMismatch { .. } | TwinError::VersionMismatch { .. } => &self.refused[2],
            TwinError::Moved { .. } => &self.refused[3],
            TwinError::NoVersion { .. } => &self.refused[4],
            TwinError::Store { .. } => &self.lost,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
