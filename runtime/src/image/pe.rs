//! Reads Windows libraries (PE) for [`inspect`](super::inspect()).

use dinrail_plugin::abi;
use object::pe::{ImageNtHeaders32, ImageNtHeaders64};
use object::read::ReadRef;
use object::read::pe::{ImageNtHeaders, PeFile};

use super::inspect::{Found, MAX_DESCRIPTOR_BYTES, MAX_PART_BYTES, Platform, TABLE_HEAD_BYTES, foreign, not_the_table};
use super::needs::Needs;
use super::{Defect, Format, Refusal};

/// `IMAGE_FILE_DLL`.
const IS_DLL: u16 = 0x2000;

pub(super) fn read<'data, R: ReadRef<'data>>(platform: &Platform, data: R) -> Result<Found<'data>, Refusal> {
    let len = data.len().map_err(|()| Refusal::malformed("its length cannot be read"))?;
    let dos = data.read_bytes_at(0, 64).map_err(|()| Refusal::truncated("the DOS header", 64, len))?;
    let at = u64::from(u32::from_le_bytes([dos[60], dos[61], dos[62], dos[63]]));
    let coff = data.read_bytes_at(at, 24).map_err(|()| Refusal::truncated("the PE header", at + 24, len))?;
    if !coff.starts_with(b"PE\0\0") {
        let hint = "build a shared library (crate-type cdylib)";
        return Err(Refusal::new(Defect::NotALibrary, "a DOS program, not a shared library", hint));
    }
    let (arch, wide) = match u16::from_le_bytes([coff[4], coff[5]]) {
        0x8664 => ("x86_64", true),
        0x014C => ("x86", false),
        0xAA64 => ("aarch64", true),
        0x01C4 => ("arm", false),
        _ => ("an unknown processor", true),
    };
    if platform.format != Format::Pe {
        return Err(platform.other(&format!("Windows {arch}")));
    }
    if arch != platform.arch {
        return Err(platform.other(arch));
    }
    if u16::from_le_bytes([coff[22], coff[23]]) & IS_DLL == 0 {
        let hint = "build a shared library (crate-type cdylib)";
        return Err(Refusal::new(Defect::NotALibrary, "an executable, not a shared library", hint));
    }
    if wide { read_class::<ImageNtHeaders64, R>(data, len) } else { read_class::<ImageNtHeaders32, R>(data, len) }
}

fn read_class<'data, Pe: ImageNtHeaders, R: ReadRef<'data>>(data: R, len: u64) -> Result<Found<'data>, Refusal> {
    let file = PeFile::<Pe, R>::parse(data).map_err(Refusal::malformed)?;
    let sections = file.section_table();
    for section in sections.iter() {
        let (offset, bytes) = section.pe_file_range();
        let end = u64::from(offset) + u64::from(bytes);
        if end > len {
            return Err(Refusal::truncated("a section", end, len));
        }
        if u64::from(bytes) > MAX_PART_BYTES {
            return Err(Refusal::malformed(format!("a section has {bytes} bytes; at most {MAX_PART_BYTES} are read")));
        }
    }
    let exports = file.export_table().map_err(Refusal::malformed)?.ok_or_else(foreign)?;
    let (_, index) = exports
        .name_iter()
        .find(|(pointer, _)| exports.name_from_pointer(*pointer) == Ok(abi::DR_ENTRY_SYMBOL.as_bytes()))
        .ok_or_else(foreign)?;
    let address = exports.address_by_index(index).map_err(Refusal::malformed)?;
    if exports.is_forward(address) {
        return Err(not_the_table("it forwards to another library"));
    }
    let table_head = sections
        .pe_data_at(data, address)
        .and_then(|bytes| bytes.get(..TABLE_HEAD_BYTES))
        .ok_or_else(|| not_the_table("its bytes are not in the file"))?;
    let section = sections.iter().find(|section| section.raw_name() == abi::DR_DESCRIPTOR_SECTION.as_bytes());
    let descriptor = section.map(|section| section.pe_data(data).map_err(Refusal::malformed)).transpose()?;
    if descriptor.is_some_and(|bytes| bytes.len() as u64 > MAX_DESCRIPTOR_BYTES) {
        return Err(Refusal::malformed(format!("its descriptor has more than {MAX_DESCRIPTOR_BYTES} bytes")));
    }
    Ok(Found { table_head, big_endian: false, symbol_bytes: 0, descriptor, fit: Box::new(|| Ok(Needs::default())) })
}
