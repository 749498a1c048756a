//! What a library says about itself, readable without running its code: the JSON in its section `.dinrail`.

use std::fmt;
use std::str::FromStr;

use dinrail_plugin::abi;
use semver::Version;
use serde::{Deserialize, Serialize};

use super::{Defect, Refusal, reference::check_image_name};
use crate::name::check_id;

/// What a library says about itself. Unknown keys are ignored, so that later ones can be added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Name of the image.
    pub name: String,
    /// Version of the image.
    pub version: Version,
    /// ABI that it was built for. As the table says, whatever the JSON says.
    #[serde(default)]
    pub abi: AbiVersion,
    /// Target triple; empty where it does not say.
    #[serde(default)]
    pub target: String,
    /// One sentence.
    #[serde(default)]
    pub description: String,
    /// Names of the inputs.
    #[serde(default)]
    pub inputs: Vec<String>,
    /// Names of the outputs.
    #[serde(default)]
    pub outputs: Vec<String>,
    /// Names of the direct methods.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Create, twin and stop have no side effects on trial.
    #[serde(default)]
    pub trial_safe: bool,
    /// Owns a device or a connection: an upgrade stops the old instance before the new one starts.
    #[serde(default)]
    pub exclusive: bool,
    /// What it was built with, such as `dinrail-plugin 0.1.0`.
    #[serde(default)]
    pub sdk: String,
    /// `unwind` or `abort`; empty where the language has no panics.
    #[serde(default)]
    pub panic: String,
}

/// Version of the ABI. Written `1.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AbiVersion {
    /// Modules of another major are refused.
    pub major: u32,
    /// Counts the fields appended.
    pub minor: u32,
}

impl AbiVersion {
    /// What this runtime speaks.
    pub const RUNTIME: AbiVersion = AbiVersion { major: abi::DR_ABI_MAJOR, minor: abi::DR_ABI_MINOR };
}

impl Default for AbiVersion {
    fn default() -> AbiVersion {
        AbiVersion::RUNTIME
    }
}

impl fmt::Display for AbiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for AbiVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<AbiVersion, String> {
        let parts = text.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        let (major, minor) = parts.ok_or_else(|| format!("'{text}' is not an ABI version; it reads 1.0"))?;
        Ok(AbiVersion { major, minor })
    }
}

impl Serialize for AbiVersion {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AbiVersion {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<AbiVersion, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Descriptor {
    /// Reads and checks the content of the section. Zero bytes at the end are padding.
    pub fn parse(section: &[u8]) -> Result<Descriptor, Refusal> {
        let end = section.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        if end == 0 {
            return Err(bad("is empty"));
        }
        let descriptor: Descriptor = serde_json::from_slice(&section[..end]).map_err(|e| {
            if e.to_string().starts_with("trailing characters") {
                return Refusal::new(
                    Defect::BadDescriptor,
                    format!("section {} holds more than one descriptor", abi::DR_DESCRIPTOR_SECTION),
                    "leave one export_module! per library",
                );
            }
            bad(format!("cannot be read ({e})"))
        })?;
        descriptor.check()?;
        Ok(descriptor)
    }

    fn check(&self) -> Result<(), Refusal> {
        check_image_name(&self.name).map_err(|e| bad(format!("has a name that cannot be used ({e})")))?;
        for (kind, names) in [("input", &self.inputs), ("output", &self.outputs), ("method", &self.methods)] {
            for (at, name) in names.iter().enumerate() {
                check_id(name).map_err(|e| bad(format!("has {kind} {at} with a name that cannot be used ({e})")))?;
                if names[..at].contains(name) {
                    return Err(bad(format!("names {kind} '{name}' twice")));
                }
            }
        }
        if self.panic == "abort" {
            return Err(Refusal::new(
                Defect::BadDescriptor,
                "built with panic = \"abort\": a panic would end the whole runtime",
                "remove panic = \"abort\" from its Cargo profile and rebuild",
            ));
        }
        Ok(())
    }
}

fn bad(problem: impl fmt::Display) -> Refusal {
    Refusal::new(
        Defect::BadDescriptor,
        format!("its descriptor (section {}) {problem}", abi::DR_DESCRIPTOR_SECTION),
        "correct it in export_module!, or in the section's JSON, and rebuild",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_keys_have_defaults_and_unknown_ones_are_ignored() {
        let descriptor =
            Descriptor::parse(b"{\"name\": \"filter\", \"version\": \"1.2.3\", \"colour\": 7}\n\0\0").unwrap();

        assert_eq!(descriptor.abi, AbiVersion::RUNTIME);
        assert!(!descriptor.exclusive && !descriptor.trial_safe && descriptor.inputs.is_empty());
        let back = serde_json::to_vec(&descriptor).unwrap();
        assert!(String::from_utf8_lossy(&back).contains("\"trialSafe\":false"));
        assert_eq!(Descriptor::parse(&back).unwrap(), descriptor);
    }

    #[test]
    fn bad_descriptors_say_what_is_wrong() {
        for (json, says) in [
            ("", "is empty"),
            ("\0\0\0", "is empty"),
            ("{", "cannot be read"),
            ("[]", "cannot be read"),
            ("{\"version\": \"1.0.0\"}", "missing field `name`"),
            ("{\"name\": \"a\"}", "missing field `version`"),
            ("{\"name\": \"a\", \"version\": \"1.0\"}", "cannot be read"),
            ("{\"name\": \"a:b\", \"version\": \"1.0.0\"}", "name that cannot be used"),
            ("{\"name\": \"a/b\", \"version\": \"1.0.0\"}", "name that cannot be used"),
            ("{\"name\": \"a\", \"version\": \"1.0.0\", \"inputs\": [\"x\", \"\"]}", "input 1"),
            ("{\"name\": \"a\", \"version\": \"1.0.0\", \"outputs\": [\"x\", \"x\"]}", "'x' twice"),
            ("{\"name\": \"a\", \"version\": \"1.0.0\", \"panic\": \"abort\"}", "end the whole runtime"),
            ("{\"name\": \"a\", \"version\": \"1.0.0\"}{\"name\": \"b\", \"version\": \"1.0.0\"}", "more than one"),
        ] {
            let refusal = Descriptor::parse(json.as_bytes()).unwrap_err();
            assert_eq!(refusal.defect, Defect::BadDescriptor);
            assert!(refusal.what.contains(says), "{json}: {refusal}");
        }
    }
}
