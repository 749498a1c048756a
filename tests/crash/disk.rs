//! A disk that keeps what was synced, and of the rest what chance wills.
//!
//! The model: a write, a change of size, a new name or a removed one may be on the disk from the moment it is made, and is there
//! for certain once a sync that began after it has ended: a sync of the file for what is in it, of the folder for names. Of what
//! was not synced, any part may be there: whole writes, or blocks of them, in any combination. Changes of names keep their order.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::record::{Descriptor, Record};
use crate::harness::Chance;

/// What an unsynced write may be torn into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survival {
    /// Nothing that was not synced.
    Nothing,
    /// All of it, as when only the process dies.
    All,
    /// Some writes, each whole.
    Writes,
    /// Some blocks of so many bytes of each write.
    Blocks(usize),
}

#[derive(Debug, Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Size(usize),
}

/// A file: what is certain of it, and what is not.
#[derive(Debug, Default)]
struct Content {
    certain: Vec<u8>,
    uncertain: Vec<Change>,
    /// How many changes became certain: with `uncertain`, numbers all changes.
    settled: usize,
}

#[derive(Debug, Clone)]
enum Naming {
    Put(PathBuf, usize),
    Removed(PathBuf),
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Disk {
    contents: Vec<Content>,
    /// As processes see them.
    names: BTreeMap<PathBuf, usize>,
    certain_names: BTreeMap<PathBuf, usize>,
    uncertain_names: Vec<Naming>,
    settled_names: usize,
    open: HashMap<Descriptor, usize>,
    /// Syncs that have begun: up to which change of what.
    begun: HashMap<(i32, u64), (Option<usize>, usize)>,
    /// Files whose syncs do nothing, by the end of their names: a disk that lies.
    lies_about: Option<&'static str>,
}

impl Disk {
    /// One that pretends to sync the files whose names end so.
    pub fn that_lies_about(names: &'static str) -> Disk {
        Disk { lies_about: Some(names), ..Disk::default() }
    }

    /// Does what was recorded.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Opened { by, path, is_emptied, .. } => {
                let file = self.names.get(path).copied().unwrap_or_else(|| self.create(path));
                if *is_emptied {
                    self.contents[file].uncertain.push(Change::Size(0));
                }
                self.open.insert(*by, file);
            }
            Record::Closed { by } => drop(self.open.remove(by)),
            Record::Written { by, at, bytes } => {
                let at = usize::try_from(*at).expect("fits into memory");
                self.of(by).uncertain.push(Change::Write { at, bytes: bytes.clone() });
            }
            Record::Truncated { by, size } => {
                let size = usize::try_from(*size).expect("fits into memory");
                self.of(by).uncertain.push(Change::Size(size));
            }
            Record::SyncBegun { by, number } => {
                let file = self.open[by];
                let content = &self.contents[file];
                self.begun.insert((by.0, *number), (Some(file), content.settled + content.uncertain.len()));
            }
            Record::FolderSyncBegun { by, number } => {
                self.begun.insert((by.0, *number), (None, self.settled_names + self.uncertain_names.len()));
            }
            Record::Synced { by, number } | Record::FolderSynced { by, number } => {
                let (file, upto) = self.begun.remove(&(by.0, *number)).expect("it has begun");
                match file {
                    Some(file) if self.is_lied_about(file) => {}
                    Some(file) => self.contents[file].settle(upto),
                    None => self.settle_names(upto),
                }
            }
            Record::Renamed { from, to } => {
                if let Some(file) = self.names.remove(from) {
                    self.names.insert(to.clone(), file);
                    // One step on every file system with a journal: the old name goes with the new one's coming.
                    self.uncertain_names.push(Naming::Put(to.clone(), file));
                }
                self.uncertain_names.push(Naming::Removed(from.clone()));
            }
            Record::Removed { path } => {
                self.names.remove(path);
                self.uncertain_names.push(Naming::Removed(path.clone()));
            }
        }
    }

    fn create(&mut self, path: &Path) -> usize {
        self.contents.push(Content::default());
        let file = self.contents.len() - 1;
        self.names.insert(path.to_owned(), file);
        self.uncertain_names.push(Naming::Put(path.to_owned(), file));
        file
    }

    fn of(&mut self, by: &Descriptor) -> &mut Content {
        &mut self.contents[self.open[by]]
    }

    fn is_lied_about(&self, file: usize) -> bool {
        let is_so = |name: &Path| self.lies_about.is_some_and(|end| name.to_string_lossy().ends_with(end));
        self.names.iter().any(|(name, of)| *of == file && is_so(name))
    }

    fn settle_names(&mut self, upto: usize) {
        let count = upto.saturating_sub(self.settled_names);
        for naming in self.uncertain_names.drain(..count) {
            naming.apply(&mut self.certain_names);
        }
        self.settled_names = self.settled_names.max(upto);
    }

    /// What a power cut leaves, by the names of the files.
    pub fn cut(&self, survival: Survival, chance: &mut Chance) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut names = self.certain_names.clone();
        let kept = match survival {
            Survival::Nothing => 0,
            Survival::All => self.uncertain_names.len(),
            _ => chance.below(self.uncertain_names.len() + 1),
        };
        self.uncertain_names[..kept].iter().for_each(|naming| naming.clone().apply(&mut names));
        names.into_iter().map(|(name, file)| (name, self.contents[file].cut(survival, chance))).collect()
    }
}

impl Naming {
    fn apply(self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Naming::Put(name, file) => drop(names.insert(name, file)),
            Naming::Removed(name) => drop(names.remove(&name)),
        }
    }
}

impl Content {
    fn settle(&mut self, upto: usize) {
        let count = upto.saturating_sub(self.settled);
        for change in self.uncertain.drain(..count) {
            change.apply(&mut self.certain);
        }
        self.settled = self.settled.max(upto);
    }

    fn cut(&self, survival: Survival, chance: &mut Chance) -> Vec<u8> {
        let mut content = self.certain.clone();
        for change in &self.uncertain {
            match (survival, change) {
                (Survival::Nothing, _) => {}
                (Survival::All, change) => change.clone().apply(&mut content),
                (Survival::Blocks(size), Change::Write { at, bytes }) => {
                    tear(*at, bytes, size, &mut content, chance);
                }
                (_, change) if chance.below(2) == 0 => change.clone().apply(&mut content),
                _ => {}
            }
        }
        content
    }
}

impl Change {
    fn apply(self, content: &mut Vec<u8>) {
        match self {
            Change::Write { at, bytes } => put(content, at, &bytes),
            Change::Size(size) => content.resize(size, 0),
        }
    }
}

/// Puts some of the blocks of a write where they belong.
fn tear(at: usize, bytes: &[u8], block: usize, content: &mut Vec<u8>, chance: &mut Chance) {
    let mut from = at;
    while from < at + bytes.len() {
        let to = (from / block + 1) * block;
        let to = to.min(at + bytes.len());
        if chance.below(2) == 0 {
            put(content, from, &bytes[from - at..to - at]);
        }
        from = to;
    }
}

fn put(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if content.len() < at + bytes.len() {
        content.resize(at + bytes.len(), 0);
    }
    content[at..at + bytes.len()].copy_from_slice(bytes);
}
