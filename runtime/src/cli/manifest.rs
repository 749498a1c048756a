//! A manifest file on the side of the client: its text, and the images that it names by path.
//!
//! Whether it is a good manifest is for the runtime to say, so that `deploy`, `plan` and the hub hear the same words.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Failure;
use crate::admin::client::ClientError;

/// A manifest file that was read.
pub struct ManifestFile {
    path: PathBuf,
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
    /// Reads the file.
    pub fn read(path: &Path) -> Result<ManifestFile, Failure> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::caused(format!("{} cannot be read", path.display()), &error))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut images = BTreeMap::new();
        // What does not parse is sent as it is: the runtime says what is wrong, and where.
        if let Ok(document) = serde_json::from_str::<Value>(&text) {
            collect_images("$", &document, folder, &mut images);
        }
        Ok(ManifestFile { path: path.to_owned(), text, images })
    }

    /// The request that applies or plans it, with the digest of each image that is there.
    pub fn request(&self, digests: &BTreeMap<String, String>) -> Value {
        let origin = std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone());
        json!({"manifest": self.text, "origin": origin.to_string_lossy(), "images": digests})
    }

    /// The digest of every image file, without sending it. Second: what cannot be read, a line each.
    pub fn digests(&self) -> (BTreeMap<String, String>, Vec<String>) {
        let mut digests = BTreeMap::new();
        let mut problems = Vec::new();
        for (name, image) in &self.images {
            match digest(&image.file) {
                Ok(digest) => {
                    digests.insert(name.clone(), digest);
                }
                Err(error) => {
                    problems.push(format!("{}: {} cannot be read: {error}", image.json_path, image.file.display()));
                }
            }
        }
        (digests, problems)
    }

    /// The refusal of a manifest, with what this side found missing.
    pub fn refused(&self, refused: Option<ClientError>, missing: Vec<String>) -> Failure {
        match refused {
            None => Failure::new(format!("{} names images that are not there", self.path.display()))
                .details(missing)
                .hint("paths are relative to the manifest; build the images first"),
            Some(ClientError::Refused { status, mut error }) if !missing.is_empty() => {
                error.details.extend(missing);
                ClientError::Refused { status, error }.into()
            }
            Some(other) => other.into(),
        }
    }
}

/// Finds every `settings.image` that is a path, wherever it stands: the flattened form of a manifest has them elsewhere.
fn collect_images(at: &str, value: &Value, folder: &Path, images: &mut BTreeMap<String, ImageFile>) {
    let Value::Object(members) = value else { return };
    if let Some(image) = members.get("settings").and_then(|settings| settings["image"].as_str()).filter(|i| is_path(i))
    {
        let found =
            ImageFile { file: folder.join(image).components().collect(), json_path: format!("{at}.settings.image") };
        images.entry(image.to_owned()).or_insert(found);
    }
    for (key, member) in members {
        let step = if key.contains('.') { format!("{at}['{key}']") } else { format!("{at}.{key}") };
        collect_images(&step, member, folder, images);
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
        let file = folder.path().join("m.json");
        let text = r#"{"modulesContent": {"$edgeAgent": {
            "properties.desired": {"modules": {
                "a": {"settings": {"image": "./a.so"}}, "b": {"settings": {"image": "filter:1"}},
                "d": {"settings": {"image": "mcr.example/d:1"}}}},
            "properties.desired.modules.c": {"settings": {"image": "lib/c.so"}}}}}"#;
        std::fs::write(&file, text).unwrap();
        std::fs::write(folder.path().join("a.so"), "abc").unwrap();

        let manifest = ManifestFile::read(&file).unwrap();

        assert_eq!(manifest.images.keys().collect::<Vec<_>>(), ["./a.so", "lib/c.so"]);
        let (digests, problems) = manifest.digests();
        let abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digests, BTreeMap::from([("./a.so".to_owned(), abc.to_owned())]));
        assert_eq!(problems.len(), 1);
        let expected = "$.modulesContent.$edgeAgent['properties.desired.modules.c'].settings.image: ";
        assert!(problems[0].starts_with(expected), "{}", problems[0]);
    }

    #[test]
    fn manifest_that_does_not_parse_is_left_to_the_runtime() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("m.json");
        std::fs::write(&file, "{").unwrap();

        let manifest = ManifestFile::read(&file).unwrap();

        assert!(manifest.images.is_empty());
        assert_eq!(manifest.request(&BTreeMap::new())["manifest"], "{");
    }
}
