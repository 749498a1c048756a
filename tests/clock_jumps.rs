//! A device may start in 1970 and get its time later, or get it wrong: what runs goes on, and nothing is lost by it.

use std::time::Duration;

use serde_json::json;

use crate::harness::numbering::{accepted, acknowledged};
use crate::harness::{Manifest, Runtime, SOON, fixture, wait_until};

const IN: &str = "FROM /messages/modules/sender/* INTO BrokeredEndpoint(\"/modules/receiver/inputs/in\")";
const DAY: Duration = Duration::from_secs(86_400);

fn manifest() -> Manifest {
    let sender = json!({"pauseUs": 2000});
    Manifest::new()
        .numbering_sender("sender", &["a", "b"], sender)
        .numbering_receiver("receiver", json!({}))
        .route("in", IN)
}

#[test]
fn messages_go_on_in_order_while_the_clock_jumps() {
    let (runtime, clock) = Runtime::new().supply(&[fixture("numbering_sender"), fixture("numbering_receiver")]).clock();
    clock.set(DAY / 2);
    let runtime = runtime.start();
    runtime.deploy(&manifest());
    let started = runtime.module("sender")["lastStartTimeUtc"].as_str().unwrap().to_owned();
    assert!(started.starts_with("1970-01-01T12:0"), "the clock of the runtime is not the one that was set: {started}");

    let mut passing = runtime.listen("FROM /messages/modules/sender/outputs/a");
    let in_1970 = passing.next();
    let told = &in_1970["clock"];
    assert_eq!((&told["isTrusted"], told["boot"].is_u64()), (&json!(false), true), "{in_1970}");
    let stamped = in_1970["systemProperties"]["enqueuedTime"].as_str().unwrap();
    assert!(stamped.starts_with("1970-01-01T12:0"), "{in_1970}");
    let monotonic_us = told["monotonicUs"].as_i64().unwrap();

    let folder = runtime.data("receiver");
    let received = || accepted(&folder).values().map(Vec::len).sum::<usize>();
    let one_more_lot = || {
        let before = received();
        wait_until(SOON, "messages arrive", || received() > before + 50);
    };
    one_more_lot();
    // A clock that can be right: what was seen before can be given its true time.
    clock.set(DAY * 20_800 + DAY / 2);
    let right = std::iter::repeat_with(|| passing.next()).find(|line| line["body"].is_null()).unwrap();
    assert_eq!((&right["clock"]["isTrusted"], &right["clock"]["boot"]), (&json!(true), &told["boot"]), "{right}");
    let true_us = u64::try_from(right["clock"]["offsetUs"].as_i64().unwrap() + monotonic_us).unwrap();
    let noon = DAY * 20_800 + DAY / 2;
    let true_time = Duration::from_micros(true_us);
    assert!(
        (noon - Duration::from_secs(600)..noon).contains(&true_time),
        "{true_time:?} is not shortly before {noon:?}"
    );
    drop(passing);
    for day in [20_000, 19_000, 30_000, 0] {
        clock.set(DAY * day + DAY / 2);
        one_more_lot();
    }

    runtime.cli(&["stop", "sender"]).ok();
    let acknowledged = acknowledged(&runtime.data("sender"));
    wait_until(SOON, "the last one arrives", || received() == acknowledged.values().map(Vec::len).sum::<usize>());
    for ((_, output), numbers) in accepted(&folder) {
        assert_eq!(numbers, acknowledged[&output], "output {output}");
    }
    assert_eq!(runtime.json(&["losses"])["entries"], json!([]));
}
