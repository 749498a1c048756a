//! Small file systems that can be full.

use std::fs::File;
use std::path::Path;
use std::process::Command;

/// A small file system of a test's own, unmounted when dropped.
pub struct Mount(tempfile::TempDir);

impl Mount {
    /// `None`, said in a line, where this user may not mount.
    pub fn tmpfs(options: &str) -> Option<Mount> {
        let folder = tempfile::Builder::new().prefix("dinrail-mount-").tempdir().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder.path()).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Mount(folder));
        }
        println!("skipped: this user may not mount a small file system");
        None
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Bytes that are free.
    pub fn free(&self) -> u64 {
        let stat = rustix::fs::statvfs(self.path()).unwrap();
        stat.f_bavail * stat.f_frsize
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: what still has a file open there is about to end.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// Leaves no room in a folder's file system. What fills it is the file `filler`.
pub fn fill(folder: &Path) {
    let mut filler = File::options().create(true).append(true).open(folder.join("filler")).unwrap();
    for size in [1 << 20, 4096, 1] {
        while std::io::Write::write_all(&mut filler, &vec![0; size]).is_ok() {}
    }
}
