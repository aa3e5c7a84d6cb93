//! A directory of results: one file each, bounded, what was used longest ago goes first.
//!
//! Files are written beside their place and renamed, so there are whole ones or none; several
//! brokers may share a directory. The order of use survives restarts in the files' times.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::distrust::Origin;
use super::entry;
use crate::broker::link::FilesAnswer;
use crate::common::limits::OUTPUT_MAX_BYTES;
use crate::common::lru::Lru;
use crate::common::toolchain::Digest;

/// One result may be so large a share of the whole.
const SHARE_MAX: u64 = 8;

/// So much of the file system is left to others.
const FREE_MIN_BYTES: u64 = 512 << 20;

/// A directory of results.
#[derive(Debug)]
pub struct Disk {
    directory: PathBuf,
    max_bytes: AtomicU64,
    /// What is there; found when it is first needed.
    index: Mutex<Option<Lru<Digest>>>,
}

impl Disk {
    /// Of this directory, which is made when there is something to keep.
    pub fn new(directory: PathBuf) -> Self {
        Disk { directory, max_bytes: AtomicU64::new(0), index: Mutex::new(None) }
    }

    /// How much may be kept; the last word counts.
    pub fn bound(&self, max_bytes: u64) {
        self.max_bytes.store(max_bytes, Ordering::Relaxed);
    }

    /// The result under a key, and where it is from. One that is not whole is removed.
    pub fn read(&self, key: &Digest) -> Option<(FilesAnswer, Origin)> {
        let path = self.path(key);
        let mut file = File::open(&path).ok()?;
        let length = file.metadata().ok().filter(fs::Metadata::is_file)?.len();
        if length > OUTPUT_MAX_BYTES * 2 {
            return None;
        }
        let mut bytes = Vec::with_capacity(length as usize);
        (&mut file).take(length).read_to_end(&mut bytes).ok()?;
        let found = entry::decode(&bytes);
        if found.is_none() {
            tracing::warn!(path = %path.display(), "a kept result is damaged, or of another version; it is removed");
            self.forget(key);
            return None;
        }
        // Only the order of use is lost where this fails.
        let _ = file.set_modified(SystemTime::now());
        if let Some(index) = self.index().as_mut() {
            index.insert(*key, length);
        }
        found
    }

    /// Removes a result.
    pub fn forget(&self, key: &Digest) {
        self.index().as_mut().map(|index| index.remove(key));
        let _ = fs::remove_file(self.path(key));
    }

    /// Keeps a result.
    ///
    /// # Errors
    ///
    /// Returns what the file system returned; nothing is left behind.
    pub fn write(&self, key: &Digest, answer: &FilesAnswer, origin: &Origin) -> io::Result<()> {
        let max_bytes = self.max_bytes.load(Ordering::Relaxed);
        let bytes = entry::encode(answer, origin);
        let path = self.path(key);
        let folder = path.parent().unwrap_or(&self.directory);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        if bytes.len() as u64 > max_bytes / SHARE_MAX {
            return Err(io::Error::other("it is too large for the cache"));
        }
        if fs2::available_space(folder)? < FREE_MIN_BYTES {
            return Err(io::Error::other("the disk is nearly full"));
        }
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
        file.write_all(&bytes)?;
        file.persist(&path).map_err(|error| error.error)?;
        let surplus = {
            let mut index = self.index();
            let index = index.get_or_insert_with(|| scan(&self.directory));
            index.insert(*key, bytes.len() as u64);
            index.shrink(max_bytes)
        };
        surplus.iter().for_each(|key| drop(fs::remove_file(self.path(key))));
        Ok(())
    }

    fn path(&self, key: &Digest) -> PathBuf {
        let hex = key.to_string();
        let (folder, name) = hex.split_at(2);
        self.directory.join(folder).join(name)
    }

    /// A thread that panicked left a whole index: each change is one call.
    fn index(&self) -> MutexGuard<'_, Option<Lru<Digest>>> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is there. What dead brokers left unfinished is removed.
fn scan(directory: &Path) -> Lru<Digest> {
    let mut found: Vec<(i64, Digest, u64)> = Vec::new();
    for folder in fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok) {
        let Some(prefix) = folder.file_name().to_str().map(str::to_owned) else { continue };
        for file in fs::read_dir(folder.path()).into_iter().flatten().filter_map(Result::ok) {
            let (Some(name), Ok(meta)) = (file.file_name().to_str().map(str::to_owned), file.metadata())
            else {
                continue;
            };
            match Digest::parse(&format!("{prefix}{name}")) {
                Some(key) => found.push((meta.mtime(), key, meta.len())),
                None if name.starts_with(".new-") && is_old(&meta) => drop(fs::remove_file(file.path())),
                None => {}
            }
        }
    }
    found.sort_unstable_by_key(|(modified, ..)| *modified);
    let mut index = Lru::default();
    found.into_iter().for_each(|(_, key, bytes)| index.insert(key, bytes));
    index
}

/// Whether nobody can be writing it any more.
fn is_old(meta: &fs::Metadata) -> bool {
    let age = meta.modified().ok().and_then(|then| SystemTime::now().duration_since(then).ok());
    age.is_some_and(|age| age.as_secs() > 3600)
}

#[cfg(test)]
mod tests {
    use super::super::entry::tests::{ORIGIN, answer};
    use super::*;

    fn key(number: u8) -> Digest {
        Digest::of(&[number])
    }

    fn open(directory: &Path, max_bytes: u64) -> Disk {
        let disk = Disk::new(directory.join("results"));
        disk.bound(max_bytes);
        disk
    }

    #[test]
    fn a_result_is_there_for_the_next_broker_too() {
        let directory = tempfile::tempdir().expect("a directory");
        let disk = open(directory.path(), 1 << 20);
        assert!(disk.read(&key(1)).is_none());
        disk.write(&key(1), &answer(b"one"), &ORIGIN).expect("kept");
        assert_eq!(open(directory.path(), 1 << 20).read(&key(1)).expect("there").0.packed, b"one");
    }

    #[test]
    fn what_was_used_longest_ago_makes_room() {
        let directory = tempfile::tempdir().expect("a directory");
        let disk = open(directory.path(), 10_000);
        for number in 0..12 {
            disk.write(&key(number), &answer(&[number; 1000]), &ORIGIN).expect("kept");
            let _ = disk.read(&key(0));
        }
        let there: Vec<u8> = (0..12).filter(|number| disk.read(&key(*number)).is_some()).collect();
        assert!(there.contains(&0) && there.contains(&11) && !there.contains(&1), "{there:?}");
    }

    #[test]
    fn a_damaged_result_is_no_result_and_goes() {
        let directory = tempfile::tempdir().expect("a directory");
        let disk = open(directory.path(), 1 << 20);
        disk.write(&key(1), &answer(b"one"), &ORIGIN).expect("kept");
        let path = disk.path(&key(1));
        let mut bytes = fs::read(&path).expect("there");
        bytes[20] ^= 1;
        fs::write(&path, bytes).expect("written");
        assert!(disk.read(&key(1)).is_none() && !path.exists());
    }

    #[test]
    fn a_result_larger_than_its_share_is_not_kept() {
        let directory = tempfile::tempdir().expect("a directory");
        let disk = open(directory.path(), 8000);
        assert!(disk.write(&key(1), &answer(&[0; 2000]), &ORIGIN).is_err());
        assert!(disk.read(&key(1)).is_none());
    }
}
