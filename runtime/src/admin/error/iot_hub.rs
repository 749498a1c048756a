//! What IoT Hub's clients read of an error, on the paths that IoT Hub has: added to what every error carries.
//!
//! ```text
//! HTTP/1.1 404 DeviceNotFound: there is no device 'press-9'
//! iothub-errorcode: DeviceNotFound
//!
//! {"error": {…}, "Message": "{\"errorCode\":404001,\"trackingId\":…,\"message\":…,\"timestampUtc\":…}", "ExceptionMessage": ""}
//! ```
//! `Message` is JSON within a string, and the phrase is all that the Python SDK shows to a person: both as they are at IoT Hub.

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::ext::ReasonPhrase;
use serde::Serialize;
use serde_json::json;

use super::{ApiError, ErrorBody};
use crate::clock;

/// First segments of the paths that IoT Hub has.
const PATHS: [&str; 3] = ["devices", "twins", "statistics"];
/// Longest reason phrase: a line that logs and exception texts can bear.
const MAX_PHRASE_BYTES: usize = 240;
const ERROR_CODE: &str = "iothub-errorcode";

/// The number and the name of an error, as IoT Hub has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::admin) struct HubCode(pub(in crate::admin) u32, pub(in crate::admin) &'static str);

impl HubCode {
    /// More, or fewer, results asked for than a page can hold.
    pub(in crate::admin) const INVALID_RESULT_COUNT: HubCode = HubCode(400_002, "DeviceInvalidResultCount");

    /// One device twice in a bulk.
    pub(in crate::admin) const DEFINED_TWICE: HubCode = HubCode(400_011, "DeviceDefinedMultipleTimes");
    /// More than a bulk can hold.
    pub(in crate::admin) const TOO_MANY_DEVICES: HubCode = HubCode(413_002, "TooManyDevices");
    /// What the request says is wrong in itself.
    pub(in crate::admin) const INVALID_ARGUMENT: HubCode = HubCode(400_004, "ArgumentInvalid");
    /// What cannot be done to this one.
    pub(in crate::admin) const INVALID_OPERATION: HubCode = HubCode(400_003, "InvalidOperation");
    /// There is no such device.
    pub(in crate::admin) const DEVICE_NOT_FOUND: HubCode = HubCode(404_001, "DeviceNotFound");

    /// Something else than an identity is not there.
    const NOT_FOUND: HubCode = HubCode(404_000, "GenericNotFound");
    const MODULE_NOT_FOUND: HubCode = HubCode(404_010, "ModuleNotFound");
    const NOT_ONLINE: HubCode = HubCode(404_103, "DeviceNotOnline");
    const DEVICE_EXISTS: HubCode = HubCode(409_001, "DeviceAlreadyExists");
    const MODULE_EXISTS: HubCode = HubCode(409_301, "ModuleAlreadyExistsOnDevice");

    /// The code of an error with none of its own: of its status, and of what the path names.
    fn of(status: StatusCode, code: &str, path: &str) -> HubCode {
        let names_module = path.split('/').nth(3) == Some("modules");
        match (status.as_u16(), names_module) {
            (401, _) => HubCode(401_003, "IoTHubUnauthorized"),
            (403, _) => HubCode(401_002, "IoTHubUnauthorizedAccess"),
            (404, _) if code == "notConnected" => HubCode::NOT_ONLINE,
            (404, _) if code == "methodNotFound" => HubCode::NOT_FOUND,
            (404, true) => HubCode::MODULE_NOT_FOUND,
            (404, false) => HubCode::DEVICE_NOT_FOUND,
            (405, _) => HubCode::INVALID_OPERATION,
            (409, true) => HubCode::MODULE_EXISTS,
            (409, false) => HubCode::DEVICE_EXISTS,
            (412, _) => HubCode(412_001, "PreconditionFailed"),
            (413, _) => HubCode(413_001, "MessageTooLarge"),
            (429, _) => HubCode(429_001, "ThrottlingException"),
            (503, _) => HubCode(503_001, "ServiceUnavailable"),
            (504, _) => HubCode(504_101, "GatewayTimeout"),
            (500.., _) => HubCode(500_001, "ServerError"),
            _ => HubCode::INVALID_ARGUMENT,
        }
    }
}

/// Dresses errors for IoT Hub's clients, where the path is one of IoT Hub's. All answers pass here on their way out.
pub(in crate::admin) async fn dress(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    dressed(response, &path)
}

/// The same for an answer that no route gave.
pub(in crate::admin) fn dressed(response: Response, path: &str) -> Response {
    let is_of_iot_hub = path.split('/').nth(1).is_some_and(|first| PATHS.contains(&first));
    match response.extensions().get::<ApiError>() {
        Some(error) if is_of_iot_hub => error.clone().for_iot_hub(response, path),
        _ => response,
    }
}

#[derive(Serialize)]
struct HubDocument {
    error: ErrorBody,
    #[serde(rename = "Message")]
    message: String,
    #[serde(rename = "ExceptionMessage")]
    exception_message: &'static str,
}

impl ApiError {
    /// Number and sentence of the error, as a list of errors has them that came of requests to `path`.
    pub(in crate::admin) fn told_as(&self, path: &str) -> (u32, String) {
        (self.hub_code(path).0, self.body.message.clone())
    }

    fn hub_code(&self, path: &str) -> HubCode {
        self.hub.copied().unwrap_or_else(|| HubCode::of(self.status, &self.body.code, path))
    }

    fn for_iot_hub(self, undressed: Response, path: &str) -> Response {
        let HubCode(number, name) = self.hub_code(path);
        let tracking_id = tracking_id();
        let message = json!({
            "errorCode": number,
            "trackingId": tracking_id,
            "message": self.body.message,
            "timestampUtc": clock::rfc3339(clock::wall_us()),
        });
        tracing::debug!(tracking_id, code = name, "{}", self.body.message);
        let phrase = phrase(name, &self.body.message);
        let document = HubDocument { error: self.body, message: message.to_string(), exception_message: "" };
        let mut response = (self.status, Json(document)).into_response();
        // What else it says, such as how somebody has to prove who they are.
        for (name, value) in undressed.headers() {
            if !response.headers().contains_key(name) {
                response.headers_mut().insert(name.clone(), value.clone());
            }
        }
        response.headers_mut().insert(ERROR_CODE, HeaderValue::from_static(name));
        response.extensions_mut().extend(phrase);
        response
    }
}

/// The code and the message in one line of ASCII, which is all that a phrase may be.
fn phrase(name: &str, message: &str) -> axum::http::Extensions {
    let ascii = message.chars().map(|c| match c {
        ' '..='~' => c,
        c if c.is_whitespace() => ' ',
        _ => '?',
    });
    let text: String = name.chars().chain(": ".chars()).chain(ascii).take(MAX_PHRASE_BYTES).collect();
    let mut extensions = axum::http::Extensions::new();
    if let Ok(phrase) = ReasonPhrase::try_from(text.trim_end().as_bytes()) {
        extensions.insert(phrase);
    }
    extensions
}

/// 128 bits by which an answer is found again in the log.
fn tracking_id() -> String {
    use std::hash::{BuildHasher, RandomState};
    let state = RandomState::new();
    format!("{:016X}{:016X}", state.hash_one(clock::wall_us()), state.hash_one("trackingId"))
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use serde_json::Value;

    use super::*;
    use crate::admin::error::refusal;
    use crate::handle::RefusalKind;

    fn answer(error: ApiError, path: &str) -> (Response<()>, Value) {
        let (parts, body) = dressed(error.into_response(), path).into_parts();
        let executor = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let bytes = executor.block_on(body.collect()).unwrap().to_bytes();
        (Response::from_parts(parts, ()), serde_json::from_slice(&bytes).unwrap())
    }

    fn refused(kind: RefusalKind) -> ApiError {
        refusal(kind, "there is no\n'Süd'").into()
    }

    #[test]
    fn iot_hubs_clients_find_their_code_their_phrase_and_json_within_a_string() {
        let (head, body) = answer(refused(RefusalKind::NotFound), "/devices/D");

        assert_eq!(head.status(), 404);
        assert_eq!(head.headers()["iothub-errorcode"], "DeviceNotFound");
        let phrase = head.extensions().get::<ReasonPhrase>().unwrap().as_bytes();
        assert_eq!(phrase, b"DeviceNotFound: there is no 'S?d'");
        let inner: Value = serde_json::from_str(body["Message"].as_str().unwrap()).unwrap();
        assert_eq!((&inner["errorCode"], &inner["message"]), (&json!(404_001), &json!("there is no\n'Süd'")));
        assert_eq!(inner["trackingId"].as_str().unwrap().len(), 32);
        assert!(inner["timestampUtc"].as_str().unwrap().ends_with('Z'));
        assert_eq!((&body["ExceptionMessage"], &body["error"]["code"]), (&json!(""), &json!("notFound")));
    }

    #[test]
    fn every_error_has_the_code_of_its_status_and_of_what_the_path_names() {
        let device = "/twins/D";
        let module = "/twins/D/modules/m/methods";
        for (kind, path, number, name) in [
            (RefusalKind::Invalid, device, 400_004, "ArgumentInvalid"),
            (RefusalKind::NotFound, device, 404_001, "DeviceNotFound"),
            (RefusalKind::NotFound, module, 404_010, "ModuleNotFound"),
            (RefusalKind::NotConnected, module, 404_103, "DeviceNotOnline"),
            (RefusalKind::NoMethod, module, 404_000, "GenericNotFound"),
            (RefusalKind::Conflict, "/devices/D", 409_001, "DeviceAlreadyExists"),
            (RefusalKind::Conflict, "/devices/D/modules/m", 409_301, "ModuleAlreadyExistsOnDevice"),
            (RefusalKind::PreconditionFailed, module, 412_001, "PreconditionFailed"),
            (RefusalKind::TooLarge, device, 413_001, "MessageTooLarge"),
            (RefusalKind::Failed, device, 500_001, "ServerError"),
            (RefusalKind::Timeout, module, 504_101, "GatewayTimeout"),
        ] {
            let (head, body) = answer(refused(kind), path);
            let inner: Value = serde_json::from_str(body["Message"].as_str().unwrap()).unwrap();
            assert_eq!(
                (&inner["errorCode"], head.headers()["iothub-errorcode"].to_str().unwrap()),
                (&json!(number), name)
            );
        }
        for (status, code, number) in
            [(401, "unauthorized", 401_003), (404, "notConnected", 404_103), (429, "busy", 429_001)]
        {
            let error = ApiError::new(StatusCode::from_u16(status).unwrap(), code, "m");
            let (_, body) = answer(error, module);
            assert!(body["Message"].as_str().unwrap().contains(&number.to_string()), "{body}");
        }
        let own = ApiError::invalid("m").iot_hub(&HubCode::INVALID_RESULT_COUNT);
        assert_eq!(answer(own, "/devices").0.headers()["iothub-errorcode"], "DeviceInvalidResultCount");
    }

    #[test]
    fn elsewhere_an_error_is_ours_alone() {
        for path in ["/modules/m", "/", "/device", "/twinsandmore"] {
            let (head, body) = answer(refused(RefusalKind::NotFound), path);
            assert!(head.headers().get("iothub-errorcode").is_none(), "{path}");
            assert_eq!(body.as_object().unwrap().keys().collect::<Vec<_>>(), ["error"], "{path}");
        }
    }

    #[test]
    fn a_phrase_is_one_bounded_line() {
        let long = phrase("ServerError", &"ä\r\n".repeat(500));
        let phrase = long.get::<ReasonPhrase>().unwrap().as_bytes();
        assert!(phrase.len() <= MAX_PHRASE_BYTES && phrase.iter().all(|b| (b' '..=b'~').contains(b)));
    }
}
