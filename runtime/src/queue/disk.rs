//! The durable end of the queues: messages that are on disk before their sender hears "done".
//!
//! Guarantee: a message whose completion said `Ok` is committed and synced. Rows that a handler staged and that could not be
//! committed are kept in memory in their order and tried again, until the disk takes them or the runtime ends.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::ingest::SendError;
use super::lane::lock;
use crate::database::tables::queue::{self, ClockMark, StoredMessage};
use crate::database::{Database, File, StoreError, Work};

/// Hears whether the rows are committed; on the writer's thread, must not wait.
pub type Done = Box<dyn FnOnce(Result<(), String>) + Send>;

/// See the module's documentation.
pub struct Disk {
    database: Database,
    budget: u64,
    mark: ClockMark,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    messages: AtomicU64,
    bytes: AtomicU64,
    parked: AtomicU64,
    retry: Mutex<VecDeque<Vec<StoredMessage>>>,
}

impl Disk {
    /// Counts what is there. `budget`: bytes of messages that may wait, over all endpoints.
    pub fn open(database: Database, budget: u64, mark: ClockMark) -> Result<Disk, StoreError> {
        let shared = Shared::default();
        for count in database.read(File::Queue, queue::counts)? {
            let counter = if count.is_parked { &shared.parked } else { &shared.messages };
            counter.fetch_add(count.messages, Ordering::Relaxed);
            shared.bytes.fetch_add(count.bytes, Ordering::Relaxed);
        }
        Ok(Disk { database, budget, mark, shared: Arc::new(shared) })
    }

    /// Messages that wait, messages that are parked, and bytes of both.
    pub fn stored(&self) -> (u64, u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.shared.messages), read(&self.shared.parked), read(&self.shared.bytes))
    }

    /// Whether the byte budget allows these rows.
    pub fn check(&self, rows: &[StoredMessage]) -> Result<(), SendError> {
        let stored = self.shared.bytes.load(Ordering::Relaxed);
        if stored + size(rows) > self.budget {
            let endpoint = rows.first().map_or(String::new(), |row| row.endpoint.to_string());
            return Err(SendError::StoreFull { endpoint, stored, budget: self.budget });
        }
        Ok(())
    }

    /// Puts messages in line for the next commit. `[any thread]`; waits only while the disk is far behind.
    pub fn enqueue(
        &self,
        rows: Vec<StoredMessage>,
        done: impl FnOnce(Result<(), String>) + Send + 'static,
    ) -> Result<(), SendError> {
        self.check(&rows)?;
        let (count, bytes) = (rows.len() as u64, size(&rows));
        self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        let shared = self.shared.clone();
        self.submit(
            Arc::new(rows),
            Box::new(move |outcome| match outcome {
                Ok(()) => {
                    shared.messages.fetch_add(count, Ordering::Relaxed);
                    done(Ok(()));
                }
                Err(error) => {
                    shared.bytes.fetch_sub(bytes, Ordering::Relaxed);
                    done(Err(error.to_string()));
                }
            }),
        );
        Ok(())
    }

    /// Puts in line what a handler staged, in order; it cannot be refused any more, so it is tried until it is stored.
    pub fn enqueue_staged(&self, rows: Vec<StoredMessage>) {
        self.shared.bytes.fetch_add(size(&rows), Ordering::Relaxed);
        let mut retry = lock(&self.shared.retry);
        if retry.is_empty() {
            drop(retry);
            self.submit_staged(rows);
        } else {
            retry.push_back(rows);
        }
    }

    /// Tries again what could not be committed. To be called now and then.
    pub fn retry(&self) {
        let waiting: Vec<_> = lock(&self.shared.retry).drain(..).collect();
        waiting.into_iter().for_each(|rows| self.submit_staged(rows));
    }

    fn submit_staged(&self, rows: Vec<StoredMessage>) {
        let rows = Arc::new(rows);
        let (shared, again) = (self.shared.clone(), rows.clone());
        self.submit(
            rows,
            Box::new(move |outcome| match outcome {
                Ok(()) => drop(shared.messages.fetch_add(again.len() as u64, Ordering::Relaxed)),
                Err(error) => {
                    let mut retry = lock(&shared.retry);
                    if retry.is_empty() {
                        tracing::error!("messages cannot be stored and wait in memory: {error}");
                    }
                    retry.push_back(again.to_vec());
                }
            }),
        );
    }

    /// Sets one message aside as poisonous. `lost` hears why where that is not possible; on the writer's thread, must not wait.
    pub fn park(&self, row: StoredMessage, reason: &str, lost: impl FnOnce(&str) + Send + 'static) {
        if let Err(error) = self.check(std::slice::from_ref(&row)) {
            return lost(&error.to_string());
        }
        let (shared, mark, bytes) = (self.shared.clone(), self.mark, size(std::slice::from_ref(&row)));
        let reason = reason.to_owned();
        self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.database.submit(
            File::Queue,
            Box::new(move |tx| {
                let id = queue::enqueue(tx, std::slice::from_ref(&row), mark)?;
                queue::park(tx, &[id], &reason)
            }),
            Box::new(move |outcome| match outcome {
                Ok(()) => drop(shared.parked.fetch_add(1, Ordering::Relaxed)),
                Err(error) => {
                    shared.bytes.fetch_sub(bytes, Ordering::Relaxed);
                    lost(&error.to_string());
                }
            }),
        );
    }

    fn submit(&self, rows: Arc<Vec<StoredMessage>>, completion: Box<dyn FnOnce(Result<(), StoreError>) + Send>) {
        let mark = self.mark;
        let held = queue::held_bytes(&rows);
        let job = Box::new(move |tx: &rusqlite::Transaction<'_>| queue::enqueue(tx, &rows, mark).map(drop));
        self.database.submit_work(Work::new(completion).job(File::Queue, job).bytes(held));
    }
}

fn size(rows: &[StoredMessage]) -> u64 {
    rows.iter().map(|row| (row.meta.len() + row.body.len()) as u64).sum()
}
