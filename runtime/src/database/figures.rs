//! What the writer measures of itself and of the disk.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use super::{File, StoreError, lock};
use crate::clock;

/// Upper ends of the buckets of commit times, in microseconds; what takes longer is in none.
pub const COMMIT_BUCKETS_US: [u64; 18] = [
    50, 100, 150, 200, 300, 500, 750, 1_000, 1_500, 2_500, 5_000, 7_500, 10_000, 20_000, 50_000, 100_000, 500_000,
    2_000_000,
];

/// Counters for metrics; each is of its own, they are not read as one.
#[derive(Debug, Default)]
pub struct Figures {
    /// Commits that succeeded.
    pub commits: AtomicU64,
    /// Changes in them; divided by `commits`: the mean group.
    pub changes: AtomicU64,
    /// Changes that failed.
    pub failures: AtomicU64,
    /// Time in commits, with their sync, in nanoseconds.
    pub commit_ns: AtomicU64,
    /// The longest commit, in nanoseconds.
    pub commit_ns_max: AtomicU64,
    /// Wall time at which the last commit had been synced.
    pub last_commit_us: AtomicI64,
    buckets: [AtomicU64; COMMIT_BUCKETS_US.len()],
    delay_ns: AtomicU64,
    logged: [AtomicU64; 2],
    folded: [AtomicU64; 2],
    is_ill: [AtomicBool; 2],
    troubles: Mutex<[Option<StoreError>; 2]>,
}

impl Figures {
    pub(super) fn record(&self, changes: u64, took: Duration) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.changes.fetch_add(changes, Ordering::Relaxed);
        self.commit_ns.fetch_add(ns, Ordering::Relaxed);
        self.commit_ns_max.fetch_max(ns, Ordering::Relaxed);
        self.last_commit_us.store(clock::wall_us(), Ordering::Relaxed);
        if let Some(at) = COMMIT_BUCKETS_US.iter().position(|end| ns / 1000 <= *end) {
            self.buckets[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notes how the last commit of a file ended, where that says something of the file or its disk.
    pub(super) fn note(&self, file: File, outcome: Result<(), &StoreError>) {
        let is_ill = &self.is_ill[file as usize];
        match outcome {
            Ok(()) if !is_ill.load(Ordering::Relaxed) => {}
            Ok(()) => {
                let mut troubles = lock(&self.troubles);
                // What is damaged stays so, whatever else can be written.
                if !matches!(troubles[file as usize], Some(StoreError::Corrupt { .. })) {
                    troubles[file as usize] = None;
                    is_ill.store(false, Ordering::Relaxed);
                }
            }
            // That the disk is full is found, and found to be over, by looking at it.
            Err(error @ (StoreError::Io { .. } | StoreError::Corrupt { .. })) => {
                lock(&self.troubles)[file as usize] = Some(error.clone());
                is_ill.store(true, Ordering::Relaxed);
            }
            Err(_) => {}
        }
    }

    /// Why files cannot be written just now.
    pub fn troubles(&self) -> Vec<StoreError> {
        lock(&self.troubles).iter().flatten().cloned().collect()
    }

    /// Makes every commit take longer from now on: to measure what a slow disk would do. Nothing else does this.
    pub(crate) fn delay_commits(&self, delay: Duration) {
        self.delay_ns.store(u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn delay(&self) {
        let ns = self.delay_ns.load(Ordering::Relaxed);
        if ns > 0 {
            std::thread::sleep(Duration::from_nanos(ns));
        }
    }

    pub(super) fn logged(&self, file: File, bytes: u64) {
        self.logged[file as usize].fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn folded(&self, file: File, bytes: u64) {
        self.folded[file as usize].fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that went to the disk for a file: into its write-ahead log, and from there into the file.
    pub fn written(&self, file: File) -> (u64, u64) {
        let read = |of: &[AtomicU64; 2]| of[file as usize].load(Ordering::Relaxed);
        (read(&self.logged), read(&self.folded))
    }

    /// Commits by how long they took: each of [`COMMIT_BUCKETS_US`] alone, and those that took longer.
    pub fn commit_times(&self) -> Vec<u64> {
        let mut counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        let within: u64 = counts.iter().sum();
        counts.push(self.commits.load(Ordering::Relaxed).saturating_sub(within));
        counts
    }

    /// The time within which this share of all commits was done, to the width of a bucket; `None` before the first one.
    pub fn commit_quantile(&self, share: f64) -> Option<Duration> {
        let longest = self.commit_ns_max.load(Ordering::Relaxed) / 1000;
        quantile(&self.commit_times(), longest, share).map(Duration::from_micros)
    }
}

/// Within a bucket, commits are taken to be spread evenly.
fn quantile(counts: &[u64], longest_us: u64, share: f64) -> Option<u64> {
    let all: u64 = counts.iter().sum();
    if all == 0 {
        return None;
    }
    let wanted = share * all as f64;
    let (mut below, mut from) = (0.0, 0);
    for (at, count) in counts.iter().enumerate() {
        let to = COMMIT_BUCKETS_US.get(at).copied().unwrap_or(longest_us).min(longest_us).max(from);
        let count = *count as f64;
        if count > 0.0 && below + count >= wanted {
            let part = ((wanted - below) / count).clamp(0.0, 1.0);
            return Some(from + ((to - from) as f64 * part) as u64);
        }
        below += count;
        from = to;
    }
    Some(longest_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_commit_times_come_from_their_buckets() {
        let figures = Figures::default();
        assert_eq!(figures.commit_quantile(0.5), None);
        for us in (0..98).map(|_| 120).chain([4_000, 3_000_000]) {
            figures.record(1, Duration::from_micros(us));
        }

        let p = |share| figures.commit_quantile(share).unwrap().as_micros();
        assert!((100..=150).contains(&p(0.5)), "{}", p(0.5));
        assert!((2_500..=5_000).contains(&p(0.99)), "{}", p(0.99));
        assert_eq!(p(1.0), 3_000_000);
        assert_eq!(figures.commit_times().iter().sum::<u64>(), 100);
    }
}
