//! A night shift at the drop folder: whatever happens to the files, what runs is not disturbed, each file has one line why it is
//! used or not, and the same instances are back after a reboot.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::{Runtime, SOON, c_module, wait_until};

/// What must not change: worker, image, restarts.
fn facts(runtime: &Runtime, name: &str) -> Value {
    let row = runtime.module(name);
    json!([row["status"], row["version"], row["digest"], row["lastStartTimeUtc"], row["restartCount"]])
}

/// The line of `image list` about what a file holds: of all that came from it, what came last.
fn line_of(runtime: &Runtime, file: &Path) -> Option<String> {
    let images = runtime.json(&["image", "list"]);
    let of_file = images.as_array().unwrap().iter().filter(|row| row["source"].as_str() == file.to_str());
    let last = of_file.max_by_key(|row| row["arrivedUtc"].as_str().unwrap().to_owned())?;
    Some(last["reason"].as_str().unwrap().to_owned())
}

#[track_caller]
fn wait_for_line(runtime: &Runtime, file: &Path, words: &str) {
    let text = format!("'{words}' is said of {}", file.display());
    wait_until(SOON, &text, || line_of(runtime, file).is_some_and(|said| said.contains(words)));
}

/// A library that says it is for another processor: in the head of an ELF file, bytes 18 and 19.
fn for_arm64(library: &Path) -> Vec<u8> {
    let mut bytes = std::fs::read(library).unwrap();
    bytes[18..20].copy_from_slice(&183_u16.to_le_bytes());
    bytes
}

#[test]
fn night_shift_at_the_drop_folder_disturbs_nobody_and_leaves_a_line_for_each_file() {
    let mut runtime = Runtime::new().start();
    let folder = std::fs::canonicalize(runtime.state()).unwrap().join("drop");
    let put = |library: &Path, name: &str| -> PathBuf {
        let file = folder.join(name);
        std::fs::copy(library, &file).unwrap();
        file
    };
    let pump = |version: &str, more: &[&str]| c_module("pump", version, more);
    let file = put(&pump("1.1.0", &[]), "pump.so");
    put(&c_module("valve", "1.0.0", &[]), "valve.so");
    ["pump", "valve"].into_iter().for_each(|name| runtime.wait_for(name, "running"));
    wait_for_line(&runtime, &file, "used by pump");
    let before = [facts(&runtime, "pump"), facts(&runtime, "valve")];
    let same = |runtime: &Runtime, after: &str| {
        assert_eq!([facts(runtime, "pump"), facts(runtime, "valve")], before, "after {after}");
    };

    let older = put(&pump("1.0.0", &[]), "pump.so");
    wait_for_line(&runtime, &older, "1.0.0 admitted, unused: 1.1.0 is newer");
    same(&runtime, "an older version over the newer one");

    let renamed = folder.join("pumpe.so");
    std::fs::rename(&older, &renamed).unwrap();
    wait_for_line(&runtime, &renamed, "1.1.0 is newer");
    same(&runtime, "a rename");

    let whole = std::fs::read(pump("1.2.0", &[])).unwrap();
    let cut = folder.join("cut.so");
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    wait_for_line(&runtime, &cut, "truncated");
    same(&runtime, "a copy that was cut");

    // `cat >>`: the file is closed after each piece.
    let pieces = folder.join("pieces.so");
    let mut written = 0;
    for piece in whole[..whole.len() / 2].chunks(whole.len() / 8) {
        std::fs::File::options().create(true).append(true).open(&pieces).unwrap().write_all(piece).unwrap();
        written += piece.len();
        wait_for_line(&runtime, &pieces, &format!("the file has {written} bytes"));
    }
    let told = || runtime.log().lines().filter(|line| line.contains("pieces.so") && line.contains("truncated")).count();
    wait_until(SOON, "it is logged", || told() > 0);
    assert_eq!(told(), 1, "one line, not one for each piece:\n{}", runtime.log());
    same(&runtime, "a copy in pieces");

    let secret = put(&c_module("secret", "1.0.0", &[]), "secret.part");
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    let is_readable = std::fs::File::open(&secret).is_ok();
    std::fs::rename(&secret, folder.join("secret.so")).unwrap();
    if is_readable {
        println!("skipped: nothing is unreadable for this user");
        std::fs::remove_file(folder.join("secret.so")).unwrap();
        wait_until(SOON, "it is seen or gone", || {
            runtime.module("secret").is_null() || runtime.cli(&["remove", "secret"]).code == 0
        });
    } else {
        wait_for_line(&runtime, &folder.join("secret.so"), "cannot be read");
    }
    same(&runtime, "a file that may not be read");

    let outside = runtime.folder().join("outside.so");
    std::fs::copy(c_module("outside", "1.0.0", &[]), &outside).unwrap();
    std::os::unix::fs::symlink(&outside, folder.join("link.so")).unwrap();
    std::os::unix::fs::symlink(folder.join("nothing"), folder.join("dangling.so")).unwrap();
    wait_for_line(&runtime, &folder.join("link.so"), "a link out of the watched folder");
    wait_for_line(&runtime, &folder.join("dangling.so"), "a link to nothing");

    std::fs::write(folder.join("pump.dll"), b"MZ\x90\0not more than that").unwrap();
    std::fs::write(folder.join("arm.so"), for_arm64(&pump("1.3.0", &[]))).unwrap();
    wait_for_line(&runtime, &folder.join("arm.so"), "aarch64");
    wait_until(SOON, "the .dll has a line", || line_of(&runtime, &folder.join("pump.dll")).is_some());
    same(&runtime, "links, a .dll and a library for another processor");

    for entry in std::fs::read_dir(&folder).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    wait_until(SOON, "refused files are forgotten", || {
        runtime.json(&["image", "list"]).as_array().unwrap().iter().all(|row| row["verdict"] != "refused")
    });
    same(&runtime, "everything was deleted");

    // A rebuild is an upgrade, and no more: of the same version the bytes that came last.
    put(&pump("1.1.0", &["-Wl,--build-id=0x0123456789"]), "pump.so");
    wait_until(SOON, "the rebuild runs", || runtime.module("pump")["digest"] != before[0][2]);
    runtime.wait_for("pump", "running");
    assert_eq!(facts(&runtime, "valve"), before[1], "nobody else is disturbed by it");
    std::fs::remove_file(folder.join("pump.so")).unwrap();

    let digests = |runtime: &Runtime| ["pump", "valve"].map(|name| runtime.module(name)["digest"].clone());
    let known = digests(&runtime);
    runtime.stop();
    runtime.launch();
    ["pump", "valve"].into_iter().for_each(|name| runtime.wait_for(name, "running"));
    assert_eq!(digests(&runtime), known, "after a reboot");
    runtime.kill9_and_launch();
    ["pump", "valve"].into_iter().for_each(|name| runtime.wait_for(name, "running"));
    assert_eq!(digests(&runtime), known, "after a power cut");

    runtime.cli(&["remove", "valve"]).ok();
    runtime.kill9_and_launch();
    runtime.wait_for("pump", "running");
    assert!(runtime.module("valve").is_null(), "removed for good");
}
