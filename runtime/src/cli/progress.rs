//! A line on a terminal that says how far long work is.

use std::io::{self, IsTerminal, Write};
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

impl Drop for Progress {
    fn drop(&mut self) {
        if self.said_at.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
