//! Times to live on disk go by the time that really passes: not by a clock that starts in 1970 or jumps.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Manifest, Runtime, SOON, fixture, wait_until};

/// What is over on disk is looked for every five seconds, and goes with the second look at the latest: ten seconds of a control loop
/// that has the processor to itself.
const SWEPT: Duration = Duration::from_secs(90);

const HOUR: Duration = Duration::from_secs(3600);
/// 2026-11-20 18:00 UTC, a Friday.
const FRIDAY: Duration = Duration::from_secs(1_795_197_600);

fn database(runtime: &Runtime) -> rusqlite::Connection {
    let database = rusqlite::Connection::open(runtime.state().join("queue.db")).unwrap();
    database.busy_timeout(SOON).unwrap();
    database
}

/// Numbers of the messages of a module that wait, in order.
fn waiting(runtime: &Runtime, module: &str) -> Vec<i64> {
    let database = database(runtime);
    let mut select =
        database.prepare("SELECT sequence FROM message WHERE sender LIKE ?1 AND state = 0 ORDER BY id").unwrap();
    let rows = select.query_map([format!("%/{module}")], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

#[track_caller]
fn send(runtime: &Runtime, module: &str, count: usize) {
    runtime.wait_for(module, "running");
    let before = waiting(runtime, module).len();
    runtime.cli(&["send", module, "send", &json!({ "count": count }).to_string()]).ok();
    wait_until(SOON, "they are stored", || waiting(runtime, module).len() == before + count);
}

/// A module each whose messages live for a weekend, for a day and for a second.
fn manifest() -> Value {
    let mut manifest = Manifest::new();
    for module in ["weekend", "day", "second"] {
        manifest = manifest.module(module, "wayward").route(module, "");
    }
    let losses = "FROM /losses/* INTO BrokeredEndpoint(\"/modules/told/inputs/in\")";
    let mut json = manifest.module("told", "wayward").route("losses", losses).json();
    for (module, secs) in [("weekend", 72 * 3600), ("day", 24 * 3600), ("second", 1)] {
        let route = format!("FROM /messages/modules/{module}/outputs/out INTO $upstream");
        json["modulesContent"]["$edgeHub"]["properties.desired"]["routes"][module] =
            json!({ "route": route, "timeToLiveSecs": secs });
    }
    json
}

/// How many expired messages of a module its route from `/losses/*` was told of.
fn told(runtime: &Runtime, module: &str) -> u64 {
    let told = runtime.events("told").into_iter().filter_map(|event| {
        let line: Value = serde_json::from_str(event.strip_prefix("message in 1 ")?).ok()?;
        let is_meant = line["sender"].as_str()?.ends_with(module) && line["reason"] == "expired";
        is_meant.then(|| line["count"].as_u64().unwrap())
    });
    told.sum()
}

#[test]
fn weekend_without_network_or_clock_expires_only_what_was_warned_of() {
    let (runtime, clock) = Runtime::new().supply(&[fixture("wayward")]).clock();
    clock.set(FRIDAY);
    let mut runtime = runtime.start();
    let file = runtime.write("manifest.json", manifest().to_string());
    let plan = runtime.json(&["plan", file.to_str().unwrap()]).to_string();
    assert!(
        plan.contains("route day: messages may wait 24 h 0 min at most")
            || plan.contains("route day: messages may wait 1 d"),
        "{plan}"
    );
    assert!(!plan.contains("route weekend: messages may wait"), "{plan}");
    runtime.json(&["deploy", file.to_str().unwrap(), "--wait", "--timeout", "20s"]);
    send(&runtime, "weekend", 3);
    send(&runtime, "day", 3);
    runtime.stop();

    // The device starts again without a clock: another boot, 1970.
    database(&runtime).execute("UPDATE boot SET boot_id = 'before'", []).unwrap();
    clock.set(HOUR);
    runtime.launch();
    assert!(runtime.log().contains("which is not trusted"), "{}", runtime.log());
    send(&runtime, "weekend", 2);
    send(&runtime, "second", 2);
    wait_until(SWEPT, "what lived for a second is gone", || waiting(&runtime, "second").is_empty());
    assert_eq!((waiting(&runtime, "weekend").len(), waiting(&runtime, "day").len()), (5, 3));

    // On Monday morning it gets the time.
    let monday = FRIDAY + 62 * HOUR;
    clock.set(monday);
    wait_until(SWEPT, "what lived for a day is gone", || waiting(&runtime, "day").is_empty());
    let entries = runtime.json(&["losses", "day"])["entries"].clone();
    assert_eq!((&entries[0]["reason"], &entries[0]["count"]), (&json!("expired"), &json!(3)), "{entries}");

    // What was taken in in 1970 can be told its true time.
    let query = "SELECT created_us, b.offset_us + m.monotonic_us FROM message m JOIN boot b ON b.id = m.boot
                 WHERE NOT clock_trusted ORDER BY m.id";
    let queue = database(&runtime);
    let mut select = queue.prepare(query).unwrap();
    let times = select.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))).unwrap();
    let times: Vec<(i64, i64)> = times.map(Result::unwrap).collect();
    assert_eq!(times.len(), 2, "{times:?}");
    for (stamped, rebuilt) in times {
        let us = |of: Duration| i64::try_from(of.as_micros()).unwrap();
        assert!(stamped < us(2 * HOUR), "{stamped}");
        assert!((us(monday - HOUR)..us(monday)).contains(&rebuilt), "{rebuilt}");
    }

    // And then a wrong one: what follows goes by the time that passes.
    clock.set(monday + 30 * 24 * HOUR);
    wait_until(SOON, "the jump is noted", || runtime.log().matches("the clock jumped").count() == 2);
    send(&runtime, "second", 1);
    wait_until(SWEPT, "there was a look at what is over", || waiting(&runtime, "second").is_empty());
    let left = waiting(&runtime, "weekend");
    assert!(left.len() == 5 && left.is_sorted(), "{left:?}");
    assert_eq!(runtime.json(&["losses", "weekend"])["entries"], json!([]));
    // Whoever listens for losses heard of each of them once.
    for (module, count) in [("day", 3), ("second", 3), ("weekend", 0)] {
        wait_until(SOON, "they are told", || told(&runtime, module) >= count);
        let entries = runtime.json(&["losses", module])["entries"].clone();
        let counted: u64 = entries.as_array().unwrap().iter().filter_map(|entry| entry["count"].as_u64()).sum();
        assert_eq!((told(&runtime, module), counted), (count, count), "{module}: {entries}");
    }
}
