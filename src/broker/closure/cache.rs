//! Reads `/etc/ld.so.cache`: where the loader finds a library by name.
//!
//! Only the format that every glibc since 2.2 writes is read; behind an older one it begins at an
//! aligned offset. A cache that makes no sense has no libraries in it, as for the loader.

use std::collections::HashMap;
use std::path::Path;

use super::elf::Machine;
use crate::common::bytes::Bytes;

/// Where it is.
pub const PATH: &str = "/etc/ld.so.cache";

const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const OLD_MAGIC: &[u8] = b"ld.so-1.7.0\0";
const HEADER_BYTES: usize = 48;
const ENTRY_BYTES: usize = 24;
const OLD_ENTRY_BYTES: usize = 12;
/// The largest cache that is read: hundreds of thousands of libraries.
const CACHE_MAX_BYTES: u64 = 64 << 20;

/// Kinds of libraries in the low byte, and what they are made for above (`<dl-cache.h>`'s values,
/// as `ldconfig -p` names them): the two that tell programs of one machine apart.
const WIDE_X86: u32 = 0x0300;
const X32: u32 = 0x0800;
const MADE_FOR: u32 = 0xff00;

/// Libraries by name: paths and what they are made for, in the cache's order.
#[derive(Debug, Default)]
pub struct Cache {
    libraries: HashMap<Bytes, Vec<(u32, Bytes)>>,
}

impl Cache {
    /// Reads the cache of this machine; an empty one if there is none.
    pub fn read(path: &Path) -> Self {
        let small = std::fs::metadata(path).is_ok_and(|found| found.len() <= CACHE_MAX_BYTES);
        let bytes = if small { std::fs::read(path).unwrap_or_default() } else { Vec::new() };
        Cache::parse(&bytes).unwrap_or_default()
    }

    /// Reads a cache's bytes; `None` if they make no sense.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = behind_old(bytes)?;
        if !bytes.starts_with(MAGIC) {
            return None;
        }
        let count = number(bytes, 20)? as usize;
        let entries = bytes.get(HEADER_BYTES..)?.get(..count.checked_mul(ENTRY_BYTES)?)?;
        let mut cache = Cache::default();
        for entry in entries.chunks_exact(ENTRY_BYTES) {
            let flags = number(entry, 0)?;
            let name = string(bytes, number(entry, 4)? as usize)?;
            let path = string(bytes, number(entry, 8)? as usize)?;
            if path.starts_with(b"/") {
                cache.libraries.entry(name).or_default().push((flags, path));
            }
        }
        Some(cache)
    }

    /// The paths of a library, those first that the loader of `machine` takes.
    pub fn paths(&self, name: &[u8], machine: Machine) -> impl Iterator<Item = &Bytes> {
        let fits = move |flags: u32| match (machine.number, machine.wide) {
            // x86-64, and x32 with its narrow words; elsewhere the file's own header decides.
            (62, true) => flags & MADE_FOR == WIDE_X86,
            (62, false) => flags & MADE_FOR == X32,
            _ => true,
        };
        let found = self.libraries.get(name).map(Vec::as_slice).unwrap_or_default();
        found.iter().filter(move |(flags, _)| fits(*flags)).map(|(_, path)| path)
    }
}

/// Skips a cache of the old format, which holds the new one behind its entries.
fn behind_old(bytes: &[u8]) -> Option<&[u8]> {
    if !bytes.starts_with(OLD_MAGIC) {
        return Some(bytes);
    }
    let count = number(bytes, OLD_MAGIC.len())? as usize;
    let end = count.checked_mul(OLD_ENTRY_BYTES)?.checked_add(OLD_MAGIC.len() + 4)?;
    bytes.get(end.checked_next_multiple_of(8)?..)
}

/// The number at `offset`. The byte order is this machine's own, as for the loader.
fn number(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

/// The string at `offset`, as far as its NUL.
fn string(bytes: &[u8], offset: usize) -> Option<Bytes> {
    let bytes = bytes.get(offset..)?;
    let length = bytes.iter().take(4096).position(|&byte| byte == 0)?;
    Some(Bytes::from(&bytes[..length]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WIDE: Machine = Machine { wide: true, little: true, number: 62 };

    fn cache(libraries: &[(u32, &str, &str)]) -> Vec<u8> {
        let mut entries = Vec::new();
        let mut strings = Vec::new();
        let begin = HEADER_BYTES + libraries.len() * ENTRY_BYTES;
        let mut string = |text: &str| {
            let offset = (begin + strings.len()) as u32;
            strings.extend([text.as_bytes(), b"\0"].concat());
            offset
        };
        for (flags, name, path) in libraries {
            for number in [*flags, string(name), string(path), 0, 0, 0] {
                entries.extend(number.to_ne_bytes());
            }
        }
        let mut bytes = MAGIC.to_vec();
        bytes.extend((libraries.len() as u32).to_ne_bytes());
        bytes.resize(HEADER_BYTES, 0);
        [bytes, entries, strings].concat()
    }

    fn paths(bytes: &[u8], name: &str, machine: Machine) -> Vec<String> {
        let cache = Cache::parse(bytes).expect("a cache");
        cache.paths(name.as_bytes(), machine).map(Bytes::to_text).collect()
    }

    #[test]
    fn a_library_is_found_by_name_and_machine() {
        let bytes = cache(&[
            (0x0303, "libz.so.1", "/usr/lib64/libz.so.1"),
            (0x0003, "libz.so.1", "/usr/lib/libz.so.1"),
            (0x0803, "libz.so.1", "/usr/libx32/libz.so.1"),
        ]);
        assert_eq!(paths(&bytes, "libz.so.1", WIDE), ["/usr/lib64/libz.so.1"]);
        assert_eq!(paths(&bytes, "libz.so.1", Machine { wide: false, ..WIDE }), ["/usr/libx32/libz.so.1"]);
        assert_eq!(paths(&bytes, "libz.so.1", Machine { number: 3, ..WIDE }).len(), 3);
        assert_eq!(paths(&bytes, "libz.so", WIDE), [""; 0]);
    }

    #[test]
    fn a_cache_behind_one_of_the_old_format_is_read() {
        let mut old = OLD_MAGIC.to_vec();
        old.extend(1u32.to_ne_bytes());
        old.resize(OLD_MAGIC.len() + 4 + OLD_ENTRY_BYTES, 0);
        old.resize(old.len().next_multiple_of(8), 0);
        old.extend(cache(&[(0x0303, "a", "/a")]));
        assert_eq!(paths(&old, "a", WIDE), ["/a"]);
    }

    #[test]
    fn the_cache_of_this_machine_has_the_c_library() {
        let bytes = std::fs::read(PATH).expect("a cache");
        let cache = Cache::parse(&bytes).expect("a cache that can be read");
        assert!(cache.libraries.contains_key(&b"libc.so.6"[..]));
    }

    proptest! {
        #[test]
        fn no_cache_does_harm(
            cut in 0usize..200,
            at in 0usize..200,
            byte: u8,
            noise in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut bytes = cache(&[(0x0303, "a", "/a"), (3, "b", "/b")]);
            let length = bytes.len();
            bytes[at % length] = byte;
            bytes.truncate(length.saturating_sub(cut));
            let _ = Cache::parse(&bytes);
            let _ = Cache::parse(&noise);
            let _ = Cache::parse(&[OLD_MAGIC, &noise].concat());
        }
    }
}
