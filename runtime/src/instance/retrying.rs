//! Retries: messages of an instance that wait for another try, as a person is told of them.
//!
//! A message is here from its first delivery that ended with a retry or a fault until it is handled, parked or expired, or until
//! the instance ends. Nothing of this is asked for a message that is accepted at its first try.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::lock;
use crate::clock::spoken;

/// Most messages that are known here at a time; further ones are counted and otherwise not told of.
const MAX_WAITING: usize = 256;
/// Most characters that are kept of a reason.
const MAX_REASON: usize = 300;
/// Most notes about single messages of one instance.
const MAX_NOTES: usize = 4;
/// Between two lines of the log about one message, and the time for which [`MAX_LINES`] is meant.
const SAY_AGAIN: Duration = Duration::from_secs(60);
/// Most lines of one instance in that time: a module may retry every message once.
const MAX_LINES: u32 = 10;
/// A message that waits so long in all is worth telling of where one looks for trouble.
const LONG: Duration = Duration::from_secs(60);

/// Which message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Which<'a> {
    /// Where it came.
    pub input: &'a str,
    /// Identity of its sender.
    pub sender: &'a str,
    /// Output of its sender; empty: none.
    pub output: &'a str,
    /// Epoch of its sequence.
    pub epoch: u64,
    /// Its number.
    pub sequence: u64,
}

/// A delivery that ended with a retry or a fault, after which there will be another one.
#[derive(Debug, Clone, Copy)]
pub struct Try<'a> {
    /// A fault, which is in the log already.
    pub is_fault: bool,
    /// Deliveries so far.
    pub attempts: u32,
    /// Until the next.
    pub wait: Duration,
    /// Why it was not handled.
    pub reason: &'a str,
}

/// How many deliveries are repeated. Begins with the worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// After a retry.
    pub retries: u64,
    /// After a fault or a panic.
    pub faults: u64,
}

impl std::ops::Add for Counts {
    type Output = Counts;

    fn add(self, other: Counts) -> Counts {
        Counts { retries: self.retries + other.retries, faults: self.faults + other.faults }
    }
}

/// See the module's documentation.
#[derive(Default)]
pub struct Retries(Mutex<State>);

#[derive(Default)]
struct State {
    waiting: Vec<Waiting>,
    counts: Counts,
    /// When the time began in which `lines` were said.
    began: Option<Instant>,
    lines: u32,
}

struct Waiting {
    input: String,
    sender: String,
    output: String,
    epoch: u64,
    sequence: u64,
    attempts: u32,
    reason: String,
    since: Instant,
    due: Instant,
    /// When the log last spoke of it.
    said: Option<Instant>,
}

impl Retries {
    /// Counts a delivery that is to be repeated.
    pub fn count(&self, is_fault: bool) {
        let counts = &mut lock(&self.0).counts;
        *(if is_fault { &mut counts.faults } else { &mut counts.retries }) += 1;
    }

    /// How many deliveries are repeated.
    pub fn counts(&self) -> Counts {
        lock(&self.0).counts
    }

    /// A message waits for another try. True: the log is to speak of it.
    pub fn waits(&self, which: Which<'_>, tried: Try<'_>, now: Instant) -> bool {
        lock(&self.0).waits(which, tried, now)
    }

    /// A message waits no more. Gives how long it did, where the log has spoken of it.
    pub fn end(&self, which: Which<'_>, now: Instant) -> Option<Duration> {
        lock(&self.0).end(which, now)
    }

    /// Nothing waits any more: the instance ends.
    pub fn clear(&self) {
        lock(&self.0).waiting.clear();
    }

    /// Notes for `show`: the messages that have waited longest, a line each.
    pub fn notes(&self, now: Instant) -> Vec<String> {
        let state = lock(&self.0);
        let mut notes: Vec<String> = state.waiting.iter().take(MAX_NOTES).map(|waiting| waiting.note(now)).collect();
        let more = state.waiting.len() - notes.len();
        if more > 0 {
            let at_least = if state.waiting.len() == MAX_WAITING { "at least " } else { "" };
            let wait = if more == 1 { "message waits" } else { "messages wait" };
            notes.push(format!("{at_least}{more} more {wait} for another try"));
        }
        notes
    }

    /// The note of the message that waits longest, where that is long.
    pub fn long_note(&self, now: Instant) -> Option<String> {
        lock(&self.0).waiting.iter().find(|waiting| waiting.is_long(now)).map(|waiting| waiting.note(now))
    }
}

impl State {
    fn waits(&mut self, which: Which<'_>, tried: Try<'_>, now: Instant) -> bool {
        let at = match self.place(which) {
            Some(at) => at,
            None if self.waiting.len() == MAX_WAITING => return false,
            None => {
                self.waiting.push(Waiting::new(which, now));
                self.waiting.len() - 1
            }
        };
        let is_due = self.waiting[at].said.is_none_or(|said| now.saturating_duration_since(said) >= SAY_AGAIN);
        let is_said = !tried.is_fault && is_due && self.may_say(now);
        let waiting = &mut self.waiting[at];
        waiting.attempts = tried.attempts;
        waiting.due = now + tried.wait;
        waiting.reason = tried.reason.chars().take(MAX_REASON).collect();
        if is_said || tried.is_fault {
            waiting.said = Some(now);
        }
        is_said
    }

    fn end(&mut self, which: Which<'_>, now: Instant) -> Option<Duration> {
        let ended = self.place(which).map(|at| self.waiting.remove(at))?;
        ended.said.map(|_| now.saturating_duration_since(ended.since))
    }

    fn place(&self, which: Which<'_>) -> Option<usize> {
        // The number first: it differs as a rule.
        self.waiting.iter().position(|waiting| waiting.sequence == which.sequence && waiting.which() == which)
    }

    /// Takes one of the lines that the instance has in a while.
    fn may_say(&mut self, now: Instant) -> bool {
        if self.began.is_none_or(|began| now.saturating_duration_since(began) >= SAY_AGAIN) {
            (self.began, self.lines) = (Some(now), 0);
        }
        let may = self.lines < MAX_LINES;
        self.lines += u32::from(may);
        may
    }
}

impl Waiting {
    fn new(which: Which<'_>, now: Instant) -> Waiting {
        let Which { input, sender, output, epoch, sequence } = which;
        Waiting {
            input: input.to_owned(),
            sender: sender.to_owned(),
            output: output.to_owned(),
            epoch,
            sequence,
            attempts: 0,
            reason: String::new(),
            since: now,
            due: now,
            said: None,
        }
    }

    fn which(&self) -> Which<'_> {
        let Waiting { input, sender, output, epoch, sequence, .. } = self;
        Which { input, sender, output, epoch: *epoch, sequence: *sequence }
    }

    fn is_long(&self, now: Instant) -> bool {
        self.due.max(now).saturating_duration_since(self.since) >= LONG
    }

    fn note(&self, now: Instant) -> String {
        let Waiting { input, epoch, sequence, attempts, reason, .. } = self;
        let from = source(&self.sender, &self.output);
        let left = self.due.saturating_duration_since(now);
        // Its handler has it, or is about to.
        let next = if left.is_zero() { "next now".to_owned() } else { format!("next in {}", spoken_wait(left)) };
        format!(
            "{input}: waits for another try of the message {epoch}.{sequence} of {from} (attempt {attempts}, {next}): {reason}"
        )
    }
}

/// A time to wait, as a person says it.
pub fn spoken_wait(wait: Duration) -> String {
    if wait < Duration::from_secs(1) { format!("{} ms", wait.as_millis().max(1)) } else { spoken(wait) }
}

/// Where a message comes from: `module/output`, or whoever it is.
fn source(sender: &str, output: &str) -> String {
    let sender = sender.rsplit_once("/modules/").map_or(sender, |(_, module)| module);
    if output.is_empty() { sender.to_owned() } else { format!("{sender}/{output}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn message(sequence: u64) -> Which<'static> {
        Which { input: "in", sender: "/devices/d/modules/src", output: "out", epoch: 3, sequence }
    }

    fn retry(attempts: u32, wait: Duration) -> Try<'static> {
        Try { is_fault: false, attempts, wait, reason: "PLC offline" }
    }

    #[test]
    fn message_that_is_retried_is_told_of_at_once_then_each_minute_and_when_it_passes() {
        let (retries, begin) = (Retries::default(), Instant::now());
        let at = |secs: u64| begin + SECOND * u32::try_from(secs).unwrap();
        let said: Vec<u64> =
            (0..200).filter(|secs| retries.waits(message(17), retry(*secs as u32 + 1, SECOND), at(*secs))).collect();
        assert_eq!(said, [0, 60, 120, 180]);
        assert_eq!(retries.end(message(18), at(200)), None, "another one");
        assert_eq!(retries.end(message(17), at(200)), Some(SECOND * 200));
        assert_eq!(retries.end(message(17), at(200)), None, "once");
    }

    #[test]
    fn a_module_that_retries_every_message_has_ten_lines_a_minute_and_those_left_out_pass_in_silence() {
        let (retries, begin) = (Retries::default(), Instant::now());
        let mut said = (0, 0);
        for sequence in 0..120_000 {
            let now = begin + Duration::from_millis(sequence);
            said.0 += u32::from(retries.waits(message(sequence), retry(1, SECOND), now));
            said.1 += u32::from(retries.end(message(sequence), now).is_some());
        }
        assert_eq!(said, (20, 20));
    }

    #[test]
    fn note_says_which_message_how_often_when_and_why() {
        let (retries, now) = (Retries::default(), Instant::now());
        retries.waits(message(17), retry(12, SECOND * 40), now);
        let note = |tries: &str| {
            vec![format!("in: waits for another try of the message 3.17 of src/out ({tries}): PLC offline")]
        };
        assert_eq!(retries.notes(now), note("attempt 12, next in 40 s"));
        assert_eq!(retries.notes(now + SECOND * 39 + SECOND / 2), note("attempt 12, next in 500 ms"));
        assert_eq!(retries.notes(now + SECOND * 41), note("attempt 12, next now"));
        assert_eq!(source("/devices/d", ""), "/devices/d");
        assert_eq!(source("/devices/d/modules/src", ""), "src");
        retries.clear();
        assert!(retries.notes(now).is_empty());
    }

    #[test]
    fn only_what_waits_a_minute_in_all_is_long() {
        let (retries, now) = (Retries::default(), Instant::now());
        retries.waits(message(1), retry(1, SECOND), now);
        assert_eq!(retries.long_note(now + SECOND * 59), None);
        assert!(retries.long_note(now + SECOND * 60).is_some());
        retries.clear();
        retries.waits(message(2), retry(1, SECOND * 3600), now);
        assert!(retries.long_note(now).unwrap().contains("next in 1 h 0 min"));
    }

    #[test]
    fn what_is_kept_and_told_is_bounded() {
        let (retries, now) = (Retries::default(), Instant::now());
        let reason = "ä".repeat(MAX_REASON * 2);
        for sequence in 0..1000 {
            retries.waits(message(sequence), Try { reason: &reason, ..retry(1, SECOND) }, now);
        }
        let notes = retries.notes(now);
        assert_eq!(notes.len(), MAX_NOTES + 1);
        assert_eq!(notes[MAX_NOTES], "at least 252 more messages wait for another try");
        assert_eq!(notes[0].chars().filter(|c| *c == 'ä').count(), MAX_REASON);
    }

    #[test]
    fn a_fault_is_noted_and_its_end_told_without_a_line_of_its_own() {
        let (retries, now) = (Retries::default(), Instant::now());
        let fault = Try { is_fault: true, ..retry(1, SECOND) };
        assert!(!retries.waits(message(1), fault, now));
        assert_eq!(retries.notes(now).len(), 1);
        assert_eq!(retries.end(message(1), now + SECOND), Some(SECOND));
    }
}
