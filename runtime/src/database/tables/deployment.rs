//! Every deployment that was applied or tried, with its whole document.

use rusqlite::{Connection, OptionalExtension, Row, params};

/// One deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentRow {
    /// Counts up; given by [`insert`].
    pub id: i64,
    /// Where it came from: a path, `cli`, or the hub.
    pub origin: String,
    /// SHA-256 of the bytes that were given, in hexadecimal.
    pub source_sha256: String,
    /// The document: JSON.
    pub document: String,
    /// Wall time.
    pub applied_us: i64,
    /// `applying`, `applied`, `failed`, `rolledBack`, `superseded`, or `refused`: nothing of it was ever in force.
    pub status: String,
    /// Why it failed or was taken back, or empty.
    pub reason: String,
    /// Who applied it.
    pub applied_by: String,
    /// Its steps and how far each is: JSON.
    pub steps: String,
    /// The digest that each of its modules ran when it was found good, or was replaced: JSON.
    pub ran: String,
}

const COLUMNS: &str = "id, origin, source_sha256, document, applied_us, status, reason, applied_by, steps, ran";

fn read(row: &Row<'_>) -> rusqlite::Result<DeploymentRow> {
    Ok(DeploymentRow {
        id: row.get(0)?,
        origin: row.get(1)?,
        source_sha256: row.get(2)?,
        document: row.get(3)?,
        applied_us: row.get(4)?,
        status: row.get(5)?,
        reason: row.get(6)?,
        applied_by: row.get(7)?,
        steps: row.get(8)?,
        ran: row.get(9)?,
    })
}

/// Adds a deployment, whatever its `id` says; gives the new one.
pub fn insert(conn: &Connection, row: &DeploymentRow) -> rusqlite::Result<i64> {
    conn.prepare_cached(
        "INSERT INTO deployment (origin, source_sha256, document, applied_us, status, reason, applied_by, steps, ran)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute(params![
        row.origin,
        row.source_sha256,
        row.document,
        row.applied_us,
        row.status,
        row.reason,
        row.applied_by,
        row.steps,
        row.ran
    ])?;
    Ok(conn.last_insert_rowid())
}

/// Says what became of a deployment.
pub fn set_status(conn: &Connection, id: i64, status: &str, reason: &str) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE deployment SET status = ?2, reason = ?3 WHERE id = ?1")?
        .execute(params![id, status, reason])?;
    Ok(())
}

/// Stores how far a deployment is.
pub fn set_steps(conn: &Connection, id: i64, steps: &str) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE deployment SET steps = ?2 WHERE id = ?1")?.execute(params![id, steps])?;
    Ok(())
}

/// Stores what the modules of a deployment ran.
pub fn set_ran(conn: &Connection, id: i64, ran: &str) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE deployment SET ran = ?2 WHERE id = ?1")?.execute(params![id, ran])?;
    Ok(())
}

/// The latest deployment, or the latest in `status`.
pub fn latest(conn: &Connection, status: Option<&str>) -> rusqlite::Result<Option<DeploymentRow>> {
    conn.prepare(&format!("SELECT {COLUMNS} FROM deployment WHERE ?1 IS NULL OR status = ?1 ORDER BY id DESC LIMIT 1"))?
        .query_row([status], read)
        .optional()
}

/// The deployment `id`.
pub fn get(conn: &Connection, id: i64) -> rusqlite::Result<Option<DeploymentRow>> {
    conn.prepare(&format!("SELECT {COLUMNS} FROM deployment WHERE id = ?1"))?.query_row([id], read).optional()
}

/// All deployments, latest first.
pub fn load_all(conn: &Connection) -> rusqlite::Result<Vec<DeploymentRow>> {
    conn.prepare(&format!("SELECT {COLUMNS} FROM deployment ORDER BY id DESC"))?.query_map([], read)?.collect()
}

/// Forgets all but the latest `keep` and the latest that was found good.
pub fn prune(conn: &Connection, keep: u32) -> rusqlite::Result<()> {
    conn.execute(
        "DELETE FROM deployment WHERE id NOT IN (SELECT id FROM deployment ORDER BY id DESC LIMIT ?1)
         AND id <> coalesce((SELECT max(id) FROM deployment WHERE status = 'applied'), 0)",
        [keep],
    )?;
    Ok(())
}
