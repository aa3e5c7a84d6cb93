//! A tree on disk that holds exactly one set: hard links into the store, symbolic links, folders.
//!
//! A farm is patched from one set to the next: what is not in the new one is removed, what is new
//! is linked, and the rest is not looked at. Folders that are not needed are parked beside the tree,
//! empty as they are: to move one takes a tenth of the time that a journal takes to make one. So nobody but [`Farm`] ever writes in one; jobs see
//! it through mounts that cannot be written.
//!
//! No path is followed through a symbolic link: each folder on the way to an entry has been made
//! as a folder, or the set is refused as one that contradicts itself.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{
    AtFlags, Mode, RenameFlags, Timespec, Timestamps, mkdirat, renameat_with, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::catalogue::{Known, Set, difference};
use super::seals::Seals;
use super::tree::{Folders, parent};
use crate::common::inputs::EntryKind;
use crate::common::inputs::PRIVATE;
use crate::remote::root::is_file_at;
use crate::remote::sandbox::folders::Tree;
use crate::remote::store::{Key, Store, is_no_link};

/// Devices that a compile may want.
pub const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];

/// Links that programs expect beside them.
const DEVICE_LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// Folders that are parked; the largest projects have some thousand.
const PARKED_MAX: usize = 4096;

/// Why a farm does not hold a set.
#[derive(Debug, thiserror::Error)]
pub enum FarmError {
    /// This file is not in the store any more.
    #[error("a file went out of the store")]
    Lost(Key),
    /// No tree can hold this set.
    #[error("the inputs contradict each other at {0}")]
    Contradiction(String),
    /// The file system refused.
    #[error("cannot lay out the inputs: {0}")]
    Disk(#[from] io::Error),
}

/// A tree, used by one job at a time.
#[derive(Debug)]
pub struct Farm {
    /// Holds the tree, and the parked folders.
    place: PathBuf,
    path: PathBuf,
    root: File,
    /// Where empty folders are parked, and under which numbers.
    parking: File,
    parked: Vec<u32>,
    set: Set,
    folders: Folders,
    seals: Seals,
}

impl Drop for Farm {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.place)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.place.display(), %error, "a tree stays behind");
        }
    }
}

impl Farm {
    /// A tree in which there is nothing but what every job has.
    ///
    /// # Errors
    ///
    /// Returns what the file system returns.
    pub fn new(place: PathBuf) -> io::Result<Self> {
        let (path, parking) = (Farm::path_in(&place), place.join("parked"));
        for folder in [&place, &path, &parking] {
            fs::DirBuilder::new().mode(0o755).create(folder)?;
        }
        for folder in ["proc", "dev", PRIVATE.trim_start_matches('/')] {
            fs::DirBuilder::new().mode(0o755).create(path.join(folder))?;
        }
        for device in DEVICES {
            File::create_new(path.join("dev").join(device))?;
        }
        for (name, target) in DEVICE_LINKS {
            std::os::unix::fs::symlink(target, path.join("dev").join(name))?;
        }
        let (root, parking) = (File::open(&path)?, File::open(&parking)?);
        let (set, mut folders) = (Arc::new([]), Folders::default());
        // It is there for good, and so may others be in it.
        folders.hold(b"dev", &mut Vec::new());
        let mut seals = Seals::default();
        [&b""[..], b"dev"].into_iter().for_each(|folder| seals.open(folder));
        seals.close(&root);
        Ok(Farm { place, path, root, parking, parked: Vec::new(), set, folders, seals })
    }

    /// Where the tree of a farm is that is made there.
    pub fn path_in(place: &Path) -> PathBuf {
        place.join("tree")
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is where it was made; somebody may have removed it.
    pub fn is_there(&self) -> bool {
        is_file_at(&self.root, &self.path) && is_file_at(&self.parking, &self.place.join("parked"))
    }

    /// Whether it holds what it was made to hold, as far as names go; somebody may have changed it.
    pub fn is_whole(&self) -> bool {
        self.is_there() && self.seals.hold(&self.root)
    }

    /// What it holds.
    pub fn set(&self) -> &Set {
        &self.set
    }

    /// Makes it hold another set. After an error it is of no use any more.
    ///
    /// # Errors
    ///
    /// Returns [`FarmError`] with what is in the way.
    pub fn hold(&mut self, set: &Set, store: &Store) -> Result<(), FarmError> {
        let changes = difference(&self.set, set);
        for known in &changes.gone {
            self.remove(known)?;
        }
        for known in &changes.fresh {
            match self.add(known, store) {
                // Where a folder was that is not needed any more.
                Err(FarmError::Contradiction(_)) => {
                    self.clear()?;
                    self.add(known, store)?;
                }
                done => done?,
            }
        }
        self.clear()?;
        self.seals.close(&self.root);
        self.set = Arc::clone(set);
        Ok(())
    }

    fn remove(&mut self, known: &Known) -> Result<(), FarmError> {
        let path = relative(known);
        if is_reserved(path) {
            return Ok(());
        }
        if known.entry.kind == EntryKind::Folder {
            self.folders.release(path);
            return Ok(());
        }
        self.seals.open(parent(path));
        unlinkat(&self.root, path, AtFlags::empty()).map_err(io::Error::from)?;
        self.folders.release(parent(path));
        Ok(())
    }

    fn add(&mut self, known: &Known, store: &Store) -> Result<(), FarmError> {
        let path = relative(known);
        if is_reserved(path) {
            // These are there.
            if known.entry.kind == EntryKind::Folder && matches!(path, b"dev" | b"proc") {
                return Ok(());
            }
            return Err(FarmError::Contradiction(known.entry.path.to_text()));
        }
        self.seals.open(parent(path));
        match &known.entry.kind {
            EntryKind::Folder => self.folder(path),
            EntryKind::Link { target } => {
                self.folder(parent(path))?;
                self.named(parent(path), known, symlinkat(&target[..], &self.root, path).map_err(Into::into))
            }
            EntryKind::File(file) => {
                self.folder(parent(path))?;
                let key = Key::from(file);
                let linked = store.link(&key, self.root.as_fd(), path);
                let linked = match linked {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        store.lost(&key);
                        return Err(FarmError::Lost(key));
                    }
                    Err(error) if is_no_link(&error) => self.copy(&key, path, store, None),
                    linked => linked,
                };
                self.named(parent(path), known, linked)
            }
            EntryKind::Dated { file, modified_s } => {
                self.folder(parent(path))?;
                let key = Key::from(file);
                let copied = self.copy(&key, path, store, Some(*modified_s));
                if copied.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
                    store.lost(&key);
                    return Err(FarmError::Lost(key));
                }
                self.named(parent(path), known, copied)
            }
        }
    }

    /// One more reason for a folder, which is made if need be.
    fn folder(&mut self, path: &[u8]) -> Result<(), FarmError> {
        let mut make = Vec::new();
        self.folders.hold(path, &mut make);
        for folder in &make {
            if let Err(error) = self.make_folder(folder) {
                // Those that were not made are none.
                self.folders.forget(&make, folder);
                return Err(refused(error.into(), folder));
            }
        }
        Ok(())
    }

    fn make_folder(&mut self, path: &[u8]) -> rustix::io::Result<()> {
        [parent(path), path].into_iter().for_each(|folder| self.seals.open(folder));
        let Some(number) = self.parked.last() else {
            return mkdirat(&self.root, path, Mode::from_raw_mode(0o755));
        };
        let parked = number.to_string();
        renameat_with(&self.parking, parked, &self.root, path, RenameFlags::NOREPLACE)?;
        self.parked.pop();
        Ok(())
    }

    /// What became of giving a thing its name in a folder.
    fn named(&mut self, folder: &[u8], known: &Known, done: io::Result<()>) -> Result<(), FarmError> {
        done.map_err(|error| {
            self.folders.release(folder);
            refused(error, &known.entry.path)
        })
    }

    /// Where a file has as many links as the file system allows, or may have none; or a time of its own,
    /// which links would share.
    fn copy(&self, key: &Key, path: &[u8], store: &Store, modified_s: Option<i64>) -> io::Result<()> {
        let mut from = store.read(key)?;
        let meta = from.metadata()?;
        let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::EXCL | rustix::fs::OFlags::WRONLY;
        let mode = Mode::from_raw_mode(if key.executable { 0o555 } else { 0o444 });
        let into = rustix::fs::openat(&self.root, path, flags | rustix::fs::OFlags::CLOEXEC, mode)?;
        let mut into = File::from(into);
        io::copy(&mut from, &mut into)?;
        let Some(seconds) = modified_s else { return into.set_modified(meta.modified()?) };
        let at = Timespec { tv_sec: seconds, tv_nsec: 0 };
        let times = Timestamps { last_access: at, last_modification: at };
        rustix::fs::futimens(&into, &times).map_err(io::Error::from)
    }

    fn clear(&mut self) -> io::Result<()> {
        for folder in self.folders.clear() {
            [parent(&folder), &folder].into_iter().for_each(|folder| self.seals.open(folder));
            let number = self.parked.len() as u32;
            let park =
                |name| renameat_with(&self.root, &folder[..], &self.parking, name, RenameFlags::NOREPLACE);
            // Not every file system can move so.
            if self.parked.len() < PARKED_MAX && park(number.to_string()).is_ok() {
                self.parked.push(number);
            } else {
                unlinkat(&self.root, &folder[..], AtFlags::REMOVEDIR)?;
            }
        }
        Ok(())
    }
}

impl Tree for Farm {
    fn has_folder(&self, path: &[u8]) -> bool {
        self.folders.has(inside(path))
    }

    fn link(&self, path: &[u8]) -> Option<Vec<u8>> {
        let target = rustix::fs::readlinkat(&self.root, inside(path), Vec::new()).ok()?;
        Some(target.into_bytes())
    }
}

/// An absolute path as seen from the tree's root.
fn inside(path: &[u8]) -> &[u8] {
    path.strip_prefix(b"/").unwrap_or(path)
}

/// Something is there already, or what is there is no folder: the set's fault. The rest is the disk's.
fn refused(error: io::Error, path: &[u8]) -> FarmError {
    let number = error.raw_os_error().map(Errno::from_raw_os_error);
    match number {
        Some(Errno::EXIST | Errno::NOTDIR | Errno::ISDIR) => {
            FarmError::Contradiction(String::from_utf8_lossy(path).into_owned())
        }
        _ => FarmError::Disk(error),
    }
}

fn relative(known: &Known) -> &[u8] {
    known.entry.path.strip_prefix(b"/").unwrap_or(&known.entry.path)
}

/// Whether a path is one that every farm has for its own purposes. Files that a client keeps in memory lie among
/// its devices.
fn is_reserved(path: &[u8]) -> bool {
    let mut names = path.split(|&byte| byte == b'/');
    let (first, second) = (names.next().unwrap_or(path), names.next());
    first == &PRIVATE.as_bytes()[1..] || first == b"proc" || first == b"dev" && second != Some(b"shm")
}

#[cfg(test)]
mod tests;
