//! A newcomer's first command: measured values of this machine, changed by a twin, back after a kill -9.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::harness::{Runtime, plugin_folder, workspace};

fn manifest() -> PathBuf {
    workspace().join("deployments/host-monitor.json")
}

/// As the README starts it, with readings faster than there.
fn host_monitor() -> Runtime {
    let runtime = Runtime::new().watch(plugin_folder()).args([manifest()]).start();
    runtime.wait_for("host-metrics", "running");
    runtime.wait_for("filter", "running");
    runtime.cli(&["twin", "patch", "host-metrics", "periodMs=100", "--wait"]).ok();
    runtime
}

fn alarm_count(runtime: &Runtime) -> usize {
    let twin = runtime.json(&["twin", "get", "filter"]);
    twin["properties"]["reported"]["alarms"].as_array().map_or(0, Vec::len)
}

#[test]
fn tail_prints_measured_values_of_this_machine() {
    let runtime = host_monitor();
    let tail = runtime.follow(&["tail", "host-metrics", "--json"]);

    let reading = std::iter::repeat_with(|| tail.json()).find(|m| m["properties"]["name"] == "memory.total").unwrap();

    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap();
    let total_kib: f64 = total.trim().trim_end_matches(" kB").parse().unwrap();
    assert_eq!(reading["body"]["name"], "memory.total", "{reading}");
    let measured = reading["body"]["value"].as_f64().unwrap();
    assert!((measured - total_kib * 1024.0).abs() < 1024.0 * 1024.0, "{reading} against {total}");
    assert_eq!(reading["systemProperties"]["connectionModuleId"], "host-metrics");
    assert_eq!(reading["systemProperties"]["outputName"], "readings");
}

#[test]
fn twin_patch_changes_behaviour_without_a_restart() {
    let runtime = host_monitor();
    let before = runtime.module("filter");
    runtime.cli(&["twin", "patch", "filter", "threshold=101", "--wait"]).ok();
    assert_eq!(alarm_count(&runtime), 0);

    let mut alarms = runtime.listen("FROM /messages/modules/filter/outputs/alarms");
    let patched = runtime.cli(&["twin", "patch", "filter", "threshold=0.001", "--wait"]).ok();
    let alarm = alarms.next();

    assert!(patched.stdout.contains("accepted"), "{}", patched.stdout);
    assert_eq!(alarm["body"]["name"], "memory.usage");
    assert_eq!(alarm["body"]["state"], "raised");
    assert_eq!(alarm["body"]["threshold"], 0.001);
    let after = runtime.module("filter");
    assert_eq!(after["restartCount"], 0);
    assert_eq!(after["lastStartTimeUtc"], before["lastStartTimeUtc"]);
}

#[test]
fn twin_shows_the_acknowledgement_and_both_versions() {
    let runtime = host_monitor();

    runtime.cli(&["twin", "patch", "filter", "threshold=1", "--wait"]).ok();
    let twin = runtime.json(&["twin", "get", "filter"]);

    let (desired, reported) = (&twin["properties"]["desired"], &twin["properties"]["reported"]);
    let version = desired["$version"].as_u64().unwrap();
    assert_eq!(desired["threshold"], 1);
    assert_eq!(reported["acknowledged"], serde_json::json!({"version": version, "ok": true}));
    assert!(reported["$version"].as_u64().unwrap() >= 2, "{twin}");
    let row = runtime.module("filter");
    assert_eq!(row["desiredVersion"], desired["$version"]);
    assert!(row["reportedVersion"].is_u64(), "{row}");
}

#[test]
fn refused_patch_names_the_path_and_the_old_behaviour_stays() {
    let runtime = host_monitor();
    runtime.cli(&["twin", "patch", "filter", "threshold=101", "--wait"]).ok();

    let refused = runtime.cli(&["twin", "patch", "filter", "threshold=text", "--force", "--wait"]);

    refused.refused(1, &["filter", "threshold", "hint:"]);
    let twin = runtime.json(&["twin", "get", "filter"]);
    let acknowledged = &twin["properties"]["reported"]["acknowledged"];
    assert_eq!(acknowledged["ok"], false);
    assert_eq!(acknowledged["version"], twin["properties"]["desired"]["$version"]);
    assert!(acknowledged["error"].as_str().unwrap().contains("threshold"), "{acknowledged}");
    let row = runtime.module("filter");
    assert_eq!((&row["status"], &row["restartCount"]), (&"running".into(), &0.into()));
    let mut alarms = runtime.listen("FROM /messages/modules/filter/outputs/alarms");
    runtime.cli(&["send", "filter", "readings", r#"{"name": "memory.usage", "value": 102}"#]).ok();
    assert_eq!(alarms.next()["body"]["threshold"], 101.0);
}

/// Twins, deployment and instances, as far as they are to be the same after a restart.
fn what_stays(runtime: &Runtime) -> Value {
    let twin = |name: &str| runtime.json(&["twin", "get", name])["properties"]["desired"].clone();
    let mut deployment = runtime.json(&["deployment"]);
    deployment
        .as_object_mut()
        .unwrap()
        .retain(|key, _| ["id", "origin", "modules", "routes", "status"].contains(&&**key));
    serde_json::json!({"filter": twin("filter"), "host-metrics": twin("host-metrics"), "deployment": deployment})
}

#[test]
fn everything_is_back_after_kill_9_with_the_same_command_line_and_with_none() {
    let mut runtime = host_monitor();
    runtime.cli(&["twin", "patch", "filter", "threshold=0.5", "--wait"]).ok();
    let before = what_stays(&runtime);

    for arguments in [None, Some(["--device-id", "Hannover01"])] {
        runtime.kill9();
        match arguments {
            None => runtime.launch(),
            // No manifest and no watched folder: the state directory is all that is left.
            Some(few) => runtime.launch_with(&few.map(std::ffi::OsStr::new)),
        }
        runtime.wait_for("filter", "running");
        runtime.wait_for("host-metrics", "running");

        assert_eq!(what_stays(&runtime), before);
        assert_eq!(before["filter"]["threshold"], 0.5, "the manifest's 80 has come back");
        let alarm = runtime.follow(&["tail", "host-metrics", "--json"]).json();
        assert_eq!(alarm["systemProperties"]["connectionModuleId"], "host-metrics");
    }
}

#[test]
fn everything_comes_back_without_any_network() {
    let mut runtime = host_monitor();
    runtime.kill9();
    let unshared = Command::new("unshare").args(["-n", "true"]).output();
    if !unshared.is_ok_and(|output| output.status.success()) {
        println!("skipped: this user may not make a network of its own (unshare -n)");
        return;
    }

    runtime.launch_under(&["unshare", "-n"]);

    runtime.wait_for("filter", "running");
    runtime.wait_for("host-metrics", "running");
    runtime.follow(&["tail", "host-metrics", "--json"]).json();
}
