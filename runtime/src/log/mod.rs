//! The log: what modules say, what the runtime says about them, and what it says about itself, kept in `logs/` of the state
//! directory: `runtime.jsonl`, `modules/<instance>.jsonl` for each, and `audit.jsonl` with who did what.
//!
//! ```text
//! module's thread ─┐ rate   ┌──────────────┐        ┌─► files, a pair for each speaker (oldest lines go first)
//! tracing events ──┴─────► │ bounded queue │─ log ──┼─► followers (`logs -f`)
//!                   share   └──────────────┘ writer └─► console thread ─► stderr or the journal
//! ```
//!
//! Guarantee: whoever speaks never waits, neither for the disk nor for a reader of stderr. What is too much (more than a rate,
//! more than a fair share of the queue, a disk that takes nothing) is dropped, counted for its speaker, and said in its place.
//! A speaker's lines displace nobody else's: rate, share and files are its own.
//!
//! Invariant: lines have numbers that go up over restarts, so that the order of a file, and of files merged, is the order in
//! which things were said, whatever the device's clock did. A line is in the page cache, and so outlives the process, within
//! about 50 ms, an error at once; there is no fsync, so a power cut takes what the system had not written.

mod console;
mod files;
mod journal;
mod line;
mod panics;
mod query;
mod rate;
mod reader;
mod speaker;
mod subscriber;
mod writer;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use serde_json::{Map, Value};

use crate::clock;
pub use console::{Console, ConsoleForm};
pub use journal::{Journal, SOCKET as JOURNAL_SOCKET};
pub use line::{Level, Line, Place, RUNTIME, Stored};
pub use panics::log_panics;
pub use query::{BadQuery, Query, Which, parse_pattern, parse_time};
pub use speaker::{Dropped, Speaker};
use speaker::{Offer, Turn};
pub use subscriber::LogSubscriber;
use writer::{Follower, Job, Writer};

/// Longest that a reader waits for lines which are still on their way to the files.
const FLUSH_WAIT: Duration = Duration::from_secs(1);
/// Longest that the end of the process waits for the last lines.
const CLOSE_WAIT: Duration = Duration::from_secs(2);
/// Lines that wait for one follower.
const FOLLOWER_LINES: usize = 1024;

/// Bounds of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// Bytes of an instance's files.
    pub instance_bytes: u64,
    /// Bytes of the runtime's own.
    pub runtime_bytes: u64,
    /// Bytes of the record of who did what.
    pub audit_bytes: u64,
    /// Lines a second that a speaker may say for as long as it likes; a line counts once for each KiB.
    pub lines_per_sec: u32,
    /// Lines that it may say at once.
    pub burst_lines: u32,
}

impl Default for LogLimits {
    fn default() -> LogLimits {
        LogLimits {
            instance_bytes: 8 << 20,
            runtime_bytes: 16 << 20,
            audit_bytes: 8 << 20,
            lines_per_sec: 200,
            burst_lines: 2000,
        }
    }
}

/// The log of a runtime. Clones are the same.
#[derive(Clone)]
pub struct Logs(Arc<Shared>);

impl std::fmt::Debug for Logs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logs").field("folder", &self.0.folder.get()).finish_non_exhaustive()
    }
}

struct Shared {
    runtime: Arc<Speaker>,
    audit: Arc<Speaker>,
    modules: RwLock<HashMap<Arc<str>, Arc<Speaker>>>,
    turn: Turn,
    jobs: Option<Sender<Job>>,
    folder: OnceLock<PathBuf>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    ended: Option<Receiver<()>>,
    written: AtomicU64,
}

impl Logs {
    /// A log whose lines go to `console`, and to files from [`Logs::keep_in`] on.
    pub fn start(limits: LogLimits, console: Console) -> std::io::Result<Logs> {
        let (jobs, inbox) = unbounded();
        let (ending, ended) = bounded(0);
        let (console, console_thread) = console.spawn(ending.clone())?;
        let logs = Logs::new(limits, Some(jobs), Some(ended));
        let writer = Writer::new(limits, inbox, logs.0.clone(), console);
        let thread = std::thread::Builder::new().name("log".to_owned()).stack_size(256 << 10).spawn(move || {
            writer.run();
            drop(ending);
        })?;
        lock(&logs.0.threads).extend([thread, console_thread]);
        Ok(logs)
    }

    /// A log that keeps nothing: for whoever runs parts of the runtime without it.
    pub fn nowhere() -> Logs {
        Logs::new(LogLimits::default(), None, None)
    }

    fn new(limits: LogLimits, jobs: Option<Sender<Job>>, ended: Option<Receiver<()>>) -> Logs {
        Logs(Arc::new(Shared {
            runtime: Arc::new(Speaker::runtime()),
            audit: Arc::new(Speaker::audit()),
            modules: RwLock::default(),
            turn: Turn::new(limits.lines_per_sec, limits.burst_lines, clock::now()),
            jobs,
            folder: OnceLock::new(),
            threads: Mutex::default(),
            ended,
            written: AtomicU64::new(0),
        }))
    }

    /// Keeps lines in this folder from now on, those said before included. The caller holds the lock of the state directory.
    pub fn keep_in(&self, folder: &Path) {
        if self.0.folder.set(folder.to_owned()).is_ok() {
            self.job(Job::KeepIn(folder.to_owned()));
        }
    }

    /// Lines written since the runtime started.
    pub fn written(&self) -> u64 {
        self.0.written.load(Ordering::Relaxed)
    }

    /// The runtime as a speaker.
    pub fn runtime(&self) -> &Arc<Speaker> {
        &self.0.runtime
    }

    /// An instance as a speaker.
    pub fn module(&self, name: &str) -> Arc<Speaker> {
        if let Some(known) = self.known(name) {
            return known;
        }
        let mut modules = self.0.modules.write().unwrap_or_else(PoisonError::into_inner);
        let name: Arc<str> = name.into();
        modules.entry(name.clone()).or_insert_with(|| Arc::new(Speaker::module(name))).clone()
    }

    fn known(&self, name: &str) -> Option<Arc<Speaker>> {
        self.0.modules.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Says a line. `make` is called only for one that is taken. `bytes` is about its size. `[any thread, never blocks]`
    pub fn say(&self, speaker: &Arc<Speaker>, offer: Offer, make: impl FnOnce(&Arc<Speaker>) -> Line) {
        let Some(jobs) = &self.0.jobs else { return };
        match speaker.admit(&self.0.turn, &offer, clock::now()) {
            Ok(()) => drop(jobs.send(Job::Line(Box::new(make(speaker)), offer.bytes))),
            Err(is_first) => {
                if is_first {
                    let _ = jobs.send(Job::Dropped(speaker.clone()));
                }
            }
        }
    }

    /// Says a line of a module: its own words, cleaned and cut. `[any thread, never blocks]`
    pub fn module_says(&self, speaker: &Arc<Speaker>, level: Level, source: &[u8], text: &[u8], place: (&[u8], u32)) {
        let offer = Offer::of_module(text.len());
        self.say(speaker, offer, |speaker| Line::of_module(speaker.clone(), level, source, text, place));
    }

    /// Records that somebody did something, or was refused it. `[any thread, never blocks]`
    pub fn audit(&self, level: Level, what: &str, fields: Map<String, Value>) {
        let bytes = what.len() + fields.iter().map(|(key, value)| key.len() + value.to_string().len()).sum::<usize>();
        let make = |speaker: &Arc<Speaker>| Line::of_runtime(speaker.clone(), level, what, fields);
        self.say(&self.0.audit, Offer::of_runtime(bytes), make);
    }

    /// Has `told` called once everything said so far was handed to its files; it is dropped uncalled where nothing is kept.
    /// `[any thread, never blocks]`
    pub fn once_written(&self, told: impl FnOnce() + Send + 'static) {
        self.job(Job::Written(Box::new(told)));
    }

    /// What was dropped of an instance's lines since the runtime started.
    pub fn dropped(&self, name: &str) -> Dropped {
        self.known(name).map(|speaker| speaker.dropped()).unwrap_or_default()
    }

    /// The file that holds an instance's newest lines; `None` before [`Logs::keep_in`].
    pub fn file_of(&self, name: &str) -> Option<PathBuf> {
        Some(files::path(self.0.folder.get()?, &Speaker::module(name.into())))
    }

    /// True if there are lines of this name, of an instance that is or was.
    pub fn has(&self, name: &str) -> bool {
        self.file_of(name).is_some_and(|file| file.exists())
    }

    /// Names that may have lines, for suggestions: those that are and those that were, as far as their files tell.
    pub fn names(&self) -> Vec<String> {
        self.0.folder.get().map(|folder| files::names(folder)).unwrap_or_default()
    }

    /// Deletes what an instance said. It may speak again, and then begins anew. `[any thread, never blocks]`
    pub fn forget(&self, name: &str) {
        self.0.modules.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        self.job(Job::Forget(Arc::new(Speaker::module(name.into()))));
    }

    /// The lines that a query asks for, oldest first, as they are in the files: a JSON object each. `[blocks: reads files]`
    pub fn read(&self, query: &Query) -> std::io::Result<Vec<Box<[u8]>>> {
        let (done, flushed) = bounded(1);
        if self.job(Job::Flush(done)) {
            let _ = flushed.recv_timeout(FLUSH_WAIT);
        }
        match self.0.folder.get() {
            Some(folder) => reader::read(folder, query, u64::MAX),
            None => Ok(Vec::new()),
        }
    }

    /// The lines that a query asks for, and then those that come. `[blocks: reads files]`
    pub fn follow(&self, query: Query) -> std::io::Result<Follow> {
        let (lines, arriving) = bounded(FOLLOWER_LINES);
        let (done, registered) = bounded(1);
        let skipped = Arc::default();
        let follower =
            Follower { which: query.which.clone(), level: query.level, lines, skipped: Arc::clone(&skipped) };
        let mut until = u64::MAX;
        if self.job(Job::Follow(follower, done)) {
            until = registered
                .recv_timeout(CLOSE_WAIT * 5)
                .map_err(|_| std::io::Error::other("the log does not answer"))?;
        }
        let before = match self.0.folder.get() {
            Some(folder) => reader::read(folder, &query, until)?,
            None => Vec::new(),
        };
        Ok(Follow { before: before.into_iter(), arriving, skipped, query })
    }

    /// Writes what was said so far, and ends; later lines are lost. Waits two seconds at most.
    pub fn close(&self) {
        if !self.job(Job::Close) {
            return;
        }
        // Both threads drop their end of the channel when they have written everything.
        let is_done = self.0.ended.as_ref().is_some_and(|ended| {
            ended.recv_timeout(CLOSE_WAIT).is_err_and(|error| error == RecvTimeoutError::Disconnected)
        });
        for thread in lock(&self.0.threads).drain(..).filter(|_| is_done) {
            let _ = thread.join();
        }
    }

    fn job(&self, job: Job) -> bool {
        self.0.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok())
    }
}

/// Lines of the past, then those that come.
pub struct Follow {
    before: std::vec::IntoIter<Box<[u8]>>,
    arriving: Receiver<Arc<[u8]>>,
    skipped: Arc<std::sync::atomic::AtomicU64>,
    query: Query,
}

/// What [`Follow::next`] gives.
#[derive(Debug, PartialEq, Eq)]
pub enum Followed {
    /// A line.
    Line(Vec<u8>),
    /// So many were left out, since the reader was too slow.
    Skipped(u64),
    /// Nothing for now.
    Quiet,
    /// The log has ended.
    Ended,
}

impl Follow {
    /// The next line; waits for it for so long.
    pub fn next(&mut self, wait: Duration) -> Followed {
        if let Some(line) = self.before.next() {
            return Followed::Line(line.into_vec());
        }
        let skipped = self.skipped.swap(0, std::sync::atomic::Ordering::Relaxed);
        if skipped > 0 {
            return Followed::Skipped(skipped);
        }
        match self.arriving.recv_timeout(wait) {
            Ok(line) if self.query.wants(&line) => Followed::Line(line.to_vec()),
            Ok(_) | Err(RecvTimeoutError::Timeout) => Followed::Quiet,
            Err(RecvTimeoutError::Disconnected) => Followed::Ended,
        }
    }
}

/// What a poisoned lock guards here stays usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
