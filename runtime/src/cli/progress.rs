//! A line on a terminal that says how far long work is.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::out::printable;
use crate::clock;

/// Work that takes less is not talked about.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two words.
const PACE: Duration = Duration::from_millis(100);

/// Progress on stderr, if that is a terminal. The line goes when this does.
pub struct Progress {
    started: Instant,
    said_at: Option<Instant>,
    terminal: bool,
}

impl Progress {
    /// Progress of work that starts now.
    pub fn start() -> Progress {
        Progress { started: clock::now(), said_at: None, terminal: io::stderr().is_terminal() }
    }

    /// True if anybody can see it.
    pub fn is_visible(&self) -> bool {
        self.terminal
    }

    /// Says how far it is, in place of what was said before.
    pub fn say(&mut self, text: &str) {
        let now = clock::now();
        let due = self.said_at.map_or(self.started + PATIENCE, |said| said + PACE);
        if self.terminal && now >= due {
            self.said_at = Some(now);
            let waited = clock::spoken(now - self.started);
            let _ = write!(io::stderr(), "\r\x1b[K{} ({waited})", printable(text));
        }
    }
}

/// Says the same again and again until it is dropped.
pub struct Waiting {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Progress of work that a person waits for, and that tells nothing itself.
    pub fn while_waiting(text: String) -> Waiting {
        let (stop, stopped) = channel::<()>();
        let mut progress = Progress::start();
        if !progress.terminal {
            return Waiting { stop: None, thread: None };
        }
        let say = move || {
            while stopped.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
                progress.say(&text);
            }
        };
        Waiting { stop: Some(stop), thread: std::thread::Builder::new().spawn(say).ok() }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        drop(self.stop.take());
        // It only prints: a panic of it is nobody's loss.
        self.thread.take().map(JoinHandle::join);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.said_at.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
