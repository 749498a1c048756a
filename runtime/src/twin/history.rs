//! Who changed desired properties and tags, when, and back from what: kept as reverse patches, newest first.
//!
//! A change is written down in the transaction that makes it; a report never is. The past is made from the present by merging
//! reverse patches into it, one after the other, for as long as each ends where the next begins: what an older release changed
//! without writing it down is a place beyond which nothing is claimed.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::snapshot::{Part, Section};
use super::{patch, secret};

/// Entries that are kept whatever their age, so that a device which was off for long, or whose clock was wrong, can go back.
pub(super) const KEPT_AT_ANY_AGE: u32 = 10;

/// How much of the past is kept of each twin; what goes over any of them ends with the oldest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryLimits {
    /// Changes; 0: none.
    pub changes: u32,
    /// Their bytes.
    pub bytes: u64,
    /// Their age; ten are kept whatever theirs.
    pub age: Duration,
}

impl Default for HistoryLimits {
    fn default() -> HistoryLimits {
        HistoryLimits { changes: 200, bytes: 256 << 10, age: Duration::from_secs(365 * 86_400) }
    }
}

/// One change as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub part: Part,
    pub from_version: u64,
    pub to_version: u64,
    pub at_us: i64,
    pub by: String,
    pub action: String,
    pub is_forced: bool,
    /// Merge patch from the section after it to the section before it.
    pub reverse: Arc<str>,
}

impl Row {
    /// Bytes that it counts.
    pub(super) fn bytes(&self) -> usize {
        64 + self.by.len() + self.action.len() + self.reverse.len()
    }

    /// Whether one change wrote both, of which this is the older row: tags are written down before desired properties.
    fn is_of_one_change_with(&self, newer: &Row) -> bool {
        self.part == Part::Tags
            && newer.part == Part::Desired
            && (self.at_us, &self.by, &self.action) == (newer.at_us, &newer.by, &newer.action)
    }
}

/// One change of the past.
#[derive(Debug, Clone, PartialEq)]
pub struct PastChange {
    /// Desired properties or tags.
    pub part: Part,
    /// `$version` of the section before it.
    pub from_version: u64,
    /// `$version` of the section after it.
    pub to_version: u64,
    /// Wall time.
    pub at_us: i64,
    /// Who.
    pub by: String,
    /// `patch`, `replace` or `undo to N`.
    pub action: String,
    /// Made against the schema of the module's image.
    pub is_forced: bool,
    /// The paths that it changed.
    pub changes: Vec<PathChange>,
}

/// One path whose value changed.
#[derive(Debug, Clone, PartialEq)]
pub struct PathChange {
    /// Keys, joined by dots.
    pub path: String,
    /// Value before; `None` where there was none.
    pub old: Option<Value>,
    /// Value after; `None` where it was removed.
    pub new: Option<Value>,
}

/// Desired properties and tags as they once were.
#[derive(Debug, Clone, PartialEq)]
pub struct Past {
    /// Desired properties.
    pub desired: Map<String, Value>,
    /// `$version` of the desired properties.
    pub desired_version: u64,
    /// Tags, at the end of the time in which this was so.
    pub tags: Map<String, Value>,
    /// `$version` of the tags.
    pub tags_version: u64,
    /// When it ended to be so; `None`: it still is.
    pub until_us: Option<i64>,
}

/// Why a version cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoVersion {
    /// It has not been yet.
    NotYet {
        /// The newest.
        newest: u64,
    },
    /// It is older than what is kept.
    Gone {
        /// The oldest that is kept.
        oldest: u64,
    },
}

/// The way back from the present.
pub(super) struct Walk {
    sections: [(Map<String, Value>, u64, bool); 2],
}

impl Walk {
    pub(super) fn new(tags: &Section, desired: &Section) -> Walk {
        let begin = |section: &Section| (section.parse(), section.version, true);
        Walk { sections: [begin(tags), begin(desired)] }
    }

    /// One change further back; `None` where the way ends.
    pub(super) fn back(&mut self, row: Row) -> Option<PastChange> {
        let (document, version, is_whole) = &mut self.sections[row.part as usize];
        *is_whole &= row.to_version == *version;
        if !*is_whole {
            return None;
        }
        // Written by this runtime; where it is damaged, the way ends as well.
        let Ok(reverse @ Value::Object(_)) = serde_json::from_str::<Value>(&row.reverse) else {
            *is_whole = false;
            return None;
        };
        let after = document.clone();
        let mut before = Value::Object(std::mem::take(document));
        patch::merge(&mut before, &reverse);
        if let Value::Object(before) = before {
            *document = before;
        }
        *version = row.from_version;
        Some(PastChange {
            changes: between(document, &after),
            part: row.part,
            from_version: row.from_version,
            to_version: row.to_version,
            at_us: row.at_us,
            by: row.by,
            action: row.action,
            is_forced: row.is_forced,
        })
    }

    fn version(&self, part: Part) -> u64 {
        self.sections[part as usize].1
    }

    /// Goes back until `part` was at `version`. `rows`: newest first.
    pub(super) fn to(mut self, part: Part, version: u64, rows: Vec<Row>) -> Result<Past, NoVersion> {
        if version > self.version(part) {
            return Err(NoVersion::NotYet { newest: self.version(part) });
        }
        let mut until_us = None;
        let mut rows = rows.into_iter().peekable();
        while self.version(part) > version {
            let Some(row) = rows.next() else { break };
            if row.part == part {
                until_us = Some(row.at_us);
            }
            // One change may write both; what it made of the other is not from the time of this version either.
            let with_it = rows.next_if(|other| other.is_of_one_change_with(&row));
            if self.back(row).is_none() || with_it.is_some_and(|other| self.back(other).is_none()) {
                break;
            }
        }
        if self.version(part) != version {
            return Err(NoVersion::Gone { oldest: self.version(part) });
        }
        let [(tags, tags_version, _), (desired, desired_version, _)] = self.sections;
        Ok(Past { desired, desired_version, tags, tags_version, until_us })
    }
}

/// The changes from `old` to `new`, sorted by path.
pub fn between(old: &Map<String, Value>, new: &Map<String, Value>) -> Vec<PathChange> {
    let mut changes = Vec::new();
    compare("", old, new, &mut changes);
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    changes
}

fn compare(path: &str, old: &Map<String, Value>, new: &Map<String, Value>, changes: &mut Vec<PathChange>) {
    let added = new.keys().filter(|key| !old.contains_key(*key));
    for key in old.keys().chain(added) {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match (old.get(key), new.get(key)) {
            (old, new) if old == new => {}
            (Some(Value::Object(old)), Some(Value::Object(new))) if !is_secret(old) && !is_secret(new) => {
                compare(&path, old, new, changes);
            }
            (old, new) => changes.push(PathChange { path, old: old.cloned(), new: new.cloned() }),
        }
    }
}

/// A reference to a secret is one value.
fn is_secret(members: &Map<String, Value>) -> bool {
    members.contains_key(secret::MEMBER)
}

impl PastChange {
    /// Whether it changed something at, in or around `path`: keys joined by dots, with or without the section in front.
    pub fn touches(&self, path: &str) -> bool {
        let is_within = |inner: &str, outer: &str| {
            inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let section = self.part.path();
        let short = section.strip_prefix("properties.").unwrap_or(section);
        let inside = [section, short]
            .iter()
            .find_map(|name| if path == *name { Some("") } else { path.strip_prefix(name)?.strip_prefix('.') });
        [Some(path), inside].into_iter().flatten().any(|path| {
            path.is_empty()
                || self.changes.iter().any(|change| is_within(&change.path, path) || is_within(path, &change.path))
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn section(document: Value, version: u64) -> Section {
        Section { document: document.to_string().into(), version, revision: version, ..Section::empty() }
    }

    fn row(part: Part, from_version: u64, to_version: u64, reverse: Value) -> Row {
        Row {
            part,
            from_version,
            to_version,
            at_us: to_version as i64,
            by: "operator".to_owned(),
            action: "patch".to_owned(),
            is_forced: false,
            reverse: reverse.to_string().into(),
        }
    }

    #[test]
    fn the_past_is_made_from_the_present_step_by_step() {
        let rows = || {
            vec![
                row(Part::Desired, 3, 4, json!({"a": {"b": 1}})),
                row(Part::Tags, 1, 2, json!({"hall": null})),
                row(Part::Desired, 2, 3, json!({"a": null, "x": 7})),
            ]
        };
        let walk = || Walk::new(&section(json!({"hall": 3}), 2), &section(json!({"a": {"b": 2}}), 4));
        let at = |version| walk().to(Part::Desired, version, rows());

        assert_eq!(at(4).unwrap().until_us, None);
        let past = at(3).unwrap();
        assert_eq!((past.desired, past.tags), (object(json!({"a": {"b": 1}})), object(json!({"hall": 3}))));
        let past = at(2).unwrap();
        assert_eq!((past.desired, past.tags, past.until_us), (object(json!({"x": 7})), object(json!({})), Some(3)));
        assert_eq!(at(5), Err(NoVersion::NotYet { newest: 4 }));
        assert_eq!(at(1), Err(NoVersion::Gone { oldest: 2 }));
        let past = walk().to(Part::Tags, 1, rows()).unwrap();
        assert_eq!((past.tags, past.desired_version), (object(json!({})), 3));
    }

    #[test]
    fn a_change_of_tags_and_desired_properties_is_gone_back_over_as_one() {
        let both = |version: u64, a: Value, hall: Value| {
            let change = |part, reverse| row(part, version - 1, version, reverse);
            [change(Part::Desired, json!({ "a": a })), change(Part::Tags, json!({ "hall": hall }))]
        };
        let rows = || [both(3, json!(1), json!(1)), both(2, json!(null), json!(null))].concat();
        let walk = || Walk::new(&section(json!({"hall": 2}), 3), &section(json!({"a": 2}), 3));
        for part in [Part::Desired, Part::Tags] {
            let past = walk().to(part, 2, rows()).unwrap();
            assert_eq!((past.desired, past.desired_version), (object(json!({"a": 1})), 2));
            assert_eq!((past.tags, past.tags_version), (object(json!({"hall": 1})), 2));
            let past = walk().to(part, 1, rows()).unwrap();
            assert_eq!((past.desired_version, past.tags_version), (1, 1));
        }
    }

    #[test]
    fn what_was_changed_without_being_written_down_ends_the_way_back() {
        let rows = vec![row(Part::Desired, 6, 7, json!({"a": 1})), row(Part::Desired, 3, 4, json!({"a": 0}))];
        let walk = Walk::new(&section(json!({}), 1), &section(json!({"a": 2}), 7));

        assert_eq!(walk.to(Part::Desired, 3, rows), Err(NoVersion::Gone { oldest: 6 }));
    }

    #[test]
    fn a_path_is_found_at_in_and_around_what_changed() {
        let change = |part, path: &str| PastChange {
            part,
            from_version: 1,
            to_version: 2,
            at_us: 0,
            by: String::new(),
            action: String::new(),
            is_forced: false,
            changes: vec![PathChange { path: path.to_owned(), old: None, new: None }],
        };
        for (path, found) in [
            ("limits", true),
            ("limits.high", true),
            ("limits.high.warn", true),
            ("limits.hig", false),
            ("desired.limits", true),
            ("properties.desired.limits.high", true),
            ("desired", true),
            ("tags", false),
            ("tags.limits", false),
            ("low", false),
        ] {
            assert_eq!(change(Part::Desired, "limits.high").touches(path), found, "{path}");
        }
        assert!(change(Part::Tags, "hall").touches("tags.hall"));
    }

    proptest::proptest! {
        #[test]
        fn a_reverse_patch_brings_back_what_was(
            a in crate::twin::patch::tests::document(false),
            p in crate::twin::patch::tests::document(true),
        ) {
            let mut after = Value::Object(a.clone());
            patch::merge(&mut after, &Value::Object(p));
            let after = object(after);
            let mut back = Value::Object(after.clone());
            patch::merge(&mut back, &Value::Object(patch::diff(&after, &a)));
            proptest::prop_assert_eq!(back, Value::Object(a.clone()));
            proptest::prop_assert_eq!(between(&a, &after).is_empty(), a == after);
        }
    }
}
