//! Where a file was when it was opened, and whether it still is there.
//!
//! A deleted file takes commits as before, and they are gone with the last handle. So whoever commits looks first: what is not
//! at its path any more must not be acknowledged. The file that is moved back is the same one, and all goes on.
//!
//! Nothing is looked at where an open file cannot be deleted (Windows).

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::recovery::beside;
use super::{File, StoreError};

/// One of the two files with its write-ahead log.
pub(super) struct Place {
    file: File,
    path: PathBuf,
    log: PathBuf,
    opened: [Option<Mark>; 2],
    is_missed: AtomicBool,
}

/// Device and inode.
type Mark = (u64, u64);

impl Place {
    /// Of a file that has just been opened: its log is there as well.
    pub fn of(folder: &Path, file: File) -> Place {
        let path = folder.join(file.name());
        let log = beside(&path, "-wal");
        let opened = [mark(&path).flatten(), mark(&log).flatten()];
        Place { file, path, log, opened, is_missed: AtomicBool::new(false) }
    }

    /// Which file.
    pub fn file(&self) -> File {
        self.file
    }

    /// Whether both are what was opened; says it once when that changes. `[any thread]`, about a microsecond.
    pub fn look(&self) -> Result<(), StoreError> {
        let found = self.find();
        match (self.is_missed.swap(found.is_err(), Ordering::Relaxed), &found) {
            (false, Err(gone)) => {
                tracing::error!("{gone}, so nothing is stored in it; {}", gone.hint().unwrap_or_default());
            }
            (true, Ok(())) => tracing::info!("{} is back and is written again", self.file),
            _ => {}
        }
        found
    }

    fn find(&self) -> Result<(), StoreError> {
        for ((path, opened), is_log) in [&self.path, &self.log].into_iter().zip(self.opened).zip([false, true]) {
            if opened.is_some() && mark(path).is_some_and(|found| found != opened) {
                return Err(StoreError::Gone { file: self.file, is_log });
            }
        }
        Ok(())
    }
}

/// What is at a path, `Some(None)`: nothing. `None` where that cannot be said: SQLite will say what is wrong with the disk.
///
/// Asks for nothing else: once somebody has asked for the times of a file, Linux makes each write after that a new time, and the sync
/// writes it to the disk too (measured: 80 us for each commit).
#[cfg(target_os = "linux")]
fn mark(path: &Path) -> Option<Option<Mark>> {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
    use rustix::io::Errno;
    match statx(CWD, path, AtFlags::empty(), StatxFlags::INO) {
        Ok(found) => {
            let device = u64::from(found.stx_dev_major) << 32 | u64::from(found.stx_dev_minor);
            Some(Some((device, found.stx_ino)))
        }
        Err(Errno::NOENT | Errno::NOTDIR) => Some(None),
        Err(_) => None,
    }
}

#[cfg(all(unix, not(target_os = "linux")))]
fn mark(path: &Path) -> Option<Option<Mark>> {
    use std::io::ErrorKind;
    use std::os::unix::fs::MetadataExt;
    match std::fs::metadata(path) {
        Ok(found) => Some(Some((found.dev(), found.ino()))),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Some(None),
        Err(_) => None,
    }
}

#[cfg(not(unix))]
fn mark(_: &Path) -> Option<Option<Mark>> {
    None
}
