//! `dinrail try` tells an author what a module does, without a runtime, whatever becomes of the module.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use crate::harness::{Output, c_fixture, dinrail, misbehaving};

/// Runs `try` in an environment without any runtime.
fn attempt(library: &Path, arguments: &[&str]) -> Output {
    let patience: &[&str] = if arguments.contains(&"--timeout") { &[] } else { &["--timeout", "30s"] };
    let done = Command::new(dinrail())
        .arg("try")
        .arg(library)
        .args(arguments)
        .args(patience)
        .env_remove("DINRAIL_STATE")
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Output { code: done.status.code().unwrap(), stdout: text(done.stdout), stderr: text(done.stderr) }
}

fn hello() -> PathBuf {
    c_fixture("plugin-api/tests/fixtures/c/hello.c", "hello-tried", &["-std=c99"])
}

fn trial() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| c_fixture("tests/fixtures/c/trial.c", "trial", &["-pthread"]))
}

/// Asserts that these lines are in this order in what was printed, others between them.
#[track_caller]
fn in_order(output: &Output, lines: &[&str]) {
    let mut rest = output.stdout.lines();
    for line in lines {
        assert!(rest.any(|found| found == *line), "'{line}' is not there, or not in its place:\n{}", output.stdout);
    }
}

#[test]
fn everything_that_a_module_does_is_printed_in_order() {
    let tried = attempt(
        &hello(),
        &[
            "--message",
            "names=Ada",
            "--property",
            "line=3",
            "--patch",
            "maxLength=2",
            "--message",
            "names=Bob",
            "--patch",
            "maxLength=1000",
            "--method",
            "count",
        ],
    );

    in_order(
        &tried,
        &[
            "create: {}",
            "  = done",
            "start",
            "  log info hello: started",
            "  health info: ready to greet",
            "on_message: names: Ada",
            "  sends greetings [line=3]: Hello, Ada!",
            "  reports {\"greeted\":1}",
            "  = accept",
            "on_message: names: Bob",
            "  = park: the name is longer than maxLength",
            "  = refused: maxLength: must be a whole number from 1 to 100",
            "  count answers 200: 1",
            "destroy",
            "ok: 2 messages handled, 1 message sent, 1 report",
        ],
    );
    tried.ok();
}

#[test]
fn scripts_read_one_document_and_can_expect() {
    let tried =
        attempt(&hello(), &["--message", "names=Ada", "--json", "--expect", "sends greetings: Hello, Ada!"]).ok();
    let document: Value = serde_json::from_str(&tried.stdout).unwrap();
    assert_eq!((&document["ok"], &document["problems"]), (&true.into(), &serde_json::json!([])));
    assert_eq!(document["reported"]["greeted"], 1);
    let events = document["events"].as_array().unwrap();
    let sent = events.iter().find(|event| event["event"] == "send").unwrap();
    assert_eq!((&sent["output"], &sent["body"]), (&"greetings".into(), &"Hello, Ada!".into()));

    let refused = attempt(&hello(), &["--message", "names=Ada", "--expect", "Good morning", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&refused.stdout).unwrap()["ok"], false);
    refused.refused(1, &["expected, but not seen: Good morning"]);
}

#[test]
fn crash_names_signal_callback_and_message() {
    let cases: [(&str, &[&str]); 4] = [
        ("segv", &["a segmentation fault (SIGSEGV) in on_message of message 2 (in: segv)", "every other module"]),
        ("abort", &["an abort (SIGABRT", "in on_message of message 2 (in: abort)"]),
        ("exit", &["an exit of the whole process with code 3 in on_message of message 2"]),
        ("exit0", &["an exit of the whole process in on_message of message 2"]),
    ];
    for (body, said) in cases {
        attempt(trial(), &["--message", "in=good", "--message", &format!("in={body}")]).refused(1, said);
    }
    let at_load = c_fixture("tests/fixtures/c/trial.c", "trial-ctor", &["-pthread", "-DCTOR"]);
    attempt(&at_load, &[]).refused(1, &["a segmentation fault (SIGSEGV) while it was loaded: in a constructor"]);
}

#[test]
fn hang_names_the_call_and_ends_in_time() {
    attempt(trial(), &["--timeout", "1s", "--message", "in=hang"])
        .refused(1, &["on_message of message 1 hangs: no return after 1s"]);
    attempt(&misbehaving(), &["--timeout", "1s", "--desired", "misbehave=hangInStop"])
        .refused(1, &["stop hangs: no return after 1s"]);
}

#[test]
fn panic_is_told_with_its_place() {
    attempt(&misbehaving(), &["--desired", "misbehave=panicInMessage", "--message", "in=bad"])
        .refused(1, &["on_message of message 1: panic", "misbehaving/src/lib.rs:", "panicked in on_message, as told"]);
    attempt(&misbehaving(), &["--desired", "misbehave=panicInStart"]).refused(1, &["start: panicked", "lib.rs:"]);
    attempt(&misbehaving(), &["--desired", "misbehave=refuseCreate"])
        .refused(1, &["create: refused: misbehave: not acc"]);
}

#[test]
fn messages_and_threads_left_behind_are_told() {
    attempt(trial(), &["--timeout", "1s", "--message", "in=defer"])
        .refused(1, &["message 1 (input in) was never completed: deferred, and no verdict came"]);
    attempt(trial(), &["--timeout", "1s", "--message", "in=retry"])
        .refused(1, &["was never completed: the last of 3 verdicts is retry after 100000 ms"]);
    let completed = attempt(trial(), &["--message", "in=defer", "--message", "in=done"]);
    in_order(&completed, &["  = defer", "  completes message 1: accept: late", "  = accept"]);
    completed.ok();
    if cfg!(target_os = "linux") {
        attempt(trial(), &["--message", "in=thread"]).refused(1, &["1 thread(s) left behind after its stop"]);
    }
}

#[test]
fn what_is_hardly_meant_so_is_a_warning() {
    let tried = attempt(trial(), &["--message", "in=out", "--message", "elsewhere=x"]);
    for said in [
        "warning: the descriptor names methods (m), but the table has no on_method",
        "warning: output 'nowhere' is not in the descriptor",
        "  sends nowhere: ff00",
        "  prints hello from printf",
    ] {
        assert!(tried.stdout.contains(said), "'{said}' is not in:\n{}{}", tried.stdout, tried.stderr);
    }
}

#[test]
fn library_that_is_not_taken_in_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("notes.so");
    std::fs::write(&text, "remember the milk\n").unwrap();
    attempt(&text, &[]).refused(1, &["not loaded: notes.so is not used: a text file", "put the built library here"]);
    attempt(&folder.path().join("nowhere.so"), &[]).refused(1, &["cannot be read"]);
}
