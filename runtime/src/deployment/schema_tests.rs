use std::collections::BTreeSet;

use super::super::Manifest;
use super::*;

/// Says what `value` breaks, by the rules that the schema uses. A rule that it does not know fails the test.
struct Check<'s> {
    root: &'s Value,
    broken: Vec<String>,
}

fn broken(value: &Value) -> Vec<String> {
    let root = schema();
    let mut check = Check { root: &root, broken: Vec::new() };
    check.value(&root, value, "");
    check.broken
}

impl Check<'_> {
    fn holds(&self, schema: &Value, value: &Value) -> bool {
        let mut inner = Check { root: self.root, broken: Vec::new() };
        inner.value(schema, value, "");
        inner.broken.is_empty()
    }

    fn value(&mut self, schema: &Value, value: &Value, path: &str) {
        let Value::Object(rules) = schema else { return assert_eq!(schema, &Value::Bool(true)) };
        for (rule, said) in rules {
            let number = || said.as_f64().unwrap();
            let holds = match rule.as_str() {
                "$schema" | "$defs" | "title" | "description" | "default" => true,
                "additionalProperties" | "properties" | "patternProperties" => true,
                "$ref" => {
                    let target = self.root.pointer(said.as_str().unwrap().strip_prefix('#').unwrap()).unwrap();
                    self.value(target, value, path);
                    true
                }
                "anyOf" => said.as_array().unwrap().iter().any(|schema| self.holds(schema, value)),
                "not" => !self.holds(said, value),
                "type" => match said.as_str().unwrap() {
                    "object" => value.is_object(),
                    "string" => value.is_string(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "number" => value.is_number(),
                    "null" => value.is_null(),
                    other => panic!("type {other}"),
                },
                "const" => value == said,
                "enum" => said.as_array().unwrap().contains(value),
                "minimum" => value.as_f64().is_none_or(|value| value >= number()),
                "maximum" => value.as_f64().is_none_or(|value| value <= number()),
                "minProperties" => value.as_object().is_none_or(|members| members.len() as f64 >= number()),
                "pattern" => value.as_str().is_none_or(|text| matches(said.as_str().unwrap(), text)),
                "propertyNames" => {
                    let pattern = said["pattern"].as_str().unwrap();
                    value.as_object().is_none_or(|members| members.keys().all(|key| matches(pattern, key)))
                }
                "required" => value.as_object().is_none_or(|members| {
                    said.as_array().unwrap().iter().all(|key| members.contains_key(key.as_str().unwrap()))
                }),
                other => panic!("the rule {other} is not known here"),
            };
            if !holds {
                self.broken.push(format!("{path}: {rule} {said}"));
            }
        }
        for (key, member) in value.as_object().into_iter().flatten() {
            let path = format!("{path}/{key}");
            let named = rules.get("properties").and_then(|properties| properties.get(key));
            let patterns = rules.get("patternProperties").and_then(Value::as_object).into_iter().flatten();
            let fitting: Vec<&Value> =
                named.into_iter().chain(patterns.filter(|(p, _)| matches(p, key)).map(|(_, schema)| schema)).collect();
            fitting.iter().for_each(|schema| self.value(schema, member, &path));
            match rules.get("additionalProperties") {
                Some(Value::Bool(false)) if fitting.is_empty() => self.broken.push(format!("{path}: unknown key")),
                Some(schema @ Value::Object(_)) if fitting.is_empty() => self.value(schema, member, &path),
                _ => {}
            }
        }
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    regex::Regex::new(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}")).is_match(text)
}

#[test]
fn every_key_of_the_reader_is_in_the_schema_and_none_else() {
    let schema = schema();
    for (place, known) in known_keys() {
        let object = schema.pointer(place).unwrap_or_else(|| panic!("the schema has no {place}"));
        let described: BTreeSet<&str> = object["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        let known: BTreeSet<&str> = known.into_iter().collect();
        assert_eq!(described, known, "{place} in deployment/schema.rs (left) and the reader (right) differ");
    }
}

#[test]
fn every_part_of_the_schema_is_reached_and_every_key_is_described_for_people() {
    fn described(value: &Value, path: &str) {
        for (key, property) in value.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let says = ["description", "$ref", "properties", "const"].iter().any(|rule| property.get(rule).is_some());
            let is_plain = property["type"] == "null" || property["type"] == "string" || key == "schemaVersion";
            assert!(says || is_plain, "{path}/{key} is not described");
            described(property, &format!("{path}/{key}"));
        }
    }
    let schema = schema();
    for (name, part) in schema["$defs"].as_object().unwrap() {
        described(part, name);
        let reference = format!("\"#/$defs/{name}\"");
        assert!(schema.to_string().contains(&reference), "nothing refers to {name}");
    }
}

/// A manifest with one module `a`, one route `r`, and desired properties of `a`.
fn manifest(module: Value, route: Value, desired: Value) -> Value {
    json!({"$schema": "manifest.schema.json", "modulesContent": {
        "$edgeAgent": {"properties.desired": {"schemaVersion": "1.1", "modules": {"a": module}}},
        "$edgeHub": {"properties.desired": {"schemaVersion": "1.3", "routes": {"r": route}}},
        "a": desired,
    }})
}

fn module(extra: Value) -> Value {
    let mut module = json!({"type": "library", "settings": {"image": "filter"}});
    module.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    module
}

const ROUTE: &str = "FROM /messages/modules/a/* INTO $upstream";

#[test]
fn the_schema_and_the_reader_take_and_refuse_the_same() {
    let with = |module: Value| manifest(module, json!(ROUTE), json!({"properties.desired": {}}));
    let options = |options: Value| with(module(json!({"settings": {"image": "a", "createOptions": options}})));
    let routed = |route: Value| manifest(module(json!({})), route, json!({"properties.desired.a.b": 1}));
    let good = [
        with(module(json!({}))),
        with(module(json!({
            "version": "1", "status": "stopped", "restartPolicy": "never", "imagePullPolicy": "never", "startupOrder": 0,
            "env": {"A": {"value": ""}}, "configuration": {"id": "x"}}))),
        options(json!("{\"isolation\": \"thread\"}")),
        options(json!({
            "isolation": "process", "limits": {"memoryBytes": 1, "cpuPercent": 1, "openFiles": 1}, "stopGraceSecs": 0.5,
            "watchdogSecs": 0, "stackBytes": 65536})),
        with(module(
            json!({"settings": {"image": "a", "createOptions": "{\"isola", "createOptions01": "tion\": \"thread\"}"}}),
        )),
        routed(json!(null)),
        routed(json!({"route": ROUTE, "priority": 0, "timeToLiveSecs": 0, "durability": "memory", "onFull": "spill",
            "maxMessageBytes": 1})),
        json!({"id": "base", "priority": 1, "content": {"deviceContent": null, "modulesContent": {
            "$edgeAgent": {"properties.desired": {"schemaVersion": "1", "runtime": 1, "systemModules": {}},
                "properties.desired.modules.a": module(json!({}))},
            "$edgeHub": {"properties.desired.schemaVersion": "1.0.0", "properties.desired.routes.r": ROUTE}}}}),
    ];
    let bad = [
        json!([]),
        json!({}),
        json!({"modulesContent": {}}),
        json!({"modulesContent": {"$edgeAgent": {}, "$edgeHub": {}}}),
        json!({"modulesContent": good[0]["modulesContent"], "more": 1}),
        with(json!({"settings": {"image": "a"}})),
        with(module(json!({"type": "docker"}))),
        with(module(json!({"settings": {}}))),
        with(module(json!({"settings": {"image": " "}}))),
        with(module(json!({"settings": {"image": 1}}))),
        with(module(json!({"restartPolicy": "sometimes"}))),
        with(module(json!({"status": 1}))),
        with(module(json!({"startupOrder": -1}))),
        with(module(json!({"startupOrder": 4_294_967_296_u64}))),
        with(module(json!({"env": {"A": "b"}}))),
        with(module(json!({"env": {"A=": {"value": "b"}}}))),
        with(module(json!({"startOrder": 1}))),
        options(json!({"HostConfig": {}})),
        options(json!({"limits": {"openFiles": 0}})),
        options(json!({"stackBytes": 1})),
        options(json!({"watchdogSecs": -1})),
        options(json!([])),
        routed(json!(1)),
        routed(json!({"priority": 1})),
        routed(json!({"route": ROUTE, "priority": 10})),
        routed(json!({"route": ROUTE, "durability": "tape"})),
        routed(json!({"route": ROUTE, "timeToLiveSecs": -1})),
        manifest(module(json!({})), json!(ROUTE), json!({})),
        manifest(module(json!({})), json!(ROUTE), json!({"desired": {}})),
        manifest(module(json!({})), json!(ROUTE), json!({"properties.desired": []})),
        manifest(module(json!({})), json!(ROUTE), json!({"properties.desired": {"$version": 1}})),
        json!({"modulesContent": {
            "$edgeAgent": {"properties.desired": {"schemaVersion": "1.2"}},
            "$edgeHub": {"properties.desired": {"schemaVersion": "1.0"}}}}),
        json!({"modulesContent": {
            "$edgeAgent": {"properties.desired": {"schemaVersion": "1.0", "modules": {"$a": module(json!({}))}}},
            "$edgeHub": {"properties.desired": {"schemaVersion": "1.0", "routes": {"a.b": ROUTE}}}}}),
    ];
    for good in good {
        assert_eq!(broken(&good), [] as [String; 0], "{good:#}");
        assert!(Manifest::parse(&good.to_string()).is_ok(), "{good:#}");
    }
    for bad in bad {
        assert!(!broken(&bad).is_empty(), "the schema takes {bad:#}");
        assert!(Manifest::parse(&bad.to_string()).is_err(), "the reader takes {bad}");
    }
}

#[test]
fn the_manifests_that_come_with_dinrail_fit_the_schema() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../deployments");
    let mut seen = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let file = file.unwrap().path();
        let name = file.display().to_string();
        let Some(format) = crate::document::Format::of_name(&name) else { continue };
        let text = std::fs::read_to_string(&file).unwrap();
        let document = crate::document::Document::read(&text, Some(format)).unwrap_or_else(|p| panic!("{name}: {p}"));
        assert_eq!(broken(&document.value), [] as [String; 0], "{name}");
        assert!(Manifest::parse_with(&text, Some(format), &|_| Ok(())).is_ok(), "{name}");
        seen += 1;
    }
    assert!(seen >= 2);
}
