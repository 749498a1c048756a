//! What modules do on threads of their own: decide messages later, post results home, and use their client for too long.

use serde_json::json;

use crate::harness::{Manifest, Runtime, SOON, misbehaving, wait_until};

fn with(kind: &str) -> Runtime {
    let runtime = Runtime::new().start();
    runtime.add_image(&misbehaving());
    runtime.apply(&Manifest::new().module("it", "misbehaving").desired("it", json!({ "misbehave": kind })));
    runtime.wait_for("it", "running");
    runtime
}

#[test]
fn client_used_after_the_stop_is_told_gone_by_every_call() {
    let runtime = with("useAfterStop");

    runtime.cli(&["stop", "it"]).ok();
    let told = runtime.wait_for_notes("it", "after-stop", 1);
    assert_eq!(told, ["Gone Gone Gone Gone Gone Gone"]);

    // Also when another instance has taken its place.
    runtime.cli(&["start", "it"]).ok();
    runtime.wait_for("it", "running");
    runtime.cli(&["restart", "it"]).ok();
    runtime.wait_for("it", "running");
    assert_eq!(runtime.wait_for_notes("it", "after-stop", 2)[1], told[0]);
    assert_eq!(runtime.json(&["twin", "get", "it"])["properties"]["reported"].get("late"), None);
}

#[test]
fn messages_deferred_and_accepted_by_a_thread_are_done_once_each() {
    let runtime = Runtime::new().start();
    runtime.add_image(&misbehaving());
    let manifest = Manifest::new()
        .module("sender", "misbehaving")
        .desired("sender", json!({ "misbehave": "flood", "messages": 2000 }))
        .module("it", "misbehaving")
        .desired("it", json!({ "misbehave": "deferThenAccept" }));
    runtime.apply(&manifest.connect("sender", "it"));

    let accepted = runtime.wait_for_notes("it", "accepted", 2000);
    assert!(accepted.iter().all(|line| line == "accepted"), "{accepted:?}");
    wait_until(SOON, "what was staged under them is reported", || {
        runtime.json(&["twin", "get", "it"])["properties"]["reported"]["accepted"] == 2000
    });
    runtime.cli(&["restart", "it"]).ok();
    runtime.wait_for("it", "running");
    let expected: Vec<String> = (1..=2000).map(|number| number.to_string()).collect();
    assert_eq!(runtime.notes("it", "seen"), expected);
    assert_eq!(runtime.module("it")["inbox"]["messages"], 0);
}

#[test]
fn messages_deferred_and_never_decided_come_again_in_order_after_a_restart() {
    let runtime = with("deferForever");
    let send = |body: &str| drop(runtime.cli(&["send", "it", "in", body]).ok());

    ["bad 1", "good 1", "bad 2", "bad 3", "good 2"].into_iter().for_each(send);
    assert_eq!(runtime.wait_for_notes("it", "seen", 2), ["good 1", "good 2"]);
    runtime.cli(&["stop", "it"]).ok();
    runtime.wait_for("it", "stopped");
    send("good 3");
    assert_eq!(runtime.module("it")["inbox"]["messages"], 4);

    runtime.cli(&["twin", "patch", "it", "misbehave=never"]).ok();
    runtime.cli(&["start", "it"]).ok();

    let seen = runtime.wait_for_notes("it", "seen", 6);
    assert_eq!(seen, ["good 1", "good 2", "bad 1", "bad 2", "bad 3", "good 3"]);
}

#[test]
fn posted_results_come_home_and_threads_are_joined_at_the_stop() {
    let runtime = with("post");
    wait_until(SOON, "results come home", || {
        runtime.module("it")["statusDescription"].as_str().is_some_and(|said| said.ends_with(" posted"))
    });

    runtime.cli(&["stop", "it"]).ok();
    runtime.wait_for("it", "stopped");

    assert_eq!(runtime.notes("it", "joined"), ["the thread ended"]);
    assert_eq!(runtime.notes("it", "stopped").len(), 1);
}

#[test]
fn method_of_a_module_that_is_not_there_or_stopped_is_answered_with_why() {
    let runtime = Runtime::new().start();
    runtime.add_image(&misbehaving());
    let caller = |target: &str| json!({ "misbehave": "callMethod", "target": target });
    let manifest = Manifest::new()
        .module("it", "misbehaving")
        .module("lost", "misbehaving")
        .desired("lost", caller("/devices/Hannover01/modules/nobody"))
        .module("finder", "misbehaving")
        .desired("finder", caller("/devices/Hannover01/modules/it"));
    runtime.apply(&manifest);
    ["it", "lost", "finder"].into_iter().for_each(|module| runtime.wait_for(module, "running"));

    runtime.cli(&["send", "finder", "in", "call"]).ok();
    assert_eq!(runtime.wait_for_notes("finder", "answers", 1), ["200"]);
    runtime.cli(&["send", "lost", "in", "call"]).ok();
    assert!(runtime.wait_for_notes("lost", "answers", 1)[0].contains("nobody"));
    runtime.cli(&["stop", "it"]).ok();
    runtime.wait_for("it", "stopped");
    runtime.cli(&["send", "finder", "in", "call"]).ok();
    assert!(runtime.wait_for_notes("finder", "answers", 2)[1].contains("/devices/Hannover01/modules/it"));
}
