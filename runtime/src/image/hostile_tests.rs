//! Tables that point into themselves: what is kept of them, and what is looked at, has a bound.

use object::Endianness;
use object::elf::FileHeader64;
use object::read::elf::FileHeader;

use super::{Dynamic, MAX_NEEDED, dynamic};
use crate::image::elf::MAX_VERSIONS;

/// A section: type, flags, link, size of an entry, and where its bytes are.
type Section = (u32, u64, u32, u64, std::ops::Range<usize>);

const ALLOC: u64 = 2;

/// A file with these bytes behind its header, and these sections of it behind section 0.
fn read(bytes: &[u8], sections: &[Section]) -> Dynamic {
    let mut file = vec![0_u8; 64];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    file.extend(bytes);
    file.resize(file.len().next_multiple_of(8), 0);
    let table = file.len() as u64;
    let count = u16::try_from(sections.len() + 2).unwrap();
    for (kind, flags, link, each, range) in [(0, 0, 0, 0, 0..0)].iter().chain(sections).chain(&[(3, 0, 0, 0, 0..1)]) {
        file.extend([0_u32.to_le_bytes(), kind.to_le_bytes()].concat());
        for word in [*flags, 0, 64 + range.start as u64, range.len() as u64] {
            file.extend(word.to_le_bytes());
        }
        file.extend([link.to_le_bytes(), 0_u32.to_le_bytes()].concat());
        file.extend([8_u64.to_le_bytes(), each.to_le_bytes()].concat());
    }
    file[16..18].copy_from_slice(&3_u16.to_le_bytes());
    file[40..48].copy_from_slice(&table.to_le_bytes());
    file[58..60].copy_from_slice(&64_u16.to_le_bytes());
    file[60..62].copy_from_slice(&count.to_le_bytes());
    // The names of the sections.
    file[62..64].copy_from_slice(&(count - 1).to_le_bytes());
    let header = FileHeader64::<Endianness>::parse(&*file).unwrap();
    let endian = header.endian().unwrap();
    dynamic(&header.sections(endian, &*file).unwrap(), endian, &*file).unwrap()
}

#[test]
fn names_within_one_long_text_are_not_kept() {
    const TEXT: usize = 256 * 1024;
    let mut bytes = vec![b'a'; TEXT];
    bytes[TEXT - 1] = 0;
    for at in 0..1000_u32 {
        bytes.extend(at.to_le_bytes());
        bytes.extend([0x10, 0, 0, 0]);
        bytes.extend([0; 16]);
    }
    let end = bytes.len();
    let found = read(&bytes, &[(3, 0, 0, 0, 0..TEXT), (11, ALLOC, 1, 24, TEXT..end)]);
    let kept: usize = found.imports.iter().map(String::len).sum();
    assert!(kept < 32 * 1024 * 1024, "{kept} bytes of names");
}

#[test]
fn many_relocation_tables_in_one_place_come_to_an_end() {
    const BYTES: usize = 24 * 43_000;
    // 60 000 times 43 000 relocations.
    let one = (4, ALLOC, 0, 24, 0..BYTES);
    let found = read(&vec![0; BYTES], &vec![one; 60_000]);
    assert!(found.undefined.is_empty());
}

#[test]
fn version_lists_that_lie_in_one_place_are_read_to_a_limit() {
    let (files, versions) = (200_u32, 10_000_u32);
    let mut bytes = b"\0plc\0PLC_1.0\0\0\0\0".to_vec();
    let text = bytes.len();
    for at in 0..files {
        let next = if at + 1 < files { 16_u32 } else { 0 };
        bytes.extend([1_u16.to_le_bytes(), u16::MAX.to_le_bytes()].concat());
        bytes.extend([1, (files - at) * 16, next].map(u32::to_le_bytes).concat());
    }
    for at in 0..versions {
        let next = if at + 1 < versions { 16_u32 } else { 0 };
        bytes.extend([0, 0, 5, next].map(u32::to_le_bytes).concat());
    }
    let end = bytes.len();
    let mut found = read(&bytes, &[(3, 0, 0, 0, 0..text), (0x6fff_fffe, ALLOC, 1, 0, text..end)]);
    let list = found.versions.remove("plc").unwrap();
    assert!(!list.is_empty() && list.len() <= MAX_VERSIONS, "{}", list.len());
}

#[test]
fn needed_libraries_beyond_the_limit_are_left_to_the_loader() {
    let mut bytes = b"\0libplc.so\0\0\0\0\0\0".to_vec();
    let text = bytes.len();
    for _ in 0..100_000 {
        bytes.extend([1_u64, 1].map(u64::to_le_bytes).concat());
    }
    let end = bytes.len();
    let found = read(&bytes, &[(3, 0, 0, 0, 0..text), (6, ALLOC, 1, 16, text..end)]);
    assert_eq!(found.needed.len(), MAX_NEEDED);
    assert!(found.is_cut);
}
