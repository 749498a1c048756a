//! Reads what `tests/fixtures/preload/record.c` recorded.

use std::path::{Path, PathBuf};

/// A descriptor of a process.
pub type Descriptor = (i32, i32);

/// One thing that happened to the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    Opened { by: Descriptor, path: PathBuf, is_new: bool, is_emptied: bool },
    Closed { by: Descriptor },
    Written { by: Descriptor, at: u64, bytes: Vec<u8> },
    Truncated { by: Descriptor, size: u64 },
    SyncBegun { by: Descriptor, number: u64 },
    Synced { by: Descriptor, number: u64 },
    Renamed { from: PathBuf, to: PathBuf },
    Removed { path: PathBuf },
    FolderSyncBegun { by: Descriptor, number: u64 },
    FolderSynced { by: Descriptor, number: u64 },
}

/// Bytes of `struct head`.
const HEAD: usize = 32;

/// All of them, in their order. The last one may be cut short by a kill, and is left out then.
pub fn read(file: &Path) -> Vec<Record> {
    let bytes = std::fs::read(file).unwrap();
    let (mut records, mut rest) = (Vec::new(), bytes.as_slice());
    while let Some((record, after)) = next(rest) {
        records.push(record);
        rest = after;
    }
    records
}

fn next(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let (head, rest) = bytes.split_at_checked(HEAD)?;
    let small = |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().expect("4 bytes"));
    let large = |at: usize| u64::from_ne_bytes(head[at..at + 8].try_into().expect("8 bytes"));
    let by = (small(4).cast_signed(), small(8).cast_signed());
    let (kind, flags, offset) = (small(0), small(12), large(16));
    let (content, rest) = rest.split_at_checked(usize::try_from(large(24)).ok()?)?;
    let path = |bytes: &[u8]| PathBuf::from(String::from_utf8(bytes.to_vec()).expect("paths of tests are UTF-8"));
    let record = match kind {
        1 => Record::Opened { by, path: path(content), is_new: flags & 1 != 0, is_emptied: flags & 2 != 0 },
        2 => Record::Closed { by },
        3 => Record::Written { by, at: offset, bytes: content.to_vec() },
        4 => Record::Truncated { by, size: offset },
        5 => Record::SyncBegun { by, number: offset },
        6 => Record::Synced { by, number: offset },
        7 => {
            let between = content.iter().position(|byte| *byte == 0).expect("two paths");
            Record::Renamed { from: path(&content[..between]), to: path(&content[between + 1..]) }
        }
        8 => Record::Removed { path: path(content) },
        9 => Record::FolderSyncBegun { by, number: offset },
        10 => Record::FolderSynced { by, number: offset },
        other => panic!("there is no record of kind {other}"),
    };
    Some((record, rest))
}
