//! Resident memory over time, and how fast it grows.

use std::time::{Duration, Instant};

/// Samples of one life of a process.
#[derive(Debug, Default)]
pub struct Memory {
    samples: Vec<(Duration, u64)>,
}

impl Memory {
    /// Notes how much memory the process has now.
    pub fn sample(&mut self, since: Instant, process: u32) {
        self.samples.extend(resident_bytes(process).map(|bytes| (since.elapsed(), bytes)));
    }

    /// Most, in bytes.
    pub fn most(&self) -> u64 {
        self.samples.iter().map(|(_, bytes)| *bytes).max().unwrap_or(0)
    }

    /// The last sample.
    pub fn last(&self) -> u64 {
        self.samples.last().map_or(0, |(_, bytes)| *bytes)
    }

    /// Bytes an hour, as a straight line through all samples but those of the first third, when caches fill.
    pub fn slope(&self) -> f64 {
        let settled = &self.samples[self.samples.len() / 3..];
        let hours = |at: Duration| at.as_secs_f64() / 3600.0;
        let count = settled.len() as f64;
        let mean_x = settled.iter().map(|(at, _)| hours(*at)).sum::<f64>() / count;
        let mean_y = settled.iter().map(|(_, bytes)| *bytes as f64).sum::<f64>() / count;
        let (mut xy, mut xx) = (0.0, 0.0);
        for (at, bytes) in settled {
            xy += (hours(*at) - mean_x) * (*bytes as f64 - mean_y);
            xx += (hours(*at) - mean_x).powi(2);
        }
        if xx > 0.0 { xy / xx } else { 0.0 }
    }
}

fn resident_bytes(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib << 10)
}
