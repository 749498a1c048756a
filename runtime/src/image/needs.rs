//! What an ELF library needs of the device that loads it, and whether this device has it: as its loader would decide, without
//! loading anything.
//!
//! Says no only where the loader would: a library that is not found in any of its places, a version that the library found does
//! not define, a symbol that a relocation refers to and nobody defines. Whatever cannot be read is left to the loader.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;

use object::elf;
use object::read::elf::{Dyn, FileHeader, ProgramHeader, Rel, Rela, SectionHeader, SectionTable, Sym};
use object::{Endianness, ReadRef};

use super::elf::MAX_VERSIONS;
use super::inspect::{MAX_PART_BYTES, Platform};
use super::names::Names;
use super::search::Search;
use super::{Defect, Refusal, symbols};

/// A library that is needed, and where this device has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeededLibrary {
    /// As the library names it, such as `libmodbus.so.5`.
    pub name: String,
    /// Where it was found; `None` where it is not, or was not looked for.
    pub found: Option<PathBuf>,
}

/// What a library needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Libraries, in its own order.
    pub libraries: Vec<NeededLibrary>,
    /// Newest version of glibc's symbols.
    pub glibc: Option<(u32, u32)>,
    /// What does not keep it from loading, and had better be changed.
    pub warnings: Vec<String>,
}

/// Libraries that one library needs, folders that it names, and entries of its dynamic part that are looked at.
const MAX_NEEDED: usize = 512;
const MAX_FOLDERS: usize = 64;
const MAX_ENTRIES: usize = 10_000;
/// Libraries that are read, and times that one is looked for, for all that one library needs.
const MAX_PROVIDERS: usize = 1_000;
const MAX_SEARCHES: usize = 20_000;
/// Most that is said about versions.
const MAX_SAID: usize = 20;

const DT_RPATH: i64 = 15;
const DT_TEXTREL: i64 = 22;
const DT_RUNPATH: i64 = 29;
const DT_FLAGS: i64 = 30;
const DT_FLAGS_1: i64 = 0x6FFF_FFFB;
const DF_TEXTREL: u64 = 4;
const DF_STATIC_TLS: u64 = 0x10;
const DF_1_NOOPEN: u64 = 0x40;
const DF_1_PIE: u64 = 0x0800_0000;

/// The dynamic part of one ELF file.
#[derive(Debug, Default)]
pub(super) struct Dynamic {
    needed: Vec<String>,
    pub rpath: Vec<String>,
    pub runpath: Vec<String>,
    flags: u64,
    flags_1: u64,
    has_text_relocations: bool,
    /// Versions by the file that is to define them.
    versions: BTreeMap<String, Vec<String>>,
    /// Undefined symbols that a relocation refers to and that must be there.
    undefined: BTreeSet<String>,
    /// All undefined symbols.
    imports: BTreeSet<String>,
    /// True where a limit was reached: what is missing by what is known may be there.
    is_cut: bool,
}

impl Dynamic {
    /// True for a program, which no loader takes as a library.
    pub fn is_program(&self) -> bool {
        self.flags_1 & DF_1_PIE != 0
    }
}

/// Reads the dynamic part. What contradicts itself is left out.
pub(super) fn dynamic<'data, Elf, R>(
    sections: &SectionTable<'data, Elf, R>,
    endian: Endianness,
    data: R,
) -> Result<Dynamic, object::read::Error>
where
    Elf: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let mut found = Dynamic::default();
    let mut reader = Names::new();
    let strings = |index| -> &[u8] {
        let section = sections.section(index).ok().filter(|section| section.sh_size(endian).into() <= MAX_PART_BYTES);
        section.and_then(|section| section.data(endian, data).ok()).unwrap_or_default()
    };
    let is_small = |kind| {
        let mut sections = sections.iter().filter(|section| section.sh_type(endian) == kind);
        sections.all(|section| section.sh_size(endian).into() <= MAX_PART_BYTES)
    };
    found.is_cut = !is_small(elf::SHT_DYNAMIC) || !is_small(elf::SHT_GNU_VERNEED);
    if !found.is_cut
        && let Some((entries, index)) = sections.dynamic(endian, data)?
    {
        let names = strings(index);
        let entries = entries.iter().take_while(|entry| entry.tag(endian) != elf::DT_NULL);
        for (at, entry) in entries.enumerate() {
            if at == MAX_ENTRIES || found.needed.len() > MAX_NEEDED {
                found.needed.truncate(MAX_NEEDED);
                found.is_cut = true;
                break;
            }
            let value = entry.val(endian);
            let tag = entry.tag(endian).0;
            match tag {
                1 | DT_RPATH | DT_RUNPATH => {
                    let Some(text) = reader.read(names, value) else {
                        found.is_cut = true;
                        continue;
                    };
                    if tag == 1 {
                        found.needed.push(text);
                        continue;
                    }
                    let folders = || text.split(':').filter(|part| !part.is_empty());
                    found.is_cut |= folders().nth(MAX_FOLDERS).is_some();
                    let list = folders().take(MAX_FOLDERS).map(str::to_owned).collect();
                    *(if tag == DT_RPATH { &mut found.rpath } else { &mut found.runpath }) = list;
                }
                DT_FLAGS => found.flags = value,
                DT_FLAGS_1 => found.flags_1 = value,
                DT_TEXTREL => found.has_text_relocations = true,
                _ => {}
            }
        }
    }
    if !found.is_cut
        && let Some((needs, index)) = sections.gnu_verneed(endian, data)?
    {
        let names = strings(index);
        // Of all files together: their lists may be one and the same.
        let mut left = MAX_VERSIONS;
        for (need, versions) in needs.filter_map(Result::ok).take(MAX_VERSIONS) {
            let file = reader.read(names, u64::from(need.vn_file.get(endian))).unwrap_or_default();
            let list = found.versions.entry(file).or_default();
            for version in versions.filter_map(Result::ok).take(left) {
                left -= 1;
                // A weak need is looked up, but its absence is not an error.
                if version.vna_flags.get(endian).0 & elf::VER_FLG_WEAK.0 == 0 {
                    list.extend(reader.read(names, u64::from(version.vna_name.get(endian))));
                }
            }
        }
    }
    let mut referred = BTreeSet::new();
    // Of all tables together: they may lie in one place. A symbol of a table that is left out is not missed.
    let mut left = MAX_PART_BYTES;
    for section in sections.iter() {
        // Those that the loader carries out are in memory.
        let is_table = matches!(section.sh_type(endian), elf::SHT_RELA | elf::SHT_REL);
        let bytes = section.sh_size(endian).into();
        if !is_table || section.sh_flags(endian).0 & elf::SHF_ALLOC.0 == 0 || bytes > left {
            continue;
        }
        left -= bytes;
        // A table that cannot be read is the loader's to refuse.
        if let Some((list, _)) = section.rela(endian, data).unwrap_or_default() {
            referred.extend(list.iter().map(|relocation| relocation.r_sym(endian, false) as usize));
        }
        if let Some((list, _)) = section.rel(endian, data).unwrap_or_default() {
            referred.extend(list.iter().map(|relocation| relocation.r_sym(endian) as usize));
        }
    }
    if let Some(table) = sections.iter().find(|section| section.sh_type(endian) == elf::SHT_DYNSYM) {
        let names = strings(table.link(endian));
        let is_small = table.sh_size(endian).into() <= MAX_PART_BYTES;
        let list: &[Elf::Sym] =
            if is_small { table.data_as_array(endian, data).unwrap_or_default() } else { Default::default() };
        for (at, symbol) in list.iter().enumerate().filter(|(_, symbol)| symbol.is_undefined(endian)) {
            if reader.is_spent() {
                break;
            }
            let Some(name) = reader.read(names, u64::from(symbol.st_name(endian))).filter(|name| !name.is_empty())
            else {
                continue;
            };
            if symbol.st_bind() == elf::STB_GLOBAL && referred.contains(&at) {
                found.undefined.insert(name.clone());
            }
            found.imports.insert(name);
        }
    }
    found.is_cut |= reader.is_spent();
    Ok(found)
}

/// What a library that provides symbols says of itself.
pub(super) struct Provider {
    pub dynamic: Dynamic,
    /// Names of the symbols that it defines and others may use.
    pub defines: BTreeSet<String>,
    /// Names of the versions that it defines.
    pub versions: BTreeSet<String>,
    /// True where a limit was reached: it may define more.
    pub is_cut: bool,
}

/// Looks whether this device has what a library needs: everything that is missing, or what it has.
pub(super) fn examine(platform: &Platform, dynamic: &Dynamic, segments: &[Segment]) -> Result<Needs, Refusal> {
    let mut wrong = Vec::new();
    let mut needs = Needs { glibc: newest_glibc(dynamic), ..Needs::default() };
    sanitizers(dynamic, &mut wrong);
    other_libc(platform, dynamic, &mut wrong);
    if let (Some(need), Some(have)) = (needs.glibc, platform.glibc)
        && need > have
    {
        wrong.push(Refusal::new(
            Defect::OtherPlatform,
            format!("needs GLIBC_{}.{}, this device has {}.{}", need.0, need.1, have.0, have.1),
            "build it on a system that is not newer than the device, or for a musl target",
        ));
    }
    if dynamic.flags_1 & DF_1_NOOPEN != 0 {
        wrong.push(Refusal::new(
            Defect::NotALibrary,
            "linked with -z nodlopen: it may not be loaded at run time",
            "link it without -z nodlopen",
        ));
    }
    // Another libc or a sanitizer would make a long list of what is only its consequence.
    if wrong.is_empty() && platform.has_loader() {
        look_for(dynamic, &mut needs, &mut wrong);
    } else {
        needs.libraries = dynamic.needed.iter().map(|name| NeededLibrary { name: name.clone(), found: None }).collect();
    }
    warn(dynamic, segments, &mut needs.warnings);
    if wrong.is_empty() { Ok(needs) } else { Err(Refusal::all(wrong)) }
}

/// The libraries, their versions and their symbols, as the loader would look for them.
fn look_for(dynamic: &Dynamic, needs: &mut Needs, wrong: &mut Vec<Refusal>) {
    let search = Search::of_this_device();
    let mut missing = dynamic.undefined.clone();
    let mut is_all_known = !dynamic.is_cut;
    let mut searches = 0;
    let mut seen = BTreeSet::new();
    let mut next: VecDeque<(String, Option<PathBuf>)> = VecDeque::new();
    for name in &dynamic.needed {
        let found = search.find(name, dynamic, None);
        needs.libraries.push(NeededLibrary { name: name.clone(), found: found.clone() });
        if found.is_none() && !dynamic.is_cut {
            wrong.push(no_library(name, dynamic));
        }
        is_all_known &= found.is_some();
        next.push_back((name.clone(), found));
    }
    // What this process has in its global scope: the program and its own libraries.
    next.extend(search.global_scope());
    while let Some((name, found)) = next.pop_front() {
        let Some(path) = found.filter(|path| seen.insert(path.clone())) else { continue };
        if seen.len() > MAX_PROVIDERS {
            is_all_known = false;
            break;
        }
        let Some(provider) = super::elf::provider(&path) else {
            is_all_known = false;
            continue;
        };
        is_all_known &= !provider.is_cut && !provider.dynamic.is_cut;
        for version in dynamic.versions.get(&name).into_iter().flatten() {
            // glibc's have been compared already, where they are known.
            let is_missing = !provider.is_cut && !provider.versions.contains(version);
            if is_missing && !version.starts_with("GLIBC_") && wrong.len() < MAX_SAID {
                wrong.push(no_version(version, &name, &provider.versions));
            }
        }
        missing.retain(|symbol| !provider.defines.contains(symbol));
        for name in &provider.dynamic.needed {
            searches += 1;
            if searches > MAX_SEARCHES {
                is_all_known = false;
                break;
            }
            let found = search.find(name, &provider.dynamic, path.parent());
            is_all_known &= found.is_some();
            next.push_back((name.clone(), found));
        }
    }
    if is_all_known {
        wrong.extend(no_symbols(&missing));
    }
}

fn no_library(name: &str, dynamic: &Dynamic) -> Refusal {
    let is_beside = dynamic.runpath.iter().chain(&dynamic.rpath).any(|folder| folder.contains("ORIGIN"));
    let beside =
        if is_beside { " (a copy beside the module is not used: the store keeps the module alone)" } else { "" };
    Refusal::new(
        Defect::MissingLibrary,
        format!("needs {name}, which is not on this device{beside}"),
        format!("install the package with {name}, or link it statically"),
    )
}

fn no_version(version: &str, library: &str, have: &BTreeSet<String>) -> Refusal {
    let kind = version.split('_').next().unwrap_or_default();
    let number = |text: &String| -> Vec<u32> {
        text.rsplit('_').next().unwrap_or_default().split('.').filter_map(|part| part.parse().ok()).collect()
    };
    let newest = have.iter().filter(|name| name.split('_').next() == Some(kind)).max_by_key(|name| number(name));
    let has = newest.map_or_else(|| "has no such version".to_owned(), |newest| format!("has {newest}"));
    Refusal::new(
        Defect::OtherPlatform,
        format!("needs {version} of {library}, this device's {has}"),
        "build it on a system that is not newer than the device, or update the library",
    )
}

/// Symbols in one refusal: a missing library has many of them.
fn no_symbols(missing: &BTreeSet<String>) -> Option<Refusal> {
    let first = missing.first()?;
    let named: Vec<String> = missing.iter().take(3).map(|name| symbols::readable(name)).collect();
    let more = missing.len().saturating_sub(named.len());
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    let plural = if missing.len() > 1 { "s" } else { "" };
    Some(Refusal::new(
        Defect::MissingSymbol,
        format!("undefined symbol{plural}: {}{rest}", named.join(", ")),
        symbols::advice(first),
    ))
}

fn newest_glibc(dynamic: &Dynamic) -> Option<(u32, u32)> {
    dynamic.versions.values().flatten().filter_map(|version| glibc_version(version)).max()
}

/// Reads `GLIBC_2.38`; `None` for any other version name.
pub(super) fn glibc_version(name: &str) -> Option<(u32, u32)> {
    let mut parts = name.strip_prefix("GLIBC_")?.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

/// Built for a sanitizer: its runtime has to be there first, and ends the process if it is not.
fn sanitizers(dynamic: &Dynamic, wrong: &mut Vec<Refusal>) {
    const SIGNS: [(&str, &str, &str); 4] = [
        ("AddressSanitizer", "libasan", "__asan_init"),
        ("ThreadSanitizer", "libtsan", "__tsan_init"),
        ("MemorySanitizer", "libmsan", "__msan_init"),
        ("HWAddressSanitizer", "libhwasan", "__hwasan_init"),
    ];
    for (name, library, symbol) in SIGNS {
        if dynamic.needed.iter().any(|needed| needed.starts_with(library)) || dynamic.imports.contains(symbol) {
            wrong.push(Refusal::new(
                Defect::OtherPlatform,
                format!("built with {name}, whose runtime would end the whole process because it does not come first"),
                "build it without -fsanitize; a test of its own may have it",
            ));
        }
    }
}

/// Linked against another libc than the runtime.
fn other_libc(platform: &Platform, dynamic: &Dynamic, wrong: &mut Vec<Refusal>) {
    let is_musl = platform.triple.contains("musl");
    let needs = |test: fn(&str) -> bool| dynamic.needed.iter().find(|name| test(name));
    let musl = needs(|name| name == "libc.so" || name.starts_with("libc.musl-"));
    let glibc = needs(|name| name == "libc.so.6");
    let (linked, has, name) = match (is_musl, musl, glibc) {
        (false, Some(name), _) => ("musl", "glibc", name),
        (true, _, Some(name)) => ("glibc", "musl", name),
        _ => return,
    };
    wrong.push(Refusal::new(
        Defect::OtherPlatform,
        format!("linked against {linked} ({name}); this runtime uses {has}"),
        format!("rebuild it with --target {}, or with this system's cc", platform.triple),
    ));
}

/// A segment, as far as it matters here.
pub(super) struct Segment {
    pub is_stack: bool,
    pub is_tls: bool,
    pub is_executable: bool,
    pub bytes: u64,
}

impl Segment {
    pub fn new<P: ProgramHeader<Endian = Endianness>>(header: &P, endian: Endianness) -> Segment {
        Segment {
            is_stack: header.p_type(endian) == elf::PT_GNU_STACK,
            is_tls: header.p_type(endian) == elf::PT_TLS,
            is_executable: header.p_flags(endian).0 & elf::PF_X.0 != 0,
            bytes: header.p_memsz(endian).into(),
        }
    }
}

fn warn(dynamic: &Dynamic, segments: &[Segment], warnings: &mut Vec<String>) {
    if segments.iter().any(|segment| segment.is_stack && segment.is_executable) {
        warnings.push(
            "asks for an executable stack, which newer loaders and a hardened service refuse: link it with -z noexecstack"
                .to_owned(),
        );
    }
    if dynamic.has_text_relocations || dynamic.flags & DF_TEXTREL != 0 {
        warnings.push(
            "has text relocations, which a hardened service refuses: build every part of it with -fPIC".to_owned(),
        );
    }
    if dynamic.flags & DF_STATIC_TLS != 0 {
        let bytes: u64 = segments.iter().filter(|segment| segment.is_tls).map(|segment| segment.bytes).sum();
        warnings.push(format!(
            "wants {bytes} bytes of static thread-local memory, of which a running process has little left: build it with \
             -fPIC and without -ftls-model=initial-exec"
        ));
    }
    // A panic that cannot be raised cannot be caught either.
    if !dynamic.is_cut
        && dynamic.imports.contains("_Unwind_Backtrace")
        && dynamic.imports.contains("_Unwind_GetIP")
        && !dynamic.imports.iter().any(|name| name == "_Unwind_RaiseException" || name.starts_with("__cxa_"))
    {
        warnings
            .push("looks as if it was built with panic = \"abort\": a panic would end the whole runtime".to_owned());
    }
}

#[cfg(test)]
#[path = "needs_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "hostile_tests.rs"]
mod hostile_tests;
