//! The file system as the scanner sees it, remembered while it stands still.
//!
//! A name is looked up in its directory's listing, and a file's bytes are read once. Both stand
//! as long as device, inode, size, modification and change time stand; each scan begins with
//! [`Disk::begin`], after which every file and directory is checked once before it is used
//! again. What changed within the last moments is not remembered: the clock that stamps files is coarse.

use std::collections::VecDeque;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use super::directive::FILE_MAX_BYTES;
use super::files::{Answer, Content, Files, Identity, Stat};
use super::symbols::QuickMap;
use crate::broker::stamp::Stamp;
use crate::common::bytes::Bytes;
use crate::common::toolchain::Digest;

/// Directories with more names than this are asked name by name.
const LISTING_MAX: usize = 100_000;

/// Bytes of files that are kept, so that what was scanned can be sent without reading it again.
const KEPT_MAX_BYTES: usize = 64 << 20;

#[derive(Debug)]
struct FileEntry {
    answer: Answer,
    stamp: Option<Stamp>,
    settled: bool,
    checked: u64,
}

#[derive(Debug)]
struct DirectoryEntry {
    stamp: Option<Stamp>,
    settled: bool,
    checked: u64,
    /// The names in it, each with whether it is a link. `None`: it is not listed, each name is
    /// asked for.
    names: Option<Names>,
}

#[derive(Debug)]
struct ContentEntry {
    digest: Digest,
    size: u64,
    bytes: Option<Arc<[u8]>>,
    path: Box<[u8]>,
}

/// When a file was modified (seconds, nanoseconds), and its device and inode.
type Modified = ((i64, i64), (u64, u64));

/// What a directory lists: each name, and whether it is a symbolic link.
type Names = QuickMap<Box<[u8]>, bool>;

/// The epoch of the question, and the answer.
type RealPath = (u64, Option<Arc<[u8]>>);

/// A cached view of the file system.
#[derive(Debug, Default)]
pub struct Disk {
    epoch: u64,
    files: QuickMap<Box<[u8]>, FileEntry>,
    directories: QuickMap<Box<[u8]>, DirectoryEntry>,
    contents: Vec<ContentEntry>,
    by_digest: std::collections::HashMap<Digest, Content>,
    /// Contents whose bytes are kept, the oldest first, and how many bytes these are.
    kept: VecDeque<Content>,
    kept_bytes: usize,
    /// Directories' real paths, each with the epoch in which it was asked for.
    real: QuickMap<Box<[u8]>, RealPath>,
}

impl Disk {
    /// Begins a scan: from here on, everything is checked once more.
    pub fn begin(&mut self) {
        self.epoch += 1;
    }

    /// The digest of a content: of the very bytes that were scanned.
    pub fn digest(&self, content: Content) -> Digest {
        self.contents.get(content as usize).map_or(Digest([0; 32]), |entry| entry.digest)
    }

    /// The length of a content, in bytes.
    pub fn length(&self, content: Content) -> u64 {
        self.contents.get(content as usize).map_or(0, |entry| entry.size)
    }

    /// When the file at this path was modified, and its device and inode, as of the last look at it.
    pub fn modified(&mut self, path: &[u8]) -> Option<Modified> {
        if !self.files.contains_key(path) {
            self.look(path);
        }
        let stamp = self.files.get(path)?.stamp?;
        Some((stamp.modified, (stamp.device, stamp.inode)))
    }

    /// The bytes of that digest, if they are in memory or still on disk.
    pub fn bytes_of(&mut self, digest: &Digest) -> Option<Arc<[u8]>> {
        let content = *self.by_digest.get(digest)?;
        self.bytes(content)
    }

    /// Gives up the bytes that are kept.
    pub fn release(&mut self) {
        self.keep_at_most(0);
    }

    /// Gives up the oldest bytes beyond a sum.
    fn keep_at_most(&mut self, most: usize) {
        while self.kept_bytes > most
            && let Some(oldest) = self.kept.pop_front()
        {
            let entry = &mut self.contents[oldest as usize];
            self.kept_bytes -= entry.bytes.take().map_or(0, |bytes| bytes.len());
        }
    }

    /// Memory in use, in bytes, nearly.
    pub fn size(&self) -> usize {
        let names: usize = self
            .directories
            .values()
            .map(|entry| entry.names.as_ref().map_or(0, |names| names.len() * 48))
            .sum();
        self.files.len() * 200 + self.contents.len() * 200 + names + self.kept_bytes
    }

    /// Device and inode of a directory, if there is one.
    pub fn directory(&mut self, path: &[u8]) -> Option<(u64, u64)> {
        let epoch = self.epoch;
        if self.directories.get(path).is_none_or(|entry| entry.checked != epoch) {
            self.check_directory(path);
        }
        let stamp = self.directories.get(path)?.stamp?;
        Some((stamp.device, stamp.inode))
    }

    /// Whether its directory says that a path may be there.
    fn may_exist(&mut self, path: &[u8]) -> bool {
        let Some(slash) = path.iter().rposition(|&byte| byte == b'/') else { return true };
        let (directory, name) = (&path[..slash.max(1)], &path[slash + 1..]);
        if name.is_empty() || name == b"." || name == b".." || name.len() > 255 {
            return true;
        }
        let epoch = self.epoch;
        let current = self.directories.get(directory).is_some_and(|entry| entry.checked == epoch);
        if !current {
            self.check_directory(directory);
        }
        match self.directories.get(directory) {
            Some(DirectoryEntry { stamp: None, .. }) => false,
            Some(DirectoryEntry { names: Some(names), .. }) => names.contains_key(name),
            _ => true,
        }
    }

    fn check_directory(&mut self, directory: &[u8]) {
        let path = Bytes::from(directory);
        let metadata = fs::metadata(path.as_path());
        let epoch = self.epoch;
        let entry = match metadata {
            Ok(metadata) if metadata.is_dir() => {
                let stamp = Stamp::of(&metadata);
                if let Some(known) = self.directories.get_mut(directory)
                    && known.stamp == Some(stamp)
                    && known.settled
                {
                    known.checked = epoch;
                    return;
                }
                let settled = stamp.is_settled();
                // A listing is trusted only where names compare byte by byte and where the
                // directory's own time tells of every change.
                let names = if settled { list(path.as_path(), stamp.device) } else { None };
                DirectoryEntry { stamp: Some(stamp), settled, checked: epoch, names }
            }
            Err(error) if is_absent(&error) => {
                DirectoryEntry { stamp: None, settled: false, checked: epoch, names: None }
            }
            // Not a directory, or one that cannot be told about: its names are asked for.
            _ => DirectoryEntry {
                stamp: Some(Stamp { device: 0, inode: 0, size: 0, modified: (0, 0), changed: (0, 0) }),
                settled: false,
                checked: epoch,
                names: None,
            },
        };
        self.directories.insert(directory.into(), entry);
    }

    /// Whether a name is a symbolic link; `None` if it cannot be told.
    fn is_link(&mut self, directory: &[u8], name: &[u8]) -> Option<bool> {
        self.directory(directory)?;
        let names = self.directories.get(directory).and_then(|entry| entry.names.as_ref());
        if let Some(&is_link) = names.and_then(|names| names.get(name)) {
            return Some(is_link);
        }
        let whole = Bytes([directory, b"/", name].concat());
        fs::symlink_metadata(whole.as_path()).ok().map(|metadata| metadata.file_type().is_symlink())
    }

    /// The real path of a directory. An old answer stands while both names lead to one directory.
    fn real_directory(&mut self, directory: &[u8]) -> Option<Arc<[u8]>> {
        let epoch = self.epoch;
        if let Some((checked, real)) = self.real.get(directory).cloned() {
            if checked == epoch {
                return real;
            }
            let identity = self.directory(directory);
            if let Some(known) = real.filter(|known| identity.is_some() && self.directory(known) == identity)
            {
                self.real.insert(directory.into(), (epoch, Some(known.clone())));
                return Some(known);
            }
        }
        let real = fs::canonicalize(Bytes::from(directory).as_path()).ok();
        let real: Option<Arc<[u8]>> = real.map(|real| Arc::from(&Bytes::from(real.as_path())[..]));
        self.real.insert(directory.into(), (epoch, real.clone()));
        real
    }

    fn check_file(&mut self, path: &[u8]) -> Answer {
        let name = Bytes::from(path);
        let metadata = match fs::metadata(name.as_path()) {
            Ok(metadata) => metadata,
            Err(error) if is_absent(&error) => return Answer::Absent,
            Err(_) => return Answer::Unreadable,
        };
        if metadata.is_dir() {
            return Answer::Directory;
        }
        if !metadata.is_file() {
            // Opening a pipe could wait for ever.
            return Answer::Unreadable;
        }
        let epoch = self.epoch;
        let stamp = Stamp::of(&metadata);
        if let Some(known) = self.files.get_mut(path)
            && known.stamp == Some(stamp)
            && known.settled
        {
            known.checked = epoch;
            return known.answer;
        }
        let (answer, stamp) = self.read(path, name.as_path());
        let settled = stamp.is_some_and(|stamp| stamp.is_settled());
        self.files.insert(path.into(), FileEntry { answer, stamp, settled, checked: epoch });
        answer
    }

    /// Reads a file; its stamp is taken from the open file before the reading, so that a later
    /// change shows.
    fn read(&mut self, path: &[u8], name: &Path) -> (Answer, Option<Stamp>) {
        let unreadable = (Answer::Unreadable, None);
        let Ok(mut file) = fs::File::open(name) else { return unreadable };
        let Ok(metadata) = file.metadata() else { return unreadable };
        if !metadata.is_file() || metadata.len() > FILE_MAX_BYTES as u64 {
            return unreadable;
        }
        let mut bytes = Vec::with_capacity(metadata.len() as usize + 1);
        if file.by_ref().take(FILE_MAX_BYTES as u64 + 1).read_to_end(&mut bytes).is_err()
            || bytes.len() > FILE_MAX_BYTES
        {
            return unreadable;
        }
        let stamp = Stamp::of(&metadata);
        let identity = Identity { device: stamp.device, inode: stamp.inode, modified_s: stamp.modified.0 };
        let content = self.content(bytes, path);
        (Answer::File(Stat { content, identity }), Some(stamp))
    }

    fn content(&mut self, bytes: Vec<u8>, path: &[u8]) -> Content {
        let digest = Digest::of(&bytes);
        if let Some(&content) = self.by_digest.get(&digest) {
            return content;
        }
        let content = self.contents.len() as Content;
        let size = bytes.len() as u64;
        self.kept.push_back(content);
        self.kept_bytes += bytes.len();
        self.contents.push(ContentEntry { digest, size, bytes: Some(bytes.into()), path: path.into() });
        self.by_digest.insert(digest, content);
        // The newest stays whatever its size: it is about to be lexed.
        self.keep_at_most(KEPT_MAX_BYTES.max(size as usize));
        content
    }
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

/// The names in a directory, `None` where a listing cannot stand for asking.
fn list(path: &Path, device: u64) -> Option<Names> {
    use std::os::unix::ffi::OsStrExt;
    let directory = fs::File::open(path).ok()?;
    if directory.metadata().ok()?.dev() != device || !compares_bytes(&directory) {
        return None;
    }
    let mut names = Names::default();
    for entry in fs::read_dir(path).ok()? {
        if names.len() >= LISTING_MAX {
            return None;
        }
        let entry = entry.ok()?;
        let is_link = entry.file_type().ok()?.is_symlink();
        names.insert(entry.file_name().as_bytes().into(), is_link);
    }
    Some(names)
}

/// Whether the file system is one that compares names byte by byte and stamps its directories.
fn compares_bytes(directory: &fs::File) -> bool {
    const EXT: u64 = 0xef53;
    const XFS: u64 = 0x5846_5342;
    const BTRFS: u64 = 0x9123_683e;
    const TMPFS: u64 = 0x0102_1994;
    /// `FS_CASEFOLD_FL` of `FS_IOC_GETFLAGS`.
    const CASEFOLD: u32 = 0x4000_0000;
    let Ok(system) = rustix::fs::fstatfs(directory) else { return false };
    let known = [EXT, XFS, BTRFS, TMPFS].contains(&(system.f_type as u64));
    let folds = rustix::fs::ioctl_getflags(directory).is_ok_and(|flags| flags.bits() & CASEFOLD != 0);
    known && !folds
}

impl Files for Disk {
    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn look(&mut self, path: &[u8]) -> Answer {
        if let Some(known) = self.files.get(path)
            && known.checked == self.epoch
        {
            return known.answer;
        }
        if !self.may_exist(path) {
            return Answer::Absent;
        }
        self.check_file(path)
    }

    fn bytes(&mut self, content: Content) -> Option<Arc<[u8]>> {
        let entry = self.contents.get(content as usize)?;
        if let Some(bytes) = &entry.bytes {
            return Some(bytes.clone());
        }
        let bytes = fs::read(Bytes::from(&entry.path[..]).as_path()).ok()?;
        (Digest::of(&bytes) == entry.digest).then(|| bytes.into())
    }

    fn real_path(&mut self, path: &[u8]) -> Option<Arc<[u8]>> {
        let slash = path.iter().rposition(|&byte| byte == b'/')?;
        let (directory, name) = (&path[..slash.max(1)], &path[slash + 1..]);
        let dots = name.is_empty() || name == b"." || name == b"..";
        if dots || self.is_link(directory, name)? {
            let real = fs::canonicalize(Bytes::from(path).as_path()).ok()?;
            return Some(Arc::from(&Bytes::from(real.as_path())[..]));
        }
        let parent = self.real_directory(directory)?;
        let slash: &[u8] = if parent.ends_with(b"/") { b"" } else { b"/" };
        Some([&parent[..], slash, name].concat().into())
    }
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
