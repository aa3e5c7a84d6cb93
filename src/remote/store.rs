//! Inputs that have been here before: packed blobs by the digest of what they unpack to.
//!
//! A blob is one file, `<root>/ab/<rest of the digest>`, written beside its place and renamed, so
//! a crash leaves whole blobs or none. The store is bounded; what was used longest ago goes
//! first, and the order survives a restart in the files' modification times. Nobody checks a
//! digest here: [`super::intake`] does so on every way in and out, and says when a blob is bad.
//!
//! Blocking: to be called from threads that may wait for a disk.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tempfile::NamedTempFile;

use crate::common::toolchain::Digest;

/// A bounded set of blobs on disk.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    max_bytes: u64,
    index: Mutex<Index>,
}

/// What is there, and in which order it was used.
#[derive(Debug, Default)]
struct Index {
    entries: HashMap<Digest, Entry>,
    by_use: BTreeMap<u64, Digest>,
    total_bytes: u64,
    next_use: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    bytes: u64,
    used: u64,
}

impl Index {
    fn insert(&mut self, digest: Digest, bytes: u64) {
        self.remove(&digest);
        let used = self.next_use;
        self.next_use += 1;
        self.entries.insert(digest, Entry { bytes, used });
        self.by_use.insert(used, digest);
        self.total_bytes += bytes;
    }

    fn remove(&mut self, digest: &Digest) -> Option<Entry> {
        let entry = self.entries.remove(digest)?;
        self.by_use.remove(&entry.used);
        self.total_bytes -= entry.bytes;
        Some(entry)
    }

    /// Takes out what was used longest ago until no more than `max_bytes` remain.
    fn shrink(&mut self, max_bytes: u64) -> Vec<Digest> {
        let mut out = Vec::new();
        while self.total_bytes > max_bytes {
            let Some((_, digest)) = self.by_use.first_key_value().map(|(used, digest)| (*used, *digest))
            else {
                break;
            };
            self.remove(&digest);
            out.push(digest);
        }
        out
    }
}

impl Store {
    /// Opens the store in `root`, which is created if need be, and finds what it holds.
    ///
    /// # Errors
    ///
    /// Returns what the file system returns when the directory cannot be made or read.
    pub fn open(root: &Path, max_bytes: u64) -> io::Result<Self> {
        let incoming = root.join("incoming");
        let _ = fs::remove_dir_all(&incoming);
        fs::create_dir_all(&incoming)?;
        let mut found = scan(root)?;
        found.sort_by_key(|(modified, ..)| *modified);
        let mut index = Index::default();
        for (_, digest, bytes) in found {
            index.insert(digest, bytes);
        }
        let store = Store { root: root.to_owned(), max_bytes, index: Mutex::new(index) };
        store.make_room();
        Ok(store)
    }

    /// The packed blob of that digest, and its length; the file stays readable when the blob is
    /// dropped meanwhile.
    pub fn get(&self, digest: &Digest) -> Option<(File, u64)> {
        let bytes = self.index().entries.get(digest)?.bytes;
        let opened = File::open(self.path(digest));
        let file = match opened {
            Ok(file) if file.metadata().is_ok_and(|meta| meta.is_file() && meta.len() == bytes) => file,
            _ => {
                self.remove(digest);
                return None;
            }
        };
        self.index().insert(*digest, bytes);
        let _ = file.set_modified(SystemTime::now());
        Some((file, bytes))
    }

    /// A file to write a packed blob to, on the store's own file system.
    ///
    /// # Errors
    ///
    /// Returns what the file system returns.
    pub fn incoming(&self) -> io::Result<NamedTempFile> {
        NamedTempFile::new_in(self.root.join("incoming"))
    }

    /// Takes in a blob whose digest has been checked. A blob larger than the store is not kept.
    ///
    /// # Errors
    ///
    /// Returns what the file system returns; the store is then as it was.
    pub fn commit(&self, file: NamedTempFile, digest: &Digest) -> io::Result<()> {
        let bytes = file.as_file().metadata()?.len();
        if bytes > self.max_bytes {
            return Ok(());
        }
        let path = self.path(digest);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        file.persist(&path).map_err(|error| error.error)?;
        self.index().insert(*digest, bytes);
        self.make_room();
        Ok(())
    }

    /// Drops a blob, because it is not what its name says.
    pub fn remove(&self, digest: &Digest) {
        if self.index().remove(digest).is_some() {
            let _ = fs::remove_file(self.path(digest));
        }
    }

    fn make_room(&self) {
        let surplus = self.index().shrink(self.max_bytes);
        for digest in surplus {
            let _ = fs::remove_file(self.path(&digest));
        }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.to_string();
        let (directory, name) = hex.split_at(2);
        self.root.join(directory).join(name)
    }

    /// A thread that panicked left a whole index: each change is one call.
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The blobs beneath `root`; whatever else lies there is left alone.
fn scan(root: &Path) -> io::Result<Vec<(SystemTime, Digest, u64)>> {
    let mut found = Vec::new();
    for directory in fs::read_dir(root)?.filter_map(Result::ok) {
        let Some(prefix) = directory.file_name().to_str().map(str::to_owned) else { continue };
        if prefix.len() != 2 || !directory.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        for file in fs::read_dir(directory.path())?.filter_map(Result::ok) {
            let name = file.file_name();
            let digest = name.to_str().and_then(|rest| parse_digest(&format!("{prefix}{rest}")));
            let (Some(digest), Ok(meta)) = (digest, file.metadata()) else { continue };
            if meta.is_file() {
                found.push((meta.modified().unwrap_or(SystemTime::UNIX_EPOCH), digest, meta.len()));
            }
        }
    }
    Ok(found)
}

fn parse_digest(hex: &str) -> Option<Digest> {
    let bytes = hex.as_bytes();
    if bytes.len() != 64 {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(bytes.chunks_exact(2)) {
        let (high, low) = (char::from(pair[0]).to_digit(16)?, char::from(pair[1]).to_digit(16)?);
        *byte = (high << 4 | low) as u8;
    }
    Some(Digest(digest))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn put(store: &Store, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let mut file = store.incoming().unwrap();
        file.write_all(bytes).unwrap();
        store.commit(file, &digest).unwrap();
        digest
    }

    fn content(store: &Store, digest: &Digest) -> Option<Vec<u8>> {
        let (mut file, _) = store.get(digest)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        Some(bytes)
    }

    #[test]
    fn a_blob_is_found_again_after_a_restart() {
        let root = tempfile::tempdir().unwrap();
        let digest = put(&Store::open(root.path(), 1000).unwrap(), b"text");
        let again = Store::open(root.path(), 1000).unwrap();
        assert_eq!(content(&again, &digest), Some(b"text".to_vec()));
        assert_eq!(content(&again, &Digest::of(b"other")), None);
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path(), 25).unwrap();
        let first = put(&store, &[1; 10]);
        let second = put(&store, &[2; 10]);
        assert!(content(&store, &first).is_some());
        let third = put(&store, &[3; 10]);
        let there = [&first, &second, &third].map(|digest| content(&store, digest).is_some());
        assert_eq!(there, [true, false, true]);
        let left = scan(root.path()).unwrap();
        assert_eq!(left.len(), 2, "the dropped blob is gone from the disk too");
    }

    #[test]
    fn a_smaller_limit_holds_from_the_next_start() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path(), 100).unwrap();
        let old = put(&store, &[1; 10]);
        let new = put(&store, &[2; 10]);
        let stamp = |digest, seconds| {
            let file = File::options().write(true).open(store.path(digest)).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds)).unwrap();
        };
        stamp(&old, 10);
        stamp(&new, 20);
        let again = Store::open(root.path(), 15).unwrap();
        assert!(content(&again, &old).is_none());
        assert!(content(&again, &new).is_some());
    }

    #[test]
    fn a_blob_that_was_cut_short_on_disk_is_not_there() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path(), 1000).unwrap();
        let digest = put(&store, b"some text");
        File::options().write(true).open(store.path(&digest)).unwrap().set_len(3).unwrap();
        assert_eq!(content(&store, &digest), None);
        assert!(!store.path(&digest).exists());
    }

    #[test]
    fn a_blob_larger_than_the_store_is_not_kept() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path(), 5).unwrap();
        let small = put(&store, b"1234");
        let large = put(&store, b"123456");
        assert!(content(&store, &large).is_none());
        assert!(content(&store, &small).is_some());
    }

    #[test]
    fn what_a_crash_left_half_written_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path(), 1000).unwrap();
        let (_, path) = store.incoming().unwrap().keep().unwrap();
        Store::open(root.path(), 1000).unwrap();
        assert!(!path.exists());
    }
}
