//! The state directory: everything that a runtime keeps, and the lock that makes it one runtime's.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Folders of the state directory.
#[derive(Debug, Clone)]
pub struct Folders {
    /// The state directory.
    pub state: PathBuf,
    /// Data folders of the instances.
    pub data: PathBuf,
    /// The watched folder in it.
    pub drop: PathBuf,
    /// The log.
    pub logs: PathBuf,
    /// Uploads, on the same file system as the image store.
    pub uploads: PathBuf,
}

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateFolderError {
    /// It cannot be made or written.
    #[error("the state directory {} cannot be used", folder.display())]
    Unusable {
        /// It, or the part of it that made trouble.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another runtime runs on it.
    #[error("another runtime{} runs on the state directory {}", who(.pid), folder.display())]
    InUse {
        /// The state directory.
        folder: PathBuf,
        /// Its process, where it is known.
        pid: Option<u32>,
    },
}

fn who(pid: &Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

impl StateFolderError {
    /// The next step.
    pub fn hint(&self) -> String {
        match self {
            StateFolderError::Unusable { folder, source } if source.kind() == io::ErrorKind::StorageFull => {
                format!("the disk of {} is full: free some space, then start again", folder.display())
            }
            StateFolderError::Unusable { .. } => {
                "make it writable for this user, or choose another with --state DIR".to_owned()
            }
            StateFolderError::InUse { .. } => {
                "stop that one first, or give this one a directory of its own with --state DIR".to_owned()
            }
        }
    }
}

/// Takes the state directory for this process, making it where it is not there. It is given back when the file is closed.
pub fn lock(state: &Path) -> Result<File, StateFolderError> {
    let trouble = |source| StateFolderError::Unusable { folder: state.to_owned(), source };
    make_private(state).map_err(trouble)?;
    let path = state.join("lock");
    let file = File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(trouble)?;
    if let Err(error) = lock_soon(&file) {
        return Err(match error {
            std::fs::TryLockError::WouldBlock => {
                let pid = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
                StateFolderError::InUse { folder: state.to_owned(), pid }
            }
            std::fs::TryLockError::Error(source) => trouble(source),
        });
    }
    let pid = format!("{}\n", std::process::id());
    // In place: on a full disk, what is given back first may not be had again.
    io::Write::write_all(&mut &file, pid.as_bytes()).map_err(trouble)?;
    file.set_len(pid.len() as u64).map_err(trouble)?;
    Ok(file)
}

/// Tries for a moment: a runtime that was just killed holds its lock until the system has taken it apart.
fn lock_soon(file: &File) -> Result<(), std::fs::TryLockError> {
    for _ in 0..50 {
        match file.try_lock() {
            Err(std::fs::TryLockError::WouldBlock) => std::thread::sleep(std::time::Duration::from_millis(20)),
            outcome => return outcome,
        }
    }
    file.try_lock()
}

/// Makes the folders in it.
pub fn make(state: &Path) -> Result<Folders, StateFolderError> {
    let state =
        std::path::absolute(state).map_err(|source| StateFolderError::Unusable { folder: state.to_owned(), source })?;
    let folder = |name: &str| {
        let folder = state.join(name);
        std::fs::create_dir_all(&folder)
            .map_err(|source| StateFolderError::Unusable { folder: folder.clone(), source })?;
        Ok::<_, StateFolderError>(folder)
    };
    Ok(Folders {
        data: folder("data")?,
        drop: folder("drop")?,
        logs: folder("logs")?,
        uploads: folder("images/uploads")?,
        state,
    })
}

/// Makes the state directory, for its owner and group alone.
fn make_private(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(folder)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o750))?;
    }
    Ok(())
}
