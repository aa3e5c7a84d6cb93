//! How a file looked: what tells one state of it from another without reading it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How old a change must be to be told from a next one: file systems stamp with the kernel's
/// tick, 10 ms at most, and some margin.
const SETTLED: Duration = Duration::from_millis(20);

/// A file or directory is unchanged while all of this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// Device.
    pub device: u64,
    /// Inode.
    pub inode: u64,
    /// Size in bytes.
    pub size: u64,
    /// What it is, and who may do what with it.
    pub mode: u32,
    /// Time of the last change of the contents, seconds and nanoseconds.
    pub modified: (i64, i64),
    /// Time of the last change of anything, seconds and nanoseconds.
    pub changed: (i64, i64),
}

impl Stamp {
    /// The stamp that `metadata` has.
    pub fn of(metadata: &Metadata) -> Self {
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            mode: metadata.mode(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// The stamp of what `path` leads to; `None` when that is nothing.
    pub fn at(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|metadata| Stamp::of(&metadata))
    }

    /// Whether the last change is so old that another would show.
    pub fn is_settled(&self) -> bool {
        let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) else { return false };
        let age = |(s, ns): (i64, i64)| {
            let then = Duration::new(u64::try_from(s).unwrap_or(0), u32::try_from(ns).unwrap_or(0));
            now.checked_sub(then)
        };
        let old = |stamp| age(stamp).is_some_and(|age| age > SETTLED);
        old(self.changed) && old(self.modified)
    }
}
