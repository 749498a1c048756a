//! The twin as the module sees it: a snapshot of what is committed.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Context, Error};

/// Desired and reported properties of the instance's identity, as committed. A snapshot: it does not follow.
#[derive(Debug, Clone, PartialEq)]
pub struct Twin {
    /// Desired properties, a JSON object. The defaults of the module's own type are *not* merged into it.
    pub desired: Value,
    /// Reported properties, a JSON object.
    pub reported: Value,
    /// `$version` of the desired section: given by its owner, the hub where there is one.
    pub desired_version: u64,
    /// `$version` of the reported section.
    pub reported_version: u64,
    /// Revision of the desired section: local and gapless.
    pub desired_revision: u64,
    /// Revision of the reported section.
    pub reported_revision: u64,
}

impl Twin {
    /// Reads `{"desired": {…, "$version": n}, "reported": {…, "$version": n}}`.
    pub(crate) fn parse(json: &[u8], desired_revision: u64, reported_revision: u64) -> Result<Twin, Error> {
        let mut doc: Value = serde_json::from_slice(json).context("reading the twin")?;
        let (desired, desired_version) = section(&mut doc, "desired");
        let (reported, reported_version) = section(&mut doc, "reported");
        Ok(Twin { desired, reported, desired_version, reported_version, desired_revision, reported_revision })
    }

    /// The desired properties as the module's own type: the defaults, overlaid with the twin.
    pub fn desired_as<T: serde::Serialize + DeserializeOwned + Default>(&self) -> Result<T, Error> {
        crate::desired::typed(&self.desired)
    }

    /// The reported properties as a type.
    pub fn reported_as<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_path_to_error::deserialize(&self.reported).context("reading the reported properties")
    }
}

/// The twin as it was read last, so that reading it again and again costs no parsing.
///
/// Known by its text, the only thing that says all of it. A module that reads its twin once keeps nothing.
#[derive(Debug, Default)]
pub(crate) struct LastRead {
    revisions: (u64, u64),
    kept: Option<(Box<[u8]>, Arc<Twin>)>,
}

impl LastRead {
    /// The twin that a text says.
    pub(crate) fn read(&mut self, json: &[u8], desired: u64, reported: u64) -> Result<Arc<Twin>, Error> {
        let revisions = (desired, reported);
        let is_again = std::mem::replace(&mut self.revisions, revisions) == revisions;
        if let (true, Some((text, twin))) = (is_again, &self.kept)
            && **text == *json
        {
            return Ok(twin.clone());
        }
        let twin = Arc::new(Twin::parse(json, desired, reported)?);
        self.kept = is_again.then(|| (json.into(), twin.clone()));
        Ok(twin)
    }
}

/// Takes a section out of the document, without what the hub adds to it.
fn section(doc: &mut Value, name: &str) -> (Value, u64) {
    let mut properties = match doc.get_mut(name).map(Value::take) {
        Some(Value::Object(properties)) => properties,
        _ => serde_json::Map::new(),
    };
    let version = properties.remove("$version").and_then(|v| v.as_u64()).unwrap_or(0);
    properties.remove("$metadata");
    (Value::Object(properties), version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn versions_are_apart_from_the_properties() {
        let json = br#"{"desired": {"limit": 5, "$version": 7, "$metadata": {}}, "reported": {"$version": 2}}"#;
        let twin = Twin::parse(json, 4, 3).unwrap();
        assert_eq!((twin.desired, twin.desired_version, twin.desired_revision), (json!({"limit": 5}), 7, 4));
        assert_eq!((twin.reported, twin.reported_version, twin.reported_revision), (json!({}), 2, 3));
    }

    #[test]
    fn a_twin_that_stays_the_same_is_parsed_once_and_a_change_is_never_missed() {
        let mut last = LastRead::default();
        let text = |n: u32| format!(r#"{{"desired":{{"n":{n},"$version":1}},"reported":{{"$version":1}}}}"#);
        let mut read = |n: u32, revision: u64| last.read(text(n).as_bytes(), revision, 1).unwrap();

        let first = read(1, 1);
        let (second, third) = (read(1, 1), read(1, 1));
        assert!(!Arc::ptr_eq(&first, &second), "one reading alone is not kept");
        assert!(Arc::ptr_eq(&second, &third));
        assert_eq!(read(2, 1).desired, json!({"n": 2}), "another text of the same revision");
        assert_eq!(read(3, 2).desired, json!({"n": 3}));
        assert_eq!(read(1, 1).desired, json!({"n": 1}));
    }
}
