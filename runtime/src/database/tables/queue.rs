//! Messages that wait on disk.
//!
//! A message has one row per endpoint. Ids count up and are never used twice; with the priority they are the order of
//! an endpoint. All of this is in the queue's file.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, ToSql, params};

use super::ids::Ids;
use super::loss::{self, LossRow};
use crate::memory;

/// Format of `meta` and `body` that this release writes.
pub(super) const FORMAT: u8 = 1;

/// A message as it waits on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMessage {
    /// Where it waits: `identity/input` or `$upstream`.
    pub endpoint: Arc<str>,
    /// Smaller goes first.
    pub priority: u32,
    /// Time to live, as the route gave it; `None` lives for ever.
    pub ttl_secs: Option<u64>,
    /// Identity of the sender.
    pub sender: Arc<str>,
    /// Output of the sender.
    pub output: Arc<str>,
    /// With `sequence`: unique and increasing per sender and output.
    pub epoch: u64,
    /// See `epoch`.
    pub sequence: u64,
    /// Wall time of its admission.
    pub created_us: i64,
    /// Encoded properties, see [`crate::message::Meta`].
    pub meta: Vec<u8>,
    /// Body.
    pub body: Vec<u8>,
}

/// The clocks at the time of an enqueue: how much a wall time is worth after a restart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClockMark {
    /// The start of the machine, see [`open_boot`]; `None` where it is not known.
    pub boot: Option<i64>,
    /// Monotonic time of that boot.
    pub monotonic_us: Option<i64>,
    /// The wall clock was not set, or was known to be wrong.
    pub clock_doubted: bool,
    /// The store's own time, from which a time to live counts; `None`: the message's wall time stands for it.
    pub store_us: Option<i64>,
}

/// A message with its place on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadMessage {
    /// Id of the row.
    pub id: i64,
    /// The message. `ttl_secs` is what is left of it since `ttl_from_us`.
    pub message: StoredMessage,
    /// The store's time from which the time to live counts.
    pub ttl_from_us: Option<i64>,
    /// What was left of the time to live when it was read; 0: it is over. `None`: it lives for ever, or nobody has looked.
    pub left_us: Option<u64>,
    /// How often it was delivered before.
    pub tries: Tries,
}

/// How often a message was delivered without being settled, and how often that was a fault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tries {
    /// Deliveries.
    pub attempts: u32,
    /// Of these, the ones that ended with a fault or a panic.
    pub faults: u32,
}

/// What an endpoint holds in one priority and state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// The endpoint.
    pub endpoint: String,
    /// The priority.
    pub priority: u32,
    /// Set aside, see [`park`].
    pub is_parked: bool,
    /// Messages.
    pub messages: u64,
    /// Bytes of their bodies and properties.
    pub bytes: u64,
}

/// Bytes of memory that enqueuing `rows` holds while it waits for its commit: for
/// [`Work::bytes`](crate::database::Work::bytes).
pub fn held_bytes(rows: &[StoredMessage]) -> usize {
    rows.iter().map(|m| m.meta.len() + m.body.len() + size_of::<StoredMessage>()).sum()
}

/// The number of a boot of the machine, new or known.
pub fn open_boot(conn: &Connection, boot_id: &str, now_us: i64) -> rusqlite::Result<i64> {
    conn.execute("INSERT OR IGNORE INTO boot (boot_id, opened_us) VALUES (?1, ?2)", params![boot_id, now_us])?;
    conn.query_row("SELECT id FROM boot WHERE boot_id = ?1", [boot_id], |row| row.get(0))
}

/// Appends messages; gives the id of the first, which the others follow without a gap. For tests.
#[cfg(test)]
pub fn enqueue(conn: &Connection, rows: &[StoredMessage], mark: ClockMark) -> rusqlite::Result<i64> {
    let rows: Vec<_> = rows.iter().map(|row| (row, mark.monotonic_us)).collect();
    append(conn, &rows, mark, &Ids::default(), &mut Endpoints::default())
}

/// Numbers of endpoints, so that they are not looked up for each message.
#[derive(Debug, Default)]
pub struct Endpoints {
    /// From committed changes.
    known: HashMap<Arc<str>, i64>,
    /// From a change that may still be rolled back.
    fresh: Vec<(Arc<str>, i64)>,
}

impl Endpoints {
    /// What was found since the last call is committed, or was rolled back.
    pub fn settle(&mut self, is_committed: bool) {
        let fresh = self.fresh.drain(..);
        if is_committed {
            self.known.extend(fresh);
        }
    }

    fn id(&mut self, conn: &Connection, name: &Arc<str>) -> rusqlite::Result<i64> {
        if let Some(id) = self.known.get(name) {
            return Ok(*id);
        }
        if let Some((_, id)) = self.fresh.iter().find(|(known, _)| known == name) {
            return Ok(*id);
        }
        let id = endpoint_id(conn, name)?;
        self.fresh.push((name.clone(), id));
        Ok(id)
    }
}

/// Messages that one statement appends: a statement costs as much as the row that it brings.
const APPEND_ROWS: [usize; 5] = [16, 8, 4, 2, 1];
/// Parameters that all rows of such a statement share, and those of each.
pub(super) const SHARED: usize = 2;
pub(super) const OWN: usize = 14;

static APPEND: LazyLock<[String; 5]> = LazyLock::new(|| {
    APPEND_ROWS.map(|rows| {
        let row = |at: usize| {
            let own: Vec<String> = (1..=OWN).map(|n| format!("?{}", SHARED + at * OWN + n)).collect();
            format!("({}, ?1, ?2, {FORMAT})", own.join(", "))
        };
        let rows: Vec<String> = (0..rows).map(row).collect();
        format!(
            "INSERT INTO message (id, endpoint, priority, bytes, sender, output, epoch, sequence, created_us, monotonic_us,
             ttl_left_us, ttl_from_us, meta, body, boot, clock_trusted, format) VALUES {}",
            rows.join(", ")
        )
    })
});

/// Appends messages with the monotonic time of each; gives the id of the first, which the others follow without a gap. `endpoints`
/// are those of this change and of those before it that are committed.
pub fn append(
    conn: &Connection,
    rows: &[(&StoredMessage, Option<i64>)],
    mark: ClockMark,
    ids: &Ids,
    endpoints: &mut Endpoints,
) -> rusqlite::Result<i64> {
    let first = ids.take(conn, rows.len())?;
    let (mut left, mut id) = (rows, first);
    for (count, sql) in APPEND_ROWS.into_iter().zip(APPEND.iter()) {
        if left.len() < count {
            continue;
        }
        let mut insert = conn.prepare_cached(sql)?;
        insert.raw_bind_parameter(1, mark.boot)?;
        insert.raw_bind_parameter(2, !mark.clock_doubted)?;
        while left.len() >= count {
            let (now, later) = left.split_at(count);
            for (at, (message, monotonic_us)) in now.iter().enumerate() {
                let endpoint = endpoints.id(conn, &message.endpoint)?;
                bind(&mut insert, SHARED + at * OWN, (id, endpoint), message, (*monotonic_us, mark.store_us))?;
                id += 1;
            }
            insert.raw_execute()?;
            left = later;
        }
    }
    Ok(first)
}

pub(super) fn bind(
    insert: &mut CachedStatement<'_>,
    before: usize,
    (id, endpoint): (i64, i64),
    m: &StoredMessage,
    (monotonic_us, store_us): (Option<i64>, Option<i64>),
) -> rusqlite::Result<()> {
    let ttl_left_us = m.ttl_secs.map(|s| i64::try_from(s.saturating_mul(1_000_000)).unwrap_or(i64::MAX));
    let ttl_from_us = ttl_left_us.map(|_| store_us.unwrap_or(m.created_us));
    let own: [&dyn ToSql; OWN] = [
        &id,
        &endpoint,
        &m.priority,
        &((m.meta.len() + m.body.len()) as i64),
        &m.sender,
        &m.output,
        &(m.epoch as i64),
        &(m.sequence as i64),
        &m.created_us,
        &monotonic_us,
        &ttl_left_us,
        &ttl_from_us,
        &m.meta,
        &m.body,
    ];
    own.into_iter().zip(before + 1..).try_for_each(|(value, at)| insert.raw_bind_parameter(at, value))
}

/// Something waits for an endpoint in one priority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// The endpoint.
    pub endpoint: String,
    /// The priority.
    pub priority: u32,
    /// Id of the last.
    pub last: i64,
}

/// Where something waits. Nothing is counted: each endpoint and priority takes two looks into the index, however much waits there.
pub fn left(conn: &Connection) -> rusqlite::Result<Vec<Left>> {
    conn.prepare(
        "WITH RECURSIVE place (endpoint, priority) AS (
           SELECT e.id, (SELECT min(m.priority) FROM message m WHERE m.endpoint = e.id AND m.state = 0) FROM endpoint e
           UNION ALL
           SELECT p.endpoint, (SELECT min(m.priority) FROM message m
                               WHERE m.endpoint = p.endpoint AND m.state = 0 AND m.priority > p.priority)
           FROM place p WHERE p.priority IS NOT NULL)
         SELECT e.name, p.priority, (SELECT max(m.id) FROM message m
                                     WHERE m.endpoint = p.endpoint AND m.state = 0 AND m.priority = p.priority)
         FROM place p JOIN endpoint e ON e.id = p.endpoint WHERE p.priority IS NOT NULL",
    )?
    .query_map([], |row| Ok(Left { endpoint: row.get(0)?, priority: row.get(1)?, last: row.get(2)? }))?
    .collect()
}

pub(super) fn endpoint_id(conn: &Connection, name: &str) -> rusqlite::Result<i64> {
    let mut select = conn.prepare_cached("SELECT id FROM endpoint WHERE name = ?1")?;
    if let Some(id) = select.query_row([name], |row| row.get(0)).optional()? {
        return Ok(id);
    }
    conn.prepare_cached("INSERT INTO endpoint (name) VALUES (?1)")?.execute([name])?;
    Ok(conn.last_insert_rowid())
}

/// What every endpoint holds, without reading a message.
pub fn counts(conn: &Connection) -> rusqlite::Result<Vec<Count>> {
    conn.prepare(
        "SELECT e.name, m.priority, m.state, count(*), sum(m.bytes) FROM message m JOIN endpoint e ON e.id = m.endpoint
         GROUP BY m.endpoint, m.state, m.priority",
    )?
    .query_map([], |row| {
        Ok(Count {
            endpoint: row.get(0)?,
            priority: row.get(1)?,
            is_parked: row.get::<_, i64>(2)? != 0,
            messages: row.get::<_, i64>(3)? as u64,
            bytes: row.get::<_, i64>(4)? as u64,
        })
    })?
    .collect()
}

/// Bytes of all messages: what a byte budget is compared with.
pub fn total_bytes(conn: &Connection) -> rusqlite::Result<u64> {
    conn.query_row("SELECT coalesce(sum(bytes), 0) FROM message", [], |row| row.get::<_, i64>(0)).map(|n| n as u64)
}

/// Up to `limit` waiting messages of an endpoint and priority with ids above `after_id` (0: from the first), in order.
pub fn read_batch(
    conn: &Connection,
    endpoint: &str,
    priority: u32,
    after_id: i64,
    limit: u32,
) -> rusqlite::Result<Vec<ReadMessage>> {
    read_after(conn, &endpoint.into(), priority, after_id, ReadLimits { messages: limit, bytes: u64::MAX })
}

/// How much is read at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimits {
    /// Messages.
    pub messages: u32,
    /// Bytes of their bodies and properties: what is read ends with the message that reaches it.
    pub bytes: u64,
}

/// [`read_batch`] that stops at so many bytes as well.
pub fn read_after(
    conn: &Connection,
    endpoint: &Arc<str>,
    priority: u32,
    after_id: i64,
    limits: ReadLimits,
) -> rusqlite::Result<Vec<ReadMessage>> {
    let mut select = conn.prepare_cached(
        "SELECT id, sender, output, epoch, sequence, created_us, ttl_left_us, ttl_from_us, meta, body, attempts, faults
         FROM message
         WHERE endpoint = (SELECT id FROM endpoint WHERE name = ?1) AND state = 0 AND priority = ?2 AND id > ?3
         ORDER BY id LIMIT ?4",
    )?;
    let mut rows = select.query(params![endpoint, priority, after_id, limits.messages])?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let message = read(row, endpoint, priority, found.last())?;
        bytes += (message.message.meta.len() + message.message.body.len()) as u64;
        found.push(message);
        if bytes >= limits.bytes {
            break;
        }
    }
    Ok(found)
}

fn read(
    row: &Row<'_>,
    endpoint: &Arc<str>,
    priority: u32,
    before: Option<&ReadMessage>,
) -> rusqlite::Result<ReadMessage> {
    // Neighbours are mostly of one sender.
    let shared = |at: usize, before: Option<&Arc<str>>| -> rusqlite::Result<Arc<str>> {
        let text = row.get_ref(at)?.as_str()?;
        Ok(before.filter(|before| &***before == text).cloned().unwrap_or_else(|| text.into()))
    };
    Ok(ReadMessage {
        id: row.get(0)?,
        message: StoredMessage {
            endpoint: endpoint.clone(),
            priority,
            ttl_secs: row.get::<_, Option<i64>>(6)?.map(|us| us as u64 / 1_000_000),
            sender: shared(1, before.map(|before| &before.message.sender))?,
            output: shared(2, before.map(|before| &before.message.output))?,
            epoch: row.get::<_, i64>(3)? as u64,
            sequence: row.get::<_, i64>(4)? as u64,
            created_us: row.get(5)?,
            meta: memory::copied(row.get_ref(8)?.as_blob()?),
            body: memory::copied(row.get_ref(9)?.as_blob()?),
        },
        ttl_from_us: row.get(7)?,
        left_us: None,
        tries: Tries { attempts: row.get(10)?, faults: row.get(11)? },
    })
}

/// Removes handled or expired messages; gives how many were there.
pub fn delete(conn: &Connection, ids: &[i64]) -> rusqlite::Result<usize> {
    let mut delete = conn.prepare_cached("DELETE FROM message WHERE id = ?1")?;
    let mut count = 0;
    for id in ids {
        count += delete.execute([id])?;
    }
    Ok(count)
}

/// Why and when a message was set aside, and what had been tried until then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parking {
    /// Why: what the handler said, or that it was delivered too often.
    pub reason: String,
    /// Wall time.
    pub at_us: i64,
    /// Deliveries until then.
    pub tries: Tries,
}

/// Sets a message aside: kept, counted, not delivered again by itself. False where it is not there, or set aside already.
pub fn park(conn: &Connection, id: i64, parking: &Parking) -> rusqlite::Result<bool> {
    let count = conn
        .prepare_cached(
            "UPDATE message SET state = 1, reason = ?2, parked_us = ?3, attempts = ?4, faults = ?5
             WHERE id = ?1 AND state = 0",
        )?
        .execute(params![id, parking.reason, parking.at_us, parking.tries.attempts, parking.tries.faults])?;
    Ok(count > 0)
}

/// Notes how often a message was delivered without being settled.
pub fn note_tries(conn: &Connection, id: i64, tries: Tries) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE message SET attempts = ?2, faults = ?3 WHERE id = ?1")?
        .execute(params![id, tries.attempts, tries.faults])
        .map(drop)
}

/// Removes everything that waits for an endpoint; gives how many messages that were.
pub fn delete_endpoint(conn: &Connection, endpoint: &str) -> rusqlite::Result<usize> {
    let count =
        conn.execute("DELETE FROM message WHERE endpoint = (SELECT id FROM endpoint WHERE name = ?1)", [endpoint])?;
    conn.execute("DELETE FROM endpoint WHERE name = ?1", [endpoint])?;
    Ok(count)
}

/// What was removed for a module: messages that waited, messages that were parked, bytes of both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Purged {
    /// Messages that waited.
    pub messages: u64,
    /// Messages that were parked.
    pub parked: u64,
    /// Bytes of both, by endpoint.
    pub bytes: BTreeMap<Arc<str>, u64>,
}

/// Removes everything that waits or is parked for an endpoint that begins with `prefix`, and counts it as lost for `reason`.
pub fn purge(conn: &Connection, prefix: &str, reason: &str) -> rusqlite::Result<Purged> {
    let of_prefix = "FROM message m JOIN endpoint e ON e.id = m.endpoint WHERE substr(e.name, 1, length(?1)) = ?1";
    let mut purged = Purged::default();
    // Sequences that follow each other are as far from their places as the first of them is.
    let losses: Vec<LossRow> = conn
        .prepare(&format!(
            "SELECT sender, output, name, epoch, min(sequence), max(sequence), count(*), sum(bytes), sum(state <> 0) FROM (
               SELECT m.sender, m.output, e.name, m.epoch, m.sequence, m.bytes, m.state, m.sequence -
                 row_number() OVER (PARTITION BY m.sender, m.output, e.name, m.epoch ORDER BY m.sequence) AS run {of_prefix})
             GROUP BY sender, output, name, epoch, run ORDER BY sender, output, name, epoch, run"
        ))?
        .query_map([prefix], |row| {
            let number = |i: usize| row.get::<_, i64>(i).map(|n| n as u64);
            let (epoch, count, parked) = (number(3)?, number(6)?, number(8)?);
            purged.messages += count - parked;
            purged.parked += parked;
            *purged.bytes.entry(row.get(2)?).or_default() += number(7)?;
            Ok(LossRow {
                sender: row.get(0)?,
                output: row.get(1)?,
                endpoint: row.get(2)?,
                reason: reason.to_owned(),
                first: (epoch, number(4)?),
                last: (epoch, number(5)?),
                count,
                is_upper_bound: false,
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    loss::add(conn, &losses, crate::clock::wall_us())?;
    conn.execute(&format!("DELETE FROM message WHERE id IN (SELECT m.id {of_prefix})"), [prefix])?;
    Ok(purged)
}
