//! Whether a tree is as it was left: by the time at which each of its folders was changed last.
//!
//! A folder's status changes with each name that comes to it or goes from it, and when its mode does (stat(2), `st_ctim`). That time
//! cannot be set back, and reading leaves it alone. So whatever somebody else does to the names of a tree shows, but for what they do
//! to a folder while we change it ourselves, or in the same tick of the kernel's clock (some milliseconds).

use std::collections::{BTreeSet, HashMap};
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType, StatxFlags, statx};

use crate::common::bytes::Bytes;

/// When a folder was changed, in seconds and nanoseconds. Another folder of its name would have changed the one around it.
type Seal = (i64, u32);

/// The seals of a tree's folders, by their paths from its root.
#[derive(Debug, Default)]
pub struct Seals {
    of: HashMap<Bytes, Seal>,
    /// Those that we changed since.
    broken: BTreeSet<Bytes>,
}

impl Seals {
    /// We change this folder now.
    pub fn open(&mut self, folder: &[u8]) {
        if !self.broken.contains(folder) {
            self.broken.insert(folder.into());
        }
    }

    /// What was changed is as it should be; folders that are not there any more are forgotten.
    pub fn close(&mut self, root: impl AsFd) {
        for folder in std::mem::take(&mut self.broken) {
            match seal(root.as_fd(), &folder) {
                Some(seal) => drop(self.of.insert(folder, seal)),
                None => drop(self.of.remove(&folder)),
            }
        }
    }

    /// Whether nobody else changed a folder.
    pub fn hold(&self, root: impl AsFd) -> bool {
        self.of.iter().all(|(folder, then)| seal(root.as_fd(), folder) == Some(*then))
    }
}

fn seal(root: impl AsFd, folder: &[u8]) -> Option<Seal> {
    let name = if folder.is_empty() { b"." } else { folder };
    let found = statx(root, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE | StatxFlags::CTIME).ok()?;
    let (kind, at) = (FileType::from_raw_mode(found.stx_mode.into()), found.stx_ctime);
    (kind == FileType::Directory).then_some((at.tv_sec, at.tv_nsec))
}
