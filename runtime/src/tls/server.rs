//! The certificate that the server shows: the device's own, or files that the operator gives and may replace at any time.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::authority::is_name;
use super::{Authority, TlsError, UnixSecs, fingerprint, provider};
use crate::clock;

/// A certificate chain and its key, as PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenFiles {
    /// The certificate, then those that lead to one that clients trust.
    pub certificate: PathBuf,
    /// Its key.
    pub private_key: PathBuf,
}

/// Addresses besides the names that a certificate may get, so that nothing grows without end.
const MAX_ADDRESSES: usize = 32;

/// See the module's documentation. `[any thread]`
pub struct ServerCertificate(Mutex<Current>);

struct Current {
    key: Arc<CertifiedKey>,
    source: Source,
}

enum Source {
    Own { authority: Box<Authority>, names: Vec<String>, addresses: usize, renew_at: UnixSecs },
    Given { files: GivenFiles, written: [Option<SystemTime>; 2], looked_at: UnixSecs },
}

impl ServerCertificate {
    /// From the device's own authority in `folder`, for these names.
    pub fn own(folder: &Path, names: Vec<String>) -> Result<ServerCertificate, TlsError> {
        let authority = Box::new(Authority::open(folder)?);
        let issued = authority.issue(&names, now())?;
        let source = Source::Own { authority, names, addresses: 0, renew_at: issued.renew_at };
        Ok(ServerCertificate(Mutex::new(Current { key: issued.key, source })))
    }

    /// From files.
    pub fn given(files: GivenFiles) -> Result<ServerCertificate, TlsError> {
        let written = written(&files);
        let key = Arc::new(read(&files)?);
        let source = Source::Given { files, written, looked_at: now() };
        Ok(ServerCertificate(Mutex::new(Current { key, source })))
    }

    /// What a client that trusts nothing yet compares: of the device's own authority, or of the file's certificate.
    pub fn fingerprint(&self) -> String {
        let current = self.lock();
        match &current.source {
            Source::Own { authority, .. } => fingerprint(authority.certificate()),
            Source::Given { .. } => current.key.cert.first().map(fingerprint).unwrap_or_default(),
        }
    }

    /// The file that clients have to trust; `None` where the operator gave a certificate, who knows by whom it is signed.
    pub fn authority_file(&self) -> Option<PathBuf> {
        match &self.lock().source {
            Source::Own { authority, .. } => Some(authority.file().to_owned()),
            Source::Given { .. } => None,
        }
    }

    /// Clients reach the server at this address: the device's own certificate will say so.
    pub fn reached_at(&self, address: IpAddr) {
        let mut current = self.lock();
        let text = address.to_canonical().to_string();
        let Source::Own { authority, names, addresses, renew_at } = &mut current.source else { return };
        if *addresses >= MAX_ADDRESSES || names.contains(&text) {
            return;
        }
        names.push(text);
        *addresses += 1;
        if let Ok(issued) = authority.issue(names, now()) {
            *renew_at = issued.renew_at;
            current.key = issued.key;
        }
    }

    /// As a handshake `secs` after the last would, with files written at that time.
    #[cfg(test)]
    pub(super) fn touch(&self, files: &GivenFiles, secs: u64) {
        let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(2_000_000_000 + secs);
        for file in [&files.certificate, &files.private_key] {
            let opened = std::fs::File::options().write(true).open(file);
            opened.and_then(|file| file.set_modified(at)).expect("a file of the test");
        }
        self.lock().at(now() + secs);
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Current {
    /// The certificate for a handshake at `now`: renewed where it is time, read again where the files changed.
    fn at(&mut self, now: UnixSecs) -> Arc<CertifiedKey> {
        match &mut self.source {
            Source::Own { authority, names, renew_at, .. } if now >= *renew_at => match authority.issue(names, now) {
                Ok(issued) => {
                    tracing::info!("the certificate of the management API was renewed");
                    *renew_at = issued.renew_at;
                    self.key = issued.key;
                }
                Err(error) => tracing::warn!(%error, "the certificate of the management API could not be renewed"),
            },
            Source::Own { .. } => {}
            Source::Given { files, written: before, looked_at } => {
                // Looked at once a second, however many come.
                if *looked_at != now {
                    *looked_at = now;
                    let found = written(files);
                    if found != *before && found.iter().all(Option::is_some) {
                        *before = found;
                        match read(files) {
                            Ok(key) => {
                                let fingerprint = key.cert.first().map(fingerprint).unwrap_or_default();
                                tracing::info!(fingerprint, "the certificate of the management API was read again");
                                self.key = Arc::new(key);
                            }
                            // Half of the pair may be written a moment later: then both have changed again.
                            Err(error) => tracing::warn!(
                                hint = error.hint(),
                                "the changed certificate of the management API is not used, the old one stays: {error}"
                            ),
                        }
                    }
                }
            }
        }
        self.key.clone()
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.lock().at(now()))
    }
}

impl std::fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerCertificate").finish_non_exhaustive()
    }
}

/// TLS 1.2 and 1.3 with this certificate, for HTTP/1.1.
pub fn server_config(certificate: Arc<ServerCertificate>) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Make(error.to_string()))?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The names by which a device is reached, the first of them its main one.
pub fn names_of(given: &[String], host_name: &str, device_id: &str) -> Vec<String> {
    let always = [host_name, device_id, "localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let mut names: Vec<String> = Vec::new();
    for name in given.iter().cloned().chain(always).filter(|name| is_name(name)) {
        if !names.iter().any(|known| known.eq_ignore_ascii_case(&name)) {
            names.push(name);
        }
    }
    names
}

fn read(files: &GivenFiles) -> Result<CertifiedKey, TlsError> {
    let text = |path: &Path| std::fs::read(path).map_err(|source| TlsError::File { path: path.to_owned(), source });
    let wrong = |path: &Path, problem: String| TlsError::Content { path: path.to_owned(), problem };
    let chain = CertificateDer::pem_slice_iter(&text(&files.certificate)?).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| wrong(&files.certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(wrong(&files.certificate, "there is no certificate in it".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(&text(&files.private_key)?)
        .map_err(|error| wrong(&files.private_key, format!("no key can be read: {error}")))?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| {
        let problem = match error {
            rustls::Error::InconsistentKeys(_) => {
                format!("it is not the key of the certificate in {}", files.certificate.display())
            }
            other => other.to_string(),
        };
        wrong(&files.private_key, problem)
    })
}

fn written(files: &GivenFiles) -> [Option<SystemTime>; 2] {
    [&files.certificate, &files.private_key].map(|path| std::fs::metadata(path).and_then(|found| found.modified()).ok())
}

fn now() -> UnixSecs {
    u64::try_from(clock::wall_us() / 1_000_000).unwrap_or(0)
}
