//! Single values that outlive the process, by name.

use rusqlite::{Connection, OptionalExtension};

/// Names of the settings, so that no two uses share one.
pub mod key {
    /// SHA-256 of the manifest that `run MANIFEST` applied last.
    pub const LAST_MANIFEST: &str = "last-manifest-sha256";
    /// Id of the deployment that is being applied, and at how many starts it was not found good yet.
    pub const DEPLOYMENT_STARTS: &str = "deployment-starts";
    /// By what the device's key is known again, without being it.
    pub const DEVICE_KEY_PRINT: &str = "device-key-print";
    /// The epoch of message sequences that was used last.
    pub const SEQUENCE_EPOCH: &str = "sequence-epoch";
    /// The epoch of the book of sequences in the queue's file.
    pub const SEQUENCE_BOOK: &str = "sequence-book";
}

/// The value of `key`, if it was ever set.
pub fn get(conn: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    conn.prepare_cached("SELECT value FROM setting WHERE key = ?1")?.query_row([key], |row| row.get(0)).optional()
}

/// Sets `key`.
pub fn set(conn: &Connection, key: &str, value: &str) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT INTO setting VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value")?
        .execute([key, value])?;
    Ok(())
}

/// Forgets `key`.
pub fn delete(conn: &Connection, key: &str) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM setting WHERE key = ?1")?.execute([key])?;
    Ok(())
}

/// Adds one to a counting setting and gives the new value; the first is 1.
pub fn count_up(conn: &Connection, key: &str) -> rusqlite::Result<u64> {
    let next = get(conn, key)?.and_then(|v| v.parse::<u64>().ok()).unwrap_or(0) + 1;
    set(conn, key, &next.to_string())?;
    Ok(next)
}
