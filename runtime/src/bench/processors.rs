//! Processors: both ends of a hop have one each, ours and the raw channel's alike.
//!
//! The system may put the two ends of a channel on one processor, where they take turns and nothing crosses; a second later it does
//! not. Figures from one and the other say nothing of each other, and no ratio of them does.

#[cfg(target_os = "linux")]
pub(super) use linux::{Pinned, pin_threads, round_trip_ns};

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;
    use std::time::{Duration, Instant};

    use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

    /// Round trips of a look, and how many of them are timed at once.
    const TRIPS: (u32, u32) = (20_000, 1000);
    /// A look that takes longer saw a processor that others use; what it has seen by then is what it says.
    const LOOK: Duration = Duration::from_millis(50);

    /// With the cache lines that are fetched together to itself.
    #[repr(align(128))]
    struct Line(AtomicU32);

    /// The calling thread stays on the processor of one end, until this is dropped.
    pub struct Pinned {
        before: Option<CpuSet>,
    }

    impl Pinned {
        /// `end`: 0 or 1. Where there is only one processor, nothing is done.
        pub fn to(end: usize) -> Pinned {
            let Some(processor) = processor(end) else { return Pinned { before: None } };
            let before = sched_getaffinity(None).ok();
            // A system that does not permit it measures as well as it can.
            let _ = sched_setaffinity(None, &processor);
            Pinned { before }
        }
    }

    impl Drop for Pinned {
        fn drop(&mut self) {
            if let Some(before) = &self.before {
                let _ = sched_setaffinity(None, before);
            }
        }
    }

    /// The threads of this process that have this name, and those that they start, stay on the processor of one end.
    pub fn pin_threads(name: &str, end: usize) {
        let Some(processor) = processor(end) else { return };
        let Ok(tasks) = fs::read_dir("/proc/self/task") else { return };
        let is_meant = |task: &fs::DirEntry| {
            fs::read_to_string(task.path().join("comm")).is_ok_and(|known| known.trim_end() == name)
        };
        let ids = tasks.flatten().filter(is_meant).filter_map(|task| task.file_name().to_str()?.parse().ok());
        for id in ids.filter_map(Pid::from_raw) {
            let _ = sched_setaffinity(Some(id), &processor);
        }
    }

    /// What a cache line takes from the processor of one end to that of the other and back, in nanoseconds; `None` where there are no
    /// two.
    pub fn round_trip_ns() -> Option<f64> {
        processor(1)?;
        let (there, back) = (Line(AtomicU32::new(0)), Line(AtomicU32::new(0)));
        let echo = || {
            let _end = Pinned::to(1);
            let mut last = 0;
            while last != u32::MAX {
                let heard = there.0.load(Ordering::Acquire);
                if heard != last {
                    last = heard;
                    back.0.store(heard, Ordering::Release);
                }
            }
        };
        let call = || {
            let _end = Pinned::to(0);
            let begin = Instant::now();
            let mut times = Vec::new();
            for batch in 0..TRIPS.0 / TRIPS.1 {
                let since = Instant::now();
                for trip in 1..=TRIPS.1 {
                    let number = batch * TRIPS.1 + trip;
                    there.0.store(number, Ordering::Release);
                    while back.0.load(Ordering::Acquire) != number {}
                }
                times.push(since.elapsed().as_nanos() as f64 / f64::from(TRIPS.1));
                if begin.elapsed() > LOOK {
                    break;
                }
            }
            there.0.store(u32::MAX, Ordering::Release);
            times
        };
        let times = thread::scope(|scope| {
            let echo = thread::Builder::new().name("raw-echo".to_owned()).spawn_scoped(scope, echo);
            echo.ok().map(|_| call())
        })?;
        Some(crate::bench::median(times))
    }

    /// One of two processors that this program may use, the first and the next that is no hardware thread of the same core, if there is
    /// one; `None` where it may use no two.
    fn processor(end: usize) -> Option<CpuSet> {
        // As it was before any thread was pinned.
        static USABLE: OnceLock<Option<(usize, usize)>> = OnceLock::new();
        let usable = USABLE.get_or_init(|| {
            let whole = sched_getaffinity(None).ok()?;
            let mut usable = (0..CpuSet::MAX_CPU).filter(|at| whole.is_set(*at));
            let first = usable.next()?;
            let others: Vec<usize> = usable.collect();
            let is_apart = |other: &&usize| core(**other).is_some_and(|other| Some(other) != core(first));
            Some((first, *others.iter().find(is_apart).or(others.first())?))
        });
        let (first, second) = (*usable)?;
        let mut one = CpuSet::new();
        one.set(if end == 0 { first } else { second });
        Some(one)
    }

    /// The hardware threads of a processor's core; a virtual machine may not be told.
    fn core(processor: usize) -> Option<String> {
        fs::read_to_string(format!("/sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list")).ok()
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) use elsewhere::{Pinned, pin_threads, round_trip_ns};

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    /// The system decides.
    pub struct Pinned;

    impl Pinned {
        /// Does nothing.
        pub fn to(_end: usize) -> Pinned {
            Pinned
        }
    }

    /// Not known.
    pub fn round_trip_ns() -> Option<f64> {
        None
    }

    /// Does nothing.
    pub fn pin_threads(_name: &str, _end: usize) {}
}
