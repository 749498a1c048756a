//! The device's own twin is reached by the modules that the deployment permits it.

use serde_json::{Value, json};

use crate::harness::{Manifest, Runtime, SOON, fixture, wait_until};

const DEVICE: &str = "/devices/Hannover01";

fn runtime(manifest: &Manifest) -> Runtime {
    let runtime = Runtime::new().supply(&[fixture("confidant")]).start();
    runtime.cli(&["twin", "patch", DEVICE, "zone=north"]).ok();
    runtime.deploy(manifest);
    runtime
}

fn permitted() -> Manifest {
    let manifest =
        Manifest::new().module("reporter", "confidant").module("reader", "confidant").module("none", "confidant");
    manifest.option("reporter", "deviceTwin", json!("report")).option("reader", "deviceTwin", json!("read"))
}

/// Version, form and patch of each change of the device's desired properties that a module was told.
fn told(runtime: &Runtime, name: &str) -> Vec<(u64, String, Value)> {
    let split = |event: &String| {
        let mut words = event.strip_prefix("device ")?.splitn(3, ' ');
        let (version, form) = (words.next()?.parse().ok()?, words.next()?.to_owned());
        Some((version, form, serde_json::from_str(words.next()?).ok()?))
    };
    runtime.events(name).iter().filter_map(split).collect()
}

#[test]
fn permitted_modules_are_told_the_devices_desired_properties_once_each_and_in_order() {
    let mut runtime = runtime(&permitted());
    for number in 1..=20 {
        runtime.cli(&["twin", "patch", DEVICE, &format!("note={number}")]).ok();
    }

    for name in ["reporter", "reader"] {
        wait_until(SOON, "all changes are there", || told(&runtime, name).len() == 21);
        let told = told(&runtime, name);
        assert_eq!(told[0], (2, "whole".to_owned(), json!({"zone": "north"})));
        let expected: Vec<_> = (1..=20).map(|note| (2 + note, "patch".to_owned(), json!({ "note": note }))).collect();
        assert_eq!(told[1..], expected);
    }
    assert!(told(&runtime, "none").is_empty());

    runtime.cli(&["stop", "reader"]).ok();
    runtime.wait_for("reader", "stopped");
    runtime.cli(&["twin", "patch", DEVICE, "note=21"]).ok();
    runtime.cli(&["start", "reader"]).ok();
    runtime.wait_for("reader", "running");
    assert_eq!(
        told(&runtime, "reader").last().unwrap(),
        &(23, "whole".to_owned(), json!({"zone": "north", "note": 21}))
    );
    runtime.kill9_and_launch();
    runtime.wait_for("reader", "running");
    assert_eq!(told(&runtime, "reader").len(), 23);
}

#[test]
fn what_one_module_reports_of_the_device_the_others_see() {
    let runtime = runtime(&permitted());

    let answer = runtime.cli(&["method", "reporter", "deviceReport", r#"{"plcs": {"online": 3}}"#]).ok();
    assert!(answer.stdout.contains(DEVICE), "{}", answer.stdout);

    let reported = runtime.json(&["twin", "get", DEVICE])["properties"]["reported"]["plcs"].clone();
    assert_eq!(reported, json!({"online": 3}));
    let seen = runtime.json(&["method", "reader", "deviceGet"]);
    assert_eq!(seen["payload"], json!({"desired": {"zone": "north"}, "reported": {"plcs": {"online": 3}}}));
    assert!(runtime.json(&["twin", "get", "reporter"])["properties"]["reported"].get("plcs").is_none());
}

#[test]
fn what_is_not_permitted_is_refused_with_what_to_write() {
    let runtime = runtime(&permitted());
    let write =
        |right: &str, name: &str| format!("write \"deviceTwin\": \"{right}\" into settings.createOptions of {name}");
    for (module, method, right) in
        [("none", "deviceGet", "read"), ("none", "deviceReport", "read"), ("reader", "deviceReport", "report")]
    {
        let refused = runtime.cli(&["method", module, method, "{}"]);
        assert!(refused.code == 1 && refused.stderr.contains(&write(right, module)), "{refused:?}");
    }

    let wrong = permitted().option("none", "devicetwin", json!("read"));
    let file = runtime.write("wrong.json", wrong.text());
    runtime.cli(&["plan", &file.to_string_lossy()]).refused(1, &["createOptions.devicetwin", "deviceTwin"]);
    let file = runtime.write("right.json", permitted().option("none", "deviceTwin", json!("read")).text());
    let plan = runtime.cli(&["plan", &file.to_string_lossy()]).ok().stdout;
    assert!(
        plan.contains("deviceTwin changed from none to read") && plan.contains("reads the device's own twin"),
        "{plan}"
    );
    runtime.cli(&["add", "added", "confidant", "--device-twin", "read"]).ok();
    runtime.wait_for("added", "running");
    assert_eq!(told(&runtime, "added").len(), 1);
}

#[test]
fn a_secret_in_the_devices_twin_is_given_to_those_who_are_allowed_it() {
    let runtime = runtime(&permitted());
    runtime.cli_with_input(&["secret", "set", "site-key", "--for", "reader"], b"a value of the site").ok();
    runtime.cli(&["twin", "patch", DEVICE, r#"{"key": {"$secret": "site-key"}}"#]).ok();

    wait_until(SOON, "both are told", || told(&runtime, "reader").len() == 2 && told(&runtime, "reporter").len() == 2);
    assert_eq!(told(&runtime, "reader")[1].2, json!({"key": "a value of the site"}));
    assert_eq!(told(&runtime, "reporter")[1].2, json!({"key": {"$secret": "site-key"}}));
    runtime.cli_with_input(&["secret", "set", "site-key"], b"another value of it").ok();
    wait_until(SOON, "the new one is there", || told(&runtime, "reader").len() == 3);
    assert_eq!(told(&runtime, "reader")[2], (4, "patch".to_owned(), json!({"key": "another value of it"})));
}
