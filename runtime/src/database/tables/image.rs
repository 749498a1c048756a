//! Images of the store, in the order of their arrival.

use rusqlite::{Connection, OptionalExtension, Row, params};

/// One image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRow {
    /// Counts up with every arrival of other bytes; given by [`arrive`].
    pub arrival: i64,
    /// `sha256:…`.
    pub digest: String,
    /// From the descriptor.
    pub name: String,
    /// From the descriptor.
    pub version: String,
    /// The whole descriptor: JSON.
    pub descriptor: String,
    /// The file it came from last.
    pub source: Option<String>,
    /// Size of the library.
    pub bytes: u64,
    /// Wall time of the last arrival.
    pub arrived_us: i64,
    /// `admitted`, `quarantined`.
    pub verdict: String,
    /// Why.
    pub reason: String,
    /// ABI of the runtime that gave the verdict, `major.minor`; of a quarantine its release: another one looks again.
    pub abi: String,
    /// JSON Schema of the desired properties, once asked.
    pub schema: Option<String>,
    /// Defaults of the desired properties, once asked.
    pub defaults: Option<String>,
}

const COLUMNS: &str =
    "arrival, digest, name, version, descriptor, source, bytes, arrived_us, verdict, reason, abi, schema, defaults";

fn read(row: &Row<'_>) -> rusqlite::Result<ImageRow> {
    Ok(ImageRow {
        arrival: row.get(0)?,
        digest: row.get(1)?,
        name: row.get(2)?,
        version: row.get(3)?,
        descriptor: row.get(4)?,
        source: row.get(5)?,
        bytes: row.get::<_, i64>(6)? as u64,
        arrived_us: row.get(7)?,
        verdict: row.get(8)?,
        reason: row.get(9)?,
        abi: row.get(10)?,
        schema: row.get(11)?,
        defaults: row.get(12)?,
    })
}

/// All images, oldest arrival first.
pub fn load_all(conn: &Connection) -> rusqlite::Result<Vec<ImageRow>> {
    conn.prepare(&format!("SELECT {COLUMNS} FROM image ORDER BY arrival"))?.query_map([], read)?.collect()
}

/// Records an arrival: inserts the image or replaces its row, in both cases as the latest to arrive. Gives its
/// `arrival`.
///
/// What the image said of its desired properties stays, since the bytes are the same.
pub fn arrive(conn: &Connection, image: &ImageRow) -> rusqlite::Result<i64> {
    let said = conn
        .prepare_cached("SELECT schema, defaults FROM image WHERE digest = ?1")?
        .query_row([&image.digest], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (schema, defaults): (Option<String>, Option<String>) = said.unwrap_or_default();
    delete(conn, &image.digest)?;
    let schema = image.schema.clone().or(schema);
    let defaults = image.defaults.clone().or(defaults);
    insert(conn, &ImageRow { schema, defaults, ..image.clone() }, None)?;
    Ok(conn.last_insert_rowid())
}

/// What an image says that its desired properties are like, and the defaults below them; `None` where it was not asked or says
/// nothing.
pub fn schema(conn: &Connection, digest: &str) -> rusqlite::Result<Option<(String, Option<String>)>> {
    conn.prepare_cached("SELECT schema, defaults FROM image WHERE digest = ?1 AND schema IS NOT NULL")?
        .query_row([digest], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}

/// Replaces the row of `image.digest`, or inserts it, keeping `image.arrival`.
pub fn upsert(conn: &Connection, image: &ImageRow) -> rusqlite::Result<()> {
    delete(conn, &image.digest)?;
    insert(conn, image, Some(image.arrival))
}

fn insert(conn: &Connection, image: &ImageRow, arrival: Option<i64>) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO image (arrival, digest, name, version, descriptor, source, bytes, arrived_us, verdict, reason, abi, schema,
         defaults) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?
    .execute(params![
        arrival,
        image.digest,
        image.name,
        image.version,
        image.descriptor,
        image.source,
        image.bytes as i64,
        image.arrived_us,
        image.verdict,
        image.reason,
        image.abi,
        image.schema,
        image.defaults,
    ])?;
    Ok(())
}

/// Notes whether an image may be used; `abi` says who found that.
pub fn judge(conn: &Connection, digest: &str, verdict: &str, reason: &str, abi: &str) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE image SET verdict = ?2, reason = ?3, abi = ?4 WHERE digest = ?1")?
        .execute([digest, verdict, reason, abi])?;
    Ok(())
}

/// Forgets an image.
pub fn delete(conn: &Connection, digest: &str) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM image WHERE digest = ?1")?.execute([digest])?;
    Ok(())
}
