//! `POST /devices`: many changes of the registry in one request, as in IoT Hub's service API.
//!
//! ```json
//! [{"id": "press-1", "importMode": "create", "status": "enabled", "authentication": null, "tags": {"hall": 2}},
//!  {"id": "press-2", "importMode": "deleteIfMatchETag", "eTag": "…"}]
//! ```
//! 200 `{"isSuccessful": true, "errors": [], "warnings": []}`; 400 with the errors of those that could not be done, while the others
//! are done. New identities come in one commit. `importMode` is `createOrUpdate` unless told.

use std::collections::HashSet;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::body::IdentityBody;
use crate::admin::error::iot_hub::HubCode;
use crate::admin::error::{ApiError, ErrorBody};
use crate::admin::request::{self, By};
use crate::handle::{Handle, IdentityChange, NewIdentity, TwinChange, TwinWish};
use crate::name::Identity;

/// Changes in one request. Source: IoT Hub's registry.
const MAX_ITEMS: usize = 100;
const MODES: [&str; 8] = [
    "createOrUpdate",
    "create",
    "update",
    "updateIfMatchETag",
    "delete",
    "deleteIfMatchETag",
    "updateTwin",
    "updateTwinIfMatchETag",
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    id: String,
    #[serde(default)]
    import_mode: Option<String>,
    #[serde(default, alias = "etag")]
    e_tag: Option<String>,
    #[serde(default, rename = "twinETag")]
    twin_etag: Option<String>,
    #[serde(default)]
    tags: Option<Value>,
    #[serde(default)]
    properties: Option<Value>,
    #[serde(flatten)]
    identity: IdentityBody,
}

/// What became of a request for many changes.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::admin) struct BulkResult {
    /// All of them were done.
    is_successful: bool,
    /// Those that were not.
    errors: Vec<BulkError>,
    /// Always empty here.
    warnings: Vec<Value>,
    /// The same for people, where there are errors.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorBody>,
}

/// Why one of the changes was not done.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct BulkError {
    /// Device.
    device_id: String,
    /// Module; null for a device.
    module_id: Option<String>,
    /// IoT Hub's number, such as 409001.
    error_code: u32,
    /// What is wrong.
    error_status: String,
    /// What was to be done.
    operation: String,
}

/// Makes, changes and removes up to 100 identities.
#[utoipa::path(
    post, path = "/devices", tag = "identities",
    request_body = Vec<Object>, responses((status = 200, body = BulkResult))
)]
pub(in crate::admin) async fn change(
    State(handle): State<Handle>,
    by: By,
    body: Body,
) -> Result<(StatusCode, Json<BulkResult>), ApiError> {
    let items: Vec<Item> = request::json_unquoted(body).await?;
    if items.is_empty() || items.len() > MAX_ITEMS {
        return Err(ApiError::new(
            if items.is_empty() { StatusCode::BAD_REQUEST } else { StatusCode::PAYLOAD_TOO_LARGE },
            if items.is_empty() { "invalid" } else { "tooLarge" },
            format!("the request changes {} identities; it can change 1 to {MAX_ITEMS}", items.len()),
        )
        .hint("send them in several requests")
        .iot_hub(if items.is_empty() { &HubCode::INVALID_ARGUMENT } else { &HubCode::TOO_MANY_DEVICES }));
    }
    let mut seen = HashSet::new();
    for item in &items {
        if !seen.insert((item.id.clone(), item.identity.module_id.clone())) {
            return Err(ApiError::invalid(format!("{} stands in the request more than once", item.id))
                .hint("send its changes one after the other")
                .iot_hub(&HubCode::DEFINED_TWICE));
        }
    }
    let asked = items.len();
    let errors = Bulk { handle, by: by.0, errors: Vec::new() }.run(items).await?;
    let is_successful = errors.is_empty();
    let status = if is_successful { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    let error = (!is_successful).then(|| ErrorBody {
        code: "invalid".to_owned(),
        message: format!("{} of {asked} changes were not made", errors.len()),
        hint: Some("the others are made; correct these and send them again".to_owned()),
        details: errors.iter().map(|error| format!("{}: {}", error.operation, error.error_status)).collect(),
    });
    Ok((status, Json(BulkResult { is_successful, errors, warnings: Vec::new(), error })))
}

/// One of the changes, understood.
struct Change {
    identity: Identity,
    mode: &'static str,
    change: IdentityChange,
    etag: Option<String>,
    twin_etag: Option<String>,
    twin: Option<Value>,
}

struct Bulk {
    handle: Handle,
    by: String,
    errors: Vec<BulkError>,
}

impl Bulk {
    async fn run(mut self, items: Vec<Item>) -> Result<Vec<BulkError>, ApiError> {
        let mut changes = Vec::with_capacity(items.len());
        for item in items {
            let (device_id, module_id) = (item.id.clone(), item.identity.module_id.clone());
            let operation = item.import_mode.clone().unwrap_or_else(|| MODES[0].to_owned());
            match self.understand(item) {
                Ok(change) => changes.push(change),
                Err(error) => self.note(device_id, module_id, operation, &error),
            }
        }
        let (new, others) = changes.into_iter().partition(|change| change.mode == "create");
        let new = self.add(new).await?;
        for change in &others {
            if let Err(error) = self.act(change).await {
                self.refused(change, &error);
            }
        }
        for change in &new {
            if let Err(error) = self.change_twin(change, None).await {
                self.refused(change, &error);
            }
        }
        Ok(self.errors)
    }

    fn understand(&self, item: Item) -> Result<Change, ApiError> {
        let identity = match &item.identity.module_id {
            Some(module) => Identity::module(&item.id, module)?,
            None => Identity::device(&item.id)?,
        };
        let asked = item.import_mode.as_deref().unwrap_or(MODES[0]);
        let Some(mode) = MODES.iter().find(|mode| mode.eq_ignore_ascii_case(asked)) else {
            return Err(ApiError::invalid(format!("importMode: '{asked}' is none of {}", MODES.join(", "))));
        };
        let mode = match *mode {
            "createOrUpdate" if self.handle.identity(&identity, false).is_ok() => "update",
            "createOrUpdate" => "create",
            mode => mode,
        };
        let needed = |tag: &Option<String>, member: &str| match tag {
            Some(tag) if !tag.is_empty() => Ok(Some(tag.trim_matches('"').to_owned())),
            _ => Err(ApiError::invalid(format!("{member} is missing, which {mode} needs"))),
        };
        let etag = if ["updateIfMatchETag", "deleteIfMatchETag"].contains(&mode) {
            needed(&item.e_tag, "eTag")?
        } else {
            None
        };
        let twin_etag = if mode == "updateTwinIfMatchETag" { needed(&item.twin_etag, "twinETag")? } else { None };
        let is_own = identity.module_id().is_none() && identity.device_id() == self.handle.device_id();
        let change = item.identity.into_change(is_own)?;
        // Reported properties belong to the device; what the SDKs send of them is read over.
        let desired =
            item.properties.as_ref().and_then(|properties| properties.get("desired")).filter(|d| !d.is_null());
        let tags = item.tags.as_ref().filter(|tags| !tags.is_null());
        let twin = match (tags, desired) {
            (None, None) => None,
            (tags, desired) => {
                let mut twin = json!({});
                if let Some(tags) = tags {
                    twin["tags"] = tags.clone();
                }
                if let Some(desired) = desired {
                    twin["properties"] = json!({"desired": desired});
                }
                Some(twin)
            }
        };
        Ok(Change { identity, mode, change, etag, twin_etag, twin })
    }

    /// Adds what is new in one commit, but for what cannot be added; gives those that were.
    async fn add(&mut self, mut new: Vec<Change>) -> Result<Vec<Change>, ApiError> {
        while !new.is_empty() {
            let wanted =
                new.iter().map(|one| NewIdentity { identity: one.identity.clone(), change: one.change.clone() });
            match self.handle.identities_add(wanted.collect(), &self.by).await? {
                Ok(()) => break,
                // None was added.
                Err((at, refusal)) => {
                    let refused = new.remove(at.min(new.len() - 1));
                    self.refused(&refused, &refusal.into());
                }
            }
        }
        Ok(new)
    }

    async fn act(&self, change: &Change) -> Result<(), ApiError> {
        let id = &change.identity;
        match change.mode {
            "delete" | "deleteIfMatchETag" => {
                Ok(self.handle.identity_remove(id, change.etag.clone(), &self.by).await?)
            }
            "updateTwin" | "updateTwinIfMatchETag" => self.change_twin(change, change.twin_etag.clone()).await,
            _ => {
                self.handle.identity_update(id, change.change.clone(), change.etag.clone(), &self.by).await?;
                self.change_twin(change, None).await
            }
        }
    }

    async fn change_twin(&self, change: &Change, etag: Option<String>) -> Result<(), ApiError> {
        if let Some(twin) = &change.twin {
            let wish = TwinWish::ReplaceGiven(twin.clone());
            let wanted = TwinChange { wish, if_match: etag, is_forced: false, by: self.by.clone() };
            self.handle.change_twin(&change.identity, wanted).await?;
        }
        Ok(())
    }

    fn refused(&mut self, change: &Change, error: &ApiError) {
        let module = change.identity.module_id().map(str::to_owned);
        self.note(change.identity.device_id().to_owned(), module, change.mode.to_owned(), error);
    }

    fn note(&mut self, device_id: String, module_id: Option<String>, operation: String, error: &ApiError) {
        let path = if module_id.is_some() { "/devices/d/modules/m" } else { "/devices/d" };
        let (error_code, error_status) = error.told_as(path);
        self.errors.push(BulkError { device_id, module_id, error_code, error_status, operation });
    }
}
