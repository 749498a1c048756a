//! Messages: as they arrive ([`Message`], borrowed), as they leave ([`Outgoing`]) and bodies that are shared ([`Body`]).
//!
//! Receiving allocates nothing. Sending bytes without properties allocates nothing either; a [`Body`] is never copied, which
//! pays from a few hundred bytes on.

use std::ffi::c_void;
use std::fmt;
use std::marker::PhantomData;
use std::mem::size_of;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::abi::{DR_NO_INDEX, DrBuffer, DrMessage, DrOutgoing, DrProperty, DrText};
use crate::error::{Context, Error};
use crate::host::{Host, lent};

/// A message at an input. A view: everything is borrowed for the call of the handler; [`crate::Delivery::keep`] gives it a
/// longer life.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    raw: &'a DrMessage,
}

impl<'a> Message<'a> {
    /// # Safety
    /// `raw` is complete (at least our size) and what it points to lives for `'a`.
    pub(crate) unsafe fn from_raw(raw: &'a DrMessage) -> Message<'a> {
        Message { raw }
    }

    /// The same message in the words of the ABI.
    pub fn raw(&self) -> &'a DrMessage {
        self.raw
    }

    fn lent(&self, text: DrText) -> &'a str {
        // SAFETY: the promise of `from_raw`.
        unsafe { lent(text) }
    }

    fn present(&self, text: DrText) -> Option<&'a str> {
        (!text.ptr.is_null()).then(|| self.lent(text))
    }

    /// Name of the input it arrived at.
    pub fn input(&self) -> &'a str {
        self.lent(self.raw.input)
    }

    /// Position of the input in [`crate::Module::INPUTS`], if it is one of them.
    pub fn input_index(&self) -> Option<usize> {
        (self.raw.input_index != DR_NO_INDEX).then_some(self.raw.input_index as usize)
    }

    /// Body.
    pub fn body(&self) -> &'a [u8] {
        // SAFETY: the promise of `from_raw`.
        unsafe { DrText { ptr: self.raw.body, len: self.raw.body_len }.bytes() }
    }

    /// Body as text.
    pub fn text(&self) -> Result<&'a str, Error> {
        std::str::from_utf8(self.body()).context("the body is not text")
    }

    /// Body read as JSON; an error names the path of what does not fit.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_slice(self.body()))
            .context("reading the body")
    }

    /// Body with a life of its own: shared without a copy where the runtime holds it in a buffer, else copied.
    pub fn body_owned(&self) -> Body {
        // SAFETY: null or a valid buffer, by the promise of `from_raw`.
        match unsafe { self.raw.buffer.as_ref() } {
            // SAFETY: the buffer is alive during the call; we drop the reference that we add.
            Some(buffer) => unsafe {
                (buffer.retain)(buffer.owner);
                Body { buffer: *buffer }
            },
            None => Body::from(self.body()),
        }
    }

    fn raw_properties(&self) -> &'a [Property<'a>] {
        if self.raw.properties.is_null() {
            return &[];
        }
        // SAFETY: the promise of `from_raw`; `Property` is a transparent `DrProperty`.
        unsafe { std::slice::from_raw_parts(self.raw.properties.cast(), self.raw.property_count as usize) }
    }

    /// Application properties, in the sender's order.
    pub fn properties(&self) -> impl ExactSizeIterator<Item = (&'a str, &'a str)> + use<'a> {
        self.raw_properties().iter().map(|property| (property.key(), property.value()))
    }

    /// An application property.
    pub fn property(&self, key: &str) -> Option<&'a str> {
        self.properties().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// Identity of the sender, stamped by the runtime.
    pub fn sender(&self) -> &'a str {
        self.lent(self.raw.sender)
    }

    /// Output of the sender; empty where it had none.
    pub fn output(&self) -> &'a str {
        self.lent(self.raw.output)
    }

    /// 1 at the first delivery, counted up by redeliveries.
    pub fn attempt(&self) -> u32 {
        self.raw.attempt
    }

    /// `(epoch, n)`: unique and increasing per sender and output, for dropping repeats and proving completeness.
    pub fn sequence(&self) -> (u64, u64) {
        (self.raw.epoch, self.raw.sequence)
    }

    /// When the runtime took it in: microseconds since 1970-01-01 UTC, as far as the device's clock is right.
    pub fn created_us(&self) -> i64 {
        self.raw.created_us
    }

    /// Message id, if the sender gave one.
    pub fn message_id(&self) -> Option<&'a str> {
        self.present(self.raw.message_id)
    }

    /// Correlation id, if the sender gave one.
    pub fn correlation_id(&self) -> Option<&'a str> {
        self.present(self.raw.correlation_id)
    }

    /// Content type, such as `application/json`.
    pub fn content_type(&self) -> Option<&'a str> {
        self.present(self.raw.content_type)
    }

    /// Content encoding, such as `utf-8`.
    pub fn content_encoding(&self) -> Option<&'a str> {
        self.present(self.raw.content_encoding)
    }
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("input", &self.input())
            .field("sender", &self.sender())
            .field("sequence", &self.sequence())
            .field("body", &String::from_utf8_lossy(self.body()))
            .finish_non_exhaustive()
    }
}

/// A message with a life of its own, from [`crate::Delivery::keep`]. May go to other threads.
pub struct KeptMessage {
    /// Complete copy of the head; what it points to lives until `original` is released.
    head: DrMessage,
    original: *const DrMessage,
    host: Host,
}

// SAFETY: a kept message is immutable, and `message_release` may be called on any thread.
unsafe impl Send for KeptMessage {}
// SAFETY: as above.
unsafe impl Sync for KeptMessage {}

impl KeptMessage {
    /// # Safety
    /// `original` came from `message_keep` of `host` and nobody else releases it.
    pub(crate) unsafe fn from_raw(original: *const DrMessage, host: Host) -> KeptMessage {
        // SAFETY: a message begins with its size, and zero is valid for each of its fields.
        KeptMessage { head: unsafe { crate::host::read_sized(original) }, original, host }
    }

    /// The message.
    pub fn message(&self) -> Message<'_> {
        Message { raw: &self.head }
    }
}

impl Drop for KeptMessage {
    fn drop(&mut self) {
        self.host.message_release(self.original);
    }
}

/// An application property: a name and a value.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Property<'a> {
    raw: DrProperty,
    borrowed: PhantomData<&'a str>,
}

// SAFETY: it is two shared borrows of text.
unsafe impl Send for Property<'_> {}
// SAFETY: as above.
unsafe impl Sync for Property<'_> {}

impl<'a> Property<'a> {
    /// Borrows both; a constant array of them costs nothing per message.
    pub const fn new(key: &'a str, value: &'a str) -> Property<'a> {
        Property { raw: DrProperty { key: DrText::new(key), value: DrText::new(value) }, borrowed: PhantomData }
    }

    /// Name.
    pub fn key(&self) -> &'a str {
        // SAFETY: borrowed for `'a`: by `new`, or for the handler's call by the runtime.
        unsafe { lent(self.raw.key) }
    }

    /// Value.
    pub fn value(&self) -> &'a str {
        // SAFETY: as in `key`.
        unsafe { lent(self.raw.value) }
    }
}

/// Immutable bytes that are shared instead of copied, also between modules. Made from a `Vec<u8>` without a copy.
pub struct Body {
    buffer: DrBuffer,
}

// SAFETY: immutable bytes with an atomic count: `retain` and `release` may be called on any thread.
unsafe impl Send for Body {}
// SAFETY: as above.
unsafe impl Sync for Body {}

impl Body {
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: alive as long as our reference is.
        unsafe { DrText { ptr: self.buffer.ptr, len: self.buffer.len }.bytes() }
    }

    /// The buffer, still owned by this value.
    pub(crate) fn raw(&self) -> DrBuffer {
        self.buffer
    }

    /// Gives the reference up to whoever takes the buffer.
    pub(crate) fn into_raw(self) -> DrBuffer {
        std::mem::ManuallyDrop::new(self).buffer
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Body {
        let bytes = Arc::new(bytes);
        let (ptr, len) = (bytes.as_ptr(), bytes.len());
        let owner = Arc::into_raw(bytes).cast_mut().cast();
        Body { buffer: DrBuffer { ptr, len, owner, retain: retain_vec, release: release_vec } }
    }
}

impl From<&[u8]> for Body {
    fn from(bytes: &[u8]) -> Body {
        Body::from(bytes.to_vec())
    }
}

impl From<String> for Body {
    fn from(text: String) -> Body {
        Body::from(text.into_bytes())
    }
}

unsafe extern "C" fn retain_vec(owner: *mut c_void) {
    // SAFETY: `owner` came from `Arc::into_raw` and is alive, since the caller holds a reference.
    unsafe { Arc::increment_strong_count(owner.cast::<Vec<u8>>()) }
}

unsafe extern "C" fn release_vec(owner: *mut c_void) {
    // SAFETY: as above; the caller gives its reference up.
    unsafe { Arc::decrement_strong_count(owner.cast::<Vec<u8>>()) }
}

impl std::ops::Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl Clone for Body {
    fn clone(&self) -> Body {
        // SAFETY: the buffer is alive as long as we are; the new reference is dropped by the clone.
        unsafe { (self.buffer.retain)(self.buffer.owner) };
        Body { buffer: self.buffer }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        // SAFETY: gives our one reference up.
        unsafe { (self.buffer.release)(self.buffer.owner) };
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Body").field(&String::from_utf8_lossy(self)).finish()
    }
}

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
            Bytes::Owned(body) => (body, Some(&body.buffer)),
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
        Outgoing::of(Bytes::Borrowed(body, Some(&body.buffer)))
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
        let raw = message.raw;
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
    fn a_body_lives_until_its_last_clone() {
        let body = Body::from(String::from("shared"));
        let clone = body.clone();
        assert_eq!(body.as_ptr(), clone.as_ptr());
        drop(body);
        assert_eq!(&clone[..], b"shared");
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
