//! Stopping: a person's stop holds, the runtime's end is orderly, and who does not return holds up nobody.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Manifest, Runtime, SOON, fixture, wait_until};

fn wayward(manifest: &Manifest) -> Runtime {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    runtime.deploy(manifest);
    runtime
}

#[test]
fn stop_holds_over_restarts_and_deployments_and_says_who_and_when() {
    let manifest = Manifest::new().module("w", "wayward").module("other", "wayward");
    let mut runtime = wayward(&manifest);

    runtime.cli(&["stop", "w"]).ok();
    runtime.wait_for("w", "stopped");
    for step in ["kill -9", "restart", "deploy"] {
        match step {
            "kill -9" => runtime.kill9_and_launch(),
            "restart" => {
                runtime.stop();
                runtime.launch();
            }
            _ => drop(runtime.deploy(&manifest.clone().desired("w", json!({"note": 1})))),
        }
        runtime.wait_for("other", "running");
        let row = runtime.module("w");
        assert_eq!(row["status"], "stopped", "after {step}");
        let description = row["statusDescription"].as_str().unwrap();
        assert!(description.contains("stopped by "), "after {step}: {description}");
        assert!(description.contains("T") && description.ends_with('Z'), "after {step}: {description}");
    }
    assert_eq!(runtime.events("w"), ["create", "start", "stop"]);

    runtime.cli(&["start", "w"]).ok();
    runtime.wait_for("w", "running");
    runtime.kill9_and_launch();
    runtime.wait_for("w", "running");
}

#[test]
fn stop_that_was_acknowledged_holds_over_a_kill_9_right_after_it() {
    let mut runtime = wayward(&Manifest::new().module("w", "wayward").module("other", "wayward"));
    for _ in 0..5 {
        runtime.cli(&["stop", "w"]).ok();
        runtime.kill9_and_launch();
        runtime.wait_for("other", "running");
        assert_eq!(runtime.module("w")["status"], "stopped");

        runtime.cli(&["start", "w"]).ok();
        runtime.kill9_and_launch();
        runtime.wait_for("w", "running");
    }
}

#[test]
fn sigterm_stops_modules_in_reverse_start_order() {
    let names = ["third", "first", "second"];
    let manifest = names.iter().fold(Manifest::new(), |m, name| m.module(name, "wayward"));
    let manifest = manifest.with("first", "startupOrder", json!(1));
    let manifest = manifest.with("second", "startupOrder", json!(2)).with("third", "startupOrder", json!(3));
    let mut runtime = wayward(&manifest);

    runtime.stop();

    let log = runtime.log();
    let stopped: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("stopped as asked"))
        .map(|line| names.iter().find(|name| line.contains(**name)).unwrap())
        .copied()
        .collect();
    assert_eq!(stopped, ["third", "second", "first"]);
    assert!(names.iter().all(|name| runtime.events(name).last().unwrap() == "stop"));
}

#[test]
fn one_that_never_returns_is_named_and_holds_up_nobody() {
    let manifest = Manifest::new()
        .module("stuck", "wayward")
        .with("stuck", "startupOrder", json!(5))
        .desired("stuck", json!({"hangIn": ["stop"]}))
        .option("stuck", "stopGraceSecs", json!(1))
        .module("good", "wayward");
    let mut runtime = wayward(&manifest);

    let begun = Instant::now();
    runtime.stop();

    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    let log = runtime.log();
    let names_it = |line: &str| line.contains("stuck") && line.contains("never returned");
    assert!(log.lines().any(names_it), "{log}");
    assert_eq!(runtime.events("good"), ["create", "start", "stop"]);
}

#[test]
fn one_that_never_returns_is_given_up_and_the_others_go_on() {
    let manifest =
        Manifest::new().module("stuck", "wayward").option("stuck", "stopGraceSecs", json!(1)).module("good", "wayward");
    let mut runtime = wayward(&manifest);
    runtime.cli(&["send", "stuck", "in", "hang"]).ok();
    wait_until(SOON, "it hangs", || runtime.events("stuck").iter().any(|event| event.ends_with("hang")));

    runtime.cli(&["stop", "stuck"]).ok();
    // While the grace runs, everything else answers.
    let begun = Instant::now();
    runtime.cli(&["twin", "patch", "good", "note=1", "--wait"]).ok();
    assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());
    runtime.wait_for("stuck", "failed");

    let row = runtime.module("stuck");
    assert!(row["statusDescription"].as_str().unwrap().contains("never returned within 1 s"), "{row}");
    let refused = runtime.cli(&["start", "stuck"]);
    refused.refused(1, &["stuck cannot start", "never returned", "hint: restart the runtime"]);
    assert_eq!(runtime.module("good")["status"], "running");

    // The stop was a person's: it holds, and after a start everything is as it was.
    runtime.kill9_and_launch();
    runtime.wait_for("good", "running");
    assert_eq!(runtime.module("stuck")["status"], "stopped");
}

#[test]
fn runtime_without_modules_ends_at_once() {
    let mut runtime = Runtime::new().start();

    let begun = Instant::now();
    runtime.stop();

    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[test]
fn second_runtime_on_the_same_state_directory_is_refused() {
    let runtime = wayward(&Manifest::new().module("w", "wayward"));

    let output = runtime.run_command().stderr(std::process::Stdio::piped()).output().unwrap();

    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains(&format!("process {}", runtime.pid())), "{told}");
    assert!(told.contains(&*runtime.state().to_string_lossy()), "{told}");
    assert!(told.contains("hint:"), "{told}");
    assert_eq!(runtime.module("w")["status"], "running");
}

#[test]
fn hundred_modules_of_which_three_ignore_stop_end_within_the_grace_and_the_three_are_named() {
    let stuck = ["stuck-a", "stuck-b", "stuck-c"];
    let names: Vec<String> = (0..97).map(|at| format!("w{at:02}")).collect();
    let manifest =
        names.iter().fold(Manifest::new(), |m, name| m.module(name, "wayward").with(name, "startupOrder", 1));
    // Each in a group of its own, so that each could hold up the others.
    let manifest = stuck.iter().zip(2..).fold(manifest, |m, (name, order)| {
        m.module(name, "wayward").with(name, "startupOrder", order).desired(name, json!({"hangIn": ["stop"]})).option(
            name,
            "stopGraceSecs",
            json!(3),
        )
    });
    let manifest = names.iter().fold(manifest, |m, name| m.option(name, "stopGraceSecs", json!(3)));
    let mut runtime = wayward(&manifest);

    let begun = Instant::now();
    runtime.stop();

    // The grace, and what it takes a busy machine to close the databases.
    assert!(begun.elapsed() < Duration::from_secs(3 + 10), "{:?}", begun.elapsed());
    let log = runtime.log();
    let last = log.lines().last().unwrap();
    assert!(last.contains("their threads did not return: stuck-a, stuck-b, stuck-c"), "{last}");
    assert!(names.iter().all(|name| runtime.events(name).last().unwrap() == "stop"), "everybody else has stopped");
}
