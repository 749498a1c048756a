//! A message outside of the hot path: owned, as the command line, the tail and the store see it.
//!
//! Inside a lane a message is a flat record; [`Meta`] is the part of it that varies in length, in the one encoding that lanes,
//! `queue.db` and later the child's link share.

mod document;

use std::sync::Arc;

use crate::spelling::suggestion;

/// Largest message, body and encoded properties together, in bytes, unless a memory route says otherwise.
pub const MAX_MESSAGE_BYTES: usize = 256 * 1024;

/// Why there is no message of this size; `None` where there may be. `properties_bytes`: all properties, encoded.
pub fn too_large(body_bytes: usize, properties_bytes: usize) -> Option<String> {
    if body_bytes.saturating_add(properties_bytes) <= MAX_MESSAGE_BYTES {
        return None;
    }
    let properties = match properties_bytes {
        0 => String::new(),
        bytes => format!(" and its properties have {bytes}"),
    };
    Some(format!("the body has {body_bytes} bytes{properties}; a message has at most {MAX_MESSAGE_BYTES}"))
}

/// What to do about [`too_large`].
pub const TOO_LARGE_HINT: &str = "send it in parts";

/// First byte of every encoded [`Meta`].
pub const META_FORMAT: u8 = 1;

/// System properties that the sender may give.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SystemProperties {
    /// `messageId`.
    pub message_id: Option<String>,
    /// `correlationId`.
    pub correlation_id: Option<String>,
    /// `contentType`.
    pub content_type: Option<String>,
    /// `contentEncoding`.
    pub content_encoding: Option<String>,
    /// Further ones, by their names, such as `dt-subject`. None that the runtime stamps. For trials of routes: nobody can send them.
    pub other: Vec<(String, String)>,
}

/// System properties that a sender gives: the only ones that reach a module.
pub const GIVEN_SYSTEM_PROPERTIES: [&str; 4] = ["messageId", "correlationId", "contentType", "contentEncoding"];

const STAMPED_SYSTEM_PROPERTIES: [&str; 6] =
    ["connectionDeviceId", "connectionModuleId", "outputName", "enqueuedTime", "epoch", "sequenceNumber"];

/// Whether the runtime stamps the system property of this name onto every message.
pub fn is_stamped(name: &str) -> bool {
    STAMPED_SYSTEM_PROPERTIES.iter().any(|stamped| stamped.eq_ignore_ascii_case(name))
}

/// Why no message can be sent with system properties of these names, and what to do; `None` where one can. Those that are stamped
/// are for the caller to judge.
pub fn not_carried<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<(String, String)> {
    let is_unknown = |name: &&str| !GIVEN_SYSTEM_PROPERTIES.contains(name) && !is_stamped(name);
    let unknown: Vec<&str> = names.into_iter().filter(is_unknown).collect();
    let hint = match unknown[..] {
        [] => return None,
        [one] => suggestion(one, &GIVEN_SYSTEM_PROPERTIES),
        _ => format!("known here: {}", GIVEN_SYSTEM_PROPERTIES.join(", ")),
    };
    let quoted: Vec<String> = unknown.iter().map(|name| format!("'{name}'")).collect();
    Some((format!("a message carries no system property {}", quoted.join(", ")), hint))
}

/// Whether a system property of this name is none that has a place of its own in a [`Message`].
fn is_other_system_property(name: &str) -> bool {
    !name.is_empty() && !is_stamped(name) && !GIVEN_SYSTEM_PROPERTIES.iter().any(|own| own.eq_ignore_ascii_case(name))
}

/// What the runtime stamps onto a message when it takes it in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Identity of the sender.
    pub sender: Arc<str>,
    /// Output of the sender; empty where it had none.
    pub output: Arc<str>,
    /// With `sequence`: unique and increasing per sender and output.
    pub epoch: u64,
    /// See `epoch`.
    pub sequence: u64,
    /// Microseconds since 1970-01-01 UTC.
    pub created_us: i64,
}

/// A message with all that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Body.
    pub body: Vec<u8>,
    /// Application properties, in the sender's order.
    pub properties: Vec<(String, String)>,
    /// System properties given by the sender.
    pub system: SystemProperties,
    /// Stamp of the runtime.
    pub stamp: Stamp,
}

/// Properties in their encoded form: format byte, then `kind, key length (u16), value length (u32), key, value` for each.
#[derive(Debug, Clone, Copy)]
pub struct Meta<'a>(pub &'a [u8]);

/// Kind of an encoded property.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum MetaKind {
    /// Application property.
    Property = 0,
    /// `messageId`.
    MessageId = 1,
    /// `correlationId`.
    CorrelationId = 2,
    /// `contentType`.
    ContentType = 3,
    /// `contentEncoding`.
    ContentEncoding = 4,
    /// Another system property, by its key.
    System = 5,
}

impl MetaKind {
    fn from_byte(byte: u8) -> Option<MetaKind> {
        Some(match byte {
            0 => MetaKind::Property,
            1 => MetaKind::MessageId,
            2 => MetaKind::CorrelationId,
            3 => MetaKind::ContentType,
            4 => MetaKind::ContentEncoding,
            5 => MetaKind::System,
            _ => return None,
        })
    }
}

/// Bytes before key and value of an encoded property.
const HEAD: usize = 7;

/// Length of one encoded property.
pub fn meta_len(key: &[u8], value: &[u8]) -> usize {
    HEAD + key.len() + value.len()
}

/// What stands before key and value of an encoded property; their lengths are those that [`encode_meta`] allows.
#[inline]
pub fn meta_head(kind: MetaKind, key: &[u8], value: &[u8]) -> [u8; HEAD] {
    let [k0, k1] = (key.len() as u16).to_le_bytes();
    let [v0, v1, v2, v3] = (value.len() as u32).to_le_bytes();
    [kind as u8, k0, k1, v0, v1, v2, v3]
}

/// Appends one encoded property; the caller has put [`META_FORMAT`] in front of the first.
///
/// `key` is at most 65,535 bytes and `value` at most 4 GiB; longer ones are cut, which admission of a send rules out.
pub fn encode_meta(out: &mut impl Extend<u8>, kind: MetaKind, key: &[u8], value: &[u8]) {
    let key = &key[..key.len().min(usize::from(u16::MAX))];
    let value = &value[..value.len().min(u32::MAX as usize)];
    out.extend(meta_head(kind, key, value));
    out.extend(key.iter().copied());
    out.extend(value.iter().copied());
}

impl<'a> Meta<'a> {
    /// The value of the first property of this kind whose key is the one that is meant.
    #[inline]
    pub fn find(self, wanted: MetaKind, is_meant: impl Fn(&[u8]) -> bool) -> Option<&'a [u8]> {
        let [META_FORMAT, rest @ ..] = self.0 else { return None };
        let mut rest = rest;
        while let [kind, k0, k1, v0, v1, v2, v3, tail @ ..] = rest {
            let key_len = usize::from(u16::from_le_bytes([*k0, *k1]));
            let (key, tail) = tail.split_at_checked(key_len)?;
            let (value, tail) = tail.split_at_checked(u32::from_le_bytes([*v0, *v1, *v2, *v3]) as usize)?;
            if *kind == wanted as u8 && is_meant(key) {
                return Some(value);
            }
            rest = tail;
        }
        None
    }

    /// The encoded properties, in order. Ends early where the bytes are not of this format.
    pub fn iter(self) -> impl Iterator<Item = (MetaKind, &'a [u8], &'a [u8])> {
        let mut rest = match self.0.split_first() {
            Some((&META_FORMAT, rest)) => rest,
            _ => &[],
        };
        std::iter::from_fn(move || {
            let (head, tail) = rest.split_at_checked(HEAD)?;
            let kind = MetaKind::from_byte(head[0])?;
            let key_len = usize::from(u16::from_le_bytes([head[1], head[2]]));
            let value_len = u32::from_le_bytes([head[3], head[4], head[5], head[6]]) as usize;
            let (key, tail) = tail.split_at_checked(key_len)?;
            let (value, tail) = tail.split_at_checked(value_len)?;
            rest = tail;
            Some((kind, key, value))
        })
    }
}

impl Message {
    /// A message that nobody has stamped yet.
    pub fn new(body: impl Into<Vec<u8>>) -> Message {
        Message {
            body: body.into(),
            properties: Vec::new(),
            system: SystemProperties::default(),
            stamp: Stamp { sender: "".into(), output: "".into(), epoch: 0, sequence: 0, created_us: 0 },
        }
    }

    /// The properties, encoded. Empty where there are none.
    pub fn encode_meta(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let system = [
            (MetaKind::MessageId, &self.system.message_id),
            (MetaKind::CorrelationId, &self.system.correlation_id),
            (MetaKind::ContentType, &self.system.content_type),
            (MetaKind::ContentEncoding, &self.system.content_encoding),
        ];
        let given = system.iter().filter_map(|(kind, value)| value.as_ref().map(|v| (*kind, v)));
        if self.properties.is_empty() && self.system.other.is_empty() && given.clone().next().is_none() {
            return out;
        }
        out.push(META_FORMAT);
        given.for_each(|(kind, value)| encode_meta(&mut out, kind, b"", value.as_bytes()));
        for (key, value) in &self.properties {
            encode_meta(&mut out, MetaKind::Property, key.as_bytes(), value.as_bytes());
        }
        // Last: an older release reads as far as it knows the kinds.
        for (key, value) in &self.system.other {
            encode_meta(&mut out, MetaKind::System, key.as_bytes(), value.as_bytes());
        }
        out
    }

    /// Puts together what a lane or the store holds in parts.
    pub fn from_parts(meta: &[u8], body: Vec<u8>, stamp: Stamp) -> Message {
        let mut message = Message { stamp, ..Message::new(body) };
        for (kind, key, value) in Meta(meta).iter() {
            let value = String::from_utf8_lossy(value).into_owned();
            match kind {
                MetaKind::Property => message.properties.push((String::from_utf8_lossy(key).into_owned(), value)),
                MetaKind::MessageId => message.system.message_id = Some(value),
                MetaKind::CorrelationId => message.system.correlation_id = Some(value),
                MetaKind::ContentType => message.system.content_type = Some(value),
                MetaKind::ContentEncoding => message.system.content_encoding = Some(value),
                MetaKind::System => message.system.other.push((String::from_utf8_lossy(key).into_owned(), value)),
            }
        }
        message
    }

    /// The message as `tail --json` and `route test` write it: `body` is JSON where it parses, else text, else base 16 in
    /// `bodyHex`.
    ///
    /// A body that is a JSON string is shown as text, with its quotes: a text in `body` is read as these characters.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::{Map, Value, json};
        let mut out = Map::new();
        match (serde_json::from_slice::<Value>(&self.body), std::str::from_utf8(&self.body)) {
            (Ok(body), _) if !body.is_string() => out.insert("body".into(), body),
            (_, Ok(text)) => out.insert("body".into(), text.into()),
            _ => out.insert("bodyHex".into(), self.body.iter().map(|b| format!("{b:02x}")).collect::<String>().into()),
        };
        out.insert("properties".into(), self.properties.iter().map(|(k, v)| (k.clone(), json!(v))).collect());
        let mut system = Map::new();
        let mut put = |key: &str, value: &Option<String>| {
            if let Some(value) = value {
                system.insert(key.to_owned(), value.clone().into());
            }
        };
        put("messageId", &self.system.message_id);
        put("correlationId", &self.system.correlation_id);
        put("contentType", &self.system.content_type);
        put("contentEncoding", &self.system.content_encoding);
        for (key, value) in &self.system.other {
            system.insert(key.clone(), value.as_str().into());
        }
        if let Ok(sender) = self.stamp.sender.parse::<crate::name::Identity>() {
            system.insert("connectionDeviceId".into(), sender.device_id().into());
            if let Some(module) = sender.module_id() {
                system.insert("connectionModuleId".into(), module.into());
            }
        }
        if !self.stamp.output.is_empty() {
            system.insert("outputName".into(), (*self.stamp.output).into());
        }
        system.insert("enqueuedTime".into(), crate::clock::rfc3339(self.stamp.created_us).into());
        system.insert("epoch".into(), self.stamp.epoch.into());
        system.insert("sequenceNumber".into(), self.stamp.sequence.into());
        out.insert("systemProperties".into(), system.into());
        Value::Object(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meta_reads_back_what_was_encoded() {
        let mut message = Message::new(*b"{}");
        message.properties = vec![("level".into(), "high".into()), ("".into(), "".into())];
        message.system.content_type = Some("application/json".into());
        message.system.other = vec![("dt-subject".into(), "/line/3".into())];

        let back = Message::from_parts(&message.encode_meta(), message.body.clone(), message.stamp.clone());

        assert_eq!(back, message);
    }

    #[test]
    fn body_and_properties_together_are_what_may_be_too_large() {
        assert_eq!(too_large(MAX_MESSAGE_BYTES, 0), None);
        let told = |body, properties| too_large(body, properties).unwrap();
        assert_eq!(told(MAX_MESSAGE_BYTES + 1, 0), "the body has 262145 bytes; a message has at most 262144");
        assert_eq!(
            told(MAX_MESSAGE_BYTES, 9),
            "the body has 262144 bytes and its properties have 9; a message has at most 262144"
        );
    }

    #[test]
    fn system_properties_that_no_message_carries_are_told_with_those_that_it_does() {
        assert_eq!(not_carried(["messageId", "contentType", "outputName"]), None);
        let (message, hint) = not_carried(["contenttype"]).unwrap();
        assert_eq!(
            (&*message, &*hint),
            ("a message carries no system property 'contenttype'", "did you mean contentType?")
        );
        let (message, hint) = not_carried(["to", "dt-subject"]).unwrap();
        assert_eq!(message, "a message carries no system property 'to', 'dt-subject'");
        assert_eq!(hint, "known here: messageId, correlationId, contentType, contentEncoding");
    }

    #[test]
    fn meta_of_another_format_or_cut_short_reads_as_far_as_it_goes() {
        let mut message = Message::new(*b"");
        message.properties = vec![("a".into(), "1".into()), ("b".into(), "2".into())];
        let encoded = message.encode_meta();

        assert_eq!(Meta(&encoded[..encoded.len() - 1]).iter().count(), 1);
        assert_eq!(Meta(&[9, 0, 0]).iter().count(), 0);
        assert_eq!(Meta(&[]).iter().count(), 0);
    }
}
