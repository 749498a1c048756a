//! A twin as committed: small, shared, and cheap to read.

use std::fmt::Write;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{etag, metadata, secret};
use crate::clock;
use crate::identity::Identities;
use crate::name::Identity;

/// One of the three parts of a twin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `tags`: of the service side, never seen by a module.
    Tags = 0,
    /// `properties.desired`: from the service side to the module.
    Desired = 1,
    /// `properties.reported`: from the module.
    Reported = 2,
}

impl Part {
    pub(super) const ALL: [Part; 3] = [Part::Tags, Part::Desired, Part::Reported];

    /// Its place in the root document.
    pub fn path(self) -> &'static str {
        match self {
            Part::Tags => "tags",
            Part::Desired => "properties.desired",
            Part::Reported => "properties.reported",
        }
    }
}

/// A part of a twin in one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The document: a compact JSON object without `$version` and `$metadata`.
    pub document: Arc<str>,
    /// Counts this device's changes of the section, without gaps, from 1. Orders delivery.
    pub revision: u64,
    /// `$version`: the hub's where there is one, else equal to `revision`.
    pub version: u64,
    /// See [`metadata`].
    pub(super) times: Arc<str>,
}

impl Section {
    /// A section that was never written. All of them share their text.
    pub(super) fn empty() -> Section {
        static EMPTY: OnceLock<Arc<str>> = OnceLock::new();
        let text = EMPTY.get_or_init(|| "{}".into());
        Section { document: text.clone(), times: text.clone(), revision: 1, version: 1 }
    }

    /// The document, to be worked with.
    pub fn parse(&self) -> Map<String, Value> {
        // Written by this runtime and checked when loaded, so it parses.
        serde_json::from_str(&self.document).unwrap_or_default()
    }

    /// Bytes of the document and of its metadata, as they are stored.
    pub fn stored_bytes(&self) -> (usize, usize) {
        (self.document.len(), self.times.len())
    }

    pub(super) fn parse_times(&self) -> Map<String, Value> {
        serde_json::from_str(&self.times).unwrap_or_default()
    }

    fn write_with_version(&self, out: &mut String) {
        let members = self.document.strip_suffix('}').unwrap_or(&self.document);
        let comma = if members == "{" { "" } else { "," };
        let _ = write!(out, "{members}{comma}\"$version\":{}}}", self.version);
    }

    fn service_view(&self) -> Value {
        let mut view = self.parse();
        view.insert("$metadata".to_owned(), metadata::expand(&self.parse_times()));
        view.insert("$version".to_owned(), self.version.into());
        Value::Object(view)
    }
}

/// The desired document that the module accepted last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// A compact JSON object.
    pub document: Arc<str>,
    /// Its `$version`.
    pub version: u64,
    /// Its revision.
    pub revision: u64,
}

/// What the module said to a desired change; part of its reported properties as `acknowledged`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// `$version` of the desired properties that it is about.
    pub version: u64,
    /// Accepted, or refused.
    pub ok: bool,
    /// Why it was refused.
    #[serde(default)]
    pub error: Option<String>,
}

/// What the root document says of an identity besides its twin.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Etag of its entry in the registry.
    pub device_etag: Option<String>,
    /// Its status.
    pub is_enabled: bool,
    /// Why it has its status.
    pub status_reason: Option<Arc<str>>,
    /// When its status was set, wall time.
    pub status_us: Option<i64>,
    /// Whether it is there.
    pub is_connected: bool,
    /// The last sign of it, wall time.
    pub activity_us: Option<i64>,
    /// It is a device that runs modules.
    pub is_edge: bool,
}

impl Facts {
    /// What the registry knows of an identity.
    pub fn of(identities: &Identities, identity: &Identity) -> Facts {
        let is_edge = identity.module_id().is_none() && identity.device_id() == identities.device_id();
        let Some(record) = identities.get(identity) else { return Facts { is_edge, ..Facts::default() } };
        let presence = identities.presence(&record);
        Facts {
            device_etag: Some(record.etag()),
            is_enabled: record.is_enabled,
            status_reason: record.status_reason.clone(),
            status_us: Some(record.status_us.unwrap_or(record.created_us)),
            is_connected: presence.is_connected,
            activity_us: presence.activity_us,
            is_edge,
        }
    }
}

impl Default for Facts {
    fn default() -> Facts {
        Facts {
            device_etag: None,
            is_enabled: true,
            status_reason: None,
            status_us: None,
            is_connected: false,
            activity_us: None,
            is_edge: false,
        }
    }
}

/// A twin in one committed state.
#[derive(Debug)]
pub struct TwinSnapshot {
    /// Whose.
    pub identity: Identity,
    /// `tags`.
    pub tags: Section,
    /// `properties.desired`.
    pub desired: Section,
    /// `properties.reported`.
    pub reported: Section,
    /// What a cold start gives a module that refused the newest desired document; `None` before the first acceptance.
    pub accepted: Option<Accepted>,
    pub(super) module_view: OnceLock<Arc<str>>,
    has_secrets: OnceLock<bool>,
}

impl TwinSnapshot {
    pub(super) fn empty(identity: Identity) -> TwinSnapshot {
        TwinSnapshot {
            identity,
            tags: Section::empty(),
            desired: Section::empty(),
            reported: Section::empty(),
            accepted: None,
            module_view: OnceLock::new(),
            has_secrets: OnceLock::new(),
        }
    }

    /// The section of a part.
    pub fn section(&self, part: Part) -> &Section {
        match part {
            Part::Tags => &self.tags,
            Part::Desired => &self.desired,
            Part::Reported => &self.reported,
        }
    }

    pub(super) fn with(&self, sections: &[Option<Section>; 3], accepted: Option<&Accepted>) -> TwinSnapshot {
        let section = |part: Part| sections[part as usize].as_ref().unwrap_or_else(|| self.section(part)).clone();
        let accepted = accepted.or(self.accepted.as_ref()).cloned();
        TwinSnapshot {
            identity: self.identity.clone(),
            tags: section(Part::Tags),
            desired: section(Part::Desired),
            reported: section(Part::Reported),
            accepted,
            module_view: OnceLock::new(),
            has_secrets: OnceLock::new(),
        }
    }

    /// What the module sees: `{"desired": {…, "$version": n}, "reported": {…, "$version": n}}`. Made once per snapshot.
    pub fn module_view(&self) -> Arc<str> {
        let make = || {
            let mut text = String::with_capacity(self.desired.document.len() + self.reported.document.len() + 80);
            text.push_str("{\"desired\":");
            self.desired.write_with_version(&mut text);
            text.push_str(",\"reported\":");
            self.reported.write_with_version(&mut text);
            text.push('}');
            text.into()
        };
        self.module_view.get_or_init(make).clone()
    }

    /// Whether its desired properties refer to a secret, so that each module is to be given a text of its own.
    pub fn has_secrets(&self) -> bool {
        *self.has_secrets.get_or_init(|| secret::is_in(&self.desired.document))
    }

    /// The root document that the service side sees, of an identity of which nothing else is known.
    #[cfg(test)]
    pub(super) fn root(&self, is_connected: bool) -> Value {
        self.root_with(&Facts { is_connected, ..Facts::default() })
    }

    /// The root document that the service side sees.
    pub fn root_with(&self, facts: &Facts) -> Value {
        let time = |us: Option<i64>| us.map_or_else(|| metadata::NEVER.to_owned(), clock::rfc3339);
        let mut root = Map::new();
        root.insert("deviceId".to_owned(), self.identity.device_id().into());
        if let Some(module) = self.identity.module_id() {
            root.insert("moduleId".to_owned(), module.into());
        }
        root.insert("etag".to_owned(), self.etag().into());
        if let Some(etag) = &facts.device_etag {
            root.insert("deviceEtag".to_owned(), etag.as_str().into());
        }
        root.insert("status".to_owned(), if facts.is_enabled { "enabled" } else { "disabled" }.into());
        if let Some(reason) = &facts.status_reason {
            root.insert("statusReason".to_owned(), (**reason).into());
        }
        root.insert("statusUpdateTime".to_owned(), time(facts.status_us).into());
        let connection = if facts.is_connected { "Connected" } else { "Disconnected" };
        root.insert("connectionState".to_owned(), connection.into());
        root.insert("lastActivityTime".to_owned(), time(facts.activity_us).into());
        root.insert("cloudToDeviceMessageCount".to_owned(), 0.into());
        root.insert("authenticationType".to_owned(), "sas".into());
        root.insert("x509Thumbprint".to_owned(), json!({"primaryThumbprint": null, "secondaryThumbprint": null}));
        root.insert("modelId".to_owned(), "".into());
        root.insert("version".to_owned(), self.version().into());
        root.insert("tags".to_owned(), Value::Object(self.tags.parse()));
        root.insert(
            "properties".to_owned(),
            json!({"desired": self.desired.service_view(), "reported": self.reported.service_view()}),
        );
        if self.identity.module_id().is_none() {
            root.insert("capabilities".to_owned(), json!({"iotEdge": facts.is_edge}));
        }
        Value::Object(root)
    }

    /// `version` of the root document: counts every change of any part.
    pub fn version(&self) -> u64 {
        self.tags.revision + self.desired.revision + self.reported.revision - 1
    }

    /// Tag of what the service side may write, without quotes. As at IoT Hub, reports do not change it: a writer that
    /// read the twin is not turned away because the module has reported since.
    pub fn etag(&self) -> String {
        etag::of(&self.tags, &self.desired)
    }

    /// What the module said last to a desired change.
    pub fn acknowledged(&self) -> Option<Acknowledgement> {
        #[derive(Deserialize)]
        struct Peek {
            acknowledged: Option<Value>,
        }
        let peek: Peek = serde_json::from_str(&self.reported.document).ok()?;
        serde_json::from_value(peek.acknowledged?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_sees_versions_but_no_tags_and_no_metadata() {
        let mut twin = TwinSnapshot::empty(Identity::module("d", "m").unwrap());
        twin.tags.document = r#"{"hall":3}"#.into();
        twin.reported = Section { document: r#"{"a":{"b":1}}"#.into(), version: 4, ..Section::empty() };

        assert_eq!(&*twin.module_view(), r#"{"desired":{"$version":1},"reported":{"a":{"b":1},"$version":4}}"#);
    }

    #[test]
    fn an_acknowledged_that_a_module_wrote_itself_is_none() {
        let mut twin = TwinSnapshot::empty(Identity::module("d", "m").unwrap());
        for (reported, known) in [
            (r#"{}"#, false),
            (r#"{"acknowledged":7}"#, false),
            (r#"{"acknowledged":{"version":2,"ok":true}}"#, true),
            (r#"{"acknowledged":{"version":2,"ok":false,"error":"limit"}}"#, true),
        ] {
            twin.reported.document = reported.into();
            assert_eq!(twin.acknowledged().is_some(), known, "{reported}");
        }
    }
}
