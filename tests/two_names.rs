//! One image under two names is two instances.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::{Runtime, plugin_folder, workspace};

fn two_names() -> Runtime {
    let manifest = workspace().join("deployments/two-names.json");
    let runtime = Runtime::new().watch(plugin_folder()).args([manifest]).start();
    ["filter-high", "filter-low", "host-metrics"].iter().for_each(|name| runtime.wait_for(name, "running"));
    runtime
}

#[test]
fn one_image_under_two_names_is_two_instances_with_an_identity_each() {
    let runtime = two_names();

    let (high, low) = (runtime.module("filter-high"), runtime.module("filter-low"));

    assert_eq!(high["digest"], low["digest"]);
    assert_eq!(high["identity"], "/devices/Hannover01/modules/filter-high");
    assert_eq!(low["identity"], "/devices/Hannover01/modules/filter-low");
    let images = runtime.json(&["image", "list"]);
    let filter = images.as_array().unwrap().iter().find(|image| image["name"] == "filter").unwrap();
    let users: BTreeSet<&str> = filter["usedBy"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(users, BTreeSet::from(["filter-high", "filter-low"]));
}

#[test]
fn each_of_two_names_has_a_twin_of_its_own() {
    let runtime = two_names();

    runtime.cli(&["twin", "patch", "filter-low", "threshold=42", "--wait"]).ok();

    let threshold = |name: &str| runtime.json(&["twin", "get", name])["properties"]["desired"]["threshold"].clone();
    assert_eq!((threshold("filter-high"), threshold("filter-low")), (80.into(), 42.into()));
    let mut alarms = runtime.listen("FROM /messages/modules/filter-low/outputs/alarms");
    // Above one threshold, below the other one: a name that only these messages have.
    for name in ["filter-high", "filter-low"] {
        runtime.cli(&["twin", "patch", name, "name=test", "--wait"]).ok();
        runtime.cli(&["send", name, "readings", r#"{"name": "test", "value": 60}"#]).ok();
    }
    let alarm = alarms.next();
    assert_eq!((&alarm["body"]["name"], &alarm["body"]["threshold"]), (&"test".into(), &42.0.into()));
    let reported = runtime.json(&["twin", "get", "filter-high"])["properties"]["reported"]["alarms"].to_string();
    assert!(!reported.contains("test"), "{reported}");
}

#[test]
fn each_of_two_names_has_a_data_folder_of_its_own() {
    let runtime = two_names();

    let folder = |name: &str| runtime.json(&["show", name])["dataFolder"].as_str().unwrap().to_owned();

    let (high, low) = (folder("filter-high"), folder("filter-low"));
    assert_ne!(high, low);
    for folder in [high, low] {
        assert!(std::path::Path::new(&folder).is_dir(), "{folder}");
        assert!(folder.starts_with(&*runtime.state().to_string_lossy()), "{folder}");
    }
}

#[test]
fn two_names_restart_and_stop_apart() {
    let runtime = two_names();
    let before = runtime.module("filter-low");

    runtime.cli(&["stop", "filter-high"]).ok();
    runtime.wait_for("filter-high", "stopped");

    let after = runtime.module("filter-low");
    assert_eq!(after["status"], "running");
    assert_eq!(after["lastStartTimeUtc"], before["lastStartTimeUtc"]);
}
