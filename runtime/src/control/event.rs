//! Everything that the control loop can be told.

use std::time::Instant;

use super::Control;
use crate::image::{Digest, FileEvent};
use crate::instance::state::WorkerId;
use crate::instance::ticket::Ticket;
use crate::instance::worker::WorkerEvent;

/// See the module's documentation.
pub enum Event {
    /// Something happened in a watched folder.
    File(FileEvent),
    /// A worker of an instance says something.
    Worker {
        /// The instance.
        name: String,
        /// Its worker.
        worker: WorkerId,
        /// Tells it from a worker of the same number that an instance of the same name had before.
        ticket: Ticket,
        /// What it says.
        event: WorkerEvent,
    },
    /// An image was asked for the schema and the defaults of its desired properties.
    Described {
        /// The image.
        digest: Digest,
        /// JSON Schema.
        schema: Option<String>,
        /// JSON object.
        defaults: Option<String>,
    },
    /// An image cannot be loaded, whatever is tried.
    LoadFailed {
        /// The image.
        digest: Digest,
        /// Why, and what to do.
        reason: String,
    },
    /// A client asks or commands.
    Request(Request),
    /// The runtime is to end.
    Shutdown,
}

/// A question or command of a client; it answers through what it captured.
pub type Request = Box<dyn FnOnce(&mut Control, Instant) + Send>;
