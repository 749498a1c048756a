//! The support bundle holds what helps, and no secret.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Manifest, Runtime, SOON, fixture, wait_until};

/// Everything in a bundle: names without their folder, and texts.
fn unpack(file: &Path) -> BTreeMap<String, String> {
    let mut zip = zip::ZipArchive::new(std::fs::File::open(file).unwrap()).unwrap();
    let mut files = BTreeMap::new();
    for index in 0..zip.len() {
        let mut entry = zip.by_index(index).unwrap();
        let name = entry.name().unwrap().into_owned();
        let (_, name) = name.split_once('/').expect("all lies in one folder");
        let name = name.to_owned();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        files.insert(name, text);
    }
    files
}

#[track_caller]
fn bundle(runtime: &Runtime, arguments: &[&str]) -> BTreeMap<String, String> {
    let file = runtime.folder().join("bundle.zip");
    let _ = std::fs::remove_file(&file);
    runtime.cli(&[&["support-bundle", "-o", &file.to_string_lossy()], arguments].concat()).ok();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "for its owner alone");
    }
    unpack(&file)
}

/// Secrets wherever an operator or a module may put them.
fn planted(runtime: &Runtime) -> Vec<&'static str> {
    let manifest = Manifest::new()
        .module("w", "wayward")
        .with("w", "env", json!({"PLC_LOGIN": {"value": "env-secret-1"}}))
        .module("talker", "talker")
        .with("talker", "env", json!({"TOKEN": {"value": "env-secret-8"}}))
        .desired("w", json!({"plc": {"password": "desired-secret-2", "login": "desired-secret-3"}, "limit": 70}));
    runtime.deploy(&manifest);
    runtime.cli(&["twin", "patch", "/devices/Hannover01", r#"{"tags": {"apiKey": "tag-secret-4"}}"#]);
    // It is sent to nobody who is there, so it waits, in memory or on disk.
    runtime.cli(&["stop", "w"]).ok();
    runtime.cli(&["send", "w", "in", "message-secret-5"]).ok();
    // A module that says what it should not: a value that is known, and ones that can be told by their names and forms.
    let said = "env-secret-8 password=log-secret-9 Bearer log-secret-10 mqtt://u:log-secret-11@h/";
    runtime.cli(&["send", "talker", "say", said]).ok();
    wait_until(SOON, "the module has said it", || {
        runtime.cli(&["logs", "talker"]).ok().stdout.contains("log-secret-9")
    });
    std::fs::create_dir_all(runtime.state().join("keys")).unwrap();
    std::fs::write(runtime.state().join("keys/device.key"), "key-secret-6").unwrap();
    std::fs::write(runtime.state().join("data/w/notes"), "data-secret-7").unwrap();
    vec![
        "env-secret-1",
        "desired-secret-2",
        "desired-secret-3",
        "tag-secret-4",
        "message-secret-5",
        "key-secret-6",
        "data-secret-7",
        "env-secret-8",
        "log-secret-9",
        "log-secret-10",
        "log-secret-11",
    ]
}

#[test]
fn bundle_holds_what_helps_and_no_secret_that_was_planted() {
    let runtime = Runtime::new().supply(&[fixture("wayward"), fixture("talker")]).start();
    let secrets = planted(&runtime);

    let files = bundle(&runtime, &[]);

    for (name, text) in &files {
        for secret in &secrets {
            assert!(!text.contains(secret), "{name} holds {secret}:\n{text}");
        }
    }
    for name in [
        "README.txt",
        "check.json",
        "health.json",
        "images.json",
        "deployment.json",
        "system.txt",
        "state-directory.txt",
    ] {
        assert!(files.contains_key(name), "{name} is not among {:?}", files.keys());
    }
    assert!(files["logs/talker.jsonl"].contains("password=<removed>"), "{}", files["logs/talker.jsonl"]);
    assert!(files["logs/$runtime.jsonl"].contains("dinrail"), "{:?}", files.keys());
    let module: Value = serde_json::from_str(&files["modules/w.json"]).unwrap();
    assert_eq!(module["wanted"]["env"], json!({"PLC_LOGIN": "<removed>"}), "which variables there are is said");
    let twin: Value = serde_json::from_str(&files["twins/w.json"]).unwrap();
    assert_eq!(twin["properties"]["desired"]["limit"], 70, "numbers help and tell nothing");
    assert!(files["state-directory.txt"].contains("dinrail.db"));
}

#[test]
fn values_on_demand_are_without_those_under_names_of_secrets() {
    let runtime = Runtime::new().supply(&[fixture("wayward"), fixture("talker")]).start();
    planted(&runtime);

    let files = bundle(&runtime, &["--with-values"]);

    let twin: Value = serde_json::from_str(&files["twins/w.json"]).unwrap();
    assert_eq!(twin["properties"]["desired"]["plc"]["password"], "<removed>");
    assert!(files.values().all(|text| !text.contains("desired-secret-2")));
}

#[test]
fn without_a_runtime_the_bundle_holds_what_can_be_seen() {
    let mut runtime = Runtime::new().start();
    runtime.stop();

    let files = bundle(&runtime, &[]);

    assert!(files["check.json"].contains("no runtime answers"));
    assert!(files["state-directory.txt"].contains("dinrail.db"));
}

#[test]
fn file_that_is_there_is_not_overwritten() {
    let runtime = Runtime::new().start();
    let file = runtime.write("mine.zip", "something of mine");

    let output = runtime.cli(&["support-bundle", "-o", &file.to_string_lossy()]);

    assert_eq!(output.code, 1);
    assert!(output.stderr.contains("exists"), "{}", output.stderr);
    assert_eq!(std::fs::read(&file).unwrap(), b"something of mine");
}
