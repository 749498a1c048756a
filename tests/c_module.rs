//! A module in C, built with `cc` from the committed header, runs beside those in Rust.

use std::process::Command;

use serde_json::json;

use crate::harness::{Manifest, Runtime, c_fixture, fixture};

#[test]
fn module_in_c_runs_in_the_same_runtime_beside_rust_modules() {
    if Command::new("cc").arg("--version").output().is_err() {
        println!("skipped: there is no C compiler");
        return;
    }
    let hello = c_fixture("plugin-api/tests/fixtures/c/hello.c", "hello", &["-std=c99"]);
    let manifest = Manifest::new().module("hello", "hello").module("w", "wayward").route(
        "greetings",
        "FROM /messages/modules/hello/outputs/greetings INTO BrokeredEndpoint(\"/modules/w/inputs/in\")",
    );
    let mut runtime = Runtime::new().supply(&[hello, fixture("wayward")]).start();
    runtime.deploy(&manifest);
    let mut greetings = runtime.listen("FROM /messages/modules/hello/*");

    runtime.cli(&["send", "hello", "names", "Ada", "-p", "line=3"]).ok();

    let greeting = greetings.next();
    assert_eq!((&greeting["body"], &greeting["properties"]), (&"Hello, Ada!".into(), &json!({"line": "3"})));
    assert_eq!(greeting["systemProperties"]["connectionModuleId"], "hello");
    let is_there = || runtime.events("w").contains(&"message in 1 Hello, Ada!".to_owned());
    crate::harness::wait_until(crate::harness::SOON, "the Rust module has it", is_there);
    let row = runtime.module("hello");
    assert_eq!((&row["version"], &row["statusDescription"]), (&"1.0.0".into(), &"ready to greet".into()));

    // Its twin works alike: acknowledged, refused with a reason, reported.
    runtime.cli(&["twin", "patch", "hello", "maxLength=3", "--wait"]).ok();
    runtime.cli(&["twin", "patch", "hello", "maxLength=1000", "--wait"]).refused(1, &["maxLength", "1 to 100"]);
    runtime.cli(&["send", "hello", "names", "Bartholomew"]).ok();
    runtime.cli(&["send", "hello", "names", "Bob"]).ok();
    assert_eq!(greetings.next()["body"], "Hello, Bob!", "the longer name was set aside");
    let reported = || runtime.json(&["twin", "get", "hello"])["properties"]["reported"].clone();
    crate::harness::wait_until(crate::harness::SOON, "it reports", || reported()["greeted"] == 2);
    assert_eq!(reported()["acknowledged"]["ok"], false);

    // And so does its life.
    runtime.kill9_and_launch();
    runtime.wait_for("hello", "running");
    runtime.stop();
    assert!(runtime.log().contains("source=hello") || runtime.log().contains("source=\"hello\""), "{}", runtime.log());
}
