//! What a hermetic compile reads: files, links and folders under the client's own paths.
//!
//! An input set is a set of [`Entry`]s. A volunteer lays out exactly these and nothing else, so
//! what is not in the set does not exist for the compiler. A toolchain is an input set too, which
//! many compiles share.
//!
//! Sets of one client are near to each other. So both sides of a link keep a table of [`Item`]s by
//! number; an item travels once, and a set is the [`Runs`] of its items' numbers.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::common::bytes::Bytes;
use crate::common::dependencies::absolute;
use crate::common::limits::{INPUTS_MAX, ITEM_MAX_BYTES, PATH_MAX_BYTES};
use crate::common::toolchain::Digest;

/// Something that both sides of a link know by a number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Item {
    /// A word of a command, an entry of an environment, or a path.
    Word(Bytes),
    /// A part of an input set.
    Entry(Entry),
}

/// What lies at one path of an input set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// Absolute, without `.`, `..`, empty parts or a slash at the end, and leading through no link:
    /// those are entries of their own.
    pub path: Bytes,
    /// What it is.
    pub kind: EntryKind,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EntryKind {
    /// A plain file.
    File(FileEntry),
    /// A symbolic link, with its target as it stands.
    Link {
        /// What is written in it.
        target: Bytes,
    },
    /// A folder that must be there, whether or not anything is in it.
    Folder,
    /// A plain file whose time of modification is the client's: clang holds precompiled headers against
    /// the times of what is in them. Neither `twin` nor `age` counts.
    Dated {
        /// The file.
        file: FileEntry,
        /// When it was modified, in seconds since 1970.
        modified_s: i64,
    },
}

impl EntryKind {
    /// The file, if it is one.
    pub fn file(&self) -> Option<&FileEntry> {
        match self {
            EntryKind::File(file) | EntryKind::Dated { file, .. } => Some(file),
            EntryKind::Link { .. } | EntryKind::Folder => None,
        }
    }
}

/// Where a job's own files are in its root: the one path that no client can have. Temporary files are there.
pub const PRIVATE: &str = "/.distccd";

/// A plain file of an input set.
///
/// gcc takes two files for one when time, size and content are equal (`#pragma once`), clang when
/// device and inode are. So where a set has the same content at several paths, `twin` and `age`
/// keep apart what is apart on the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileEntry {
    /// Digest of the contents.
    pub digest: Digest,
    /// Their length, in bytes.
    pub size: u64,
    /// Whether it can be executed.
    pub executable: bool,
    /// Which of the client's inodes with this content it is: paths with the same number are hard
    /// links of one file, others are files of their own. 0 for contents that occur once.
    pub twin: u16,
    /// Which of the different modification times of this content it has, in seconds behind an
    /// arbitrary one. 0 for contents that occur once.
    pub age: u16,
}

/// Why an item cannot be what a peer says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// A path that is not absolute, or not in its plainest form.
    #[error("a path that is not absolute and plain")]
    Path,
    /// A link that leads nowhere by its form.
    #[error("a link whose target is empty, too long, or has a NUL")]
    Target,
    /// Longer than anything that a client sends.
    #[error("a word that is too long")]
    Length,
}

impl Item {
    /// Checks what a peer says.
    ///
    /// # Errors
    ///
    /// Returns [`ItemError`] for what no client of ours sends.
    pub fn check(&self) -> Result<(), ItemError> {
        match self {
            Item::Word(word) if word.len() > ITEM_MAX_BYTES => Err(ItemError::Length),
            Item::Word(_) => Ok(()),
            Item::Entry(entry) if !is_plain_path(&entry.path) => Err(ItemError::Path),
            Item::Entry(Entry { kind: EntryKind::Link { target }, .. }) => {
                let fits = !target.is_empty() && target.len() as u64 <= PATH_MAX_BYTES;
                if fits && !target.contains(&0) { Ok(()) } else { Err(ItemError::Target) }
            }
            Item::Entry(_) => Ok(()),
        }
    }

    /// What it takes in memory, in bytes, nearly.
    pub fn size(&self) -> usize {
        let text = match self {
            Item::Word(word) => word.len(),
            Item::Entry(Entry { path, kind: EntryKind::Link { target } }) => path.len() + target.len(),
            Item::Entry(Entry { path, .. }) => path.len(),
        };
        size_of::<Item>() + text
    }
}

/// Whether a path is absolute, and in its plainest form; `/` itself is not, as nothing lies there.
pub fn is_plain_path(path: &[u8]) -> bool {
    let Some(rest) = path.strip_prefix(b"/") else { return false };
    let plain = |part: &[u8]| !part.is_empty() && part != b"." && part != b".." && part.len() <= 255;
    path.len() as u64 <= PATH_MAX_BYTES && !path.contains(&0) && rest.split(|&byte| byte == b'/').all(plain)
}

/// Ascending numbers of items, as runs: how many numbers are left out, then how many follow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runs(Vec<(u32, u32)>);

impl Runs {
    /// The runs of `numbers`, which ascend.
    pub fn of(numbers: &[u32]) -> Self {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        let mut next = 0;
        for &number in numbers {
            match runs.last_mut() {
                Some((_, length)) if number == next => *length += 1,
                _ => runs.push((number - next, 1)),
            }
            next = number + 1;
        }
        Runs(runs)
    }

    /// The numbers, ascending; `None` when there are more than [`INPUTS_MAX`], or they overflow.
    pub fn numbers(&self) -> Option<Vec<u32>> {
        let total: u64 = self.0.iter().map(|&(_, length)| u64::from(length)).sum();
        if total > INPUTS_MAX as u64 || self.0.len() > INPUTS_MAX {
            return None;
        }
        let mut numbers = Vec::with_capacity(total as usize);
        let mut next = 0u32;
        for &(gap, length) in &self.0 {
            let begin = next.checked_add(gap)?;
            next = begin.checked_add(length)?;
            numbers.extend(begin..next);
        }
        Some(numbers)
    }
}

/// What a compile must be found to have read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reading {
    /// Its dependencies, as its compiler lists them, have this [`reading_digest`].
    Listed(Digest),
    /// Its compiler does not list them all: every plain file of its inputs was opened, but perhaps these.
    /// More than that it cannot read, since there is no more.
    Opened {
        /// Files that it may open or not, such as those of its toolchain.
        apart: Runs,
    },
}

/// The digest of a list of files that were read: their absolute paths as the compiler names them,
/// each once, in byte order. `.` and empty parts of a path do not count: compilers leave them out or
/// not, as they like.
pub fn reading_digest<'a>(paths: impl IntoIterator<Item = &'a [u8]>) -> Digest {
    let dotted = |path: &[u8]| path.windows(2).any(|pair| pair == b"/." || pair == b"//");
    let plain = |path: &'a [u8]| match dotted(path) {
        true => Cow::Owned(absolute(b"/", path).0),
        false => Cow::Borrowed(path),
    };
    let mut sorted: Vec<Cow<'a, [u8]>> = paths.into_iter().map(plain).collect();
    sorted.sort_unstable();
    sorted.dedup();
    let mut hasher = blake3::Hasher::new_derive_key("distcc reading list 1");
    for path in sorted {
        hasher.update(&path).update(&[0]);
    }
    Digest(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_comes_back_from_its_runs() {
        for numbers in [vec![], vec![0], vec![7], vec![0, 1, 2, 9, 10, 4_000_000_000], vec![3, 5, 7]] {
            assert_eq!(Runs::of(&numbers).numbers(), Some(numbers));
        }
        assert_eq!(Runs::of(&[5, 6, 7, 9]), Runs(vec![(5, 3), (1, 1)]));
    }

    #[test]
    fn runs_that_lie_are_refused_before_they_are_allocated() {
        assert_eq!(Runs(vec![(0, u32::MAX)]).numbers(), None);
        assert_eq!(Runs(vec![(u32::MAX, 1), (1, 1)]).numbers(), None);
    }

    #[test]
    fn only_plain_absolute_paths_are_entries() {
        for path in ["/usr/include/a.h", "/a"] {
            assert!(is_plain_path(path.as_bytes()), "{path}");
        }
        for path in ["", "/", "a", "/a/", "//a", "/a/../b", "/./a", "/a\0b"] {
            assert!(!is_plain_path(path.as_bytes()), "{path:?}");
        }
    }

    #[test]
    fn the_order_in_which_files_were_read_does_not_count() {
        let digest = |paths: &[&str]| reading_digest(paths.iter().map(|path| path.as_bytes()));
        assert_eq!(digest(&["/b", "/a", "/b"]), digest(&["/a", "/b"]));
        assert_ne!(digest(&["/a", "/b"]), digest(&["/a/b"]));
        assert_eq!(digest(&["/x/./a", "//b"]), digest(&["/x/a", "/b"]));
        assert_ne!(digest(&["/x/../a"]), digest(&["/a"]));
    }
}
