//! A message on its way in, and why it may not get there.

use dinrail_plugin::abi::DrBuffer;

use super::budget::Bound;
use super::lane::MetaWriter;

/// A message as a sender hands it in.
pub struct Outgoing<'a> {
    /// Length of the encoded properties.
    pub meta_len: usize,
    /// Writes them.
    pub fill: &'a dyn Fn(&mut MetaWriter<'_>),
    /// Body; where it is a buffer, lanes take references of their own.
    pub body: OutgoingBody<'a>,
}

/// The body of a message that is handed in.
#[derive(Clone, Copy)]
pub enum OutgoingBody<'a> {
    /// Copied.
    Bytes(&'a [u8]),
    /// Shared, if it is too large for a copy.
    Buffer(&'a DrBuffer, &'a [u8]),
}

impl<'a> OutgoingBody<'a> {
    /// Its bytes.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            OutgoingBody::Bytes(bytes) | OutgoingBody::Buffer(_, bytes) => bytes,
        }
    }
}

/// Why a send did not reach every target. Those that had room did get the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Larger than a route allows.
    #[error("the message has {bytes} bytes with its properties; the route to {endpoint} takes at most {limit}")]
    TooLarge {
        /// Size of body and properties.
        bytes: usize,
        /// Limit of the route.
        limit: usize,
        /// Endpoint.
        endpoint: String,
    },
    /// The byte budget of the store is spent, or the disk has no room.
    #[error("no room in the store for {bytes} bytes to {endpoint}: {bound}")]
    StoreFull {
        /// Endpoint.
        endpoint: String,
        /// Bytes of the message.
        bytes: u64,
        /// Which bound it met; says what to do.
        bound: Bound,
    },
    /// The disk does not take what was sent before.
    #[error("messages for {endpoint} cannot be stored at present; send again later, or see the log for the cause")]
    NotStored {
        /// Endpoint.
        endpoint: String,
    },
    /// The instance that sends is gone or may not send.
    #[error("{0}")]
    Refused(String),
    /// A receiver did not make room in time.
    #[error("the queue of {endpoint} is full and stays so; send again later, or see why it is slow: dinrail list")]
    Full {
        /// Endpoint.
        endpoint: String,
    },
}
