//! What the binary carries for authors: plugin-api, and the crates that it is built from. Packed by `build.rs`.

use std::io;
use std::path::{Path, PathBuf};

use flate2::read::ZlibDecoder;

use super::{Crates, Language};

/// Lies in the file of the binary and takes no memory until it is unpacked.
static ARCHIVE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/carried.tar.z"));

/// The folder of a project that holds what was carried.
pub const FOLDER: &str = ".dinrail";

/// Which folders of the archive a project gets.
pub fn parts(language: Language, crates: &Crates) -> &'static [&'static str] {
    match (language, crates) {
        (Language::Rust, Crates::Carried) => &["plugin-api", "vendor"],
        (Language::Rust, Crates::Registry) => &["plugin-api"],
        (Language::Rust, Crates::Checkout(_)) | (Language::C | Language::Cpp, _) => &[],
    }
}

/// Unpacks these parts into `folder`. Says how many files that were.
pub fn unpack(parts: &[&str], folder: &Path) -> io::Result<usize> {
    let mut files = 0;
    if parts.is_empty() {
        return Ok(files);
    }
    for entry in tar::Archive::new(ZlibDecoder::new(ARCHIVE)).entries()? {
        let mut entry = entry?;
        let path: PathBuf = entry.path()?.into_owned();
        if !parts.iter().any(|part| path.starts_with(part)) {
            continue;
        }
        let place = folder.join(path);
        if let Some(parent) = place.parent() {
            std::fs::create_dir_all(parent)?;
        }
        io::copy(&mut entry, &mut std::fs::File::create_new(place)?)?;
        files += 1;
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_carried_is_plugin_api_and_all_that_it_is_built_from() {
        let folder = tempfile::tempdir().unwrap();
        let files = unpack(&["plugin-api", "vendor"], folder.path()).unwrap();

        let manifest: toml::Table =
            toml::from_str(&std::fs::read_to_string(folder.path().join("plugin-api/Cargo.toml")).unwrap()).unwrap();
        let here = manifest["dependencies"].as_table().unwrap();
        let crates: Vec<String> = std::fs::read_dir(folder.path().join("vendor"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        for (name, dependency) in here {
            let is_carried = crates.iter().any(|folder| folder.rsplit_once('-').unwrap().0 == name);
            assert_eq!(is_carried, !dependency["optional"].as_bool().unwrap(), "{name}: {crates:?}");
        }
        assert!(files > crates.len() * 3, "{files} files");
        assert!(!manifest.contains_key("dev-dependencies") && !manifest.contains_key("lints"));
    }

    #[test]
    fn only_the_wanted_parts_are_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        unpack(&["plugin-api"], folder.path()).unwrap();

        assert!(folder.path().join("plugin-api/src/lib.rs").is_file());
        assert!(!folder.path().join("vendor").exists());
    }
}
