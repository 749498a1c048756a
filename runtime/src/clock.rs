//! The only place that reads a clock. What decides takes the time as an argument.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Microseconds since 1970-01-01 UTC, as far as the device's clock is right.
pub fn wall_us() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
    }
}

/// [`wall_us`] at the resolution of the kernel's tick (1–4 ms), for a few nanoseconds: what every message is stamped with.
pub fn coarse_wall_us() -> i64 {
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    {
        // Through the C library, as std reads the other clocks: where somebody preloads another time, all agree about it.
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the pointer is to a value of ours, which is written before the call returns. This clock is always there.
        unsafe { libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, &mut now) };
        now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
    }
    #[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
    wall_us()
}

/// Microseconds since the machine was started, with the time that it slept: together with the machine's boot id, when something was,
/// whatever the wall clock said. `None` where the system does not tell.
pub fn monotonic_us() -> Option<i64> {
    #[cfg(target_os = "linux")]
    {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Some(now.tv_sec * 1_000_000 + now.tv_nsec / 1_000)
    }
    #[cfg(not(target_os = "linux"))]
    None
}

/// Microseconds since this process first asked, for where the system tells nothing better.
pub fn process_us() -> i64 {
    static FIRST: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    i64::try_from(FIRST.get_or_init(Instant::now).elapsed().as_micros()).unwrap_or(i64::MAX)
}

/// The monotonic clock.
pub fn now() -> Instant {
    Instant::now()
}

/// Milliseconds of the monotonic clock at the resolution of the kernel's tick, for a few nanoseconds: what a time to live is
/// measured with. Its zero is some moment of the past.
pub fn coarse_monotonic_ms() -> u64 {
    #[cfg(target_os = "linux")]
    {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
        (now.tv_sec * 1_000 + now.tv_nsec / 1_000_000) as u64
    }
    #[cfg(not(target_os = "linux"))]
    {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        START.get_or_init(Instant::now).elapsed().as_millis() as u64
    }
}

/// A wall time as RFC 3339 in UTC with milliseconds, such as `2026-11-21T14:05:09.123Z`.
pub fn rfc3339(us: i64) -> String {
    match jiff::Timestamp::from_microsecond(us) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => format!("{us}us"),
    }
}

/// Microseconds since 1970-01-01 UTC of a time such as [`rfc3339`] writes; `None` where it is none.
pub fn from_rfc3339(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(|time| time.as_microsecond())
}

/// A time span as a person says it: `3 s`, `2 min 10 s`, `5 h 3 min`, `12 d 4 h`.
pub fn spoken(span: Duration) -> String {
    let s = span.as_secs();
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        3600..86400 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        _ => format!("{} d {} h", s / 86400, s % 86400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_times_are_written_in_utc_with_milliseconds() {
        assert_eq!(rfc3339(1_795_269_909_123_456), "2026-11-21T14:05:09.123Z");
    }

    #[test]
    fn the_coarse_clock_follows_the_fine_one() {
        assert!((wall_us() - coarse_wall_us()).abs() < 1_000_000);
    }

    #[test]
    fn spans_are_said_in_two_units() {
        assert_eq!(spoken(Duration::from_secs(59)), "59 s");
        assert_eq!(spoken(Duration::from_secs(130)), "2 min 10 s");
        assert_eq!(spoken(Duration::from_secs(18_180)), "5 h 3 min");
        assert_eq!(spoken(Duration::from_secs(1_051_200)), "12 d 4 h");
    }
}
