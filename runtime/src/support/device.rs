//! The machine and the state directory, as texts.

use std::path::Path;

/// What the machine is, as far as the system tells.
pub fn system() -> String {
    let mut text = String::new();
    for file in
        ["/etc/os-release", "/proc/version", "/proc/uptime", "/proc/loadavg", "/proc/meminfo", "/proc/self/mountinfo"]
    {
        if let Ok(said) = std::fs::read_to_string(file) {
            text += &format!("== {file}\n{said}\n");
        }
    }
    let of_processor = ["processor", "model name", "cpu MHz", "Model", "Hardware"];
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text += "== /proc/cpuinfo, in part\n";
    for line in processors.lines().filter(|line| of_processor.iter().any(|key| line.starts_with(key))) {
        text += &format!("{line}\n");
    }
    text + &format!("\n{} {}\n", std::env::consts::OS, std::env::consts::ARCH)
}

/// Names, sizes and modes; nothing of what the files hold.
pub fn listing(state: &Path) -> String {
    let mut lines = vec![state.display().to_string()];
    list(state, 0, &mut lines);
    lines.join("\n") + "\n"
}

fn list(folder: &Path, depth: usize, lines: &mut Vec<String>) {
    const MOST_LINES: usize = 5000;
    const DEEPEST: usize = 4;
    let indent = "  ".repeat(depth + 1);
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return lines.push(format!("{indent}({error})")),
    };
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        if lines.len() >= MOST_LINES {
            return;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(metadata) = std::fs::symlink_metadata(entry.path()) else { continue };
        lines.push(format!("{indent}{} {:>12} {name}", mode(&metadata), metadata.len()));
        if metadata.is_dir() && depth < DEEPEST {
            list(&entry.path(), depth + 1, lines);
        }
    }
}

#[cfg(unix)]
fn mode(metadata: &std::fs::Metadata) -> String {
    use std::os::unix::fs::MetadataExt;
    format!("{:06o} {}:{}", metadata.mode(), metadata.uid(), metadata.gid())
}

#[cfg(not(unix))]
fn mode(metadata: &std::fs::Metadata) -> String {
    if metadata.is_dir() { "folder" } else { "file" }.to_owned()
}
