//! Files as they travel: several contents in one zstd frame.

use std::io::{Read, Write};
use std::sync::Arc;

use crate::broker::link::supply::{Bundle, ToPack};
use crate::broker::scan::SharedScanner;
use crate::common::inputs::{Entry, FileEntry, Item};
use crate::common::limits::{BUNDLE_BYTES, INPUT_MAX_BYTES};
use crate::common::toolchain::Digest;

/// A file travels once to each volunteer, perhaps up a thin line: worth more than the fastest level.
const LEVEL: i32 = 3;

/// Packs files that a volunteer asks for. What is not what it was announced as is left out, and
/// said to be gone. Blocking.
pub fn pack(files: &ToPack, scanner: &SharedScanner) -> Bundle {
    let (mut numbers, mut gone, mut plain) = (Vec::new(), Vec::new(), 0);
    let mut encoder = match zstd::stream::write::Encoder::new(Vec::new(), LEVEL) {
        Ok(encoder) => encoder,
        Err(_) => return none_of(files),
    };
    if let [(number, item)] = &files.files[..]
        && let Some(bundle) = pack_large(*number, item)
    {
        return bundle;
    }
    for (number, item) in &files.files {
        match contents(item, scanner) {
            Some(contents) if encoder.write_all(&contents).is_ok() => {
                plain += contents.len() as u64;
                numbers.push(*number);
            }
            _ => gone.push(*number),
        }
    }
    match encoder.finish() {
        Ok(packed) => Bundle { files: numbers, packed, plain, gone },
        Err(_) => none_of(files),
    }
}

/// A large file is not held in memory as a whole. `None` for one that is small, or has changed.
fn pack_large(number: u32, item: &Item) -> Option<Bundle> {
    let Item::Entry(Entry { path, kind }) = item else { return None };
    let expected = kind.file().filter(|file| (BUNDLE_BYTES..=INPUT_MAX_BYTES).contains(&file.size))?;
    let file = std::fs::File::open(path.as_path()).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), LEVEL).ok()?;
    let mut hashed = Hashed { from: file.take(expected.size + 1), hasher: blake3::Hasher::new() };
    let plain = std::io::copy(&mut hashed, &mut encoder).ok()?;
    let is_same = plain == expected.size && Digest(*hashed.hasher.finalize().as_bytes()) == expected.digest;
    let packed = encoder.finish().ok().filter(|_| is_same)?;
    Some(Bundle { files: vec![number], packed, plain, gone: Vec::new() })
}

/// What is read is hashed on its way.
struct Hashed<R> {
    from: R,
    hasher: blake3::Hasher,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.from.read(buffer)?;
        self.hasher.update(&buffer[..length]);
        Ok(length)
    }
}

fn none_of(files: &ToPack) -> Bundle {
    let gone = files.files.iter().map(|(number, _)| *number).collect();
    Bundle { gone, ..Bundle::default() }
}

/// The contents of a file, which have the digest that was announced.
fn contents(item: &Item, scanner: &SharedScanner) -> Option<Arc<[u8]>> {
    let Item::Entry(Entry { path, kind }) = item else { return None };
    let file = kind.file()?;
    match std::fs::File::open(path.as_path()).ok().and_then(|found| read(found, file)) {
        Some(contents) => Some(contents),
        // It has changed since; perhaps what was scanned is still remembered.
        None => scanner.bytes(&file.digest),
    }
}

fn read(mut found: std::fs::File, expected: &FileEntry) -> Option<Arc<[u8]>> {
    let meta = found.metadata().ok()?;
    if !meta.is_file() || meta.len() != expected.size || expected.size > INPUT_MAX_BYTES {
        return None;
    }
    let mut contents = Vec::with_capacity(meta.len() as usize);
    (&mut found).take(expected.size + 1).read_to_end(&mut contents).ok()?;
    (Digest::of(&contents) == expected.digest).then(|| contents.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::bytes::Bytes;
    use crate::common::inputs::EntryKind;

    #[test]
    fn only_what_is_as_announced_travels() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = |name: &str, contents: &str, announced: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, contents).expect("written");
            let digest = Digest::of(announced.as_bytes());
            let size = announced.len() as u64;
            let kind = EntryKind::File(FileEntry { digest, size, executable: false, twin: 0, age: 0 });
            Arc::new(Item::Entry(Entry { path: Bytes::from(path.as_path()), kind }))
        };
        let files = vec![(3, file("a", "one", "one")), (4, file("b", "two", "2wo")), (9, file("c", "", ""))];
        let bundle = pack(&ToPack { files }, &SharedScanner::default());
        assert_eq!((bundle.files, bundle.gone), (vec![3, 9], vec![4]));
        assert_eq!(zstd::decode_all(&bundle.packed[..]).expect("a frame"), b"one");
    }
}
