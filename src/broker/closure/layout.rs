//! Collects files, links and folders, each under its plain path.
//!
//! A path is walked as the kernel walks it, and every link on the way becomes an entry of its own:
//! so what is laid out from the entries leads as it leads here, `..` behind a link included.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::NotClosed;
use super::digests::Digests;
use crate::broker::stamp::Stamp;
use crate::common::bytes::Bytes;
use crate::common::inputs::{Entry, EntryKind, FileEntry, is_plain_path};
use crate::common::limits::INPUT_MAX_BYTES;

/// Links on one path, as the kernel has it (path_resolution(7)).
const LINKS_MAX: usize = 40;
/// Names of one folder, and entries of one closure: many times what compilers have.
pub const NAMES_MAX: usize = 16 << 10;

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A plain file, by its plain path.
    File(PathBuf),
    /// A folder, by its plain path.
    Folder(PathBuf),
}

impl Found {
    /// Its plain path.
    pub fn path(&self) -> &Path {
        match self {
            Found::File(path) | Found::Folder(path) => path,
        }
    }
}

/// What lies at a plain path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    File { stamp: Stamp, executable: bool },
    Link(Bytes),
    Folder,
}

/// A path, and how what it led to looked; `None` if that was nothing.
pub type Watched = (PathBuf, Option<Stamp>);

/// What was collected so far.
#[derive(Default)]
pub struct Layout {
    parts: BTreeMap<Bytes, Part>,
    watched: BTreeMap<PathBuf, Option<Stamp>>,
}

impl Layout {
    /// Adds what `path` leads to, with everything on the way; `None` when it leads nowhere: what comes there
    /// later counts.
    ///
    /// # Errors
    ///
    /// [`NotClosed`] for what can be neither sent nor left out.
    pub fn add(&mut self, path: &Path) -> Result<Option<Found>, NotClosed> {
        let mut walk = Walk::default();
        let Some(metadata) = walk.to(path)? else {
            self.watched.insert(path.to_owned(), None);
            return Ok(None);
        };
        let at = if walk.at.is_empty() { b"/".to_vec() } else { walk.at };
        let at = PathBuf::from(Bytes(at).as_os_str());
        let found = if metadata.is_dir() { Found::Folder(at) } else { Found::File(at) };
        if let Found::File(_) = found {
            if metadata.size() > INPUT_MAX_BYTES {
                return Err(NotClosed::TooLarge { path: Bytes::from(path) });
            }
            self.watched.insert(path.to_owned(), Some(Stamp::of(&metadata)));
        }
        self.parts.extend(walk.parts);
        if self.parts.len() > NAMES_MAX {
            return Err(NotClosed::TooMany { path: Bytes::from(path) });
        }
        Ok(Some(found))
    }

    /// As [`Layout::add`], of a file whose presence counts and whose contents do not.
    ///
    /// # Errors
    ///
    /// As [`Layout::add`].
    pub fn mark(&mut self, path: &Path) -> Result<Option<Found>, NotClosed> {
        let known = self.watched.contains_key(path);
        let found = self.add(path)?;
        if !known && found.is_some() {
            self.watched.remove(path);
        }
        Ok(found)
    }

    /// Adds the file that `path` leads to, and gives its plain path.
    ///
    /// # Errors
    ///
    /// [`NotClosed::Missing`] when there is none.
    pub fn file(&mut self, path: &Path) -> Result<PathBuf, NotClosed> {
        match self.add(path)? {
            Some(Found::File(real)) => Ok(real),
            _ => Err(NotClosed::Missing { path: Bytes::from(path) }),
        }
    }

    /// Adds the file that `path` leads to, if there is one.
    ///
    /// # Errors
    ///
    /// As [`Layout::add`].
    pub fn file_if_there(&mut self, path: &Path) -> Result<Option<PathBuf>, NotClosed> {
        if !path.is_file() {
            return Ok(None);
        }
        self.file(path).map(Some)
    }

    /// The names in the folder to which `path` leads, sorted; none if it is not there. A name that
    /// is added or removed later counts.
    ///
    /// # Errors
    ///
    /// [`NotClosed::TooMany`].
    pub fn list(&mut self, path: &Path) -> Result<Vec<PathBuf>, NotClosed> {
        self.watch(path);
        let Ok(entries) = fs::read_dir(path) else { return Ok(Vec::new()) };
        let mut names = Vec::new();
        for entry in entries.flatten() {
            if names.len() >= NAMES_MAX {
                return Err(NotClosed::TooMany { path: Bytes::from(path) });
            }
            names.push(entry.path());
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Whatever changes at `path` counts.
    pub fn watch(&mut self, path: &Path) {
        self.watched.insert(path.to_owned(), Stamp::at(path));
    }

    /// The entries, sorted by path, and what to look at to know that they still stand.
    ///
    /// # Errors
    ///
    /// [`NotClosed`] when a file cannot be read.
    pub fn finish(self, digests: &Digests) -> Result<(Vec<Entry>, Vec<Watched>), NotClosed> {
        let files: Vec<(&Path, Stamp)> = self
            .parts
            .iter()
            .filter_map(|(path, part)| match part {
                Part::File { stamp, .. } => Some((path.as_path(), *stamp)),
                _ => None,
            })
            .collect();
        let mut read = digests.of(&files)?.into_iter();
        let mut entries = Vec::with_capacity(self.parts.len());
        for (path, part) in &self.parts {
            let kind = match part {
                Part::Folder => EntryKind::Folder,
                Part::Link(target) => EntryKind::Link { target: target.clone() },
                Part::File { stamp, executable } => {
                    let digest = read.next().ok_or_else(|| NotClosed::Changing { path: path.clone() })?;
                    let (size, executable) = (stamp.size, *executable);
                    EntryKind::File(FileEntry { digest, size, executable, twin: 0, age: 0 })
                }
            };
            entries.push(Entry { path: path.clone(), kind });
        }
        Ok((entries, self.watched.into_iter().collect()))
    }
}

/// A way through the file system.
#[derive(Default)]
struct Walk {
    /// Where it is; empty for the root.
    at: Vec<u8>,
    parts: Vec<(Bytes, Part)>,
    links: usize,
}

impl Walk {
    /// Goes where `path` leads; `None` when it leads nowhere.
    fn to(&mut self, path: &Path) -> Result<Option<Metadata>, NotClosed> {
        let path = Bytes::from(path);
        if path.first() != Some(&b'/') || path.contains(&0) {
            return Err(NotClosed::Missing { path });
        }
        let split = |path: &[u8]| path.split(|&byte| byte == b'/').map(<[u8]>::to_vec).collect::<Vec<_>>();
        let mut ahead: VecDeque<Vec<u8>> = split(&path).into();
        let mut last: Option<Metadata> = None;
        while let Some(name) = ahead.pop_front() {
            if last.as_ref().is_some_and(|last| !last.is_dir()) {
                return Ok(None);
            }
            match &name[..] {
                b"" | b"." => continue,
                b".." => {
                    let parent = self.at.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
                    self.at.truncate(parent);
                    continue;
                }
                _ => {}
            }
            let next = [&self.at[..], b"/", &name].concat();
            let Some(metadata) = look(&next)? else { return Ok(None) };
            if metadata.is_symlink() {
                let Some(target) = self.link(&next)? else { return Ok(None) };
                if target.first() == Some(&b'/') {
                    self.at.clear();
                }
                for name in split(&target).into_iter().rev() {
                    ahead.push_front(name);
                }
                continue;
            }
            self.arrive(next, &metadata)?;
            last = Some(metadata);
        }
        // A path that ends in `..` or `/`: where it is, is a folder.
        match last {
            Some(last) if !last.is_dir() => Ok(Some(last)),
            _ => look(if self.at.is_empty() { b"/" } else { &self.at }),
        }
    }

    /// Records the link at `path` and gives its target; `None` for one too many.
    fn link(&mut self, path: &[u8]) -> Result<Option<Bytes>, NotClosed> {
        self.links += 1;
        if self.links > LINKS_MAX {
            return Ok(None);
        }
        let path = Bytes::from(path);
        let target = fs::read_link(path.as_path()).map(Bytes::from_path);
        let target = target.map_err(|_| NotClosed::Changing { path: path.clone() })?;
        self.record(path, Part::Link(target.clone()))?;
        Ok(Some(target))
    }

    /// Records the file or folder at `path`, and goes there.
    fn arrive(&mut self, path: Vec<u8>, metadata: &Metadata) -> Result<(), NotClosed> {
        let part = if metadata.is_dir() {
            Part::Folder
        } else if metadata.is_file() {
            Part::File { stamp: Stamp::of(metadata), executable: metadata.mode() & 0o111 != 0 }
        } else {
            return Err(NotClosed::Special { path: Bytes(path) });
        };
        self.at.clone_from(&path);
        self.record(Bytes(path), part)
    }

    fn record(&mut self, path: Bytes, part: Part) -> Result<(), NotClosed> {
        if !is_plain_path(&path) {
            return Err(NotClosed::Missing { path });
        }
        self.parts.push((path, part));
        Ok(())
    }
}

/// What lies at a path, links not followed.
fn look(path: &[u8]) -> Result<Option<Metadata>, NotClosed> {
    let path = Bytes::from(path);
    match fs::symlink_metadata(path.as_path()) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) => match error.kind() {
            // What this user cannot see, his compiler cannot see either.
            ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::PermissionDenied => Ok(None),
            _ => Err(NotClosed::Unreadable { path, why: error.to_string() }),
        },
    }
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
