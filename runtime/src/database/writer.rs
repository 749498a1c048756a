//! The one thread that writes, and the inbox in front of it.
//!
//! Group commit: while one commit is being synced, the next changes gather in the inbox; the thread takes all of them,
//! runs them in one transaction per file (the main file commits before the queue), syncs, then runs their completions
//! in order. A submitter waits for the disk only, never for a module: completions must not block.
//!
//! If one change of a group fails, the group is rolled back and its changes run one by one, so that only the guilty one
//! fails.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::upkeep::Upkeep;
use super::{Figures, File, StoreError, lock};
use crate::clock;

/// A change. It may be run more than once (see the group's rerun), so it must not use up what it captured. It is cheap:
/// prepared statements, no waiting.
pub type Job = Box<dyn FnMut(&Transaction<'_>) -> rusqlite::Result<()> + Send>;

/// What follows a change, on the writer's thread: `Ok` means committed and synced. `[never blocks]`
pub type Completion = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

type Outcome = Result<(), StoreError>;

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
    jobs: [Option<Job>; 2],
    after_main: Option<Completion>,
    completion: Completion,
    bytes: usize,
    is_hurried: bool,
}

impl Work {
    /// Work without a change yet: its completion runs after everything that was submitted before.
    pub fn new(completion: Completion) -> Work {
        Work { jobs: [None, None], after_main: None, completion, bytes: DEFAULT_BYTES, is_hurried: false }
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

    /// Ends it without trying.
    pub(crate) fn refuse(self, error: StoreError) {
        if let Some(after_main) = self.after_main {
            after_main(Err(error.clone()));
        }
        (self.completion)(Err(error));
    }
}

/// Where submitters and the writer meet.
#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<Waiting>,
    filled: Condvar,
    emptied: Condvar,
    /// Something is in line; seen without the lock while the writer lingers.
    has_work: AtomicBool,
}

#[derive(Default)]
struct Waiting {
    work: VecDeque<Work>,
    bytes: usize,
    closed: bool,
    /// The writer sleeps: it is to be woken.
    sleeps: bool,
    writer: Option<ThreadId>,
}

impl Inbox {
    /// Puts work in line; waits while too much is there, unless it is hurried. Gives it back when the inbox is closed.
    pub(super) fn push(&self, work: Work) -> Result<(), Box<Work>> {
        let mut state = lock(&self.state);
        // The writer itself must not wait for the writer: completions may submit.
        let may_wait = !work.is_hurried && state.writer != Some(std::thread::current().id());
        while may_wait && !state.closed && state.bytes > 0 && state.bytes + work.bytes > MAX_WAITING_BYTES {
            state = self.emptied.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        if state.closed {
            return Err(Box::new(work));
        }
        state.bytes += work.bytes;
        // The first one wakes the writer for all, if it sleeps: each call is one into the system.
        let wakes = std::mem::take(&mut state.sleeps);
        state.work.push_back(work);
        self.has_work.store(true, Ordering::Release);
        drop(state);
        if wakes {
            self.filled.notify_one();
        }
        Ok(())
    }

    pub(super) fn has_room(&self) -> bool {
        lock(&self.state).bytes < MAX_WAITING_BYTES
    }

    pub(super) fn is_writer(&self) -> bool {
        lock(&self.state).writer == Some(std::thread::current().id())
    }

    /// From now on nothing is let in; what is in is still done.
    pub(super) fn close(&self) {
        lock(&self.state).closed = true;
        self.filled.notify_all();
        self.emptied.notify_all();
    }

    /// Waits a moment for the next change, after a commit: cheaper for both sides than sleeping and being woken.
    fn linger(&self) {
        let since = clock::now();
        while !self.has_work.load(Ordering::Acquire) && since.elapsed() < LINGER {
            // Whoever is to bring it may wait for this very processor.
            std::thread::yield_now();
        }
    }

    /// Takes the next group; waits for it until then at most.
    fn take(&self, until: Instant) -> Taken {
        self.linger();
        let mut state = lock(&self.state);
        while state.work.is_empty() {
            if state.closed {
                return Taken::Closed;
            }
            let left = until.saturating_duration_since(clock::now());
            if left.is_zero() {
                return Taken::Nothing;
            }
            state.sleeps = true;
            state = self.filled.wait_timeout(state, left).unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
        let count = state.work.len().min(MAX_GROUP);
        let group: Vec<Work> = state.work.drain(..count).collect();
        state.bytes =
            if state.work.is_empty() { 0 } else { state.bytes - group.iter().map(|w| w.bytes).sum::<usize>() };
        state.sleeps = false;
        self.has_work.store(!state.work.is_empty(), Ordering::Relaxed);
        if state.work.is_empty() && state.work.capacity() > KEPT_PLACES {
            state.work.shrink_to(KEPT_PLACES);
        }
        drop(state);
        self.emptied.notify_all();
        Taken::Group(group)
    }

    fn is_empty(&self) -> bool {
        lock(&self.state).work.is_empty()
    }
}

/// What the writer does next.
enum Taken {
    Group(Vec<Work>),
    /// The time is up.
    Nothing,
    /// Closed, and empty.
    Closed,
}

/// The thread's body: until the inbox is closed and everything in it done.
pub(super) fn run(
    inbox: &Inbox,
    mut conns: [Connection; 2],
    figures: &Figures,
    mut upkeep: Upkeep,
    on_damage: impl Fn(File),
) {
    lock(&inbox.state).writer = Some(std::thread::current().id());
    loop {
        let mut group = match inbox.take(upkeep.wakes_at()) {
            Taken::Group(group) => group,
            Taken::Nothing => {
                upkeep.rest(&conns, clock::now());
                continue;
            }
            Taken::Closed => break,
        };
        let mut outcomes: Vec<Outcome> = group.iter().map(|_| Ok(())).collect();
        commit(&mut conns[0], File::Main, &mut group, &mut outcomes, figures, &mut upkeep);
        let after_main = outcomes.clone();
        commit(&mut conns[1], File::Queue, &mut group, &mut outcomes, figures, &mut upkeep);
        for ((work, after_main), outcome) in group.into_iter().zip(after_main).zip(outcomes) {
            if let Err(error) = &outcome {
                figures.failures.fetch_add(1, Ordering::Relaxed);
                if let StoreError::Corrupt { file, .. } = error {
                    on_damage(*file);
                }
            }
            let complete = || {
                if let Some(completion) = work.after_main {
                    completion(after_main);
                }
                (work.completion)(outcome);
            };
            if catch_unwind(AssertUnwindSafe(complete)).is_err() {
                tracing::error!("a completion of the database writer panicked");
            }
        }
        // Whoever waited for the commit has been told: this holds up only the next one.
        upkeep.after_group(&conns, clock::now(), inbox.is_empty());
    }
    for (conn, file) in conns.into_iter().zip(File::ALL) {
        let checkpoint = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        if let Err(error) = checkpoint.and_then(|()| conn.close().map_err(|(_, error)| error)) {
            tracing::warn!("{file} was not folded up at the end, which the next start will do: {error}");
        }
    }
}

/// Commits the changes of one file: together, or one by one if one of them fails.
fn commit(
    conn: &mut Connection,
    file: File,
    group: &mut [Work],
    outcomes: &mut [Outcome],
    figures: &Figures,
    upkeep: &mut Upkeep,
) {
    let mut members: Vec<(&mut Job, &mut Outcome)> = group
        .iter_mut()
        .zip(outcomes)
        .filter(|(_, outcome)| outcome.is_ok())
        .filter_map(|(work, outcome)| work.jobs[file as usize].as_mut().map(|job| (job, outcome)))
        .collect();
    if members.is_empty() {
        return;
    }
    let mut done = transact(conn, file, members.iter_mut().map(|(job, _)| &mut **job), figures);
    if let Err(Failed::Job(StoreError::Full(_)) | Failed::Commit(StoreError::Full(_))) = done
        && upkeep.on_full(conn, file)
    {
        // There is some room now, for what makes room itself.
        done = transact(conn, file, members.iter_mut().map(|(job, _)| &mut **job), figures);
    }
    match done {
        Ok(()) => {}
        Err(Failed::Job(_)) if members.len() > 1 => {
            for (job, outcome) in members {
                let alone = transact(conn, file, std::iter::once(&mut *job), figures);
                *outcome = alone.map_err(Failed::into_error);
            }
        }
        Err(failed) => {
            let error = failed.into_error();
            for (_, outcome) in members {
                *outcome = Err(error.clone());
            }
        }
    }
    upkeep.committed(conn, file);
}

enum Failed {
    /// One of the changes.
    Job(StoreError),
    /// The transaction itself.
    Commit(StoreError),
}

impl Failed {
    fn into_error(self) -> StoreError {
        match self {
            Failed::Job(error) | Failed::Commit(error) => error,
        }
    }
}

fn transact<'a>(
    conn: &mut Connection,
    file: File,
    jobs: impl Iterator<Item = &'a mut Job>,
    figures: &Figures,
) -> Result<(), Failed> {
    let commit_failed = |error: &rusqlite::Error| Failed::Commit(StoreError::sql(file, error));
    let mut count = 0;
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(|e| commit_failed(&e))?;
    for job in jobs {
        // Dropping the transaction on the way out rolls it back.
        match catch_unwind(AssertUnwindSafe(|| job(&tx))) {
            Ok(Ok(())) => count += 1,
            Ok(Err(error)) => return Err(Failed::Job(StoreError::sql(file, &error))),
            Err(_) => {
                let cause = "the change panicked".to_owned();
                return Err(Failed::Job(StoreError::Refused { file, cause }));
            }
        }
    }
    let before = clock::now();
    figures.delay();
    // A failed COMMIT leaves the transaction open; dropping it, which commit does, rolls it back.
    tx.commit().map_err(|e| commit_failed(&e))?;
    figures.record(count, before.elapsed());
    Ok(())
}
