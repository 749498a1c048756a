//! A module written in C does what one in Rust does, through the same tables.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::Path;
use std::process::Command;

use dinrail_plugin::abi::{DR_DESCRIPTOR_SECTION, DR_ENTRY_SYMBOL, DrModule};
use dinrail_plugin::prelude::*;
use dinrail_plugin::testing::{Bench, BenchBuilder, Verdict};

/// Builds and loads `hello.c`; `None` where there is no compiler.
fn hello(desired: Value) -> Option<BenchBuilder> {
    static TABLE: std::sync::OnceLock<Option<usize>> = std::sync::OnceLock::new();
    let table = *TABLE.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("libhello.so");
        let mut cc = Command::new("cc");
        cc.args([
            "-std=c99",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-shared",
            "-fPIC",
            "-Iinclude",
            "tests/fixtures/c/hello.c",
            "-o",
        ]);
        match cc.arg(&library).current_dir(root).output() {
            Err(missing) => {
                println!("skipped: cc: {missing}");
                None
            }
            Ok(built) => {
                assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
                let bytes = std::fs::read(&library).unwrap();
                let says = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
                assert!(says(DR_DESCRIPTOR_SECTION) && says(r#"{"name":"hello","version":"1.0.0""#));
                // SAFETY: our own fixture, which has no constructors.
                let library = unsafe { libloading::Library::new(&library) }.unwrap();
                // SAFETY: the symbol is a table.
                let table = unsafe { *library.get::<*const DrModule>(DR_ENTRY_SYMBOL.as_bytes()).unwrap() };
                std::mem::forget(library);
                Some(table as usize)
            }
        }
    });
    // SAFETY: the table of the header's own example; the library stays loaded.
    table.map(|table| unsafe { Bench::of_table(table as *const DrModule, desired) })
}

#[test]
fn a_c_module_greets_reports_logs_and_counts() {
    let Some(builder) = hello(json!({})) else { return };
    let mut bench = builder.create().unwrap();
    bench.start().unwrap();
    assert_eq!(bench.health(), Some((Level::Info, "ready to greet".into())));

    assert_eq!(bench.message("names", "Ada").property("line", "3").deliver(), Verdict::Accepted);
    let sent = bench.sent("greetings").remove(0);
    assert_eq!((sent.text(), sent.property("line")), ("Hello, Ada!", Some("3")));
    assert_eq!(bench.reported(), json!({"greeted": 1}));
    assert_eq!(bench.method("count", ()).unwrap(), MethodResponse::new(200, json!(1)));
    assert_eq!(bench.method("nope", ()).unwrap_err().kind(), dinrail_plugin::ErrorKind::NotFound);

    bench.stop().unwrap();
    let logged: Vec<String> = bench.logs().into_iter().map(|line| line.text).collect();
    assert_eq!(logged, ["started"]);
}

#[test]
fn a_c_module_refuses_what_it_cannot_use_and_goes_on_as_before() {
    let Some(builder) = hello(json!({"maxLength": 3})) else { return };
    let mut bench = builder.create().unwrap();
    let parked = Verdict::Parked("the name is longer than maxLength".into());
    assert_eq!(bench.message("names", "Grace").deliver(), parked);

    for bad in [json!("x"), json!(0), json!(101), json!(1.5)] {
        let refused = bench.desired(json!({"maxLength": bad})).unwrap_err();
        assert!(refused.to_string().ends_with("maxLength: must be a whole number from 1 to 100"), "{refused}");
    }
    assert_eq!(bench.message("names", "Grace").deliver(), parked);
    bench.desired(json!({"maxLength": 5})).unwrap();
    assert_eq!(bench.message("names", "Grace").deliver(), Verdict::Accepted);

    assert!(hello(json!({"maxLength": true})).unwrap().create().is_err());
}
