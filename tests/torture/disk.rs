//! A small disk of its own that can be filled: a file system in memory, which only root can have.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// See the module's documentation. Dropped: gone.
pub struct SmallDisk {
    place: PathBuf,
}

impl SmallDisk {
    /// Of so many MiB, at a folder that it makes; says why there is none.
    pub fn mount(place: &Path, mib: u32) -> Result<SmallDisk, String> {
        std::fs::create_dir_all(place).unwrap();
        let options = format!("size={mib}m,mode=0755");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(place).output();
        match mount {
            Ok(output) if output.status.success() => Ok(SmallDisk { place: place.to_owned() }),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(format!("mount: {error}")),
        }
    }

    /// Takes all room that is left.
    pub fn fill(&self) {
        let mut file = File::create(self.filler()).unwrap();
        for size in [1 << 20, 4096, 1] {
            let block = vec![b'x'; size];
            while file.write_all(&block).is_ok() {}
        }
    }

    /// Gives it back.
    pub fn free(&self) {
        let _ = std::fs::remove_file(self.filler());
    }

    fn filler(&self) -> PathBuf {
        self.place.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.place).status();
    }
}
