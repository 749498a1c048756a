//! `dinrail check` answers whether all is well, and where not, what to do.

use serde_json::{Value, json};

use crate::harness::{Manifest, Runtime, SOON, fixture, wait_until};

const SLOW: &str = "[restart]\nfirst_delay_secs = 3600\nmax_delay_secs = 7200\n";

/// The findings of a check, whatever its exit code.
#[track_caller]
fn findings(runtime: &Runtime) -> Value {
    let output = runtime.cli(&["check", "--json"]);
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}{}", output.stdout, output.stderr))
}

#[track_caller]
fn finding(runtime: &Runtime, id: &str) -> Value {
    let all = findings(runtime);
    let found = all["findings"].as_array().unwrap().iter().find(|finding| finding["id"] == id);
    found.unwrap_or_else(|| panic!("no {id} in {all:#}")).clone()
}

#[test]
fn healthy_runtime_has_no_error_and_every_thing_is_looked_at() {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    runtime.deploy(&Manifest::new().module("w", "wayward"));

    let found = findings(&runtime);

    let findings = found["findings"].as_array().unwrap();
    let ids: Vec<&str> = findings.iter().filter_map(|finding| finding["id"].as_str()).collect();
    assert_eq!(
        ids,
        [
            "runtime",
            "control-loop",
            "database-writer",
            "state-directory",
            "state-mount",
            "disk-space",
            "disk-inodes",
            "disk-sync",
            "databases",
            "damaged-files",
            "clock",
            "system",
            "device",
            "watched-folders",
            "images",
            "deployment",
            "instances",
            "twins",
            "store",
            "runtime-notes",
            "api",
            "hub"
        ]
    );
    for finding in findings.iter().filter(|finding| finding["status"] == "error") {
        // Only the machine that the tests run on may be in a bad way.
        assert!(["disk-space", "disk-inodes", "state-mount"].contains(&finding["id"].as_str().unwrap()), "{finding:#}");
    }
    for finding in findings.iter().filter(|finding| finding["status"] == "warning") {
        assert!(finding["hint"].is_string(), "{finding:#} says not what to do");
    }
    let images = finding(&runtime, "images");
    assert!(images["details"].to_string().contains("used by w"), "{images:#}");
}

#[test]
fn what_does_not_run_is_an_error_with_reason_and_next_step() {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).config("[restart]\nmax_starts = 0\n").start();
    let manifest = Manifest::new().module("w", "wayward").desired("w", json!({"panicIn": ["start"]}));
    let file = runtime.write("manifest.json", manifest.text());
    runtime.cli(&["deploy", &file.to_string_lossy()]).ok();
    runtime.wait_for("w", "failed");

    let output = runtime.cli(&["check"]);

    assert_eq!(output.code, 1, "{}", output.stdout);
    let line = output.stdout.lines().find(|line| line.contains("w is failed")).expect("the instance is named");
    assert!(line.contains("asked to panic in start"), "{line}");
    assert!(output.stdout.contains("what to do: remove the cause, then: dinrail start w"), "{}", output.stdout);
    assert!(output.stderr.contains("failed"), "{}", output.stderr);
}

#[test]
fn warnings_are_errors_on_demand() {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).config(SLOW).start();
    let manifest = Manifest::new().module("w", "wayward").desired("w", json!({"panicIn": ["start"]}));
    let file = runtime.write("manifest.json", manifest.text());
    runtime.cli(&["deploy", &file.to_string_lossy()]).ok();
    runtime.wait_for("w", "backoff");

    assert_eq!(finding(&runtime, "instances")["status"], "warning");
    assert_eq!(runtime.cli(&["check", "--warnings-as-errors"]).code, 1);
}

#[test]
fn folder_that_is_gone_is_named_until_it_is_back() {
    let runtime = Runtime::new();
    let folder = runtime.folder().join("usb");
    std::fs::create_dir(&folder).unwrap();
    let runtime = runtime.watch(&folder).start();
    assert_eq!(finding(&runtime, "watched-folders")["status"], "ok");

    std::fs::remove_dir(&folder).unwrap();
    wait_until(SOON, "the check sees it", || finding(&runtime, "watched-folders")["status"] == "warning");
    assert!(finding(&runtime, "watched-folders")["details"][0].as_str().unwrap().contains("usb"));

    std::fs::create_dir(&folder).unwrap();
    wait_until(SOON, "the check sees that it is back", || finding(&runtime, "watched-folders")["status"] == "ok");
}

#[test]
fn without_a_runtime_the_state_directory_is_looked_at_all_the_same() {
    let mut runtime = Runtime::new().start();
    runtime.stop();

    let output = runtime.cli(&["check"]);

    assert_eq!(output.code, 1);
    assert!(output.stdout.contains("no runtime answers"), "{}", output.stdout);
    assert!(output.stdout.contains("dinrail run"), "the way out: {}", output.stdout);
    for id in ["state-directory", "disk-space", "databases"] {
        assert!(
            output.stdout.lines().any(|line| line.contains(id) && line.starts_with("ok")),
            "{id}: {}",
            output.stdout
        );
    }
}

#[test]
fn damaged_database_of_a_stopped_runtime_is_found() {
    let mut runtime = Runtime::new().start();
    runtime.stop();
    std::fs::write(runtime.state().join("dinrail.db"), "scribbled over".repeat(1000)).unwrap();

    let databases = finding(&runtime, "databases");

    assert_eq!(databases["status"], "error", "{databases:#}");
    runtime.launch();
    assert_eq!(finding(&runtime, "damaged-files")["status"], "warning", "it was set aside");
}

#[cfg(unix)]
#[test]
fn file_that_others_can_read_is_named_with_the_command_that_closes_it() {
    use std::os::unix::fs::PermissionsExt;
    let runtime = Runtime::new().start();
    let database = runtime.state().join("queue.db");
    std::fs::set_permissions(&database, std::fs::Permissions::from_mode(0o644)).unwrap();

    let found = finding(&runtime, "state-directory");

    assert_eq!(found["status"], "error", "{found:#}");
    assert!(found["hint"].as_str().unwrap().starts_with("chmod 0600 "), "{found:#}");
}
