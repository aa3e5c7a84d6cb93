//! What is shared with clients of distcc 3.4 in the same `DISTCC_DIR`: who holds which slot
//! ([`slots`]), and what runs ([`phases`]), for monitors.
//!
//! Never waits for anyone, and never keeps a job from running: where the directory cannot be used,
//! nothing is shared, and that is said once in the log.

pub mod phases;
pub mod slots;

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::home;
use crate::common::trust::files::may_fill;

/// `$DISTCC_DIR`, else `~/.distcc`.
pub fn directory() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("DISTCC_DIR").or_else(home::distcc_folder)
}

/// Makes a directory, in one that is ours or that somebody made, as distcc 3.4 does; as root, not in another user's.
fn make(path: &Path, umask: u32) -> io::Result<()> {
    may_fill(path, rustix::process::geteuid().as_raw()).map_err(io::Error::other)?;
    match std::fs::DirBuilder::new().mode(0o777 & !umask).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}
