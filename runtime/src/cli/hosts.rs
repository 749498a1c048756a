//! Other machines that this user may reach: for each a file with the connection string, for its owner alone, and one with the
//! certificate that is trusted for it. The key never stands on a command line.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::Failure;
use super::places::Surroundings;
use crate::admin::client::{Client, Credential, Host, Remote};
use crate::tls::{self, CertificateDer};

/// Holds a connection string, before that of the file.
pub const STRING_VARIABLE: &str = "DINRAIL_CONNECTION_STRING";
/// Names a file with certificates to trust, before that of the file.
const CA_VARIABLE: &str = "DINRAIL_CA";
/// The host to ask where `-H` is not given.
const HOST_VARIABLE: &str = "DINRAIL_HOST";

/// The host of `DINRAIL_HOST`, where that is set.
pub fn of_environment() -> Option<String> {
    std::env::var(HOST_VARIABLE).ok().filter(|host| !host.is_empty())
}

/// Reads `-H`.
pub fn parse(text: &str) -> Result<Host, Failure> {
    Host::parse(text).ok_or_else(|| {
        Failure::usage(format!("'{text}' is not a host"))
            .hint("write a name or an address, such as line3, line3:8443, [::1]:8443")
    })
}

/// The runtime on `host`.
pub fn client(host: &Host) -> Result<Client, Failure> {
    let credential = parsed(&connection_string(host)?)?;
    let remote = Remote::new(host.clone(), credential, &trusted(host)?);
    let remote = remote.map_err(|error| Failure::of(&error).hint(error.hint()))?;
    Ok(Client::remote(remote)?)
}

/// Reads a connection string.
pub fn parsed(text: &str) -> Result<Credential, Failure> {
    Credential::parse(text).map_err(|error| {
        Failure::caused("the connection string cannot be used", &error)
            .hint("get one on the device: dinrail identity connection-string --policy operator")
    })
}

fn connection_string(host: &Host) -> Result<Zeroizing<String>, Failure> {
    if let Ok(text) = std::env::var(STRING_VARIABLE) {
        return Ok(Zeroizing::new(text));
    }
    let file = file_of(host)?;
    match std::fs::read_to_string(&file) {
        Ok(text) => {
            only_ours(&file)?;
            Ok(Zeroizing::new(text))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Failure::new(format!("there is no key for {host}"))
                .detail(format!("looked for {}", file.display()))
                .hint(format!(
                    "dinrail -H {host} login, with a connection string on standard input; or set {STRING_VARIABLE}"
                )))
        }
        Err(error) => Err(Failure::caused(format!("{} cannot be read", file.display()), &error)),
    }
}

/// Refuses a key that others may have read.
#[cfg(unix)]
fn only_ours(file: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(file).map_or(0, |found| found.permissions().mode() & 0o777);
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(Failure::new(format!("others may read the key in {} (mode {mode:04o})", file.display()))
        .hint(format!("chmod 0600 {}; and rotate the key, if others use this machine", file.display())))
}

#[cfg(not(unix))]
fn only_ours(_: &Path) -> Result<(), Failure> {
    Ok(())
}

/// Whom to trust for `host`: what its file says, else what the system does.
fn trusted(host: &Host) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let told = |error: tls::TlsError| Failure::of(&error).hint("name a file with a certificate in PEM");
    if let Some(file) = std::env::var_os(CA_VARIABLE) {
        return tls::read_certificates(Path::new(&file)).map_err(told);
    }
    let file = certificate_file(host)?;
    if file.exists() { tls::read_certificates(&file).map_err(told) } else { Ok(tls::system_roots()) }
}

/// Keeps a connection string and, if there is one, the certificate to trust; the file with the key.
pub fn keep(host: &Host, connection_string: &str, certificate: Option<&str>) -> Result<PathBuf, Failure> {
    let file = file_of(host)?;
    let write = || -> io::Result<()> {
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        if let Some(certificate) = certificate {
            put(&certificate_file_of(&file), certificate.as_bytes())?;
        }
        put(&file, format!("{}\n", connection_string.trim()).as_bytes())
    };
    write().map_err(|error| Failure::caused(format!("{} cannot be written", file.display()), &error))?;
    Ok(file)
}

/// Replaces a file by one for its owner alone.
fn put(file: &Path, bytes: &[u8]) -> io::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut open = File::options();
    open.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut open, 0o600);
    open.open(file)?.write_all(bytes)
}

fn certificate_file(host: &Host) -> Result<PathBuf, Failure> {
    file_of(host).map(|file| certificate_file_of(&file))
}

fn certificate_file_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".pem");
    name.into()
}

fn file_of(host: &Host) -> Result<PathBuf, Failure> {
    let folder = Surroundings::read().hosts();
    let folder = folder.ok_or_else(|| {
        Failure::usage("there is no folder for the keys of other machines: HOME is not set")
            .hint(format!("set {STRING_VARIABLE} instead"))
    })?;
    Ok(folder.join(name_of(host)))
}

/// The host, with its port where that is not the usual one.
fn name_of(host: &Host) -> String {
    let whole = host.to_string();
    let name = whole.strip_suffix(":8443").unwrap_or(&whole).to_owned();
    if cfg!(windows) { name.replace(':', "_") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_called_as_hosts_are() {
        for (host, file) in [("line3", "line3"), ("line3:8443", "line3"), ("line3:443", "line3:443")] {
            assert_eq!(
                name_of(&parse(host).unwrap()),
                if cfg!(windows) { file.replace(':', "_") } else { file.into() }
            );
        }
        assert!(parse("a/b").is_err());
    }
}
