//! The marker which says that numbers were given out that neither the book nor the spare file knows of: the next start finds it and
//! begins another epoch.
//!
//! It stands beside the book. Where that disk takes nothing any more, as when its file system has become read-only, it stands in memory
//! that outlives the process: there a death of the runtime is told, a power cut is not.

use std::fs::{Metadata, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Name of the file in the state directory.
pub(super) const NAME: &str = "sequences.behind";

#[derive(Clone)]
pub(super) struct Marker {
    folder: PathBuf,
    beside: PathBuf,
    elsewhere: PathBuf,
}

impl Marker {
    /// That of the state directory `folder`.
    pub fn of(folder: &Path) -> Marker {
        let full = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let hash = Sha256::digest(full.as_os_str().as_encoded_bytes());
        let hash: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let memory = Path::new("/dev/shm");
        let session = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let elsewhere = session.join(format!("dinrail-{hash}.{NAME}"));
        Marker { folder: folder.to_owned(), beside: folder.join(NAME), elsewhere }
    }

    /// Whether the last run set it.
    pub fn is_set(&self) -> bool {
        self.beside.exists() || self.is_elsewhere()
    }

    /// Sets it.
    ///
    /// # Errors
    /// It can stand nowhere.
    pub fn set(&self) -> io::Result<()> {
        std::fs::write(&self.beside, b"").or_else(|error| {
            tracing::error!("{} cannot be written: {error}", self.beside.display());
            if self.is_elsewhere() {
                return Ok(());
            }
            let mut options = OpenOptions::new();
            // Nothing that somebody else has put there is followed or taken.
            options.write(true).create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            options.open(&self.elsewhere).map(drop)
        })
    }

    /// Takes it away.
    ///
    /// # Errors
    /// It stays.
    pub fn clear(&self) -> io::Result<()> {
        if self.is_elsewhere() {
            std::fs::remove_file(&self.elsewhere)?;
        }
        match std::fs::remove_file(&self.beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Where others may write too, only what belongs to the owner of the state directory counts.
    fn is_elsewhere(&self) -> bool {
        let found = std::fs::symlink_metadata(&self.elsewhere).ok().filter(Metadata::is_file);
        found.is_some_and(|found| std::fs::metadata(&self.folder).is_ok_and(|folder| has_same_owner(&found, &folder)))
    }
}

#[cfg(unix)]
fn has_same_owner(one: &Metadata, other: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    one.uid() == other.uid()
}

#[cfg(not(unix))]
fn has_same_owner(_: &Metadata, _: &Metadata) -> bool {
    true
}
