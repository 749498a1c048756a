//! The state directory: whether it is there, private, on a disk that keeps what it is given, with room, and sound.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
#[cfg(unix)]
use std::path::PathBuf;

use super::mount::Mount;
use super::{Problem, error, gathered, skipped, spoken_bytes, sync};
#[cfg(any(unix, test))]
use super::{ok, warning};
#[cfg(any(unix, test))]
use crate::database::Shares;
use crate::database::{self, File};
use crate::view::Finding;

/// With less left, twins and messages will soon not be taken any more.
#[cfg(any(unix, test))]
const LOW_SPACE: u64 = 1 << 30;
#[cfg(any(unix, test))]
const LOW_INODES: u64 = 10_000;
#[cfg(any(unix, test))]
const NO_INODES: u64 = 200;

/// Everything about the state directory that can be seen from outside, in the order in which it matters.
pub fn state_directory(state: &Path) -> Vec<Finding> {
    let state = match std::fs::canonicalize(state) {
        Ok(state) => state,
        Err(error) => return vec![not_there(state, &error)],
    };
    let mut found = vec![directory(&state), mount(&state)];
    found.extend(room(&state));
    found.push(sync::disk_sync(&state));
    found.extend([databases(&state), leftovers(&state)]);
    found
}

/// When anything in the state directory was last written, in microseconds since 1970-01-01 UTC.
pub fn last_written_us(state: &Path) -> Option<i64> {
    let files = ["dinrail.db", "dinrail.db-wal", "queue.db", "queue.db-wal"];
    let modified = files.iter().filter_map(|file| std::fs::metadata(state.join(file)).ok()?.modified().ok());
    let since = modified.max()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_micros()).ok()
}

fn not_there(state: &Path, why: &io::Error) -> Finding {
    let text = format!("{} cannot be looked at: {why}", state.display());
    let hint = match why.kind() {
        io::ErrorKind::NotFound => "dinrail run makes it; or name another with --state DIR",
        io::ErrorKind::PermissionDenied => "ask as root, or as a member of the group that the directory belongs to",
        _ => "name another with --state DIR",
    };
    error("state-directory", text, hint)
}

/// The directory itself, and who else may read what is in it.
fn directory(state: &Path) -> Finding {
    let problems = permissions(state);
    gathered("state-directory", state.display().to_string(), "others on this machine reach into it", problems)
}

#[cfg(not(unix))]
fn permissions(_: &Path) -> Vec<Problem> {
    Vec::new()
}

#[cfg(unix)]
fn permissions(state: &Path) -> Vec<Problem> {
    use std::os::unix::fs::PermissionsExt;
    let mut problems = Vec::new();
    let mode = |path: &Path| std::fs::metadata(path).ok().map(|metadata| metadata.permissions().mode() & 0o7777);
    if let Some(mode) = mode(state).filter(|mode| mode & 0o007 != 0) {
        let text = format!("{} has mode {mode:04o}: every user of this machine can look into it", state.display());
        problems.push(Problem::warning(text, format!("chmod 0750 {}", state.display())));
    }
    for file in private_files(state) {
        if let Some(mode) = mode(&file).filter(|mode| mode & 0o077 != 0) {
            let text = format!("{} has mode {mode:04o}: others can read it", file.display());
            problems.push(Problem::error(text, format!("chmod 0600 {}", file.display())));
        }
    }
    let drop = state.join("drop");
    if let Some(mode) = mode(&drop).filter(|mode| mode & 0o002 != 0) {
        let text = format!("{} has mode {mode:04o}: every user of this machine can have code run", drop.display());
        problems.push(Problem::error(text, format!("chmod o-w {}", drop.display())));
    }
    problems
}

/// Databases and keys: for the runtime alone.
#[cfg(unix)]
fn private_files(state: &Path) -> Vec<PathBuf> {
    let databases = ["", "-wal", "-shm"]
        .iter()
        .flat_map(|suffix| [File::Main, File::Queue].map(|file| state.join(format!("{}{suffix}", file.name()))));
    let keys = std::fs::read_dir(state.join("keys")).into_iter().flatten().flatten().map(|entry| entry.path());
    databases.chain(keys).filter(|path| path.is_file()).collect()
}

#[cfg(target_os = "linux")]
pub(super) fn own_mount(state: &Path) -> Option<Mount> {
    super::mount::mount_of(state, &std::fs::read_to_string("/proc/self/mountinfo").ok()?)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn own_mount(_: &Path) -> Option<Mount> {
    None
}

fn mount(state: &Path) -> Finding {
    own_mount(state)
        .map_or_else(|| skipped("state-mount", "the system does not tell how it is mounted"), |m| judge_mount(&m))
}

fn judge_mount(mount: &Mount) -> Finding {
    let point = mount.point.display();
    let mut problems = Vec::new();
    if mount.has("ro") {
        problems.push(Problem::error(
            format!("{point} is mounted read-only"),
            format!("see dmesg for errors of the disk, then: mount -o remount,rw {point}"),
        ));
    }
    if mount.has("noexec") {
        problems.push(Problem::error(
            format!("{point} is mounted noexec: no library in the image store can be loaded"),
            format!("mount -o remount,exec {point} (and in /etc/fstab), or another --state DIR"),
        ));
    }
    if mount.is_network() {
        problems.push(Problem::error(
            format!("{point} is a network share ({}): databases are not safe there", mount.kind),
            "put the state directory on a local disk; a network share can be a watched folder",
        ));
    }
    if mount.is_memory() {
        problems.push(Problem::warning(
            format!("{point} is in memory ({}): twins and messages are gone after a power cut", mount.kind),
            "put the state directory on a disk",
        ));
    }
    if mount.kind == "overlay" {
        problems.push(Problem::warning(
            format!("{point} is an overlay: what is written may be gone after a restart of the container or device"),
            "put the state directory on a volume or partition of its own",
        ));
    }
    gathered("state-mount", format!("{} on {point}", mount.kind), "its file system is not fit for it", problems)
}

#[cfg(unix)]
fn room(state: &Path) -> Vec<Finding> {
    let Ok(stat) = rustix::fs::statvfs(state) else {
        return vec![skipped("disk-space", "the file system does not tell its size")];
    };
    vec![
        space(stat.f_bavail.saturating_mul(stat.f_frsize), stat.f_blocks.saturating_mul(stat.f_frsize)),
        inodes(stat.f_favail, stat.f_files),
    ]
}

#[cfg(not(unix))]
fn room(_: &Path) -> Vec<Finding> {
    vec![skipped("disk-space", "is not looked at on this system")]
}

#[cfg(any(unix, test))]
fn space(free: u64, all: u64) -> Finding {
    let text = format!("{} of {} free", spoken_bytes(free), spoken_bytes(all));
    let hint = "free some: old images (dinrail image list, image remove), data folders, other programs' files";
    // The store's own bound: with less, it takes no messages.
    if free < Shares::of(all).low_water {
        error("disk-space", text, hint)
    } else if free < LOW_SPACE.min(all / 10) {
        warning("disk-space", text, hint)
    } else {
        ok("disk-space", text)
    }
}

#[cfg(any(unix, test))]
fn inodes(free: u64, all: u64) -> Finding {
    // File systems that make them as needed say 0.
    if all == 0 {
        return ok("disk-inodes", "as many files as there is space for");
    }
    let text = format!("room for {free} more files");
    let hint =
        "find the folder with very many small files: find / -xdev -printf '%h\\n' | sort | uniq -c | sort -n | tail";
    if free < NO_INODES {
        error("disk-inodes", text, hint)
    } else if free < LOW_INODES.min(all / 10) {
        warning("disk-inodes", text, hint)
    } else {
        ok("disk-inodes", text)
    }
}

/// Reads both files from end to end, beside whoever writes.
fn databases(state: &Path) -> Finding {
    let mut problems = Vec::new();
    let mut sizes = Vec::new();
    for (file, other) in [(File::Main, File::Queue), (File::Queue, File::Main)] {
        let path = state.join(file.name());
        match std::fs::metadata(&path) {
            Ok(metadata) => sizes.push(format!("{file} {}", spoken_bytes(metadata.len()))),
            Err(why) if why.kind() == io::ErrorKind::NotFound => {
                if state.join(other.name()).exists() {
                    problems.push(not_beside(&path, other));
                }
                continue;
            }
            Err(_) => {}
        }
        match database::damage(&path) {
            Ok(None) => {}
            Ok(Some(damage)) => problems.push(Problem::error(
                format!("{} is damaged: {damage}", path.display()),
                "restart dinrail: it sets the file aside and salvages what can be read; have the disk looked at",
            )),
            Err(why) => problems.push(Problem::warning(
                format!("{} cannot be looked at: {why}", path.display()),
                "look as root, or as the user that the runtime runs as",
            )),
        }
    }
    let well = if sizes.is_empty() { "none yet".to_owned() } else { format!("sound: {}", sizes.join(", ")) };
    gathered("databases", well, "not all is well with the databases", problems)
}

/// Every start makes both: somebody took one away.
fn not_beside(path: &Path, other: File) -> Problem {
    Problem::error(
        format!("{} is not there, though {other} is: it was deleted or moved", path.display()),
        "if it was moved, move it back, with its -wal; the next start begins with a new one otherwise, and says what is lost",
    )
}

/// Files that were set aside because they were damaged.
fn leftovers(state: &Path) -> Finding {
    let entries = std::fs::read_dir(state).into_iter().flatten().flatten();
    let is_corrupt = |name: &OsStr| name.to_string_lossy().contains(".corrupt-");
    let mut problems: Vec<Problem> = entries
        .filter(|entry| is_corrupt(&entry.file_name()))
        .map(|entry| {
            Problem::warning(
                format!("{} was set aside as damaged", entry.path().display()),
                "what could be read was salvaged: see the log of that time, compare the twins, then delete the file",
            )
        })
        .collect();
    problems.sort_by(|a, b| a.text.cmp(&b.text));
    gathered("damaged-files", "none", "databases were damaged in the past", problems)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Severity;

    fn mounted(kind: &str, options: &[&str]) -> Finding {
        let options = options.iter().map(|&option| option.to_owned()).collect();
        judge_mount(&Mount { point: "/m".into(), kind: kind.into(), options })
    }

    #[test]
    fn mounts_on_which_a_runtime_cannot_live_are_errors_with_the_way_out() {
        assert_eq!(mounted("ext4", &["rw", "relatime"]).status, Severity::Ok);
        assert_eq!(mounted("tmpfs", &["rw"]).status, Severity::Warning);
        let both = mounted("nfs4", &["rw", "noexec"]);
        assert_eq!(both.status, Severity::Error);
        assert_eq!(both.details.len(), 2, "{both:?}");
        assert!(both.hint.unwrap().contains("remount,exec /m"));
    }

    #[test]
    fn room_is_judged_by_what_is_free() {
        let table = [
            (space(1 << 20, 1 << 40), Severity::Error),
            (space(500 << 20, 1 << 40), Severity::Warning),
            (space(500 << 20, 1 << 30), Severity::Ok),
            (space(40 << 20, 48 << 20), Severity::Ok),
            (space(4 << 20, 48 << 20), Severity::Warning),
            (space(2 << 20, 48 << 20), Severity::Error),
            (inodes(0, 0), Severity::Ok),
            (inodes(10, 1 << 20), Severity::Error),
            (inodes(5000, 1 << 20), Severity::Warning),
        ];
        for (found, expected) in table {
            assert_eq!(found.status, expected, "{found:?}");
            assert_eq!(found.hint.is_some(), expected != Severity::Ok);
        }
    }

    #[test]
    fn a_directory_that_is_not_there_is_one_finding() {
        let found = state_directory(Path::new("/does/not/exist"));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].status, Severity::Error);
    }

    #[cfg(unix)]
    #[test]
    fn what_others_can_read_is_named_with_the_command_that_closes_it() {
        use std::os::unix::fs::PermissionsExt;
        let state = tempfile::tempdir().unwrap();
        let open = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        std::fs::create_dir(state.path().join("keys")).unwrap();
        let key = state.path().join("keys/device");
        std::fs::write(&key, "secret").unwrap();
        open(&key, 0o600);
        open(state.path(), 0o750);
        assert_eq!(directory(state.path()).status, Severity::Ok);

        open(&key, 0o644);
        open(state.path(), 0o755);
        let found = directory(state.path());

        assert_eq!(found.status, Severity::Error);
        assert_eq!(found.details.len(), 2, "{found:?}");
        assert_eq!(found.hint, Some(format!("chmod 0600 {}", key.display())));
    }

    #[test]
    fn a_database_that_is_not_there_though_the_other_one_is_is_found() {
        for (missing, other) in [("queue.db", "dinrail.db"), ("dinrail.db", "queue.db")] {
            let state = tempfile::tempdir().unwrap();
            std::fs::write(state.path().join(other), "").unwrap();

            let found = databases(state.path());

            assert_eq!((found.status, found.details.len()), (Severity::Error, 1), "{found:?}");
            assert!(found.details[0].contains(missing) && found.hint.unwrap().contains("move it back"));
        }
    }

    #[test]
    fn a_damaged_database_is_found() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(databases(state.path()).summary, "none yet");
        std::fs::write(
            state.path().join("dinrail.db"),
            "this is no database, but long enough to be looked at".repeat(30),
        )
        .unwrap();

        let found = databases(state.path());

        assert_eq!(found.status, Severity::Error, "{found:?}");
    }
}
