use proptest::prelude::*;

use super::*;
use crate::image::testing::{Module, compile};

fn windows() -> Platform {
    Platform { format: Format::Pe, triple: "x86_64-pc-windows-gnu".into(), arch: "x86_64".into(), glibc: None }
}

fn host_bytes() -> Option<Vec<u8>> {
    Module::named("filter", "1.2.3").build().map(|path| std::fs::read(path).unwrap())
}

/// The smallest DLL that is a module, for a table head of these numbers.
fn dll(abi_major: u32, descriptor: &str) -> Vec<u8> {
    let mut file = vec![0_u8; 0x600];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3C, &0x40_u32.to_le_bytes());
    put(0x40, b"PE\0\0");
    put(0x44, &0x8664_u16.to_le_bytes());
    put(0x46, &2_u16.to_le_bytes()); // sections
    put(0x54, &240_u16.to_le_bytes()); // optional header
    put(0x56, &0x2000_u16.to_le_bytes()); // a DLL
    put(0x58, &0x020B_u16.to_le_bytes());
    put(0x58 + 108, &16_u32.to_le_bytes()); // data directories, exports first
    put(0x58 + 112, &0x1000_u32.to_le_bytes());
    put(0x58 + 116, &0x100_u32.to_le_bytes());
    for (n, (name, address, offset)) in
        [(".edata", 0x1000_u32, 0x200_u32), (".dinrail", 0x2000, 0x400)].into_iter().enumerate()
    {
        let at = 0x58 + 240 + 40 * n;
        put(at, name.as_bytes());
        for (field, value) in [(8, 0x200), (12, address), (16, 0x200), (20, offset)] {
            put(at + field, &value.to_le_bytes());
        }
    }
    // Export directory: one function, one name; the table behind it.
    for (field, value) in [(16, 1_u32), (20, 1), (24, 1), (28, 0x1040), (32, 0x1044), (36, 0x1048)] {
        put(0x200 + field, &value.to_le_bytes());
    }
    put(0x240, &0x1100_u32.to_le_bytes());
    put(0x244, &0x1050_u32.to_le_bytes());
    put(0x250, abi::DR_ENTRY_SYMBOL.as_bytes());
    put(0x300, &abi::DR_MAGIC.to_le_bytes());
    put(0x308, &abi_major.to_le_bytes());
    put(0x310, &(size_of::<DrModule>() as u32).to_le_bytes());
    put(0x400, descriptor.as_bytes());
    file
}

#[test]
fn sound_module_is_described_without_loading_it() {
    let library = Module::with_descriptor(
        r#"{"name": "filter", "version": "1.2.3-rc.1", "abi": "1.0", "inputs": ["in"], "exclusive": true}"#,
    );
    let Some(path) = library.build() else { return };

    let found = inspect_file(&path).unwrap();

    assert_eq!((&*found.descriptor.name, found.descriptor.version.to_string()), ("filter", "1.2.3-rc.1".to_owned()));
    assert!(found.descriptor.exclusive);
    assert_eq!(found.arch, std::env::consts::ARCH);
    assert_eq!(found.bytes, std::fs::metadata(&path).unwrap().len());
    assert_eq!(found, inspect(&std::fs::read(&path).unwrap()).unwrap());
}

#[test]
fn what_is_no_library_is_named() {
    let mut core = b"\x7fELF\x02\x01\x01".to_vec();
    core.resize(64, 0);
    core[16] = 4;
    core[18..20].copy_from_slice(&62_u16.to_le_bytes());
    let cases: &[(&[u8], Defect, &str)] = &[
        (b"", Defect::Empty, "is empty"),
        (b"hello\n", Defect::NotALibrary, "a text file"),
        ("Grüße, weiter im Text\n".as_bytes(), Defect::NotALibrary, "a text file"),
        (b"#!/bin/sh\n", Defect::NotALibrary, "a script"),
        (b"!<arch>\nxyz", Defect::NotALibrary, "a static library"),
        (b"!<arch>\ndebian-binary   ", Defect::NotALibrary, "a Debian package"),
        (b"\xFD7zXZ\0", Defect::NotALibrary, "a compressed archive"),
        (b"version https://git-lfs.github.com/spec/v1\n", Defect::NotALibrary, "a pointer of Git LFS"),
        (b"/* GNU ld script */\nINPUT(x)\n", Defect::NotALibrary, "a script of the linker"),
        (b"<!DOCTYPE html><p>404", Defect::NotALibrary, "a web page"),
        (b"BC\xC0\xDE\x35", Defect::NotALibrary, "LLVM bitcode"),
        (b"PK\x03\x04xyz", Defect::NotALibrary, "a zip archive"),
        (b"\x1f\x8bxyz", Defect::NotALibrary, "a gzip archive"),
        (b"\0asm\x01\0\0\0", Defect::NotALibrary, "WebAssembly"),
        (b"\xcf\xfa\xed\xfe\0\0\0\0", Defect::OtherPlatform, "built for macOS; this device runs"),
        (b"\x01\x02\x03\x04\xff\xfe", Defect::NotALibrary, "neither ELF nor PE"),
        (&[0; 4096], Defect::Truncated, "zeros only"),
        (b"\x7fELF", Defect::Truncated, "truncated: the ELF header ends at 64 but the file has 4 bytes"),
        (b"MZ", Defect::Truncated, "truncated: the DOS header"),
    ];
    for (bytes, defect, says) in cases {
        let refusal = inspect(bytes).unwrap_err();
        assert_eq!(refusal.defect, *defect, "{says}: {}", refusal.line());
        assert!(refusal.what.contains(says), "{says}: {}", refusal.line());
    }
    let linux = Platform { format: Format::Elf, arch: "x86_64".into(), triple: "t".into(), glibc: None };
    assert!(inspect_for(&linux, &core).unwrap_err().what.contains("a core dump"));
}

#[test]
fn executable_and_object_file_are_named() {
    for (flags, says) in
        [(&["-no-pie"][..], "an executable"), (&["-pie", "-fPIE"], "an executable"), (&["-c"], "an object file")]
    {
        let Some(path) = compile("int main(void) { return 0; }", flags) else { return };
        let refusal = inspect_file(&path).unwrap_err();
        assert!(refusal.what.contains(says), "{flags:?}: {refusal}");
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn library_for_another_device_names_both() {
    let Some(mut bytes) = host_bytes() else { return };
    let dll = dll(1, "{}");
    assert_eq!(
        inspect(&dll).unwrap_err().line(),
        "built for Windows x86_64; this device runs Linux x86_64: rebuild it with --target x86_64-unknown-linux-gnu",
    );
    assert!(
        inspect_for(&windows(), &bytes)
            .unwrap_err()
            .what
            .starts_with("built for Linux x86_64; this device runs Windows")
    );
    bytes[18] = 183;
    assert!(inspect(&bytes).unwrap_err().what.starts_with("built for aarch64; this device runs Linux x86_64"));
    bytes[5] = 2;
    assert_eq!(inspect(&bytes).unwrap_err().defect, Defect::OtherPlatform);
    bytes[18..20].copy_from_slice(&[0xFF, 0xFE]);
    assert!(inspect(&bytes).unwrap_err().what.contains("an unknown processor"));
}

#[test]
fn every_cut_through_a_library_is_called_truncated() {
    let Some(bytes) = host_bytes() else { return };
    for cut in (16..bytes.len()).step_by(97).chain([bytes.len() - 1]) {
        let refusal = inspect(&bytes[..cut]).unwrap_err();
        assert_eq!(refusal.defect, Defect::Truncated, "{cut} of {}: {}", bytes.len(), refusal.line());
        assert!(refusal.line().contains(&format!("but the file has {cut} bytes: copy it again")), "{}", refusal.line());
    }
}

#[test]
fn table_that_does_not_fit_is_refused_with_the_reason() {
    let module = || Module::named("m", "1.0.0");
    let cases = [
        (
            module().declaration("static const struct table other"),
            Defect::Foreign,
            "exports no symbol DINRAIL_MODULE_V1",
        ),
        (
            module().declaration("__attribute__((visibility(\"hidden\"))) const struct table DINRAIL_MODULE_V1"),
            Defect::Foreign,
            "exports no symbol",
        ),
        (
            module().code("void DINRAIL_MODULE_V1(void) {}").declaration("const struct table other"),
            Defect::Foreign,
            "it is a function",
        ),
        (
            module().code("struct table DINRAIL_MODULE_V1;").declaration("const struct table other"),
            Defect::Foreign,
            "its bytes are not in the file",
        ),
        (module().field("magic", "7"), Defect::Foreign, "wrong magic 0x0000000000000007"),
        (module().field("abi_major", "2"), Defect::OtherAbi, "built for ABI 2.0, this runtime speaks 1.0"),
        (module().field("abi_major", "0"), Defect::OtherAbi, "built for ABI 0.0"),
        (module().field("size", "48"), Defect::Foreign, "it has 48 bytes, the smallest is"),
        (module().field("size", "4096"), Defect::Foreign, "it claims 4096 bytes but has"),
        (Module::with_descriptor(""), Defect::BadDescriptor, "no section .dinrail"),
        (Module::with_descriptor("{"), Defect::BadDescriptor, "cannot be read"),
        (Module::named("a@b", "1.0.0"), Defect::BadDescriptor, "'a@b' cannot be the name"),
    ];
    for (module, defect, says) in cases {
        let Some(path) = module.build() else { return };
        let refusal = inspect_file(&path).unwrap_err();
        assert_eq!(refusal.defect, defect, "{says}: {}", refusal.line());
        assert!(refusal.what.contains(says), "{says}: {}", refusal.line());
    }
}

#[test]
fn newer_and_older_minors_of_the_same_major_are_welcome() {
    let newer = Module::named("m", "1.0.0").field("abi_minor", "9");
    let Some(newer) = newer.build() else { return };
    assert_eq!(inspect_file(&newer).unwrap().descriptor.abi, AbiVersion { major: 1, minor: 9 });

    let least = Module::named("m", "1.0.0").field("size", format!("{MIN_TABLE_BYTES}"));
    assert!(inspect_file(&least.build().unwrap()).is_ok());
}

#[test]
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
fn need_of_a_newer_glibc_is_found_before_loading() {
    let library = Module::named("m", "1.0.0").code("extern int puts(const char *); void say(void) { puts(\"\"); }");
    let Some(path) = library.build() else { return };
    let old = Platform { glibc: Some((2, 1)), ..Platform::host() };

    let refusal = inspect_for(&old, &std::fs::read(&path).unwrap()).unwrap_err();

    assert!(refusal.what.starts_with("needs GLIBC_2."), "{refusal}");
    assert!(refusal.what.ends_with("this device has 2.1"), "{refusal}");
    assert!(inspect_file(&path).is_ok());
}

#[test]
fn windows_library_is_read_on_any_system() {
    let good = dll(1, r#"{"name": "filter", "version": "1.0.0"}"#);
    let found = inspect_for(&windows(), &good).unwrap();
    assert_eq!((found.format, &*found.descriptor.name), (Format::Pe, "filter"));

    assert_eq!(inspect_for(&windows(), &dll(2, "{}")).unwrap_err().defect, Defect::OtherAbi);
    assert_eq!(inspect_for(&windows(), &good[..0x500]).unwrap_err().defect, Defect::Truncated);
    let mut foreign = good.clone();
    foreign[0x250] = b'X';
    assert_eq!(inspect_for(&windows(), &foreign).unwrap_err().defect, Defect::Foreign);
    let mut program = good.clone();
    program[0x57] = 0;
    assert!(inspect_for(&windows(), &program).unwrap_err().what.contains("an executable"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_survived(head in 0..4_usize, mut bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        let heads: [&[u8]; 4] = [b"", b"MZ", b"\x7fELF\x02\x01\x01", b"\x7fELF\x01\x02\x01"];
        bytes.splice(..heads[head].len().min(bytes.len()), heads[head].iter().copied());
        let _ = inspect(&bytes);
        let _ = inspect_for(&windows(), &bytes);
    }

    #[test]
    fn any_damage_to_a_library_is_survived(
        cut in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..16),
        headers in prop::collection::vec((0..0x200_usize, prop::sample::select(vec![0_u8, 1, 0x7F, 0x80, 0xFF])), 0..8),
    ) {
        static LIBRARY: std::sync::OnceLock<Option<Vec<u8>>> = std::sync::OnceLock::new();
        let elf = LIBRARY.get_or_init(host_bytes).clone().unwrap_or_default();
        for (platform, mut bytes) in [(Platform::host(), elf), (windows(), dll(1, r#"{"name": "f", "version": "1.0.0"}"#))] {
            if bytes.is_empty() { continue }
            // Section headers of the ELF stand at the end, everything else that steers at the start.
            for (index, value) in &changes {
                let at = index.index(bytes.len());
                bytes[at] = *value;
                let near_end = bytes.len() - 1 - at % 2048.min(bytes.len());
                bytes[near_end] ^= *value;
            }
            for (at, value) in &headers {
                let at = at % bytes.len();
                bytes[at] = *value;
            }
            let _ = inspect_for(&platform, &bytes);
            let _ = inspect_for(&platform, &bytes[..cut.index(bytes.len())]);
        }
    }
}
