//! A message as it leaves. Sending bytes without properties allocates nothing; a [`Body`] is never copied, which pays from a few
//! hundred bytes on.

use std::mem::size_of;

use serde::Serialize;

use crate::abi::{DrBuffer, DrOutgoing, DrText};
use crate::body::Body;
use crate::error::{Context, Error};
use crate::message::{Message, Property};

/// A message to be sent. Made from bytes, text, a [`Body`] or a received [`Message`] (which passes on its properties), so that
/// most sends need no more than `client.send_message_to_output(output, &bytes)`.
#[derive(Clone)]
pub struct Outgoing<'a> {
    body: Bytes<'a>,
    shared: &'a [Property<'a>],
    added: Vec<Property<'a>>,
    message_id: DrText,
    correlation_id: DrText,
    content_type: DrText,
    content_encoding: DrText,
}

#[derive(Clone)]
enum Bytes<'a> {
    Borrowed(&'a [u8], Option<&'a DrBuffer>),
    Owned(Body),
}

/// Bodies up to this size are copied inline by the runtime, which is cheaper than counting references.
const INLINE_BYTES: usize = 256;

impl<'a> Outgoing<'a> {
    #[inline]
    fn of(body: Bytes<'a>) -> Outgoing<'a> {
        Outgoing {
            body,
            shared: &[],
            added: Vec::new(),
            message_id: DrText::ABSENT,
            correlation_id: DrText::ABSENT,
            content_type: DrText::ABSENT,
            content_encoding: DrText::ABSENT,
        }
    }

    /// A body that is written as JSON, with its content type and encoding.
    pub fn json(value: &(impl Serialize + ?Sized)) -> Result<Outgoing<'static>, Error> {
        let bytes = serde_json::to_vec(value).context("writing the body as JSON")?;
        Ok(Outgoing::from(bytes).content_type("application/json").content_encoding("utf-8"))
    }

    /// Adds an application property. The first one allocates; see [`Outgoing::properties`].
    #[must_use]
    pub fn property(mut self, key: &'a str, value: &'a str) -> Outgoing<'a> {
        if self.added.is_empty() {
            self.added.extend_from_slice(self.shared);
        }
        self.added.push(Property::new(key, value));
        self
    }

    /// Sets all application properties, without an allocation.
    #[must_use]
    pub fn properties(mut self, properties: &'a [Property<'a>]) -> Outgoing<'a> {
        self.shared = properties;
        self.added = Vec::new();
        self
    }

    /// Sets the message id.
    #[must_use]
    pub fn message_id(self, id: &'a str) -> Outgoing<'a> {
        Outgoing { message_id: DrText::new(id), ..self }
    }

    /// Sets the correlation id.
    #[must_use]
    pub fn correlation_id(self, id: &'a str) -> Outgoing<'a> {
        Outgoing { correlation_id: DrText::new(id), ..self }
    }

    /// Sets the content type. Conditions of routes look into bodies of `application/json` in `utf-8`.
    #[must_use]
    pub fn content_type(self, name: &'a str) -> Outgoing<'a> {
        Outgoing { content_type: DrText::new(name), ..self }
    }

    /// Sets the content encoding.
    #[must_use]
    pub fn content_encoding(self, name: &'a str) -> Outgoing<'a> {
        Outgoing { content_encoding: DrText::new(name), ..self }
    }

    #[inline]
    pub(crate) fn raw(&self) -> DrOutgoing {
        let properties = if self.added.is_empty() { self.shared } else { &self.added };
        let (body, buffer): (&[u8], _) = match &self.body {
            Bytes::Borrowed(bytes, buffer) => (bytes, *buffer),
            Bytes::Owned(body) => (body, Some(body.raw())),
        };
        let buffer = buffer.filter(|_| body.len() > INLINE_BYTES);
        DrOutgoing {
            size: size_of::<DrOutgoing>() as u32,
            property_count: properties.len() as u32,
            properties: properties.as_ptr().cast(),
            body: body.as_ptr(),
            body_len: body.len(),
            buffer: buffer.map_or(std::ptr::null(), |buffer| &raw const *buffer),
            message_id: self.message_id,
            correlation_id: self.correlation_id,
            content_type: self.content_type,
            content_encoding: self.content_encoding,
        }
    }
}

impl<'a> From<&'a [u8]> for Outgoing<'a> {
    #[inline]
    fn from(bytes: &'a [u8]) -> Outgoing<'a> {
        Outgoing::of(Bytes::Borrowed(bytes, None))
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Outgoing<'a> {
    #[inline]
    fn from(bytes: &'a [u8; N]) -> Outgoing<'a> {
        Outgoing::from(&bytes[..])
    }
}

impl<'a> From<&'a Vec<u8>> for Outgoing<'a> {
    #[inline]
    fn from(bytes: &'a Vec<u8>) -> Outgoing<'a> {
        Outgoing::from(&bytes[..])
    }
}

impl<'a> From<&'a str> for Outgoing<'a> {
    #[inline]
    fn from(text: &'a str) -> Outgoing<'a> {
        Outgoing::from(text.as_bytes())
    }
}

impl<'a> From<&'a String> for Outgoing<'a> {
    #[inline]
    fn from(text: &'a String) -> Outgoing<'a> {
        Outgoing::from(text.as_bytes())
    }
}

impl<'a> From<&'a Body> for Outgoing<'a> {
    #[inline]
    fn from(body: &'a Body) -> Outgoing<'a> {
        Outgoing::of(Bytes::Borrowed(body, Some(body.raw())))
    }
}

impl From<Body> for Outgoing<'_> {
    #[inline]
    fn from(body: Body) -> Self {
        Outgoing::of(Bytes::Owned(body))
    }
}

impl From<Vec<u8>> for Outgoing<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Outgoing::from(Body::from(bytes))
    }
}

impl From<String> for Outgoing<'_> {
    fn from(text: String) -> Self {
        Outgoing::from(text.into_bytes())
    }
}

impl<'a> From<&Message<'a>> for Outgoing<'a> {
    /// Passes a message on as it is: body (not copied), properties, ids and content type.
    #[inline]
    fn from(message: &Message<'a>) -> Outgoing<'a> {
        let raw = message.raw();
        // SAFETY: null or a valid buffer for `'a`, by the promise of `Message::from_raw`.
        let buffer = unsafe { raw.buffer.as_ref() };
        Outgoing {
            shared: message.raw_properties(),
            message_id: raw.message_id,
            correlation_id: raw.correlation_id,
            content_type: raw.content_type,
            content_encoding: raw.content_encoding,
            ..Outgoing::of(Bytes::Borrowed(message.body(), buffer))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_bodies_travel_inline_and_large_ones_as_buffers() {
        let (small, large) = (Body::from(vec![1; 256]), Body::from(vec![1; 257]));
        assert!(Outgoing::from(&small).raw().buffer.is_null());
        assert!(!Outgoing::from(&large).raw().buffer.is_null());
        assert!(Outgoing::from(&vec![1; 300]).raw().buffer.is_null(), "borrowed bytes cannot be retained");
        assert!(!Outgoing::from(vec![1; 300]).raw().buffer.is_null());
    }

    #[test]
    fn added_properties_follow_the_shared_ones() {
        const SHARED: &[Property<'static>] = &[Property::new("a", "1")];
        let out = Outgoing::from("x").properties(SHARED).property("b", "2");
        let raw = out.raw();
        // SAFETY: `out` is alive.
        let properties = unsafe { std::slice::from_raw_parts(raw.properties.cast::<Property<'_>>(), 2) };
        assert_eq!((raw.property_count, properties[0].key(), properties[1].value()), (2, "a", "2"));
    }
}
