//! The table of secrets. Values are sealed before they come here.

use rusqlite::{Connection, params};

/// One secret as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub name: String,
    pub version: u64,
    /// Sealed under the device's key.
    pub sealed: Vec<u8>,
    pub set_us: i64,
    pub set_by: String,
    /// JSON array of module names, or `["*"]`.
    pub allowed: String,
}

pub(super) fn load_all(conn: &Connection) -> rusqlite::Result<Vec<Row>> {
    conn.prepare("SELECT name, version, sealed, set_us, set_by, allowed FROM secret ORDER BY name")?
        .query_map([], |row| {
            Ok(Row {
                name: row.get(0)?,
                version: row.get::<_, i64>(1)? as u64,
                sealed: row.get(2)?,
                set_us: row.get(3)?,
                set_by: row.get(4)?,
                allowed: row.get(5)?,
            })
        })?
        .collect()
}

pub(super) fn upsert(conn: &Connection, row: &Row) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT OR REPLACE INTO secret (name, version, sealed, set_us, set_by, allowed) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![row.name, row.version as i64, row.sealed, row.set_us, row.set_by, row.allowed])?;
    Ok(())
}

pub(super) fn delete(conn: &Connection, name: &str) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM secret WHERE name = ?1")?.execute([name])?;
    Ok(())
}
