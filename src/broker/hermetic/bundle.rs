//! Files as they travel: several contents in one zstd frame.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{Read, Write};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::broker::link::supply::{Bundle, Progress, ToPack};
use crate::broker::plain_file;
use crate::broker::scan::SharedScanner;
use crate::common::inputs::{Entry, FileEntry, Item};
use crate::common::limits::{BUNDLE_BYTES, INPUT_MAX_BYTES};
use crate::common::toolchain::Digest;

/// A file travels once to each volunteer, perhaps up a thin line: worth more than the fastest level.
const LEVEL: i32 = 3;

/// Large files that are being packed or are on their way, by digest: what many volunteers lack at a time, as a
/// compiler, is packed once for all of them.
#[derive(Debug, Default)]
pub struct Large {
    known: Mutex<HashMap<Digest, Place>>,
}

/// Where a packed file is while anybody has it. Whoever packs it holds the lock.
type Place = Arc<Mutex<Weak<Vec<u8>>>>;

impl Large {
    /// The packed file of that digest: as somebody has it, or as `pack` makes it.
    fn packed(&self, digest: &Digest, pack: impl FnOnce() -> Option<Vec<u8>>) -> Option<Arc<Vec<u8>>> {
        let place = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.retain(|_, place| {
                Arc::strong_count(place) > 1 || place.try_lock().is_ok_and(|packed| packed.strong_count() > 0)
            });
            Arc::clone(known.entry(*digest).or_default())
        };
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(packed) = place.upgrade() {
            return Some(packed);
        }
        let packed = Arc::new(pack()?);
        *place = Arc::downgrade(&packed);
        Some(packed)
    }
}

/// Packs files that a volunteer asks for. What is not what it was announced as is left out, and
/// said to be gone. Blocking.
pub fn pack(files: &ToPack, scanner: &SharedScanner, shared: &Large) -> Bundle {
    let (mut numbers, mut gone, mut plain) = (Vec::new(), Vec::new(), 0);
    let mut encoder = match zstd::stream::write::Encoder::new(Vec::new(), LEVEL) {
        Ok(encoder) => encoder,
        Err(_) => return none_of(files),
    };
    if let [(number, item)] = &files.files[..]
        && let Some(expected) = large(item)
        && let Some(packed) = shared.packed(&expected.digest, || pack_large(item, &expected, &files.progress))
    {
        let (files, large) = (vec![*number], files.large);
        return Bundle { files, large, packed, plain: expected.size, gone: Vec::new() };
    }
    for (number, item) in &files.files {
        match contents(item, scanner) {
            Some(contents) if encoder.write_all(&contents).is_ok() => {
                files.progress.read(contents.len() as u64);
                plain += contents.len() as u64;
                numbers.push(*number);
            }
            _ => gone.push(*number),
        }
    }
    match encoder.finish() {
        Ok(packed) => Bundle { files: numbers, large: files.large, packed: Arc::new(packed), plain, gone },
        Err(_) => none_of(files),
    }
}

/// What a file should be that is not held in memory as a whole; `None` for a small one.
fn large(item: &Item) -> Option<FileEntry> {
    let Item::Entry(Entry { kind, .. }) = item else { return None };
    kind.file().copied().filter(|file| (BUNDLE_BYTES..=INPUT_MAX_BYTES).contains(&file.size))
}

/// `None` where the file has changed.
fn pack_large(item: &Item, expected: &FileEntry, progress: &Progress) -> Option<Vec<u8>> {
    let Item::Entry(Entry { path, .. }) = item else { return None };
    let (file, _) = plain_file::open(path.as_path()).ok()?;
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), LEVEL).ok()?;
    let mut hashed = Hashed { from: file.take(expected.size + 1), hasher: blake3::Hasher::new(), progress };
    let plain = std::io::copy(&mut hashed, &mut encoder).ok()?;
    let is_same = plain == expected.size && Digest(*hashed.hasher.finalize().as_bytes()) == expected.digest;
    encoder.finish().ok().filter(|_| is_same)
}

/// What is read is hashed on its way.
struct Hashed<'a, R> {
    from: R,
    hasher: blake3::Hasher,
    progress: &'a Progress,
}

impl<R: Read> Read for Hashed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.from.read(buffer)?;
        self.hasher.update(&buffer[..length]);
        self.progress.read(length as u64);
        Ok(length)
    }
}

fn none_of(files: &ToPack) -> Bundle {
    let gone = files.files.iter().map(|(number, _)| *number).collect();
    Bundle { gone, large: files.large, ..Bundle::default() }
}

/// The contents of a file, which have the digest that was announced.
fn contents(item: &Item, scanner: &SharedScanner) -> Option<Arc<[u8]>> {
    let Item::Entry(Entry { path, kind }) = item else { return None };
    let file = kind.file()?;
    match plain_file::open(path.as_path()).ok().and_then(|found| read(found, file)) {
        Some(contents) => Some(contents),
        // It has changed since; perhaps what was scanned is still remembered.
        None => scanner.bytes(&file.digest),
    }
}

fn read((mut found, meta): (File, Metadata), expected: &FileEntry) -> Option<Arc<[u8]>> {
    if meta.len() != expected.size || expected.size > INPUT_MAX_BYTES {
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
        let files = ToPack { files, large: false, progress: Arc::default() };
        let bundle = pack(&files, &SharedScanner::default(), &Large::default());
        assert_eq!((bundle.files, bundle.gone), (vec![3, 9], vec![4]));
        assert_eq!(zstd::decode_all(&bundle.packed[..]).expect("a frame"), b"one");
    }

    #[test]
    fn a_large_file_for_many_is_packed_once_and_kept_for_as_long_as_anybody_has_it() {
        let (shared, digest) = (Large::default(), Digest::of(b"compiler"));
        let (count, start) = (std::sync::atomic::AtomicUsize::new(0), std::sync::Barrier::new(8));
        let packed = || {
            shared.packed(&digest, || {
                count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                Some(vec![7])
            })
        };
        let all: Vec<_> = std::thread::scope(|scope| {
            let at_once = || {
                start.wait();
                packed()
            };
            let at_once: Vec<_> = (0..8).map(|_| scope.spawn(at_once)).collect();
            at_once.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert!(all.iter().all(|packed| packed.as_ref().is_some_and(|packed| ***packed == [7])));
        assert_eq!(count.load(std::sync::atomic::Ordering::Relaxed), 1);
        drop(all);
        // One that cannot be packed is not waited for, and whoever is next tries again.
        assert!(shared.packed(&digest, || None).is_none());
        assert!(packed().is_some());
        assert!(shared.packed(&Digest::of(b"other"), || None).is_none());
        assert_eq!(shared.known.lock().expect("nobody panicked").len(), 1);
    }
}
