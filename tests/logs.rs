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
