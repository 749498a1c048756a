//! How much may be said in a time: a bucket of tokens in one number.

use std::time::Duration;

/// A rate and what may come at once. Pure: time is given as the span since some beginning.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    interval_ns: u64,
    burst_ns: u64,
}

impl Rate {
    /// `per_sec` for ever, `burst` at once.
    pub fn new(per_sec: u32, burst: u32) -> Rate {
        let interval_ns = 1_000_000_000 / u64::from(per_sec.max(1));
        Rate { interval_ns, burst_ns: interval_ns * u64::from(burst.max(1)) }
    }

    /// The state after taking `cost`, or `None` where that is too much now. A fresh state is 0.
    pub fn take(&self, state: u64, cost: u32, now: Duration) -> Option<u64> {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let next = state.max(now).saturating_add(self.interval_ns * u64::from(cost));
        (next - now <= self.burst_ns).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_no_more_than_the_rate() {
        let rate = Rate::new(200, 2000);
        let mut state = 0;
        let mut passed = 0;
        let mut offer = |at_ms: u64| {
            if let Some(next) = rate.take(state, 1, Duration::from_millis(at_ms)) {
                state = next;
                passed += 1;
            }
            passed
        };
        for _ in 0..10_000 {
            offer(0);
        }
        assert_eq!(offer(0), 2000);
        for ms in 1..=10_000 {
            offer(ms);
            offer(ms);
        }
        assert_eq!(offer(10_000), 2000 + 10 * 200);
    }

    #[test]
    fn large_lines_cost_more_and_rest_fills_the_bucket_no_further_than_the_burst() {
        let rate = Rate::new(10, 20);
        assert_eq!(rate.take(0, 21, Duration::ZERO), None);
        let state = rate.take(0, 20, Duration::ZERO).unwrap();
        assert_eq!(rate.take(state, 1, Duration::from_millis(99)), None);
        let later = Duration::from_secs(3600);
        assert!(rate.take(state, 20, later).is_some() && rate.take(state, 21, later).is_none());
    }
}
