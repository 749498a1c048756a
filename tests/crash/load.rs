//! The run that is recorded: durable sends and reports, and durable inputs whose handlers stage what they send on, with verdicts at
//! once and from a thread, over a crash, a change of settings and a good end.

use std::path::Path;

use serde_json::{Value, json};

use super::DATABASES;
use super::record::{Record, read};
use crate::harness::numbering::all_sent;
use crate::harness::{Manifest, Runtime, SOON, fixture, wait_until};

/// Name of the module, and what it has reported.
pub const REPORTED: &str = "SELECT i.module, r.document FROM twin_reported r JOIN identity i ON i.id = r.identity
                            WHERE i.module IS NOT NULL";

const ACCOUNTS: [&str; 2] = ["acknowledged", "handled"];
/// What arrives here has been through the hands of another module.
pub const LAST: &str = "last";

/// Whether a module keeps account in this file.
pub fn is_account(file: &Path) -> bool {
    file.file_name().is_some_and(|name| ACCOUNTS.iter().any(|account| name == *account))
}

fn manifest() -> Manifest {
    Manifest::new()
        .numbering_sender("steady", &["a"], json!({"pauseUs": 500, "report": true}))
        .numbering_sender("busy", &["a", "b"], json!({"pauseUs": 500, "window": 8}))
        .numbering_sender("near", &["a", "b"], json!({"pauseUs": 500, "window": 8}))
        .numbering_receiver("relay", json!({"relay": true, "relayAll": true, "retryEach": 29, "parkEach": 97}))
        .numbering_receiver(
            "late",
            json!({"relay": true, "relayAll": true, "defer": true, "retryEach": 31, "parkEach": 89}),
        )
        .numbering_receiver(LAST, json!({}))
        .route("up-steady", "FROM /messages/modules/steady/* INTO $upstream")
        .route("up-busy", "FROM /messages/modules/busy/* INTO $upstream")
        .any_route("near", durable("near/outputs/a", "relay"))
        .any_route("far", durable("relay/outputs/out", LAST))
        .any_route("near-late", durable("near/outputs/b", "late"))
        .any_route("late-far", durable("late/outputs/out", LAST))
}

fn durable(from: &str, to: &str) -> Value {
    let route = format!("FROM /messages/modules/{from} INTO BrokeredEndpoint(\"/modules/{to}/inputs/in\")");
    json!({"route": route, "durability": "disk"})
}

/// A runtime that was recorded and is dead now, and the record.
pub fn record() -> (Runtime, Vec<Record>) {
    let names: Vec<&str> = DATABASES.iter().chain(&ACCOUNTS).copied().collect();
    let (runtime, recording) =
        Runtime::new().supply(&[fixture("numbering_sender"), fixture("numbering_receiver")]).record(&names);
    let mut runtime = runtime.start();
    runtime.deploy(&manifest());
    go_on(&runtime);
    runtime.kill9_and_launch();
    go_on(&runtime);
    runtime.cli(&["twin", "patch", "busy", "{\"maxBytes\": 2000}"]).ok();
    go_on(&runtime);
    runtime.stop();
    runtime.launch();
    go_on(&runtime);
    runtime.kill9();
    let records = read(&recording.file);
    assert!(
        records.iter().any(|record| matches!(record, Record::Opened { path, .. } if path.ends_with("queue.db-wal")))
    );
    (runtime, records)
}

/// Waits until each sender has sent a good deal more.
pub fn go_on(runtime: &Runtime) {
    for (sender, more) in [("steady", 50), ("busy", 300), ("near", 200)] {
        let sent = || all_sent(&runtime.data(sender)).len();
        let before = sent();
        wait_until(SOON, "messages are acknowledged", || sent() >= before + more);
    }
}
