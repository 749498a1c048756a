//! Which edits of desired properties a section of a manifest overwrites: what a person or a hub set since.

use serde_json::{Map, Value};

use super::manifest::DesiredSection;

/// Paths of what is in the twin, did not come from the last manifest and does not outlive the new one.
pub(super) fn overwritten(now: &Value, last: Option<&DesiredSection>, section: &DesiredSection) -> Vec<String> {
    let empty = Map::new();
    let last = last.map_or(&empty, DesiredSection::properties);
    let mut local = Vec::new();
    differences(now, &Value::Object(last.clone()), "", &mut local);
    local.retain(|path| match (lookup(now, path), lookup(section.properties(), path)) {
        (now, Some(new)) => now != Some(new),
        // What a merge does not name, it leaves alone.
        (now, None) => now.is_some() && matches!(section, DesiredSection::Replace(_)),
    });
    local
}

/// Paths of the leaves in which `a` and `b` differ, as dotted texts.
fn differences(a: &Value, b: &Value, path: &str, found: &mut Vec<String>) {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                let path = crate::document::child_path(path, key);
                differences(a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null), &path, found);
            }
        }
        (Value::Object(members), Value::Null) | (Value::Null, Value::Object(members)) if !members.is_empty() => {
            for (key, value) in members {
                differences(value, &Value::Null, &crate::document::child_path(path, key), found);
            }
        }
        (a, b) if a != b => found.push(path.to_owned()),
        _ => {}
    }
}

/// The value at a dotted path. Keys of desired properties have no dots of their own.
fn lookup<'v>(root: impl Into<Node<'v>>, path: &str) -> Option<&'v Value> {
    let Node(mut members) = root.into();
    let (parents, last) = path.rsplit_once('.').map_or((None, path), |(parents, last)| (Some(parents), last));
    for part in parents.into_iter().flat_map(|parents| parents.split('.')) {
        members = members?.get(part)?.as_object();
    }
    members?.get(last)
}

struct Node<'v>(Option<&'v Map<String, Value>>);

impl<'v> From<&'v Value> for Node<'v> {
    fn from(value: &'v Value) -> Node<'v> {
        Node(value.as_object())
    }
}

impl<'v> From<&'v Map<String, Value>> for Node<'v> {
    fn from(members: &'v Map<String, Value>) -> Node<'v> {
        Node(Some(members))
    }
}

pub(super) fn shortened(paths: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = paths[..paths.len().min(SHOWN)].join(", ");
    if paths.len() > SHOWN { format!("{shown} and {} more", paths.len() - SHOWN) } else { shown }
}
