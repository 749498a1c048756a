//! What can go wrong with the two files, at the start and while they serve.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use super::{File, disk_space};

/// Why the databases of a state directory cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The file or its folder cannot be opened, read or written.
    #[error("{} cannot be opened: {cause}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: String,
    },
    /// No space left while the file was opened or migrated.
    #[error("{} cannot be written: the disk is full{}", path.display(), spoken(*free))]
    Full {
        /// The file.
        path: PathBuf,
        /// Bytes that are free on its disk, where the system tells.
        free: Option<u64>,
    },
    /// Written by a later release that this one cannot read.
    #[error("{} has format {found}, readable from format {min_reader} on; this dinrail knows format {known}", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The oldest format whose binaries may open it.
        min_reader: u32,
        /// The newest format of this binary.
        known: u32,
        /// A copy from before the migration, where there is one.
        copy: Option<PathBuf>,
    },
    /// A step to a newer format failed; the file is as it was.
    #[error("{} cannot be brought to format {to}: {cause}", path.display())]
    Migration {
        /// The file.
        path: PathBuf,
        /// The format that was to be reached.
        to: u32,
        /// What SQLite said.
        cause: String,
    },
    /// The writer's thread cannot be started.
    #[error("the database writer cannot be started: {cause}")]
    Thread {
        /// What the system said.
        cause: String,
    },
}

/// With less free, a file that could not be opened is not looked at for another reason: its log and the index of that did not fit.
const NO_ROOM: u64 = 1 << 20;

fn spoken(free: Option<u64>) -> String {
    free.map(|free| format!(", {free} bytes are free")).unwrap_or_default()
}

impl DatabaseError {
    pub(super) fn sql(path: &Path, error: &rusqlite::Error) -> DatabaseError {
        DatabaseError::no_room(path, error)
            .unwrap_or_else(|| DatabaseError::Open { path: path.to_owned(), cause: error.to_string() })
    }

    /// The error of a full disk, where that is what SQLite means: it calls it so only when it writes, and anything but that when
    /// it cannot make a file or let it grow.
    pub(super) fn no_room(path: &Path, error: &rusqlite::Error) -> Option<DatabaseError> {
        let full = DatabaseError::full(path);
        let is_full = match error.sqlite_error_code()? {
            ErrorCode::DiskFull => true,
            ErrorCode::SystemIoFailure | ErrorCode::CannotOpen => {
                matches!(full, DatabaseError::Full { free: Some(free), .. } if free < NO_ROOM)
            }
            _ => false,
        };
        is_full.then_some(full)
    }

    pub(super) fn io(path: &Path, error: &std::io::Error) -> DatabaseError {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => DatabaseError::full(path),
            _ => DatabaseError::Open { path: path.to_owned(), cause: error.to_string() },
        }
    }

    /// The disk of `path` is full.
    pub(crate) fn full(path: &Path) -> DatabaseError {
        let free = disk_space(path.parent().unwrap_or(path)).map(|(free, _)| free);
        DatabaseError::Full { path: path.to_owned(), free }
    }

    /// What a person does next.
    pub fn hint(&self) -> String {
        match self {
            DatabaseError::Open { path, .. } => format!(
                "the state directory must be a writable folder on a local disk, owned by who runs dinrail; look at {}",
                path.parent().unwrap_or(path).display()
            ),
            DatabaseError::Full { path, .. } => {
                format!(
                    "free some space on the disk of {}, some MiB at least, and start again",
                    path.parent().unwrap_or(path).display()
                )
            }
            DatabaseError::TooNew { path, copy: Some(copy), .. } => format!(
                "install the newer dinrail again, or go back to the state before its first start: move {} away and rename {} to {}",
                path.display(),
                copy.display(),
                path.display()
            ),
            DatabaseError::TooNew { path, copy: None, .. } => {
                format!("install the newer dinrail again, or move {} away to start empty", path.display())
            }
            DatabaseError::Migration { path, .. } => {
                format!(
                    "nothing was changed: go on with the dinrail used before, and report this with a copy of {}",
                    path.display()
                )
            }
            DatabaseError::Thread { .. } => {
                "look at the limits on threads and memory (ulimit -u, systemd TasksMax)".to_owned()
            }
        }
    }
}

/// Why something was not stored. Clone, because all changes of one commit share its fate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No space left, on the disk or in the file's budget. Reading goes on; the next write is tried anew.
    #[error("{0} cannot be written: the disk is full")]
    Full(File),
    /// The disk failed.
    #[error("{file} cannot be read or written: {cause}")]
    Io {
        /// The file.
        file: File,
        /// What SQLite said.
        cause: String,
    },
    /// The file is damaged; it is set aside and salvaged at the next start.
    #[error("{file} is damaged: {cause}")]
    Corrupt {
        /// The file.
        file: File,
        /// What SQLite said.
        cause: String,
    },
    /// The file, or its write-ahead log, was deleted or replaced while it was open. What is written to it would be lost.
    #[error("{file}{} was deleted or replaced while dinrail runs", if *is_log { "-wal" } else { "" })]
    Gone {
        /// The file.
        file: File,
        /// It is its write-ahead log only.
        is_log: bool,
    },
    /// The change builds on one that was not stored.
    #[error("not stored, since it builds on a change that was not stored")]
    Stale,
    /// SQLite refused this one change.
    #[error("{file} refused the change: {cause}")]
    Refused {
        /// The file.
        file: File,
        /// What SQLite said.
        cause: String,
    },
    /// The database is closed: the runtime ends.
    #[error("not stored, since the runtime is ending")]
    Closed,
    /// A blocking call from the writer's own thread, which would wait for itself.
    #[error("a completion must not wait for the database that runs it")]
    OnWriter,
}

impl StoreError {
    pub(super) fn sql(file: File, error: &rusqlite::Error) -> StoreError {
        let cause = error.to_string();
        if let rusqlite::Error::StatementChangedRows(0) = error {
            return StoreError::Stale;
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StoreError::Full(file),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Corrupt { file, cause },
            Some(
                ErrorCode::SystemIoFailure
                | ErrorCode::ReadOnly
                | ErrorCode::CannotOpen
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::PermissionDenied,
            ) => StoreError::Io { file, cause },
            _ => StoreError::Refused { file, cause },
        }
    }

    /// What a person does next; `None` where there is nothing to do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            StoreError::Full(_) => Some("free some space on the disk of the state directory; nothing needs a restart"),
            StoreError::Io { .. } => Some("look at the disk and at the permissions of the state directory"),
            StoreError::Corrupt { .. } => Some("restart dinrail: it sets the file aside and salvages what can be read"),
            StoreError::Gone { is_log: false, .. } => Some(
                "move it back (a copy is another file), and it goes on by itself; or restart dinrail: it begins with a new file, \
                 or with what is there then, and says what is lost",
            ),
            StoreError::Gone { is_log: true, .. } => Some(
                "restart dinrail: what the log held has been put into the file itself; or move it back (a copy is another file), and \
                 it goes on by itself",
            ),
            StoreError::Stale => Some("try again"),
            StoreError::Refused { .. } | StoreError::Closed | StoreError::OnWriter => None,
        }
    }
}
