//! The book of sequences: how far the numbers of each output have been given out.

use rusqlite::{Connection, OptionalExtension, params};

/// An output that was in use when the runtime ended without a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// Identity of the sender.
    pub sender: String,
    /// Its output.
    pub output: String,
    /// It had routes in memory.
    pub has_memory: bool,
    /// Up to here nothing waited in memory.
    pub settled: u64,
    /// Nothing above was given out.
    pub reserved: u64,
}

/// The epoch of the book; `None` where there is no book yet.
pub fn epoch(conn: &Connection) -> rusqlite::Result<Option<u64>> {
    conn.query_row("SELECT epoch FROM book", [], |row| row.get::<_, i64>(0)).optional().map(|n| n.map(|n| n as u64))
}

/// Begins a book, in which nothing stands.
pub fn begin(conn: &Connection, epoch: u64) -> rusqlite::Result<()> {
    conn.execute("DELETE FROM sequence", [])?;
    conn.execute("DELETE FROM book", [])?;
    conn.execute("INSERT INTO book VALUES (?1)", [epoch as i64]).map(drop)
}

/// Whether anything was left open.
pub fn is_any_open(conn: &Connection) -> rusqlite::Result<bool> {
    conn.query_row("SELECT EXISTS (SELECT 1 FROM sequence WHERE is_open)", [], |row| row.get(0))
}

/// What was left open.
pub fn open_ones(conn: &Connection) -> rusqlite::Result<Vec<Open>> {
    conn.prepare("SELECT sender, output, has_memory, settled, reserved FROM sequence WHERE is_open")?
        .query_map([], |row| {
            Ok(Open {
                sender: row.get(0)?,
                output: row.get(1)?,
                has_memory: row.get(2)?,
                settled: row.get::<_, i64>(3)? as u64,
                reserved: row.get::<_, i64>(4)? as u64,
            })
        })?
        .collect()
}

/// Closes all: what was reserved counts as given out.
pub fn close_all(conn: &Connection) -> rusqlite::Result<()> {
    conn.execute("UPDATE sequence SET is_open = 0, settled = reserved WHERE is_open", []).map(drop)
}

/// The last number of an output, as far as is known; 0 where it has none.
pub fn last(conn: &Connection, sender: &str, output: &str) -> rusqlite::Result<u64> {
    conn.prepare_cached("SELECT reserved FROM sequence WHERE sender = ?1 AND output = ?2")?
        .query_row([sender, output], |row| row.get::<_, i64>(0))
        .optional()
        .map(|n| n.unwrap_or(0) as u64)
}

/// Opens an output and reserves its next `size` numbers; gives its last number before that.
pub fn open(conn: &Connection, sender: &str, output: &str, size: u64, has_memory: bool) -> rusqlite::Result<u64> {
    let last = last(conn, sender, output)?;
    conn.prepare_cached(
        "INSERT INTO sequence VALUES (?1, ?2, 1, ?3, ?4, ?5) ON CONFLICT DO UPDATE SET
         is_open = 1, has_memory = excluded.has_memory, settled = excluded.settled, reserved = excluded.reserved",
    )?
    .execute(params![sender, output, has_memory, last as i64, (last + size) as i64])?;
    Ok(last)
}

/// Reserves the numbers of an output up to `to`. One that could not be opened, or has no line any more, is opened with that; `before`:
/// its last number before this run.
pub fn reserve(
    conn: &Connection,
    sender: &str,
    output: &str,
    before: u64,
    to: u64,
    has_memory: bool,
) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO sequence VALUES (?1, ?2, 1, ?3, ?4, ?5) ON CONFLICT DO UPDATE SET
         settled = iif(is_open, settled, excluded.settled), is_open = 1,
         reserved = max(reserved, excluded.reserved), has_memory = max(has_memory, excluded.has_memory)",
    )?
    .execute(params![sender, output, has_memory, before as i64, to as i64])
    .map(drop)
}

/// Notes that nothing above `reserved` was given out, or will be without another [`reserve`].
pub fn shrink(conn: &Connection, sender: &str, output: &str, reserved: u64) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "UPDATE sequence SET reserved = min(reserved, ?3) WHERE sender = ?1 AND output = ?2 AND is_open",
    )?
    .execute(params![sender, output, reserved as i64])
    .map(drop)
}

/// Notes up to where an output has nothing in memory.
pub fn settle(conn: &Connection, sender: &str, output: &str, settled: u64) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE sequence SET settled = max(settled, ?3) WHERE sender = ?1 AND output = ?2 AND is_open")?
        .execute(params![sender, output, settled as i64])
        .map(drop)
}

/// Closes an output at its last number.
pub fn close(conn: &Connection, sender: &str, output: &str, last: u64) -> rusqlite::Result<()> {
    // One that could not be opened is not there yet.
    conn.prepare_cached(
        "INSERT INTO sequence VALUES (?1, ?2, 0, 0, ?3, ?3) ON CONFLICT DO UPDATE SET
         is_open = 0, settled = excluded.settled, reserved = excluded.reserved",
    )?
    .execute(params![sender, output, last as i64])
    .map(drop)
}
