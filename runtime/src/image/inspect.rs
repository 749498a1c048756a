//! Looks at a library without running any of its code: the ABI doctor.
//!
//! Checks stand in the order in which they help a person: is it a library at all, for this device, complete, a module, of an
//! ABI that this runtime speaks, with a sound descriptor. The first that fails is the answer. Input is hostile: every offset is
//! checked against the file before it is followed, nothing panics, and no part larger than [`MAX_PART_BYTES`] is read.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::mem::{offset_of, size_of};
use std::path::Path;

use dinrail_plugin::abi::{self, DrModule};
use object::read::{ReadCache, ReadRef};

use super::needs::Needs;
use super::{AbiVersion, Defect, Descriptor, Digest, Refusal, elf, pe};

/// Largest library that is looked at.
pub const MAX_LIBRARY_BYTES: u64 = 512 * 1024 * 1024;
/// Largest single part (symbols, names) that is read of it.
pub(super) const MAX_PART_BYTES: u64 = 64 * 1024 * 1024;
/// Largest descriptor.
pub(super) const MAX_DESCRIPTOR_BYTES: u64 = 1024 * 1024;
/// Size of a table that ends with its last required field, `destroy`.
pub(super) const MIN_TABLE_BYTES: usize = offset_of!(DrModule, destroy) + size_of::<usize>();
/// Bytes of the table that are numbers and stand in the file as they are.
pub(super) const TABLE_HEAD_BYTES: usize = offset_of!(DrModule, descriptor);

/// What a sound library is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// What it says about itself.
    pub descriptor: Descriptor,
    /// File format.
    pub format: Format,
    /// Processor, as in `std::env::consts::ARCH`.
    pub arch: String,
    /// Size of the file.
    pub bytes: u64,
    /// Its name in the store.
    pub digest: Digest,
    /// What it needs of the device.
    pub needs: Needs,
}

/// Format of a shared library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Linux.
    Elf,
    /// Windows.
    Pe,
}

/// What libraries have to be built for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// Format that its loader takes.
    pub format: Format,
    /// As in `std::env::consts::ARCH`.
    pub arch: String,
    /// Target triple to build for.
    pub triple: String,
    /// Newest glibc version symbols that it has, where that is known.
    pub glibc: Option<(u32, u32)>,
}

impl Format {
    fn system(self) -> &'static str {
        match self {
            Format::Elf => "Linux",
            Format::Pe => "Windows",
        }
    }
}

impl Platform {
    /// This device.
    pub fn host() -> Platform {
        let arch = std::env::consts::ARCH;
        let environment = if cfg!(target_env = "musl") { "musl" } else { "gnu" };
        let (format, triple) = match (cfg!(windows), arch) {
            (true, _) => {
                (Format::Pe, format!("{arch}-pc-windows-{}", if cfg!(target_env = "msvc") { "msvc" } else { "gnu" }))
            }
            (false, "arm") => (Format::Elf, format!("armv7-unknown-linux-{environment}eabihf")),
            (false, "x86") => (Format::Elf, format!("i686-unknown-linux-{environment}")),
            (false, _) => (Format::Elf, format!("{arch}-unknown-linux-{environment}")),
        };
        Platform { format, arch: arch.to_owned(), triple, glibc: elf::host_glibc() }
    }

    /// True if it is that of this process, whose loader's places can be looked at.
    pub(super) fn has_loader(&self) -> bool {
        let host = Platform::host();
        cfg!(target_os = "linux") && (self.format, &self.arch, &self.triple) == (host.format, &host.arch, &host.triple)
    }

    /// Says that a library is `built_for` something else, such as `Windows x86_64`.
    pub(super) fn other(&self, built_for: &str) -> Refusal {
        Refusal::new(
            Defect::OtherPlatform,
            format!("built for {built_for}; this device runs {} {}", self.format.system(), self.arch),
            format!("rebuild it with --target {}", self.triple),
        )
    }
}

/// What the readers of the formats find.
pub(super) struct Found<'data> {
    /// [`TABLE_HEAD_BYTES`] at the entry symbol.
    pub table_head: &'data [u8],
    /// Byte order of its numbers.
    pub big_endian: bool,
    /// Size that the symbol claims; 0 where it claims none.
    pub symbol_bytes: u64,
    /// Content of the descriptor's section.
    pub descriptor: Option<&'data [u8]>,
    /// Looks whether the device has what it needs.
    pub fit: Box<dyn FnOnce() -> Result<Needs, Refusal>>,
}

/// Looks at the library in `bytes`, as for this device.
pub fn inspect(bytes: &[u8]) -> Result<Inspection, Refusal> {
    inspect_for(&Platform::host(), bytes)
}

/// As [`inspect`], for another device.
pub fn inspect_for(platform: &Platform, bytes: &[u8]) -> Result<Inspection, Refusal> {
    examine(platform, bytes, || Ok(Digest::of(bytes)))
}

/// Looks at the library in a file, as for this device.
pub fn inspect_file(path: &Path) -> Result<Inspection, Refusal> {
    let (mut file, _) = open_library(path)?;
    let digest = Digest::of_reader(&mut file).map_err(|e| unreadable(&e))?;
    inspect_open(&mut file, digest)
}

/// Looks at an open file whose digest is known.
pub(super) fn inspect_open(file: &mut File, digest: Digest) -> Result<Inspection, Refusal> {
    file.seek(SeekFrom::Start(0)).map_err(|e| unreadable(&e))?;
    let cache = ReadCache::new(file);
    examine(&Platform::host(), &cache, || Ok(digest))
}

/// Opens a regular file of acceptable size, without ever waiting for the other end of a pipe.
pub(super) fn open_library(path: &Path) -> Result<(File, std::fs::Metadata), Refusal> {
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    let file = options.open(path).map_err(|e| unreadable(&e))?;
    let metadata = file.metadata().map_err(|e| unreadable(&e))?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() { "a directory, not a library" } else { "not a regular file" };
        return Err(Refusal::new(Defect::NotALibrary, what, "put the library itself here"));
    }
    check_size(metadata.len())?;
    Ok((file, metadata))
}

pub(super) fn check_size(bytes: u64) -> Result<(), Refusal> {
    match bytes {
        0 => Err(Refusal::new(Defect::Empty, "the file is empty", "copy it again; is the disk it came from full?")),
        _ if bytes > MAX_LIBRARY_BYTES => Err(Refusal::new(
            Defect::TooLarge,
            format!("{} MiB; a library has at most {} MiB", bytes >> 20, MAX_LIBRARY_BYTES >> 20),
            "strip its debug information",
        )),
        _ => Ok(()),
    }
}

pub(super) fn unreadable(error: &std::io::Error) -> Refusal {
    // Windows: ERROR_SHARING_VIOLATION, ERROR_LOCK_VIOLATION: somebody still writes.
    if cfg!(windows) && matches!(error.raw_os_error(), Some(32 | 33)) {
        return changing();
    }
    let hint = match error.kind() {
        std::io::ErrorKind::PermissionDenied => "make it readable for the user that the runtime runs as (chmod a+r)",
        std::io::ErrorKind::NotFound => "check the path",
        _ => "check the disk or share that it is on",
    };
    Refusal::new(Defect::Unreadable, format!("cannot be read ({error})"), hint)
}

pub(super) fn changing() -> Refusal {
    Refusal::new(Defect::Changing, "it changed while it was read", "wait until it is written, then try again")
}

fn examine<'data, R: ReadRef<'data>>(
    platform: &Platform,
    data: R,
    digest: impl FnOnce() -> Result<Digest, Refusal>,
) -> Result<Inspection, Refusal> {
    let bytes = data.len().map_err(|()| Refusal::malformed("its length cannot be read"))?;
    check_size(bytes)?;
    let head = data.read_bytes_at(0, bytes.min(512)).map_err(|()| Refusal::malformed("its start cannot be read"))?;
    let format = sniff(platform, head)?;
    let found = match format {
        Format::Elf => elf::read(platform, data)?,
        Format::Pe => pe::read(platform, data)?,
    };
    let abi = check_table(&found)?;
    let section = found.descriptor.ok_or_else(|| {
        Refusal::new(
            Defect::BadDescriptor,
            format!("no section {}: it does not say its name and version", abi::DR_DESCRIPTOR_SECTION),
            "add the descriptor (export_module! does it in Rust) and keep the section when stripping",
        )
    })?;
    let said = Descriptor::parse(section)?;
    let mut needs = (found.fit)()?;
    if said.abi != abi {
        needs.warnings.push(format!("its descriptor says ABI {}, its table {abi}: the table counts", said.abi));
    }
    if !said.target.is_empty() && !said.target.starts_with(&platform.arch) {
        needs
            .warnings
            .push(format!("its descriptor says that it is for {}, its code is for {}", said.target, platform.arch));
    }
    let descriptor = Descriptor { abi, ..said };
    Ok(Inspection { needs, descriptor, format, arch: platform.arch.clone(), bytes, digest: digest()? })
}

/// Tells the format, or names what the file is instead.
fn sniff(platform: &Platform, head: &[u8]) -> Result<Format, Refusal> {
    let not = |what: &str, hint: &str| Err(Refusal::new(Defect::NotALibrary, what, hint));
    const BUILD: &str = "build a shared library (crate-type cdylib, or cc -shared)";
    match head {
        [0x7F, b'E', b'L', b'F', ..] => Ok(Format::Elf),
        [b'M', b'Z', ..] => Ok(Format::Pe),
        [0xCF | 0xCE, 0xFA, 0xED, 0xFE, ..] | [0xFE, 0xED, 0xFA, 0xCF | 0xCE, ..] | [0xCA, 0xFE, 0xBA, 0xBE, ..] => {
            Err(platform.other("macOS"))
        }
        _ if head.starts_with(b"!<arch>\ndebian-binary") => {
            not("a Debian package", "unpack it and put the library here")
        }
        _ if head.starts_with(b"!<arch>\n") || head.starts_with(b"!<thin>\n") => not("a static library (.a)", BUILD),
        _ if head.starts_with(b"\0asm") => not("a WebAssembly module", BUILD),
        _ if head.starts_with(b"PK\x03\x04") => {
            not("a zip archive, not a library", "unpack it and put the library here")
        }
        _ if head.starts_with(&[0x1F, 0x8B]) => {
            not("a gzip archive, not a library", "unpack it and put the library here")
        }
        _ if [&b"\xFD7zXZ"[..], b"BZh", b"\x28\xB5\x2F\xFD", b"7z\xBC\xAF"]
            .iter()
            .any(|magic| head.starts_with(magic)) =>
        {
            not("a compressed archive, not a library", "unpack it and put the library here")
        }
        _ if head.starts_with(b"BC\xC0\xDE") => not("LLVM bitcode, not machine code", "build it without -emit-llvm"),
        _ if head.starts_with(b"version https://git-lfs") => {
            not("a pointer of Git LFS: the library itself is not here", "fetch it with git lfs pull")
        }
        _ if head.starts_with(b"/* GNU ld script") => {
            not("a script of the linker, not a library", "put the library here that it names")
        }
        _ if [&b"<!DOCTYPE"[..], b"<!doctype", b"<html"].iter().any(|start| head.starts_with(start)) => {
            not("a web page, not a library: a download that failed?", "download it again")
        }
        _ if head.starts_with(b"#!") => not("a script, not a library", BUILD),
        _ if head.iter().all(|b| *b == 0) => {
            let what = "truncated: it begins with zeros only, as a copy that never finished";
            Err(Refusal::new(Defect::Truncated, what, "copy it again"))
        }
        _ if is_text(head) => not("a text file, not a library", "put the built library here"),
        _ => not("neither ELF nor PE: not a shared library", "put the built library here"),
    }
}

fn is_text(head: &[u8]) -> bool {
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        // The cut may go through a character.
        Err(e) if e.valid_up_to() + 4 > head.len() => std::str::from_utf8(&head[..e.valid_up_to()]).unwrap_or(""),
        Err(_) => return false,
    };
    !valid.chars().any(|c| c.is_control() && !c.is_whitespace() && c != '\x1B')
}

/// No entry symbol.
pub(super) fn foreign() -> Refusal {
    Refusal::new(
        Defect::Foreign,
        format!("a library, but not a dinrail module: it exports no symbol {}", abi::DR_ENTRY_SYMBOL),
        "add export_module! (Rust) or define the table of dinrail_module.h with default visibility (C)",
    )
}

/// Something with the name of the entry symbol that is not the table.
pub(super) fn not_the_table(why: &str) -> Refusal {
    Refusal::new(
        Defect::Foreign,
        format!("its symbol {} is not a module's table: {why}", abi::DR_ENTRY_SYMBOL),
        "define it as in dinrail_module.h: one constant, initialised at compile time",
    )
}

/// Checks the numbers at the head of the table and returns the ABI that it was built for.
fn check_table(found: &Found<'_>) -> Result<AbiVersion, Refusal> {
    let Found { table_head: head, big_endian, .. } = *found;
    let word = |at: usize| -> u32 {
        let bytes = head.get(at..at + 4).and_then(|b| <[u8; 4]>::try_from(b).ok()).unwrap_or_default();
        if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    };
    let halves = (u64::from(word(0)), u64::from(word(4)));
    let magic = if big_endian { halves.0 << 32 | halves.1 } else { halves.1 << 32 | halves.0 };
    let version =
        AbiVersion { major: word(offset_of!(DrModule, abi_major)), minor: word(offset_of!(DrModule, abi_minor)) };
    let size = word(offset_of!(DrModule, size));
    check_head(magic, version, size)?;
    if found.symbol_bytes != 0 && u64::from(size) > found.symbol_bytes {
        return Err(not_the_table(&format!("it claims {size} bytes but has {}", found.symbol_bytes)));
    }
    Ok(version)
}

/// Checks magic, version and size of a table, as it stands in a file or in memory.
pub(super) fn check_head(magic: u64, version: AbiVersion, size: u32) -> Result<(), Refusal> {
    if magic != abi::DR_MAGIC {
        return Err(not_the_table(&format!("wrong magic {magic:#018x}, expected {:#018x}", abi::DR_MAGIC)));
    }
    if version.major != AbiVersion::RUNTIME.major {
        let hint = if version.major > AbiVersion::RUNTIME.major { "update the runtime or rebuild" } else { "rebuild" };
        return Err(Refusal::new(
            Defect::OtherAbi,
            format!("built for ABI {version}, this runtime speaks {}", AbiVersion::RUNTIME),
            format!("{hint} it with dinrail-plugin {}", env!("CARGO_PKG_VERSION")),
        ));
    }
    if (size as usize) < MIN_TABLE_BYTES {
        return Err(not_the_table(&format!("it has {size} bytes, the smallest is {MIN_TABLE_BYTES}")));
    }
    Ok(())
}

#[cfg(test)]
#[path = "inspect_tests.rs"]
mod tests;
