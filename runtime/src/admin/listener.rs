//! The ways in for clients of this system, behind one type: a socket in the file system, or loopback with a token.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tokio::io::{AsyncRead, AsyncWrite};

use super::AdminError;
use super::caller::Caller;
use super::socket::{self, Place};
use crate::identity::Role;

/// A connected client, whichever way it came.
pub trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Connection for T {}

/// A bound way in; not yet part of an executor.
pub(super) enum Bound {
    #[cfg(unix)]
    Socket(std::os::unix::net::UnixListener),
    #[cfg_attr(unix, allow(dead_code, reason = "tried by a test on unix, the only way in elsewhere"))]
    Loopback(std::net::TcpListener),
}

/// A way in that accepts.
pub(super) enum Listener {
    #[cfg(unix)]
    Socket(tokio::net::UnixListener),
    Loopback(tokio::net::TcpListener),
}

impl Bound {
    /// Makes it part of the executor that runs on this thread.
    pub(super) fn listen(self) -> io::Result<Listener> {
        Ok(match self {
            #[cfg(unix)]
            Bound::Socket(socket) => {
                socket.set_nonblocking(true)?;
                Listener::Socket(tokio::net::UnixListener::from_std(socket)?)
            }
            Bound::Loopback(socket) => {
                socket.set_nonblocking(true)?;
                Listener::Loopback(tokio::net::TcpListener::from_std(socket)?)
            }
        })
    }
}

impl Listener {
    /// The next client. One whose user the system does not name is refused: nobody could say what it may do.
    pub(super) async fn accept(&self, group_role: Role) -> io::Result<(Box<dyn Connection>, Caller)> {
        match self {
            #[cfg(unix)]
            Listener::Socket(socket) => {
                let (stream, _) = socket.accept().await?;
                let own = rustix::process::geteuid().as_raw();
                let caller = Caller::user(stream.peer_cred()?.uid(), own, group_role);
                Ok((Box::new(stream), caller))
            }
            Listener::Loopback(socket) => {
                let _ = group_role;
                let (stream, _) = socket.accept().await?;
                Ok((Box::new(stream), Caller::TokenHolder))
            }
        }
    }
}

/// Opens the way in for `state_dir`, and leaves the files there by which clients find it.
pub(super) fn bind(state_dir: &Path, session_folder: Option<&Path>) -> Result<(Bound, Place), AdminError> {
    #[cfg(unix)]
    return bind_socket(state_dir, session_folder);
    #[cfg(not(unix))]
    {
        let _ = session_folder;
        bind_loopback(state_dir)
    }
}

#[cfg(unix)]
fn bind_socket(state_dir: &Path, session_folder: Option<&Path>) -> Result<(Bound, Place), AdminError> {
    use std::os::unix::fs::PermissionsExt;

    // Where clients stand in another folder, a relative path would lead them astray.
    let state_dir = std::path::absolute(state_dir).map_err(|source| bind_error(state_dir, source))?;
    let named = state_dir.join(socket::SOCKET_PATH_FILE);
    let wanted = state_dir.join(socket::SOCKET_FILE);
    let (path, mode) = if socket::is_too_long(&wanted) {
        let session_folder = session_folder.filter(|folder| folder.is_dir());
        let folder = socket::short_folder(session_folder, rustix::process::geteuid().as_raw());
        own_folder(&folder)?;
        (folder.join(socket::short_name(&state_dir)), 0o600)
    } else {
        (wanted.clone(), 0o660)
    };
    clear_stale(&path)?;
    let listener = std::os::unix::net::UnixListener::bind(&path).map_err(|source| bind_error(&path, source))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).map_err(|e| bind_error(&path, e))?;
    if path == wanted {
        remove_if_there(&named).map_err(|source| bind_error(&named, source))?;
    } else {
        std::fs::write(&named, format!("{}\n", path.display())).map_err(|source| bind_error(&named, source))?;
    }
    Ok((Bound::Socket(listener), Place::Socket(path)))
}

fn bind_error(path: &Path, source: io::Error) -> AdminError {
    AdminError::Bind { path: path.to_owned(), source }
}

/// Makes `folder` for this user alone, or checks that it is so: in `/tmp` anybody could have made it first.
#[cfg(unix)]
fn own_folder(folder: &Path) -> Result<(), AdminError> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};

    let refuse = |problem: String| AdminError::Folder { folder: folder.to_owned(), problem };
    match std::fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(refuse(error.to_string())),
        _ => {}
    }
    let found = std::fs::symlink_metadata(folder).map_err(|error| refuse(error.to_string()))?;
    if !found.is_dir() {
        return Err(refuse("it is not a folder".into()));
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(refuse(format!("it belongs to user {}", found.uid())));
    }
    if found.mode() & 0o077 != 0 {
        return Err(refuse(format!("others may enter it (mode {:o})", found.mode() & 0o777)));
    }
    Ok(())
}

/// Removes what a killed runtime left behind; refuses to take the place of one that answers.
#[cfg(unix)]
fn clear_stale(path: &Path) -> Result<(), AdminError> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(AdminError::InUse(path.to_owned()));
    }
    remove_if_there(path).map_err(|source| bind_error(path, source))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Listens on a free port of loopback. The token's file is readable for its owner only, as far as the system knows such a thing.
#[cfg_attr(unix, allow(dead_code, reason = "tried by a test on unix, the only way in elsewhere"))]
pub(super) fn bind_loopback(state_dir: &Path) -> Result<(Bound, Place), AdminError> {
    let file = state_dir.join(socket::TOKEN_FILE);
    let failed = |source| bind_error(&file, source);
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).map_err(failed)?;
    let addr = listener.local_addr().map_err(failed)?;
    let token = random_token();
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    remove_if_there(&file).map_err(failed)?;
    options.open(&file).and_then(|mut file| file.write_all(format!("{addr}\n{token}\n").as_bytes())).map_err(failed)?;
    Ok((Bound::Loopback(listener), Place::Loopback { addr, token }))
}

/// 256 bits from the system's generator, by way of the keys that the standard library draws for its hash tables.
fn random_token() -> String {
    let keys = RandomState::new();
    (0..4u8).map(|part| format!("{:016x}", keys.hash_one(part))).collect()
}

/// Removes what clients find the runtime by. Best effort: a client that finds the file but nobody behind it says so.
pub(super) fn remove_traces(state_dir: &Path, place: &Place) {
    let mut files: Vec<PathBuf> = vec![state_dir.join(socket::SOCKET_PATH_FILE), state_dir.join(socket::TOKEN_FILE)];
    if let Place::Socket(path) = place {
        files.push(path.clone());
    }
    for file in files {
        let _ = std::fs::remove_file(file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_long_and_never_the_same() {
        assert_eq!(random_token().len(), 64);
        assert_ne!(random_token(), random_token());
    }

    #[test]
    #[cfg(unix)]
    fn socket_of_a_killed_runtime_is_replaced_and_a_live_one_is_not() {
        let state = tempfile::tempdir().unwrap();
        let (first, place) = bind(state.path(), None).unwrap();

        assert!(matches!(bind(state.path(), None), Err(AdminError::InUse(_))));
        drop(first);
        let (_second, again) = bind(state.path(), None).unwrap();
        assert_eq!(place, again);
    }

    #[test]
    #[cfg(unix)]
    fn socket_is_for_owner_and_group_only() {
        use std::os::unix::fs::PermissionsExt;
        let state = tempfile::tempdir().unwrap();
        let _bound = bind(state.path(), None).unwrap();

        let mode = std::fs::metadata(state.path().join("dinrail.sock")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
    }

    #[test]
    #[cfg(unix)]
    fn too_long_a_state_path_gets_a_short_socket_that_clients_find() {
        let state = tempfile::tempdir().unwrap();
        let session = tempfile::tempdir().unwrap();
        let deep = state.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();

        let (_bound, place) = bind(&deep, Some(session.path())).unwrap();

        assert_eq!(socket::find(&deep).unwrap(), place);
        assert!(matches!(&place, Place::Socket(path) if path.starts_with(session.path()) && path.exists()));
    }

    #[test]
    #[cfg(unix)]
    fn a_runtime_folder_that_others_may_enter_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();

        let refused = own_folder(folder.path()).unwrap_err();

        assert!(refused.to_string().contains("mode 777"), "{refused}");
    }
}
