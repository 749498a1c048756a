//! A new version is copied over the old file while messages flow: what runs is not disturbed, what follows the name is upgraded,
//! nothing that waited is lost; and of every other file that is copied over it one line says used or not used, and why.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::bad_images::{one_log_line, put, row_of, rows_of, verdict_on};
use crate::drop_folder::copy_over;
use crate::harness::{Manifest, Runtime, SOON, c_module, misbehaving, unloadable_module, wait_until};

/// A runtime whose watched folder holds `counter.so`, which gets numbers all the time, next to bystanders.
fn counting(version: &str) -> (Runtime, PathBuf) {
    let mut runtime = Runtime::new();
    let watched = runtime.folder().join("watched");
    std::fs::create_dir(&watched).unwrap();
    let file = watched.join("counter.so");
    copy_over(&c_module("counter", version, &[]), &file);
    runtime = runtime.watch(&watched).start();
    runtime.add_bystanders();
    runtime.apply(&Manifest::new().with_bystanders().module("counter", "counter").connect("ticker", "counter"));
    runtime.wait_for_notes("counter", "seen", 20);
    // Lines of the log follow what they tell of: those of the start are there before any is counted.
    wait_until(SOON, "the start is logged", || runtime.log().contains("running module=\"counter\""));
    (runtime, file)
}

/// Asserts that a module noted every number once, in order, and gives the versions that did, in order.
#[track_caller]
fn versions_in_order(notes: &[String]) -> Vec<String> {
    let mut versions: Vec<String> = Vec::new();
    for (note, expected) in notes.iter().zip(1_u64..) {
        let (version, number) = note.split_once(' ').unwrap();
        assert_eq!(number, expected.to_string(), "a number is lost, twice or out of order");
        if versions.last().is_none_or(|last| last != version) {
            versions.push(version.to_owned());
        }
    }
    versions
}

#[track_caller]
fn wait_for_version(runtime: &Runtime, module: &str, version: &str) {
    wait_until(SOON, &format!("{module} is upgraded to {version}"), || {
        let row = runtime.module(module);
        row["version"] == version && row["status"] == "running"
    });
}

/// Waits until numbers that are sent from now on have been noted by `counter`.
#[track_caller]
fn goes_on(runtime: &Runtime) -> Vec<String> {
    let seen = runtime.notes("counter", "seen").len();
    runtime.wait_for_notes("counter", "seen", seen + 50)
}

#[test]
fn version_copied_over_the_file_under_load_upgrades_who_follows_the_name_and_loses_nothing() {
    let (runtime, file) = counting("1.0.0");

    runtime.undisturbed(|| {
        for version in ["1.1.0", "1.2.0", "2.0.0"] {
            copy_over(&c_module("counter", version, &[]), &file);
            wait_for_version(&runtime, "counter", version);
            goes_on(&runtime);
        }
    });

    assert_eq!(versions_in_order(&goes_on(&runtime)), ["1.0.0", "1.1.0", "1.2.0", "2.0.0"]);
    let row = runtime.module("counter");
    assert_eq!((&row["restartCount"], &row["exitCode"]), (&json!(0), &json!(0)));
    assert_eq!(row_of(&runtime, &file).unwrap()["reason"], "used by counter");
}

#[test]
fn full_queue_is_carried_over_an_upgrade() {
    let runtime = Runtime::new().start();
    runtime.add_image(&misbehaving());
    let file = runtime.state().join("drop/counter.so");
    copy_over(&c_module("counter", "1.0.0", &[]), &file);
    runtime.wait_for("counter", "running");
    let flood = json!({ "misbehave": "flood", "messages": 60_000 });
    let manifest = Manifest::new().module("flooder", "misbehaving").desired("flooder", flood);
    runtime.apply(&manifest.connect("flooder", "counter"));

    for version in ["1.1.0", "1.2.0", "1.3.0"] {
        let seen = runtime.notes("counter", "seen").len();
        runtime.wait_for_notes("counter", "seen", seen + 500);
        assert!(runtime.module("counter")["inbox"]["messages"].as_u64().unwrap() > 100, "the test proves nothing");
        copy_over(&c_module("counter", version, &[]), &file);
        wait_for_version(&runtime, "counter", version);
    }

    let notes = runtime.wait_for_notes("counter", "seen", 60_000);
    assert_eq!(versions_in_order(&notes), ["1.0.0", "1.1.0", "1.2.0", "1.3.0"]);
    assert_eq!(notes.len(), 60_000);
}

/// Asserts that `change` to the file of a running `counter` leaves it running as it was.
#[track_caller]
fn keeps_running(runtime: &Runtime, change: impl FnOnce()) {
    let facts = || {
        let row = runtime.module("counter");
        ["status", "version", "digest", "lastStartTimeUtc"].map(|key| row[key].clone())
    };
    let before = facts();
    change();
    goes_on(runtime);
    assert_eq!(facts(), before, "{}", runtime.log());
}

/// Lines of the log about the watched file.
fn lines_about(runtime: &Runtime, file: &Path) -> usize {
    runtime.log().lines().filter(|line| line.contains(file.to_str().unwrap())).count()
}

/// Waits for the next log line about the file and gives it.
#[track_caller]
fn next_line(runtime: &Runtime, file: &Path, before: usize) -> String {
    wait_until(SOON, "a log line about the file", || lines_about(runtime, file) > before);
    let log = runtime.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(file.to_str().unwrap())).collect();
    assert_eq!(lines.len(), before + 1, "more than one line: {lines:#?}");
    lines[before].to_owned()
}

#[test]
fn file_copied_over_that_cannot_or_need_not_be_used_changes_nothing_and_says_why() {
    let (runtime, file) = counting("1.1.0");
    let sound = std::fs::read(c_module("counter", "1.3.0", &[])).unwrap();
    let mut foreign = sound.clone();
    foreign[18] = 8;
    let cases: [(&str, Vec<u8>, &[&str]); 4] = [
        (
            "an older version",
            std::fs::read(c_module("counter", "0.9.0", &[])).unwrap(),
            &["0.9.0 admitted, unused: 1.1.0 is newer"],
        ),
        ("another processor", foreign, &["not used: built for mips64", "rebuild it with --target"]),
        ("half a copy", sound[..sound.len() / 2].to_vec(), &["not used: truncated", "copy it again"]),
        ("nothing", Vec::new(), &["not used: the file is empty", "copy it again"]),
    ];

    runtime.undisturbed(|| {
        for (what, bytes, said) in cases {
            let before = lines_about(&runtime, &file);
            keeps_running(&runtime, || {
                std::fs::write(&file, &bytes).unwrap();
                let line = next_line(&runtime, &file, before);
                said.iter().for_each(|words| assert!(line.contains(words), "{what}: '{words}' is not in: {line}"));
            });
            let listed = rows_of(&runtime, &file);
            let words = said[0].trim_start_matches("not used: ");
            let is_said = |row: &Value| row["reason"].as_str().unwrap().contains(words);
            assert!(listed.iter().any(is_said), "{what}: '{words}' is not in image list: {listed:#?}");
        }
    });
    assert_eq!(versions_in_order(&goes_on(&runtime)), ["1.1.0"]);
}

#[test]
fn rebuild_of_the_same_version_wins() {
    let (runtime, file) = counting("1.0.0");
    let digest = runtime.module("counter")["digest"].clone();
    let lines = lines_about(&runtime, &file);

    copy_over(&c_module("counter", "1.0.0", &["-DSTAMP=\" rebuilt\""]), &file);
    wait_until(SOON, "the rebuild is used", || {
        let row = runtime.module("counter");
        row["digest"] != digest && row["status"] == "running"
    });

    assert!(next_line(&runtime, &file, lines).contains("used by counter"));
    assert_eq!(versions_in_order(&goes_on(&runtime)), ["1.0.0"]);
    let rows = runtime.json(&["image", "list"]);
    let old = rows.as_array().unwrap().iter().find(|row| row["digest"] == digest).unwrap();
    assert_eq!(old["reason"], "1.0.0 admitted, unused: a rebuild of the same version arrived later");
}

#[test]
fn bytes_of_a_version_that_arrived_last_win_also_after_a_restart() {
    let watched = tempfile::tempdir().unwrap();
    let library = |definitions: &[&str]| std::fs::read(c_module("counter", "1.0.0", definitions)).unwrap();
    let (first, second) = (library(&[]), library(&["-DSTAMP=\" rebuilt\""]));
    let mut runtime = Runtime::new().watch(watched.path()).start();
    runtime.apply(&Manifest::new().module("counter", "counter"));
    let uses = |runtime: &Runtime, file: &Path| {
        let wanted = |row: &Value| row["usedBy"] == json!(["counter"]);
        wait_until(SOON, &format!("{} is used", file.display()), || rows_of(runtime, file).iter().any(wanted));
        runtime.wait_for("counter", "running");
    };

    uses(&runtime, &put(watched.path(), "a.so", &first));
    let b = put(watched.path(), "b.so", &second);
    uses(&runtime, &b);
    runtime.kill9_and_launch();
    uses(&runtime, &b);
    // The old bytes once more: a person who copies them there wants them.
    let c = put(watched.path(), "c.so", &first);
    uses(&runtime, &c);
    runtime.stop();
    runtime.launch();
    uses(&runtime, &c);
}

#[test]
fn module_that_does_not_stop_for_its_upgrade_is_given_up_and_harms_nobody() {
    let watched = tempfile::tempdir().unwrap();
    let runtime = Runtime::new().watch(watched.path()).start();
    runtime.add_bystanders();
    let manifest =
        Manifest::new().with_bystanders().module("stuck", "misbehaving:1").option("stuck", "stopGraceSecs", json!(1));
    runtime.apply(&manifest.desired("stuck", json!({ "misbehave": "hangInStop" })));
    runtime.wait_for("stuck", "running");

    // Bytes behind the end of a library belong to nobody: a rebuild that does the same. It upgrades the ticker, too.
    let mut rebuilt = std::fs::read(misbehaving()).unwrap();
    rebuilt.extend_from_slice(b"rebuilt");
    let file = put(watched.path(), "misbehaving.so", &rebuilt);

    runtime.wait_for("stuck", "failed");
    let shown = runtime.json(&["show", "stuck"])["reason"].as_str().unwrap().to_owned();
    assert!(shown.contains("never returned within 1 s"), "{shown}");
    let rows = rows_of(&runtime, &file);
    assert!(rows.iter().any(|row| row["usedBy"].as_array().unwrap().contains(&json!("ticker"))), "{rows:#?}");
    let seen = runtime.notes("witness", "seen").len();
    runtime.wait_for_notes("witness", "seen", seen + 10);
}

#[test]
fn touched_linked_and_deleted_file_changes_nothing() {
    let (runtime, file) = counting("1.0.0");
    let lines = lines_about(&runtime, &file);
    let copy = file.with_file_name("copy-of-counter.so");

    keeps_running(&runtime, || {
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
    });
    keeps_running(&runtime, || std::fs::hard_link(&file, &copy).unwrap());
    keeps_running(&runtime, || std::fs::remove_file(&file).unwrap());
    keeps_running(&runtime, || std::fs::remove_file(&copy).unwrap());

    assert_eq!(lines_about(&runtime, &file), lines, "{}", runtime.log());
    assert_eq!(versions_in_order(&goes_on(&runtime)), ["1.0.0"]);
}

#[test]
fn version_that_cannot_be_loaded_leaves_the_one_before_in_service() {
    let (runtime, file) = counting("1.0.0");

    runtime.undisturbed(|| {
        copy_over(&unloadable_module("counter", "1.1.0"), &file);
        wait_until(SOON, "it is quarantined", || row_of(&runtime, &file).unwrap()["verdict"] == "quarantined");
        wait_for_version(&runtime, "counter", "1.0.0");
    });

    let said = ["not used", "undefined symbol: symbol_that_nobody_defines"];
    let log = runtime.log();
    assert!(log.lines().any(|line| said.iter().all(|words| line.contains(words))), "{log}");
    assert_eq!(versions_in_order(&goes_on(&runtime)), ["1.0.0"]);
}

#[test]
fn reference_decides_who_is_upgraded_also_after_a_restart() {
    let watched = tempfile::tempdir().unwrap();
    let put = |file: &str, version: &str, definitions: &[&str]| {
        put(watched.path(), file, &std::fs::read(c_module("counter", version, definitions)).unwrap())
    };
    let mut runtime = Runtime::new().watch(watched.path()).start();
    let first = put("first.so", "1.0.0", &[]);
    assert_eq!(verdict_on(&runtime, &first).0, "admitted");
    let digest = row_of(&runtime, &first).unwrap()["digest"].as_str().unwrap().to_owned();
    let by_digest = format!("counter@{digest}");
    let references = [
        ("newest", "counter"),
        ("major", "counter:1"),
        ("minor", "counter:1.0"),
        ("exact", "counter:1.0.0"),
        ("digest", &by_digest),
    ];
    runtime.apply(&references.iter().fold(Manifest::new(), |manifest, (name, image)| manifest.module(name, image)));
    references.iter().for_each(|(name, _)| runtime.wait_for(name, "running"));
    let starts: Vec<Value> = ["exact", "digest"].map(|name| runtime.module(name)["lastStartTimeUtc"].clone()).to_vec();

    put("rebuild.so", "1.0.0", &["-DSTAMP=\" rebuilt\""]);
    put("patch.so", "1.0.1", &[]);
    put("minor.so", "1.1.0", &[]);
    put("major.so", "2.0.0", &[]);
    let expected =
        [("newest", "2.0.0"), ("major", "1.1.0"), ("minor", "1.0.1"), ("exact", "1.0.0"), ("digest", "1.0.0")];
    let all_as_expected = |runtime: &Runtime| {
        expected.iter().for_each(|(name, version)| wait_for_version(runtime, name, version));
        for name in ["exact", "digest"] {
            assert_eq!(runtime.module(name)["digest"], *digest, "{name} stays on the bytes that it first found");
        }
    };

    all_as_expected(&runtime);
    let stayed: Vec<Value> = ["exact", "digest"].map(|name| runtime.module(name)["lastStartTimeUtc"].clone()).to_vec();
    assert_eq!(stayed, starts);
    runtime.kill9_and_launch();
    all_as_expected(&runtime);
    one_log_line(&runtime, &watched.path().join("major.so"), &["used by newest"]);
}
