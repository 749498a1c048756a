//! How long an instance waits after a failure, and how often it is started again.

use std::time::Duration;

/// How failures are paced. Source of the defaults: IoT Edge; the jitter is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartPacing {
    /// Delay after the first failure; doubles with each further one.
    pub first_delay: Duration,
    /// Longest delay, jitter included.
    pub max_delay: Duration,
    /// Restarts before it is left alone.
    pub max_starts: u32,
    /// Running so long clears the count of failures.
    pub steady_after: Duration,
    /// Each delay is varied by up to so many percent, up or down.
    pub jitter_percent: u32,
}

impl Default for RestartPacing {
    fn default() -> RestartPacing {
        RestartPacing {
            first_delay: Duration::from_secs(10),
            max_delay: Duration::from_secs(300),
            max_starts: 20,
            steady_after: Duration::from_secs(600),
            jitter_percent: 20,
        }
    }
}

impl RestartPacing {
    /// Delay before the start that follows the `failures`-th failure in a row (from 1). `random` is evenly distributed.
    pub fn delay(&self, failures: u32, random: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let delay = self.first_delay.saturating_mul(1 << doublings).min(self.max_delay);
        let share = f64::from(random) / f64::from(u32::MAX) * 2.0 - 1.0;
        let factor = 1.0 + f64::from(self.jitter_percent.min(100)) / 100.0 * share;
        delay.mul_f64(factor.max(0.0)).min(self.max_delay)
    }
}
