//! Whom a client trusts, and in a person's words why it does not.

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::{TlsError, provider};
use crate::clock;

/// Where systems keep whom they trust.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

/// A client's side that trusts servers whose chain leads to one of `trusted`.
pub fn client_config(trusted: &[CertificateDer<'static>]) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    // Old roots of a system that cannot be read are nobody's that is asked for here.
    roots.add_parsable_certificates(trusted.iter().cloned());
    Ok(Arc::new(builder()?.with_root_certificates(roots).with_no_client_auth()))
}

/// What the system trusts; empty where it keeps that elsewhere.
pub fn system_roots() -> Vec<CertificateDer<'static>> {
    let found = SYSTEM_BUNDLES.iter().find_map(|file| read_certificates(Path::new(file)).ok());
    found.unwrap_or_default()
}

/// The certificates of a PEM file.
pub fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = std::fs::read(file).map_err(|source| TlsError::File { path: file.to_owned(), source })?;
    let wrong = |problem: String| TlsError::Content { path: file.to_owned(), problem };
    let found = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| wrong(error.to_string()))?;
    if found.is_empty() { Err(wrong("there is no certificate in it".to_owned())) } else { Ok(found) }
}

/// A client's side that trusts nobody but notes what is shown to it: for a person to compare.
pub fn presented() -> Result<(Arc<ClientConfig>, Arc<Presented>), TlsError> {
    let seen = Arc::new(Presented { chain: Mutex::default(), provider: provider() });
    let config = builder()?.dangerous().with_custom_certificate_verifier(seen.clone()).with_no_client_auth();
    Ok((Arc::new(config), seen))
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    builder.map_err(|error| TlsError::Make(error.to_string()))
}

/// What a server showed.
#[derive(Debug)]
pub struct Presented {
    chain: Mutex<Vec<CertificateDer<'static>>>,
    provider: Arc<CryptoProvider>,
}

impl Presented {
    /// The last certificate of its chain, the one to trust.
    pub fn topmost(&self) -> Option<CertificateDer<'static>> {
        self.chain.lock().unwrap_or_else(PoisonError::into_inner).last().cloned()
    }
}

impl ServerCertVerifier for Presented {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = std::iter::once(end_entity).chain(intermediates).map(|one| one.clone().into_owned()).collect();
        *self.chain.lock().unwrap_or_else(PoisonError::into_inner) = chain;
        // Nothing is said over this connection: the handshake ends here, in an error.
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Why a server is not trusted, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What is wrong.
    pub message: String,
    /// The next step.
    pub hint: String,
}

/// The words for an error of TLS that a client met at `host`; `None` for one that is not about TLS.
pub fn explain(host: &str, error: &(dyn std::error::Error + 'static)) -> Option<Trouble> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<Error>() {
            return Some(words(host, tls));
        }
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

fn words(host: &str, error: &Error) -> Trouble {
    let day = |time: &UnixTime| {
        let us = i64::try_from(time.as_secs()).unwrap_or(i64::MAX / 2_000_000).saturating_mul(1_000_000);
        clock::rfc3339(us).chars().take(10).collect::<String>()
    };
    let (message, hint) = match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => (
            format!("the certificate of {host} is signed by nobody that is trusted here"),
            "trust its authority with `dinrail -H HOST login --ca FILE`, where FILE is ca.pem, which `dinrail check` on the \
             device names"
                .to_owned(),
        ),
        Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. }) => (
            format!("the certificate of {host} is for other names: {}", spoken(presented)),
            "use one of these with -H, or add the name to api.host_names in the configuration of the device".to_owned(),
        ),
        Error::InvalidCertificate(CertificateError::ExpiredContext { time, not_after }) => (
            format!("the certificate of {host} ended on {}; by the clock here it is {}", day(not_after), day(time)),
            "check the clock of this machine, else renew the certificate files of the device".to_owned(),
        ),
        Error::InvalidCertificate(CertificateError::NotValidYetContext { time, not_before }) => (
            format!("the certificate of {host} begins on {}; by the clock here it is {}", day(not_before), day(time)),
            "set the clock of this machine".to_owned(),
        ),
        Error::InvalidCertificate(other) => (
            format!("the certificate of {host} cannot be trusted: {other}"),
            "look at it with `openssl s_client -connect HOST:PORT -showcerts`".to_owned(),
        ),
        Error::InvalidMessage(_) => (
            format!("what listens on {host} does not speak TLS"),
            "name the port of the management API: `dinrail check` on the device says it".to_owned(),
        ),
        other => (format!("no TLS with {host}: {other}"), "see the log of the runtime there".to_owned()),
    };
    Trouble { message, hint }
}

/// `DnsName("a"), IpAddress(127.0.0.1)` as people write them.
fn spoken(presented: &[String]) -> String {
    let bare = |name: &String| {
        let inner = name.split_once('(').map_or(name.as_str(), |(_, rest)| rest.trim_end_matches(')'));
        let inner = inner.trim_matches('"');
        // Addresses come in a form of their own.
        inner.parse::<IpAddr>().map_or_else(|_| inner.to_owned(), |address| address.to_string())
    };
    presented.iter().map(bare).collect::<Vec<_>>().join(", ")
}
