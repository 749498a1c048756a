//! Images that an instance must not use, since it failed with them or was rolled back from them.

use rusqlite::{Connection, params};

/// One image that one instance must not use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BarredRow {
    /// The instance.
    pub instance: String,
    /// `sha256:…`.
    pub digest: String,
    /// Why, for a person.
    pub reason: String,
    /// Wall time.
    pub at_us: i64,
}

/// All of them, oldest first.
pub fn load_all(conn: &Connection) -> rusqlite::Result<Vec<BarredRow>> {
    conn.prepare("SELECT instance, digest, reason, at_us FROM barred ORDER BY at_us")?
        .query_map([], |row| {
            Ok(BarredRow { instance: row.get(0)?, digest: row.get(1)?, reason: row.get(2)?, at_us: row.get(3)? })
        })?
        .collect()
}

/// Bars an image, or says anew why.
pub fn put(conn: &Connection, row: &BarredRow) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT OR REPLACE INTO barred (instance, digest, reason, at_us) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![row.instance, row.digest, row.reason, row.at_us])?;
    Ok(())
}

/// Lifts everything that is barred for an instance.
pub fn lift(conn: &Connection, instance: &str) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM barred WHERE instance = ?1")?.execute([instance])?;
    Ok(())
}
