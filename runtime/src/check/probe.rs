//! Small experiments in the state directory, which leave nothing behind.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock;

const ROUNDS: usize = 15;

/// A file that goes when this does.
struct Probe(PathBuf);

impl Drop for Probe {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Median and longest time until a 4 KiB write is said to be on the disk.
pub(super) fn sync_times(folder: &Path) -> io::Result<(Duration, Duration)> {
    let probe = Probe(folder.join(format!(".check-{}", std::process::id())));
    let mut file = File::create(&probe.0)?;
    let block = [0x5a; 4096];
    // The first one also makes the file known to its folder.
    file.write_all(&block)?;
    file.sync_all()?;
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        file.write_all(&block)?;
        let began = clock::now();
        file.sync_data()?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok((times[ROUNDS / 2], times[ROUNDS - 1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();

        let (median, longest) = sync_times(folder.path()).unwrap();

        assert!(median <= longest);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(sync_times(&folder.path().join("missing")).is_err());
    }
}
