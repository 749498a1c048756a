//! What clients are shown of identities, other than IoT Hub's documents of them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An identity in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdentityView {
    /// `/devices/{device}[/modules/{module}]`.
    pub identity: String,
    /// Device.
    pub device_id: String,
    /// Module; null for a device.
    pub module_id: Option<String>,
    /// Another one after it was removed and made again.
    pub generation_id: String,
    /// `enabled` or `disabled`.
    pub status: String,
    /// Why it has this status.
    pub status_reason: Option<String>,
    /// `Connected` or `Disconnected`.
    pub connection_state: String,
    /// The last sign of it; null: none ever.
    pub last_activity_time: Option<String>,
    /// Who made it: `dinrail` for an instance of this device, or empty.
    pub managed_by: String,
}

impl IdentityView {
    /// Whether it may act.
    pub fn is_enabled(&self) -> bool {
        self.status == "enabled"
    }

    /// Whether it is there now.
    pub fn is_connected(&self) -> bool {
        self.connection_state == "Connected"
    }
}

/// A token that proves to be an identity.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenView {
    /// `SharedAccessSignature sr=…`.
    pub token: String,
    /// Until when it holds.
    pub expires_at_utc: String,
}

/// What a program connects with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionStringView {
    /// `HostName=…;…;SharedAccessKey=…`.
    pub connection_string: String,
}
