//! `$metadata`: when each part of a section was last changed, removals included.
//!
//! Kept as a tree beside the document: an object for an object, with its own stamp under `"$"`, and a stamp for anything else:
//! milliseconds since 1970, of desired properties `[milliseconds, $version]`. A removed member leaves its number behind. No key of a document can be
//! `"$"`.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::snapshot::{Part, Section};
use super::{secret, text};
use crate::clock;

const OWN: &str = "$";
/// Times of removed members are given up when all times together are longer than this, or a twin whose keys come and go
/// would grow for ever.
const MAX_BYTES: usize = 64 * 1024;
/// What IoT Hub says of a section that was never written.
pub(super) const NEVER: &str = "0001-01-01T00:00:00Z";

/// The stamp of a change of a section that is made now.
pub(super) fn stamp(part: Part, now: &Section, now_ms: i64) -> Value {
    match part {
        Part::Desired => Value::Array(vec![now_ms.into(), (now.version + 1).into()]),
        Part::Tags | Part::Reported => now_ms.into(),
    }
}

/// Merges `patch` into `document`, as [`super::patch::merge`], and writes down the time.
pub(super) fn merge(
    document: &mut Map<String, Value>,
    times: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    stamp: &Value,
) {
    set(times, OWN, stamp);
    for (key, change) in patch {
        match change {
            Value::Null => {
                // Removed again, it has the time of the later removal, as all around it have.
                if document.shift_remove(key).is_some() || times.contains_key(key) {
                    set(times, key, stamp);
                }
            }
            Value::Object(members) if secret::name_of(change).is_none() => {
                let member = document.entry(key.clone()).or_insert(Value::Null);
                let time = times.entry(key.clone()).or_insert(Value::Null);
                if !member.is_object() || secret::name_of(member).is_some() {
                    *member = Value::Object(Map::new());
                }
                if !time.is_object() {
                    *time = Value::Object(Map::new());
                }
                if let (Value::Object(member), Value::Object(time)) = (member, time) {
                    merge(member, time, members, stamp);
                }
            }
            other => {
                set(document, key, other);
                set(times, key, stamp);
            }
        }
    }
}

/// Sets a member; where it is there already, in its memory.
fn set(members: &mut Map<String, Value>, key: &str, value: &Value) {
    let Some(member) = members.get_mut(key) else {
        members.insert(key.to_owned(), value.clone());
        return;
    };
    match (member, value) {
        (Value::String(old), Value::String(new)) => old.clone_from(new),
        (member, value) => *member = value.clone(),
    }
}

/// Times of a document that was written as a whole in place of `old`.
pub(super) fn replace(
    old: &Map<String, Value>,
    old_times: &Map<String, Value>,
    new: &Map<String, Value>,
    stamp: &Value,
) -> Map<String, Value> {
    let mut times = Map::new();
    times.insert(OWN.to_owned(), stamp.clone());
    for (key, time) in old_times {
        if key != OWN && !new.contains_key(key) {
            let removed_now = old.contains_key(key);
            times.insert(key.clone(), if removed_now { stamp.clone() } else { time.clone() });
        }
    }
    let nothing = Map::new();
    for (key, value) in new {
        let time = match value {
            Value::Object(members) if secret::name_of(value).is_none() => {
                let old = old.get(key).and_then(Value::as_object).unwrap_or(&nothing);
                let old_times = old_times.get(key).and_then(Value::as_object).unwrap_or(&nothing);
                Value::Object(replace(old, old_times, members, stamp))
            }
            _ => stamp.clone(),
        };
        times.insert(key.clone(), time);
    }
    times
}

/// Writes times out for the database, and gives those up that are too many.
pub(super) fn to_text(document: &Map<String, Value>, times: &mut Map<String, Value>, expected: usize) -> Arc<str> {
    let text = text::of(times, expected);
    if text.len() <= MAX_BYTES {
        return text;
    }
    forget_removed(document, times);
    text::of(times, text.len())
}

fn forget_removed(document: &Map<String, Value>, times: &mut Map<String, Value>) {
    times.retain(|key, time| match (document.get(key), time) {
        (Some(Value::Object(member)), Value::Object(time)) => {
            forget_removed(member, time);
            true
        }
        (member, _) => member.is_some() || key == OWN,
    });
}

/// The `$metadata` that the service side sees.
pub(super) fn expand(times: &Map<String, Value>) -> Value {
    let mut out = spoken(times.get(OWN));
    for (key, time) in times.iter().filter(|(key, _)| *key != OWN) {
        let expanded = match time {
            Value::Object(times) => expand(times),
            time => Value::Object(spoken(Some(time))),
        };
        out.insert(key.clone(), expanded);
    }
    Value::Object(out)
}

fn spoken(stamp: Option<&Value>) -> Map<String, Value> {
    let (ms, version) = match stamp {
        Some(Value::Array(both)) => (both.first(), both.get(1)),
        stamp => (stamp, None),
    };
    let time =
        ms.and_then(Value::as_i64).map_or_else(|| NEVER.to_owned(), |ms| clock::rfc3339(ms.saturating_mul(1000)));
    let mut out = Map::from_iter([("$lastUpdated".to_owned(), time.into())]);
    if let Some(version) = version {
        out.insert("$lastUpdatedVersion".to_owned(), version.clone());
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn every_level_that_a_patch_touches_gets_its_time_and_no_other() {
        let mut document = object(json!({"a": {"b": 1, "c": {"d": 2}}, "e": 3}));
        let mut times = replace(&Map::new(), &Map::new(), &document, &json!(1));

        merge(&mut document, &mut times, &object(json!({"a": {"c": {"d": 4}}})), &json!(2));

        assert_eq!(Value::Object(times), json!({"$": 2, "a": {"$": 2, "b": 1, "c": {"$": 2, "d": 2}}, "e": 1}));
    }

    #[test]
    fn a_removal_leaves_its_time_behind_and_a_removal_of_nothing_none() {
        let mut document = object(json!({"a": {"b": 1}}));
        let mut times = replace(&Map::new(), &Map::new(), &document, &json!(1));

        merge(&mut document, &mut times, &object(json!({"a": null, "x": null})), &json!(2));

        assert_eq!(Value::Object(times.clone()), json!({"$": 2, "a": 2}));
        let mut again = times.clone();
        merge(&mut document, &mut again, &object(json!({"a": null, "x": null})), &json!(3));
        assert_eq!(Value::Object(again), json!({"$": 3, "a": 3}));
        assert_eq!(
            Value::Object(replace(&document, &times, &object(json!({"c": 1})), &json!(3))),
            json!({"$": 3, "a": 2, "c": 3})
        );
    }

    #[test]
    fn the_service_sees_last_updated_at_every_level() {
        let times = object(json!({"$": 1_795_269_909_123_i64, "a": {"$": 1_795_269_909_123_i64, "b": 0}}));

        assert_eq!(
            expand(&times),
            json!({
                "$lastUpdated": "2026-11-21T14:05:09.123Z",
                "a": {"$lastUpdated": "2026-11-21T14:05:09.123Z", "b": {"$lastUpdated": "1970-01-01T00:00:00.000Z"}},
            })
        );
        assert_eq!(expand(&Map::new()), json!({"$lastUpdated": "0001-01-01T00:00:00Z"}));
        let times = object(json!({"$": [1_795_269_909_123_i64, 7], "gone": [1_795_269_909_123_i64, 6]}));
        let time = "2026-11-21T14:05:09.123Z";
        assert_eq!(
            expand(&times),
            json!({
                "$lastUpdated": time, "$lastUpdatedVersion": 7, "gone": {"$lastUpdated": time, "$lastUpdatedVersion": 6},
            })
        );
    }

    #[test]
    fn keys_that_come_and_go_do_not_grow_the_times_for_ever() {
        let (mut document, mut times) = (Map::new(), Map::new());
        let mut longest = 0;
        let key = |i: i64| format!("{i}{}", "k".repeat(1000));
        for i in 0..300 {
            merge(&mut document, &mut times, &object(json!({key(i): 1, key(i - 1): null})), &json!(i));
            let text = to_text(&document, &mut times, 0);
            longest = longest.max(text.len());
            assert_eq!(times, object(serde_json::from_str(&text).unwrap()), "what is kept is what is written");
        }
        assert!(longest <= MAX_BYTES, "{longest}");
        assert!(longest > MAX_BYTES / 2, "the removed ones are kept for a while: {longest}");
        assert!(times.contains_key(&key(299)));
    }

    proptest::proptest! {
        #[test]
        fn merging_with_times_is_merging(
            a in crate::twin::patch::tests::document(false),
            p in crate::twin::patch::tests::document(true),
        ) {
            let mut plain = Value::Object(a.clone());
            crate::twin::patch::merge(&mut plain, &Value::Object(p.clone()));
            let mut document = a.clone();
            merge(&mut document, &mut replace(&Map::new(), &Map::new(), &a, &json!(1)), &p, &json!(2));
            proptest::prop_assert_eq!(Value::Object(document), plain);
        }
    }
}
