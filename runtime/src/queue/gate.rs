//! A gate for listeners: of what they would hear each so-manieth message, and no more in a second than they want.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::lane::lock;
use crate::clock;

/// Lets through a part of what a listener would hear. Its senders may be many; what they see of each other here is roughly right.
pub struct Gate {
    /// Each so-manieth; 1: all.
    sample: u64,
    /// In a second; `None`: any number.
    rate: Option<u32>,
    seen: AtomicU64,
    left_out: AtomicU64,
    second: std::sync::Mutex<Second>,
}

/// The second that is running, and how many it has let through.
struct Second {
    since: Instant,
    admitted: u32,
}

impl Gate {
    /// `sample` is at least 1. `None` where everything passes.
    pub fn new(sample: u64, rate: Option<u32>) -> Option<Gate> {
        (sample > 1 || rate.is_some()).then(|| Gate {
            sample: sample.max(1),
            rate,
            seen: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
            second: std::sync::Mutex::new(Second { since: clock::now(), admitted: 0 }),
        })
    }

    /// Whether the message at hand passes; the first one does. `[never blocks]`
    pub fn admits(&self) -> bool {
        if !self.seen.fetch_add(1, Ordering::Relaxed).is_multiple_of(self.sample) {
            return false;
        }
        let Some(rate) = self.rate else { return true };
        let now = clock::now();
        let mut second = lock(&self.second);
        if now.duration_since(second.since) >= Duration::from_secs(1) {
            *second = Second { since: now, admitted: 0 };
        }
        if second.admitted < rate {
            second.admitted += 1;
            return true;
        }
        drop(second);
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
    fn what_is_over_the_rate_is_counted() {
        let gate = Gate::new(2, Some(0)).unwrap();
        assert!((0..10).all(|_| !gate.admits()));
        assert_eq!((gate.take_left_out(), gate.take_left_out()), (5, 0));
        assert!(Gate::new(1, Some(1)).unwrap().admits());
    }
}
