//! Whether desired properties are what the module's image takes: the JSON Schema that the image gave of them.
//!
//! Asked before a change is accepted, on the thread of who wants it: neither the writer nor the control loop compiles or
//! validates anything. An image without a schema, or with one that is none, never stands in the way of a change.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use jsonschema::error::ValidationErrorKind;
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::{Map, Value};

use super::rules::{self, Violation};
use super::{Part, secret};
use crate::database::tables::image;
use crate::database::{Database, File, lock};

/// Schemas that are kept compiled; each can take some hundred kilobytes.
const KEPT: usize = 4;
/// Violations that are told at most.
const MAX_TOLD: usize = 50;
/// Steps that one match of a pattern may take.
const MAX_BACKTRACKING: usize = 100_000;

/// The schemas of images, compiled at need. Clones are the same.
#[derive(Clone)]
pub struct Schemas(Arc<Inner>);

struct Inner {
    database: Database,
    /// By the digest of the image, the last used first; `None`: not a schema, which was said.
    kept: Mutex<VecDeque<(String, Option<Arc<Schema>>)>>,
}

/// A compiled schema of desired properties, and the defaults over which the module lays them.
pub struct Schema {
    validator: Validator,
    defaults: Value,
}

impl Schemas {
    /// Of the images in the database; nothing is compiled yet.
    pub fn new(database: &Database) -> Schemas {
        Schemas(Arc::new(Inner { database: database.clone(), kept: Mutex::default() }))
    }

    /// The schema of an image, as far as it has one that is known. `[blocks: reads the database, compiles]`
    pub fn of(&self, digest: &str) -> Option<Arc<Schema>> {
        let find = |kept: &mut VecDeque<(String, Option<Arc<Schema>>)>| {
            let at = kept.iter().position(|(known, _)| known == digest)?;
            let found = kept.remove(at)?;
            let schema = found.1.clone();
            kept.push_front(found);
            Some(schema)
        };
        if let Some(known) = find(&mut lock(&self.0.kept)) {
            return known;
        }
        // One that was not asked yet, or cannot be read just now, may be there next time.
        let (text, defaults) = self.0.database.read(File::Main, |conn| image::schema(conn, digest)).ok()??;
        let compiled = match Schema::compile(&text, defaults.as_deref()) {
            Ok(schema) => Some(Arc::new(schema)),
            Err(why) => {
                tracing::warn!(image = digest, "its schema of desired properties is not used: {why}");
                None
            }
        };
        let mut kept = lock(&self.0.kept);
        kept.retain(|(known, _)| known != digest);
        kept.push_front((digest.to_owned(), compiled.clone()));
        kept.truncate(KEPT);
        compiled
    }

    /// What of the desired properties the image does not take; nothing where it gives no schema. `[blocks: as Self::of]`
    pub fn check(&self, digest: &str, desired: &Map<String, Value>) -> Vec<Violation> {
        self.of(digest).map_or_else(Vec::new, |schema| schema.check(Part::Desired.path(), desired))
    }
}

impl Schema {
    /// Compiles the text of a schema, or says why it is none. `defaults`: what holds for properties that are not there.
    pub fn compile(text: &str, defaults: Option<&str>) -> Result<Schema, String> {
        let defaults =
            defaults.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_else(|| Value::Object(Map::new()));
        let schema: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let options = jsonschema::options()
            .offline()
            .with_pattern_options(PatternOptions::fancy_regex().backtrack_limit(MAX_BACKTRACKING));
        match catch_unwind(AssertUnwindSafe(|| options.build(&schema))) {
            Ok(built) => built.map(|validator| Schema { validator, defaults }).map_err(|error| error.to_string()),
            Err(_) => Err("it cannot be compiled".to_owned()),
        }
    }

    /// All that is wrong with desired properties. A reference to a secret passes wherever a text does.
    ///
    /// They are laid over the defaults at every level or, where that makes nonsense, at the outermost: as the module does.
    pub fn check(&self, root: &str, desired: &Map<String, Value>) -> Vec<Violation> {
        let desired = Value::Object(desired.clone());
        let found = self.violations(root, overlaid(self.defaults.clone(), desired.clone(), usize::MAX));
        let has_inner_defaults = self.defaults.as_object().is_some_and(|all| all.values().any(Value::is_object));
        if found.is_empty() || !has_inner_defaults {
            return found;
        }
        let outermost = self.violations(root, overlaid(self.defaults.clone(), desired, 1));
        if outermost.is_empty() { outermost } else { found }
    }

    fn violations(&self, root: &str, whole: Value) -> Vec<Violation> {
        let instance = with_texts_for_secrets(&whole);
        let check = || {
            let errors = self.validator.iter_errors(&instance);
            errors.flat_map(|error| told(root, &whole, &error)).take(MAX_TOLD).collect::<Vec<_>>()
        };
        // A schema that the library cannot work with is the image's trouble, not that of who changes a twin.
        let mut found = catch_unwind(AssertUnwindSafe(check)).unwrap_or_default();
        found.dedup();
        found
    }
}

fn overlaid(under: Value, over: Value, depth: usize) -> Value {
    match (under, over) {
        (Value::Object(mut under), Value::Object(over)) if depth > 0 && !over.contains_key(secret::MEMBER) => {
            for (key, value) in over {
                let below = under.remove(&key).unwrap_or(Value::Null);
                under.insert(key, overlaid(below, value, depth - 1));
            }
            Value::Object(under)
        }
        (_, over) => over,
    }
}

fn with_texts_for_secrets(value: &Value) -> Value {
    match value {
        _ if secret::name_of(value).is_some() => Value::String(String::new()),
        Value::Object(members) => {
            Value::Object(members.iter().map(|(key, value)| (key.clone(), with_texts_for_secrets(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(with_texts_for_secrets).collect()),
        other => other.clone(),
    }
}

/// What an error means for `whole`, in which references still stand.
fn told(root: &str, whole: &Value, error: &ValidationError<'_>) -> Vec<Violation> {
    let (path, value) = place(root, whole, error.instance_path().as_str());
    let violation = |path: &str, value: String, limit: String| vec![Violation { path: path.to_owned(), value, limit }];
    match error.kind() {
        // Not about the value: the schema asks too much of the library.
        ValidationErrorKind::BacktrackLimitExceeded { .. }
        | ValidationErrorKind::RegexEngineFailure { .. }
        | ValidationErrorKind::Referencing(_) => Vec::new(),
        // What comes nearest says more than that nothing fits.
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context }
            if nearest(context, error.instance_path().as_str()).is_some() =>
        {
            let branch = nearest(context, error.instance_path().as_str()).into_iter().flatten();
            branch.flat_map(|error| told(root, whole, error)).collect()
        }
        kind if secret::name_of(value).is_some() => match kind {
            ValidationErrorKind::Type { .. } => {
                violation(&path, rules::shown(value), "a secret is a text, which is not expected here".to_owned())
            }
            // What the text is like is known to the module alone.
            _ => Vec::new(),
        },
        ValidationErrorKind::Required { property } => {
            let property = property.as_str().unwrap_or_default();
            violation(&format!("{path}.{property}"), "missing".to_owned(), "the module needs it".to_owned())
        }
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            let limit = || "the module knows no such property".to_owned();
            let shown = |key: &String| value.get(key).map_or_else(String::new, rules::shown);
            let all = unexpected.iter().flat_map(|key| violation(&format!("{path}.{key}"), shown(key), limit()));
            all.collect()
        }
        _ => violation(&path, rules::shown(value), error.masked_with("the value").to_string()),
    }
}

/// Of several schemas of which none fits, the one that takes a value of this kind and has the least against it.
fn nearest<'e>(
    branches: &'e [Vec<ValidationError<'static>>],
    pointer: &str,
) -> Option<&'e Vec<ValidationError<'static>>> {
    let is_of_another_kind = |error: &ValidationError<'_>| {
        error.instance_path().as_str() == pointer
            && matches!(error.kind(), ValidationErrorKind::Type { .. } | ValidationErrorKind::Constant { .. })
    };
    let fitting = branches.iter().filter(|branch| !branch.is_empty() && !branch.iter().any(is_of_another_kind));
    fitting.min_by_key(|branch| branch.len())
}

/// A JSON pointer as a path, and the value there.
fn place<'v>(root: &str, whole: &'v Value, pointer: &str) -> (String, &'v Value) {
    let (mut path, mut value) = (root.to_owned(), whole);
    for segment in pointer.split('/').skip(1) {
        let key = segment.replace("~1", "/").replace("~0", "~");
        let inner = match value {
            Value::Array(items) => {
                path += &format!("[{key}]");
                key.parse::<usize>().ok().and_then(|at| items.get(at))
            }
            _ => {
                path += &format!(".{key}");
                value.get(&key)
            }
        };
        value = inner.unwrap_or(&Value::Null);
    }
    (path, value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(schema: Value, desired: Value) -> Vec<String> {
        let found = Schema::compile(&schema.to_string(), None).unwrap().check("desired", desired.as_object().unwrap());
        found.iter().map(ToString::to_string).collect()
    }

    fn plc() -> Value {
        json!({
            "type": "object",
            "properties": {
                "threshold": {"type": "number", "maximum": 100},
                "unit": {"enum": ["C", "K"]},
                "plcs": {"type": "array", "items": {"$ref": "#/$defs/plc"}},
            },
            "required": ["threshold"],
            "additionalProperties": false,
            "$defs": {"plc": {
                "type": "object",
                "properties": {"password": {"type": ["string", "null"], "minLength": 8}, "port": {"type": "integer"}},
                "required": ["password"],
            }},
        })
    }

    #[test]
    fn every_violation_is_told_with_its_path() {
        assert_eq!(check(plc(), json!({"threshold": 80, "unit": "K", "plcs": [{"password": "long enough"}]})), [""; 0]);
        let mut found = check(
            plc(),
            json!({"treshold": 80, "unit": "F", "plcs": [{"password": "12345678"}, {"password": "short", "port": "x"}, {}]}),
        );
        found.sort();
        assert_eq!(
            found,
            [
                "desired.plcs[1].password: \"short\" — the value is shorter than 8 characters",
                "desired.plcs[1].port: \"x\" — the value is not of type \"integer\"",
                "desired.plcs[2].password: missing — the module needs it",
                "desired.threshold: missing — the module needs it",
                "desired.treshold: 80 — the module knows no such property",
                "desired.unit: \"F\" — the value is not one of \"C\" or \"K\"",
            ]
        );
        assert_eq!(
            check(plc(), json!({"threshold": 101})),
            ["desired.threshold: 101 — the value is greater than the maximum of 100"]
        );
    }

    #[test]
    fn of_several_schemas_the_nearest_says_what_is_wrong() {
        let schema = json!({"properties": {"q": {"anyOf": [
            {"type": "object", "properties": {"size": {"type": "integer"}, "name": {"type": "string"}}},
            {"type": "null"},
        ]}}});
        let mut found = check(schema.clone(), json!({"q": {"size": "x", "name": 7}}));
        found.sort();
        assert_eq!(
            found,
            [
                "desired.q.name: 7 — the value is not of type \"string\"",
                "desired.q.size: \"x\" — the value is not of type \"integer\"",
            ]
        );
        assert_eq!(check(schema, json!({"q": 7})).len(), 1, "none of them is near");
    }

    #[test]
    fn what_has_a_default_need_not_be_there() {
        let text = json!({
            "type": "object",
            "required": ["field", "mode"],
            "properties": {"field": {"type": "string"}, "mode": {"type": "object", "maxProperties": 1}},
            "additionalProperties": false,
        });
        let schema = Schema::compile(&text.to_string(), Some(r#"{"field": "value", "mode": {"fixed": 1}}"#)).unwrap();
        let check = |desired: Value| schema.check("desired", desired.as_object().unwrap()).len();

        assert_eq!(check(json!({})), 0);
        assert_eq!(check(json!({"mode": {"range": [1, 2]}})), 0, "instead of the default, not beside it");
        assert_eq!(check(json!({"field": 7, "mode": {"range": 1}, "other": 1})), 3);
    }

    #[test]
    fn a_secret_passes_where_a_text_does_and_nowhere_else() {
        let secret = json!({"$secret": "plc-pw"});
        assert_eq!(check(plc(), json!({"threshold": 1, "plcs": [{"password": secret}]})), [""; 0]);
        let found = check(plc(), json!({"threshold": secret, "plcs": [{"password": secret, "port": secret}]}));
        assert_eq!(
            found,
            [
                "desired.threshold: {\"$secret\":\"plc-pw\"} — a secret is a text, which is not expected here",
                "desired.plcs[0].port: {\"$secret\":\"plc-pw\"} — a secret is a text, which is not expected here"
            ]
        );
    }

    #[test]
    fn what_is_no_schema_is_none_and_what_cannot_be_worked_with_does_not_stand_in_the_way() {
        for text in
            ["", "{", "7", r#"{"type": "thing"}"#, r#"{"$ref": "https://example.com/a.json"}"#, r#"{"pattern": "("}"#]
        {
            assert!(Schema::compile(text, None).is_err(), "{text}");
        }
        assert_eq!(check(json!({"$ref": "#"}), json!({"a": 1})), [""; 0]);
        assert_eq!(check(json!({"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"$ref": "#"}}}), json!({})), [""; 0]);
        let slow = json!({"properties": {"a": {"pattern": "^(?=a)(a+)+$"}}});
        let ends = check(slow, json!({"a": format!("{}b", "a".repeat(4000))}));
        assert!(ends.len() <= 1, "it does not look for ever: {ends:?}");
    }

    #[test]
    fn schemas_are_compiled_once_and_few_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(folder.path()).unwrap();
        let put = |digest: &str, schema: Option<&str>| {
            let row = image::ImageRow {
                arrival: 0,
                digest: digest.to_owned(),
                name: "m".to_owned(),
                version: "1.0.0".to_owned(),
                descriptor: "{}".to_owned(),
                source: None,
                bytes: 1,
                arrived_us: 0,
                verdict: "admitted".to_owned(),
                reason: String::new(),
                abi: "1.0".to_owned(),
                schema: schema.map(str::to_owned),
                defaults: None,
            };
            database.call(File::Main, move |tx| image::arrive(tx, &row)).unwrap();
        };
        let schemas = Schemas::new(&database);
        put("sha256:1", None);
        assert!(schemas.of("sha256:1").is_none() && schemas.of("sha256:0").is_none());
        put("sha256:1", Some(r#"{"required": ["a"]}"#));
        put("sha256:2", Some("{"));
        let first = schemas.of("sha256:1").expect("it is asked again as long as there is none");
        assert!(Arc::ptr_eq(&first, &schemas.of("sha256:1").unwrap()));
        assert_eq!(schemas.check("sha256:1", &Map::new()).len(), 1);
        assert_eq!(schemas.check("sha256:2", &Map::new()), []);
        for number in 3..10 {
            put(&format!("sha256:{number}"), Some("{}"));
            assert!(schemas.of(&format!("sha256:{number}")).is_some());
        }
        assert_eq!(lock(&schemas.0.kept).len(), KEPT);
        assert!(!Arc::ptr_eq(&first, &schemas.of("sha256:1").unwrap()));
    }
}
