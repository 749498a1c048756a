//! However a module wants to know that a message is safe on disk, it is told so, in Rust and in C.

use std::path::PathBuf;

use serde_json::json;

use crate::harness::{Manifest, Runtime, SOON, c_fixture, fixture, misbehaving, wait_until};

/// Bodies that wait for the hub, in the order of the disk.
fn stored(runtime: &Runtime) -> Vec<String> {
    let database = rusqlite::Connection::open(runtime.state().join("queue.db")).unwrap();
    let mut select = database.prepare("SELECT body FROM message ORDER BY id").unwrap();
    let body = |row: &rusqlite::Row<'_>| row.get::<_, Vec<u8>>(0);
    select.query_map([], body).unwrap().map(|body| String::from_utf8(body.unwrap()).unwrap()).collect()
}

fn every_way_is_told(library: PathBuf) {
    let manifest =
        Manifest::new().module("m", "storing").route("up", "FROM /messages/modules/m/outputs/out INTO $upstream");
    let mut runtime = Runtime::new().supply(&[library]).start();
    runtime.deploy(&manifest);

    runtime.cli(&["send", "m", "in", "go"]).ok();

    let expected =
        ["awaited", "awaited ok", "both ok", "called", "called ok", "first", "second", "waited", "waited ok"];
    wait_until(SOON, "all are stored", || stored(&runtime).len() == expected.len());
    runtime.kill9();
    let in_order = stored(&runtime);
    let at = |text: &str| in_order.iter().position(|body| body == text).unwrap();
    assert!(at("waited") < at("awaited") && at("awaited") < at("first") && at("first") < at("second"), "{in_order:?}");
    assert!(at("called") < at("called ok"), "{in_order:?}");
    // What was staged under the delivery comes with its end.
    assert!(at("second") < at("waited ok") && at("waited ok") < at("awaited ok"), "{in_order:?}");
    let mut sorted = in_order.clone();
    sorted.sort();
    assert_eq!(sorted, expected);
}

#[test]
fn every_way_to_send_tells_a_rust_module_what_is_stored() {
    every_way_is_told(fixture("storing"));
}

#[test]
fn every_way_to_send_tells_a_c_module_what_is_stored() {
    every_way_is_told(c_fixture("tests/fixtures/c/storing.c", "storing", &[]));
}

#[test]
fn thread_with_a_small_stack_waits_for_the_disk_like_any_other() {
    let runtime = Runtime::new().start();
    runtime.add_image(&misbehaving());
    let manifest = Manifest::new()
        .module("m", "misbehaving")
        .desired("m", json!({ "misbehave": "narrow", "messages": 200 }))
        .route("up", "FROM /messages/modules/m/outputs/out INTO $upstream");
    runtime.apply(&manifest);

    assert_eq!(runtime.wait_for_notes("m", "narrow", 1), ["200"]);
    assert_eq!(stored(&runtime).len(), 200);
}
