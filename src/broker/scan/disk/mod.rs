//! The file system as the scanner sees it, remembered while it stands still.
//!
//! A name is looked up in its directory's listing, and a file's bytes are read once. Changes are
//! learned from notifications ([`crate::broker::lookout::watch`]): of the directories on the way to what was looked up,
//! of their names, and of the files. Where these cannot be trusted (other file systems than a few
//! known ones, no watch to be had, links to files) each scan looks once: what was remembered stands
//! as long as device, inode, size, modification and change time stand, and what changed within
//! the last moments is not remembered, since the clock that stamps files is coarse.
//!
//! Each scan begins with [`Disk::begin`] and ends with [`Disk::catch_up`]: what changed in between shows
//! in [`Files::state`].

mod contents;
mod directory;
mod file;
mod way;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::contents::Contents;
use self::directory::{Directory, DirectoryId};
use self::file::{FileEntry, FileId};
use super::files::{Answer, Content, Files, Trail};
use super::symbols::{QuickMap, Sym, Symbols};
use crate::broker::lookout::watch::{Event, Fate, Watches};
use crate::broker::stamp::Stamp;
use crate::common::toolchain::Digest;

/// Whom a watch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watched {
    Directory(DirectoryId),
    File(FileId),
}

/// Directories in the order of a search, and when anything along them last changed.
#[derive(Debug)]
struct TrailEntry {
    directories: Box<[DirectoryId]>,
    state: u64,
    /// `now` and `scan` when `state` was found out.
    at: (u64, u64),
    /// Whether all of it tells of changes, and how many links were known then that hang.
    is_sure: bool,
    hung: u64,
}

/// Watches that one asks the kernel for: more would leave none to the user's other programs.
const WATCHES_MAX: usize = 200_000;

/// What is remembered, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskReport {
    /// Directories.
    pub directories: usize,
    /// Files.
    pub files: usize,
    /// Watches that the kernel keeps.
    pub watches: usize,
    /// Bytes of files that are kept.
    pub size: usize,
}

/// A cached view of the file system.
#[derive(Debug)]
pub struct Disk {
    /// Grows with each scan.
    scan: u64,
    /// Grows with each change.
    now: u64,
    /// What was checked in an earlier scan than this must be checked once more.
    doubted: u64,
    watches: Option<Watches>,
    watches_max: usize,
    /// Trusts no file system to tell of changes, by notifications or by the times of directories.
    is_wary: bool,
    /// Grows with each link that is found to lead to no file.
    hung: u64,
    watched: QuickMap<i32, Vec<Watched>>,
    directories: Vec<Directory>,
    by_path: QuickMap<Box<[u8]>, DirectoryId>,
    files: Vec<FileEntry>,
    by_name: QuickMap<(DirectoryId, Sym), FileId>,
    /// All names ever asked for: events about others are of no interest.
    names: Symbols,
    name_bytes: usize,
    trails: Vec<TrailEntry>,
    trail_numbers: QuickMap<Box<[DirectoryId]>, Trail>,
    trail_bytes: usize,
    contents: Contents,
}

impl Default for Disk {
    fn default() -> Self {
        Disk {
            scan: 1,
            now: 1,
            doubted: 0,
            watches: Watches::new(),
            watches_max: WATCHES_MAX,
            is_wary: false,
            hung: 0,
            watched: QuickMap::default(),
            directories: Vec::new(),
            by_path: QuickMap::default(),
            files: Vec::new(),
            by_name: QuickMap::default(),
            names: Symbols::default(),
            name_bytes: 0,
            trails: Vec::new(),
            trail_numbers: QuickMap::default(),
            trail_bytes: 0,
            contents: Contents::default(),
        }
    }
}

impl Disk {
    /// A view without notifications: every scan looks at everything.
    pub fn without_notifications() -> Self {
        Disk { watches: None, ..Disk::default() }
    }

    /// Begins a scan.
    pub fn begin(&mut self) {
        self.scan += 1;
        self.catch_up();
    }

    /// Takes in what changed on disk up to now.
    pub fn catch_up(&mut self) {
        let Some(mut watches) = self.watches.take() else { return };
        watches.drain(&mut |event| self.event(event));
        self.watches = Some(watches);
    }

    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Anything => {
                // What this very scan has looked at is doubtful, too.
                self.scan += 1;
                self.doubted = self.scan;
                self.now += 1;
                self.directories.iter_mut().for_each(|directory| directory.is_dirty = true);
            }
            Event::Name { watch, name, fate } => {
                let asked = self.names.find(name);
                for watched in self.watched.get(&watch).cloned().unwrap_or_default() {
                    if let Watched::Directory(id) = watched {
                        let directory = &mut self.directories[id as usize];
                        directory.note(name, fate);
                        match asked {
                            Some(name) => self.name_changed(id, name),
                            None if directory.tells_all && fate != Fate::Stayed => self.touch(id),
                            None => {}
                        }
                    }
                }
            }
            Event::Itself { watch } => self.changed_itself(watch),
            Event::Gone { watch } => {
                self.changed_itself(watch);
                self.watched.remove(&watch);
            }
        }
    }

    fn changed_itself(&mut self, watch: i32) {
        for watched in self.watched.get(&watch).cloned().unwrap_or_default() {
            match watched {
                Watched::Directory(id) => {
                    self.now += 1;
                    self.directories[id as usize].is_dirty = true;
                }
                Watched::File(id) => {
                    self.files[id as usize].is_stale = true;
                    let directory = self.files[id as usize].directory;
                    self.touch(directory);
                }
            }
        }
    }

    fn name_changed(&mut self, directory: DirectoryId, name: Sym) {
        if let Some(&file) = self.by_name.get(&(directory, name)) {
            self.files[file as usize].is_stale = true;
        }
        self.touch(directory);
    }

    /// Something that was looked up in this directory may be otherwise now.
    fn touch(&mut self, directory: DirectoryId) {
        self.now += 1;
        self.directories[directory as usize].state = self.now;
    }

    /// Adds a watch for something that has none; `None` if there is none to be had.
    fn watch(&mut self, path: &[u8], watched: Watched) -> Option<i32> {
        let watches = self.watches.as_ref().filter(|_| self.watched.len() < self.watches_max)?;
        let watch = match watched {
            Watched::Directory(_) => watches.directory(path)?,
            Watched::File(_) => watches.file(path)?,
        };
        let list = self.watched.entry(watch).or_default();
        if !list.contains(&watched) {
            list.push(watched);
        }
        Some(watch)
    }

    fn unwatch(&mut self, watch: i32, watched: Watched) {
        let Some(list) = self.watched.get_mut(&watch) else { return };
        list.retain(|&one| one != watched);
        if list.is_empty() {
            self.watched.remove(&watch);
            if let Some(watches) = &self.watches {
                watches.remove(watch);
            }
        }
    }

    /// The digest of a content: of the very bytes that were scanned.
    pub fn digest(&self, content: Content) -> Digest {
        self.contents.digest(content)
    }

    /// The length of a content, in bytes.
    pub fn length(&self, content: Content) -> u64 {
        self.contents.length(content)
    }

    /// The bytes of that digest, if they are in memory or still on disk.
    pub fn bytes_of(&self, digest: &Digest) -> Option<Arc<[u8]>> {
        self.contents.bytes(self.contents.number(digest)?)
    }

    /// Gives up the bytes that are kept.
    pub fn release(&mut self) {
        self.contents.keep_at_most(0);
    }

    /// What is remembered, in numbers.
    pub fn report(&self) -> DiskReport {
        DiskReport {
            directories: self.directories.len(),
            files: self.files.len(),
            watches: self.watched.len(),
            size: self.size(),
        }
    }

    /// Makes events about a name count.
    pub fn interest(&mut self, name: &[u8]) {
        self.names.intern(name);
    }

    /// Makes events about any name in a directory count.
    pub fn tell_all(&mut self, path: &[u8]) {
        let id = self.directory(path);
        self.directories[id as usize].tells_all = true;
    }

    /// Memory in use, in bytes, nearly.
    pub fn size(&self) -> usize {
        let watches = self.watched.len() * 64;
        let trails = self.trails.len() * (2 * size_of::<TrailEntry>() + 40) + self.trail_bytes;
        self.files.len() * (size_of::<FileEntry>() + 24)
            + self.directories.len() * (size_of::<Directory>() + 200)
            + self.name_bytes
            + self.names.size()
            + self.contents.size()
            + watches
            + trails
    }

    /// What is at an absolute path, and how it looked when it was read.
    pub fn look_at(&mut self, path: &[u8]) -> (Answer, Option<Stamp>) {
        let Some((directory, name)) = split(path) else { return (Answer::Directory, None) };
        let id = self.directory(directory);
        let answer = self.look_in(id, name);
        let sym = self.names.intern(name);
        (answer, self.by_name.get(&(id, sym)).and_then(|&file| self.files[file as usize].stamp))
    }
}

/// A path's directory, with its slash, and its last name; `None` if there is no name in it.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let slash = path.iter().rposition(|&byte| byte == b'/')?;
    let name = &path[slash + 1..];
    (!matches!(name, b"" | b"." | b"..")).then_some((&path[..=slash], name))
}

impl Files for Disk {
    fn trail(&mut self, directories: &[&[u8]]) -> Trail {
        let directories: Box<[DirectoryId]> = directories.iter().map(|path| self.directory(path)).collect();
        let (new, length) = (self.trails.len() as Trail, directories.len());
        let trail = *self.trail_numbers.entry(directories.clone()).or_insert(new);
        if trail == new {
            self.trail_bytes += 2 * length * size_of::<DirectoryId>();
            self.trails.push(TrailEntry { directories, state: 0, at: (0, 0), is_sure: false, hung: 0 });
        }
        trail
    }

    fn now(&self) -> u64 {
        self.now
    }

    fn state(&mut self, trail: Trail) -> u64 {
        let entry = &self.trails[trail as usize];
        let (now, scan) = entry.at;
        if now == self.now
            && (scan == self.scan || (entry.is_sure && entry.hung == self.hung && scan >= self.doubted))
        {
            return entry.state;
        }
        let directories = entry.directories.clone();
        let (mut state, mut is_sure) = (0, true);
        for &id in &directories {
            state = state.max(self.freshen(id));
            is_sure &= self.directories[id as usize].tells();
        }
        let at = (self.now, self.scan);
        let entry = &mut self.trails[trail as usize];
        (entry.state, entry.at, entry.is_sure, entry.hung) = (state, at, is_sure, self.hung);
        state
    }

    fn look(&mut self, trail: Trail, at: usize, name: &[u8]) -> Answer {
        let id = self.trails[trail as usize].directories[at];
        self.look_in(id, name)
    }

    fn bytes(&mut self, content: Content) -> Option<Arc<[u8]>> {
        self.contents.bytes(content)
    }

    fn bytes_at(&mut self, content: Content, path: &[u8]) -> Option<Arc<[u8]>> {
        self.contents.bytes_at(content, path)
    }

    fn real_path(&mut self, path: &[u8]) -> Option<Arc<[u8]>> {
        Some(self.way(path)?.real)
    }
}
