//! A message as conditions see it: its parts as they lie in the sender's hands, nothing taken apart before it is asked for.

use std::borrow::Cow;

use super::condition::reference::{Name, SystemName};
use crate::clock;
use crate::message::{Message, Meta, MetaKind};

/// A message on its way.
#[derive(Debug, Clone, Copy)]
pub struct MessageView<'m> {
    /// Its properties, encoded.
    pub meta: &'m [u8],
    /// Its body.
    pub body: &'m [u8],
    /// Identity of the sender, `/devices/D/modules/M` or `/devices/D`.
    pub sender: &'m str,
    /// Output of the sender; empty where it has none.
    pub output: &'m str,
    /// With `sequence`: which of the output's messages this is.
    pub epoch: u64,
    /// See `epoch`.
    pub sequence: u64,
    /// Microseconds since 1970-01-01 UTC.
    pub created_us: i64,
}

impl<'m> MessageView<'m> {
    /// Of a whole message; `meta` are its properties, [encoded](Message::encode_meta).
    pub fn of(message: &'m Message, meta: &'m [u8]) -> MessageView<'m> {
        MessageView {
            meta,
            body: &message.body,
            sender: &message.stamp.sender,
            output: &message.stamp.output,
            epoch: message.stamp.epoch,
            sequence: message.stamp.sequence,
            created_us: message.stamp.created_us,
        }
    }

    /// An application property; the first one of its name.
    #[inline]
    pub(super) fn property(&self, name: &Name) -> Option<&'m str> {
        std::str::from_utf8(self.property_bytes(name)?).ok()
    }

    /// [`MessageView::property`], of which it was found out when it came in that it is text.
    #[inline]
    pub(super) fn property_bytes(&self, name: &Name) -> Option<&'m [u8]> {
        Meta(self.meta).find(MetaKind::Property, |key| name.is(key))
    }

    /// A system property. What the runtime stamps is never taken from what the sender gave.
    pub(super) fn system(&self, name: &SystemName) -> Option<Cow<'m, str>> {
        let given = |wanted: MetaKind| {
            let value = Meta(self.meta).find(wanted, |_| true)?;
            std::str::from_utf8(value).ok().map(Cow::Borrowed)
        };
        match name {
            SystemName::MessageId => given(MetaKind::MessageId),
            SystemName::CorrelationId => given(MetaKind::CorrelationId),
            SystemName::ContentType => given(MetaKind::ContentType),
            SystemName::ContentEncoding => given(MetaKind::ContentEncoding),
            SystemName::DeviceId => Some(Cow::Borrowed(self.sender()?.0)).filter(|device| !device.is_empty()),
            SystemName::ModuleId => Some(Cow::Borrowed(self.sender()?.1?)),
            SystemName::Output => (!self.output.is_empty()).then_some(Cow::Borrowed(self.output)),
            // Zero is what nobody has stamped.
            SystemName::EnqueuedTime if self.created_us != 0 => Some(Cow::Owned(clock::rfc3339(self.created_us))),
            SystemName::Sequence if self.sequence != 0 => Some(Cow::Owned(self.sequence.to_string())),
            SystemName::Epoch if self.epoch != 0 => Some(Cow::Owned(self.epoch.to_string())),
            SystemName::EnqueuedTime | SystemName::Sequence | SystemName::Epoch => None,
            SystemName::Other(name) => {
                let value = Meta(self.meta).find(MetaKind::System, |key| name.is(key))?;
                std::str::from_utf8(value).ok().map(Cow::Borrowed)
            }
        }
    }

    /// Device and module of the sender.
    fn sender(&self) -> Option<(&'m str, Option<&'m str>)> {
        let rest = self.sender.strip_prefix("/devices/")?;
        Some(match rest.split_once("/modules/") {
            Some((device, module)) => (device, Some(module)),
            None => (rest, None),
        })
    }

    /// The encoding of the body, if it is JSON by what the sender says: `contentType` is JSON, whatever parameters it has, and
    /// `contentEncoding`, or else the parameter `charset`, names an encoding that JSON can have.
    pub(super) fn json_encoding(&self) -> Result<Encoding, NotJson> {
        let Some(content_type) = self.system(&SystemName::ContentType) else { return Err(NotJson::NoContentType) };
        let (kind, parameters) = content_type.split_once(';').unwrap_or((&content_type, ""));
        if !kind.trim().eq_ignore_ascii_case("application/json") {
            return Err(NotJson::OtherContentType);
        }
        let charset = parameters.split(';').find_map(|parameter| {
            let (key, value) = parameter.split_once('=')?;
            key.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
        });
        match self.system(&SystemName::ContentEncoding).as_deref().or(charset) {
            None => Err(NotJson::NoContentEncoding),
            Some(name) => Encoding::find(name).ok_or(NotJson::OtherContentEncoding),
        }
    }
}

/// How the characters of a body are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Utf8,
    Utf16,
    Utf32,
}

impl Encoding {
    fn find(name: &str) -> Option<Encoding> {
        [("utf-8", Encoding::Utf8), ("utf-16", Encoding::Utf16), ("utf-32", Encoding::Utf32)]
            .into_iter()
            .find_map(|(known, encoding)| known.eq_ignore_ascii_case(name.trim()).then_some(encoding))
    }

    /// The body in UTF-8; `None` where it is not of this encoding.
    pub(super) fn decode(self, body: &[u8]) -> Option<Cow<'_, [u8]>> {
        // Little-endian unless a byte order mark says otherwise, as in IoT Edge.
        let unit_bytes = match self {
            Encoding::Utf8 => return Some(Cow::Borrowed(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body))),
            Encoding::Utf16 => 2,
            Encoding::Utf32 => 4,
        };
        if !body.len().is_multiple_of(unit_bytes) {
            return None;
        }
        let is_big = body.starts_with(if unit_bytes == 2 { b"\xfe\xff" } else { b"\0\0\xfe\xff" });
        let units = body.chunks_exact(unit_bytes).map(|unit| {
            let add = |unit: u32, byte: &u8| unit << 8 | u32::from(*byte);
            if is_big { unit.iter().fold(0, add) } else { unit.iter().rev().fold(0, add) }
        });
        let text: String = if unit_bytes == 2 {
            char::decode_utf16(units.map(|unit| unit as u16)).collect::<Result<_, _>>().ok()?
        } else {
            units.map(char::from_u32).collect::<Option<_>>()?
        };
        Some(Cow::Owned(text.strip_prefix('\u{feff}').unwrap_or(&text).as_bytes().to_vec()))
    }
}

/// Why a body is not read as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotJson {
    NoContentType,
    OtherContentType,
    NoContentEncoding,
    OtherContentEncoding,
}

impl NotJson {
    /// For people.
    pub(super) fn reason(self) -> &'static str {
        match self {
            NotJson::NoContentType => "the message has no contentType; for $body it has to be application/json",
            NotJson::OtherContentType => "the message's contentType is not application/json",
            NotJson::NoContentEncoding => {
                "the message has no contentEncoding; for $body it has to be utf-8, utf-16 or utf-32"
            }
            NotJson::OtherContentEncoding => "the message's contentEncoding is none of utf-8, utf-16 and utf-32",
        }
    }
}
