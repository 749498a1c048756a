//! The Device and Module documents of IoT Hub, as they are answered.

use serde_json::{Map, Value, json};

use crate::clock;
use crate::handle::IdentityState;

/// What IoT Hub's clients take for "never".
const NEVER: &str = "0001-01-01T00:00:00Z";

/// The document of an identity. Its keys are there for owners; to others they are null.
pub(super) fn document(state: &IdentityState) -> Value {
    let record = &state.record;
    let time = |us: Option<i64>| Value::from(us.map_or_else(|| NEVER.to_owned(), clock::rfc3339));
    let (primary, secondary) = match &state.keys {
        Some((primary, secondary)) => (Value::from(primary.as_str()), Value::from(secondary.as_str())),
        None => (Value::Null, Value::Null),
    };
    let mut document = Map::new();
    let mut put = |name: &str, value: Value| {
        document.insert(name.to_owned(), value);
    };
    put("deviceId", record.identity.device_id().into());
    if let Some(module) = record.identity.module_id() {
        put("moduleId", module.into());
    }
    put("managedBy", (*record.managed_by).into());
    put("generationId", (*record.generation_id).into());
    put("etag", record.etag().into());
    put("connectionState", if state.presence.is_connected { "Connected" } else { "Disconnected" }.into());
    put("status", if record.is_enabled { "enabled" } else { "disabled" }.into());
    put("statusReason", record.status_reason.as_deref().into());
    put("connectionStateUpdatedTime", time(state.presence.changed_us));
    put("statusUpdatedTime", time(record.status_us));
    put("lastActivityTime", time(state.presence.activity_us));
    put("cloudToDeviceMessageCount", 0.into());
    put(
        "authentication",
        json!({
            "type": "sas",
            "symmetricKey": {"primaryKey": primary, "secondaryKey": secondary},
            "x509Thumbprint": {"primaryThumbprint": null, "secondaryThumbprint": null},
        }),
    );
    if record.identity.module_id().is_none() {
        put("capabilities", json!({"iotEdge": state.is_own_device}));
    }
    Value::Object(document)
}
