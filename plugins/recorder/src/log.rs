//! The files of a recording: `20261121T140509Z-000007.jsonl`, by the UTC time of their beginning and a number that never comes again.
//!
//! A line is in its file, whole, before its message is accepted; a line that was cut (the power went, the disk was full) is taken away
//! again, and its message comes again. Files are begun, appended to and deleted from the old end; never rewritten.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dinrail_plugin::reading::format_time;
use dinrail_plugin::{Context, Error};

use crate::repair::whole_length;
use crate::row::{Key, Line, Writer};
use crate::settings::{Format, Settings};

/// Numbers that are remembered of each source, and sources that are.
const REMEMBERED: usize = 1024;
const SOURCES: usize = 256;
/// So much of the end of the recording is read at the start, to know what is in it.
const REREAD_BYTES: u64 = 2 << 20;

/// A file of the recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    pub path: PathBuf,
    pub index: u64,
    pub bytes: u64,
    pub format: Format,
}

impl Segment {
    /// Its file name.
    pub fn name(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

/// The file that is written to.
struct Open {
    file: File,
    began: Instant,
    /// A write or its undoing failed: what the file holds is to be looked at again.
    is_doubtful: bool,
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub rows: u64,
    pub repeats: u64,
    pub deleted_files: u64,
    pub deleted_bytes: u64,
}

/// The recording in a data folder.
pub struct Recording {
    folder: PathBuf,
    settings: Settings,
    writer: Writer,
    /// Oldest first; the last one is written to, if there is an `open`.
    segments: Vec<Segment>,
    open: Option<Open>,
    last_index: u64,
    seen: HashMap<(String, String), VecDeque<(u64, u64)>>,
    unsynced: bool,
    pub counts: Counts,
}

impl Recording {
    /// Takes up the recording of a folder: its last file is repaired where a line in it was cut. Says how many bytes that took.
    pub fn open(folder: &Path, settings: &Settings) -> Result<(Recording, u64), Error> {
        let mut segments = list(folder)?;
        segments.sort_by_key(|segment| segment.index);
        let writer = Writer::new(settings.format, &settings.columns);
        let last_index = segments.last().map_or(0, |segment| segment.index);
        let (settings, folder) = (settings.clone(), folder.to_owned());
        let mut recording = Recording {
            folder,
            settings,
            writer,
            segments,
            open: None,
            last_index,
            seen: HashMap::new(),
            unsynced: false,
            counts: Counts::default(),
        };
        let cut = recording.take_up()?;
        recording.reread();
        recording.trim()?;
        Ok((recording, cut))
    }

    /// Takes settings over. Another format or other columns begin a new file with the next line.
    pub fn configure(&mut self, settings: &Settings) -> Result<(), Error> {
        if (settings.format, &settings.columns) != (self.settings.format, &self.settings.columns) {
            self.close()?;
            self.writer = Writer::new(settings.format, &settings.columns);
        }
        self.settings = settings.clone();
        self.trim()
    }

    /// Writes a line if it is not there yet; on return the system has it, and the disk where settings ask for that.
    pub fn write(&mut self, key: Key, line: &[u8], now_us: i64) -> Result<(), Error> {
        if self.seen.get(&key.source).is_some_and(|seen| seen.contains(&key.number)) {
            self.counts.repeats += 1;
            return Ok(());
        }
        if self.open.as_ref().is_some_and(|open| open.is_doubtful) {
            self.open = None;
            self.take_up()?;
        }
        self.rotate_for(line.len() as u64)?;
        if self.open.is_none() {
            self.begin(now_us)?;
        }
        self.append(line)?;
        if self.settings.sync.0.is_zero() {
            self.sync()?;
        }
        self.remember(key);
        self.counts.rows += 1;
        Ok(())
    }

    fn append(&mut self, line: &[u8]) -> Result<(), Error> {
        let (Some(open), Some(segment)) = (self.open.as_mut(), self.segments.last_mut()) else {
            return Err(Error::new("there is no open file"));
        };
        if let Err(error) = open.file.write_all(line) {
            // Part of it may be there.
            let undone = open.file.set_len(segment.bytes).and_then(|()| open.file.seek(SeekFrom::End(0)));
            open.is_doubtful = undone.is_err();
            return Err(error).with_context(|| format!("writing {}", segment.name()));
        }
        segment.bytes += line.len() as u64;
        self.unsynced = true;
        Ok(())
    }

    /// Brings what was written to the disk itself.
    pub fn sync(&mut self) -> Result<(), Error> {
        if let Some(open) = self.open.as_ref().filter(|_| self.unsynced) {
            open.file.sync_data().context("syncing the recording")?;
            self.unsynced = false;
        }
        Ok(())
    }

    /// Begins a new file where the age of the open one asks for it.
    pub fn tick(&mut self) -> Result<(), Error> {
        match &self.open {
            Some(open) if open.began.elapsed() >= self.settings.max_file_age.0 => self.close(),
            _ => Ok(()),
        }
    }

    fn rotate_for(&mut self, more: u64) -> Result<(), Error> {
        self.tick()?;
        let header = self.writer.header()?.len() as u64;
        let is_full = |segment: &Segment| segment.bytes > header && segment.bytes + more > self.settings.max_file_bytes;
        if self.open.is_some() && self.segments.last().is_some_and(is_full) {
            self.close()?;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), Error> {
        self.sync()?;
        self.open = None;
        Ok(())
    }

    /// Begins a file.
    fn begin(&mut self, now_us: i64) -> Result<(), Error> {
        let index = self.last_index + 1;
        let time: String = format_time(now_us).chars().filter(char::is_ascii_alphanumeric).take(15).collect();
        let format = self.settings.format;
        let path = self.folder.join(format!("{time}Z-{index:06}.{}", format.extension()));
        let header = self.writer.header()?;
        let begin = || {
            let mut file = OpenOptions::new().append(true).create_new(true).open(&path)?;
            file.write_all(&header).and_then(|()| sync_folder(&self.folder)).inspect_err(|_| {
                let _ = fs::remove_file(&path);
            })?;
            std::io::Result::Ok(file)
        };
        let file = begin().with_context(|| format!("beginning {}", path.display()))?;
        self.last_index = index;
        self.segments.push(Segment { path, index, bytes: header.len() as u64, format });
        self.open = Some(Open { file, began: Instant::now(), is_doubtful: false });
        self.unsynced = true;
        self.trim()
    }

    /// Opens the newest file again, without what was cut at its end. A file of another format or with other columns is left.
    fn take_up(&mut self) -> Result<u64, Error> {
        let Some(segment) = self.segments.last_mut() else { return Ok(0) };
        let named = || format!("taking up {}", segment.path.display());
        let bytes = fs::read(&segment.path).with_context(named)?;
        let whole = whole_length(&bytes, segment.format);
        let file = OpenOptions::new().append(true).open(&segment.path).with_context(named)?;
        let cut = bytes.len() as u64 - whole as u64;
        if cut > 0 {
            file.set_len(whole as u64).and_then(|()| file.sync_all()).with_context(named)?;
        }
        segment.bytes = whole as u64;
        let header = self.writer.header()?;
        if segment.format == self.settings.format && bytes[..whole].starts_with(&header) {
            // As old as the file system says; one that does not know lets it begin anew.
            let age = fs::metadata(&segment.path).and_then(|meta| meta.created()).ok();
            let age = age.and_then(|created| created.elapsed().ok()).unwrap_or(Duration::ZERO);
            let began = Instant::now().checked_sub(age).unwrap_or_else(Instant::now);
            self.open = Some(Open { file, began, is_doubtful: false });
        }
        Ok(cut)
    }

    /// Learns from the end of the recording which messages are in it.
    fn reread(&mut self) {
        let mut left = REREAD_BYTES;
        let mut keys = Vec::new();
        for segment in self.segments.iter().rev() {
            let Ok(mut found) = keys_at_end(segment, left) else { continue };
            found.append(&mut keys);
            keys = found;
            left = left.saturating_sub(segment.bytes);
            if left == 0 {
                break;
            }
        }
        keys.into_iter().for_each(|key| self.remember(key));
    }

    fn remember(&mut self, key: Key) {
        if self.seen.len() >= SOURCES && !self.seen.contains_key(&key.source) {
            // Repeats of one that is forgotten are written twice, which loses nothing.
            let any = self.seen.keys().next().cloned();
            any.map(|any| self.seen.remove(&any));
        }
        let seen = self.seen.entry(key.source).or_default();
        if seen.len() >= REMEMBERED {
            seen.pop_front();
        }
        seen.push_back(key.number);
    }

    /// Deletes the oldest files where all together are too large.
    fn trim(&mut self) -> Result<(), Error> {
        // The newest one is still to grow.
        let reserve = if self.open.is_some() { self.settings.max_file_bytes } else { 0 };
        let newest = self.segments.last().map_or(0, |segment| segment.bytes);
        while self.segments.len() > 1 && self.bytes() - newest + reserve.max(newest) > self.settings.max_total_bytes {
            let oldest = &self.segments[0];
            match fs::remove_file(&oldest.path) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| format!("deleting {}", oldest.path.display())),
            }
            self.counts.deleted_files += 1;
            self.counts.deleted_bytes += oldest.bytes;
            self.segments.remove(0);
        }
        Ok(())
    }

    pub fn writer(&self) -> &Writer {
        &self.writer
    }

    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The file that is written to.
    pub fn current(&self) -> Option<&Segment> {
        self.open.as_ref().and_then(|_| self.segments.last())
    }

    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }
}

/// The files of a folder that are of a recording.
fn list(folder: &Path) -> Result<Vec<Segment>, Error> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((stem, extension)) = name.split_once('.') else { continue };
        let format = match extension {
            "jsonl" => Format::Jsonl,
            "csv" => Format::Csv,
            _ => continue,
        };
        let Some(index) = stem.split_once("Z-").and_then(|(_, index)| index.parse().ok()) else { continue };
        segments.push(Segment { path: entry.path(), index, bytes: entry.metadata()?.len(), format });
    }
    Ok(segments)
}

/// The keys of the lines in the last `most` bytes of a file.
fn keys_at_end(segment: &Segment, most: u64) -> Result<Vec<Key>, Error> {
    let mut file = File::open(&segment.path)?;
    let mut bytes = Vec::new();
    match segment.format {
        Format::Jsonl => {
            file.seek(SeekFrom::Start(segment.bytes.saturating_sub(most)))?;
            file.take(most).read_to_end(&mut bytes)?;
            // The first line may be cut: it is no JSON then.
            let lines = bytes.split(|byte| *byte == b'\n');
            Ok(lines.filter_map(|line| Some(serde_json::from_slice::<Line<'_>>(line).ok()?.key())).collect())
        }
        Format::Csv => {
            // Where a record begins is known from the beginning only.
            let records = csv::Reader::from_reader(file.take(segment.bytes)).into_records();
            let key = |record: csv::StringRecord| {
                let source = (record.get(1)?.to_owned(), record.get(2)?.to_owned());
                Some(Key { source, number: (record.get(3)?.parse().ok()?, record.get(4)?.parse().ok()?) })
            };
            Ok(records.filter_map(|record| key(record.ok()?)).collect())
        }
    }
}

/// Makes the name of a new file durable.
pub fn sync_folder(folder: &Path) -> std::io::Result<()> {
    // Windows has no such call, and needs none.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}
