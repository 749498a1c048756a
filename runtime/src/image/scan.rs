//! One look at a watched folder, and what follows from it for each file: complete, still growing, or known already.
//!
//! ```text
//!             closed or renamed in, or old at first sight
//!   (unseen) ────────────────────────────────────────────► take ──► Handled ──stamp changed──► (unseen)
//!      │                                                    ▲  └──► Retry (trouble not in the file) ──later──► take
//!      └── else ──► Settling ──same stamp when ready────────┘
//!                     ▲  └── stamp changed: look again later
//!                     └───── refused, but it may be unfinished
//! ```

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::reference::is_library_name;
use super::{Defect, Refusal};

/// How patient the watcher is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    /// Between the two looks that make a file complete.
    pub look_gap: Duration,
    /// A file whose last change is older is complete at first sight.
    pub old_enough: Duration,
    /// A file that looks unfinished and was not seen to be closed is refused only when it has been still for so long.
    pub unfinished_grace: Duration,
    /// Between two looks at a folder where nothing seems to happen.
    pub rescan_every: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            look_gap: Duration::from_secs(1),
            old_enough: Duration::from_secs(2),
            unfinished_grace: Duration::from_secs(10),
            rescan_every: Duration::from_secs(10),
        }
    }
}

/// Tells one state of a file from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
    inode: u64,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Stamp {
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Stamp { bytes: metadata.len(), modified: metadata.modified().ok(), inode }
    }

    /// Time since the last change; zero where the file claims to come from the future.
    pub fn age(&self, wall_us: i64) -> Duration {
        let since = self.modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified_us = since.and_then(|since| i64::try_from(since.as_micros()).ok()).unwrap_or(i64::MAX);
        Duration::from_micros(u64::try_from(wall_us.saturating_sub(modified_us)).unwrap_or(0))
    }
}

/// A file that may be a library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Folder and name.
    pub file: PathBuf,
    /// What to open: the target, where `file` is a link within its folder.
    pub open: PathBuf,
    /// Its state.
    pub stamp: Stamp,
    /// A link that is not followed.
    pub refused: Option<Refusal>,
}

/// The candidates in `folder`, the oldest first, so that of several the last to arrive counts as the last.
pub(super) fn list(folder: &Path) -> io::Result<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::new();
    for found in fs::read_dir(folder)? {
        let found = found?;
        if !found.file_name().to_str().is_some_and(is_candidate) {
            continue;
        }
        // It may be gone again by now.
        let Ok(metadata) = found.metadata() else { continue };
        let file = found.path();
        if metadata.is_dir() {
            let refusal = Refusal::new(Defect::Unreadable, "a folder, not a library", "put the library itself here");
            let stamp = Stamp { bytes: 0, modified: None, ..Stamp::of(&metadata) };
            entries.push(Entry { open: file.clone(), file, stamp, refused: Some(refusal) });
        } else if metadata.is_symlink() {
            entries.extend(follow(folder, file, &metadata));
        } else if metadata.is_file() {
            entries.push(Entry { open: file.clone(), file, stamp: Stamp::of(&metadata), refused: None });
        }
    }
    entries.sort_by(|a, b| (a.stamp.modified, &a.file).cmp(&(b.stamp.modified, &b.file)));
    Ok(entries)
}

/// Whether a file of this name is looked at.
pub(super) fn is_candidate(name: &str) -> bool {
    is_library_name(name) && !name.starts_with('.')
}

/// A link counts as its target if that lies in the same folder under a name that is not looked at by itself.
fn follow(folder: &Path, file: PathBuf, link: &Metadata) -> Option<Entry> {
    let refuse = |what: String| {
        let refusal = Refusal::new(Defect::Unreadable, what, "put the library itself here");
        Some(Entry { open: file.clone(), file: file.clone(), stamp: Stamp::of(link), refused: Some(refusal) })
    };
    let Ok(target) = fs::canonicalize(&file) else { return refuse("a link to nothing".to_owned()) };
    if target.parent() != fs::canonicalize(folder).ok().as_deref() {
        return refuse(format!("a link out of the watched folder, to {}", target.display()));
    }
    if target.file_name().and_then(|name| name.to_str()).is_some_and(is_candidate) {
        return None;
    }
    let metadata = fs::metadata(&target).ok().filter(Metadata::is_file)?;
    Some(Entry { stamp: Stamp::of(&metadata), open: target, file, refused: None })
}

/// What is known of a file from earlier looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Memory {
    /// Seen, perhaps not complete.
    Settling {
        /// Then.
        stamp: Stamp,
        /// When it was first seen like that.
        since: Instant,
        /// When to look again.
        ready_at: Instant,
    },
    /// Taken in or refused.
    Handled {
        /// Then.
        stamp: Stamp,
    },
    /// Not taken in for a reason that may pass.
    Retry {
        /// Then.
        stamp: Stamp,
        /// When to try again.
        at: Instant,
        /// What was said about it.
        told: String,
    },
}

/// What to do about a file now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Take it in.
    Take,
    /// Remember it, look again then.
    Settle(Instant),
    /// Look again then.
    Wait(Instant),
    /// It is as it was when it was handled.
    Nothing,
}

/// Decides about a file in the state `stamp`. `closed`: its writer was seen to close it, or it was renamed to its name.
pub(super) fn step(
    memory: Option<&Memory>,
    stamp: &Stamp,
    closed: bool,
    age: Duration,
    now: Instant,
    timing: &Timing,
) -> Step {
    let at = |then: Instant| if now >= then { Step::Take } else { Step::Wait(then) };
    match memory {
        Some(Memory::Handled { stamp: known }) if known == stamp => Step::Nothing,
        _ if closed => Step::Take,
        Some(Memory::Retry { stamp: known, at: then, .. }) if known == stamp => at(*then),
        Some(Memory::Settling { stamp: known, ready_at, .. }) if known == stamp => at(*ready_at),
        Some(Memory::Settling { .. }) => Step::Settle(now + timing.look_gap),
        _ if age >= timing.old_enough => Step::Take,
        _ => Step::Settle(now + timing.look_gap),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing = Timing {
        look_gap: Duration::from_secs(1),
        old_enough: Duration::from_secs(2),
        unfinished_grace: Duration::from_secs(10),
        rescan_every: Duration::from_secs(10),
    };
    const YOUNG: Duration = Duration::from_millis(10);
    const OLD: Duration = Duration::from_secs(3);

    fn stamp(bytes: u64) -> Stamp {
        Stamp { bytes, modified: Some(UNIX_EPOCH), inode: 1 }
    }

    #[test]
    fn growing_file_is_not_taken_before_two_equal_looks() {
        let start = crate::clock::now();
        let later = |ms| start + Duration::from_millis(ms);
        let settling = Memory::Settling { stamp: stamp(5), since: start, ready_at: later(1000) };

        assert_eq!(step(None, &stamp(5), false, YOUNG, start, &TIMING), Step::Settle(later(1000)));
        assert_eq!(step(Some(&settling), &stamp(5), false, YOUNG, later(400), &TIMING), Step::Wait(later(1000)));
        assert_eq!(step(Some(&settling), &stamp(6), false, OLD, later(1000), &TIMING), Step::Settle(later(2000)));
        assert_eq!(step(Some(&settling), &stamp(5), false, YOUNG, later(1000), &TIMING), Step::Take);
    }

    #[test]
    fn closed_or_old_file_is_taken_at_first_sight_and_once() {
        let now = crate::clock::now();
        let handled = Memory::Handled { stamp: stamp(5) };
        let settling = Memory::Settling { stamp: stamp(4), since: now, ready_at: now + TIMING.look_gap };

        assert_eq!(step(None, &stamp(5), false, OLD, now, &TIMING), Step::Take);
        assert_eq!(step(None, &stamp(5), true, YOUNG, now, &TIMING), Step::Take);
        assert_eq!(step(Some(&settling), &stamp(5), true, YOUNG, now, &TIMING), Step::Take);
        assert_eq!(step(Some(&handled), &stamp(5), true, YOUNG, now, &TIMING), Step::Nothing);
        assert_eq!(step(Some(&handled), &stamp(6), false, OLD, now, &TIMING), Step::Take);
        assert_eq!(step(Some(&handled), &stamp(6), false, YOUNG, now, &TIMING), Step::Settle(now + TIMING.look_gap));
    }

    #[test]
    fn trouble_that_may_pass_is_tried_again_at_its_time() {
        let now = crate::clock::now();
        let at = now + TIMING.rescan_every;
        let retry = Memory::Retry { stamp: stamp(5), at, told: String::new() };

        assert_eq!(step(Some(&retry), &stamp(5), false, OLD, now, &TIMING), Step::Wait(at));
        assert_eq!(step(Some(&retry), &stamp(5), false, OLD, at, &TIMING), Step::Take);
    }

    #[test]
    fn file_from_the_future_has_no_age() {
        let stamp = Stamp { modified: Some(UNIX_EPOCH + Duration::from_secs(100)), ..stamp(1) };

        assert_eq!(stamp.age(99_000_000), Duration::ZERO);
        assert_eq!(stamp.age(101_000_000), Duration::from_secs(1));
        assert_eq!(Stamp { modified: None, ..stamp }.age(1), Duration::ZERO);
    }

    #[test]
    fn only_complete_looking_names_are_candidates() {
        for name in ["x.so", "x.dll", "libx.dylib", "x-1.2.so"] {
            assert!(is_candidate(name), "{name}");
        }
        for name in [".x.so", ".so", "x.so.tmp", "x.so.part", "x.so.1", "x.txt", "x", ""] {
            assert!(!is_candidate(name), "{name}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn link_is_followed_only_within_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let watched = folder.path().join("drop");
        fs::create_dir(&watched).unwrap();
        fs::create_dir(watched.join("folder.so")).unwrap();
        for file in ["drop/b.so", "drop/c.so.1", "outside.so"] {
            fs::write(folder.path().join(file), "x").unwrap();
        }
        for (target, link) in
            [("b.so", "same.so"), ("c.so.1", "c.so"), ("../outside.so", "out.so"), ("none", "none.so")]
        {
            std::os::unix::fs::symlink(target, watched.join(link)).unwrap();
        }

        let mut found: Vec<(String, bool)> = list(&watched)
            .unwrap()
            .into_iter()
            .map(|entry| (entry.file.file_name().unwrap().to_str().unwrap().to_owned(), entry.refused.is_none()))
            .collect();
        found.sort();

        let expected = [("b.so", true), ("c.so", true), ("folder.so", false), ("none.so", false), ("out.so", false)];
        assert_eq!(found, expected.map(|(name, taken)| (name.to_owned(), taken)));
    }
}
