//! The store's own time, jumps of the wall clock, and what has outlived its time to live.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};

/// Jumps that are kept.
const MAX_JUMPS: u32 = 1000;

/// The store's time as it was last noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noted {
    /// Start of the machine, see [`super::queue::open_boot`].
    pub boot: Option<i64>,
    /// Monotonic time of that boot.
    pub monotonic_us: i64,
    /// The store's time at that moment.
    pub store_us: i64,
    /// The latest moment at which the wall clock could be trusted: wall time, and the store's.
    pub anchor: Option<(i64, i64)>,
    /// The time that the machine was off since then is not counted yet.
    pub is_owed: bool,
}

/// A jump of the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockJump {
    /// Start of the machine.
    pub boot: Option<i64>,
    /// Monotonic time of that boot.
    pub monotonic_us: i64,
    /// Wall time before it.
    pub before_us: i64,
    /// Wall time after it.
    pub after_us: i64,
    /// What it jumped to can be right.
    pub is_trusted: bool,
}

/// A message whose time to live is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpiredRow {
    /// Id of the row.
    pub id: i64,
    /// Where it waited.
    pub endpoint: Arc<str>,
    /// Its priority.
    pub priority: u32,
    /// Identity of the sender.
    pub sender: String,
    /// Its output.
    pub output: String,
    /// Epoch and sequence.
    pub number: (u64, u64),
    /// Bytes of body and properties.
    pub bytes: u64,
}

/// What was noted last.
pub fn load(conn: &Connection) -> rusqlite::Result<Option<Noted>> {
    conn.query_row(
        "SELECT boot, monotonic_us, store_us, anchor_wall_us, anchor_store_us, is_owed FROM store_clock WHERE id = 1",
        [],
        |row| {
            let anchor: (Option<i64>, Option<i64>) = (row.get(3)?, row.get(4)?);
            Ok(Noted {
                boot: row.get(0)?,
                monotonic_us: row.get(1)?,
                store_us: row.get(2)?,
                anchor: anchor.0.zip(anchor.1),
                is_owed: row.get(5)?,
            })
        },
    )
    .optional()
}

/// Notes the store's time, and with a trusted clock what its boot's monotonic times are worth.
pub fn save(conn: &Connection, noted: &Noted, offset_us: Option<i64>) -> rusqlite::Result<()> {
    let (wall, store) = noted.anchor.unzip();
    conn.prepare_cached("INSERT OR REPLACE INTO store_clock VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6)")?.execute(params![
        noted.boot,
        noted.monotonic_us,
        noted.store_us,
        wall,
        store,
        noted.is_owed
    ])?;
    if let (Some(boot), Some(offset)) = (noted.boot, offset_us) {
        conn.prepare_cached("UPDATE boot SET offset_us = ?2 WHERE id = ?1")?.execute(params![boot, offset])?;
    }
    Ok(())
}

/// The id before that of the next waiting message of an endpoint and priority whose time to live is not over at `now_us` of the
/// store's time; or the last id of as many as are looked at. `after`: the id to begin behind, and how many.
pub fn next_living(
    conn: &Connection,
    endpoint: &str,
    priority: u32,
    (after_id, limit): (i64, u32),
    now_us: i64,
) -> rusqlite::Result<i64> {
    let mut select = conn.prepare_cached(
        "SELECT id, coalesce(ttl_from_us + ttl_left_us <= ?5, 0) FROM message
         WHERE endpoint = (SELECT id FROM endpoint WHERE name = ?1) AND state = 0 AND priority = ?2 AND id > ?3
         ORDER BY id LIMIT ?4",
    )?;
    let mut rows = select.query(params![endpoint, priority, after_id, limit, now_us])?;
    let mut last = after_id;
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        if !row.get(1)? {
            return Ok(id - 1);
        }
        last = id;
    }
    Ok(last)
}

/// Adds a jump; the oldest go.
pub fn add_jump(conn: &Connection, jump: &ClockJump) -> rusqlite::Result<()> {
    conn.execute(
        "INSERT INTO clock_jump (boot, monotonic_us, before_us, after_us, is_trusted) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![jump.boot, jump.monotonic_us, jump.before_us, jump.after_us, jump.is_trusted],
    )?;
    conn.execute("DELETE FROM clock_jump WHERE id <= (SELECT max(id) FROM clock_jump) - ?1", [MAX_JUMPS])?;
    Ok(())
}

/// Jumps, the oldest first.
pub fn jumps(conn: &Connection) -> rusqlite::Result<Vec<ClockJump>> {
    conn.prepare("SELECT boot, monotonic_us, before_us, after_us, is_trusted FROM clock_jump ORDER BY id")?
        .query_map([], |row| {
            Ok(ClockJump {
                boot: row.get(0)?,
                monotonic_us: row.get(1)?,
                before_us: row.get(2)?,
                after_us: row.get(3)?,
                is_trusted: row.get(4)?,
            })
        })?
        .collect()
}

/// When a stored message was really taken in: its own wall time where that could be trusted, else what a later trusted clock of
/// the same boot says; `None` where there never was one, or the row is gone.
pub fn true_time(conn: &Connection, id: i64) -> rusqlite::Result<Option<i64>> {
    let time = conn
        .prepare_cached(
            "SELECT CASE WHEN m.clock_trusted THEN m.created_us ELSE b.offset_us + m.monotonic_us END
             FROM message m LEFT JOIN boot b ON b.id = m.boot WHERE m.id = ?1",
        )?
        .query_row([id], |row| row.get(0))
        .optional()?;
    Ok(time.flatten())
}

/// Up to `limit` waiting messages whose time to live was over at `now_us` of the store's time, those that have been so for longest
/// first.
pub fn expired(conn: &Connection, now_us: i64, limit: u32) -> rusqlite::Result<Vec<ExpiredRow>> {
    let read = |row: &Row<'_>| {
        let number = |at: usize| row.get::<_, i64>(at).map(|n| n as u64);
        Ok(ExpiredRow {
            id: row.get(0)?,
            endpoint: row.get(1)?,
            priority: row.get(2)?,
            sender: row.get(3)?,
            output: row.get(4)?,
            number: (number(5)?, number(6)?),
            bytes: number(7)?,
        })
    };
    conn.prepare_cached(
        "SELECT m.id, e.name, m.priority, m.sender, m.output, m.epoch, m.sequence, m.bytes
         FROM message m JOIN endpoint e ON e.id = m.endpoint
         WHERE m.state = 0 AND m.ttl_left_us IS NOT NULL AND m.ttl_from_us + m.ttl_left_us <= ?1
         ORDER BY m.ttl_from_us + m.ttl_left_us LIMIT ?2",
    )?
    .query_map(params![now_us, limit], read)?
    .collect()
}

/// When the next time to live is over, of those that end after `now_us`; `None` where there is none.
pub fn next_expiry(conn: &Connection, now_us: i64) -> rusqlite::Result<Option<i64>> {
    conn.prepare_cached(
        "SELECT ttl_from_us + ttl_left_us FROM message
         WHERE state = 0 AND ttl_left_us IS NOT NULL AND ttl_from_us + ttl_left_us > ?1
         ORDER BY ttl_from_us + ttl_left_us LIMIT 1",
    )?
    .query_row([now_us], |row| row.get(0))
    .optional()
}
