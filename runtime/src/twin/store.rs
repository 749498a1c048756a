//! The tables of twins: one per part, so that a report writes reported bytes only.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Row as RowRef, params};

use super::history::{HistoryLimits, KEPT_AT_ANY_AGE, Row};
use super::snapshot::{Accepted, Part, Section};

/// What is stored of one twin; a part without a row was never written.
#[derive(Debug, Default)]
pub(super) struct TwinRows {
    pub sections: [Option<Section>; 3],
    pub accepted: Option<Accepted>,
}

/// All twins, by the key of their identity.
pub(super) fn load_all(conn: &Connection) -> rusqlite::Result<HashMap<i64, TwinRows>> {
    let mut twins = HashMap::<i64, TwinRows>::new();
    for part in Part::ALL {
        let sql = match part {
            Part::Tags => "SELECT identity, revision, version, document, metadata FROM twin_tags",
            Part::Desired => "SELECT identity, revision, version, document, metadata FROM twin_desired",
            Part::Reported => "SELECT identity, revision, version, document, metadata FROM twin_reported",
        };
        let mut select = conn.prepare(sql)?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            twins.entry(row.get(0)?).or_default().sections[part as usize] = Some(section(row)?);
        }
    }
    let mut select = conn.prepare("SELECT identity, revision, version, document FROM twin_accepted")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let accepted = Accepted {
            revision: row.get::<_, i64>(1)? as u64,
            version: row.get::<_, i64>(2)? as u64,
            document: row.get(3)?,
        };
        twins.entry(row.get(0)?).or_default().accepted = Some(accepted);
    }
    Ok(twins)
}

/// Writes a part over its previous revision.
///
/// # Errors `StatementChangedRows(0)` where the previous revision is not the stored one: the change builds on one that
/// was not stored.
pub(super) fn write_section(conn: &Connection, key: i64, part: Part, section: &Section) -> rusqlite::Result<()> {
    let is_first = section.revision == Section::empty().revision + 1;
    let sql = match (part, is_first) {
        (Part::Tags, true) => {
            "INSERT INTO twin_tags (identity, revision, version, document, metadata) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO NOTHING"
        }
        (Part::Desired, true) => {
            "INSERT INTO twin_desired (identity, revision, version, document, metadata) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO NOTHING"
        }
        (Part::Reported, true) => {
            "INSERT INTO twin_reported (identity, revision, version, document, metadata) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO NOTHING"
        }
        (Part::Tags, false) => {
            "UPDATE twin_tags SET revision = ?2, version = ?3, document = ?4, metadata = ?5
             WHERE identity = ?1 AND revision = ?2 - 1"
        }
        (Part::Desired, false) => {
            "UPDATE twin_desired SET revision = ?2, version = ?3, document = ?4, metadata = ?5
             WHERE identity = ?1 AND revision = ?2 - 1"
        }
        (Part::Reported, false) => {
            "UPDATE twin_reported SET revision = ?2, version = ?3, document = ?4, metadata = ?5
             WHERE identity = ?1 AND revision = ?2 - 1"
        }
    };
    let changed = conn.prepare_cached(sql)?.execute(params![
        key,
        section.revision as i64,
        section.version as i64,
        section.document,
        section.times
    ])?;
    if changed == 1 { Ok(()) } else { Err(rusqlite::Error::StatementChangedRows(changed)) }
}

/// Writes the desired document that the module accepted.
pub(super) fn write_accepted(conn: &Connection, key: i64, accepted: &Accepted) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT OR REPLACE INTO twin_accepted (identity, revision, version, document) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute(params![key, accepted.revision as i64, accepted.version as i64, accepted.document])?;
    Ok(())
}

/// Columns `identity, revision, version, document, metadata`.
fn section(row: &RowRef<'_>) -> rusqlite::Result<Section> {
    Ok(Section {
        revision: row.get::<_, i64>(1)? as u64,
        version: row.get::<_, i64>(2)? as u64,
        document: row.get(3)?,
        times: row.get(4)?,
    })
}

/// Writes down a change of desired properties or tags, and gives up what is too much of the past.
pub(super) fn add_history(conn: &Connection, key: i64, row: &Row, limits: &HistoryLimits) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO twin_history (identity, at_us, bytes, section, from_version, to_version, changed_by, action, forced, reverse)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?
    .execute(params![
        key,
        row.at_us,
        row.bytes() as i64,
        row.part as i64,
        row.from_version as i64,
        row.to_version as i64,
        row.by,
        row.action,
        row.is_forced,
        row.reverse,
    ])?;
    let oldest_us = row.at_us.saturating_sub(i64::try_from(limits.age.as_micros()).unwrap_or(i64::MAX));
    let last_given_up: Option<i64> = conn
        .prepare_cached(
            "SELECT max(id) FROM (
                SELECT id, at_us, row_number() OVER newest AS place, sum(bytes) OVER newest AS total
                FROM twin_history WHERE identity = ?1 WINDOW newest AS (ORDER BY id DESC))
             WHERE place > ?2 OR total > ?3 OR (at_us < ?4 AND place > ?5)",
        )?
        .query_row(params![key, limits.changes, limits.bytes as i64, oldest_us, KEPT_AT_ANY_AGE], |row| row.get(0))?;
    if let Some(last) = last_given_up {
        conn.prepare_cached("DELETE FROM twin_history WHERE identity = ?1 AND id <= ?2")?.execute([key, last])?;
    }
    Ok(())
}

/// Rows of the histories of all twins.
pub(super) fn count_history(conn: &Connection) -> rusqlite::Result<u64> {
    conn.query_row("SELECT count(*) FROM twin_history", [], |row| row.get::<_, i64>(0)).map(|rows| rows as u64)
}

/// Tags and desired properties as they are, and what is kept of their past, newest first: all of one moment.
pub(super) fn history(conn: &Connection, key: i64) -> rusqlite::Result<(Option<Section>, Option<Section>, Vec<Row>)> {
    let moment = conn.unchecked_transaction()?;
    let tags = "SELECT identity, revision, version, document, metadata FROM twin_tags WHERE identity = ?1";
    let tags = moment.query_row(tags, [key], section).optional()?;
    let desired = "SELECT identity, revision, version, document, metadata FROM twin_desired WHERE identity = ?1";
    let desired = moment.query_row(desired, [key], section).optional()?;
    let rows = moment
        .prepare(
            "SELECT section, from_version, to_version, at_us, changed_by, action, forced, reverse FROM twin_history
             WHERE identity = ?1 ORDER BY id DESC",
        )?
        .query_map([key], |row| {
            Ok(Row {
                part: if row.get::<_, i64>(0)? == Part::Tags as i64 { Part::Tags } else { Part::Desired },
                from_version: row.get::<_, i64>(1)? as u64,
                to_version: row.get::<_, i64>(2)? as u64,
                at_us: row.get(3)?,
                by: row.get(4)?,
                action: row.get(5)?,
                is_forced: row.get(6)?,
                reverse: row.get(7)?,
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    Ok((tags, desired, rows))
}
