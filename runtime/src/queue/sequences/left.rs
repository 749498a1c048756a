//! What a start makes of what the last run left in the book.

use super::spare::Note;
use crate::clock;
use crate::database::tables::loss::{self, LossRow};
use crate::database::tables::{sequence, setting};
use crate::database::{Database, File, StoreError};
use crate::queue::losses;

/// Brings into the book what was noted while it could not be written.
fn bring_in(tx: &rusqlite::Connection, noted: &[Note]) -> rusqlite::Result<()> {
    noted.iter().try_for_each(|note| {
        sequence::reserve(tx, &note.sender, &note.output, note.before, note.reserved, note.has_memory)
    })
}

/// The lines of the ledger for what an end without a word left open, which it closes.
pub(super) fn close(database: &Database, epoch: u64, noted: Vec<Note>) -> Result<Vec<LossRow>, StoreError> {
    database.call(File::Queue, move |tx| {
        bring_in(tx, &noted)?;
        let lines: Vec<LossRow> = sequence::open_ones(tx)?.iter().filter_map(|open| line(open, epoch)).collect();
        loss::add(tx, &lines, clock::wall_us())?;
        sequence::close_all(tx)?;
        Ok(lines)
    })
}

/// What the ledger says of an output that was left open; `None` where nothing can be missing.
fn line(open: &sequence::Open, epoch: u64) -> Option<LossRow> {
    let (first, last) = (open.settled + 1, open.reserved);
    if first > last {
        return None;
    }
    let (reason, count) = match open.has_memory {
        true => (losses::RUNTIME_DIED, last - first + 1),
        // What was acknowledged is on disk; the numbers are skipped all the same, and whoever counts them is to know.
        false => (losses::NOT_ACKNOWLEDGED, 0),
    };
    Some(LossRow {
        sender: open.sender.clone(),
        output: open.output.clone(),
        endpoint: String::new(),
        reason: reason.to_owned(),
        first: (epoch, first),
        last: (epoch, last),
        count,
        is_upper_bound: true,
    })
}

/// Begins another epoch. Where there was a book before, the ledger says so.
pub(super) fn begin(
    database: &Database,
    known: Option<u64>,
    own: &str,
    noted: Vec<Note>,
) -> Result<(u64, Vec<LossRow>), StoreError> {
    let epoch = database.call(File::Main, |tx| setting::count_up(tx, setting::key::SEQUENCE_EPOCH))?;
    let own = own.to_owned();
    let lines = database.call(File::Queue, move |tx| {
        bring_in(tx, &noted)?;
        let left = sequence::open_ones(tx)?;
        let mut lines: Vec<LossRow> =
            left.iter().filter_map(|open| line(open, known.unwrap_or(epoch.saturating_sub(1)))).collect();
        if let Some(known) = known {
            lines.push(LossRow {
                sender: own.clone(),
                output: String::new(),
                endpoint: String::new(),
                reason: losses::BOOK_LOST.to_owned(),
                first: (known, 0),
                last: (epoch, 0),
                count: 0,
                is_upper_bound: true,
            });
        }
        loss::add(tx, &lines, clock::wall_us())?;
        sequence::begin(tx, epoch)?;
        Ok(lines)
    })?;
    if known.is_some() {
        tracing::error!(
            "the book of message sequences is lost: sequences begin again at 1, in epoch {epoch}; see `dinrail losses`"
        );
    }
    Ok((epoch, lines))
}
