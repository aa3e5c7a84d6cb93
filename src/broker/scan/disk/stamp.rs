//! What tells one state of a file or directory from another, and which file systems are trusted.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How old a change must be to be told from a next one: file systems stamp with the kernel's
/// tick, 10 ms at most, and some margin.
const SETTLED: Duration = Duration::from_millis(20);

/// What tells one state of a file or directory from another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp {
    pub device: u64,
    pub inode: u64,
    pub size: u64,
    pub mode: u32,
    pub modified: (i64, i64),
    pub changed: (i64, i64),
}

impl Stamp {
    pub fn of(metadata: &fs::Metadata) -> Self {
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            mode: metadata.mode(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
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

    /// Whether both are of one file or directory.
    pub fn is_same_file(&self, other: &Stamp) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

/// How far the file system of a directory is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Notifications tell of every change.
    Notifications,
    /// A directory's own time tells of every change in it.
    Stamps,
    /// Each name is asked for, each time.
    Nothing,
}

/// How far a directory is trusted, by its file system and by how that compares names.
pub(super) fn trust(directory: &fs::File) -> Trust {
    const EXT: u64 = 0xef53;
    const XFS: u64 = 0x5846_5342;
    const BTRFS: u64 = 0x9123_683e;
    const TMPFS: u64 = 0x0102_1994;
    const OVERLAY: u64 = 0x794c_7630;
    /// `FS_CASEFOLD_FL` of `FS_IOC_GETFLAGS`.
    const CASEFOLD: u32 = 0x4000_0000;
    let Ok(system) = rustix::fs::fstatfs(directory) else { return Trust::Nothing };
    if rustix::fs::ioctl_getflags(directory).is_ok_and(|flags| flags.bits() & CASEFOLD != 0) {
        return Trust::Nothing;
    }
    match system.f_type as u64 {
        EXT | XFS | BTRFS | TMPFS => Trust::Notifications,
        // What happens in its layers, and to files that are copied up, is not told.
        OVERLAY => Trust::Stamps,
        _ => Trust::Nothing,
    }
}
