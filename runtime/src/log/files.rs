//! The files of the log: for each speaker a pair, `NAME.jsonl` with the newest lines and `NAME.jsonl.1` with those before. When
//! the first is full it takes the place of the second. A pair never exceeds its bound; few files are open at a time.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::LogLimits;
use super::speaker::Speaker;

/// Files kept open between two writes.
const MAX_OPEN: usize = 16;

/// The file with a speaker's newest lines.
pub(super) fn path(folder: &Path, speaker: &Speaker) -> PathBuf {
    with_ending(folder.join(speaker.file_stem()), ".jsonl")
}

/// The file with the lines before those of `newest`.
pub(super) fn older(newest: &Path) -> PathBuf {
    with_ending(newest.to_owned(), ".1")
}

fn with_ending(path: PathBuf, ending: &str) -> PathBuf {
    let mut name = path.into_os_string();
    name.push(ending);
    name.into()
}

/// The newest files of all instances that have said something.
pub(super) fn of_modules(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join("modules")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|ending| ending == "jsonl")).collect()
}

/// Their names, without those that are written otherwise in a file system.
pub(super) fn names(folder: &Path) -> Vec<String> {
    let stem = |path: PathBuf| Some(path.file_stem()?.to_str()?.to_owned()).filter(|name| !name.contains('%'));
    of_modules(folder).into_iter().filter_map(stem).collect()
}

/// The files as the writer has them.
pub(super) struct Files {
    folder: PathBuf,
    limits: LogLimits,
    /// Those used last are at the end.
    open: Vec<OpenFile>,
}

struct OpenFile {
    path: PathBuf,
    file: File,
    len: u64,
}

impl Files {
    pub(super) fn new(folder: PathBuf, limits: LogLimits) -> io::Result<Files> {
        std::fs::create_dir_all(folder.join("modules"))?;
        Ok(Files { folder, limits, open: Vec::new() })
    }

    /// Appends whole lines. On an error none, some or all of them are there, each whole: the second value says how many bytes.
    pub(super) fn append(&mut self, speaker: &Speaker, lines: &[u8]) -> Result<(), (io::Error, usize)> {
        let path = path(&self.folder, speaker);
        let bound = match speaker.name() {
            Some(_) => self.limits.instance_bytes,
            None if speaker.is_audit() => self.limits.audit_bytes,
            None => self.limits.runtime_bytes,
        };
        let mut rest = lines;
        while !rest.is_empty() {
            let outcome = self.open(&path).and_then(|open| {
                let room = usize::try_from((bound / 2).saturating_sub(open.len)).unwrap_or(usize::MAX);
                let mut fits = match rest.len() <= room {
                    true => rest.len(),
                    false => rest[..room].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1),
                };
                if fits == 0 && open.len == 0 {
                    // A single line beyond all bounds, which no bound that can be configured allows.
                    fits = rest.len();
                }
                open.write(&rest[..fits])?;
                Ok(fits)
            });
            match outcome {
                Ok(0) => self.rotate(&path).map_err(|error| (error, lines.len() - rest.len()))?,
                Ok(written) => rest = &rest[written..],
                Err(error) => {
                    // What is wrong with it may be wrong for good: the next attempt opens it anew.
                    self.open.retain(|open| open.path != path);
                    return Err((error, lines.len() - rest.len()));
                }
            }
        }
        Ok(())
    }

    fn open(&mut self, path: &Path) -> io::Result<&mut OpenFile> {
        let open = match self.open.iter().position(|open| open.path == path) {
            Some(at) => self.open.remove(at),
            None => {
                if self.open.len() >= MAX_OPEN {
                    self.open.remove(0);
                }
                OpenFile::open(path)?
            }
        };
        self.open.push(open);
        self.open.last_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rotate(&mut self, path: &Path) -> io::Result<()> {
        self.open.retain(|open| open.path != path);
        std::fs::rename(path, older(path))
    }

    /// Deletes a speaker's files.
    pub(super) fn forget(&mut self, speaker: &Speaker) -> io::Result<()> {
        let path = path(&self.folder, speaker);
        self.open.retain(|open| open.path != path);
        let gone = |outcome: io::Result<()>| match outcome {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        gone(std::fs::remove_file(older(&path))).and(gone(std::fs::remove_file(path)))
    }

    /// Closes what is open: nobody has said anything for a while.
    pub(super) fn close(&mut self) {
        self.open = Vec::new();
    }
}

impl OpenFile {
    fn open(path: &Path) -> io::Result<OpenFile> {
        let mut options = OpenOptions::new();
        options.create(true).append(true).read(true);
        // What modules say may be confidential: the group of the state directory is for the socket.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path)?;
        let len = file.seek(SeekFrom::End(0))?;
        let mut open = OpenFile { path: path.to_owned(), file, len };
        if len > 0 && !open.ends_with_a_line()? {
            // A power cut tore the last line: it stays alone on its line, where readers skip it.
            open.write(b"\n")?;
        }
        Ok(open)
    }

    fn ends_with_a_line(&mut self) -> io::Result<bool> {
        let mut last = [0];
        self.file.seek(SeekFrom::End(-1))?;
        io::Read::read_exact(&mut self.file, &mut last)?;
        Ok(last == *b"\n")
    }

    /// Writes all or nothing, as far as the file system lets it.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(bytes) {
            // On a full disk a part may be there.
            let _ = self.file.set_len(self.len);
            return Err(error);
        }
        self.len += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(instance_bytes: u64) -> LogLimits {
        LogLimits { instance_bytes, ..LogLimits::default() }
    }

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn a_pair_keeps_its_bound_and_its_newest_lines() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = Files::new(folder.path().to_owned(), limits(100)).unwrap();
        let speaker = Speaker::module("a.1".into());
        for n in 0..50 {
            files.append(&speaker, format!("line {n:02}\nline {n:02}b\n").as_bytes()).unwrap();
        }
        let newest = path(folder.path(), &speaker);
        let whole = read(&older(&newest)) + &read(&newest);
        assert!(whole.len() <= 100 && whole.len() > 50, "{whole}");
        assert!(whole.ends_with("line 49\nline 49b\n") && whole.starts_with("line "), "{whole}");
        assert!(read(&newest).len() <= 50 && read(&older(&newest)).len() <= 50);
    }

    #[test]
    fn many_speakers_need_few_open_files_and_keep_apart() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = Files::new(folder.path().to_owned(), limits(1000)).unwrap();
        let speakers: Vec<Speaker> = (0..100).map(|n| Speaker::module(format!("m{n}").into())).collect();
        for round in 0..3 {
            for speaker in &speakers {
                files.append(speaker, format!("{} {round}\n", speaker.name().unwrap()).as_bytes()).unwrap();
            }
        }
        assert!(files.open.len() <= MAX_OPEN);
        assert_eq!(read(&path(folder.path(), &speakers[7])), "m7 0\nm7 1\nm7 2\n");
        assert_eq!(names(folder.path()).len(), 100);
        files.forget(&speakers[7]).unwrap();
        assert!(!path(folder.path(), &speakers[7]).exists());
    }

    #[test]
    fn a_torn_line_stays_alone() {
        let folder = tempfile::tempdir().unwrap();
        let speaker = Speaker::runtime();
        let mut files = Files::new(folder.path().to_owned(), limits(1000)).unwrap();
        std::fs::write(path(folder.path(), &speaker), "whole\nto").unwrap();
        files.append(&speaker, b"next\n").unwrap();
        assert_eq!(read(&path(folder.path(), &speaker)), "whole\nto\nnext\n");
    }

    #[test]
    fn a_folder_that_is_gone_is_an_error_and_not_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let speaker = Speaker::module("m".into());
        let mut files = Files::new(folder.path().to_owned(), limits(1000)).unwrap();
        std::fs::remove_dir_all(folder.path().join("modules")).unwrap();
        assert_eq!(files.append(&speaker, b"a\n").unwrap_err().1, 0);
        std::fs::create_dir(folder.path().join("modules")).unwrap();
        files.append(&speaker, b"b\n").unwrap();
        assert_eq!(read(&path(folder.path(), &speaker)), "b\n");
    }
}
