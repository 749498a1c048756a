//! A start with very many messages on disk is as quick as any other, and counts them while it runs.

use serde_json::json;

use crate::harness::{Manifest, Runtime, SOON, fixture, wait_until};

const MESSAGES: i64 = 60_000;

fn waiting(runtime: &Runtime) -> i64 {
    let (_, _, text) = runtime.api().text("/metrics").unwrap();
    let line = text.lines().find(|line| line.starts_with("dinrail_store_messages{state=\"waiting\"}"));
    line.and_then(|line| line.rsplit(' ').next()?.parse::<i64>().ok()).expect("a number")
}

/// A runtime that is stopped, with one message of a module for the hub, and as many more as there are to be, which live for
/// `left_us` from now on.
fn with_backlog(left_us: Option<i64>) -> Runtime {
    let mut runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    let up = Manifest::new().module("w", "wayward").route("up", "FROM /messages/modules/w/outputs/out INTO $upstream");
    runtime.deploy(&up);
    runtime.cli(&["send", "w", "send", r#"{"count": 1}"#]).ok();
    wait_until(SOON, "it is stored", || waiting(&runtime) == 1);
    runtime.stop();
    let database = rusqlite::Connection::open(runtime.state().join("queue.db")).unwrap();
    let copies = "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
                  INSERT INTO message (endpoint, priority, bytes, sender, output, epoch, sequence, created_us, meta, body,
                                       ttl_left_us, ttl_from_us)
                  SELECT endpoint, priority, bytes, sender, output, epoch, i, created_us, meta, zeroblob(100), ?2, created_us
                  FROM message, n";
    database.execute(copies, (MESSAGES, left_us)).unwrap();
    runtime
}

#[test]
fn backlog_is_counted_while_the_runtime_runs_already() {
    let mut runtime = with_backlog(None);

    runtime.launch();
    runtime.wait_for("w", "running");
    runtime.cli(&["send", "w", "send", &json!({"count": 5}).to_string()]).ok();

    wait_until(SOON, "all are counted", || waiting(&runtime) == MESSAGES + 5);
}

#[test]
fn space_of_messages_that_are_gone_is_given_back_within_a_minute() {
    let mut runtime = with_backlog(Some(1));
    let size = |runtime: &Runtime| std::fs::metadata(runtime.state().join("queue.db")).unwrap().len();
    let before = size(&runtime);
    assert!(before > 12 << 20, "{before}");

    runtime.launch();
    wait_until(3 * SOON, "what is over is removed", || waiting(&runtime) == 1);
    wait_until(3 * SOON, "its space is given back", || size(&runtime) < before / 6);

    let log = |runtime: &Runtime| std::fs::metadata(runtime.state().join("queue.db-wal")).map_or(0, |log| log.len());
    wait_until(SOON, "and that of the log", || log(&runtime) < 1 << 20);
    let losses = runtime.json(&["losses", "w"]);
    let told: i64 = losses["entries"].as_array().unwrap().iter().map(|entry| entry["count"].as_i64().unwrap()).sum();
    assert_eq!((told, &losses["entries"][0]["reason"]), (MESSAGES - 1, &json!("expired")), "{losses}");
}
