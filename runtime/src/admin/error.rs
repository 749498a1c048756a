//! Errors of the management API: `{"error": {"code", "message", "hint", "details"}}`, and the only map from refusals to HTTP
//! statuses. On IoT Hub's paths they carry what its clients read as well (`iot_hub`).

pub(super) mod iot_hub;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::handle::{Refusal, RefusalKind};
use crate::name::NameError;
use iot_hub::HubCode;

/// What stands under `error` in the body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// For programs; one word per [`RefusalKind`].
    pub code: String,
    /// What is wrong, naming the thing.
    pub message: String,
    /// What to do next.
    #[serde(default)]
    pub hint: Option<String>,
    /// Every single problem, where there are several.
    #[serde(default)]
    pub details: Vec<String>,
}

/// The document around an [`ErrorBody`].
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ErrorDocument {
    /// See [`ErrorBody`].
    pub error: ErrorBody,
}

/// An answer that is not a success.
#[derive(Debug, Clone)]
pub struct ApiError {
    status: StatusCode,
    body: ErrorBody,
    /// IoT Hub's code, where status and path do not tell it.
    hub: Option<&'static HubCode>,
}

impl ApiError {
    /// An error that no refusal stands for, such as an unknown path.
    pub fn new(status: StatusCode, code: &str, message: impl Into<String>) -> ApiError {
        let body = ErrorBody { code: code.into(), message: message.into(), hint: None, details: Vec::new() };
        ApiError { status, body, hub: None }
    }

    /// A request that is wrong in itself.
    pub fn invalid(message: impl Into<String>) -> ApiError {
        refusal(RefusalKind::Invalid, message).into()
    }

    /// The same error with the next step.
    pub fn hint(mut self, hint: impl Into<String>) -> ApiError {
        self.body.hint = Some(hint.into());
        self
    }

    /// The same error with a code of IoT Hub that status and path do not tell.
    pub(super) fn iot_hub(mut self, code: &'static HubCode) -> ApiError {
        self.hub = Some(code);
        self
    }

    /// The same error with its single problems.
    pub fn details(mut self, details: Vec<String>) -> ApiError {
        self.body.details = details;
        self
    }
}

/// Status and code of a kind of refusal.
fn status_of(kind: RefusalKind) -> (StatusCode, &'static str) {
    match kind {
        RefusalKind::Invalid => (StatusCode::BAD_REQUEST, "invalid"),
        RefusalKind::NotFound => (StatusCode::NOT_FOUND, "notFound"),
        RefusalKind::NotConnected => (StatusCode::NOT_FOUND, "notConnected"),
        RefusalKind::NoMethod => (StatusCode::NOT_FOUND, "methodNotFound"),
        RefusalKind::Conflict => (StatusCode::CONFLICT, "conflict"),
        RefusalKind::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, "preconditionFailed"),
        RefusalKind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "tooLarge"),
        RefusalKind::Busy => (StatusCode::TOO_MANY_REQUESTS, "busy"),
        RefusalKind::Failed => (StatusCode::INTERNAL_SERVER_ERROR, "failed"),
        RefusalKind::Timeout => (StatusCode::GATEWAY_TIMEOUT, "timeout"),
    }
}

/// A refusal without hint and details.
pub(super) fn refusal(kind: RefusalKind, message: impl Into<String>) -> Refusal {
    Refusal { kind, message: message.into(), hint: None, details: Vec::new() }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> ApiError {
        let (status, code) = status_of(refusal.kind);
        let Refusal { message, hint, details, .. } = refusal;
        ApiError { status, body: ErrorBody { code: code.into(), message, hint, details }, hub: None }
    }
}

impl From<NameError> for ApiError {
    fn from(error: NameError) -> ApiError {
        ApiError::invalid(error.to_string()).hint("an id is such as press-1; in a path %24 stands for $, and %25 for %")
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(ErrorDocument { error: self.body.clone() })).into_response();
        // For whoever knows the path.
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_refusal_has_its_status_and_code() {
        let table = [
            (RefusalKind::Invalid, 400, "invalid"),
            (RefusalKind::NotFound, 404, "notFound"),
            (RefusalKind::NotConnected, 404, "notConnected"),
            (RefusalKind::NoMethod, 404, "methodNotFound"),
            (RefusalKind::Conflict, 409, "conflict"),
            (RefusalKind::PreconditionFailed, 412, "preconditionFailed"),
            (RefusalKind::TooLarge, 413, "tooLarge"),
            (RefusalKind::Busy, 429, "busy"),
            (RefusalKind::Failed, 500, "failed"),
            (RefusalKind::Timeout, 504, "timeout"),
        ];
        for (kind, status, code) in table {
            let error = ApiError::from(Refusal { hint: Some("h".into()), ..refusal(kind, "m") });
            assert_eq!((error.status.as_u16(), error.body.code.as_str()), (status, code));
            assert_eq!((error.body.message.as_str(), error.body.hint.as_deref()), ("m", Some("h")));
            assert_eq!(error.into_response().status().as_u16(), status);
        }
    }

    #[test]
    fn bad_id_is_the_callers_error() {
        assert_eq!(ApiError::from(NameError::Empty).status, StatusCode::BAD_REQUEST);
    }
}
