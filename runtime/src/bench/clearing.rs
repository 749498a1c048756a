//! An end in the middle: what a bench has put on the disk, and started, goes with it.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the folder of a measurement is called before what it measures and the process that does.
const PREFIX: &str = "dinrail-bench-";
/// Looks at a folder in which somebody still writes.
const TRIES: u32 = 100;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(10);

/// The folder for one measurement of this process.
pub(super) fn scratch_folder(what: &str) -> PathBuf {
    std::env::temp_dir().join(format!("{PREFIX}{what}{}", suffix()))
}

fn suffix() -> String {
    format!("-{}", std::process::id())
}

/// Ends the runtimes that this process has started and removes its scratch folders: for the end of the process, whatever is still
/// measured then.
pub fn clear_up() {
    end_children();
    let (folder, suffix) = (std::env::temp_dir(), suffix());
    let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let is_own = |name: &str| name.starts_with(PREFIX) && name.ends_with(&suffix);
    for entry in entries.filter(|entry| entry.file_name().to_str().is_some_and(is_own)) {
        remove(&entry.path());
    }
}

/// The runtime that is measured in this process goes on making files until it ends.
fn remove(folder: &Path) {
    for _ in 0..TRIES {
        let _ = std::fs::remove_dir_all(folder);
        if !folder.exists() {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

#[cfg(target_os = "linux")]
fn end_children() {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let of_thread = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("children")).ok();
    let children: Vec<String> = threads.filter_map(of_thread).collect();
    let numbers = children.iter().flat_map(|text| text.split_whitespace()).filter_map(|number| number.parse().ok());
    for child in numbers.filter_map(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(child, rustix::process::Signal::KILL);
        // Or whoever measures it does.
        let _ = rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty());
    }
}

#[cfg(not(target_os = "linux"))]
fn end_children() {}
