//! A deployment is carried out step by step, in order, and each step says how far it is.

use serde_json::{Value, json};

use crate::harness::{Manifest, Runtime, SOON, c_module, fixture, misbehaving, wait_until};

fn runtime() -> Runtime {
    Runtime::new().supply(&[fixture("wayward"), misbehaving()]).start()
}

/// State of each step, by action and name.
fn steps(deployment: &Value) -> Vec<(String, String)> {
    let text = |step: &Value, key: &str| step[key].as_str().unwrap().to_owned();
    let steps = deployment["steps"].as_array().unwrap().iter();
    steps.map(|step| (format!("{} {}", text(step, "action"), text(step, "name")), text(step, "state"))).collect()
}

/// What the log says of instances, a word each: `first running`, `first stopped`.
fn ups_and_downs(log: &str) -> Vec<String> {
    let word = |line: &str| {
        let said = ["running", "stopped"].into_iter().find(|word| line.contains(&format!(" {word}")))?;
        let name = ["first", "second", "third"].into_iter().find(|name| line.contains(name))?;
        Some(format!("{name} {said}"))
    };
    log.lines().filter_map(word).collect()
}

#[test]
fn modules_start_in_their_order_and_stop_in_reverse_at_a_deployment_and_at_a_boot() {
    let mut runtime = runtime();
    let ordered = |mode: &str| {
        [("first", 1), ("second", 2), ("third", 3)].into_iter().fold(Manifest::new(), |manifest, (name, order)| {
            manifest.module(name, "wayward").with(name, "startupOrder", order).with(
                name,
                "env",
                json!({"MODE": {"value": mode}}),
            )
        })
    };
    let up = ["first running", "second running", "third running"];
    let down = ["third stopped", "second stopped", "first stopped"];

    // The log may be a moment behind.
    let logged = |runtime: &Runtime, from: usize, expected: &[&str]| {
        wait_until(SOON, "it is logged", || ups_and_downs(&runtime.log()[from..]).len() >= expected.len());
        assert_eq!(ups_and_downs(&runtime.log()[from..]), expected);
    };

    runtime.deploy(&ordered("a"));
    logged(&runtime, 0, &up);

    let length = runtime.log().len();
    runtime.deploy(&ordered("b"));
    logged(&runtime, length, &[down, up].concat());

    let length = runtime.log().len();
    runtime.kill9_and_launch();
    logged(&runtime, length, &up);
}

#[test]
fn a_group_that_waits_for_its_image_does_not_keep_the_next_one_down() {
    let mut runtime = runtime();
    let manifest = Manifest::new()
        .module("early", "absent")
        .with("early", "startupOrder", 1)
        .module("late", "wayward")
        .with("late", "startupOrder", 2);
    runtime.apply(&manifest);
    runtime.wait_for("late", "running");
    assert_eq!(runtime.module("early")["status"], "waiting");

    runtime.kill9_and_launch();
    runtime.wait_for("late", "running");
    assert_eq!(runtime.module("early")["status"], "waiting");
}

#[test]
fn a_module_that_waits_for_its_image_keeps_the_deployment_open_until_it_comes() {
    let runtime = Runtime::new().start();
    let file = runtime.write("m.json", Manifest::new().module("hello", "hello").health(1).text());
    let file = file.to_string_lossy();
    let plan = runtime.cli(&["plan", &file]).ok();
    assert!(plan.stdout.contains("waits for its image"), "{}", plan.stdout);

    runtime
        .cli(&["deploy", &file, "--wait", "--timeout", "500ms"])
        .refused(1, &["hello", "waits for its image", "hint:"]);
    let open = runtime.json(&["deployment"]);
    assert_eq!(open["status"], "applying");
    assert!(open["reason"].as_str().unwrap().contains("waits for its image"), "{open}");
    assert_eq!(steps(&open), [("start hello".to_owned(), "pending".to_owned())]);

    runtime.add_image(&c_module("hello", "1.0.0", &[]));
    wait_until(SOON, "it is found good", || runtime.json(&["deployment"])["status"] == "applied");
}

#[test]
fn what_runs_goes_on_until_the_image_that_takes_its_place_is_here() {
    let runtime = Runtime::new().start();
    runtime.add_image(&c_module("hello", "1.0.0", &[]));
    runtime.deploy(&Manifest::new().module("hello", "hello:1"));
    let before = runtime.module("hello");

    runtime.apply(&Manifest::new().module("hello", "hello:2").health(1));
    let now = runtime.module("hello");
    assert_eq!((&now["status"], &now["lastStartTimeUtc"]), (&json!("running"), &before["lastStartTimeUtc"]));
    assert_eq!(runtime.json(&["deployment"])["status"], "applying");

    runtime.add_image(&c_module("hello", "2.0.0", &[]));
    wait_until(SOON, "it is found good", || runtime.json(&["deployment"])["status"] == "applied");
    assert_eq!(runtime.module("hello")["version"], "2.0.0");
}

#[test]
fn steps_that_failed_are_told_one_by_one_and_what_runs_stays() {
    let manifest = Manifest::new()
        .module("good", "wayward")
        .desired("good", json!({"note": 1}))
        .module("bad", "wayward")
        .desired("bad", json!({"failIn": ["start"]}))
        .connect("good", "bad");
    // Without a gate, and with one but nothing to go back to.
    for health in [0, 1] {
        let runtime = runtime();
        let file = runtime.write("m.json", manifest.clone().health(health).text());
        runtime
            .cli(&["deploy", &file.to_string_lossy(), "--wait"])
            .refused(1, &["failed", "bad: ", "asked to fail in start", "what runs stays", "hint:"]);

        let deployment = runtime.json(&["deployment"]);
        assert_eq!(deployment["status"], "failed");
        let states = steps(&deployment);
        let state_of = |step: &str| states.iter().find(|(name, _)| name == step).map(|(_, state)| state.as_str());
        assert_eq!(state_of("start bad"), Some("failed"));
        for done in ["start good", "twin good", "twin bad", "route good-to-bad"] {
            assert_eq!(state_of(done), Some("done"), "{done} in {states:?}");
        }
        assert_eq!(runtime.module("good")["status"], "running");
        assert_eq!(runtime.module("bad")["status"], "backoff", "it goes on trying");
    }
}

#[test]
fn a_newer_deployment_supersedes_one_whose_gate_is_open() {
    let runtime = runtime();
    runtime.deploy(&Manifest::new().module("w", "wayward"));
    let slow = runtime.write("slow.json", Manifest::new().module("x", "wayward").health(600).text());
    let waits = runtime.follow(&["deploy", &slow.to_string_lossy(), "--wait"]);
    wait_until(SOON, "it is being applied", || runtime.json(&["deployment"])["id"] == 2);
    runtime.wait_for("x", "running");
    assert_eq!(runtime.json(&["deployment"])["status"], "applying");

    runtime.deploy(&Manifest::new().module("y", "wayward"));

    let (code, told) = waits.end();
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("deployment 2 was superseded") && told.contains("deployment 3"), "{told}");
    let history = runtime.json(&["deployment", "history"]);
    let statuses: Vec<_> = history.as_array().unwrap().iter().map(|line| line["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["applied", "superseded", "applied"]);
    let table = runtime.cli(&["deployment", "history"]).ok().stdout;
    assert!(table.contains("3 *") && table.contains("superseded") && table.contains("slow.json"), "{table}");
    assert_eq!(runtime.json(&["deployment", "2"])["modules"], json!(["x: wayward"]));
    runtime.cli(&["deployment", "9"]).refused(1, &["no deployment 9", "history"]);
}

#[test]
fn history_is_bounded_and_keeps_what_is_good() {
    let runtime = runtime();
    runtime.deploy(&Manifest::new().module("w", "wayward"));
    let mut api = runtime.api();
    let open = Manifest::new().module("w", "wayward").module("absent", "absent");
    for turn in 0..60 {
        let manifest = open.clone().desired("absent", json!({"turn": turn})).json();
        let (status, answer) = api.ask("PUT", "/deployment", Some(&json!({"manifest": manifest}))).unwrap();
        assert_eq!(status, 200, "{answer}");
    }
    let history = runtime.json(&["deployment", "history"]);
    let history = history.as_array().unwrap();
    assert_eq!(history.len(), 51);
    assert_eq!((&history[0]["id"], &history[50]["id"]), (&json!(61), &json!(1)), "the good one is kept");
}

#[test]
fn a_persons_stop_and_patch_survive_deployments_of_the_same_section() {
    let runtime = runtime();
    let manifest = Manifest::new().module("w", "wayward").desired("w", json!({"note": 1}));
    runtime.deploy(&manifest);
    runtime.cli(&["twin", "patch", "w", "note=2", "--wait"]).ok();
    runtime.cli(&["stop", "w"]).ok();

    let deployed = runtime.deploy(&manifest.clone().with("w", "version", "2").health(1));

    assert!(deployed["plan"].to_string().contains("stays stopped"), "{deployed}");
    assert_eq!(runtime.module("w")["status"], "stopped");
    assert_eq!(runtime.json(&["twin", "get", "w"])["properties"]["desired"]["note"], 2);
    let plan = runtime.write("m.json", manifest.desired("w", json!({"note": 3})).text());
    let plan = runtime.cli(&["plan", &plan.to_string_lossy()]).ok().stdout;
    assert_eq!(plan.matches("overwrites").count(), 1, "{plan}");
}
