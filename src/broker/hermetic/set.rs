//! From a scan to the input set that travels.

use std::collections::{BTreeMap, HashMap};

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
    /// Which file it is here.
    pub inode: Inode,
}

/// Collects what a compile needs, each path once.
#[derive(Debug, Default)]
pub struct SetBuilder {
    files: BTreeMap<Bytes, File>,
    /// Entries of a toolchain, and links and folders.
    others: BTreeMap<Bytes, EntryKind>,
    /// Whether files have the times here that they have there.
    dated: bool,
}

impl File {
    fn plain(&self) -> FileEntry {
        FileEntry { digest: self.digest, size: self.size, executable: false, twin: 0, age: 0 }
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
            self.files.insert(Bytes::from(path), file);
        }
    }

    /// A link.
    pub fn link(&mut self, path: &[u8], target: &[u8]) {
        if is_plain_path(path) {
            self.others.insert(Bytes::from(path), EntryKind::Link { target: Bytes::from(target) });
        }
    }

    /// A folder that must be there.
    pub fn folder(&mut self, path: &[u8]) {
        if is_plain_path(path) {
            self.others.entry(Bytes::from(path)).or_insert(EntryKind::Folder);
        }
    }

    /// An entry as it stands, of a toolchain.
    pub fn entry(&mut self, entry: &Entry) {
        match &entry.kind {
            EntryKind::Folder => self.folder(&entry.path),
            kind => drop(self.others.insert(entry.path.clone(), kind.clone())),
        }
    }

    /// The set, by path.
    pub fn finish(self) -> Vec<Entry> {
        let SetBuilder { files, mut others, dated } = self;
        let twins = Twins::of(files.values());
        for (path, file) in files {
            // What is part of the toolchain as well is an entry of it already: its programs are not
            // read by anything that looks at inodes.
            others.entry(path).or_insert_with(|| match dated {
                true => EntryKind::Dated { file: file.plain(), modified_s: file.inode.modified_s },
                false => EntryKind::File(twins.entry(&file)),
            });
        }
        others.into_iter().map(|(path, kind)| Entry { path, kind }).collect()
    }
}

/// Numbers for files of equal content, by inode and by time.
struct Twins(HashMap<Digest, Vec<Inode>>);

impl Twins {
    fn of<'a>(files: impl Iterator<Item = &'a File>) -> Self {
        let mut all: HashMap<Digest, Vec<Inode>> = HashMap::new();
        for file in files {
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
        File { digest, size: content.len() as u64, inode: Inode { identity: (1, inode), modified_s } }
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
    fn a_folder_gives_way_to_what_is_there() {
        let mut builder = SetBuilder::default();
        builder.link(b"/lib", b"usr/lib");
        builder.folder(b"/lib");
        builder.folder(b"/");
        assert_eq!(builder.finish().len(), 1);
    }
}
