//! Whether the device's clock can be right.

use super::{ok, warning};
use crate::clock::rfc3339;
use crate::view::Finding;

/// 2026-01-01; no device that runs this lives earlier.
const EARLIEST_US: i64 = 1_767_225_600_000_000;
const LATEST_US: i64 = EARLIEST_US + 40 * 365 * 86_400 * 1_000_000;

/// `last_seen_us`: the latest time that the state directory has been written at.
pub fn clock(now_us: i64, last_seen_us: Option<i64>) -> Finding {
    let set = "set the clock, or let it be set (systemd-timesyncd, chrony); messages carry monotonic times besides";
    if now_us < EARLIEST_US {
        return warning("clock", format!("the clock says {}, which is past", rfc3339(now_us)), set);
    }
    if now_us > LATEST_US {
        return warning("clock", format!("the clock says {}, which is far ahead", rfc3339(now_us)), set);
    }
    match last_seen_us.filter(|last| now_us < last - 60_000_000) {
        Some(last) => {
            let text =
                format!("the clock says {}, but the state directory was written at {}", rfc3339(now_us), rfc3339(last));
            warning("clock", text, set)
        }
        None => ok("clock", rfc3339(now_us)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Severity;

    #[test]
    fn a_clock_that_cannot_be_right_is_warned_about() {
        let now = EARLIEST_US + 1_000_000_000;
        let table = [
            (0, None, Severity::Warning),
            (now, None, Severity::Ok),
            (now, Some(now + 3_600_000_000), Severity::Warning),
            (now, Some(now - 1), Severity::Ok),
            (i64::MAX / 2, None, Severity::Warning),
        ];
        for (now, last, expected) in table {
            assert_eq!(clock(now, last).status, expected, "{now} {last:?}");
        }
    }
}
