//! Instances that a person removed, and that nothing but a person or other bytes shall bring back.

use rusqlite::{Connection, params};

/// One removed instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovedRow {
    /// Its name.
    pub name: String,
    /// Who removed it.
    pub by: String,
    /// When, in microseconds since 1970-01-01 UTC.
    pub at_us: i64,
    /// `drop` or `cli`.
    pub origin: String,
    /// What was wanted of it: JSON.
    pub spec: String,
}

/// All of them, by name.
pub fn load_all(conn: &Connection) -> rusqlite::Result<Vec<RemovedRow>> {
    conn.prepare("SELECT name, by, at_us, origin, spec FROM removed ORDER BY name")?
        .query_map([], |row| {
            Ok(RemovedRow {
                name: row.get(0)?,
                by: row.get(1)?,
                at_us: row.get(2)?,
                origin: row.get(3)?,
                spec: row.get(4)?,
            })
        })?
        .collect()
}

/// Notes one.
pub fn upsert(conn: &Connection, row: &RemovedRow) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT OR REPLACE INTO removed (name, by, at_us, origin, spec) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![row.name, row.by, row.at_us, row.origin, row.spec])?;
    Ok(())
}

/// Forgets one: it may come back.
pub fn delete(conn: &Connection, name: &str) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM removed WHERE name = ?1")?.execute([name])?;
    Ok(())
}
