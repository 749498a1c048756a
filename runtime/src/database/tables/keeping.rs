//! Messages of the memory that are kept on disk over an orderly end, in their places among the rows that are there.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use rusqlite::{Connection, params};

use super::ids::{self, Ids};
use super::queue::{ClockMark, Endpoints, FORMAT, OWN, SHARED, StoredMessage, append, bind, endpoint_id};

/// Ids that [`put_before`] leaves free behind its first messages, for those that it stores later.
const KEPT_GAP: i64 = 1 << 32;

/// Stores messages before all that is there, in order: their ids lie below all others, and below 0. A backlog of the last run goes
/// behind what was in memory then. `behind`: the last id that this gave earlier in this run; these go behind it. Gives the last one.
pub fn put_before(
    conn: &Connection,
    rows: &[StoredMessage],
    mark: ClockMark,
    behind: Option<i64>,
) -> rusqlite::Result<i64> {
    let first = match behind {
        Some(last) => last + 1,
        None => ids::take_below(conn, rows.len(), KEPT_GAP)?,
    };
    let own: Vec<String> = (1..=OWN).map(|n| format!("?{}", n + SHARED)).collect();
    let mut insert = conn.prepare_cached(&format!(
        "INSERT INTO message (id, endpoint, priority, bytes, sender, output, epoch, sequence, created_us, monotonic_us,
         ttl_left_us, ttl_from_us, meta, body, boot, clock_trusted, format)
         VALUES ({}, ?1, ?2, {FORMAT})",
        own.join(", ")
    ))?;
    for (message, id) in rows.iter().zip(first..) {
        insert.raw_bind_parameter(1, mark.boot)?;
        insert.raw_bind_parameter(2, !mark.clock_doubted)?;
        let endpoint = endpoint_id(conn, &message.endpoint)?;
        bind(&mut insert, SHARED, (id, endpoint), message, (mark.monotonic_us, mark.store_us))?;
        insert.raw_execute()?;
    }
    Ok(first + rows.len() as i64 - 1)
}

/// Stores messages behind all that is there, in order. Rows that their outputs sent after them go behind them.
pub fn put_behind(conn: &Connection, rows: &[StoredMessage], mark: ClockMark, ids: &Ids) -> rusqlite::Result<()> {
    let mut younger = younger_rows(conn, rows)?;
    let mut endpoints = Endpoints::default();
    let mut put = |rows: &[StoredMessage]| {
        let rows: Vec<_> = rows.iter().map(|row| (row, mark.monotonic_us)).collect();
        if rows.is_empty() { Ok(()) } else { append(conn, &rows, mark, ids, &mut endpoints).map(drop) }
    };
    let mut from = 0;
    for (at, row) in rows.iter().enumerate() {
        let Some(younger) = younger.get_mut(&Line::of(row)).filter(|younger| !younger.is_empty()) else { continue };
        let count = younger.partition_point(|(sequence, _)| *sequence < row.sequence);
        if count > 0 {
            put(&rows[from..at])?;
            from = at;
            move_behind(conn, younger.drain(..count).map(|(_, id)| id), ids)?;
        }
    }
    put(&rows[from..])?;
    let mut left: Vec<i64> = younger.into_values().flatten().map(|(_, id)| id).collect();
    left.sort_unstable();
    move_behind(conn, left.into_iter(), ids)
}

/// What has an order of its own.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Line {
    endpoint: Arc<str>,
    priority: u32,
    sender: Arc<str>,
    output: Arc<str>,
    epoch: u64,
}

impl Line {
    fn of(row: &StoredMessage) -> Line {
        let StoredMessage { endpoint, priority, sender, output, epoch, .. } = row;
        let (endpoint, sender, output) = (endpoint.clone(), sender.clone(), output.clone());
        Line { endpoint, priority: *priority, sender, output, epoch: *epoch }
    }
}

/// Sequences and ids of the rows that come after the first of `rows` of the same output.
fn younger_rows(conn: &Connection, rows: &[StoredMessage]) -> rusqlite::Result<HashMap<Line, VecDeque<(u64, i64)>>> {
    let mut younger = HashMap::new();
    let mut select = conn.prepare_cached(
        "SELECT sequence, id FROM message
         WHERE endpoint = (SELECT id FROM endpoint WHERE name = ?1) AND state = 0 AND priority = ?2
           AND sender = ?3 AND output = ?4 AND epoch = ?5 AND sequence > ?6
         ORDER BY sequence",
    )?;
    for row in rows {
        let line = Line::of(row);
        if younger.contains_key(&line) {
            continue;
        }
        let (epoch, sequence) = (row.epoch as i64, row.sequence as i64);
        let found = select
            .query_map(params![line.endpoint, line.priority, line.sender, line.output, epoch, sequence], |row| {
                Ok((row.get::<_, i64>(0)? as u64, row.get(1)?))
            })?
            .collect::<rusqlite::Result<_>>()?;
        younger.insert(line, found);
    }
    Ok(younger)
}

fn move_behind(conn: &Connection, rows: impl ExactSizeIterator<Item = i64>, ids: &Ids) -> rusqlite::Result<()> {
    if rows.len() == 0 {
        return Ok(());
    }
    let first = ids.take(conn, rows.len())?;
    let mut update = conn.prepare_cached("UPDATE message SET id = ?2 WHERE id = ?1")?;
    for (row, id) in rows.zip(first..) {
        update.execute([row, id])?;
    }
    Ok(())
}
