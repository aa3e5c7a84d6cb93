//! Files that this machine has anyway: equal compilers and headers need no transfer.
//!
//! A client that names a file of a system, by its path and digest, most often names one that lies at
//! the same path here. If its contents are the same, the store gets a copy of it. Only files that
//! anybody here may read are looked at, and only where systems keep theirs.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};

use crate::common::bytes::Bytes;
use crate::common::inputs::FileEntry;
use crate::common::toolchain::Digest;
use crate::remote::stamp::Stamp;
use crate::remote::store::{Key, Store, digest_of};
use crate::remote::view::catalogue::Known;

/// Where systems keep compilers and headers.
const PLACES: [&[u8]; 7] =
    [b"/usr/", b"/lib/", b"/lib32/", b"/lib64/", b"/bin/", b"/opt/", b"/etc/alternatives/"];

/// Digests that are remembered; a whole system of headers is some tens of thousands.
const REMEMBERED_MAX: usize = 100_000;

/// What this machine's own files are, as far as clients asked.
#[derive(Debug, Default)]
pub struct Adopter {
    digests: Mutex<HashMap<Bytes, (Stamp, Digest)>>,
}

impl Adopter {
    /// Puts a file into the store if this machine has it; whether it did.
    pub fn adopt(&self, known: &Known, store: &Store) -> bool {
        let Some(file) = known.entry.kind.file() else { return false };
        let path = &known.entry.path;
        PLACES.iter().any(|place| path.starts_with(place)) && self.take(path, file, store).unwrap_or(false)
    }

    fn take(&self, path: &Bytes, wanted: &FileEntry, store: &Store) -> io::Result<bool> {
        let file = File::from(open(path)?);
        let meta = file.metadata()?;
        if !meta.is_file() || meta.len() != wanted.size || meta.mode() & 0o004 == 0 {
            return Ok(false);
        }
        let stamp = Stamp::from(&meta);
        let known = self.digests.lock().unwrap_or_else(PoisonError::into_inner).get(path).copied();
        if known.is_some_and(|(then, digest)| then == stamp && digest != wanted.digest) {
            return Ok(false);
        }
        // What is taken is what was digested, whatever happens to the file meanwhile.
        let mut copy = store.incoming()?;
        io::copy(&mut &file, &mut copy)?;
        let digest = digest_of(copy.reopen()?)?;
        self.remember(path, stamp, digest);
        if digest != wanted.digest {
            return Ok(false);
        }
        store.commit(copy, &Key::from(wanted))?;
        Ok(true)
    }

    fn remember(&self, path: &Bytes, stamp: Stamp, digest: Digest) {
        let mut digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        if digests.len() >= REMEMBERED_MAX {
            digests.clear();
        }
        digests.insert(path.clone(), (stamp, digest));
    }
}

/// Opens a file of this machine; not through links, which are entries of their own, and not a pipe.
fn open(path: &Bytes) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(openat2(CWD, path.as_path(), flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::common::inputs::{Entry, EntryKind};
    use crate::remote::view::catalogue::Catalogue;

    fn known(path: &str, digest: Digest, size: u64) -> Arc<Known> {
        let file = FileEntry { digest, size, executable: false, twin: 0, age: 0 };
        Catalogue::default().know(Entry { path: path.into(), kind: EntryKind::File(file) })
    }

    #[test]
    fn a_file_of_the_system_is_taken_when_it_is_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), 1 << 20).unwrap();
        let path = "/usr/include/stdio.h";
        let (adopter, text) = (Adopter::default(), std::fs::read(path).unwrap());
        let same = known(path, Digest::of(&text), text.len() as u64);
        let other = known(path, Digest::of(b"other"), text.len() as u64);
        for _ in 0..2 {
            assert!(!adopter.adopt(&other, &store));
        }
        assert!(!store.has(&same.key().unwrap()));
        assert!(adopter.adopt(&same, &store));
        assert!(store.has(&same.key().unwrap()));
    }

    #[test]
    fn other_files_are_not_looked_at() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store"), 1 << 20).unwrap();
        let path = directory.path().join("secret");
        std::fs::write(&path, b"secret").unwrap();
        let adopter = Adopter::default();
        assert!(!adopter.adopt(&known(&path.display().to_string(), Digest::of(b"secret"), 6), &store));
        assert!(!adopter.adopt(&known("/usr/include", Digest::of(b""), 4096), &store));
    }
}
