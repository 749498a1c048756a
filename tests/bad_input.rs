//! What a person mistypes is refused as a whole, with every problem, its place and the next step.

use serde_json::json;

use crate::harness::{Manifest, Runtime, fixture};

fn runtime() -> Runtime {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    runtime.deploy(&Manifest::new().module("insight", "wayward").desired("insight", json!({"note": 1})));
    runtime
}

/// What the service side has written: the module reports meanwhile.
fn written(runtime: &Runtime) -> serde_json::Value {
    let twin = runtime.json(&["twin", "get", "insight"]);
    json!([twin["etag"], twin["tags"], twin["properties"]["desired"]])
}

#[test]
fn every_violation_of_a_twin_patch_is_told_and_nothing_of_it_is_applied() {
    let runtime = runtime();
    let before = written(&runtime);
    let deep = (0..11).fold(json!(1), |inner, _| json!({ "a": inner }));
    let patch = json!({
        "fine": 1,
        "$dollar": 1,
        "with space": 1,
        "long": "x".repeat(4097),
        "large": 9_007_199_254_740_993_i64,
        "deep": deep,
    });

    let refused = runtime.cli_with_input(&["twin", "patch", "insight", "-"], patch.to_string().as_bytes());

    let places =
        ["properties.desired.$dollar", "with space", "properties.desired.long", "properties.desired.large", "deep.a"];
    refused.refused(1, &[&places[..], &["4096", "hint:"]].concat());
    assert_eq!(written(&runtime), before);

    let large: serde_json::Map<_, _> = (0..20).map(|n| (format!("k{n}"), "x".repeat(2000).into())).collect();
    let large = serde_json::Value::Object(large).to_string();
    runtime.cli_with_input(&["twin", "patch", "insight", "-"], large.as_bytes()).refused(1, &["32768"]);
    runtime.cli_with_input(&["twin", "replace", "insight", "-"], large.as_bytes()).refused(1, &["32768"]);
    assert_eq!(written(&runtime), before);
}

#[test]
fn unknown_module_is_refused_with_the_nearest_known_one() {
    let runtime = runtime();
    let table: [&[&str]; 8] = [
        &["show", "insihgt"],
        &["start", "insihgt"],
        &["stop", "insihgt"],
        &["restart", "insihgt"],
        &["send", "insihgt", "in", "hello"],
        &["wait", "insihgt", "--timeout", "1s"],
        &["twin", "get", "insihgt"],
        &["twin", "patch", "insihgt", "a=1"],
    ];
    for arguments in table {
        let refused = runtime.cli(arguments).refused(1, &["insihgt", "hint:"]);
        assert!(refused.stderr.contains("insight"), "{arguments:?} says: {}", refused.stderr);
        assert_eq!(refused.stdout, "", "{arguments:?}");
    }
    runtime.cli(&["twin", "get", "/devices/Elsewhere/modules/insight"]).refused(1, &["Elsewhere"]);
}

#[test]
fn argument_that_is_no_json_is_refused_with_its_place() {
    let runtime = runtime();
    let bad = runtime.write("bad.json", "{\n  \"note\": oops\n}");
    let file = format!("@{}", bad.display());

    runtime.cli(&["twin", "patch", "insight", "{\"note\": }"]).refused(2, &["column", "hint:"]);
    runtime.cli(&["twin", "patch", "insight", "note"]).refused(2, &["note", "hint:"]);
    runtime.cli(&["twin", "patch", "insight", &file]).refused(2, &["bad.json:2:"]);
    runtime.cli(&["twin", "patch", "insight", "@missing.json"]).refused(1, &["missing.json"]);
    runtime.cli(&["twin", "patch", "insight", "[1]"]).refused(2, &["object"]);
    assert_eq!(runtime.module("insight")["desiredVersion"], 2);
}

#[test]
fn json_may_be_a_file_standard_input_or_pairs() {
    let runtime = runtime();
    let file = runtime.write("patch.json", r#"{"note": "file"}"#);
    let note = || runtime.json(&["twin", "get", "insight"])["properties"]["desired"]["note"].clone();

    runtime.cli(&["twin", "patch", "insight", &format!("@{}", file.display())]).ok();
    assert_eq!(note(), "file");
    runtime.cli_with_input(&["twin", "patch", "insight", "-"], br#"{"note": "input"}"#).ok();
    assert_eq!(note(), "input");
    runtime.cli(&["twin", "patch", "insight", "note.a=1", "note.b=text"]).ok();
    assert_eq!(note(), json!({"a": 1, "b": "text"}));
}

#[test]
fn usage_errors_are_exit_2_and_name_what_was_meant() {
    let runtime = Runtime::new();
    let table: [(&[&str], &str); 6] = [
        (&["lst"], "list"),
        (&["list", "--jsn"], "--json"),
        (&["show"], "<NAME>"),
        (&["wait", "w", "--timeout", "soon"], "soon"),
        (&["send", "w", "in", "body", "-p", "pair"], "KEY=VALUE"),
        (&["twin"], "patch"),
    ];
    for (arguments, says) in table {
        runtime.cli(arguments).refused(2, &[says]);
    }
}

#[test]
fn bad_configuration_is_refused_with_every_problem_and_its_place() {
    let runtime = Runtime::new().config("[restart]\nmax_start = 3\n[log]\nlevel = \"loud\"\n");

    let output = runtime.run_command().stderr(std::process::Stdio::piped()).output().unwrap();

    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    for words in ["config.toml:2:1", "max_starts", "config.toml:4:9", "log.level"] {
        assert!(told.contains(words), "'{words}' is not in: {told}");
    }
}

#[test]
fn too_large_a_message_is_refused_and_a_large_one_arrives() {
    let runtime = runtime();
    let limit = 256 * 1024;

    let refused = runtime.cli_with_input(&["send", "insight", "in", "-"], &vec![b'x'; limit + 1]);
    refused.refused(1, &["262144"]);
    for bytes in [limit * 16 - 1, limit * 16 + 1] {
        let refused = runtime.cli_with_input(&["send", "insight", "in", "-"], &vec![0xff; bytes]);
        refused.refused(1, &[&format!("the body has {bytes} bytes; a message has at most 262144"), "send it in parts"]);
    }
    runtime.cli_with_input(&["send", "insight", "in", "-"], &vec![b'x'; limit]).ok();
    let (one, two) = (format!("a={}", "y".repeat(100_000)), format!("b={}", "z".repeat(100_000)));
    let with_properties = ["send", "insight", "in", "-", "-p", &one, "-p", &two];
    let told = "has 262144 bytes and its properties have 200017; a message has at most 262144";
    runtime.cli_with_input(&with_properties, &vec![b'x'; limit]).refused(1, &[told, "send it in parts"]);
    let document = json!({"bodyText": "x".repeat(limit), "properties": {"a": ""}});
    let (status, answer) = runtime.api().ask("POST", "/modules/insight/inputs/in", Some(&document)).unwrap();
    assert_eq!(status, 413, "{answer}");
    assert!(answer.to_string().contains("has 262144 bytes and its properties have 9"), "{answer}");

    let is_there = || runtime.events("insight").iter().any(|event| event.len() > limit);
    crate::harness::wait_until(crate::harness::SOON, "the large one arrives", is_there);
}

#[test]
fn manifest_with_a_merge_that_would_be_too_large_changes_nothing() {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    let large = |seed: &str| json!((0..6).map(|n| format!("{seed}{n}").repeat(1000)).collect::<Vec<_>>());
    let modules = Manifest::new().module("a", "wayward").module("b", "wayward");
    runtime.deploy(&modules.clone().desired("a", json!({"note": 1})).desired("b", json!({"note": large("x")})));

    let mut document = modules.desired("a", json!({"note": 2})).json();
    for key in ["y", "z"] {
        document["modulesContent"]["b"][format!("properties.desired.{key}")] = large(key);
    }
    let file = runtime.write("large.json", document.to_string());
    runtime.cli(&["deploy", file.to_str().unwrap()]).refused(1, &["modulesContent.b", "32"]);

    assert_eq!(runtime.json(&["twin", "get", "a"])["properties"]["desired"]["note"], 1);
}
