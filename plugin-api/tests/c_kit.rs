//! The helpers of the C header, compiled and run as C (and as C++): what they say of JSON is what JSON says.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

const DONE: u32 = 0;
const INVALID: u32 = 3;
const TOO_LARGE: u32 = 4;
const NOT_FOUND: u32 = 7;

const STRICT: [&str; 8] =
    ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Wundef", "-Werror", "-Iinclude"];

/// Builds the driver; `None` where the compiler is missing. `flags` are left out where this compiler does not have them.
fn build(compiler: &str, name: &str, standard: &[&str], flags: &[&str]) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let compile = |flags: &[&str]| {
        let mut command = Command::new(compiler);
        command.args(STRICT).args(standard).args(flags);
        command.args(["tests/fixtures/c/kit.c", "tests/fixtures/c/unit.c", "-g", "-O1", "-o"]).arg(&program);
        command.current_dir(root).output()
    };
    match compile(flags) {
        Err(missing) => {
            println!("skipped: {compiler}: {missing}");
            None
        }
        Ok(built) if built.status.success() => Some(program),
        Ok(_) => {
            let plain = compile(&[]).unwrap();
            assert!(plain.status.success(), "{compiler}:\n{}", String::from_utf8_lossy(&plain.stderr));
            Some(program)
        }
    }
}

/// The driver, with whatever watches its memory.
fn kit() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(|| build("cc", "kit", &["-std=c99"], &["-fsanitize=address,undefined"])).as_deref()
}

fn run(program: &Path, arguments: &[&str]) -> Vec<Vec<String>> {
    let done = Command::new(program).args(arguments).env("UBSAN_OPTIONS", "halt_on_error=1").output().unwrap();
    assert!(done.status.success(), "{arguments:?}: {}\n{}", done.status, String::from_utf8_lossy(&done.stderr));
    let fields = |line: &str| line.split('\t').map(str::to_owned).collect();
    String::from_utf8(done.stdout).unwrap().lines().map(fields).collect()
}

fn file(name: &str, content: &[u8]) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.{:?}", std::thread::current().id()));
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

/// What the getter `name` said: status and text.
fn said<'a>(lines: &'a [Vec<String>], name: &str) -> (u32, &'a str) {
    let line = lines.iter().find(|line| line[0] == name).unwrap();
    (line[1].parse().unwrap(), line.get(2).map_or("", String::as_str))
}

fn ask(document: &[u8], path: &str) -> Option<Vec<Vec<String>>> {
    let file = file("document", document);
    Some(run(kit()?, &["json", &file, path]))
}

#[test]
fn getters_give_what_stands_at_the_path_and_nothing_else() {
    let document = r#" {"a": {"b": [10, {"c": "x"}], "b.c": 1, "": 2}, "n": null, "t": true, "f": false, "e": [], "o": {},
        "twice": 1, "twice": 2, "\u0061\n": "esc", "s": "\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00ü", "nul": "a\u0000b", "seven": "1234567",
        "i": -9223372036854775808, "j": 9223372036854775807, "big": 9223372036854775808, "fr": 1.0, "ex": 1e2, "huge": 1e999} "#;
    let table: &[(&str, &str, u32, &str)] = &[
        ("a.b[0]", "get", DONE, "10"),
        ("a.b[0]", "int64", DONE, "10"),
        ("a.b[1].c", "string", DONE, "x"),
        ("a['b.c']", "int64", DONE, "1"),
        ("['a'].b", "count", DONE, "2"),
        ("a['']", "int64", DONE, "2"),
        ("a.b[2]", "get", NOT_FOUND, ""),
        ("a.b.c", "get", NOT_FOUND, ""),
        ("a[0]", "get", NOT_FOUND, ""),
        ("a.x.y[3]", "get", NOT_FOUND, ""),
        ("a..b", "get", INVALID, ""),
        ("x..b", "get", INVALID, ""),
        (".a", "get", INVALID, ""),
        ("a.", "get", INVALID, ""),
        ("a[", "get", INVALID, ""),
        ("a[x]", "get", INVALID, ""),
        ("a[0]b", "get", INVALID, ""),
        ("a['b", "get", INVALID, ""),
        ("n", "get", DONE, "null"),
        ("n", "int64", NOT_FOUND, ""),
        ("n", "string", NOT_FOUND, ""),
        ("n.deeper", "get", NOT_FOUND, ""),
        ("t", "bool", DONE, "true"),
        ("f", "bool", DONE, "false"),
        ("t", "int64", INVALID, ""),
        ("t", "string", INVALID, ""),
        ("s", "number", INVALID, ""),
        ("e", "count", DONE, "0"),
        ("o", "count", DONE, "0"),
        ("t", "count", INVALID, ""),
        ("twice", "int64", DONE, "2"),
        ("a\n", "string", DONE, "esc"),
        ("nul", "string", INVALID, ""),
        ("seven", "small", DONE, "1234567"),
        ("s", "small", TOO_LARGE, ""),
        ("i", "int64", DONE, "-9223372036854775808"),
        ("j", "int64", DONE, "9223372036854775807"),
        ("big", "int64", INVALID, ""),
        ("fr", "int64", INVALID, ""),
        ("fr", "number", DONE, "1"),
        ("ex", "int64", INVALID, ""),
        ("ex", "number", DONE, "100"),
        ("huge", "number", INVALID, ""),
        ("", "count", DONE, "18"),
    ];
    for (path, getter, status, text) in table {
        let Some(lines) = ask(document.as_bytes(), path) else { return };
        assert_eq!(said(&lines, getter), (*status, *text), "{getter} of {path}");
    }
    let escapes = run(kit().unwrap(), &["json", &file("s", br#"{"s":"\"\\\/\b\f\r\u00e9\ud83d\ude00\u00fc"}"#), "s"]);
    assert_eq!(said(&escapes, "string"), (DONE, "\"\\/\u{8}\u{c}\ré😀ü"));
}

#[test]
fn what_is_not_json_is_refused_whole() {
    let deep = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    let (allowed, too_deep) = (deep(64), deep(65));
    let sound: [&[u8]; 10] = [
        b"0",
        b" -0.0e+10 ",
        b"\"\"",
        b"[]",
        b"{}",
        b"[1,[2,{\"a\":[]}]]",
        b"\"\\u0000\"",
        b"null",
        b"\n{\"a\":1}\t\r",
        allowed.as_bytes(),
    ];
    let damaged: [&[u8]; 45] = [
        b"",
        b" ",
        b"{",
        b"}",
        b"[",
        b"]",
        b"[1",
        b"[1,",
        b"[1,]",
        b"[,1]",
        b"[1 2]",
        b"{\"a\"}",
        b"{\"a\":}",
        b"{\"a\":1,}",
        b"{a:1}",
        b"{\"a\":1 \"b\":2}",
        b"{,}",
        b"[1}",
        b"{\"a\":1]",
        b"01",
        b"-",
        b"+1",
        b"1.",
        b".5",
        b"1e",
        b"1e+",
        b"0x1",
        b"NaN",
        b"tru",
        b"truee",
        b"nul",
        b"'a'",
        b"\"a",
        b"\"\\x\"",
        b"\"\\u12g4\"",
        b"\"\\u123\"",
        b"\"\\ud800\"",
        b"\"\\udc00\"",
        b"\"\\ud800\\u0041\"",
        b"\"\x01\"",
        b"\"\xff\"",
        b"\"\xc0\x80\"",
        b"\"\xed\xa0\x80\"",
        b"1 1",
        too_deep.as_bytes(),
    ];
    for (documents, valid) in [(&sound[..], "1"), (&damaged, "0")] {
        for document in documents {
            let Some(lines) = ask(document, "") else { return };
            let shown = String::from_utf8_lossy(document);
            assert_eq!(lines[0][1], valid, "{shown}");
            assert_eq!(said(&lines, "get").0, if valid == "1" { DONE } else { INVALID }, "{shown}");
            // The same verdict as that of the runtime's parser, which only allows deeper levels.
            if *document != too_deep.as_bytes() {
                assert_eq!(serde_json::from_slice::<Value>(document).is_ok(), valid == "1", "{shown}");
            }
        }
    }
}

#[test]
fn numbers_are_those_that_were_written() {
    for text in [
        "0",
        "-0",
        "81.5",
        "0.1",
        "1e22",
        "1E-22",
        "123456789.987654321",
        "0.30000000000000004",
        "1.7976931348623157e308",
        "2.2250738585072014e-308",
        "5e-324",
        "4.9e-324",
        "1e-400",
        "9007199254740993",
        "18446744073709551615",
        "123456789012345678901234567890",
        "0.000000000000000000000000000000123456789",
        "1e15",
        "3.141592653589793",
        "100000000000000000000000000000000e-32",
    ] {
        let Some(lines) = ask(text.as_bytes(), "") else { return };
        let (status, said) = said(&lines, "number");
        let (want, got): (f64, f64) = (text.parse().unwrap(), said.parse().unwrap());
        // The C side does without big numbers, so that it may be the next one to it.
        let apart = want.to_bits().abs_diff(got.to_bits());
        assert!(status == DONE && apart <= 1, "{text}: {got:e} is not {want:e}");
    }
}

#[test]
fn writer_escapes_separates_and_says_what_does_not_belong() {
    for (compiler, standard) in [("cc", &["-std=c99"][..]), ("c++", &["-std=c++17", "-xc++"])] {
        let Some(program) = build(compiler, &format!("kit-{compiler}"), standard, &[]) else { continue };
        let lines = run(&program, &["write"]);
        let (status, whole) = said(&lines, "whole");
        let whole: Value = serde_json::from_str(whole).unwrap();
        assert_eq!(status, DONE);
        assert_eq!(whole["text \"quoted\""], "a\tb\\c ü \u{FFFD}");
        let list = serde_json::json!([i64::MIN, u64::MAX, 0.1, 0.30000000000000004, -1e300, 42, true, null, {}, []]);
        assert_eq!(whole["list"], list);
        assert_eq!(whole["raw"], serde_json::json!({"a": [1]}));
        assert_eq!(said(&lines, "fits"), (DONE, "\"12345\""));
        assert_eq!(said(&lines, "tight").0, TOO_LARGE);
        for misuse in ["no key", "no value", "no end", "two", "nothing", "not json"] {
            assert_eq!(said(&lines, misuse).0, INVALID, "{misuse}");
        }
        assert_eq!(said(&lines, "tables").0, 1, "both files of the library see one table");
    }
}

#[test]
fn readings_of_c_and_of_rust_are_the_same() {
    use dinrail_plugin::prelude::*;
    for reading in [
        Reading::now("cpu.load", 12.5, "%"),
        Reading::now("", "open \"wide\"", "").quality(Quality::Uncertain).at(0),
        Reading::now("door", true, "").quality(Quality::Bad).at(-1),
        Reading::now("n", None::<f64>, "°C").at(951_782_400_000_001),
        Reading::now("last", 0.1, "").at(253_402_300_799_999_999),
    ] {
        let json = reading.to_json();
        let Some(program) = kit() else { return };
        let lines = run(program, &["reading", &file("reading", &json)]);
        let (status, back) = said(&lines, "reading");
        assert_eq!((status, Reading::parse(back.as_bytes()).unwrap()), (DONE, Reading::parse(&json).unwrap()));
    }
    for (json, status) in [
        (r#"{"value": 1, "sourceTime": "2026-11-21T15:05:09.5+01:00"}"#, DONE),
        (r#"{"value": 1, "sourceTime": 1795269909000000}"#, DONE),
        (r#"{"value": 1}"#, NOT_FOUND),
        (r#"{"sourceTime": 1}"#, NOT_FOUND),
        (r#"{"value": [], "sourceTime": 1}"#, INVALID),
        (r#"{"value": 1, "sourceTime": "yesterday"}"#, INVALID),
        (r#"{"value": 1, "sourceTime": 1, "quality": "so-so"}"#, INVALID),
        ("[1]", NOT_FOUND),
        ("{", INVALID),
    ] {
        let lines = run(kit().unwrap(), &["reading", &file("reading", json.as_bytes())]);
        let (got, back) = said(&lines, "reading");
        assert_eq!(got, status, "{json}");
        assert_eq!(Reading::parse(json.as_bytes()).is_ok(), status == DONE, "{json}");
        if status == DONE {
            assert_eq!(Reading::parse(back.as_bytes()).unwrap(), Reading::parse(json.as_bytes()).unwrap());
        }
    }
}

#[test]
fn any_noise_is_survived_without_a_byte_read_behind_the_end() {
    let Some(program) = kit() else { return };
    for seed in ["88172645463325252", "7", "4242424242"] {
        let lines = run(program, &["noise", seed, "8000"]);
        let sound: u64 = lines[0][2].parse().unwrap();
        assert!(lines[0][1] == "8000" && sound > 100, "{lines:?}");
    }
}
