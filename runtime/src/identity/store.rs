//! The tables of devices, identities and shared access policies.

use rusqlite::{Connection, OptionalExtension, Row, named_params, params};

/// One identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IdentityRow {
    pub id: i64,
    pub device: String,
    pub module: Option<String>,
    pub generation_id: String,
    pub status: &'static str,
    pub status_reason: String,
    pub status_us: Option<i64>,
    pub managed_by: String,
    pub created_us: i64,
    pub revision: i64,
    pub keys: KeyRow,
    pub connection_us: Option<i64>,
    pub activity_us: Option<i64>,
}

/// Two keys: the words of derived ones, the sealed bytes of given ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct KeyRow {
    pub primary_word: Option<String>,
    pub secondary_word: Option<String>,
    pub primary_sealed: Option<Vec<u8>>,
    pub secondary_sealed: Option<Vec<u8>>,
    pub counter: u32,
}

/// Words for the status.
pub(super) const ENABLED: &str = "enabled";
pub(super) const DISABLED: &str = "disabled";

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
        "SELECT i.id, d.name AS device, i.module, i.generation_id, i.status, i.status_reason, i.status_us, i.managed_by,
                i.created_us, i.revision, i.primary_word, i.secondary_word, i.primary_sealed, i.secondary_sealed,
                i.key_counter, i.connection_us, i.activity_us
         FROM identity i JOIN device d ON d.id = i.device ORDER BY i.id",
    )?
    .query_map([], |row| {
        Ok(IdentityRow {
            id: row.get("id")?,
            device: row.get("device")?,
            module: row.get("module")?,
            generation_id: row.get("generation_id")?,
            // Whatever else stands there is no permission.
            status: if row.get_ref("status")?.as_str()? == ENABLED { ENABLED } else { DISABLED },
            status_reason: row.get("status_reason")?,
            status_us: row.get("status_us")?,
            managed_by: row.get("managed_by")?,
            created_us: row.get("created_us")?,
            revision: row.get("revision")?,
            keys: keys(row)?,
            connection_us: row.get("connection_us")?,
            activity_us: row.get("activity_us")?,
        })
    })?
    .collect()
}

fn keys(row: &Row<'_>) -> rusqlite::Result<KeyRow> {
    Ok(KeyRow {
        primary_word: row.get("primary_word")?,
        secondary_word: row.get("secondary_word")?,
        primary_sealed: row.get("primary_sealed")?,
        secondary_sealed: row.get("secondary_sealed")?,
        counter: row.get("key_counter")?,
    })
}

/// Adds an identity, and its device where that is not there; gives its number, which is never used again.
pub(super) fn insert(conn: &Connection, row: &IdentityRow) -> rusqlite::Result<i64> {
    conn.prepare_cached("INSERT INTO device (name) VALUES (?1) ON CONFLICT DO NOTHING")?.execute([&row.device])?;
    conn.prepare_cached(
        "INSERT INTO identity (device, module, generation_id, status, status_reason, status_us, managed_by, created_us,
                               revision, primary_word, secondary_word, primary_sealed, secondary_sealed, key_counter)
         VALUES ((SELECT id FROM device WHERE name = ?1), ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    )?
    .execute(params![
        row.device,
        row.module,
        row.generation_id,
        row.status,
        row.status_reason,
        row.status_us,
        row.managed_by,
        row.created_us,
        row.revision,
        row.keys.primary_word,
        row.keys.secondary_word,
        row.keys.primary_sealed,
        row.keys.secondary_sealed,
        row.keys.counter,
    ])?;
    Ok(conn.last_insert_rowid())
}

/// Stores what can change of an identity.
pub(super) fn update(conn: &Connection, row: &IdentityRow) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "UPDATE identity SET status = :status, status_reason = :reason, status_us = :status_us, managed_by = :managed_by,
                revision = :revision, primary_word = :primary_word, secondary_word = :secondary_word,
                primary_sealed = :primary_sealed, secondary_sealed = :secondary_sealed, key_counter = :counter
         WHERE id = :id",
    )?
    .execute(named_params! {
        ":id": row.id,
        ":status": row.status,
        ":reason": row.status_reason,
        ":status_us": row.status_us,
        ":managed_by": row.managed_by,
        ":revision": row.revision,
        ":primary_word": row.keys.primary_word,
        ":secondary_word": row.keys.secondary_word,
        ":primary_sealed": row.keys.primary_sealed,
        ":secondary_sealed": row.keys.secondary_sealed,
        ":counter": row.keys.counter,
    })?;
    Ok(())
}

/// Stores when an identity connected or disconnected, and did anything, last.
pub(super) fn touch(
    conn: &Connection,
    id: i64,
    connection_us: Option<i64>,
    activity_us: Option<i64>,
) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE identity SET connection_us = ?2, activity_us = ?3 WHERE id = ?1")?.execute(params![
        id,
        connection_us,
        activity_us
    ])?;
    Ok(())
}

/// Removes an identity, its twin with it.
pub(super) fn delete(conn: &Connection, id: i64) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM identity WHERE id = ?1")?.execute([id])?;
    Ok(())
}

/// Removes a device that is not this one, with all identities and twins of it.
pub(super) fn delete_device(conn: &Connection, name: &str) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM device WHERE name = ?1 AND is_self = 0")?.execute([name])?;
    Ok(())
}

/// Forgets all keys that were given, in favour of derived ones: those of the device key before cannot be opened any more.
pub(super) fn forget_given_keys(conn: &Connection) -> rusqlite::Result<()> {
    conn.execute_batch(
        "UPDATE identity SET primary_sealed = NULL, secondary_sealed = NULL, revision = revision + 1;
         UPDATE policy SET primary_sealed = NULL, secondary_sealed = NULL;",
    )
}

/// The policies whose keys are not the first ones.
pub(super) fn load_policies(conn: &Connection) -> rusqlite::Result<Vec<(String, KeyRow)>> {
    conn.prepare(
        "SELECT name, primary_word, secondary_word, primary_sealed, secondary_sealed, key_counter FROM policy",
    )?
    .query_map([], |row| Ok((row.get("name")?, keys(row)?)))?
    .collect()
}

/// Stores the keys of a policy.
pub(super) fn put_policy(conn: &Connection, name: &str, keys: &KeyRow) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO policy (name, primary_word, secondary_word, primary_sealed, secondary_sealed, key_counter)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT DO UPDATE SET primary_word = excluded.primary_word, secondary_word = excluded.secondary_word,
            primary_sealed = excluded.primary_sealed, secondary_sealed = excluded.secondary_sealed,
            key_counter = excluded.key_counter",
    )?
    .execute(params![
        name,
        keys.primary_word,
        keys.secondary_word,
        keys.primary_sealed,
        keys.secondary_sealed,
        keys.counter
    ])?;
    Ok(())
}
