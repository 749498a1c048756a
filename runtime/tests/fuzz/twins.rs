//! Changes of a twin against a model that knows the limits by itself: what is accepted, what is refused, what is there then.
//!
//! An input is lines of `{"part": "desired", "how": "patch", "body": …}`; lines that are no JSON are skipped.

use serde_json::{Map, Value, json};

use dinrail::database::Database;
use dinrail::identity::{Identities, device_key};
use dinrail::name::Identity;
use dinrail::twin::{Change, TwinError, TwinSnapshot, Twins};

use super::documents;
use super::engine::{Chance, Target, fuzz};

const PARTS: [&str; 4] = ["desired", "tags", "reported", "body"];

struct Stage {
    twins: Twins,
    identity: Identity,
    _database: Database,
    _folder: tempfile::TempDir,
}

/// The three documents as they should be.
#[derive(Debug, Clone, PartialEq)]
struct Model {
    tags: Value,
    desired: Value,
    reported: Value,
}

#[test]
fn twin_changes_are_what_the_model_says() {
    // In memory where that can be had: a commit then costs no disk.
    let memory = std::path::Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let folder = tempfile::Builder::new().prefix("dinrail-fuzz-").tempdir_in(place).unwrap();
    let database = Database::open(folder.path()).unwrap();
    let (master, _) = device_key(&database, folder.path(), false).unwrap();
    let (identities, _) = Identities::open(&database, master, Some("fuzz"), "fuzz").unwrap();
    let identity = identities.ensure(Some("m")).unwrap().identity.clone();
    let twins = Twins::open(&database, &identities).unwrap();
    let stage = Stage { twins, identity, _database: database, _folder: folder };
    fuzz(&Target {
        name: "twins",
        generate: &generate,
        words: &[
            "null",
            "{}",
            "[]",
            "\"a\":",
            "\"$version\":",
            "\"$metadata\":",
            "\"$secret\":",
            "{\"a\":",
            "[null]",
            "1e308",
            "-0.0",
            "0.1234567890123456789",
            "4503599627370496",
            "\"reported\"",
            "\"replace\"",
            "\"tags\"",
            "\"body\"",
            "\\u0000",
            "\\ud800",
        ],
        run: &|input| stage.run(input),
    });
}

fn generate(chance: &mut Chance) -> Vec<u8> {
    let mut lines = String::new();
    for _ in 0..=chance.below(5) {
        let part = *chance.pick(&PARTS);
        let body = match part {
            "body" => {
                let mut body = Map::new();
                if !chance.one_in(3) {
                    body.insert("tags".to_owned(), documents::object(chance));
                }
                if !chance.one_in(3) {
                    let desired = documents::object(chance);
                    body.insert("properties".to_owned(), json!({ "desired": desired }));
                }
                Value::Object(body)
            }
            _ => documents::object(chance),
        };
        let how = if chance.one_in(4) { "replace" } else { "patch" };
        lines.push_str(&json!({"part": part, "how": how, "body": body}).to_string());
        lines.push('\n');
    }
    lines.into_bytes()
}

impl Stage {
    fn run(&self, input: &[u8]) -> String {
        self.clear();
        let mut model = Model { tags: json!({}), desired: json!({}), reported: json!({}) };
        let mut outcome = String::new();
        for line in input.split(|byte| *byte == b'\n') {
            let Ok(step) = serde_json::from_slice::<Value>(line) else { continue };
            let part = step["part"].as_str().filter(|part| PARTS.contains(part)).unwrap_or("desired");
            let is_replaced = step["how"] == "replace" && part != "reported";
            outcome.push_str(&self.step(&mut model, part, is_replaced, &step["body"]));
        }
        outcome
    }

    fn clear(&self) {
        let nothing = json!({});
        self.change(&Change::replace_desired(&nothing, "clear")).unwrap();
        self.change(&Change::replace_tags(&nothing, "clear")).unwrap();
        let reported = self.twin().reported.parse();
        let gone: Map<String, Value> = reported.keys().map(|key| (key.clone(), Value::Null)).collect();
        self.report(&Value::Object(gone)).unwrap();
    }

    fn step(&self, model: &mut Model, part: &str, is_replaced: bool, body: &Value) -> String {
        let before = self.twin();
        let expected = model.after(part, is_replaced, body);
        let outcome = match (part, is_replaced) {
            ("desired", false) => self.change(&Change::patch_desired(body, "fuzz")),
            ("desired", true) => self.change(&Change::replace_desired(body, "fuzz")),
            ("tags", false) => self.change(&Change::patch_tags(body, "fuzz")),
            ("tags", true) => self.change(&Change::replace_tags(body, "fuzz")),
            ("reported", _) => self.report(body),
            (_, false) => self.change(&Change::patch(body, "fuzz").if_match(Some("*"))),
            (_, true) => self.change(&Change::replace(body, "fuzz").if_match(Some("*"))),
        };
        let what = || format!("{part}, replaced: {is_replaced}: {}", shortened(body));
        match (outcome, expected) {
            (Ok(()), Some(after)) => *model = after,
            (Ok(()), None) => panic!("accepted against a limit: {}", what()),
            (Err(error), Some(_)) => panic!("refused within the limits: {error}: {}", what()),
            (Err(TwinError::Invalid { violations, .. }), None) => {
                assert!(!violations.is_empty(), "refused without a reason: {}", what());
                let twin = self.twin();
                assert_eq!(twin.version(), before.version(), "a refused change left something: {}", what());
                return format!(
                    "- {}",
                    violations.iter().map(|v| v.limit.chars().take(24).collect::<String>()).collect::<String>()
                );
            }
            (Err(error), None) => panic!("refused for another reason: {error}: {}", what()),
        }
        let twin = self.twin();
        let now = Model {
            tags: Value::Object(twin.tags.parse()),
            desired: Value::Object(twin.desired.parse()),
            reported: Value::Object(twin.reported.parse()),
        };
        assert!(now == *model, "after {}\nis {}\nnot {}", what(), shown(&now), shown(model));
        self.check_views(&twin, &now);
        format!("+{part}{}", now.desired.as_object().map_or(0, Map::len).min(3))
    }

    /// What the module sees is the same, with versions.
    fn check_views(&self, twin: &TwinSnapshot, now: &Model) {
        let view: Value = serde_json::from_str(&twin.module_view()).expect("the module's view is JSON");
        for (name, section, document) in
            [("desired", &twin.desired, &now.desired), ("reported", &twin.reported, &now.reported)]
        {
            let mut expected = document.clone();
            expected["$version"] = section.version.into();
            assert_eq!(view[name], expected, "the module's view of {name}");
        }
    }

    fn twin(&self) -> std::sync::Arc<TwinSnapshot> {
        self.twins.get(&self.identity).unwrap()
    }

    fn change(&self, change: &Change<'_>) -> Result<(), TwinError> {
        Twins::wait(&self.identity, |done| self.twins.change(&self.identity, change, done)).map(drop)
    }

    fn report(&self, patch: &Value) -> Result<(), TwinError> {
        Twins::wait(&self.identity, |done| self.twins.patch_reported(&self.identity, patch, done)).map(drop)
    }
}

impl Model {
    /// The documents after a change, or `None` where a limit forbids it. An invalid change of several parts changes nothing.
    fn after(&self, part: &str, is_replaced: bool, body: &Value) -> Option<Model> {
        let mut next = self.clone();
        match part {
            "tags" => next.tags = section(&self.tags, body, is_replaced, Kind::TAGS)?,
            "desired" => next.desired = section(&self.desired, body, is_replaced, Kind::DESIRED)?,
            "reported" => next.reported = section(&self.reported, body, false, Kind::REPORTED)?,
            _ => {
                let members = body.as_object()?;
                let properties = members.get("properties").filter(|value| !value.is_null());
                let desired = match properties {
                    Some(properties) => properties.as_object()?.get("desired"),
                    None => None,
                };
                let known = ["tags", "properties"];
                // What may be sent back but is not written is none of this test's business.
                let strange = |object: &Map<String, Value>, known: &[&str]| {
                    object.iter().any(|(key, value)| !known.contains(&key.as_str()) && !value.is_null())
                };
                if strange(members, &known)
                    || properties
                        .and_then(Value::as_object)
                        .is_some_and(|p| p.keys().any(|key| key != "desired" && key != "reported"))
                {
                    return None;
                }
                let empty = json!({});
                for (slot, wanted, kind) in
                    [(&mut next.tags, members.get("tags"), Kind::TAGS), (&mut next.desired, desired, Kind::DESIRED)]
                {
                    let wanted = wanted.filter(|wanted| !wanted.is_null());
                    let wanted = if is_replaced { Some(wanted.unwrap_or(&empty)) } else { wanted };
                    let Some(wanted) = wanted else { continue };
                    let guard = wanted.get("$version").filter(|_| kind == Kind::DESIRED);
                    if guard.is_some_and(|guard| !guard.is_null() && !guard.is_u64()) {
                        return None;
                    }
                    if is_replaced && has_null(wanted) {
                        return None;
                    }
                    *slot = section(slot, wanted, is_replaced, kind)?;
                }
            }
        }
        Some(next)
    }
}

#[derive(Clone, Copy, PartialEq)]
struct Kind {
    max_bytes: usize,
    has_secrets: bool,
    takes_back: bool,
}

impl Kind {
    const TAGS: Kind = Kind { max_bytes: 8 * 1024, has_secrets: false, takes_back: true };
    const DESIRED: Kind = Kind { max_bytes: 32 * 1024, has_secrets: true, takes_back: true };
    const REPORTED: Kind = Kind { max_bytes: 32 * 1024, has_secrets: false, takes_back: false };
}

fn section(before: &Value, change: &Value, is_replaced: bool, kind: Kind) -> Option<Value> {
    let mut change = change.as_object()?.clone();
    if kind.takes_back {
        change.retain(|key, _| key != "$version" && key != "$metadata");
    }
    if !members_fit(&change, 0, false, kind) {
        return None;
    }
    let mut after = if is_replaced { json!({}) } else { before.clone() };
    merge(&mut after, &Value::Object(change));
    (size(&after) <= kind.max_bytes || size(&after) <= size(before)).then_some(after)
}

fn members_fit(members: &Map<String, Value>, depth: usize, in_array: bool, kind: Kind) -> bool {
    let is_key = |key: &String| {
        !key.is_empty()
            && key.len() <= 1024
            && !key.chars().any(|c| c.is_control() || c.is_whitespace() || ".$#".contains(c))
    };
    depth <= 10 && members.iter().all(|(key, value)| is_key(key) && fits(value, depth, in_array, kind))
}

fn fits(value: &Value, depth: usize, in_array: bool, kind: Kind) -> bool {
    match value {
        Value::Null => !in_array,
        Value::Bool(_) => true,
        Value::Number(number) => match number.as_i64() {
            Some(integer) => (-(1_i64 << 52)..1_i64 << 52).contains(&integer),
            None => !number.is_u64(),
        },
        Value::String(text) => text.len() <= 4096,
        Value::Array(items) => items.iter().all(|item| fits(item, depth, true, kind)),
        Value::Object(members) if members.contains_key("$secret") => {
            kind.has_secrets
                && members.len() == 1
                && members["$secret"].as_str().is_some_and(|name| dinrail::name::check_id(name).is_ok())
        }
        Value::Object(members) => members_fit(members, depth + 1, in_array, kind),
    }
}

/// RFC 7396, with references to secrets as leaves.
fn merge(target: &mut Value, patch: &Value) {
    let is_leaf = |value: &Value| !value.is_object() || value.get("$secret").is_some();
    if is_leaf(patch) {
        *target = patch.clone();
        return;
    }
    if is_leaf(target) {
        *target = json!({});
    }
    for (key, change) in patch.as_object().unwrap() {
        if change.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut target[key.as_str()], change);
        }
    }
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(members) => members.iter().any(|(key, value)| key != "$version" && has_null(value)),
        _ => false,
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 4,
        Value::Number(_) => 8,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(members) => members.iter().map(|(key, value)| key.len() + size(value)).sum(),
    }
}

fn shown(model: &Model) -> String {
    format!("{} {} {}", shortened(&model.tags), shortened(&model.desired), shortened(&model.reported))
}

fn shortened(value: &Value) -> String {
    value.to_string().chars().take(400).collect()
}
