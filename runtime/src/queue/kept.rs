//! A kept message: a copy with a life of its own, for deferred deliveries and for modules that ask for one.

use std::sync::Arc;

use dinrail_plugin::abi::{DrBuffer, DrMessage, DrProperty, DrText};

use super::ingest::DiskMessage;
use super::lane::{self, NEVER};
use super::settling::{RowBehind, Tries};
use crate::clock;
use crate::message::Message;

/// How a message stands in its queue, which it does not say of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Its priority.
    pub priority: u32,
    /// When it expires, in coarse monotonic time.
    pub expires_ms: u64,
}

impl Standing {
    /// Of a copy that is in no queue.
    pub const NONE: Standing = Standing { priority: 0, expires_ms: NEVER };

    /// What is left of its time to live, which goes on when it is stored.
    pub(super) fn ttl_secs(&self) -> Option<u64> {
        let left = || self.expires_ms.saturating_sub(clock::coarse_monotonic_ms()).div_ceil(1000);
        (self.expires_ms != NEVER).then(left)
    }
}

/// A reference to a kept message; the last one frees it.
pub struct Kept(*const DrMessage);

/// `message` comes first: its address is the address that a module knows.
#[repr(C)]
struct Whole {
    message: DrMessage,
    text: Vec<u8>,
    properties: Vec<DrProperty>,
    buffer: Option<Box<DrBuffer>>,
    tries: Tries,
    row: Option<RowBehind>,
    standing: Standing,
}

// SAFETY: as of `Kept`, which is all that refers to it.
unsafe impl Send for Whole {}
// SAFETY: as above.
unsafe impl Sync for Whole {}

// SAFETY: a `Whole` never changes after it was made and points only into itself and into its buffer, which may be used and
// released on any thread by contract.
unsafe impl Send for Kept {}
// SAFETY: as above.
unsafe impl Sync for Kept {}

impl Kept {
    /// Copies a message that was tried so often, with this delivery; a body in a buffer is shared instead. `row`: where it came
    /// from disk, and is still there.
    ///
    /// # Safety
    /// `message` and everything that it points to is readable during the call.
    pub unsafe fn copy(message: &DrMessage, tries: Tries, row: Option<RowBehind>, standing: Standing) -> Kept {
        // SAFETY: the caller's promise.
        unsafe {
            let properties = if message.property_count == 0 {
                &[][..]
            } else {
                std::slice::from_raw_parts(message.properties, message.property_count as usize)
            };
            let body = DrText { ptr: message.body, len: message.body_len }.bytes();
            let buffer = message.buffer.as_ref().map(|buffer| Box::new(lane::retained(buffer)));
            let mut texts = vec![
                message.input,
                message.sender,
                message.output,
                message.message_id,
                message.correlation_id,
                message.content_type,
                message.content_encoding,
            ];
            let fixed = texts.len();
            texts.extend(properties.iter().flat_map(|p| [p.key, p.value]));
            let inline_body = if buffer.is_some() { &[][..] } else { body };
            let total = texts.iter().map(|t| t.len).sum::<usize>() + inline_body.len();
            // Filled once and never moved again: the texts below point into it.
            let mut text: Vec<u8> = Vec::with_capacity(total);
            let base = text.as_ptr();
            let mut copies = Vec::with_capacity(texts.len());
            for part in &texts {
                let is_absent = part.ptr.is_null();
                let ptr = if is_absent { std::ptr::null() } else { base.add(text.len()) };
                copies.push(DrText { ptr, len: part.len });
                text.extend_from_slice(part.bytes());
            }
            let body_at = base.add(text.len());
            text.extend_from_slice(inline_body);
            let properties: Vec<DrProperty> =
                copies[fixed..].chunks_exact(2).map(|pair| DrProperty { key: pair[0], value: pair[1] }).collect();
            let copy = DrMessage {
                size: size_of::<DrMessage>() as u32,
                attempt: message.attempt,
                input: copies[0],
                input_index: message.input_index,
                property_count: properties.len() as u32,
                properties: properties.as_ptr(),
                body: buffer.as_ref().map_or(body_at, |buffer| buffer.ptr),
                body_len: body.len(),
                buffer: buffer.as_deref().map_or(std::ptr::null(), std::ptr::from_ref),
                sender: copies[1],
                output: copies[2],
                epoch: message.epoch,
                sequence: message.sequence,
                created_us: message.created_us,
                message_id: copies[3],
                correlation_id: copies[4],
                content_type: copies[5],
                content_encoding: copies[6],
            };
            Kept(
                Arc::into_raw(Arc::new(Whole { message: copy, text, properties, buffer, tries, row, standing })).cast(),
            )
        }
    }

    /// The message.
    pub fn message(&self) -> &DrMessage {
        // SAFETY: this reference keeps it alive.
        unsafe { &*self.0 }
    }

    /// Its deliveries with this one, without those that nobody decided about because their instance ended: they speak of that
    /// instance, not of the message.
    pub fn tries(&self) -> Tries {
        // SAFETY: this reference keeps it alive, and it is a `Whole`.
        unsafe { (*self.0.cast::<Whole>()).tries }
    }

    /// The row behind it: it is not lost when this copy is.
    pub fn row(&self) -> Option<RowBehind> {
        // SAFETY: as above.
        unsafe { (*self.0.cast::<Whole>()).row.clone() }
    }

    /// How it stands in its queue.
    pub fn standing(&self) -> Standing {
        // SAFETY: as above.
        unsafe { (*self.0.cast::<Whole>()).standing }
    }

    /// Name of its input.
    pub(super) fn input(&self) -> String {
        // SAFETY: points into this copy.
        String::from_utf8_lossy(unsafe { self.message().input.bytes() }).into_owned()
    }

    /// The message as it is stored; `endpoint` makes the endpoint of its input.
    pub fn to_row(&self, endpoint: impl FnOnce(&str) -> String) -> DiskMessage {
        let message = self.message();
        // SAFETY: points into this copy.
        let text = |text: DrText| String::from_utf8_lossy(unsafe { text.bytes() }).into_owned();
        let some = |t: DrText| (!t.ptr.is_null()).then(|| text(t));
        let mut whole = Message::new(Vec::new());
        whole.system.message_id = some(message.message_id);
        whole.system.correlation_id = some(message.correlation_id);
        whole.system.content_type = some(message.content_type);
        whole.system.content_encoding = some(message.content_encoding);
        for at in 0..message.property_count as usize {
            // SAFETY: `property_count` says how many there are.
            let property = unsafe { *message.properties.add(at) };
            whole.properties.push((text(property.key), text(property.value)));
        }
        DiskMessage {
            endpoint: endpoint(&self.input()).into(),
            priority: self.standing().priority,
            ttl_secs: self.standing().ttl_secs(),
            sender: text(message.sender).into(),
            output: text(message.output).into(),
            epoch: message.epoch,
            sequence: message.sequence,
            created_us: message.created_us,
            meta: whole.encode_meta(),
            // SAFETY: points into this copy, or into its buffer.
            body: unsafe { DrText { ptr: message.body, len: message.body_len }.bytes() }.to_vec(),
        }
    }

    /// Adds a reference and gives it to a module, which ends it with `message_release`.
    pub fn share(&self) -> *const DrMessage {
        // SAFETY: made by `Arc::into_raw` of a `Whole`.
        unsafe { Arc::increment_strong_count(self.0.cast::<Whole>()) };
        self.0
    }

    /// Gives this reference to a module.
    pub fn into_shared(self) -> *const DrMessage {
        let message = self.0;
        std::mem::forget(self);
        message
    }

    /// Takes back a reference that a module was given.
    ///
    /// # Safety
    /// `message` came from [`Kept::share`] or [`Kept::into_shared`] and is given back once.
    pub unsafe fn from_shared(message: *const DrMessage) -> Kept {
        Kept(message)
    }

    /// The same message after a delivery that ended with a verdict; `tries` counts that one.
    #[must_use]
    pub fn next_attempt(&self, tries: Tries) -> Kept {
        self.again(Tries { attempts: tries.attempts.saturating_add(1), ..tries })
    }

    /// The same message after a delivery that nobody decided about.
    #[must_use]
    pub fn interrupted(&self) -> Kept {
        self.again(self.tries())
    }

    fn again(&self, tries: Tries) -> Kept {
        let message = DrMessage { attempt: self.message().attempt.saturating_add(1), ..*self.message() };
        // SAFETY: what it points to is kept alive by this reference during the copy.
        unsafe { Kept::copy(&message, tries, self.row(), self.standing()) }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // SAFETY: made by `Arc::into_raw`; this reference is given up once.
        unsafe { Arc::decrement_strong_count(self.0.cast::<Whole>()) };
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            lane::release(*buffer);
        }
    }
}
