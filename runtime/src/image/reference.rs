//! What a person writes for an image: a name that moves with new versions, a full version, a pin, or a path.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use semver::Version;

use super::Digest;
use crate::name::{NameError, check_id};

/// An image as asked for. Written `name`, `name:1`, `name:1.2`, `name:1.2.3`, `name@sha256:…`, or a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// An image of the store, by the name in its descriptor.
    Named {
        /// Name.
        name: String,
        /// Which of that name.
        wanted: Wanted,
    },
    /// A library file. Whoever read the reference knows relative to what.
    Path(PathBuf),
}

/// Which image of a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// The highest version.
    Newest,
    /// The highest version of a major.
    Major(u64),
    /// The highest version of a major and minor.
    Minor(u64, u64),
    /// This version, and then the bytes that were found first.
    Exact(Version),
    /// These bytes.
    Digest(Digest),
}

/// Why a text is not a [`Reference`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing there.
    #[error("an image reference must not be empty; it reads NAME, NAME:1.2.3, NAME@sha256:… or ./FILE.so")]
    Empty,
    /// What stands before the `:` or `@`.
    #[error("image reference '{reference}': {source}")]
    Name {
        /// The reference.
        reference: String,
        /// What is wrong.
        source: ImageNameError,
    },
    /// What stands after the `:`.
    #[error("image reference '{reference}': '{version}' is not a version; {hint}")]
    Version {
        /// The reference.
        reference: String,
        /// The part that is wrong.
        version: String,
        /// What to write.
        hint: String,
    },
    /// What stands after the `@`.
    #[error("image reference '{reference}': {source}")]
    Digest {
        /// The reference.
        reference: String,
        /// What is wrong.
        source: super::digest::DigestError,
    },
    /// A container image.
    #[error(
        "'{0}' looks like a container image; images here are libraries: write the NAME of one, or a path that ends in .so"
    )]
    Container(String),
}

/// Why an image cannot have this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageNameError {
    /// Not an id.
    #[error(transparent)]
    Id(#[from] NameError),
    /// `:`, `@` and a leading `$` have a meaning of their own.
    #[error(
        "'{0}' cannot be the name of an image: ':' and '@' begin a version or digest, and '$' names of the runtime"
    )]
    Reserved(String),
    /// It would be read as a path.
    #[error("'{0}' cannot be the name of an image: it reads as a file name")]
    File(String),
}

/// Checks the name of an image: an id without `:` and `@`, which does not read as a path.
pub fn check_image_name(name: &str) -> Result<(), ImageNameError> {
    check_id(name)?;
    if name.contains([':', '@']) || name.starts_with('$') {
        return Err(ImageNameError::Reserved(name.to_owned()));
    }
    if is_library_name(name) {
        return Err(ImageNameError::File(name.to_owned()));
    }
    Ok(())
}

/// Whether a file of this name may be a library, as far as the name says.
pub(super) fn is_library_name(name: &str) -> bool {
    [".so", ".dll", ".dylib"].iter().any(|end| name.len() > end.len() && name.ends_with(end))
}

impl Reference {
    /// The name asked for; `None` for a path.
    pub fn name(&self) -> Option<&str> {
        match self {
            Reference::Named { name, .. } => Some(name),
            Reference::Path(_) => None,
        }
    }

    /// Whether a new image can ever satisfy it better than the one in use: of a name, major or minor.
    pub fn is_moving(&self) -> bool {
        matches!(self, Reference::Named { wanted: Wanted::Newest | Wanted::Major(_) | Wanted::Minor(..), .. })
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Reference, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if is_library_name(text) || text.starts_with(['.', '/', '\\']) {
            return Ok(Reference::Path(text.into()));
        }
        if text.contains(['/', '\\']) {
            let file = text.rsplit(['/', '\\']).next().unwrap_or(text);
            let is_path = file.contains(".so.") || !(file.contains(':') || text.contains('.'));
            return if is_path {
                Ok(Reference::Path(text.into()))
            } else {
                Err(ReferenceError::Container(text.into()))
            };
        }
        let (name, wanted) = match (text.split_once('@'), text.split_once(':')) {
            (Some((name, digest)), _) => {
                let digest =
                    digest.parse().map_err(|source| ReferenceError::Digest { reference: text.into(), source })?;
                (name, Wanted::Digest(digest))
            }
            (None, Some((name, version))) => (
                name,
                wanted_version(version).map_err(|hint| ReferenceError::Version {
                    reference: text.into(),
                    version: version.into(),
                    hint,
                })?,
            ),
            (None, None) => (text, Wanted::Newest),
        };
        check_image_name(name).map_err(|source| ReferenceError::Name { reference: text.into(), source })?;
        Ok(Reference::Named { name: name.to_owned(), wanted })
    }
}

/// Reads `1`, `1.2` or `1.2.3[-pre][+build]`, or says what to write instead.
fn wanted_version(text: &str) -> Result<Wanted, String> {
    if let Ok(version) = Version::parse(text) {
        return Ok(Wanted::Exact(version));
    }
    let number = |part: &str| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse::<u64>().ok()).flatten();
    let parts: Vec<&str> = text.split('.').collect();
    match parts[..] {
        [major] => number(major).map(Wanted::Major),
        [major, minor] => number(major).zip(number(minor)).map(|(major, minor)| Wanted::Minor(major, minor)),
        _ => None,
    }
    .ok_or_else(|| match text {
        "latest" => "leave ':latest' away: a name alone follows the newest version".to_owned(),
        _ if text.starts_with('v') && wanted_version(&text[1..]).is_ok() => format!("write '{}'", &text[1..]),
        _ => "write 1, 1.2 or 1.2.3".to_owned(),
    })
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Path(path) => write!(f, "{}", path.display()),
            Reference::Named { name, wanted } => match wanted {
                Wanted::Newest => write!(f, "{name}"),
                Wanted::Major(major) => write!(f, "{name}:{major}"),
                Wanted::Minor(major, minor) => write!(f, "{name}:{major}.{minor}"),
                Wanted::Exact(version) => write!(f, "{name}:{version}"),
                Wanted::Digest(digest) => write!(f, "{name}@{digest}"),
            },
        }
    }
}

impl serde::Serialize for Reference {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Reference {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Reference, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_read_back_what_they_write() {
        let pin = format!("filter@{}", Digest::of(b""));
        for text in ["filter", "filter:1", "filter:1.20", "a_b.c-d:1.2.3", "f:1.2.3-rc.1+b5", &pin] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), text);
            assert!(reference.name().is_some());
        }
        assert!("f:1.2".parse::<Reference>().unwrap().is_moving());
        assert!(!"f:1.2.3".parse::<Reference>().unwrap().is_moving());
    }

    #[test]
    fn paths_are_told_from_names() {
        for text in ["./x.so", "/abs/x.so", "x.so", "plugins/x", "lib/x.so.1", "..\\x.dll", "C:\\m\\x.dll", "./x"] {
            assert_eq!(text.parse(), Ok(Reference::Path(text.into())), "{text}");
        }
    }

    #[test]
    fn bad_references_say_what_to_write() {
        let long = "x".repeat(129);
        for (text, says) in [
            ("", "must not be empty"),
            (":1", "an id must not be empty"),
            ("Ünit", "contains 'Ü'"),
            (&long, "at most 128"),
            ("$edgeAgent", "names of the runtime"),
            ("filter:latest", "leave ':latest' away"),
            ("filter:v1.2", "write '1.2'"),
            ("filter:", "write 1, 1.2 or 1.2.3"),
            ("filter:1.x", "write 1, 1.2 or 1.2.3"),
            ("filter:1.2.3.4", "write 1, 1.2 or 1.2.3"),
            ("filter:+1", "write 1, 1.2 or 1.2.3"),
            ("filter@sha256:12", "64 hex digits"),
            ("filter@1.2", "64 hex digits"),
            ("mcr.microsoft.com/azureiotedge-hub:1.5", "container image"),
        ] {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
