//! Whether the disk keeps what it says that it keeps: how long a sync takes, against what is behind it.

use std::path::Path;
use std::time::Duration;

use super::mount::Mount;
use super::state::own_mount;
use super::{error, ok, probe, warning};
use crate::view::Finding;

/// Faster than anything that keeps 4 KiB without power: what is behind it only says so.
const IMPLAUSIBLE: Duration = Duration::from_micros(8);
/// The same for a disk whose cache forgets: it has to write to its cells.
const IMPLAUSIBLE_WITH_CACHE: Duration = Duration::from_micros(40);
const SLOW: Duration = Duration::from_millis(50);

/// What the system says of the cache of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cache {
    /// It forgets without power, so that a sync has to empty it.
    Forgets,
    /// There is none, or it has power of its own.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "only Linux says so"))]
    Keeps,
    /// Nobody says.
    Unknown,
}

/// Syncs a few blocks in the state directory and judges the time that it takes.
pub fn disk_sync(state: &Path) -> Finding {
    match probe::sync_times(state) {
        Ok(times) => judge(times, cache_of(state), own_mount(state).as_ref()),
        Err(why) => {
            let hint = "see that the disk is not full or read-only, and who owns the directory";
            error("disk-sync", format!("nothing can be written to {}: {why}", state.display()), hint)
        }
    }
}

fn judge((median, longest): (Duration, Duration), cache: Cache, mount: Option<&Mount>) -> Finding {
    let said = |time: Duration| match time.as_micros() {
        us @ 0..1000 => format!("{us} µs"),
        us => format!("{:.1} ms", us as f64 / 1000.0),
    };
    let text = format!("fsync of 4 KiB takes {} (longest {})", said(median), said(longest));
    let loss = "what was acknowledged may be gone after a power cut";
    if mount.is_some_and(Mount::is_memory) {
        return ok("disk-sync", text);
    }
    if let Some(option) =
        mount.and_then(|mount| ["nobarrier", "barrier=0"].into_iter().find(|option| mount.has(option)))
    {
        let hint = format!("{loss}: take {option} out of the options of the mount, in /etc/fstab too");
        return warning(
            "disk-sync",
            format!("{text}, but it is mounted with {option}: a sync does not wait for the disk"),
            hint,
        );
    }
    let limit = if cache == Cache::Forgets { IMPLAUSIBLE_WITH_CACHE } else { IMPLAUSIBLE };
    if median < limit {
        let why = match cache {
            Cache::Forgets => "faster than a disk can empty its cache, which forgets without power",
            Cache::Keeps | Cache::Unknown => "faster than a disk can be",
        };
        let hint = format!("{loss}: look at the write cache of the disk or of the virtual machine");
        return warning("disk-sync", format!("{text}: {why}"), hint);
    }
    if median >= SLOW {
        let hint =
            "few commits a second: use an industrial-grade card or SSD; fewer, larger reports by the modules help";
        return warning("disk-sync", text, hint);
    }
    ok("disk-sync", text)
}

/// What the kernel says of the disk under a folder. Source: the kernel's Documentation/ABI/stable/sysfs-block.
#[cfg(target_os = "linux")]
fn cache_of(folder: &Path) -> Cache {
    use std::os::linux::fs::MetadataExt;
    let Ok(metadata) = std::fs::metadata(folder) else { return Cache::Unknown };
    let device = metadata.st_dev();
    let entry = format!("/sys/dev/block/{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    // A partition has its disk above it.
    let said = ["queue/write_cache", "../queue/write_cache"]
        .iter()
        .find_map(|file| std::fs::read_to_string(Path::new(&entry).join(file)).ok());
    match said.as_deref().map(str::trim) {
        Some("write back") => Cache::Forgets,
        Some("write through") => Cache::Keeps,
        _ => Cache::Unknown,
    }
}

#[cfg(not(target_os = "linux"))]
fn cache_of(_: &Path) -> Cache {
    Cache::Unknown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Severity;

    #[test]
    fn a_sync_that_is_too_fast_for_what_is_behind_it_is_a_warning() {
        let disk = |kind: &str, options: &[&str]| Mount {
            point: "/m".into(),
            kind: kind.into(),
            options: options.iter().map(|&option| option.to_owned()).collect(),
        };
        let ext4 = disk("ext4", &["rw"]);
        let table = [
            (110, Cache::Forgets, Some(&ext4), Severity::Ok),
            (20, Cache::Forgets, Some(&ext4), Severity::Warning),
            (20, Cache::Keeps, Some(&ext4), Severity::Ok),
            (20, Cache::Unknown, None, Severity::Ok),
            (2, Cache::Keeps, Some(&ext4), Severity::Warning),
            (2, Cache::Unknown, Some(&disk("tmpfs", &["rw"])), Severity::Ok),
            (5_000, Cache::Forgets, Some(&disk("ext4", &["rw", "nobarrier"])), Severity::Warning),
            (80_000, Cache::Forgets, Some(&ext4), Severity::Warning),
        ];
        for (us, cache, mount, expected) in table {
            let time = Duration::from_micros(us);
            let found = judge((time, time * 2), cache, mount);
            assert_eq!(found.status, expected, "{us} {cache:?}: {found:?}");
            assert_eq!(found.hint.is_some(), expected != Severity::Ok);
        }
    }
}
