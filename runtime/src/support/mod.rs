//! The support bundle: what somebody who was not there needs in order to help, in one zip file without secrets.
//!
//! It holds what the runtime says about itself, its logs, and what the system is; never keys, databases, messages or the values of
//! environment variables. Texts of twins are left out unless asked for. Invariant: everything passes [`Secrets::clean`],
//! [`Secrets::clean_line`] or [`Secrets::clean_document`] on its way in.

mod device;
mod redact;

use std::io::{self, Seek, Write};

use serde::Serialize;
use serde_json::Value;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

pub use device::{listing, system};
pub use redact::{REMOVED, Secrets, mask_texts};

/// A bundle that is being put together.
pub struct Bundle<W: Write + Seek> {
    zip: ZipWriter<W>,
    options: SimpleFileOptions,
    folder: String,
    secrets: Secrets,
}

impl<W: Write + Seek> Bundle<W> {
    /// Writes to `sink`. Everything in it lies in `folder`.
    pub fn new(sink: W, folder: &str, secrets: Secrets) -> Bundle<W> {
        let options = SimpleFileOptions::default().unix_permissions(0o600);
        Bundle { zip: ZipWriter::new(sink), options, folder: folder.to_owned(), secrets }
    }

    /// Adds a document.
    pub fn document(&mut self, name: &str, document: &impl Serialize) -> io::Result<()> {
        let mut document = serde_json::to_value(document).map_err(io::Error::other)?;
        self.secrets.clean_document(&mut document);
        self.put(name, &serde_json::to_vec_pretty(&document).map_err(io::Error::other)?)
    }

    /// Adds a text.
    pub fn text(&mut self, name: &str, text: &str) -> io::Result<()> {
        let clean = self.secrets.clean(text);
        self.put(name, clean.as_bytes())
    }

    /// Adds lines of a log.
    pub fn log<'l>(&mut self, name: &str, lines: impl Iterator<Item = &'l [u8]>) -> io::Result<()> {
        let clean = lines.map(|line| self.secrets.clean_line(&String::from_utf8_lossy(line.trim_ascii_end())) + "\n");
        let clean: String = clean.collect();
        self.put(name, clean.as_bytes())
    }

    /// Adds a twin. Without `with_values` its texts are masked: what they mean is the module's alone.
    pub fn twin(&mut self, name: &str, mut twin: Value, with_values: bool) -> io::Result<()> {
        if !with_values {
            for part in ["/properties/desired", "/properties/reported", "/tags"] {
                if let Some(part) = twin.pointer_mut(part) {
                    mask_texts(part);
                }
            }
        }
        self.document(name, &twin)
    }

    fn put(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.zip.start_file(format!("{}/{name}", self.folder), self.options).map_err(io::Error::other)?;
        self.zip.write_all(bytes)
    }

    /// Completes it.
    pub fn finish(self) -> io::Result<W> {
        self.zip.finish().map_err(io::Error::other)
    }
}

/// A name that every file system takes.
pub fn file_name(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect()
}

/// What a person reads first.
pub fn about(version: &str, time: &str, is_running: bool, with_values: bool) -> String {
    let running = if is_running { "" } else { "\nNo runtime answered: only what can be seen without one is here.\n" };
    let texts = if with_values { "" } else { ", texts of twins" };
    format!(
        "dinrail {version}, {time}
{running}
check.json          what is well and what is not, with what to do
health.json         the runtime
modules/            every instance: state, reason, image, times, what is wanted of it
twins/              desired and reported properties
images.json         every image, and why it is used or not
deployment.json     the deployment in force
logs/               the newest lines of each module and of the runtime
system.txt          the machine
state-directory.txt names, sizes and modes of what lies there

Left out: keys, databases, messages, values of environment variables{texts}.
What looked like a secret is replaced by {REMOVED}.
"
    )
}
