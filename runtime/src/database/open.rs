//! Opens one file the way it was measured to be sound and small in memory.

use std::fs::OpenOptions;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::DatabaseError;
use super::recovery::Trouble;

/// Pages that one connection may keep in memory, in KiB.
const WRITER_CACHE_KIB: i64 = 512;
const READER_CACHE_KIB: i64 = 128;
pub(super) const BUSY: Duration = Duration::from_secs(5);

/// Opens or creates `path`, readable by its owner only. The first statement fails where the file is damaged.
pub(super) fn connect(path: &Path) -> Result<Connection, Trouble> {
    let mut create = OpenOptions::new();
    create.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut create, 0o600);
    // SQLite gives -wal and -shm the mode of the file itself, so making this one private makes all three private.
    create.open(path).map_err(|e| DatabaseError::io(path, &e))?;
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(|e| Trouble::sql(path, &e))?;
    writer_pragmas(&conn).map_err(|e| Trouble::sql(path, &e))?;
    Ok(conn)
}

fn writer_pragmas(conn: &Connection) -> rusqlite::Result<()> {
    conn.busy_timeout(BUSY)?;
    conn.set_prepared_statement_cache_capacity(48);
    // Before the first table, and before WAL, or it has no effect.
    conn.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    conn.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    // The writer folds the log itself, once those who wait for a commit have been told.
    conn.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))?;
    conn.pragma_update_and_check(None, "journal_size_limit", 16 << 20, |_| Ok(()))?;
    conn.pragma_update(None, "foreign_keys", true)?;
    common_pragmas(conn, WRITER_CACHE_KIB)
}

fn common_pragmas(conn: &Connection, cache_kib: i64) -> rusqlite::Result<()> {
    conn.pragma_update(None, "cell_size_check", true)?;
    // An I/O error on a mapped file is SIGBUS.
    conn.pragma_update_and_check(None, "mmap_size", 0, |_| Ok(())).or_else(|e| match e {
        rusqlite::Error::QueryReturnedNoRows => Ok(()),
        e => Err(e),
    })?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    conn.pragma_update(None, "cache_size", -cache_kib)
}

/// A second connection to an open file, for reading only.
pub(super) fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.busy_timeout(BUSY)?;
    common_pragmas(&conn, READER_CACHE_KIB)?;
    Ok(conn)
}

#[cfg(unix)]
pub(super) fn make_private(path: &Path) -> std::io::Result<()> {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
}

#[cfg(not(unix))]
pub(super) fn make_private(_: &Path) -> std::io::Result<()> {
    Ok(())
}
