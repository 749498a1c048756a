//! The room on the disk of a folder.

use std::path::Path;

/// Bytes that are free for `folder`, and bytes of its file system; `None` where that cannot be said.
#[cfg(unix)]
pub fn disk_space(folder: &Path) -> Option<(u64, u64)> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    Some((stat.f_bavail.saturating_mul(stat.f_frsize), stat.f_blocks.saturating_mul(stat.f_frsize)))
}

/// Bytes that are free for `folder`, and bytes of its file system; `None` where that cannot be said.
#[cfg(not(unix))]
pub fn disk_space(_: &Path) -> Option<(u64, u64)> {
    None
}
