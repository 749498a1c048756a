//! A look at a file from outside, beside whoever writes it.

use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags};

/// Reads the whole file; says what is damaged, if anything is.
///
/// Errors: it cannot be looked at, which says nothing about its content.
pub fn damage(path: &Path) -> Result<Option<String>, String> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let look = || -> rusqlite::Result<String> {
        let conn = Connection::open_with_flags(path, flags)?;
        conn.query_row("PRAGMA quick_check(3)", [], |row| row.get(0))
    };
    match look() {
        Ok(said) if said == "ok" => Ok(None),
        Ok(said) => Ok(Some(said)),
        Err(error) => match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Ok(Some(error.to_string())),
            _ => Err(error.to_string()),
        },
    }
}

/// Lets everybody else go first, on the processor and, as that follows from it, at the disk. For the rest of this thread's life.
pub fn step_back() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 19);
}
