//! A runtime that is reached from other machines, here over loopback: its keys as the device derives them, and TLS without the
//! command line.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

use super::{Runtime, SOON};

/// Where it is reached, on a port of its own.
pub const LISTEN: [&str; 2] = ["--listen", "127.0.0.1:0"];

/// A connection by TLS.
pub type Tls = StreamOwned<ClientConnection, TcpStream>;

impl Runtime {
    /// The port for other machines.
    #[track_caller]
    pub fn port(&self) -> u16 {
        let (_, health) = self.api().ask("GET", "/health", None).unwrap();
        let address = health["api"]["address"].as_str().unwrap_or_else(|| panic!("not reached: {health}"));
        address.rsplit_once(':').unwrap().1.parse().unwrap()
    }

    /// `localhost:PORT`.
    pub fn host(&self) -> String {
        format!("localhost:{}", self.port())
    }

    /// The primary key of a shared access policy, derived from the device's key as the device does it.
    pub fn policy_key(&self, policy: &str) -> String {
        let file = std::fs::read_to_string(self.state().join("keys/device.key")).unwrap();
        let master = STANDARD.decode(file.split_whitespace().nth(1).expect("a key")).unwrap();
        let master = hmac::Key::new(hmac::HMAC_SHA256, &master);
        STANDARD.encode(hmac::sign(&master, format!("policy {policy}:primary").as_bytes()))
    }

    /// The connection string of a shared access policy.
    pub fn connection_string(&self, policy: &str) -> String {
        let key = self.policy_key(policy);
        format!("HostName={};SharedAccessKeyName={policy};SharedAccessKey={key}", self.host())
    }

    /// A token of a shared access policy, good until `expiry` after 1970.
    pub fn token(&self, policy: &str, expiry: u64) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(self.policy_key(policy)).unwrap());
        let signature = STANDARD.encode(hmac::sign(&key, format!("localhost\n{expiry}").as_bytes()));
        let signature = signature.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        format!("SharedAccessSignature sr=localhost&sig={signature}&se={expiry}&skn={policy}")
    }

    /// The file that clients have to trust.
    pub fn ca(&self) -> String {
        self.state().join("tls/ca.pem").to_str().unwrap().to_owned()
    }

    /// A connection by TLS.
    pub fn tls(&self) -> Tls {
        connect(self.port(), &tls_config(self))
    }
}

/// Trusts the device.
pub fn tls_config(runtime: &Runtime) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(runtime.ca()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

/// A connection by TLS to a port of loopback; the handshake happens with the first octets.
pub fn connect(port: u16, config: &Arc<ClientConfig>) -> Tls {
    let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(config.clone(), name).unwrap(), socket)
}

/// Sends octets as they are; what is answered until the server closes, or its first answer where it does not.
pub fn say(stream: &mut (impl Read + Write), octets: &[u8]) -> String {
    // A server that refuses early may have closed while we write.
    let _ = stream.write_all(octets).and_then(|()| stream.flush());
    let mut answer = Vec::new();
    let mut some = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut some) {
        answer.extend_from_slice(&some[..read]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.to_ascii_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        if length.is_some_and(|length: usize| body.len() >= length) {
            break;
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// The JSON of an answer.
pub fn body(answer: &str) -> Value {
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}
