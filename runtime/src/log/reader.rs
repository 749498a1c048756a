//! Reads files of the log from their end, in bounded memory: one block at a time, and of what is found the newest
//! [`MAX_BYTES`].

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::files;
use super::query::{Query, Which};
use super::speaker::Speaker;

/// Bytes of an answer; of a larger one the oldest lines are left out.
const MAX_BYTES: usize = 8 << 20;
const BLOCK: usize = 64 << 10;
/// Longest line there can be: 16 KiB of text whose every character takes six, and what stands around it.
const MAX_LINE: usize = 256 << 10;

/// The newest lines that are asked for, oldest first, of those numbered up to `until`.
pub(super) fn read(folder: &Path, query: &Query, until: u64) -> io::Result<Vec<Box<[u8]>>> {
    let mut found = Found { query, until, lines: BTreeMap::new(), bytes: 0 };
    let newest: Vec<PathBuf> = match &query.which {
        Which::Module(name) => vec![files::path(folder, &Speaker::module(name.as_str().into()))],
        Which::Runtime => vec![files::path(folder, &Speaker::runtime())],
        Which::Audit => vec![files::path(folder, &Speaker::audit())],
        Which::All => {
            let mut all = files::of_modules(folder);
            all.push(files::path(folder, &Speaker::runtime()));
            all
        }
    };
    for newest in newest {
        // Both are opened first: if they change places in between, what is read twice counts once.
        let pair = [open(&newest)?, open(&files::older(&newest))?];
        for file in pair.into_iter().flatten() {
            if found.is_too_old(&file) || each_line_backwards(file, |line| found.offer(line))?.is_break() {
                break;
            }
        }
    }
    Ok(found.lines.into_values().collect())
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The number of the last line of a file.
pub(super) fn last_number(path: &Path) -> Option<u64> {
    let mut last = None;
    let look = |line: &[u8]| {
        last = head(line).map(|(number, _)| number);
        if last.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let _ = each_line_backwards(open(path).ok()??, look).ok()?;
    last
}

struct Found<'a> {
    query: &'a Query,
    until: u64,
    lines: BTreeMap<u64, Box<[u8]>>,
    bytes: usize,
}

impl Found<'_> {
    /// True if nothing was written to a file since the time asked for.
    fn is_too_old(&self, file: &File) -> bool {
        let written = file.metadata().and_then(|found| found.modified()).ok();
        let written = written.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        match (self.query.since_us, written.and_then(|time| i64::try_from(time.as_micros()).ok())) {
            // A second for file systems that keep time coarsely.
            (Some(since), Some(written)) => written.saturating_add(1_000_000) < since,
            _ => false,
        }
    }

    /// Looks at a line; breaks where those before it cannot be among the newest any more.
    fn offer(&mut self, line: &[u8]) -> ControlFlow<()> {
        let Some((number, time)) = head(line) else { return ControlFlow::Continue(()) };
        if number > self.until || !self.query.is_in_time(time) {
            return ControlFlow::Continue(());
        }
        if self.is_full() && self.lines.first_key_value().is_some_and(|(oldest, _)| number < *oldest) {
            return ControlFlow::Break(());
        }
        if self.query.wants(line) && !self.lines.contains_key(&number) {
            self.bytes += line.len();
            self.lines.insert(number, line.into());
            while self.is_over() {
                let oldest = self.lines.pop_first();
                self.bytes -= oldest.map_or(0, |(_, line)| line.len());
            }
        }
        ControlFlow::Continue(())
    }

    fn is_full(&self) -> bool {
        self.query.tail.is_some_and(|tail| self.lines.len() >= tail) || self.bytes >= MAX_BYTES - MAX_LINE
    }

    fn is_over(&self) -> bool {
        self.query.tail.is_some_and(|tail| self.lines.len() > tail) || self.bytes > MAX_BYTES
    }
}

/// Number and time of a line, without reading the rest of it.
fn head(line: &[u8]) -> Option<(u64, &str)> {
    let rest = line.strip_prefix(b"{\"n\":")?;
    let digits = rest.iter().position(|b| !b.is_ascii_digit())?;
    let number = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
    let rest = rest[digits..].strip_prefix(b",\"time\":\"")?;
    let time = rest.get(..24).and_then(|time| std::str::from_utf8(time).ok())?;
    Some((number, time))
}

/// Calls `look` with each line, the last one first, until it breaks. What ends no line is not one.
fn each_line_backwards(mut file: File, mut look: impl FnMut(&[u8]) -> ControlFlow<()>) -> io::Result<ControlFlow<()>> {
    let mut at = file.seek(SeekFrom::End(0))?;
    // Begins at `at`, ends behind a line end (but for the very last line, which may be torn).
    let mut held: Vec<u8> = Vec::new();
    let mut is_last = true;
    while at > 0 {
        let size = BLOCK.min(usize::try_from(at).unwrap_or(BLOCK));
        at -= size as u64;
        let mut block = vec![0; size];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut block)?;
        block.append(&mut held);
        held = block;
        if is_last {
            let end = held.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
            held.truncate(end);
            is_last = end == 0;
        }
        // Whole lines: all but the first of what is held, whose beginning may lie before `at`.
        while let Some(before) =
            held.len().checked_sub(1).and_then(|last| held[..last].iter().rposition(|b| *b == b'\n'))
        {
            if look(&held[before + 1..]).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            held.truncate(before + 1);
        }
        if held.len() > MAX_LINE {
            // Not written by us; its end is left out with it.
            held.clear();
            is_last = true;
        }
    }
    if held.is_empty() { Ok(ControlFlow::Continue(())) } else { Ok(look(&held)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::line::Level;

    fn line(n: u64, text: &str) -> String {
        format!(
            "{{\"n\":{n},\"time\":\"2026-11-21T14:05:{:02}.000Z\",\"level\":\"info\",\"source\":\"s\",\"text\":\"{text}\"}}\n",
            n % 60
        )
    }

    fn texts(folder: &Path, query: &Query) -> Vec<u64> {
        read(folder, query, u64::MAX).unwrap().iter().map(|line| head(line).unwrap().0).collect()
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("modules")).unwrap();
        folder
    }

    #[test]
    fn lines_are_merged_in_the_order_in_which_they_were_said() {
        let folder = folder();
        let put = |name: &str, numbers: &[u64]| {
            let text: String = numbers.iter().map(|n| line(*n, name)).collect();
            std::fs::write(folder.path().join(name), text).unwrap();
        };
        put("runtime.jsonl", &[1, 6, 9]);
        put("modules/a.jsonl.1", &[2, 3]);
        put("modules/a.jsonl", &[5, 8]);
        put("modules/b.jsonl", &[4, 7]);
        assert_eq!(texts(folder.path(), &Query::new(Which::All)), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let three = Query { tail: Some(3), ..Query::new(Which::All) };
        assert_eq!(texts(folder.path(), &three), [7, 8, 9]);
        assert_eq!(texts(folder.path(), &Query::new(Which::Module("a".into()))), [2, 3, 5, 8]);
        assert_eq!(texts(folder.path(), &Query::new(Which::Runtime)), [1, 6, 9]);
        assert!(texts(folder.path(), &Query::new(Which::Module("c".into()))).is_empty());
        assert_eq!(read(folder.path(), &Query::new(Which::All), 4).unwrap().len(), 4);
        assert_eq!(last_number(&folder.path().join("runtime.jsonl")), Some(9));
    }

    #[test]
    fn torn_and_foreign_lines_are_skipped_wherever_they_are() {
        let folder = folder();
        let torn = &line(3, "torn")[..40];
        let huge = "x".repeat(MAX_LINE + 3 * BLOCK);
        let text = format!("{}{torn}\n\nnot ours\n{}{huge}\n{}{torn}", line(1, "a"), line(2, "b"), line(4, "d"));
        std::fs::write(folder.path().join("runtime.jsonl"), text).unwrap();
        assert_eq!(texts(folder.path(), &Query::new(Which::Runtime)), [1, 2, 4]);
    }

    #[test]
    fn lines_across_blocks_are_whole_and_an_answer_is_bounded() {
        let folder = folder();
        let long = "y".repeat(10_000);
        let text: String = (1..=2000).map(|n| line(n, &long[..(n as usize * 37) % 10_000])).collect();
        std::fs::write(folder.path().join("runtime.jsonl"), text).unwrap();
        let all = Query { tail: None, ..Query::new(Which::Runtime) };
        let lines = read(folder.path(), &all, u64::MAX).unwrap();
        let bytes: usize = lines.iter().map(|line| line.len()).sum();
        assert!(bytes <= MAX_BYTES && bytes > MAX_BYTES - 2 * MAX_LINE, "{bytes}");
        let numbers: Vec<u64> = lines.iter().map(|line| head(line).unwrap().0).collect();
        assert_eq!(numbers, (2001 - numbers.len() as u64..=2000).collect::<Vec<_>>());
        let some = Query { level: Some(Level::Error), ..all };
        assert!(texts(folder.path(), &some).is_empty());
    }
}
