//! The threads of this process, by their names.

use std::collections::BTreeMap;

/// Threads that the runtime itself starts when it first needs them.
const OF_THE_RUNTIME: [&str; 11] = [
    "log",
    "log-console",
    "control",
    "dinrail-admin",
    "database",
    "image-watcher",
    "method-deadline",
    "completions",
    "sweep",
    "image-add",
    "twin-change",
];

/// The threads of this process: their names by number. Empty where the system does not tell.
pub(super) fn now() -> BTreeMap<u32, String> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return BTreeMap::new() };
    let one = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.ok()?;
        let name = std::fs::read_to_string(entry.path().join("comm")).ok()?;
        Some((entry.file_name().to_str()?.parse().ok()?, name.trim_end().to_owned()))
    };
    tasks.filter_map(one).collect()
}

/// Those that are there now, were not there `before`, and are not the runtime's.
pub(super) fn left(before: &BTreeMap<u32, String>) -> Vec<String> {
    let of_the_runtime = |name: &str| OF_THE_RUNTIME.iter().any(|known| known.get(..15).unwrap_or(known) == name);
    now()
        .into_iter()
        .filter(|(id, name)| !before.contains_key(id) && !of_the_runtime(name))
        .map(|(_, name)| name)
        .collect()
}
