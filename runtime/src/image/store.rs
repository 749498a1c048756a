//! The image store: a folder per hash, written once and never changed.
//!
//! ```text
//! images/tmp/<n>/module.so          being copied; whatever is left here by a crash is removed at the next open
//! images/sha256/<hex>/module.so     complete, synced, read-only
//! ```

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::digest::Hasher;
use super::inspect::{changing, check_size, inspect_open, open_library, unreadable};
use super::{Defect, Digest, Inspection, MAX_LIBRARY_BYTES, Refusal};

/// Name of the library in its folder.
const LIBRARY: &str = if cfg!(windows) { "module.dll" } else { "module.so" };

/// The store. `[any thread]`
#[derive(Debug)]
pub struct ImageStore {
    root: PathBuf,
    next_temporary: AtomicU64,
}

/// A library that is in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenIn {
    /// What it is.
    pub inspection: Inspection,
    /// Whether the store did not have it before.
    pub is_new: bool,
}

/// The library that a reference means among the images of a store that may be in use: reads, and touches nothing.
///
/// Of one version the one that was taken in last counts as the later arrival.
pub fn find_stored(root: &Path, reference: &super::Reference) -> Option<PathBuf> {
    let folder = root.join("sha256");
    let mut found: Vec<(std::time::SystemTime, PathBuf)> = std::fs::read_dir(&folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().join(LIBRARY)))
        .filter_map(|file| Some((file.metadata().ok()?.modified().ok()?, file)))
        .collect();
    found.sort();
    let mut catalog = super::Catalog::default();
    let mut files = std::collections::HashMap::new();
    for (_, file) in found {
        if let Ok(inspection) = super::inspect_file(&file) {
            files.insert(inspection.digest, file);
            catalog.arrive(None, &TakenIn { inspection, is_new: true }, false, 0);
        }
    }
    files.remove(&catalog.matching(reference).first()?.digest)
}

/// What went wrong with the store itself.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not there.
    #[error("image {0} is not in the store; add it again with 'dinrail image add FILE'")]
    Missing(Digest),
    /// The bytes are not those that were taken in.
    #[error("{path} was altered after it was taken in (it is now {found}); add it again with 'dinrail image add FILE'", path = path.display())]
    Altered {
        /// The stored file.
        path: PathBuf,
        /// Digest of what is there now.
        found: Digest,
    },
    /// The disk does not play along.
    #[error("cannot {action} {path} ({source}); {hint}", path = path.display(), hint = io_hint(source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

fn io_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "the disk is full: free some space",
        io::ErrorKind::PermissionDenied => "make the state directory writable for the user that the runtime runs as",
        io::ErrorKind::ReadOnlyFilesystem => "the file system is mounted read-only: check the disk",
        _ => "check the disk",
    }
}

impl StoreError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
        let path = path.to_owned();
        move |source| StoreError::Io { action, path, source }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Refusal {
        match error {
            StoreError::Io { action, path, source } => Refusal::new(
                Defect::StoreTrouble,
                format!("the image store cannot take it in: cannot {action} {} ({source})", path.display()),
                io_hint(&source),
            ),
            other => {
                Refusal::new(Defect::StoreTrouble, other.to_string(), "add it again with 'dinrail image add FILE'")
            }
        }
    }
}

/// A folder for one copy, removed unless it was moved to its place.
struct Temporary {
    folder: PathBuf,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = remove_tree(&self.folder);
    }
}

impl ImageStore {
    /// Opens the store in `root`, makes its folders and removes what a crash left half-copied.
    pub fn open(root: &Path) -> Result<ImageStore, StoreError> {
        let store = ImageStore { root: root.to_owned(), next_temporary: AtomicU64::new(0) };
        let temporary = store.temporary();
        if temporary.exists() {
            remove_tree(&temporary).map_err(StoreError::io("empty", &temporary))?;
        }
        for folder in [store.images(), temporary] {
            fs::create_dir_all(&folder).map_err(StoreError::io("make", &folder))?;
        }
        Ok(store)
    }

    /// Copies a library into the store unless it is there, and looks at the copy, never at the source, which may change.
    ///
    /// On return the copy is synced to disk. Of a refused file nothing is left. `[blocks on the disk]`
    pub fn take_in(&self, source: &Path) -> Result<TakenIn, Refusal> {
        let (mut file, before) = open_library(source)?;
        if self.has_one_of(before.len()) {
            let digest = Digest::of_reader(&mut file).map_err(|e| unreadable(&e))?;
            if let Ok(path) = self.verify(&digest) {
                let (mut stored, _) = open_library(&path)?;
                return Ok(TakenIn { inspection: inspect_open(&mut stored, digest)?, is_new: false });
            }
            file.seek(SeekFrom::Start(0)).map_err(|e| unreadable(&e))?;
        }
        let temporary = self.new_temporary()?;
        let path = temporary.folder.join(LIBRARY);
        let copy = File::options().read(true).write(true).create_new(true).open(&path);
        let mut copy = copy.map_err(StoreError::io("write in", &self.root))?;
        let (digest, copied) = self.copy_hashing(&mut file, &mut copy)?;
        let after = file.metadata().map_err(|e| unreadable(&e))?;
        if copied != before.len() || after.len() != before.len() || after.modified().ok() != before.modified().ok() {
            return Err(changing());
        }
        let inspection = inspect_open(&mut copy, digest)?;
        self.settle(&temporary.folder, &copy, &digest)?;
        Ok(TakenIn { inspection, is_new: true })
    }

    /// Syncs a finished copy and moves it to its place.
    fn settle(&self, temporary: &Path, copy: &File, digest: &Digest) -> Result<(), StoreError> {
        let protect_and_sync = || {
            let mut permissions = copy.metadata()?.permissions();
            permissions.set_readonly(true);
            copy.set_permissions(permissions)?;
            copy.sync_all()?;
            sync_folder(temporary)
        };
        protect_and_sync().map_err(StoreError::io("write in", &self.root))?;
        let folder = self.folder(digest);
        // Only an altered copy can be there: what is mapped from it stays valid, since it is unlinked, not overwritten.
        if folder.exists() {
            remove_tree(&folder).map_err(StoreError::io("replace", &folder))?;
        }
        fs::rename(temporary, &folder).map_err(StoreError::io("make", &folder))?;
        sync_folder(&self.images()).map_err(StoreError::io("sync", &self.images()))
    }

    /// Hashes the stored library again: what follows runs exactly these bytes. Returns where it is.
    pub fn verify(&self, digest: &Digest) -> Result<PathBuf, StoreError> {
        let path = self.library_path(digest);
        let mut file = File::open(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => StoreError::Missing(*digest),
            _ => StoreError::io("open", &path)(source),
        })?;
        let found = Digest::of_reader(&mut file).map_err(StoreError::io("read", &path))?;
        if found != *digest { Err(StoreError::Altered { path, found }) } else { Ok(path) }
    }

    /// Looks again at a stored library, as after an update of the runtime.
    pub fn inspect(&self, digest: &Digest) -> Result<Inspection, Refusal> {
        let path = self.verify(digest)?;
        let (mut file, _) = open_library(&path)?;
        inspect_open(&mut file, *digest)
    }

    /// Removes an image; false where it was not there. What is loaded from it goes on.
    pub fn remove(&self, digest: &Digest) -> Result<bool, StoreError> {
        let folder = self.folder(digest);
        match remove_tree(&folder) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(StoreError::io("remove", &folder)(e)),
        }
    }

    /// The images in the store, in the order of their digests.
    pub fn list(&self) -> Result<Vec<Digest>, StoreError> {
        let folder = self.images();
        let entries = fs::read_dir(&folder).map_err(StoreError::io("list", &folder))?;
        let mut digests: Vec<Digest> = entries
            .filter_map(Result::ok)
            .filter_map(|entry| format!("sha256:{}", entry.file_name().to_str()?).parse().ok())
            .collect();
        digests.sort();
        Ok(digests)
    }

    /// Folder of an image's own files.
    pub fn folder(&self, digest: &Digest) -> PathBuf {
        self.images().join(digest.hex())
    }

    /// The stored library, whether it is there or not.
    pub fn library_path(&self, digest: &Digest) -> PathBuf {
        self.folder(digest).join(LIBRARY)
    }

    fn images(&self) -> PathBuf {
        self.root.join("sha256")
    }

    fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Whether an image of this size is stored: only then hashing before copying can save the copy.
    fn has_one_of(&self, bytes: u64) -> bool {
        self.list().is_ok_and(|digests| {
            digests.iter().any(|digest| fs::metadata(self.library_path(digest)).is_ok_and(|m| m.len() == bytes))
        })
    }

    /// Copies all of `file`, but no more than the largest library.
    fn copy_hashing(&self, file: &mut File, copy: &mut File) -> Result<(Digest, u64), Refusal> {
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; 128 * 1024];
        let mut copied = 0;
        loop {
            let n = match file.read(&mut buffer) {
                Ok(0) => return Ok((hasher.digest(), copied)),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(unreadable(&e)),
            };
            copied += n as u64;
            if copied > MAX_LIBRARY_BYTES {
                check_size(copied)?;
            }
            hasher.update(&buffer[..n]);
            copy.write_all(&buffer[..n]).map_err(StoreError::io("write in", &self.root))?;
        }
    }

    /// Errors name the store: the number of the folder would make each of them a new one.
    fn new_temporary(&self) -> Result<Temporary, StoreError> {
        let folder = self.temporary().join(self.next_temporary.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir_all(&folder).map_err(StoreError::io("write in", &self.root))?;
        Ok(Temporary { folder })
    }
}

/// Removes a folder and what is in it, also the read-only files.
fn remove_tree(folder: &Path) -> io::Result<()> {
    #[cfg(windows)]
    for entry in fs::read_dir(folder)?.filter_map(Result::ok) {
        if let Ok(metadata) = entry.metadata() {
            let mut permissions = metadata.permissions();
            #[allow(clippy::permissions_set_readonly_false)] // Windows has no mode bits that this could open.
            permissions.set_readonly(false);
            let _ = fs::set_permissions(entry.path(), permissions);
        }
    }
    fs::remove_dir_all(folder)
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// NTFS journals the names by itself.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::testing::{Module, temporary_folder};

    fn store(folder: &Path) -> ImageStore {
        ImageStore::open(&folder.join("images")).unwrap()
    }

    #[test]
    fn library_is_kept_under_its_hash_and_taken_in_once() {
        let Some(library) = Module::named("filter", "1.2.0").build() else { return };
        let folder = temporary_folder();
        let store = store(folder.path());

        let first = store.take_in(&library).unwrap();
        let digest = first.inspection.digest;
        let again = store.take_in(&library).unwrap();

        assert!(first.is_new && !again.is_new);
        assert_eq!(first.inspection, again.inspection);
        assert_eq!(first.inspection, store.inspect(&digest).unwrap());
        assert_eq!(store.list().unwrap(), [digest]);
        assert_eq!(fs::read(store.verify(&digest).unwrap()).unwrap(), fs::read(&library).unwrap());
        assert!(fs::metadata(store.library_path(&digest)).unwrap().permissions().readonly());
        assert!(store.remove(&digest).unwrap());
        assert!(!store.remove(&digest).unwrap());
        assert!(matches!(store.verify(&digest), Err(StoreError::Missing(_))));
    }

    #[test]
    fn refused_file_leaves_nothing_behind() {
        let folder = temporary_folder();
        let store = store(folder.path());
        let file = folder.path().join("note.so");
        fs::write(&file, "just a note\n").unwrap();

        let refusal = store.take_in(&file).unwrap_err();

        assert_eq!(refusal.defect, Defect::NotALibrary);
        assert_eq!(fs::read_dir(store.temporary()).unwrap().count(), 0);
        assert!(store.list().unwrap().is_empty());
    }

    #[test]
    fn copy_that_a_crash_left_behind_is_removed_at_open() {
        let folder = temporary_folder();
        let first = store(folder.path());
        let left = first.new_temporary().unwrap();
        fs::write(left.folder.join(LIBRARY), "half").unwrap();
        std::mem::forget(left);

        let second = store(folder.path());

        assert_eq!(fs::read_dir(second.temporary()).unwrap().count(), 0);
    }

    #[test]
    fn altered_copy_is_found_out_and_healed_by_the_next_take_in() {
        let Some(library) = Module::named("filter", "1.2.0").build() else { return };
        let folder = temporary_folder();
        let store = store(folder.path());
        let digest = store.take_in(&library).unwrap().inspection.digest;
        let path = store.library_path(&digest);
        let mut bytes = fs::read(&path).unwrap();
        bytes[100] ^= 1;
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();

        assert!(matches!(store.verify(&digest), Err(StoreError::Altered { .. })));
        assert!(store.take_in(&library).unwrap().is_new);
        assert!(store.verify(&digest).is_ok());
    }

    #[test]
    #[cfg(unix)]
    fn pipe_and_folder_are_refused_without_waiting() {
        let folder = temporary_folder();
        let store = store(folder.path());
        let pipe = folder.path().join("pipe.so");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();

        assert_eq!(store.take_in(&pipe).unwrap_err().defect, Defect::NotALibrary);
        assert_eq!(store.take_in(folder.path()).unwrap_err().defect, Defect::NotALibrary);
        assert_eq!(store.take_in(&folder.path().join("gone.so")).unwrap_err().defect, Defect::Unreadable);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn full_disk_is_named_as_the_cause() {
        let refusal: Refusal = StoreError::io("write", Path::new("/x"))(io::Error::from_raw_os_error(
            rustix::io::Errno::NOSPC.raw_os_error(),
        ))
        .into();

        assert_eq!(refusal.defect, Defect::StoreTrouble);
        assert!(refusal.line().contains("/x") && refusal.line().contains("free some space"), "{}", refusal.line());
        assert!(refusal.defect.may_pass());
    }
}
