//! A runtime on another machine: where it is, whom to trust for it, and the key that a token is made with for each request.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderValue;
use rustls::ClientConfig;
use tokio_rustls::TlsConnector;

use crate::admin::listener::Connection;
use crate::clock;
use crate::identity::{SymmetricKey, Token};
use crate::tls::{self, CertificateDer, ServerName, TlsError};

/// Port of the management API unless told otherwise.
pub const DEFAULT_PORT: u16 = 8443;
/// A token is made anew with each request; it holds long enough for the slowest one.
const TOKEN_LIFE: Duration = Duration::from_secs(3600);

/// Host and port of another machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Name or address, without brackets.
    pub name: String,
    /// Port.
    pub port: u16,
}

impl Host {
    /// `HOST`, `HOST:PORT`, `[IPv6]:PORT`; `None` for what is none of these.
    pub fn parse(text: &str) -> Option<Host> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(Host { name: address.to_string(), port: DEFAULT_PORT });
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => (name, port.parse().ok()?),
            None => (text, DEFAULT_PORT),
        };
        let name = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
        ServerName::try_from(name).ok()?;
        Some(Host { name: name.to_ascii_lowercase(), port })
    }

    /// As it stands in a URL.
    fn authority(&self) -> String {
        if self.name.contains(':') {
            format!("[{}]:{}", self.name, self.port)
        } else {
            format!("{}:{}", self.name, self.port)
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.authority())
    }
}

/// What a connection string says, as IoT Hub writes them. `Debug` shows no key.
#[derive(Debug, Clone)]
pub struct Credential {
    host_name: Option<String>,
    /// What follows the host in the resource of a token; empty for a policy.
    path: String,
    policy: Option<String>,
    key: SymmetricKey,
}

/// Why a connection string cannot be used. The texts hold nothing of it but names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadConnectionString {
    /// No such form.
    #[error("it is not of the form HostName=…;SharedAccessKeyName=…;SharedAccessKey=…")]
    Form,
    /// A part that is not there.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// Not a key.
    #[error("its SharedAccessKey cannot be used: {0}")]
    Key(String),
}

impl Credential {
    /// Reads a connection string.
    pub fn parse(text: &str) -> Result<Credential, BadConnectionString> {
        let (mut host_name, mut policy, mut device, mut module, mut key) = (None, None, None, None, None);
        for part in text.trim().split(';').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').ok_or(BadConnectionString::Form)?;
            match name {
                "HostName" => host_name = Some(value),
                "SharedAccessKeyName" => policy = Some(value),
                "DeviceId" => device = Some(value),
                "ModuleId" => module = Some(value),
                "SharedAccessKey" => key = Some(value),
                // Such as GatewayHostName: of no use here.
                _ => {}
            }
        }
        let key = key.ok_or(BadConnectionString::Missing("SharedAccessKey"))?;
        let key = SymmetricKey::from_base64(key).map_err(|error| BadConnectionString::Key(error.to_string()))?;
        let path = match (policy, device, module) {
            (Some(_), ..) => String::new(),
            (None, Some(device), Some(module)) => format!("/devices/{device}/modules/{module}"),
            (None, Some(device), None) => format!("/devices/{device}"),
            (None, None, _) => return Err(BadConnectionString::Missing("SharedAccessKeyName")),
        };
        let owned = |text: &str| text.to_owned();
        Ok(Credential { host_name: host_name.map(owned), path, policy: policy.map(owned), key })
    }

    /// A token for a device that is reached as `host`, unless the connection string names it otherwise.
    fn token(&self, host: &Host) -> String {
        let now = u64::try_from(clock::wall_us() / 1_000_000).unwrap_or(0);
        let name = self.host_name.clone().unwrap_or_else(|| host.authority());
        Token::make(&self.key, &format!("{name}{}", self.path), now + TOKEN_LIFE.as_secs(), self.policy.as_deref())
    }
}

/// See the module's documentation.
#[derive(Clone)]
pub struct Remote {
    /// Where.
    pub host: Host,
    credential: Credential,
    tls: Arc<ClientConfig>,
}

impl Remote {
    /// The runtime on `host`, whose certificate leads to one of `trusted`.
    pub fn new(host: Host, credential: Credential, trusted: &[CertificateDer<'static>]) -> Result<Remote, TlsError> {
        Ok(Remote { host, credential, tls: tls::client_config(trusted)? })
    }

    /// `Host` of a request.
    pub(super) fn authority(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.host.authority()).ok()
    }

    /// `Authorization` of a request.
    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(&self.credential.token(&self.host)).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// A connection to it, once its certificate was found good.
    pub(super) async fn open(&self) -> io::Result<Box<dyn Connection>> {
        Ok(Box::new(shake_hands(&self.host, self.tls.clone()).await?))
    }
}

async fn shake_hands(
    host: &Host,
    tls: Arc<ClientConfig>,
) -> io::Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>> {
    let stream = tokio::net::TcpStream::connect((host.name.as_str(), host.port)).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(host.name.clone()).map_err(io::Error::other)?;
    TlsConnector::from(tls).connect(name, stream).await
}

/// The certificate that `host` shows as the one to trust. Nothing is said to it.
pub fn shown_by(host: &Host) -> io::Result<CertificateDer<'static>> {
    let (config, seen) = tls::presented().map_err(io::Error::other)?;
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Made inside: a timer belongs to an executor.
    let shake = async { tokio::time::timeout(super::connect::CONNECT_TIMEOUT, shake_hands(host, config)).await };
    let outcome = executor.block_on(shake);
    match (seen.topmost(), outcome) {
        // The handshake ends in an error on purpose.
        (Some(certificate), _) => Ok(certificate),
        (None, Ok(Err(error))) => Err(error),
        (None, Ok(Ok(_))) => Err(io::Error::other("it shows no certificate")),
        (None, Err(_)) => Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_and_addresses_with_or_without_a_port() {
        let table = [
            ("line3", Some("line3:8443")),
            ("Line3.example:443", Some("line3.example:443")),
            ("192.0.2.7", Some("192.0.2.7:8443")),
            ("192.0.2.7:1", Some("192.0.2.7:1")),
            ("::1", Some("[::1]:8443")),
            ("[::1]:9", Some("[::1]:9")),
            ("https://line3", None),
            ("../line3", None),
            ("line3:port", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(Host::parse(text).map(|host| host.to_string()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn connection_strings_of_policies_and_identities_make_their_tokens() {
        let key = SymmetricKey::random().unwrap().to_base64().to_string();
        let host = Host::parse("192.0.2.7").unwrap();
        let scope = |text: String| {
            let token = Token::parse(&Credential::parse(&text).unwrap().token(&host)).unwrap();
            (token.scope().host.clone(), token.scope().path.clone(), token.policy().map(str::to_owned))
        };
        assert_eq!(
            scope(format!("HostName=line3:8443;SharedAccessKeyName=reader;SharedAccessKey={key}\n")),
            ("line3".into(), String::new(), Some("reader".into()))
        );
        assert_eq!(
            scope(format!("DeviceId=D;ModuleId=m;SharedAccessKey={key}")),
            ("192.0.2.7".into(), "/devices/D/modules/m".into(), None)
        );
    }

    #[test]
    fn what_is_wrong_with_a_connection_string_is_said_without_its_key() {
        let table = [
            ("nonsense", BadConnectionString::Form),
            ("HostName=a;SharedAccessKeyName=reader", BadConnectionString::Missing("SharedAccessKey")),
        ];
        for (text, expected) in table {
            assert_eq!(Credential::parse(text).unwrap_err(), expected);
        }
        let refused = Credential::parse("SharedAccessKeyName=reader;SharedAccessKey=hunter2!").unwrap_err();
        assert!(!refused.to_string().contains("hunter2"), "{refused}");
        let key = SymmetricKey::random().unwrap().to_base64().to_string();
        let good = Credential::parse(&format!("SharedAccessKeyName=reader;SharedAccessKey={key}")).unwrap();
        assert!(!format!("{good:?}").contains(&key));
    }
}
