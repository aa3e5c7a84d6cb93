//! From a scan to the input set that travels.

use std::collections::HashMap;
use std::mem::swap;

use crate::common::bytes::Bytes;
use crate::common::inputs::{Entry, EntryKind, FileEntry, is_plain_path};
use crate::common::toolchain::Digest;

/// What tells one file of the client from another of the same content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Inode {
    /// Device and inode.
    pub identity: (u64, u64),
    /// When it was modified, in whole seconds.
    pub modified_s: i64,
}

/// One file on its way into a set.
#[derive(Clone, Debug)]
pub struct File {
    /// Its content.
    pub digest: Digest,
    /// Its size, in bytes.
    pub size: u64,
    /// Whether it may be run: drivers pass over programs that may not.
    pub executable: bool,
    /// Which file it is here.
    pub inode: Inode,
}

/// Collects what a compile needs. Lists, because most of what comes is in order, and sorting that once is cheap.
#[derive(Debug, Default)]
pub struct SetBuilder {
    files: Vec<(Bytes, File)>,
    /// Entries of a toolchain, and links and folders.
    others: Vec<Entry>,
    /// Whether files have the times here that they have there.
    dated: bool,
}

impl File {
    fn plain(&self) -> FileEntry {
        FileEntry { digest: self.digest, size: self.size, executable: self.executable, twin: 0, age: 0 }
    }
}

impl SetBuilder {
    /// Has the files keep their times.
    pub fn keep_times(&mut self) {
        self.dated = true;
    }

    /// A file at its real path.
    pub fn file(&mut self, path: &[u8], file: File) {
        if is_plain_path(path) {
            self.files.push((Bytes::from(path), file));
        }
    }

    /// A link.
    pub fn link(&mut self, path: &[u8], target: &[u8]) {
        if is_plain_path(path) {
            let kind = EntryKind::Link { target: Bytes::from(target) };
            self.others.push(Entry { path: Bytes::from(path), kind });
        }
    }

    /// A folder that must be there.
    pub fn folder(&mut self, path: &[u8]) {
        if is_plain_path(path) {
            self.others.push(Entry { path: Bytes::from(path), kind: EntryKind::Folder });
        }
    }

    /// An entry as it stands, of a toolchain.
    pub fn entry(&mut self, entry: &Entry) {
        match entry.kind {
            EntryKind::Folder => self.folder(&entry.path),
            _ => self.others.push(entry.clone()),
        }
    }

    /// The set, by path, each path once.
    pub fn finish(self) -> Vec<Entry> {
        let SetBuilder { mut files, mut others, dated } = self;
        files.sort_by(|(one, _), (other, _)| one.cmp(other));
        files.dedup_by(|later, earlier| {
            let is_same = later.0 == earlier.0;
            if is_same {
                swap(later, earlier);
            }
            is_same
        });
        others.sort_by(|one, other| one.path.cmp(&other.path));
        others.dedup_by(|later, earlier| {
            let is_same = later.path == earlier.path;
            // A folder gives way to whatever else is there.
            if is_same && later.kind != EntryKind::Folder {
                swap(later, earlier);
            }
            is_same
        });
        let twins = Twins::of(&files);
        let files = files.into_iter().map(|(path, file)| {
            let kind = match dated {
                true => EntryKind::Dated { file: file.plain(), modified_s: file.inode.modified_s },
                false => EntryKind::File(twins.entry(&file)),
            };
            Entry { path, kind }
        });
        merge(others, files)
    }
}

/// Two lists by path as one. What is part of the toolchain as well is an entry of it already: its programs are not
/// read by anything that looks at inodes.
fn merge(others: Vec<Entry>, files: impl ExactSizeIterator<Item = Entry>) -> Vec<Entry> {
    let mut merged = Vec::with_capacity(others.len() + files.len());
    let mut others = others.into_iter().peekable();
    for file in files {
        while let Some(before) = others.next_if(|other| other.path < file.path) {
            merged.push(before);
        }
        if others.peek().is_none_or(|other| other.path != file.path) {
            merged.push(file);
        }
    }
    merged.extend(others);
    merged
}

/// Numbers for files of equal content, by inode and by time.
struct Twins(HashMap<Digest, Vec<Inode>>);

impl Twins {
    fn of(files: &[(Bytes, File)]) -> Self {
        let start = |file: &File| file.digest.0.first_chunk().map_or(0, |start| u64::from_ne_bytes(*start));
        let mut starts: Vec<u64> = files.iter().map(|(_, file)| start(file)).collect();
        starts.sort_unstable();
        if starts.windows(2).all(|pair| pair[0] != pair[1]) {
            return Twins(HashMap::new());
        }
        let mut all: HashMap<Digest, Vec<Inode>> = HashMap::new();
        for (_, file) in files {
            let inodes = all.entry(file.digest).or_default();
            if !inodes.contains(&file.inode) {
                inodes.push(file.inode);
            }
        }
        all.retain(|_, inodes| inodes.len() > 1);
        // So that the same files have the same numbers in every set that has just these.
        all.values_mut().for_each(|inodes| inodes.sort_unstable_by_key(|inode| inode.identity));
        Twins(all)
    }

    fn entry(&self, file: &File) -> FileEntry {
        let (twin, age) = match self.0.get(&file.digest) {
            None => (0, 0),
            Some(inodes) => {
                let twin = inodes.iter().position(|inode| *inode == file.inode).unwrap_or(0);
                let mut times: Vec<i64> = inodes.iter().map(|inode| inode.modified_s).collect();
                times.sort_unstable();
                times.dedup();
                let age = times.iter().position(|time| *time == file.inode.modified_s).unwrap_or(0);
                (twin, age)
            }
        };
        let small = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
        FileEntry { twin: small(twin), age: small(age), ..file.plain() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &str, inode: u64, modified_s: i64) -> File {
        let digest = Digest::of(content.as_bytes());
        let inode = Inode { identity: (1, inode), modified_s };
        File { digest, size: content.len() as u64, executable: false, inode }
    }

    fn check(files: &[(&str, File)], expected: &[(u16, u16)]) {
        let mut builder = SetBuilder::default();
        files.iter().for_each(|(path, file)| builder.file(path.as_bytes(), file.clone()));
        let numbers = builder.finish().into_iter().map(|entry| match entry.kind {
            EntryKind::File(file) => (file.twin, file.age),
            other => panic!("{other:?}"),
        });
        assert_eq!(numbers.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn files_of_their_own_need_no_numbers() {
        check(&[("/a", file("a", 1, 5)), ("/b", file("b", 2, 6))], &[(0, 0), (0, 0)]);
    }

    #[test]
    fn equal_files_are_kept_apart_as_they_are_here() {
        let (one, other) = (file("x", 7, 5), file("x", 8, 5));
        check(&[("/a", one.clone()), ("/b", one.clone())], &[(0, 0), (0, 0)]);
        check(&[("/a", one.clone()), ("/b", other)], &[(0, 0), (1, 0)]);
        check(&[("/a", file("x", 9, 4)), ("/b", one)], &[(1, 0), (0, 1)]);
    }

    #[test]
    fn files_keep_their_times_where_that_is_asked_for() {
        let mut builder = SetBuilder::default();
        builder.keep_times();
        builder.file(b"/a", file("x", 7, 5));
        builder.file(b"/b", file("x", 8, 6));
        let times = builder.finish().into_iter().map(|entry| match entry.kind {
            EntryKind::Dated { file, modified_s } => (file.twin, modified_s),
            other => panic!("{other:?}"),
        });
        assert_eq!(times.collect::<Vec<_>>(), [(0, 5), (0, 6)]);
    }

    #[test]
    fn what_is_named_twice_is_there_once_and_by_path() {
        let mut builder = SetBuilder::default();
        builder.file(b"/b/x", file("old", 1, 5));
        builder.file(b"/b/tool", file("t", 2, 5));
        builder.entry(&Entry { path: "/b/tool".into(), kind: EntryKind::Link { target: "x".into() } });
        builder.folder(b"/c");
        builder.link(b"/a", b"old");
        builder.folder(b"/a");
        builder.link(b"/a", b"new");
        builder.file(b"/b/x", file("new", 1, 5));
        let link = |path: &str, target: &str| Entry {
            path: path.into(),
            kind: EntryKind::Link { target: target.into() },
        };
        let expected = [
            link("/a", "new"),
            link("/b/tool", "x"),
            Entry { path: "/b/x".into(), kind: EntryKind::File(file("new", 1, 5).plain()) },
            Entry { path: "/c".into(), kind: EntryKind::Folder },
        ];
        assert_eq!(builder.finish(), expected);
    }

    #[test]
    fn a_folder_gives_way_to_what_is_there() {
        let mut builder = SetBuilder::default();
        builder.link(b"/lib", b"usr/lib");
        builder.folder(b"/lib");
        builder.folder(b"/");
        assert_eq!(builder.finish().len(), 1);
    }
}
