//! What clients send to make or change an identity: the Device, Module and ExportImportDevice documents of IoT Hub.
//!
//! Members that only the registry writes (`etag`, `generationId`, times, counts) are read over: clients send back what they have
//! read. What this device cannot be, such as certificates as the proof of an identity, is refused and not forgotten.

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};

use crate::admin::error::ApiError;
use crate::handle::{IdentityChange, SymmetricKey};

/// Longest reason of a status, in characters. Source: IoT Hub's registry.
const MAX_REASON_CHARS: usize = 128;

/// An identity as a client sends it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct IdentityBody {
    pub device_id: Option<String>,
    pub module_id: Option<String>,
    managed_by: Option<String>,
    status: Option<String>,
    status_reason: Option<String>,
    #[serde(deserialize_with = "object")]
    authentication: Option<Authentication>,
    #[serde(deserialize_with = "object")]
    capabilities: Option<Capabilities>,
    device_scope: Option<String>,
    parent_scopes: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Authentication {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(deserialize_with = "object")]
    symmetric_key: Option<Keys>,
    #[serde(deserialize_with = "object")]
    x509_thumbprint: Option<Thumbprints>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Keys {
    primary_key: Option<String>,
    secondary_key: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Thumbprints {
    primary_thumbprint: Option<String>,
    secondary_thumbprint: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Capabilities {
    iot_edge: Option<bool>,
}

/// Reads an object or null; an array would be taken for the members in their order.
fn object<'de, D: Deserializer<'de>, T: DeserializeOwned>(reader: D) -> Result<Option<T>, D::Error> {
    match Option::<serde_json::Value>::deserialize(reader)? {
        None => Ok(None),
        Some(value @ serde_json::Value::Object(_)) => serde_json::from_value(value).map(Some).map_err(D::Error::custom),
        // Its text may be a key.
        Some(_) => Err(D::Error::custom("authentication, its parts and capabilities are objects")),
    }
}

impl IdentityBody {
    /// What it says that the identity is to be; every problem of it at once. `is_own`: it is this device's own identity.
    pub fn into_change(self, is_own: bool) -> Result<IdentityChange, ApiError> {
        let mut problems = Vec::new();
        let is_enabled = match self.status.as_deref() {
            None => None,
            Some(status) if status.eq_ignore_ascii_case("enabled") => Some(true),
            Some(status) if status.eq_ignore_ascii_case("disabled") => Some(false),
            Some(other) => {
                problems.push(format!("status: '{other}' is neither enabled nor disabled"));
                None
            }
        };
        for (member, text) in [("statusReason", &self.status_reason), ("managedBy", &self.managed_by)] {
            let chars = text.as_deref().map_or(0, |text| text.chars().count());
            if chars > MAX_REASON_CHARS {
                problems.push(format!("{member}: it has {chars} characters, more than {MAX_REASON_CHARS}"));
            }
        }
        if self.capabilities.is_some_and(|capabilities| capabilities.iot_edge == Some(true)) && !is_own {
            problems.push("capabilities.iotEdge: of the devices here only this one itself runs modules".to_owned());
        }
        let has_scope = self.device_scope.as_deref().is_some_and(|scope| !scope.is_empty());
        if has_scope || self.parent_scopes.is_some_and(|scopes| !scopes.is_empty()) {
            problems.push("deviceScope, parentScopes: devices here are no children of others".to_owned());
        }
        let authentication = self.authentication.unwrap_or_default();
        match authentication.kind.as_deref() {
            None => {}
            Some(kind) if kind.eq_ignore_ascii_case("sas") => {}
            Some(other) => problems.push(format!("authentication.type: '{other}' is not possible here; sas is")),
        }
        let thumbprints = authentication.x509_thumbprint.unwrap_or_default();
        let has_print = |print: &Option<String>| print.as_deref().is_some_and(|print| !print.is_empty());
        if has_print(&thumbprints.primary_thumbprint) || has_print(&thumbprints.secondary_thumbprint) {
            problems.push("authentication.x509Thumbprint: certificates are no proof here; keys are".to_owned());
        }
        let keys = authentication.symmetric_key.unwrap_or_default();
        let mut key = |member: &str, text: Option<String>| {
            // The text of a key is in no message.
            let text = text.filter(|text| !text.is_empty())?;
            let key = SymmetricKey::from_base64(&text);
            key.map_err(|error| problems.push(format!("authentication.symmetricKey.{member}: {error}"))).ok()
        };
        let primary = key("primaryKey", keys.primary_key);
        let secondary = key("secondaryKey", keys.secondary_key);
        if let Some(first) = problems.first() {
            let message = match problems.len() {
                1 => first.clone(),
                count => format!("{first} (and {} more)", count - 1),
            };
            return Err(ApiError::invalid(message)
                .hint("nothing of it was done; correct it and send it again")
                .details(problems));
        }
        Ok(IdentityChange {
            is_enabled,
            status_reason: self.status_reason,
            managed_by: self.managed_by,
            primary,
            secondary,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn change(body: Value) -> Result<IdentityChange, ApiError> {
        serde_json::from_value::<IdentityBody>(body).unwrap().into_change(false)
    }

    #[test]
    fn what_the_sdks_send_is_understood() {
        let key = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3I=";
        let read = change(json!({
            "deviceId": "press-1", "status": "disabled", "statusReason": "moved", "etag": "AAAA", "generationId": "1",
            "authentication": {"type": "sas", "symmetricKey": {"primaryKey": key, "secondaryKey": null}},
            "capabilities": {"iotEdge": false}, "cloudToDeviceMessageCount": 0, "parentScopes": []
        }))
        .unwrap();

        assert_eq!((read.is_enabled, read.status_reason.as_deref()), (Some(false), Some("moved")));
        assert_eq!(read.primary.unwrap().to_base64().as_str(), key);
        assert!(read.secondary.is_none());
        assert!(
            change(json!({"authentication": null, "capabilities": null, "status": null})).unwrap().is_enabled.is_none()
        );
    }

    #[test]
    fn parts_are_objects_and_not_lists_of_members() {
        for body in [
            json!({"authentication": ["sas"]}),
            json!({"authentication": {"symmetricKey": []}}),
            json!({"capabilities": 7}),
        ] {
            assert!(serde_json::from_value::<IdentityBody>(body.clone()).is_err(), "{body}");
        }
    }

    #[test]
    fn every_problem_is_told_at_once_and_no_key_with_it() {
        let refused = change(json!({
            "status": "on", "statusReason": "x".repeat(129), "capabilities": {"iotEdge": true},
            "parentScopes": ["ms-azure-iot-edge://other-1"],
            "authentication": {
                "type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": "AB"},
                "symmetricKey": {"primaryKey": "not base64!", "secondaryKey": "c2hvcnQ="}
            }
        }));

        let told = format!("{:?}", refused.unwrap_err());
        for place in [
            "status: 'on'",
            "statusReason: it has 129",
            "capabilities.iotEdge",
            "parentScopes: devices here",
            "authentication.type: 'selfSigned'",
            "authentication.x509Thumbprint",
            "symmetricKey.primaryKey: the key is not base64",
            "symmetricKey.secondaryKey: the key has 5",
        ] {
            assert!(told.contains(place), "{place}: {told}");
        }
        assert!(!told.contains("not base64!") && !told.contains("c2hvcnQ"), "{told}");
    }
}
