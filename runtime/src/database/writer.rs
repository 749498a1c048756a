//! Whoever writes, one at a time, and how a group of changes is made.
//!
//! Group commit: while one commit is being synced, the next changes gather in the inbox; whoever writes takes all of them, runs
//! them in one transaction per file (the main file commits before the queue), syncs, then runs their completions in order. A
//! submitter waits for the disk only, never for a module: completions must not block.
//!
//! As a rule that is the writer's own thread. A thread that waits for its change anyway, and finds nobody writing, writes itself:
//! to wake another thread and to be woken by it costs about as much as a commit to a good disk. It makes two groups at most, and
//! leaves the rest to the writer's thread.
//!
//! ```text
//! submit ─► in line ─(whoever holds the files takes all)─► commit, sync ─► completions ─► files let go
//! ```
//! If one change of a group fails, the group is rolled back and its changes run one by one, so that only the guilty one
//! fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;

use rusqlite::Connection;

use super::inbox::{Inbox, Woken, Work};
use super::place::Place;
use super::upkeep::Upkeep;
use super::{Figures, File, StoreError, lock};
use crate::clock;

/// A change. It may be run more than once (see the group's rerun), so it must not use up what it captured. It is cheap:
/// prepared statements, no waiting.
pub type Job = Box<dyn FnMut(&Connection) -> rusqlite::Result<()> + Send>;

/// What follows a change, on the thread that writes: `Ok` means committed and synced. `[never blocks]`
pub type Completion = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

type Outcome = Result<(), StoreError>;

/// Whoever has made its own change in less makes those of others that came meanwhile too.
const QUICK: Duration = Duration::from_millis(1);

/// What is in line, and the files for whoever writes.
pub(super) struct Desk {
    pub inbox: Inbox,
    /// `None` once closed.
    writer: Mutex<Option<Writer>>,
}

/// The files and what belongs to writing them.
pub(super) struct Writer {
    pub conns: [Connection; 2],
    pub figures: Arc<Figures>,
    pub places: Arc<[Place; 2]>,
    pub upkeep: Upkeep,
    pub on_damage: Box<dyn Fn(File) + Send>,
}

impl Desk {
    pub fn new(writer: Writer) -> Desk {
        Desk { inbox: Inbox::default(), writer: Mutex::new(Some(writer)) }
    }

    /// The body of the writer's thread: until the inbox is closed and everything in it done.
    pub fn run(&self) {
        loop {
            let wakes_at = lock(&self.writer).as_ref().map_or_else(clock::now, |writer| writer.upkeep.wakes_at());
            let woken = self.inbox.wait(wakes_at);
            let mut files = lock(&self.writer);
            let Some(writer) = files.as_mut() else { return };
            match woken {
                // Kept while there is more: nobody else is to write one change while many wait.
                Woken::Work => while self.make_group(writer, true) {},
                Woken::Upkeep => writer.look_after(self.inbox.is_empty()),
                Woken::Nothing => writer.upkeep.rest(&writer.conns, clock::now()),
                Woken::Closed => {
                    files.take().into_iter().for_each(Writer::close);
                    return;
                }
            }
        }
    }

    /// Makes what is in line on this thread, where nobody writes: to be called by whoever waits for it, holding no lock.
    pub fn attend(&self) {
        let mut files = match self.writer.try_lock() {
            Ok(files) => files,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Whoever writes sees what is in line once he has let the files go.
            Err(TryLockError::WouldBlock) => return,
        };
        let Some(writer) = files.as_mut() else { return };
        let since = clock::now();
        if !self.make_group(writer, false) {
            return;
        }
        // Those who came meanwhile would wait for the writer's thread to wake, and this one waits for their commit anyway if it sends
        // again. Where the disk is slow, it has waited enough.
        if since.elapsed() < QUICK {
            self.make_group(writer, false);
        }
        let is_upkeep_due = writer.upkeep.is_due(clock::now());
        // In this order: what is put in line until then finds the files taken.
        drop(files);
        self.inbox.hand_back(is_upkeep_due);
    }

    /// Makes the next group; false where nothing is in line.
    fn make_group(&self, writer: &mut Writer, looks_after: bool) -> bool {
        let group = self.inbox.take();
        if group.is_empty() {
            return false;
        }
        writer.make(group);
        if looks_after {
            writer.look_after(self.inbox.is_empty());
        }
        self.inbox.leave();
        true
    }
}

impl Writer {
    /// Commits a group and tells whoever waits for it.
    fn make(&mut self, mut group: Vec<Work>) {
        let mut outcomes: Vec<Outcome> = group.iter().map(|_| Ok(())).collect();
        self.commit(File::Main, &mut group, &mut outcomes);
        let after_main = outcomes.clone();
        self.commit(File::Queue, &mut group, &mut outcomes);
        for ((work, after_main), outcome) in group.into_iter().zip(after_main).zip(outcomes) {
            if let Err(error) = &outcome {
                self.figures.failures.fetch_add(1, Ordering::Relaxed);
                if let StoreError::Corrupt { file, .. } = error {
                    (self.on_damage)(*file);
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
    }

    /// Whoever waited for the commit has been told: this holds up only the next one.
    fn look_after(&mut self, is_idle: bool) {
        self.upkeep.after_group(&self.conns, clock::now(), is_idle);
    }

    fn close(self) {
        for ((conn, file), place) in self.conns.into_iter().zip(File::ALL).zip(self.places.iter()) {
            if let Err(StoreError::Gone { is_log: false, .. }) = place.look() {
                // To close it deletes the log at its path, which may be that of the file that somebody has put there.
                std::mem::forget(conn);
                continue;
            }
            let checkpoint = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
            if let Err(error) = checkpoint.and_then(|()| conn.close().map_err(|(_, error)| error)) {
                tracing::warn!("{file} was not folded up at the end, which the next start will do: {error}");
            }
        }
        self.upkeep.end();
    }

    /// Commits the changes of one file: together, or one by one if one of them fails.
    fn commit(&mut self, file: File, group: &mut [Work], outcomes: &mut [Outcome]) {
        let Writer { conns, figures, places, upkeep, .. } = self;
        let (conn, place) = (&conns[file as usize], &places[file as usize]);
        let mut members: Vec<(&mut Job, &mut Outcome)> = group
            .iter_mut()
            .zip(outcomes)
            .filter(|(_, outcome)| outcome.is_ok())
            .filter_map(|(work, outcome)| work.jobs[file as usize].as_mut().map(|job| (job, outcome)))
            .collect();
        if members.is_empty() {
            return;
        }
        let mut done = transact(conn, place, members.iter_mut().map(|(job, _)| &mut **job), figures);
        if let Err(Failed::Job(StoreError::Full(_)) | Failed::Commit(StoreError::Full(_))) = done
            && upkeep.on_full(conn, file)
        {
            // There is some room now, for what makes room itself.
            done = transact(conn, place, members.iter_mut().map(|(job, _)| &mut **job), figures);
        }
        match done {
            Ok(()) => figures.note(file, Ok(())),
            Err(Failed::Job(_)) if members.len() > 1 => {
                for (job, outcome) in members {
                    let alone = transact(conn, place, std::iter::once(&mut *job), figures);
                    *outcome = alone.map_err(Failed::into_error);
                    figures.note(file, outcome.as_ref().copied());
                }
            }
            Err(failed) => {
                let error = failed.into_error();
                if let StoreError::Gone { is_log: true, .. } = error {
                    upkeep.rescue(conn, file);
                }
                figures.note(file, Err(&error));
                for (_, outcome) in members {
                    *outcome = Err(error.clone());
                }
            }
        }
        upkeep.committed(file);
    }
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
    conn: &Connection,
    place: &Place,
    jobs: impl Iterator<Item = &'a mut Job>,
    figures: &Figures,
) -> Result<(), Failed> {
    let file = place.file();
    let commit_failed = |error: &rusqlite::Error| Failed::Commit(StoreError::sql(file, error));
    let mut count = 0;
    let tx = Open::begin(conn).map_err(|e| commit_failed(&e))?;
    for job in jobs {
        // Dropping the transaction on the way out rolls it back.
        match catch_unwind(AssertUnwindSafe(|| job(conn))) {
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
    place.look().map_err(Failed::Commit)?;
    tx.commit().map_err(|e| commit_failed(&e))?;
    figures.record(count, before.elapsed());
    Ok(())
}

/// A transaction: rolled back unless it was committed. Its statements are prepared once; that of the library parses them each time.
struct Open<'c>(&'c Connection);

impl<'c> Open<'c> {
    fn begin(conn: &'c Connection) -> rusqlite::Result<Open<'c>> {
        conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(Open(conn))
    }

    /// One that fails may leave the transaction open; what is dropped here rolls it back.
    fn commit(self) -> rusqlite::Result<()> {
        self.0.prepare_cached("COMMIT")?.execute([]).map(drop)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        // Some errors end the transaction by themselves.
        if !self.0.is_autocommit()
            && let Err(error) = self.0.execute_batch("ROLLBACK")
        {
            tracing::error!("a change could not be rolled back: {error}");
        }
    }
}

#[cfg(test)]
mod tests;
