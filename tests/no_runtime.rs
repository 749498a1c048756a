//! A client without a runtime says where it looked.

use crate::harness::{Runtime, fixture};

#[test]
fn client_without_a_runtime_exits_3_and_names_the_places_tried() {
    let runtime = Runtime::new();

    let refused = runtime.cli(&["list"]).refused(3, &["no runtime answers", "hint:"]);
    assert!(refused.stderr.contains(&runtime.state().display().to_string()), "{}", refused.stderr);
    fixture("wayward");
    let mut runtime = runtime.start();
    runtime.stop();
}
