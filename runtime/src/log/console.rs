//! The console: stderr, or the journal. It has a thread of its own, since its reader may be slow or gone: what it does not take
//! in time is left out there and counted, while the files go on.

use std::io::{self, Write};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::journal::Journal;
use super::line::{Level, Line, RUNTIME, fields_text};
use crate::clock;

/// Writes that wait for the console.
const MAX_WAITING: usize = 64;
/// A write holds about so much at most.
const CHUNK_BYTES: usize = 32 << 10;

/// How lines look on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsoleForm {
    /// For a person; coloured or not.
    Text {
        /// With the codes of a terminal.
        colour: bool,
    },
    /// As in the files.
    Json,
    /// Text behind `<3>` … `<7>`, the priority in the form that systemd takes from stderr.
    Prefixed,
}

/// Where lines are shown besides the files.
pub enum Console {
    /// A stream, as a rule stderr.
    Stream(Box<dyn Write + Send>, ConsoleForm),
    /// The journal of systemd.
    Journal(Journal),
    /// Nowhere.
    Nowhere,
}

/// The writer's end.
pub(super) struct ToConsole {
    form: Option<Form>,
    chunks: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    lines: u64,
    skipped: u64,
}

enum Form {
    Stream(ConsoleForm),
    Journal,
}

impl Console {
    /// Its thread, and the way to it. The thread holds `ending` until it has written everything.
    pub(super) fn spawn(self, ending: Sender<()>) -> io::Result<(ToConsole, JoinHandle<()>)> {
        let (chunks, inbox) = bounded(MAX_WAITING);
        let form = match &self {
            Console::Stream(_, form) => Some(Form::Stream(*form)),
            Console::Journal(_) => Some(Form::Journal),
            Console::Nowhere => None,
        };
        let work = move || {
            show(self, &inbox);
            drop(ending);
        };
        let thread = std::thread::Builder::new().name("log-console".to_owned()).stack_size(128 << 10).spawn(work)?;
        Ok((ToConsole { form, chunks, chunk: Vec::new(), lines: 0, skipped: 0 }, thread))
    }
}

fn show(mut console: Console, chunks: &Receiver<Vec<u8>>) {
    for chunk in chunks {
        match &mut console {
            // With stderr gone there is nobody to tell; the files have it.
            Console::Stream(stream, _) => drop(stream.write_all(&chunk).and_then(|()| stream.flush())),
            Console::Journal(journal) => journal.send(&chunk),
            Console::Nowhere => {}
        }
    }
}

impl ToConsole {
    /// Adds a line; `json` is its form in the files.
    pub(super) fn line(&mut self, line: &Line, json: &[u8]) {
        match self.form {
            None => return,
            Some(Form::Stream(ConsoleForm::Json)) => self.chunk.extend_from_slice(json),
            Some(Form::Stream(form)) => text(line, form, &mut self.chunk),
            Some(Form::Journal) => super::journal::entry(line, &mut self.chunk),
        }
        self.lines += 1;
        // A datagram of the journal is one entry.
        if matches!(self.form, Some(Form::Journal)) || self.chunk.len() >= CHUNK_BYTES {
            self.flush();
        }
    }

    /// Hands over what was added.
    pub(super) fn flush(&mut self) {
        if self.chunk.is_empty() {
            return;
        }
        let mut chunk = std::mem::take(&mut self.chunk);
        let lines = std::mem::take(&mut self.lines);
        if self.skipped > 0 && matches!(self.form, Some(Form::Stream(ConsoleForm::Text { .. } | ConsoleForm::Prefixed)))
        {
            let said =
                format!("… {} lines not shown here: they are read too slowly; the files have them\n", self.skipped);
            chunk.splice(0..0, said.into_bytes());
        }
        match self.chunks.try_send(chunk) {
            Ok(()) => self.skipped = 0,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.skipped += lines,
        }
    }
}

/// `2026-11-21T14:05:09.123Z  WARN text module="filter" place="src/lib.rs:12" key=value`; further lines of the text follow, set in.
fn text(line: &Line, form: ConsoleForm, out: &mut Vec<u8>) {
    let colour = form == ConsoleForm::Text { colour: true };
    let (first, rest) = line.text.split_once('\n').unwrap_or((&line.text, ""));
    let prefix = if form == ConsoleForm::Prefixed { priority_prefix(line.level) } else { "" };
    let time = clock::rfc3339(line.us);
    let level = format!("{:>5}", line.level.as_str().to_uppercase());
    let (time, level) = if colour {
        let code = match line.level {
            Level::Error => 31,
            Level::Warn => 33,
            Level::Info => 32,
            Level::Debug => 34,
            Level::Trace => 35,
        };
        (format!("\x1b[2m{time}\x1b[0m"), format!("\x1b[{code}m{level}\x1b[0m"))
    } else {
        (time, level)
    };
    // The journal and the service manager know the time.
    let head = if prefix.is_empty() { format!("{time} {level} ") } else { prefix.to_owned() };
    let mut tail = line.speaker.name().map(|name| format!(" module={name:?}")).unwrap_or_default();
    if *line.source != *RUNTIME {
        tail += &format!(" source={:?}", line.source);
    }
    // Where in the runtime's own code it says something helps nobody who reads it here; the log and the journal have it.
    if let (Some(place), Level::Error, false) = (&line.place, line.level, *line.source == *RUNTIME) {
        tail += &format!(" place={:?}", place.to_string());
    }
    tail += &fields_text(&line.fields);
    // Writing into memory does not fail.
    let _ = writeln!(out, "{head}{first}{tail}");
    for more in rest.lines() {
        let _ = writeln!(out, "{prefix}    {more}");
    }
}

fn priority_prefix(level: Level) -> &'static str {
    match level {
        Level::Error => "<3>",
        Level::Warn => "<4>",
        Level::Info => "<6>",
        Level::Debug | Level::Trace => "<7>",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::log::speaker::Speaker;

    fn shown(form: ConsoleForm) -> String {
        let speaker = Arc::new(Speaker::module("filter".into()));
        let mut line =
            Line::of_module(speaker, Level::Error, b"panic", b"panicked: hot\n  0: a::b", (b"src/lib.rs", 12));
        line.us = 1_795_269_909_123_456;
        let mut out = Vec::new();
        text(&line, form, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_on_stderr_can_be_searched_and_its_further_lines_are_set_in() {
        assert_eq!(
            shown(ConsoleForm::Text { colour: false }),
            "2026-11-21T14:05:09.123Z ERROR panicked: hot module=\"filter\" source=\"panic\" place=\"src/lib.rs:12\"\n      0: a::b\n"
        );
    }

    #[test]
    fn the_runtime_says_what_is_so_and_not_where_in_its_code_it_says_it() {
        let mut line = Line::of_runtime(
            Arc::new(Speaker::module("filter".into())),
            Level::Error,
            "message lost",
            serde_json::Map::from_iter([("reason".to_owned(), "full".into())]),
        );
        line.place = Some(crate::log::line::Place { file: "runtime/src/queue/losses.rs".into(), line: 113 });
        line.us = 1_795_269_909_123_456;
        let mut out = Vec::new();
        text(&line, ConsoleForm::Text { colour: false }, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "2026-11-21T14:05:09.123Z ERROR message lost module=\"filter\" reason=\"full\"\n"
        );
    }

    #[test]
    fn every_line_has_its_priority_for_the_service_manager() {
        assert_eq!(
            shown(ConsoleForm::Prefixed),
            "<3>panicked: hot module=\"filter\" source=\"panic\" place=\"src/lib.rs:12\"\n<3>      0: a::b\n"
        );
    }
}
