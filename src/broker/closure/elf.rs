//! What the headers of an ELF file say of the files that it needs to run.
//!
//! Only headers are read, never more than [`TABLE_MAX_BYTES`] at a time, so that a file of any
//! size and any content costs little and never panics.

use object::elf::{self, FileHeader32, FileHeader64};
use object::endian::Endianness;
use object::read::ReadRef;
use object::read::elf::{Dyn, FileHeader, ProgramHeader};

use crate::common::bytes::Bytes;

/// The longest dynamic table: programs have some tens of entries of 16 bytes.
const TABLE_MAX_BYTES: u64 = 256 << 10;
/// The longest name or search path: many times `PATH_MAX`.
const STRING_MAX_BYTES: u64 = 64 << 10;
/// Libraries that one file needs: the most that is known has some hundred.
const NEEDED_MAX: usize = 4096;
/// Segments: the kernel itself refuses a program with more than 64 kB of headers.
const SEGMENTS_MAX: usize = 4096;

/// For which machine a file is: a loader passes over libraries of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Whether words have 64 bits.
    pub wide: bool,
    /// Whether the first byte of a word is its lowest.
    pub little: bool,
    /// The architecture (`e_machine`).
    pub number: u16,
}

/// What a file needs in order to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Which machine.
    pub machine: Machine,
    /// The loader that the kernel starts; static programs and libraries have none.
    pub interpreter: Option<Bytes>,
    /// Libraries by name, in order.
    pub libraries: Vec<Bytes>,
    /// `DT_RPATH`: where to search, for this file and for those that it brings in.
    pub rpath: Option<Bytes>,
    /// `DT_RUNPATH`: where to search for this file's own libraries.
    pub runpath: Option<Bytes>,
    /// Whether the usual directories are not searched (`DF_1_NODEFLIB`).
    pub own_paths_only: bool,
}

/// Why the headers cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    /// It does not begin as one.
    #[error("not an ELF file")]
    NotElf,
    /// It does, and then makes no sense.
    #[error("broken {0}")]
    Broken(&'static str),
}

/// Reads the headers in `data`.
///
/// # Errors
///
/// Returns why they cannot be read.
pub fn read<'data, R: ReadRef<'data>>(data: R) -> Result<Needs, ElfError> {
    let ident = data.read_bytes_at(0, 16).map_err(|()| ElfError::NotElf)?;
    match ident {
        [0x7f, b'E', b'L', b'F', 1, ..] => read_as::<FileHeader32<Endianness>, R>(data, false),
        [0x7f, b'E', b'L', b'F', 2, ..] => read_as::<FileHeader64<Endianness>, R>(data, true),
        _ => Err(ElfError::NotElf),
    }
}

fn read_as<'data, H, R>(data: R, wide: bool) -> Result<Needs, ElfError>
where
    H: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let header = H::parse(data).map_err(|_| ElfError::Broken("header"))?;
    let endian = header.endian().map_err(|_| ElfError::Broken("header"))?;
    if usize::from(header.e_phnum(endian)) > SEGMENTS_MAX {
        return Err(ElfError::Broken("number of segments"));
    }
    let segments = header.program_headers(endian, data).map_err(|_| ElfError::Broken("segments"))?;
    let number = header.e_machine(endian).0;
    let machine = Machine { wide, little: endian == Endianness::Little, number };
    let mut needs = Needs {
        machine,
        interpreter: None,
        libraries: Vec::new(),
        rpath: None,
        runpath: None,
        own_paths_only: false,
    };
    for segment in segments {
        let (offset, size) = segment.file_range(endian);
        if segment.p_type(endian) == elf::PT_INTERP {
            needs.interpreter = Some(string_at(data, offset, size, "name of the loader")?);
        } else if segment.p_type(endian) == elf::PT_DYNAMIC {
            if size > TABLE_MAX_BYTES {
                return Err(ElfError::Broken("dynamic table"));
            }
            let table = segment.dynamic(endian, data).ok().flatten();
            let table = table.ok_or(ElfError::Broken("dynamic table"))?;
            read_table::<H, R>(data, endian, segments, table, &mut needs)?;
        }
    }
    Ok(needs)
}

/// Reads the table that tells libraries and search paths.
fn read_table<'data, H, R>(
    data: R,
    endian: Endianness,
    segments: &[H::ProgramHeader],
    table: &[H::Dyn],
    needs: &mut Needs,
) -> Result<(), ElfError>
where
    H: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    // What follows the null entry is room for tools.
    let entries = || table.iter().take_while(|entry| entry.tag(endian) != elf::DT_NULL);
    let address = entries().find(|entry| entry.tag(endian) == elf::DT_STRTAB).map(|entry| entry.val(endian));
    let strings = address.and_then(|address| offset_of::<H>(endian, segments, address));
    let string = |entry: &H::Dyn| {
        let (begin, end) = strings.ok_or(ElfError::Broken("table of strings"))?;
        let offset = begin.checked_add(entry.val(endian)).ok_or(ElfError::Broken("table of strings"))?;
        string_at(data, offset, end.saturating_sub(offset), "table of strings")
    };
    for entry in entries() {
        match entry.tag(endian) {
            elf::DT_NEEDED if needs.libraries.len() >= NEEDED_MAX => {
                return Err(ElfError::Broken("number of libraries"));
            }
            elf::DT_NEEDED => needs.libraries.push(string(entry)?),
            elf::DT_RPATH => needs.rpath = Some(string(entry)?),
            elf::DT_RUNPATH => needs.runpath = Some(string(entry)?),
            elf::DT_FLAGS_1 => {
                needs.own_paths_only |= entry.val(endian) & elf::DF_1_NODEFLIB.0 != 0;
            }
            _ => {}
        }
    }
    // As loaders have it: where there is a RUNPATH, the RPATH does not count.
    if needs.runpath.is_some() {
        needs.rpath = None;
    }
    Ok(())
}

/// Where in the file an address is, and where the segment that holds it ends.
fn offset_of<H: FileHeader<Endian = Endianness>>(
    endian: Endianness,
    segments: &[H::ProgramHeader],
    address: u64,
) -> Option<(u64, u64)> {
    segments.iter().filter(|segment| segment.p_type(endian) == elf::PT_LOAD).find_map(|segment| {
        let (offset, size) = segment.file_range(endian);
        let within = address.checked_sub(segment.p_vaddr(endian).into()).filter(|within| *within < size)?;
        Some((offset.checked_add(within)?, offset.checked_add(size)?))
    })
}

/// The string that ends with a NUL within `room` bytes behind `offset`.
fn string_at<'data, R: ReadRef<'data>>(
    data: R,
    offset: u64,
    room: u64,
    what: &'static str,
) -> Result<Bytes, ElfError> {
    let broken = ElfError::Broken(what);
    let length = data.len().map_err(|()| broken)?;
    let end = offset.checked_add(room.min(STRING_MAX_BYTES)).ok_or(broken)?.min(length);
    if offset >= end {
        return Err(broken);
    }
    let bytes = data.read_bytes_at_until(offset..end, 0).map_err(|()| broken)?;
    Ok(Bytes::from(bytes))
}

#[cfg(test)]
#[path = "elf_tests.rs"]
mod tests;
