//! What happens to a damaged file: it is set aside under another name, what can be read of it is copied into a new one,
//! and both are said loudly. Nothing is ever deleted.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, params_from_iter};

use super::migrate::migrate;
use super::tables::ids::LOWEST;
use super::tables::loss::{self, LossRow};
use super::tables::reason::DAMAGED;
use super::tables::setting;
use super::{DatabaseError, File, open};
use crate::clock;

/// What opening the files found that others should know.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// For people.
    pub notes: Vec<String>,
}

/// Why a file could not be opened as it is.
pub(super) enum Trouble {
    /// Its content is damaged.
    Damaged(String),
    /// Anything else; the content may well be sound.
    Other(DatabaseError),
}

impl From<DatabaseError> for Trouble {
    fn from(error: DatabaseError) -> Trouble {
        Trouble::Other(error)
    }
}

impl Trouble {
    pub(super) fn sql(path: &Path, error: &rusqlite::Error) -> Trouble {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Trouble::Damaged(error.to_string()),
            _ => Trouble::Other(DatabaseError::sql(path, error)),
        }
    }
}

/// `dinrail.db` → `dinrail.db` + suffix, in the same folder.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Opens `path` in the newest format; a damaged one is replaced by what could be salvaged, with a note for people.
///
/// `check` reads the whole file first; without it only damage at its head is seen.
pub(super) fn open_sound(
    path: &Path,
    file: File,
    check: bool,
    steps: &[&str],
    found: &mut Found,
) -> Result<Connection, DatabaseError> {
    let cause = match open_as_it_is(path, check) {
        Ok(mut conn) => {
            migrate(&mut conn, path, file, steps)?;
            return Ok(conn);
        }
        Err(Trouble::Other(error)) => return Err(error),
        Err(Trouble::Damaged(cause)) => cause,
    };
    let aside = set_aside(path).map_err(|e| DatabaseError::io(path, &e))?;
    let mut conn = match open::connect(path) {
        Ok(conn) => conn,
        Err(Trouble::Other(error)) => return Err(error),
        Err(Trouble::Damaged(cause)) => return Err(DatabaseError::Open { path: path.to_owned(), cause }),
    };
    migrate(&mut conn, path, file, steps)?;
    let saved = match salvage(&aside, file, &mut conn) {
        Ok(saved) => saved,
        Err(error) => format!("nothing ({error})"),
    };
    let note = format!("{file} was damaged ({cause}): it is kept as {}; salvaged: {saved}", aside.display());
    tracing::error!("{note}");
    found.notes.push(note);
    Ok(conn)
}

/// Notes a file that was not there although the other one was, which no start of ours leaves behind. `main`: opened by now.
pub(super) fn note_missing((had_main, had_queue): (bool, bool), main: &Connection, found: &mut Found) {
    let is_known = setting::get(main, setting::key::SEQUENCE_BOOK).is_ok_and(|book| book.is_some());
    let note = match (had_main, had_queue) {
        (false, true) => {
            "dinrail.db was not there at the start, though queue.db was: identities, instances, twins and routes begin anew, under \
             this machine's name unless another is given; if they should be there, stop dinrail, put the file and its -wal back, or \
             a backup, and start it again"
        }
        (true, false) if is_known => {
            "queue.db was not there at the start, though dinrail.db was: what waited in it and the ledger of losses are gone; if it \
             was moved, stop dinrail, put it and its -wal back, and start it again"
        }
        _ => return,
    };
    tracing::error!("{note}");
    found.notes.push(note.to_owned());
}

fn open_as_it_is(path: &Path, check: bool) -> Result<Connection, Trouble> {
    let conn = open::connect(path)?;
    if check {
        let verdict: String =
            conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(|e| Trouble::sql(path, &e))?;
        if verdict != "ok" {
            return Err(Trouble::Damaged(verdict.replace('\n', " ")));
        }
    }
    Ok(conn)
}

/// Renames the file with its -wal and -shm, so that the three still belong together.
fn set_aside(path: &Path) -> std::io::Result<PathBuf> {
    let time: String = clock::rfc3339(clock::wall_us()).chars().filter(|c| !"-:.".contains(*c)).collect();
    let aside = beside(path, &format!(".corrupt-{time}"));
    fs::rename(path, &aside)?;
    for suffix in ["-wal", "-shm"] {
        let part = beside(path, suffix);
        if part.exists() {
            fs::rename(part, beside(&aside, suffix))?;
        }
    }
    Ok(aside)
}

/// Copies every readable row into the tables of the same name; says how many per table, and what the ledger has of the others.
fn salvage(damaged: &Path, file: File, fresh: &mut Connection) -> rusqlite::Result<String> {
    let old = Connection::open_with_flags(damaged, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    // Lets a file be read that is shorter than its head says.
    old.pragma_update(None, "writable_schema", true)?;
    let tables: Vec<String> = fresh
        .prepare(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name NOT IN ('format', 'book')",
        )?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    // Parents may be missing or come later; what is left without one is removed at the end.
    fresh.pragma_update(None, "foreign_keys", false)?;
    let tx = fresh.transaction()?;
    let mut counts = Vec::new();
    for table in tables {
        let count = salvage_table(&old, &tx, &table)?;
        if count > 0 {
            counts.push(format!("{count} of {table}"));
        }
    }
    remove_orphans(&tx)?;
    if file == File::Queue {
        go_on_with_ids(&old, &tx)?;
        let (missing, is_all) = count_missing(&old, &tx)?;
        if missing > 0 || !is_all {
            let at_least = if is_all { "" } else { "at least " };
            counts.push(format!("{at_least}{missing} messages are lost, see dinrail losses"));
        }
    }
    tx.commit()?;
    fresh.pragma_update(None, "foreign_keys", true)?;
    // A reader's own index of the log, made again when needed.
    drop(old);
    let _ = fs::remove_file(beside(damaged, "-shm"));
    Ok(if counts.is_empty() { "nothing".to_owned() } else { counts.join(", ") })
}

/// Ids of messages are never used twice, also where those that used them are lost.
fn go_on_with_ids(old: &Connection, tx: &Transaction<'_>) -> rusqlite::Result<()> {
    const SKIPPED: i64 = 1_000_000;
    let of = |conn: &Connection, sql: &str| conn.query_row(sql, [], |row| row.get::<_, Option<i64>>(0)).ok().flatten();
    let used = "SELECT seq FROM sqlite_sequence WHERE name = 'message'";
    let last = of(old, used).or_else(|| Some(of(tx, "SELECT max(id) FROM message")? + SKIPPED)).unwrap_or(SKIPPED);
    tx.execute("DELETE FROM sqlite_sequence WHERE name = 'message'", [])?;
    tx.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('message', ?1)", [last])?;
    if let Some(lowest) = of(old, &format!("SELECT seq FROM sqlite_sequence WHERE name = '{LOWEST}'")) {
        tx.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?1, ?2)", (LOWEST, lowest))?;
    }
    Ok(())
}

/// Counts messages as lost that the index of the damaged file still knows and that could not be read: how many of each endpoint
/// is all that is known of them. False: the index is damaged as well, and there may be more.
fn count_missing(old: &Connection, tx: &Transaction<'_>) -> rusqlite::Result<(u64, bool)> {
    let mut missing: BTreeMap<i64, (u64, HashSet<i64>)> = BTreeMap::new();
    let mut is_there = tx.prepare("SELECT 1 FROM message WHERE id = ?1")?;
    let mut is_all = false;
    for order in ["ASC", "DESC"] {
        let sql = format!(
            "SELECT endpoint, id FROM message INDEXED BY message_order ORDER BY endpoint {order}, state {order}, priority {order}, id {order}"
        );
        let Ok(mut select) = old.prepare(&sql) else { continue };
        let Ok(mut rows) = select.query([]) else { continue };
        is_all = loop {
            match rows.next() {
                Ok(Some(row)) => {
                    let (Ok(endpoint), Ok(id)) = (row.get(0), row.get::<_, i64>(1)) else { continue };
                    if !is_there.exists([id])? {
                        let (count, ids) = missing.entry(endpoint).or_default();
                        *count += u64::from(ids.insert(id));
                    }
                }
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        if is_all {
            break;
        }
    }
    let name = |endpoint: i64| {
        let name = tx.query_row("SELECT name FROM endpoint WHERE id = ?1", [endpoint], |row| row.get(0));
        name.unwrap_or_else(|_| format!("endpoint {endpoint}"))
    };
    let losses: Vec<LossRow> = missing
        .iter()
        .map(|(endpoint, (count, _))| LossRow {
            sender: String::new(),
            output: String::new(),
            endpoint: name(*endpoint),
            reason: DAMAGED.to_owned(),
            first: (0, 0),
            last: (0, 0),
            count: *count,
            is_upper_bound: false,
        })
        .collect();
    loss::add(tx, &losses, clock::wall_us())?;
    Ok((losses.iter().map(|line| line.count).sum(), is_all))
}

fn salvage_table(old: &Connection, tx: &Transaction<'_>, table: &str) -> rusqlite::Result<usize> {
    let known = columns(tx, table)?;
    let columns: Vec<String> =
        columns(old, table).unwrap_or_default().into_iter().filter(|c| known.contains(c)).collect();
    let Some(first) = columns.first() else { return Ok(0) };
    let list = columns.join(", ");
    let places = vec!["?"; columns.len()].join(", ");
    let mut insert = tx.prepare(&format!("INSERT OR IGNORE INTO {table} ({list}) VALUES ({places})"))?;
    // From the front up to the damage, then from the back down to it.
    let mut count = 0;
    for order in ["ASC", "DESC"] {
        let Ok(mut select) = old.prepare(&format!("SELECT {list} FROM {table} ORDER BY {first} {order}")) else {
            continue;
        };
        let Ok(mut rows) = select.query([]) else { continue };
        loop {
            match rows.next() {
                Ok(Some(row)) => {
                    let values: Vec<Value> = (0..columns.len()).filter_map(|i| row.get(i).ok()).collect();
                    if values.len() == columns.len() {
                        count += insert.execute(params_from_iter(values))?;
                    }
                }
                Ok(None) => return Ok(count),
                Err(_) => break,
            }
        }
    }
    Ok(count)
}

fn columns(conn: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    conn.prepare(&format!("PRAGMA table_info({table})"))?.query_map([], |row| row.get("name"))?.collect()
}

fn remove_orphans(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    loop {
        let orphans: Vec<(String, i64)> = tx
            .prepare("PRAGMA foreign_key_check")?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        if orphans.is_empty() {
            return Ok(());
        }
        for (table, rowid) in orphans {
            tx.execute(&format!("DELETE FROM {table} WHERE rowid = ?1"), [rowid])?;
        }
    }
}
