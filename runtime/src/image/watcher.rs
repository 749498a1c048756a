//! Watched folders: takes in what is completely written, and says of everything else why not.
//!
//! Events of the file system, their overflow and a timer all mean the same: look again. An event can only make a file complete
//! sooner (its writer closed it, or it was renamed in); none can be lost for good.
//! Everything, long hashing too, happens on the watcher's own thread.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

use super::scan::{self, Entry, Memory, Step, Timing, is_candidate};
use super::{ImageStore, Refusal, TakenIn};
use crate::clock;

/// Files known to be closed that are remembered between two looks; beyond that, time has to tell.
const MAX_CLOSED: usize = 4096;

/// A folder that supplies images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchedFolder {
    /// The folder; need not exist yet.
    pub path: PathBuf,
    /// Whether a new image that no deployment names gets an instance.
    pub autostart: bool,
}

/// What the watcher saw. Paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileEvent {
    /// A file holds a sound library, which is in the store now.
    Taken {
        /// The watched folder.
        folder: PathBuf,
        /// The file.
        file: PathBuf,
        /// [`WatchedFolder::autostart`] of its folder.
        autostart: bool,
        /// Whether it was found by the first look, not seen to arrive.
        at_start: bool,
        /// The image.
        image: Box<TakenIn>,
    },
    /// A file is not taken in.
    Refused {
        /// The watched folder.
        folder: PathBuf,
        /// The file.
        file: PathBuf,
        /// Why.
        refusal: Refusal,
    },
    /// A file of which one of the above was said is no longer there.
    Gone {
        /// The file.
        file: PathBuf,
    },
    /// A folder cannot be watched, or not well; said once. It is tried again and again.
    FolderTrouble {
        /// The watched folder.
        folder: PathBuf,
        /// What is wrong, and what to do.
        trouble: String,
    },
    /// A folder with trouble is watched again.
    FolderBack {
        /// The watched folder.
        folder: PathBuf,
    },
    /// All folders were looked at once: what lay there complete has been told.
    FirstScanDone,
}

/// Watches until it is stopped or dropped.
pub struct Watcher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Where the events of the file system arrive.
struct Shared {
    folders: Vec<PathBuf>,
    /// Files whose writer closed them, or which were renamed in, since the last look.
    closed: Mutex<HashSet<PathBuf>>,
    wake: Sender<()>,
    stop: AtomicBool,
}

impl Watcher {
    /// Starts to watch. `sink` is called on the watcher's thread; while it does not return, nothing else is taken in.
    ///
    /// Errors: the thread cannot be started. Everything else is told as a [`FileEvent`].
    pub fn spawn(
        folders: Vec<WatchedFolder>,
        store: Arc<ImageStore>,
        sink: Box<dyn Fn(FileEvent) + Send>,
    ) -> io::Result<Watcher> {
        Watcher::spawn_with(folders, store, sink, Timing::default())
    }

    pub(super) fn spawn_with(
        folders: Vec<WatchedFolder>,
        store: Arc<ImageStore>,
        sink: Box<dyn Fn(FileEvent) + Send>,
        timing: Timing,
    ) -> io::Result<Watcher> {
        let (wake, woken) = bounded(1);
        let mut watched: Vec<Folder> = Vec::new();
        for WatchedFolder { path, autostart } in folders {
            let path = std::path::absolute(path)?;
            match watched.iter_mut().find(|folder| folder.path == path) {
                Some(folder) => folder.autostart |= autostart,
                None => watched.push(Folder::new(path, autostart)),
            }
        }
        let shared = Arc::new(Shared {
            folders: watched.iter().map(|folder| folder.path.clone()).collect(),
            closed: Mutex::default(),
            wake,
            stop: AtomicBool::new(false),
        });
        let watch =
            Watch { folders: watched, store, sink, timing, shared: shared.clone(), notify: None, at_start: true };
        let thread = std::thread::Builder::new().name("image-watcher".to_owned()).spawn(move || watch.run(&woken))?;
        Ok(Watcher { shared, thread: Some(thread) })
    }

    /// Stops; returns when the thread has ended, which finishes the file it is at.
    pub fn stop(self) {}
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed by the panic hook.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn wake(&self) {
        match self.wake.try_send(()) {
            // Full: a look is due anyway.
            Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
        }
    }

    /// Takes an event of the file system. `[notify's thread]`
    fn take_event(&self, event: notify::Result<notify::Event>) {
        let Ok(event) = event else { return self.wake() };
        if event.need_rescan() {
            return self.wake();
        }
        let mut wakes = event.paths.is_empty();
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        for (nth, path) in event.paths.iter().enumerate() {
            if self.folders.contains(path) {
                wakes |= !matches!(event.kind, EventKind::Access(_));
                continue;
            }
            if !path.parent().is_some_and(|parent| self.folders.iter().any(|folder| folder == parent)) {
                continue;
            }
            let completes = match event.kind {
                EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
                EventKind::Access(_) => continue,
                EventKind::Modify(ModifyKind::Name(RenameMode::To)) => true,
                EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => nth == 1,
                _ => false,
            };
            if completes && closed.len() < MAX_CLOSED {
                closed.insert(path.clone());
            } else {
                closed.remove(path);
            }
            // Where closing is told, each write need not be: a slow copy would have the folder read thousands of times.
            let only_written =
                cfg!(target_os = "linux") && matches!(event.kind, EventKind::Modify(ModifyKind::Data(_)));
            // A link may point to any name, so completing wakes whatever the name is.
            let name = path.file_name().and_then(|name| name.to_str());
            wakes |= !only_written && (completes || name.is_some_and(is_candidate));
        }
        drop(closed);
        if wakes {
            self.wake();
        }
    }
}

/// What is known of a watched folder.
struct Folder {
    path: PathBuf,
    autostart: bool,
    /// The folder that the events are armed for: another one may take its name.
    armed: Option<FolderId>,
    trouble: Option<String>,
    files: HashMap<PathBuf, Memory>,
}

#[cfg(unix)]
type FolderId = (u64, u64);
#[cfg(not(unix))]
type FolderId = Option<std::time::SystemTime>;

impl Folder {
    fn new(path: PathBuf, autostart: bool) -> Folder {
        Folder { path, autostart, armed: None, trouble: None, files: HashMap::new() }
    }
}

fn folder_id(path: &Path) -> io::Result<FolderId> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    #[cfg(unix)]
    let id = {
        use std::os::unix::fs::MetadataExt;
        (metadata.dev(), metadata.ino())
    };
    #[cfg(not(unix))]
    let id = metadata.created().ok();
    Ok(id)
}

/// The thread's own.
struct Watch {
    folders: Vec<Folder>,
    store: Arc<ImageStore>,
    sink: Box<dyn Fn(FileEvent) + Send>,
    timing: Timing,
    shared: Arc<Shared>,
    /// `None` where the system gives no events; the timer then is all there is.
    notify: Option<RecommendedWatcher>,
    at_start: bool,
}

impl Watch {
    fn run(mut self, woken: &Receiver<()>) {
        let shared = self.shared.clone();
        let handler = move |event| shared.take_event(event);
        self.notify = RecommendedWatcher::new(handler, notify::Config::default()).ok();
        while !self.is_stopped() {
            let next = self.look();
            if std::mem::take(&mut self.at_start) && !self.is_stopped() {
                (self.sink)(FileEvent::FirstScanDone);
            }
            match woken.recv_deadline(next) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Acquire)
    }

    /// Looks at every folder; returns when to look again at the latest.
    fn look(&mut self) -> Instant {
        let closed = std::mem::take(&mut *self.shared.closed.lock().unwrap_or_else(PoisonError::into_inner));
        let mut next = clock::now() + self.timing.rescan_every;
        let mut folders = std::mem::take(&mut self.folders);
        for folder in &mut folders {
            next = next.min(self.look_at(folder, &closed));
        }
        self.folders = folders;
        next
    }

    fn look_at(&mut self, folder: &mut Folder, closed: &HashSet<PathBuf>) -> Instant {
        let rescan_at = clock::now() + self.timing.rescan_every;
        // Armed first: what happens while the folder is read wakes the next look.
        let trouble = match self.find(folder) {
            Ok(id) => self.arm(folder, id),
            Err(error) => {
                folder.armed = None;
                self.tell_trouble(folder, Some(no_folder(&folder.path, &error)));
                return rescan_at;
            }
        };
        let entries = match scan::list(&folder.path) {
            Ok(entries) => entries,
            Err(error) => {
                self.tell_trouble(folder, Some(no_folder(&folder.path, &error)));
                return rescan_at;
            }
        };
        let rescan_at = if trouble.is_some() { clock::now() + self.timing.look_gap } else { rescan_at };
        self.tell_trouble(folder, trouble);
        self.forget_gone(folder, &entries);
        entries.iter().fold(rescan_at, |next, entry| {
            if self.is_stopped() {
                return next;
            }
            self.look_at_file(folder, entry, closed).map_or(next, |then| next.min(then))
        })
    }

    /// Looks whether the folder is there; if not, has it told when it appears.
    fn find(&mut self, folder: &Folder) -> io::Result<FolderId> {
        folder_id(&folder.path).or_else(|_| {
            self.watch_parent(folder);
            // It may have appeared before that.
            folder_id(&folder.path)
        })
    }

    /// Has the events of the folder told, if those of another one under its name were. Says what is wrong with that.
    fn arm(&mut self, folder: &mut Folder, id: FolderId) -> Option<String> {
        if folder.armed == Some(id) {
            return None;
        }
        let seconds = self.timing.look_gap.as_secs_f32();
        let Some(notify) = &mut self.notify else {
            return Some(format!("the system tells no changes; {} is read every {seconds} s", folder.path.display()));
        };
        // The old folder may live on under another name.
        let _ = notify.unwatch(&folder.path);
        // That the folder goes is told by itself, but not that a link leads elsewhere.
        match folder.path.is_symlink() {
            true => self.watch_parent(folder),
            false => self.leave_parent(folder),
        }
        let notify = self.notify.as_mut()?;
        match notify.watch(&folder.path, RecursiveMode::NonRecursive) {
            Ok(()) => {
                folder.armed = Some(id);
                None
            }
            Err(error) => Some(format!(
                "changes in {} are not told ({error}), it is read every {seconds} s; raise fs.inotify.max_user_watches",
                folder.path.display(),
            )),
        }
    }

    /// Only to notice sooner that the folder appeared or was replaced: the timer would tell, too.
    fn watch_parent(&mut self, folder: &Folder) {
        if let (Some(notify), Some(parent)) = (&mut self.notify, folder.path.parent()) {
            let _ = notify.watch(parent, RecursiveMode::NonRecursive);
        }
    }

    /// In the parent others may write all the time, as the runtime does in its state directory: each of their writes would wake us.
    fn leave_parent(&mut self, folder: &Folder) {
        if let (Some(notify), Some(parent)) = (&mut self.notify, folder.path.parent())
            && !self.shared.folders.iter().any(|folder| folder == parent)
        {
            let _ = notify.unwatch(parent);
        }
    }

    fn tell_trouble(&self, folder: &mut Folder, trouble: Option<String>) {
        if folder.trouble == trouble {
            return;
        }
        folder.trouble.clone_from(&trouble);
        (self.sink)(match trouble {
            Some(trouble) => FileEvent::FolderTrouble { folder: folder.path.clone(), trouble },
            None => FileEvent::FolderBack { folder: folder.path.clone() },
        });
    }

    fn forget_gone(&self, folder: &mut Folder, entries: &[Entry]) {
        let here: HashSet<&Path> = entries.iter().map(|entry| &*entry.file).collect();
        for (file, memory) in folder.files.extract_if(|file, _| !here.contains(&**file)) {
            if !matches!(memory, Memory::Settling { .. }) {
                (self.sink)(FileEvent::Gone { file });
            }
        }
    }

    /// Deals with one file; returns when to look at it again, where that is known.
    fn look_at_file(&self, folder: &mut Folder, entry: &Entry, closed: &HashSet<PathBuf>) -> Option<Instant> {
        let now = clock::now();
        let age = entry.stamp.age(clock::wall_us());
        let memory = folder.files.get(&entry.file);
        let linked = || folder.path.join(entry.open.file_name().unwrap_or_default());
        let is_closed = closed.contains(&entry.file) || (entry.open != entry.file && closed.contains(&linked()));
        let since = match memory {
            Some(Memory::Settling { stamp, since, .. }) if *stamp == entry.stamp => *since,
            _ => now,
        };
        let (memory, next) = match scan::step(memory, &entry.stamp, is_closed, age, now, &self.timing) {
            Step::Nothing => return None,
            Step::Wait(then) => return Some(then),
            Step::Settle(ready_at) => (Memory::Settling { stamp: entry.stamp, since, ready_at }, Some(ready_at)),
            Step::Take => {
                let still_for = age.max(now.duration_since(since));
                let grace = self.timing.unfinished_grace.checked_sub(still_for).filter(|_| !is_closed);
                self.take(folder, entry, since, grace.map(|grace| now + grace))
            }
        };
        folder.files.insert(entry.file.clone(), memory);
        next
    }

    /// Takes a file in and tells what became of it, unless it may be unfinished and `grace_until` is not over.
    fn take(
        &self,
        folder: &Folder,
        entry: &Entry,
        since: Instant,
        grace_until: Option<Instant>,
    ) -> (Memory, Option<Instant>) {
        let stamp = entry.stamp;
        let taken = match &entry.refused {
            Some(refusal) => Err(refusal.clone()),
            None => self.store.take_in(&entry.open),
        };
        let refusal = match taken {
            Ok(image) => {
                (self.sink)(FileEvent::Taken {
                    folder: folder.path.clone(),
                    file: entry.file.clone(),
                    autostart: folder.autostart,
                    at_start: self.at_start,
                    image: Box::new(image),
                });
                return (Memory::Handled { stamp }, None);
            }
            Err(refusal) => refusal,
        };
        let now = clock::now();
        let again = |ready_at| (Memory::Settling { stamp, since, ready_at }, Some(ready_at));
        if refusal.defect == super::Defect::Changing {
            return again(now + self.timing.look_gap);
        }
        if let Some(until) = grace_until.filter(|_| refusal.defect.may_be_unfinished()) {
            return again(until);
        }
        let line = refusal.line();
        let told = match folder.files.get(&entry.file) {
            Some(Memory::Retry { told, .. }) => *told == line,
            _ => false,
        };
        let may_pass = refusal.defect.may_pass() && entry.refused.is_none();
        if !told {
            (self.sink)(FileEvent::Refused { folder: folder.path.clone(), file: entry.file.clone(), refusal });
        }
        if may_pass {
            let at = now + self.timing.rescan_every;
            return (Memory::Retry { stamp, at, told: line }, Some(at));
        }
        (Memory::Handled { stamp }, None)
    }
}

fn no_folder(path: &Path, error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "make it; it is watched as soon as it is there",
        io::ErrorKind::PermissionDenied => "make it readable for the user that the runtime runs as (chmod a+rx)",
        _ => "check the path",
    };
    format!("the watched folder {} cannot be read ({error}): {hint}", path.display())
}

#[cfg(test)]
#[path = "watcher_tests.rs"]
mod tests;
