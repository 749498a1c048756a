use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConnection, ServerConnection};

use super::*;

/// Shakes hands in memory; what the client says about the server.
fn shake(trusted: &[CertificateDer<'static>], server: &Arc<ServerCertificate>, name: &str) -> Result<(), Trouble> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(client_config(trusted).unwrap(), name).unwrap();
    let mut server = ServerConnection::new(server_config(server.clone()).unwrap()).unwrap();
    while client.is_handshaking() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut read = wire.as_slice();
        while !read.is_empty() {
            server.read_tls(&mut read).unwrap();
            server.process_new_packets().unwrap();
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut read = wire.as_slice();
        while !read.is_empty() {
            client.read_tls(&mut read).unwrap();
            client.process_new_packets().map_err(|error| explain("host", &io::Error::other(error)).unwrap())?;
        }
    }
    Ok(())
}

fn own(folder: &Path) -> Arc<ServerCertificate> {
    let names = server::names_of(&["plant.example".to_owned()], "line3", "Hannover01");
    Arc::new(ServerCertificate::own(folder, names).unwrap())
}

fn root(folder: &Path) -> Vec<CertificateDer<'static>> {
    read_certificates(&folder.join("ca.pem")).unwrap()
}

#[test]
fn who_trusts_the_devices_authority_reaches_it_by_each_of_its_names() {
    let folder = tempfile::tempdir().unwrap();
    let server = own(folder.path());

    for name in ["plant.example", "line3", "Hannover01", "localhost", "127.0.0.1", "::1"] {
        shake(&root(folder.path()), &server, name).unwrap_or_else(|trouble| panic!("{name}: {}", trouble.message));
    }
    server.reached_at("192.0.2.7".parse().unwrap());
    shake(&root(folder.path()), &server, "192.0.2.7").unwrap();
}

#[test]
fn other_names_and_other_authorities_are_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let server = own(folder.path());
    own(other.path());

    let name = shake(&root(folder.path()), &server, "elsewhere.example").unwrap_err();
    assert!(name.message.contains("plant.example, line3, Hannover01, localhost, 127.0.0.1, ::1"), "{name:?}");
    let stranger = shake(&root(other.path()), &server, "localhost").unwrap_err();
    assert!(stranger.message.contains("signed by nobody that is trusted here"), "{stranger:?}");
    assert!(stranger.hint.contains("--ca FILE"), "{stranger:?}");
}

#[test]
fn the_authority_stays_over_restarts_and_its_key_is_for_the_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let first = own(folder.path()).fingerprint();

    assert_eq!(own(folder.path()).fingerprint(), first);
    #[cfg(unix)]
    for (file, mode) in [("ca.key", 0o600), ("ca.pem", 0o644)] {
        use std::os::unix::fs::PermissionsExt;
        let found = std::fs::metadata(folder.path().join(file)).unwrap().permissions().mode();
        assert_eq!(found & 0o777 & mode, mode, "{file}");
        assert_eq!(found & 0o077 & !mode, 0, "{file}");
    }
    // A power cut between the two files: the certificate is made anew for the same key.
    std::fs::remove_file(folder.path().join("ca.pem")).unwrap();
    shake(&root_of(&own(folder.path()), folder.path()), &own(folder.path()), "localhost").unwrap();
}

fn root_of(_: &Arc<ServerCertificate>, folder: &Path) -> Vec<CertificateDer<'static>> {
    root(folder)
}

#[test]
fn a_key_that_is_gone_or_another_is_refused_and_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    own(folder.path());
    own(other.path());

    std::fs::copy(other.path().join("ca.key"), folder.path().join("ca.key")).unwrap();
    assert!(matches!(Authority::open(folder.path()), Err(TlsError::NoPair { .. })));
    std::fs::remove_file(folder.path().join("ca.key")).unwrap();
    let refused = Authority::open(folder.path()).err().unwrap();
    assert!(matches!(refused, TlsError::NoPair { .. }) && refused.hint().contains("backup"), "{refused}");
}

#[test]
fn a_clock_in_1970_makes_what_is_valid_today_and_time_renews_it() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::open(folder.path()).unwrap();
    let names = ["localhost".to_owned()];

    let early = authority.issue(&names, 0).unwrap();
    let late = authority.issue(&names, early.renew_at).unwrap();

    assert!(early.renew_at > 1_767_225_600, "valid beyond the release");
    assert!(late.renew_at > early.renew_at);
    assert_ne!(early.key.cert[0], late.key.cert[0]);
}

#[test]
fn given_files_are_used_and_read_again_when_they_change() {
    let folder = tempfile::tempdir().unwrap();
    let write = |dir: &str| {
        let made = rcgen::generate_simple_self_signed(vec![format!("{dir}.example")]).unwrap();
        std::fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        fingerprint(made.cert.der())
    };
    let first = write("one");
    let files = GivenFiles { certificate: folder.path().join("cert.pem"), private_key: folder.path().join("key.pem") };
    let server = ServerCertificate::given(files.clone()).unwrap();
    assert_eq!(server.fingerprint(), first);
    assert_eq!(server.authority_file(), None);

    std::fs::write(&files.certificate, "half a file").unwrap();
    server.touch(&files, 1);
    assert_eq!(server.fingerprint(), first, "what cannot be read does not replace what can");

    let second = write("two");
    server.touch(&files, 2);
    assert_eq!(server.fingerprint(), second);
}

#[test]
fn files_that_are_no_pair_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let made = ["a", "b"].map(|name| rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap());
    let files = GivenFiles { certificate: folder.path().join("cert.pem"), private_key: folder.path().join("key.pem") };
    std::fs::write(&files.certificate, made[0].cert.pem()).unwrap();
    std::fs::write(&files.private_key, made[1].signing_key.serialize_pem()).unwrap();

    let refused = ServerCertificate::given(files).unwrap_err().to_string();

    assert!(refused.contains("key.pem") && refused.contains("not the key of the certificate in"), "{refused}");
}
