//! A module of one's own: `dinrail new` makes a project that builds and tests as it is, on a device with a compiler and nothing
//! else, and the library that comes out runs.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::drop_folder::copy_over;
use crate::harness::{Runtime, SOON, plugin_folder, wait_until};

/// Where an author works: a home without anything in it, compilers, and no network where it can be taken away.
struct Desk {
    runtime: Runtime,
    project: PathBuf,
}

/// As in the project's README.
const READING: &str = r#"readings={"name":"oil","value":91.5,"sourceTime":"2026-11-21T08:00:00Z"}"#;

/// What a command of the author's printed, and whether it ended well.
struct Done {
    is_ok: bool,
    text: String,
}

impl Desk {
    /// With a running runtime and a new project `hello`.
    fn with_project(lang: &str) -> Desk {
        let runtime = Runtime::new().start();
        let made = runtime.json(&["new", "hello", "--lang", lang]);
        let project = runtime.folder().join("hello");
        assert_eq!((&made["name"], &made["folder"]), (&json!("hello"), &json!("hello")));
        for file in made["files"].as_array().unwrap() {
            assert!(project.join(file.as_str().unwrap()).is_file(), "{file}");
        }
        Desk { runtime, project }
    }

    /// Does a command in the project.
    fn run(&self, command: &[&str]) -> Done {
        let home = self.runtime.folder().join("author");
        std::fs::create_dir_all(&home).unwrap();
        // That of the toolchain itself: without a home, a launcher would not know which one to take.
        let cargo = PathBuf::from(std::env::var_os("CARGO").unwrap_or_default());
        let mut path = OsString::from(plugin_folder());
        for folder in
            [cargo.parent().unwrap_or(Path::new("")).as_os_str(), &std::env::var_os("PATH").unwrap_or_default()]
        {
            path.push(":");
            path.push(folder);
        }
        let mut done = if can_go_without_network() { Command::new("unshare") } else { Command::new("env") };
        if can_go_without_network() {
            done.arg("-n");
        }
        done.args(command).current_dir(&self.project).env_clear();
        done.env("PATH", path)
            .env("HOME", &home)
            .env("CARGO_HOME", home.join("cargo"))
            .env("CARGO_NET_OFFLINE", "true");
        done.env("DINRAIL_STATE", self.runtime.state());
        let output = done.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        Done { is_ok: output.status.success(), text: String::from_utf8_lossy(&text).into_owned() }
    }

    #[track_caller]
    fn run_ok(&self, command: &[&str]) -> String {
        let done = self.run(command);
        assert!(done.is_ok, "{command:?}: {}", done.text);
        done.text
    }

    #[track_caller]
    fn run_fails(&self, command: &[&str]) -> String {
        let done = self.run(command);
        assert!(!done.is_ok, "{command:?} should have failed: {}", done.text);
        done.text
    }

    /// Changes a file of the project, where `old` must stand.
    #[track_caller]
    fn edit(&self, file: &str, old: &str, new: &str) {
        let file = self.project.join(file);
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(old), "{old} is not in {}", file.display());
        std::fs::write(file, text.replace(old, new)).unwrap();
    }

    fn drop_in(&self, library: &str) {
        copy_over(&self.project.join(library), &self.runtime.state().join("drop").join("hello.so"));
    }

    #[track_caller]
    fn wait_for_version(&self, version: &str) {
        wait_until(SOON, &format!("hello {version} runs"), || {
            let row = self.runtime.module("hello");
            row["version"] == version && row["status"] == "running"
        });
    }

    /// Sends a reading over the limit, and one below it before: what comes out is the one.
    #[track_caller]
    fn alarm_comes(&self) {
        let mut alarms = self.runtime.listen("FROM /messages/modules/hello/outputs/alarms");
        for value in [20.5, 91.5] {
            let reading = json!({ "name": "oil", "value": value, "sourceTime": "2026-11-21T08:00:00Z" });
            self.runtime.cli(&["send", "hello", "readings", &reading.to_string()]).ok();
        }
        assert_eq!(alarms.next()["body"]["value"], 91.5);
        wait_until(SOON, "the health sentence says so", || {
            self.runtime.module("hello")["statusDescription"] == "alarms: 1, limit 80"
        });
    }
}

/// Whether a command can be run where there is no network at all.
fn can_go_without_network() -> bool {
    Command::new("unshare").args(["-n", "true"]).output().is_ok_and(|output| output.status.success())
}

#[test]
fn rust_project_builds_without_network_its_test_can_fail_and_its_module_runs_and_is_upgraded() {
    let desk = Desk::with_project("rust");

    let tested = desk.run_ok(&["cargo", "test"]);
    assert!(tested.contains("3 passed") && !tested.contains("warning"), "{tested}");
    desk.run_ok(&["cargo", "build"]);
    let tried = ["dinrail", "try", "target/debug/libhello.so", "--desired", "limit=60", "--message", READING];
    assert!(desk.run_ok(&tried).contains("  sends alarms: {\"name\":\"oil\",\"value\":91.5"));
    desk.drop_in("target/debug/libhello.so");
    desk.wait_for_version("0.1.0");
    desk.alarm_comes();

    desk.edit("src/lib.rs", "*value > self.limit", "*value < self.limit");
    let failed = desk.run_fails(&["cargo", "test"]);
    assert!(failed.contains("reading_above_the_limit_is_passed_on_and_counted ... FAILED"), "{failed}");

    desk.edit("src/lib.rs", "*value < self.limit", "*value > self.limit");
    desk.edit("Cargo.toml", "version = \"0.1.0\"", "version = \"0.2.0\"");
    desk.run_ok(&["cargo", "build"]);
    desk.drop_in("target/debug/libhello.so");
    desk.wait_for_version("0.2.0");
    desk.alarm_comes();

    // The manifest names the library of a release build, which takes longer than it is worth here.
    std::fs::create_dir(desk.project.join("target/release")).unwrap();
    std::fs::copy(desk.project.join("target/debug/libhello.so"), desk.project.join("target/release/libhello.so"))
        .unwrap();
    let manifest = desk.project.join("deployment.json");
    desk.runtime.cli(&["deploy", &manifest.to_string_lossy(), "--wait"]).ok();
    desk.alarm_comes();
}

/// A project in C or C++, from its first build to its second version.
fn native_project_builds_its_test_can_fail_and_its_module_runs_and_is_upgraded(
    lang: &str,
    source: &str,
    compiler: &str,
) {
    if [compiler, "make", "diff"].iter().any(|tool| !is_there(tool)) {
        println!("skipped: make, diff or {compiler} is not to be had here");
        return;
    }
    let desk = Desk::with_project(lang);

    let built = desk.run_ok(&["make"]);
    assert!(built.contains(source) && !built.contains("warning"), "{built}");
    desk.run_ok(&["make", "drop"]);
    desk.wait_for_version("1.0.0");
    desk.alarm_comes();

    desk.run_ok(&["make", "test"]);
    desk.edit(source, "reading.number <= ", "reading.number >= ");
    let failed = desk.run_fails(&["make", "test"]);
    assert!(failed.contains("-  sends alarms: {\"name\":\"oil\",\"value\":60.5"), "{failed}");
    desk.edit(source, "reading.number >= ", "reading.number <= ");
    if lang == "c" {
        // All that is expected is said before it crashes.
        desk.edit(source, "{ free(instance); }", "{ free(instance); abort(); }");
        let failed = desk.run_fails(&["make", "test"]);
        assert!(failed.contains("destroy") && failed.contains("reports {\"alarms\":1}"), "{failed}");
        desk.edit(source, "{ free(instance); abort(); }", "{ free(instance); }");
    }
    desk.edit(source, "\"1.0.0\"", "\"1.1.0\"");
    desk.run_ok(&["make", "drop"]);
    desk.wait_for_version("1.1.0");
    desk.alarm_comes();

    desk.runtime.cli(&["deploy", &desk.project.join("deployment.json").to_string_lossy(), "--wait"]).ok();
    desk.alarm_comes();

    let other = desk.run_ok(&["make", "-Bn", "CC=mine", "CXX=mine", "CFLAGS=-Dours", "CXXFLAGS=-Dours"]);
    assert!(other.contains("mine -std=") && other.contains(" -Dours "), "{other}");
    desk.run_ok(&["make", "clean"]);
    assert!(!desk.project.join("libhello.so").exists());
}

fn is_there(tool: &str) -> bool {
    Command::new(tool).arg("--version").output().is_ok()
}

#[test]
fn c_project_builds_its_test_can_fail_and_its_module_runs_and_is_upgraded() {
    native_project_builds_its_test_can_fail_and_its_module_runs_and_is_upgraded("c", "hello.c", "cc");
}

#[test]
fn cpp_project_builds_its_test_can_fail_and_its_module_runs_and_is_upgraded() {
    native_project_builds_its_test_can_fail_and_its_module_runs_and_is_upgraded("cpp", "hello.cpp", "c++");
}

#[test]
fn make_drop_without_a_runtime_says_what_to_do() {
    if !is_there("make") {
        println!("skipped: make is not to be had here");
        return;
    }
    let runtime = Runtime::new();
    runtime.cli(&["new", "hello", "--lang", "c"]).ok();
    let mut make = Command::new("make");
    make.arg("drop").current_dir(runtime.folder().join("hello")).env("DINRAIL_STATE", runtime.folder().join("none"));

    let output = make.output().unwrap();

    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains("start one, or give DROP=FOLDER"), "{told}");
}

#[test]
fn make_drop_finds_a_state_directory_with_a_blank_in_its_name() {
    if !is_there("make") {
        println!("skipped: make is not to be had here");
        return;
    }
    let runtime = Runtime::new();
    runtime.cli(&["new", "hello", "--lang", "c"]).ok();
    // Built already; whatever is in it is copied.
    runtime.write("hello/libhello.so", "built");
    let state = runtime.folder().join("s  t");
    std::fs::create_dir_all(state.join("drop")).unwrap();

    for (key, value) in [("DINRAIL_STATE", state.clone()), ("DROP", state.join("drop"))] {
        let mut make = Command::new("make");
        make.args(["drop", "CC=true"]).current_dir(runtime.folder().join("hello")).env_remove("DINRAIL_STATE");
        let output = make.env(key, value).output().unwrap();

        let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{told}");
        let dropped = state.join("drop/libhello.so");
        assert_eq!(std::fs::read_to_string(&dropped).unwrap(), "built", "{told}");
        std::fs::remove_file(dropped).unwrap();
    }
}

#[test]
fn project_of_a_checkout_or_of_the_registry_carries_less() {
    let runtime = Runtime::new();
    let plugin_api = crate::harness::workspace().join("plugin-api");

    let whole = runtime.json(&["new", "whole"]);
    let online = runtime.json(&["new", "online", "--online"]);
    let beside = runtime.json(&["new", "beside", "--path", &plugin_api.to_string_lossy()]);

    let carried = |made: &Value| made["carriedFiles"].as_u64().unwrap();
    assert!(carried(&whole) > 200 && (20..100).contains(&carried(&online)) && carried(&beside) == 0);
    let manifest = std::fs::read_to_string(runtime.folder().join("beside/Cargo.toml")).unwrap();
    assert!(manifest.contains(&format!("{{ path = {plugin_api:?} }}")), "{manifest}");
    runtime.cli(&["new", "no", "--path", "/nowhere"]).refused(1, &["/nowhere holds no plugin-api", "hint: "]);
    runtime.cli(&["new", "no", "--path", "x", "--online"]).refused(2, &["--path"]);
    assert!(!runtime.folder().join("no").exists());
}

#[test]
fn name_that_cannot_be_is_refused_with_the_next_step_and_others_are_fitted() {
    let runtime = Runtime::new();

    for (name, words) in [
        ("", ["must not be empty", "hint: "]),
        ("a b", ["contains ' '", "hint: names that work everywhere"]),
        ("../a", ["contains '/'", "hint: go to the folder that is to hold the project"]),
        ("$edgeHub", ["the runtime's own", "hint: "]),
        ("x:y", ["cannot be the name of an image", "hint: x-y would do"]),
        ("foo.so", ["reads as a file name", "hint: foo would do"]),
        (&"x".repeat(129), ["at most 128", "hint: "]),
    ] {
        runtime.cli(&["new", name]).refused(1, &words);
    }
    runtime.cli(&["new"]).refused(2, &["<NAME>"]);
    runtime.cli(&["new", "a", "--lang", "go"]).refused(2, &["rust", "c", "cpp"]);

    let fitted = runtime.cli(&["new", "fn"]).ok();
    assert!(fitted.stderr.contains("its crate is called fn-module"), "{}", fitted.stderr);
    assert!(fitted.stdout.contains("cd fn\n") && fitted.stdout.contains("libfn_module.so"), "{}", fitted.stdout);
    let source = std::fs::read_to_string(runtime.folder().join("fn/src/lib.rs")).unwrap();
    assert!(source.contains("export_module!(Alarm, name: \"fn\");"), "{source}");
}

#[test]
fn nothing_is_overwritten_and_nothing_half_made_is_left() {
    let runtime = Runtime::new();
    let taken = runtime.write("taken/mine.txt", "mine");
    std::fs::create_dir(runtime.folder().join("empty")).unwrap();
    let before = names_in(runtime.folder());

    runtime.cli(&["new", "taken"]).refused(1, &["taken is there already", "hint: choose another name"]);
    assert_eq!(std::fs::read_to_string(taken).unwrap(), "mine");
    assert_eq!(names_in(runtime.folder()), before);

    runtime.cli(&["new", "empty"]).ok();
    assert!(runtime.folder().join("empty/Cargo.toml").is_file());
    assert_eq!(names_in(runtime.folder()), before);
}

#[test]
fn place_that_cannot_be_written_is_refused_with_the_reason() {
    let runtime = Runtime::new();
    let place = runtime.folder().join("place");
    std::fs::create_dir(&place).unwrap();
    std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o555)).unwrap();
    // Who may write everywhere is shown a place where nobody can.
    let place = if std::fs::write(place.join("probe"), "").is_ok() { PathBuf::from("/proc") } else { place };

    let output = runtime.command(&["new", "hello"]).current_dir(&place).output().unwrap();

    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("hello cannot be made") && told.contains("because: ") && told.contains("hint: "), "{told}");
    assert!(!place.join("hello").exists());
}

fn names_in(folder: &Path) -> Vec<OsString> {
    let mut names: Vec<OsString> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}
