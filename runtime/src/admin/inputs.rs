//! `POST /modules/{name}/inputs/{input}`: puts a message on an input.
//!
//! The body of the message is given as `bodyText` (these characters), `bodyHex` (these octets) or `body` (these characters where it
//! is a text, else a JSON value, written compactly): the forms in which `GET /messages` shows messages, so that what was seen can be
//! sent again.

use std::fmt;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::error::ApiError;
use super::request;
use crate::handle::Handle;
use crate::message::{Message, SystemProperties, not_carried};
use crate::view::SendView;

/// Longest name of a property that a stored message has room for.
const MAX_NAME_BYTES: usize = u16::MAX as usize;

/// Puts a message on an input, in the device's own name.
#[utoipa::path(
    post, path = "/modules/{name}/inputs/{input}", tag = "modules",
    request_body = MessageDocument,
    responses((status = 200, body = SendView), (status = 409))
)]
pub(super) async fn send(
    State(handle): State<Handle>,
    Path((name, input)): Path<(String, String)>,
    body: Body,
) -> Result<Json<SendView>, ApiError> {
    let document: MessageDocument = request::object(body).await?;
    Ok(Json(handle.send(&name, &input, document.into_message()?).await?))
}

/// A message: exactly one of `body`, `bodyText` and `bodyHex`.
#[derive(Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MessageDocument {
    /// A text stands for its characters, any other JSON value is written compactly.
    #[serde(default, deserialize_with = "present")]
    body: Option<Value>,
    /// Text as it is.
    body_text: Option<String>,
    /// Two digits for each octet.
    body_hex: Option<String>,
    #[serde(default)]
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    properties: Pairs,
    /// What `GET /messages` says of the clock; ignored.
    #[serde(default)]
    #[allow(dead_code, reason = "what was seen can be sent again as it is")]
    clock: Value,
    /// What the runtime stamps may stand here too, and is ignored: identities are not claimed. Any other name is refused.
    #[serde(default)]
    system_properties: SystemDocument,
}

#[derive(Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct SystemDocument {
    message_id: Option<String>,
    correlation_id: Option<String>,
    content_type: Option<String>,
    content_encoding: Option<String>,
    /// What the runtime stamps: ignored.
    #[serde(flatten)]
    #[schema(value_type = std::collections::BTreeMap<String, Value>)]
    other: serde_json::Map<String, Value>,
}

impl MessageDocument {
    fn into_message(self) -> Result<Message, ApiError> {
        let body = match (self.body, self.body_text, self.body_hex) {
            (Some(Value::String(text)), None, None) | (None, Some(text), None) => text.into_bytes(),
            (Some(json), None, None) => json.to_string().into_bytes(),
            (None, None, Some(hex)) => unhex(&hex)?,
            _ => {
                return Err(ApiError::invalid("a message has exactly one of body, bodyText and bodyHex").hint(
                    "bodyText takes text as it is, bodyHex two digits for each octet, body a text or any JSON value",
                ));
            }
        };
        let SystemDocument { message_id, correlation_id, content_type, content_encoding, other } =
            self.system_properties;
        if let Some((name, _)) = self.properties.0.iter().find(|(name, _)| name.len() > MAX_NAME_BYTES) {
            let message = format!("the name of a property has {} bytes; it has at most {MAX_NAME_BYTES}", name.len());
            return Err(ApiError::invalid(message));
        }
        if let Some((message, hint)) = not_carried(other.keys().map(String::as_str)) {
            return Err(ApiError::invalid(message).hint(hint));
        }
        let system = SystemProperties { message_id, correlation_id, content_type, content_encoding, other: Vec::new() };
        Ok(Message { properties: self.properties.0, system, ..Message::new(body) })
    }
}

/// Tells `"body": null` from no body.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

fn unhex(text: &str) -> Result<Vec<u8>, ApiError> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    match digits {
        Some(digits) if digits.len() % 2 == 0 => Ok(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()),
        _ => Err(ApiError::invalid("bodyHex is not an even number of hexadecimal digits")),
    }
}

/// The members of an object in the order in which they are written.
#[derive(Default)]
struct Pairs(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pairs, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object whose values are strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = members.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Message, ApiError> {
        serde_json::from_str::<MessageDocument>(text).unwrap().into_message()
    }

    #[test]
    fn bodies_arrive_octet_for_octet() {
        let table: [(&str, &[u8]); 5] = [
            (r#"{"bodyText": "{ \"a\" : 1 }"}"#, b"{ \"a\" : 1 }"),
            (r#"{"bodyHex": "00ff7F"}"#, &[0, 255, 127]),
            (r#"{"bodyHex": ""}"#, b""),
            (r#"{"body": { "b" : 1, "a": [2] }}"#, br#"{"b":1,"a":[2]}"#),
            (r#"{"body": null}"#, b"null"),
        ];
        for (text, expected) in table {
            assert_eq!(read(text).unwrap().body, expected, "{text}");
        }
    }

    #[test]
    fn a_message_has_exactly_one_body_of_whole_octets() {
        for text in ["{}", r#"{"body": 1, "bodyText": "1"}"#, r#"{"bodyHex": "0"}"#, r#"{"bodyHex": "zz"}"#] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn properties_keep_their_order_and_stamps_are_not_claimed() {
        let message = read(
            r#"{"bodyText": "", "properties": {"z": "1", "a": "2"},
                "systemProperties": {"contentType": "text/plain", "connectionModuleId": "somebody"}}"#,
        )
        .unwrap();

        assert_eq!(message.properties, [("z".into(), "1".into()), ("a".into(), "2".into())]);
        assert_eq!(message.system.content_type.as_deref(), Some("text/plain"));
        assert_eq!(&*message.stamp.sender, "");
    }

    #[test]
    fn what_no_stored_message_carries_is_refused() {
        let refused = |text: &str| format!("{:?}", read(text).err());
        let unknown = refused(r#"{"body": 1, "systemProperties": {"contenttype": "a", "epoch": 7}}"#);
        assert!(unknown.contains("no system property 'contenttype'"), "{unknown}");
        assert!(unknown.contains("did you mean contentType?"), "{unknown}");
        let name = "n".repeat(MAX_NAME_BYTES + 1);
        let long = refused(&format!(r#"{{"body": 1, "properties": {{"{name}": ""}}}}"#));
        assert!(long.contains("65536 bytes"), "{long}");
    }

    #[test]
    fn what_a_tail_shows_can_be_sent_again() {
        let mut message = Message::new([0u8, 159]);
        message.properties = vec![("a".into(), "1".into())];

        let again = read(&message.to_json().to_string()).unwrap();

        assert_eq!((again.body, again.properties), (message.body, message.properties));
    }
}
