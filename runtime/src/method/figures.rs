//! What became of calls, counted since the runtime started. Reading and counting never wait.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::lock;

/// Modules whose late answers are told apart.
const MAX_LATE_MODULES: usize = 1024;

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// There was an answer, whatever its status.
    Answered,
    /// Nobody answered for the identity.
    NotConnected,
    /// No such identity or method.
    NotFound,
    /// No answer in time.
    Timeout,
    /// The method failed.
    Failed,
    /// The answer was none.
    BadAnswer,
    /// Too many calls were under way.
    Busy,
    /// The call could not be meant.
    Invalid,
}

impl Outcome {
    /// All, in the order of their counters.
    pub const ALL: [Outcome; 8] = [
        Outcome::Answered,
        Outcome::NotConnected,
        Outcome::NotFound,
        Outcome::Timeout,
        Outcome::Failed,
        Outcome::BadAnswer,
        Outcome::Busy,
        Outcome::Invalid,
    ];

    /// Its word, as a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Answered => "answered",
            Outcome::NotConnected => "not_connected",
            Outcome::NotFound => "not_found",
            Outcome::Timeout => "timeout",
            Outcome::Failed => "failed",
            Outcome::BadAnswer => "bad_answer",
            Outcome::Busy => "busy",
            Outcome::Invalid => "invalid",
        }
    }
}

/// Upper ends of the buckets of durations, in microseconds; what is longer is only in the count.
pub const DURATION_BUCKETS_US: [u64; 10] =
    [100, 1_000, 5_000, 10_000, 50_000, 100_000, 1_000_000, 5_000_000, 30_000_000, 300_000_000];

/// How long answered calls took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Durations {
    /// Calls that took no longer than each of [`DURATION_BUCKETS_US`].
    pub buckets: [u64; DURATION_BUCKETS_US.len()],
    /// All of them.
    pub count: u64,
    /// Their sum in microseconds.
    pub sum_us: u64,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Figures {
    outcomes: [AtomicU64; Outcome::ALL.len()],
    late: AtomicU64,
    late_of: Mutex<BTreeMap<Box<str>, u64>>,
    buckets: [AtomicU64; DURATION_BUCKETS_US.len()],
    count: AtomicU64,
    sum_us: AtomicU64,
}

impl Figures {
    /// Calls that ended so.
    pub fn ended(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize].load(Ordering::Relaxed)
    }

    /// Answers that came when nobody waited for them any more.
    pub fn late_answers(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }

    /// Those of one identity.
    pub fn late_answers_of(&self, identity: &str) -> u64 {
        lock(&self.late_of).get(identity).copied().unwrap_or_default()
    }

    /// How long answered calls took, from their begin to their answer.
    pub fn durations(&self) -> Durations {
        let mut below = 0;
        let buckets = std::array::from_fn(|at| {
            below += self.buckets[at].load(Ordering::Relaxed);
            below
        });
        Durations { buckets, count: self.count.load(Ordering::Relaxed), sum_us: self.sum_us.load(Ordering::Relaxed) }
    }

    pub(super) fn count(&self, outcome: Outcome, took: Duration) {
        self.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
        if outcome != Outcome::Answered {
            return;
        }
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(at) = DURATION_BUCKETS_US.iter().position(|end| us <= *end) {
            self.buckets[at].fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    pub(super) fn count_late(&self, identity: &str) {
        self.late.fetch_add(1, Ordering::Relaxed);
        let mut late_of = lock(&self.late_of);
        if late_of.len() < MAX_LATE_MODULES || late_of.contains_key(identity) {
            *late_of.entry(identity.into()).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_has_a_counter_of_its_own() {
        let figures = Figures::default();
        for (times, outcome) in Outcome::ALL.into_iter().enumerate() {
            (0..times).for_each(|_| figures.count(outcome, Duration::ZERO));
        }
        for (times, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(figures.ended(outcome), times as u64, "{outcome:?}");
        }
    }

    #[test]
    fn durations_are_those_of_answered_calls_in_buckets_that_add_up() {
        let figures = Figures::default();
        for ms in [1, 2, 7, 600_000] {
            figures.count(Outcome::Answered, Duration::from_millis(ms));
        }
        figures.count(Outcome::Timeout, Duration::from_secs(5));
        let durations = figures.durations();
        assert_eq!(durations.buckets, [0, 1, 2, 3, 3, 3, 3, 3, 3, 3]);
        assert_eq!((durations.count, durations.sum_us), (4, 600_010_000));
    }
}
