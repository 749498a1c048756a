//! `losses`: every message that was dropped or parked is counted by reason, with the first and the last.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::{Manifest, Runtime, SOON, fixture, wait_until};

const QUICK: &str = "[restart]\nfirst_delay_secs = 0.01\nmax_delay_secs = 0.02\njitter_percent = 0\n";

fn started() -> Runtime {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).config(QUICK).start();
    runtime.deploy(&Manifest::new().module("w", "wayward"));
    runtime
}

/// `w` is gone, and three messages with it.
fn purged(runtime: &Runtime) {
    runtime.cli(&["add", "v", "wayward", "--stopped"]).ok();
    (0..3).for_each(|number| drop(runtime.cli(&["send", "v", "in", &format!("m{number}")]).ok()));
    runtime.cli(&["remove", "v", "--purge"]).ok();
}

#[test]
fn nothing_lost_says_so() {
    let runtime = started();
    assert_eq!(runtime.cli(&["losses"]).ok().stdout, "nothing was lost or set aside\n");
    assert_eq!(runtime.cli(&["losses", "w"]).ok().stdout, "nothing of it or for it was lost or set aside\n");
    assert_eq!(runtime.json(&["losses"]), json!({"lost": 0, "parked": 0, "deadLetters": 0, "epoch": 1, "entries": []}));
}

#[test]
fn messages_that_were_purged_are_counted_with_the_first_and_the_last_and_stay_so() {
    let mut runtime = started();
    purged(&runtime);

    let told = runtime.json(&["losses", "v"]);
    assert_eq!((&told["lost"], &told["parked"]), (&json!(3), &json!(0)), "{told}");
    let entry = &told["entries"][0];
    assert_eq!(entry["reason"], "purged");
    assert_eq!(entry["sender"], "/devices/Hannover01");
    assert_eq!(entry["endpoint"], "/devices/Hannover01/modules/v/inputs/in");
    assert_eq!(entry["count"], 3);
    let table = runtime.cli(&["losses"]).ok();
    assert!(table.stdout.starts_with("REASON") && table.stdout.contains("purged"), "{}", table.stdout);
    assert_eq!(runtime.json(&["losses", "w"])["entries"], json!([]), "those of another");

    runtime.stop();
    runtime.launch();
    assert_eq!(runtime.json(&["losses"]), told);
}

#[test]
fn parked_messages_are_told_apart_from_lost_ones() {
    let runtime = started();
    runtime.cli(&["send", "w", "in", "panic"]).ok();
    let parked = |told: &Value| told["parked"] == 1;
    wait_until(SOON, "it is set aside", || parked(&runtime.json(&["losses", "w"])));

    let told = runtime.json(&["losses"]);
    assert_eq!((&told["lost"], &told["entries"][0]["reason"]), (&json!(0), &json!("parked")));
    assert_eq!(told["entries"][0]["first"], told["entries"][0]["last"]);
}

#[test]
fn unknown_name_is_refused_with_the_nearest_also_of_one_that_is_gone() {
    let runtime = started();
    runtime.cli(&["losses", "wx"]).refused(1, &["there is no module 'wx'", "did you mean 'w'?"]);
    runtime.cli(&["losses", "w/inn"]).refused(1, &["w has no input or output 'inn'", "in"]);
    for known in ["w/in", "w/inputs/in", "/devices/Hannover01/modules/w/inputs/in"] {
        assert_eq!(runtime.cli(&["losses", known]).ok().stdout, "nothing of it or for it was lost or set aside\n");
    }
    runtime.cli(&["add", "pressure", "wayward", "--stopped"]).ok();
    runtime.cli(&["send", "pressure", "in", "m"]).ok();
    runtime.cli(&["remove", "pressure", "--purge"]).ok();
    runtime.cli(&["losses", "presure"]).refused(1, &["did you mean 'pressure'?"]);
}

/// Epoch and sequence of what `a` sends when it is asked to.
fn next_number(runtime: &Runtime) -> (u64, u64) {
    let mut passing = runtime.listen("FROM /messages/modules/a/*");
    runtime.cli(&["send", "a", "in", "x"]).ok();
    let stamp = &passing.next()["systemProperties"];
    (stamp["epoch"].as_u64().unwrap(), stamp["sequenceNumber"].as_u64().unwrap())
}

fn connected() -> Runtime {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).config(QUICK).start();
    runtime.deploy(&Manifest::new().module("a", "wayward").module("b", "wayward").connect("a", "b"));
    runtime
}

#[test]
fn sequences_go_on_over_an_orderly_restart_without_a_gap_and_without_a_loss() {
    let mut runtime = connected();
    assert_eq!(next_number(&runtime), (1, 1));
    for expected in 2..4 {
        wait_until(SOON, "b has it", || runtime.events("b").iter().any(|event| event.ends_with(" x")));
        runtime.stop();
        runtime.launch();
        assert_eq!(next_number(&runtime), (1, expected));
    }
    assert_eq!(runtime.json(&["losses"])["entries"], json!([]));
}

#[test]
fn gap_that_kill_9_leaves_in_the_sequences_is_in_the_ledger() {
    let mut runtime = connected();
    runtime.cli(&["send", "a", "send", r#"{"count": 100000}"#]).ok();
    let received =
        |runtime: &Runtime| runtime.events("b").iter().filter(|event| event.starts_with("message")).count() as u64;
    wait_until(SOON, "b gets some", || received(&runtime) > 100);
    runtime.kill9();
    let before = received(&runtime);
    runtime.launch();

    let (epoch, number) = next_number(&runtime);

    let told = runtime.json(&["losses", "a"]);
    let died: Vec<&Value> = told["entries"].as_array().unwrap().iter().filter(|e| e["output"] == "out").collect();
    let [died] = died[..] else { panic!("{told}") };
    assert_eq!((&died["reason"], &died["isUpperBound"]), (&json!("runtimeDied"), &json!(true)), "{told}");
    assert_eq!(died["last"], json!({"epoch": epoch, "sequence": number - 1}), "up to the next one: {told}");
    assert!(died["first"]["sequence"].as_u64().unwrap() <= before + 1, "{told}");
    assert!(number > before, "no number comes twice");
    let table = runtime.cli(&["losses", "a"]).ok();
    assert!(table.stdout.contains("≤ "), "{}", table.stdout);
    assert!(runtime.log().contains("the last run ended without a word"), "{}", runtime.log());
    assert_eq!(runtime.json(&["losses", "a"]), told, "and stays so");
    // It may have been for b, to which the route leads.
    let of_receiver = runtime.json(&["losses", "b"])["entries"].clone();
    assert!(of_receiver.as_array().unwrap().contains(died), "{of_receiver:#}");
}

/// Bodies of the messages on the input `in` of `b`, as JSON.
fn told_to_b(runtime: &Runtime) -> Vec<Value> {
    let body = |event: &String| serde_json::from_str(event.strip_prefix("message in 1 ")?).ok();
    runtime.events("b").iter().filter_map(body).collect()
}

#[test]
fn losses_are_messages_that_routes_take_and_an_unclean_end_is_told_at_the_next_start() {
    let manifest = Manifest::new()
        .module("a", "wayward")
        .module("b", "wayward")
        .route("a-to-nowhere", "FROM /messages/modules/a/* INTO BrokeredEndpoint(\"/modules/gone/inputs/in\")")
        .route("of-a", "FROM /losses/modules/a/* INTO BrokeredEndpoint(\"/modules/b/inputs/in\")");
    let mut runtime = Runtime::new().supply(&[fixture("wayward")]).config(QUICK).start();
    runtime.deploy(&manifest);
    (0..3).for_each(|_| drop(runtime.cli(&["send", "a", "in", "x"]).ok()));
    wait_until(SOON, "a has sent them", || runtime.events("a").len() >= 5);

    runtime.cli(&["remove", "gone", "--purge"]).ok();
    wait_until(SOON, "b is told", || !told_to_b(&runtime).is_empty());
    let told = &told_to_b(&runtime)[0];
    assert_eq!(told["sender"], "/devices/Hannover01/modules/a");
    assert_eq!(
        (&told["reason"], &told["output"], &told["count"]),
        (&json!("purged"), &json!("out"), &json!(3)),
        "{told}"
    );
    assert_eq!((&told["first"], &told["last"], &told["isUpperBound"]), (&json!(1), &json!(3), &json!(false)), "{told}");
    assert_eq!(told["ranges"], json!([{"first": 1, "last": 3, "count": 3}]));
    assert_eq!(runtime.json(&["losses", "a"])["entries"][0]["count"], 3, "as the ledger has it");

    runtime.kill9_and_launch();
    wait_until(SOON, "b is told of the end", || told_to_b(&runtime).iter().any(|told| told["reason"] == "runtimeDied"));
    let all = told_to_b(&runtime);
    let died = all.iter().find(|told| told["reason"] == "runtimeDied").unwrap();
    let entries = runtime.json(&["losses", "a"]);
    let entry = entries["entries"].as_array().unwrap().iter().find(|entry| entry["reason"] == "runtimeDied").unwrap();
    assert_eq!((&died["last"], &died["count"]), (&entry["last"]["sequence"], &entry["count"]), "{died} {entries}");
    assert_eq!(died["isUpperBound"], true);
}

/// Messages of `sender` in the ledger by output and reason; and in what `b` was told, each line once, since a kill may have it told
/// again.
fn ledger_and_told(runtime: &Runtime) -> [BTreeMap<(String, String), u64>; 2] {
    let add = |mut sums: BTreeMap<_, u64>, of: &Value, count: &Value| {
        let text = |key: &str| of[key].as_str().unwrap().to_owned();
        *sums.entry((text("output"), text("reason"))).or_default() += count.as_u64().unwrap();
        sums
    };
    let entries = runtime.json(&["losses", "sender"])["entries"].clone();
    let ledger = entries.as_array().unwrap().iter().fold(BTreeMap::new(), |sums, one| add(sums, one, &one["count"]));
    let lines = told_to_b(runtime);
    let ranges =
        lines.iter().flat_map(|line| line["ranges"].as_array().unwrap().iter().map(move |range| (line, range)));
    let once: BTreeMap<String, _> = ranges
        .map(|(line, range)| {
            let of = ["output", "reason", "endpoint", "epoch"].map(|key| line[key].to_string()).join(" ");
            (format!("{of} {range}"), (line, range))
        })
        .collect();
    let told = once.values().fold(BTreeMap::new(), |sums, (line, range)| add(sums, line, &range["count"]));
    [ledger, told]
}

/// Lines of the ledger that were not told yet.
fn untold(runtime: &Runtime) -> i64 {
    let database = rusqlite::Connection::open(runtime.state().join("queue.db")).unwrap();
    database.busy_timeout(SOON).unwrap();
    database.query_row("SELECT count(*) FROM untold", [], |row| row.get(0)).unwrap()
}

#[test]
fn every_line_of_the_ledger_is_told_on_a_durable_route_whenever_the_runtime_ends() {
    let outputs = ["a", "b", "c", "d", "e", "f"];
    let into_b = "FROM /losses/modules/sender/* INTO BrokeredEndpoint(\"/modules/b/inputs/in\")";
    let manifest = Manifest::new()
        .numbering_sender("sender", &outputs, json!({"pauseUs": 2000}))
        .module("b", "wayward")
        .route("to-nowhere", "FROM /messages/modules/sender/* INTO BrokeredEndpoint(\"/modules/gone/inputs/in\")")
        .any_route("losses", json!({"route": into_b, "durability": "disk"}));
    let supply = [fixture("wayward"), fixture("numbering_sender")];
    let mut runtime = Runtime::new().supply(&supply).config(QUICK).start();
    runtime.deploy(&manifest);
    for _ in 0..3 {
        runtime.wait_for("sender", "running");
        // Before anything was told, as soon as all is said to be, and by an orderly end in between.
        runtime.kill9_and_launch();
        runtime.kill9_and_launch();
        wait_until(SOON, "nothing is left to be told", || untold(&runtime) == 0);
        runtime.kill9_and_launch();
        runtime.stop();
        runtime.launch();
    }

    let is_told = || {
        let [ledger, told] = ledger_and_told(&runtime);
        ledger == told && outputs.iter().all(|output| ledger.contains_key(&((*output).into(), "runtimeDied".into())))
    };
    wait_until(SOON, "all lines were told", is_told);
    let all = runtime.json(&["losses"]);
    let is_of_line = |entry: &&Value| entry["output"].as_str().unwrap().starts_with("losses/") && entry["count"] != 0;
    let lost: Vec<&Value> = all["entries"].as_array().unwrap().iter().filter(is_of_line).collect();
    assert!(lost.is_empty(), "and none of the messages that tell them was lost: {lost:?}");
}

#[test]
fn what_a_damaged_store_lost_is_told_once_to_routes_as_the_ledger_has_it() {
    let manifest = Manifest::new()
        .module("a", "wayward")
        .module("b", "wayward")
        .route("up", "FROM /messages/modules/a/* INTO $upstream")
        .route("losses", "FROM /losses/* INTO BrokeredEndpoint(\"/modules/b/inputs/in\")");
    let mut runtime = Runtime::new().supply(&[fixture("wayward")]).config(QUICK).start();
    runtime.deploy(&manifest);
    runtime.cli(&["send", "a", "send", &json!({"count": 300, "bytes": 1000}).to_string()]).ok();
    wait_until(SOON, "a has sent them", || {
        runtime.events("a").iter().filter(|event| event.contains(" ok ")).count() == 300
    });
    runtime.stop();
    let file = runtime.state().join("queue.db");
    let mut content = std::fs::read(&file).unwrap();
    let middle = content.len() / 2 / 4096 * 4096;
    content[middle..middle + 5 * 4096].fill(0xa5);
    std::fs::write(&file, content).unwrap();
    std::fs::write(runtime.state().join("queue.db.suspect"), "").unwrap();

    runtime.launch();

    let damaged =
        || -> Vec<Value> { told_to_b(&runtime).into_iter().filter(|told| told["reason"] == "damaged").collect() };
    wait_until(SOON, "b is told", || !damaged().is_empty());
    let entries = runtime.json(&["losses"])["entries"].clone();
    let of_ledger: Vec<&Value> =
        entries.as_array().unwrap().iter().filter(|entry| entry["reason"] == "damaged").collect();
    assert_eq!((of_ledger.len(), damaged().len()), (1, 1), "{entries}");
    let told = &damaged()[0];
    assert!(told["count"].as_u64().unwrap() > 0, "{told}");
    assert_eq!((&told["count"], &told["endpoint"]), (&of_ledger[0]["count"], &json!("$upstream")), "{told} {entries}");

    // The next start has nothing new to tell.
    runtime.kill9_and_launch();
    runtime.wait_for("b", "running");
    assert_eq!(runtime.json(&["losses"])["entries"].to_string().matches("damaged").count(), 1);
}

#[test]
fn change_of_reported_properties_is_a_message_where_somebody_takes_it() {
    let runtime = started();
    let mut changes =
        runtime.listen("FROM /twinChangeNotifications WHERE twin_change_includes(properties.reported.acknowledged)");
    let mut ordinary = runtime.listen("FROM /messages/*");

    runtime.cli(&["twin", "patch", "w", "note=1", "--wait"]).ok();
    let twin = runtime.json(&["twin", "get", "w"]);

    let change = loop {
        // The runtime's own twins change too.
        let change = changes.next();
        if change["properties"]["moduleId"] == "w" {
            break change;
        }
    };
    let reported = &twin["properties"]["reported"];
    let said = |of: &Value| (of["acknowledged"]["version"].clone(), of["acknowledged"]["ok"].clone());
    assert_eq!(said(&change["body"]), said(reported), "{change}");
    assert_eq!(change["body"]["$version"], reported["$version"]);
    let system = &change["systemProperties"];
    assert_eq!(
        (&system["connectionDeviceId"], &system["connectionModuleId"]),
        (&json!("Hannover01"), &json!("$edgeHub"))
    );
    assert_eq!(change["properties"]["deviceId"], "Hannover01");
    runtime.cli(&["send", "w", "in", "x"]).ok();
    assert_eq!(
        ordinary.next()["systemProperties"]["connectionModuleId"],
        "w",
        "none of them is among the messages of modules"
    );
}
