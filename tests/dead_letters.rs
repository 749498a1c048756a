//! Dead letters: what was set aside stays, is looked at, and becomes what a person says.

use serde_json::{Value, json};

use crate::harness::{Manifest, Runtime, SOON, fixture, wait_until};

const QUICK: &str = "[restart]\nfirst_delay_secs = 0.01\nmax_delay_secs = 0.02\njitter_percent = 0\n";

/// `count` messages are set aside for `w`.
fn parked(count: u64) -> Runtime {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).config(QUICK).start();
    runtime.deploy(&Manifest::new().module("w", "wayward"));
    let of = count.to_string();
    let send =
        ["send", "w", "in", "park", "--count", &of, "-p", "line=3", "--message-id", "m", "--correlation-id", "c"];
    runtime.cli(&send).ok();
    wait_until(SOON, "they are set aside", || list(&runtime, &[])["total"] == count);
    runtime
}

fn list(runtime: &Runtime, more: &[&str]) -> Value {
    runtime.json(&[&["dead-letter", "list"], more].concat())
}

fn ids(page: &Value) -> Vec<i64> {
    page["deadLetters"].as_array().unwrap().iter().map(|letter| letter["id"].as_i64().unwrap()).collect()
}

#[test]
fn dead_letters_are_shown_with_all_that_belongs_to_them_and_stay_over_restarts() {
    let mut runtime = parked(2);
    let id = ids(&list(&runtime, &["w"]))[0].to_string();
    let shown = runtime.json(&["dead-letter", "show", &id]);

    assert_eq!(shown["endpoint"], "/devices/Hannover01/modules/w/inputs/in");
    assert_eq!((&shown["sender"], &shown["sequence"]), (&json!("/devices/Hannover01"), &json!(1)));
    assert!(shown["reason"].as_str().unwrap().contains("asked to park"), "{shown}");
    assert!(shown["attempts"].as_u64().unwrap() >= 1 && shown["parkedTimeUtc"].is_string(), "{shown}");
    let message = &shown["message"];
    assert_eq!((&message["body"], &message["properties"]), (&json!("park"), &json!({"line": "3"})));
    let system = &message["systemProperties"];
    assert_eq!((&system["messageId"], &system["correlationId"]), (&json!("m-1"), &json!("c")));
    let text = runtime.cli(&["dead-letter", "show", &id]).ok().stdout;
    assert!(text.contains("body         park") && text.contains("properties   line = 3"), "{text}");
    let table = runtime.cli(&["dead-letter", "list"]).ok().stdout;
    assert!(table.starts_with("ID") && table.contains("asked to park"), "{table}");

    runtime.kill9_and_launch();
    assert_eq!(runtime.json(&["dead-letter", "show", &id]), shown);
    runtime.stop();
    runtime.launch();
    assert_eq!(runtime.json(&["dead-letter", "show", &id]), shown);
    assert_eq!(runtime.json(&["losses"])["deadLetters"], 2);
    assert!(runtime.cli(&["losses"]).ok().stderr.contains("dinrail dead-letter list"));
    assert!(runtime.cli(&["show", "w"]).ok().stdout.contains("dinrail dead-letter list w"));
}

#[test]
fn a_mistyped_name_is_not_taken_for_one_of_which_nothing_is_set_aside() {
    let runtime = parked(1);
    for arguments in [
        &["dead-letter", "list", "ww"][..],
        &["dead-letter", "resend", "--of", "ww"],
        &["dead-letter", "purge", "--of", "ww", "--yes"],
        &["dead-letter", "list", "/devices/Hannover01/modules/ww/inputs/in"],
    ] {
        runtime.cli(arguments).refused(1, &["there is no module 'ww'", "did you mean 'w'?"]);
    }
    runtime.cli(&["dead-letter", "list", "/devices/elsewhere"]).refused(1, &["there is nobody of the name"]);
    for known in ["$upstream", "/devices/Hannover01", "/devices/Hannover01/modules/w/inputs/in"] {
        runtime.cli(&["dead-letter", "list", known]).ok();
    }
    // Those that there are are younger.
    runtime.cli(&["dead-letter", "list", "w", "--older-than", "1h"]).ok();
    // One that is registered and runs elsewhere is nobody's mistake.
    runtime.cli(&["identity", "add", "/devices/Hannover01/modules/outside"]).ok();
    runtime.cli(&["dead-letter", "list", "outside"]).ok();
    let both = json!({"ids": [1], "all": true});
    assert_eq!(runtime.api().ask("POST", "/deadLetters/resend", Some(&both)).unwrap().0, 400);
}

#[test]
fn many_dead_letters_are_read_by_pages_and_narrowed_by_module_and_age() {
    let runtime = parked(7);
    let first = list(&runtime, &["--limit", "3"]);
    let next = first["next"].to_string();
    let second = list(&runtime, &["--limit", "100", "--after", &next]);

    assert_eq!((ids(&first).len(), &first["total"], ids(&second).len()), (3, &json!(7), 4));
    assert_eq!(second["next"], Value::Null);
    let all = [ids(&first), ids(&second)].concat();
    assert!(all.is_sorted() && all == ids(&list(&runtime, &[])), "{all:?}");
    assert_eq!(list(&runtime, &["w", "--older-than", "1h"])["total"], 0);
    let note = runtime.cli(&["dead-letter", "list", "--limit", "3"]).ok().stderr;
    assert!(note.contains("3 of 7"), "{note}");
}

#[test]
fn dead_letters_that_are_discarded_are_in_the_ledger_and_counted_once() {
    let runtime = parked(3);
    let id = ids(&list(&runtime, &[]))[0].to_string();
    runtime.cli(&["dead-letter", "purge", &id]).refused(2, &["--yes"]);
    runtime.cli(&["dead-letter", "purge"]).refused(2, &["it is not said which"]);
    assert_eq!(list(&runtime, &[])["total"], 3);

    let told = runtime.cli(&["dead-letter", "purge", &id, "--yes"]).ok().stdout;
    assert_eq!(told, "1 message discarded (see `dinrail losses`); 2 messages still set aside\n");
    assert_eq!(runtime.json(&["dead-letter", "purge", "--of", "w", "--yes"]), json!({"count": 2, "left": 0}));

    let losses = runtime.json(&["losses"]);
    assert_eq!(
        (&losses["lost"], &losses["parked"], &losses["deadLetters"]),
        (&json!(3), &json!(3), &json!(0)),
        "{losses}"
    );
    runtime.cli(&["dead-letter", "show", &id]).refused(1, &["there is no dead letter", "dinrail dead-letter list"]);
    runtime.cli(&["dead-letter", "resend", &id]).refused(1, &["there is no dead letter"]);
    let (status, _) = runtime.api().ask("POST", "/deadLetters/purge", Some(&json!({}))).unwrap();
    assert_eq!(status, 400, "an empty choice is not everything");
}

#[test]
fn ids_of_no_dead_letter_are_named_beside_those_that_are_discarded() {
    let runtime = parked(3);
    let all = ids(&list(&runtime, &[]));
    let id = all[0].to_string();

    let told = runtime.cli(&["dead-letter", "purge", &id, "998", &id, "999", "--yes"]);
    let told = told.refused(1, &["there is no dead letter 998, 999", "dinrail dead-letter list"]);
    assert!(told.stdout.starts_with("1 message discarded"), "{}", told.stdout);
    let again = json!({"ids": [all[1], all[1], 998]});
    let (status, moved) = runtime.api().ask("POST", "/deadLetters/purge", Some(&again)).unwrap();
    assert_eq!((status, moved), (200, json!({"count": 1, "left": 1, "missing": [998]})));
    let id = all[2].to_string();
    let (resent, other) = (runtime.cli(&["dead-letter", "resend", &id, "998", "--json"]), json!([998]));
    assert_eq!(resent.code, 1);
    assert_eq!(serde_json::from_str::<Value>(&resent.stdout).unwrap()["missing"], other);
}

#[test]
fn an_input_is_named_as_send_and_as_routes_name_it() {
    let runtime = parked(2);
    for input in ["w/in", "/modules/w/inputs/in", "/devices/Hannover01/modules/w/inputs/in"] {
        assert_eq!(list(&runtime, &[input])["total"], 2, "{input}");
        let losses = runtime.json(&["losses", input]);
        assert_eq!((&losses["parked"], &losses["deadLetters"]), (&json!(2), &json!(2)), "{input}: {losses}");
    }
    // The foot is of the name that is asked for.
    let foot = runtime.cli(&["losses", "w"]).ok().stderr;
    assert!(foot.contains("2 still set aside: dinrail dead-letter list w"), "{foot}");
    runtime.cli(&["add", "other", "wayward", "--stopped"]).ok();
    assert_eq!(runtime.json(&["losses", "other"])["deadLetters"], 0);
    assert_eq!(runtime.json(&["dead-letter", "purge", "--of", "w/in", "--yes"]), json!({"count": 2, "left": 0}));
}

#[test]
fn dead_letter_that_is_sent_again_is_delivered_as_if_for_the_first_time() {
    let runtime = parked(2);
    let before = runtime.events("w").iter().filter(|event| *event == "message in 1 park").count();
    let first = ids(&list(&runtime, &[]))[0];

    let told = runtime.cli(&["dead-letter", "resend", &first.to_string()]).ok().stdout;

    assert!(told.starts_with("1 message put back into the queue"), "{told}");
    let attempts = || runtime.events("w").iter().filter(|event| *event == "message in 1 park").count();
    wait_until(SOON, "it is delivered again", || attempts() == before + 1);
    // It parks again, as another letter with a reason and a count of its own.
    wait_until(SOON, "it is set aside again", || list(&runtime, &[])["total"] == 2);
    let page = list(&runtime, &[]);
    assert!(!ids(&page).contains(&first), "{page}");
    assert_eq!(page["deadLetters"][1]["sequence"], 1, "{page}");
    runtime.cli(&["dead-letter", "resend", "--all"]).ok();
    wait_until(SOON, "both are delivered again", || attempts() == before + 3);
}

#[test]
fn removal_says_what_is_set_aside() {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).config(QUICK).start();
    runtime.cli(&["add", "v", "wayward"]).ok();
    runtime.wait_for("v", "running");
    runtime.cli(&["send", "v", "in", "park"]).ok();
    wait_until(SOON, "it is set aside", || list(&runtime, &["v"])["total"] == 1);
    runtime.cli(&["route", "add", "r", "FROM /messages/* INTO BrokeredEndpoint(\"/modules/v/inputs/in\")"]).ok();

    let route = runtime.cli(&["route", "remove", "r"]).ok();
    assert!(route.stderr.contains("1 message that is set aside"), "{}", route.stderr);
    let removed = runtime.cli(&["remove", "v"]).ok();
    assert!(removed.stdout.contains("1 message that is set aside (dinrail dead-letter list v)"), "{}", removed.stdout);
    let purged = runtime.cli(&["remove", "v", "--purge"]).ok();
    assert!(purged.stdout.contains("1 message (see `dinrail losses`)"), "{}", purged.stdout);
    assert_eq!(runtime.json(&["losses"])["lost"], 1);
}

#[test]
fn what_was_set_aside_is_in_the_ledger_however_soon_the_runtime_is_killed() {
    for count in 1..=5 {
        let mut runtime = parked(count);

        runtime.kill9_and_launch();

        let losses = runtime.json(&["losses"]);
        assert_eq!((&losses["parked"], &losses["deadLetters"]), (&json!(count), &json!(count)), "{losses}");
    }
}
