//! Routes that a person added, beside those of the deployment in force.

use rusqlite::{Connection, params};

/// One added route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteRow {
    /// Its name.
    pub name: String,
    /// The route with all its settings: JSON.
    pub spec: String,
    /// Who added it.
    pub added_by: String,
    /// When, in microseconds since 1970-01-01 UTC.
    pub added_us: i64,
}

/// All of them, by name.
pub fn load_all(conn: &Connection) -> rusqlite::Result<Vec<RouteRow>> {
    conn.prepare("SELECT name, spec, added_by, added_us FROM route ORDER BY name")?
        .query_map([], |row| {
            Ok(RouteRow { name: row.get(0)?, spec: row.get(1)?, added_by: row.get(2)?, added_us: row.get(3)? })
        })?
        .collect()
}

/// Replaces the row of `row.name`, or inserts it.
pub fn upsert(conn: &Connection, row: &RouteRow) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT OR REPLACE INTO route (name, spec, added_by, added_us) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![row.name, row.spec, row.added_by, row.added_us])?;
    Ok(())
}

/// Forgets one.
pub fn delete(conn: &Connection, name: &str) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM route WHERE name = ?1")?.execute([name])?;
    Ok(())
}
