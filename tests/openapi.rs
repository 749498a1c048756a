//! The management API is as its OpenAPI document says, and the committed document is the one that the runtime gives.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{Manifest, Runtime, fixture, workspace};

const COMMITTED: &str = "runtime/openapi.json";
const VERBS: [&str; 5] = ["get", "post", "patch", "put", "delete"];

fn document(runtime: &Runtime) -> Value {
    let (status, document) = runtime.api().ask("GET", "/openapi.json", None).unwrap();
    assert_eq!(status, 200);
    document
}

/// Path, verb and operation.
fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let all = paths.iter().flat_map(|(path, item)| {
        let item = item.as_object().unwrap();
        item.iter().map(move |(verb, operation)| (path.as_str(), verb.as_str(), operation))
    });
    all.inspect(|(path, verb, _)| assert!(VERBS.contains(verb), "{path}: {verb}")).collect()
}

#[test]
fn committed_document_is_what_the_runtime_gives() {
    let runtime = Runtime::new().start();
    let file = workspace().join(COMMITTED);
    let fresh = format!("{}\n", serde_json::to_string_pretty(&document(&runtime)).unwrap());
    if std::env::var_os("DINRAIL_BLESS").is_some() {
        std::fs::write(&file, &fresh).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    if committed != fresh {
        let differs = committed.lines().zip(fresh.lines()).position(|(old, new)| old != new);
        panic!(
            "{COMMITTED} is stale from line {} on; DINRAIL_BLESS=1 cargo test -p dinrail-tests --test promises openapi rewrites it",
            differs.unwrap_or(0) + 1
        );
    }
}

/// The structure of OpenAPI 3.1, as far as this document uses it.
#[test]
fn document_is_valid_openapi_3_1() {
    let document = document(&Runtime::new().start());
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."), "{}", document["openapi"]);
    ["title", "version", "description"].iter().for_each(|member| assert!(document["info"][member].is_string()));
    let mut ids = BTreeSet::new();
    for (path, verb, operation) in operations(&document) {
        let place = format!("{verb} {path}");
        assert!(path.starts_with('/'), "{place}");
        assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{place}: operationId is taken");
        assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{place} has no summary");
        assert!(operation["tags"].as_array().is_some_and(|tags| tags.len() == 1), "{place} has no tag");
        let role = operation["x-dinrail-role"].as_str().unwrap_or_default();
        assert!(["reader", "operator", "owner"].contains(&role), "{place} does not say who may: '{role}'");
        check_parameters(&place, path, operation);
        check_responses(&place, operation, &document);
        let body = &operation["requestBody"];
        assert!(body.is_null() || body["content"].as_object().is_some_and(|content| !content.is_empty()), "{place}");
        assert!(verb != "get" || body.is_null(), "{place} has a body");
    }
    let mut references = Vec::new();
    collect_references(&document, &mut references);
    for reference in references {
        let target = document.pointer(reference.strip_prefix('#').unwrap());
        assert!(target.is_some(), "{reference} leads nowhere");
    }
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        let wrong = jsonschema::meta::validate(schema).err();
        assert!(wrong.is_none(), "{name}: {wrong:?}");
    }
}

#[track_caller]
fn check_parameters(place: &str, path: &str, operation: &Value) {
    let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
    let mut keys = BTreeSet::new();
    for parameter in &parameters {
        let (name, at) = (parameter["name"].as_str().unwrap(), parameter["in"].as_str().unwrap());
        assert!(["path", "query", "header"].contains(&at), "{place}: {name} in {at}");
        assert!(keys.insert((at, name)), "{place}: {name} twice");
        assert!(
            parameter["description"].as_str().is_some_and(|text| !text.is_empty()),
            "{place}: {name} means nothing"
        );
        assert!(parameter["schema"].is_object(), "{place}: {name} has no schema");
        assert!(at != "path" || parameter["required"] == true, "{place}: {name} is in the path");
    }
    let in_path = |part: &'_ str| part.strip_prefix('{').and_then(|part| part.strip_suffix('}')).map(str::to_owned);
    let expected: BTreeSet<String> = path.split('/').filter_map(in_path).collect();
    let found: BTreeSet<String> =
        keys.iter().filter(|(at, _)| *at == "path").map(|(_, name)| (*name).to_owned()).collect();
    assert_eq!(found, expected, "{place}");
}

#[track_caller]
fn check_responses(place: &str, operation: &Value, document: &Value) {
    let responses = operation["responses"].as_object().unwrap();
    assert!(responses.keys().any(|status| status.starts_with('2')), "{place} never works");
    for status in ["401", "403", "500"] {
        assert!(responses.contains_key(status), "{place} lacks {status}");
    }
    assert!(operation["requestBody"].is_null() || responses.contains_key("413"), "{place} takes a body of any size");
    for (status, response) in responses {
        let response = resolved(document, response);
        assert!(status.len() == 3 && status.parse::<u16>().is_ok(), "{place}: {status}");
        assert!(
            response["description"].as_str().is_some_and(|text| !text.is_empty()),
            "{place}: {status} means nothing"
        );
        if !status.starts_with('2') {
            let schema = &response["content"]["application/json"]["schema"]["$ref"];
            assert_eq!(*schema, "#/components/schemas/ErrorDocument", "{place}: {status}");
        }
    }
}

/// What a reference leads to, or the value itself.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let target = value["$ref"].as_str().map(|reference| document.pointer(&reference[1..]).unwrap());
    target.unwrap_or(value)
}

fn collect_references(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            references.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|value| collect_references(value, references));
        }
        Value::Array(items) => items.iter().for_each(|value| collect_references(value, references)),
        _ => {}
    }
}

#[test]
fn answers_are_as_the_document_says() {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    runtime.deploy(&Manifest::new().module("w", "wayward").connect("w", "w"));
    let document = document(&runtime);
    let mut api = runtime.api();
    let mut ask = |verb: &str, pattern: &str, path: &str, body: Option<Value>, expected: u16| {
        let (status, answer) = api.ask(&verb.to_uppercase(), path, body.as_ref()).unwrap();
        assert_eq!(status, expected, "{verb} {path}: {answer}");
        let answers = &document["paths"][pattern][verb]["responses"];
        let told = resolved(&document, &answers[status.to_string()]);
        let mut schema = told["content"]["application/json"]["schema"].clone();
        assert!(schema.is_object(), "{verb} {pattern} does not say what {status} is");
        schema["components"] = document["components"].clone();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let wrong: Vec<String> =
            validator.iter_errors(&answer).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(wrong.is_empty(), "{verb} {path}: {wrong:#?}\n{answer:#}");
    };
    let twin = "/twins/{device}/modules/{module}";
    for (verb, pattern, path, body, status) in [
        ("get", "/health", "/health", None, 200),
        ("get", "/check", "/check", None, 200),
        ("get", "/modules", "/modules", None, 200),
        ("get", "/modules/{name}", "/modules/w", None, 200),
        ("get", "/modules/{name}", "/modules/nobody", None, 404),
        ("get", "/images", "/images", None, 200),
        ("get", "/routes", "/routes", None, 200),
        ("get", "/deployment", "/deployment", None, 200),
        ("get", "/deployment/export", "/deployment/export", None, 200),
        ("get", "/deployment/history", "/deployment/history", None, 200),
        ("get", "/deployment/history/{id}", "/deployment/history/1", None, 200),
        ("get", "/logs", "/logs", None, 200),
        ("get", twin, "/twins/Hannover01/modules/w", None, 200),
        ("patch", twin, "/twins/Hannover01/modules/w", Some(json!([])), 400),
        ("post", "/modules/{name}/inputs/{input}", "/modules/w/inputs/in", Some(json!({"bodyText": "x"})), 200),
        ("post", "/modules/{name}/stop", "/modules/w/stop", None, 200),
        ("post", "/modules", "/modules", Some(json!({"name": "v", "image": "wayward", "stopped": true})), 200),
        ("post", "/modules", "/modules", Some(json!({"name": "v", "image": "wayward"})), 409),
        ("delete", "/modules/{name}", "/modules/v?purge=true", None, 200),
    ] {
        ask(verb, pattern, path, body, status);
    }
}

#[test]
fn unknown_paths_and_verbs_are_answered_with_the_documents_paths() {
    let runtime = Runtime::new().start();
    let document = document(&runtime);
    for (verb, path, status) in [("GET", "/nonsense", 404), ("PATCH", "/modules", 405)] {
        let (answered, body) = runtime.api().ask(verb, path, None).unwrap();
        assert_eq!(answered, status, "{body}");
        let listed: Vec<&str> = body["error"]["details"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        for path in document["paths"].as_object().unwrap().keys() {
            let is_listed = |line: &&str| line.split([' ', '?']).any(|word| word == path);
            assert!(listed.iter().any(is_listed), "{path} is not in {listed:#?}");
        }
    }
}
