//! A message as it arrives: a view that borrows everything and allocates nothing.

use std::fmt;
use std::marker::PhantomData;

use serde::de::DeserializeOwned;

use crate::abi::{DR_NO_INDEX, DrMessage, DrProperty, DrText};
use crate::body::Body;
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
            // SAFETY: the buffer is alive during the call.
            Some(buffer) => unsafe { Body::retain(buffer) },
            None => Body::from(self.body()),
        }
    }

    pub(crate) fn raw_properties(&self) -> &'a [Property<'a>] {
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

    /// `(epoch, n)`: unique and increasing per sender and output, for dropping repeats and proving completeness. The number is that of
    /// the send; what was staged takes its place with the decision. Of a sender that defers deliveries, or sends from several threads,
    /// a lower one can stand behind a higher, so repeats are those that were seen, not those below the highest.
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
