//! The daemon's own directories, and what dead daemons left in theirs.
//!
//! `<temp>/distccd-UID/N/` belongs to one daemon at a time: the one that holds the lock on its
//! `lock`. `N` is the first number whose lock is free, so a daemon that is started again finds
//! its store again, and two on one machine do not meet. Beneath it are `files/`, the store, and
//! one `jobs-…/`.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Daemons of one user on one machine.
const DAEMONS_MAX: u32 = 1000;

/// Why the daemon has no place to work.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The file system refused.
    #[error("cannot use {path}: {error}")]
    Io {
        /// Which path.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// Somebody else was here first.
    #[error("{path} is not a directory of ours alone (owner {owner}, mode {mode:o})")]
    NotOurs {
        /// Which path.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Its permissions.
        mode: u32,
    },
    /// Too many daemons.
    #[error("{DAEMONS_MAX} daemons work in {0} already")]
    Full(PathBuf),
}

/// A place to work, for as long as this value lives.
#[derive(Debug)]
pub struct Root {
    /// Where the store is.
    pub store: PathBuf,
    /// Where jobs run; no other daemon ever uses this name.
    pub jobs: PathBuf,
    /// Holds the lock.
    _lock: File,
}

impl Root {
    /// Takes a place beneath `temp`, and removes what dead daemons left there.
    ///
    /// # Errors
    ///
    /// Returns [`RootError`] when there is no place that is ours alone.
    pub fn take(temp: &Path) -> Result<Self, RootError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| RootError::Io { path, error }
        };
        let temp = temp.canonicalize().map_err(failed(temp))?;
        let uid = rustix::process::geteuid().as_raw();
        let base = temp.join(format!("distccd-{uid}"));
        private_directory(&base, uid)?;
        for number in 0..DAEMONS_MAX {
            let own = base.join(number.to_string());
            private_directory(&own, uid)?;
            let Some(lock) = try_lock(&own).map_err(failed(&own))? else { continue };
            remove_jobs(&own);
            clean_others(&base, number);
            let jobs =
                tempfile::Builder::new().prefix("jobs-").tempdir_in(&own).map_err(failed(&own))?.keep();
            // What earlier versions kept, in a form that is not read any more.
            let _ = fs::remove_dir_all(own.join("store"));
            return Ok(Root { store: own.join("files"), jobs, _lock: lock });
        }
        Err(RootError::Full(base))
    }
}

/// Makes a directory that only we can enter, or checks that it is one.
fn private_directory(path: &Path, uid: u32) -> Result<(), RootError> {
    let failed = |error| RootError::Io { path: path.to_owned(), error };
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    let meta = fs::symlink_metadata(path).map_err(failed)?;
    let mode = meta.permissions().mode() & 0o777;
    match meta.is_dir() && meta.uid() == uid && mode & 0o077 == 0 {
        true => Ok(()),
        false => Err(RootError::NotOurs { path: path.to_owned(), owner: meta.uid(), mode }),
    }
}

/// The lock of a daemon's directory; `None` while a living daemon has it.
fn try_lock(own: &Path) -> io::Result<Option<File>> {
    let file = File::options().create(true).truncate(false).write(true).open(own.join("lock"))?;
    match fs2::FileExt::try_lock_exclusive(&file) {
        Ok(()) => Ok(Some(file)),
        Err(error) if error.raw_os_error() == fs2::lock_contended_error().raw_os_error() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Ends and removes the jobs of the dead daemon that had this directory.
fn remove_jobs(own: &Path) {
    let Ok(entries) = fs::read_dir(own) else { return };
    for entry in entries.filter_map(Result::ok) {
        if entry.file_name().to_string_lossy().starts_with("jobs-") {
            tracing::info!(directory = %entry.path().display(), "removing what a dead daemon left");
            super::guard::sweep(&entry.path());
        }
    }
}

fn clean_others(base: &Path, own: u32) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for entry in entries.filter_map(Result::ok) {
        let number = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        if number.is_none_or(|number| number == own) {
            continue;
        }
        if let Ok(Some(_lock)) = try_lock(&entry.path()) {
            remove_jobs(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_daemons_never_share_a_place_and_a_later_one_finds_the_store_again() {
        let temp = tempfile::tempdir().unwrap();
        let first = Root::take(temp.path()).unwrap();
        let second = Root::take(temp.path()).unwrap();
        assert_ne!(first.store, second.store);
        let store = first.store.clone();
        drop(first);
        assert_eq!(Root::take(temp.path()).unwrap().store, store);
    }

    #[test]
    fn what_a_dead_daemon_left_is_removed_and_what_a_living_one_has_is_not() {
        let temp = tempfile::tempdir().unwrap();
        let dead = Root::take(temp.path()).unwrap();
        let living = Root::take(temp.path()).unwrap();
        fs::create_dir(dead.jobs.join("1")).unwrap();
        let left = dead.jobs.clone();
        drop(dead);
        let next = Root::take(temp.path()).unwrap();
        assert!(!left.exists());
        assert!(living.jobs.exists() && next.jobs.exists());
    }

    #[test]
    fn a_directory_that_others_can_enter_is_not_used() {
        let temp = tempfile::tempdir().unwrap();
        let base = temp.path().join(format!("distccd-{}", rustix::process::geteuid().as_raw()));
        fs::create_dir(&base).unwrap();
        fs::set_permissions(&base, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(Root::take(temp.path()), Err(RootError::NotOurs { mode: 0o777, .. })));
    }
}
