//! Twins are IoT Hub's, with what it does not have: their past, and the way back to it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::harness::{Api, Manifest, Runtime, SOON, fixture, wait_until};

const TWIN: &str = "/twins/Hannover01/modules/w";

fn wayward(desired: Value) -> Runtime {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    runtime.deploy(&Manifest::new().module("w", "wayward").desired("w", desired));
    // Its schema is known once it was loaded.
    runtime.wait_for("w", "running");
    runtime
}

fn desired(twin: &Value) -> Value {
    let mut desired = twin["properties"]["desired"].clone();
    desired.as_object_mut().unwrap().retain(|key, _| !key.starts_with('$'));
    desired
}

fn version(twin: &Value) -> u64 {
    twin["properties"]["desired"]["$version"].as_u64().unwrap()
}

#[test]
fn history_says_who_changed_what_and_every_version_can_be_read_and_gone_back_to() {
    let mut runtime = wayward(json!({"note": "from the manifest"}));
    let first = version(&runtime.json(&["twin", "get", "w"]));
    runtime.cli(&["twin", "patch", "w", "note=1", "extra.low=2"]).ok();
    runtime.cli(&["twin", "replace", "w", "note=2"]).ok();
    let tagged = runtime.cli(&["twin", "patch", "w", "--tags", "hall=3"]).ok();
    assert_eq!(tagged.stdout, "hall: (none) → 3\n");
    runtime.kill9_and_launch();
    runtime.wait_for("w", "running");

    let history = runtime.json(&["twin", "history", "w"]);
    let told: Vec<(&str, u64, u64, &str, Vec<&str>)> = history["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| {
            let paths = change["changes"].as_array().unwrap().iter().map(|change| change["path"].as_str().unwrap());
            let number = |name: &str| change[name].as_u64().unwrap();
            let text = |name: &str| change[name].as_str().unwrap();
            assert!(text("atUtc").starts_with("20") && change["forced"] == false, "{change}");
            (text("section"), number("fromVersion"), number("toVersion"), text("action"), paths.collect())
        })
        .collect();
    assert_eq!(
        told,
        [
            ("tags", 1, 2, "patch", vec!["hall"]),
            ("desired", first + 1, first + 2, "replace", vec!["extra", "note"]),
            ("desired", first, first + 1, "patch", vec!["extra", "note"]),
            ("desired", first - 1, first, "replace", vec!["note"]),
        ]
    );
    let by = |at: usize| history["changes"][at]["by"].as_str().unwrap();
    assert_eq!((by(3), by(2)), ("deployment", by(0)));
    let text = runtime.cli(&["twin", "history", "w", "--path", "extra.low"]).ok().stdout;
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.contains("note: 1 → 2") && text.contains("extra: (none) → {\"low\":2}"), "{text}");

    let at = |version: u64| runtime.json(&["twin", "get", "w", "--at", &version.to_string()]);
    assert_eq!(desired(&at(first + 1)), json!({"note": 1, "extra": {"low": 2}}));
    assert_eq!((desired(&at(first)), &at(first)["tags"]), (json!({"note": "from the manifest"}), &json!({})));
    assert_eq!(at(first + 2)["tags"], json!({"hall": 3}));
    let newest = (first + 2).to_string();
    runtime.cli(&["twin", "get", "w", "--at", "99"]).refused(1, &["no version 99 yet", &newest, "twin history w"]);
    runtime.cli(&["twin", "undo", "w", "--to", "99"]).refused(1, &["no version 99 yet"]);

    let undone = runtime.cli(&["twin", "undo", "w", "--to", &(first + 1).to_string(), "--wait"]).ok().stdout;
    assert_eq!(
        undone,
        format!("note: 2 → 1\nextra: (none) → {{\"low\":2}}\ndesired version {}\naccepted\n", first + 3),
        "an ordinary change, which the module gets"
    );
    assert_eq!(runtime.events("w").last().unwrap(), &format!("desired {} 1", first + 3));
    assert_eq!(runtime.json(&["twin", "get", "w"])["tags"], json!({"hall": 3}), "tags are not undone with it");
    runtime.cli(&["twin", "undo", "w", "--tags", "--to", "1"]).ok();
    assert_eq!(runtime.json(&["twin", "get", "w"])["tags"], json!({}));
    let history = runtime.json(&["twin", "history", "w"]);
    assert_eq!(history["changes"][1]["action"], format!("undo to {}", first + 1));
    assert_eq!(history["changes"][1]["by"], history["changes"][2]["by"], "by who asked for it");
}

#[test]
fn what_the_image_does_not_take_is_refused_with_every_path_unless_forced() {
    let runtime = wayward(json!({"note": 1}));
    let before = runtime.json(&["twin", "get", "w"]);
    let bad = r#"{"panicIn": "text", "hangIn": [7], "note": 2}"#;
    let words = ["properties.desired.panicIn: \"text\"", "properties.desired.hangIn[0]: 7", "--force"];

    runtime.cli(&["twin", "patch", "w", bad]).refused(1, &words);
    runtime.cli(&["twin", "replace", "w", bad]).refused(1, &words);
    let (status, answer) =
        runtime.api().ask("PATCH", TWIN, Some(&json!({"properties": {"desired": {"panicIn": 1}}}))).unwrap();
    assert_eq!((status, answer["error"]["details"].as_array().unwrap().len()), (400, 1), "{answer}");
    assert_eq!(desired(&runtime.json(&["twin", "get", "w"])), desired(&before), "nothing of it was applied");

    let manifest = Manifest::new().module("w", "wayward").desired("w", json!({"panicIn": "text", "failIn": 1}));
    let file = runtime.write("bad.json", manifest.text());
    let file = file.to_string_lossy();
    let words = ["2 problems", "modulesContent.w.properties.desired.panicIn", "properties.desired.failIn"];
    runtime.cli(&["deploy", &file]).refused(1, &words);
    runtime.cli(&["plan", &file]).refused(1, &words);
    assert_eq!(desired(&runtime.json(&["twin", "get", "w"])), desired(&before));

    let add = ["add", "w2", "wayward", "--stopped", "--set", r#"panicIn="text""#];
    runtime.cli(&add).refused(1, &["properties.desired.panicIn: \"text\"", "--force"]);
    runtime.cli(&["show", "w2"]).refused(1, &["w2"]);
    runtime.cli(&[&add[..], &["--force"]].concat()).ok();

    runtime.cli(&["twin", "patch", "w", "panicIn=text", "--force", "--wait"]).refused(1, &["w refused version"]);
    runtime.cli(&["twin", "patch", "w", "panicIn=null", "--force", "--wait"]).ok();
    let history = runtime.json(&["twin", "history", "w", "--path", "panicIn"]);
    let forced: Vec<bool> =
        history["changes"].as_array().unwrap().iter().map(|change| change["forced"].as_bool().unwrap()).collect();
    assert_eq!(forced, [false, true], "only what went against the schema");
    let mut forced_to = version(&runtime.json(&["twin", "get", "w"])) - 1;
    runtime.cli(&["twin", "undo", "w", "--to", &forced_to.to_string()]).refused(1, &["panicIn", "--force"]);
    forced_to -= 1;
    runtime.cli(&["twin", "undo", "w", "--to", &forced_to.to_string()]).ok();
    // Against the schema by a deployment, which is then taken back by what the module says, or stands: as it was before.
    runtime.cli(&["deploy", &file, "--force"]).ok();
    let history = || runtime.json(&["twin", "history", "w", "--path", "failIn"])["changes"].clone();
    wait_until(SOON, "it is set", || history().as_array().is_some_and(|changes| !changes.is_empty()));
    let set = history().as_array().unwrap().last().unwrap().clone();
    assert_eq!((&set["by"], &set["forced"]), (&json!("deployment"), &json!(true)), "{set}");
}

#[test]
fn of_concurrent_writers_with_etags_exactly_one_wins_each_version() {
    let runtime = wayward(json!({"note": 0}));
    let first = version(&runtime.json(&["twin", "get", "w"]));
    let wins = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (runtime, wins) = (&runtime, &wins);
            scope.spawn(move || {
                let mut api = runtime.api();
                let mut won = 0;
                while won < 10 {
                    let etag = api.ask("GET", TWIN, None).unwrap().1["etag"].as_str().unwrap().to_owned();
                    let body = json!({"properties": {"desired": {"note": {"writer": writer, "won": won}}}}).to_string();
                    let tag = format!("\"stale\", W/\"{etag}\"");
                    let answer = api.exchange("PATCH", TWIN, &[("If-Match", &tag)], &body);
                    match answer.status {
                        200 => {
                            wins.lock().unwrap().push(version(&answer.body));
                            won += 1;
                        }
                        412 => {}
                        other => panic!("{other}: {}", answer.body),
                    }
                }
            });
        }
    });
    let mut wins = wins.into_inner().unwrap();
    wins.sort_unstable();
    assert_eq!(wins, (first + 1..=first + 40).collect::<Vec<_>>());
    runtime.cli(&["twin", "patch", "w", "note=1", "--if-match", "AAAAAAAAAAE="]).refused(1, &["has changed", "etag"]);
}

#[test]
fn bodies_that_are_no_documents_are_refused_clearly_and_change_nothing() {
    let runtime = wayward(json!({"note": 0}));
    let before = runtime.json(&["twin", "get", "w"]);
    let mut api = runtime.api();
    let deep = |levels: usize| format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
    let in_desired = |text: &str| format!("{{\"properties\":{{\"desired\":{{\"note\":{text}}}}}}}");
    let long = format!("[{}]", vec!["\"x\""; 40_000].join(","));
    let table = [
        (in_desired("1e999"), "number out of range"),
        (in_desired("-1e999"), "number out of range"),
        (in_desired("NaN"), "expected"),
        (in_desired("Infinity"), "expected"),
        (in_desired("123456789012345678901234567890"), "123456789012345678901234567890"),
        (in_desired("4503599627370496"), "4503599627370496"),
        (in_desired("{\"b\":1,\"b\":2}"), "'b' is there twice"),
        ("{\"tags\":{},\"tags\":{\"a\":1}}".to_owned(), "'tags' is there twice"),
        (in_desired(&deep(11)), "nest 10 deep"),
        (in_desired(&deep(10_000)), "deep"),
        (in_desired(&"[".repeat(10_000)), "deep"),
        (in_desired(&long), "32768 bytes at most"),
        ("{\"properties\":{\"desired\":".to_owned(), "EOF"),
        ("[]".to_owned(), "must be a JSON object"),
        (in_desired("1").replace("note", "no\\u0000te"), "control characters"),
    ];
    for (body, says) in &table {
        for verb in ["PATCH", "PUT"] {
            let answer = api.exchange(verb, TWIN, &[], body);
            let text = answer.body.to_string();
            assert_eq!(answer.status, 400, "{verb} {}: {text}", &body[..body.len().min(80)]);
            assert!(text.contains(says) || text.contains(&says.replace('\'', "\\'")), "{says} is not in {text}");
        }
    }
    assert_eq!(runtime.json(&["twin", "get", "w"])["etag"], before["etag"]);
    let stale = json!({"properties": {"desired": {"note": 1, "$version": 1}}}).to_string();
    assert_eq!(api.exchange("PATCH", TWIN, &[], &stale).status, 412, "a $version in a patch is a guard");
    assert_eq!(api.exchange("PATCH", TWIN, &[("If-Match", "\"*\"")], &stale).status, 200, "unless an If-Match is");
    let now = version(&runtime.json(&["twin", "get", "w"]));
    let fresh = json!({"properties": {"desired": {"note": 2, "$version": now}}}).to_string();
    assert_eq!(api.exchange("PATCH", TWIN, &[], &fresh).status, 200);
}

#[test]
fn a_twin_that_is_not_there_says_why() {
    let runtime = wayward(json!({"note": 0}));
    runtime.cli(&["twin", "patch", "ww", "note=1"]).refused(1, &["there is no twin of", "did you mean 'w'?"]);
    runtime.cli(&["identity", "add", "/devices/t1"]).ok();
    for verb in [&["twin", "get", "t1"][..], &["identity", "show", "t1"]] {
        runtime.cli(verb).refused(1, &["did you mean /devices/t1?"]);
    }
    runtime.cli(&["twin", "get", "/devices/t2"]).refused(1, &["there is no twin of", "dinrail identity list"]);
    for id in ["f2", "/devices/t1/modules/f2"] {
        runtime.cli(&["identity", "add", id]).ok();
        runtime.cli(&["twin", "patch", id, "a=1", "--wait"]).refused(1, &["nobody acknowledges", "leave out --wait"]);
        assert_eq!(version(&runtime.json(&["twin", "get", id])), 1, "nothing is stored");
    }
    for verb in
        [&["twin", "history", "ww"][..], &["twin", "undo", "ww", "--to", "1"], &["twin", "get", "ww", "--at", "1"]]
    {
        runtime.cli(verb).refused(1, &["there is no twin of", "did you mean 'w'?"]);
    }
    runtime.cli(&["add", "wayward", "wayward"]).ok();
    runtime.cli(&["remove", "wayward", "--purge"]).ok();
    let words = ["there is no twin of", "wayward was removed by"];
    runtime.cli(&["twin", "patch", "wayward", "note=1"]).refused(1, &words);
}

/// Writes with one connection: patches, replacements, undos; keeps which note each version has.
fn hammer(state: &std::path::Path, writer: u64, count: u64, notes: &Mutex<BTreeMap<u64, Value>>, done: &AtomicU64) {
    let mut api = Api::connect(state).unwrap();
    for number in 0..count {
        let note = json!(writer * 1000 + number);
        let answer = match number % 5 {
            3 => api.ask("PUT", TWIN, Some(&json!({"properties": {"desired": {"note": note}}}))),
            4 => {
                let to = notes.lock().unwrap().keys().nth_back(1).copied();
                let to = to.unwrap_or_else(|| *notes.lock().unwrap().keys().next().unwrap());
                api.ask("POST", &format!("{TWIN}/undo"), Some(&json!({"to": to})))
            }
            _ => api.ask("PATCH", TWIN, Some(&json!({"properties": {"desired": {"note": note, "n": {"k": number}}}}))),
        };
        let (status, twin) = answer.unwrap();
        assert_eq!(status, 200, "{twin}");
        notes.lock().unwrap().insert(version(&twin), twin["properties"]["desired"]["note"].clone());
        done.fetch_add(1, Ordering::Relaxed);
    }
}

/// The version at which a run ended that began at `from` and was told `told`; `None` where it was told another history.
fn follow(notes: &BTreeMap<u64, Value>, from: u64, told: &[Value]) -> Option<u64> {
    let end = from + told.len() as u64;
    let rest = notes.range(from + 1..end + 1).map(|(_, note)| note);
    (rest.clone().count() == told.len() && rest.eq(told)).then_some(end)
}

#[test]
fn a_module_gets_its_twin_and_then_every_change_once_whatever_is_done_at_the_same_time() {
    let runtime = wayward(json!({"note": "start"}));
    let twin = runtime.json(&["twin", "get", "w"]);
    let notes = Arc::new(Mutex::new(BTreeMap::from([(version(&twin), desired(&twin)["note"].clone())])));
    let done = Arc::new(AtomicU64::new(0));
    const EACH: u64 = 60;
    std::thread::scope(|scope| {
        for writer in 1..=2 {
            let (state, notes, done) = (runtime.state(), &notes, &done);
            scope.spawn(move || hammer(state, writer, EACH, notes, done));
        }
        for restart in 1..=4 {
            wait_until(SOON, "there were some changes", || done.load(Ordering::Relaxed) >= restart * EACH / 4);
            runtime.cli(&["restart", "w"]).ok();
            runtime.wait_for("w", "running");
        }
    });
    let notes = notes.lock().unwrap();
    let newest = *notes.keys().next_back().unwrap();
    assert_eq!(notes.len() as u64, 2 * EACH + 1, "versions are counted without gaps");
    wait_until(SOON, "the newest is acknowledged", || {
        let twin = runtime.json(&["twin", "get", "w"]);
        twin["properties"]["reported"]["acknowledged"]["version"] == newest
    });

    let events = runtime.events("w");
    let mut runs: Vec<Vec<Value>> = Vec::new();
    for event in &events {
        if let Some(note) = event.strip_prefix("create ") {
            runs.push(vec![serde_json::from_str(note).unwrap()]);
        } else if let Some((_, note)) = event.strip_prefix("desired ").and_then(|rest| rest.split_once(' ')) {
            runs.last_mut().unwrap().push(serde_json::from_str(note).unwrap());
        }
    }
    assert_eq!(runs.len(), 5);
    // A note may be that of several versions, once it was gone back to: a run is right if it is for any of them.
    let mut at = vec![*notes.keys().next().unwrap()];
    for told in &runs {
        let begins = |from: &u64| notes.get(from) == Some(&told[0]);
        let earliest = *at.iter().min().unwrap();
        let from: Vec<u64> = notes.range(earliest..).map(|(version, _)| *version).filter(begins).collect();
        at = from.into_iter().filter_map(|from| follow(&notes, from, &told[1..])).collect();
        assert!(!at.is_empty(), "{told:?} is no part of {notes:?}");
    }
    assert!(at.contains(&newest), "{at:?}: the last run ends with the newest");
}
