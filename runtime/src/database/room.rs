//! The room that is left, and who still gets some of it.
//!
//! ```text
//!            free < low water, or the queue's file at its bound, or the disk full
//!   Open ───────────────────────────────────────────────────────────────────────► Shut
//!    ▲            free >= low water and a half, the file below its bound            │
//!    └────────────────────────────────────────────────────────────────────────────┘
//! ```
//! While it is shut, durable messages are refused and say why; what makes room (deliveries, expiry) and what must survive (twins)
//! goes on. Behind the low water lies the ballast, a file that is given up when the disk is really full: a removal too needs room
//! in the write-ahead log.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Twice the largest write-ahead log, see `open`.
const LARGEST_BALLAST: u64 = 32 << 20;
const SMALLEST_BALLAST: u64 = 256 << 10;
/// What twins and removals have for themselves, besides the ballast.
const LARGEST_LOW_WATER: u64 = 64 << 20;
/// What a file needs at least besides the messages in it.
const OVERHEAD: u64 = 64 << 20;

/// How a disk of some size is shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// Bytes of the ballast.
    pub ballast: u64,
    /// With less free than this, the queue takes nothing more.
    pub low_water: u64,
}

impl Shares {
    /// Of a disk of so many bytes: a sixteenth each, with bounds.
    pub fn of(size: u64) -> Shares {
        let sixteenth = size / 16 / 4096 * 4096;
        Shares {
            ballast: sixteenth.clamp(SMALLEST_BALLAST, LARGEST_BALLAST),
            low_water: sixteenth.clamp(SMALLEST_BALLAST, LARGEST_LOW_WATER),
        }
    }

    /// Free bytes from which on there is room for the ballast.
    pub fn makes_ballast(self, free: u64) -> bool {
        free >= self.low_water + 2 * self.ballast
    }
}

/// Why nothing more is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    /// The disk has less free than the low water.
    Disk {
        /// Bytes that are free.
        free: u64,
        /// Bytes that are kept for twins and removals.
        low_water: u64,
    },
    /// The queue's file has reached its bound.
    File {
        /// Bytes of the file.
        bytes: u64,
    },
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shortage::Disk { free, low_water } => write!(
                f,
                "{free} bytes are free on the disk of the state directory, and the last {low_water} are kept for twins and \
                 for removals"
            ),
            Shortage::File { bytes } => write!(
                f,
                "queue.db has reached its bound of {bytes} bytes: many small messages take more room than their own bytes"
            ),
        }
    }
}

impl Shortage {
    /// What a person does.
    pub fn hint(self) -> &'static str {
        match self {
            Shortage::Disk { .. } => {
                "free some space on the disk of the state directory (old images: dinrail image list; other programs' files); \
                 it goes on by itself"
            }
            Shortage::File { .. } => {
                "let the receivers catch up, or raise storeAndForwardConfiguration.maxBytes; it goes on by itself"
            }
        }
    }
}

/// What was found at one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Free bytes of the disk, without those that the queue's file still grows by when its log is folded into it; `None` where
    /// the system does not tell.
    pub free: Option<u64>,
    /// Shares of the disk.
    pub shares: Shares,
    /// Bytes of the queue's file.
    pub file: u64,
    /// Of these, bytes in pages that hold nothing.
    pub spare: u64,
    /// Bytes that the file may have by its budget.
    pub wanted: u64,
}

/// Whether something is short after this look; `was`: whether something was before. What is shut opens only once there is clearly
/// more room, so that it does not flutter.
pub fn shortage(look: Look, was: bool) -> Option<Shortage> {
    let Look { free, shares, file, spare, wanted } = look;
    if let Some(free) = free {
        // The pages of the file that hold nothing are room as well.
        let needed = if was { shares.low_water + shares.low_water / 2 } else { shares.low_water };
        if free < shares.low_water || free + spare < needed {
            return Some(Shortage::Disk { free, low_water: shares.low_water });
        }
    }
    let used = file.saturating_sub(spare);
    let most = if was { wanted / 10 * 9 } else { wanted.saturating_sub(64 << 10) };
    (used > most).then_some(Shortage::File { bytes: file })
}

/// Bytes that the queue's file may have by its byte budget: twice that, since rows need more than their messages.
pub fn wanted(budget: u64) -> u64 {
    budget.saturating_mul(2).saturating_add(OVERHEAD)
}

impl Look {
    /// Bytes that the queue's file may have until the next look: never the last of the disk. What it grows by needs room twice, in
    /// the log and then in the file; without that the log could not be folded, and nothing could be removed any more.
    pub fn bound(self) -> u64 {
        let left = |free: u64| free.saturating_sub(self.shares.low_water) / 2;
        self.free.map_or(self.wanted, |free| self.wanted.min(self.file.saturating_add(left(free))))
    }
}

/// The room at present, for everybody who asks. `[any thread, never blocks]`
#[derive(Debug, Default)]
pub struct Room {
    is_shut: AtomicBool,
    shortage: Mutex<Option<Shortage>>,
    budget: AtomicU64,
    ballast: AtomicU64,
}

impl Room {
    /// Why nothing more is taken; `None` as a rule.
    pub fn shortage(&self) -> Option<Shortage> {
        if !self.is_shut.load(Ordering::Relaxed) {
            return None;
        }
        *self.shortage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says how many bytes of messages the queue may hold.
    pub fn set_budget(&self, bytes: u64) {
        self.budget.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn budget(&self) -> u64 {
        match self.budget.load(Ordering::Relaxed) {
            0 => u64::MAX / 4,
            bytes => bytes,
        }
    }

    /// Bytes of the ballast; 0 where it was given up, or there never was room.
    pub fn ballast(&self) -> u64 {
        self.ballast.load(Ordering::Relaxed)
    }

    pub(super) fn set_ballast(&self, bytes: u64) {
        self.ballast.store(bytes, Ordering::Relaxed);
    }

    /// Notes what a look found; says it once when it changes.
    pub(super) fn note(&self, found: Option<Shortage>) {
        *self.shortage.lock().unwrap_or_else(PoisonError::into_inner) = found;
        match (self.is_shut.swap(found.is_some(), Ordering::Relaxed), found) {
            (false, Some(shortage)) => {
                tracing::error!("the store takes no more messages: {shortage}; {}", shortage.hint());
            }
            (true, None) => tracing::info!("the store takes messages again"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn look(free: u64, file: u64, spare: u64) -> Look {
        Look { free: Some(free), shares: Shares::of(1 << 40), file, spare, wanted: 1000 * MIB }
    }

    #[test]
    fn the_last_of_the_disk_is_kept_and_the_bounds_do_not_flutter() {
        let table = [
            (look(200 * MIB, 0, 0), false, "open"),
            (look(63 * MIB, 0, 0), false, "disk"),
            (look(65 * MIB, 0, 0), false, "open"),
            (look(65 * MIB, 0, 0), true, "disk"),
            (look(97 * MIB, 0, 0), true, "open"),
            // Drained: its own file has room for more.
            (look(70 * MIB, 500 * MIB, 400 * MIB), true, "open"),
            (look(63 * MIB, 500 * MIB, 400 * MIB), false, "disk"),
            (look(200 * MIB, 1000 * MIB, 0), false, "file"),
            (look(200 * MIB, 990 * MIB, 0), false, "open"),
            (look(200 * MIB, 990 * MIB, 0), true, "file"),
            (look(200 * MIB, 1000 * MIB, 200 * MIB), true, "open"),
            (Look { free: None, ..look(0, 10, 0) }, false, "open"),
        ];
        for (look, was, expected) in table {
            let found = match shortage(look, was) {
                None => "open",
                Some(Shortage::Disk { .. }) => "disk",
                Some(Shortage::File { .. }) => "file",
            };
            assert_eq!(found, expected, "{look:?} {was}");
        }
    }

    #[test]
    fn the_file_may_have_what_its_messages_need_but_never_the_last_of_the_disk() {
        let shares = Shares::of(1 << 40);
        assert_eq!(shares, Shares { ballast: 32 * MIB, low_water: 64 * MIB });
        let bound = |file: u64, free: u64| Look { wanted: wanted(100 * MIB), ..look(free, file, 0) }.bound();
        assert_eq!(bound(0, 1 << 39), 264 * MIB);
        assert_eq!(bound(10 * MIB, 84 * MIB), 20 * MIB, "there is as much again for the log");
        assert_eq!(bound(10 * MIB, MIB), 10 * MIB);
        assert_eq!(Shares::of(48 * MIB), Shares { ballast: 3 * MIB, low_water: 3 * MIB });
        assert!(shares.makes_ballast(128 * MIB) && !shares.makes_ballast(127 * MIB));
    }

    #[test]
    fn a_shortage_is_seen_by_all_until_it_is_over() {
        let room = Room::default();
        assert_eq!(room.shortage(), None);
        let shortage = Shortage::Disk { free: 1, low_water: 2 };
        room.note(Some(shortage));
        assert_eq!(room.shortage(), Some(shortage));
        assert!(shortage.to_string().contains("1 bytes are free") && shortage.hint().contains("by itself"));
        room.note(None);
        assert_eq!(room.shortage(), None);
    }
}
