//! A manifest file on the side of the client: its text, and the images that it names by path.
//!
//! Whether it is a good manifest is for the runtime to say, so that `deploy`, `plan` and the hub hear the same words.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Failure, json_input};
use crate::admin::client::ClientError;
use crate::document::{Document, Format, Problem, child_path};
use crate::runtime::missing_image;

/// A manifest that was read, from a file or from standard input (`-`).
pub struct ManifestFile {
    path: PathBuf,
    /// Its path from the root, as the runtime is told it.
    origin: String,
    text: String,
    /// Images named by path, where they are found, and the JSON path of the first mention.
    pub images: BTreeMap<String, ImageFile>,
}

/// An image that a manifest names by path.
#[derive(Debug, PartialEq, Eq)]
pub struct ImageFile {
    /// Relative to the manifest, as a path of this process.
    pub file: PathBuf,
    /// Where the manifest names it.
    pub json_path: String,
}

impl ManifestFile {
    /// Reads the file, or standard input for `-`.
    pub fn read(path: &Path) -> Result<ManifestFile, Failure> {
        let (octets, origin) = if path == Path::new("-") {
            (json_input::read_stdin()?, STDIN.to_owned())
        } else {
            let origin = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            (json_input::read_file(path)?, origin.to_string_lossy().into_owned())
        };
        let text = json_input::text_of(&path.display().to_string(), octets)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut images = BTreeMap::new();
        // What does not parse is sent as it is: the runtime says what is wrong, and where.
        if let Ok(document) = Document::read(&text, Format::of_name(&origin)) {
            collect_images("", &document.value, folder, &mut images);
        }
        Ok(ManifestFile { path: path.to_owned(), origin, text, images })
    }

    /// The request that applies or plans it, with the digest of each image that is there, and why others are not.
    pub fn request(&self, digests: &BTreeMap<String, String>, missing: &BTreeMap<String, String>) -> Value {
        json!({"manifest": self.text, "origin": self.origin, "images": digests, "missing": missing})
    }

    /// The digest of every image file, without sending it. Second: images that cannot be read, with the reason.
    pub fn digests(&self) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
        let mut digests = BTreeMap::new();
        let mut missing = BTreeMap::new();
        for (name, image) in &self.images {
            match digest(&image.file) {
                Ok(digest) => digests.insert(name.clone(), digest),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    missing.insert(name.clone(), missing_image(&image.file))
                }
                Err(error) => missing.insert(name.clone(), format!("{} cannot be read: {error}", image.file.display())),
            };
        }
        (digests, missing)
    }

    /// The refusal of the manifest, with the name of the file as it was given.
    pub fn refused(&self, refused: ClientError) -> Failure {
        let ClientError::Refused { status, mut error } = refused else { return refused.into() };
        if self.origin != STDIN {
            let shown = self.path.display().to_string();
            error.message = error.message.replacen(&self.origin, &shown, 1);
            for detail in &mut error.details {
                if let Some(rest) = detail.strip_prefix(&self.origin) {
                    *detail = format!("{shown}{rest}");
                }
            }
        }
        ClientError::Refused { status, error }.into()
    }

    /// A problem of the image at `json_path`, with its place.
    pub fn image_problem(&self, json_path: &str, message: String) -> String {
        let document = Document::read(&self.text, Format::of_name(&self.origin));
        let place = document.ok().and_then(|document| document.place(json_path));
        Problem { place, ..Problem::at(json_path, message, "") }.in_file(&self.path.display().to_string())
    }
}

/// What a manifest from standard input is called.
const STDIN: &str = "standard input";

/// Finds every `settings.image` that is a path, wherever it stands: the flattened form of a manifest has them elsewhere.
fn collect_images(at: &str, value: &Value, folder: &Path, images: &mut BTreeMap<String, ImageFile>) {
    let Value::Object(members) = value else { return };
    if let Some(image) = members.get("settings").and_then(|settings| settings["image"].as_str()).filter(|i| is_path(i))
    {
        let json_path = child_path(at, "settings.image");
        let found = ImageFile { file: folder.join(image).components().collect(), json_path };
        images.entry(image.to_owned()).or_insert(found);
    }
    for (key, member) in members {
        collect_images(&child_path(at, key), member, folder, images);
    }
}

/// Tells `./x.so` and `lib/x.so` from a reference, and from the name of a container image (`host.io/x:1`), which the runtime
/// refuses with better words.
fn is_path(image: &str) -> bool {
    let is_library = [".so", ".dll", ".dylib"].iter().any(|end| image.ends_with(end));
    image.starts_with(['.', '/']) || image.contains('\\') || (is_library && image.contains('/'))
}

fn digest(file: &Path) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    let mut file = std::fs::File::open(file)?;
    let mut chunk = vec![0; 64 * 1024];
    loop {
        match std::io::Read::read(&mut file, &mut chunk)? {
            0 => break,
            read => hash.update(&chunk[..read]),
        }
    }
    let hex: String = hash.finalize().iter().map(|octet| format!("{octet:02x}")).collect();
    Ok(format!("sha256:{hex}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_named_by_path_are_found_relative_to_the_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let json = r#"{"modulesContent": {"$edgeAgent": {
            "properties.desired": {"modules": {
                "a": {"settings": {"image": "./a.so"}}, "b": {"settings": {"image": "filter:1"}},
                "d": {"settings": {"image": "mcr.example/d:1"}}}},
            "properties.desired.modules.c": {"settings": {"image": "lib/c.so"}}}}}"#;
        let yaml = "modulesContent:\n  $edgeAgent:\n    properties.desired:\n      modules:\n        \
                    a: {settings: {image: ./a.so}}\n    properties.desired.modules.c: {settings: {image: lib/c.so}}\n";
        std::fs::write(folder.path().join("a.so"), "abc").unwrap();
        for (name, text) in [("m.json", json), ("m.yaml", yaml)] {
            let file = folder.path().join(name);
            std::fs::write(&file, text).unwrap();

            let manifest = ManifestFile::read(&file).unwrap();

            assert_eq!(manifest.images.keys().collect::<Vec<_>>(), ["./a.so", "lib/c.so"]);
            let (digests, missing) = manifest.digests();
            let abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
            assert_eq!(digests, BTreeMap::from([("./a.so".to_owned(), abc.to_owned())]));
            assert!(missing["lib/c.so"].starts_with("there is no file "), "{missing:?}");
            let path = &manifest.images["lib/c.so"].json_path;
            assert_eq!(path, "modulesContent.$edgeAgent.properties.desired.modules.c.settings.image");
            let line = manifest.image_problem(path, "is refused".to_owned());
            assert!(line.starts_with(&format!("{}:6:", file.display())) || name == "m.json", "{line}");
        }
    }

    #[test]
    fn manifest_that_does_not_parse_is_left_to_the_runtime() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("m.json");
        std::fs::write(&file, "{").unwrap();

        let manifest = ManifestFile::read(&file).unwrap();

        assert!(manifest.images.is_empty());
        assert_eq!(manifest.request(&BTreeMap::new(), &BTreeMap::new())["manifest"], "{");
    }
}
