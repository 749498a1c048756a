//! Sequences: the numbers by which messages of an output are known, and the book that goes on with them over restarts.
//!
//! A message is (epoch, n) of its sender and output. n counts up by one with each message, over restarts too; the epoch changes only
//! where the book is lost. Numbers are given out from a block that is on disk before its first number is used, so that no number is
//! ever given twice: after an end without a word the next run goes on behind the block, and the ledger has what lies between.
//!
//! ```text
//! closed at n ──first message──► open, block up to m ──orderly end──► closed at its last number
//!                                 │ ▲          │
//!                  half is used ──┘ │          └──any other end──► closed at m by the next start, and a line in the ledger
//!                                   └── the next block is on disk long before this one is used up
//! ```
//!
//! While the book cannot be written, as on a full disk, blocks are noted in a spare file whose room was taken before; the next start
//! brings them into the book. Only where that fails too are numbers given out that no file knows of; a marker says so, and the next
//! start begins another epoch.
//!
//! Blocks last `BLOCK_LASTS` at the rate of the output, so a sender waits for the disk with its first message, and for moments while
//! it becomes very fast. An output that rests gives most of its block back. Guarantee: what is given out costs a comparison.

mod left;
mod marker;
mod resting;
mod spare;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::lane::{Source, lock};
use super::outgoing::SendError;
use crate::clock;
use crate::database::tables::loss::LossRow;
use crate::database::tables::{sequence, setting};
use crate::database::{Database, File, Job, StoreError};
use marker::Marker;
use spare::{Note, Spare};

/// For how long a block lasts, at the rate of the one before.
const BLOCK_LASTS: Duration = Duration::from_secs(20);
/// The first block of an output in a run.
const FIRST_BLOCK: u64 = 256;
/// The smallest block.
const MIN_BLOCK: u64 = 64;
/// The largest block.
const MAX_BLOCK: u64 = 1 << 32;
/// How much larger a block may be than the one before.
const MAX_GROWTH: u64 = 64;
/// Longest wait for a block. A disk that takes longer is as good as none.
const PATIENCE: Duration = Duration::from_secs(5);
/// While no block can be had: numbers between two looks at it.
const BESIDE: u64 = 1024;

/// The book. Clones are the same.
#[derive(Clone)]
pub struct Book(Arc<Inner>);

struct Inner {
    epoch: u64,
    /// `None`: nothing is kept, for tests and tryouts.
    file: Option<(Database, Marker)>,
    /// `None` with `file`.
    spare: Option<Mutex<Spare>>,
    is_behind: AtomicBool,
    is_over: AtomicBool,
}

/// Where an output is in its numbers. To be kept behind the output's lock.
#[derive(Default)]
pub struct Sequence {
    last: u64,
    /// Up to here numbers are given out without a look at anything.
    free: u64,
    has_memory: bool,
    is_closed: bool,
    block: Option<Arc<Block>>,
    /// The last number when it was looked at whether the output rests.
    at_last_look: u64,
}

/// What is on disk of an output's numbers. The writer's thread tells of it.
struct Block {
    state: Mutex<State>,
    changed: Condvar,
}

/// A request for a block.
struct Request {
    /// The last number before this run; `None` where that is asked for too.
    before: Option<u64>,
    size: u64,
    to: u64,
    has_memory: bool,
}

struct State {
    /// The last number before this run; `None` until it is read.
    before: Option<u64>,
    reserved: u64,
    size: u64,
    /// What is on disk says that there are routes in memory.
    has_memory: bool,
    is_in_line: bool,
    /// The disk did not take the last request.
    has_failed: bool,
    /// When the last block was asked for, and at which number.
    asked: (Instant, u64),
}

impl Book {
    /// A book that is kept nowhere.
    pub fn unkept(epoch: u64) -> Book {
        let (is_behind, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
        Book(Arc::new(Inner { epoch, file: None, spare: None, is_behind, is_over }))
    }

    /// Opens the book in `folder`, the state directory, and closes what an end without a word left open. Second: what the ledger has
    /// of that; it is stored. `own`: the identity in whose name the book itself speaks.
    pub fn open(database: &Database, folder: &Path, own: &str) -> Result<(Book, Vec<LossRow>), StoreError> {
        let marker = Marker::of(folder);
        let known = database.read(File::Main, |conn| setting::get(conn, setting::key::SEQUENCE_BOOK))?;
        let known: Option<u64> = known.and_then(|text| text.parse().ok());
        let (found, is_any_open) =
            database.read(File::Queue, |conn| Ok((sequence::epoch(conn)?, sequence::is_any_open(conn)?)))?;
        let was_behind = marker.is_set();
        let (mut spare, mut noted) = Spare::open(folder);
        // What belongs to another book was brought into it, or is lost with it.
        noted.retain(|note| found == Some(note.epoch));
        let (epoch, lines) = match found {
            Some(epoch) if !was_behind && known.is_none_or(|known| known == epoch) => {
                let is_left = is_any_open || !noted.is_empty();
                (epoch, if is_left { left::close(database, epoch, noted)? } else { Vec::new() })
            }
            _ => left::begin(database, known, own, noted)?,
        };
        if let Err(error) = spare.clear() {
            tracing::warn!("the spare file of sequences cannot be cleared, which wastes numbers: {error}");
        }
        if known != Some(epoch) {
            let text = epoch.to_string();
            database.call(File::Main, move |tx| setting::set(tx, setting::key::SEQUENCE_BOOK, &text))?;
        }
        if was_behind && let Err(error) = marker.clear() {
            tracing::warn!("{} cannot be removed, so the next start begins another epoch: {error}", marker::NAME);
        }
        let file = Some((database.clone(), marker));
        let (is_behind, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
        let spare = Some(Mutex::new(spare));
        Ok((Book(Arc::new(Inner { epoch, file, spare, is_behind, is_over })), lines))
    }

    /// The epoch of every number of this run.
    pub fn epoch(&self) -> u64 {
        self.0.epoch
    }

    /// What notes up to where outputs have nothing in memory any more: to be made in the change that brings to the ledger what was lost
    /// of that. `None` where nothing is to be noted.
    pub fn noting(&self, settled: Vec<(Arc<Source>, u64)>) -> Option<Job> {
        self.0.file.as_ref().filter(|_| !settled.is_empty())?;
        Some(Box::new(move |tx| {
            settled.iter().try_for_each(|(of, n)| sequence::settle(tx, &of.identity, &of.output, *n))
        }))
    }

    /// From now on no output is opened: what is sent at the end of the runtime is refused.
    pub fn end(&self) {
        self.0.is_over.store(true, Ordering::Release);
    }

    /// Closes outputs at their last numbers, see [`Sequence::close`]. Does not wait for the disk.
    pub fn close(&self, closed: Vec<(Arc<Source>, u64)>) {
        let Some((database, marker)) = &self.0.file else { return };
        let (marker, book, of_spare) = (marker.clone(), self.clone(), closed.clone());
        database.submit_now(
            File::Queue,
            Box::new(move |tx| closed.iter().try_for_each(|(of, n)| sequence::close(tx, &of.identity, &of.output, *n))),
            Box::new(move |outcome| match outcome {
                Ok(()) => {
                    if book.0.is_behind.load(Ordering::Acquire) {
                        let _ = marker.clear();
                    }
                    if let Some(spare) = &book.0.spare {
                        lock(spare).forget(of_spare.iter().map(|(of, _)| (&*of.identity, &*of.output)));
                    }
                }
                Err(error) => tracing::error!("the last sequences could not be stored: {error}"),
            }),
        );
    }

    /// Notes a block that the book did not take; false where that cannot be done either. `[writer]`
    fn note(&self, source: &Source, block: (u64, u64), has_memory: bool, why: &StoreError) -> bool {
        let Some(spare) = &self.0.spare else { return false };
        let note = Note {
            epoch: self.0.epoch,
            sender: source.identity.to_string(),
            output: source.output.to_string(),
            before: block.0,
            reserved: block.1,
            has_memory,
        };
        match lock(spare).note(&note) {
            Ok(()) => {
                tracing::debug!("sequences up to {} are reserved in the spare file: {why}", block.1);
                true
            }
            Err(error) => {
                tracing::error!("sequences cannot be reserved in the spare file: {error}");
                false
            }
        }
    }

    /// The disk did not take a block: from now on numbers may be given out that it knows nothing of. `[writer]`
    fn falls_behind(&self, error: &StoreError) {
        let Some((_, marker)) = &self.0.file else { return };
        if self.0.is_behind.swap(true, Ordering::AcqRel) {
            return;
        }
        tracing::error!(
            "sequences cannot be reserved on disk and go on without; should the runtime end now without a word, the next start begins another epoch: {error}"
        );
        if let Err(error) = marker.set() {
            tracing::error!("the next start will not know of that either: {error}");
        }
    }

    /// Puts a request for numbers up to `to` in line, which the block has been told of. The first one of an output opens it. Not with
    /// the block locked: whoever puts something in line may have to wait for the writer, and the writer tells the block.
    fn ask(&self, block: &Arc<Block>, source: &Arc<Source>, request: &Request) {
        let Some((database, _)) = &self.0.file else { return };
        let &Request { before: known, size, to, has_memory } = request;
        let is_first = known.is_none();
        let of = source.clone();
        let opened = Arc::new(Mutex::new(0));
        let open = opened.clone();
        let (book, told, of_reader) = (self.clone(), block.clone(), source.clone());
        let reader = database.clone();
        database.submit_now(
            File::Queue,
            Box::new(move |tx| {
                if let Some(before) = known {
                    return sequence::reserve(tx, &of.identity, &of.output, before, to, has_memory);
                }
                *lock(&open) = sequence::open(tx, &of.identity, &of.output, size, has_memory)?;
                Ok(())
            }),
            Box::new(move |outcome| {
                let failed = outcome.err();
                // One that cannot be opened goes on from what can be read.
                let before = match (&failed, known) {
                    (_, Some(before)) => Some(before),
                    (None, None) => Some(*lock(&opened)),
                    (Some(_), None) => {
                        let read =
                            |conn: &rusqlite::Connection| sequence::last(conn, &of_reader.identity, &of_reader.output);
                        reader.read(File::Queue, read).ok()
                    }
                };
                let to = before.filter(|_| is_first).map_or(to, |before| before + size);
                let is_reserved = failed.as_ref().is_none_or(|why| {
                    before.is_some_and(|before| book.note(&of_reader, (before, to), has_memory, why)) || {
                        book.falls_behind(why);
                        false
                    }
                });
                let mut state = lock(&told.state);
                state.is_in_line = false;
                state.has_failed = !is_reserved;
                if is_first {
                    state.before = before;
                    state.reserved = before.unwrap_or(0);
                    // Numbers of earlier runs say nothing of how fast this one needs them.
                    state.asked.1 = state.reserved.max(1);
                }
                if is_reserved {
                    state.reserved = state.reserved.max(to);
                    state.has_memory |= has_memory;
                }
                drop(state);
                told.changed.notify_all();
            }),
        );
    }
}

impl Sequence {
    /// Gives out the next number.
    ///
    /// # Errors
    /// The runtime ends, or the disk has not said for `PATIENCE` where this output goes on.
    #[inline]
    pub fn take(&mut self, book: &Book, source: &Arc<Source>) -> Result<u64, SendError> {
        if self.last < self.free {
            self.last += 1;
            return Ok(self.last);
        }
        self.take_slowly(book, source, PATIENCE)
    }

    /// The next number, where it needs no look at anything. It is given out with [`Sequence::take_next`].
    #[inline]
    pub fn next(&self) -> Option<u64> {
        (self.last < self.free).then(|| self.last + 1)
    }

    /// Gives out what [`Sequence::next`] has shown.
    #[inline]
    pub fn take_next(&mut self) {
        self.last += 1;
    }

    /// [`Sequence::take`] for whoever must not wait: `None` where that would have to. What it takes is on its way then.
    pub fn take_now(&mut self, book: &Book, source: &Arc<Source>) -> Option<u64> {
        self.take_slowly(book, source, Duration::ZERO).ok()
    }

    /// The last number; `None` where this run has given out none.
    pub fn last(&self) -> Option<u64> {
        self.block.as_ref().filter(|_| self.last > 0).map(|_| self.last)
    }

    /// Says that messages go into memory, which the book has to know before the first one does.
    pub fn goes_to_memory(&mut self) {
        if !self.has_memory {
            self.has_memory = true;
            self.free = 0;
        }
    }

    /// Ends it: nothing is given out any more. Gives the last number, where this run has asked for any.
    pub fn close(&mut self) -> Option<u64> {
        (self.free, self.is_closed) = (0, true);
        let block = self.block.as_ref()?;
        // One that was opened and gave out nothing stays where it was.
        if self.last > 0 { Some(self.last) } else { lock(&block.state).before }
    }

    #[cold]
    fn take_slowly(&mut self, book: &Book, source: &Arc<Source>, patience: Duration) -> Result<u64, SendError> {
        if self.is_closed || book.0.is_over.load(Ordering::Acquire) {
            return Err(SendError::Refused("the runtime is ending".to_owned()));
        }
        if book.0.file.is_none() {
            (self.last, self.free) = (self.last + 1, u64::MAX);
            self.block.get_or_insert_with(Block::new);
            return Ok(self.last);
        }
        let block = self.block.get_or_insert_with(Block::new).clone();
        let mut state = lock(&block.state);
        let until = clock::now() + patience;
        loop {
            self.last = self.last.max(state.before.unwrap_or(0));
            let is_known = state.before.is_some() && (state.has_memory || !self.has_memory);
            let left = state.reserved.saturating_sub(self.last);
            if !state.is_in_line && (!is_known || left <= state.size / 2) {
                let size = state.next_size(self.last);
                state.is_in_line = true;
                let (before, to) = (state.before, self.last + left + size);
                drop(state);
                book.ask(&block, source, &Request { before, size, to, has_memory: self.has_memory });
                state = lock(&block.state);
                continue;
            }
            // What has failed and goes on without was asked for again just now.
            let goes_without = state.before.is_some() && state.has_failed;
            if (is_known && self.last < state.reserved) || goes_without {
                break;
            }
            let wait = until.saturating_duration_since(clock::now());
            if wait.is_zero() {
                return Err(SendError::NotStored {
                    endpoint: format!("{}, output {}", source.identity, source.output),
                });
            }
            state = block.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
        self.last += 1;
        self.free = match state.reserved.checked_sub(self.last) {
            None => self.last + BESIDE,
            Some(_) if state.is_in_line => state.reserved,
            Some(_) => self.last.max(state.reserved - state.size / 2),
        };
        Ok(self.last)
    }
}

impl Block {
    fn new() -> Arc<Block> {
        let state = State {
            before: None,
            reserved: 0,
            size: FIRST_BLOCK,
            has_memory: false,
            is_in_line: false,
            has_failed: false,
            asked: (clock::now(), 0),
        };
        Arc::new(Block { state: Mutex::new(state), changed: Condvar::new() })
    }
}

impl State {
    /// The size of the block to be asked for at the number `last`, from how fast the last ones went.
    fn next_size(&mut self, last: u64) -> u64 {
        let now = clock::now();
        if self.before.is_some() && last > self.asked.1 && self.asked.1 > 0 {
            self.size = block_size(self.size, last - self.asked.1, now - self.asked.0);
        }
        self.asked = (now, last.max(1));
        self.size
    }
}

/// The size of a block after one of `size`, where `used` numbers took `time`.
fn block_size(size: u64, used: u64, time: Duration) -> u64 {
    let wanted = used as f64 * BLOCK_LASTS.as_secs_f64() / time.as_secs_f64().max(1e-9);
    (wanted as u64).clamp(MIN_BLOCK, size.saturating_mul(MAX_GROWTH).min(MAX_BLOCK))
}

#[cfg(test)]
mod tests;
