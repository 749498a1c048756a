//! A database that somebody deletes or replaces while dinrail runs: nothing is acknowledged into it, everything says so, what needs
//! no disk goes on, and so does all once it is back.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::numbering::{accepted, acknowledged, all_sent};
use crate::harness::{Manifest, Runtime, SOON, fixture, wait_until};

fn started() -> Runtime {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    let manifest = Manifest::new().module("w", "wayward");
    runtime.deploy(&manifest.route("up", "FROM /messages/modules/w/outputs/out INTO $upstream"));
    runtime
}

/// Durable sends that ended well, and with an error.
fn sent(runtime: &Runtime) -> (usize, usize) {
    let events = runtime.events("w");
    let sent = events.iter().filter(|event| event.starts_with("sent"));
    let ok = sent.clone().filter(|event| event.contains(" ok ")).count();
    (ok, sent.count() - ok)
}

fn send(runtime: &Runtime) {
    runtime.cli(&["send", "w", "send", r#"{"count": 1, "bytes": 100}"#]).ok();
}

fn assert_stored(runtime: &Runtime) {
    let (ok, refused) = sent(runtime);
    send(runtime);
    wait_until(SOON, "it is stored", || sent(runtime) == (ok + 1, refused));
}

fn assert_refused(runtime: &Runtime) {
    let (ok, refused) = sent(runtime);
    send(runtime);
    wait_until(SOON, "it is refused", || sent(runtime) == (ok, refused + 1));
}

fn health(runtime: &Runtime) -> Value {
    runtime.api().ask("GET", "/health", None).unwrap().1
}

/// Whether health and check name what is not there any more.
fn assert_told(runtime: &Runtime, what: &str) {
    let told = health(runtime);
    assert_eq!(told["status"], "degraded", "{told:#}");
    assert!(told["notes"].to_string().contains(what), "{told:#}");
    assert!(told["notes"].to_string().contains("restart dinrail"), "{told:#}");
    let checked = runtime.cli(&["check"]);
    assert_eq!(checked.code, 1, "{}", checked.stdout);
    assert!(checked.stdout.contains(what), "{}", checked.stdout);
}

fn move_all(from: &Path, to: &Path, name: &str) {
    for suffix in ["", "-wal", "-shm"] {
        let name = format!("{name}{suffix}");
        std::fs::rename(from.join(&name), to.join(&name)).unwrap();
    }
}

#[test]
fn nothing_is_acknowledged_into_a_queue_that_was_deleted() {
    let mut runtime = started();
    assert_stored(&runtime);
    for suffix in ["", "-wal", "-shm"] {
        std::fs::remove_file(runtime.state().join(format!("queue.db{suffix}"))).unwrap();
    }

    assert_told(&runtime, "queue.db was deleted or replaced while dinrail runs");
    (0..5).for_each(|_| assert_refused(&runtime));

    let offline = runtime.cli(&["check", "--json"]);
    let found: Value = serde_json::from_str(&offline.stdout).unwrap();
    let databases = found["findings"].as_array().unwrap().iter().find(|found| found["id"] == "databases").unwrap();
    assert_eq!(databases["status"], "error", "{databases:#}");
    assert!(databases["details"].to_string().contains("queue.db is not there"), "{databases:#}");
    assert_eq!(runtime.log().matches("queue.db was deleted or replaced").count(), 1, "once: {}", runtime.log());
    // What is in the other file goes on.
    runtime.cli(&["twin", "patch", "w", "note=kept", "--wait"]).ok();
    assert_eq!(runtime.module("w")["status"], "running");

    runtime.stop();
    runtime.launch();
    runtime.wait_for("w", "running");
    assert!(health(&runtime)["notes"].to_string().contains("queue.db was not there at the start"));
    assert_stored(&runtime);
}

#[test]
fn what_was_moved_away_and_back_goes_on_by_itself() {
    for name in ["queue.db", "dinrail.db"] {
        let runtime = started();
        assert_stored(&runtime);
        let aside = runtime.folder().join("aside");
        std::fs::create_dir(&aside).unwrap();
        move_all(runtime.state(), &aside, name);
        let set = |value: u32| runtime.cli(&["twin", "patch", "w", &format!("value={value}")]);
        if name == "queue.db" {
            assert_refused(&runtime);
        } else {
            set(1).refused(1, &["dinrail.db was deleted or replaced while dinrail runs", "hint:"]);
        }
        assert_told(&runtime, name);

        move_all(&aside, runtime.state(), name);

        assert_stored(&runtime);
        set(2).ok();
        assert_eq!(health(&runtime)["status"], "ok");
    }
}

#[test]
fn durable_traffic_between_modules_waits_for_the_queue_and_does_not_flood_the_log() {
    let libraries = [fixture("numbering_sender"), fixture("numbering_receiver")];
    let runtime = Runtime::new().supply(&libraries).start();
    let route = r#"FROM /messages/modules/near/* INTO BrokeredEndpoint("/modules/last/inputs/in")"#;
    let manifest = Manifest::new()
        .numbering_sender("near", &["a"], json!({"pauseUs": 1000}))
        .numbering_receiver("last", json!({}))
        .any_route("near", json!({"route": route, "durability": "disk"}));
    runtime.deploy(&manifest);
    let sent = || all_sent(&runtime.data("near"));
    let refused = || sent().iter().filter(|sent| sent.error.is_some()).count();
    wait_until(SOON, "messages are acknowledged", || sent().len() > 100);
    let aside = runtime.folder().join("aside");
    std::fs::create_dir(&aside).unwrap();
    let said = runtime.log().lines().count();

    move_all(runtime.state(), &aside, "queue.db");
    wait_until(SOON, "sends are refused", || refused() > 500);
    let told = runtime.log();
    assert!(told.lines().count() < said + 10, "{told}");
    move_all(&aside, runtime.state(), "queue.db");

    runtime.cli(&["twin", "patch", "near", r#"{"isSending": false}"#]).ok();
    wait_until(SOON, "all that was acknowledged arrives", || {
        let (sent, arrived) = (acknowledged(&runtime.data("near")), accepted(&runtime.data("last")));
        let arrived = arrived.get(&("near".to_owned(), "a".to_owned()));
        sent["a"].iter().all(|number| arrived.is_some_and(|arrived| arrived.contains(number)))
    });
    assert_eq!(health(&runtime)["status"], "ok");
}

#[test]
fn file_put_in_the_place_of_the_queue_is_not_written_and_not_taken_away() {
    let mut runtime = started();
    assert_stored(&runtime);
    let [queue, log] = ["queue.db", "queue.db-wal"].map(|name| runtime.state().join(name));
    for file in [&queue, &log] {
        let copy = runtime.folder().join("copy");
        std::fs::copy(file, &copy).unwrap();
        std::fs::rename(&copy, file).unwrap();
    }

    assert_refused(&runtime);
    assert_told(&runtime, "queue.db was deleted or replaced while dinrail runs");

    let before = std::fs::read(&log).unwrap();
    runtime.stop();
    assert_eq!(std::fs::read(&log).unwrap(), before, "what belongs to the file that is there now");
    runtime.launch();
    runtime.wait_for("w", "running");
    let database = rusqlite::Connection::open(&queue).unwrap();
    let waiting: i64 = database.query_row("SELECT count(*) FROM message", [], |row| row.get(0)).unwrap();
    assert_eq!(waiting, 1, "the copy had it");
}

#[test]
fn what_was_acknowledged_outlives_a_deleted_log_and_kill_9() {
    let mut runtime = started();
    for _ in 0..3 {
        assert_stored(&runtime);
    }
    runtime.cli(&["twin", "patch", "w", "note=kept", "--wait"]).ok();
    std::fs::remove_file(runtime.state().join("queue.db-wal")).unwrap();

    assert_refused(&runtime);
    assert_told(&runtime, "queue.db-wal was deleted or replaced while dinrail runs");

    runtime.kill9_and_launch();
    runtime.wait_for("w", "running");
    let database = rusqlite::Connection::open(runtime.state().join("queue.db")).unwrap();
    let waiting: i64 = database.query_row("SELECT count(*) FROM message", [], |row| row.get(0)).unwrap();
    assert_eq!(waiting, 3);
    assert_eq!(runtime.json(&["twin", "get", "w"])["properties"]["desired"]["note"], json!("kept"));
    assert_stored(&runtime);
}

#[test]
fn check_without_a_runtime_names_the_database_that_is_not_there() {
    let mut runtime = Runtime::new().start();
    runtime.stop();
    std::fs::remove_file(runtime.state().join("queue.db")).unwrap();

    let checked = runtime.cli(&["check"]);

    let line = checked.stdout.lines().find(|line| line.contains("databases")).unwrap();
    assert!(line.starts_with("error"), "{line}");
    assert!(checked.stdout.contains("queue.db is not there"), "{}", checked.stdout);
}
