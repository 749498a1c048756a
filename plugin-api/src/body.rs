//! Bodies that are shared instead of copied.

use std::ffi::c_void;
use std::fmt;
use std::sync::Arc;

use crate::abi::{DrBuffer, DrText};

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

    /// Shares a buffer of someone else's.
    ///
    /// # Safety
    /// The buffer keeps the contract of [`DrBuffer`] and is alive during this call.
    pub(crate) unsafe fn retain(buffer: &DrBuffer) -> Body {
        // SAFETY: alive; the reference that is added is dropped by the new value.
        unsafe { (buffer.retain)(buffer.owner) };
        Body { buffer: *buffer }
    }

    /// The buffer, still owned by this value.
    pub(crate) fn raw(&self) -> &DrBuffer {
        &self.buffer
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_lives_until_its_last_clone() {
        let body = Body::from(String::from("shared"));
        let clone = body.clone();
        assert_eq!(body.as_ptr(), clone.as_ptr());
        drop(body);
        assert_eq!(&clone[..], b"shared");
    }
}
