//! The journal of systemd, in its own protocol: a datagram for each entry, with the values beside the text as fields that
//! `journalctl DINRAIL_MODULE=filter` finds. Source: systemd.io/JOURNAL_NATIVE_PROTOCOL.

use std::io;
use std::path::Path;

use serde_json::Value;

use super::line::{Level, Line};

/// Where the journal listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// A connection to the journal.
pub struct Journal {
    #[cfg(unix)]
    socket: std::os::unix::net::UnixDatagram,
}

impl Journal {
    /// To the journal that listens there.
    #[cfg(unix)]
    pub fn connect(path: &Path) -> io::Result<Journal> {
        let socket = std::os::unix::net::UnixDatagram::unbound()?;
        socket.connect(path)?;
        Ok(Journal { socket })
    }

    /// There is none.
    #[cfg(not(unix))]
    pub fn connect(_: &Path) -> io::Result<Journal> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Sends one entry. One that the journal does not take is in the files all the same.
    pub(super) fn send(&mut self, entry: &[u8]) {
        #[cfg(unix)]
        let _ = self.socket.send(entry);
        #[cfg(not(unix))]
        let _ = entry;
    }
}

/// Appends the entry of a line.
pub(super) fn entry(line: &Line, out: &mut Vec<u8>) {
    let priority = match line.level {
        Level::Error => "3",
        Level::Warn => "4",
        Level::Info => "6",
        Level::Debug | Level::Trace => "7",
    };
    let text = match line.speaker.name() {
        Some(name) => format!("{name}: {}", line.text),
        None => line.text.to_string(),
    };
    field("MESSAGE", &format!("{text}{}", super::line::fields_text(&line.fields)), out);
    field("PRIORITY", priority, out);
    field("SYSLOG_IDENTIFIER", "dinrail", out);
    if let Some(name) = line.speaker.name() {
        field("DINRAIL_MODULE", name, out);
    }
    field("DINRAIL_SOURCE", &line.source, out);
    if let Some(place) = &line.place {
        field("CODE_FILE", &place.file, out);
        field("CODE_LINE", &place.line.to_string(), out);
    }
    for (key, value) in &line.fields {
        let key: String =
            key.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
        let value = match value {
            Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        field(&format!("DINRAIL_{key}"), &value, out);
    }
}

fn field(key: &str, value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(key.as_bytes());
    if value.contains('\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::sync::Arc;

    use super::*;
    use crate::log::speaker::Speaker;

    #[test]
    fn the_journal_is_told_the_module_the_priority_and_the_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let server = UnixDatagram::bind(&path).unwrap();
        let speaker = Arc::new(Speaker::module("filter".into()));
        let mut line = Line::of_module(speaker, Level::Warn, b"panic", b"two\nlines", (b"src/lib.rs", 12));
        line.fields.insert("error.code".into(), 5.into());
        let mut datagram = Vec::new();
        entry(&line, &mut datagram);
        Journal::connect(&path).unwrap().send(&datagram);

        let mut received = [0; 1000];
        let count = server.recv(&mut received).unwrap();

        let message = "filter: two\nlines error.code=5";
        let mut expected = b"MESSAGE\n".to_vec();
        expected.extend((message.len() as u64).to_le_bytes());
        expected.extend(message.as_bytes());
        expected.extend(
            b"\nPRIORITY=4\nSYSLOG_IDENTIFIER=dinrail\nDINRAIL_MODULE=filter\nDINRAIL_SOURCE=panic\nCODE_FILE=src/lib.rs\n\
              CODE_LINE=12\nDINRAIL_ERROR_CODE=5\n",
        );
        assert_eq!(String::from_utf8_lossy(&received[..count]), String::from_utf8_lossy(&expected));
    }

    #[test]
    fn without_a_journal_there_is_no_connection() {
        assert!(Journal::connect(Path::new("/nonexistent/socket")).is_err());
    }
}
