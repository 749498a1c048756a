//! Ids of messages: they count up and are never used twice, over restarts too.
//!
//! They are given out from a block that is reserved on disk ahead of use, in the table in which SQLite itself keeps the last id of
//! `message`: a commit that only brings messages writes nothing about ids. What is left of a block at an end is not used any more.
//!
//! Invariant: what SQLite keeps is never less than an id that is committed, whatever becomes of the change that reserved the block:
//! where that was rolled back, SQLite itself notes each id until the next block.
//!
//! What goes before all that is there has ids below 0, which count down from run to run; the lowest is kept beside the last one.

use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension, params};

/// Ids that are reserved at a time: a page in so many rows is next to nothing, and a restart does not skip many.
const BLOCK: i64 = 4096;

/// Whoever puts messages into the same file shares one of these, so that later ones have greater ids.
#[derive(Debug)]
pub struct Ids(Mutex<Block>);

/// Ids from `next` to `last` can be given out.
#[derive(Debug)]
struct Block {
    next: i64,
    last: i64,
}

impl Default for Ids {
    fn default() -> Ids {
        Ids(Mutex::new(Block { next: 1, last: 0 }))
    }
}

impl Ids {
    /// The first of so many ids that follow each other. `[writer]`
    pub fn take(&self, conn: &Connection, count: usize) -> rusqlite::Result<i64> {
        let count = count as i64;
        let mut block = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if block.last - block.next < count - 1 {
            *block = reserve(conn, &block, count)?;
        }
        let first = block.next;
        block.next += count;
        Ok(first)
    }
}

fn reserve(conn: &Connection, block: &Block, count: i64) -> rusqlite::Result<Block> {
    let used = conn
        .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'message'")?
        .query_row([], |row| row.get::<_, i64>(0))
        .optional()?;
    // The last block goes on where nobody else has reserved any since.
    let next = if used == Some(block.last) { block.next } else { block.next.max(used.unwrap_or(0).max(0) + 1) };
    let last = next + count - 1 + BLOCK;
    let sql = match used {
        Some(_) => "UPDATE sqlite_sequence SET seq = ?1 WHERE name = 'message'",
        None => "INSERT INTO sqlite_sequence (name, seq) VALUES ('message', ?1)",
    };
    conn.prepare_cached(sql)?.execute([last])?;
    Ok(Block { next, last })
}

/// Under which name the lowest id is kept, beside the last one. No table has it.
pub const LOWEST: &str = "message, lowest";

/// Reserves ids below all that there are and ever were: `count` of them, and `more` for later. Gives the first, which the others
/// follow.
pub fn take_below(conn: &Connection, count: usize, more: i64) -> rusqlite::Result<i64> {
    let kept = conn
        .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = ?1")?
        .query_row([LOWEST], |row| row.get::<_, i64>(0))
        .optional()?;
    // Rows of a release that kept no lowest id.
    let lowest: Option<i64> = conn.query_row("SELECT min(id) FROM message", [], |row| row.get(0))?;
    let first = kept.unwrap_or(0).min(lowest.unwrap_or(0)).min(0) - count as i64 - more;
    let sql = match kept {
        Some(_) => "UPDATE sqlite_sequence SET seq = ?2 WHERE name = ?1",
        None => "INSERT INTO sqlite_sequence (name, seq) VALUES (?1, ?2)",
    };
    conn.prepare_cached(sql)?.execute(params![LOWEST, first])?;
    Ok(first)
}
