//! A disk that fills up: durable messages are refused and say why, twins and removals go on, everything says so, and once there
//! is room again it goes on by itself.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::mount::{Mount, fill};
use crate::harness::{Manifest, Runtime, SOON, fixture, wait_until};

fn sent(runtime: &Runtime) -> (usize, usize) {
    let events = runtime.events("w");
    let sent = events.iter().filter(|event| event.starts_with("sent"));
    let ok = sent.clone().filter(|event| event.contains(" ok ")).count();
    (ok, sent.count() - ok)
}

fn health(runtime: &Runtime) -> Value {
    runtime.api().ask("GET", "/health", None).unwrap().1
}

fn store_full(runtime: &Runtime) -> bool {
    let (_, _, text) = runtime.api().text("/metrics").unwrap();
    let line = text.lines().find(|line| line.starts_with("dinrail_store_full ")).expect("a value");
    line.ends_with(" 1")
}

fn finding(runtime: &Runtime, id: &str) -> Value {
    let check: Value = serde_json::from_str(&runtime.cli(&["check", "--json"]).stdout).unwrap();
    check["findings"].as_array().unwrap().iter().find(|finding| finding["id"] == id).unwrap().clone()
}

/// Fills a disk up to its last `left` bytes.
fn fill_but(mount: &Mount, left: u64) {
    let filler = std::fs::File::create(mount.path().join("filler")).unwrap();
    let bytes = mount.free() - left;
    rustix::fs::fallocate(&filler, rustix::fs::FallocateFlags::empty(), 0, bytes).unwrap();
}

fn assert_sound(state: &Path) {
    for file in ["dinrail.db", "queue.db"] {
        let database = rusqlite::Connection::open(state.join(file)).unwrap();
        let verdict: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(verdict, "ok", "{file}");
    }
}

#[test]
fn full_disk_refuses_durable_messages_spares_the_twins_and_goes_on_by_itself() {
    let Some(mount) = Mount::tmpfs("size=96m") else { return };
    let state = mount.path().to_owned();
    let mut runtime = Runtime::new().state_at(state.clone()).supply(&[fixture("wayward")]).start();
    let manifest = Manifest::new().module("w", "wayward");
    runtime.deploy(&manifest.route("up", "FROM /messages/modules/w/outputs/out INTO $upstream"));
    let send = || drop(runtime.cli(&["send", "w", "send", r#"{"count": 1, "bytes": 20000}"#]).ok());
    send();
    wait_until(SOON, "it is stored", || sent(&runtime) == (1, 0));
    let ballast = || std::fs::metadata(state.join("ballast")).map_or(0, |found| found.len());
    wait_until(SOON, "the ballast is there", || ballast() == 6 << 20);

    // The last of the disk is not for messages.
    fill_but(&mount, 3 << 20);
    wait_until(SOON, "a message is refused", || {
        send();
        sent(&runtime).1 > 0
    });
    let told = health(&runtime);
    assert_eq!(told["status"], "degraded", "{told:#}");
    for words in ["takes no more messages", "bytes are free", "free some space"] {
        assert!(told["notes"].to_string().contains(words), "{words}: {told:#}");
    }
    assert!(store_full(&runtime));
    let found = finding(&runtime, "store");
    assert_eq!(found["status"], "error", "{found:#}");
    assert!(found["hint"].as_str().unwrap().contains("goes on by itself"), "{found:#}");
    let said = runtime.log().matches("the store takes no more messages").count();
    assert_eq!(said, 1, "once: {}", runtime.log());

    // Not even twins would fit, without the ballast.
    fill(&state);
    for number in 0..20 {
        runtime.cli(&["twin", "patch", "w", &format!("number={number}"), &format!("text={}", "x".repeat(4000))]).ok();
    }
    assert_eq!(ballast(), 0, "it was given up");
    assert!(store_full(&runtime));

    std::fs::remove_file(state.join("filler")).unwrap();
    wait_until(SOON, "it takes messages again", || !store_full(&runtime));
    let (stored, _) = sent(&runtime);
    send();
    wait_until(SOON, "the next one is stored", || sent(&runtime).0 == stored + 1);
    wait_until(SOON, "the ballast is there again", || ballast() == 6 << 20);
    assert_eq!(health(&runtime)["status"], "ok");
    runtime.kill9();
    assert_sound(&state);
    let database = rusqlite::Connection::open(state.join("queue.db")).unwrap();
    let waiting: i64 = database.query_row("SELECT count(*) FROM message", [], |row| row.get(0)).unwrap();
    assert_eq!(waiting, stored as i64 + 1);
    drop(database);
    runtime.launch();
    assert_eq!(runtime.json(&["twin", "get", "w"])["properties"]["desired"]["number"], json!(19));
}

/// A runtime on a disk of 96 MiB that has stopped; its disk is as it left it.
fn stopped(mount: &Mount) -> Runtime {
    let mut runtime = Runtime::new().state_at(mount.path().to_owned()).supply(&[fixture("wayward")]).start();
    let manifest = Manifest::new().module("w", "wayward");
    runtime.deploy(&manifest.route("up", "FROM /messages/modules/w/outputs/out INTO $upstream"));
    runtime.cli(&["twin", "patch", "w", "number=1", "--wait"]).ok();
    wait_until(SOON, "the ballast is there", || ballast(mount.path()));
    runtime.stop();
    runtime
}

fn ballast(state: &Path) -> bool {
    state.join("ballast").exists()
}

/// Starts, as on any full disk.
fn assert_starts_on_the_full_disk(runtime: &mut Runtime) {
    runtime.launch();
    runtime.wait_for("w", "running");
    wait_until(SOON, "its health says so", || health(runtime)["status"] == "degraded");
    let told = health(runtime)["notes"].to_string();
    assert!(told.contains("takes no more messages") && told.contains("free some space"), "{told}");
}

#[test]
fn runtime_starts_on_a_disk_that_was_filled_while_it_was_stopped() {
    let Some(mount) = Mount::tmpfs("size=96m") else { return };
    let mut runtime = stopped(&mount);
    fill(mount.path());

    assert_starts_on_the_full_disk(&mut runtime);

    assert!(!ballast(mount.path()), "it was given up");
    for number in 2..30 {
        runtime.cli(&["twin", "patch", "w", &format!("number={number}"), &format!("text={}", "x".repeat(4000))]).ok();
    }
    std::fs::remove_file(mount.path().join("filler")).unwrap();
    wait_until(SOON, "the ballast is there again", || ballast(mount.path()));
    wait_until(SOON, "it takes messages again", || !store_full(&runtime));
    assert_eq!(health(&runtime)["status"], "ok");
    runtime.stop();
    assert_sound(mount.path());
}

#[test]
fn runtime_starts_again_on_a_disk_that_stays_full_without_a_ballast() {
    let Some(mount) = Mount::tmpfs("size=96m") else { return };
    let mut runtime = stopped(&mount);
    fill(mount.path());
    assert_starts_on_the_full_disk(&mut runtime);
    // What the ballast had goes too.
    fill(mount.path());

    for turn in 0..3 {
        runtime.kill9();
        fill(mount.path());
        assert_starts_on_the_full_disk(&mut runtime);
        fill(mount.path());
        runtime.stop();
        fill(mount.path());
        assert_starts_on_the_full_disk(&mut runtime);
        fill(mount.path());
        let kept = runtime.json(&["twin", "get", "w"])["properties"]["desired"]["number"].clone();
        assert_eq!(kept, json!(1), "turn {turn}");
    }

    std::fs::remove_file(mount.path().join("filler")).unwrap();
    wait_until(SOON, "the ballast is there again", || ballast(mount.path()));
    wait_until(SOON, "so is the reserve", || mount.path().join("ballast-start").exists());
    runtime.stop();
    assert_sound(mount.path());
}

#[test]
fn start_without_any_room_says_that_the_disk_is_full_and_what_is_free() {
    let Some(mount) = Mount::tmpfs("size=96m") else { return };
    let mut runtime = stopped(&mount);
    for reserve in ["ballast", "ballast-start"] {
        std::fs::remove_file(mount.path().join(reserve)).unwrap();
    }
    fill(mount.path());

    let output = runtime.run_command().stderr(std::process::Stdio::piped()).output().unwrap();

    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    for words in ["the disk is full", "bytes are free", "hint: free some space"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert!(!told.contains("writable"), "{told}");
    std::fs::remove_file(mount.path().join("filler")).unwrap();
    runtime.launch();
    runtime.wait_for("w", "running");
}
