//! The raw limit of a queue on disk: one SQLite connection, one table, one index, and nothing else to do.

use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use rusqlite::{Connection, TransactionBehavior, params};

use super::BenchError;
use super::durable::ROW_BYTES;
use super::raw_store::{failed, prepare};

/// The connection.
pub(super) struct RawQueue {
    conn: Connection,
    next: u64,
}

impl RawQueue {
    /// Makes a database in `folder`.
    pub fn new(folder: &Path) -> Result<RawQueue, BenchError> {
        let conn = Connection::open(folder.join("raw-queue.db")).map_err(|error| failed(&error))?;
        let fill = || {
            prepare(&conn)?;
            conn.execute_batch(
                "CREATE TABLE q (id INTEGER PRIMARY KEY, ep INTEGER NOT NULL, prio INTEGER NOT NULL, expires INTEGER NOT NULL,
                                 bytes INTEGER NOT NULL, props BLOB NOT NULL, body BLOB NOT NULL);
                 CREATE INDEX q_order ON q (ep, prio, id)",
            )
        };
        fill().map_err(|error: rusqlite::Error| failed(&error))?;
        Ok(RawQueue { conn, next: 1 })
    }

    /// Inserts `count` messages and syncs every `group` of them on average. Gives messages per second.
    pub fn insert(&mut self, count: u64, group: f64) -> Result<f64, BenchError> {
        self.measure(count, group, |queue, ids| queue.insert_group(ids, 0))
    }

    /// Inserts, reads and removes `count` messages, and syncs every `group` insertions and every `group` removals. Gives messages
    /// per second.
    pub fn pass(&mut self, count: u64, group: f64) -> Result<f64, BenchError> {
        self.measure(count, group, |queue, ids| {
            let after = ids.start;
            let expected = ids.end - ids.start;
            queue.insert_group(ids, 1)?;
            let found = {
                let sql = "SELECT id, props, body FROM q WHERE ep = 1 AND prio = 0 AND id >= ?1 ORDER BY id LIMIT ?2";
                let mut select = queue.conn.prepare_cached(sql)?;
                let mut rows = select.query(params![after as i64, expected as i64])?;
                let mut found: Vec<(i64, Vec<u8>, Vec<u8>)> = Vec::new();
                while let Some(row) = rows.next()? {
                    found.push((row.get(0)?, row.get(1)?, row.get(2)?));
                }
                found
            };
            let tx = queue.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            {
                let mut delete = tx.prepare_cached("DELETE FROM q WHERE id = ?1")?;
                for (id, ..) in &found {
                    delete.execute([id])?;
                }
            }
            tx.commit()
        })
    }

    fn measure(
        &mut self,
        count: u64,
        group: f64,
        each: impl Fn(&mut RawQueue, Range<u64>) -> rusqlite::Result<()>,
    ) -> Result<f64, BenchError> {
        let begin = Instant::now();
        let (mut done, mut groups, first) = (0_u64, 0_u64, self.next);
        while done < count {
            groups += 1;
            // Sizes alternate so that their mean is that of ours.
            let until = ((groups as f64 * group.max(1.0)).round() as u64).clamp(done + 1, count);
            each(self, first + done..first + until).map_err(|error| failed(&error))?;
            done = until;
        }
        self.next = first + count;
        Ok(count as f64 / begin.elapsed().as_secs_f64())
    }

    fn insert_group(&mut self, ids: Range<u64>, endpoint: i64) -> rusqlite::Result<()> {
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let sql = "INSERT INTO q (id, ep, prio, expires, bytes, props, body) VALUES (?1, ?2, 0, 0, ?3, ?4, ?5)";
            let mut insert = tx.prepare_cached(sql)?;
            for id in ids {
                let (props, body) = (vec![id as u8; ROW_BYTES.0], vec![id as u8; ROW_BYTES.1]);
                insert.execute(params![id as i64, endpoint, body.len() as i64, props, body])?;
            }
        }
        tx.commit()
    }
}
