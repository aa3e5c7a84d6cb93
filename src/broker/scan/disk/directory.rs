//! Directories by the path that leads to them, and the names in them.
//!
//! What a path leads to depends on every directory on the way and on every link among them, so
//! a directory knows the one before it and, if it is a link, the one that it means.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use super::super::symbols::{QuickMap, Sym};
use super::file::FileId;
use super::way::Way;
use super::{Disk, Watched};
use crate::broker::lookout::trust::{self, Trust};
use crate::broker::lookout::watch::Fate;
use crate::broker::stamp::Stamp;
use crate::common::bytes::Bytes;

/// Directories with more names than this are asked name by name.
const LISTING_MAX: usize = 100_000;
/// Directories below this depth are looked at in each scan; counting links, too.
const DEPTH_MAX: usize = 200;

/// A directory, as an index.
pub(super) type DirectoryId = u32;

/// What a directory lists: each name, and whether it is a symbolic link, if that is known.
type Names = QuickMap<Box<[u8]>, Option<bool>>;

/// What is at the path of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// Not looked at yet.
    Unknown,
    /// Nothing.
    Absent,
    /// Something else, of which compilers complain where a directory should be.
    Other,
    /// A directory in this state.
    There(Stamp),
    /// It cannot be told: its names are asked for one by one.
    Untold,
}

impl Presence {
    /// Whether there is no directory.
    pub fn is_none(self) -> bool {
        matches!(self, Presence::Absent | Presence::Other)
    }
}

#[derive(Debug)]
pub(super) struct Directory {
    /// Its path, ending in a slash; no `//` and no `/./` in it.
    pub path: Arc<[u8]>,
    pub parent: Option<DirectoryId>,
    /// What it means if it is a link.
    pub link: Option<(Arc<[u8]>, DirectoryId)>,
    depth: usize,
    pub presence: Presence,
    is_settled: bool,
    watch: Option<i32>,
    /// Notifications tell of every change of it and of the way to it.
    pub is_sure: bool,
    /// Something happened to it, or might have.
    pub is_dirty: bool,
    /// Names count that nobody asked for.
    pub tells_all: bool,
    /// Links in it that lead to no file: what they lead to may come anywhere, and nothing here tells.
    pub hanging: Vec<(FileId, Sym)>,
    /// When it, the way to it, or anything asked for in it last changed.
    pub state: u64,
    /// When its path last led to something else.
    pub turned: u64,
    /// When the way to it was last followed.
    followed: u64,
    /// `now` and `scan` when it was last made sure of.
    at: (u64, u64),
    /// The scan that last checked it, or found that it need not.
    checked: u64,
    /// The names in it; `None`: it is not listed, each name is asked for.
    pub names: Option<Names>,
    pub way: Option<(u64, Way)>,
}

impl Directory {
    /// Takes in what became of a name.
    pub fn note(&mut self, name: &[u8], fate: Fate) {
        let Some(names) = &mut self.names else { return };
        let is_there = match fate {
            Fate::Came => true,
            Fate::Went => false,
            Fate::MovedAway => {
                let path = Bytes([&self.path[..], name].concat());
                !fs::symlink_metadata(path.as_path()).is_err_and(|error| is_absent(&error))
            }
            Fate::Stayed => return,
        };
        match is_there {
            true => drop(names.insert(name.into(), None)),
            false => drop(names.remove(name)),
        }
    }

    /// Whether notifications tell of every change of what was asked for in it.
    pub fn tells(&self) -> bool {
        self.is_sure && self.hanging.is_empty()
    }

    /// Whether nothing tells of a change in it.
    pub fn is_asked_each_time(&self) -> bool {
        !self.is_sure && self.names.is_none() && !self.presence.is_none()
    }

    /// The last name in its path.
    fn name(&self) -> &[u8] {
        let path = &self.path[..self.path.len() - 1];
        &path[path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1)..]
    }
}

/// What was found at a directory's path.
struct Found {
    presence: Presence,
    link: Option<(Arc<[u8]>, DirectoryId)>,
    watch: Option<i32>,
    is_sure: bool,
    is_settled: bool,
    /// The names, if the directory was listed anew.
    names: Option<Option<Names>>,
}

impl Found {
    fn nothing(presence: Presence, is_sure: bool) -> Self {
        Found { presence, link: None, watch: None, is_sure, is_settled: true, names: None }
    }
}

impl Disk {
    /// The number of the directory that an absolute path leads to, there or not.
    pub(super) fn directory(&mut self, path: &[u8]) -> DirectoryId {
        if let Some(&id) = self.by_path.get(path) {
            return id;
        }
        let plain = plain(path);
        let id = match self.by_path.get(&plain[..]) {
            Some(&id) => id,
            None => self.add_directory(&plain),
        };
        self.by_path.insert(path.into(), id);
        id
    }

    /// Adds the directory of a plain path, and those on the way to it.
    fn add_directory(&mut self, path: &[u8]) -> DirectoryId {
        let mut parent: Option<DirectoryId> = None;
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        for end in slashes.map(|(at, _)| at + 1) {
            let path = &path[..end];
            let id = match self.by_path.get(path) {
                Some(&id) => id,
                None => self.push_directory(path, parent),
            };
            parent = Some(id);
        }
        parent.unwrap_or_default()
    }

    fn push_directory(&mut self, path: &[u8], parent: Option<DirectoryId>) -> DirectoryId {
        let depth = parent.map_or(0, |parent| self.directories[parent as usize].depth + 1);
        let entry = Directory {
            path: path.into(),
            parent: parent.filter(|_| depth <= DEPTH_MAX),
            link: None,
            depth,
            presence: Presence::Unknown,
            is_settled: false,
            watch: None,
            is_sure: false,
            is_dirty: false,
            tells_all: false,
            hanging: Vec::new(),
            state: 0,
            turned: 0,
            followed: 0,
            at: (0, 0),
            checked: 0,
            names: None,
            way: None,
        };
        // Its name is asked for, so that an event about it counts.
        self.names.intern(entry.name());
        self.directories.push(entry);
        let id = self.directories.len() as DirectoryId - 1;
        self.by_path.insert(path.into(), id);
        id
    }

    /// Makes sure that what is known of a directory is of now; returns when it last changed.
    pub(super) fn freshen(&mut self, id: DirectoryId) -> u64 {
        let entry = &self.directories[id as usize];
        let is_current = |tells, scan| scan == self.scan || (tells && scan >= self.doubted);
        if entry.at.0 == self.now && is_current(entry.tells(), entry.at.1) {
            return entry.state;
        }
        let is_checked = is_current(entry.is_sure, entry.checked);
        let is_doubted = entry.checked < self.doubted && entry.presence != Presence::Unknown;
        let (parent, link) = (entry.parent, entry.link.as_ref().map(|link| link.1));
        // At once, so that a ring of links ends.
        self.directories[id as usize].at = (self.now, self.scan);
        let mut above = 0;
        for before in [parent, link].into_iter().flatten() {
            above = above.max(self.freshen(before));
        }
        let entry = &self.directories[id as usize];
        if above > entry.followed || entry.is_dirty || !is_checked || entry.presence == Presence::Unknown {
            self.check(id);
        }
        self.look_at_hanging(id);
        let entry = &self.directories[id as usize];
        // Files in it may have changed without a word.
        if is_doubted || (entry.is_asked_each_time() && entry.checked != self.scan) {
            // Whatever was found in it in an earlier scan must be looked for again.
            self.touch(id);
        }
        let at = (self.now, self.scan);
        let entry = &mut self.directories[id as usize];
        (entry.at, entry.checked) = (at, at.1);
        entry.state
    }

    /// Looks at a directory again; notes whether anything is otherwise.
    fn check(&mut self, id: DirectoryId) {
        let mut found = self.find_directory(id);
        let entry = &mut self.directories[id as usize];
        if !matches!(found.presence, Presence::There(_)) && entry.names.is_some() {
            found.names = Some(None);
        }
        let is_new = entry.presence == Presence::Unknown;
        let is_other = entry.presence != found.presence
            || entry.link != found.link
            || found.names.as_ref().is_some_and(|names| *names != entry.names);
        let old = entry.watch;
        if let Some(names) = found.names {
            self.name_bytes += size(&names);
            self.name_bytes -= size(&entry.names).min(self.name_bytes);
            entry.names = names;
        }
        (entry.presence, entry.link) = (found.presence, found.link);
        (entry.watch, entry.is_sure) = (found.watch, found.is_sure);
        (entry.is_settled, entry.is_dirty) = (found.is_settled, false);
        self.now += u64::from(is_other && !is_new);
        entry.followed = self.now;
        if is_other {
            (entry.state, entry.turned) = (self.now, self.now);
            entry.way = None;
        }
        if let Some(old) = old.filter(|_| old != found.watch) {
            self.unwatch(old, Watched::Directory(id));
        }
    }

    fn find_directory(&mut self, id: DirectoryId) -> Found {
        let entry = &self.directories[id as usize];
        let path = entry.path.clone();
        let (mut is_sure, mut is_link) = (entry.depth <= DEPTH_MAX, None);
        if let Some(parent) = entry.parent {
            let parent = &self.directories[parent as usize];
            is_sure = parent.is_sure;
            if parent.presence.is_none() {
                return Found::nothing(parent.presence, is_sure);
            }
            let name = entry.name();
            match &parent.names {
                _ if name == b".." => is_link = Some(false),
                Some(names) => match names.get(name) {
                    None => return Found::nothing(Presence::Absent, is_sure),
                    Some(&kind) => is_link = kind,
                },
                None => {}
            }
        }
        // The watch first: what changes while one looks is told.
        let watch = self.watch(&path, Watched::Directory(id));
        let link = if is_link == Some(false) { None } else { self.link_of(&path) };
        let metadata = match fs::metadata(Bytes::from(&path[..]).as_path()) {
            Ok(metadata) if metadata.is_dir() => metadata,
            // What a link leads to may come anywhere.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Found { watch, ..Found::nothing(Presence::Absent, is_sure && link.is_none()) };
            }
            Ok(_) => return Found { watch, ..Found::nothing(Presence::Other, is_sure && link.is_none()) },
            // As the kernel says of one with a slash behind it; those above it are directories.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Found { watch, ..Found::nothing(Presence::Other, is_sure && link.is_none()) };
            }
            Err(_) => return Found { watch, ..Found::nothing(Presence::Untold, false) },
        };
        if let Some((_, target)) = link {
            self.freshen(target);
            is_sure &= self.directories[target as usize].is_sure;
        }
        self.list_directory(
            id,
            &Stamp::of(&metadata),
            Found { presence: Presence::Untold, link, watch, is_sure, is_settled: false, names: None },
        )
    }

    /// Lists a directory, if what was listed before may not be taken for it.
    fn list_directory(&mut self, id: DirectoryId, stamp: &Stamp, mut found: Found) -> Found {
        let entry = &self.directories[id as usize];
        let is_same = match entry.presence {
            Presence::There(before) => {
                let told = entry.is_sure && found.is_sure && entry.watch == found.watch;
                let told = told && entry.watch.is_some() && entry.checked >= self.doubted;
                is_same_file(&before, stamp) && (told || (before == *stamp && entry.is_settled))
            }
            _ => false,
        };
        found.presence = Presence::There(*stamp);
        // A root that is itself not told about is still one that nobody renames.
        let is_root = |directory: &Directory| directory.parent.is_none();
        if let Some(parent) = entry.parent.map(|parent| &self.directories[parent as usize])
            && let (true, Presence::There(above)) = (is_root(parent), parent.presence)
            && above.device != stamp.device
            && found.link.is_none()
        {
            found.is_sure = true;
        }
        if is_same {
            found.is_settled = entry.is_settled;
            found.is_sure &= entry.is_sure && found.watch.is_some();
            if let Presence::There(before) = entry.presence {
                // Times that move with every file written beside are no change of what was asked.
                let is_alike = entry.is_sure && before.mode == stamp.mode;
                found.presence = if is_alike { Presence::There(before) } else { found.presence };
            }
            return found;
        }
        let path = Bytes::from(&entry.path[..]);
        found.is_settled = stamp.is_settled();
        let opened = fs::File::open(path.as_path()).ok();
        let opened = opened.as_ref().filter(|_| !self.is_wary);
        let trust = opened.map_or(Trust::Nothing, trust::trust);
        found.is_sure &= trust == Trust::Notifications && found.watch.is_some();
        // A listing is trusted only where names compare byte by byte and where something tells
        // of every change.
        let lists = found.is_sure || (trust != Trust::Nothing && found.is_settled);
        found.names = Some(if lists { list(&path, stamp) } else { None });
        found
    }

    /// What a path means if it is a link.
    fn link_of(&mut self, path: &[u8]) -> Option<(Arc<[u8]>, DirectoryId)> {
        let path = &path[..path.len() - 1];
        let target = fs::read_link(Bytes::from(path).as_path()).ok()?;
        let target: Arc<[u8]> = Arc::from(target.as_os_str().as_bytes());
        let slash = path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
        let start = if target.starts_with(b"/") { &b""[..] } else { &path[..slash] };
        let whole = [start, &target, b"/"].concat();
        let means = self.directory(&whole);
        // A link that leads back to itself leads nowhere, but asking it would not end.
        let is_loop = self.leads_through(means, path);
        (!is_loop).then_some((target, means))
    }

    /// Whether the way to a directory crosses that path.
    fn leads_through(&self, id: DirectoryId, path: &[u8]) -> bool {
        let mut next = vec![id];
        for _ in 0..DEPTH_MAX {
            let Some(id) = next.pop() else { return false };
            let entry = &self.directories[id as usize];
            if entry.path[..entry.path.len() - 1] == *path {
                return true;
            }
            next.extend(entry.parent);
            next.extend(entry.link.as_ref().map(|link| link.1));
        }
        true
    }
}

/// Memory that a listing takes, in bytes, nearly.
fn size(names: &Option<Names>) -> usize {
    names.as_ref().map_or(0, |names| names.keys().map(|name| name.len() + 40).sum())
}

/// A path without doubled slashes and without `.`; it ends in a slash.
fn plain(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len() + 1);
    plain.push(b'/');
    for part in path.split(|&byte| byte == b'/').filter(|part| !matches!(*part, b"" | b".")) {
        plain.extend_from_slice(part);
        plain.push(b'/');
    }
    plain
}

pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The names in a directory, `None` where a listing cannot stand for asking.
fn list(path: &Bytes, stamp: &Stamp) -> Option<Names> {
    let before = fs::metadata(path.as_path()).ok()?;
    if !is_same_file(&Stamp::of(&before), stamp) {
        return None;
    }
    let mut names = Names::default();
    for entry in fs::read_dir(path.as_path()).ok()? {
        if names.len() >= LISTING_MAX {
            return None;
        }
        let entry = entry.ok()?;
        let is_link = entry.file_type().ok()?.is_symlink();
        names.insert(entry.file_name().as_bytes().into(), Some(is_link));
    }
    Some(names)
}

/// Whether both are of one directory.
fn is_same_file(one: &Stamp, other: &Stamp) -> bool {
    (one.device, one.inode) == (other.device, other.inode)
}
