//! What is meant for the hub is on disk before its sender hears of it, and stays there over every end.

use crate::harness::{Manifest, Runtime, SOON, fixture, wait_until};

fn waiting(runtime: &Runtime) -> i64 {
    let database = rusqlite::Connection::open(runtime.state().join("queue.db")).unwrap();
    let query = "SELECT count(*) FROM message JOIN endpoint ON endpoint.id = message.endpoint
                 WHERE endpoint.name = '$upstream' AND state = 0";
    database.query_row(query, [], |row| row.get(0)).unwrap()
}

#[test]
fn messages_for_the_hub_are_kept_over_kill_9() {
    let manifest =
        Manifest::new().module("w", "wayward").route("up", "FROM /messages/modules/w/outputs/out INTO $upstream");
    let mut runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    runtime.deploy(&manifest);

    runtime.cli(&["send", "w", "send", r#"{"count": 25}"#]).ok();
    let acknowledged = || runtime.events("w").iter().filter(|event| event.contains(" ok ")).count();
    wait_until(SOON, "the sends have returned", || acknowledged() == 25);
    runtime.kill9();

    assert_eq!(waiting(&runtime), 25);
    runtime.launch();
    let health = runtime.api().ask("GET", "/health", None).unwrap().1;
    assert!(health["notes"].to_string().contains("25 messages wait on disk for $upstream"), "{health}");

    // Sent in a handler: committed with its end.
    runtime.wait_for("w", "running");
    runtime.cli(&["send", "w", "in", "one more"]).ok();
    wait_until(SOON, "it is stored", || waiting(&runtime) == 26);
}

#[test]
fn what_a_failing_handler_sent_is_not_sent() {
    let manifest = Manifest::new().module("w", "wayward").route("up", "FROM /messages/modules/w/* INTO $upstream");
    let runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    runtime.deploy(&manifest);

    for body in ["send, then error", "send and accept"] {
        runtime.cli(&["send", "w", "in", body]).ok();
    }

    let done = "message in 1 send and accept";
    wait_until(SOON, "both were handled", || runtime.events("w").contains(&done.to_owned()));
    wait_until(SOON, "the accepted one is stored", || waiting(&runtime) == 1);
    let events = runtime.events("w");
    assert_eq!(events.iter().filter(|event| event.ends_with("send, then error")).count(), 5, "{events:?}");
}

#[test]
fn budget_of_the_store_is_an_error_for_the_sender() {
    let manifest = Manifest::new().module("w", "wayward").route("up", "FROM /messages/modules/w/* INTO $upstream");
    let runtime = Runtime::new().supply(&[fixture("wayward")]).config("[queue]\nstore_bytes = 1048576\n").start();
    runtime.deploy(&manifest);

    runtime.cli(&["send", "w", "send", r#"{"count": 20, "bytes": 100000}"#]).ok();
    let sent =
        || -> Vec<String> { runtime.events("w").into_iter().filter(|event| event.starts_with("sent")).collect() };
    wait_until(SOON, "all were tried", || sent().len() == 20);

    let stored = sent().iter().filter(|event| event.contains(" ok ")).count();
    assert_eq!(stored, 10, "{:?}", sent());
    assert_eq!(waiting(&runtime), 10);
    assert_eq!(runtime.module("w")["status"], "running");
}
