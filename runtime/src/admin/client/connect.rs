//! Reaching a runtime, and saying in a person's words why that fails.

use std::io;
use std::path::Path;
use std::time::Duration;

use hyper_util::rt::TokioIo;

use super::Target;
use crate::admin::listener::Connection;
use crate::admin::socket::Place;

/// A runtime that takes longer to accept has other troubles.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to a runtime, wherever it is.
pub(super) async fn reach(target: &Target) -> io::Result<TokioIo<Box<dyn Connection>>> {
    match target {
        Target::Local { place, .. } => connect(place).await,
        Target::Remote(remote) => {
            let late = |_| io::Error::new(io::ErrorKind::TimedOut, "it does not answer");
            tokio::time::timeout(CONNECT_TIMEOUT, remote.open()).await.map_err(late)?.map(TokioIo::new)
        }
    }
}

pub(super) async fn connect(place: &Place) -> io::Result<TokioIo<Box<dyn Connection>>> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "it does not accept clients");
    tokio::time::timeout(CONNECT_TIMEOUT, open(place)).await.map_err(late)?.map(TokioIo::new)
}

async fn open(place: &Place) -> io::Result<Box<dyn Connection>> {
    match place {
        #[cfg(unix)]
        Place::Socket(path) => Ok(Box::new(tokio::net::UnixStream::connect(path).await?)),
        #[cfg(not(unix))]
        Place::Socket(_) => Err(io::Error::new(io::ErrorKind::Unsupported, "there are no such sockets here")),
        Place::Loopback { addr, .. } => Ok(Box::new(tokio::net::TcpStream::connect(addr).await?)),
    }
}

/// Why nobody answers for `state_dir`.
pub(super) fn explain(state_dir: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound if !state_dir.exists() => "there is no such directory".into(),
        io::ErrorKind::NotFound => "no runtime has its socket there".into(),
        io::ErrorKind::ConnectionRefused => "a socket is there, but its runtime is gone".into(),
        io::ErrorKind::PermissionDenied => {
            "permission denied; members of the directory's group may use it, and root may".into()
        }
        _ => error.to_string(),
    }
}
