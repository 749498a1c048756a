//! The binary and the libraries under test, built by the first test that needs them: `cargo test` wants no build before it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Root of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace")
}

/// The binary.
pub fn dinrail() -> PathBuf {
    plugin_folder().join("dinrail")
}

/// The folder with the libraries of the plugins (and everything else that cargo puts there). With `DINRAIL_RELEASE` in the
/// environment they, and the binary, are what is shipped: for figures.
pub fn plugin_folder() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let packages =
            ["-p", "dinrail", "-p", "host-metrics", "-p", "filter", "-p", "insight", "-p", "probe", "-p", "recorder"];
        let is_release = std::env::var_os("DINRAIL_RELEASE").is_some();
        cargo_build(target(), packages.into_iter().chain(is_release.then_some("--release")));
        target().join(if is_release { "release" } else { "debug" })
    })
}

/// The library of a fixture in Rust: `tests/fixtures/modules/examples/<name>.rs`.
pub fn fixture(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        cargo_build(&fixtures(), ["-p", "fixture-modules", "--examples", "--features", "build"]);
        fixtures().join("debug").join("examples")
    });
    let file = folder.join(library(name));
    assert!(file.is_file(), "there is no fixture {name}: is it listed in tests/fixtures/modules/Cargo.toml?");
    file
}

/// The library of a C source file (its path from the workspace), built with `cc` and more arguments for it.
pub fn c_fixture(source: &str, name: &str, arguments: &[&str]) -> PathBuf {
    let folder = fixtures().join("c");
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join(library(name));
    // Tests may want the same one at the same time: each builds its own and puts it in place whole.
    let own = folder.join(format!("{name}.{}.{:?}.so", std::process::id(), std::thread::current().id()));
    let include = workspace().join("plugin-api/include");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-I"]).arg(include);
    run(cc.arg(workspace().join(source)).args(arguments).arg("-o").arg(&own));
    std::fs::rename(&own, &file).unwrap();
    file
}

/// The library of `tests/fixtures/misbehaving`.
pub fn misbehaving() -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| cargo_build(&fixtures(), ["-p", "misbehaving"]));
    fixtures().join("debug").join(library("misbehaving"))
}

/// `tests/fixtures/c/module.c` under a name and version, with the definitions that make it misshapen.
pub fn c_module(name: &str, version: &str, definitions: &[&str]) -> PathBuf {
    let (named, versioned) = (format!("-DNAME=\"{name}\""), format!("-DVERSION=\"{version}\""));
    let arguments = [&[named.as_str(), &versioned], definitions].concat();
    let of: String = definitions.iter().flat_map(|text| text.chars()).filter(|c| c.is_alphanumeric()).collect();
    c_fixture("tests/fixtures/c/module.c", &format!("{name}-{version}-{of}"), &arguments)
}

/// A sound module whose library needs another that cannot be loaded, which shows only when it is.
pub fn unloadable_module(name: &str, version: &str) -> PathBuf {
    let half = c_fixture("tests/fixtures/c/half.c", "half", &[]);
    let (named, versioned) = (format!("-DNAME=\"{name}\""), format!("-DVERSION=\"{version}\""));
    let arguments = [&named, &versioned, "-DUNDEFINED=half_of_it", &half.to_string_lossy()];
    c_fixture("tests/fixtures/c/module.c", &format!("{name}-{version}-unloadable"), &arguments)
}

fn library(name: &str) -> String {
    format!("lib{}.so", name.replace('-', "_"))
}

fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("tmp is in the target folder")
}

/// A folder of their own, so that what misbehaves is never beside what is shipped.
fn fixtures() -> PathBuf {
    target().join("fixtures")
}

fn cargo_build<'a>(target: &Path, arguments: impl IntoIterator<Item = &'a str>) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.arg("build").args(arguments).arg("--target-dir").arg(target).current_dir(workspace());
    // What cargo told this test about itself is not meant for the build.
    let own = |name: &OsStr| name.to_string_lossy().starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR";
    for (name, _) in std::env::vars_os().filter(|(name, _)| own(name)) {
        build.env_remove(name);
    }
    run(&mut build);
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}:\n{}", String::from_utf8_lossy(&output.stderr));
}
