//! What an instance uses: processor time of all its threads, memory of its image, threads by name.

use serde_json::json;

use crate::harness::{Manifest, Runtime, SOON, c_module, misbehaving, wait_until};

fn with(kind: &str) -> Runtime {
    let runtime = Runtime::new().start();
    runtime.add_image(&misbehaving());
    let manifest = Manifest::new().module("it", "misbehaving").option("it", "stopGraceSecs", json!(0.3));
    runtime.apply(&manifest.desired("it", json!({ "misbehave": kind })));
    runtime.wait_for("it", "running");
    runtime
}

#[test]
fn memory_of_an_image_is_known_where_it_counts_and_shared_by_its_instances() {
    let runtime = with("hoard");
    runtime.add_image(&c_module("witness", "1.0.0", &[]));
    runtime.cli(&["add", "second", "misbehaving"]).ok();
    runtime.cli(&["add", "c", "witness"]).ok();
    ["second", "c"].into_iter().for_each(|name| runtime.wait_for(name, "running"));
    let bytes = |name: &str| runtime.module(name)["memoryBytes"].as_u64();
    let before = bytes("it").expect("a module in Rust counts");

    (0..3).for_each(|_| drop(runtime.cli(&["send", "it", "in", "x"]).ok()));
    runtime.wait_for_notes("it", "seen", 3);

    assert!((before + (3 << 20)..before + (4 << 20)).contains(&bytes("it").unwrap()), "{before} {:?}", bytes("it"));
    assert_eq!(bytes("c"), None);
    let show = runtime.cli(&["show", "it"]).ok().stdout;
    assert!(show.contains("shared by 2 instances of this image"), "{show}");
    runtime.cli(&["stop", "it"]).ok();
    runtime.wait_for("it", "stopped");
    assert!(bytes("it").unwrap() < before + (1 << 20), "what it held is free again");
}

#[test]
#[cfg(target_os = "linux")]
fn threads_of_a_module_bear_its_name_and_their_time_is_its_own() {
    let runtime = with("flood");
    let seconds = || runtime.module("it")["cpuSeconds"].as_f64().unwrap();

    wait_until(SOON, "its thread uses the processor", || seconds() > 0.2);

    let show = runtime.json(&["show", "it"]);
    let names: Vec<&str> = show["threads"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["it", "it/count"]);
    let tasks = std::fs::read_dir(format!("/proc/{}/task", runtime.pid())).unwrap();
    let mut comms = tasks.flatten().map(|task| std::fs::read_to_string(task.path().join("comm")).unwrap_or_default());
    assert!(comms.any(|comm| comm.trim() == "it/count"), "the system shows it under that name");
    let before = seconds();
    runtime.cli(&["stop", "it"]).ok();
    runtime.wait_for("it", "stopped");
    assert!(seconds() >= before, "what ended threads have used stays counted");
}

#[test]
fn thread_that_does_not_end_is_named_when_its_instance_is_given_up() {
    let runtime = with("stubbornThread");

    runtime.cli(&["stop", "it"]).ok();
    runtime.wait_for("it", "failed");

    let said = runtime.module("it")["statusDescription"].to_string();
    assert!(said.contains("a thread of its module did not end: stubborn"), "{said}");
    wait_until(SOON, "the log says so", || runtime.log().contains("did not end: stubborn"));
}
