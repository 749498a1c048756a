//! The house rules that can be read off the source: who may import whom, and what stands in named files only.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A source file without its tests: its path below `src/`, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// Its folder, or itself where it has none.
    fn concept(&self) -> &str {
        self.path.split('/').next().unwrap().trim_end_matches(".rs")
    }

    /// Lines of code: no comments.
    fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.lines().filter(|line| !line.trim_start().starts_with("//"))
    }
}

fn sources() -> Vec<Source> {
    fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    collect(&root, &mut found);
    let is_code = |path: &str| path.ends_with(".rs") && !path.ends_with("tests.rs") && !path.ends_with("testing.rs");
    let relative =
        found.into_iter().map(|path| (path.strip_prefix(&root).unwrap().to_string_lossy().into_owned(), path));
    let source = |(path, file): (String, PathBuf)| {
        let text = std::fs::read_to_string(file).unwrap();
        let code = text.find("#[cfg(test)]\nmod tests {").map_or(&*text, |at| &text[..at]).to_owned();
        Source { path: path.replace('\\', "/"), text: code }
    };
    let sources: Vec<Source> = relative.filter(|(path, _)| is_code(path)).map(source).collect();
    assert!(sources.len() > 100, "the source is not where it was: {} files", sources.len());
    sources
}

/// Fails for each line with one of these words in a file that is neither named nor in a named folder.
fn assert_only_in(places: &[&str], words: &[&str]) {
    let mut found = Vec::new();
    for source in sources() {
        let is_allowed = places.iter().any(|place| source.path.starts_with(place));
        let lines = source.lines().filter(|line| !is_allowed && words.iter().any(|word| line.contains(word)));
        found.extend(lines.map(|line| format!("{}: {}", source.path, line.trim())));
    }
    assert!(found.is_empty(), "{words:?} only in {places:?}, but also in\n{}", found.join("\n"));
}

/// What each folder or file may import, besides the words that everything shares.
const IMPORTS: &[(&str, &[&str])] = &[
    ("cli", &["admin", "bench", "config", "image", "runtime", "view"]),
    ("bench", &["admin", "config", "runtime", "view"]),
    ("runtime", &["admin", "config", "control", "database", "handle", "image", "state_folder"]),
    ("admin", &["handle", "view"]),
    (
        "handle",
        &[
            "control",
            "deployment",
            "identity",
            "image",
            "instance",
            "queue",
            "refusal",
            "routing",
            "state_folder",
            "twin",
            "view",
        ],
    ),
    (
        "control",
        &[
            "config",
            "database",
            "deployment",
            "identity",
            "image",
            "instance",
            "queue",
            "refusal",
            "routing",
            "state_folder",
            "twin",
            "view",
        ],
    ),
    ("refusal", &["twin"]),
    ("deployment", &["instance", "routing", "view"]),
    ("instance", &["image", "queue", "twin", "view"]),
    ("image", &["view"]),
    ("twin", &["database", "identity"]),
    ("identity", &["database"]),
    ("queue", &["database"]),
    ("routing", &[]),
    ("database", &[]),
    ("config", &["instance"]),
    ("view", &[]),
];
const SHARED: &[&str] = &["clock", "message", "name", "spelling"];

#[test]
fn imports_run_one_way() {
    let mut wrong = BTreeSet::new();
    for source in sources() {
        let concept = source.concept();
        let may = IMPORTS.iter().find(|(name, _)| *name == concept).map_or(&[][..], |(_, may)| may);
        for line in source.lines() {
            for (at, _) in line.match_indices("crate::") {
                let name: String = line[at + 7..].chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                let is_outer = line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
                let is_fine = is_outer || name == concept || may.contains(&&*name) || SHARED.contains(&&*name);
                if !is_fine && !name.is_empty() {
                    wrong.insert(format!("{} imports {name}", source.path));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn one_file_loads_libraries() {
    assert_only_in(&["image/library.rs"], &["libloading"]);
}

#[test]
fn one_file_calls_modules() {
    assert_only_in(
        &["instance/guest.rs", "image/library.rs"],
        &["(self.table.", "table.on_", "table.create", "table.destroy"],
    );
}

#[test]
fn unsafe_code_stands_in_named_files() {
    let places = ["image/library.rs", "instance/guest.rs", "instance/host.rs", "instance/delivering.rs", "queue/"];
    assert_only_in(&places, &["unsafe {", "unsafe fn", "unsafe impl"]);
}

#[test]
fn clocks_are_read_in_one_place() {
    assert_only_in(&["clock.rs", "bench/"], &["Instant::now()", "SystemTime::now()"]);
}

#[test]
fn the_environment_and_the_terminal_belong_to_the_command_line() {
    assert_only_in(&["cli/", "bench/"], &["env::var", "env::args", "io::stdout()", "io::stderr()", "println!"]);
}

#[test]
fn sql_stands_in_store_files_and_migrations() {
    // SELECT is a word of routes too.
    let places = ["database/", "twin/store.rs", "identity/store.rs", "routing/route.rs"];
    assert_only_in(&places, &["\"SELECT ", "\"INSERT ", "\"UPDATE ", "\"DELETE FROM ", "\"CREATE "]);
}
