//! Azure's official service SDK for Python manages this device as if it were an IoT Hub.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::harness::{LISTEN, Manifest, Runtime, fixture, workspace};

/// As they were tried. The SDK needs `six`, which it does not declare.
const PACKAGES: [&str; 2] = ["azure-iot-hub==2.7.0", "six==1.17.0"];

#[test]
fn the_official_python_service_sdk_manages_the_device() {
    let folder = tempfile::tempdir().unwrap();
    let Some(python) = python_with_sdk(folder.path()) else { return };
    let runtime = Runtime::new().args(LISTEN).supply(&[fixture("wayward")]).start();
    runtime.deploy(&Manifest::new().module("m", "wayward"));

    let mut sdk = Command::new(python);
    sdk.arg(workspace().join("tests/fixtures/official_sdk/service.py")).env("REQUESTS_CA_BUNDLE", runtime.ca());
    let mut sdk = sdk.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let given = json!({
        "owner": runtime.connection_string("owner"), "reader": runtime.connection_string("reader"),
        "device": "Hannover01", "module": "m"
    });
    sdk.stdin.take().unwrap().write_all(given.to_string().as_bytes()).unwrap();
    let output = sdk.wait_with_output().unwrap();

    let (kept, trouble) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{kept}\n{trouble}");
    assert_eq!(kept.lines().filter(|line| line.starts_with("ok ")).count(), 9, "{kept}");
}

/// An interpreter with the SDK; `None`, with a line that says so, where the packages cannot be had.
fn python_with_sdk(folder: &Path) -> Option<PathBuf> {
    let did = |command: &mut Command| command.stdin(Stdio::null()).output().is_ok_and(|output| output.status.success());
    let skipped = |why: &str| println!("skipped: the official Python service SDK is not tried, {why}");
    if !did(Command::new("python3").args(["-m", "venv"]).arg(folder)) {
        skipped("there is no python3 with venv");
        return None;
    }
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1", "--timeout", "15"];
    let python = folder.join("bin/python");
    if !did(Command::new(&python).args(pip).args(PACKAGES)) {
        skipped("PyPI cannot be reached");
        return None;
    }
    Some(python)
}
