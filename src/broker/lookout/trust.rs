//! Which file systems are trusted to tell of changes.

use std::fs;

/// How far the file system of a directory is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::broker) enum Trust {
    /// Notifications tell of every change.
    Notifications,
    /// A directory's own time tells of every change in it.
    Stamps,
    /// Each name is asked for, each time.
    Nothing,
}

/// How far a directory is trusted, by its file system and by how that compares names.
pub(in crate::broker) fn trust(directory: &fs::File) -> Trust {
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
