//! A library that is put into `drop/` runs: soon after it is complete, never before.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::bad_images::{put, row_of, verdict_on};
use crate::harness::{Manifest, Runtime, SOON, c_module, misbehaving, wait_until};

/// Copies as `cp` does: in place, over what is there.
pub fn copy_over(from: &Path, to: &Path) {
    let done = std::process::Command::new("cp").args([from, to]).status().unwrap();
    assert!(done.success());
}

/// Asserts that something stays so for a while.
#[track_caller]
pub fn stays(span: Duration, what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + span;
    while Instant::now() < end {
        assert!(is_so(), "it did not stay so: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn drop_folder(runtime: &Runtime) -> PathBuf {
    runtime.state().join("drop")
}

/// A runtime where numbers are sent all the time to the modules of these names, which are still to come.
fn with_senders(receivers: &[&str]) -> Runtime {
    let runtime = Runtime::new().start();
    runtime.add_image(&misbehaving());
    let ticker = serde_json::json!({ "misbehave": "count", "periodMs": 1 });
    let manifest = Manifest::new().module("ticker", "misbehaving").desired("ticker", ticker);
    runtime.apply(&receivers.iter().fold(manifest, |manifest, receiver| manifest.connect("ticker", receiver)));
    runtime.wait_for("ticker", "running");
    runtime
}

/// Time from now until a module has handled its first message.
fn until_first_message(runtime: &Runtime, module: &str) -> Duration {
    let complete = Instant::now();
    let seen = runtime.state().join("data").join(module).join("seen");
    wait_until(SOON, &format!("{module} handles a message"), || std::fs::metadata(&seen).is_ok_and(|m| m.len() > 0));
    complete.elapsed()
}

#[test]
fn dropped_library_gets_an_instance_named_after_it_that_handles_messages() {
    let runtime = with_senders(&["copied", "renamed"]);
    let copied = c_module("copied", "1.0.0", &[]);
    let renamed = std::fs::read(c_module("renamed", "1.0.0", &[])).unwrap();

    copy_over(&copied, &drop_folder(&runtime).join("any-name.so"));
    let after_copy = until_first_message(&runtime, "copied");
    put(&drop_folder(&runtime), "librenamed.so", &renamed);
    let after_rename = until_first_message(&runtime, "renamed");

    println!(
        "complete to first handled message: {after_copy:?} by cp (goal 1.5 s), {after_rename:?} by rename (goal 100 ms)"
    );
    assert!(after_copy < Duration::from_secs(5) && after_rename < Duration::from_secs(5));
    for module in ["copied", "renamed"] {
        assert_eq!(runtime.json(&["show", module])["origin"], "drop");
        assert_eq!(runtime.json(&["show", module])["identity"], format!("/devices/Hannover01/modules/{module}"));
    }
}

#[test]
fn slowly_growing_file_is_neither_used_nor_refused_before_it_is_complete() {
    let runtime = Runtime::new().start();
    let library = std::fs::read(c_module("slow", "1.0.0", &[])).unwrap();
    let file = drop_folder(&runtime).join("slow.so");
    let mut copy = File::create(&file).unwrap();
    let chunk = library.len() / 4;

    for part in library[..3 * chunk].chunks(chunk) {
        copy.write_all(part).unwrap();
        // Longer than two looks apart: only its still being open, and unfinished, speaks against it.
        stays(Duration::from_millis(1300), "nothing is said of it", || row_of(&runtime, &file).is_none());
    }
    copy.write_all(&library[3 * chunk..]).unwrap();
    drop(copy);

    runtime.wait_for("slow", "running");
    assert_eq!(verdict_on(&runtime, &file).0, "admitted");
    assert!(!runtime.log().contains("not used"), "{}", runtime.log());
}

#[test]
fn half_a_copy_is_refused_and_the_whole_one_used() {
    let runtime = Runtime::new().start();
    let library = std::fs::read(c_module("half", "1.0.0", &[])).unwrap();
    let file = drop_folder(&runtime).join("half.so");

    std::fs::write(&file, &library[..library.len() / 2]).unwrap();
    let (verdict, reason) = verdict_on(&runtime, &file);
    assert_eq!(verdict, "refused");
    assert!(reason.contains("truncated") && reason.contains("copy it again"), "{reason}");

    std::fs::write(&file, &library).unwrap();
    runtime.wait_for("half", "running");
    assert_eq!(verdict_on(&runtime, &file).0, "admitted");
}

#[test]
fn watched_folder_that_is_removed_and_made_again_still_works() {
    let folder = tempfile::tempdir().unwrap();
    let watched = folder.path().join("images");
    std::fs::create_dir(&watched).unwrap();
    let runtime = Runtime::new().watch(&watched).args(["--autostart"]).start();
    put(&watched, "before.so", &std::fs::read(c_module("before", "1.0.0", &[])).unwrap());
    runtime.wait_for("before", "running");
    let started = runtime.module("before")["lastStartTimeUtc"].clone();

    for again in ["again", "once-more"] {
        std::fs::remove_dir_all(&watched).unwrap();
        wait_until(SOON, "its loss is logged", || runtime.log().contains("cannot be read"));
        std::fs::create_dir(&watched).unwrap();
        put(&watched, "again.so", &std::fs::read(c_module(again, "1.0.0", &[])).unwrap());
        runtime.wait_for(again, "running");
    }
    assert_eq!(runtime.module("before")["lastStartTimeUtc"], started);
}

#[test]
fn watched_folder_without_autostart_supplies_images_and_starts_nothing() {
    let watched = tempfile::tempdir().unwrap();
    let runtime = Runtime::new().watch(watched.path()).start();
    runtime.apply(&Manifest::new().module("wanted", "supplied"));

    let unwanted = put(watched.path(), "unwanted.so", &std::fs::read(c_module("unwanted", "1.0.0", &[])).unwrap());
    put(watched.path(), "supplied.so", &std::fs::read(c_module("supplied", "1.0.0", &[])).unwrap());
    runtime.wait_for("wanted", "running");

    assert_eq!(
        verdict_on(&runtime, &unwanted),
        ("admitted".into(), "1.0.0 admitted, unused: no instance asks for it".into())
    );
    let names: Vec<String> =
        runtime.json(&["list"]).as_array().unwrap().iter().map(|row| row["name"].to_string()).collect();
    assert_eq!(names, ["\"wanted\""]);
}
