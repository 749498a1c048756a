//! The management API: HTTP/1.1 and JSON over the socket in the state directory, and the client that the command line uses.
//!
//! One thread (`dinrail-admin`) with a single-threaded executor serves it, so that an idle API costs little memory. Every bound
//! is stated in [`server`]: connections, headers, bodies, time. Routes only translate; what they ask for is a method of
//! [`Handle`]. Where IoT Hub's service API has the call, path, verb, body and ETag rules are its own.

mod check;
pub mod client;
mod deployment;
pub mod error;
mod health;
mod images;
mod inputs;
pub mod listener;
mod logs;
mod losses;
mod message_routes;
mod messages;
pub mod methods;
mod metrics;
mod modules;
mod openapi;
mod query;
mod request;
mod routes;
pub mod server;
pub mod socket;
mod support;
mod twins;
pub mod waiting;

use std::io;
use std::path::{Path, PathBuf};

use crate::handle::Handle;
use crate::view::ModuleDetail;
pub use server::AdminServer;

/// Why the management API could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Somebody answers on the socket already.
    #[error("another runtime answers on {}", .0.display())]
    InUse(PathBuf),
    /// The socket could not be made.
    #[error("the management socket {} cannot be made", path.display())]
    Bind {
        /// The socket, or the file with the token.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The path in the state directory is too long, and the folder for the short one cannot be trusted or made.
    #[error("the state directory's path is too long for a socket, and {} cannot hold a short one: {problem}", folder.display())]
    Folder {
        /// The folder in question.
        folder: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The thread could not be started.
    #[error("the thread of the management API cannot be started")]
    Thread(#[source] io::Error),
}

impl AdminError {
    /// The next step.
    pub fn hint(&self) -> String {
        match self {
            AdminError::InUse(_) => "stop the other runtime, or give this one its own directory with --state DIR".into(),
            AdminError::Bind { .. } => {
                "check that the state directory is writable and on a local file system, or choose another with --state DIR".into()
            }
            AdminError::Folder { folder, .. } => {
                format!("use a shorter --state DIR, or make {} a folder of yours with mode 0700", folder.display())
            }
            AdminError::Thread(_) => "the system is out of threads or memory".into(),
        }
    }
}

/// Opens the management API of the runtime that owns `state_dir`.
///
/// `session_folder` is the user's folder for short-lived files (`$XDG_RUNTIME_DIR`), where there is one: it holds the socket when
/// the path in the state directory is too long. The caller holds the lock of the state directory; what lies at the socket's path
/// and does not answer is removed.
pub fn serve(handle: Handle, state_dir: &Path, session_folder: Option<&Path>) -> Result<AdminServer, AdminError> {
    server::open(routes::router(handle), state_dir, session_folder)
}

/// The module in the words of the routes that act on it.
type ModuleAnswer = Result<axum::Json<ModuleDetail>, error::ApiError>;
