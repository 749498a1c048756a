//! What is put between the runtime and the system: another time, a slow disk, one that fails, a record of what is written.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Runtime, c_fixture};

/// So many numbers in a file, of which a preloaded library sees at once when they change.
fn shared_numbers(path: &Path, count: u64) -> File {
    let file = File::options().create(true).truncate(false).read(true).write(true).open(path).unwrap();
    file.set_len(8 * count).unwrap();
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

/// How long each sync of some files of a runtime takes more.
pub struct SlowDisk {
    delay: File,
}

impl SlowDisk {
    /// Sets it.
    pub fn set(&self, delay: Duration) {
        self.delay.write_all_at(&(delay.as_micros() as i64).to_ne_bytes(), 0).unwrap();
    }
}

/// What fails on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failing {
    Syncs = 1,
    Writes = 2,
    Both = 3,
}

/// A disk that fails when it is told to: see `tests/fixtures/preload/fail.c`.
pub struct FailingDisk {
    orders: File,
}

impl FailingDisk {
    /// From now on, after `spared` calls that go well, `count` fail, or all.
    pub fn fail(&self, what: Failing, spared: u32, count: Option<u32>) {
        self.order(0, 0);
        self.order(1, spared.into());
        self.order(2, count.map_or(-1, i64::from));
        self.order(3, 0);
        self.order(0, what as i64);
    }

    /// It is well again.
    pub fn mend(&self) {
        self.order(0, 0);
    }

    /// Calls that have failed since it was told to.
    pub fn failed(&self) -> i64 {
        let mut bytes = [0; 8];
        self.orders.read_exact_at(&mut bytes, 24).unwrap();
        i64::from_ne_bytes(bytes)
    }

    fn order(&self, at: u64, number: i64) {
        self.orders.write_all_at(&number.to_ne_bytes(), at * 8).unwrap();
    }
}

/// What happens to some files of a state directory: see `tests/fixtures/preload/record.c`.
pub struct Recording {
    /// Where the records are.
    pub file: PathBuf,
    /// The folder whose files are recorded.
    pub folder: PathBuf,
}

impl Runtime {
    /// With a wall clock that the test sets; right until then. Call it once.
    pub fn clock(self) -> (Runtime, Clock) {
        static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
        let file = self.folder().join("clock-offset");
        let clock = Clock { offset: shared_numbers(&file, 1) };
        let library = LIBRARY.get_or_init(|| library("clock"));
        (self.preload(library, vec![("DINRAIL_CLOCK_FILE", file.into())]), clock)
    }

    /// With a disk that takes longer for each sync of the files of these names. Call it once.
    pub fn slow_disk(self, names: &[&str], delay: Duration) -> (Runtime, SlowDisk) {
        static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
        let file = self.folder().join("sync-delay");
        let disk = SlowDisk { delay: shared_numbers(&file, 1) };
        disk.set(delay);
        let library = LIBRARY.get_or_init(|| library("delay"));
        let variables = vec![
            ("DINRAIL_SYNC_DELAY_FILE", file.into()),
            ("DINRAIL_SYNC_DELAY_NAMES", OsString::from(names.join(":"))),
        ];
        (self.preload(library, variables), disk)
    }

    /// With a disk that can be made to fail, as far as files of these names are concerned. Call it once, and not together with other
    /// preloaded disks.
    pub fn failing_disk(self, names: &[&str]) -> (Runtime, FailingDisk) {
        static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
        let file = self.folder().join("failing");
        let orders = File::options().create(true).truncate(true).read(true).write(true).open(&file).unwrap();
        orders.set_len(32).unwrap();
        let variables =
            vec![("DINRAIL_FAIL_FILE", file.into()), ("DINRAIL_FAIL_NAMES", OsString::from(names.join(":")))];
        let library = LIBRARY.get_or_init(|| library("fail"));
        (self.preload(library, variables), FailingDisk { orders })
    }

    /// With a record of all changes of the files of these names in the state directory, in all its runs. Call it once, and not
    /// together with [`Runtime::slow_disk`].
    pub fn record(self, names: &[&str]) -> (Runtime, Recording) {
        static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
        std::fs::create_dir_all(self.state()).unwrap();
        // As the system names it: the record has the paths of what was opened.
        let folder = std::fs::canonicalize(self.state()).unwrap();
        let recording = Recording { file: self.folder().join("record"), folder };
        let variables = vec![
            ("DINRAIL_RECORD", recording.file.clone().into()),
            ("DINRAIL_RECORD_UNDER", recording.folder.clone().into()),
            ("DINRAIL_RECORD_NAMES", OsString::from(names.join(":"))),
        ];
        let library = LIBRARY.get_or_init(|| library("record"));
        (self.preload(library, variables), recording)
    }
}
