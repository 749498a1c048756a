//! `{"$secret": NAME}` in desired properties: stands for a value that only the module is given. Pure.
//!
//! To a twin it is one value, as a text is: a patch puts it in place of what was there or takes it away as a whole, and
//! nothing stands beside it. What it stands for is never part of a twin.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// The one member of a reference.
pub const MEMBER: &str = "$secret";
/// How a reference begins in a compact document. Within a text its quotation marks would be escaped.
const IN_TEXT: &str = "{\"$secret\":\"";

/// The name in a reference; `None` for any other value.
pub fn name_of(value: &Value) -> Option<&str> {
    let members = value.as_object().filter(|members| members.len() == 1)?;
    members.get(MEMBER)?.as_str()
}

/// A reference.
pub fn reference(name: &str) -> Value {
    Value::Object(Map::from_iter([(MEMBER.to_owned(), name.into())]))
}

/// Whether a compact document has a reference in it.
pub fn is_in(document: &str) -> bool {
    document.contains(IN_TEXT)
}

/// Every reference in a value: path and name. The path begins with `path`.
pub fn places(path: &str, value: &Value) -> Vec<(String, String)> {
    fn look(path: &str, value: &Value, found: &mut Vec<(String, String)>) {
        if let Some(name) = name_of(value) {
            found.push((path.to_owned(), name.to_owned()));
            return;
        }
        match value {
            Value::Object(members) => {
                members.iter().for_each(|(key, value)| look(&format!("{path}.{key}"), value, found))
            }
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(at, item)| look(&format!("{path}[{at}]"), item, found))
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    look(path, value, &mut found);
    found
}

/// The names in a compact document.
pub fn names_in(document: &str) -> BTreeSet<String> {
    if !is_in(document) {
        return BTreeSet::new();
    }
    let document: Value = serde_json::from_str(document).unwrap_or_default();
    places("", &document).into_iter().map(|(_, name)| name).collect()
}

/// Of a section, what refers to `name` and the way there: as a patch, it changes nothing. An array is whole. `None` where
/// nothing refers to it.
pub fn referring(section: &Map<String, Value>, name: &str) -> Option<Map<String, Value>> {
    fn refers(value: &Value, name: &str) -> bool {
        match value {
            Value::Array(items) => items.iter().any(|item| refers(item, name)),
            Value::Object(members) => {
                name_of(value) == Some(name) || members.values().any(|member| refers(member, name))
            }
            _ => false,
        }
    }
    let pick = |(key, value): (&String, &Value)| match value {
        Value::Object(members) if name_of(value).is_none() => {
            Some((key.clone(), Value::Object(referring(members, name)?)))
        }
        value => refers(value, name).then(|| (key.clone(), value.clone())),
    };
    let patch: Map<String, Value> = section.iter().filter_map(pick).collect();
    (!patch.is_empty()).then_some(patch)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_reference_is_an_object_with_that_one_member() {
        assert_eq!(name_of(&json!({"$secret": "pw"})), Some("pw"));
        for other in [json!({"$secret": 1}), json!({"$secret": "pw", "a": 1}), json!({}), json!("$secret"), json!(null)]
        {
            assert_eq!(name_of(&other), None, "{other}");
        }
        assert_eq!(name_of(&reference("a")), Some("a"));
    }

    #[test]
    fn references_are_found_in_texts_but_not_within_a_text_of_a_person() {
        assert!(is_in(&json!({"a": [1, {"$secret": "pw"}]}).to_string()));
        assert!(!is_in(&json!({"a": "{\"$secret\":\"pw\"}", "b": "$secret"}).to_string()));
        assert_eq!(names_in(&json!({"a": [{"$secret": "x"}], "b": {"c": {"$secret": "y"}}}).to_string()).len(), 2);
    }

    #[test]
    fn what_refers_to_a_secret_is_picked_with_the_way_to_it() {
        let section = json!({
            "host": "h", "plc": {"user": "u", "pw": {"$secret": "pw"}, "other": {"$secret": "x"}},
            "list": [1, {"k": {"$secret": "pw"}}], "empty": {"a": {}},
        });
        let section = section.as_object().unwrap();

        assert_eq!(
            referring(section, "pw").map(Value::Object),
            Some(json!({"plc": {"pw": {"$secret": "pw"}}, "list": [1, {"k": {"$secret": "pw"}}]}))
        );
        assert_eq!(referring(section, "nobody"), None);
        assert_eq!(
            places("d", &Value::Object(section.clone())),
            [("d.plc.pw", "pw"), ("d.plc.other", "x"), ("d.list[1].k", "pw")]
                .map(|(p, n)| (p.to_owned(), n.to_owned()))
        );
    }
}
