//! Which windows a moment belongs to. Windows are aligned to 1970-01-01 UTC, so that those of two devices, and those before and
//! after a restart, are the same.
//!
//! ```text
//! tumbling, size 10 s        hopping, size 10 s, hop 5 s
//! 0────────10────────20      0────────10────────20
//! │  one   │  one   │            5────────15
//! ```
//! A window holds its start and not its end. All times are microseconds.

/// Size of windows, and what lies between their starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub size_us: i64,
    pub hop_us: i64,
}

impl Shape {
    /// Start of the first window that holds `time`.
    pub fn first(self, time: i64) -> i64 {
        // The last multiple of the hop whose window has already ended, and one hop on.
        (time.saturating_sub(self.size_us).div_euclid(self.hop_us) + 1) * self.hop_us
    }

    /// Starts of all windows that hold `time`, in order.
    pub fn starts(self, time: i64) -> impl Iterator<Item = i64> {
        let first = self.first(time);
        std::iter::successors(Some(first), move |start| Some(start + self.hop_us))
            .take_while(move |start| *start <= time)
    }

    /// End of the window that starts so.
    pub fn end(self, start: i64) -> i64 {
        start.saturating_add(self.size_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn starts(size_us: i64, hop_us: i64, time: i64) -> Vec<i64> {
        Shape { size_us, hop_us }.starts(time).collect()
    }

    #[test]
    fn a_moment_belongs_to_the_windows_around_it() {
        for (size, hop, time, expected) in [
            (10, 10, 0, vec![0]),
            (10, 10, 9, vec![0]),
            (10, 10, 10, vec![10]),
            (10, 10, -1, vec![-10]),
            (10, 5, 12, vec![5, 10]),
            (10, 5, 10, vec![5, 10]),
            (10, 5, 4, vec![-5, 0]),
            (10, 4, 12, vec![4, 8, 12]),
            (10, 4, 13, vec![4, 8, 12]),
            (10, 4, 14, vec![8, 12]),
        ] {
            assert_eq!(starts(size, hop, time), expected, "{size}/{hop} at {time}");
        }
    }

    proptest! {
        #[test]
        fn windows_of_a_moment_are_those_that_hold_it(hop in 1_i64..50, more in 0_i64..200, time in -10_000_i64..10_000) {
            let size = hop + more;
            let around = (time - size - hop)..=(time + hop);
            let expected: Vec<i64> = around.filter(|s| s.rem_euclid(hop) == 0 && *s <= time && time < s + size).collect();
            prop_assert_eq!(starts(size, hop, time), expected);
        }
    }
}
