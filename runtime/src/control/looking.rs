//! When the queue's file is read again from end to end: once a day, at a moment at which little is written.

use std::time::{Duration, Instant};

use super::Control;

/// Between two looks; the one after the start is not made here.
const BETWEEN: Duration = Duration::from_secs(24 * 3600);
/// With more commits between two ticks it waits for a quieter moment, for a further day at most.
const QUIET: u64 = 2;

pub(super) struct Looking {
    next: Instant,
    commits: u64,
}

impl Looking {
    pub fn new(now: Instant) -> Looking {
        Looking { next: now + BETWEEN, commits: 0 }
    }

    /// Whether to look now. To be called every second or so, with how many commits there were.
    fn is_due(&mut self, now: Instant, commits: u64) -> bool {
        let is_quiet = commits.saturating_sub(self.commits) <= QUIET;
        self.commits = commits;
        let is_due = now >= self.next && (is_quiet || now >= self.next + BETWEEN);
        if is_due {
            self.next = now + BETWEEN;
        }
        is_due
    }
}

impl Control {
    pub(super) fn look_for_damage(&mut self, now: Instant) {
        let commits = self.database.figures().commits.load(std::sync::atomic::Ordering::Relaxed);
        if self.looking.is_due(now, commits) {
            self.database.look_for_damage_beside();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_again_each_day_at_a_quiet_moment_and_at_last_at_any() {
        let start = Instant::now();
        let mut looking = Looking::new(start);
        let hours = |hours: u64| start + Duration::from_secs(hours * 3600);
        for (at, commits, expected) in [
            (1, 10, false),
            (23, 10, false),
            (24, 1_000, false),
            (25, 1_001, true),
            (26, 1_001, false),
            (48, 1_001, false),
            (49, 1_001, true),
            (73, 5_000, false),
            (96, 9_000, false),
            (97, 13_000, true),
            (98, 13_000, false),
        ] {
            assert_eq!(looking.is_due(hours(at), commits), expected, "after {at} h");
        }
    }
}
