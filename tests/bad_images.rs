//! A file that cannot be used ends in one clear line that names it, what is wrong and what to do: in the log, in `image list` and
//! in `show` of whoever waits for it. Neither the runtime nor other modules notice.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::{Manifest, Runtime, SOON, c_fixture, c_module, unloadable_module, wait_until, workspace};

/// A file that is not taken in.
struct Bad {
    /// Its name without `.so`.
    name: &'static str,
    bytes: Vec<u8>,
    /// What has to be said of it, with what to do.
    said: [&'static str; 2],
}

fn bad(name: &'static str, bytes: impl Into<Vec<u8>>, said: [&'static str; 2]) -> Bad {
    Bad { name, bytes: bytes.into(), said }
}

fn read(file: PathBuf) -> Vec<u8> {
    std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// A sound module with some bytes replaced.
fn patched(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut library = read(c_module("sound", "1.0.0", &[]));
    library[at..at + bytes.len()].copy_from_slice(bytes);
    library
}

fn cut(percent: usize) -> Vec<u8> {
    let library = read(c_module("sound", "1.0.0", &[]));
    library[..library.len() * percent / 100].to_vec()
}

/// All but the table of sections, with which an ELF file ends.
fn without_section_table() -> Vec<u8> {
    let library = read(c_module("sound", "1.0.0", &[]));
    let table = u64::from_le_bytes(library[40..48].try_into().unwrap());
    library[..usize::try_from(table).unwrap()].to_vec()
}

/// A library of the system.
fn foreign() -> Vec<u8> {
    let found = Command::new("cc").arg("-print-file-name=libm.so.6").output().unwrap().stdout;
    read(PathBuf::from(String::from_utf8(found).unwrap().trim()))
}

/// The beginning of a Windows library: the two headers.
fn windows_library() -> Vec<u8> {
    let mut bytes = vec![0; 0x200];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[0x3C] = 0x80;
    bytes[0x80..0x84].copy_from_slice(b"PE\0\0");
    bytes[0x84..0x86].copy_from_slice(&0x8664_u16.to_le_bytes());
    bytes
}

fn bad_files() -> Vec<Bad> {
    let module = |definitions: &[&str]| read(c_module("misshapen", "1.0.0", definitions));
    let other_processor: u16 = if cfg!(target_arch = "aarch64") { 62 } else { 183 };
    vec![
        bad("empty", "", ["empty", "copy it again"]),
        bad("text", "remember the milk\n", ["a text file", "put the built library here"]),
        bad("script", "#!/bin/sh\nexit 1\n", ["a script", "build a shared library"]),
        bad("zeros", vec![0; 4096], ["truncated", "copy it again"]),
        bad("noise", [0xFE, 0x01, 0x80, 0x02].repeat(64), ["neither ELF nor PE", "put the built library here"]),
        bad("cut10", cut(10), ["truncated", "copy it again"]),
        bad("cut50", cut(50), ["truncated", "copy it again"]),
        bad("cut90", cut(90), ["truncated", "copy it again"]),
        bad("cut-table", without_section_table(), ["truncated: the section table", "copy it again"]),
        bad(
            "otherarch",
            patched(18, &other_processor.to_le_bytes()),
            ["this device runs Linux", "rebuild it with --target"],
        ),
        bad("narrow", patched(4, &[1]), ["32-bit", "rebuild it with --target"]),
        bad("windows", windows_library(), ["built for Windows", "rebuild it with --target"]),
        bad("magic", module(&["-DMAGIC=42"]), ["wrong magic", "dinrail_module.h"]),
        bad(
            "newer",
            module(&["-DMAJOR=2"]),
            ["built for ABI 2.0, this runtime speaks 1.0", "update the runtime or rebuild it"],
        ),
        bad(
            "older",
            module(&["-DMAJOR=0"]),
            ["built for ABI 0.0, this runtime speaks 1.0", "rebuild it with dinrail-plugin"],
        ),
        bad("nosymbol", module(&["-DNO_SYMBOL"]), ["not a dinrail module", "add export_module!"]),
        bad("foreign", foreign(), ["not a dinrail module", "add export_module!"]),
        bad(
            "undefined",
            module(&["-DUNDEFINED=modbus_connect"]),
            ["undefined symbol: modbus_connect", "link it with -lmodbus"],
        ),
        bad(
            "sanitized",
            module(&["-DUNDEFINED=__asan_init"]),
            ["built with AddressSanitizer", "build it without -fsanitize"],
        ),
        bad("silent", module(&["-DNO_DESCRIPTOR"]), ["no section .dinrail", "add the descriptor"]),
        bad("mumbling", module(&["-DDESCRIPTOR=\"{\\\"name\\\":\""]), ["its descriptor", "correct it"]),
        bad(
            "nameless",
            module(&["-DDESCRIPTOR=\"{\\\"version\\\":\\\"1.0.0\\\"}\""]),
            ["its descriptor", "correct it"],
        ),
        bad(
            "unversioned",
            module(&["-DDESCRIPTOR=\"{\\\"name\\\":\\\"x\\\",\\\"version\\\":\\\"one\\\"}\""]),
            ["its descriptor", "correct it"],
        ),
    ]
}

/// Copies under another name and renames, as careful programs do: there is never less than all of it.
pub fn put(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let (part, file) = (folder.join(format!("{name}.part")), folder.join(name));
    std::fs::write(&part, bytes).unwrap();
    std::fs::rename(&part, &file).unwrap();
    file
}

/// The rows of `image list` about a file: what came from it, the newest first, and why it is refused now.
pub fn rows_of(runtime: &Runtime, file: &Path) -> Vec<Value> {
    let rows = runtime.json(&["image", "list"]);
    rows.as_array().unwrap().iter().filter(|row| row["source"] == file.to_str().unwrap()).cloned().collect()
}

/// The first row of `image list` about a file.
pub fn row_of(runtime: &Runtime, file: &Path) -> Option<Value> {
    rows_of(runtime, file).into_iter().next()
}

/// Waits until `image list` says something about a file, and gives its verdict and what is said.
#[track_caller]
pub fn verdict_on(runtime: &Runtime, file: &Path) -> (String, String) {
    let mut found = None;
    wait_until(SOON, &format!("image list says something about {}", file.display()), || {
        found = row_of(runtime, file);
        found.is_some()
    });
    let row = found.unwrap();
    (row["verdict"].as_str().unwrap().to_owned(), row["reason"].as_str().unwrap().to_owned())
}

/// Asserts that exactly one line of the log is about a file and says what it has to.
#[track_caller]
pub fn one_log_line(runtime: &Runtime, file: &Path, said: &[&str]) {
    // The log is written a moment after what it tells of.
    let is_told = || runtime.log().lines().any(|line| line.contains(file.to_str().unwrap()));
    wait_until(SOON, &format!("a log line about {}", file.display()), is_told);
    let log = runtime.log();
    let about: Vec<&str> = log.lines().filter(|line| line.contains(file.to_str().unwrap())).collect();
    assert_eq!(about.len(), 1, "lines about {}: {about:#?}", file.display());
    said.iter().for_each(|words| assert!(about[0].contains(words), "'{words}' is not in: {}", about[0]));
}

#[test]
fn every_bad_file_is_refused_in_one_clear_line_and_nobody_else_notices() {
    let files = bad_files();
    let runtime = Runtime::new().start();
    runtime.add_bystanders();
    let waiting = files.iter().fold(Manifest::new(), |manifest, bad| manifest.module(bad.name, bad.name));
    runtime.apply(&waiting.with_bystanders());
    let drop = runtime.state().join("drop");

    runtime.undisturbed(|| {
        let files: Vec<(&Bad, PathBuf)> =
            files.iter().map(|bad| (bad, put(&drop, &format!("{}.so", bad.name), &bad.bytes))).collect();
        for (bad, file) in &files {
            let (verdict, reason) = verdict_on(&runtime, file);
            assert_eq!(verdict, "refused", "{}: {reason}", bad.name);
            bad.said
                .iter()
                .for_each(|words| assert!(reason.contains(words), "{}: '{words}' is not in: {reason}", bad.name));
        }
        for (bad, file) in &files {
            one_log_line(&runtime, file, &bad.said);
            let shown = runtime.json(&["show", bad.name]);
            assert_eq!(shown["status"], "waiting", "{shown}");
            let reason = shown["reason"].as_str().unwrap();
            for words in [file.to_str().unwrap(), bad.said[0], bad.said[1]] {
                assert!(reason.contains(words), "show {}: '{words}' is not in: {reason}", bad.name);
            }
        }
    });
}

#[test]
fn bad_files_that_lie_there_at_the_start_do_not_hold_up_what_is_sound() {
    let mut runtime = Runtime::new().start();
    runtime.stop();
    let drop = runtime.state().join("drop");
    let files: Vec<PathBuf> =
        bad_files().iter().map(|bad| put(&drop, &format!("{}.so", bad.name), &bad.bytes)).collect();
    put(&drop, "sound.so", &read(c_module("sound", "1.0.0", &[])));

    runtime.launch();

    runtime.wait_for("sound", "running");
    files.iter().for_each(|file| assert_eq!(verdict_on(&runtime, file).0, "refused"));
}

#[test]
fn adding_a_bad_file_by_hand_is_refused_with_file_fault_and_next_step() {
    let runtime = Runtime::new().start();
    for bad in bad_files() {
        let file = runtime.write(&format!("{}.so", bad.name), &bad.bytes);
        let name = file.to_str().unwrap();
        runtime.cli(&["image", "inspect", name]).refused(1, &[name, bad.said[0], bad.said[1]]);
        let short = format!("{}.so", bad.name);
        runtime.cli(&["image", "add", name]).refused(1, &[&short, bad.said[0], bad.said[1]]);
    }
    let nothing = runtime.json(&["image", "list"]);
    assert!(nothing.as_array().unwrap().iter().all(|row| row["verdict"] == "refused"), "{nothing}");
}

#[test]
fn refused_library_that_was_sent_is_forgotten_on_demand_and_one_that_lies_in_a_folder_stays() {
    let runtime = Runtime::new().start();
    let lying = put(&runtime.state().join("drop"), "lying.so", b"no library");
    assert_eq!(verdict_on(&runtime, &lying).0, "refused");
    let sent = runtime.write("sent.so", b"no library");
    runtime.cli(&["image", "add", sent.to_str().unwrap()]).refused(1, &["sent.so"]);
    let check = runtime.cli(&["check"]).stdout;
    assert!(check.contains("to forget it: dinrail image remove sent.so"), "{check}");

    assert_eq!(runtime.cli(&["image", "remove", "sent.so"]).ok().stdout, "sent.so is forgotten\n");
    runtime.cli(&["image", "remove", "sent.so"]).refused(1, &["sent.so", "dinrail image list"]);
    runtime.cli(&["image", "remove", "lying.so"]).refused(1, &["lying.so"]);
    let left = runtime.json(&["image", "list"]);
    assert_eq!(left.as_array().unwrap().len(), 1, "{left}");
}

#[test]
fn pipe_is_named_and_nobody_waits_for_who_writes_to_it() {
    let runtime = Runtime::new().start();
    let pipe = runtime.folder().join("pipe.so");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let pipe = pipe.to_str().unwrap();
    runtime.cli(&["image", "add", pipe]).refused(1, &[pipe, "it is not a file"]);
    runtime.cli(&["image", "inspect", pipe]).refused(1, &[pipe, "not a regular file"]);
}

#[test]
fn what_is_no_file_of_its_own_is_named_and_not_followed() {
    let runtime = Runtime::new().start();
    let drop = runtime.state().join("drop");
    let sound = c_module("sound", "1.0.0", &[]);
    let outside = runtime.folder().join("outside.so");
    std::fs::copy(&sound, &outside).unwrap();

    symlink(&outside, drop.join("out.so")).unwrap();
    symlink("nowhere.so", drop.join("dangling.so")).unwrap();
    std::fs::create_dir(drop.join("folder.so")).unwrap();
    let mut expected = vec![
        ("out.so", ["a link out of the watched folder", "put the library itself here"]),
        ("dangling.so", ["a link to nothing", "put the library itself here"]),
        ("folder.so", ["a folder", "put the library itself here"]),
    ];
    if rustix::process::geteuid().is_root() {
        println!("skipped for root, who may read everything: a file without read permission");
    } else {
        let secret = put(&drop, "secret.so", &read(sound));
        std::fs::set_permissions(secret, std::fs::Permissions::from_mode(0o000)).unwrap();
        expected.push(("secret.so", ["cannot be read", "chmod a+r"]));
    }

    for (name, said) in expected {
        let (verdict, reason) = verdict_on(&runtime, &drop.join(name));
        assert_eq!(verdict, "refused", "{name}: {reason}");
        one_log_line(&runtime, &drop.join(name), &said);
    }
    assert_eq!(runtime.json(&["list"]), serde_json::json!([]));
}

#[test]
fn library_whose_library_lacks_a_symbol_fails_at_load_and_says_which() {
    let runtime = Runtime::new().start();
    runtime.add_bystanders();
    runtime.apply(&Manifest::new().with_bystanders());
    let library = read(unloadable_module("undefined", "1.0.0"));
    let said = ["undefined symbol: symbol_that_nobody_defines", "link it with the library that defines"];

    runtime.undisturbed(|| {
        let file = put(&runtime.state().join("drop"), "undefined.so", &library);
        wait_until(SOON, "it is quarantined", || runtime.module("undefined")["status"] == "quarantined");
        let (verdict, reason) = verdict_on(&runtime, &file);
        assert_eq!(verdict, "quarantined");
        let shown = runtime.json(&["show", "undefined"])["reason"].as_str().unwrap().to_owned();
        for words in said {
            assert!(reason.contains(words), "image list: '{words}' is not in: {reason}");
            assert!(shown.contains(words), "show: '{words}' is not in: {shown}");
            let is_said = |line: &&str| line.contains(words) && line.contains(file.to_str().unwrap());
            wait_until(SOON, &format!("log: '{words}'"), || runtime.log().lines().any(|line| is_said(&line)));
        }
    });
}

#[test]
fn tables_of_older_and_newer_minor_versions_work() {
    let runtime = Runtime::new().start();
    let newer_minor = ["-DMINOR=7", "-DLARGER"];
    for (name, definitions) in [("smaller", &["-DSMALLER"][..]), ("larger", &["-DLARGER"]), ("later", &newer_minor)] {
        let library = c_module(name, "1.0.0", definitions);
        put(&runtime.state().join("drop"), &format!("{name}.so"), &read(library));
        runtime.wait_for(name, "running");
        runtime.cli(&["send", name, "in", "hello"]).ok();
        assert_eq!(runtime.wait_for_notes(name, "seen", 1), ["1.0.0 hello"]);
    }
}

#[test]
fn module_built_from_every_released_header_works() {
    let runtime = Runtime::new().start();
    let released =
        std::fs::read_dir(workspace().join("tests/fixtures/abi")).unwrap().map(|entry| entry.unwrap().path());
    let versions: Vec<PathBuf> = released.filter(|path| path.is_dir()).collect();
    assert!(!versions.is_empty());
    for version in versions.iter().map(|folder| folder.file_name().unwrap().to_str().unwrap()) {
        let source = format!("tests/fixtures/abi/{version}/hello.c");
        runtime.add_image(&c_fixture(&source, &format!("hello-{version}"), &[]));
        runtime.apply(&Manifest::new().module("hello", "hello"));
        runtime.wait_for("hello", "running");
        runtime.cli(&["send", "hello", "names", "Ada"]).ok();
        wait_until(SOON, "it greets", || {
            runtime.json(&["twin", "get", "hello"])["properties"]["reported"]["greeted"] == 1
        });
    }
}

#[test]
fn image_that_cannot_be_loaded_stays_quarantined_until_a_person_or_another_copy_has_it_tried_again() {
    let mut runtime = Runtime::new().start();
    let library = unloadable_module("undefined", "1.0.0");
    let file = runtime.state().join("drop/undefined.so");
    std::fs::copy(&library, &file).unwrap();
    let tried = |runtime: &Runtime| runtime.log().lines().filter(|line| line.contains("undefined symbol")).count();
    wait_until(SOON, "it is quarantined", || runtime.module("undefined")["status"] == "quarantined");
    wait_until(SOON, "it is logged", || tried(&runtime) > 0);

    runtime.stop();
    let before = tried(&runtime);
    runtime.launch();
    wait_until(SOON, "it is known as quarantined", || runtime.module("undefined")["status"] == "quarantined");
    runtime.stop();
    let loads = |log: &str| log.lines().filter(|line| line.contains("not used: cannot be loaded")).count();
    assert_eq!(loads(&runtime.log()), 1, "it was loaded again ({before}):\n{}", runtime.log());

    runtime.launch();
    runtime.cli(&["start", "undefined"]).ok();
    wait_until(SOON, "a person's start tries it", || loads(&runtime.log()) == 2);
    wait_until(SOON, "it is quarantined", || runtime.module("undefined")["status"] == "quarantined");
    std::fs::copy(&library, &file).unwrap();
    wait_until(SOON, "another copy tries it", || loads(&runtime.log()) == 3);
}
