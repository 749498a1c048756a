//! A worker that does not get on is found, named with what it is in, and dealt with as its restart policy says.

use serde_json::json;

use crate::harness::{Manifest, Runtime, SOON, fixture, wait_until};

fn wayward(manifest: &Manifest) -> Runtime {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    let file = runtime.write("manifest.json", manifest.text());
    runtime.cli(&["deploy", &file.to_string_lossy()]).ok();
    runtime
}

fn watched(policy: &str) -> Manifest {
    let manifest = Manifest::new().module("w", "wayward").with("w", "restartPolicy", json!(policy));
    manifest.option("w", "watchdogSecs", json!(0.3)).option("w", "stopGraceSecs", json!(0.5))
}

#[test]
fn call_that_lasts_is_named_everywhere_and_forgiven_when_it_ends() {
    let runtime = wayward(&watched("on-failure").module("other", "wayward"));
    runtime.wait_for("w", "running");
    let started = runtime.module("w")["lastStartTimeUtc"].clone();

    runtime.cli(&["send", "w", "in", "block"]).ok();
    runtime.wait_for("w", "unhealthy");

    let row = runtime.module("w");
    let said = row["statusDescription"].as_str().unwrap();
    assert!(said.starts_with("in the handler of input in for "), "{said}");
    let show = runtime.json(&["show", "w"]);
    assert_eq!(show["reason"].as_str().unwrap().split(" for ").next(), Some("in the handler of input in"));
    let (_, health) = runtime.api().ask("GET", "/health", None).unwrap();
    assert_eq!(health["status"], "degraded");
    assert!(health["notes"].to_string().contains("w is unhealthy: in the handler of input in"), "{health}");
    assert_eq!(runtime.module("other")["status"], "running");

    std::fs::write(runtime.state().join("data/w/go"), "").unwrap();
    runtime.wait_for("w", "running");
    assert_eq!((runtime.module("w")["lastStartTimeUtc"].clone(), runtime.events("w").len()), (started, 4));
    wait_until(SOON, "the log says so", || runtime.log().contains("answers again"));
}

#[test]
fn worker_that_never_answers_is_stopped_given_up_and_named() {
    let runtime = wayward(&watched("on-unhealthy"));
    runtime.wait_for("w", "running");

    runtime.cli(&["send", "w", "in", "hang"]).ok();
    runtime.wait_for("w", "failed");

    let said = runtime.module("w")["statusDescription"].to_string();
    assert!(said.contains("never returned within"), "{said}");
    assert!(runtime.log().contains("unhealthy: in the handler of input in for "), "{}", runtime.log());
}

#[test]
fn create_and_start_that_never_return_are_found_too() {
    for handler in ["create", "start"] {
        let runtime = wayward(&watched("on-failure").desired("w", json!({ "hangIn": [handler] })));

        runtime.wait_for("w", "unhealthy");

        let said = runtime.module("w")["statusDescription"].to_string();
        assert!(said.contains(&format!("in {handler} for ")), "{said}");
    }
}

#[test]
fn without_a_watchdog_nobody_is_accused() {
    let manifest = watched("on-unhealthy").option("w", "watchdogSecs", json!(0));
    let manifest = manifest.module("x", "wayward").option("x", "watchdogSecs", json!(0.1));
    let runtime = wayward(&manifest.with("x", "restartPolicy", json!("never")));
    ["w", "x"].into_iter().for_each(|name| runtime.wait_for(name, "running"));

    runtime.cli(&["send", "w", "in", "block"]).ok();
    runtime.cli(&["send", "x", "in", "block"]).ok();
    runtime.wait_for("x", "unhealthy");

    wait_until(SOON, "w blocks", || runtime.events("w").iter().any(|event| event.ends_with("block")));
    assert_eq!(runtime.module("w")["status"], "running");
}

#[test]
fn default_of_the_watchdog_is_a_setting() {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).config("[instance]\nwatchdog_secs = 0.2\n").start();
    runtime.cli(&["add", "w", "wayward", "--restart-policy", "on-failure"]).ok();
    runtime.wait_for("w", "running");

    runtime.cli(&["send", "w", "in", "block"]).ok();

    runtime.wait_for("w", "unhealthy");
}

#[test]
fn show_says_what_was_refused_how_it_ended_and_when_it_starts_again() {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).config("[restart]\nfirst_delay_secs = 3600\n").start();
    runtime.cli(&["add", "w", "wayward"]).ok();
    runtime.wait_for("w", "running");
    runtime.cli(&["twin", "patch", "w", "panicIn=3", "--force", "--wait"]).refused(1, &["panicIn"]);
    let refused = runtime.json(&["show", "w"])["refused"].clone();
    assert_eq!(refused["version"], 2);
    assert!(refused["error"].as_str().unwrap().contains("panicIn"), "{refused}");

    runtime.cli(&["send", "w", "in", "park"]).ok();
    wait_until(SOON, "it is parked", || runtime.json(&["show", "w"])["parked"] == 1);
    runtime.cli(&["send", "w", "in", "panic"]).ok();
    runtime.wait_for("w", "backoff");

    let show = runtime.json(&["show", "w"]);
    let ended = show["lastExit"].as_str().unwrap();
    assert!(ended.contains("panicked at ") && ended.contains("wayward.rs:"), "{ended}");
    assert!(show["nextStartTimeUtc"].as_str().unwrap() > show["lastExitTimeUtc"].as_str().unwrap());
    let text = runtime.cli(&["show", "w"]).ok().stdout;
    assert!(text.contains("parked       1 message,") && text.contains("refused      desired version 2"), "{text}");
}
