//! The parent of `try`: starts the child, reads its notes while it runs, and says how it ended.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::child::{NOTES, PLAN};
use super::event::Event;
use super::plan::Plan;
use super::report::{Ended, Report};
use crate::clock;

/// Between two looks at the notes.
const LOOK: Duration = Duration::from_millis(20);
/// Time for the pipes of a child that has ended to run dry.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// Most lines that are taken from what the module prints.
const MAX_PRINTED: usize = 10_000;

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
    let (lines, printed) = unbounded();
    if let Some(pipe) = process.0.stdout.take() {
        hear(pipe, lines.clone());
    }
    if let Some(pipe) = process.0.stderr.take() {
        hear(pipe, lines);
    }
    let mut notes = Notes::open(&scratch.0.join(NOTES), printed).map_err(error("the notes cannot be read"))?;
    let until = clock::now() + plan.limit();
    let mut events = Vec::new();
    let ended = loop {
        let status = process.0.try_wait().map_err(error("the child cannot be waited for"))?;
        notes.read_on(&mut |event| {
            seen(&event);
            events.push(event);
        });
        match status {
            Some(status) => break how(status),
            None if clock::now() > until => break Ended::OutOfTime,
            None => std::thread::sleep(LOOK),
        }
    };
    drop(process);
    let known = events.len();
    notes.read_out(&mut |event| events.push(event));
    let report = Report::new(plan.file.display().to_string(), events, &ended);
    report.events[known..].iter().for_each(seen);
    Ok(report)
}

/// The notes of the child, and the lines that it prints.
struct Notes {
    file: File,
    rest: Vec<u8>,
    printed: Receiver<String>,
    lines: usize,
}

impl Notes {
    fn open(file: &Path, printed: Receiver<String>) -> io::Result<Notes> {
        Ok(Notes { file: File::open(file)?, rest: Vec::new(), printed, lines: 0 })
    }

    /// Tells what has come since the last time.
    fn read_on(&mut self, tell: &mut dyn FnMut(Event)) {
        // What cannot be read now is read the next time, or was the last of it.
        let _ = self.file.read_to_end(&mut self.rest);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            if let Ok(event) = serde_json::from_slice(&line) {
                tell(event);
            }
        }
        while let Ok(text) = self.printed.try_recv() {
            self.tell_line(text, tell);
        }
    }

    /// Tells what is left once the child has ended. A process that the module has started may hold a pipe for ever, and is not
    /// waited for.
    fn read_out(&mut self, tell: &mut dyn FnMut(Event)) {
        self.read_on(tell);
        while let Ok(text) = self.printed.recv_timeout(LAST_WORDS) {
            self.tell_line(text, tell);
        }
    }

    fn tell_line(&mut self, text: String, tell: &mut dyn FnMut(Event)) {
        self.lines += 1;
        if self.lines <= MAX_PRINTED {
            tell(Event::Printed { text });
        }
    }
}

/// Reads the lines of a pipe on a thread of its own.
fn hear(pipe: impl Read + Send + 'static, lines: Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            // The other side may have had enough.
            let _ = lines.send(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned());
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
