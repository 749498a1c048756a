//! What is in the messages; numbers are little-endian.
//!
//! ```text
//! message          run u64 · sequence u64, from 0 · sent_ns u64, since 1970, 0 = not stamped · zeros up to bodyBytes
//! acknowledgement  count u64: messages taken since the last one · run u64
//! ```

use std::time::{SystemTime, UNIX_EPOCH};

/// Least size of a message's body.
pub const HEAD_BYTES: usize = 24;

/// The head of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub run: u64,
    pub sequence: u64,
    pub sent_ns: u64,
}

impl Head {
    /// Writes the head into a body of at least [`HEAD_BYTES`].
    #[inline]
    pub fn write(self, body: &mut [u8]) {
        body[0..8].copy_from_slice(&self.run.to_le_bytes());
        body[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        body[16..24].copy_from_slice(&self.sent_ns.to_le_bytes());
    }

    /// Reads the head; `None` where the body is too short for one.
    #[inline]
    pub fn read(body: &[u8]) -> Option<Head> {
        Some(Head { run: word(body, 0)?, sequence: word(body, 1)?, sent_ns: word(body, 2)? })
    }
}

/// An acknowledgement of `count` messages.
pub fn write_ack(count: u64, run: u64) -> [u8; 16] {
    let mut body = [0; 16];
    body[..8].copy_from_slice(&count.to_le_bytes());
    body[8..].copy_from_slice(&run.to_le_bytes());
    body
}

/// `(count, run)` of an acknowledgement.
pub fn read_ack(body: &[u8]) -> Option<(u64, u64)> {
    Some((word(body, 0)?, word(body, 1)?))
}

#[inline]
fn word(body: &[u8], index: usize) -> Option<u64> {
    let bytes = body.get(index * 8..index * 8 + 8)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// Nanoseconds since 1970-01-01 UTC.
pub fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
