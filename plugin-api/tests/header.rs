//! The committed C header is what the ABI says, and C and C++ compilers take it without a word.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::process::Command;

use dinrail_plugin::abi::{
    DR_DESCRIPTOR_SECTION, DR_ENTRY_SYMBOL, DR_EXTENSION_DEVICE, DR_EXTENSION_DEVICE_HANDLER, DR_EXTENSION_IDENTITY,
    DR_EXTENSION_LAYOUT, DR_EXTENSION_MEMORY, DR_EXTENSION_SENDS, DR_EXTENSION_THREADS,
};

const HEADER: &str = "include/dinrail_module.h";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The contract's prose is the head comment of the source.
fn head_comment(source: &str) -> String {
    let lines = source.lines().map_while(|line| line.strip_prefix("//!")).map(|line| format!(" *{line}"));
    format!("/*\n{}\n *\n * Generated from src/abi.rs: do not edit.\n */", lines.collect::<Vec<_>>().join("\n"))
}

fn generated() -> String {
    let source = root().join("src/abi.rs");
    let text = std::fs::read_to_string(&source).unwrap();
    let defines = format!(
        "#define DR_ENTRY_SYMBOL \"{DR_ENTRY_SYMBOL}\"\n\
         #define DR_DESCRIPTOR_SECTION \"{DR_DESCRIPTOR_SECTION}\"\n\
         #define DR_EXTENSION_LAYOUT \"{DR_EXTENSION_LAYOUT}\"\n\
         #define DR_EXTENSION_MEMORY \"{DR_EXTENSION_MEMORY}\"\n\
         #define DR_EXTENSION_THREADS \"{DR_EXTENSION_THREADS}\"\n\
         #define DR_EXTENSION_IDENTITY \"{DR_EXTENSION_IDENTITY}\"\n\
         #define DR_EXTENSION_SENDS \"{DR_EXTENSION_SENDS}\"\n\
         #define DR_EXTENSION_DEVICE \"{DR_EXTENSION_DEVICE}\"\n\
         #define DR_EXTENSION_DEVICE_HANDLER \"{DR_EXTENSION_DEVICE_HANDLER}\"\n"
    );
    let part = |name: &&str| std::fs::read_to_string(root().join("src/header").join(name)).unwrap();
    let trailer: String =
        ["base.h", "json.h", "writer.h", "desired.h", "reading.h", "export.h"].iter().map(part).collect();
    let config = cbindgen::Config {
        header: Some(head_comment(&text)),
        sys_includes: ["stdbool.h", "stddef.h", "stdint.h", "stdio.h", "string.h"].map(str::to_owned).to_vec(),
        no_includes: true,
        after_includes: Some(format!("\n{defines}")),
        include_guard: Some("DINRAIL_MODULE_H".into()),
        trailer: Some(trailer.trim_end().to_owned()),
        language: cbindgen::Language::C,
        cpp_compat: true,
        style: cbindgen::Style::Both,
        usize_is_size_t: true,
        line_length: 128,
        documentation: true,
        documentation_style: cbindgen::DocumentationStyle::C99,
        export: cbindgen::ExportConfig {
            include: [
                "DrModule",
                "DrHost",
                "DrLayoutProof",
                "DrMemory",
                "DrThreads",
                "DrIdentity",
                "DrSends",
                "DrDevice",
                "DrDeviceHandler",
                "DrVerdictKind",
            ]
            .map(str::to_owned)
            .to_vec(),
            ..Default::default()
        },
        ..Default::default()
    };
    let mut out = Vec::new();
    cbindgen::Builder::new().with_config(config).with_src(source).generate().unwrap().write(&mut out);
    plain(&String::from_utf8(out).unwrap())
}

/// Rust's doc links as plain words.
fn plain(header: &str) -> String {
    header.replace("[`", "`").replace("`]", "`").lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[test]
fn header_is_what_the_abi_says() {
    let (path, fresh) = (root().join(HEADER), generated());
    if std::env::var_os("DINRAIL_BLESS").is_some() {
        std::fs::write(&path, &fresh).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    if committed != fresh {
        let differs = committed.lines().zip(fresh.lines()).position(|(old, new)| old != new);
        panic!(
            "{HEADER} is stale from line {} on; DINRAIL_BLESS=1 cargo test -p dinrail-plugin --test header rewrites it",
            differs.unwrap_or(0) + 1
        );
    }
}

/// Runs a compiler, or says why not.
fn compile(compiler: &str, args: &[&str]) -> bool {
    match Command::new(compiler).args(args).current_dir(root()).output() {
        Err(missing) => {
            println!("skipped: {compiler}: {missing}");
            false
        }
        Ok(done) => {
            assert!(done.status.success(), "{compiler} {args:?}:\n{}", String::from_utf8_lossy(&done.stderr));
            true
        }
    }
}

fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

const STRICT: [&str; 8] =
    ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror", "-fsyntax-only", "-Iinclude"];

/// Every compiler of that language that this machine has; the first one is the system's own.
fn compile_with(compilers: [&str; 2], args: &[&str]) {
    for compiler in compilers {
        compile(compiler, &[&STRICT[..], args].concat());
    }
}

#[test]
fn c99_takes_the_header_without_a_warning() {
    for file in ["hello.c", "kit.c", "unit.c"] {
        compile_with(["cc", "clang"], &["-std=c99", &format!("tests/fixtures/c/{file}")]);
    }
}

#[test]
fn cpp17_takes_the_header_without_a_warning() {
    for file in ["kit.c", "unit.c"] {
        compile_with(["c++", "clang++"], &["-std=c++17", "-xc++", &format!("tests/fixtures/c/{file}")]);
    }
    let user = scratch("user.cpp");
    // The table can also be filled by hand; what the macros leave out is null.
    let text = r#"
        #include "dinrail_module.h"
        DR_EXPORT_DESCRIPTOR("{\"name\":\"cpp\"}")
        static DrStatus create(const DrCreate *, void **, const DrSink *) { return DR_REFUSED; }
        static void destroy(void *) {}
        const DrModule DINRAIL_MODULE_V1 = {
            DR_MAGIC, DR_ABI_MAJOR, DR_ABI_MINOR, sizeof(DrModule), 0, DR_DESCRIPTOR, create, destroy,
            nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr,
        };
    "#;
    std::fs::write(&user, text).unwrap();
    compile_with(["c++", "clang++"], &["-std=c++17", user.to_str().unwrap()]);
}
