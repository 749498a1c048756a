//! The tables of devices and identities.

use rusqlite::{Connection, OptionalExtension, params};

/// One identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IdentityRow {
    pub id: i64,
    pub device: String,
    pub module: Option<String>,
    pub generation_id: String,
    pub status: String,
    pub managed_by: String,
    pub created_us: i64,
}

/// The device that this runtime is: number and name.
pub(super) fn self_device(conn: &Connection) -> rusqlite::Result<Option<(i64, String)>> {
    conn.query_row("SELECT id, name FROM device WHERE is_self = 1", [], |row| Ok((row.get(0)?, row.get(1)?))).optional()
}

/// Fixes the device that this runtime is.
pub(super) fn insert_self_device(conn: &Connection, name: &str) -> rusqlite::Result<i64> {
    conn.execute("INSERT INTO device (name, is_self) VALUES (?1, 1)", [name])?;
    Ok(conn.last_insert_rowid())
}

/// All identities of all devices.
pub(super) fn load_all(conn: &Connection) -> rusqlite::Result<Vec<IdentityRow>> {
    conn.prepare(
        "SELECT i.id, d.name, i.module, i.generation_id, i.status, i.managed_by, i.created_us
         FROM identity i JOIN device d ON d.id = i.device ORDER BY i.id",
    )?
    .query_map([], |row| {
        Ok(IdentityRow {
            id: row.get(0)?,
            device: row.get(1)?,
            module: row.get(2)?,
            generation_id: row.get(3)?,
            status: row.get(4)?,
            managed_by: row.get(5)?,
            created_us: row.get(6)?,
        })
    })?
    .collect()
}

/// Adds an identity of the device numbered `device`; gives its number, which is never used again.
pub(super) fn insert(conn: &Connection, device: i64, row: &IdentityRow) -> rusqlite::Result<i64> {
    conn.prepare_cached(
        "INSERT INTO identity (device, module, generation_id, status, managed_by, created_us) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![device, row.module, row.generation_id, row.status, row.managed_by, row.created_us])?;
    Ok(conn.last_insert_rowid())
}

/// Removes an identity, its twin with it.
pub(super) fn delete(conn: &Connection, id: i64) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM identity WHERE id = ?1")?.execute([id])?;
    Ok(())
}
