//! `GET /identities`: all of them in one list, devices and modules, without keys.

use axum::Json;
use axum::extract::State;

use crate::clock;
use crate::handle::Handle;
use crate::view::IdentityView;

/// All identities, devices and modules, without keys.
#[utoipa::path(
    get, path = "/identities", tag = "identities", responses((status = 200, body = Vec<IdentityView>))
)]
pub(in crate::admin) async fn all(State(handle): State<Handle>) -> Json<Vec<IdentityView>> {
    let all = handle.all_identities().into_iter();
    let view =
        |(record, presence): (std::sync::Arc<crate::handle::IdentityRecord>, crate::handle::Presence)| IdentityView {
            identity: record.identity.to_string(),
            device_id: record.identity.device_id().to_owned(),
            module_id: record.identity.module_id().map(str::to_owned),
            generation_id: record.generation_id.to_string(),
            status: if record.is_enabled { "enabled" } else { "disabled" }.to_owned(),
            status_reason: record.status_reason.as_deref().map(str::to_owned),
            connection_state: if presence.is_connected { "Connected" } else { "Disconnected" }.to_owned(),
            last_activity_time: presence.activity_us.map(clock::rfc3339),
            managed_by: record.managed_by.to_string(),
        };
    Json(all.map(view).collect())
}
