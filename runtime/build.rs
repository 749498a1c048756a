//! Packs what `dinrail new` lays beside a Rust module: plugin-api, and the sources of the crates that it is built from.
//!
//! Which crates these are is what cargo says for a module like any author's: an empty crate with plugin-api, without its default
//! features, as its one dependency. All of them are dependencies of the runtime too, so cargo has their sources here already;
//! nothing is fetched. The versions are those of `Cargo.lock`.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use serde_json::Value;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// The author's crate; everything else that is carried comes from the registry.
const PLUGIN_API: &str = "dinrail-plugin";

fn main() -> Outcome<()> {
    let workspace = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("..");
    for input in ["plugin-api/Cargo.toml", "plugin-api/src", "plugin-api/include", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", workspace.join(input).display());
    }
    let out = PathBuf::from(variable("OUT_DIR")?);
    let lock = fs::read_to_string(workspace.join("Cargo.lock"))?;
    let packages = packages(&workspace, &out.join("module"), &lock)?;

    let mut archive = tar::Builder::new(ZlibEncoder::new(Vec::new(), Compression::best()));
    for package in &packages {
        let (name, version) = (text(&package["name"])?, text(&package["version"])?);
        let folder = Path::new(text(&package["manifest_path"])?).parent().ok_or("a manifest has a folder")?;
        if name == PLUGIN_API {
            for part in ["src", "include"] {
                add_folder(&mut archive, &folder.join(part), &format!("plugin-api/{part}"))?;
            }
            add(&mut archive, "plugin-api/Cargo.toml", manifest(package)?.as_bytes())?;
        } else {
            let checksum =
                checksum(&lock, name, version).ok_or_else(|| format!("{name} {version} is not in Cargo.lock"))?;
            let place = format!("vendor/{name}-{version}");
            add_folder(&mut archive, folder, &place)?;
            // Which files there are is ours to choose; cargo compares the package's checksum with lock files.
            let sum = format!("{{\"files\":{{}},\"package\":\"{checksum}\"}}");
            add(&mut archive, &format!("{place}/.cargo-checksum.json"), sum.as_bytes())?;
        }
    }
    let names: Vec<&str> = packages.iter().map(|package| text(&package["name"])).collect::<Outcome<_>>()?;
    println!("cargo::rustc-env=DINRAIL_CARRIED_CRATES={}", names.join(" "));
    fs::write(out.join("carried.tar.z"), archive.into_inner()?.finish()?)?;
    Ok(())
}

/// What cargo knows of plugin-api and of the crates that a module with it is built from, by name.
fn packages(workspace: &Path, module: &Path, lock: &str) -> Outcome<Vec<Value>> {
    fs::create_dir_all(module)?;
    let plugin_api = Value::from(workspace.join("plugin-api").to_string_lossy());
    let manifest = format!(
        "[package]\nname = \"any-module\"\nedition = \"2024\"\n[lib]\npath = \"lib.rs\"\n[workspace]\n\
         [dependencies]\n{PLUGIN_API} = {{ path = {plugin_api}, default-features = false }}\n"
    );
    fs::write(module.join("Cargo.toml"), manifest)?;
    fs::write(module.join("lib.rs"), "")?;
    // Cargo leaves out of it what this crate does not need.
    fs::write(module.join("Cargo.lock"), lock)?;

    // From the workspace, so that settings of cargo that hold there, such as another source for crates, hold here too.
    let mut cargo = Command::new(variable("CARGO")?);
    cargo.args(["metadata", "--offline", "--format-version", "1", "--manifest-path"]);
    let output = cargo.arg(module.join("Cargo.toml")).current_dir(workspace).output()?;
    if !output.status.success() {
        return Err(format!("{cargo:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let all = metadata["packages"].as_array().ok_or("cargo metadata has packages")?;
    let mut packages: Vec<Value> = all.iter().filter(|package| package["name"] != "any-module").cloned().collect();
    packages.sort_by_key(|package| package["name"].to_string());
    Ok(packages)
}

/// The SHA-256 of a package as `Cargo.lock` has it.
fn checksum<'a>(lock: &'a str, name: &str, version: &str) -> Option<&'a str> {
    let head = format!("\nname = \"{name}\"\nversion = \"{version}\"\n");
    let package = lock.split("[[package]]").find(|package| package.replace('\r', "").starts_with(&head))?;
    package.lines().find_map(|line| line.strip_prefix("checksum = \"")?.strip_suffix('"'))
}

/// A manifest of plugin-api that stands alone: without the workspace, and without what only its own tests need.
///
/// `abi-proof` is no default feature of it: abi_stable is not among what is carried.
fn manifest(package: &Value) -> Outcome<String> {
    let mut toml =
        String::from("# plugin-api of dinrail, as the runtime carried it that made this project.\n[package]\n");
    for key in ["name", "version", "edition", "license", "description", "rust_version"] {
        if !package[key].is_null() {
            writeln!(toml, "{} = {}", key.replace('_', "-"), package[key])?;
        }
    }
    toml.push_str("publish = false\n\n[lib]\ndoctest = false\n\n[features]\n");
    for (feature, parts) in package["features"].as_object().into_iter().flatten() {
        let parts = if feature == "default" { &Value::Array(Vec::new()) } else { parts };
        writeln!(toml, "{feature} = {parts}")?;
    }
    let dependencies = package["dependencies"].as_array().ok_or("a package has dependencies")?;
    for dependency in dependencies.iter().filter(|dependency| dependency["kind"] != "dev") {
        writeln!(toml, "\n[dependencies.{}]", text(&dependency["name"])?)?;
        writeln!(toml, "version = {}", dependency["req"])?;
        writeln!(toml, "default-features = {}", dependency["uses_default_features"])?;
        writeln!(toml, "optional = {}", dependency["optional"])?;
        writeln!(toml, "features = {}", dependency["features"])?;
    }
    Ok(toml)
}

/// Adds what a build reads of a crate, and its licence.
fn add_folder<W: Write>(archive: &mut tar::Builder<W>, folder: &Path, place: &str) -> Outcome<()> {
    let mut entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().into_string().map_err(|name| format!("{name:?} is not UTF-8"))?;
        let place = format!("{place}/{name}");
        if entry.file_type()?.is_dir() {
            if !["tests", "benches", "examples", "fuzz", "target", "docs"].contains(&&*name) && !name.starts_with('.') {
                add_folder(archive, &entry.path(), &place)?;
            }
        } else if is_needed(&name) {
            add(archive, &place, &fs::read(entry.path())?)?;
        }
    }
    Ok(())
}

fn is_needed(file: &str) -> bool {
    let is_licence = ["LICEN", "COPYING", "UNLICENSE", "NOTICE"].iter().any(|word| file.starts_with(word));
    let is_note = ["CHANGELOG.md", "CONTRIBUTING.md", "RELEASES.md", "Cargo.toml.orig"].contains(&file);
    let is_source = [".rs", ".toml", ".md", ".h"].iter().any(|kind| file.ends_with(kind));
    is_licence || (is_source && !is_note && !file.starts_with('.'))
}

/// Adds a file, the same bytes whenever and wherever it is packed.
fn add<W: Write>(archive: &mut tar::Builder<W>, place: &str, bytes: &[u8]) -> Outcome<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    Ok(archive.append_data(&mut header, place, bytes)?)
}

fn text(value: &Value) -> Outcome<&str> {
    value.as_str().ok_or_else(|| format!("text was expected, not {value}").into())
}

fn variable(name: &str) -> Outcome<String> {
    std::env::var(name).map_err(|error| format!("{name}: {error}").into())
}
