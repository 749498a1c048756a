//! Brings a file to the newest format, step by step, each step in a transaction of its own.
//!
//! `user_version` is the number of the last step done. A step that older binaries cannot live with raises
//! `format.min_reader`; a binary opens a file of a later format only when its own newest format is at least that.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, TransactionBehavior};

use super::{DatabaseError, File};

/// The steps, in order: step `n` (from 1) leads to format `n`.
pub(super) fn steps(file: File) -> &'static [&'static str] {
    match file {
        File::Main => &[
            include_str!("migrations/main/0001_state.sql"),
            include_str!("migrations/main/0002_removed.sql"),
            include_str!("migrations/main/0003_routes.sql"),
            include_str!("migrations/main/0004_rollouts.sql"),
            include_str!("migrations/main/0005_identities.sql"),
            include_str!("migrations/main/0006_twin_history.sql"),
            include_str!("migrations/main/0007_secrets.sql"),
        ],
        File::Queue => &[
            include_str!("migrations/queue/0001_messages.sql"),
            include_str!("migrations/queue/0002_sequences.sql"),
            include_str!("migrations/queue/0003_attempts.sql"),
            include_str!("migrations/queue/0004_clock.sql"),
            include_str!("migrations/queue/0005_untold.sql"),
        ],
    }
}

/// Runs what is missing. Keeps a copy `PATH.before-NNNN` of an existing file, except for the queue's, whose messages
/// move on.
pub(super) fn migrate(conn: &mut Connection, path: &Path, file: File, steps: &[&str]) -> Result<(), DatabaseError> {
    let known = steps.len() as u32;
    let found: u32 =
        conn.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(|e| DatabaseError::sql(path, &e))?;
    if found >= known {
        return if found == known { Ok(()) } else { check_newer(conn, path, found, known) };
    }
    if found > 0 && file == File::Main {
        keep_copy(conn, path, found + 1)?;
    }
    for (to, sql) in (1..).zip(steps).skip(found as usize) {
        run_step(conn, sql, to).map_err(|error| {
            let failed = || DatabaseError::Migration { path: path.to_owned(), to, cause: error.to_string() };
            DatabaseError::no_room(path, &error).unwrap_or_else(failed)
        })?;
    }
    Ok(())
}

fn run_step(conn: &mut Connection, sql: &str, to: u32) -> rusqlite::Result<()> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch(sql)?;
    tx.pragma_update(None, "user_version", to)?;
    tx.commit()
}

fn check_newer(conn: &Connection, path: &Path, found: u32, known: u32) -> Result<(), DatabaseError> {
    // Without a readable min_reader nothing is promised, so nothing is assumed.
    let min_reader = conn.query_row("SELECT min_reader FROM format", [], |row| row.get(0)).unwrap_or(found);
    if min_reader <= known {
        tracing::warn!("{} has format {found}, this dinrail knows format {known} and may use it", path.display());
        return Ok(());
    }
    let copy = (known + 1..=found).map(|step| copy_path(path, step)).find(|copy| copy.exists());
    Err(DatabaseError::TooNew { path: path.to_owned(), found, min_reader, known, copy })
}

fn copy_path(path: &Path, step: u32) -> PathBuf {
    super::recovery::beside(path, &format!(".before-{step:04}"))
}

fn keep_copy(conn: &Connection, path: &Path, step: u32) -> Result<(), DatabaseError> {
    let copy = copy_path(path, step);
    let half = super::recovery::beside(path, ".copying");
    let _ = fs::remove_file(&half);
    let to = half.to_str().ok_or_else(|| DatabaseError::Open {
        path: path.to_owned(),
        cause: "the path of the state directory is not UTF-8".to_owned(),
    })?;
    conn.execute("VACUUM INTO ?1", [to]).map_err(|e| DatabaseError::sql(&half, &e))?;
    super::open::make_private(&half).map_err(|e| DatabaseError::io(&half, &e))?;
    fs::rename(&half, &copy).map_err(|e| DatabaseError::io(&copy, &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = include_str!("migrations/main/0001_state.sql");
    const COMPATIBLE: &str = "CREATE TABLE later (x)";
    const BREAKING: &str = "DROP TABLE setting; UPDATE format SET min_reader = 2";

    fn opened(dir: &Path, steps: &[&str]) -> Result<Connection, DatabaseError> {
        let path = dir.join("dinrail.db");
        let mut conn = super::super::open::connect(&path).map_err(|_| ()).unwrap();
        migrate(&mut conn, &path, File::Main, steps)?;
        Ok(conn)
    }

    #[test]
    fn an_older_file_is_migrated_and_a_copy_of_it_kept() {
        let dir = tempfile::tempdir().unwrap();
        let conn = opened(dir.path(), &[ONE]).unwrap();
        conn.execute("INSERT INTO setting VALUES ('a', 'b')", []).unwrap();
        drop(conn);

        let conn = opened(dir.path(), &[ONE, COMPATIBLE]).unwrap();

        assert_eq!(conn.query_row("SELECT count(*) FROM later", [], |r| r.get::<_, i64>(0)).unwrap(), 0);
        let copy = Connection::open(dir.path().join("dinrail.db.before-0002")).unwrap();
        assert_eq!(copy.query_row("SELECT value FROM setting", [], |r| r.get::<_, String>(0)).unwrap(), "b");
        assert_eq!(copy.pragma_query_value(None, "user_version", |r| r.get::<_, u32>(0)).unwrap(), 1);
    }

    #[test]
    fn a_newer_file_is_opened_where_it_says_that_it_may_be() {
        let dir = tempfile::tempdir().unwrap();
        drop(opened(dir.path(), &[ONE, COMPATIBLE]).unwrap());

        let conn = opened(dir.path(), &[ONE]).unwrap();

        assert_eq!(conn.pragma_query_value(None, "user_version", |r| r.get::<_, u32>(0)).unwrap(), 2);
    }

    #[test]
    fn a_newer_file_that_cannot_be_read_is_refused_and_the_copy_to_restore_named() {
        let dir = tempfile::tempdir().unwrap();
        drop(opened(dir.path(), &[ONE]).unwrap());
        drop(opened(dir.path(), &[ONE, BREAKING]).unwrap());

        let refused = opened(dir.path(), &[ONE]).unwrap_err();

        assert!(matches!(refused, DatabaseError::TooNew { found: 2, min_reader: 2, known: 1, .. }));
        assert!(refused.hint().contains("dinrail.db.before-0002"), "{}", refused.hint());
    }

    #[test]
    fn a_step_that_fails_leaves_the_file_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        drop(opened(dir.path(), &[ONE]).unwrap());

        let failed = opened(dir.path(), &[ONE, "CREATE TABLE half (x); SELECT nonsense"]).unwrap_err();

        assert!(matches!(failed, DatabaseError::Migration { to: 2, .. }));
        let conn = opened(dir.path(), &[ONE]).unwrap();
        assert!(conn.prepare("SELECT * FROM half").is_err());
    }
}
