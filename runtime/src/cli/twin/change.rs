//! What changed between two sections of a twin.

use serde::Serialize;
use serde_json::Value;

use crate::cli::out::printable;
use crate::view::PathChangeView;

/// One path whose value changed.
#[derive(Debug, PartialEq, Serialize)]
pub struct Change {
    /// Keys, joined by dots.
    pub path: String,
    /// Value before; `None` where there was none.
    pub old: Option<Value>,
    /// Value now; `None` where it was removed.
    pub new: Option<Value>,
}

/// The changes from `old` to `new`, by path. What the service adds (`$version`, `$metadata`) is not compared.
pub fn between(old: &Value, new: &Value) -> Vec<Change> {
    let mut changes = Vec::new();
    compare("", Some(old), Some(new), &mut changes);
    changes
}

fn compare(path: &str, old: Option<&Value>, new: Option<&Value>, changes: &mut Vec<Change>) {
    if old == new {
        return;
    }
    if let (Some(Value::Object(old)), Some(Value::Object(new))) = (old, new) {
        let added = new.keys().filter(|key| !old.contains_key(*key));
        for key in old.keys().chain(added).filter(|key| !key.starts_with('$')) {
            let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            compare(&inner, old.get(key), new.get(key), changes);
        }
        return;
    }
    changes.push(Change { path: path.to_owned(), old: old.cloned(), new: new.cloned() });
}

impl From<PathChangeView> for Change {
    fn from(change: PathChangeView) -> Change {
        Change { path: change.path, old: change.old, new: change.new }
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |value: &Option<Value>, none: &str| value.as_ref().map_or(none.to_owned(), Value::to_string);
        let text = format!("{}: {} → {}", self.path, shown(&self.old, "(none)"), shown(&self.new, "(removed)"));
        f.write_str(&printable(&text))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_are_told_by_path_with_old_and_new() {
        let old = json!({"threshold": 5, "limits": {"low": 1, "high": 9}, "gone": "x", "same": [1], "$version": 3});
        let new =
            json!({"threshold": 1, "limits": {"low": 1, "high": 8}, "same": [1], "added": {"a": 1}, "$version": 4});

        let told: Vec<String> = between(&old, &new).iter().map(ToString::to_string).collect();

        assert_eq!(
            told,
            ["threshold: 5 → 1", "limits.high: 9 → 8", "gone: \"x\" → (removed)", "added: (none) → {\"a\":1}",]
        );
    }

    #[test]
    fn same_content_under_a_new_version_is_no_change() {
        let old = json!({"a": 1, "$version": 3, "$metadata": {"$lastUpdated": "x"}});
        let new = json!({"a": 1, "$version": 4, "$metadata": {"$lastUpdated": "y"}});

        assert_eq!(between(&old, &new), []);
    }
}
