//! The image store: what is added by hand, what may be removed, and that nothing runs whose bytes were altered.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::json;

use crate::harness::{Manifest, Runtime, SOON, c_module, wait_until};

fn stored_file(runtime: &Runtime, digest: &str) -> PathBuf {
    let folder = runtime.state().join("images/sha256").join(digest.trim_start_matches("sha256:"));
    let mut files = std::fs::read_dir(folder).unwrap();
    files.next().unwrap().unwrap().path()
}

#[test]
fn added_image_is_listed_used_and_removed_only_when_nothing_uses_it() {
    let runtime = Runtime::new().start();
    let library = c_module("counter", "1.0.0", &[]);

    let added = runtime.json(&["image", "add", library.to_str().unwrap()]);
    assert_eq!(
        (&added["name"], &added["version"], &added["verdict"]),
        (&json!("counter"), &json!("1.0.0"), &json!("admitted"))
    );
    assert_eq!(added["reason"], "1.0.0 admitted, unused: no instance asks for it");
    runtime.apply(&Manifest::new().module("one", "counter").module("two", "counter:1"));
    runtime.wait_for("one", "running");
    runtime.wait_for("two", "running");

    runtime.cli(&["image", "remove", "counter"]).refused(1, &["used by one, two", "hint"]);
    runtime.cli(&["image", "remove", "contour"]).refused(1, &["no image 'contour'", "hint"]);
    runtime.apply(&Manifest::new());
    wait_until(SOON, "nothing uses it", || runtime.json(&["image", "list"])[0]["usedBy"] == json!([]));
    runtime.cli(&["image", "remove", "counter"]).ok();
    assert_eq!(runtime.json(&["image", "list"]), json!([]));
    let stored = runtime.state().join("images/sha256");
    assert_eq!(std::fs::read_dir(stored).unwrap().count(), 0);
}

#[test]
fn looking_at_adding_and_storing_a_library_runs_none_of_its_code() {
    let runtime = Runtime::new().start();
    let trace = runtime.folder().join("constructor-ran");
    let constructor = format!("-DCONSTRUCTOR=\"{}\"", trace.display());
    let library = c_module("eager", "1.0.0", &[&constructor]);
    let library = library.to_str().unwrap();

    let inspected = runtime.json(&["image", "inspect", library]);
    assert_eq!((&inspected["descriptor"]["name"], &inspected["verdict"]), (&json!("eager"), &json!("admitted")));
    runtime.add_image(library.as_ref());
    assert_eq!(runtime.json(&["image", "inspect", "eager"])["digest"], inspected["digest"]);
    runtime.cli(&["image", "list"]).ok();
    assert!(!trace.exists(), "its constructor ran");

    runtime.apply(&Manifest::new().module("eager", "eager"));
    runtime.wait_for("eager", "running");
    assert!(trace.exists(), "the test proves nothing: its constructor never runs");
}

#[test]
fn image_is_inspected_without_a_runtime() {
    let mut runtime = Runtime::new().start();
    runtime.add_image(&c_module("counter", "1.0.0", &[]));
    runtime.add_image(&c_module("counter", "1.1.0", &[]));
    runtime.stop();

    for (reference, version) in [("counter", "1.1.0"), ("counter:1.0", "1.0.0"), ("counter:1.0.0", "1.0.0")] {
        assert_eq!(runtime.json(&["image", "inspect", reference])["descriptor"]["version"], version);
    }
    runtime.cli(&["image", "inspect", "counter:7"]).refused(1, &["counter:7", "hint"]);
}

#[test]
fn stored_copy_that_was_altered_is_never_run() {
    let runtime = Runtime::new().start();
    runtime.add_bystanders();
    runtime.apply(&Manifest::new().with_bystanders());
    let library = c_module("counter", "1.0.0", &[]);
    let digest = runtime.json(&["image", "add", library.to_str().unwrap()])["digest"].as_str().unwrap().to_owned();
    let stored = stored_file(&runtime, &digest);
    std::fs::set_permissions(&stored, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut bytes = std::fs::read(&stored).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&stored, bytes).unwrap();

    runtime.undisturbed(|| {
        runtime.apply(&Manifest::new().with_bystanders().module("counter", "counter"));
        runtime.wait_for("counter", "backoff");
    });
    let shown = runtime.json(&["show", "counter"]);
    let reason = shown["reason"].as_str().unwrap();
    for words in [stored.to_str().unwrap(), "was altered after it was taken in", "dinrail image add FILE"] {
        assert!(reason.contains(words), "'{words}' is not in: {reason}");
        assert!(runtime.log().contains(words), "'{words}' is not in the log");
    }

    // What the reason says to do is the cure.
    runtime.add_image(&library);
    runtime.cli(&["start", "counter"]).ok();
    runtime.wait_for("counter", "running");
}
