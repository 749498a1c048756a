//! However much waits on disk, a start delivers the first of it at once, and all of it in order.
//!
//! `DINRAIL_BACKLOG` says how many messages wait (4,000 unless told).

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::numbering::{accepted, acknowledged};
use crate::harness::{Manifest, Runtime, SOON, fixture, wait_until};

const OUTPUTS: [&str; 4] = ["a", "b", "c", "d"];
const CONFIG: &str = "[instance]\nwatchdog_secs = 0\n";

fn lines(file: &Path, mark: u8) -> usize {
    let bytes = std::fs::read(file).unwrap_or_default();
    bytes.split(|byte| *byte == b'\n').filter(|line| line.first() == Some(&mark)).count()
}

#[test]
fn a_backlog_is_delivered_from_the_first_message_on_after_a_start() {
    let wanted = std::env::var("DINRAIL_BACKLOG").ok().and_then(|text| text.parse().ok()).unwrap_or(4_000_u64);
    let libraries = [fixture("numbering_sender"), fixture("numbering_receiver")];
    let mut runtime = Runtime::new().supply(&libraries).config(CONFIG).start();
    let gate = runtime.folder().join("gate");
    let route = json!({
        "route": "FROM /messages/modules/sender/* INTO BrokeredEndpoint(\"/modules/receiver/inputs/in\")",
        "durability": "disk",
    });
    let sender = json!({"pauseUs": 0, "window": 64, "count": wanted / 4, "maxBytes": 300});
    let manifest = Manifest::new()
        .numbering_sender("sender", &OUTPUTS, sender)
        .numbering_receiver("receiver", json!({"gate": gate}))
        .any_route("in", route);
    runtime.deploy(&manifest);
    let account = runtime.data("sender").join("acknowledged");
    let time = SOON + Duration::from_millis(wanted);
    wait_until(time, "all are acknowledged", || lines(&account, b'+') as u64 == wanted / 4 * 4);
    runtime.kill9();
    // Nothing more is sent: what is delivered from now on is the backlog.
    let told = acknowledged(&runtime.data("sender"));
    let notes = runtime.data("receiver").join("handled");
    assert_eq!(lines(&notes, b'h'), 0, "the gate is shut");

    std::fs::write(&gate, "").unwrap();
    let begun = Instant::now();
    let first = std::thread::scope(|scope| {
        let first = scope.spawn(|| {
            wait_until(SOON * 3, "the first message is delivered", || lines(&notes, b'h') > 0);
            begun.elapsed()
        });
        runtime.launch();
        first.join().unwrap()
    });
    println!("a backlog of {wanted} messages: the first is delivered {first:?} after the start");

    let arrived = || {
        let accepted = accepted(&runtime.data("receiver"));
        told.iter().all(|(output, numbers)| {
            accepted.get(&("sender".to_owned(), output.clone())).is_some_and(|seen| seen.len() >= numbers.len())
        })
    };
    let mut pause = Duration::from_millis(20);
    wait_until(time, "all of it has arrived", || {
        std::thread::park_timeout(pause);
        pause = (pause * 2).min(Duration::from_secs(5));
        arrived()
    });
    for ((_, output), numbers) in accepted(&runtime.data("receiver")) {
        let of_backlog: Vec<u64> = numbers.into_iter().take(told[&output].len()).collect();
        assert!(of_backlog == told[&output], "output {output} is out of order, or something is missing");
    }
}
