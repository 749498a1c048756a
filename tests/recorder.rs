//! `recorder`: what is delivered to it is in its files, over kills of the runtime, and can be had as one file.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::{Manifest, Runtime, SOON, misbehaving, plugin_folder, wait_until};

fn folder(runtime: &Runtime) -> PathBuf {
    runtime.state().join("data/recorder")
}

/// Names of the files of the recording, oldest first.
fn files(runtime: &Runtime) -> Vec<String> {
    let entries = std::fs::read_dir(folder(runtime)).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.contains("Z-")).collect();
    names.sort_by_key(|name| name.split_once("Z-").map(|(_, index)| index.to_owned()));
    names
}

/// All whole lines, oldest first.
fn lines(runtime: &Runtime) -> Vec<Value> {
    let text: String = files(runtime)
        .iter()
        .map(|name| std::fs::read_to_string(folder(runtime).join(name)).unwrap_or_default())
        .collect();
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn recorder(desired: Value) -> Runtime {
    let runtime = Runtime::new().watch(plugin_folder()).start();
    runtime.deploy(&Manifest::new().module("recorder", "recorder").desired("recorder", desired));
    runtime
}

fn give(runtime: &Runtime, count: u64) {
    let mut api = runtime.api();
    for n in 0..count {
        let reading = json!({"name": "a,b", "value": n, "unit": "%", "sourceTime": "2026-11-21T14:05:09Z"});
        let sent = api.ask("POST", "/modules/recorder/inputs/records", Some(&json!({"body": reading}))).unwrap();
        assert_eq!(sent.0, 200, "{sent:?}");
    }
    let delivered = || lines(runtime).iter().filter(|line| line["body"]["value"] == json!(count - 1)).count() > 0;
    wait_until(SOON, "the last one is written", delivered);
}

/// A memory route may lose what waited when the runtime dies: the end of a run. Within a run nothing is missing.
#[test]
fn the_recording_has_no_gap_and_no_repeat_over_kills_of_the_runtime_under_load() {
    let mut runtime = Runtime::new().watch(plugin_folder()).supply(&[misbehaving()]).start();
    let route = "FROM /messages/modules/ticker/outputs/out INTO BrokeredEndpoint(\"/modules/recorder/inputs/records\")";
    let manifest = Manifest::new()
        .module("ticker", "misbehaving")
        .desired("ticker", json!({"misbehave": "count", "periodMs": 1}))
        .module("recorder", "recorder")
        .desired("recorder", json!({"maxFileBytes": 8192}))
        .route("all", route);
    runtime.deploy(&manifest);
    let kills = 5;
    for kill in 0..kills {
        let before = lines(&runtime).len();
        wait_until(SOON, "numbers are recorded", || lines(&runtime).len() > before + 40 + kill * 7);
        runtime.kill9();
        let recorded = lines(&runtime).len();
        runtime.launch();
        assert!(lines(&runtime).len() >= recorded, "what was recorded stays");
    }
    let before = lines(&runtime).len();
    wait_until(SOON, "the last run records too", || lines(&runtime).len() > before);
    runtime.stop();

    let lines = lines(&runtime);
    let keys: BTreeSet<(u64, u64)> =
        lines.iter().map(|line| (line["epoch"].as_u64().unwrap(), line["n"].as_u64().unwrap())).collect();
    assert_eq!(keys.len(), lines.len(), "a message is there twice");
    // The ticker counts from 1 in each of its runs, and what it sends reaches the recorder or is the lost end of a run.
    let mut runs = 0;
    let mut expected = 0;
    for line in &lines {
        let number: u64 = match &line["body"] {
            Value::Number(number) => number.as_u64().unwrap(),
            _ => line["bodyText"].as_str().unwrap().trim().parse().unwrap(),
        };
        (runs, expected) = if number == 1 { (runs + 1, 1) } else { (runs, expected + 1) };
        assert_eq!(number, expected, "a number is missing within a run: {line}");
    }
    assert_eq!(runs, kills + 1);
    assert!(files(&runtime).len() > 1);
}

#[test]
fn the_recording_is_exported_with_a_direct_command() {
    let runtime = recorder(json!({"format": "csv", "columns": ["name", "value", "unit"]}));
    let mut api = runtime.api();
    for n in 0..3 {
        let reading = json!({"name": "a,b", "value": n, "unit": "%"});
        api.ask("POST", "/modules/recorder/inputs/records", Some(&json!({"body": reading}))).unwrap();
    }
    let written = || runtime.json(&["method", "recorder", "export"])["payload"]["rows"] == json!(3);
    wait_until(SOON, "three lines are exported", written);

    let answer = runtime.json(&["method", "recorder", "export", "format=csv", "file=mine.csv"]);
    assert_eq!((&answer["status"], &answer["payload"]["rows"]), (&json!(200), &json!(3)));
    let path = answer["payload"]["path"].as_str().unwrap();
    assert_eq!(path, folder(&runtime).join("export/mine.csv").to_str().unwrap());
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.starts_with("received,sender,output,epoch,n,name,value,unit\r\n"), "{text}");
    assert!(text.ends_with(",\"a,b\",2,%\r\n"), "{text}");
    assert_eq!(answer["payload"]["bytes"], text.len());

    let refused = runtime.cli(&["method", "recorder", "export", "from=soon"]).refused(1, &["status 400"]);
    assert!(refused.stdout.contains("from: 'soon' is not a time"), "{}", refused.stdout);
    let files = runtime.json(&["method", "recorder", "files"])["payload"].clone();
    assert_eq!((files["files"].as_array().unwrap().len(), &files["lastExport"]["rows"]), (1, &json!(3)));
}

#[test]
fn files_are_rotated_and_bounded_and_the_twin_says_what_was_deleted() {
    let runtime = recorder(json!({"maxFileBytes": 4096, "maxTotalBytes": 12288}));
    give(&runtime, 120);
    let files = files(&runtime);
    let bytes: u64 = files.iter().map(|name| folder(&runtime).join(name).metadata().unwrap().len()).sum();
    assert!(files.len() > 1 && bytes <= 12288, "{files:?} have {bytes} bytes");
    let values: Vec<u64> = lines(&runtime).iter().map(|line| line["body"]["value"].as_u64().unwrap()).collect();
    assert_eq!(values, (values[0]..120).collect::<Vec<_>>(), "only the oldest are gone");

    runtime.cli(&["restart", "recorder"]).ok();
    runtime.wait_for("recorder", "running");
    runtime.cli(&["twin", "patch", "recorder", "maxFileAge=1s", "--wait"]).ok();
    let reported = || runtime.json(&["twin", "get", "recorder"])["properties"]["reported"].clone();
    wait_until(SOON, "what was deleted is reported", || reported()["bytes"].as_u64().is_some_and(|now| now <= 12288));
    let before = self::files(&runtime).len();
    wait_until(SOON, "a file is begun after its age", || {
        give(&runtime, 1);
        self::files(&runtime).len() > before || self::files(&runtime)[0] != files[0]
    });
}
