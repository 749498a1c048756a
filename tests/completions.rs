//! Tab: verbs and options always, ids from the runtime that runs, and nothing at all from one that does not answer.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Manifest, Runtime, dinrail, fixture, wait_until};

const LIMIT: Duration = Duration::from_secs(20);

/// What completes the last of these words, by the protocol of the scripts; asserts that nothing else is said.
#[track_caller]
fn completed(runtime: &Runtime, words: &[&str]) -> Vec<String> {
    let mut ask = Command::new(dinrail());
    ask.env_clear().env("HOME", runtime.folder()).env("DINRAIL_STATE", runtime.state());
    ask.env("DINRAIL_COMPLETE", "bash").env("_CLAP_IFS", "\n").env("_CLAP_COMPLETE_INDEX", words.len().to_string());
    let output = ask.args(["--", "dinrail"]).args(words).current_dir(runtime.folder()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{words:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn with_modules() -> Runtime {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    let manifest = Manifest::new().module("pump", "wayward").module("press", "wayward").module("valve", "wayward");
    let manifest = manifest.desired("pump", json!({"note": 1})).connect("pump", "press");
    runtime.deploy(&manifest);
    runtime
}

#[test]
fn ids_come_from_the_runtime_that_runs() {
    let runtime = with_modules();
    let table: [(&[&str], &[&str]); 12] = [
        (&["show", "p"], &["press", "pump"]),
        (&["start", "p"], &["press", "pump"]),
        (&["stop", "p"], &["press", "pump"]),
        (&["restart", "v"], &["valve"]),
        (&["wait", "pu"], &["pump"]),
        (&["wait", "pump", "--for", "s"], &["starting", "stopping", "stopped"]),
        (&["twin", "get", "v"], &["valve"]),
        (&["twin", "get", "/devices/Hannover01/modules/pu"], &["/devices/Hannover01/modules/pump"]),
        (&["twin", "patch", "pump", "n"], &["note="]),
        (&["send", "pump", "i"], &["in"]),
        (&["image", "remove", "way"], &["wayward", "wayward:1.0.0"]),
        (&["tail", "va"], &["valve"]),
    ];
    // On a busy machine a runtime may not answer in the time that Tab gives it.
    for (words, expected) in table {
        wait_until(LIMIT, &format!("{words:?} is completed to {expected:?}"), || {
            completed(&runtime, words) == expected
        });
    }
    wait_until(LIMIT, "the device's own identity is completed", || {
        completed(&runtime, &["twin", "get", "/devices/Hannover01"]).contains(&"/devices/Hannover01".to_owned())
    });
}

#[test]
fn verbs_and_options_need_no_runtime_and_ids_without_one_are_none() {
    let runtime = Runtime::new();

    assert_eq!(completed(&runtime, &["rest"]), ["restart"]);
    assert_eq!(completed(&runtime, &["deploy", "--wa"]), ["--wait"]);
    assert_eq!(completed(&runtime, &["completions", "b"]), ["bash"]);
    assert!(!completed(&runtime, &[""]).contains(&"man".to_owned()), "hidden");
    for words in [&["show", ""][..], &["stop", "p"], &["twin", "get", "/"], &["image", "remove", ""]] {
        let ids = completed(&runtime, words);
        assert!(ids.iter().all(|id| id.starts_with('-')), "{words:?}: {ids:?}");
    }
}

#[test]
fn runtime_that_does_not_answer_holds_nobody_up() {
    let runtime = Runtime::new();
    std::fs::create_dir_all(runtime.state()).unwrap();
    // Takes connections, and never says a word.
    let socket = std::os::unix::net::UnixListener::bind(runtime.state().join("dinrail.sock")).unwrap();

    let begun = Instant::now();
    let ids = completed(&runtime, &["show", "p"]);

    assert_eq!(ids, [""; 0]);
    // A person's patience, with room for a busy machine; the client's own is a minute.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    drop(socket);
}

#[test]
fn bash_completes_by_the_script_that_it_is_given() {
    let runtime = with_modules();
    let script = runtime.cli(&["completions", "bash"]).ok().stdout;
    // Words as bash breaks them.
    let ask = |line: &str, words: &str| {
        let asked = format!(
            "{script}\nCOMP_LINE='{line}' COMP_POINT={} COMP_WORDS=({words}) \nCOMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
             _dinrail dinrail\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"",
            line.len()
        );
        let folder = dinrail().parent().unwrap().to_owned();
        let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
        let mut bash = Command::new("bash");
        bash.env_clear().env("PATH", path).env("HOME", runtime.folder()).env("DINRAIL_STATE", runtime.state());
        let output = bash.args(["--norc", "-c", &asked]).stdin(Stdio::null()).output().expect("bash is there");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{line}");
        String::from_utf8(output.stdout).unwrap()
    };

    assert_eq!(ask("dinrail show pu", "dinrail show pu"), "pump\n");
    assert_eq!(ask("dinrail image remove wayward:", "dinrail image remove wayward :"), "1.0.0\n");
    assert_eq!(ask("dinrail image remove wayward:1.", "dinrail image remove wayward : 1."), "1.0.0\n");
    assert_eq!(ask("dinrail wait pump --for=runn", "dinrail wait pump --for = runn"), "running\n");
    assert_eq!(ask("dinrail show ", "dinrail show ''").lines().filter(|l| !l.starts_with('-')).count(), 3);
}

#[test]
fn every_shell_gets_a_script_and_other_names_are_usage() {
    let runtime = Runtime::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(runtime.cli(&["completions", shell]).ok().stdout.contains("DINRAIL_COMPLETE"), "{shell}");
    }
    runtime.cli(&["completions", "tcsh"]).refused(2, &["tcsh"]);
}

#[test]
fn man_pages_are_written_for_every_verb() {
    let runtime = Runtime::new();
    let folder = runtime.folder().join("man1");

    runtime.cli(&["man", &folder.to_string_lossy()]).ok();

    let help = runtime.cli(&["--help"]).ok().stdout;
    let verbs = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let verbs: Vec<&str> = verbs.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(verbs.contains(&"run"), "{help}");
    for verb in verbs {
        let page = std::fs::read_to_string(folder.join(format!("dinrail-{verb}.1"))).unwrap();
        assert!(page.contains(".SH EXAMPLES"), "{verb}: {page}");
    }
}
