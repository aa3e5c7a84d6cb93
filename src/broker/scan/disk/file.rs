//! Files by directory and name.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;

use super::super::directive::FILE_MAX_BYTES;
use super::super::files::{Answer, Identity, Stat};
use super::super::symbols::Sym;
use super::directory::{DirectoryId, Presence, is_absent};
use super::{Disk, Watched};
use crate::broker::plain_file;
use crate::broker::stamp::Stamp;
use crate::common::bytes::Bytes;

/// Longer names than this are errors to the kernel, and to compilers.
const NAME_MAX_BYTES: usize = 255;

/// A file, as an index.
pub(super) type FileId = u32;

/// What a name in a directory leads to.
#[derive(Debug)]
pub(super) struct FileEntry {
    pub directory: DirectoryId,
    pub answer: Answer,
    pub stamp: Option<Stamp>,
    is_settled: bool,
    watch: Option<i32>,
    /// Notifications tell of every change of it.
    is_sure: bool,
    /// Something happened to it.
    pub is_stale: bool,
    /// The scan that last checked it.
    scan: u64,
    /// When it was last checked.
    at: u64,
}

impl Disk {
    /// What has this name in a directory.
    pub(super) fn look_in(&mut self, id: DirectoryId, name: &[u8]) -> Answer {
        self.freshen(id);
        let asked = self.names.intern(name);
        if name.len() > NAME_MAX_BYTES {
            return Answer::Unreadable;
        }
        let directory = &self.directories[id as usize];
        let mut is_link = None;
        match (&directory.presence, &directory.names) {
            (Presence::Absent | Presence::Other, _) => return Answer::Absent,
            (_, Some(names)) => match names.get(name) {
                None => return Answer::Absent,
                Some(&kind) => is_link = kind,
            },
            _ => {}
        }
        let known = self.by_name.get(&(id, asked)).copied();
        if let Some(file) = known {
            let entry = &self.files[file as usize];
            let is_checked = entry.scan == self.scan || (entry.is_sure && entry.scan >= self.doubted);
            if is_checked && !entry.is_stale && entry.at >= self.directories[id as usize].turned {
                return entry.answer;
            }
        }
        let file = known.unwrap_or_else(|| self.add_file(id, asked));
        self.check_file(file, known.is_none(), name, is_link)
    }

    fn add_file(&mut self, directory: DirectoryId, name: u32) -> FileId {
        self.files.push(FileEntry {
            directory,
            answer: Answer::Absent,
            stamp: None,
            is_settled: false,
            watch: None,
            is_sure: false,
            is_stale: true,
            scan: 0,
            at: 0,
        });
        let id = self.files.len() as FileId - 1;
        self.by_name.insert((directory, name), id);
        id
    }

    fn check_file(&mut self, id: FileId, is_new: bool, name: &[u8], is_link: Option<bool>) -> Answer {
        let directory = self.files[id as usize].directory;
        let path = Bytes([&self.directories[directory as usize].path[..], name].concat());
        let trusted = self.directories[directory as usize].is_sure;
        let is_link = is_link.unwrap_or_else(|| {
            fs::symlink_metadata(path.as_path()).is_ok_and(|metadata| metadata.file_type().is_symlink())
        });
        if let Some(names) = &mut self.directories[directory as usize].names
            && let Some(kind) = names.get_mut(name)
        {
            *kind = Some(is_link);
        }
        let mut metadata = fs::metadata(path.as_path());
        let is_file = metadata.as_ref().is_ok_and(fs::Metadata::is_file);
        let old = self.files[id as usize].watch;
        let watch = if trusted && is_file { self.watch(&path, Watched::File(id)) } else { None };
        if let Some(old) = old.filter(|_| old != watch) {
            self.unwatch(old, Watched::File(id));
        }
        if watch != old {
            // What changes from now on is told.
            metadata = fs::metadata(path.as_path());
        }
        let (mut answer, mut stamp) = match &metadata {
            Ok(metadata) if metadata.is_dir() => (Answer::Directory, None),
            // Opening a pipe could wait for ever.
            Ok(metadata) if !metadata.is_file() => (Answer::Unreadable, None),
            Ok(metadata) => (Answer::Unreadable, Some(Stamp::of(metadata))),
            Err(error) if is_absent(error) => (Answer::Absent, None),
            Err(_) => (Answer::Unreadable, None),
        };
        let entry = &self.files[id as usize];
        // The directory alone tells of what is no file; a link may lead anywhere.
        let is_sure = trusted && !is_link && (watch.is_some() || stamp.is_none());
        let mut is_settled = entry.is_settled;
        if stamp.is_some() {
            if entry.stamp == stamp && is_settled && matches!(entry.answer, Answer::File(_)) {
                answer = entry.answer;
            } else {
                (answer, stamp) = self.read(&path);
                is_settled = stamp.is_some_and(|stamp| stamp.is_settled());
            }
        }
        if let Answer::File(stat) = &mut answer {
            stat.fleeting = !is_sure;
        }
        self.note_hanging(id, name, is_link && !matches!(answer, Answer::File(_)));
        let (scan, at) = (self.scan, self.now);
        let entry = &mut self.files[id as usize];
        let is_other = !is_new && entry.answer != answer;
        let is_stale = false;
        *entry = FileEntry { directory, answer, stamp, is_settled, watch, is_sure, is_stale, scan, at };
        if is_other {
            self.touch(directory);
        }
        answer
    }

    /// Notes whether a name is of a link that leads to no file.
    fn note_hanging(&mut self, id: FileId, name: &[u8], hangs: bool) {
        let name = self.names.intern(name);
        let hanging = &mut self.directories[self.files[id as usize].directory as usize].hanging;
        let at = hanging.iter().position(|one| one.0 == id);
        match at {
            None if hangs => {
                hanging.push((id, name));
                self.hung += 1;
            }
            Some(at) if !hangs => drop(hanging.swap_remove(at)),
            _ => {}
        }
    }

    /// Looks once in each scan what such links of a directory lead to now.
    pub(super) fn look_at_hanging(&mut self, directory: DirectoryId) {
        let is_due = |one: &&(FileId, Sym)| self.files[one.0 as usize].scan != self.scan;
        let due: Vec<_> =
            self.directories[directory as usize].hanging.iter().filter(is_due).copied().collect();
        for (file, name) in due {
            let name = self.names.text(name).to_vec();
            self.check_file(file, false, &name, None);
        }
    }

    /// Reads a file; its stamp is taken from the open file before the reading, so that a later
    /// change shows.
    fn read(&mut self, path: &Bytes) -> (Answer, Option<Stamp>) {
        let unreadable = (Answer::Unreadable, None);
        let Ok((mut file, metadata)) = plain_file::open(path.as_path()) else { return unreadable };
        if metadata.len() > FILE_MAX_BYTES as u64 {
            return unreadable;
        }
        let mut bytes = Vec::with_capacity(metadata.size() as usize + 1);
        if file.by_ref().take(FILE_MAX_BYTES as u64 + 1).read_to_end(&mut bytes).is_err()
            || bytes.len() > FILE_MAX_BYTES
        {
            return unreadable;
        }
        let stamp = Stamp::of(&metadata);
        let identity = Identity { device: stamp.device, inode: stamp.inode, modified_s: stamp.modified.0 };
        let size = bytes.len() as u64;
        let content = self.contents.add(bytes, path);
        (Answer::File(Stat { content, identity, size, fleeting: false }), Some(stamp))
    }
}
