//! What fails is started again, later each time, and left alone when that does not help.

use serde_json::{Value, json};

use crate::harness::{Manifest, Runtime, SOON, fixture, wait_until};

/// Restarts at once, three times at most.
const QUICK: &str = "[restart]\nfirst_delay_secs = 0.01\nmax_delay_secs = 0.05\nmax_starts = 3\njitter_percent = 0\n";

fn wayward(config: &str, manifest: &Manifest) -> Runtime {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).config(config).start();
    let file = runtime.write("manifest.json", manifest.text());
    runtime.cli(&["deploy", &file.to_string_lossy()]).ok();
    runtime
}

fn one(desired: Value) -> Manifest {
    Manifest::new().module("w", "wayward").desired("w", desired)
}

#[test]
fn panic_is_caught_and_the_instance_started_again() {
    let runtime = wayward(QUICK, &one(json!({})).module("other", "wayward"));
    runtime.wait_for("w", "running");
    runtime.wait_for("other", "running");
    let other = runtime.module("other");

    runtime.cli(&["send", "w", "in", "panic"]).ok();
    wait_until(SOON, "it was started again", || runtime.events("w").iter().filter(|e| *e == "start").count() > 1);

    assert!(runtime.log().contains("asked to panic by a message"), "the log names the panic");
    assert!(runtime.log().contains("wayward.rs:"), "the log names its place");
    let now = runtime.module("other");
    assert_eq!((&now["status"], &now["restartCount"]), (&json!("running"), &json!(0)));
    assert_eq!(now["lastStartTimeUtc"], other["lastStartTimeUtc"]);
}

#[test]
fn backoff_is_shown_with_reason_and_count() {
    let runtime =
        wayward("[restart]\nfirst_delay_secs = 3600\nmax_delay_secs = 7200\n", &one(json!({"panicIn": ["start"]})));

    runtime.wait_for("w", "backoff");

    let row = runtime.module("w");
    let description = row["statusDescription"].as_str().unwrap();
    assert!(description.contains("asked to panic in start"), "{description}");
    assert!(description.contains("starts again in"), "{description}");
    assert!(description.contains("failure 1 of at most 20"), "{description}");
    assert_eq!((&row["restartCount"], &row["exitCode"]), (&json!(1), &json!(1)));
    let show = runtime.json(&["show", "w"]);
    assert!(show["nextStep"].as_str().unwrap().contains("dinrail start w"), "{show}");
}

#[test]
fn spent_budget_leaves_it_failed_with_the_reason() {
    for handler in ["create", "start"] {
        let runtime = wayward(QUICK, &one(json!({"panicIn": [handler]})));

        runtime.wait_for("w", "failed");

        let row = runtime.module("w");
        let description = row["statusDescription"].as_str().unwrap();
        assert!(description.contains(&format!("asked to panic in {handler}")), "{description}");
        assert!(description.contains("given up after 3 restarts"), "{description}");
        assert_eq!(runtime.events("w").iter().filter(|event| *event == "create").count(), 4);
    }
}

#[test]
fn an_error_of_start_counts_as_a_panic_does() {
    let runtime = wayward(QUICK, &one(json!({"failIn": ["start"]})));

    runtime.wait_for("w", "failed");

    let description = runtime.module("w")["statusDescription"].to_string();
    assert!(description.contains("asked to fail in start"), "{description}");
    assert!(runtime.events("w").contains(&"stop".to_owned()), "what start opened is closed");
}

#[test]
fn start_gives_a_failed_instance_another_chance() {
    let runtime = wayward(QUICK, &one(json!({"panicIn": ["start"]})));
    runtime.wait_for("w", "failed");

    // The cause is removed, which alone changes nothing.
    runtime.cli(&["twin", "patch", "w", r#"{"panicIn": []}"#]).ok();
    assert_eq!(runtime.module("w")["status"], "failed");
    runtime.cli(&["start", "w"]).ok();

    runtime.wait_for("w", "running");
    assert_eq!(runtime.module("w")["restartCount"], 0);
}

#[test]
fn restart_policy_never_leaves_it_failed_at_once() {
    let runtime = wayward(QUICK, &one(json!({"panicIn": ["start"]})).with("w", "restartPolicy", json!("never")));

    runtime.wait_for("w", "failed");

    let description = runtime.module("w")["statusDescription"].to_string();
    assert!(description.contains("restart policy is never"), "{description}");
    assert_eq!(runtime.events("w").iter().filter(|event| *event == "create").count(), 1);
}

#[test]
fn panic_in_each_handler_ends_in_a_restart_and_nothing_else() {
    let desired: Vec<(&str, Value)> =
        ["desired", "timer", "message"].iter().map(|handler| (*handler, json!({"panicIn": [handler]}))).collect();
    let manifest = desired.iter().fold(Manifest::new(), |m, (name, _)| m.module(name, "wayward"));
    let runtime = wayward(QUICK, &manifest.module("bystander", "wayward"));
    desired.iter().for_each(|(name, _)| runtime.wait_for(name, "running"));
    runtime.wait_for("bystander", "running");

    for (name, properties) in &desired {
        runtime.cli(&["twin", "patch", name, &properties.to_string()]).ok();
        runtime.cli(&["send", name, "in", "hello"]).ok();
    }

    for (handler, _) in &desired {
        wait_until(SOON, handler, || runtime.log().contains(&format!("asked to panic in {handler}")));
        // Message and timer panic in each run until the budget is spent; desired only when it changes.
        let is_back = || matches!(runtime.module(handler)["status"].as_str(), Some("running" | "failed" | "backoff"));
        wait_until(SOON, handler, is_back);
    }
    assert_eq!(runtime.events("bystander"), ["create", "start"]);
}

#[test]
fn restart_makes_a_fresh_instance_and_keeps_the_identity() {
    let runtime = wayward(QUICK, &one(json!({})));
    runtime.wait_for("w", "running");
    let before = runtime.module("w");

    runtime.cli(&["restart", "w"]).ok();
    wait_until(SOON, "it is up again", || runtime.events("w") == ["create", "start", "stop", "create", "start"]);
    runtime.wait_for("w", "running");

    let after = runtime.module("w");
    assert_eq!(after["identity"], before["identity"]);
    assert_eq!(after["restartCount"], 0);
    assert_ne!(after["lastStartTimeUtc"], before["lastStartTimeUtc"]);
}

#[test]
fn wait_returns_when_it_is_so_and_says_why_when_it_is_not() {
    let runtime = wayward(QUICK, &one(json!({"panicIn": ["start"]})));

    runtime.cli(&["wait", "w", "--for", "failed", "--timeout", "20s"]).ok();
    let refused = runtime.cli(&["wait", "w", "--for", "running", "--timeout", "100ms"]);

    refused.refused(1, &["w", "failed", "asked to panic in start", "hint:"]);
    runtime.cli(&["wait", "nobody", "--timeout", "100ms"]).refused(1, &["nobody"]);
    runtime.cli(&["wait", "w", "--for", "dancing"]).refused(2, &["dancing"]);
}
