//! One twin: what is committed, what is in line, and how the line falls back when a change fails.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

use arc_swap::ArcSwap;

use super::parsed::Kept;
use super::snapshot::{Part, Section, TwinSnapshot};

/// One twin.
pub(super) struct Twin {
    /// Of its identity.
    pub key: i64,
    /// Published by the writer's thread only.
    pub committed: ArcSwap<TwinSnapshot>,
    /// Made by the first change: of ten thousand twins, few are changed.
    line: OnceLock<Box<Line>>,
}

/// The changes of a twin that are in line.
pub(super) struct Line {
    /// Held from the merge of a change until it is in line, which fixes the order of revisions.
    pub pending: Mutex<Pending>,
    /// Per part, the last run of changes of which one failed; written by the writer's thread, read under the lock.
    pub failed: [AtomicU64; 3],
}

/// What the changes in line made of a twin.
pub(super) struct Pending {
    chains: [Chain; 3],
    /// The reported properties, ready for the next report.
    pub kept: Kept,
}

/// The changes of one part that build on each other.
struct Chain {
    /// The part after the newest change in line; `None` is as committed.
    newest: Option<Section>,
    /// Changes up to a failed one, and those on top of it, are one run; the next change begins another.
    run: u64,
}

impl Pending {
    /// Puts the next state of a part in place of the newest; gives the run that the change belongs to.
    pub fn put(&mut self, part: Part, section: Section) -> u64 {
        let chain = &mut self.chains[part as usize];
        chain.newest = Some(section);
        chain.run
    }
}

impl Twin {
    pub fn new(key: i64, snapshot: TwinSnapshot) -> Twin {
        Twin { key, committed: ArcSwap::from_pointee(snapshot), line: OnceLock::new() }
    }

    /// Its changes in line.
    pub fn line(&self) -> &Line {
        let make = || {
            let chains = std::array::from_fn(|_| Chain { newest: None, run: 1 });
            let pending = Pending { chains, kept: Kept::default() };
            Box::new(Line { pending: Mutex::new(pending), failed: Default::default() })
        };
        self.line.get_or_init(make)
    }

    /// The newest state of each part, pending changes included.
    pub fn newest(&self, pending: &mut Pending) -> [Section; 3] {
        Part::ALL.map(|part| {
            let chain = &mut pending.chains[part as usize];
            let failed = self.line().failed[part as usize].load(Ordering::Acquire);
            if failed >= chain.run {
                // Everything of that run that can still commit has: what is on top of the failed change fails by its
                // revision.
                *chain = Chain { newest: None, run: failed + 1 };
            }
            chain.newest.clone().unwrap_or_else(|| self.committed.load().section(part).clone())
        })
    }
}
