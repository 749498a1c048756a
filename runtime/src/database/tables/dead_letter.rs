//! Dead letters: messages that were set aside, with the reason, until a person says what becomes of them.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::ids::Ids;
use super::loss::{self, LossRow};
use super::queue::StoredMessage;

/// A message that was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Id of the row.
    pub id: i64,
    /// The message; without properties and body where only its head was asked for.
    pub message: StoredMessage,
    /// Bytes of properties and body.
    pub bytes: u64,
    /// Why it was set aside.
    pub reason: String,
    /// When, in microseconds; `None` where a release before this one did it.
    pub parked_us: Option<i64>,
    /// How often it was delivered.
    pub attempts: u32,
}

/// Which ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// These; `None`: any.
    pub ids: Option<Vec<i64>>,
    /// This endpoint, or all whose names go on behind it with a `/`.
    pub endpoint: Option<String>,
    /// Set aside no later than this, in microseconds.
    pub until_us: Option<i64>,
    /// With ids up to this.
    pub up_to: Option<i64>,
}

/// What was taken out, or put back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moved {
    /// How many.
    pub messages: u64,
    /// Bytes by endpoint.
    pub bytes: Vec<(Arc<str>, u64)>,
    /// What was put back, and the id of the first; the others follow it.
    pub rows: Vec<StoredMessage>,
    /// See `rows`.
    pub first: i64,
    /// There are more.
    pub is_more: bool,
}

/// Rows that one change moves at most.
pub const MAX_MOVED: u32 = 100;

const OF_FILTER: &str = "FROM message m JOIN endpoint e ON e.id = m.endpoint WHERE m.state = 1
    AND (?1 IS NULL OR e.name = ?1 OR substr(e.name, 1, length(?1) + 1) = ?1 || '/')
    AND (?2 IS NULL OR coalesce(m.parked_us, 0) <= ?2)
    AND (?3 IS NULL OR m.id IN (SELECT value FROM json_each(?3))) AND (?4 IS NULL OR m.id <= ?4)";

const HEAD: &str = "m.id, e.name, m.priority, m.sender, m.output, m.epoch, m.sequence, m.created_us, m.bytes, m.reason,
    m.parked_us, m.attempts, m.ttl_left_us";

impl Filter {
    fn ids_text(&self) -> Option<String> {
        self.ids.as_ref().map(|ids| format!("[{}]", ids.iter().map(i64::to_string).collect::<Vec<_>>().join(",")))
    }
}

/// How many there are.
pub fn count(conn: &Connection, filter: &Filter) -> rusqlite::Result<u64> {
    conn.query_row(
        &format!("SELECT count(*) {OF_FILTER}"),
        params![filter.endpoint, filter.until_us, filter.ids_text(), filter.up_to],
        |row| row.get::<_, i64>(0),
    )
    .map(|count| count as u64)
}

/// The newest id of all.
pub fn last_id(conn: &Connection) -> rusqlite::Result<i64> {
    conn.query_row("SELECT coalesce(max(id), 0) FROM message", [], |row| row.get(0))
}

/// Messages that wait, and messages that are set aside, for endpoints that begin with `prefix`.
pub fn stored_for(conn: &Connection, prefix: &str) -> rusqlite::Result<(u64, u64)> {
    conn.query_row(
        "SELECT coalesce(sum(m.state = 0), 0), coalesce(sum(m.state = 1), 0) FROM endpoint e JOIN message m ON m.endpoint = e.id
         WHERE substr(e.name, 1, length(?1)) = ?1",
        [prefix],
        |row| Ok((row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64)),
    )
}

/// Up to `limit` of them with ids above `after` (0: from the first, which may lie below), in the order of ids, without properties
/// and bodies.
pub fn list(conn: &Connection, filter: &Filter, after: i64, limit: u32) -> rusqlite::Result<Vec<DeadLetter>> {
    // What an orderly end kept has ids below 0.
    let after = if after == 0 { i64::MIN } else { after };
    conn.prepare(&format!("SELECT {HEAD}, x'', x'' {OF_FILTER} AND m.id > ?5 ORDER BY m.id LIMIT ?6"))?
        .query_map(params![filter.endpoint, filter.until_us, filter.ids_text(), filter.up_to, after, limit], read)?
        .collect()
}

/// One with everything; `None` where there is none of this id.
pub fn get(conn: &Connection, id: i64) -> rusqlite::Result<Option<DeadLetter>> {
    conn.query_row(
        &format!(
            "SELECT {HEAD}, m.meta, m.body FROM message m JOIN endpoint e ON e.id = m.endpoint WHERE m.state = 1 AND m.id = ?1"
        ),
        [id],
        read,
    )
    .optional()
}

fn read(row: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    let text = |at: usize| row.get::<_, String>(at).map(Arc::<str>::from);
    let number = |at: usize| row.get::<_, i64>(at).map(|n| n as u64);
    Ok(DeadLetter {
        id: row.get(0)?,
        message: StoredMessage {
            endpoint: text(1)?,
            priority: row.get(2)?,
            ttl_secs: row.get::<_, Option<i64>>(12)?.map(|us| us as u64 / 1_000_000),
            sender: text(3)?,
            output: text(4)?,
            epoch: number(5)?,
            sequence: number(6)?,
            created_us: row.get(7)?,
            meta: row.get(13)?,
            body: row.get(14)?,
        },
        bytes: number(8)?,
        reason: row.get::<_, Option<String>>(9)?.unwrap_or_default(),
        parked_us: row.get(10)?,
        attempts: row.get(11)?,
    })
}

/// Puts up to [`MAX_MOVED`] back to the end of their queues, as if they had never been delivered; what is left of their time to live
/// counts from `now_us`.
pub fn resend(conn: &Connection, filter: &Filter, ids: &Ids, now_us: i64) -> rusqlite::Result<Moved> {
    let mut found = whole(conn, filter)?;
    let is_more = found.len() > MAX_MOVED as usize;
    found.truncate(MAX_MOVED as usize);
    let mut moved = Moved { is_more, ..Moved::default() };
    let mut again = conn.prepare_cached(
        "INSERT INTO message (id, endpoint, priority, bytes, sender, output, epoch, sequence, created_us, boot, monotonic_us,
         clock_trusted, ttl_left_us, ttl_from_us, format, meta, body)
         SELECT ?3, endpoint, priority, bytes, sender, output, epoch, sequence, created_us, boot, monotonic_us, clock_trusted,
         ttl_left_us, iif(ttl_left_us IS NULL, NULL, ?2), format, meta, body FROM message WHERE id = ?1",
    )?;
    moved.first = ids.take(conn, found.len())?;
    for (letter, id) in found.into_iter().zip(moved.first..) {
        again.execute(params![letter.id, now_us, id])?;
        conn.prepare_cached("DELETE FROM message WHERE id = ?1")?.execute([letter.id])?;
        moved.rows.push(letter.message);
    }
    moved.messages = moved.rows.len() as u64;
    Ok(moved)
}

/// Discards up to [`MAX_MOVED`], and counts them as lost for `reason`.
pub fn purge(conn: &Connection, filter: &Filter, reason: &str, now_us: i64) -> rusqlite::Result<Moved> {
    let mut found = list(conn, filter, 0, MAX_MOVED + 1)?;
    let is_more = found.len() > MAX_MOVED as usize;
    found.truncate(MAX_MOVED as usize);
    let mut moved = Moved { messages: found.len() as u64, is_more, ..Moved::default() };
    let mut losses = Vec::with_capacity(found.len());
    for letter in found {
        conn.prepare_cached("DELETE FROM message WHERE id = ?1")?.execute([letter.id])?;
        let place = (letter.message.epoch, letter.message.sequence);
        moved.bytes.push((letter.message.endpoint.clone(), letter.bytes));
        losses.push(LossRow {
            sender: letter.message.sender.to_string(),
            output: letter.message.output.to_string(),
            endpoint: letter.message.endpoint.to_string(),
            reason: reason.to_owned(),
            first: place,
            last: place,
            count: 1,
            is_upper_bound: false,
        });
    }
    loss::add(conn, &loss::joined(losses), now_us)?;
    Ok(moved)
}

fn whole(conn: &Connection, filter: &Filter) -> rusqlite::Result<Vec<DeadLetter>> {
    conn.prepare(&format!("SELECT {HEAD}, m.meta, m.body {OF_FILTER} ORDER BY m.id LIMIT ?5"))?
        .query_map(params![filter.endpoint, filter.until_us, filter.ids_text(), filter.up_to, MAX_MOVED + 1], read)?
        .collect()
}
