//! A runtime in a process of its own: started, waited for, weighed, ended.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::BenchError;
use crate::admin::client::Client;

/// Longest that anything may take.
const LIMIT: Duration = Duration::from_secs(60);
/// So long it is the same before it counts as settled: longer than the runtime takes to give memory back.
const SETTLE: Duration = Duration::from_millis(2500);
/// Looks that see the same: together longer than a start has an aftermath.
const SETTLED: u32 = 4;
/// Between two looks at something that has no event.
const LOOK: Duration = Duration::from_millis(5);

/// The process, ended with this.
pub(super) struct Process {
    child: Child,
    state: PathBuf,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// Starts a runtime of the device `bench` on a state directory; its log goes to a file in `folder`.
    pub fn start(folder: &Path, state: &Path) -> Result<Process, BenchError> {
        let log = std::fs::File::create(folder.join("log")).map_err(io("a log cannot be made"))?;
        let child = Command::new(executable()?)
            .arg("run")
            .args(["--device-id", "bench", "--state"])
            .arg(state)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(io("the runtime to be measured cannot be started"))?;
        Ok(Process { child, state: state.to_owned() })
    }

    /// Waits until it answers.
    pub fn client(&self) -> Result<Client, BenchError> {
        until("the runtime answers", || Ok(Client::find(std::slice::from_ref(&self.state)).ok()))
    }

    /// Resident memory once it no longer changes: what it costs to have things, not to make them.
    pub fn settled(&self) -> Result<u64, BenchError> {
        let begin = Instant::now();
        let (mut last, mut unchanged) = (resident(self.child.id())?, 0);
        loop {
            std::thread::sleep(SETTLE);
            let now = resident(self.child.id())?;
            unchanged = if now == last { unchanged + 1 } else { 0 };
            if unchanged == SETTLED || begin.elapsed() > LIMIT {
                return Ok(now);
            }
            last = now;
        }
    }

    /// Ends it in an orderly way.
    pub fn stop(&mut self) -> Result<(), BenchError> {
        terminate(self.child.id())?;
        until("the runtime ends", || self.child.try_wait().map_err(io("the runtime cannot be waited for"))).map(drop)
    }
}

/// This program.
pub(super) fn executable() -> Result<PathBuf, BenchError> {
    std::env::current_exe().map_err(io("this executable is not to be found"))
}

/// Looks until there is something.
pub(super) fn until<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>, BenchError>) -> Result<T, BenchError> {
    let begin = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if begin.elapsed() > LIMIT {
            return Err(BenchError::around(format!("not within {} s: {what}", LIMIT.as_secs())));
        }
        std::thread::sleep(LOOK);
    }
}

/// Says what was tried when it failed.
pub(super) fn io(what: &'static str) -> impl Fn(std::io::Error) -> BenchError {
    move |source| BenchError::Io { what, source }
}

#[cfg(target_os = "linux")]
fn resident(pid: u32) -> Result<u64, BenchError> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
        .map_err(|source| BenchError::Io { what: "the memory of the runtime cannot be read", source })?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| BenchError::around("the system does not say how much memory is resident"))
}

#[cfg(not(target_os = "linux"))]
fn resident(_pid: u32) -> Result<u64, BenchError> {
    Err(BenchError::around("resident memory is only measured on Linux"))
}

#[cfg(unix)]
fn terminate(pid: u32) -> Result<(), BenchError> {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or_else(|| BenchError::around("the runtime has no process id"))?;
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)
        .map_err(|error| BenchError::Io { what: "the runtime cannot be told to end", source: error.into() })
}

#[cfg(not(unix))]
fn terminate(_pid: u32) -> Result<(), BenchError> {
    Err(BenchError::around("this system has no signal that ends a process in an orderly way"))
}
