//! The run that is recorded: durable sends and reports over a crash, a change of settings and a good end.

use std::path::Path;

use serde_json::json;

use super::DATABASES;
use super::record::{Record, read};
use crate::harness::numbering::all_sent;
use crate::harness::{Manifest, Runtime, SOON, fixture, wait_until};

/// Name of the module, and what it has reported.
pub const REPORTED: &str = "SELECT i.module, r.document FROM twin_reported r JOIN identity i ON i.id = r.identity
                            WHERE i.module IS NOT NULL";

const ACCOUNTS: [&str; 2] = ["acknowledged", "handled"];

/// Whether a module keeps account in this file.
pub fn is_account(file: &Path) -> bool {
    file.file_name().is_some_and(|name| ACCOUNTS.iter().any(|account| name == *account))
}

fn manifest() -> Manifest {
    Manifest::new()
        .numbering_sender("steady", &["a"], json!({"pauseUs": 500, "report": true}))
        .numbering_sender("busy", &["a", "b"], json!({"pauseUs": 500, "window": 8}))
        .route("up", "FROM /messages/* INTO $upstream")
}

/// A runtime that was recorded and is dead now, and the record.
pub fn record() -> (Runtime, Vec<Record>) {
    let names: Vec<&str> = DATABASES.iter().chain(&ACCOUNTS).copied().collect();
    let (runtime, recording) = Runtime::new().supply(&[fixture("numbering_sender")]).record(&names);
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
    for (sender, more) in [("steady", 50), ("busy", 300)] {
        let sent = || all_sent(&runtime.data(sender)).len();
        let before = sent();
        wait_until(SOON, "messages are acknowledged", || sent() >= before + more);
    }
}
