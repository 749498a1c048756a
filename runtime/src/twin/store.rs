//! The tables of twins: one per part, so that a report writes reported bytes only.

use std::collections::HashMap;

use rusqlite::{Connection, params};

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
            let section = Section {
                revision: row.get::<_, i64>(1)? as u64,
                version: row.get::<_, i64>(2)? as u64,
                document: row.get(3)?,
                times: row.get(4)?,
            };
            twins.entry(row.get(0)?).or_default().sections[part as usize] = Some(section);
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
