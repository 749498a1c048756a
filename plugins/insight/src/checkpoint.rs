//! The windows on disk: one file, replaced whole. What is read is what was written, or nothing.
//!
//! ```text
//! dinrail-insight 2 <bytes of the rest> <checksum>\n{"isWhole": …, "queries": […], …}
//! ```
//! A file that is something else (cut, damaged, of another version) is set aside under another name and the windows begin anew:
//! never a reason not to start.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use dinrail_plugin::{Context, Error};
use serde::Serialize;
use serde::de::DeserializeOwned;

const MAGIC: &str = "dinrail-insight 2";
const FILE: &str = "windows.checkpoint";
/// Files that are set aside; older ones are overwritten.
const ASIDE: &str = "windows.unreadable";

/// The checkpoint in a data folder.
pub struct Checkpoint {
    folder: PathBuf,
}

/// What was found.
#[derive(Debug, PartialEq)]
pub enum Found<T> {
    Nothing,
    Saved(T),
    /// Set aside; says why and where.
    Unreadable(String),
}

impl Checkpoint {
    pub fn new(folder: &Path) -> Checkpoint {
        Checkpoint { folder: folder.to_owned() }
    }

    fn file(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    /// Reads the checkpoint.
    ///
    /// # Errors
    /// The folder cannot be read at all.
    pub fn read<T: DeserializeOwned>(&self) -> Result<Found<T>, Error> {
        let bytes = match fs::read(self.file()) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(error).with_context(|| format!("reading {}", self.file().display())),
        };
        match parse(&bytes) {
            Ok(saved) => Ok(Found::Saved(saved)),
            Err(why) => {
                let aside = self.folder.join(ASIDE);
                fs::rename(self.file(), &aside).with_context(|| format!("setting {} aside", self.file().display()))?;
                Ok(Found::Unreadable(format!("{why}; it is kept as {}", aside.display())))
            }
        }
    }

    /// Writes the checkpoint: on return it is on the disk, whole.
    pub fn write(&self, saved: &impl Serialize) -> Result<(), Error> {
        let body = serde_json::to_vec(saved).context("writing the windows as JSON")?;
        let new = self.folder.join("windows.checkpoint.new");
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(format!("{MAGIC} {} {:016x}\n", body.len(), checksum(&body)).as_bytes())?;
            file.write_all(&body)?;
            file.sync_all()?;
            fs::rename(&new, self.file())?;
            sync_folder(&self.folder)
        };
        write().with_context(|| format!("writing {}", self.file().display()))
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or("it has no first line")?;
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| "its first line is no text")?;
    let Some(rest) = head.strip_prefix(MAGIC) else {
        return Err(format!("its first line does not begin with '{MAGIC}'"));
    };
    let body = &bytes[end + 1..];
    if rest != format!(" {} {:016x}", body.len(), checksum(body)) {
        return Err("it is cut or damaged".to_owned());
    }
    serde_json::from_slice(body).map_err(|error| format!("it holds something else: {error}"))
}

/// FNV-1a.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Makes a rename durable.
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    // Windows has no such call, and needs none.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("dinrail-insight-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn what_is_written_is_read_back_and_replaced_whole() {
        let folder = folder("back");
        let checkpoint = Checkpoint::new(&folder);
        assert_eq!(checkpoint.read::<Vec<u32>>().unwrap(), Found::Nothing);
        for saved in [vec![1, 2], vec![3]] {
            checkpoint.write(&saved).unwrap();
            assert_eq!(checkpoint.read::<Vec<u32>>().unwrap(), Found::Saved(saved));
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_cut_at_any_place_and_any_foreign_file_is_set_aside() {
        let folder = folder("cut");
        let checkpoint = Checkpoint::new(&folder);
        checkpoint.write(&vec![1, 2, 3]).unwrap();
        let whole = fs::read(folder.join(FILE)).unwrap();
        let flipped = whole.iter().map(|byte| byte ^ (u8::from(*byte == b'2') * 8)).collect();
        let others = [b"{}".to_vec(), b"dinrail-insight 1 1 1\n[]".to_vec(), vec![0xff; 100], b"\n".to_vec(), flipped];
        for bytes in (0..whole.len()).map(|cut| whole[..cut].to_vec()).chain(others) {
            fs::write(folder.join(FILE), &bytes).unwrap();
            let found = checkpoint.read::<Vec<u32>>().unwrap();
            assert!(matches!(&found, Found::Unreadable(why) if why.contains(ASIDE)), "{found:?} of {bytes:?}");
            assert_eq!((fs::read(folder.join(ASIDE)).unwrap(), folder.join(FILE).exists()), (bytes, false));
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
