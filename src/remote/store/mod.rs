//! Files that have been here before, by the digest of their contents: inputs and toolchains.
//!
//! Each is a plain file that nobody can write, `<root>/ab/<rest of the digest>`, made beside its
//! place and renamed, so a crash leaves whole files or none. Jobs get hard links to them, so a
//! file that is dropped while a job reads it lives on until the job is over. Executable files, and
//! files of equal content that a client has apart ([`FileEntry`](crate::common::inputs::FileEntry)),
//! are files of their own.
//!
//! The store is bounded; what was used longest ago goes first, of the client that has the most, and the
//! order survives a restart in the times of last access, which this module sets. Contents are checked before they are taken
//! in; and those that a daemon finds when it starts, again before they are first used: a machine that went down
//! may have written less, and a disk may hold something else by now. What others change beneath a daemon that runs
//! it is told of by the kernel ([`watch`]), and such a file goes.
//!
//! Blocking: to be called from threads that may wait for a disk.

mod index;
mod room;
mod watch;

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
use tempfile::NamedTempFile;

pub use index::Key;
use index::{Index, on_disk};
pub use room::Shortage;
use watch::{Change, Watch};

use super::clients::ClientId;
use super::root::make_missing;
use crate::common::toolchain::Digest;

/// The time of modification of age 0, in seconds since 1970; later ages follow second by second.
const AGE_ZERO: i64 = 1_000_000_000;

/// How long a program may stay open for writing after it was written. What is not closed by then is somebody else's
/// affair: a job that cannot run it is done at the client.
const WRITERS_MAX: Duration = Duration::from_secs(2);

/// A bounded set of files on disk, as one client uses it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    root: Arc<Path>,
    max_bytes: u64,
    index: Arc<Mutex<Index>>,
    watched: Arc<Mutex<Watched>>,
    /// How often room was made.
    evictions: Arc<AtomicU64>,
    /// Whose what is used and taken in is.
    client: ClientId,
}

/// What others did to the store. Held while a file gets its name, so that ours are told from theirs.
#[derive(Debug)]
struct Watched {
    watch: Watch,
    /// How often something was changed by others.
    epoch: u64,
}

/// A file on its way into the store: written by us, seen by nobody else.
#[derive(Debug)]
pub struct Incoming(NamedTempFile);

impl io::Write for Incoming {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.as_file_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Incoming {
    /// What has been written so far, from its beginning.
    ///
    /// # Errors
    ///
    /// Returns what the file system returns.
    pub fn reopen(&self) -> io::Result<File> {
        self.0.reopen()
    }

    /// Makes the file appear at `path` too, whether or not the store keeps it.
    ///
    /// # Errors
    ///
    /// Returns what the file system returns, as when there is something at `path`.
    pub fn link(&self, path: &Path) -> io::Result<()> {
        match fs::hard_link(self.0.path(), path) {
            Err(error) if is_no_link(&error) => fs::copy(self.0.path(), path).map(drop),
            linked => linked,
        }
    }
}

impl Store {
    /// Opens the store in `root`, which is created if need be, and finds what it holds.
    ///
    /// # Errors
    ///
    /// Returns what the file system returns when the directory cannot be made or read.
    pub fn open(root: &Path, max_bytes: u64) -> io::Result<Self> {
        let incoming = root.join("incoming");
        let _ = fs::remove_dir_all(&incoming);
        fs::create_dir_all(&incoming)?;
        let (watch, index) = survey(root)?;
        tracing::debug!(files = index.len(), "the store is open");
        let index = Arc::new(Mutex::new(index));
        let watched = Arc::new(Mutex::new(Watched { watch, epoch: 0 }));
        let (evictions, client) = (Arc::default(), ClientId::default());
        let store = Store { root: root.into(), max_bytes, index, watched, evictions, client };
        store.make_room();
        Ok(store)
    }

    /// The same store, as this client uses it.
    pub fn of(&self, client: ClientId) -> Self {
        Store { client, ..self.clone() }
    }

    /// How many bytes it holds, of how many at most, and in how many files.
    pub fn held(&self) -> (u64, u64, usize) {
        let index = self.index();
        (index.bytes(), self.max_bytes, index.len())
    }

    /// Whether a file is there. One of the same content is as good: then this makes it.
    pub fn has(&self, key: &Key) -> bool {
        let held = self.index().touch(key, self.client);
        match held {
            Some(held) if held.proven.is_some() => true,
            Some(_) => self.prove(key),
            None => self.copy_of_sibling(key),
        }
    }

    /// Whether the contents of a file are there, as far as is known without looking.
    pub fn knows(&self, digest: &Digest) -> bool {
        let key = Key::plain(*digest);
        let index = self.index();
        index.holds(&key) || index.sibling(&key).is_some()
    }

    /// Gives a file another name, beneath the folder `at`.
    ///
    /// # Errors
    ///
    /// Returns `NotFound` when the file is not there any more, or the folder of `path` is not;
    /// else what the file system returns.
    pub fn link(&self, key: &Key, at: BorrowedFd<'_>, path: &[u8]) -> io::Result<()> {
        let linked = rustix::fs::linkat(CWD, self.path(key), at, path, AtFlags::empty());
        linked.map_err(io::Error::from)
    }

    /// A file to write contents to, on the store's own file system.
    ///
    /// # Errors
    ///
    /// Returns what the file system returns.
    pub fn incoming(&self) -> io::Result<Incoming> {
        NamedTempFile::new_in(self.root.join("incoming")).map(Incoming)
    }

    /// Takes in a file whose digest has been checked. One that is larger than the store is not kept.
    ///
    /// # Errors
    ///
    /// Returns what the file system returns; the store is then as it was.
    pub fn commit(&self, Incoming(file): Incoming, key: &Key) -> io::Result<()> {
        let meta = file.as_file().metadata()?;
        let (size, inode) = (meta.len(), meta.ino());
        seal(file.as_file(), key)?;
        if on_disk(size) > self.max_bytes {
            return Ok(());
        }
        let path = self.path(key);
        let file = file.into_temp_path();
        if key.executable {
            await_writers(&File::open(&file)?);
        }
        let mut watched = self.watched();
        self.take_in_changes(&mut watched);
        if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
            // Not those above it: they are ours alone only as `Root` makes them.
            make_missing(directory, 0o755)?;
            watched.watch.add(directory, &key.name()[..2]);
        }
        if let Err(error) = file.persist(&path) {
            // A folder that somebody made in its place, while no daemon ran.
            clear_away(&path);
            error.path.persist(&path).map_err(|error| error.error)?;
        }
        self.index().insert(*key, size, Some(inode), self.client);
        drop(watched);
        self.make_room();
        Ok(())
    }

    /// The contents of a file.
    ///
    /// # Errors
    ///
    /// Returns what the file system returns.
    pub fn read(&self, key: &Key) -> io::Result<File> {
        File::open(self.path(key))
    }

    /// Copies a file.
    ///
    /// # Errors
    ///
    /// Returns what the file system returns.
    pub fn copy(&self, key: &Key, to: &Path) -> io::Result<()> {
        fs::copy(self.path(key), to)?;
        if key.executable {
            await_writers(&File::open(to)?);
        }
        Ok(())
    }

    /// Takes in what others did to stored files: those go. Another number than before says that something
    /// went; whatever has links to such files holds something else than it was made to hold.
    pub fn look(&self) -> u64 {
        let mut watched = self.watched();
        self.take_in_changes(&mut watched);
        watched.epoch
    }

    /// Makes again what of the store's own folders somebody removed. Where all of it is gone, or `is_new` says that
    /// it lies in another folder than before, nothing is known of it any more but what is found.
    ///
    /// # Errors
    ///
    /// Returns what the file system returns.
    pub fn mend(&self, is_new: bool) -> io::Result<()> {
        let mut watched = self.watched();
        let is_new = make_missing(&self.root, 0o755)? || is_new;
        make_missing(&self.root.join("incoming"), 0o755)?;
        if is_new {
            let (watch, index) = survey(&self.root)?;
            *self.index() = index;
            *watched = Watched { watch, epoch: watched.epoch + 1 };
        }
        Ok(())
    }

    fn take_in_changes(&self, watched: &mut Watched) {
        for change in watched.watch.changes() {
            match change {
                Change::Anything => {
                    self.index().doubt_all();
                    watched.epoch += 1;
                }
                Change::Written(key) => self.changed_by_others(&key, watched),
                Change::Touched(key) => {
                    let proven = self.index().proven(&key);
                    let there = fs::symlink_metadata(self.path(&key)).ok();
                    let is_ours = |meta: &fs::Metadata| Some(meta.ino()) == proven && is_sealed(meta, &key);
                    // What is not proven is looked at before it is used.
                    if proven.is_some() && there.is_some_and(|meta| !is_ours(&meta)) {
                        self.changed_by_others(&key, watched);
                    }
                }
            }
        }
    }

    fn changed_by_others(&self, key: &Key, watched: &mut Watched) {
        tracing::warn!(digest = %key.digest.short(), "a stored file was changed by others; it is removed");
        watched.epoch += 1;
        self.index().remove(key);
        clear_away(&self.path(key));
    }

    /// Looks whether a file that was found is what its name says.
    fn prove(&self, key: &Key) -> bool {
        let when_sealed = |file: File| {
            let meta = file.metadata()?;
            io::Result::Ok(is_sealed(&meta, key).then_some((file, meta.ino())))
        };
        let sealed = self.read(key).and_then(when_sealed).ok().flatten();
        let proven = sealed.and_then(|(file, inode)| {
            digest_of(file).is_ok_and(|digest| digest == key.digest).then_some(inode)
        });
        if let Some(inode) = proven {
            self.index().prove(key, inode);
        } else {
            tracing::warn!(digest = %key.digest.short(), "a stored file is not whole; it is removed");
            self.drop_file(key);
        }
        proven.is_some()
    }

    /// Makes a file from another with the same content.
    fn copy_of_sibling(&self, key: &Key) -> bool {
        let Some(sibling) = self.index().sibling(key) else { return false };
        let copied = self.has_itself(&sibling)
            && self.read(&sibling).is_ok_and(|mut from| {
                self.incoming().is_ok_and(|mut into| {
                    io::copy(&mut from, into.0.as_file_mut()).is_ok() && self.commit(into, key).is_ok()
                })
            });
        copied && self.index().touch(key, self.client).is_some()
    }

    fn has_itself(&self, key: &Key) -> bool {
        let held = self.index().touch(key, self.client);
        held.is_some_and(|held| held.proven.is_some() || self.prove(key))
    }

    fn drop_file(&self, key: &Key) {
        if self.index().remove(key) {
            clear_away(&self.path(key));
        }
    }

    /// Notes on disk that these files were used now, so that a restart knows.
    pub fn stamp<'a>(&self, keys: impl Iterator<Item = &'a Key>) {
        let omit = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
        let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: omit };
        for key in keys {
            let _ = rustix::fs::utimensat(CWD, self.path(key), &times, AtFlags::SYMLINK_NOFOLLOW);
        }
    }

    /// A file that is not where the index says is gone, e.g. by somebody's hand.
    pub fn lost(&self, key: &Key) {
        if !self.path(key).exists() {
            self.index().remove(key);
        }
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.root.join(key.name())
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread that panicked left a whole index: each change is one call.
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether this says that a file can have no further name: it has as many as there may be, or the file
/// system knows of no such thing.
pub fn is_no_link(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMLINK | libc::EPERM | libc::EOPNOTSUPP | libc::ENOSYS))
}

/// Removes whatever has this name, where that can be.
fn clear_away(path: &Path) {
    if fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir()) {
        let _ = fs::remove_dir_all(path);
    } else {
        let _ = fs::remove_file(path);
    }
}

/// What may be done with a file.
fn mode(key: &Key) -> u32 {
    if key.executable { 0o555 } else { 0o444 }
}

/// How old it should be, in seconds since 1970.
fn modified(key: &Key) -> i64 {
    AGE_ZERO + i64::from(key.age)
}

/// Whether a file is as [`seal`] left it.
fn is_sealed(meta: &fs::Metadata, key: &Key) -> bool {
    meta.is_file() && meta.mode() & 0o7777 == mode(key) && meta.mtime() == modified(key)
}

/// Makes a file what a job sees: unchangeable, and as old as it should be.
fn seal(file: &File, key: &Key) -> io::Result<()> {
    file.set_permissions(fs::Permissions::from_mode(mode(key)))?;
    let modified = Timespec { tv_sec: modified(key), tv_nsec: 0 };
    let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: modified };
    rustix::fs::futimens(file.as_fd(), &times).map_err(io::Error::from)
}

/// Waits until nobody has a program open for writing: until then it cannot be run (execve(2), `ETXTBSY`).
///
/// Who writes it has closed it, but another thread may have begun a process meanwhile. That has all that the
/// daemon had open, until it has become its program: some milliseconds.
fn await_writers(program: &File) {
    let patience = Instant::now() + WRITERS_MAX;
    while has_writers(program) && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether anybody has a file open for writing, which is what stands in the way of a read lease (fcntl(2),
/// "Leases"). Where there are no leases, nothing is known.
#[allow(unsafe_code, reason = "leases have no safe wrapper here")]
fn has_writers(file: &File) -> bool {
    // SAFETY: both calls take a descriptor that is open, and numbers; they touch no memory. Nobody opens the
    // file for writing meanwhile, which would be told by a signal: a stored file is written before it has a name.
    unsafe {
        if libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) == 0 {
            libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK);
            return false;
        }
    }
    io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock
}

/// The digest of the rest of a file.
///
/// # Errors
///
/// Returns what reading it returns.
pub fn digest_of(file: File) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file)?;
    Ok(Digest(*hasher.finalize().as_bytes()))
}

/// A file that was found on disk.
#[derive(Debug)]
struct Found {
    used: SystemTime,
    key: Key,
    size: u64,
}

/// The folders of files beneath `root`, with their names.
fn folders(root: &Path) -> io::Result<Vec<(PathBuf, String)>> {
    let named = fs::read_dir(root)?.filter_map(Result::ok).filter_map(|directory| {
        let name = directory.file_name().to_str().map(str::to_owned)?;
        let is_folder = name.len() == 2 && directory.file_type().is_ok_and(|kind| kind.is_dir());
        is_folder.then(|| (directory.path(), name))
    });
    Ok(named.collect())
}

/// All that is found beneath `root`, whose contents nobody knows, with ears for its changes.
fn survey(root: &Path) -> io::Result<(Watch, Index)> {
    let mut watch = Watch::new();
    folders(root)?.iter().for_each(|(path, prefix)| watch.add(path, prefix));
    let mut found = scan(root)?;
    found.sort_unstable_by_key(|found| (found.used, found.key));
    let mut index = Index::default();
    for Found { key, size, .. } in found {
        index.insert(key, size, None, ClientId::default());
    }
    Ok((watch, index))
}

/// The files beneath `root`; whatever else lies there is left alone.
fn scan(root: &Path) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for (folder, prefix) in folders(root)? {
        for file in fs::read_dir(folder)?.filter_map(Result::ok) {
            let name = file.file_name();
            let key = name.to_str().and_then(|name| Key::of_name(&prefix, name));
            let (Some(key), Ok(meta)) = (key, file.metadata()) else { continue };
            if meta.is_file() {
                let used = meta.accessed().unwrap_or(SystemTime::UNIX_EPOCH);
                found.push(Found { used, key, size: meta.len() });
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
