//! What is put between the runtime and the system: another time, a slow disk.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Runtime, c_fixture};

/// A number in a file that a preloaded library sees at once when it changes.
fn shared_number(path: &Path) -> File {
    let file = File::options().create(true).truncate(false).write(true).open(path).unwrap();
    file.set_len(8).unwrap();
    file
}

fn library(name: &str) -> PathBuf {
    c_fixture(&format!("tests/fixtures/preload/{name}.c"), name, &[])
}

/// The wall clock of a runtime. The monotonic clock goes on as ever.
pub struct Clock {
    offset: File,
}

impl Clock {
    /// Sets it: the time since 1970.
    pub fn set(&self, since_1970: Duration) {
        let real = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        self.set_offset(since_1970.as_nanos() as i64 - real.as_nanos() as i64);
    }

    /// Sets how far it is off, in nanoseconds; 0 is right.
    pub fn set_offset(&self, ns: i64) {
        self.offset.write_all_at(&ns.to_ne_bytes(), 0).unwrap();
    }
}

/// How long each sync of a runtime's disk takes more.
pub struct SlowDisk {
    delay: File,
}

impl SlowDisk {
    /// Sets it.
    pub fn set(&self, delay: Duration) {
        self.delay.write_all_at(&(delay.as_micros() as i64).to_ne_bytes(), 0).unwrap();
    }
}

impl Runtime {
    /// With a wall clock that the test sets; right until then. Call it once.
    pub fn clock(self) -> (Runtime, Clock) {
        static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
        let file = self.folder().join("clock-offset");
        let clock = Clock { offset: shared_number(&file) };
        let library = LIBRARY.get_or_init(|| library("clock"));
        (self.preload(library, vec![("DINRAIL_CLOCK_FILE", file.into())]), clock)
    }

    /// With a disk that takes longer for each sync. Call it once.
    pub fn slow_disk(self, delay: Duration) -> (Runtime, SlowDisk) {
        static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
        let file = self.folder().join("sync-delay");
        let disk = SlowDisk { delay: shared_number(&file) };
        disk.set(delay);
        let library = LIBRARY.get_or_init(|| library("delay"));
        (self.preload(library, vec![("DINRAIL_SYNC_DELAY_FILE", file.into())]), disk)
    }
}
