//! What is in the messages; numbers are little-endian.
//!
//! ```text
//! message          run u64 · sequence u64, from 0 · sent_ns u64, since 1970, 0 = not stamped · zeros up to bodyBytes
//! document         {"head": the same 24 bytes as 48 letters, "line", "temperature", "state", "note": as long as bodyBytes wants,
//!                  "value": 42}
//! acknowledgement  count u64: messages taken since the last one · run u64
//! ```

use std::time::{SystemTime, UNIX_EPOCH};

use dinrail_plugin::prelude::*;
use dinrail_plugin::{Outgoing, Property};

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

/// What a message looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// The head and zeros, without properties.
    Bytes,
    /// A document in JSON with four application properties: what conditions of routes look into.
    Document,
}

/// The application properties of a document.
const PROPERTIES: [Property<'static>; 4] =
    [Property::new("a", "x"), Property::new("b", "z"), Property::new("c", "42"), Property::new("d", "press 7")];
const OPEN: &str = r#"{"head":""#;
const MEMBERS: &str = r#"","line":"press 7","temperature":71.25,"state":{"isRunning":true,"errors":[0,3]},"note":""#;
/// At the end, so that a condition has the whole document before it.
const CLOSE: &str = r#"","value":42}"#;
const HEAD_LETTERS: usize = 2 * HEAD_BYTES;

impl Shape {
    /// Least size of a body.
    pub fn least_bytes(self) -> usize {
        match self {
            Shape::Bytes => HEAD_BYTES,
            Shape::Document => OPEN.len() + HEAD_LETTERS + MEMBERS.len() + CLOSE.len(),
        }
    }

    /// A body of this size whose head is still to be written.
    pub fn body(self, bytes: usize) -> Vec<u8> {
        match self {
            Shape::Bytes => vec![0; bytes],
            Shape::Document => {
                let note = bytes.saturating_sub(self.least_bytes());
                format!("{OPEN}{}{MEMBERS}{}{CLOSE}", "a".repeat(HEAD_LETTERS), "n".repeat(note)).into_bytes()
            }
        }
    }

    /// Writes the head into a body of this shape.
    #[inline]
    pub fn write(self, head: Head, body: &mut [u8]) {
        match self {
            Shape::Bytes => head.write(body),
            Shape::Document => {
                let mut bytes = [0; HEAD_BYTES];
                head.write(&mut bytes);
                let (letters, _) = body[OPEN.len()..OPEN.len() + HEAD_LETTERS].as_chunks_mut::<2>();
                for (pair, byte) in letters.iter_mut().zip(bytes) {
                    *pair = [b'a' + (byte >> 4), b'a' + (byte & 15)];
                }
            }
        }
    }

    /// Reads the head; `None` where there is none.
    #[inline]
    pub fn read(self, body: &[u8]) -> Option<Head> {
        match self {
            Shape::Bytes => Head::read(body),
            Shape::Document => {
                let (letters, _) = body.get(OPEN.len()..OPEN.len() + HEAD_LETTERS)?.as_chunks::<2>();
                let mut bytes = [0; HEAD_BYTES];
                for (byte, pair) in bytes.iter_mut().zip(letters) {
                    *byte = pair[0].wrapping_sub(b'a') << 4 | pair[1].wrapping_sub(b'a') & 15;
                }
                Head::read(&bytes)
            }
        }
    }

    /// The message around a body of this shape.
    #[inline]
    pub fn message(self, body: &[u8]) -> Outgoing<'_> {
        match self {
            Shape::Bytes => Outgoing::from(body),
            Shape::Document => {
                Outgoing::from(body).properties(&PROPERTIES).content_type("application/json;charset=utf-8")
            }
        }
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
