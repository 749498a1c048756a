//! The state directory: made private, never shared, and its troubles are said in a line each.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::harness::mount::{Mount, fill};
use crate::harness::{Manifest, Runtime, SOON, fixture, wait_until};

/// What `run` says that is refused, and asserts exit code 1.
fn refused(runtime: &Runtime) -> String {
    let output = runtime.run_command().stderr(Stdio::piped()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("hint:"), "{told}");
    assert!(!told.contains("panicked"), "{told}");
    told
}

fn mode(file: &Path) -> u32 {
    std::fs::metadata(file).unwrap().permissions().mode() & 0o777
}

#[test]
fn state_directory_is_for_its_owner_and_group_alone() {
    let runtime = Runtime::new().start();

    assert_eq!(mode(runtime.state()), 0o750);
    assert_eq!(mode(&runtime.state().join("dinrail.sock")), 0o660);
    for database in ["dinrail.db", "queue.db"] {
        assert_eq!(mode(&runtime.state().join(database)), 0o600, "{database}");
    }
    for folder in ["drop", "images", "data"] {
        assert!(runtime.state().join(folder).is_dir(), "{folder}");
    }
}

#[test]
fn nothing_is_written_outside_the_state_directory() {
    let mut runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    runtime.deploy(&Manifest::new().module("w", "wayward"));
    runtime.stop();

    let home = runtime.folder().join("home");
    let found = Command::new("find").arg(&home).args(["-type", "f", "-o", "-type", "s"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}

#[test]
fn state_directory_that_cannot_be_made_is_named() {
    let runtime = Runtime::new();
    let file = runtime.write("file", "no folder");
    let state = file.join("state");

    let told = refused(&runtime.state_at(state.clone()));

    assert!(told.contains(&*state.to_string_lossy()), "{told}");
    assert!(told.contains("Not a directory"), "{told}");
    assert!(told.contains("--state DIR"), "{told}");
}

#[test]
fn state_directory_without_the_right_to_write_is_named() {
    // Root may write where nobody may, save on what is mounted read-only.
    let Some(mount) = Mount::tmpfs("size=1m,ro") else { return };
    let state = mount.path().to_owned();

    let told = refused(&Runtime::new().state_at(state.clone()));

    assert!(told.contains(&*state.to_string_lossy()), "{told}");
    assert!(told.contains("Read-only"), "{told}");
}

#[test]
fn full_disk_is_named_at_the_start() {
    let Some(mount) = Mount::tmpfs("size=64k") else { return };
    let state = mount.path().to_owned();
    fill(&state);

    let told = refused(&Runtime::new().state_at(state));

    assert!(told.contains("full"), "{told}");
}

#[test]
fn disk_that_fills_up_costs_no_acknowledged_update_and_the_runtime_goes_on() {
    let Some(mount) = Mount::tmpfs("size=48m") else { return };
    let state = mount.path().to_owned();
    let mut runtime = Runtime::new().state_at(state.clone()).supply(&[fixture("wayward")]).start();
    runtime.deploy(&Manifest::new().module("w", "wayward"));
    runtime.cli(&["twin", "patch", "w", "note=kept", "--wait"]).ok();

    fill(&state);
    let text = "x".repeat(4000);
    let mut failed = None;
    for number in 0..200 {
        let output =
            runtime.cli(&["twin", "patch", "w", &format!("k{}={text}", number % 5), &format!("count={number}")]);
        if output.code != 0 {
            failed = Some((number, output));
            break;
        }
    }
    let (number, output) = failed.expect("the disk is full");
    output.refused(1, &["full", "hint:"]);

    let count = |runtime: &Runtime| runtime.json(&["twin", "get", "w"])["properties"]["desired"]["count"].clone();
    let newest = if number == 0 { serde_json::Value::Null } else { json!(number - 1) };
    assert_eq!(count(&runtime), newest);
    std::fs::remove_file(state.join("filler")).unwrap();
    runtime.cli(&["twin", "patch", "w", "count=1000"]).ok();
    runtime.kill9_and_launch();
    assert_eq!(count(&runtime), json!(1000));
    assert_eq!(runtime.json(&["twin", "get", "w"])["properties"]["desired"]["note"], "kept");
}

#[test]
fn state_path_too_long_for_a_socket_has_a_short_socket_that_clients_find() {
    let runtime = Runtime::new();
    let state = runtime.folder().join("s".repeat(120));
    let mut runtime = runtime.state_at(state.clone()).start();

    assert!(!state.join("dinrail.sock").exists());
    let place = std::fs::read_to_string(state.join("dinrail.sock.path")).unwrap();
    assert!(place.trim().len() < 108, "{place}");
    assert_eq!(runtime.json(&["list"]), json!([]));

    runtime.kill9_and_launch();
    assert_eq!(runtime.json(&["list"]), json!([]));
    runtime.stop();
    assert!(!Path::new(place.trim()).exists(), "the short socket is left behind");
    runtime.cli(&["list"]).refused(3, &["no runtime answers"]);
}

#[test]
fn device_id_is_fixed_at_the_first_start() {
    let mut runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    runtime.deploy(&Manifest::new().module("w", "wayward"));
    runtime.stop();

    let other = runtime.command(&["run", "--device-id", "Bremen02"]).output().unwrap();
    let told = String::from_utf8_lossy(&other.stderr).into_owned();
    assert_eq!(other.status.code(), Some(1), "{told}");
    for words in ["Bremen02", "Hannover01", "hint:"] {
        assert!(told.contains(words), "{told}");
    }

    runtime.launch_with(&[]);
    runtime.wait_for("w", "running");
    assert_eq!(runtime.module("w")["identity"], "/devices/Hannover01/modules/w");
}

#[test]
fn device_id_outside_the_alphabet_is_refused() {
    let runtime = Runtime::new().args(["--device-id", "Hannover 01"]);
    let output = runtime.command(&["run", "--device-id", "Hannover 01"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(matches!(output.status.code(), Some(1 | 2)), "{told}");
    assert!(told.contains("Hannover 01"), "{told}");
}

#[test]
fn copy_made_while_stopped_moves_the_device() {
    let mut runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    runtime.deploy(&Manifest::new().module("w", "wayward").desired("w", json!({"note": 1})));
    runtime.stop();
    let copy = runtime.folder().join("copy");
    let copied = Command::new("cp").arg("-a").arg(runtime.state()).arg(&copy).status().unwrap();
    assert!(copied.success());

    let mut moved = Runtime::new().state_at(copy);
    moved.launch_with(&[]);

    moved.wait_for("w", "running");
    let twin = moved.json(&["twin", "get", "w"]);
    assert_eq!((&twin["deviceId"], &twin["properties"]["desired"]["note"]), (&json!("Hannover01"), &json!(1)));
}

#[test]
fn socket_of_a_dead_runtime_is_no_obstacle() {
    let mut runtime = Runtime::new().start();
    runtime.kill9();
    assert!(runtime.state().join("dinrail.sock").exists(), "this test needs one that is left behind");

    runtime.cli(&["list"]).refused(3, &["no runtime answers"]);
    runtime.launch();

    wait_until(SOON, "it answers", || runtime.cli(&["list"]).code == 0);
}

#[test]
fn device_is_named_after_its_host_unless_told() {
    let mut runtime = Runtime::new();
    runtime.launch_with(&[]);

    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let health = runtime.api().ask("GET", "/health", None).unwrap().1;
    assert_eq!(health["deviceId"], host.trim());
}
