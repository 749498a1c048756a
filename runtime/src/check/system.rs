//! What the system leaves a process: memory, open files, watches.

use super::{Problem, gathered, spoken_bytes};
use crate::view::Finding;

const LEAST_FILES: u64 = 1024;
const LEAST_WATCHES: u64 = 1024;
const LEAST_MEMORY: u64 = 64 << 20;

/// What this process gets.
pub fn system() -> Finding {
    let (files, watches, memory) = (open_files(), number_in("/proc/sys/fs/inotify/max_user_watches"), free_memory());
    let mut problems = Vec::new();
    if let Some(files) = files.filter(|files| *files < LEAST_FILES) {
        let text = format!("this process may have {files} files open");
        problems.push(Problem::warning(text, "raise it: LimitNOFILE= in the service unit, or ulimit -n"));
    }
    if let Some(watches) = watches.filter(|watches| *watches < LEAST_WATCHES) {
        let text = format!("a user may watch {watches} folders");
        problems.push(Problem::warning(text, "sysctl fs.inotify.max_user_watches=8192"));
    }
    if let Some(memory) = memory.filter(|memory| *memory < LEAST_MEMORY) {
        let text = format!("{} of memory are free", spoken_bytes(memory));
        problems.push(Problem::warning(text, "see what uses it: dinrail list --json, top"));
    }
    let said = [
        memory.map(|memory| format!("{} of memory free", spoken_bytes(memory))),
        files.map(|files| format!("{files} open files allowed")),
        watches.map(|watches| format!("{watches} watches allowed")),
    ];
    let well = said.into_iter().flatten().collect::<Vec<_>>().join(", ");
    gathered(
        "system",
        if well.is_empty() { "nothing to say".to_owned() } else { well },
        "the system leaves little room",
        problems,
    )
}

fn number_in(file: &str) -> Option<u64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn free_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(unix)]
fn open_files() -> Option<u64> {
    // `None` there is "without a limit".
    Some(rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX))
}

#[cfg(not(unix))]
fn open_files() -> Option<u64> {
    None
}
