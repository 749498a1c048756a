//! Where `run` shows its log: the journal where systemd made it our stderr, else stderr.

use std::io::{self, IsTerminal};
use std::path::Path;

use super::run::LogFormat;
use crate::log::{Console, ConsoleForm, JOURNAL_SOCKET, Journal};

/// The console for a format that was asked for, or else the one that fits.
pub(super) fn console(format: Option<LogFormat>) -> Console {
    let form = match format {
        Some(LogFormat::Json) => ConsoleForm::Json,
        None if is_journal(std::env::var("JOURNAL_STREAM").ok().as_deref()) => {
            match Journal::connect(Path::new(JOURNAL_SOCKET)) {
                Ok(journal) => return Console::Journal(journal),
                Err(_) => ConsoleForm::Prefixed,
            }
        }
        Some(LogFormat::Text) | None => {
            let has_no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            ConsoleForm::Text { colour: io::stderr().is_terminal() && !has_no_colour }
        }
    };
    Console::Stream(Box::new(io::stderr()), form)
}

/// True if stderr is the stream that systemd named `device:inode`: it is not once somebody has redirected it.
#[cfg(unix)]
fn is_journal(named: Option<&str>) -> bool {
    let stream = named.and_then(|text| text.split_once(':'));
    let stream = stream.and_then(|(device, inode)| Some((device.parse::<u64>().ok()?, inode.parse::<u64>().ok()?)));
    // Their types differ from one platform to the next.
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
    let is_it = |(device, inode)| {
        rustix::fs::fstat(io::stderr()).is_ok_and(|found| found.st_dev as u64 == device && found.st_ino as u64 == inode)
    };
    stream.is_some_and(is_it)
}

#[cfg(not(unix))]
fn is_journal(_: Option<&str>) -> bool {
    false
}
