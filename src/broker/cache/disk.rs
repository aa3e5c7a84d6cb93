//! A directory of results: one file each, bounded, what was used longest ago goes first.
//!
//! Files are written beside their place and renamed, so there are whole ones or none; several
//! brokers may share a directory. The order of use survives restarts in the files' times. Nothing in
//! it is trusted: a file counts when it is plain, this user's own, and holds what was written under this
//! very name.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::distrust::Origin;
use super::entry;
use super::mark::Mark;
use crate::broker::link::FilesAnswer;
use crate::common::limits::OUTPUT_MAX_BYTES;
use crate::common::lru::Lru;
use crate::common::toolchain::Digest;

/// One result may be so large a share of the whole.
const SHARE_MAX: u64 = 8;

/// So much of the file system is left to others.
const FREE_MIN_BYTES: u64 = 512 << 20;

/// After writing such a share of the whole, it is looked anew what is there: other brokers write, too.
const LOOK_AGAIN: u64 = 16;

/// Where other brokers write as well, it is looked no more often than this what is there: each result is then
/// looked for by itself.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);

/// A directory of results.
#[derive(Debug)]
pub struct Disk {
    directory: PathBuf,
    max_bytes: AtomicU64,
    /// What is there; found when it is first needed.
    index: Mutex<Option<Lru<Digest>>>,
    /// How it looked when the index had all that was there, and when all of it was last looked at.
    whole: Mutex<(Option<Mark>, Option<Instant>)>,
    /// What was written since that was last looked at, in bytes.
    unseen: AtomicU64,
}

/// What there is under a key.
enum Found {
    Nothing,
    /// Something that was not written for this key, or by this user.
    Damaged,
    Whole(File, u64, Box<(FilesAnswer, Origin)>),
}

impl Disk {
    /// Of this directory, which is made when there is something to keep.
    pub fn new(directory: PathBuf) -> Self {
        Disk {
            directory,
            max_bytes: AtomicU64::new(0),
            index: Mutex::new(None),
            whole: Mutex::new((None, None)),
            unseen: AtomicU64::new(0),
        }
    }

    /// How much may be kept; the last word counts.
    pub fn bound(&self, max_bytes: u64) {
        self.max_bytes.store(max_bytes, Ordering::Relaxed);
    }

    /// The result under a key, and where it is from. One that is not whole is removed.
    pub fn read(&self, key: &Digest) -> Option<(FilesAnswer, Origin)> {
        let path = self.path(key);
        let (file, length, found) = match find(&path, key) {
            Found::Nothing => return None,
            Found::Damaged => {
                tracing::warn!(path = %path.display(), "a kept result is damaged, or of another version; it is removed");
                self.forget(key);
                return None;
            }
            Found::Whole(file, length, found) => (file, length, found),
        };
        // Only the order of use is lost where this fails.
        let _ = file.set_modified(SystemTime::now());
        if let Some(index) = self.index().as_mut() {
            index.insert(*key, length);
        }
        Some(*found)
    }

    /// Removes a result. What cannot be removed is found to be damaged again.
    pub fn forget(&self, key: &Digest) {
        self.index().as_mut().map(|index| index.remove(key));
        let _ = fs::remove_file(self.path(key));
    }

    /// Whether there is certainly nothing under a key. It waits for nobody and asks for one file's length, so
    /// it is for where one must not block.
    pub fn lacks(&self, key: &Digest) -> bool {
        let whole = self.whole.try_lock().ok().and_then(|whole| whole.0);
        let is_unknown = |index: MutexGuard<'_, Option<Lru<Digest>>>| {
            index.as_ref().is_some_and(|index| index.get(key).is_none())
        };
        whole.is_some() && self.index.try_lock().is_ok_and(is_unknown) && Mark::now(&self.directory) == whole
    }

    /// Lets other brokers know of what `write` does, and learns whether they wrote something.
    pub fn writing<T>(&self, write: impl FnOnce() -> T) -> T {
        let mut whole = self.whole();
        let _ = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory);
        let _ = Mark::grow(&self.directory);
        let before = whole.0.take();
        drop(whole);
        let done = write();
        let mark = Mark::grow(&self.directory).ok();
        whole = self.whole();
        match mark {
            Some(mark) if mark.grew_by(2, before) => whole.0 = Some(mark),
            Some(mark) if whole.1.is_none_or(|then| then.elapsed() >= LOOK_INTERVAL) => {
                // Whoever writes from now on changes the mark.
                let found = scan(&self.directory);
                *self.index() = Some(found);
                *whole = (Some(mark), Some(Instant::now()));
            }
            _ => {}
        }
        done
    }

    /// Keeps a result.
    ///
    /// # Errors
    ///
    /// Returns what the file system returned; nothing is left behind.
    pub fn write(&self, key: &Digest, answer: &FilesAnswer, origin: &Origin) -> io::Result<()> {
        let max_bytes = self.max_bytes.load(Ordering::Relaxed);
        let bytes = entry::encode(key, answer, origin);
        if bytes.len() as u64 > max_bytes / SHARE_MAX {
            return Err(io::Error::other("it is too large for the cache"));
        }
        let path = self.path(key);
        let folder = path.parent().unwrap_or(&self.directory);
        let make = || tempfile::Builder::new().prefix(".new-").tempfile_in(folder);
        let mut file = match make() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
                make()?
            }
            made => made?,
        };
        if fs2::available_space(folder)? < FREE_MIN_BYTES {
            return Err(io::Error::other("the disk is nearly full"));
        }
        file.write_all(&bytes)?;
        // The order of use is finer than the clock of most file systems.
        let _ = file.as_file().set_modified(SystemTime::now());
        file.persist(&path).map_err(|error| error.error)?;
        self.make_room(key, bytes.len() as u64, max_bytes);
        Ok(())
    }

    /// Notes what was written, and removes what is too much.
    fn make_room(&self, key: &Digest, length: u64, max_bytes: u64) {
        let unseen = self.unseen.fetch_add(length, Ordering::Relaxed) + length;
        // Looked at without the lock, which those who read want.
        let anew = (unseen > max_bytes / LOOK_AGAIN).then(|| {
            self.unseen.store(0, Ordering::Relaxed);
            scan(&self.directory)
        });
        let surplus = {
            let mut index = self.index();
            if anew.is_some() {
                *index = anew;
            }
            let index = index.get_or_insert_with(|| scan(&self.directory));
            index.insert(*key, length);
            index.shrink(max_bytes)
        };
        surplus.iter().for_each(|key| drop(fs::remove_file(self.path(key))));
    }

    fn path(&self, key: &Digest) -> PathBuf {
        let hex = key.to_string();
        let (folder, name) = hex.split_at(2);
        self.directory.join(folder).join(name)
    }

    fn whole(&self) -> MutexGuard<'_, (Option<Mark>, Option<Instant>)> {
        self.whole.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread that panicked left a whole index: each change is one call.
    fn index(&self) -> MutexGuard<'_, Option<Lru<Digest>>> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks for the result under a key. Whatever lies there, this returns at once.
fn find(path: &Path, key: &Digest) -> Found {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let mut file = match File::options().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Found::Damaged,
        Err(_) => return Found::Nothing,
    };
    let Ok(meta) = file.metadata() else { return Found::Nothing };
    let is_own = meta.is_file() && meta.uid() == rustix::process::geteuid().as_raw();
    let length = meta.len();
    if !is_own || length > OUTPUT_MAX_BYTES * 2 {
        return Found::Damaged;
    }
    let mut bytes = Vec::with_capacity(length as usize);
    if (&mut file).take(length).read_to_end(&mut bytes).is_err() {
        return Found::Nothing;
    }
    match entry::decode(key, &bytes) {
        Some(found) => Found::Whole(file, length, Box::new(found)),
        None => Found::Damaged,
    }
}

/// What is there. What dead brokers left unfinished is removed.
fn scan(directory: &Path) -> Lru<Digest> {
    let mut found: Vec<((i64, i64), Digest, u64)> = Vec::new();
    for folder in fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok) {
        let Some(prefix) = folder.file_name().to_str().map(str::to_owned) else { continue };
        for file in fs::read_dir(folder.path()).into_iter().flatten().filter_map(Result::ok) {
            let (Some(name), Ok(meta)) = (file.file_name().to_str().map(str::to_owned), file.metadata())
            else {
                continue;
            };
            match Digest::parse(&format!("{prefix}{name}")) {
                Some(key) => found.push(((meta.mtime(), meta.mtime_nsec()), key, meta.len())),
                None if name.starts_with(".new-") && is_old(&meta) => drop(fs::remove_file(file.path())),
                None => {}
            }
        }
    }
    found.sort_unstable_by_key(|(modified, ..)| *modified);
    let mut index = Lru::default();
    found.into_iter().for_each(|(_, key, bytes)| index.insert(key, bytes));
    index
}

/// Whether nobody can be writing it any more.
fn is_old(meta: &fs::Metadata) -> bool {
    let age = meta.modified().ok().and_then(|then| SystemTime::now().duration_since(then).ok());
    age.is_some_and(|age| age.as_secs() > 3600)
}

#[cfg(test)]
mod tests {
    use super::super::entry::tests::{ORIGIN, answer};
    use super::*;

    fn key(number: u8) -> Digest {
        Digest::of(&[number])
    }

    fn open(directory: &Path, max_bytes: u64) -> Disk {
        let disk = Disk::new(directory.join("results"));
        disk.bound(max_bytes);
        disk
    }

    #[test]
    fn a_result_is_there_for_the_next_broker_too() {
        let directory = tempfile::tempdir().expect("a directory");
        let disk = open(directory.path(), 1 << 20);
        assert!(disk.read(&key(1)).is_none());
        disk.write(&key(1), &answer(b"one"), &ORIGIN).expect("kept");
        assert_eq!(open(directory.path(), 1 << 20).read(&key(1)).expect("there").0.packed, b"one");
    }

    #[test]
    fn what_was_used_longest_ago_makes_room() {
        let directory = tempfile::tempdir().expect("a directory");
        let disk = open(directory.path(), 10_000);
        for number in 0..12 {
            disk.write(&key(number), &answer(&[number; 1000]), &ORIGIN).expect("kept");
            let _ = disk.read(&key(0));
        }
        let there: Vec<u8> = (0..12).filter(|number| disk.read(&key(*number)).is_some()).collect();
        assert!(there.contains(&0) && there.contains(&11) && !there.contains(&1), "{there:?}");
    }

    /// Keeps two results, does something to the file of the first, and asks for it.
    fn spoil(harm: impl FnOnce(&Path, &Path)) -> Option<Vec<u8>> {
        let directory = tempfile::tempdir().expect("a directory");
        let disk = open(directory.path(), 1 << 20);
        for number in [1, 2] {
            disk.write(&key(number), &answer(&[number; 300]), &ORIGIN).expect("kept");
        }
        let path = disk.path(&key(1));
        harm(&path, &disk.path(&key(2)));
        let found = disk.read(&key(1)).map(|(answer, _)| answer.packed);
        assert!(found.is_some() || fs::symlink_metadata(&path).is_err(), "what is damaged goes");
        found
    }

    #[test]
    fn a_damaged_result_is_no_result_and_goes() {
        for at in (0..entry_length()).step_by(13) {
            let flip = |path: &Path, _: &Path| {
                let mut bytes = fs::read(path).expect("there");
                bytes[at] ^= 1;
                fs::write(path, bytes).expect("written");
            };
            assert!(spoil(flip).is_none(), "{at}");
            let cut = |path: &Path, _: &Path| {
                let file = File::options().write(true).open(path).expect("there");
                file.set_len(at as u64).expect("cut");
            };
            assert!(spoil(cut).is_none(), "{at}");
        }
        assert_eq!(spoil(|_, _| ()).expect("whole"), [1; 300]);
    }

    fn entry_length() -> usize {
        entry::encode(&key(1), &answer(&[1; 300]), &ORIGIN).len()
    }

    #[test]
    fn a_result_of_another_compile_is_none_under_this_name() {
        assert!(spoil(|this, other| drop(fs::copy(other, this))).is_none());
        assert!(spoil(|this, other| fs::rename(other, this).expect("renamed")).is_none());
    }

    #[test]
    fn what_is_no_plain_file_of_this_user_is_no_result() {
        use std::os::unix::fs::{chown, symlink};
        // Even a whole result is not taken from where a link leads.
        let link = |path: &Path, _: &Path| {
            let aside = path.with_extension("aside");
            fs::rename(path, &aside).expect("renamed");
            symlink(&aside, path).expect("linked");
        };
        assert!(spoil(link).is_none());
        let pipe = |path: &Path, _: &Path| {
            fs::remove_file(path).expect("removed");
            let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).expect("a pipe");
        };
        assert!(spoil(pipe).is_none());
        if rustix::process::geteuid().is_root() {
            assert!(spoil(|path, _| chown(path, Some(1), None).expect("given away")).is_none());
        }
    }

    #[test]
    fn two_brokers_keep_one_bound_together() {
        let directory = tempfile::tempdir().expect("a directory");
        let brokers = [open(directory.path(), 16_000), open(directory.path(), 16_000)];
        for number in 0..120 {
            let broker = &brokers[usize::from(number % 2)];
            broker.write(&key(number), &answer(&[number; 1000]), &ORIGIN).expect("kept");
        }
        let there: u64 = scan(&directory.path().join("results")).total_bytes();
        assert!(there <= 18_000, "{there} bytes");
        assert!(brokers[0].read(&key(119)).is_some(), "what one wrote, the other finds");
    }

    #[test]
    fn what_makes_room_while_it_is_read_is_read_whole_or_not_found() {
        let directory = tempfile::tempdir().expect("a directory");
        let disk = open(directory.path(), 40_000);
        std::thread::scope(|scope| {
            let writers = [0, 1].map(|first| {
                let disk = &disk;
                scope.spawn(move || {
                    for round in 0..200 {
                        let number = (first + 2 * round % 50) as u8;
                        disk.write(&key(number), &answer(&[number; 3000]), &ORIGIN).expect("kept");
                    }
                })
            });
            let mut hits = 0;
            while !writers.iter().all(|writer| writer.is_finished()) {
                for number in 0..50 {
                    if let Some((found, _)) = disk.read(&key(number)) {
                        assert_eq!(found.packed, [number; 3000]);
                        hits += 1;
                    }
                }
            }
            assert!(hits > 0);
        });
        assert!(scan(&directory.path().join("results")).total_bytes() <= 40_000);
    }

    #[test]
    fn what_is_not_there_is_known_without_looking_until_another_broker_writes() {
        let directory = tempfile::tempdir().expect("a directory");
        let [one, other] = [open(directory.path(), 1 << 20), open(directory.path(), 1 << 20)];
        let write = |disk: &Disk, number: u8| {
            disk.writing(|| disk.write(&key(number), &answer(b"text"), &ORIGIN)).expect("kept");
        };
        assert!(!one.lacks(&key(1)), "nobody has looked");
        write(&one, 1);
        assert!(!one.lacks(&key(1)) && one.lacks(&key(2)));
        write(&one, 2);
        assert!(!one.lacks(&key(2)) && one.lacks(&key(3)));
        write(&other, 3);
        assert!(!one.lacks(&key(3)) && !one.lacks(&key(4)) && one.read(&key(3)).is_some());
        assert!(!other.lacks(&key(1)) && other.lacks(&key(4)), "the other has found what there was");
        // Not while somebody is at it, and soon after not either: looking is dear.
        one.writing(|| assert!(!other.lacks(&key(4)) && !one.lacks(&key(4))));
        assert!(!one.lacks(&key(4)) && one.read(&key(4)).is_none());
    }

    #[test]
    fn a_result_larger_than_its_share_is_not_kept() {
        let directory = tempfile::tempdir().expect("a directory");
        let disk = open(directory.path(), 8000);
        assert!(disk.write(&key(1), &answer(&[0; 2000]), &ORIGIN).is_err());
        assert!(disk.read(&key(1)).is_none());
    }
}
