//! How far the time of a query's readings has come. Windows end by it, not by this device's clock, which need not agree with the
//! sources'.
//!
//! ```text
//! watermark = newest source time + what has passed since the last reading − lateness
//! ```
//! so that windows also end when nothing comes any more. A reading far from where time should be (a minute and a window's length,
//! either way) is a stray: not counted, so that one wrong clock does not end everybody's windows. When ten strays in a row agree
//! with each other, it is time that has jumped (a clock was set), and the watermark goes with them.

use serde::{Deserialize, Serialize};

/// Strays in a row that are believed.
const BELIEVED: u32 = 10;
/// How far from its expected time a reading may be, beyond the length of a window and its lateness.
const SLACK_US: i64 = 60_000_000;

/// Where the time of the readings is. `now` in its functions is a monotonic time of this process; both in microseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Watermark {
    newest: Option<i64>,
    /// `now` of the last reading that was in its time.
    #[serde(skip)]
    at: i64,
    #[serde(skip)]
    strays: u32,
    /// Time and `now` of the last stray.
    #[serde(skip)]
    stray: (i64, i64),
    /// Since when this process has been looking: `now`, and once it is known in the readings' time.
    #[serde(skip)]
    began: (i64, Option<i64>),
}

/// What a reading's time says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    InTime,
    /// Not to be counted: too far in the future.
    Ahead,
    /// Not to be counted: too far in the past.
    Behind,
    /// Time is another one from here on; this reading is the first in it.
    Jumped,
}

impl Watermark {
    /// Before the first reading.
    pub fn new(now: i64) -> Watermark {
        Watermark { newest: None, at: now, strays: 0, stray: (0, 0), began: (now, None) }
    }

    /// Takes up what an earlier process wrote. The time between is unknown: the next reading may be as new as it likes.
    pub fn resumed(self, now: i64) -> Watermark {
        Watermark { newest: self.newest, ..Watermark::new(now) }
    }

    /// Time up to which nothing is waited for; `None` before the first reading.
    pub fn get(&self, now: i64, lateness: i64) -> Option<i64> {
        Some(self.expected(now)? - lateness)
    }

    /// When this process began to look, in the time of the readings.
    pub fn began(&self) -> Option<i64> {
        self.began.1
    }

    fn expected(&self, now: i64) -> Option<i64> {
        self.newest.map(|newest| newest.saturating_add((now - self.at).max(0)))
    }

    /// Judges the next reading; `reach` is the length of a window and its lateness.
    pub fn judge(&mut self, time: i64, now: i64, reach: i64) -> Judged {
        let slack = reach.saturating_add(SLACK_US);
        let off = self.expected(now).map_or(0, |expected| time.saturating_sub(expected));
        let is_first = self.began.1.is_none();
        if off.saturating_abs() <= slack || (is_first && off > 0) {
            if is_first {
                self.began.1 = Some(time.saturating_sub(now - self.began.0));
            }
            self.newest = Some(self.newest.map_or(time, |newest| newest.max(time)));
            (self.at, self.strays) = (now, 0);
            return Judged::InTime;
        }
        let agreed = time.saturating_sub(self.stray.0).saturating_sub(now - self.stray.1).saturating_abs() <= slack;
        self.strays = if agreed { self.strays + 1 } else { 1 };
        self.stray = (time, now);
        if self.strays < BELIEVED {
            return if off > 0 { Judged::Ahead } else { Judged::Behind };
        }
        *self = Watermark { newest: Some(time), began: (now, Some(time)), ..Watermark::new(now) };
        Judged::Jumped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000;
    const REACH: i64 = 10 * S;
    /// The readings' clock against ours.
    const OFF: i64 = 1_795_269_909 * S;

    fn at(secs: i64) -> Watermark {
        let mut mark = Watermark::new(0);
        assert_eq!(mark.judge(OFF + secs * S, secs * S, REACH), Judged::InTime);
        mark
    }

    #[test]
    fn it_follows_the_newest_reading_and_then_the_clock() {
        let mut mark = at(1);
        assert_eq!(mark.get(S, 2 * S), Some(OFF - S));
        assert_eq!(mark.get(4 * S, 2 * S), Some(OFF + 2 * S), "nothing came for 3 s");
        assert_eq!(mark.judge(OFF + 3 * S, 5 * S, REACH), Judged::InTime);
        assert_eq!(mark.get(5 * S, 0), Some(OFF + 3 * S), "the source is slower than our clock");
        assert_eq!(mark.judge(OFF + 2 * S, 5 * S, REACH), Judged::InTime);
        assert_eq!(mark.get(5 * S, 0), Some(OFF + 3 * S), "an older reading does not turn it back");
    }

    #[test]
    fn it_is_known_since_when_was_looked() {
        let mut mark = Watermark::new(100 * S);
        assert_eq!((mark.began(), mark.get(100 * S, 0)), (None, None));
        mark.judge(OFF, 103 * S, REACH);
        assert_eq!(mark.began(), Some(OFF - 3 * S));
    }

    #[test]
    fn one_wrong_clock_is_not_believed() {
        for (off, judged) in [(3600 * S, Judged::Ahead), (-3600 * S, Judged::Behind)] {
            let mut mark = at(1);
            for n in 0..100 {
                assert_eq!(mark.judge(OFF + off, n * S, REACH), judged);
                assert_eq!(mark.judge(OFF + n * S, n * S, REACH), Judged::InTime);
            }
        }
    }

    #[test]
    fn strays_that_disagree_are_not_believed() {
        let mut mark = at(1);
        for n in 1..100 {
            assert_eq!(mark.judge(OFF + n * 3600 * S, S, REACH), Judged::Ahead);
        }
    }

    #[test]
    fn a_clock_that_was_set_is_believed_after_ten_readings() {
        for off in [365 * 86_400 * S, -365 * 86_400 * S] {
            let mut mark = at(1);
            let judged: Vec<Judged> = (0..12).map(|n| mark.judge(OFF + off + n * S, n * S, REACH)).collect();
            let strays = judged.iter().take_while(|j| matches!(j, Judged::Ahead | Judged::Behind)).count();
            assert_eq!((strays, judged[9], judged[10]), (9, Judged::Jumped, Judged::InTime));
            assert_eq!(mark.get(11 * S, 0), Some(OFF + off + 11 * S));
        }
    }

    #[test]
    fn after_a_restart_time_may_have_passed() {
        let mark = at(1);
        let read: Watermark = serde_json::from_str(&serde_json::to_string(&mark).unwrap()).unwrap();
        let mut mark = read.resumed(5 * S);
        assert_eq!(mark.judge(OFF + 36_000 * S, 6 * S, REACH), Judged::InTime);
        assert_eq!(mark.began(), Some(OFF + 35_999 * S));
    }
}
