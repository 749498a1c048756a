//! The ballast: a file that holds room and nothing else. It is given up when the disk is full, so that removals and checkpoints,
//! which need some, can go on, and is made again once there is room.
//!
//! The reserve of the start is a second, small one: only a start that finds the disk full and the ballast gone takes of it, no more
//! than it needs, so that the next one finds some as well.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Bytes of the reserve of the start at most.
const LARGEST_RESERVE: u64 = 1 << 20;
/// What a start takes of it at a time: two indexes of 32 KiB, and two logs with some commits before they are folded.
pub(super) const START_BYTES: u64 = 128 << 10;

/// See the module's documentation.
pub(super) struct Ballast {
    path: PathBuf,
    bytes: u64,
}

impl Ballast {
    /// What a former run left.
    pub fn find(folder: &Path) -> Ballast {
        Ballast::at(folder.join("ballast"))
    }

    /// The reserve of the start, likewise.
    pub fn of_the_start(folder: &Path) -> Ballast {
        Ballast::at(folder.join("ballast-start"))
    }

    fn at(path: PathBuf) -> Ballast {
        let bytes = fs::metadata(&path).map_or(0, |found| found.len());
        Ballast { path, bytes }
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes it so large; half of one is worse than none.
    pub fn make(&mut self, bytes: u64) -> io::Result<()> {
        let made = private().truncate(true).open(&self.path).and_then(|mut file| allocate(&mut file, bytes));
        match made {
            Ok(()) => self.bytes = bytes,
            Err(_) => self.give_up(),
        }
        made
    }

    /// Makes the reserve of the start as large as it may be beside such a ballast, or as there is room.
    pub fn grow_reserve(&mut self, ballast: u64) {
        let bytes = ballast.min(LARGEST_RESERVE);
        if self.bytes < bytes {
            // What it has stays its own meanwhile, and what fits of the rest is worth having.
            let _ = private().open(&self.path).and_then(|mut file| allocate(&mut file, bytes));
            self.bytes = fs::metadata(&self.path).map_or(0, |found| found.len());
        }
    }

    /// Frees so much of what it holds, or all.
    pub fn shrink(&mut self, bytes: u64) {
        if self.bytes <= bytes {
            return self.give_up();
        }
        let left = self.bytes - bytes;
        if OpenOptions::new().write(true).open(&self.path).and_then(|file| file.set_len(left)).is_ok() {
            self.bytes = left;
        }
    }

    /// Frees what it holds.
    pub fn give_up(&mut self) {
        if fs::remove_file(&self.path).is_ok() || !self.path.exists() {
            self.bytes = 0;
        }
    }
}

/// Opens or creates what its owner alone may read.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// A length alone would hold nothing: blocks are asked for, or written where the file system cannot be asked.
fn allocate(file: &mut File, bytes: u64) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    if rustix::fs::fallocate(&*file, rustix::fs::FallocateFlags::empty(), 0, bytes).is_ok() {
        return Ok(());
    }
    let block = vec![0; 64 << 10];
    let mut left = bytes;
    while left > 0 {
        let now = left.min(block.len() as u64);
        file.write_all(&block[..usize::try_from(now).unwrap_or(block.len())])?;
        left -= now;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserve_of_the_start_grows_back_and_is_never_larger_than_a_ballast() {
        let folder = tempfile::tempdir().unwrap();
        let mut reserve = Ballast::of_the_start(folder.path());
        for (ballast, expected) in [(256 << 10, 256 << 10), (32 << 20, LARGEST_RESERVE), (256 << 10, LARGEST_RESERVE)] {
            reserve.grow_reserve(ballast);
            assert_eq!((reserve.bytes(), Ballast::of_the_start(folder.path()).bytes()), (expected, expected));
        }
        reserve.shrink(START_BYTES);
        assert_eq!(reserve.bytes(), LARGEST_RESERVE - START_BYTES);
        reserve.grow_reserve(32 << 20);
        assert_eq!(reserve.bytes(), LARGEST_RESERVE);
    }

    #[test]
    fn it_holds_room_over_runs_until_it_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let mut ballast = Ballast::find(folder.path());
        assert_eq!(ballast.bytes(), 0);

        ballast.make(300_000).unwrap();

        assert_eq!(Ballast::find(folder.path()).bytes(), 300_000);
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let held = fs::metadata(folder.path().join("ballast")).unwrap().blocks() * 512;
            assert!(held >= 300_000, "only {held} bytes are really held");
        }
        ballast.shrink(100_000);
        assert_eq!((ballast.bytes(), Ballast::find(folder.path()).bytes()), (200_000, 200_000));
        ballast.give_up();
        assert_eq!((ballast.bytes(), Ballast::find(folder.path()).bytes()), (0, 0));
    }
}
