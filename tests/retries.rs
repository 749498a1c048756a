//! A message that its module wants delivered again holds up what is behind it: where one looks, it says which, how often it was
//! tried, when it comes again and why.

use serde_json::{Value, json};

use crate::harness::{Manifest, Runtime, SOON, c_fixture, fixture, wait_until};

/// A runtime whose module `w` waits for its PLC.
fn offline() -> Runtime {
    with(Runtime::new())
}

fn with(runtime: Runtime) -> Runtime {
    let runtime = runtime.supply(&[c_fixture("tests/fixtures/c/offline.c", "offline", &[])]).start();
    runtime.deploy(&Manifest::new().module("w", "offline"));
    runtime.wait_for("w", "running");
    runtime
}

#[track_caller]
fn send(runtime: &Runtime, body: &str) {
    runtime.cli(&["send", "w", "in", body]).ok();
}

/// The PLC is there.
fn connect(runtime: &Runtime) {
    std::fs::write(runtime.state().join("data/w/online"), "").unwrap();
}

fn show(runtime: &Runtime) -> Value {
    runtime.json(&["show", "w"])
}

/// What `show` says of messages that wait for another try.
fn notes(runtime: &Runtime) -> Vec<String> {
    let shown = show(runtime);
    assert_eq!(shown["status"], "running", "{shown}");
    let notes = shown["notes"].as_array().unwrap().iter().map(|note| note.as_str().unwrap().to_owned());
    notes.filter(|note| note.contains("another try")).collect()
}

/// Lines of the log about `w` with these words.
fn lines(runtime: &Runtime, words: &str) -> Vec<String> {
    let log = runtime.log();
    let is_it = |line: &&str| line.contains("module=\"w\"") && line.contains(words);
    log.lines().filter(is_it).map(str::to_owned).collect()
}

fn repeated(runtime: &Runtime, verdict: &str) -> u64 {
    let (_, _, text) = runtime.api().text("/metrics").unwrap();
    let sample = format!("dinrail_module_deliveries_repeated_total{{module=\"w\",verdict=\"{verdict}\"}} ");
    let value =
        text.lines().find_map(|line| line.strip_prefix(&sample)).unwrap_or_else(|| panic!("{sample} in {text}"));
    value.parse().unwrap()
}

const WAITS: &str = "will be delivered again in";
const PASSED: &str = "message handled after another try";

#[test]
fn message_that_waits_an_hour_for_another_try_is_told_of_wherever_one_looks() {
    let runtime = offline();
    send(&runtime, "retry 3600000");
    wait_until(SOON, "it was tried", || !notes(&runtime).is_empty());

    let shown = show(&runtime);
    let note = notes(&runtime).remove(0);
    assert!(note.starts_with("in: waits for another try of the message "), "{note}");
    assert!(note.contains(" of /devices/Hannover01/$operator (attempt 1, next in "), "{note}");
    assert!(note.contains("59 min") && note.ends_with("): PLC offline"), "{note}");
    assert_eq!(shown["reason"], "up, and waits for another try of a message: see the note");
    assert_eq!(shown["nextStep"], "correct the cause; dinrail restart w tries it at once");
    let text = runtime.cli(&["show", "w"]).ok().stdout;
    assert!(text.lines().any(|line| line.starts_with("note         in: waits for another try")), "{text}");
    let checked = runtime.cli(&["check"]).stdout;
    assert!(checked.contains("w: in: waits for another try") && checked.contains("PLC offline"), "{checked}");
    let told = lines(&runtime, WAITS);
    assert_eq!(told.len(), 1, "{told:?}");
    for words in ["WARN", "in 1 h 0 min: PLC offline", "input=\"in\"", "sender=\"/devices/Hannover01\"", "attempt=1"] {
        assert!(told[0].contains(words), "{words}: {told:?}");
    }
    assert_eq!((repeated(&runtime, "retry"), repeated(&runtime, "fault")), (1, 0));

    // The step that was named.
    connect(&runtime);
    runtime.cli(&["restart", "w"]).ok();
    wait_until(SOON, "it is handled", || runtime.module("w")["inbox"]["messages"] == 0);
    runtime.wait_for("w", "running");
    let shown = show(&runtime);
    assert_eq!((&shown["reason"], &shown["nextStep"]), (&json!("up and doing its work"), &Value::Null), "{shown}");
    assert_eq!(notes(&runtime), [] as [String; 0]);
    assert!(!runtime.cli(&["check"]).stdout.contains("another try"));
    assert_eq!(repeated(&runtime, "retry"), 1, "counted over restarts");
}

#[test]
fn message_that_is_retried_often_has_one_line_and_another_when_it_passes() {
    for body in ["retry 20", "defer 20"] {
        let runtime = offline();
        send(&runtime, body);
        wait_until(SOON, "it was tried some times", || repeated(&runtime, "retry") >= 6);
        let noted = notes(&runtime).remove(0);
        assert!(noted.ends_with("): PLC offline"), "{body}: {noted}");
        assert_eq!(lines(&runtime, WAITS).len(), 1, "{body}");
        assert!(lines(&runtime, PASSED).is_empty(), "{body}");

        connect(&runtime);
        wait_until(SOON, "it says that it was handled", || lines(&runtime, PASSED).len() == 1);
        assert_eq!(notes(&runtime), [] as [String; 0], "{body}");
        assert!(lines(&runtime, PASSED)[0].contains("input=\"in\""), "{body}");
    }
}

#[test]
fn message_that_passes_after_a_fault_is_said_to() {
    let runtime = offline();
    send(&runtime, "fault once");
    wait_until(SOON, "it says that it was handled", || lines(&runtime, PASSED).len() == 1);

    assert_eq!(lines(&runtime, "will be delivered again: PLC offline").len(), 1);
    assert_eq!((repeated(&runtime, "retry"), repeated(&runtime, "fault")), (0, 1));
    assert_eq!(notes(&runtime), [] as [String; 0]);
}

#[test]
fn message_that_is_set_aside_in_the_end_waits_no_more() {
    let runtime = with(Runtime::new().config("[queue]\nmax_attempts = 3\n"));
    send(&runtime, "retry 20");
    wait_until(SOON, "it is set aside", || show(&runtime)["parked"] == 1);

    assert_eq!(lines(&runtime, WAITS).len(), 1);
    assert_eq!(repeated(&runtime, "retry"), 2, "after the third there is no other");
    assert_eq!(notes(&runtime), [] as [String; 0]);
    assert!(lines(&runtime, PASSED).is_empty());
}

#[test]
fn module_that_retries_every_message_once_does_not_flood_the_log() {
    let runtime = offline();
    runtime.cli(&["send", "w", "in", "retry once", "--count", "300"]).ok();
    wait_until(SOON, "all are handled", || {
        repeated(&runtime, "retry") == 300 && runtime.module("w")["inbox"]["messages"] == 0
    });

    let (waits, passed) = (lines(&runtime, WAITS), lines(&runtime, PASSED));
    // Ten a minute, whenever minutes begin.
    assert!((1..=20).contains(&waits.len()), "{}", waits.len());
    assert_eq!(passed.len(), waits.len(), "what was said to wait is said to have passed");
    assert!(waits.iter().all(|line| line.contains("the module gave no reason")), "{waits:?}");
}

#[test]
fn reason_of_a_module_written_in_rust_is_told_too() {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    runtime.deploy(&Manifest::new().module("w", "wayward"));

    send(&runtime, "retry");

    wait_until(SOON, "it is in the log", || !lines(&runtime, "asked to retry").is_empty());
}
