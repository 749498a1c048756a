//! Opens both files at the start, also where the disk is full.
//!
//! SQLite needs room beside a file to open it: for the index of the log, and for the log. On a full disk the ballast is given up
//! for that, and where an earlier run has done so, some of the reserve of the start.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::ballast::{Ballast, START_BYTES};
use super::{DatabaseError, File, migrate, recovery};

/// Opens both files; `found` gets what others should know of it.
pub(super) fn open_files(folder: &Path, found: &mut recovery::Found) -> Result<[Connection; 2], DatabaseError> {
    let mut opened = try_to_open(folder, found);
    while let Err(DatabaseError::Full { .. }) = opened
        && make_room(folder)
    {
        opened = try_to_open(folder, found);
    }
    opened
}

/// Gives up what is left of what was held back; true when that was something.
fn make_room(folder: &Path) -> bool {
    let mut ballast = Ballast::find(folder);
    if ballast.bytes() > 0 {
        tracing::warn!(bytes = ballast.bytes(), "the disk is full: the ballast is given up for the start");
        ballast.give_up();
        return ballast.bytes() == 0;
    }
    let mut reserve = Ballast::of_the_start(folder);
    let had = reserve.bytes();
    reserve.shrink(START_BYTES);
    if reserve.bytes() < had {
        tracing::warn!(left = reserve.bytes(), "the disk is full: the start takes of its reserve");
    }
    reserve.bytes() < had
}

fn try_to_open(folder: &Path, found: &mut recovery::Found) -> Result<[Connection; 2], DatabaseError> {
    let main = folder.join(File::Main.name());
    let queue = folder.join(File::Queue.name());
    let suspect = suspect_marker(folder);
    let were_there = (main.exists(), queue.exists());
    let conns = [
        recovery::open_sound(&main, File::Main, true, migrate::steps(File::Main), found)?,
        recovery::open_sound(&queue, File::Queue, suspect.exists(), migrate::steps(File::Queue), found)?,
    ];
    recovery::note_missing(were_there, &conns[0], found);
    let _ = std::fs::remove_file(&suspect);
    Ok(conns)
}

/// The file that has the next start look for damage in the queue.
pub(super) fn suspect_marker(folder: &Path) -> PathBuf {
    folder.join("queue.db.suspect")
}
