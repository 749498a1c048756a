//! Who speaks: an instance, the runtime itself, or its record of who did what. Holds what is its own: its rate, its share of the queue, its count of what
//! was dropped. About 150 bytes; no file and no buffer.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use super::rate::Rate;
use crate::name::folder_name;

/// Bytes of all lines that wait for the writer.
const QUEUE_BYTES: usize = 8 << 20;
/// Bytes of one speaker's.
const SHARE_BYTES: usize = 1 << 20;
/// Bytes that every speaker may have there, whatever others do: enough for the longest line.
const RESERVED_BYTES: usize = COUNTED_BYTES + LINE_BYTES;
/// What a line that waits occupies besides its text.
const LINE_BYTES: usize = 200;
/// A line costs one token for each of these.
const TOKEN_BYTES: usize = 1024;
/// Longest text that counts: longer ones are cut.
const COUNTED_BYTES: usize = super::line::MAX_TEXT_BYTES;

/// See the module's documentation.
pub struct Speaker {
    name: Option<Arc<str>>,
    is_audit: bool,
    /// States of its rates: for what it says itself, and for what is said about it, which a flood of its own must not drown.
    own: AtomicU64,
    about: AtomicU64,
    queued: AtomicUsize,
    /// True from a drop until it is written down.
    has_dropped: AtomicBool,
    /// Not yet written down.
    pending: [AtomicU64; 3],
    /// Since the start.
    total: [AtomicU64; 3],
}

/// Why a line was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// More than the rate.
    Rate = 0,
    /// The queue to the writer was full.
    Queue = 1,
    /// The disk did not take it.
    Disk = 2,
}

/// Lines that were dropped, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// More than the rate.
    pub rate: u64,
    /// The queue to the writer was full.
    pub queue: u64,
    /// The disk did not take them.
    pub disk: u64,
}

impl Dropped {
    /// All of them.
    pub fn sum(&self) -> u64 {
        self.rate + self.queue + self.disk
    }
}

/// What a speaker would like to say, before it is put into words.
pub struct Offer {
    is_own: bool,
    cost: u32,
    /// What it would occupy while it waits.
    pub(super) bytes: usize,
}

impl Offer {
    /// Words of the module itself.
    pub fn of_module(text_bytes: usize) -> Offer {
        Offer::new(true, text_bytes)
    }

    /// What the runtime says, about a module or itself.
    pub fn of_runtime(text_bytes: usize) -> Offer {
        Offer::new(false, text_bytes)
    }

    fn new(is_own: bool, text_bytes: usize) -> Offer {
        let counted = text_bytes.min(COUNTED_BYTES);
        Offer { is_own, cost: 1 + (counted / TOKEN_BYTES) as u32, bytes: counted + LINE_BYTES }
    }
}

/// What speakers share: the rate, and the room in the queue.
pub(super) struct Turn {
    rate: Rate,
    /// Lines a second.
    pub(super) lines_per_sec: u32,
    began: Instant,
    queued: AtomicUsize,
}

impl Turn {
    pub(super) fn new(lines_per_sec: u32, burst: u32, began: Instant) -> Turn {
        Turn { rate: Rate::new(lines_per_sec, burst), lines_per_sec, began, queued: AtomicUsize::new(0) }
    }
}

impl Speaker {
    pub(super) fn runtime() -> Speaker {
        Speaker::new(None)
    }

    pub(super) fn module(name: Arc<str>) -> Speaker {
        Speaker::new(Some(name))
    }

    pub(super) fn audit() -> Speaker {
        Speaker { is_audit: true, ..Speaker::new(None) }
    }

    fn new(name: Option<Arc<str>>) -> Speaker {
        Speaker {
            name,
            is_audit: false,
            own: AtomicU64::new(0),
            about: AtomicU64::new(0),
            queued: AtomicUsize::new(0),
            has_dropped: AtomicBool::new(false),
            pending: Default::default(),
            total: Default::default(),
        }
    }

    /// Name of the instance; `None` for the runtime.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// True for the record of who did what.
    pub fn is_audit(&self) -> bool {
        self.is_audit
    }

    /// Its file without the ending, in the folder of the log.
    pub(super) fn file_stem(&self) -> PathBuf {
        match &self.name {
            None if self.is_audit => PathBuf::from("audit"),
            None => PathBuf::from("runtime"),
            Some(name) => PathBuf::from("modules").join(folder_name(name)),
        }
    }

    /// Takes a turn, or counts the line as dropped: then whether the writer has yet to be told.
    pub(super) fn admit(&self, turn: &Turn, offer: &Offer, now: Instant) -> Result<(), bool> {
        let state = if offer.is_own { &self.own } else { &self.about };
        let now = now.saturating_duration_since(turn.began);
        let take = |state| turn.rate.take(state, offer.cost, now);
        // What is done is as many lines as it is; the way in bounds those about what is refused.
        if !self.is_audit && state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
            return Err(self.drop_lines(Reason::Rate, 1));
        }
        // The more are flooding, the less each may take; and whoever comes next always finds room.
        let free = QUEUE_BYTES.saturating_sub(turn.queued.load(Ordering::Relaxed));
        let share = RESERVED_BYTES.max(SHARE_BYTES.min(free / 2));
        if self.queued.load(Ordering::Relaxed) + offer.bytes > share {
            return Err(self.drop_lines(Reason::Queue, 1));
        }
        turn.queued.fetch_add(offer.bytes, Ordering::Relaxed);
        self.queued.fetch_add(offer.bytes, Ordering::Relaxed);
        Ok(())
    }

    /// The writer has a line in its hands.
    pub(super) fn give_back(&self, turn: &Turn, bytes: usize) {
        turn.queued.fetch_sub(bytes, Ordering::Relaxed);
        self.queued.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Counts dropped lines; true if these are the first since the last time that they were written down.
    pub(super) fn drop_lines(&self, reason: Reason, count: u64) -> bool {
        self.pending[reason as usize].fetch_add(count, Ordering::Relaxed);
        self.total[reason as usize].fetch_add(count, Ordering::Relaxed);
        !self.has_dropped.swap(true, Ordering::AcqRel)
    }

    /// What was dropped since the last call.
    pub(super) fn take_dropped(&self) -> Dropped {
        // First, so that a drop that comes meanwhile is told again rather than forgotten.
        self.has_dropped.store(false, Ordering::Release);
        let [rate, queue, disk] = [0, 1, 2].map(|reason| self.pending[reason].swap(0, Ordering::AcqRel));
        Dropped { rate, queue, disk }
    }

    /// What was dropped since the runtime started.
    pub fn dropped(&self) -> Dropped {
        let [rate, queue, disk] = [0, 1, 2].map(|reason| self.total[reason].load(Ordering::Relaxed));
        Dropped { rate, queue, disk }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flooder_leaves_room_for_everybody_else() {
        let began = crate::clock::now();
        let turn = Turn::new(u32::MAX, u32::MAX, began);
        let flooders: Vec<Speaker> = (0..100).map(|n| Speaker::module(n.to_string().into())).collect();
        for flooder in &flooders {
            while flooder.admit(&turn, &Offer::of_module(4000), began + Duration::from_secs(1)).is_ok() {}
        }
        assert!(turn.queued.load(Ordering::Relaxed) < QUEUE_BYTES + 100 * RESERVED_BYTES);
        let quiet = Speaker::module("quiet".into());
        assert!(quiet.admit(&turn, &Offer::of_module(4000), began).is_ok());
    }

    #[test]
    fn what_is_said_about_a_module_is_not_drowned_by_what_it_says() {
        let began = crate::clock::now();
        let turn = Turn::new(10, 10, began);
        let speaker = Speaker::module("m".into());
        while speaker.admit(&turn, &Offer::of_module(1), began).is_ok() {}
        assert!(speaker.admit(&turn, &Offer::of_runtime(1), began).is_ok());
        assert_eq!(speaker.take_dropped(), Dropped { rate: 1, queue: 0, disk: 0 });
        assert_eq!(speaker.take_dropped(), Dropped::default());
        assert_eq!(speaker.dropped().sum(), 1);
    }
}
