//! The thread that writes: takes lines from the queue in batches, numbers them, and hands each to its file, to the console and
//! to those who follow. The only one that waits for a disk.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use serde_json::{Map, Value};

use super::console::ToConsole;
use super::files::Files;
use super::line::{Level, Line};
use super::query::Which;
use super::speaker::{Dropped, Reason, Speaker};
use super::{LogLimits, Shared, files, reader};
use crate::clock;

/// So long lines are gathered before they are written.
const GATHER: Duration = Duration::from_millis(40);
/// Lines written at a time.
const MAX_BATCH: usize = 512;
/// How often dropped lines are written down while there are any.
const TELL_DROPPED: Duration = Duration::from_secs(1);
/// Files are closed when nobody has said anything for so long.
const IDLE: Duration = Duration::from_secs(5);
/// Lines that wait for the folder at the start.
const MAX_EARLY: usize = 1000;
/// How often trouble with the disk is said on the console.
const TELL_TROUBLE: Duration = Duration::from_secs(60);

/// What the writer is told.
pub(super) enum Job {
    /// A line, and what it occupied in the queue.
    Line(Box<Line>, usize),
    /// This speaker's lines were dropped, for the first time since this was told.
    Dropped(Arc<Speaker>),
    /// Files are kept here.
    KeepIn(PathBuf),
    /// Everything said before is to be in the files.
    Flush(Sender<()>),
    /// As `Flush`, for somebody who is told by being called.
    Written(Box<dyn FnOnce() + Send>),
    /// As `Flush`, and later lines go to the follower too. Answers with the number of the last line before those.
    Follow(Follower, Sender<u64>),
    /// Delete what this speaker said.
    Forget(Arc<Speaker>),
    /// End, once everything said before is written.
    Close,
}

/// Somebody who follows.
pub(super) struct Follower {
    pub which: Which,
    pub level: Option<Level>,
    pub lines: Sender<Arc<[u8]>>,
    pub skipped: Arc<AtomicU64>,
}

pub(super) struct Writer {
    limits: LogLimits,
    inbox: Receiver<Job>,
    shared: Arc<Shared>,
    console: ToConsole,
    files: Option<Files>,
    /// Lines said before there was a folder.
    early: Vec<Line>,
    has_folder: bool,
    followers: Vec<Follower>,
    next: u64,
    /// Bytes and lines on their way to the files, by speaker.
    pending: HashMap<usize, Pending>,
    /// Whose dropped lines are to be written down, by speaker: with what was said of them and never reached the file.
    dropped: HashMap<usize, (Arc<Speaker>, [u64; 3])>,
    tell_dropped_at: Option<Instant>,
    tell_trouble_at: Option<Instant>,
    json: Vec<u8>,
}

struct Pending {
    speaker: Arc<Speaker>,
    bytes: Vec<u8>,
    /// Lines among them that say how many were dropped: where each ends, the reason, the number.
    notices: Vec<(usize, Reason, u64)>,
}

impl Writer {
    pub(super) fn new(limits: LogLimits, inbox: Receiver<Job>, shared: Arc<Shared>, console: ToConsole) -> Writer {
        Writer {
            limits,
            inbox,
            shared,
            console,
            files: None,
            early: Vec::new(),
            has_folder: false,
            followers: Vec::new(),
            next: number_of(clock::wall_us()),
            pending: HashMap::new(),
            dropped: HashMap::new(),
            tell_dropped_at: None,
            tell_trouble_at: None,
            json: Vec::new(),
        }
    }

    /// Writes until it is told to close, or nobody can say anything any more.
    pub(super) fn run(mut self) {
        step_back();
        loop {
            let first = match self.wait() {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let is_last = first.is_some_and(|job| self.batch(job));
            if is_last || self.tell_dropped_at.is_some_and(|at| clock::now() >= at) {
                self.tell_dropped();
            }
            self.flush();
            if is_last {
                break;
            }
        }
        self.console.flush();
    }

    fn wait(&mut self) -> Result<Job, RecvTimeoutError> {
        if let Some(at) = self.tell_dropped_at {
            return self.inbox.recv_deadline(at);
        }
        if self.files.is_some() {
            match self.inbox.recv_timeout(IDLE) {
                Err(RecvTimeoutError::Timeout) => self.files.iter_mut().for_each(Files::close),
                job => return job,
            }
            self.pending.shrink_to_fit();
        }
        self.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected)
    }

    /// Takes what is there and what comes soon; true if this is the end.
    fn batch(&mut self, first: Job) -> bool {
        let until = clock::now() + GATHER;
        let mut next = Some(first);
        let mut count = 0;
        while let Some(job) = next {
            // What somebody waits for, and what may be the last word before the end, is not held back.
            let is_urgent = match &job {
                Job::Line(line, _) => line.level == Level::Error,
                Job::Dropped(_) => false,
                _ => true,
            };
            if self.job(job) {
                return true;
            }
            count += 1;
            next = match is_urgent || count >= MAX_BATCH {
                true => None,
                false => self.inbox.recv_deadline(until).ok(),
            };
        }
        false
    }

    fn job(&mut self, job: Job) -> bool {
        match job {
            Job::Line(line, bytes) => {
                line.speaker.give_back(&self.shared.turn, bytes);
                self.line(*line);
            }
            Job::Dropped(speaker) => {
                self.tell_later(speaker, [0; 3]);
            }
            Job::KeepIn(folder) => self.keep_in(&folder),
            Job::Flush(done) => {
                self.tell_dropped();
                self.flush();
                let _ = done.send(());
            }
            Job::Written(told) => {
                self.flush();
                told();
            }
            Job::Follow(follower, done) => {
                self.flush();
                if done.send(self.next - 1).is_ok() {
                    self.followers.push(follower);
                }
            }
            Job::Forget(speaker) => self.forget(&speaker),
            Job::Close => return true,
        }
        false
    }

    fn keep_in(&mut self, folder: &Path) {
        self.has_folder = true;
        // Numbers go up even where the clock went back, as after a start without a network.
        let newest = [&self.shared.runtime, &self.shared.audit].map(|speaker| files::path(folder, speaker));
        let last = newest.iter().filter_map(|file| reader::last_number(file)).max().map_or(0, |last| last + 1_000_000);
        self.next = self.next.max(last);
        match Files::new(folder.to_owned(), self.limits) {
            Ok(files) => self.files = Some(files),
            Err(error) => self.trouble(&format!("the folder {} cannot be made: {error}", folder.display())),
        }
        for line in std::mem::take(&mut self.early) {
            self.keep(&line);
        }
    }

    fn line(&mut self, line: Line) {
        self.keep(&line);
        // What was done is said where it happens; the record of it is for whoever asks.
        if !line.speaker.is_audit() {
            let json = std::mem::take(&mut self.json);
            self.console.line(&line, &json);
            self.json = json;
        }
        if !self.has_folder && self.early.len() < MAX_EARLY {
            self.early.push(line);
        }
    }

    /// Numbers a line and adds it to its file and to those who follow; its form there stays in `json`.
    fn keep(&mut self, line: &Line) {
        self.json.clear();
        line.encode(self.next, &mut self.json);
        self.next += 1;
        self.shared.written.fetch_add(1, Ordering::Relaxed);
        if !self.followers.is_empty() {
            self.tell_followers(line);
        }
        self.append(&line.speaker);
    }

    /// Adds what is in `json` to a speaker's file.
    fn append(&mut self, speaker: &Arc<Speaker>) {
        if self.files.is_some() {
            let new = || Pending { speaker: speaker.clone(), bytes: Vec::new(), notices: Vec::new() };
            self.pending.entry(key(speaker)).or_insert_with(new).bytes.extend_from_slice(&self.json);
        }
    }

    fn tell_followers(&mut self, line: &Line) {
        let mut shared: Option<Arc<[u8]>> = None;
        let json = &self.json;
        self.followers.retain(|follower| {
            let is_wanted = follower.which.is(&line.speaker) && follower.level.is_none_or(|level| line.level <= level);
            if !is_wanted {
                return true;
            }
            let line = shared.get_or_insert_with(|| json.as_slice().into()).clone();
            match follower.lines.try_send(line) {
                Ok(()) => true,
                Err(TrySendError::Full(_)) => {
                    follower.skipped.fetch_add(1, Ordering::Relaxed);
                    true
                }
                Err(TrySendError::Disconnected(_)) => false,
            }
        });
    }

    /// Puts everything into the files and onto the console.
    fn flush(&mut self) {
        self.console.flush();
        let Some(files) = &mut self.files else { return };
        let mut trouble = None;
        let mut untold = Vec::new();
        for (_, pending) in self.pending.drain() {
            if let Err((error, written)) = files.append(&pending.speaker, &pending.bytes) {
                let lines = pending.bytes[written..].iter().filter(|b| **b == b'\n').count();
                // What a notice says is said again; it is no line that was lost.
                let mut again = [0; 3];
                let notices = pending.notices.iter().filter(|(end, ..)| *end > written);
                let notices = notices.map(|(_, reason, count)| again[*reason as usize] += count).count();
                let lost = lines.saturating_sub(notices) as u64;
                let is_first = lost > 0 && pending.speaker.drop_lines(Reason::Disk, lost);
                if is_first || notices > 0 {
                    untold.push((pending.speaker, again));
                }
                trouble = Some(error);
            }
        }
        for (speaker, again) in untold {
            self.tell_later(speaker, again);
        }
        if let Some(error) = trouble {
            self.trouble(&format!("{error}; lines are dropped and counted until it is better"));
        }
    }

    /// Has it written down soon that lines of a speaker were dropped. `again`: what was said before, in vain.
    fn tell_later(&mut self, speaker: Arc<Speaker>, again: [u64; 3]) {
        let (_, counts) = self.dropped.entry(key(&speaker)).or_insert_with(|| (speaker, [0; 3]));
        counts.iter_mut().zip(again).for_each(|(count, again)| *count += again);
        self.tell_dropped_at.get_or_insert_with(|| clock::now() + TELL_DROPPED);
    }

    /// Writes down what was dropped, in the log of each speaker that it concerns.
    fn tell_dropped(&mut self) {
        self.tell_dropped_at = None;
        for (_, (speaker, [rate_before, queue_before, disk_before])) in std::mem::take(&mut self.dropped) {
            let Dropped { rate, queue, disk } = speaker.take_dropped();
            let more_than = format!("more than {} a second", self.shared.turn.lines_per_sec);
            let reasons = [
                ("rate", Reason::Rate, rate, rate_before, more_than.as_str()),
                ("queue", Reason::Queue, queue, queue_before, "they came faster than they can be written"),
                ("disk", Reason::Disk, disk, disk_before, "the disk did not take them"),
            ];
            for (word, reason, new, before, words) in reasons {
                let count = new + before;
                if count == 0 {
                    continue;
                }
                let lines = if count == 1 { "line" } else { "lines" };
                let fields: Map<String, Value> =
                    [("dropped".to_owned(), count.into()), ("reason".to_owned(), word.into())].into_iter().collect();
                let text = format!("{} {lines} dropped: {words}", grouped(count));
                let line = Line::of_runtime(speaker.clone(), Level::Warn, &text, fields);
                if new > 0 {
                    self.line(line);
                } else {
                    // The console and those who follow know it; only the file does not.
                    self.json.clear();
                    line.encode(self.next, &mut self.json);
                    self.next += 1;
                    self.shared.written.fetch_add(1, Ordering::Relaxed);
                    self.append(&speaker);
                }
                if let Some(pending) = self.pending.get_mut(&key(&speaker)) {
                    pending.notices.push((pending.bytes.len(), reason, count));
                }
            }
        }
    }

    fn forget(&mut self, speaker: &Arc<Speaker>) {
        self.flush();
        if self.dropped.remove(&key(speaker)).is_some() {
            speaker.take_dropped();
        }
        if let Some(Err(error)) = self.files.as_mut().map(|files| files.forget(speaker)) {
            let fields = Map::new();
            let text = format!("the log of {} cannot be deleted: {error}", speaker.name().unwrap_or_default());
            self.line(Line::of_runtime(self.shared.runtime.clone(), Level::Warn, &text, fields));
        }
    }

    /// Says on the console, now and then, that the files have a problem.
    fn trouble(&mut self, what: &str) {
        let now = clock::now();
        if self.tell_trouble_at.is_some_and(|at| now < at) {
            return;
        }
        self.tell_trouble_at = Some(now + TELL_TROUBLE);
        let text = format!("the log cannot be written: {what}");
        let line = Line::of_runtime(self.shared.runtime.clone(), Level::Error, &text, Map::new());
        self.json.clear();
        line.encode(self.next, &mut self.json);
        self.next += 1;
        self.shared.written.fetch_add(1, Ordering::Relaxed);
        let json = std::mem::take(&mut self.json);
        self.console.line(&line, &json);
        self.console.flush();
    }
}

/// What a speaker is found by.
fn key(speaker: &Arc<Speaker>) -> usize {
    Arc::as_ptr(speaker).addr()
}

fn number_of(us: i64) -> u64 {
    u64::try_from(us).unwrap_or(1).max(1)
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Lets the modules' own threads go first.
fn step_back() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 5);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_are_grouped() {
        let table = [(7, "7"), (999, "999"), (1234, "1,234"), (1_234_567, "1,234,567")];
        for (number, text) in table {
            assert_eq!(grouped(number), text);
        }
    }
}
