//! The store's own time, by which times to live are measured, and what the wall clock is worth.
//!
//! Devices start in 1970, get their time hours later, or get it wrong. So a time to live is never compared with the wall clock:
//! the store's time goes on with the machine's monotonic clock, and the time that the machine was off is added only when the wall
//! clock can be trusted. It can be unless it says a time that is past, lies before the latest trusted time, or lies further ahead
//! of that than a machine stands still.
//!
//! ```text
//! wall clock   Fri 18:00 ── off ── 1970 ───────── Mon 08:00 ──►       trusted again: the weekend is counted now
//! store's time Fri 18:00 ───────── Fri 18:00 ─►   Mon 08:00 ──►
//! ```
//! Guarantee: nothing expires before its time to live has really passed, whatever the wall clock says within these bounds.

use std::sync::Mutex;

use super::lane::lock;
use crate::clock;
use crate::database::tables::clock::{self as clock_table, ClockJump, Noted};
use crate::database::tables::queue::ClockMark;
use crate::database::{Database, File, StoreError};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
/// 2026-01-01; no device that runs this lives earlier.
const EARLIEST_US: i64 = 1_767_225_600 * SECOND;
/// Without any trusted time before, a clock may be so far ahead of that.
const LATEST_US: i64 = EARLIEST_US + 40 * 365 * DAY;
/// A machine that stood still for longer than this is not believed to.
const LONGEST_OFF: i64 = 400 * DAY;
/// A clock that is set right by so little has not jumped.
const TOLERANCE: i64 = 2 * SECOND;

/// Between two notes while messages are stored.
const BUSY_NOTE: i64 = 60 * SECOND;
/// The same while none are.
const IDLE_NOTE: i64 = 600 * SECOND;

/// The clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Since the start of the machine.
    pub monotonic_us: i64,
    /// Wall time.
    pub wall_us: i64,
}

/// Where the store's time stands. Pure: it is told what the clocks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreTime {
    store_us: i64,
    monotonic_us: i64,
    wall_us: i64,
    anchor: Option<(i64, i64)>,
    is_owed: bool,
}

impl StoreTime {
    /// Goes on from what was noted last.
    pub fn resume(noted: Option<Noted>, boot: Option<i64>, now: Reading) -> StoreTime {
        let Reading { monotonic_us, wall_us } = now;
        let mut time = match noted {
            // It begins as the wall time, so that what was stored before there was any has the right age.
            None => StoreTime { store_us: wall_us, monotonic_us, wall_us, anchor: None, is_owed: false },
            Some(noted) => {
                let is_same = boot.is_some() && noted.boot == boot && monotonic_us >= noted.monotonic_us;
                let ran = if is_same { monotonic_us - noted.monotonic_us } else { 0 };
                let is_owed = noted.is_owed || !is_same;
                StoreTime { store_us: noted.store_us + ran, monotonic_us, wall_us, anchor: noted.anchor, is_owed }
            }
        };
        time.settle();
        time
    }

    /// Goes on to another moment of the same boot; a jump of the wall clock is given back.
    pub fn tick(&mut self, now: Reading) -> Option<(i64, i64)> {
        let ran = (now.monotonic_us - self.monotonic_us).max(0);
        let expected = self.wall_us + ran;
        self.store_us += ran;
        (self.monotonic_us, self.wall_us) = (now.monotonic_us, now.wall_us);
        self.settle();
        ((now.wall_us - expected).abs() > TOLERANCE).then_some((expected, now.wall_us))
    }

    /// Counts the time off, once the clock can be trusted.
    fn settle(&mut self) {
        if !self.is_trusted() {
            return;
        }
        if let (true, Some((wall, store))) = (self.is_owed, self.anchor) {
            self.store_us = self.store_us.max(store + (self.wall_us - wall));
        }
        self.is_owed = false;
        self.anchor = Some((self.wall_us, self.store_us));
    }

    /// Whether the wall clock can be right.
    pub fn is_trusted(&self) -> bool {
        let Some((wall, store)) = self.anchor else { return (EARLIEST_US..=LATEST_US).contains(&self.wall_us) };
        let ran = self.store_us - store;
        let least = wall - TOLERANCE;
        self.wall_us >= least.max(EARLIEST_US) && self.wall_us - wall <= ran.saturating_add(LONGEST_OFF)
    }

    /// The store's time at a moment after the last tick.
    pub fn at(&self, monotonic_us: i64) -> i64 {
        self.store_us + (monotonic_us - self.monotonic_us).max(0)
    }

    fn noted(&self, boot: Option<i64>) -> Noted {
        let StoreTime { store_us, monotonic_us, anchor, is_owed, .. } = *self;
        Noted { boot, monotonic_us, store_us, anchor, is_owed }
    }
}

/// What the wall clock is worth at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worth {
    /// Whether it can be right.
    pub is_trusted: bool,
    /// See [`ClockMark::boot`].
    pub boot: Option<i64>,
    /// What it says less the monotonic time: what was at a monotonic time was at that and this much.
    pub offset_us: i64,
}

/// The store's time of a running runtime. `[any thread]`
pub struct StoreClock {
    boot: Option<i64>,
    state: Mutex<State>,
}

struct State {
    time: StoreTime,
    /// Store's time of the last note, and the commits until then.
    noted: (i64, u64),
}

impl StoreClock {
    /// Goes on where the last run ended. `boot`: see [`ClockMark::boot`].
    pub fn open(database: &Database, boot: Option<i64>) -> Result<StoreClock, StoreError> {
        let noted = database.read(File::Queue, clock_table::load)?;
        let time = StoreTime::resume(noted, boot, read());
        if !time.is_trusted() {
            tracing::warn!(
                "the clock says {}, which is not trusted: times to live go by the time that the machine runs",
                clock::rfc3339(time.wall_us)
            );
        }
        let clock = StoreClock { boot, state: Mutex::new(State { time, noted: (0, 0) }) };
        Ok(clock)
    }

    /// The clocks for what is stored now.
    pub fn mark(&self) -> ClockMark {
        let now = read();
        let state = lock(&self.state);
        ClockMark {
            boot: self.boot,
            monotonic_us: clock::monotonic_us(),
            clock_doubted: !state.time.is_trusted(),
            store_us: Some(state.time.at(now.monotonic_us)),
        }
    }

    /// What the wall clock is worth now.
    pub fn worth(&self) -> Worth {
        let is_trusted = lock(&self.state).time.is_trusted();
        let Reading { monotonic_us, wall_us } = read();
        Worth { is_trusted, boot: self.boot, offset_us: wall_us - monotonic_us }
    }

    /// The store's time.
    pub fn now_us(&self) -> i64 {
        lock(&self.state).time.at(read().monotonic_us)
    }

    /// What is left of a time to live of `left_us` from `from_us` on; 0: it is over.
    pub fn left_us(&self, from_us: i64, left_us: i64) -> u64 {
        u64::try_from(from_us.saturating_add(left_us).saturating_sub(self.now_us())).unwrap_or(0)
    }

    /// Looks at the clocks, and notes them now and then. Waits for no disk. `[control]`
    pub fn tick(&self, database: &Database) {
        self.note(database, false);
    }

    /// Notes the clocks at the end of the runtime. Waits for no disk.
    pub fn close(&self, database: &Database) {
        self.note(database, true);
    }

    fn note(&self, database: &Database, is_last: bool) {
        let now = read();
        let commits = database.figures().commits.load(std::sync::atomic::Ordering::Relaxed);
        let mut state = lock(&self.state);
        let was_owed = state.time.is_owed;
        let jump = state.time.tick(now).map(|(before_us, after_us)| ClockJump {
            boot: self.boot,
            monotonic_us: now.monotonic_us,
            before_us,
            after_us,
            is_trusted: state.time.is_trusted(),
        });
        let (last, before) = state.noted;
        // The note itself is a commit.
        let patience = if commits > before + 1 { BUSY_NOTE } else { IDLE_NOTE };
        let is_due = state.time.store_us - last >= patience || was_owed != state.time.is_owed;
        if !is_due && !is_last && jump.is_none() {
            return;
        }
        state.noted = (state.time.store_us, commits);
        let noted = state.time.noted(self.boot);
        let offset = state.time.is_trusted().then_some(now.wall_us - now.monotonic_us);
        drop(state);
        if let Some(jump) = &jump {
            let worth = if jump.is_trusted { "trusted" } else { "not trusted" };
            let (before, after) = (clock::rfc3339(jump.before_us), clock::rfc3339(jump.after_us));
            tracing::warn!(
                "the clock jumped from {before} to {after}, which is {worth}; times to live do not follow it"
            );
        }
        let store = move |tx: &rusqlite::Connection| {
            jump.iter().try_for_each(|jump| clock_table::add_jump(tx, jump))?;
            clock_table::save(tx, &noted, offset)
        };
        let stored = |outcome: Result<(), StoreError>| {
            if let Err(error) = outcome {
                tracing::debug!("the clocks could not be noted: {error}");
            }
        };
        database.submit_now(File::Queue, Box::new(store), Box::new(stored));
    }
}

/// Without a monotonic time of the system, that of this process has to do.
fn read() -> Reading {
    Reading { monotonic_us: clock::monotonic_us().unwrap_or_else(clock::process_us), wall_us: clock::wall_us() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600 * SECOND;
    const FRIDAY: i64 = EARLIEST_US + 100 * DAY;

    fn at(monotonic_us: i64, wall_us: i64) -> Reading {
        Reading { monotonic_us, wall_us }
    }

    /// Ran until Friday evening, with the right time.
    fn friday() -> Noted {
        let mut time = StoreTime::resume(None, Some(1), at(HOUR, FRIDAY - HOUR));
        assert_eq!(time.tick(at(2 * HOUR, FRIDAY)), None);
        time.noted(Some(1))
    }

    #[test]
    fn time_off_counts_only_by_a_clock_that_can_be_right() {
        let weekend = 62 * HOUR;
        let table = [
            ("right", FRIDAY + weekend, true, weekend),
            ("1970", HOUR, false, 0),
            ("before the last seen time", FRIDAY - HOUR, false, 0),
            ("set right by a second", FRIDAY - SECOND, true, 0),
            ("a year ahead", FRIDAY + 365 * DAY, true, 365 * DAY),
            ("far beyond", FRIDAY + 500 * DAY, false, 0),
        ];
        for (what, wall, is_trusted, passed) in table {
            let time = StoreTime::resume(Some(friday()), Some(2), at(0, wall));
            assert_eq!((time.is_trusted(), time.at(0) - FRIDAY), (is_trusted, passed), "{what}");
        }
        let same_boot = StoreTime::resume(Some(friday()), Some(1), at(5 * HOUR, 0));
        assert_eq!(
            same_boot.at(5 * HOUR) - FRIDAY,
            3 * HOUR,
            "within a boot the monotonic clock counts, whatever the other says"
        );
    }

    #[test]
    fn a_weekend_in_1970_is_counted_when_the_clock_is_set_and_not_a_second_more() {
        let mut time = StoreTime::resume(Some(friday()), Some(2), at(0, 0));
        assert_eq!(time.tick(at(10 * HOUR, 10 * HOUR)), None);
        assert_eq!(time.at(10 * HOUR), FRIDAY + 10 * HOUR, "what it ran, it ran");

        let monday = FRIDAY + 62 * HOUR;
        let jump = time.tick(at(10 * HOUR, monday));

        assert_eq!(jump, Some((10 * HOUR, monday)));
        assert_eq!(time.at(10 * HOUR), monday);
        // From now on it goes by the machine: no later jump counts.
        for wall in [monday + 40 * DAY, 0, monday + HOUR] {
            assert!(time.tick(at(11 * HOUR, wall)).is_some());
            assert_eq!(time.at(11 * HOUR), monday + HOUR, "{wall}");
        }
    }

    #[test]
    fn time_off_is_owed_over_several_starts_and_a_crash() {
        let crashed = StoreTime::resume(Some(friday()), Some(2), at(0, 0)).noted(Some(2));
        let mut again = StoreTime::resume(Some(crashed), Some(2), at(HOUR, HOUR));
        assert_eq!(again.at(HOUR), FRIDAY + HOUR);
        again.tick(at(2 * HOUR, 2 * HOUR));
        let third = StoreTime::resume(Some(again.noted(Some(2))), Some(3), at(0, FRIDAY + 20 * HOUR));

        assert_eq!(third.at(0), FRIDAY + 20 * HOUR, "what it ran meanwhile is in it once");
    }

    #[test]
    fn a_device_that_never_had_the_time_begins_with_what_it_has() {
        let mut time = StoreTime::resume(None, Some(1), at(0, 0));
        assert!(!time.is_trusted());
        time.tick(at(HOUR, HOUR));

        time.tick(at(2 * HOUR, FRIDAY));

        assert!(time.is_trusted());
        assert_eq!(time.at(2 * HOUR), 2 * HOUR, "nothing is owed: it was never off");
    }
}
