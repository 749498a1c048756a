//! The timers of one instance, kept by its worker.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Timers by id, and their order of firing.
#[derive(Default)]
pub struct Timers {
    due: BTreeMap<(Instant, u64), Duration>,
}

/// A timer that fired.
#[derive(Debug, PartialEq, Eq)]
pub struct Tick {
    /// Id of the timer.
    pub timer: u64,
    /// Ticks that were left out because the instance was busy.
    pub missed: u64,
    /// There will be no other.
    pub is_last: bool,
}

impl Timers {
    /// Adds a timer. A `period` of zero fires once.
    pub fn start(&mut self, id: u64, first: Instant, period: Duration) {
        self.due.insert((first, id), period);
    }

    /// Removes a timer.
    pub fn stop(&mut self, id: u64) {
        self.due.retain(|(_, timer), _| *timer != id);
    }

    /// When the next one is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.due.keys().next().map(|(at, _)| *at)
    }

    /// Takes one timer that is due. Its next tick keeps to the original beat.
    pub fn take_due(&mut self, now: Instant) -> Option<Tick> {
        let (&(at, timer), &period) = self.due.iter().next()?;
        if at > now {
            return None;
        }
        self.due.remove(&(at, timer));
        if period.is_zero() {
            return Some(Tick { timer, missed: 0, is_last: true });
        }
        let missed = (now - at).as_nanos() / period.as_nanos();
        let missed = u32::try_from(missed).unwrap_or(u32::MAX);
        self.due.insert((at + period * missed + period, timer), period);
        Some(Tick { timer, missed: missed.into(), is_last: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_late_timer_counts_what_it_missed_and_keeps_its_beat() {
        let zero = crate::clock::now();
        let mut timers = Timers::default();
        timers.start(7, zero + 10 * MS, 10 * MS);

        assert_eq!(timers.take_due(zero + 9 * MS), None);
        assert_eq!(timers.take_due(zero + 10 * MS), Some(Tick { timer: 7, missed: 0, is_last: false }));
        assert_eq!(timers.take_due(zero + 45 * MS), Some(Tick { timer: 7, missed: 2, is_last: false }));
        assert_eq!(timers.next_due(), Some(zero + 50 * MS));
    }

    #[test]
    fn a_single_shot_fires_once_and_a_stopped_timer_never() {
        let zero = crate::clock::now();
        let mut timers = Timers::default();
        timers.start(1, zero + MS, Duration::ZERO);
        timers.start(2, zero + MS, MS);
        timers.stop(2);

        assert_eq!(timers.take_due(zero + 5 * MS), Some(Tick { timer: 1, missed: 0, is_last: true }));
        assert_eq!(timers.take_due(zero + 5 * MS), None);
        assert_eq!(timers.next_due(), None);
    }
}
