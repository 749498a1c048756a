//! What a module says, and what is said about it, can be read afterwards, however much it is: every line that is not there is
//! counted.

use serde_json::{Value, json};

use crate::harness::{Manifest, Runtime, SOON, fixture, wait_until};

/// A runtime with talkers of these names.
fn with(runtime: Runtime, names: &[&str]) -> Runtime {
    let runtime = runtime.supply(&[fixture("talker")]).start();
    runtime.deploy(&talkers(names));
    runtime
}

fn talkers(names: &[&str]) -> Manifest {
    names.iter().fold(Manifest::new(), |manifest, name| manifest.module(name, "talker"))
}

#[track_caller]
fn say(runtime: &Runtime, module: &str, text: &str, level: &str) {
    runtime.cli(&["send", module, "say", text, "-p", &format!("level={level}")]).ok();
}

/// The lines that `logs` gives, as documents.
#[track_caller]
fn logs(runtime: &Runtime, arguments: &[&str]) -> Vec<Value> {
    let document = runtime.json(&[&["logs"], arguments].concat());
    document.as_array().expect("an array").clone()
}

/// Their texts.
#[track_caller]
fn texts(runtime: &Runtime, arguments: &[&str]) -> Vec<String> {
    logs(runtime, arguments).iter().map(|line| line["text"].as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn wait_for_text(runtime: &Runtime, module: &str, text: &str) {
    wait_until(SOON, text, || texts(runtime, &[module, "--tail", "5"]).iter().any(|said| said.starts_with(text)));
}

#[test]
fn what_a_module_says_and_what_is_said_about_it_are_kept_with_level_source_and_place() {
    let runtime = with(Runtime::new(), &["a", "b"]);
    say(&runtime, "a", "one", "warn");
    wait_for_text(&runtime, "a", "one");
    say(&runtime, "b", "two", "info");
    wait_for_text(&runtime, "b", "two");
    runtime.cli(&["stop", "a"]).ok();
    runtime.wait_for("a", "stopped");

    let of_a = logs(&runtime, &["a"]);
    let one = of_a.iter().find(|line| line["source"] == "talker").unwrap();
    assert_eq!((&one["level"], &one["module"], &one["text"]), (&json!("warn"), &json!("a"), &json!("one answer=42")));
    assert!(one["place"].as_str().unwrap().contains("talker.rs:"), "{one}");
    assert!(one["time"].as_str().unwrap().ends_with('Z'), "{one}");
    let told = |words: &str| {
        of_a.iter().any(|line| line["source"] == "dinrail" && line["text"].as_str().unwrap().contains(words))
    };
    assert!(told("stopped"), "{of_a:#?}");
    assert!(of_a.iter().all(|line| line["module"] == "a"));

    let all = logs(&runtime, &[]);
    let numbers: Vec<u64> = all.iter().map(|line| line["n"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    let order: Vec<&str> =
        all.iter().filter_map(|l| l["text"].as_str()).filter(|t| ["one answer=42", "two"].contains(t)).collect();
    assert_eq!(order, ["one answer=42", "two"]);
    let own = logs(&runtime, &["--runtime"]);
    assert!(
        own.iter().all(|line| line["module"].is_null())
            && own.iter().any(|line| line["text"].as_str().unwrap().ends_with("runs"))
    );
    let text = runtime.cli(&["logs", "b"]).ok().stdout;
    assert!(text.lines().any(|line| line.ends_with(" INFO  two")), "{text}");
}

#[test]
fn panic_is_one_entry_with_its_place_and_the_calls_that_led_to_it() {
    let runtime = with(Runtime::new(), &["a", "b"]);
    for (module, input) in [("a", "panic"), ("b", "panicInThread")] {
        runtime.cli(&["send", module, input, "now"]).ok();
        wait_for_text(&runtime, module, "panicked: the cat is gone");
        let lines = logs(&runtime, &[module, "--grep", "^panicked: the cat is gone"]);
        let line = lines.first().unwrap();
        assert_eq!((&line["level"], &line["source"]), (&json!("error"), &json!("panic")));
        assert!(line["place"].as_str().unwrap().contains("talker.rs:"), "{line}");
        let text = line["text"].as_str().unwrap();
        let frames: Vec<&str> = text.lines().skip(1).collect();
        assert!(frames.len() <= 12 && frames[0].contains("open_the_box") && frames[0].contains("talker.rs:"), "{text}");
        assert!(frames[1].contains("look_into_the_box"), "{text}");
        assert!(!text.contains("dinrail_plugin::entry") && !text.contains("core::panicking"), "{text}");
        let shown = runtime.cli(&["logs", module, "--level", "error"]).ok().stdout;
        assert!(shown.contains("\n    ") && shown.contains("open_the_box"), "{shown}");
    }
    let reason = runtime.json(&["show", "a"])["reason"].as_str().unwrap().to_owned();
    assert!(
        reason.contains("talker.rs:") && reason.contains("the cat is gone") && !reason.contains("open_the_box"),
        "{reason}"
    );
}

/// The bytes of all files of a module's log.
fn bytes_of(runtime: &Runtime, module: &str) -> u64 {
    let file = runtime.state().join("logs/modules").join(format!("{module}.jsonl"));
    let size = |file: &std::path::Path| std::fs::metadata(file).map_or(0, |found| found.len());
    size(&file) + size(&file.with_extension("jsonl.1"))
}

#[test]
fn flood_keeps_its_bound_every_line_of_it_is_counted_and_nobody_else_misses_any() {
    let config = "[log]\ninstance_bytes = 20000000\nlines_per_sec = 100\nburst_lines = 300\n";
    let runtime = with(Runtime::new().config(config), &["flooder", "neighbour"]);
    let (threads, lines) = (4, 20_000);
    let order = json!({ "threads": threads, "lines": lines, "bytes": 50 }).to_string();
    runtime.cli(&["send", "flooder", "flood", &order]).ok();
    for n in 0..20 {
        say(&runtime, "neighbour", &format!("still here {n}"), "info");
    }

    let counts = || {
        let all = logs(&runtime, &["flooder", "--tail", "100000"]);
        let said = all.iter().filter(|line| line["source"] == "talker").count() as u64;
        let dropped: u64 = all.iter().filter_map(|line| line["fields"]["dropped"].as_u64()).sum();
        (said, dropped)
    };
    let total = threads * lines;
    wait_until(SOON, "written and dropped lines make up all that were said", || {
        let (said, dropped) = counts();
        assert!(said + dropped <= total, "{said} + {dropped}");
        said + dropped == total
    });
    let (said, dropped) = counts();
    assert!(said >= 300 && dropped > 0, "{said} written, {dropped} dropped");
    let told = texts(&runtime, &["flooder", "--grep", "dropped: more than 100 a second"]);
    assert!(!told.is_empty());
    wait_for_text(&runtime, "neighbour", "still here 19");
    let heard = texts(&runtime, &["neighbour", "--grep", "still here"]);
    assert_eq!(heard, (0..20).map(|n| format!("still here {n}")).collect::<Vec<_>>());
    let shown = runtime.json(&["show", "flooder"]);
    assert_eq!(shown["log"]["dropped"], json!(dropped), "{shown}");
    assert!(runtime.cli(&["show", "flooder"]).ok().stdout.contains("lines dropped"));
    // What stderr was given is within the same bounds.
    assert!((runtime.log().lines().count() as u64) < said + 200);
}

#[test]
fn log_is_rotated_within_its_bound_and_a_follower_misses_nothing() {
    let config = "[log]\ninstance_bytes = 262144\nlines_per_sec = 1000000\nburst_lines = 1000000\n";
    let runtime = with(Runtime::new().config(config), &["a"]);
    let follower = runtime.follow(&["logs", "a", "-f", "--grep", "^(0 |last)", "--json"]);
    // Else it might begin behind the flood, with the newest lines only.
    say(&runtime, "a", "last before", "info");
    assert_eq!(follower.json()["text"], "last before");
    let order = json!({ "threads": 1, "lines": 1500, "bytes": 300 }).to_string();
    runtime.cli(&["send", "a", "flood", &order]).ok();
    let mut heard = 0;
    let mut skipped = 0;
    while heard + skipped < 1500 {
        let line = follower.json();
        skipped += line["skipped"].as_u64().unwrap_or(0);
        heard += u64::from(line["text"].is_string());
    }
    assert_eq!(heard + skipped, 1500);
    wait_for_text(&runtime, "a", "0 1499");
    assert!(bytes_of(&runtime, "a") <= 262_144 && bytes_of(&runtime, "a") > 131_072, "{}", bytes_of(&runtime, "a"));
    // A restart of the instance is no end.
    runtime.cli(&["restart", "a"]).ok();
    runtime.wait_for("a", "running");
    say(&runtime, "a", "last", "info");
    assert_eq!(follower.json()["text"], "last");
    runtime.cli(&["stop", "a"]).ok();
}

#[test]
fn kill_9_leaves_a_log_that_is_read_on_and_a_torn_line_is_skipped() {
    let mut runtime = with(Runtime::new(), &["a"]);
    say(&runtime, "a", "before", "error");
    wait_for_text(&runtime, "a", "before");
    let follower = runtime.follow(&["logs", "a", "-f", "--tail", "1", "--grep", "before"]);
    assert!(follower.line().contains("before"));
    runtime.kill9();
    let (code, said) = follower.end();
    assert_eq!(code, 1, "{said}");
    let nobody = runtime.cli(&["logs", "a"]).refused(3, &["no runtime answers", "logs"]);
    assert!(nobody.stderr.contains("modules/NAME.jsonl"), "{}", nobody.stderr);
    let file = runtime.state().join("logs/modules/a.jsonl");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes.extend_from_slice(b"{\"n\":1795269909123456,\"time\":\"2026-11-21T1");
    std::fs::write(&file, bytes).unwrap();

    runtime.launch();
    runtime.wait_for("a", "running");
    say(&runtime, "a", "after", "info");
    wait_for_text(&runtime, "a", "after");
    let heard: Vec<String> = texts(&runtime, &["a", "--grep", "^(before|after)"]);
    assert_eq!(heard, ["before", "after"]);
    let numbers: Vec<u64> = logs(&runtime, &[]).iter().map(|line| line["n"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
}

#[test]
fn lines_are_chosen_by_number_time_level_and_text() {
    let runtime = with(Runtime::new(), &["a"]);
    for (text, level) in [("first", "info"), ("second", "warn"), ("third", "error")] {
        say(&runtime, "a", text, level);
        wait_for_text(&runtime, "a", text);
    }
    let own = |arguments: &[&str]| {
        let all = logs(&runtime, &[&["a"], arguments].concat());
        let own = all.iter().filter(|line| line["source"] == "talker");
        own.map(|line| line["text"].as_str().unwrap().split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(own(&[]), ["first", "second", "third"]);
    assert_eq!(own(&["--tail", "1"]), ["third"]);
    assert_eq!(own(&["--level", "warn"]), ["second", "third"]);
    assert_eq!(own(&["--grep", "s(e|t)|f.r"]), ["first", "second"]);
    assert_eq!(own(&["--since", "1h"]), ["first", "second", "third"]);
    assert_eq!(own(&["--until", "1h"]), <[&str; 0]>::default());
    let second = logs(&runtime, &["a", "--grep", "second"])[0]["time"].as_str().unwrap().to_owned();
    assert_eq!(own(&["--since", &second]), ["second", "third"]);
    assert_eq!(own(&["--until", &second]), ["first"]);

    runtime.cli(&["logs", "--grep", "a(b"]).refused(2, &["not a regular expression", "unclosed group", "a(b", "^"]);
    runtime.cli(&["logs", "--since", "soon"]).refused(2, &["'soon' is not a time", "90s"]);
    runtime.cli(&["logs", "--level", "loud"]).refused(2, &["loud"]);
    runtime.cli(&["logs", "b"]).refused(1, &["there is no module 'b'"]);
    let (status, answer) = runtime.api().ask("GET", "/logs?level=loud", None).unwrap();
    assert_eq!((status, answer["error"]["code"].as_str()), (400, Some("invalid")));
}

#[test]
fn what_a_module_says_steers_no_terminal_and_a_long_line_is_cut() {
    let runtime = with(Runtime::new(), &["a"]);
    let steering = b"red\x1b[31m and gone\x1b[2J\x07 \xff end";
    runtime.cli_with_input(&["send", "a", "say", "-"], steering).ok();
    wait_for_text(&runtime, "a", "red");
    runtime.cli_with_input(&["send", "a", "say", "-"], "long ".repeat(20_000).as_bytes()).ok();
    wait_for_text(&runtime, "a", "long");

    let shown = runtime.cli(&["logs", "a"]).ok().stdout;
    assert!(shown.contains("red␛[31m and gone␛[2J␇ \u{fffd} end"), "{}", &shown[..1000]);
    assert!(shown.contains("… (cut: it has 100"), "the cut is said");
    for text in [&shown, &runtime.log()] {
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'));
        assert!(text.lines().all(|line| line.len() < 17_000));
    }
}

#[test]
fn log_of_a_removed_module_stays_until_it_is_purged() {
    let runtime = with(Runtime::new(), &["a"]);
    say(&runtime, "a", "I was here", "info");
    wait_for_text(&runtime, "a", "I was here");
    runtime.deploy(&Manifest::new());
    wait_until(SOON, "it is gone", || runtime.module("a").is_null());
    wait_for_text(&runtime, "a", "I was here");
    runtime.cli(&["logs", "aa"]).refused(1, &["did you mean 'a'?"]);

    let removed = runtime.cli(&["remove", "a", "--purge"]).ok();
    assert!(removed.stdout.contains("log"), "{}", removed.stdout);
    wait_until(SOON, "its files are gone", || bytes_of(&runtime, "a") == 0);
    runtime.cli(&["logs", "a"]).refused(1, &["there is no module 'a'"]);
}

#[test]
fn service_manager_is_told_priorities_where_it_reads_stderr() {
    use std::os::unix::fs::MetadataExt;
    if std::path::Path::new("/run/systemd/journal/socket").exists() {
        return; // There the lines go to the journal itself, which is not the test's.
    }
    let runtime = Runtime::new();
    let file = runtime.write("stderr", "");
    let found = std::fs::metadata(&file).unwrap();
    let mut run = runtime.run_command();
    run.env("JOURNAL_STREAM", format!("{}:{}", found.dev(), found.ino()));
    let mut child = run.stderr(std::fs::File::options().append(true).open(&file).unwrap()).spawn().unwrap();
    wait_until(SOON, "it runs", || std::fs::read_to_string(&file).unwrap().contains(" runs "));
    child.kill().unwrap();
    child.wait().unwrap();
    let said = std::fs::read_to_string(&file).unwrap();
    assert!(said.lines().all(|line| line.starts_with("<6>") || line.starts_with("<4>")), "{said}");
}
