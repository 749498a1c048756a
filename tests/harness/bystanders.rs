//! Modules that mind their own business while something goes wrong beside them.

use std::path::Path;

use serde_json::{Value, json};

use super::{Manifest, Runtime, SOON, c_module, misbehaving, wait_until};

impl Manifest {
    /// With a module that sends numbers, one every few milliseconds, and one that notes them.
    pub fn with_bystanders(self) -> Manifest {
        self.module("ticker", "misbehaving")
            .desired("ticker", json!({ "misbehave": "count", "periodMs": 2 }))
            .module("witness", "witness")
            .connect("ticker", "witness")
    }
}

impl Runtime {
    /// Deploys a manifest some of whose modules may never run; returns as soon as it is applied.
    #[track_caller]
    pub fn apply(&self, manifest: &Manifest) {
        let file = self.write("manifest.json", manifest.text());
        self.cli(&["deploy", file.to_str().unwrap()]).ok();
    }

    /// Adds the images of [`Manifest::with_bystanders`].
    #[track_caller]
    pub fn add_bystanders(&self) {
        self.add_image(&misbehaving());
        self.add_image(&c_module("witness", "1.0.0", &[]));
    }

    /// Adds an image to the store.
    #[track_caller]
    pub fn add_image(&self, library: &Path) {
        self.cli(&["image", "add", library.to_str().unwrap()]).ok();
    }

    /// The lines of a file in a module's data folder.
    pub fn notes(&self, module: &str, file: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.state().join("data").join(module).join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until a module's notes have `count` lines: as long as more of them come.
    #[track_caller]
    pub fn wait_for_notes(&self, module: &str, file: &str, count: usize) -> Vec<String> {
        let mut notes = self.notes(module, file);
        while notes.len() < count {
            let before = notes.len();
            let what = format!("{count} lines in the file '{file}' of {module}, which has {before}");
            wait_until(SOON, &what, || {
                notes = self.notes(module, file);
                notes.len() > before
            });
        }
        notes
    }

    /// Asserts that `work` does not disturb the bystanders: they are not restarted, every number arrives in its turn, and
    /// numbers go on arriving afterwards.
    #[track_caller]
    pub fn undisturbed<R>(&self, work: impl FnOnce() -> R) -> R {
        let facts = |name: &str| {
            let row = self.module(name);
            [&row["status"], &row["lastStartTimeUtc"], &row["restartCount"]].map(Value::clone)
        };
        self.wait_for_notes("witness", "seen", 1);
        let before = (facts("ticker"), facts("witness"));
        let done = work();
        let seen = self.notes("witness", "seen").len();
        let numbers = self.wait_for_notes("witness", "seen", seen + 10);
        assert_eq!((facts("ticker"), facts("witness")), before, "the bystanders were disturbed:\n{}", self.log());
        for (line, number) in numbers.iter().zip(1_u64..) {
            assert_eq!(*line, format!("1.0.0 {number}"), "a number is lost, twice or out of order");
        }
        done
    }
}
