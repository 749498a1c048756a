//! `insight`: statistics over windows of time, through the runtime, over kills of it.

use serde_json::{Value, json};

use crate::harness::{Manifest, Runtime, SOON, plugin_folder, wait_until};

const S: i64 = 1_000_000;
/// In the middle of nowhere, at the start of a minute.
const BEGIN: i64 = 1_795_269_900 * S;

fn insight(queries: Value) -> Runtime {
    let runtime = Runtime::new().watch(plugin_folder()).start();
    let manifest = Manifest::new().module("insight", "insight").desired("insight", json!({"queries": queries}));
    runtime.deploy(&manifest);
    runtime
}

fn give(runtime: &Runtime, readings: impl IntoIterator<Item = (&'static str, f64, i64)>) {
    let mut api = runtime.api();
    for (name, value, secs) in readings {
        let reading = json!({"name": name, "value": value, "unit": "bar", "sourceTime": BEGIN + secs * S});
        let sent = api.ask("POST", "/modules/insight/inputs/readings", Some(&json!({"body": reading}))).unwrap();
        assert_eq!(sent.0, 200, "{sent:?}");
    }
}

fn reported(runtime: &Runtime) -> Value {
    runtime.json(&["twin", "get", "insight"])["properties"]["reported"].clone()
}

#[test]
fn readings_become_one_message_per_group_and_window() {
    let queries =
        json!({"pressure": {"window": {"size": "1m"}, "lateness": "5s", "aggregates": ["mean", "max", "p50"]}});
    let runtime = insight(queries);
    let mut results = runtime.listen("FROM /messages/modules/insight/outputs/results");

    give(&runtime, [("a", 1.0, 0), ("a", 2.0, 30), ("b", 7.0, 31), ("a", 9.0, 59), ("a", 100.0, 66)]);

    let (a, b) = (results.next(), results.next());
    let body = &a["body"];
    assert_eq!(
        (&body["name"], &body["count"], &body["mean"], &body["max"], &body["p50"]),
        (&json!("pressure:a"), &json!(3), &json!(4.0), &json!(9.0), &json!(2.0))
    );
    assert_eq!((&body["windowStart"], &body["unit"]), (&json!("2026-11-21T14:05:00.000000Z"), &json!("bar")));
    assert_eq!((&b["body"]["group"]["name"], &b["body"]["value"]), (&json!("b"), &json!(7.0)));
}

#[test]
fn a_bad_configuration_is_refused_with_all_its_paths_and_the_old_one_goes_on() {
    let runtime = insight(json!({"q": {"window": {"size": "1m"}, "aggregates": ["mean"]}}));
    give(&runtime, [("a", 1.0, 0)]);

    let bad = r#"{"queries": {"q": {"window": {"size": "0s"}, "maxGroups": 0}, "r": {"window": {"size": "1s", "hop": "1s"}}}}"#;
    let paths = ["queries.q.window.size: ", "queries.q.maxGroups: ", "queries.r.window.hop: "];
    runtime.cli(&["twin", "patch", "insight", bad, "--force", "--wait"]).refused(1, &paths);

    let mut results = runtime.listen("FROM /messages/modules/insight/outputs/results");
    give(&runtime, [("a", 3.0, 1), ("a", 3.0, 120)]);
    assert_eq!(results.next()["body"]["mean"], json!(2.0), "the window of the old configuration went on");
}

#[test]
fn windows_survive_a_kill_of_the_runtime_and_say_that_there_was_one() {
    let mut runtime = insight(json!({"q": {"window": {"size": "1m"}, "aggregates": ["sum"]}}));
    give(&runtime, (0..10).map(|n| ("a", 1.0, n)));
    // A window that ends is a reason for a checkpoint: all before it is safe then.
    let mut results = runtime.listen("FROM /messages/modules/insight/outputs/results");
    give(&runtime, (60..70).map(|n| ("a", 1.0, n)));
    assert_eq!(results.next()["body"]["sum"], json!(10.0));
    // What comes after it is safe once a checkpoint was written: every few seconds.
    let file = runtime.state().join("data/insight/windows.checkpoint");
    let is_safe = || std::fs::read_to_string(&file).is_ok_and(|text| text.contains(r#""count":10"#));
    wait_until(SOON, "the open window is on disk", is_safe);

    for _ in 0..3 {
        runtime.kill9_and_launch();
        runtime.wait_for("insight", "running");
    }

    let mut results = runtime.listen("FROM /messages/modules/insight/outputs/results");
    give(&runtime, [("a", 1.0, 90), ("a", 1.0, 200)]);
    // What was told shortly before a kill may be told again.
    let again = json!("2026-11-21T14:05:00.000000Z");
    let result = std::iter::repeat_with(|| results.next()["body"].clone()).find(|body| body["windowStart"] != again);
    let result = result.expect("they go on for ever");
    assert_eq!((&result["sum"], &result["windowStart"]), (&json!(11.0), &json!("2026-11-21T14:06:00.000000Z")));
    assert_eq!((&result["incomplete"], &result["because"]), (&json!(true), &json!(["killed"])));
    wait_until(SOON, "the count of results goes on", || reported(&runtime)["queries"]["q"]["results"] == json!(2));
}

#[test]
fn a_restart_of_the_instance_loses_no_reading() {
    let runtime = insight(json!({"q": {"window": {"size": "1m"}, "aggregates": ["sum"]}}));
    let mut results = runtime.listen("FROM /messages/modules/insight/outputs/results");
    for n in 0..3 {
        give(&runtime, (n * 10..n * 10 + 10).map(|n| ("a", 1.0, n)));
        runtime.cli(&["restart", "insight"]).ok();
        runtime.wait_for("insight", "running");
    }
    give(&runtime, [("a", 0.0, 120)]);
    let result = results.next()["body"].clone();
    assert_eq!((&result["sum"], &result["because"]), (&json!(30.0), &json!(["restarted"])));
}
