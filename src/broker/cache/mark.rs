//! Whether only this broker wrote to a directory of results since it was last looked at.
//!
//! A file there grows by a byte before and after whatever a broker writes. Where it has the length that it had,
//! nobody else wrote anything; so what is not among the results that are known is not there.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file that has grown so long is begun anew, in bytes.
const LENGTH_MAX: u64 = 1 << 20;

/// How the file looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    inode: u64,
    length: u64,
}

impl Mark {
    /// As it is now; `None` where there is none, or something else.
    pub fn now(directory: &Path) -> Option<Self> {
        let meta = fs::symlink_metadata(path(directory)).ok()?;
        meta.is_file().then(|| Mark { inode: meta.ino(), length: meta.len() })
    }

    /// Lets all know that something is written.
    ///
    /// # Errors
    ///
    /// Returns what the file system returns.
    pub fn grow(directory: &Path) -> io::Result<Self> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let mut options = File::options();
        options.append(true).create(true).mode(0o600).custom_flags(flags);
        let mut file = options.open(path(directory))?;
        file.write_all(b".")?;
        let meta = file.metadata()?;
        if meta.len() > LENGTH_MAX {
            fs::remove_file(path(directory))?;
        }
        Ok(Mark { inode: meta.ino(), length: meta.len() })
    }

    /// Whether it grew from `before` to this by so many bytes.
    pub fn grew_by(self, bytes: u64, before: Option<Mark>) -> bool {
        before.is_some_and(|before| self == Mark { length: before.length + bytes, ..before })
    }
}

fn path(directory: &Path) -> PathBuf {
    directory.join(".distcc-written")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_shows() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = directory.path();
        assert_eq!(Mark::now(at), None);
        let first = Mark::grow(at).expect("written");
        assert_eq!(Mark::now(at), Some(first));
        let second = Mark::grow(at).expect("written");
        assert!(
            second.grew_by(1, Some(first)) && !second.grew_by(2, Some(first)) && !second.grew_by(1, None)
        );
        fs::remove_file(path(at)).expect("removed");
        fs::write(directory.path().join("other"), "").expect("written");
        std::os::unix::fs::symlink("other", path(at)).expect("a link");
        assert_eq!(Mark::now(at), None);
        assert!(Mark::grow(at).is_err());
    }
}
