//! The parent of `try`: starts the child, reads its notes while it runs, and says how it ended.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::child::{NOTES, PLAN};
use super::event::Event;
use super::plan::Plan;
use super::report::{Ended, Report};
use crate::clock;

/// Between two looks at the notes.
const LOOK: Duration = Duration::from_millis(20);
/// Time for the pipes of a child that has ended to run dry: all of it, however much is still printed.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Most lines that are taken from what the module prints.
const MAX_PRINTED: usize = 10_000;
/// A longer line is taken as several.
const MAX_LINE_BYTES: u64 = 4 * 1024;
/// Most bytes of notes that are taken. The child itself notes less.
const MAX_NOTED_BYTES: usize = 64 * 1024 * 1024;
/// Read of the notes at a time.
const ROUND_BYTES: u64 = 1024 * 1024;

/// Why nothing could be tried. All are about this side; what the module does is in the [`Report`].
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct TryError {
    what: &'static str,
    source: io::Error,
}

fn error(what: &'static str) -> impl Fn(io::Error) -> TryError {
    move |source| TryError { what, source }
}

/// A folder that goes away with this value.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left behind at worst; the system clears its temporary folder.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A process that is ended with this value.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Tries what the plan says in a child process that is told its scratch folder by `argument`; `seen` hears of each event as it
/// happens. `[blocks]`
///
/// # Errors
/// Where there is no scratch folder or no process.
pub fn run(plan: &Plan, argument: &str, seen: &mut dyn FnMut(&Event)) -> Result<Report, TryError> {
    let scratch = scratch().map_err(error("a scratch folder cannot be made"))?;
    let text = serde_json::to_vec(plan).map_err(io::Error::from).map_err(error("the plan cannot be written"))?;
    std::fs::write(scratch.0.join(PLAN), text).map_err(error("the plan cannot be written"))?;
    File::create(scratch.0.join(NOTES)).map_err(error("the notes cannot be written"))?;
    let executable = std::env::current_exe().map_err(error("this executable is not to be found"))?;
    let child = Command::new(executable)
        .args(["try", argument])
        .arg(&scratch.0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(error("the child cannot be started"))?;
    let mut process = Process(child);
    let (lines, printed) = bounded(MAX_PRINTED);
    let unheard = Arc::new(AtomicUsize::new(0));
    if let Some(pipe) = process.0.stdout.take() {
        hear(pipe, lines.clone(), Arc::clone(&unheard));
    }
    if let Some(pipe) = process.0.stderr.take() {
        hear(pipe, lines, Arc::clone(&unheard));
    }
    let mut notes = Notes::open(&scratch.0.join(NOTES), printed).map_err(error("the notes cannot be read"))?;
    let until = clock::now() + plan.limit();
    let mut events = Vec::new();
    let ended = loop {
        let status = process.0.try_wait().map_err(error("the child cannot be waited for"))?;
        let has_more = notes.read_on(&mut |event| {
            seen(&event);
            events.push(event);
        });
        match status {
            Some(status) => break how(status),
            None if clock::now() > until => break Ended::OutOfTime,
            None if has_more => {}
            None => std::thread::sleep(LOOK),
        }
    };
    drop(process);
    let known = events.len();
    notes.read_out(unheard.as_ref(), &mut |event| events.push(event));
    let report = Report::new(plan.file.display().to_string(), events, &ended);
    report.events[known..].iter().for_each(seen);
    Ok(report)
}

/// The notes of the child, and the lines that it prints.
struct Notes {
    file: File,
    /// The beginning of a note whose end is not there yet.
    rest: Vec<u8>,
    /// Bytes of notes that may still be taken.
    room: usize,
    printed: Receiver<String>,
    lines: usize,
}

impl Notes {
    fn open(file: &Path, printed: Receiver<String>) -> io::Result<Notes> {
        Ok(Notes { file: File::open(file)?, rest: Vec::new(), room: MAX_NOTED_BYTES, printed, lines: 0 })
    }

    /// Tells what has come since the last time, or a part of it; true if there may be more.
    fn read_on(&mut self, tell: &mut dyn FnMut(Event)) -> bool {
        let has_more = self.read_notes(tell);
        // No more than it holds now: it may be filled all the while.
        for text in self.printed.try_iter().take(MAX_PRINTED).collect::<Vec<_>>() {
            self.tell_line(text, tell);
        }
        has_more
    }

    /// One round of the notes. What cannot be read now is read the next time, or was the last of it.
    fn read_notes(&mut self, tell: &mut dyn FnMut(Event)) -> bool {
        let round = ROUND_BYTES.min(self.room as u64);
        let read = (&self.file).take(round).read_to_end(&mut self.rest).unwrap_or_default();
        self.room = self.room.saturating_sub(read);
        let mut begin = 0;
        while let Some(len) = self.rest[begin..].iter().position(|byte| *byte == b'\n') {
            if let Ok(event) = serde_json::from_slice(&self.rest[begin..begin + len]) {
                tell(event);
            }
            begin += len + 1;
        }
        self.rest.drain(..begin);
        read > 0 && read as u64 == round
    }

    /// Tells what is left once the child has ended, and how much is left out. A process that the module has started may hold a
    /// pipe for ever, and is not waited for.
    fn read_out(&mut self, unheard: &AtomicUsize, tell: &mut dyn FnMut(Event)) {
        while self.read_on(tell) {}
        let until = clock::now() + LAST_WORDS;
        while let Ok(text) = self.printed.recv_deadline(until) {
            self.tell_line(text, tell);
            if is_past(until) {
                break;
            }
        }
        let lines = self.lines.saturating_sub(MAX_PRINTED) + unheard.load(Ordering::Relaxed);
        if lines > 0 {
            tell(Event::Warning { text: format!("it prints so much that {lines} lines are left out here") });
        }
        let noted = self.file.metadata().map_or(0, |file| file.len());
        let taken = (&self.file).stream_position().unwrap_or(noted);
        if noted > taken {
            let text = format!("{} bytes of notes are left out: there are too many", noted - taken);
            tell(Event::Warning { text });
        }
    }

    fn tell_line(&mut self, text: String, tell: &mut dyn FnMut(Event)) {
        self.lines += 1;
        if self.lines <= MAX_PRINTED {
            tell(Event::Printed { text });
        }
    }
}

fn is_past(until: Instant) -> bool {
    clock::now() >= until
}

/// Reads the lines of a pipe on a thread of its own. Whoever prints is never held up: a line for which there is no room is
/// counted as `unheard`.
fn hear(pipe: impl Read + Send + 'static, lines: Sender<String>, unheard: Arc<AtomicUsize>) {
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&line).trim_end_matches('\n').trim_end_matches('\r').to_owned();
            line.clear();
            match lines.try_send(text) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => _ = unheard.fetch_add(1, Ordering::Relaxed),
                // The other side has had enough.
                Err(TrySendError::Disconnected(_)) => break,
            }
        }
    });
}

fn scratch() -> io::Result<Scratch> {
    let base = std::env::temp_dir();
    for n in 0..1000 {
        let folder = base.join(format!("dinrail-try-{}-{n}", std::process::id()));
        match make_private(&folder) {
            Ok(()) => return Ok(Scratch(folder)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

#[cfg(unix)]
fn make_private(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).create(folder)
}

#[cfg(not(unix))]
fn make_private(folder: &Path) -> io::Result<()> {
    std::fs::create_dir(folder)
}

#[cfg(unix)]
fn how(status: ExitStatus) -> Ended {
    use std::os::unix::process::ExitStatusExt;
    let signal = match status.signal() {
        None => return by_code(status),
        Some(4) => "an illegal instruction (SIGILL)".to_owned(),
        Some(5) => "a trap (SIGTRAP)".to_owned(),
        Some(6) => "an abort (SIGABRT: abort(), an assertion, or memory found damaged)".to_owned(),
        Some(7) => "a bus error (SIGBUS)".to_owned(),
        Some(8) => "an arithmetic error, such as a division by zero (SIGFPE)".to_owned(),
        Some(9) => "an end from outside (SIGKILL): out of memory?".to_owned(),
        Some(11) => "a segmentation fault (SIGSEGV)".to_owned(),
        Some(31) => "a forbidden system call (SIGSYS)".to_owned(),
        Some(other) => format!("an end by signal {other}"),
    };
    Ended::Crashed(signal)
}

#[cfg(not(unix))]
fn how(status: ExitStatus) -> Ended {
    by_code(status)
}

fn by_code(status: ExitStatus) -> Ended {
    match status.code() {
        Some(0) => Ended::Well,
        Some(code) => Ended::Crashed(format!("an exit of the whole process with code {code}")),
        None => Ended::Crashed("an end without a code".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file with the notes, and them.
    fn notes(text: &str) -> (tempfile::NamedTempFile, Notes, Sender<String>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let (lines, printed) = bounded(16);
        let notes = Notes::open(file.path(), printed).unwrap();
        (file, notes, lines)
    }

    fn told(notes: &mut Notes) -> Vec<Event> {
        let mut events = Vec::new();
        notes.read_out(&AtomicUsize::new(0), &mut |event| events.push(event));
        events
    }

    #[test]
    fn reading_out_ends_though_somebody_prints_on_and_says_what_is_left_out() {
        let (_file, mut notes, lines) = notes("");
        let talker = std::thread::spawn(move || while lines.send("on and on".to_owned()).is_ok() {});
        notes.lines = MAX_PRINTED - 1;
        let events = told(&mut notes);
        drop(notes);
        talker.join().unwrap();
        assert_eq!(events.len(), 2, "{events:?}");
        assert!(matches!(&events[1], Event::Warning { text } if text.contains("left out")), "{events:?}");
    }

    #[test]
    fn notes_are_taken_to_a_limit_and_the_rest_is_counted() {
        let line = "{\"event\":\"printed\",\"text\":\"x\"}\n";
        let (_file, mut notes, _) = notes(&line.repeat(100_000));
        notes.room = 50_000 * line.len();
        let events = told(&mut notes);
        assert_eq!(events.len(), 50_001);
        let left = format!("{} bytes", 50_000 * line.len());
        assert!(matches!(&events[50_000], Event::Warning { text } if text.contains(&left)), "{:?}", events[50_000]);
    }

    #[test]
    fn line_without_an_end_is_taken_in_parts() {
        let (lines, printed) = bounded(3);
        let unheard = Arc::new(AtomicUsize::new(0));
        let text = [&[b'x'; MAX_LINE_BYTES as usize + 1][..], b"\r\n", b"a\n\nb"].concat();
        hear(io::Cursor::new(text), lines, Arc::clone(&unheard));
        // The thread has ended once its side of the channel is gone; there is room for three lines until it is read.
        while Arc::strong_count(&unheard) > 1 {
            std::thread::yield_now();
        }
        let heard: Vec<usize> = printed.iter().map(|line| line.len()).collect();
        assert_eq!((heard, unheard.load(Ordering::Relaxed)), (vec![MAX_LINE_BYTES as usize, 1, 1], 2));
    }
}
