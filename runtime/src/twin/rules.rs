//! What a twin may hold. Every violation of a patch is found at once, each with its path, value and limit. Pure.
//!
//! Checked before anything is accepted, so that nothing accepted can be refused later, by the database or by a hub.
//! Source: IoT Hub, "Understand and use device twins"; edgeHub's `ReportedPropertiesValidator`.

use std::fmt;

use serde_json::{Map, Value};

use super::secret;
use crate::name::check_id;

/// Size of the desired and of the reported section.
pub const MAX_SECTION_BYTES: usize = 32 * 1024;
/// Size of the tags.
pub const MAX_TAGS_BYTES: usize = 8 * 1024;
/// Length of a key.
pub const MAX_KEY_BYTES: usize = 1024;
/// Length of a string value.
pub const MAX_STRING_BYTES: usize = 4096;
/// Objects inside objects, the section itself not counted.
pub const MAX_DEPTH: usize = 10;
/// Smallest integer.
pub const MIN_INTEGER: i64 = -4_503_599_627_370_496;
/// Largest integer.
pub const MAX_INTEGER: i64 = 4_503_599_627_370_495;

/// Violations that are told at most.
const MAX_VIOLATIONS: usize = 50;
/// Characters of a value or key that are told.
const SHOWN_CHARS: usize = 40;

/// One thing that a twin may not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Where, such as `properties.desired.limits[2].max`.
    pub path: String,
    /// What is there, shortened.
    pub value: String,
    /// What is allowed.
    pub limit: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} — {}", self.path, self.value, self.limit)
    }
}

/// Checks keys and values of a patch or document of a section. `root` is the section's path; secrets are referred to where
/// that ends with `desired`.
pub fn check_patch(root: &str, patch: &Map<String, Value>, found: &mut Vec<Violation>) {
    let mut look = Look { takes_secrets: root.ends_with("desired"), found };
    look.object(&Place::Root(root), patch, 0, false);
}

/// Finds the nulls of a document that takes the place of another one: only a patch removes members.
pub fn check_no_null(path: &str, value: &Value, found: &mut Vec<Violation>) {
    match value {
        Value::Null => {
            let limit = "a replacement holds no null: leave the member out".to_owned();
            report(path, "null".to_owned(), limit, found);
        }
        Value::Object(members) => {
            // A `$version` of null guards nothing; deeper down it is no key.
            for (key, value) in members.iter().filter(|(key, _)| *key != "$version") {
                check_no_null(&format!("{path}.{}", cut(key)), value, found);
            }
        }
        // Nulls in arrays are violations anyway.
        _ => {}
    }
}

/// The members of a section's patch or document, or the violation that it is not an object.
pub fn as_section<'a>(root: &str, value: &'a Value, found: &mut Vec<Violation>) -> Option<&'a Map<String, Value>> {
    let section = value.as_object();
    if section.is_none() {
        found.push(Violation { path: root.to_owned(), value: shown(value), limit: "must be a JSON object".to_owned() });
    }
    section
}

/// Checks the size of a section after a change. One that is too large already may still shrink.
pub fn check_size(root: &str, before: usize, size: usize, max: usize, found: &mut Vec<Violation>) {
    if size > max && size > before {
        found.push(Violation {
            path: root.to_owned(),
            value: format!("{size} bytes after the change"),
            limit: format!("a section of {max} bytes at most"),
        });
    }
}

/// Size as IoT Hub counts it: keys and strings in bytes, 8 for a number, 4 for a truth value.
pub fn size_of(section: &Map<String, Value>) -> usize {
    section.iter().map(|(key, value)| key.len() + value_size(value)).sum()
}

fn value_size(value: &Value) -> usize {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 4,
        Value::Number(_) => 8,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(value_size).sum(),
        Value::Object(members) => size_of(members),
    }
}

/// Where a check stands. Written out only for a violation: a sound patch costs no text.
enum Place<'a> {
    Root(&'a str),
    Member(&'a Place<'a>, &'a str),
    Item(&'a Place<'a>, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Root(root) => f.write_str(root),
            Place::Member(object, key) => write!(f, "{object}.{}", cut(key)),
            Place::Item(array, at) => write!(f, "{array}[{at}]"),
        }
    }
}

/// A look through a patch or document.
struct Look<'a> {
    takes_secrets: bool,
    found: &'a mut Vec<Violation>,
}

impl Look<'_> {
    fn object(&mut self, place: &Place<'_>, members: &Map<String, Value>, depth: usize, in_array: bool) {
        if depth > MAX_DEPTH {
            return self.report(
                place,
                format!("{depth} objects deep"),
                format!("objects nest {MAX_DEPTH} deep at most"),
            );
        }
        for (key, value) in members {
            if self.found.len() >= MAX_VIOLATIONS {
                return;
            }
            let place = Place::Member(place, key);
            self.key(&place, key);
            self.value(&place, value, depth, in_array);
        }
    }

    fn key(&mut self, place: &Place<'_>, key: &str) {
        if key.is_empty() {
            self.report(place, "an empty key".to_owned(), "a key has at least one character".to_owned());
        }
        if key.len() > MAX_KEY_BYTES {
            self.report(
                place,
                format!("a key of {} bytes", key.len()),
                format!("keys have {MAX_KEY_BYTES} bytes at most"),
            );
        }
        if let Some(bad) = key.chars().find(|c| c.is_control() || c.is_whitespace() || ".$#".contains(*c)) {
            let limit = "keys have no control characters, white space, '.', '$' or '#'";
            self.report(place, format!("{bad:?} in the key"), limit.to_owned());
        }
    }

    fn value(&mut self, place: &Place<'_>, value: &Value, depth: usize, in_array: bool) {
        match value {
            Value::Null if in_array => {
                let limit = "arrays hold no null, nor do objects inside them";
                self.report(place, "null".to_owned(), limit.to_owned());
            }
            Value::Null | Value::Bool(_) => {}
            Value::Number(number) => {
                let in_range = match number.as_i64() {
                    Some(integer) => (MIN_INTEGER..=MAX_INTEGER).contains(&integer),
                    None => number.is_f64(),
                };
                if !in_range {
                    let limit = format!("integers lie between {MIN_INTEGER} and {MAX_INTEGER}");
                    self.report(place, number.to_string(), limit);
                }
            }
            Value::String(text) => {
                if text.len() > MAX_STRING_BYTES {
                    let told = format!("{} of {} bytes", shown(value), text.len());
                    self.report(place, told, format!("strings have {MAX_STRING_BYTES} bytes at most"));
                }
            }
            Value::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    if self.found.len() >= MAX_VIOLATIONS {
                        return;
                    }
                    self.value(&Place::Item(place, at), item, depth, true);
                }
            }
            Value::Object(members) if members.contains_key(secret::MEMBER) => self.secret(place, value),
            Value::Object(members) => self.object(place, members, depth + 1, in_array),
        }
    }

    /// `{"$secret": NAME}` stands alone, and in desired properties.
    fn secret(&mut self, place: &Place<'_>, value: &Value) {
        let name = secret::name_of(value);
        let problem = match name {
            None => Some("a reference to a secret is {\"$secret\": \"NAME\"}, with nothing beside it".to_owned()),
            Some(name) => check_id(name).err().map(|error| format!("the name of a secret: {error}")),
        };
        if let Some(limit) = problem {
            self.report(place, shown(value), limit);
        }
        if name.is_some() && !self.takes_secrets {
            let limit = "secrets are referred to in desired properties only";
            self.report(place, shown(value), limit.to_owned());
        }
    }

    fn report(&mut self, place: &Place<'_>, value: String, limit: String) {
        report(&place.to_string(), value, limit, self.found);
    }
}

fn report(path: &str, value: String, limit: String, found: &mut Vec<Violation>) {
    if found.len() < MAX_VIOLATIONS {
        found.push(Violation { path: path.to_owned(), value, limit });
    }
}

/// A value as an error message shows it.
pub(super) fn shown(value: &Value) -> String {
    cut(&value.to_string())
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn violations(patch: Value) -> Vec<Violation> {
        let mut found = Vec::new();
        check_patch("desired", patch.as_object().unwrap(), &mut found);
        found
    }

    fn nested(depth: usize) -> Value {
        (0..depth).fold(json!({"property": "value"}), |inner, _| json!({"o": inner}))
    }

    #[test]
    fn each_limit_holds_exactly() {
        let key = |n: usize| json!({ "k".repeat(n): 1 });
        for (allowed, refused) in [
            (key(1024), key(1025)),
            (json!({"s": "x".repeat(4096)}), json!({"s": "x".repeat(4097)})),
            (json!({"s": "ü".repeat(2048)}), json!({"s": "ü".repeat(2049)})),
            (json!({"n": MAX_INTEGER}), json!({"n": MAX_INTEGER + 1})),
            (json!({"n": MIN_INTEGER}), json!({"n": MIN_INTEGER - 1})),
            (json!({"n": 1e300}), json!({"n": u64::MAX})),
            (nested(10), nested(11)),
            (json!({"a": null}), json!({"a": [null]})),
            (json!({"a": [{"b": [1]}]}), json!({"a": [{"b": null}]})),
            (json!({"a-b:c/ü": 1}), json!({"a b": 1})),
            (json!({"a": 1}), json!({"a.b": 1})),
            (json!({"a": 1}), json!({"$a": 1})),
            (json!({"a": 1}), json!({"a#": 1})),
            (json!({"a": 1}), json!({"a\u{7}": 1})),
            (json!({"a": 1}), json!({"": 1})),
            (json!({"a": [{"b": 1}]}), json!({"a": [{"b c": 1}]})),
        ] {
            assert_eq!(violations(allowed), []);
            assert_eq!(violations(refused.clone()).len(), 1, "{refused}");
        }
    }

    #[test]
    fn a_reference_to_a_secret_stands_alone_and_in_desired_only() {
        let reference = json!({"plc": {"pw": {"$secret": "plc-pw"}, "all": [{"$secret": "a"}]}});
        assert_eq!(violations(reference.clone()), []);
        for refused in [
            json!({"$secret": "a"}),
            json!({"a": {"$secret": "a", "b": 1}}),
            json!({"a": {"$secret": 1}}),
            json!({"a": {"$secret": null}}),
            json!({"a": {"$secret": ""}}),
            json!({"a": {"$secret": "not/a/name"}}),
            json!({"a": {"$Secret": "a"}}),
        ] {
            assert_eq!(violations(refused.clone()).len(), 1, "{refused}");
        }
        for root in ["tags", "properties.reported"] {
            let mut found = Vec::new();
            check_patch(root, reference.as_object().unwrap(), &mut found);
            let paths: Vec<&str> = found.iter().map(|v| v.path.as_str()).collect();
            assert_eq!(paths, [format!("{root}.plc.pw"), format!("{root}.plc.all[0]")], "{found:?}");
        }
        let mut found = Vec::new();
        check_patch("tags", json!({"desired": {"$secret": "a"}}).as_object().unwrap(), &mut found);
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn all_violations_are_told_at_once_with_path_value_and_limit() {
        let found =
            violations(json!({"a": {"b c": 1, "ok": 2}, "list": [1, {"x": null}], "big": 4503599627370496_i64}));

        let paths: Vec<&str> = found.iter().map(|v| v.path.as_str()).collect();
        assert_eq!(paths, ["desired.a.b c", "desired.list[1].x", "desired.big"]);
        assert_eq!(
            found[2].to_string(),
            "desired.big: 4503599627370496 — integers lie between -4503599627370496 and 4503599627370495"
        );
    }

    #[test]
    fn a_flood_of_violations_is_cut_off() {
        let patch: Map<String, Value> = (0..1000).map(|i| (format!("bad key {i}"), json!([null]))).collect();
        assert_eq!(violations(Value::Object(patch)).len(), MAX_VIOLATIONS);
    }

    #[test]
    fn sizes_are_counted_as_iot_hub_counts_them() {
        let section = json!({"ab": "xyz", "n": 1.5, "t": true, "l": [1, "q"], "o": {"k": "v"}});
        assert_eq!(size_of(section.as_object().unwrap()), 5 + 9 + 5 + 10 + 3);
    }

    #[test]
    fn a_section_that_is_too_large_may_shrink_but_not_grow() {
        let section = json!({"s": "x".repeat(20)});
        let section = section.as_object().unwrap();
        for (before, refused) in [(0, 1), (20, 1), (21, 0), (30, 0)] {
            let mut found = Vec::new();
            check_size("desired", before, size_of(section), 10, &mut found);
            assert_eq!(found.len(), refused, "before: {before}");
        }
    }
}
