//! The durable end of the queues: messages that are on disk before their sender hears "done".
//!
//! Guarantee: a message whose completion said `Ok` is committed and synced. Rows that a handler staged and that could not be
//! committed are kept in memory in their order and tried again, until the disk takes them or the runtime ends.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::budget::{self, Budget, Limits};
use super::ingest::SendError;
use super::lane::lock;
use crate::database::tables::loss::{self, LossLine, LossTotal};
use crate::database::tables::queue::{self, ClockMark, StoredMessage};
use crate::database::{Database, File, StoreError, Work};

/// Bytes of staged rows that are tried again in one change, and the batch that goes beyond.
const MAX_RETRY_BYTES: usize = 4 << 20;

/// See the module's documentation. Clones are the same.
#[derive(Clone)]
pub struct Disk {
    database: Database,
    budget: Arc<Budget>,
    mark: ClockMark,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    messages: AtomicU64,
    parked: AtomicU64,
    staged: Mutex<Staged>,
    /// Counts up with each failure of staged rows: what was in line behind them then fails as well, and waits behind them.
    run: AtomicU64,
}

/// What handlers staged and accepted: it cannot be refused any more.
#[derive(Default)]
struct Staged {
    last: u64,
    /// In line for a commit.
    in_line: usize,
    /// What could not be committed, or came after that.
    waiting: BTreeMap<u64, Arc<Batch>>,
}

/// What one handler staged.
struct Batch {
    rows: Vec<StoredMessage>,
    stored: Mutex<Option<Stored>>,
}

/// Hears that the rows of a handler are committed; on the writer's thread, must not wait.
pub type Stored = Box<dyn FnOnce() + Send>;

impl Disk {
    /// Counts what is there. `limits`: bytes of messages that may wait.
    pub fn open(database: Database, limits: Limits, mark: ClockMark) -> Result<Disk, StoreError> {
        let (shared, budget) = (Shared::default(), Budget::new(limits));
        let counts = database.read(File::Queue, queue::counts)?;
        for count in &counts {
            let counter = if count.is_parked { &shared.parked } else { &shared.messages };
            counter.fetch_add(count.messages, Ordering::Relaxed);
        }
        budget.counted(counts.into_iter().map(|count| (count.endpoint.into(), count.bytes)));
        Ok(Disk { database, budget: Arc::new(budget), mark, shared: Arc::new(shared) })
    }

    /// Messages that wait, messages that are parked, and bytes of both.
    pub fn stored(&self) -> (u64, u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.shared.messages), read(&self.shared.parked), self.budget.held().0)
    }

    /// How much may wait, and how much does.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Whether the byte budget allows these rows.
    pub fn check(&self, rows: &[StoredMessage]) -> Result<(), SendError> {
        self.budget.check_rows(rows)
    }

    /// Puts messages in line for the next commit. `[any thread]`; waits only while the disk is far behind.
    pub fn enqueue(
        &self,
        rows: Vec<StoredMessage>,
        done: impl FnOnce(Result<(), String>) + Send + 'static,
    ) -> Result<(), SendError> {
        if !lock(&self.shared.staged).waiting.is_empty() {
            // It would be stored before what was sent earlier.
            let endpoint = rows.first().map_or(String::new(), |row| row.endpoint.to_string());
            return Err(SendError::NotStored { endpoint });
        }
        self.budget.take_rows(&rows)?;
        let rows = Arc::new(rows);
        let (shared, budget, taken) = (self.shared.clone(), self.budget.clone(), rows.clone());
        self.submit(
            rows,
            Box::new(move |outcome| match outcome {
                Ok(()) => {
                    shared.messages.fetch_add(taken.len() as u64, Ordering::Relaxed);
                    done(Ok(()));
                }
                Err(error) => {
                    budget.give_rows(&taken);
                    done(Err(error.to_string()));
                }
            }),
        );
        Ok(())
    }

    /// Puts in line what a handler staged, in order; it cannot be refused any more, so it is tried until it is stored.
    pub fn enqueue_staged(&self, rows: Vec<StoredMessage>, stored: Stored) {
        self.budget.take_rows_anyway(&rows);
        let batch = Arc::new(Batch { rows, stored: Mutex::new(Some(stored)) });
        let mut staged = lock(&self.shared.staged);
        staged.last += 1;
        let id = staged.last;
        if !staged.waiting.is_empty() {
            staged.waiting.insert(id, batch);
            return;
        }
        staged.in_line += 1;
        drop(staged);
        self.submit_staged(vec![(id, batch)]);
    }

    /// Tries again what could not be committed. To be called now and then.
    pub fn retry(&self) {
        let mut staged = lock(&self.shared.staged);
        // What is still in line belongs behind what has failed, or is a retry itself.
        if staged.in_line > 0 || staged.waiting.is_empty() {
            return;
        }
        staged.in_line += 1;
        let mut bytes = 0;
        let chunk = staged.waiting.iter().take_while(|(_, batch)| {
            let is_in = bytes < MAX_RETRY_BYTES;
            bytes += queue::held_bytes(&batch.rows);
            is_in
        });
        let chunk = chunk.map(|(id, batch)| (*id, batch.clone())).collect();
        drop(staged);
        self.submit_staged(chunk);
    }

    fn submit_staged(&self, batches: Vec<(u64, Arc<Batch>)>) {
        let (disk, run) = (self.clone(), self.shared.run.load(Ordering::Acquire));
        let batches = Arc::new(batches);
        let (shared, rows, mark) = (self.shared.clone(), batches.clone(), self.mark);
        let job = move |tx: &rusqlite::Transaction<'_>| {
            if shared.run.load(Ordering::Acquire) != run {
                return Err(rusqlite::Error::StatementChangedRows(0));
            }
            let done = rows.iter().try_for_each(|(_, batch)| queue::enqueue(tx, &batch.rows, mark).map(drop));
            if done.is_err() {
                shared.run.fetch_max(run + 1, Ordering::AcqRel);
            }
            done
        };
        let held = batches.iter().map(|(_, batch)| queue::held_bytes(&batch.rows)).sum();
        let completion = Box::new(move |outcome: Result<(), StoreError>| disk.staged_end(run, &batches, outcome));
        self.database.submit_work(Work::new(completion).job(File::Queue, Box::new(job)).bytes(held));
    }

    /// `[writer]`
    fn staged_end(&self, run: u64, batches: &[(u64, Arc<Batch>)], outcome: Result<(), StoreError>) {
        let mut staged = lock(&self.shared.staged);
        staged.in_line -= 1;
        if let Err(error) = outcome {
            self.shared.run.fetch_max(run + 1, Ordering::AcqRel);
            if staged.waiting.is_empty() {
                tracing::error!("messages cannot be stored and wait in memory: {error}");
            }
            staged.waiting.extend(batches.iter().cloned());
            return;
        }
        let mut count = 0;
        for (id, batch) in batches {
            staged.waiting.remove(id);
            count += batch.rows.len() as u64;
        }
        drop(staged);
        self.shared.messages.fetch_add(count, Ordering::Relaxed);
        for (_, batch) in batches {
            lock(&batch.stored).take().into_iter().for_each(|stored| stored());
        }
        self.retry();
    }

    /// What handlers staged and no disk took, for the end of the runtime.
    pub fn take_unstored(&self) -> Vec<StoredMessage> {
        let waiting = std::mem::take(&mut lock(&self.shared.staged).waiting);
        waiting.into_values().flat_map(|batch| batch.rows.clone()).collect()
    }

    /// Sets one message aside as poisonous. `lost` hears why where that is not possible; on the writer's thread, must not wait.
    pub fn park(&self, row: StoredMessage, reason: &str, lost: impl FnOnce(&str) + Send + 'static) {
        if let Err(error) = self.budget.take_rows(std::slice::from_ref(&row)) {
            return lost(&error.to_string());
        }
        let (shared, mark, budget) = (self.shared.clone(), self.mark, self.budget.clone());
        let (reason, endpoint, bytes) = (reason.to_owned(), row.endpoint.clone(), budget::size(&row));
        self.database.submit(
            File::Queue,
            Box::new(move |tx| {
                let id = queue::enqueue(tx, std::slice::from_ref(&row), mark)?;
                queue::park(tx, &[id], &reason)
            }),
            Box::new(move |outcome| match outcome {
                Ok(()) => drop(shared.parked.fetch_add(1, Ordering::Relaxed)),
                Err(error) => {
                    budget.give(&endpoint, bytes);
                    lost(&error.to_string());
                }
            }),
        );
    }

    /// Removes everything that is stored for an endpoint that begins with `prefix`, counted as lost for `reason`. Waits for the
    /// disk.
    pub fn purge(&self, prefix: &str, reason: &'static str) -> Result<u64, StoreError> {
        let prefix = prefix.to_owned();
        let purged = self.database.call(File::Queue, move |tx| queue::purge(tx, &prefix, reason))?;
        self.shared.messages.fetch_sub(purged.messages, Ordering::Relaxed);
        self.shared.parked.fetch_sub(purged.parked, Ordering::Relaxed);
        purged.bytes.iter().for_each(|(endpoint, bytes)| self.budget.give(endpoint, *bytes));
        Ok(purged.messages + purged.parked)
    }

    /// See [`queue::toll`]. Reads, and waits for nobody's commit.
    pub fn toll(&self, sender: &str, prefix: &str) -> Result<queue::Toll, StoreError> {
        self.database.read(File::Queue, |conn| queue::toll(conn, sender, prefix))
    }

    /// The ledger of losses, sorted. Reads, and waits for nobody's commit.
    pub fn losses(&self) -> Result<Vec<LossLine>, StoreError> {
        self.database.read(File::Queue, loss::all)
    }

    /// The ledger without its ranges, sorted.
    pub fn loss_totals(&self) -> Result<Vec<LossTotal>, StoreError> {
        self.database.read(File::Queue, loss::totals)
    }

    fn submit(&self, rows: Arc<Vec<StoredMessage>>, completion: Box<dyn FnOnce(Result<(), StoreError>) + Send>) {
        let mark = self.mark;
        let held = queue::held_bytes(&rows);
        let job = Box::new(move |tx: &rusqlite::Transaction<'_>| queue::enqueue(tx, &rows, mark).map(drop));
        self.database.submit_work(Work::new(completion).job(File::Queue, job).bytes(held));
    }
}
