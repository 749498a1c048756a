//! The mount that a path lies on, from the kernel's list. Source: proc(5), `/proc/pid/mountinfo`.

#[cfg(any(target_os = "linux", test))]
use std::path::Path;
use std::path::PathBuf;

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// Where.
    pub point: PathBuf,
    /// Such as `ext4`.
    pub kind: String,
    /// Options of the mount and of the file system: `rw`, `noexec`, …
    pub options: Vec<String>,
}

impl Mount {
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|known| known == option)
    }

    /// Whether it lies on another machine.
    pub fn is_network(&self) -> bool {
        const KINDS: [&str; 11] =
            ["nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "fuse.sshfs", "glusterfs", "fuse.glusterfs"];
        KINDS.contains(&&*self.kind)
    }

    /// Whether what is written is gone after a power cut.
    pub fn is_memory(&self) -> bool {
        matches!(&*self.kind, "tmpfs" | "ramfs")
    }
}

/// The mount of `path`, which is absolute and without links.
#[cfg(any(target_os = "linux", test))]
pub(super) fn mount_of(path: &Path, mountinfo: &str) -> Option<Mount> {
    let mounts = mountinfo.lines().filter_map(parse);
    // Of several on one point the last one hides the others.
    mounts.filter(|mount| path.starts_with(&mount.point)).fold(None, |best: Option<Mount>, mount| match best {
        Some(best) if best.point.components().count() > mount.point.components().count() => Some(best),
        _ => Some(mount),
    })
}

/// `36 35 98:0 /root /point rw,noatime master:1 - ext4 /dev/sda1 rw,errors=continue`
#[cfg(any(target_os = "linux", test))]
fn parse(line: &str) -> Option<Mount> {
    let (mount, system) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(4);
    let (point, options) = (unescape(fields.next()?), fields.next()?);
    let mut fields = system.split(' ');
    let (kind, of_system) = (fields.next()?, fields.nth(1).unwrap_or_default());
    let options = options.split(',').chain(of_system.split(',')).map(str::to_owned).collect();
    Some(Mount { point: PathBuf::from(point), kind: kind.to_owned(), options })
}

/// A space is written `\040`.
#[cfg(any(target_os = "linux", test))]
fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let octal = tail.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
30 22 0:25 / /run rw,nosuid,nodev shared:2 - tmpfs tmpfs rw,size=100k
31 22 254:1 / /var/lib rw,noexec,relatime - xfs /dev/vdb rw
32 22 0:40 / /mnt/plant\\040share rw - nfs4 server:/x rw,vers=4.2
33 22 254:2 / /var/lib rw,relatime - btrfs /dev/vdc rw";

    fn of(path: &str) -> Mount {
        mount_of(Path::new(path), LIST).unwrap()
    }

    #[test]
    fn the_longest_point_counts_and_of_equal_ones_the_last() {
        assert_eq!(of("/home/x").kind, "ext4");
        assert_eq!(of("/run/dinrail").kind, "tmpfs");
        assert_eq!(of("/var/lib/dinrail").kind, "btrfs");
        assert_eq!(of("/var/library").kind, "ext4", "a name that only begins alike is elsewhere");
    }

    #[test]
    fn escaped_points_and_options_are_read() {
        let share = of("/mnt/plant share/a");
        assert!(share.is_network() && share.has("rw") && !share.has("noexec"));
        assert!(of("/run").is_memory());
        assert_eq!(mount_of(Path::new("/x"), "nonsense\n1 2 3 - x"), None);
    }
}
