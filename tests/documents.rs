//! What programs read: one JSON document from every verb with `--json`, and help that people can use.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::harness::{Manifest, Runtime, dinrail, fixture};

const LIST_KEYS: [&str; 18] = [
    "name",
    "identity",
    "status",
    "image",
    "version",
    "digest",
    "isolation",
    "restartPolicy",
    "restartCount",
    "lastStartTimeUtc",
    "lastExitTimeUtc",
    "exitCode",
    "statusDescription",
    "desiredVersion",
    "reportedVersion",
    "inbox",
    "cpuSeconds",
    "memoryBytes",
];

#[test]
fn list_has_the_keys_of_the_contract_whatever_the_status() {
    let manifest = Manifest::new().module("up", "wayward").module("waits", "nothing-of-this-name");
    let runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    let file = runtime.write("manifest.json", manifest.text());
    runtime.cli(&["deploy", &file.to_string_lossy()]).ok();
    runtime.wait_for("up", "running");
    runtime.wait_for("waits", "waiting");

    for name in ["up", "waits"] {
        let row = runtime.module(name);
        let keys = row.as_object().unwrap();
        LIST_KEYS.iter().for_each(|key| assert!(keys.contains_key(*key), "{key} is not in {row}"));
        for key in ["messages", "bytes", "spilled"] {
            assert!(row["inbox"][key].is_u64(), "inbox.{key} is not in {row}");
        }
    }
    let (up, waits) = (runtime.module("up"), runtime.module("waits"));
    assert_eq!(
        (&up["status"], &up["isolation"], &up["version"]),
        (&"running".into(), &"thread".into(), &"1.0.0".into())
    );
    assert!(up["digest"].as_str().unwrap().starts_with("sha256:"), "{up}");
    assert_eq!(
        (&waits["status"], &waits["version"], &waits["digest"]),
        (&"waiting".into(), &Value::Null, &Value::Null)
    );
    assert!(waits["statusDescription"].as_str().unwrap().contains("nothing-of-this-name"), "{waits}");
}

#[test]
fn every_verb_that_shows_something_prints_one_json_document() {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    let manifest = Manifest::new().module("w", "wayward");
    runtime.deploy(&manifest);
    let file = runtime.write("manifest.json", manifest.text());
    let file = file.to_string_lossy();
    let library = fixture("wayward");
    let library = library.to_string_lossy();
    let table: [&[&str]; 18] = [
        &["list"],
        &["show", "w"],
        &["wait", "w"],
        &["stop", "w"],
        &["start", "w"],
        &["restart", "w"],
        &["plan", &file],
        &["deploy", &file],
        &["deployment"],
        &["twin", "get", "w"],
        &["twin", "patch", "w", "a=1", "--wait"],
        &["twin", "replace", "w", "{}"],
        &["twin", "history", "w"],
        &["twin", "undo", "w", "--to", "1"],
        &["send", "w", "in", "hello"],
        &["image", "list"],
        &["image", "inspect", &library],
        &["image", "add", &library],
    ];
    for arguments in table {
        if arguments[0] == "twin" {
            runtime.wait_for("w", "running");
        }
        // `json` asserts that it ends well and is one document.
        let document = runtime.json(arguments);
        assert!(document.is_object() || document.is_array(), "{arguments:?}: {document}");
    }
}

#[test]
fn twin_has_the_shape_of_iot_hub() {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    runtime.deploy(&Manifest::new().module("w", "wayward").desired("w", serde_json::json!({"note": {"a": 1}})));

    for id in ["w", "/devices/Hannover01/modules/w"] {
        let twin = runtime.json(&["twin", "get", id]);
        assert_eq!((&twin["deviceId"], &twin["moduleId"]), (&"Hannover01".into(), &"w".into()));
        for pointer in ["/etag", "/version", "/tags", "/connectionState"] {
            assert!(twin.pointer(pointer).is_some(), "{pointer} is not in {twin}");
        }
        let desired = &twin["properties"]["desired"];
        assert!(desired["$version"].is_u64(), "{twin}");
        assert!(desired["$metadata"]["note"]["a"]["$lastUpdated"].is_string(), "{twin}");
        assert!(twin["properties"]["reported"]["$version"].is_u64(), "{twin}");
    }
    let device = runtime.json(&["twin", "get", "/devices/Hannover01"]);
    assert_eq!((&device["deviceId"], device.get("moduleId")), (&"Hannover01".into(), None));
}

#[test]
fn every_verb_has_help_with_an_example() {
    let verbs: [&[&str]; 21] = [
        &["run"],
        &["list"],
        &["show"],
        &["wait"],
        &["start"],
        &["stop"],
        &["restart"],
        &["deploy"],
        &["plan"],
        &["deployment"],
        &["twin", "get"],
        &["twin", "patch"],
        &["twin", "replace"],
        &["twin", "history"],
        &["twin", "undo"],
        &["send"],
        &["tail"],
        &["image", "list"],
        &["image", "add"],
        &["image", "inspect"],
        &["image", "remove"],
    ];
    let runtime = Runtime::new();
    let overview = runtime.cli(&["--help"]).ok().stdout;
    for verb in verbs {
        let help = runtime.cli(&[verb, &["--help"]].concat()).ok().stdout;
        let words = verb.join(" ");
        assert!(help.contains("Examples:"), "{words}: {help}");
        assert!(help.contains(&format!("dinrail {words}")), "{words}: {help}");
        assert!(overview.contains(verb[0]), "{words} is not in the overview");
        assert!(help.lines().all(|line| line.chars().count() <= 110), "{words}: {help}");
    }
    assert!(overview.contains("Exit codes"), "{overview}");
}

#[test]
fn image_is_inspected_without_a_runtime() {
    let runtime = Runtime::new();

    let inspected = runtime.json(&["image", "inspect", &fixture("wayward").to_string_lossy()]);

    assert_eq!((&inspected["verdict"], &inspected["descriptor"]["name"]), (&"admitted".into(), &"wayward".into()));
    assert_eq!(inspected["descriptor"]["inputs"], serde_json::json!(["in", "send"]));
    runtime.cli(&["image", "inspect", &dinrail().to_string_lossy()]).refused(1, &["not admitted", "hint:"]);
    assert!(!Path::new(runtime.state()).exists(), "nothing is made");
}

#[test]
fn output_has_no_colours_and_a_closed_pipe_ends_quietly() {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    runtime.deploy(&Manifest::new().module("w", "wayward"));

    let list = runtime.cli(&["list"]).ok();
    assert!(!list.stdout.contains('\u{1b}'), "{}", list.stdout);
    assert!(list.stdout.starts_with("NAME"), "{}", list.stdout);
    let mut pipe = runtime.command(&["twin", "get", "w"]);
    let mut child = pipe.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn tail_ends_after_its_count_or_its_time_and_says_when_the_runtime_has_gone() {
    let mut runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    runtime.deploy(&Manifest::new().module("w", "wayward"));

    let nothing = runtime.cli(&["tail", "w", "--timeout", "50ms"]).ok();
    assert_eq!(nothing.stdout, "");
    runtime.cli(&["tail", "FROM nowhere"]).refused(1, &["nowhere", "hint:"]);

    // Whether it listens yet can only be seen from what it prints.
    let counted = runtime.command(&["tail", "w", "-n", "2", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let lasting = runtime.follow(&["tail", "w"]);
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let runtime = &runtime;
        scope.spawn(move || {
            while stopped.try_recv().is_err() {
                runtime.cli(&["send", "w", "in", "hello"]).ok();
            }
        });
        let output = counted.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        let lines: Vec<Value> =
            output.stdout.split(|b| *b == b'\n').filter_map(|l| serde_json::from_slice(l).ok()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!((&lines[0]["body"], &lines[1]["body"]), (&"hello".into(), &"hello".into()));
        let line = lasting.line();
        assert!(line.contains("w/out") && line.ends_with("hello"), "{line}");
        stop.send(()).unwrap();
    });
    runtime.stop();
    let (code, told) = lasting.end();
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("the runtime has ended"), "{told}");
}

#[test]
fn state_directory_may_be_named_by_the_environment() {
    let runtime = Runtime::new().start();
    let list = |state: &Path| {
        let mut list = std::process::Command::new(dinrail());
        list.args(["list", "--json"]).env("DINRAIL_STATE", state).output().unwrap().status.code()
    };
    assert_eq!(list(runtime.state()), Some(0));
    assert_eq!(list(runtime.folder()), Some(3));
}
