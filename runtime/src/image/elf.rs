//! Reads ELF libraries for [`inspect`](super::inspect()).

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::OnceLock;

use dinrail_plugin::abi;
use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, SectionTable, Sym};
use object::read::{ReadCache, ReadRef};
use object::{Endianness, SectionIndex};

use super::inspect::{Found, MAX_DESCRIPTOR_BYTES, MAX_PART_BYTES, Platform, TABLE_HEAD_BYTES, foreign, not_the_table};
use super::names::{Names, text_at};
use super::needs::{self, Provider, Segment};
use super::{Defect, Format, Refusal, symbols};

/// Entries of a version table that are looked at: hostile tables may overlap themselves.
pub(super) const MAX_VERSIONS: usize = 10_000;

pub(super) fn read<'data, R: ReadRef<'data>>(platform: &Platform, data: R) -> Result<Found<'data>, Refusal> {
    let len = data.len().map_err(|()| Refusal::malformed("its length cannot be read"))?;
    let ident = data.read_bytes_at(0, 20).map_err(|()| Refusal::truncated("the ELF header", 64, len))?;
    let wide = match ident[4] {
        1 => false,
        2 => true,
        class => return Err(Refusal::malformed(format!("unknown ELF class {class}"))),
    };
    let little = match ident[5] {
        1 => true,
        2 => false,
        order => return Err(Refusal::malformed(format!("unknown ELF byte order {order}"))),
    };
    let pair = [ident[18], ident[19]];
    let arch = arch_name(if little { u16::from_le_bytes(pair) } else { u16::from_be_bytes(pair) }, wide, little);
    if platform.format != Format::Elf {
        return Err(platform.other(&format!("Linux {arch}")));
    }
    if arch != platform.arch {
        return Err(platform.other(&arch));
    }
    let header_bytes = if wide { 64 } else { 52 };
    if len < header_bytes {
        return Err(Refusal::truncated("the ELF header", header_bytes, len));
    }
    if wide {
        read_class::<FileHeader64<Endianness>, R>(platform, data, len)
    } else {
        read_class::<FileHeader32<Endianness>, R>(platform, data, len)
    }
}

/// Name of a processor as in `std::env::consts::ARCH`, or a description that equals none.
fn arch_name(machine: u16, wide: bool, little: bool) -> String {
    let name = match (machine, wide, little) {
        (3, false, true) => "x86",
        (40, false, true) => "arm",
        (62, true, true) => "x86_64",
        (62, false, true) => "x86_64 with 32-bit pointers (x32)",
        (183, true, true) => "aarch64",
        (183, _, false) => "big-endian aarch64",
        (243, true, _) => "riscv64",
        (243, false, _) => "riscv32",
        (258, true, _) => "loongarch64",
        (8, false, _) => "mips",
        (8, true, _) => "mips64",
        (20, ..) => "powerpc",
        (21, ..) => "powerpc64",
        (22, ..) => "s390x",
        _ => return format!("an unknown processor (ELF machine {machine})"),
    };
    name.to_owned()
}

fn read_class<'data, Elf, R>(platform: &Platform, data: R, len: u64) -> Result<Found<'data>, Refusal>
where
    Elf: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let device = platform.clone();
    let header = Elf::parse(data).map_err(Refusal::malformed)?;
    let endian = header.endian().map_err(Refusal::malformed)?;
    let kind = header.e_type(endian);
    let not = |what: &str| {
        let hint = "build a shared library (crate-type cdylib, or cc -shared)";
        Err(Refusal::new(Defect::NotALibrary, format!("{what}, not a shared library"), hint))
    };
    match kind {
        elf::ET_DYN => {}
        elf::ET_EXEC => return not("an executable"),
        elf::ET_REL => return not("an object file (.o)"),
        elf::ET_CORE => return not("a core dump"),
        _ => return not("an ELF file of an unknown type"),
    }
    let segments = whole_segments(header, endian, data, len)?;
    let sections = whole_sections(header, endian, data, len)?;
    let nothing = |section: &Elf::SectionHeader| section.sh_type(endian) == elf::SHT_NOBITS;
    if sections.section_by_name(endian, b".text").is_some_and(|(_, text)| nothing(text)) {
        let hint = "put the library itself here; this file only helps a debugger";
        let what = "only the debug information of a library (objcopy --only-keep-debug), without its code";
        return Err(Refusal::new(Defect::NotALibrary, what, hint));
    }
    let dynamic = needs::dynamic(&sections, endian, data).map_err(Refusal::malformed)?;
    if dynamic.is_program() {
        return not("an executable (position-independent)");
    }
    let Some((address, symbol_bytes)) = entry_symbol(&sections, endian, data)? else {
        if segments.iter().any(|segment| segment.p_type(endian) == elf::PT_INTERP) {
            return not("an executable");
        }
        return Err(no_entry(&sections, endian, data));
    };
    let table_head = segments
        .iter()
        .filter(|segment| segment.p_type(endian) == elf::PT_LOAD)
        .find_map(|segment| {
            let at = address.checked_sub(segment.p_vaddr(endian).into())?;
            let left = segment.p_filesz(endian).into().checked_sub(at)?;
            if left < TABLE_HEAD_BYTES as u64 {
                return None;
            }
            let offset = segment.p_offset(endian).into().checked_add(at)?;
            data.read_bytes_at(offset, TABLE_HEAD_BYTES as u64).ok()
        })
        .ok_or_else(|| not_the_table("its bytes are not in the file"))?;
    let parts: Vec<Segment> = segments.iter().map(|segment| Segment::new(segment, endian)).collect();
    let descriptor = match sections.section_by_name(endian, abi::DR_DESCRIPTOR_SECTION.as_bytes()) {
        Some((_, section)) => Some(part::<Elf, R>(section, endian, data, "the descriptor", MAX_DESCRIPTOR_BYTES)?),
        None => None,
    };
    // After what is wrong with the file itself: what is wrong between it and this device.
    let fit = Box::new(move || needs::examine(&device, &dynamic, &parts));
    Ok(Found { table_head, big_endian: endian == Endianness::Big, symbol_bytes, descriptor, fit })
}

/// The program headers, all of them and what they load inside the file.
fn whole_segments<'data, Elf, R>(
    header: &Elf,
    endian: Endianness,
    data: R,
    len: u64,
) -> Result<&'data [Elf::ProgramHeader], Refusal>
where
    Elf: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let headers_end = header
        .e_phoff(endian)
        .into()
        .saturating_add(u64::from(header.e_phentsize(endian)).saturating_mul(u64::from(header.e_phnum(endian))));
    if headers_end > len {
        return Err(Refusal::truncated("the program header table", headers_end, len));
    }
    let segments = header.program_headers(endian, data).map_err(Refusal::malformed)?;
    for segment in segments {
        let end = segment.p_offset(endian).into().saturating_add(segment.p_filesz(endian).into());
        if end > len && segment.p_filesz(endian).into() > 0 {
            return Err(Refusal::truncated("a segment", end, len));
        }
    }
    if !segments.iter().any(|segment| segment.p_type(endian) == elf::PT_LOAD) {
        return Err(Refusal::malformed("it has nothing to load"));
    }
    Ok(segments)
}

/// The section table, all of it and what it describes inside the file.
fn whole_sections<'data, Elf, R>(
    header: &Elf,
    endian: Endianness,
    data: R,
    len: u64,
) -> Result<SectionTable<'data, Elf, R>, Refusal>
where
    Elf: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let table_end = header
        .e_shoff(endian)
        .into()
        .saturating_add(u64::from(header.e_shentsize(endian)).saturating_mul(u64::from(header.e_shnum(endian))));
    if table_end > len {
        return Err(Refusal::truncated("the section table", table_end, len));
    }
    let sections = header.sections(endian, data).map_err(Refusal::malformed)?;
    if sections.is_empty() {
        return Err(Refusal::new(
            Defect::BadDescriptor,
            format!("its section table is stripped, and with it section {}", abi::DR_DESCRIPTOR_SECTION),
            "strip it with 'strip --strip-unneeded', not with sstrip",
        ));
    }
    for (index, section) in sections.enumerate() {
        // Section 0 is a placeholder whose fields may hold counts.
        let Some((offset, size)) = section.file_range(endian).filter(|_| index.0 != 0) else { continue };
        let end = offset.saturating_add(size);
        if end > len {
            return Err(Refusal::truncated("a section", end, len));
        }
    }
    Ok(sections)
}

/// Address and size of the exported entry symbol.
fn entry_symbol<'data, Elf, R>(
    sections: &SectionTable<'data, Elf, R>,
    endian: Endianness,
    data: R,
) -> Result<Option<(u64, u64)>, Refusal>
where
    Elf: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let Some(table) = sections.iter().find(|section| section.sh_type(endian) == elf::SHT_DYNSYM) else {
        return Ok(None);
    };
    check_part::<Elf>(table, endian, "the symbol table", MAX_PART_BYTES)?;
    let symbols: &[Elf::Sym] =
        table.data_as_array(endian, data).map_err(|_| Refusal::malformed("its symbol table has a bad size"))?;
    let names = linked_strings(sections, table.link(endian), endian, data)?;
    let wanted = abi::DR_ENTRY_SYMBOL.as_bytes();
    let named = symbols.iter().find(|symbol| {
        !symbol.is_undefined(endian)
            && symbol.st_bind() != elf::STB_LOCAL
            && names
                .get(symbol.st_name(endian) as usize..)
                .and_then(|rest| rest.strip_prefix(wanted))
                .is_some_and(|rest| rest.first() == Some(&0))
    });
    let Some(symbol) = named else { return Ok(None) };
    match symbol.st_type() {
        elf::STT_OBJECT | elf::STT_NOTYPE => Ok(Some((symbol.st_value(endian).into(), symbol.st_size(endian).into()))),
        elf::STT_FUNC | elf::STT_GNU_IFUNC => Err(not_the_table("it is a function")),
        _ => Err(not_the_table("it is not data")),
    }
}

/// The string table of a symbol or version table, in one read.
fn linked_strings<'data, Elf, R>(
    sections: &SectionTable<'data, Elf, R>,
    index: SectionIndex,
    endian: Endianness,
    data: R,
) -> Result<&'data [u8], Refusal>
where
    Elf: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let strings = sections.section(index).map_err(Refusal::malformed)?;
    part::<Elf, R>(strings, endian, data, "a table of names", MAX_PART_BYTES)
}

fn part<'data, Elf, R>(
    section: &Elf::SectionHeader,
    endian: Endianness,
    data: R,
    what: &str,
    max_bytes: u64,
) -> Result<&'data [u8], Refusal>
where
    Elf: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    check_part::<Elf>(section, endian, what, max_bytes)?;
    section.data(endian, data).map_err(Refusal::malformed)
}

fn check_part<Elf: FileHeader<Endian = Endianness>>(
    section: &Elf::SectionHeader,
    endian: Endianness,
    what: &str,
    max_bytes: u64,
) -> Result<(), Refusal> {
    let bytes = section.sh_size(endian).into();
    if bytes > max_bytes {
        return Err(Refusal::malformed(format!("{what} has {bytes} bytes; at most {max_bytes} are read")));
    }
    Ok(())
}

/// Opens a regular file: opening a device does something to it, and a pipe may keep one waiting for ever.
fn open_regular(path: &Path) -> std::io::Result<std::fs::File> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    std::fs::File::open(path)
}

/// True if the file is an ELF library for this process.
pub(super) fn is_for_this_device(path: &Path) -> bool {
    let mut head = [0; 20];
    let read = open_regular(path).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut head));
    let (wide, little) = (cfg!(target_pointer_width = "64"), cfg!(target_endian = "little"));
    let pair = [head[18], head[19]];
    let machine = if little { u16::from_le_bytes(pair) } else { u16::from_be_bytes(pair) };
    read.is_ok()
        && head.starts_with(b"\x7fELF")
        && head[4] == 1 + u8::from(wide)
        && head[5] == 2 - u8::from(little)
        && arch_name(machine, wide, little) == std::env::consts::ARCH
}

/// What a library of this device provides to others; `None` where it cannot be read.
pub(super) fn provider(path: &Path) -> Option<Provider> {
    let cache = ReadCache::new(open_regular(path).ok()?);
    if cfg!(target_pointer_width = "64") {
        provider_of::<FileHeader64<Endianness>, _>(&cache)
    } else {
        provider_of::<FileHeader32<Endianness>, _>(&cache)
    }
}

fn provider_of<'data, Elf, R>(data: R) -> Option<Provider>
where
    Elf: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let header = Elf::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, data).ok()?;
    let table = sections.iter().find(|section| section.sh_type(endian) == elf::SHT_DYNSYM)?;
    check_part::<Elf>(table, endian, "", MAX_PART_BYTES).ok()?;
    let symbols: &[Elf::Sym] = table.data_as_array(endian, data).ok()?;
    let names = linked_strings(&sections, table.link(endian), endian, data).ok()?;
    let is_given = |symbol: &&Elf::Sym| !symbol.is_undefined(endian) && symbol.st_bind() != elf::STB_LOCAL;
    let mut reader = Names::new();
    let given = symbols.iter().filter(is_given);
    let defines = given.filter_map(|symbol| reader.read(names, symbol.st_name(endian).into())).collect();
    let versions = match sections.gnu_verdef(endian, data).ok()? {
        Some((definitions, strings)) => {
            let names = linked_strings(&sections, strings, endian, data).ok()?;
            definitions
                .filter_map(Result::ok)
                .take(MAX_VERSIONS)
                .flat_map(|(_, versions)| versions.filter_map(Result::ok).take(2))
                .filter_map(|version| reader.read(names, version.vda_name.get(endian).into()))
                .collect()
        }
        None => BTreeSet::new(),
    };
    let dynamic = needs::dynamic(&sections, endian, data).ok()?;
    Some(Provider { dynamic, defines, versions, is_cut: reader.is_spent() })
}

/// Why there is no entry symbol, as far as the names that are there tell.
fn no_entry<'data, Elf, R>(sections: &SectionTable<'data, Elf, R>, endian: Endianness, data: R) -> Refusal
where
    Elf: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let wanted = abi::DR_ENTRY_SYMBOL;
    let mut found = None;
    let mut reader = Names::new();
    let tables = sections.iter().filter(|s| matches!(s.sh_type(endian), elf::SHT_DYNSYM | elf::SHT_SYMTAB));
    // A library has one of each.
    for table in tables.take(2) {
        let is_dynamic = table.sh_type(endian) == elf::SHT_DYNSYM;
        let list: &[Elf::Sym] = match check_part::<Elf>(table, endian, "", MAX_PART_BYTES) {
            Ok(()) => table.data_as_array(endian, data).unwrap_or_default(),
            Err(_) => &[],
        };
        let names = linked_strings(sections, table.link(endian), endian, data).unwrap_or_default();
        for symbol in list {
            if found.is_some() || reader.is_spent() {
                break;
            }
            let Some(name) = reader.read(names, symbol.st_name(endian).into()) else { continue };
            if name.to_ascii_uppercase().contains("DINRAIL_MODULE") && symbol.st_type() != elf::STT_FILE {
                found = Some((name, symbol.is_undefined(endian), is_dynamic));
            }
        }
    }
    let refused = |what: String, hint: &str| Refusal::new(Defect::Foreign, what, hint);
    const BY_MACRO: &str = "write DR_EXPORT_MODULE(create, destroy, …) once, in a file (add export_module! in Rust)";
    let Some((name, is_undefined, is_dynamic)) = found else { return foreign() };
    if is_undefined {
        return refused(format!("not a dinrail module yet: {wanted} is declared but not defined"), BY_MACRO);
    }
    if name == wanted && !is_dynamic {
        let hint = "define it with default visibility, not static, and keep it in the version script if there is one";
        return refused(format!("not a dinrail module: it has {wanted}, but exports no symbol of that name"), hint);
    }
    let shown = symbols::readable(&name);
    if name.starts_with("_Z") {
        let hint = "include dinrail_module.h, which makes it extern \"C\", and write DR_EXPORT_MODULE(…) outside of namespaces";
        return refused(format!("not a dinrail module: it has {shown}, a name of C++, instead of {wanted}"), hint);
    }
    if let Some(major) = name.strip_prefix("DINRAIL_MODULE_V").and_then(|number| number.parse::<u32>().ok()) {
        let text = format!("built for ABI {major}, this runtime speaks {}", super::AbiVersion::RUNTIME);
        let hint = "update the runtime, or rebuild it with this runtime's dinrail_module.h";
        return Refusal::new(Defect::OtherAbi, text, hint);
    }
    refused(format!("not a dinrail module: it exports {shown}; the name must be {wanted}"), BY_MACRO)
}

/// Version of the glibc that this process runs with, read from the versions that its file defines; `None` on any other libc.
pub(super) fn host_glibc() -> Option<(u32, u32)> {
    static HOST: OnceLock<Option<(u32, u32)>> = OnceLock::new();
    *HOST.get_or_init(|| {
        if !cfg!(all(target_os = "linux", target_env = "gnu")) {
            return None;
        }
        let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
        let path = maps.lines().filter_map(|line| line.split_once('/')).find_map(|(_, path)| {
            let file = path.rsplit('/').next()?;
            (file == "libc.so.6" || file.starts_with("libc-2.")).then(|| format!("/{path}"))
        })?;
        let bytes = std::fs::read(path).ok()?;
        let versions = if cfg!(target_pointer_width = "64") {
            defined_versions::<FileHeader64<Endianness>>(&bytes)
        } else {
            defined_versions::<FileHeader32<Endianness>>(&bytes)
        };
        versions?.into_iter().max()
    })
}

fn defined_versions<Elf: FileHeader<Endian = Endianness>>(bytes: &[u8]) -> Option<Vec<(u32, u32)>> {
    let header = Elf::parse(bytes).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, bytes).ok()?;
    let (definitions, strings) = sections.gnu_verdef(endian, bytes).ok()??;
    let names = linked_strings(&sections, strings, endian, bytes).ok()?;
    Some(
        definitions
            .filter_map(Result::ok)
            .flat_map(|(_, versions)| versions.filter_map(Result::ok))
            .filter_map(|version| needs::glibc_version(&text_at(names, version.vda_name.get(endian).into())?))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_glibc_are_told_from_others() {
        assert_eq!(needs::glibc_version("GLIBC_2.3.4"), Some((2, 3)));
        for other in ["GLIBC_PRIVATE", "GLIBCXX_3.4", ""] {
            assert_eq!(needs::glibc_version(other), None);
        }
    }

    #[test]
    #[cfg(unix)]
    fn what_is_no_regular_file_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("libplc.so");
        if !std::process::Command::new("mkfifo").arg(&pipe).status().is_ok_and(|done| done.success()) {
            println!("skipped: no mkfifo");
            return;
        }
        // Opening it would wait for a writer, for ever.
        assert!(!is_for_this_device(&pipe));
        assert!(provider(&pipe).is_none());
        assert!(!is_for_this_device(folder.path()));
    }

    #[test]
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn version_of_this_devices_glibc_is_known() {
        assert!(host_glibc().is_some_and(|version| version >= (2, 17)));
    }
}
