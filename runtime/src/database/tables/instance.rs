//! The instances that are wanted, and what a person said about them.

use rusqlite::{Connection, Row, params};

/// One instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceRow {
    /// Its name.
    pub name: String,
    /// `drop`, `deployment` or `cli`.
    pub origin: String,
    /// Image reference as asked for.
    pub image: String,
    /// The digest that it resolved to, once it did.
    pub digest: Option<String>,
    /// Everything else that was asked for: JSON.
    pub spec: String,
    /// Who stopped it for good; the stop holds until a start.
    pub stopped_by: Option<String>,
    /// When.
    pub stopped_us: Option<i64>,
    /// Belongs to the layer that a deployment keeps.
    pub is_local: bool,
}

fn read(row: &Row<'_>) -> rusqlite::Result<InstanceRow> {
    Ok(InstanceRow {
        name: row.get(0)?,
        origin: row.get(1)?,
        image: row.get(2)?,
        digest: row.get(3)?,
        spec: row.get(4)?,
        stopped_by: row.get(5)?,
        stopped_us: row.get(6)?,
        is_local: row.get(7)?,
    })
}

/// All instances, by name.
pub fn load_all(conn: &Connection) -> rusqlite::Result<Vec<InstanceRow>> {
    conn.prepare(
        "SELECT name, origin, image, digest, spec, stopped_by, stopped_us, is_local FROM instance ORDER BY name",
    )?
    .query_map([], read)?
    .collect()
}

/// Replaces the row of `row.name`, or inserts it.
pub fn upsert(conn: &Connection, row: &InstanceRow) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT OR REPLACE INTO instance (name, origin, image, digest, spec, stopped_by, stopped_us, is_local)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        row.name,
        row.origin,
        row.image,
        row.digest,
        row.spec,
        row.stopped_by,
        row.stopped_us,
        row.is_local
    ])?;
    Ok(())
}

/// Forgets an instance; its identity and twin stay.
pub fn delete(conn: &Connection, name: &str) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM instance WHERE name = ?1")?.execute([name])?;
    Ok(())
}
