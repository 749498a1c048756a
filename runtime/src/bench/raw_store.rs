//! The raw limit of the store: one SQLite connection that writes the same bytes, in groups of the same mean size, to a file
//! on the same disk, with the settings of our own.

use std::path::Path;
use std::time::Instant;

use rusqlite::{Connection, TransactionBehavior, params};

use super::BenchError;

/// The connection and its prepared table of sections.
pub(super) struct RawStore(Connection);

impl RawStore {
    /// Makes a database in `folder` with `rows` sections.
    pub fn new(folder: &Path, rows: u64) -> Result<RawStore, BenchError> {
        let conn = Connection::open(folder.join("raw.db")).map_err(|error| failed(&error))?;
        let fill = || {
            prepare(&conn)?;
            conn.execute_batch(
                "CREATE TABLE section (id INTEGER PRIMARY KEY, revision INTEGER NOT NULL, version INTEGER NOT NULL,
                                       document TEXT NOT NULL, metadata TEXT NOT NULL)",
            )?;
            (0..rows)
                .try_for_each(|id| conn.execute("INSERT INTO section VALUES (?1, 1, 1, '', '')", [id as i64]).map(drop))
        };
        fill().map_err(|error: rusqlite::Error| failed(&error))?;
        Ok(RawStore(conn))
    }

    /// Writes `count` sections, one row after the other, each of `bytes` for document and metadata, and syncs every `group`
    /// of them on average. Gives sections per second.
    pub fn write(&mut self, rows: u64, count: u64, bytes: (usize, usize), group: f64) -> Result<f64, BenchError> {
        let texts: Vec<(String, String)> = (0..16_u8)
            .map(|n| [bytes.0, bytes.1].map(|len| char::from(b'a' + n).to_string().repeat(len)).into())
            .collect();
        let begin = Instant::now();
        let (mut done, mut groups) = (0_u64, 0_u64);
        while done < count {
            groups += 1;
            // Sizes alternate so that their mean is that of ours.
            let until = ((groups as f64 * group.max(1.0)).round() as u64).clamp(done + 1, count);
            self.commit(rows, done..until, &texts).map_err(|error| failed(&error))?;
            done = until;
        }
        Ok(count as f64 / begin.elapsed().as_secs_f64())
    }

    fn commit(&mut self, rows: u64, numbers: std::ops::Range<u64>, texts: &[(String, String)]) -> rusqlite::Result<()> {
        let tx = self.0.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let sql = "UPDATE section SET revision = ?2, version = ?2, document = ?3, metadata = ?4 WHERE id = ?1";
            let mut update = tx.prepare_cached(sql)?;
            for number in numbers {
                let (document, metadata) = &texts[(number / rows) as usize % texts.len()];
                update.execute(params![(number % rows) as i64, number as i64, document, metadata])?;
            }
        }
        tx.commit()
    }
}

/// Settings as database/open.rs makes them.
pub(super) fn prepare(conn: &Connection) -> rusqlite::Result<()> {
    for (name, value) in [("auto_vacuum", "INCREMENTAL"), ("journal_mode", "WAL"), ("synchronous", "FULL")] {
        conn.pragma_update_and_check(None, name, value, |_| Ok(())).or_else(no_rows)?;
    }
    conn.pragma_update_and_check(None, "wal_autocheckpoint", 1000, |_| Ok(()))?;
    conn.pragma_update_and_check(None, "journal_size_limit", 16 << 20, |_| Ok(()))?;
    conn.pragma_update(None, "cell_size_check", true)?;
    conn.pragma_update(None, "cache_size", -512)
}

fn no_rows(error: rusqlite::Error) -> rusqlite::Result<()> {
    if matches!(error, rusqlite::Error::QueryReturnedNoRows) { Ok(()) } else { Err(error) }
}

pub(super) fn failed(error: &rusqlite::Error) -> BenchError {
    BenchError::around(format!("the raw store could not be measured: {error}"))
}
