//! The daemon's own directories, and what dead daemons left in theirs.
//!
//! `<temp>/distccd-UID/N/` belongs to one daemon at a time: the one that holds the lock on its
//! `lock`. `N` is the first number whose lock is free, so a daemon that is started again finds
//! its store again, and two on one machine do not meet. Beneath it are `files/`, the store, and
//! one `jobs-…/`.
//!
//! Temporary files are cleaned up by others, too: systemd-tmpfiles(8) leaves alone what lies in a directory
//! that is locked (flock(2)), and so ours are. What is removed all the same is made again ([`Root::mend`]).

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

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
    /// What was removed is somebody else's now.
    #[error("another daemon works in {0} since it was removed; this one must be started again")]
    Taken(PathBuf),
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
    base: PathBuf,
    own: PathBuf,
    held: Mutex<Held>,
}

/// What makes a place ours.
#[derive(Debug)]
struct Held {
    /// Kept open: a directory that replaces it has another number.
    own: File,
    /// Holds the lock.
    lock: File,
    _base: File,
}

impl Held {
    /// Takes a daemon's directory; `None` while a living daemon has it.
    fn take(base: &Path, own: &Path) -> io::Result<Option<Self>> {
        let Some(lock) = try_lock(own)? else { return Ok(None) };
        Ok(Some(Held { own: kept(own)?, lock, _base: kept(base)? }))
    }

    /// Whether it is what is found there by its names.
    fn is_there(&self, own: &Path) -> bool {
        is_file_at(&self.own, own) && is_file_at(&self.lock, &own.join("lock"))
    }
}

/// A directory that is open, and left alone by those who clean up, where they heed locks.
fn kept(path: &Path) -> io::Result<File> {
    let folder = File::open(path)?;
    let _ = fs2::FileExt::try_lock_shared(&folder);
    Ok(folder)
}

/// Whether this very file has that name.
pub fn is_file_at(file: &File, path: &Path) -> bool {
    let number = |meta: fs::Metadata| (meta.dev(), meta.ino());
    let there = fs::symlink_metadata(path).map(number);
    there.is_ok_and(|there| file.metadata().is_ok_and(|meta| number(meta) == there))
}

/// Makes a folder where there is none; whether it did.
///
/// # Errors
///
/// Returns what the file system returns.
pub fn make_missing(path: &Path, mode: u32) -> io::Result<bool> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        made => made.map(|()| true),
    }
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
            let Some(held) = Held::take(&base, &own).map_err(failed(&own))? else { continue };
            remove_jobs(&own);
            clean_others(&base, number);
            let jobs =
                tempfile::Builder::new().prefix("jobs-").tempdir_in(&own).map_err(failed(&own))?.keep();
            // What earlier versions kept, in a form that is not read any more.
            let _ = fs::remove_dir_all(own.join("store"));
            let held = Mutex::new(held);
            return Ok(Root { store: own.join("files"), jobs, base, own, held });
        }
        Err(RootError::Full(base))
    }

    /// Takes the place anew where somebody removed it beneath the daemon, or put something else there; whether
    /// that was so. It is ours alone again then, or nothing is done in it.
    ///
    /// # Errors
    ///
    /// Returns [`RootError`] when it cannot be had.
    pub fn mend(&self) -> Result<bool, RootError> {
        let failed = |error| RootError::Io { path: self.own.clone(), error };
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = !held.is_there(&self.own);
        if is_fresh {
            let uid = rustix::process::geteuid().as_raw();
            private_directory(&self.base, uid)?;
            private_directory(&self.own, uid)?;
            // Of a directory of which only the lock's name is gone, the lock is ours nevertheless.
            let taken = Held::take(&self.base, &self.own).map_err(failed)?;
            *held = taken.ok_or_else(|| RootError::Taken(self.own.clone()))?;
            tracing::warn!(directory = %self.own.display(), "somebody removed this daemon's files; they are made again");
        }
        Ok(make_missing(&self.jobs, 0o700).map_err(failed)? || is_fresh)
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
    fn a_place_that_was_removed_is_taken_again_as_it_was_and_not_from_others() {
        let temp = tempfile::tempdir().unwrap();
        let root = Root::take(temp.path()).unwrap();
        assert!(!root.mend().unwrap());
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        // Its whole tree, the lock, the jobs.
        fs::remove_dir_all(&root.base).unwrap();
        assert!(root.mend().unwrap() && !root.mend().unwrap());
        assert_eq!([&root.base, &root.own, &root.jobs].map(|path| mode(path)), [0o700; 3]);
        fs::remove_file(root.own.join("lock")).unwrap();
        assert!(root.mend().unwrap() && !root.mend().unwrap());
        assert_ne!(Root::take(temp.path()).unwrap().own, root.own, "it is locked again");
        fs::remove_dir_all(&root.jobs).unwrap();
        assert!(root.mend().unwrap() && !root.mend().unwrap());
        // What others put there, however it looks, is not used.
        for is_link in [false, true] {
            fs::remove_dir_all(&root.base).unwrap();
            match is_link {
                true => std::os::unix::fs::symlink(temp.path(), &root.base).unwrap(),
                false => fs::create_dir(&root.base).unwrap(),
            }
            let _ = fs::set_permissions(&root.base, fs::Permissions::from_mode(0o777));
            assert!(matches!(root.mend(), Err(RootError::NotOurs { .. })));
            assert!(matches!(root.mend(), Err(RootError::NotOurs { .. })), "and so it stays");
            fs::remove_dir(&root.base).or_else(|_| fs::remove_file(&root.base)).unwrap();
            assert!(root.mend().unwrap());
        }
    }

    #[test]
    fn who_cleans_up_and_heeds_locks_leaves_a_place_alone() {
        let temp = tempfile::tempdir().unwrap();
        let root = Root::take(temp.path()).unwrap();
        for path in [&root.base, &root.own] {
            let other = File::open(path).unwrap();
            assert!(fs2::FileExt::try_lock_exclusive(&other).is_err(), "{}", path.display());
        }
        let second = Root::take(temp.path()).unwrap();
        assert_ne!(second.own, root.own);
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
