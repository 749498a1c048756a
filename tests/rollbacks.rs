//! A deployment that does not stay up is rolled back by itself, as a whole; a person can go back too.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Manifest, Runtime, SOON, c_module, fixture, misbehaving, wait_until};

fn runtime() -> Runtime {
    Runtime::new().supply(&[fixture("wayward"), misbehaving()]).start()
}

/// A module that panics some time after its start.
fn crashing(after_ms: u64) -> Value {
    json!({"misbehave": "panicInTimer", "afterMs": after_ms})
}

fn history(runtime: &Runtime) -> Vec<(i64, String, String)> {
    let history = runtime.json(&["deployment", "history"]);
    let text = |line: &Value, key: &str| line[key].as_str().unwrap().to_owned();
    let lines = history.as_array().unwrap().iter();
    lines.map(|line| (line["id"].as_i64().unwrap(), text(line, "status"), text(line, "origin"))).collect()
}

fn modules(runtime: &Runtime) -> Vec<String> {
    let list = runtime.json(&["list"]);
    list.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
}

fn note(runtime: &Runtime, name: &str) -> Value {
    runtime.json(&["twin", "get", name])["properties"]["desired"]["note"].clone()
}

fn expected(lines: &[(i64, &str, &str)]) -> Vec<(i64, String, String)> {
    lines.iter().map(|(id, status, origin)| (*id, (*status).to_owned(), (*origin).to_owned())).collect()
}

/// The last good one, and one that goes wrong after two seconds.
fn good_and_bad(runtime: &Runtime) -> (Manifest, Manifest) {
    let good = Manifest::new()
        .module("keeper", "wayward")
        .desired("keeper", json!({"note": 1}))
        .module("gone", "wayward")
        .connect("keeper", "gone");
    runtime.deploy(&good);
    // Also what a person set is back afterwards.
    runtime.cli(&["twin", "patch", "keeper", "note=operator", "--wait"]).ok();
    let bad = Manifest::new()
        .module("keeper", "wayward")
        .desired("keeper", json!({"note": 2}))
        .module("crash", "misbehaving")
        .desired("crash", crashing(2000))
        .connect("keeper", "crash")
        .health(5);
    (good, bad)
}

#[test]
fn a_new_module_that_crashes_after_two_seconds_is_rolled_back_by_itself() {
    let mut runtime = runtime();
    let (_, bad) = good_and_bad(&runtime);
    let before = runtime.module("keeper");
    let file = runtime.write("bad.json", bad.text());

    let deploy = runtime.cli(&["deploy", &file.to_string_lossy(), "--wait"]);

    deploy
        .refused(1, &["deployment 2 was rolled back", "crash: ", "panicked in on_timer, as told", "lib.rs:", "hint:"]);
    let check = |runtime: &Runtime| {
        let deployment = runtime.json(&["deployment"]);
        assert_eq!((&deployment["id"], &deployment["status"]), (&json!(3), &json!("applied")), "{deployment}");
        assert_eq!((&deployment["origin"], &deployment["rolledBack"]["id"]), (&json!("rollback to 1"), &json!(2)));
        assert_eq!(deployment["rolledBack"]["status"], "rolledBack");
        assert!(deployment["rolledBack"]["reason"].as_str().unwrap().contains("panicked in on_timer"), "{deployment}");
        let told = runtime.cli(&["deployment"]).ok().stdout;
        assert!(told.contains("was rolled back: crash: ") && told.contains("panicked in on_timer"), "{told}");
        let table = runtime.cli(&["deployment", "history"]).ok().stdout;
        assert!(table.contains("rolled back") && table.contains("panicked in on_timer"), "{table}");
        assert_eq!(modules(runtime), ["gone", "keeper"]);
        runtime.wait_for("gone", "running");
        assert_eq!(note(runtime, "keeper"), "operator");
        let routes = json!([["keeper-to-gone", &deployment["routes"][0][1]]]);
        assert_eq!(deployment["routes"], routes);
    };
    check(&runtime);
    assert_eq!(runtime.module("keeper")["lastStartTimeUtc"], before["lastStartTimeUtc"], "it was not restarted");
    wait_until(SOON, "the log tells it", || runtime.log().contains("is rolled back to deployment 1"));
    runtime.cli(&["send", "keeper", "in", "hello"]).ok();
    wait_until(SOON, "the route is in force", || runtime.events("gone").contains(&"message in 1 hello".to_owned()));
    runtime.kill9_and_launch();
    check(&runtime);
}

#[test]
fn the_gate_goes_on_after_a_kill_9() {
    let mut runtime = runtime();
    let (_, bad) = good_and_bad(&runtime);
    runtime.apply(&bad);
    runtime.wait_for("crash", "running");
    assert_eq!(runtime.json(&["deployment"])["status"], "applying");

    runtime.kill9_and_launch();

    wait_until(SOON, "it is rolled back", || runtime.json(&["deployment"])["rolledBack"]["id"] == 2);
    wait_until(SOON, "what was good is applied", || runtime.json(&["deployment"])["status"] == "applied");
    assert_eq!(modules(&runtime), ["gone", "keeper"]);
    assert_eq!(note(&runtime, "keeper"), "operator");
}

#[test]
fn a_kill_9_while_it_is_rolled_back_ends_in_the_good_one() {
    let mut runtime = runtime();
    let (_, bad) = good_and_bad(&runtime);
    runtime.apply(&bad.desired("crash", crashing(1)));
    wait_until(SOON, "it is being rolled back", || runtime.log().contains("is rolled back to deployment 1"));

    runtime.kill9_and_launch();

    wait_until(SOON, "what was good is applied", || runtime.json(&["deployment"])["status"] == "applied");
    assert_eq!(runtime.json(&["deployment"])["rolledBack"]["id"], 2);
    wait_until(SOON, "the new module is gone", || modules(&runtime) == ["gone", "keeper"]);
    assert_eq!(note(&runtime, "keeper"), "operator");
}

#[test]
fn new_desired_properties_that_a_running_module_does_not_survive_are_taken_back() {
    let runtime = runtime();
    let manifest = Manifest::new().module("w", "wayward").desired("w", json!({"note": 1}));
    runtime.deploy(&manifest);
    let next = manifest.desired("w", json!({"note": 2, "panicIn": ["desired"]})).health(5);
    let file = runtime.write("next.json", next.text());

    runtime.cli(&["deploy", &file.to_string_lossy(), "--wait"]).refused(1, &["rolled back", "w: ", "panic in desired"]);

    assert_eq!(note(&runtime, "w"), 1);
    runtime.cli(&["start", "w"]).ok();
    runtime.wait_for("w", "running");
}

#[test]
fn an_image_that_failed_its_gate_stays_barred_until_a_person_says_otherwise() {
    let mut runtime = Runtime::new().start();
    runtime.add_image(&c_module("hello", "1.0.0", &[]));
    // A moving reference: the newest version of all.
    runtime.deploy(&Manifest::new().module("hello", "hello"));
    let bad = c_module("hello", "1.1.0", &["-DFAIL_CREATE"]);
    std::fs::copy(bad, runtime.folder().join("hello.so")).unwrap();
    let file = runtime.write("next.json", Manifest::new().module("hello", "./hello.so").health(5).text());

    runtime.cli(&["deploy", &file.to_string_lossy(), "--wait"]).refused(1, &["rolled back", "asked to fail in create"]);

    let is_back = |runtime: &Runtime| {
        runtime.wait_for("hello", "running");
        assert_eq!(runtime.module("hello")["version"], "1.0.0");
        let shown = runtime.json(&["show", "hello"])["notes"].to_string();
        assert!(shown.contains("failed the health gate of deployment 2"), "{shown}");
    };
    is_back(&runtime);
    runtime.kill9_and_launch();
    is_back(&runtime);
    // Another image that arrives makes everybody look again.
    runtime.add_image(&c_module("other", "1.0.0", &[]));
    is_back(&runtime);

    runtime.cli(&["start", "hello"]).ok();
    wait_until(SOON, "it is tried again", || runtime.module("hello")["version"] == "1.1.0");
}

#[test]
fn what_a_deployment_took_over_from_a_person_is_given_back() {
    let runtime = runtime();
    let hello = c_module("hello", "1.0.0", &[]);
    std::fs::copy(hello, runtime.state().join("drop").join("libhello.so")).unwrap();
    runtime.wait_for("hello", "running");
    runtime.deploy(&Manifest::new().module("w", "wayward"));
    let bad = Manifest::new()
        .module("hello", "hello")
        .with("hello", "env", json!({"MODE": {"value": "fast"}}))
        .module("crash", "misbehaving")
        .desired("crash", crashing(1))
        .health(5);
    let file = runtime.write("bad.json", bad.text());

    runtime.cli(&["deploy", &file.to_string_lossy(), "--wait"]).refused(1, &["rolled back"]);

    assert_eq!(modules(&runtime), ["hello", "w"]);
    runtime.wait_for("hello", "running");
    assert_eq!(runtime.json(&["show", "hello"])["origin"], "drop");
}

#[test]
fn a_person_goes_back_to_the_last_good_one_or_to_any() {
    let runtime = runtime();
    runtime.cli(&["rollback"]).refused(1, &["no deployment is in force", "hint:"]);
    let one = Manifest::new().module("a", "wayward").desired("a", json!({"note": 1}));
    runtime.deploy(&one);
    runtime.cli(&["rollback"]).refused(1, &["no other good deployment", "hint:"]);
    runtime.deploy(&one.clone().desired("a", json!({"note": 2})).module("b", "wayward").connect("a", "b"));
    runtime.deploy(&Manifest::new().module("c", "wayward"));

    let done = runtime.cli(&["rollback", "--wait"]).ok();

    assert!(done.stdout.contains("rollback to 2"), "{}", done.stdout);
    assert_eq!(modules(&runtime), ["a", "b"]);
    assert_eq!(note(&runtime, "a"), 2);
    assert_eq!(runtime.json(&["rollback", "1", "--wait"])["origin"], "rollback to 1");
    assert_eq!((modules(&runtime), note(&runtime, "a")), (vec!["a".to_owned()], json!(1)));
    assert_eq!(runtime.json(&["deployment"])["routes"], json!([]));
    runtime.cli(&["rollback", "9"]).refused(1, &["no deployment 9", "history"]);
    let origin = |name: &str| runtime.folder().join(name).display().to_string();
    let file = origin("manifest.json");
    assert_eq!(
        history(&runtime),
        expected(&[
            (5, "applied", "rollback to 1"),
            (4, "applied", "rollback to 2"),
            (3, "applied", &file),
            (2, "applied", &file),
            (1, "applied", &file),
        ])
    );
}

#[test]
fn going_back_takes_the_images_that_ran_then_and_says_when_they_are_gone() {
    let runtime = Runtime::new().start();
    let add = |version: &str| runtime.add_image(&c_module("hello", version, &[]));
    add("1.0.0");
    runtime.deploy(&Manifest::new().module("hello", "hello"));
    let digest = runtime.module("hello")["digest"].as_str().unwrap().to_owned();
    runtime.deploy(&Manifest::new());
    add("1.1.0");

    runtime.cli(&["rollback", "1", "--wait"]).ok();
    assert_eq!(runtime.module("hello")["version"], "1.0.0", "a moving reference goes back too");

    runtime.deploy(&Manifest::new());
    runtime.cli(&["image", "remove", &digest]).ok();
    let gone = runtime.cli(&["rollback", "1"]);
    gone.refused(1, &["deployment 1 cannot be put in force again", &digest, "image add"]);
    assert_eq!(modules(&runtime), [] as [&str; 0]);
}

#[test]
fn what_a_service_unit_names_at_every_boot_does_not_undo_a_rollback() {
    let mut runtime = runtime();
    let manifest = Manifest::new().module("w", "wayward").desired("w", json!({"note": 1}));
    let file = runtime.write("line.json", manifest.text());
    runtime.kill9();
    runtime = runtime.args([Path::new(&file)]).start();
    runtime.wait_for("w", "running");
    wait_until(SOON, "it is applied", || runtime.json(&["deployment"])["status"] == "applied");
    runtime.deploy(&Manifest::new().module("x", "wayward"));
    runtime.cli(&["rollback", "--wait"]).ok();
    runtime.deploy(&Manifest::new().module("y", "wayward"));
    runtime.cli(&["rollback", "2", "--wait"]).ok();

    runtime.kill9_and_launch();

    assert_eq!(modules(&runtime), ["x"]);
    assert_eq!(runtime.json(&["deployment"])["origin"], "rollback to 2");
}

#[test]
fn a_deployment_that_cures_a_failed_module_is_not_failed_by_what_it_was() {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).config("[restart]\nmax_starts = 0\n").start();
    let sick = Manifest::new().module("w", "wayward").desired("w", json!({"panicIn": ["start"]}));
    let file = runtime.write("sick.json", sick.text());
    runtime.cli(&["deploy", &file.to_string_lossy()]).ok();
    runtime.wait_for("w", "failed");
    let cured =
        Manifest::new().module("w", "wayward").with("w", "env", json!({"A": {"value": "1"}})).desired("w", json!({}));

    runtime.deploy(&cured.health(1));

    let deployed = runtime.json(&["deployment"]);
    assert_eq!(deployed["status"], "applied", "{deployed}");
    assert_eq!(runtime.module("w")["status"], "running");
}

#[test]
fn desired_properties_that_a_module_refuses_do_not_pass_for_good() {
    let runtime = runtime();
    runtime.deploy(&Manifest::new().module("w", "wayward").desired("w", json!({"note": 1})));
    let refused = Manifest::new().module("w", "wayward").desired("w", json!({"note": 2, "panicIn": 7})).health(1);
    let file = runtime.write("refused.json", refused.text());

    let output = runtime.cli(&["deploy", &file.to_string_lossy(), "--force", "--wait"]);

    assert_eq!(output.code, 1, "{}", output.stdout);
    assert!(output.stderr.contains("w: it refuses its desired properties: panicIn"), "{}", output.stderr);
    assert_eq!(note(&runtime, "w"), 1, "what it had is back");
}

#[test]
fn the_gate_waits_for_the_answer_of_a_module_that_is_busy_for_longer() {
    let runtime = runtime();
    runtime.deploy(&Manifest::new().module("w", "wayward").desired("w", json!({"note": 1})));
    runtime.cli(&["send", "w", "in", "block"]).ok();
    wait_until(SOON, "it blocks", || runtime.events("w").iter().any(|event| event.ends_with("block")));
    let refused = Manifest::new().module("w", "wayward").desired("w", json!({"note": 2, "panicIn": 7})).health(1);
    let file = runtime.write("refused.json", refused.text());

    runtime.cli(&["deploy", &file.to_string_lossy(), "--force"]).ok();

    wait_until(SOON, "the gate would be over", || {
        runtime.json(&["deployment"])["steps"].to_string().contains("has not answered to its desired properties")
    });
    std::fs::write(runtime.data("w").join("go"), "").unwrap();
    wait_until(SOON, "it is rolled back", || runtime.json(&["deployment"])["rolledBack"]["id"] == 2);
    assert_eq!(note(&runtime, "w"), 1, "what it had is back");
}

#[test]
fn a_deployment_that_ends_the_runtime_again_and_again_is_taken_back() {
    let mut runtime = runtime();
    runtime.deploy(&Manifest::new().module("keeper", "wayward"));
    let deadly = c_module("deadly", "1.0.0", &["-DDEADLY=2"]);
    let both = Manifest::new().module("keeper", "wayward").module("deadly", &deadly.to_string_lossy()).health(20);
    let file = runtime.write("both.json", both.text());
    runtime.cli(&["deploy", &file.to_string_lossy()]).ok();

    for _ in 0..4 {
        runtime.wait_for_death();
        runtime.launch();
    }

    runtime.wait_for("keeper", "running");
    wait_until(SOON, "it is rolled back", || runtime.json(&["deployment"])["status"] == "applied");
    assert_eq!(modules(&runtime), ["keeper"]);
    let reason = runtime.json(&["deployment"])["rolledBack"]["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("the runtime ended 4 times"), "{reason}");
}

#[test]
fn properties_of_a_person_that_are_refused_within_the_gate_do_not_fail_the_deployment() {
    let runtime = runtime();
    let manifest = Manifest::new().module("w", "wayward").desired("w", json!({"note": 1})).health(4);
    let file = runtime.write("manifest.json", manifest.text());
    runtime.cli(&["deploy", &file.to_string_lossy()]).ok();
    runtime.wait_for("w", "running");

    assert_eq!(runtime.cli(&["twin", "patch", "w", "panicIn=7", "--force", "--wait"]).code, 1, "it is refused");

    wait_until(SOON, "it is found good", || runtime.json(&["deployment"])["status"] == "applied");
}
