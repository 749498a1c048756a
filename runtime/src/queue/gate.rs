//! A gate for listeners: of what they would hear each so-manieth message, and no more in any second than they want.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::lane::lock;
use crate::clock;

/// Lets through a part of what a listener would hear. Its senders may be many; what they see of each other here is roughly right.
pub struct Gate {
    /// Each so-manieth; 1: all.
    sample: u64,
    /// In any second; `None`: any number.
    rate: Option<u32>,
    seen: AtomicU64,
    left_out: AtomicU64,
    passed: std::sync::Mutex<Passed>,
}

/// When the last messages passed, as many as may in a second, the oldest first.
///
/// A count that begins anew each second would let through twice as many around the beginning of one.
#[derive(Default)]
struct Passed(VecDeque<Instant>);

impl Passed {
    /// Whether one more passes at `now`, with no more than `rate` in the second that ends there. It never comes before the last.
    fn admits(&mut self, rate: u32, now: Instant) -> bool {
        if self.0.len() >= rate as usize {
            match self.0.front() {
                Some(oldest) if now.duration_since(*oldest) >= Duration::from_secs(1) => drop(self.0.pop_front()),
                _ => return false,
            }
        }
        self.0.push_back(now);
        true
    }
}

impl Gate {
    /// `sample` is at least 1. `None` where everything passes.
    pub fn new(sample: u64, rate: Option<u32>) -> Option<Gate> {
        (sample > 1 || rate.is_some()).then(|| Gate {
            sample: sample.max(1),
            rate,
            seen: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
            passed: std::sync::Mutex::default(),
        })
    }

    /// Whether the message at hand passes; the first one does. `[never blocks]`
    pub fn admits(&self) -> bool {
        if !self.seen.fetch_add(1, Ordering::Relaxed).is_multiple_of(self.sample) {
            return false;
        }
        let Some(rate) = self.rate else { return true };
        let mut passed = lock(&self.passed);
        // With the lock, so that the times are in order.
        if passed.admits(rate, clock::now()) {
            return true;
        }
        drop(passed);
        self.left_out.fetch_add(1, Ordering::Relaxed);
        false
    }

    /// Whether it counts what it leaves out: that is what is over the rate.
    pub fn has_rate(&self) -> bool {
        self.rate.is_some()
    }

    /// Messages over the rate since the last call.
    pub fn take_left_out(&self) -> u64 {
        self.left_out.swap(0, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_so_manieth_message_passes() {
        let gate = Gate::new(3, None).unwrap();
        let admitted: Vec<bool> = (0..7).map(|_| gate.admits()).collect();
        assert_eq!(admitted, [true, false, false, true, false, false, true]);
        assert_eq!(gate.take_left_out(), 0);
        assert!(Gate::new(1, None).is_none());
    }

    #[test]
    fn in_no_second_pass_more_than_the_rate() {
        let start = clock::now();
        let mut passed = Passed::default();
        let mut admits = |at_ms: u64| passed.admits(3, start + Duration::from_millis(at_ms));
        // Three late in the first second, and as many as possible from then on.
        let at = [900, 950, 999, 1000, 1500, 1899, 1900, 1901, 1950, 1998, 1999, 2000, 2900];
        let admitted: Vec<u64> = at.into_iter().filter(|at| admits(*at)).collect();
        assert_eq!(admitted, [900, 950, 999, 1900, 1950, 1999, 2900]);
    }

    #[test]
    fn what_is_over_the_rate_is_counted() {
        let gate = Gate::new(2, Some(0)).unwrap();
        assert!((0..10).all(|_| !gate.admits()));
        assert_eq!((gate.take_left_out(), gate.take_left_out()), (5, 0));
        assert!(Gate::new(1, Some(1)).unwrap().admits());
    }
}
