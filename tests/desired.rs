//! Desired properties reach their module: at every start, and each change in order.

use serde_json::{Value, json};

use crate::harness::{Manifest, Runtime, SOON, fixture, wait_until};

fn wayward(manifest: &Manifest) -> Runtime {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    runtime.deploy(manifest);
    runtime
}

/// Versions and notes that the module was given as changes.
fn changes(runtime: &Runtime) -> Vec<(u64, Value)> {
    let events = runtime.events("w");
    let changes = events.iter().filter_map(|event| event.strip_prefix("desired ")?.split_once(' '));
    changes.map(|(version, note)| (version.parse().unwrap(), serde_json::from_str(note).unwrap())).collect()
}

#[test]
fn changes_are_delivered_once_each_and_in_order() {
    let runtime = wayward(&Manifest::new().module("w", "wayward"));
    let first = runtime.module("w")["desiredVersion"].as_u64().unwrap();

    for number in 1..=20 {
        runtime.cli(&["twin", "patch", "w", &format!("note={number}")]).ok();
    }
    wait_until(SOON, "all changes are there", || changes(&runtime).len() == 20);

    let notes: Vec<u64> = changes(&runtime).iter().map(|(_, note)| note.as_u64().unwrap()).collect();
    assert_eq!(notes, (1..=20).collect::<Vec<u64>>());
    // The twin that a handler reads may be ahead of its change, never behind it.
    for (index, (version, _)) in changes(&runtime).iter().enumerate() {
        assert!(*version > first + index as u64, "{version} for change {index} after {first}");
    }
}

#[test]
fn desired_properties_are_there_at_start_and_acknowledged() {
    let runtime = wayward(&Manifest::new().module("w", "wayward").desired("w", json!({"note": "from the manifest"})));

    assert_eq!(runtime.events("w"), ["create \"from the manifest\"", "start"]);
    let acknowledged = || {
        let twin = runtime.json(&["twin", "get", "w"]);
        let version = &twin["properties"]["desired"]["$version"];
        twin["properties"]["reported"]["acknowledged"] == json!({"version": version, "ok": true})
    };
    // It runs when it has started; what it reported is committed soon.
    wait_until(SOON, "it is acknowledged", acknowledged);
}

#[test]
fn change_while_it_is_stopped_is_there_at_its_next_start() {
    let runtime = wayward(&Manifest::new().module("w", "wayward"));
    runtime.cli(&["stop", "w"]).ok();
    runtime.wait_for("w", "stopped");

    runtime.cli(&["twin", "patch", "w", "note=1"]).ok();
    let patched = runtime.cli(&["twin", "patch", "w", r#"{"panicIn": ["message"]}"#]).ok();
    assert!(patched.stdout.contains("version"), "{}", patched.stdout);
    runtime.cli(&["start", "w"]).ok();
    runtime.wait_for("w", "running");

    assert_eq!(changes(&runtime), []);
    runtime.cli(&["twin", "patch", "w", "note=2", "--wait"]).ok();
    assert_eq!(changes(&runtime).last().unwrap().1, json!(2));
    runtime.cli(&["send", "w", "in", "hello"]).ok();
    wait_until(SOON, "it panics as told", || runtime.log().contains("asked to panic in message"));
}

#[test]
fn module_that_refuses_at_start_runs_with_what_it_accepted_last() {
    let mut runtime = wayward(&Manifest::new().module("w", "wayward").desired("w", json!({"note": "good"})));

    // `panicIn` is a list: a text is refused, while it runs and again when it starts.
    runtime
        .cli(&["twin", "patch", "w", "panicIn=text", "--force", "--wait"])
        .refused(1, &["w refused version", "panicIn"]);
    runtime.kill9_and_launch();
    runtime.wait_for("w", "running");

    let acknowledged = || runtime.json(&["twin", "get", "w"])["properties"]["reported"]["acknowledged"].clone();
    wait_until(SOON, "the refusal is acknowledged", || acknowledged()["ok"] == false);
    assert!(acknowledged()["error"].as_str().unwrap().contains("panicIn"), "{}", acknowledged());
    runtime.cli(&["twin", "patch", "w", r#"{"panicIn": null, "note": "better"}"#, "--wait"]).ok();
    assert_eq!(changes(&runtime).last().unwrap().1, json!("better"));
    assert_eq!(acknowledged()["ok"], true);
}

#[test]
fn replace_takes_away_what_it_does_not_name() {
    let runtime = wayward(&Manifest::new().module("w", "wayward").desired("w", json!({"note": 1, "other": {"a": 1}})));

    runtime.cli(&["twin", "replace", "w", r#"{"note": 2}"#]).ok();

    let mut desired = runtime.json(&["twin", "get", "w"])["properties"]["desired"].clone();
    desired.as_object_mut().unwrap().retain(|key, _| !key.starts_with('$'));
    assert_eq!(desired, json!({"note": 2}));
    wait_until(SOON, "the module has it", || changes(&runtime).iter().any(|(_, note)| *note == json!(2)));
}

#[test]
fn tags_stay_on_the_service_side() {
    let runtime = wayward(&Manifest::new().module("w", "wayward"));
    let before = runtime.module("w")["desiredVersion"].clone();

    let mut api = runtime.api();
    let patch = json!({"tags": {"line": 3}});
    let (status, twin) = api.ask("PATCH", "/twins/Hannover01/modules/w", Some(&patch)).unwrap();

    assert_eq!((status, &twin["tags"]), (200, &json!({"line": 3})));
    assert_eq!(runtime.module("w")["desiredVersion"], before);
    assert_eq!(changes(&runtime), []);
}
