//! Gives space back that messages needed and need no more: in small steps, between other work.

use std::time::{Duration, Instant};

use rusqlite::Connection;

/// Pages of a step: a millisecond or two.
const STEP_PAGES: u32 = 256;
/// Spare pages that are not worth a step: the next messages take them.
const KEPT_PAGES: u64 = 256;
/// Spare pages from which on a file is looked at.
const WORTH_PAGES: u64 = 1024;
/// A queue that only breathes is left alone: each page that is given back is written once more.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two steps while others have work.
const PAUSE: Duration = Duration::from_millis(25);

/// The size of a file, in pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Pages {
    /// All.
    pub all: u64,
    /// Those that hold nothing.
    pub spare: u64,
}

impl Pages {
    pub fn of(conn: &Connection) -> rusqlite::Result<Pages> {
        let count = |pragma: &str| -> rusqlite::Result<u64> {
            let count = conn.prepare_cached(pragma)?.query_row([], |row| row.get::<_, i64>(0))?;
            Ok(u64::try_from(count).unwrap_or(0))
        };
        Ok(Pages { all: count("PRAGMA page_count")?, spare: count("PRAGMA freelist_count")? })
    }
}

/// What is to be done about the spare pages of a file.
#[derive(Debug, Default)]
pub(super) struct Vacuum {
    /// Since when there are many.
    since: Option<Instant>,
    is_under_way: bool,
    not_before: Option<Instant>,
}

impl Vacuum {
    /// Notes how many there are.
    pub fn look(&mut self, pages: Pages, now: Instant) {
        let is_worth_it = pages.spare >= WORTH_PAGES && pages.spare >= pages.all / 4;
        if self.is_under_way {
            return;
        }
        self.since = if is_worth_it { self.since.or(Some(now)) } else { None };
        self.is_under_way = self.since.is_some_and(|since| now.saturating_duration_since(since) >= PATIENCE);
    }

    /// Whether a step is to be made now. `is_idle`: nobody else has work.
    pub fn is_due(&self, now: Instant, is_idle: bool) -> bool {
        self.is_under_way && (is_idle || self.not_before.is_none_or(|at| at <= now))
    }

    /// When there may be something to do if nobody else has work; `None`: nothing.
    pub fn wakes_at(&self) -> Option<Instant> {
        self.since.map(|since| since + PATIENCE)
    }

    /// Makes a step; true when it was the last one.
    pub fn step(&mut self, conn: &Connection, now: Instant) -> rusqlite::Result<bool> {
        let stepped = step(conn);
        let is_over = match &stepped {
            Ok(left) => *left <= KEPT_PAGES,
            Err(_) => true,
        };
        self.not_before = Some(now + PAUSE);
        if is_over {
            *self = Vacuum::default();
        }
        stepped.map(|_| is_over)
    }
}

/// Gives pages back; how many are left to be.
fn step(conn: &Connection) -> rusqlite::Result<u64> {
    // Each step of the statement frees one page: run as a batch, it frees just one.
    let mut statement = conn.prepare(&format!("PRAGMA incremental_vacuum({STEP_PAGES})"))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    drop(rows);
    Ok(Pages::of(conn)?.spare)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(all: u64, spare: u64) -> Pages {
        Pages { all, spare }
    }

    #[test]
    fn a_queue_that_breathes_is_left_alone_and_one_that_has_drained_is_made_small() {
        let start = Instant::now();
        let at = |secs: u64| start + Duration::from_secs(secs);
        let mut vacuum = Vacuum::default();
        vacuum.look(pages(10_000, 9_000), at(0));
        assert_eq!((vacuum.wakes_at(), vacuum.is_due(at(9), true)), (Some(at(10)), false));
        vacuum.look(pages(10_000, 100), at(5));
        assert_eq!(vacuum.wakes_at(), None, "they are in use again");
        for (all, spare) in [(100_000, 1_100), (1_000, 900)] {
            vacuum.look(pages(all, spare), at(6));
            assert_eq!(vacuum.wakes_at(), None, "{spare} of {all}");
        }

        vacuum.look(pages(10_000, 9_000), at(7));
        vacuum.look(pages(10_000, 9_000), at(17));

        assert!(vacuum.is_due(at(17), false) && vacuum.wakes_at() <= Some(at(17)));
    }

    #[test]
    fn steps_give_the_space_back_to_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        let conn = super::super::open::connect(&path).map_err(|_| ()).unwrap();
        conn.execute_batch(
            "CREATE TABLE t (x); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
             INSERT INTO t SELECT zeroblob(4000) FROM n; DELETE FROM t",
        )
        .unwrap();
        let before = Pages::of(&conn).unwrap();
        assert!(before.spare > 2500, "{before:?}");

        let (mut vacuum, mut steps, mut is_over) = (Vacuum::default(), 0, false);
        while !is_over {
            is_over = vacuum.step(&conn, Instant::now()).unwrap();
            steps += 1;
            assert!(steps < 100, "{:?}", Pages::of(&conn));
        }

        assert!(steps > 5, "in small steps");
        assert!(Pages::of(&conn).unwrap().all <= 3 * KEPT_PAGES, "{:?}", Pages::of(&conn));
    }
}
