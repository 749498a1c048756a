//! `POST /twins/{device}[/modules/{module}]/methods`: calls a direct method, as in IoT Hub's service API.
//!
//! ```json
//! {"methodName": "export", "payload": {"format": "csv"}, "responseTimeoutInSeconds": 30, "connectTimeoutInSeconds": 0}
//! → {"status": 200, "payload": {"rows": 4}}
//! ```
//! The answer is 200 whenever the module answered, whatever `status` it gave. 400: all that is wrong with the request; 404: no such
//! identity or method, or nobody who could answer even after `connectTimeoutInSeconds`; 413: a payload over 131072 bytes; 429: too
//! many calls are under way; 504: no answer within `responseTimeoutInSeconds`. A payload that is missing reaches the method as an
//! empty text, `null` and `""` as what they are. `$edgeAgent` answers itself, see [`crate::method::builtin`].

use std::ops::RangeInclusive;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::access;
use super::caller::Caller;
use super::error::iot_hub::HubCode;
use super::error::{ApiError, refusal};
use super::request::{self, By};
use crate::handle::{Handle, MethodCall, Refusal, RefusalKind};
use crate::method::{MAX_PAYLOAD_BYTES, name_problem, size_problem};
use crate::name::Identity;

/// Seconds for an answer, and what they are where a call says nothing. Source: IoT Hub.
pub const RESPONSE_SECS: RangeInclusive<u64> = 5..=300;
const DEFAULT_RESPONSE_SECS: u64 = 30;
/// Seconds for an instance to be there.
pub const CONNECT_SECS: RangeInclusive<u64> = 0..=300;

/// The answer of a direct method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MethodView {
    /// 200 to 299 says that it worked.
    pub status: i32,
    /// What it answered; null where that is nothing.
    pub payload: Value,
}

/// How a call is written, for those who read the API's description; [`read`] reads it, and tells all that is wrong at once.
#[derive(utoipa::ToSchema)]
#[schema(rename_all = "camelCase")]
#[allow(dead_code)]
struct MethodDocument {
    /// The method.
    #[schema(max_length = 100)]
    method_name: String,
    /// Any JSON, 131072 bytes at most.
    payload: Option<Value>,
    /// Time for the answer.
    #[schema(minimum = 5, maximum = 300, default = 30)]
    response_timeout_in_seconds: Option<u64>,
    /// Time for an instance to be there.
    #[schema(minimum = 0, maximum = 300, default = 0)]
    connect_timeout_in_seconds: Option<u64>,
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
    by: By,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Result<Json<MethodView>, ApiError> {
    call(&handle, &Identity::module(&device, &module)?, &by, &caller, body).await
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
    by: By,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Result<Json<MethodView>, ApiError> {
    call(&handle, &Identity::device(&device)?, &by, &caller, body).await
}

async fn call(
    handle: &Handle,
    id: &Identity,
    by: &By,
    caller: &Caller,
    body: Body,
) -> Result<Json<MethodView>, ApiError> {
    let call = read(request::json(body).await?)?;
    if let Some(refused) = access::refuse_method(caller, id, &call.name) {
        return Err(refused);
    }
    let answer = handle.call_method(id, call, &by.0).await.map_err(|refusal| told(handle, id, refusal))?;
    let payload = match answer.payload.as_str() {
        "" => Value::Null,
        // Checked when it was given.
        text => serde_json::from_str(text)
            .map_err(|error| ApiError::from(refusal(RefusalKind::Failed, error.to_string())))?,
    };
    Ok(Json(MethodView { status: answer.status, payload }))
}

/// Which of both is not there, the module or its device, the path does not tell.
pub(super) fn told(handle: &Handle, id: &Identity, refusal: Refusal) -> ApiError {
    let is_without_device = || handle.identity(&id.of_device(), false).is_err();
    match refusal.kind {
        RefusalKind::NotFound if is_without_device() => ApiError::from(refusal).iot_hub(&HubCode::DEVICE_NOT_FOUND),
        _ => refusal.into(),
    }
}

/// Reads a call; all that is wrong with it is found at once.
fn read(document: Value) -> Result<MethodCall, ApiError> {
    let Value::Object(mut members) = document else {
        return Err(ApiError::invalid("the body of the request is not an object").hint(SHAPE));
    };
    let mut problems = Vec::new();
    let name = match members.remove("methodName") {
        Some(Value::String(name)) => {
            problems.extend(name_problem(&name));
            name
        }
        found => {
            problems.push(match found {
                None | Some(Value::Null) => "methodName: is missing".to_owned(),
                Some(other) => format!("methodName: {other} is not a string"),
            });
            String::new()
        }
    };
    let payload = members.remove("payload").map(|payload| payload.to_string()).unwrap_or_default();
    let mut secs = |name: &str, default: u64, within: RangeInclusive<u64>| {
        let (least, most) = (within.start(), within.end());
        let secs = match members.remove(name) {
            None | Some(Value::Null) => Some(default),
            Some(Value::Number(secs)) => secs.as_u64().filter(|secs| within.contains(secs)).or_else(|| {
                problems.push(format!("{name}: {secs} is not within {least} to {most}, in whole seconds"));
                None
            }),
            Some(other) => {
                problems.push(format!("{name}: {other} is not a number of seconds"));
                None
            }
        };
        Duration::from_secs(secs.unwrap_or(default))
    };
    let response_timeout = secs("responseTimeoutInSeconds", DEFAULT_RESPONSE_SECS, RESPONSE_SECS);
    let connect_timeout = secs("connectTimeoutInSeconds", 0, CONNECT_SECS);
    let is_valid = problems.is_empty();
    problems.extend(size_problem(payload.len()));
    match problems.first() {
        None => Ok(MethodCall { name, payload, response_timeout, connect_timeout }),
        Some(first) if is_valid => {
            let hint = format!("a method takes {MAX_PAYLOAD_BYTES} bytes: send it as messages, or in parts");
            Err(ApiError::from(refusal(RefusalKind::TooLarge, first)).hint(hint))
        }
        Some(first) => Err(ApiError::invalid(first).hint(SHAPE).details(problems)),
    }
}

/// How a call is written.
const SHAPE: &str = "{\"methodName\": NAME, \"payload\": JSON, \"responseTimeoutInSeconds\": 5 to 300, \"connectTimeoutInSeconds\": 0 to 300}";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_call_is_read_as_iot_hub_writes_it() {
        let call = read(json!({
            "methodName": "m", "payload": {"a": 1}, "responseTimeoutInSeconds": 7, "connectTimeoutInSeconds": 3, "other": 1
        }));
        let call = call.unwrap();
        assert_eq!((&*call.name, &*call.payload), ("m", r#"{"a":1}"#));
        assert_eq!((call.response_timeout.as_secs(), call.connect_timeout.as_secs()), (7, 3));
        let bare = read(json!({"methodName": "m"})).unwrap();
        assert_eq!((&*bare.payload, bare.response_timeout.as_secs(), bare.connect_timeout.as_secs()), ("", 30, 0));
    }

    #[test]
    fn a_missing_payload_null_and_an_empty_string_are_told_apart() {
        for (payload, text) in [(json!(null), "null"), (json!(""), "\"\""), (json!([]), "[]"), (json!(0), "0")] {
            assert_eq!(read(json!({"methodName": "m", "payload": payload})).unwrap().payload, text);
        }
        assert_eq!(read(json!({"methodName": "m"})).unwrap().payload, "");
    }

    #[test]
    fn times_are_within_the_limits_of_iot_hub() {
        for (member, secs, is_ok) in [
            ("responseTimeoutInSeconds", json!(4), false),
            ("responseTimeoutInSeconds", json!(5), true),
            ("responseTimeoutInSeconds", json!(300), true),
            ("responseTimeoutInSeconds", json!(301), false),
            ("responseTimeoutInSeconds", json!(null), true),
            ("responseTimeoutInSeconds", json!(7.5), false),
            ("responseTimeoutInSeconds", json!("30"), false),
            ("connectTimeoutInSeconds", json!(0), true),
            ("connectTimeoutInSeconds", json!(-1), false),
            ("connectTimeoutInSeconds", json!(301), false),
        ] {
            assert_eq!(read(json!({"methodName": "m", member: secs})).is_ok(), is_ok, "{member} {secs}");
        }
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let Err(error) = read(json!({
            "methodName": 7, "payload": "x".repeat(MAX_PAYLOAD_BYTES), "responseTimeoutInSeconds": 1, "connectTimeoutInSeconds": "soon"
        })) else {
            panic!("it is refused")
        };
        let text = format!("{error:?}");
        for problem in ["7 is not a string", "1 is not within 5 to 300", "\\\"soon\\\" is not a number", "131074 bytes"]
        {
            assert!(text.contains(problem), "{problem}: {text}");
        }
        assert!(read(json!("m")).is_err());
        assert!(read(json!(null)).is_err());
    }
}
