//! A copy of the recording, or of a time of it, in one file under `export/`. Whole when it has its name: it is made under another one.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use dinrail_plugin::prelude::*;
use dinrail_plugin::reading::parse_time;

use crate::log::{Segment, sync_folder};
use crate::row::{FIXED, Line, Writer, record};
use crate::settings::Format;

/// Exports that are kept; the oldest make room for new ones.
const KEPT: usize = 10;

/// What the method is asked for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Asked {
    /// RFC 3339: what the runtime took in at this time or later.
    from: Option<String>,
    /// RFC 3339: what it took in before this time.
    to: Option<String>,
    format: Option<Format>,
    /// Name of the file.
    file: Option<String>,
}

/// An export to be made.
pub struct Export {
    segments: Vec<Segment>,
    from: i64,
    to: i64,
    writer: Writer,
    stop: Option<Stop>,
    pub path: PathBuf,
}

/// What was made.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Made {
    pub path: String,
    pub rows: u64,
    pub bytes: u64,
    /// Lines that could not be read, and were left out.
    pub unreadable: u64,
}

impl Export {
    /// Checks what is asked; every problem at once.
    pub fn new(
        asked: Asked,
        folder: &Path,
        segments: &[Segment],
        (format, columns): (Format, &[String]),
        now: &str,
    ) -> Result<Export, Vec<String>> {
        let mut problems = Vec::new();
        let mut time = |name: &str, text: Option<&String>, none: i64| match text.map(|text| (text, parse_time(text))) {
            None => none,
            Some((_, Some(time))) => time,
            Some((text, None)) => {
                problems.push(format!("{name}: '{text}' is not a time; write it like 2026-11-21T14:05:09Z"));
                none
            }
        };
        let (from, to) = (time("from", asked.from.as_ref(), i64::MIN), time("to", asked.to.as_ref(), i64::MAX));
        if from > to {
            problems.push("from: is after 'to'".to_owned());
        }
        let format = asked.format.unwrap_or(format);
        let folder = folder.join("export");
        let name = asked.file.unwrap_or_else(|| {
            let stamp: String = now.chars().filter(char::is_ascii_alphanumeric).collect();
            format!("export-{stamp}.{}", format.extension())
        });
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > 100 || name.starts_with('.') || !name.chars().all(is_plain) {
            problems.push(format!("file: '{name}' is not a plain file name; use letters, digits, '-', '_' and '.'"));
        } else if folder.join(&name).exists() {
            problems.push(format!("file: there is an export '{name}' already; choose another name"));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let writer = Writer::new(format, columns);
        Ok(Export { segments: segments.to_vec(), from, to, writer, stop: None, path: folder.join(name) })
    }

    /// Bytes that are to be read.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Ends early when the instance stops.
    pub fn until(self, stop: Stop) -> Export {
        Export { stop: Some(stop), ..self }
    }

    /// Makes it.
    pub fn make(self) -> Result<Made, Error> {
        let folder = self.path.parent().unwrap_or(Path::new(".")).to_owned();
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        make_room(&folder)?;
        let partial = self.path.with_extension("partial");
        let made = self.write(&partial);
        if made.is_err() {
            let _ = fs::remove_file(&partial);
        }
        let made = made.with_context(|| format!("exporting to {}", self.path.display()))?;
        fs::rename(&partial, &self.path).and_then(|()| sync_folder(&folder))?;
        Ok(made)
    }

    fn write(&self, partial: &Path) -> Result<Made, Error> {
        let mut out = BufWriter::new(File::create(partial)?);
        let header = self.writer.header()?;
        out.write_all(&header)?;
        let mut made =
            Made { path: self.path.display().to_string(), rows: 0, bytes: header.len() as u64, unreadable: 0 };
        for segment in &self.segments {
            let file = match File::open(&segment.path) {
                Ok(file) => file,
                // It was deleted meanwhile: the bound of the recording goes first.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            let lines = BufReader::new(file.take(segment.bytes));
            match segment.format {
                Format::Jsonl => self.copy_json(lines, &mut out, &mut made)?,
                Format::Csv => self.copy_csv(lines, &mut out, &mut made)?,
            }
        }
        out.into_inner().map_err(|error| Error::new(error.error()))?.sync_all()?;
        Ok(made)
    }

    fn copy_json(&self, mut lines: impl BufRead, out: &mut impl Write, made: &mut Made) -> Result<(), Error> {
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line)? > 0 {
            self.check_stop()?;
            let json = line.strip_suffix(b"\n").unwrap_or(&line);
            match serde_json::from_slice::<Line<'_>>(json) {
                Ok(read) if self.is_wanted(&read.received) => put(out, made, &self.writer.convert(json)?)?,
                Ok(_) => {}
                Err(_) => made.unreadable += 1,
            }
            line.clear();
        }
        Ok(())
    }

    fn copy_csv(&self, lines: impl Read, out: &mut impl Write, made: &mut Made) -> Result<(), Error> {
        let mut reader = csv::Reader::from_reader(lines);
        let header = reader.headers()?.clone();
        for read in reader.records() {
            self.check_stop()?;
            let Ok(read) = read else {
                made.unreadable += 1;
                continue;
            };
            if !self.is_wanted(read.get(0).unwrap_or_default()) {
                continue;
            }
            let members = header.iter().zip(read.iter());
            let line = match self.writer.format {
                Format::Jsonl => {
                    // Numbers and booleans of the columns were such before.
                    let value = |(at, text): (usize, &str)| match serde_json::from_str::<Value>(text) {
                        Ok(value) if at > 2 && (value.is_number() || value.is_boolean()) => value,
                        _ => text.into(),
                    };
                    let object: serde_json::Map<String, Value> =
                        members.enumerate().map(|(at, (name, text))| (name.to_owned(), value((at, text)))).collect();
                    format!("{}\n", Value::Object(object)).into_bytes()
                }
                Format::Csv => {
                    // By name: files of earlier settings may have other columns.
                    let known: std::collections::HashMap<&str, &str> = members.collect();
                    let wanted = FIXED.iter().copied().chain(self.writer.columns.iter().map(String::as_str));
                    record(wanted.map(|name| known.get(name).copied().unwrap_or_default()))?
                }
            };
            put(out, made, &line)?;
        }
        Ok(())
    }

    fn is_wanted(&self, received: &str) -> bool {
        (self.from == i64::MIN && self.to == i64::MAX)
            || parse_time(received).is_some_and(|time| time >= self.from && time < self.to)
    }

    fn check_stop(&self) -> Result<(), Error> {
        match &self.stop {
            Some(stop) if stop.is_set() => Err(Error::new("the instance was stopped")),
            _ => Ok(()),
        }
    }
}

fn put(out: &mut impl Write, made: &mut Made, line: &[u8]) -> Result<(), Error> {
    out.write_all(line)?;
    made.rows += 1;
    made.bytes += line.len() as u64;
    Ok(())
}

/// Deletes what an earlier run left half made, and the oldest exports beyond those that are kept.
fn make_room(folder: &Path) -> Result<(), Error> {
    let mut exports = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "partial") {
            let _ = fs::remove_file(&path);
        } else {
            exports.push((fs::metadata(&path)?.modified()?, path));
        }
    }
    exports.sort();
    let surplus = (exports.len() + 1).saturating_sub(KEPT);
    for (_, path) in exports.iter().take(surplus) {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// The exports that are there: name and bytes.
pub fn list(folder: &Path) -> Vec<(String, u64)> {
    let entries = fs::read_dir(folder.join("export")).into_iter().flatten().flatten();
    let of = |entry: fs::DirEntry| Some((entry.file_name().into_string().ok()?, entry.metadata().ok()?.len()));
    let mut exports: Vec<(String, u64)> = entries.filter_map(of).collect();
    exports.sort();
    exports
}
