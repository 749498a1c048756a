//! Processors: both ends of a hop have one each, ours and the raw channel's alike.
//!
//! The system may put the two ends of a channel on one processor, where they take turns and nothing crosses; a second later it does
//! not. Figures from one and the other say nothing of each other, and no ratio of them does.

#[cfg(target_os = "linux")]
pub(super) use linux::{Pinned, pin_threads};

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::sync::OnceLock;

    use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

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

    /// One of the first two processors that this program may use; `None` where it has no two.
    fn processor(end: usize) -> Option<CpuSet> {
        // As it was before any thread was pinned.
        static USABLE: OnceLock<Vec<usize>> = OnceLock::new();
        let usable = USABLE.get_or_init(|| {
            let whole = sched_getaffinity(None).ok();
            (0..CpuSet::MAX_CPU).filter(|at| whole.as_ref().is_some_and(|whole| whole.is_set(*at))).take(2).collect()
        });
        let [first, second] = usable[..] else { return None };
        let mut one = CpuSet::new();
        one.set(if end == 0 { first } else { second });
        Some(one)
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) use elsewhere::{Pinned, pin_threads};

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

    /// Does nothing.
    pub fn pin_threads(_name: &str, _end: usize) {}
}
