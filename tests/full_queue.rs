//! A receiver that takes nothing holds its senders once for 50 ms, and nobody else: what it has no room for waits on disk, in order,
//! unless its route says otherwise.

use serde_json::{Value, json};

use crate::harness::{Manifest, Runtime, SOON, fixture, misbehaving, wait_until};

/// Messages that fit into the queue of the receiver.
const ROOM: usize = 4;
const COUNT: usize = 30;

const INTO: &str = "FROM /messages/modules/sender/outputs/out INTO BrokeredEndpoint('/modules/receiver/inputs/in')";

/// A sender, and a receiver with a small queue that is not running.
fn started(route: Value) -> Runtime {
    let config = format!("[queue]\nlane_messages = {ROOM}\n");
    let runtime = Runtime::new().supply(&[fixture("wayward")]).config(&config).start();
    let manifest = Manifest::new().module("sender", "wayward").module("receiver", "wayward").any_route("r", route);
    runtime.deploy(&manifest);
    runtime.cli(&["stop", "receiver"]).ok();
    runtime.wait_for("receiver", "stopped");
    runtime
}

/// What became of the messages of a sender, a word each.
fn sent(runtime: &Runtime, name: &str) -> Vec<String> {
    let events = runtime.events(name);
    let sent = events.iter().filter(|event| event.starts_with("sent "));
    sent.map(|event| event.split(' ').nth(2).unwrap().to_owned()).collect()
}

fn send(runtime: &Runtime, name: &str, count: usize) {
    let before = sent(runtime, name).len();
    runtime.cli(&["send", name, "send", &format!(r#"{{"count": {count}}}"#)]).ok();
    wait_until(SOON, "all are sent", || sent(runtime, name).len() == before + count);
}

/// Bodies that the receiver got, in order, without the one that holds it up.
fn bodies(runtime: &Runtime) -> Vec<String> {
    let events = runtime.events("receiver");
    let bodies = events.iter().filter_map(|event| event.strip_prefix("message in 1 "));
    bodies.filter(|body| *body != "block").map(str::to_owned).collect()
}

/// Numbers that a module got, without what the test sends itself.
fn received(runtime: &Runtime, name: &str) -> Vec<usize> {
    let events = runtime.events(name);
    let bodies = events.iter().filter_map(|event| event.strip_prefix("message in 1 "));
    bodies.filter_map(|body| body.trim().parse().ok()).collect()
}

#[track_caller]
fn receives(runtime: &Runtime, numbers: impl IntoIterator<Item = usize>) {
    let expected: Vec<usize> = numbers.into_iter().collect();
    wait_until(SOON, "the receiver has them", || received(runtime, "receiver").len() >= expected.len());
    assert_eq!(received(runtime, "receiver"), expected);
    wait_until(SOON, "nothing waits", || runtime.module("receiver")["inbox"]["messages"] == 0);
}

/// Reason and count of every loss.
fn losses(runtime: &Runtime) -> Vec<(String, u64)> {
    let told = runtime.json(&["losses"]);
    let entries = told["entries"].as_array().unwrap().iter();
    entries.map(|entry| (entry["reason"].as_str().unwrap().to_owned(), entry["count"].as_u64().unwrap())).collect()
}

#[test]
fn full_queue_holds_its_sender_once_and_what_it_has_no_room_for_waits_on_disk_in_order() {
    let manifest = Manifest::new()
        .module("sender", "wayward")
        .module("receiver", "wayward")
        .module("good", "wayward")
        .connect("sender", "receiver")
        .connect("sender", "good");
    let config = format!("[queue]\nlane_messages = {ROOM}\n");
    let runtime = Runtime::new().supply(&[fixture("wayward")]).config(&config).start();
    runtime.deploy(&manifest);
    runtime.cli(&["send", "receiver", "in", "block"]).ok();
    wait_until(SOON, "it blocks", || runtime.events("receiver").iter().any(|event| event.ends_with("block")));

    send(&runtime, "sender", COUNT);

    assert!(sent(&runtime, "sender").iter().all(|outcome| outcome == "ok"), "{:?}", runtime.events("sender"));
    let held = runtime.events("sender").into_iter().filter(|event| event.starts_with(&format!("sent {ROOM} ")));
    let held_ms: Vec<u64> = held.map(|event| event.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert!(held_ms[0] >= 45, "the first one without room waits for some: {held_ms:?}");
    wait_until(SOON, "the other receiver has all of them", || received(&runtime, "good").len() == COUNT);
    let inbox = || runtime.module("receiver")["inbox"].clone();
    wait_until(SOON, "all are on disk that have no room", || inbox()["spilled"] == COUNT - ROOM);
    assert_eq!(inbox()["messages"], COUNT + 1, "and the one that it is at");

    let data = runtime.state().join("data/receiver");
    std::fs::write(data.join("go"), "").unwrap();
    receives(&runtime, 0..COUNT);
    // It has caught up: what comes now is in memory again.
    runtime.cli(&["stop", "receiver"]).ok();
    runtime.wait_for("receiver", "stopped");
    send(&runtime, "sender", ROOM);
    assert_eq!((&inbox()["messages"], &inbox()["spilled"]), (&json!(ROOM), &json!(0)));
    assert_eq!(losses(&runtime), []);
}

#[test]
fn orderly_end_in_the_middle_of_a_spill_loses_nothing_and_keeps_the_order() {
    let mut runtime = started(json!(INTO));
    send(&runtime, "sender", COUNT);

    runtime.stop();
    runtime.launch();
    assert_eq!(runtime.module("receiver")["inbox"]["messages"], COUNT);
    // What comes now goes behind what waits.
    runtime.wait_for("sender", "running");
    runtime.cli(&["send", "sender", "send", r#"{"count": 3}"#]).ok();
    wait_until(SOON, "three more wait", || runtime.module("receiver")["inbox"]["messages"] == COUNT + 3);
    runtime.cli(&["start", "receiver"]).ok();

    receives(&runtime, (0..COUNT).chain(0..3));
    assert_eq!(losses(&runtime), []);
}

#[test]
fn kill_9_in_the_middle_of_a_spill_takes_only_what_was_in_memory() {
    let mut runtime = started(json!(INTO));
    send(&runtime, "sender", COUNT);
    wait_until(SOON, "the others are on disk", || runtime.module("receiver")["inbox"]["spilled"] == COUNT - ROOM);

    runtime.kill9_and_launch();
    runtime.cli(&["start", "receiver"]).ok();

    receives(&runtime, ROOM..COUNT);
}

#[test]
fn durable_route_to_an_input_loses_nothing_by_kill_9() {
    let mut runtime = started(json!({"route": INTO, "durability": "disk"}));
    send(&runtime, "sender", COUNT);
    assert!(sent(&runtime, "sender").iter().all(|outcome| outcome == "ok"));

    runtime.kill9_and_launch();
    runtime.cli(&["start", "receiver"]).ok();
    receives(&runtime, 0..COUNT);

    // What was handled does not come again.
    runtime.kill9_and_launch();
    runtime.wait_for("receiver", "running");
    runtime.wait_for("sender", "running");
    runtime.cli(&["send", "sender", "send", r#"{"count": 1}"#]).ok();
    receives(&runtime, (0..COUNT).chain([0]));
}

#[test]
fn route_that_drops_the_oldest_keeps_the_newest_and_counts_the_others() {
    let runtime = started(json!({"route": INTO, "onFull": "dropOldest"}));
    send(&runtime, "sender", COUNT);
    assert!(sent(&runtime, "sender").iter().all(|outcome| outcome == "ok"));
    runtime.cli(&["start", "receiver"]).ok();

    receives(&runtime, COUNT - ROOM..COUNT);
    wait_until(SOON, "they are counted", || losses(&runtime) == [("dropOldest".to_owned(), (COUNT - ROOM) as u64)]);
}

#[test]
fn route_that_drops_the_newest_keeps_the_oldest_and_counts_the_others() {
    let runtime = started(json!({"route": INTO, "onFull": "dropNewest"}));
    send(&runtime, "sender", COUNT);
    assert!(sent(&runtime, "sender").iter().all(|outcome| outcome == "ok"));
    runtime.cli(&["start", "receiver"]).ok();

    receives(&runtime, 0..ROOM);
    wait_until(SOON, "they are counted", || losses(&runtime) == [("dropNewest".to_owned(), (COUNT - ROOM) as u64)]);
}

#[test]
fn route_that_blocks_tells_its_sender_after_the_time_it_names() {
    let runtime = started(json!({"route": INTO, "onFull": "block", "blockMs": 80}));
    send(&runtime, "sender", ROOM + 2);

    assert_eq!(sent(&runtime, "sender"), ["ok", "ok", "ok", "ok", "Full", "Full"]);
    let events = runtime.events("sender");
    let held_ms: u64 = events.last().unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(held_ms >= 75, "{events:?}");
    wait_until(SOON, "they are counted", || losses(&runtime) == [("full".to_owned(), 2)]);
}

#[test]
fn sender_that_is_asked_to_stop_is_held_no_longer() {
    let runtime = Runtime::new().start();
    runtime.add_image(&misbehaving());
    let into = "FROM /messages/modules/flooder/* INTO BrokeredEndpoint(\"/modules/late/inputs/in\")";
    // With a time to live it waits at another place.
    for ttl in [0, 3600] {
        let route = json!({"route": into, "onFull": "block", "blockMs": 10_000, "timeToLiveSecs": ttl});
        let manifest = Manifest::new()
            .module("flooder", "misbehaving")
            .desired("flooder", json!({"misbehave": "flood"}))
            .option("flooder", "stopGraceSecs", json!(3))
            .module("late", "not-here-yet")
            .any_route("in", route);
        runtime.apply(&manifest);
        runtime.wait_for("flooder", "running");
        wait_until(SOON, "there is no room left", || {
            let sent = || runtime.module("late")["inbox"]["messages"].as_u64().unwrap();
            let before = sent();
            before >= 1000 && sent() == before
        });

        runtime.cli(&["stop", "flooder"]).ok();

        runtime.wait_for("flooder", "stopped");
        runtime.cli(&["start", "flooder"]).ok();
        runtime.wait_for("flooder", "running");
    }
}

#[test]
fn what_waited_at_an_orderly_end_comes_before_what_is_sent_since_on_every_kind_of_route() {
    // Several turns of the receiver.
    let (many, more) = (1_000, 20);
    for route in [
        json!({"route": INTO, "onFull": "dropOldest"}),
        json!({"route": INTO, "onFull": "dropNewest"}),
        json!({"route": INTO, "onFull": "block"}),
        json!({"route": INTO, "onFull": "spill"}),
    ] {
        let config = format!("[queue]\nlane_messages = {many}\n");
        let mut runtime = Runtime::new().supply(&[fixture("wayward")]).config(&config).start();
        let manifest = Manifest::new().module("sender", "wayward").module("receiver", "wayward");
        runtime.deploy(&manifest.any_route("r", route));
        runtime.cli(&["stop", "receiver"]).ok();
        runtime.wait_for("receiver", "stopped");
        send(&runtime, "sender", many);
        runtime.stop();
        runtime.launch();
        runtime.wait_for("sender", "running");
        send(&runtime, "sender", more);
        runtime.cli(&["start", "receiver"]).ok();

        receives(&runtime, (0..many).chain(0..more));
        assert_eq!(losses(&runtime), []);
    }
}

#[test]
fn order_holds_over_an_orderly_end_where_the_way_of_a_route_changed_twice_while_messages_waited() {
    for on_full in ["dropOldest", "dropNewest", "block", "spill"] {
        let config = format!("[queue]\nlane_messages = {ROOM}\n");
        let mut runtime = Runtime::new().supply(&[fixture("wayward")]).config(&config).start();
        let deploy = |runtime: &Runtime, route: Value| {
            let manifest = Manifest::new().module("sender", "wayward").module("receiver", "wayward");
            runtime.deploy(&manifest.any_route("r", route));
        };
        let on_disk = json!({"route": INTO, "durability": "disk"});
        deploy(&runtime, on_disk.clone());
        runtime.cli(&["stop", "receiver"]).ok();
        runtime.wait_for("receiver", "stopped");
        let in_memory = json!({"route": INTO, "onFull": on_full});
        // The lane has room for all that goes there.
        let count = ROOM / 2;
        for (bytes, way) in (1..).zip([&on_disk, &in_memory, &on_disk, &in_memory]) {
            deploy(&runtime, way.clone());
            let before = sent(&runtime, "sender").len();
            runtime.cli(&["send", "sender", "send", &format!(r#"{{"count": {count}, "bytes": {bytes}}}"#)]).ok();
            wait_until(SOON, "all are sent", || sent(&runtime, "sender").len() == before + count);
        }
        runtime.stop();
        runtime.launch();
        runtime.cli(&["start", "receiver"]).ok();

        let got = || bodies(&runtime);
        let sent = (1..=4).flat_map(|bytes| (0..count).map(move |number| format!("{number} {}", "x".repeat(bytes))));
        let expected: Vec<String> = sent.collect();
        wait_until(SOON, "everything has arrived", || got().len() >= expected.len());
        assert_eq!(got(), expected, "{on_full}");
        assert_eq!(losses(&runtime), []);
    }
}

#[test]
fn better_priority_is_served_first() {
    let into = |from: &str, priority: u32| {
        let text = INTO.replace("sender", from);
        json!({"route": text, "priority": priority})
    };
    let runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    let modules = Manifest::new().module("low", "wayward").module("high", "wayward").module("receiver", "wayward");
    runtime.deploy(&modules.any_route("l", into("low", 8)).any_route("h", into("high", 2)));
    runtime.cli(&["stop", "receiver"]).ok();
    runtime.wait_for("receiver", "stopped");
    send(&runtime, "low", 3);
    send(&runtime, "high", 5);
    runtime.cli(&["start", "receiver"]).ok();

    receives(&runtime, (0..5).chain(0..3));
}

#[test]
fn what_has_waited_longer_than_its_time_to_live_is_not_delivered_but_counted() {
    let runtime = started(json!({"route": INTO, "timeToLiveSecs": 1}));
    send(&runtime, "sender", COUNT);
    wait_until(SOON, "all have expired, in memory and on disk", || {
        let expired =
            losses(&runtime).iter().filter(|(reason, _)| reason == "expired").map(|(_, count)| count).sum::<u64>();
        expired == COUNT as u64
    });
    assert_eq!(runtime.module("receiver")["inbox"]["messages"], 0);
    runtime.cli(&["start", "receiver"]).ok();
    runtime.wait_for("receiver", "running");
    send(&runtime, "sender", 2);

    receives(&runtime, 0..2);
}

#[test]
fn what_is_sent_now_comes_through_a_backlog_that_is_over_and_each_of_that_is_counted_once() {
    let over = 3_000;
    let into = |from: &str, secs: u64| json!({"route": INTO.replace("sender", from), "durability": "disk", "timeToLiveSecs": secs});
    let mut runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    let modules = Manifest::new().module("sender", "wayward").module("fresh", "wayward").module("receiver", "wayward");
    runtime.deploy(&modules.any_route("s", into("sender", 1)).any_route("f", into("fresh", 3600)));
    runtime.cli(&["stop", "receiver"]).ok();
    runtime.wait_for("receiver", "stopped");
    send(&runtime, "sender", over);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(2);
    wait_until(SOON, "they are over", || std::time::Instant::now() > until);
    runtime.kill9_and_launch();

    send(&runtime, "fresh", 2);
    runtime.cli(&["start", "receiver"]).ok();

    receives(&runtime, 0..2);
    let expired = || -> u64 { losses(&runtime).iter().filter(|(reason, _)| reason == "expired").map(|(_, n)| n).sum() };
    wait_until(5 * SOON, "what is over is counted", || expired() >= over as u64);
    assert_eq!(expired(), over as u64, "{:?}", losses(&runtime));
    send(&runtime, "fresh", 1);
    wait_until(SOON, "it goes on", || received(&runtime, "receiver") == [0, 1, 0]);
}

/// What the receiver got while it had been held up by one message: bodies in order. `early` numbers wait on disk when `late` sends.
fn got_with_order(order: &str) -> Vec<String> {
    let config = format!("[queue]\nlane_messages = {ROOM}\n");
    let runtime = Runtime::new().supply(&[fixture("wayward")]).config(&config).start();
    let mut manifest = Manifest::new()
        .store(json!({"endpoints": {"/modules/receiver/inputs/in": { "order": order }}}))
        .module("receiver", "wayward")
        .option("receiver", "watchdogSecs", json!(0));
    for name in ["early", "late"] {
        let route =
            format!("FROM /messages/modules/{name}/outputs/out INTO BrokeredEndpoint('/modules/receiver/inputs/in')");
        manifest = manifest.module(name, "wayward").route(name, &route);
    }
    runtime.deploy(&manifest);
    runtime.cli(&["send", "receiver", "in", "block"]).ok();
    wait_until(SOON, "it is held up", || runtime.events("receiver").iter().any(|event| event.ends_with(" block")));
    send(&runtime, "early", COUNT);
    let on_disk = || {
        let queue = rusqlite::Connection::open(runtime.state().join("queue.db")).unwrap();
        queue.query_row("SELECT count(*) FROM message", [], |row| row.get::<_, i64>(0)).unwrap_or(0)
    };
    wait_until(SOON, "what has no room is on disk", || on_disk() == (COUNT - ROOM) as i64);
    runtime.cli(&["send", "late", "send", r#"{"count": 3, "bytes": 1}"#]).ok();
    wait_until(SOON, "late has sent", || sent(&runtime, "late").len() == 3);

    std::fs::write(runtime.data("receiver").join("go"), "").unwrap();
    let got = || bodies(&runtime);
    wait_until(SOON, "everything has arrived", || got().len() == COUNT + 3);
    wait_until(SOON, "nothing waits", || runtime.module("receiver")["inbox"]["messages"] == 0);
    assert_eq!(losses(&runtime), []);
    got()
}

#[test]
fn live_first_lets_what_is_sent_now_go_before_the_backlog_and_loses_nothing() {
    for (order, places) in [("liveFirst", 0..ROOM + 3), ("oldestFirst", COUNT..COUNT + 3)] {
        let got = got_with_order(order);
        let is_late = |body: &&String| body.ends_with('x');
        let numbers = |is_meant: bool| -> Vec<usize> {
            let of = got.iter().filter(|body| is_late(body) == is_meant);
            of.map(|body| body.split(' ').next().unwrap().parse().unwrap()).collect()
        };
        assert_eq!(numbers(false), (0..COUNT).collect::<Vec<_>>(), "{order}: {got:?}");
        assert_eq!(numbers(true), [0, 1, 2], "{order}: {got:?}");
        assert_eq!(got[places].iter().filter(is_late).count(), 3, "{order}: {got:?}");
    }
}

#[test]
fn live_first_holds_for_every_kind_of_route_and_after_a_restart() {
    for way in [json!({"durability": "disk"}), json!({"onFull": "dropOldest"}), json!({"onFull": "block"})] {
        let into = |name: &str| {
            let mut route = way.clone();
            route["route"] = json!(INTO.replace("sender", name));
            route
        };
        let mut runtime = Runtime::new().supply(&[fixture("wayward")]).start();
        let manifest = Manifest::new()
            .store(json!({"endpoints": {"/modules/receiver/inputs/in": {"order": "liveFirst"}}}))
            .module("receiver", "wayward")
            .option("receiver", "watchdogSecs", json!(0))
            .module("early", "wayward")
            .module("late", "wayward");
        runtime.deploy(&manifest.any_route("e", into("early")).any_route("l", into("late")));
        runtime.cli(&["stop", "receiver"]).ok();
        runtime.wait_for("receiver", "stopped");
        send(&runtime, "early", COUNT);
        runtime.stop();
        runtime.launch();
        runtime.cli(&["send", "receiver", "in", "block"]).ok();
        runtime.cli(&["start", "receiver"]).ok();
        wait_until(SOON, "it is held up", || runtime.events("receiver").iter().any(|event| event.ends_with(" block")));

        runtime.cli(&["send", "late", "send", r#"{"count": 3, "bytes": 1}"#]).ok();
        wait_until(SOON, "late has sent", || sent(&runtime, "late").len() == 3);
        std::fs::write(runtime.data("receiver").join("go"), "").unwrap();

        let got = || bodies(&runtime);
        wait_until(SOON, "everything has arrived", || got().len() >= COUNT + 3);
        let late = (0..3).map(|number| format!("{number} x"));
        let expected: Vec<String> = late.chain((0..COUNT).map(|number| format!("{number} "))).collect();
        assert_eq!(got(), expected, "{way}");
        wait_until(SOON, "nothing waits", || runtime.module("receiver")["inbox"]["messages"] == 0);
        assert_eq!(losses(&runtime), []);
    }
}

#[test]
fn sender_that_may_be_held_does_not_wait_behind_what_has_outlived_its_time_for_a_receiver_that_hangs() {
    let route = json!({"route": INTO, "onFull": "block", "blockMs": 10_000, "timeToLiveSecs": 1});
    let runtime = started(route);
    runtime.cli(&["start", "receiver"]).ok();
    runtime.wait_for("receiver", "running");
    runtime.cli(&["send", "receiver", "in", "block"]).ok();
    wait_until(SOON, "it hangs", || runtime.events("receiver").iter().any(|event| event.ends_with("block")));

    // The last one waits until the first ones are over, and not for the receiver.
    send(&runtime, "sender", ROOM + 1);

    assert!(sent(&runtime, "sender").iter().all(|outcome| outcome == "ok"), "{:?}", runtime.events("sender"));
    // How many were over by then depends on how fast they came.
    let expired = || -> u64 { losses(&runtime).iter().filter(|(reason, _)| reason == "expired").map(|(_, n)| n).sum() };
    wait_until(SOON, "the first ones are counted", || expired() > 0);
    std::fs::write(runtime.data("receiver").join("go"), "").unwrap();
    wait_until(SOON, "nothing waits", || runtime.module("receiver")["inbox"]["messages"] == 0);
    // What is over is not delivered, and the rest is.
    let got = || received(&runtime, "receiver");
    wait_until(SOON, "each is delivered or counted", || got().len() as u64 + expired() == ROOM as u64 + 1);
    assert_eq!(losses(&runtime).len(), 1, "{:?}", losses(&runtime));
    assert!(got().first().is_none_or(|first| *first > 0) && got().is_sorted(), "{:?}", got());
}
