//! The way in from other machines: TCP, never without TLS, and opened only where the configuration says so.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::AdminError;
use crate::tls::{GivenFiles, ServerCertificate, names_of, server_config};
use crate::view::ApiView;

/// Where the certification authority of the device lies in the state directory.
pub const TLS_FOLDER: &str = "tls";

/// How the management API is reached from other machines.
#[derive(Debug, Clone)]
pub struct Remote {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Names of the device besides its host name and id.
    pub host_names: Vec<String>,
    /// The name of this machine.
    pub host_name: String,
    /// The operator's certificate, where it is not the device's own.
    pub files: Option<GivenFiles>,
}

/// A bound way in from other machines.
pub(super) struct BoundRemote {
    pub(super) socket: TcpListener,
    pub(super) certificate: Arc<ServerCertificate>,
    pub(super) acceptor: TlsAcceptor,
    pub(super) names: Vec<String>,
    pub(super) view: ApiView,
}

/// Opens it for the device `device_id`.
pub(super) fn bind(remote: &Remote, state_dir: &Path, device_id: &str) -> Result<BoundRemote, AdminError> {
    let names = names_of(&remote.host_names, &remote.host_name, device_id);
    let certificate = match &remote.files {
        Some(files) => ServerCertificate::given(files.clone())?,
        None => ServerCertificate::own(&state_dir.join(TLS_FOLDER), names.clone())?,
    };
    let certificate = Arc::new(certificate);
    if !remote.listen.ip().is_unspecified() {
        certificate.reached_at(remote.listen.ip());
    }
    let acceptor = TlsAcceptor::from(server_config(certificate.clone())?);
    let failed = |source| AdminError::Listen { address: remote.listen, source };
    let socket = TcpListener::bind(remote.listen).map_err(failed)?;
    let address = socket.local_addr().map_err(failed)?;
    let authority = certificate.authority_file().map(|file| file.display().to_string());
    let view = ApiView {
        address: address.to_string(),
        fingerprint: certificate.fingerprint(),
        authority,
        names: names.clone(),
    };
    Ok(BoundRemote { socket, certificate, acceptor, names, view })
}

/// Shakes hands with a client, within `limit`. One that does not speak TLS is told so.
pub(super) async fn shake_hands(
    acceptor: &TlsAcceptor,
    mut stream: TcpStream,
    limit: Duration,
) -> io::Result<TlsStream<TcpStream>> {
    // Answers are written whole.
    stream.set_nodelay(true)?;
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long");
    let shake = async {
        let mut first = [0];
        // 22 begins a handshake of TLS; methods of HTTP begin with a letter.
        if stream.peek(&mut first).await? == 1 && first[0].is_ascii_alphabetic() {
            stream.write_all(PLAIN).await?;
            stream.shutdown().await?;
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it speaks HTTP without TLS"));
        }
        acceptor.accept(stream).await
    };
    tokio::time::timeout(limit, shake).await.map_err(late)?
}

const PLAIN: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 106\r\n\r\n\
{\"error\":{\"code\":\"invalid\",\"message\":\"this port speaks TLS only\",\"hint\":\"ask with https://\",\"details\":[]}}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_plain_http_is_whole() {
        let text = std::str::from_utf8(PLAIN).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{}", body.len());
        serde_json::from_str::<serde_json::Value>(body).unwrap();
    }
}
