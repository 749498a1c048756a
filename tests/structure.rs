//! The house stands as its codemap says: imports run one way, and what is dangerous stays in named files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::harness::workspace;

/// What each folder or file of the runtime may import, from the ground up: everything stands below those that import it.
const IMPORTS: [(&str, &[&str]); 33] = [
    ("clock", &[]),
    ("document", &[]),
    ("memory", &[]),
    ("metrics", &[]),
    ("name", &[]),
    ("spelling", &[]),
    ("view", &[]),
    ("written", &[]),
    ("query", &["spelling", "written"]),
    ("message", &["clock", "name", "spelling"]),
    ("database", &["clock", "memory", "message"]),
    ("identity", &["clock", "database", "name", "twin"]),
    ("twin", &["clock", "database", "identity", "name"]),
    ("log", &["clock", "name"]),
    ("image", &["clock", "name", "spelling", "view"]),
    ("routing", &["clock", "message", "name", "spelling", "written"]),
    ("queue", &["clock", "database", "memory", "message", "name", "routing"]),
    ("secret", &["clock", "database", "identity", "name", "spelling", "twin"]),
    ("method", &["clock", "log", "name"]),
    (
        "instance",
        &[
            "clock", "identity", "image", "log", "memory", "message", "method", "name", "queue", "secret", "twin",
            "view",
        ],
    ),
    ("deployment", &["clock", "document", "instance", "name", "routing", "spelling", "view"]),
    ("config", &["identity", "instance", "log", "spelling", "twin"]),
    ("project", &["image", "name"]),
    ("refusal", &["twin"]),
    ("state_folder", &["clock"]),
    ("tls", &["clock"]),
    (
        "control",
        &[
            "clock",
            "config",
            "database",
            "deployment",
            "document",
            "identity",
            "image",
            "instance",
            "log",
            "memory",
            "message",
            "method",
            "name",
            "queue",
            "refusal",
            "routing",
            "secret",
            "spelling",
            "state_folder",
            "twin",
            "view",
        ],
    ),
    ("check", &["clock", "database", "view"]),
    ("support", &[]),
    (
        "handle",
        &[
            "check",
            "clock",
            "control",
            "database",
            "deployment",
            "identity",
            "image",
            "instance",
            "log",
            "message",
            "method",
            "metrics",
            "name",
            "query",
            "queue",
            "refusal",
            "routing",
            "secret",
            "spelling",
            "state_folder",
            "support",
            "twin",
            "view",
        ],
    ),
    (
        "admin",
        &["clock", "handle", "identity", "message", "method", "metrics", "name", "refusal", "support", "tls", "view"],
    ),
    (
        "runtime",
        &[
            "admin",
            "check",
            "clock",
            "config",
            "control",
            "database",
            "handle",
            "image",
            "log",
            "state_folder",
            "tls",
            "view",
        ],
    ),
    (
        "cli",
        &[
            "admin",
            "bench",
            "check",
            "clock",
            "config",
            "deployment",
            "document",
            "image",
            "log",
            "message",
            "name",
            "project",
            "routing",
            "runtime",
            "spelling",
            "support",
            "tls",
            "tryout",
            "view",
        ],
    ),
];

/// Measure or try a runtime of their own from outside, so they may use all of it; only `cli` uses them.
const OUTSIDE: [&str; 2] = ["bench", "tryout"];

/// Twins belong to identities, and a new identity has a twin: the two concepts know each other.
const KNOW_EACH_OTHER: (&str, &str) = ("identity", "twin");

/// The only files with `unsafe`: the ABI and what calls it or is called by it, the loader, the lanes between threads, and a clock
/// of the C library.
const UNSAFE: [&str; 41] = [
    "plugin-api/src/abi.rs",
    "plugin-api/src/body.rs",
    "plugin-api/src/client.rs",
    "plugin-api/src/completion.rs",
    "plugin-api/src/device.rs",
    "plugin-api/src/entry.rs",
    "plugin-api/src/export.rs",
    "plugin-api/src/host.rs",
    "plugin-api/src/logs.rs",
    "plugin-api/src/memory.rs",
    "plugin-api/src/message.rs",
    "plugin-api/src/outgoing.rs",
    "plugin-api/src/proof.rs",
    "plugin-api/src/testing.rs",
    "plugin-api/src/testing/device.rs",
    "plugin-api/src/testing/table.rs",
    "plugin-api/src/work.rs",
    "runtime/src/clock.rs",
    "runtime/src/image/library.rs",
    "runtime/src/instance/completions.rs",
    "runtime/src/instance/delivering.rs",
    "runtime/src/instance/device.rs",
    "runtime/src/instance/guest.rs",
    "runtime/src/instance/host.rs",
    "runtime/src/instance/sending.rs",
    "runtime/src/instance/settle.rs",
    "runtime/src/instance/signing.rs",
    "runtime/src/instance/threads.rs",
    "runtime/src/memory.rs",
    "runtime/src/queue/changing.rs",
    "runtime/src/queue/kept.rs",
    "runtime/src/queue/lane.rs",
    "runtime/src/queue/placing.rs",
    "runtime/src/queue/record.rs",
    "runtime/src/queue/backlog.rs",
    "runtime/src/queue/evicting.rs",
    "runtime/src/queue/stopping.rs",
    "runtime/src/queue/sweeping.rs",
    "runtime/src/queue/mod.rs",
    "runtime/src/tryout/host_lens.rs",
    "runtime/src/tryout/lens.rs",
];

/// The code of a file: without comments and without its tests.
struct Source {
    /// From the workspace.
    path: String,
    lines: Vec<String>,
}

impl Source {
    fn says(&self, words: &str) -> bool {
        self.lines.iter().any(|line| line.contains(words))
    }
}

fn sources(folder: &str) -> Vec<Source> {
    let mut files = Vec::new();
    collect(&workspace().join(folder), &mut files);
    files.sort();
    files.iter().map(|file| source(file)).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let is_test =
            name.ends_with("tests.rs") || name == "tests" || (name == "testing.rs" && folder.starts_with(runtime()));
        if is_test || name == "target" {
            continue;
        }
        if path.is_dir() {
            collect(&path, files);
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
}

fn runtime() -> PathBuf {
    workspace().join("runtime")
}

fn source(file: &Path) -> Source {
    let text = std::fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let without_comment = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    let path = file.strip_prefix(workspace()).unwrap().to_string_lossy().into_owned();
    Source { path, lines: code.lines().map(without_comment).collect() }
}

/// What a folder or file under `runtime/src` imports from its siblings.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources("runtime/src") {
        let inside = source.path.trim_start_matches("runtime/src/");
        let from = inside.split(['/', '.']).next().unwrap().to_owned();
        for line in &source.lines {
            for rest in line.split("crate::").skip(1) {
                // `dinrail_plugin::…` and `$crate::…` are other crates.
                let to: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                if !to.is_empty() && to != from {
                    imports.entry(from.clone()).or_default().insert(to);
                }
            }
        }
    }
    imports
}

#[test]
fn imports_run_one_way() {
    let imports = imports();
    assert!(imports["control"].contains("instance"), "imports are no longer found: {imports:?}");
    let mut wrong = Vec::new();
    for (from, found) in
        imports.iter().filter(|(from, _)| !["lib", "main"].iter().chain(&OUTSIDE).any(|name| name == *from))
    {
        let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| name == from) else {
            wrong.push(format!("{from} is new: say in this test what it may import"));
            continue;
        };
        let other = found.iter().filter(|to| !allowed.contains(&&***to));
        wrong.extend(other.map(|to| format!("{from} may not import {to}; it may: {}", allowed.join(", "))));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_imports_upwards() {
    let height = |name: &str| IMPORTS.iter().position(|(known, _)| *known == name);
    for (from, allowed) in IMPORTS {
        for to in allowed.iter().filter(|to| !OUTSIDE.contains(to) && (from, **to) != KNOW_EACH_OTHER) {
            assert!(height(to) < height(from), "{from} stands below {to}, or {to} is not known");
        }
    }
    for outside in OUTSIDE {
        let users: Vec<String> =
            imports().into_iter().filter(|(_, to)| to.contains(outside)).map(|(from, _)| from).collect();
        assert_eq!(users, ["cli"], "only a verb starts {outside}");
    }
}

#[test]
fn unsafe_stays_in_named_files() {
    let folders = ["plugin-api/src", "runtime/src", "plugins"];
    let is_word = |line: &String| line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe");
    let found: BTreeSet<String> = folders
        .iter()
        .flat_map(|folder| sources(folder))
        .filter(|source| source.lines.iter().any(is_word))
        .map(|source| source.path)
        .collect();
    let named: BTreeSet<String> = UNSAFE.iter().map(|&file| file.to_owned()).collect();
    assert_eq!(found, named, "files with unsafe, and those that may have it: {UNSAFE:#?}");
}

/// Asserts that only files whose path begins so say any of these words.
#[track_caller]
fn only_in(places: &[&str], words: &[&str]) {
    let is_there = |source: &Source| places.iter().any(|place| source.path.starts_with(place));
    let sources = sources("runtime/src");
    let says = |source: &&Source| words.iter().any(|words| source.says(words));
    assert!(sources.iter().filter(says).any(is_there), "nothing says {words:?} any more");
    let elsewhere: Vec<&str> =
        sources.iter().filter(says).filter(|source| !is_there(source)).map(|source| source.path.as_str()).collect();
    assert!(elsewhere.is_empty(), "{words:?} belongs into {places:?}, not into {elsewhere:?}");
}

#[test]
fn clock_is_read_in_one_place() {
    // A bench measures with the real clock; the waiting of the API has the timers of its executor.
    only_in(
        &["runtime/src/clock.rs", "runtime/src/bench/", "runtime/src/admin/waiting.rs"],
        &["Instant::now", "SystemTime::now"],
    );
    let waiting = source(&runtime().join("src/admin/waiting.rs"));
    assert!(waiting.says("use tokio::time::{Instant"), "it reads a clock that is not its executor's");
}

#[test]
fn stdout_and_the_environment_belong_to_the_command_line() {
    only_in(&["runtime/src/cli/"], &["io::stdout", "println!", "print!(", "io::stderr"]);
    only_in(&["runtime/src/cli/"], &["env::var"]);
}

#[test]
fn sql_stands_in_the_database_and_in_store_files() {
    // The raw store of the bench is what ours is measured against.
    let stores = [
        "runtime/src/database/",
        "runtime/src/identity/store.rs",
        "runtime/src/secret/store.rs",
        "runtime/src/twin/store.rs",
        "runtime/src/bench/raw_queue.rs",
        "runtime/src/bench/raw_store.rs",
    ];
    // SELECT is a word of routes too.
    only_in(&stores, &["INSERT INTO", "DELETE FROM", "CREATE TABLE", " FROM message"]);
}

#[test]
fn module_code_is_called_in_one_place() {
    // And through the lens of `try`, which stands between the two.
    let places = ["runtime/src/instance/guest.rs", "runtime/src/image/library.rs", "runtime/src/tryout/lens.rs"];
    only_in(&places, &["(self.table.", "table.on_", "table.create", "table.destroy", "module.create)"]);
}

#[test]
fn libraries_are_loaded_in_one_place_and_never_unloaded() {
    only_in(&["runtime/src/image/library.rs"], &["libloading"]);
    let loader = source(&runtime().join("src/image/library.rs"));
    assert!(!loader.says(".close()") && !loader.says("dlclose"), "code of a library may still be in use");
}

#[test]
fn files_can_be_read_in_one_sitting() {
    // Split at 500 lines; what is larger is named here, so that nothing joins it unseen.
    let large = ["runtime/src/queue/lane.rs", "plugin-api/src/abi.rs"];
    let folders = ["runtime/src", "plugin-api/src", "plugins"];
    for source in folders.iter().flat_map(|folder| sources(folder)) {
        let is_known = large.contains(&source.path.as_str());
        assert!(source.lines.len() <= 500 || is_known, "{} has {} lines", source.path, source.lines.len());
    }
}
