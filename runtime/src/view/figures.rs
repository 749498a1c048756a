//! What the loop knows that is measured.

use std::time::Duration;

use super::Status;

/// What the loop knows that is measured, at one moment.
#[derive(Debug, Clone)]
pub struct RuntimeFigures {
    /// Since the start.
    pub uptime: Duration,
    /// Every instance.
    pub instances: Vec<InstanceFigures>,
}

/// What is measured of one instance. Counters begin with the runtime.
#[derive(Debug, Clone)]
pub struct InstanceFigures {
    /// Its name.
    pub name: String,
    /// State.
    pub status: Status,
    /// Digest of its image, `sha256:…`.
    pub digest: Option<String>,
    /// Starts.
    pub starts: u64,
    /// Ends that were asked for.
    pub clean_exits: u64,
    /// Ends that were failures.
    pub failed_exits: u64,
    /// Failures since it last ran steadily.
    pub failures: u32,
    /// Deliveries that ended with a retry, and are repeated.
    pub retries: u64,
    /// Deliveries that ended with a fault or a panic, and are repeated.
    pub faults: u64,
    /// Microseconds since 1970-01-01 UTC.
    pub last_start_us: Option<i64>,
    /// Microseconds since 1970-01-01 UTC.
    pub last_exit_us: Option<i64>,
    /// 0 for a clean end, 1 for a failure.
    pub exit_code: Option<i32>,
    /// Processor time of all its threads.
    pub cpu_seconds: f64,
    /// How long it was up while it should have been.
    pub running: Duration,
    /// How long it should have been up.
    pub expected: Duration,
}
