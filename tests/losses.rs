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
}
