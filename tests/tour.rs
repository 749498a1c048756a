//! The tour in the README is true: every command is run as it is printed, and prints what is printed there.
//!
//! What differs from run to run (times, hashes, measured values) may differ; `…` stands for anything.

mod book;
mod shell;

use std::path::Path;

use book::Step;
use shell::Shell;

use crate::harness::{dinrail, plugin_folder, workspace};

/// The shell of somebody who has just cloned and built, in a folder that looks like the clone.
fn newcomer(folder: &Path) -> Shell {
    let clone = folder.join("dinrail");
    std::fs::create_dir_all(clone.join("target/release")).unwrap();
    for name in ["deployments", "plugin-api", "plugins"] {
        link(&workspace().join(name), &clone.join(name));
    }
    // What `cargo build --release` leaves there; the tests have built the same in their own profile.
    link(&dinrail(), &clone.join("target/release/dinrail"));
    for plugin in std::fs::read_dir(plugin_folder()).unwrap() {
        let plugin = plugin.unwrap().path();
        if plugin.extension().is_none_or(|extension| extension != "so") {
            continue;
        }
        let place = clone.join("target/release").join(plugin.file_name().unwrap());
        // No link by name: a watched folder supplies what lies in it.
        std::fs::hard_link(&plugin, &place).or_else(|_| std::fs::copy(&plugin, &place).map(drop)).unwrap();
    }
    Shell::start(&clone, folder)
}

fn link(from: &Path, to: &Path) {
    std::os::unix::fs::symlink(from, to).unwrap();
}

#[test]
fn every_command_of_the_tour_prints_what_the_readme_shows() {
    let readme = std::fs::read_to_string(workspace().join("README.md")).unwrap();
    let mut steps = book::steps(&readme, "## The tour");
    assert!(steps.len() >= 12, "the tour has only {} commands", steps.len());
    steps.extend(book::steps(&readme, "## The operator's day"));
    let folder = tempfile::tempdir().unwrap();
    let mut shell = newcomer(folder.path());
    for step in &steps {
        if step.command.starts_with("cargo build") {
            continue;
        }
        shell.take(step);
    }
    shell.end();
}

#[test]
fn steps_are_read_with_what_they_print() {
    let page = "# A\n## The tour\ntext\n```console\n$ a |\n    b\nout 1\n…\n$ c\n```\n## B\n```console\n$ no\n```\n";

    let steps = book::steps(page, "## The tour");

    assert_eq!(
        steps,
        [
            Step { command: "a |\n    b".into(), prints: vec!["out 1".into(), "…".into()] },
            Step { command: "c".into(), prints: Vec::new() }
        ]
    );
}

#[test]
fn only_what_may_differ_may_differ() {
    let like = |printed: &[&str], seen: &[&str]| {
        let own = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>();
        book::is_like(&own(printed), &own(seen))
    };
    assert!(like(&["up 2 s at 2026-11-21T04:04:06.640Z"], &["up 13 min 1 s at 2027-01-01T00:00:00.000Z"]));
    assert!(like(&["a  b"], &["a      b"]));
    assert!(like(&["a", "…", "z"], &["a", "b", "c", "z"]) && like(&["a", "…", "z"], &["a", "z"]));
    assert!(like(&["x … y"], &["x anything y"]));
    assert!(like(&[r#"{"value":1.5,"unit":"%"}"#], &[r#"{"value":22,"unit":"%"}"#]));
    assert!(!like(&["hello 1.1.0"], &["hello 1.0.0"]), "versions are told");
    assert!(!like(&["restarts 0"], &["restarts 1"]), "counts are told");
    assert!(!like(&["a"], &["a", "b"]) && !like(&["a", "b"], &["a"]));
}
