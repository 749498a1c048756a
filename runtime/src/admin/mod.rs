//! The management API: HTTP/1.1 and JSON over the socket in the state directory, and the client that the command line uses.
//!
//! One thread (`dinrail-admin`) with a single-threaded executor serves it, so that an idle API costs little memory. Every bound
//! is stated in `bounds`: connections, headers, bodies, time. Who may do what stands in one table, `access`; other machines come
//! in through `remote`, never without TLS and a token. Routes only translate; what they ask for is a method of
//! [`Handle`]. Where IoT Hub's service API has the call, path, verb, body and ETag rules are its own.

mod access;
mod audit;
mod bounds;
pub mod caller;
mod check;
pub mod client;
mod dead_letters;
mod deployment;
pub mod error;
mod gate;
mod health;
mod identities;
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
pub mod remote;
mod request;
mod routes;
mod seats;
mod secrets;
pub mod server;
pub mod socket;
mod support;
mod twins;
mod unread;
pub mod waiting;
mod watched;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::handle::Handle;
use crate::identity::Role;
use crate::tls::TlsError;
use crate::view::ModuleDetail;
use bounds::Limits;
use gate::Gate;
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
    /// The address for other machines cannot be listened on.
    #[error("the management API cannot listen on {address}")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// There is no certificate for it.
    #[error("the management API has no TLS for other machines")]
    Tls(#[from] TlsError),
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
            AdminError::Listen { source, .. } => match source.kind() {
                io::ErrorKind::AddrInUse => "another program listens there; choose another port with --listen".into(),
                io::ErrorKind::AddrNotAvailable => {
                    "name an address of this machine, or 0.0.0.0 or [::] for all of them, with --listen".into()
                }
                io::ErrorKind::PermissionDenied => "ports below 1024 are root's; choose a higher one with --listen".into(),
                _ => "choose another address with --listen, or leave it out".into(),
            },
            AdminError::Tls(error) => error.hint(),
            AdminError::Thread(_) => "the system is out of threads or memory".into(),
        }
    }
}

/// Opens the management API of the runtime that owns `state_dir`.
///
/// `session_folder` is the user's folder for short-lived files (`$XDG_RUNTIME_DIR`), where there is one: it holds the socket when
/// the path in the state directory is too long. The caller holds the lock of the state directory; what lies at the socket's path
/// and does not answer is removed.
pub fn serve(
    handle: Handle,
    state_dir: &Path,
    session_folder: Option<&Path>,
    reach: Reach,
) -> Result<AdminServer, AdminError> {
    let remote = reach.remote.map(|remote| remote::bind(&remote, state_dir, handle.device_id())).transpose()?;
    let gate = remote.as_ref().map(|bound| {
        let (handle, figures) = (handle.clone(), handle.access_figures().clone());
        let view = &bound.view;
        tracing::info!(
            address = view.address,
            fingerprint = view.fingerprint,
            authority = view.authority.as_deref().unwrap_or("as configured"),
            "the management API is reached from other machines, by TLS and tokens"
        );
        let gate =
            Gate::new(Box::new(move |token, names| handle.authenticate(token, names)), bound.names.clone(), figures);
        Arc::new(gate)
    });
    if let Some(bound) = &remote {
        handle.reached_by(bound.view.clone());
    }
    let (local, place) = listener::bind(state_dir, session_folder)?;
    let record = {
        let handle = handle.clone();
        Box::new(move |entry: audit::Entry| {
            let (told, is_written) = tokio::sync::oneshot::channel();
            handle.record(&entry.text, entry.fields, entry.is_refusal);
            handle.once_recorded(move || {
                let _ = told.send(());
            });
            is_written
        })
    };
    let hall = server::Hall {
        figures: handle.access_figures().clone(),
        router: routes::router(handle),
        gate,
        record,
        group_role: reach.group_role,
        limits: Limits::default(),
    };
    server::open(hall, server::Ways { local, place, remote }, state_dir)
}

/// Who reaches the management API besides root and the runtime's own user.
#[derive(Debug, Clone)]
pub struct Reach {
    /// What other users of this system may do, who may open the socket.
    pub group_role: Role,
    /// Other machines; `None`: not at all.
    pub remote: Option<remote::Remote>,
}

/// The module in the words of the routes that act on it.
type ModuleAnswer = Result<axum::Json<ModuleDetail>, error::ApiError>;
