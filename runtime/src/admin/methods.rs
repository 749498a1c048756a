//! `POST /twins/{device}[/modules/{module}]/methods`: calls a direct method, as in IoT Hub's service API.
//!
//! ```json
//! {"methodName": "export", "payload": {"format": "csv"}, "responseTimeoutInSeconds": 30, "connectTimeoutInSeconds": 0}
//! → {"status": 200, "payload": {"rows": 4}}
//! ```
//! The answer is 200 whenever the module answered, whatever `status` it gave. 404: no such module or method, or nobody who could
//! answer even after `connectTimeoutInSeconds`; 504: no answer within `responseTimeoutInSeconds`.

use std::ops::RangeInclusive;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::error::{ApiError, refusal};
use super::request;
use crate::handle::{Handle, MethodCall, RefusalKind};
use crate::name::Identity;

/// What IoT Hub takes.
const RESPONSE_SECS: RangeInclusive<u64> = 5..=300;
const CONNECT_SECS: RangeInclusive<u64> = 0..=300;

/// The answer of a direct method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MethodView {
    /// 200 to 299 says that it worked.
    pub status: i32,
    /// What it answered; null where that is nothing.
    pub payload: Value,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct MethodDocument {
    method_name: String,
    #[serde(default, deserialize_with = "present")]
    payload: Option<Value>,
    #[serde(default = "thirty")]
    response_timeout_in_seconds: u64,
    #[serde(default)]
    connect_timeout_in_seconds: u64,
}

fn thirty() -> u64 {
    30
}

/// Tells `"payload": null` from no payload.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// Calls a direct method of a module.
#[utoipa::path(
    post, path = "/twins/{device}/modules/{module}/methods", tag = "methods",
    request_body = MethodDocument,
    responses((status = 200, body = MethodView))
)]
pub(super) async fn module(
    State(handle): State<Handle>,
    Path((device, module)): Path<(String, String)>,
    body: Body,
) -> Result<Json<MethodView>, ApiError> {
    call(&handle, &Identity::module(&device, &module)?, body).await
}

/// Calls a direct method of the device.
#[utoipa::path(
    post, path = "/twins/{device}/methods", tag = "methods",
    request_body = MethodDocument,
    responses((status = 200, body = MethodView))
)]
pub(super) async fn device(
    State(handle): State<Handle>,
    Path(device): Path<String>,
    body: Body,
) -> Result<Json<MethodView>, ApiError> {
    call(&handle, &Identity::device(&device)?, body).await
}

async fn call(handle: &Handle, id: &Identity, body: Body) -> Result<Json<MethodView>, ApiError> {
    let document: MethodDocument = request::json(body).await?;
    let answer = handle.call_method(id, document.into_call()?).await?;
    let payload = match answer.payload.as_str() {
        "" => Value::Null,
        text => serde_json::from_str(text).map_err(|error| {
            ApiError::from(refusal(RefusalKind::Failed, format!("the answer of {id} is not JSON: {error}")))
                .hint("the module has to be repaired: an answer is JSON, or nothing")
        })?,
    };
    Ok(Json(MethodView { status: answer.status, payload }))
}

impl MethodDocument {
    fn into_call(self) -> Result<MethodCall, ApiError> {
        let mut problems = Vec::new();
        let mut span = |name: &str, secs: u64, within: RangeInclusive<u64>| {
            if !within.contains(&secs) {
                problems.push(format!("{name}: {secs} is not within {} to {}", within.start(), within.end()));
            }
            Duration::from_secs(secs)
        };
        let response_timeout = span("responseTimeoutInSeconds", self.response_timeout_in_seconds, RESPONSE_SECS);
        let connect_timeout = span("connectTimeoutInSeconds", self.connect_timeout_in_seconds, CONNECT_SECS);
        if let Some(first) = problems.first() {
            return Err(ApiError::invalid(first).hint("times are whole seconds").details(problems));
        }
        let payload = self.payload.map(|payload| payload.to_string()).unwrap_or_default();
        Ok(MethodCall { name: self.method_name, payload, response_timeout, connect_timeout })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<MethodCall, ApiError> {
        serde_json::from_str::<MethodDocument>(text).unwrap().into_call()
    }

    #[test]
    fn a_call_is_read_as_iot_hub_writes_it() {
        let call = read(
            r#"{"methodName": "m", "payload": {"a": 1}, "responseTimeoutInSeconds": 7, "connectTimeoutInSeconds": 3}"#,
        );
        let call = call.unwrap();
        assert_eq!((&*call.name, &*call.payload), ("m", r#"{"a":1}"#));
        assert_eq!((call.response_timeout.as_secs(), call.connect_timeout.as_secs()), (7, 3));
        let bare = read(r#"{"methodName": "m"}"#).unwrap();
        assert_eq!((&*bare.payload, bare.response_timeout.as_secs(), bare.connect_timeout.as_secs()), ("", 30, 0));
        assert_eq!(read(r#"{"methodName": "m", "payload": null}"#).unwrap().payload, "null");
    }

    #[test]
    fn times_are_within_the_limits_of_iot_hub() {
        for (member, secs, is_ok) in [
            ("responseTimeoutInSeconds", 4, false),
            ("responseTimeoutInSeconds", 5, true),
            ("responseTimeoutInSeconds", 300, true),
            ("responseTimeoutInSeconds", 301, false),
            ("connectTimeoutInSeconds", 0, true),
            ("connectTimeoutInSeconds", 301, false),
        ] {
            let document = format!(r#"{{"methodName": "m", "{member}": {secs}}}"#);
            assert_eq!(read(&document).is_ok(), is_ok, "{document}");
        }
    }
}
