//! What the writer does for its files between commits: folds write-ahead logs into them, gives space back, looks after the room
//! that is left, and counts what is written to the disk.
//!
//! All of it happens after those who waited for a commit have been told, and in steps of a few milliseconds.

use std::ffi::c_int;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::hooks::Wal;

use super::ballast::Ballast;
use super::place::Place;
use super::room::{Look, Room, Shares, Shortage, shortage, wanted};
use super::vacuum::{Pages, Vacuum};
use super::{Figures, File, StoreError, disk_space};

/// Frames of a log at which it is folded into its file: 4 MiB.
const FOLD_FRAMES: u64 = 1000;
/// Further frames after which that is tried again while a reader keeps the log in use.
const FOLD_AGAIN_FRAMES: u64 = 250;
const PAGE_BYTES: u64 = 4096;
const FRAME_BYTES: u64 = PAGE_BYTES + 24;

/// Between two looks at the disk while there is work, or while something is short.
const BUSY_LOOK: Duration = Duration::from_secs(1);
/// The same while nobody has work: others fill disks too.
const IDLE_LOOK: Duration = Duration::from_secs(30);

/// See the module's documentation.
pub(super) struct Upkeep {
    folder: PathBuf,
    room: Arc<Room>,
    figures: Arc<Figures>,
    places: Arc<[Place; 2]>,
    ballast: Ballast,
    reserve: Ballast,
    /// It was not tried yet since the start, which alone takes of it.
    is_reserve_due: bool,
    logs: [Log; 2],
    /// Frames of the logs after the last commit; 0: there was none since this was read.
    frames: [Arc<AtomicU64>; 2],
    vacuum: Vacuum,
    last_look: Option<Instant>,
    has_worked: bool,
    /// Bounds of the files that are in force.
    max_pages: [u64; 2],
    has_complained: bool,
}

/// A write-ahead log, in frames.
#[derive(Debug, Clone, Copy, Default)]
struct Log {
    frames: u64,
    is_folded: bool,
    fold_at: u64,
}

impl Upkeep {
    pub fn new(folder: &Path, room: Arc<Room>, figures: Arc<Figures>, places: Arc<[Place; 2]>) -> Upkeep {
        let ballast = Ballast::find(folder);
        room.set_ballast(ballast.bytes());
        Upkeep {
            folder: folder.to_owned(),
            room,
            figures,
            places,
            ballast,
            reserve: Ballast::of_the_start(folder),
            is_reserve_due: true,
            logs: [Log { fold_at: FOLD_FRAMES, ..Log::default() }; 2],
            frames: Default::default(),
            vacuum: Vacuum::default(),
            last_look: None,
            has_worked: false,
            max_pages: [0; 2],
            has_complained: false,
        }
    }

    /// Begins to count what is written through a connection.
    pub fn watch(&self, conn: &mut Connection, file: File) -> rusqlite::Result<()> {
        let frames = self.frames[file as usize].clone();
        conn.wal_hook(Some(move |_: &mut Wal, in_log: c_int| {
            frames.store(u64::try_from(in_log).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        }))
    }

    /// When [`Upkeep::rest`] is due if nobody has work until then.
    pub fn wakes_at(&self) -> Instant {
        let Some(last) = self.last_look else { return crate::clock::now() };
        let is_watchful = self.has_worked || self.room.shortage().is_some();
        let look = last + if is_watchful { BUSY_LOOK } else { IDLE_LOOK };
        self.vacuum.wakes_at().map_or(look, |at| at.min(look))
    }

    /// Nobody has work.
    pub fn rest(&mut self, conns: &[Connection; 2], now: Instant) {
        if !self.vacuum.is_due(now, true) || self.last_look.is_none_or(|last| now >= last + BUSY_LOOK) {
            self.has_worked = false;
            self.look(conns, now);
        }
        self.give_space_back(conns, now, true);
    }

    /// Whether [`Upkeep::after_group`] has anything to do, while others have work.
    pub fn is_due(&self, now: Instant) -> bool {
        self.logs.iter().any(|log| log.frames >= log.fold_at)
            || self.last_look.is_none_or(|last| now >= last + BUSY_LOOK)
            || self.vacuum.is_due(now, false)
    }

    /// A group is committed, and whoever waited for it has been told.
    pub fn after_group(&mut self, conns: &[Connection; 2], now: Instant, is_idle: bool) {
        self.has_worked = true;
        for (file, conn) in File::ALL.into_iter().zip(conns) {
            let log = self.logs[file as usize];
            if log.frames >= log.fold_at {
                self.fold(conn, file, "PRAGMA wal_checkpoint(PASSIVE)");
            }
        }
        if self.last_look.is_none_or(|last| now >= last + BUSY_LOOK) {
            self.look(conns, now);
        }
        self.give_space_back(conns, now, is_idle);
    }

    /// Counts what commits wrote.
    pub fn committed(&mut self, file: File) {
        let frames = self.frames[file as usize].swap(0, Ordering::Relaxed);
        if frames == 0 {
            return;
        }
        let log = &mut self.logs[file as usize];
        // A log that has been folded is written from its beginning again.
        let fresh =
            if frames < log.frames || log.is_folded && frames <= log.frames { frames } else { frames - log.frames };
        if fresh > 0 && frames < log.frames {
            log.fold_at = FOLD_FRAMES;
        }
        log.is_folded &= fresh == 0;
        log.frames = frames;
        self.figures.logged(file, fresh * FRAME_BYTES);
    }

    /// A change found no room. True when there is some now and it is worth another try.
    pub fn on_full(&mut self, conn: &Connection, file: File) -> bool {
        let Some((free, size)) = disk_space(&self.folder) else { return false };
        let shares = Shares::of(size);
        if free >= shares.low_water {
            // The file is at its bound, not the disk: unless there is more room since the last look.
            if file == File::Main {
                return self.limit(conn, file, size / 2 / PAGE_BYTES);
            }
            let Ok(pages) = Pages::of(conn) else { return false };
            let look = self.found(pages);
            if look.bound() > look.file && self.limit(conn, file, look.bound() / PAGE_BYTES) {
                return true;
            }
            let found = shortage(look, true).unwrap_or(match look.bound() < look.wanted {
                true => Shortage::Disk { free, low_water: shares.low_water },
                false => Shortage::File { bytes: look.file },
            });
            self.room.note(Some(found));
            return false;
        }
        self.room.note(Some(Shortage::Disk { free, low_water: shares.low_water }));
        if self.ballast.bytes() == 0 {
            // A log that is folded is written from its beginning again, in the room that it has: enough for removals.
            self.fold(conn, file, "PRAGMA wal_checkpoint(PASSIVE)");
            return self.logs[file as usize].is_folded;
        }
        if file == File::Queue {
            // The room is not for more messages: only what fits into its pages, such as removals.
            self.limit(conn, file, 1);
        }
        tracing::warn!(
            bytes = self.ballast.bytes(),
            "the disk is full: the ballast is given up, so that removals can go on"
        );
        self.ballast.give_up();
        self.room.set_ballast(self.ballast.bytes());
        // Before anything else takes the room: a log that cannot be folded only grows.
        self.fold(conn, file, "PRAGMA wal_checkpoint(PASSIVE)");
        true
    }

    /// What there is to say of the room, with the queue's file of so many pages.
    fn found(&self, pages: Pages) -> Look {
        let (file, spare) = (pages.all * PAGE_BYTES, pages.spare * PAGE_BYTES);
        let disk = disk_space(&self.folder);
        // Pages that are in the log only come into the file yet.
        let on_disk = std::fs::metadata(self.folder.join(File::Queue.name())).map_or(file, |found| found.len());
        let free = disk.map(|(free, _)| free.saturating_sub(file.saturating_sub(on_disk)));
        let shares = Shares::of(disk.map_or(u64::MAX, |(_, size)| size));
        Look { free, shares, file, spare, wanted: wanted(self.room.budget()) }
    }

    /// Looks at the room that is left.
    fn look(&mut self, conns: &[Connection; 2], now: Instant) {
        self.last_look = Some(now);
        self.look_for_files(conns);
        let (main, queue) = (&conns[File::Main as usize], &conns[File::Queue as usize]);
        let Ok(pages) = Pages::of(queue) else { return };
        self.vacuum.look(pages, now);
        let look = self.found(pages);
        let Look { free, shares, .. } = look;
        // Twins are few: what goes beyond half of the disk is no twin any more.
        let size = disk_space(&self.folder).map_or(u64::MAX, |(_, size)| size);
        self.limit(main, File::Main, size / 2 / PAGE_BYTES);
        self.limit(queue, File::Queue, look.bound() / PAGE_BYTES);
        let was = self.room.shortage().is_some();
        self.room.note(shortage(look, was));
        if was {
            // It may have found no room the last time.
            self.fold(queue, File::Queue, "PRAGMA wal_checkpoint(PASSIVE)");
        }
        if let Some(free) = free {
            self.make_ballast(free, shares);
        }
    }

    /// A file that nobody writes may be missed as well.
    fn look_for_files(&mut self, conns: &[Connection; 2]) {
        for (file, conn) in File::ALL.into_iter().zip(conns) {
            if let Err(StoreError::Gone { is_log: true, .. }) = self.places[file as usize].look() {
                self.rescue(conn, file);
            }
        }
    }

    /// The log is not at its path any more: what it holds is put into the file, as long as it can be read.
    pub fn rescue(&mut self, conn: &Connection, file: File) {
        if !self.logs[file as usize].is_folded {
            self.fold(conn, file, "PRAGMA wal_checkpoint(PASSIVE)");
        }
    }

    /// Makes what was given up, once there is room. The reserve first: it is small.
    fn make_ballast(&mut self, free: u64, shares: Shares) {
        if shares.makes_ballast(free) && std::mem::take(&mut self.is_reserve_due) {
            self.reserve.grow_reserve(shares.ballast);
        }
        if self.ballast.bytes() == 0 && shares.makes_ballast(free) {
            match self.ballast.make(shares.ballast) {
                Ok(()) => self.has_complained = false,
                Err(error) if !self.has_complained => {
                    self.has_complained = true;
                    tracing::warn!("the ballast cannot be made: {error}; on a full disk nothing can be removed then");
                }
                Err(_) => {}
            }
            self.room.set_ballast(self.ballast.bytes());
        }
    }

    /// The files are closed. The room that their logs had is kept for the next start: others fill disks too.
    pub fn end(mut self) {
        if let Some((_, size)) = disk_space(&self.folder) {
            self.reserve.grow_reserve(Shares::of(size).ballast);
        }
    }

    /// Lets a file grow to so many pages at most; it stays as it is where it has more. True where that is another bound.
    fn limit(&mut self, conn: &Connection, file: File, pages: u64) -> bool {
        let in_force = &mut self.max_pages[file as usize];
        if *in_force == pages {
            return false;
        }
        *in_force = pages;
        let pages = u32::try_from(pages).unwrap_or(u32::MAX - 1).clamp(1, u32::MAX - 1);
        let _ = conn.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()));
        true
    }

    fn give_space_back(&mut self, conns: &[Connection; 2], now: Instant, is_idle: bool) {
        if !self.vacuum.is_due(now, is_idle) {
            return;
        }
        let queue = &conns[File::Queue as usize];
        match self.vacuum.step(queue, now) {
            Ok(is_over) => {
                self.committed(File::Queue);
                if is_over {
                    self.fold(queue, File::Queue, "PRAGMA wal_checkpoint(TRUNCATE)");
                    tracing::debug!("the space of messages that are gone is given back");
                } else if self.logs[File::Queue as usize].frames >= FOLD_FRAMES {
                    self.fold(queue, File::Queue, "PRAGMA wal_checkpoint(PASSIVE)");
                }
            }
            Err(error) => tracing::warn!("the space of messages that are gone is not given back: {error}"),
        }
    }

    /// Folds a log into its file, as far as no reader needs it.
    fn fold(&mut self, conn: &Connection, file: File, how: &str) {
        let before = written_by_this_thread();
        // It must not wait for readers: what is left is folded the next time.
        let _ = conn.busy_timeout(Duration::ZERO);
        let folded = checkpoint(conn, how);
        let _ = conn.busy_timeout(super::open::BUSY);
        let log = &mut self.logs[file as usize];
        let Ok((_, frames, done)) = folded else {
            log.fold_at = log.frames + FOLD_AGAIN_FRAMES;
            return;
        };
        log.is_folded = frames == done;
        log.fold_at = if log.is_folded { FOLD_FRAMES.max(frames + 1) } else { frames + FOLD_AGAIN_FRAMES };
        log.frames = frames;
        let exactly = before.zip(written_by_this_thread()).map(|(before, after)| after.saturating_sub(before));
        self.figures.folded(file, exactly.unwrap_or(done * PAGE_BYTES));
    }
}

/// Whether it was busy, frames in the log, and frames of them that are in the file.
fn checkpoint(conn: &Connection, pragma: &str) -> rusqlite::Result<(bool, u64, u64)> {
    let count = |n: i64| u64::try_from(n).unwrap_or(0);
    conn.prepare_cached(pragma)?.query_row([], |row| Ok((row.get(0)?, count(row.get(1)?), count(row.get(2)?))))
}

/// Bytes that this thread has handed to the system; `None` where it does not count.
fn written_by_this_thread() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/io").ok()?;
    text.lines().find_map(|line| line.strip_prefix("wchar: "))?.trim().parse().ok()
}
