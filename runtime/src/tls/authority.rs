//! The device's own certification authority: made once, then read.

use std::fs::File;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, DnsName, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use super::{TlsError, UnixSecs, provider};

/// A certificate is valid for so long after it was made.
const VALID: Duration = Duration::from_secs(397 * 86_400);
/// It is replaced when so much of that is left.
const RENEW_BEFORE: Duration = Duration::from_secs(100 * 86_400);
/// 2026-01-01: no runtime of this release made anything earlier, whatever its clock says.
const EARLIEST: UnixSecs = 1_767_225_600;

/// See the module's documentation.
pub struct Authority {
    key: KeyPair,
    certificate: CertificateDer<'static>,
    file: PathBuf,
}

/// A certificate with its key and chain, and when to replace it.
pub struct Issued {
    /// For the server.
    pub key: Arc<CertifiedKey>,
    /// By the device's clock.
    pub renew_at: UnixSecs,
}

impl Authority {
    /// The authority whose files lie in `folder`; made where there is none yet.
    pub fn open(folder: &Path) -> Result<Authority, TlsError> {
        let (key_file, file) = (folder.join("ca.key"), folder.join("ca.pem"));
        let trouble = |path: &Path| {
            let path = path.to_owned();
            move |source| TlsError::File { path, source }
        };
        std::fs::create_dir_all(folder).map_err(trouble(folder))?;
        let certificate = read_if_there(&file).map_err(trouble(&file))?;
        let key = match read_if_there(&key_file).map_err(trouble(&key_file))? {
            Some(text) => KeyPair::from_pem(&text)
                .map_err(|error| TlsError::Content { path: key_file.clone(), problem: error.to_string() })?,
            // A certificate without its key: clients trust it, so it is not replaced unasked.
            None if certificate.is_some() => return Err(TlsError::NoPair { key: key_file, certificate: file }),
            None => {
                let key = KeyPair::generate().map_err(make)?;
                write(&key_file, key.serialize_pem().as_bytes(), 0o600).map_err(trouble(&key_file))?;
                key
            }
        };
        let certificate = match certificate {
            Some(text) => CertificateDer::from_pem_slice(text.as_bytes())
                .map_err(|error| TlsError::Content { path: file.clone(), problem: error.to_string() })?,
            None => {
                let made = root(&key).self_signed(&key).map_err(make)?;
                write(&file, made.pem().as_bytes(), 0o644).map_err(trouble(&file))?;
                made.into()
            }
        };
        let spki = key.subject_public_key_info();
        if !certificate.windows(spki.len()).any(|part| part == spki) {
            return Err(TlsError::NoPair { key: key_file, certificate: file });
        }
        Ok(Authority { key, certificate, file })
    }

    /// What clients trust.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Where that lies.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Certifies a new key for these names and addresses; what is neither is left out.
    pub fn issue(&self, names: &[String], now: UnixSecs) -> Result<Issued, TlsError> {
        let from = now.max(EARLIEST);
        let mut params = CertificateParams::default();
        params.not_before = date_time_ymd(1970, 1, 1);
        params.not_after = params.not_before + Duration::from_secs(from) + VALID;
        params.subject_alt_names = names.iter().filter_map(|name| alternative(name)).collect();
        params.distinguished_name = named(names.first().map_or("dinrail", String::as_str));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(make)?;
        let root = root(&self.key);
        let made = params.signed_by(&key, &Issuer::from_params(&root, &self.key)).map_err(make)?;
        let secret = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let chain = vec![made.into(), self.certificate.clone()];
        let key = CertifiedKey::from_der(chain, secret, &provider()).map_err(make)?;
        Ok(Issued { key: Arc::new(key), renew_at: from + (VALID - RENEW_BEFORE).as_secs() })
    }
}

/// True if a certificate can say this name.
pub(super) fn is_name(name: &str) -> bool {
    name.parse::<IpAddr>().is_ok() || DnsName::try_from(name).is_ok()
}

fn alternative(name: &str) -> Option<SanType> {
    match name.parse() {
        Ok(address) => Some(SanType::IpAddress(address)),
        Err(_) => Some(SanType::DnsName(name.to_owned().try_into().ok()?)).filter(|_| is_name(name)),
    }
}

/// The same for the same key, so that nothing but the key has to be read back. Several devices in one list of trusted
/// certificates are told apart by it.
fn root(key: &KeyPair) -> CertificateParams {
    let digest = ring::digest::digest(&ring::digest::SHA256, key.public_key_raw());
    let short: String = digest.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let mut params = CertificateParams::default();
    params.not_before = date_time_ymd(1970, 1, 1);
    // RFC 5280, 4.1.2.5: no expiration date.
    params.not_after = date_time_ymd(9999, 12, 31) + Duration::from_secs(86_399);
    params.distinguished_name = named(&format!("dinrail device {short}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    // 64 characters is all that a common name takes; programs look at the alternative names.
    name.push(DnType::CommonName, common_name.chars().take(64).collect::<String>());
    name
}

fn make(error: impl std::fmt::Display) -> TlsError {
    TlsError::Make(error.to_string())
}

fn read_if_there(path: &Path) -> io::Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a file that is there whole or not at all, also after a power cut.
fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    let mut open = File::options();
    open.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut open, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = open.open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path)?;
    #[cfg(unix)]
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}
