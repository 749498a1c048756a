//! What routes read from a request: bodies within their bounds, the query, `If-Match`.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::error::Category;

use super::bounds::TooSlow;
use super::caller::Caller;
use super::error::{ApiError, refusal};
use crate::handle::{RefusalKind, Role, read_document};
use crate::name::Identity;

/// Largest body of a request, but for the upload of an image.
pub const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;
/// Longest time that a client may ask the server to wait; it can ask again.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// The identity in a path: `{device}` alone or with `{module}`.
pub(super) struct Target(pub(super) Identity);

impl<S: Send + Sync> FromRequestParts<S> for Target {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Target, ApiError> {
        let path = axum::extract::RawPathParams::from_request_parts(parts, state).await;
        let path = path.map_err(|error| ApiError::invalid(format!("the path cannot be read: {error}")))?;
        let named = |name: &str| path.iter().find(|(known, _)| *known == name).map(|(_, value)| value);
        let device = named("device").unwrap_or_default();
        Ok(Target(match named("module") {
            Some(module) => Identity::module(device, module)?,
            None => Identity::device(device)?,
        }))
    }
}

/// Reads a JSON body. An empty one reads as `null`.
pub(super) async fn json<T: DeserializeOwned>(body: Body) -> Result<T, ApiError> {
    let bytes = read(body).await?;
    let text: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
    serde_json::from_slice(text).map_err(|error| {
        ApiError::invalid(format!("the body of the request cannot be read: {error}"))
            .hint("the body is a JSON document")
    })
}

/// [`json`] for a body that holds keys or secrets: an error says where it is wrong, never what stands there.
pub(super) async fn json_unquoted<T: DeserializeOwned>(body: Body) -> Result<T, ApiError> {
    let bytes = read(body).await?;
    let text: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
    serde_json::from_slice(text).map_err(|error| unquoted(&error))
}

/// [`object_or_nothing`] for a body that holds keys or secrets.
pub(super) async fn object_unquoted<T: DeserializeOwned>(body: Body) -> Result<Option<T>, ApiError> {
    let Some(bytes) = braced(body).await? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| unquoted(&error))
}

fn unquoted(error: &serde_json::Error) -> ApiError {
    let what = match error.classify() {
        Category::Data => "something of another type stands there",
        Category::Syntax | Category::Eof | Category::Io => "it is not JSON",
    };
    let (line, column) = (error.line(), error.column());
    ApiError::invalid(format!("the body of the request cannot be read at line {line} column {column}: {what}"))
        .hint("the body is a JSON document; what stands in it is not repeated, as it may be a secret")
}

/// Reads a JSON object.
pub(super) async fn object<T: DeserializeOwned>(body: Body) -> Result<T, ApiError> {
    object_or_nothing(body).await?.ok_or_else(|| no_object("it is empty"))
}

/// Reads a JSON object; `None` where there is no body at all.
pub(super) async fn object_or_nothing<T: DeserializeOwned>(body: Body) -> Result<Option<T>, ApiError> {
    let Some(bytes) = braced(body).await? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        let why = without_type_names(&error.to_string());
        ApiError::invalid(format!("the body of the request cannot be read: {why}"))
            .hint("the body is a JSON object, such as the API's description at /openapi.json shows it")
    })
}

/// A body that may be an object: a reader takes an array for the members in their order. `None` where there is no body.
async fn braced(body: Body) -> Result<Option<Bytes>, ApiError> {
    let bytes = read(body).await?;
    match bytes.trim_ascii_start().first() {
        _ if bytes.is_empty() => Ok(None),
        Some(b'{') => Ok(Some(bytes)),
        _ => Err(no_object("it begins with something else")),
    }
}

fn no_object(why: &str) -> ApiError {
    ApiError::invalid(format!("the body of the request cannot be read as a JSON object: {why}"))
        .hint("such as {\"member\": 1}; /openapi.json shows what there can be in it")
}

/// What a reader says, without the names that types have in the program.
fn without_type_names(text: &str) -> String {
    let Some((before, after)) = text.split_once("expected struct ") else { return text.to_owned() };
    let rest = after.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
    format!("{before}expected an object{rest}")
}

async fn read(body: Body) -> Result<Bytes, ApiError> {
    match Limited::new(body, MAX_BODY_BYTES).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::from(refusal(
            RefusalKind::TooLarge,
            format!("the body of the request is larger than {MAX_BODY_BYTES} bytes"),
        ))),
        Err(error) => Err(broken_off(&*error)),
    }
}

/// Why a body did not come whole.
pub(super) fn broken_off(error: &(dyn std::error::Error + 'static)) -> ApiError {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    match causes.find_map(|cause| cause.downcast_ref::<TooSlow>()) {
        Some(slow) => ApiError::new(StatusCode::REQUEST_TIMEOUT, "requestTimeout", slow.to_string())
            .hint("send it again, on a better line"),
        None => ApiError::invalid(format!("the body of the request broke off: {error}")),
    }
}

/// The query of a request. Parameters that a route does not know, such as `api-version`, are ignored.
pub(super) struct Params(BTreeMap<String, String>);

impl Params {
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// True if it is given, and not as `false`.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.text(name).is_some_and(|text| text != "false")
    }

    /// `true` (or nothing behind the name) and `false`, which it is unless told.
    pub(super) fn truth(&self, name: &str) -> Result<bool, ApiError> {
        match self.text(name) {
            None | Some("false") => Ok(false),
            Some("true" | "") => Ok(true),
            Some(other) => Err(ApiError::invalid(format!("{name}={other} is neither true nor false"))),
        }
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, ApiError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let number = text.parse().map_err(|_| ApiError::invalid(format!("{name}={text} is not a number")))?;
        Ok(Some(number))
    }

    /// `timeoutMs`: 30 s unless told, an hour at most.
    pub(super) fn timeout(&self) -> Result<Duration, ApiError> {
        let asked = self.number("timeoutMs")?.map_or(Duration::from_secs(30), Duration::from_millis);
        Ok(asked.min(MAX_WAIT))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Params, ApiError> {
        let Query(pairs) = Query::try_from_uri(&parts.uri)
            .map_err(|error| ApiError::invalid(format!("the query cannot be read: {error}")))?;
        Ok(Params(pairs))
    }
}

/// Name of who asks, to be kept with what is done.
pub(super) struct By(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for By {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<By, ApiError> {
        match parts.extensions.get::<Caller>() {
            Some(caller) => Ok(By(caller.name())),
            None => Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", "the caller is not known")),
        }
    }
}

/// Whether the caller may see keys: owners may.
pub(super) struct MayHaveKeys(pub(super) bool);

impl<S: Send + Sync> FromRequestParts<S> for MayHaveKeys {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<MayHaveKeys, ApiError> {
        let caller = parts.extensions.get::<Caller>();
        Ok(MayHaveKeys(caller.is_some_and(|caller| caller.role() == Some(Role::Owner))))
    }
}

/// The header `If-Match` as it is written; the lines of a list joined.
pub(super) fn if_match(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut tags = Vec::new();
    for value in headers.get_all(header::IF_MATCH) {
        let tag = value.to_str().map_err(|_| ApiError::invalid("If-Match is not text"))?.trim();
        if tag.is_empty() {
            let hint = "send an etag, quoted, or \"*\"; or leave the header out";
            return Err(ApiError::invalid("If-Match is empty").hint(hint));
        }
        tags.push(tag);
    }
    Ok(Some(tags.join(", ")).filter(|text| !text.is_empty()))
}

/// Reads a JSON body that becomes part of a twin: what JSON leaves open, such as a member that is there twice, is refused.
pub(super) async fn document(body: Body) -> Result<Value, ApiError> {
    let bytes = read(body).await?;
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    read_document(&bytes).map_err(|why| {
        ApiError::invalid(format!("the body of the request cannot be read: {why}")).hint("the body is a JSON document")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_if_match_are_one_list() {
        let mut headers = HeaderMap::new();
        assert_eq!(if_match(&headers).unwrap(), None);
        headers.append(header::IF_MATCH, "\"AAE=\"".parse().unwrap());
        headers.append(header::IF_MATCH, "W/\"AAI=\"".parse().unwrap());
        assert_eq!(if_match(&headers).unwrap().as_deref(), Some("\"AAE=\", W/\"AAI=\""));
        headers.append(header::IF_MATCH, " ".parse().unwrap());
        assert!(if_match(&headers).is_err(), "an empty line names no state");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn errors_about_bodies_with_secrets_say_the_place_and_nothing_of_the_body() {
        for (body, place) in [
            (r#""hunter2""#, "line 1 column 9: something of another type"),
            ("{\n\"hunter2\"}", "line 2 column 10: it is not JSON"),
            ("hunter2", "line 1 column 1: it is not JSON"),
        ] {
            let refused = json_unquoted::<serde_json::Map<_, _>>(Body::from(body)).await;
            let told = format!("{:?}", refused.map(drop).unwrap_err());
            assert!(told.contains(place) && !told.contains("hunter2"), "{told}");
        }
    }

    #[test]
    fn only_objects_are_read_as_objects_and_no_type_is_named() {
        #[derive(Debug, serde::Deserialize)]
        #[allow(dead_code)]
        struct Outer {
            query: Option<Inner>,
        }
        #[derive(Debug, serde::Deserialize)]
        #[allow(dead_code)]
        struct Inner {
            text: String,
        }
        let executor = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let read = |text: &'static str| executor.block_on(object::<Outer>(Body::from(text)));
        for text in ["", "[]", "null", "7", "[{\"text\": \"a\"}]", "\"a\"", "{", " [null]"] {
            assert!(read(text).is_err(), "{text}");
        }
        let told = format!("{:?}", read(r#"{"query": 7}"#).unwrap_err());
        assert!(told.contains("expected an object at line 1") && !told.contains("Inner"), "{told}");
        assert!(read(" {\"query\": {\"text\": \"a\"}}").is_ok());
    }

    #[test]
    fn waits_are_bounded() {
        let params = |text: &str| Params(BTreeMap::from([("timeoutMs".to_owned(), text.to_owned())]));
        assert_eq!(params("1500").timeout().unwrap(), Duration::from_millis(1500));
        assert_eq!(params("99999999999").timeout().unwrap(), MAX_WAIT);
        assert!(params("soon").timeout().is_err());
        assert_eq!(Params(BTreeMap::new()).timeout().unwrap(), Duration::from_secs(30));
    }
}
