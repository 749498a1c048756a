//! Where changes wait for whoever writes, in the order of their submission.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use super::writer::{Completion, Job};
use super::{File, StoreError, lock};
use crate::clock;

/// Changes of one commit at most.
const MAX_GROUP: usize = 1024;
/// Bytes that may wait in the inbox; one more change is always let in when it is empty.
const MAX_WAITING_BYTES: usize = 8 << 20;
/// Places for waiting changes that are kept when a flood is over.
const KEPT_PLACES: usize = 1024;
/// While changes come one upon the other, the thread looks for the next one for so long before it sleeps: to be woken costs both
/// sides more than a sync of a good disk leaves to do.
const LINGER: Duration = Duration::from_micros(40);
/// What a change without a stated size counts.
const DEFAULT_BYTES: usize = 1024;

/// A change with what belongs to it.
pub struct Work {
    pub(super) jobs: [Option<Job>; 2],
    pub(super) after_main: Option<Completion>,
    pub(super) completion: Completion,
    bytes: usize,
    is_hurried: bool,
    is_attended: bool,
}

impl Work {
    /// Work without a change yet: its completion runs after everything that was submitted before.
    pub fn new(completion: Completion) -> Work {
        let (bytes, is_hurried, is_attended) = (DEFAULT_BYTES, false, false);
        Work { jobs: [None, None], after_main: None, completion, bytes, is_hurried, is_attended }
    }

    /// Adds a change of `file`. With changes of both files, that of the queue is made only once that of the main file
    /// is committed.
    pub fn job(mut self, file: File, job: Job) -> Work {
        self.jobs[file as usize] = Some(job);
        self
    }

    /// Adds what follows the change of the main file, whatever becomes of the one of the queue: runs before the
    /// completion.
    pub fn after_main(mut self, completion: Completion) -> Work {
        self.after_main = Some(completion);
        self
    }

    /// Says how many bytes it holds in memory while it waits.
    pub fn bytes(mut self, bytes: usize) -> Work {
        self.bytes = bytes.max(DEFAULT_BYTES);
        self
    }

    /// Lets it into the line however much is there: for whoever must not wait and bounds by himself what he has in line.
    pub fn hurried(mut self) -> Work {
        self.is_hurried = true;
        self
    }

    /// Leaves the writer's thread asleep: whoever submits it calls [`Database::attend`](super::Database::attend) at once.
    pub(crate) fn attended(mut self) -> Work {
        self.is_attended = true;
        self
    }

    /// Ends it without trying.
    pub(crate) fn refuse(self, error: StoreError) {
        if let Some(after_main) = self.after_main {
            after_main(Err(error.clone()));
        }
        (self.completion)(Err(error));
    }
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<Waiting>,
    filled: Condvar,
    emptied: Condvar,
    /// Something is in line; seen without the lock while the writer's thread lingers.
    has_work: AtomicBool,
}

#[derive(Default)]
struct Waiting {
    work: VecDeque<Work>,
    bytes: usize,
    /// Submitters that wait for room.
    held: usize,
    is_closed: bool,
    /// The writer's thread sleeps: it is to be woken.
    sleeps: bool,
    /// Somebody else has written, and leaves the files to be looked after.
    is_upkeep_due: bool,
    /// Whoever writes just now.
    writer: Option<ThreadId>,
}

/// What the writer's thread was woken for.
pub(super) enum Woken {
    /// Something is in line.
    Work,
    /// Somebody else has written.
    Upkeep,
    /// The time is up.
    Nothing,
    /// Closed, and empty.
    Closed,
}

impl Inbox {
    /// Puts work in line; waits while too much is there, unless it is hurried. Gives it back when the inbox is closed.
    pub fn push(&self, work: Work) -> Result<(), Box<Work>> {
        let mut state = lock(&self.state);
        // The writer itself must not wait for the writer: completions may submit.
        let may_wait = !work.is_hurried && state.writer != Some(std::thread::current().id());
        while may_wait && !state.is_closed && state.bytes > 0 && state.bytes + work.bytes > MAX_WAITING_BYTES {
            state.held += 1;
            state = self.emptied.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.held -= 1;
        }
        if state.is_closed {
            return Err(Box::new(work));
        }
        state.bytes += work.bytes;
        // The first one wakes the writer for all, if it sleeps: each call is one into the system.
        let wakes = !work.is_attended && std::mem::take(&mut state.sleeps);
        state.work.push_back(work);
        self.has_work.store(true, Ordering::Release);
        drop(state);
        if wakes {
            self.filled.notify_one();
        }
        Ok(())
    }

    pub fn has_room(&self) -> bool {
        lock(&self.state).bytes < MAX_WAITING_BYTES
    }

    pub fn is_writer(&self) -> bool {
        lock(&self.state).writer == Some(std::thread::current().id())
    }

    /// From now on nothing is let in; what is in is still done.
    pub fn close(&self) {
        lock(&self.state).is_closed = true;
        self.filled.notify_all();
        self.emptied.notify_all();
    }

    /// Waits until there is something to do for the writer's thread, or until then.
    pub fn wait(&self, until: Instant) -> Woken {
        self.linger();
        let mut state = lock(&self.state);
        while state.work.is_empty() {
            if std::mem::take(&mut state.is_upkeep_due) {
                return Woken::Upkeep;
            }
            if state.is_closed {
                return Woken::Closed;
            }
            let left = until.saturating_duration_since(clock::now());
            if left.is_zero() {
                return Woken::Nothing;
            }
            state.sleeps = true;
            state = self.filled.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            state.sleeps = false;
        }
        Woken::Work
    }

    /// Waits a moment for the next change, after a commit: cheaper for both sides than sleeping and being woken.
    fn linger(&self) {
        let since = clock::now();
        while !self.has_work.load(Ordering::Acquire) && since.elapsed() < LINGER {
            // Whoever is to bring it may wait for this very processor.
            std::thread::yield_now();
        }
    }

    /// Takes the next group, for whoever holds the files; empty where nothing is in line.
    pub fn take(&self) -> Vec<Work> {
        let mut state = lock(&self.state);
        let count = state.work.len().min(MAX_GROUP);
        if count == 0 {
            return Vec::new();
        }
        let group: Vec<Work> = state.work.drain(..count).collect();
        state.bytes =
            if state.work.is_empty() { 0 } else { state.bytes - group.iter().map(|w| w.bytes).sum::<usize>() };
        self.has_work.store(!state.work.is_empty(), Ordering::Relaxed);
        if state.work.is_empty() && state.work.capacity() > KEPT_PLACES {
            state.work.shrink_to(KEPT_PLACES);
        }
        state.writer = Some(std::thread::current().id());
        let wakes = state.held > 0;
        drop(state);
        if wakes {
            self.emptied.notify_all();
        }
        group
    }

    pub fn is_empty(&self) -> bool {
        lock(&self.state).work.is_empty()
    }

    /// This thread writes no more: to be said before the files are let go.
    pub fn leave(&self) {
        lock(&self.state).writer = None;
    }

    /// What is left to do goes to the writer's thread: to be said by anybody else who has written, once he has let the files go.
    pub fn hand_back(&self, is_upkeep_due: bool) {
        let mut state = lock(&self.state);
        state.is_upkeep_due |= is_upkeep_due;
        let wakes = (is_upkeep_due || !state.work.is_empty()) && std::mem::take(&mut state.sleeps);
        drop(state);
        if wakes {
            self.filled.notify_one();
        }
    }
}
