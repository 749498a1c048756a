//! From the newest state of a twin and a wish to the next state. Pure: no clock, no lock, no database.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};

use super::change::Parts;
use super::history::Row;
use super::parsed::Parsed;
use super::snapshot::{Accepted, Part, Section};
use super::{metadata, patch, rules};
use crate::twin::rules::Violation;

/// Members of the root document that the service side may send back but not write.
const READ_ONLY: &[&str] = &[
    "deviceId",
    "moduleId",
    "etag",
    "deviceEtag",
    "version",
    "status",
    "statusReason",
    "statusUpdateTime",
    "connectionState",
    "lastActivityTime",
    "cloudToDeviceMessageCount",
    "authenticationType",
    "x509Thumbprint",
    "capabilities",
    "modelId",
    "deviceScope",
    "parentScopes",
    "configurations",
    "generationId",
];

/// What a change makes of the parts that it touches.
#[derive(Debug, Clone, Default)]
pub(super) struct Edit {
    pub sections: [Option<Section>; 3],
    pub accepted: Option<Accepted>,
    /// The change of the desired section as an exact patch, and whether the section was replaced.
    pub desired_patch: Option<(Arc<str>, bool)>,
    /// The change of the reported section, where somebody wants to hear of it.
    pub reported_patch: Option<Arc<Map<String, Value>>>,
    /// What the history says of it.
    pub history: Vec<Row>,
}

impl Edit {
    pub(super) fn bytes(&self) -> usize {
        let sections = self.sections.iter().flatten().map(|s| s.document.len() + s.times.len()).sum::<usize>();
        sections + self.history.iter().map(Row::bytes).sum::<usize>()
    }
}

/// Whether a change is merged into what is there, or takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Merge,
    Replace,
}

/// A part after a change of the service side.
pub(super) struct Changed {
    pub section: Section,
    /// The change as a patch, as listeners get it.
    pub patch: String,
    /// The patch that undoes it.
    pub reverse: String,
}

/// Takes `{"tags": …, "properties": {"desired": …}}` apart. A part that is missing or null stays in a merge,
/// and is emptied by a replacement.
pub(super) fn parts<'a>(body: &'a Value, how: How, found: &mut Vec<Violation>) -> Parts<'a> {
    static EMPTY: OnceLock<Value> = OnceLock::new();
    let mut parts = Parts::default();
    if how == How::Replace {
        let empty = EMPTY.get_or_init(|| Value::Object(Map::new()));
        parts = Parts { tags: Some(empty), desired: Some(empty) };
    }
    let Some(body) = rules::as_section("twin", body, found) else { return parts };
    let mut unknown = |path: String, value: &Value| {
        let limit = "only tags and properties.desired can be written".to_owned();
        found.push(Violation { path, value: rules::shown(value), limit });
    };
    for (key, value) in body {
        match (key.as_str(), value) {
            (_, Value::Null) => {}
            ("tags", tags) => parts.tags = Some(tags),
            ("properties", Value::Object(properties)) => {
                for (key, value) in properties {
                    match key.as_str() {
                        "desired" if !value.is_null() => parts.desired = Some(value),
                        // Sent back by who read the whole document.
                        "desired" | "reported" => {}
                        _ => unknown(format!("properties.{key}"), value),
                    }
                }
            }
            (key, _) if READ_ONLY.contains(&key) => {}
            (key, value) => unknown(key.to_owned(), value),
        }
    }
    parts
}

/// What a change of the service side makes of a part.
pub(super) fn change(
    part: Part,
    now: &Section,
    wanted: &Value,
    how: How,
    now_ms: i64,
    found: &mut Vec<Violation>,
) -> Option<Changed> {
    let (section, patch) = match how {
        How::Merge => (merge(part, now, wanted, now_ms, found)?, delivered(part, wanted)),
        How::Replace => {
            let (section, patch) = replace(part, now, wanted, now_ms, found)?;
            (section, Value::Object(patch).to_string())
        }
    };
    let reverse = Value::Object(patch::diff(&section.parse(), &now.parse())).to_string();
    Some(Changed { section, patch, reverse })
}

/// Merges a patch into a part.
fn merge(part: Part, now: &Section, change: &Value, now_ms: i64, found: &mut Vec<Violation>) -> Option<Section> {
    merge_all(part, now, &mut Parsed::new(now), std::slice::from_ref(change), now_ms, true, found)
}

/// Merges patches into a part, one after the other, as one change. `parsed` is the parsed form of the part, and of no use
/// any more where nothing is given. Without `limited`, the size of the section is not looked at.
fn merge_all(
    part: Part,
    now: &Section,
    parsed: &mut Parsed,
    changes: &[Value],
    now_ms: i64,
    limited: bool,
    found: &mut Vec<Violation>,
) -> Option<Section> {
    let before = parsed.size;
    let stamp = metadata::stamp(part, now, now_ms);
    for change in changes {
        let change = checked(part, change, found)?;
        if found.is_empty() {
            metadata::merge(&mut parsed.document, &mut parsed.times, &change, &stamp);
        }
    }
    parsed.size = rules::size_of(&parsed.document);
    if limited {
        rules::check_size(part.path(), before, parsed.size, max_bytes(part), found);
    }
    found.is_empty().then(|| parsed.next(now))
}

/// Merges reports into the reported properties. `kept` may be the parsed form of the newest state; afterwards it is that of
/// the next one.
pub(super) fn report(
    now: &Section,
    kept: &mut Option<Box<Parsed>>,
    changes: &[Value],
    now_ms: i64,
    limited: bool,
    found: &mut Vec<Violation>,
) -> Option<Section> {
    // Taken out, since a change that is refused may have been merged half.
    let newest = kept.take().filter(|kept| kept.is_of(now));
    let mut parsed = newest.unwrap_or_else(|| Box::new(Parsed::new(now)));
    let section = merge_all(Part::Reported, now, &mut parsed, changes, now_ms, limited, found)?;
    *kept = Some(parsed);
    Some(section)
}

/// Puts a document in place of a part; gives the exact patch from the old one too.
fn replace(
    part: Part,
    now: &Section,
    wanted: &Value,
    now_ms: i64,
    found: &mut Vec<Violation>,
) -> Option<(Section, Map<String, Value>)> {
    let wanted = checked(part, wanted, found)?;
    let old = now.parse();
    // Nulls in a document mean what they mean in a patch: not there.
    let mut document = Value::Object(Map::new());
    patch::merge(&mut document, &Value::Object(wanted.into_owned()));
    let Value::Object(document) = document else { return None };
    let size = rules::size_of(&document);
    rules::check_size(part.path(), rules::size_of(&old), size, max_bytes(part), found);
    if !found.is_empty() {
        return None;
    }
    let times = metadata::replace(&old, &now.parse_times(), &document, &metadata::stamp(part, now, now_ms));
    let change = patch::diff(&old, &document);
    Some((Parsed { document, times, size, of: now.clone() }.next(now), change))
}

/// The members of a change, checked. The service side may send back `$version` and `$metadata`, which are left out.
fn checked<'a>(part: Part, change: &'a Value, found: &mut Vec<Violation>) -> Option<Cow<'a, Map<String, Value>>> {
    let change = rules::as_section(part.path(), change, found)?;
    let is_ours = |key: &str| part != Part::Reported && (key == "$version" || key == "$metadata");
    let change = if change.keys().any(|key| is_ours(key)) {
        Cow::Owned(change.iter().filter(|(key, _)| !is_ours(key)).map(|(k, v)| (k.clone(), v.clone())).collect())
    } else {
        Cow::Borrowed(change)
    };
    rules::check_patch(part.path(), &change, found);
    Some(change)
}

/// The patch as it is delivered: what [`checked`] leaves of it.
fn delivered(part: Part, change: &Value) -> String {
    match checked(part, change, &mut Vec::new()) {
        Some(Cow::Owned(change)) => Value::Object(change).to_string(),
        _ => change.to_string(),
    }
}

fn max_bytes(part: Part) -> usize {
    match part {
        Part::Tags => rules::MAX_TAGS_BYTES,
        Part::Desired | Part::Reported => rules::MAX_SECTION_BYTES,
    }
}
