//! The ledger of losses: which messages did not arrive, and why.
//!
//! A sender, output, endpoint and reason have several ranges of sequences, so that what lies between two losses is not said to be
//! lost. Only beyond [`MAX_RANGES`] are the oldest put together: such a range has fewer losses than numbers.

use rusqlite::{Connection, OptionalExtension, Row, params};

/// Most lines that wait for being told.
const MOST_UNTOLD: u32 = 100_000;

/// Most lines that are read at once for being told.
const MOST_TOLD: u32 = 512;

/// Ranges that are kept apart for one sender, output, endpoint and reason.
pub const MAX_RANGES: u32 = 16;

/// Messages that did not arrive, for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LossRow {
    /// Identity of the sender.
    pub sender: String,
    /// Output of the sender.
    pub output: String,
    /// Where they would have gone; empty where that is not known.
    pub endpoint: String,
    /// Such as `expired`, `full`, `runtimeDied`.
    pub reason: String,
    /// Epoch and sequence of the first.
    pub first: (u64, u64),
    /// Epoch and sequence of the last.
    pub last: (u64, u64),
    /// How many.
    pub count: u64,
    /// There may have been fewer: nobody was left to count.
    pub is_upper_bound: bool,
}

/// A range with its place in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LossLine {
    /// What was lost.
    pub row: LossRow,
    /// Wall time of the first and of the last, in microseconds, where it is known.
    pub times: (Option<i64>, Option<i64>),
}

/// Losses of one sender, output, endpoint and reason, all ranges together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LossTotal {
    /// Identity of the sender.
    pub sender: String,
    /// Its output.
    pub output: String,
    /// The endpoint.
    pub endpoint: String,
    /// The reason.
    pub reason: String,
    /// How many.
    pub count: u64,
}

/// Puts losses together whose numbers follow each other.
pub fn joined(mut losses: Vec<LossRow>) -> Vec<LossRow> {
    let key = |loss: &LossRow| {
        (loss.sender.clone(), loss.output.clone(), loss.endpoint.clone(), loss.reason.clone(), loss.first)
    };
    losses.sort_by_cached_key(key);
    let mut joined: Vec<LossRow> = Vec::new();
    for loss in losses {
        if let Some(last) = joined.last_mut()
            && (&last.sender, &last.output, &last.endpoint) == (&loss.sender, &loss.output, &loss.endpoint)
            && (&last.reason, last.is_upper_bound) == (&loss.reason, loss.is_upper_bound)
            && (last.last.0, last.last.1 + 1) == loss.first
        {
            last.last = loss.last;
            last.count += loss.count;
            continue;
        }
        joined.push(loss);
    }
    joined
}

/// Adds losses to what is counted already, and to what is to be told. A range goes on from the newest one where they meet.
pub fn add(conn: &Connection, losses: &[LossRow], now_us: i64) -> rusqlite::Result<()> {
    const OF_KEY: &str = "sender = ?1 AND output = ?2 AND endpoint = ?3 AND reason = ?4";
    let newest = format!(
        "SELECT id FROM losses WHERE {OF_KEY} AND is_upper_bound = ?7 AND last_epoch = ?5 AND last_seq = ?6
         ORDER BY id DESC LIMIT 1"
    );
    for l in losses {
        conn.prepare_cached(
            "INSERT INTO untold (sender, output, endpoint, reason, first_epoch, first_seq, last_epoch, last_seq, count,
             is_upper_bound) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            l.sender,
            l.output,
            l.endpoint,
            l.reason,
            l.first.0 as i64,
            l.first.1 as i64,
            l.last.0 as i64,
            l.last.1 as i64,
            l.count as i64,
            l.is_upper_bound
        ])?;
        let (epoch, before) = (l.first.0 as i64, l.first.1.saturating_sub(1) as i64);
        let key = [&l.sender, &l.output, &l.endpoint, &l.reason];
        let joined: Option<i64> = conn
            .prepare_cached(&newest)?
            .query_row(params![key[0], key[1], key[2], key[3], epoch, before, l.is_upper_bound], |row| row.get(0))
            .optional()?;
        if let Some(id) = joined {
            conn.prepare_cached(
                "UPDATE losses SET last_epoch = ?2, last_seq = ?3, count = count + ?4, last_us = ?5 WHERE id = ?1",
            )?
            .execute(params![id, l.last.0 as i64, l.last.1 as i64, l.count as i64, now_us])?;
            continue;
        }
        conn.prepare_cached(
            "INSERT INTO losses (sender, output, endpoint, reason, first_epoch, first_seq, last_epoch, last_seq, count,
             is_upper_bound, first_us, last_us) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11)",
        )?
        .execute(params![
            key[0],
            key[1],
            key[2],
            key[3],
            epoch,
            l.first.1 as i64,
            l.last.0 as i64,
            l.last.1 as i64,
            l.count as i64,
            l.is_upper_bound,
            now_us
        ])?;
        let ranges: u32 = conn
            .prepare_cached(&format!("SELECT count(*) FROM losses WHERE {OF_KEY}"))?
            .query_row(params![key[0], key[1], key[2], key[3]], |row| row.get(0))?;
        if ranges > MAX_RANGES {
            merge_oldest(conn, OF_KEY, key)?;
        }
    }
    // Where those who listen take nothing for long, the store is not filled with what it tells of.
    let mut drop_oldest = conn.prepare_cached("DELETE FROM untold WHERE id <= (SELECT max(id) FROM untold) - ?1")?;
    let dropped = drop_oldest.execute([MOST_UNTOLD])?;
    if dropped > 0 {
        tracing::error!(
            "{dropped} lines of the ledger are told to no route, since {MOST_UNTOLD} newer ones wait; `dinrail losses` has them"
        );
    }
    Ok(())
}

/// Puts the two oldest ranges together.
fn merge_oldest(conn: &Connection, of_key: &str, key: [&String; 4]) -> rusqlite::Result<()> {
    let oldest: Vec<i64> = conn
        .prepare_cached(&format!("SELECT id FROM losses WHERE {of_key} ORDER BY last_epoch, last_seq, id LIMIT 2"))?
        .query_map(params![key[0], key[1], key[2], key[3]], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let [first, second] = oldest[..] else { return Ok(()) };
    // One that nobody knows the sequences of says nothing about where the range begins; and the one that ends first may begin later.
    let is_later = "o.last_seq = 0 OR (o.first_epoch, o.first_seq) > (losses.first_epoch, losses.first_seq)";
    conn.prepare_cached(&format!(
        "UPDATE losses SET (first_epoch, first_seq, count, is_upper_bound, first_us) =
           (SELECT iif({is_later}, losses.first_epoch, o.first_epoch), iif({is_later}, losses.first_seq, o.first_seq),
            losses.count + o.count, max(losses.is_upper_bound, o.is_upper_bound), o.first_us FROM losses o WHERE o.id = ?1)
         WHERE id = ?2"
    ))?
    .execute([first, second])?;
    conn.prepare_cached("DELETE FROM losses WHERE id = ?1")?.execute([first])?;
    Ok(())
}

const COLUMNS: &str =
    "sender, output, endpoint, reason, first_epoch, first_seq, last_epoch, last_seq, count, is_upper_bound";

/// From [`COLUMNS`].
fn row_of(row: &Row<'_>) -> rusqlite::Result<LossRow> {
    let number = |i: usize| row.get::<_, i64>(i).map(|n| n as u64);
    Ok(LossRow {
        sender: row.get(0)?,
        output: row.get(1)?,
        endpoint: row.get(2)?,
        reason: row.get(3)?,
        first: (number(4)?, number(5)?),
        last: (number(6)?, number(7)?),
        count: number(8)?,
        is_upper_bound: row.get(9)?,
    })
}

/// What is to be told, the oldest first, each with its id; more of it may be left.
pub fn untold(conn: &Connection) -> rusqlite::Result<Vec<(i64, LossRow)>> {
    conn.prepare_cached(&format!("SELECT {COLUMNS}, id FROM untold ORDER BY id LIMIT {MOST_TOLD}"))?
        .query_map([], |row| Ok((row.get(10)?, row_of(row)?)))?
        .collect()
}

/// Takes out what was told.
pub fn told(conn: &Connection, ids: &[i64]) -> rusqlite::Result<()> {
    let mut delete = conn.prepare_cached("DELETE FROM untold WHERE id = ?1")?;
    ids.iter().try_for_each(|id| delete.execute([id]).map(drop))
}

/// All losses, sorted.
pub fn all(conn: &Connection) -> rusqlite::Result<Vec<LossLine>> {
    conn.prepare(&format!(
        "SELECT {COLUMNS}, first_us, last_us FROM losses
         ORDER BY sender, output, endpoint, reason, last_epoch, last_seq, id"
    ))?
    .query_map([], |row| Ok(LossLine { row: row_of(row)?, times: (row.get(10)?, row.get(11)?) }))?
    .collect()
}

/// All losses without their ranges.
pub fn totals(conn: &Connection) -> rusqlite::Result<Vec<LossTotal>> {
    conn.prepare(
        "SELECT sender, output, endpoint, reason, sum(count) FROM losses GROUP BY sender, output, endpoint, reason
         HAVING sum(count) > 0 ORDER BY sender, output, endpoint, reason",
    )?
    .query_map([], |row| {
        Ok(LossTotal {
            sender: row.get(0)?,
            output: row.get(1)?,
            endpoint: row.get(2)?,
            reason: row.get(3)?,
            count: row.get::<_, i64>(4)? as u64,
        })
    })?
    .collect()
}

/// Parked messages, and losses: whether it was the sender, the reason, how many.
pub type Toll = (u64, Vec<(bool, String, u64)>);

/// What a module has lost: messages parked at endpoints that begin with `prefix`, and losses by reason, of what `sender` sent
/// (true) and of what was sent to these endpoints.
pub fn toll(conn: &Connection, sender: &str, prefix: &str) -> rusqlite::Result<Toll> {
    let parked = conn.query_row(
        "SELECT count(*) FROM endpoint e JOIN message m ON m.endpoint = e.id AND m.state = 1
         WHERE substr(e.name, 1, length(?1)) = ?1",
        [prefix],
        |row| row.get::<_, i64>(0),
    )?;
    let losses = conn
        .prepare(
            "SELECT sender = ?1, reason, sum(count) FROM losses
             WHERE reason <> 'parked' AND (sender = ?1 OR substr(endpoint, 1, length(?2)) = ?2) GROUP BY 1, 2 ORDER BY 1, 2",
        )?
        .query_map([sender, prefix], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)? as u64)))?
        .collect::<rusqlite::Result<_>>()?;
    Ok((parked as u64, losses))
}
