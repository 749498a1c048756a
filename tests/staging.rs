//! kill -9 between what a handler has staged and its commit: the message comes again, and what was staged comes exactly once for the
//! delivery that was accepted.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Manifest, Runtime, SOON, SlowDisk, fixture, wait_until};

/// Longer than any test.
const FOR_EVER: Duration = Duration::from_secs(3600);
/// What the relay stages before it waits.
const STAGED: &str = "send, then block";

/// Modules `origin`, `relay` and `receiver`, each of which sends on to the next one over the disk, in use already.
fn chain() -> (Runtime, SlowDisk) {
    // Nothing but the queue's commits: a module that waits for its numbers waits for the other database.
    let (runtime, disk) = Runtime::new().supply(&[fixture("wayward")]).slow_disk(&["queue.db-wal"], Duration::ZERO);
    let runtime = runtime.start();
    let durable = |from: &str, to: &str| {
        let text =
            format!("FROM /messages/modules/{from}/outputs/out INTO BrokeredEndpoint('/modules/{to}/inputs/in')");
        json!({"route": text, "durability": "disk"})
    };
    let mut manifest = Manifest::new().any_route("a", durable("origin", "relay"));
    for module in ["origin", "relay", "receiver", "other"] {
        manifest = manifest.module(module, "wayward");
    }
    let other = "FROM /messages/modules/other/outputs/out INTO $upstream";
    runtime.deploy(&manifest.any_route("b", durable("relay", "receiver")).route("c", other));
    // Only the relay is to wait.
    ["origin", "receiver"].iter().for_each(|module| go(&runtime, module));
    // Whoever has sent once has numbers for the next ones.
    runtime.cli(&["send", "origin", "in", "first"]).ok();
    runtime.cli(&["send", "other", "in", "first"]).ok();
    wait_until(SOON, "the first one is through", || stored(&runtime) == 1 && received(&runtime) == ["first"]);
    (runtime, disk)
}

/// Messages on disk: that of `other`, and what is not handled.
fn stored(runtime: &Runtime) -> i64 {
    let database = rusqlite::Connection::open(runtime.state().join("queue.db")).unwrap();
    database.busy_timeout(SOON).unwrap();
    database.query_row("SELECT count(*) FROM message", [], |row| row.get(0)).unwrap()
}

/// Whether the queue's database has a body in its log.
fn written(runtime: &Runtime, body: &str) -> bool {
    let log = std::fs::read(runtime.state().join("queue.db-wal")).unwrap();
    log.windows(body.len()).any(|bytes| bytes == body.as_bytes())
}

/// Bodies that a module was given, however often it was.
fn given(runtime: &Runtime, module: &str) -> Vec<String> {
    let events = runtime.events(module);
    let given = events.iter().filter_map(|event| event.strip_prefix("message in ")?.split_once(' '));
    given.map(|(_, body)| body.to_owned()).collect()
}

fn received(runtime: &Runtime) -> Vec<String> {
    given(runtime, "receiver")
}

fn has_event(runtime: &Runtime, module: &str, event: &str) -> bool {
    runtime.events(module).iter().any(|one| one == event)
}

/// Gives a module leave to go on.
fn go(runtime: &Runtime, module: &str) {
    std::fs::write(runtime.data(module).join("go"), "").unwrap();
}

/// The relay gets its message again, and what it sends for it comes once, over another kill too.
#[track_caller]
fn comes_once(runtime: &mut Runtime, disk: &SlowDisk, rest: &[&str], upstream: i64) {
    assert_eq!(received(runtime), ["first"], "nothing goes out before its commit");
    let before = given(runtime, "relay").iter().filter(|body| *body == STAGED).count();
    disk.set(Duration::ZERO);
    runtime.launch();
    go(runtime, "relay");

    let expected: Vec<&str> = ["first", STAGED].iter().chain(rest).copied().collect();
    wait_until(SOON, "all is handled", || stored(runtime) == upstream && received(runtime).len() >= expected.len());
    assert_eq!(received(runtime), expected);
    let again = given(runtime, "relay").iter().filter(|body| *body == STAGED).count();
    assert_eq!(again, before + 1, "the message comes again: {:?}", runtime.events("relay"));

    runtime.kill9_and_launch();
    ["origin", "relay", "receiver"].iter().for_each(|module| runtime.wait_for(module, "running"));
    runtime.cli(&["send", "origin", "in", "last"]).ok();
    wait_until(SOON, "the last one is through", || received(runtime).iter().any(|body| body == "last"));
    assert_eq!(received(runtime)[..expected.len()], expected);
    assert_eq!(received(runtime).len(), expected.len() + 1, "{:?}", received(runtime));
}

#[test]
fn what_a_handler_staged_is_not_sent_where_the_kill_comes_before_its_end() {
    let (mut runtime, disk) = chain();
    runtime.cli(&["send", "origin", "in", STAGED]).ok();
    wait_until(SOON, "it is staged", || has_event(&runtime, "relay", "staged"));

    runtime.kill9();

    comes_once(&mut runtime, &disk, &[], 1);
}

#[test]
fn what_a_handler_staged_is_neither_lost_nor_doubled_where_the_kill_comes_before_its_commit() {
    let (mut runtime, disk) = chain();
    runtime.cli(&["send", "origin", "in", STAGED]).ok();
    wait_until(SOON, "it is staged", || has_event(&runtime, "relay", "staged"));
    runtime.cli(&["send", "origin", "in", "next"]).ok();
    wait_until(SOON, "the next one is stored", || stored(&runtime) == 3);

    // The writer waits for the disk with the commit of another one; that of the relay is behind it.
    disk.set(FOR_EVER);
    runtime.cli(&["send", "other", "in", "held"]).ok();
    wait_until(SOON, "it is written, and not synced", || written(&runtime, "held"));
    go(&runtime, "relay");
    wait_until(SOON, "the handler has ended", || given(&runtime, "relay").iter().any(|body| body == "next"));
    runtime.kill9();

    // What was being written is whole, as the disk has it.
    comes_once(&mut runtime, &disk, &["next"], 2);
}

#[test]
fn what_a_handler_could_not_stage_is_in_the_ledger_so_that_nobody_waits_for_its_number() {
    let (runtime, _disk) = chain();
    runtime.cli(&["send", "relay", "in", "stage too much"]).ok();
    let staged = || {
        let events = runtime.events("relay");
        let staged = events.iter().find_map(|event| event.strip_prefix("staged ")?.strip_suffix(" of 80"));
        staged.map(|count| count.parse::<u64>().unwrap())
    };
    wait_until(SOON, "it has staged", || staged().is_some());
    let staged = staged().unwrap();
    assert!((1..80).contains(&staged), "{staged}");
    wait_until(SOON, "what was staged is through", || received(&runtime).len() as u64 == 1 + staged);

    let full = || -> u64 {
        let told = runtime.json(&["losses", "relay/out"]);
        let entries = told["entries"].as_array().unwrap().iter().filter(|entry| entry["reason"] == "full");
        entries.map(|entry| entry["count"].as_u64().unwrap()).sum()
    };
    wait_until(SOON, "the ledger has the rest", || full() == 80 - staged);
}
