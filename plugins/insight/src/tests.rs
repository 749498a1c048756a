use std::path::{Path, PathBuf};

use super::*;
use dinrail_plugin::testing::{Bench, Verdict};

const S: i64 = 1_000_000;

fn load() -> Value {
    json!({"queries": {"load": {"window": {"size": "10s"}, "lateness": "1s", "aggregates": ["mean", "p95"]}}})
}

/// A data folder that lives as long as the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("dinrail-insight-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        Folder(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn bench_in(folder: &Path, desired: Value) -> Bench {
    let mut bench = Bench::new::<Insight>(desired).data_folder(folder).create().unwrap();
    bench.start().unwrap();
    bench
}

fn bench(desired: Value) -> Bench {
    let mut bench = Bench::new::<Insight>(desired).create().unwrap();
    bench.start().unwrap();
    bench
}

fn give(bench: &mut Bench, name: &str, value: f64, secs: i64) {
    let body = json!({"name": name, "value": value, "unit": "%", "sourceTime": secs * S});
    assert_eq!(bench.message("readings", body.to_string()).deliver(), Verdict::Accepted);
}

/// `name count` of each result since the last call, `!` where it is incomplete.
fn told(bench: &mut Bench) -> Vec<String> {
    bench.advance(Duration::from_secs(1)).unwrap();
    let line = |body: Value| {
        let mark = if body["incomplete"] == true { "!" } else { "" };
        format!("{} {}{mark}", body["name"].as_str().unwrap(), body["count"])
    };
    let lines = bench.sent("results").iter().map(|sent| line(sent.json())).collect();
    bench.clear_sent();
    lines
}

#[test]
fn a_window_is_one_message_per_group() {
    let mut bench = bench(load());
    give(&mut bench, "cpu", 10.0, 0);
    give(&mut bench, "cpu", 30.0, 5);
    give(&mut bench, "memory", 50.0, 5);
    assert_eq!(told(&mut bench), [""; 0]);
    give(&mut bench, "cpu", 1.0, 11);
    bench.advance(Duration::from_secs(1)).unwrap();
    let sent = bench.sent("results");
    assert_eq!((sent.len(), sent[0].property("query"), sent[0].property("name")), (2, Some("load"), Some("load:cpu")));
    assert_eq!(sent[0].content_type.as_deref(), Some("application/json"));
    assert!(sent[0].message_id.as_ref().unwrap().starts_with("load-0-"));
    let body: Value = sent[0].json();
    assert_eq!(
        (&body["value"], &body["mean"], &body["p95"], &body["unit"]),
        (&json!(20.0), &json!(20.0), &json!(30.0), &json!("%"))
    );
    assert_eq!(bench.health().unwrap().1, "1 query, 1 groups in 1 open windows");
}

#[test]
fn what_is_nothing_to_count_is_accepted_counted_and_said() {
    let mut bench = bench(load());
    for body in ["no JSON", r#"{"name": "a"}"#, r#"{"value": "5"}"#, "[]"] {
        assert_eq!(bench.message("readings", body).deliver(), Verdict::Accepted);
    }
    bench.advance(Duration::from_secs(1)).unwrap();
    assert!(bench.health().unwrap().1.ends_with("; left out: 3 without a number, 1 that are no JSON"));
}

#[test]
fn a_result_that_finds_no_room_is_sent_later() {
    let mut bench = bench(load());
    give(&mut bench, "cpu", 10.0, 0);
    give(&mut bench, "cpu", 10.0, 30);
    bench.set_full(true);
    assert_eq!(told(&mut bench), [""; 0]);
    bench.set_full(false);
    assert_eq!(told(&mut bench), ["load:cpu 1"]);
    assert_eq!(told(&mut bench), [""; 0]);
}

#[test]
fn windows_survive_a_stop_and_a_kill() {
    let folder = Folder::new("survive");
    let mut bench = bench_in(&folder.0, load());
    give(&mut bench, "cpu", 10.0, 0);
    give(&mut bench, "cpu", 20.0, 1);
    bench.stop().unwrap();
    drop(bench);

    let mut bench = bench_in(&folder.0, load());
    give(&mut bench, "cpu", 30.0, 2);
    assert_eq!(bench.method("windows", Value::Null).unwrap().payload[0]["mean"], 20.0);
    // The second run ends without a stop; its file is that of the last checkpoint.
    let kept = std::fs::read(folder.0.join("windows.checkpoint")).unwrap();
    drop(bench);
    std::fs::write(folder.0.join("windows.checkpoint"), kept).unwrap();

    let mut bench = bench_in(&folder.0, load());
    give(&mut bench, "cpu", 40.0, 20);
    bench.advance(Duration::from_secs(1)).unwrap();
    let body: Value = bench.sent("results")[0].json();
    assert_eq!(
        (&body["count"], &body["because"], &body["quality"]),
        (&json!(2), &json!(["restarted", "killed"]), &json!("uncertain"))
    );
}

#[test]
fn results_that_were_not_sent_survive_too() {
    let folder = Folder::new("unsent");
    let mut bench = bench_in(&folder.0, load());
    give(&mut bench, "cpu", 10.0, 0);
    bench.set_full(true);
    give(&mut bench, "cpu", 10.0, 30);
    assert_eq!(told(&mut bench), [""; 0]);
    drop(bench);

    let mut bench = bench_in(&folder.0, load());
    assert_eq!(told(&mut bench), ["load:cpu 1"]);
}

#[test]
fn a_damaged_checkpoint_is_set_aside_and_never_keeps_it_from_starting() {
    let folder = Folder::new("damaged");
    drop(bench_in(&folder.0, load()));
    std::fs::write(folder.0.join("windows.checkpoint"), "dinrail-insight 2 garbage").unwrap();
    let bench = bench_in(&folder.0, load());
    let warned = bench.logs().iter().any(|line| line.level == Level::Warn && line.text.contains("windows.unreadable"));
    assert!(warned, "{:?}", bench.logs());
    assert!(folder.0.join("windows.unreadable").is_file());
}

#[test]
fn a_change_keeps_the_windows_of_queries_that_did_not_change() {
    let queries = |size: &str| {
        json!({"queries": {
            "kept": {"window": {"size": "10s"}, "lateness": "1s"},
            "other": {"window": {"size": size}, "lateness": "1s"},
        }})
    };
    let mut bench = bench(queries("10s"));
    give(&mut bench, "a", 1.0, 0);
    bench
        .desired(json!({"queries": {"kept": {"aggregates": ["max", "p50"]}, "other": {"window": {"size": "5s"}}}}))
        .unwrap();
    give(&mut bench, "a", 2.0, 1);
    give(&mut bench, "a", 3.0, 30);
    assert_eq!(told(&mut bench), ["kept:a 2", "other:a 1!"]);
    bench.desired(json!({"queries": {"other": null}})).unwrap();
    give(&mut bench, "a", 3.0, 60);
    assert_eq!(told(&mut bench), ["kept:a 1"]);
    assert_eq!(bench.reported()["queries"].as_object().unwrap().keys().collect::<Vec<_>>(), ["kept"]);
}

#[test]
fn a_bad_configuration_is_refused_whole_with_every_path_and_the_old_one_goes_on() {
    let mut bench = bench(load());
    give(&mut bench, "cpu", 10.0, 0);
    for (patch, said) in [
        (
            json!({"queries": {"load": {"aggregates": ["mean", "p101"], "lateness": "soon"}}, "chekpoint": 1}),
            "queries.load.lateness: 'soon' is not a length of time; write it like 10s, 1m30s or 500ms; \
             queries.load.aggregates[1]: p101 is not within p0 to p100; \
             chekpoint: unknown field `chekpoint`, expected `queries` or `checkpoint`",
        ),
        (
            json!({"chekpoint": null, "queries": {"load": {"aggregates": ["mean"], "lateness": "1s"}, "b": {"window": {"hop": "1s", "size": "1ms"}}}}),
            "queries.b.window.size: 1ms is not within 100ms to 31d; \
             queries.b.window.hop: a tumbling window has none; leave it out or use \"kind\": \"hopping\"",
        ),
        (json!({"queries": {"b": {"windows": 1}}}), "queries.b.windows: unknown field `windows`"),
    ] {
        let refused = bench.desired(patch).unwrap_err().to_string();
        assert!(refused.contains(said), "{refused}");
    }
    give(&mut bench, "cpu", 20.0, 1);
    give(&mut bench, "cpu", 20.0, 30);
    assert_eq!(told(&mut bench), ["load:cpu 2"]);
    let refused = Bench::new::<Insight>(json!({"queries": {"a b": {"window": {"size": 1}}}})).create().err().unwrap();
    assert!(refused.to_string().contains("queries.a b.name: 'a b' is not a name"), "{refused}");
}

#[test]
fn schema_and_defaults_describe_the_desired_properties() {
    let bench = bench(json!({}));
    assert_eq!(bench.defaults().unwrap(), json!({"queries": {}, "checkpoint": "5s"}));
    let schema = bench.schema().unwrap();
    assert!(schema["$defs"]["Query"]["properties"]["groupBy"].is_object(), "{schema}");
    assert_eq!(schema["$defs"]["Query"]["required"], json!(["window"]));
}
