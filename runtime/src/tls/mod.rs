//! TLS: what this device shows of itself to those who connect from another machine, and whom its own client trusts.
//!
//! Without files from the operator the device has a small certification authority of its own ([`Authority`]): `tls/ca.key`
//! (0600) and `tls/ca.pem` (for everybody who may look into the state directory) are made at first use and stay. What it
//! certifies for the server lives in memory only ([`ServerCertificate`]), is new with each start, and is renewed while it runs.
//!
//! Guarantee: a device whose clock says 1970 serves and can be verified by those whose clocks are right: certificates begin in
//! 1970 and end a year after the later of the device's clock and this release. What expires is replaced at the next handshake,
//! without a restart. Invariant: clients trust `ca.pem`, so it never changes by itself; a key that does not belong to it is
//! refused rather than replaced.

mod authority;
mod server;
mod trust;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

pub use authority::{Authority, Issued};
use rustls::crypto::CryptoProvider;
pub use rustls::pki_types::{CertificateDer, ServerName};
pub use server::{GivenFiles, ServerCertificate, names_of, server_config};
pub use trust::{Presented, Trouble, client_config, explain, presented, read_certificates, system_roots};

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("{} cannot be used", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds something else than it should.
    #[error("{} is not what it should be: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// One half of the device's own authority is missing, or they are no pair.
    #[error("{} does not belong to {}", key.display(), certificate.display())]
    NoPair {
        /// `ca.key`.
        key: PathBuf,
        /// `ca.pem`.
        certificate: PathBuf,
    },
    /// The certificate cannot be made.
    #[error("the certificate cannot be made: {0}")]
    Make(String),
}

impl TlsError {
    /// The next step.
    pub fn hint(&self) -> String {
        match self {
            TlsError::File { .. } => "make it readable for the user that the runtime runs as".to_owned(),
            TlsError::Content { .. } => {
                "give a certificate chain and its key as PEM (api.certificate, api.private_key), or neither".to_owned()
            }
            TlsError::NoPair { key, certificate } => format!(
                "put back the pair from a backup, or delete {} and {}: a new authority is then made, which clients have to \
                 trust anew",
                key.display(),
                certificate.display()
            ),
            TlsError::Make(_) => "this is a defect of the runtime; give certificate files instead".to_owned(),
        }
    }
}

/// Seconds since 1970 by the device's clock, right or wrong.
type UnixSecs = u64;

/// SHA-256 of a certificate as people compare it: `3A:F1:…`.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
    digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

/// A certificate as text.
pub fn to_pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[cfg(test)]
mod tests;
