//! A disk that fails (EIO): senders hear it, nothing that was acknowledged is lost, and it goes on by itself once the disk is well.
//!
//! Writes and syncs of `queue.db` fail at moments drawn by chance; the runtime is killed in the middle of some of it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::numbering::{accepted, acknowledged, all_sent, body};
use crate::harness::{Chance, Failing, FailingDisk, Manifest, Runtime, SOON, fixture, wait_until};

const FILES: [&str; 2] = ["queue.db", "queue.db-wal"];

fn manifest() -> Manifest {
    let durable = |from: &str, to: &str| -> Value {
        let route = format!("FROM /messages/modules/{from} INTO BrokeredEndpoint(\"/modules/{to}/inputs/in\")");
        json!({"route": route, "durability": "disk"})
    };
    Manifest::new()
        .numbering_sender("up", &["a"], json!({"pauseUs": 1000}))
        .numbering_sender("near", &["a", "b"], json!({"pauseUs": 1000, "window": 8}))
        .numbering_receiver("relay", json!({"relay": true, "relayAll": true, "retryEach": 29}))
        .numbering_receiver("last", json!({}))
        .route("up", "FROM /messages/modules/up/* INTO $upstream")
        .any_route("near", durable("near/*", "relay"))
        .any_route("far", durable("relay/outputs/out", "last"))
}

fn started() -> (Runtime, FailingDisk) {
    let libraries = [fixture("numbering_sender"), fixture("numbering_receiver")];
    let (runtime, disk) = Runtime::new().supply(&libraries).failing_disk(&FILES);
    let runtime = runtime.start();
    runtime.deploy(&manifest());
    (runtime, disk)
}

/// Sends of all that ended well, and with an error.
fn sent(runtime: &Runtime) -> (usize, usize) {
    let sent: Vec<_> = ["up", "near"].iter().flat_map(|name| all_sent(&runtime.data(name))).collect();
    let well = sent.iter().filter(|sent| sent.error.is_none()).count();
    (well, sent.len() - well)
}

fn go_on(runtime: &Runtime, more: usize) {
    let before = sent(runtime).0;
    wait_until(SOON, "messages are acknowledged", || sent(runtime).0 >= before + more);
}

/// Silences the senders, lets everything arrive, and compares.
fn assert_nothing_is_lost(runtime: &Runtime) {
    for sender in ["up", "near"] {
        runtime.cli(&["twin", "patch", sender, r#"{"isSending": false}"#]).ok();
    }
    let queue = || {
        let queue = rusqlite::Connection::open(runtime.state().join("queue.db")).unwrap();
        queue.busy_timeout(SOON).unwrap();
        queue
    };
    let on_disk = || -> BTreeSet<(String, String, u64)> {
        let queue = queue();
        let mut all = queue.prepare("SELECT body FROM message").unwrap();
        let bodies = all.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
        bodies.map(|bytes| body(&bytes.unwrap())).collect()
    };
    let mut missing = Vec::new();
    wait_until(SOON, "all that was acknowledged is on disk or handled", || {
        let (mut have, handled) = (on_disk(), accepted(&runtime.data("last")));
        for ((module, output), numbers) in handled {
            have.extend(numbers.into_iter().map(|number| (module.clone(), output.clone(), number)));
        }
        missing.clear();
        for sender in ["up", "near"] {
            for (output, numbers) in acknowledged(&runtime.data(sender)) {
                let sent = numbers.into_iter().map(|number| (sender.to_owned(), output.clone(), number));
                missing.extend(sent.filter(|sent| !have.contains(sent)));
            }
        }
        missing.is_empty()
    });
    wait_until(SOON, "what waits for modules arrives", || on_disk().iter().all(|(module, ..)| module == "up"));
    let verdict: String = queue().query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    let mut order = accepted(&runtime.data("last"));
    for numbers in order.values_mut() {
        let mut seen = BTreeSet::new();
        numbers.retain(|number| seen.insert(*number));
        assert!(numbers.is_sorted(), "out of order");
    }
    assert!(!runtime.log().contains("damaged"), "{}", runtime.log());
}

#[test]
fn failing_disk_is_told_to_senders_and_nothing_acknowledged_is_lost() {
    let (runtime, disk) = started();
    go_on(&runtime, 100);
    for what in [Failing::Syncs, Failing::Writes, Failing::Both] {
        let (_, refused) = sent(&runtime);
        disk.fail(what, 3, None);
        wait_until(SOON, "senders hear of it", || sent(&runtime).1 >= refused + 5);
        assert!(disk.failed() > 0);
        let told: Value = serde_json::from_str(&runtime.cli(&["list", "--json"]).ok().stdout).unwrap();
        assert!(told.as_array().unwrap().iter().all(|row| row["status"] == "running"), "{told:#}");
        let health = || runtime.api().ask("GET", "/health", None).unwrap().1;
        wait_until(SOON, "its health says so", || {
            let health = health();
            health["status"] == "degraded" && health["notes"].to_string().contains("look at the disk")
        });
        disk.mend();
        go_on(&runtime, 100);
        wait_until(SOON, "it is well again", || health()["status"] == "ok");
    }
    assert!(runtime.log().contains("queue.db cannot be read or written"), "{}", runtime.log());
    let errors: BTreeSet<String> = all_sent(&runtime.data("up")).into_iter().filter_map(|sent| sent.error).collect();
    assert_eq!(errors.into_iter().collect::<Vec<_>>(), ["Failed"]);
    assert_nothing_is_lost(&runtime);
}

#[test]
fn disk_that_fails_now_and_then_and_kill_9_lose_nothing_that_was_acknowledged() {
    let (mut runtime, disk) = started();
    let (mut chance, _) = Chance::told("a failing disk");
    go_on(&runtime, 50);
    let mut failed = 0;
    for turn in 0..8 {
        let what = chance.pick(&[Failing::Syncs, Failing::Writes, Failing::Both]);
        let count = 1 + chance.below(4) as u32;
        disk.fail(what, chance.below(200) as u32, Some(count));
        if turn % 2 == 0 {
            wait_until(SOON, "all of them have failed", || disk.failed() >= i64::from(count));
            go_on(&runtime, 30);
        } else {
            wait_until(SOON, "one has failed", || disk.failed() > 0);
            failed += disk.failed();
            runtime.kill9();
            disk.mend();
            runtime.launch();
            go_on(&runtime, 30);
        }
        failed += disk.failed();
    }
    disk.mend();
    println!("{failed} writes and syncs have failed; {:?} sends ended well and with an error", sent(&runtime));
    assert_nothing_is_lost(&runtime);
}

#[test]
fn what_a_person_wants_of_a_module_and_the_disk_does_not_take_is_told() {
    let files = ["dinrail.db", "dinrail.db-wal"];
    let (runtime, disk) = Runtime::new().supply(&[fixture("numbering_receiver")]).failing_disk(&files);
    let runtime = runtime.start();
    runtime.cli(&["add", "it", "numbering-receiver"]).ok();
    runtime.wait_for("it", "running");

    disk.fail(Failing::Both, 0, None);
    runtime.cli(&["stop", "it"]).refused(1, &["it is done but not stored"]);
    disk.mend();

    wait_until(SOON, "it holds once the disk is well", || runtime.cli(&["stop", "it"]).code == 0);
}
