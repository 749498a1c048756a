//! `losses`: every message that was dropped or parked is counted by reason, with the first and the last.

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
