//! Where blocks of numbers are noted while the book cannot be written: a file whose room was taken while there was some, so that
//! a full disk takes what is written into it.
//!
//! One sector for each output, a line of JSON in it. What is written lies where it lay before: no block is asked for, but by file
//! systems that never write in place.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Its name in the state directory.
const NAME: &str = "sequences.spare";
/// A disk writes a sector whole or not at all.
const SECTOR: usize = 512;
/// Outputs for which there is room.
const SECTORS: usize = 256;

/// What the book would have of an output, had it been written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Note {
    pub epoch: u64,
    pub sender: String,
    pub output: String,
    /// The last number before that run.
    pub before: u64,
    /// Nothing above was given out.
    pub reserved: u64,
    pub has_memory: bool,
}

/// The file. Where it could not be made, nothing can be noted.
pub(super) struct Spare {
    file: io::Result<File>,
    /// Which sector is whose.
    places: HashMap<(String, String), usize>,
}

impl Spare {
    /// Opens the file in `folder`, or makes it. Second: what the last run noted and did not clear.
    pub fn open(folder: &Path) -> (Spare, Vec<Note>) {
        let opened = open(&folder.join(NAME));
        let (file, notes) = match opened {
            Ok((file, bytes)) => (Ok(file), notes(&bytes)),
            Err(error) => (Err(error), Vec::new()),
        };
        let places = notes.iter().map(|(place, note)| ((note.sender.clone(), note.output.clone()), *place)).collect();
        (Spare { file, places }, notes.into_iter().map(|(_, note)| note).collect())
    }

    /// Notes a block, and returns when it is on disk.
    ///
    /// # Errors
    /// There is no room for another output, or the file cannot be written.
    pub fn note(&mut self, note: &Note) -> io::Result<()> {
        let mut sector = serde_json::to_vec(note)?;
        if sector.len() >= SECTOR {
            return Err(io::Error::other("the names of sender and output are too long for it"));
        }
        sector.resize(SECTOR - 1, b' ');
        sector.push(b'\n');
        let key = (note.sender.clone(), note.output.clone());
        let place = match self.places.get(&key) {
            Some(place) => *place,
            None => (0..SECTORS)
                .find(|place| !self.places.values().any(|taken| taken == place))
                .ok_or_else(|| io::Error::other(format!("it has {SECTORS} outputs already")))?,
        };
        self.write(place * SECTOR, &sector)?;
        self.places.insert(key, place);
        Ok(())
    }

    /// The book has everything: what was noted holds no longer.
    pub fn clear(&mut self) -> io::Result<()> {
        if self.places.is_empty() {
            return Ok(());
        }
        self.write(0, &[0; SECTOR * SECTORS])?;
        self.places.clear();
        Ok(())
    }

    /// Outputs of which the book has everything.
    pub fn forget<'o>(&mut self, outputs: impl Iterator<Item = (&'o str, &'o str)>) {
        for (sender, output) in outputs {
            if self.places.is_empty() {
                return;
            }
            let key = (sender.to_owned(), output.to_owned());
            let Some(place) = self.places.get(&key) else { continue };
            match self.write(place * SECTOR, &[0; SECTOR]) {
                Ok(()) => drop(self.places.remove(&key)),
                Err(error) => {
                    tracing::warn!("the spare file of sequences keeps {output}, which wastes numbers: {error}")
                }
            }
        }
    }

    fn write(&mut self, at: usize, bytes: &[u8]) -> io::Result<()> {
        let file = self.file.as_mut().map_err(|error| io::Error::new(error.kind(), error.to_string()))?;
        file.seek(SeekFrom::Start(at as u64))?;
        file.write_all(bytes)?;
        file.sync_data()
    }
}

/// The file and what is in it, all of its room taken.
fn open(path: &Path) -> io::Result<(File, Vec<u8>)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    let mut bytes = Vec::new();
    (&mut file).take((SECTOR * SECTORS) as u64).read_to_end(&mut bytes)?;
    if bytes.len() < SECTOR * SECTORS {
        // Written, as a length alone holds nothing.
        file.write_all(&vec![0; SECTOR * SECTORS - bytes.len()])?;
        file.sync_all()?;
    }
    Ok((file, bytes))
}

fn notes(bytes: &[u8]) -> Vec<(usize, Note)> {
    let read = |(place, sector): (usize, &[u8])| Some((place, serde_json::from_slice(sector).ok()?));
    bytes.chunks(SECTOR).enumerate().filter_map(read).collect()
}
