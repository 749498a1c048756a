//! `GET /statistics/devices` and `GET /statistics/service`: counts, as in IoT Hub's service API.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use crate::handle::Handle;

/// How many devices there are, enabled and disabled.
#[utoipa::path(
    get, path = "/statistics/devices", tag = "identities", responses((status = 200, body = Object))
)]
pub(in crate::admin) async fn devices(State(handle): State<Handle>) -> Json<Value> {
    let all = handle.all_identities();
    let devices = || all.iter().filter(|(record, _)| record.identity.module_id().is_none());
    let enabled = devices().filter(|(record, _)| record.is_enabled).count();
    let total = devices().count();
    Json(json!({
        "totalDeviceCount": total,
        "enabledDeviceCount": enabled,
        "disabledDeviceCount": total - enabled,
    }))
}

/// How many devices are connected.
#[utoipa::path(
    get, path = "/statistics/service", tag = "identities", responses((status = 200, body = Object))
)]
pub(in crate::admin) async fn service(State(handle): State<Handle>) -> Json<Value> {
    let all = handle.all_identities();
    let connected = all.iter().filter(|(record, now)| record.identity.module_id().is_none() && now.is_connected);
    Json(json!({"connectedDeviceCount": connected.count()}))
}
