//! The ballast: a file that holds room and nothing else. It is given up when the disk is full, so that removals and checkpoints,
//! which need some, can go on, and is made again once there is room.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// See the module's documentation.
pub(super) struct Ballast {
    path: PathBuf,
    bytes: u64,
}

impl Ballast {
    /// What a former run left.
    pub fn find(folder: &Path) -> Ballast {
        let path = folder.join("ballast");
        let bytes = fs::metadata(&path).map_or(0, |found| found.len());
        Ballast { path, bytes }
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes it so large; half of one is worse than none.
    pub fn make(&mut self, bytes: u64) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let made = options.open(&self.path).and_then(|mut file| allocate(&mut file, bytes));
        match made {
            Ok(()) => self.bytes = bytes,
            Err(_) => self.give_up(),
        }
        made
    }

    /// Frees what it holds.
    pub fn give_up(&mut self) {
        if fs::remove_file(&self.path).is_ok() || !self.path.exists() {
            self.bytes = 0;
        }
    }
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
        ballast.give_up();
        assert_eq!((ballast.bytes(), Ballast::find(folder.path()).bytes()), (0, 0));
    }
}
