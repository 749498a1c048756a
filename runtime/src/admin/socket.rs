//! Where the management API listens, and how a client finds it.
//!
//! The socket is `dinrail.sock` in the state directory. A socket's path is short by nature (107 bytes on Linux); where the state
//! directory's is too long, a short one in the runtime folder takes its place and `dinrail.sock.path` in the state directory names
//! it. Where there are no such sockets (Windows), `admin.token` holds the loopback address and a random token, a line each.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Name of the socket in the state directory.
pub const SOCKET_FILE: &str = "dinrail.sock";
/// Names the socket where that one is too long.
pub const SOCKET_PATH_FILE: &str = "dinrail.sock.path";
/// Address and token where there are no sockets in the file system.
pub const TOKEN_FILE: &str = "admin.token";
/// Longest path of a socket in bytes, without the closing zero.
pub const MAX_SOCKET_PATH_BYTES: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// Where a runtime listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A socket in the file system.
    Socket(PathBuf),
    /// Loopback with a token that every request carries.
    Loopback {
        /// Address.
        addr: SocketAddr,
        /// Secret of this start of the runtime.
        token: String,
    },
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Socket(path) => write!(f, "{}", path.display()),
            Place::Loopback { addr, .. } => write!(f, "{addr}"),
        }
    }
}

/// Where the runtime of `state_dir` would listen. Does not try whether it does.
///
/// Errors: why nothing can be found there.
pub fn find(state_dir: &Path) -> io::Result<Place> {
    if cfg!(not(unix)) {
        return find_loopback(state_dir);
    }
    let socket = state_dir.join(SOCKET_FILE);
    match std::fs::read_to_string(state_dir.join(SOCKET_PATH_FILE)) {
        Ok(text) => Ok(Place::Socket(PathBuf::from(text.trim_end_matches('\n')))),
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_too_long(&socket) => Err(error),
        // Whatever else is wrong with the folder, connecting says it better.
        Err(_) => Ok(Place::Socket(socket)),
    }
}

fn find_loopback(state_dir: &Path) -> io::Result<Place> {
    let text = std::fs::read_to_string(state_dir.join(TOKEN_FILE))?;
    parse_loopback(&text)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{TOKEN_FILE} is not complete")))
}

/// Reads the text of [`TOKEN_FILE`].
fn parse_loopback(text: &str) -> Option<Place> {
    let (addr, token) = text.trim_end().split_once('\n')?;
    Some(Place::Loopback { addr: addr.trim().parse().ok()?, token: token.trim().to_owned() })
}

/// True if the path does not fit into a socket address.
pub fn is_too_long(socket: &Path) -> bool {
    socket.as_os_str().len() > MAX_SOCKET_PATH_BYTES
}

/// The folder for a short socket: the session's, else `/run/dinrail` for root, else one per user in `/tmp`.
#[cfg(unix)]
pub(super) fn short_folder(session_folder: Option<&Path>, uid: u32) -> PathBuf {
    match session_folder {
        Some(folder) if folder.is_absolute() => folder.join("dinrail"),
        _ if uid == 0 => PathBuf::from("/run/dinrail"),
        _ => PathBuf::from(format!("/tmp/dinrail-{uid}")),
    }
}

/// The name of a short socket: the same for the same state directory.
#[cfg(unix)]
pub(super) fn short_name(state_dir: &Path) -> String {
    use sha2::{Digest, Sha256};
    use std::os::unix::ffi::OsStrExt;
    let hash = Sha256::digest(state_dir.as_os_str().as_bytes());
    format!("{}.sock", hash.iter().take(8).map(|b| format!("{b:02x}")).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn client_finds_the_socket_of_the_state_directory() {
        let state = tempfile::tempdir().unwrap();

        assert_eq!(find(state.path()).unwrap(), Place::Socket(state.path().join("dinrail.sock")));
    }

    #[test]
    #[cfg(unix)]
    fn client_follows_the_file_that_names_a_short_socket() {
        let state = tempfile::tempdir().unwrap();
        std::fs::write(state.path().join(SOCKET_PATH_FILE), "/run/dinrail/0123.sock\n").unwrap();

        assert_eq!(find(state.path()).unwrap(), Place::Socket("/run/dinrail/0123.sock".into()));
    }

    #[test]
    fn a_path_of_107_bytes_fits_and_one_more_does_not() {
        let fits = PathBuf::from("x".repeat(MAX_SOCKET_PATH_BYTES));
        assert!(!is_too_long(&fits));
        assert!(is_too_long(&PathBuf::from("x".repeat(MAX_SOCKET_PATH_BYTES + 1))));
    }

    #[test]
    #[cfg(unix)]
    fn short_sockets_lie_in_the_session_folder_or_in_the_users_own() {
        assert_eq!(short_folder(Some(Path::new("/run/user/1000")), 1000), Path::new("/run/user/1000/dinrail"));
        assert_eq!(short_folder(Some(Path::new("relative")), 1000), Path::new("/tmp/dinrail-1000"));
        assert_eq!(short_folder(None, 0), Path::new("/run/dinrail"));
        assert_ne!(short_name(Path::new("/a")), short_name(Path::new("/b")));
        assert_eq!(short_name(Path::new("/a")).len(), 21);
    }

    #[test]
    fn token_file_reads_as_address_and_token() {
        let place = parse_loopback("127.0.0.1:4711\n00ff\n").unwrap();

        assert_eq!(place, Place::Loopback { addr: "127.0.0.1:4711".parse().unwrap(), token: "00ff".into() });
        assert_eq!(parse_loopback("127.0.0.1:4711"), None);
        assert_eq!(parse_loopback("nonsense\n00ff"), None);
    }
}
