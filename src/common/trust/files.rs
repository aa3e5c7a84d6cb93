//! Keys and lists of keys in a folder that nobody else can look into.
//!
//! The one room of `common`, besides the frames, that touches anything: broker and volunteer both keep
//! their keys so. A secret is made once, however many processes want it at the same time; lists are
//! replaced whole, one writer at a time.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::key::Identity;
use crate::common::place::is_open_to;

/// The longest file with a secret.
const SECRET_MAX_BYTES: u64 = 1 << 10;

/// Why keys cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file system refused.
    #[error("{path}: {error}")]
    Io {
        /// Which path.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// Others could read or replace it.
    #[error("{path} is open to others (owner {owner}, mode {mode:03o}): {remedy}")]
    Open {
        /// Which path.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Its permissions.
        mode: u32,
        /// What to do.
        remedy: String,
    },
    /// It holds something else.
    #[error("{path} is no secret key of distcc; move it away, and a new key is made")]
    NoKey {
        /// Which path.
        path: PathBuf,
    },
    /// The system has no random numbers.
    #[error("the system has no random numbers to make a key of")]
    NoRandom,
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |error| FileError::Io { path, error }
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Makes a folder that only its owner can enter, or checks that it is one.
///
/// # Errors
///
/// Returns why it cannot be used.
pub fn private_folder(path: &Path) -> Result<(), FileError> {
    if let Some(parent) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(failed(parent))?;
    }
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(path)(error)),
        _ => {}
    }
    is_private_folder(path)
}

/// Checks that a folder is there, is ours, and is closed to others.
///
/// # Errors
///
/// Returns why not.
pub fn is_private_folder(path: &Path) -> Result<(), FileError> {
    let found = fs::metadata(path).map_err(failed(path))?;
    let (owner, mode) = (found.uid(), found.mode() & 0o777);
    if !found.is_dir() {
        return Err(failed(path)(io::ErrorKind::NotADirectory.into()));
    }
    match owner == own_uid() && mode & 0o077 == 0 {
        true => Ok(()),
        false => Err(open(path, owner, mode, "700")),
    }
}

/// Checks that `uid` is meant to put things into a folder; of one that is not there yet, into the nearest
/// that is: it would be made there.
///
/// # Errors
///
/// Returns whose it is.
pub fn may_fill(path: &Path, uid: u32) -> Result<(), FileError> {
    let nearest = path.ancestors().find_map(|folder| Some((folder, fs::metadata(folder).ok()?)));
    let Some((folder, found)) = nearest else { return Ok(()) };
    match is_open_to(found.uid(), found.mode(), uid) {
        true => Ok(()),
        false => Err(open(folder, found.uid(), found.mode() & 0o777, "go-w")),
    }
}

/// Checks that a folder is ours and that nobody else can put things there; one that is not there yet is
/// ours to be made, unless that would be in another user's.
///
/// # Errors
///
/// Returns why not.
pub fn is_own_folder(path: &Path) -> Result<(), FileError> {
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return may_fill(path, own_uid()),
        Err(error) => return Err(failed(path)(error)),
    };
    let (owner, mode) = (found.uid(), found.mode() & 0o777);
    match owner == own_uid() && mode & 0o022 == 0 {
        true => Ok(()),
        false => Err(open(path, owner, mode, "go-w")),
    }
}

fn open(path: &Path, owner: u32, mode: u32, wanted: &str) -> FileError {
    let remedy = match owner == own_uid() {
        true => format!("chmod {wanted} {}", path.display()),
        false => format!("it must belong to user {}", own_uid()),
    };
    FileError::Open { path: path.to_owned(), owner, mode, remedy }
}

/// The secret key in this file, which is made when it is not there. The folder is private already.
///
/// # Errors
///
/// Returns why there is none.
pub fn secret(path: &Path) -> Result<Identity, FileError> {
    if let Some(found) = read_secret(path)? {
        return Ok(found);
    }
    let fresh = Identity::generate().ok_or(FileError::NoRandom)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder).map_err(failed(folder))?;
    file.write_all(fresh.to_secret_text().as_bytes()).map_err(failed(path))?;
    file.as_file().sync_all().map_err(failed(path))?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(fresh),
        // Somebody was quicker: theirs counts.
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            read_secret(path)?.ok_or_else(|| failed(path)(io::ErrorKind::NotFound.into()))
        }
        Err(error) => Err(failed(path)(error.error)),
    }
}

/// The secret key in this file, if there is such a file.
///
/// # Errors
///
/// Returns why it is not used.
pub fn read_secret(path: &Path) -> Result<Option<Identity>, FileError> {
    let no_link = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
    let file = match OpenOptions::new().read(true).custom_flags(no_link).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(path)(error)),
    };
    let found = file.metadata().map_err(failed(path))?;
    let (owner, mode) = (found.uid(), found.mode() & 0o777);
    if owner != own_uid() || mode & 0o077 != 0 {
        return Err(open(path, owner, mode, "600"));
    }
    let mut text = String::new();
    let read = file.take(SECRET_MAX_BYTES).read_to_string(&mut text);
    read.map_err(|_| FileError::NoKey { path: path.to_owned() })?;
    Identity::of_secret_text(&text).map(Some).map_err(|_| FileError::NoKey { path: path.to_owned() })
}

/// The text of a list of keys; empty when there is no such file. What others than its owner and root
/// could have written is not used.
///
/// # Errors
///
/// Returns why it is not used.
pub fn list(path: &Path, max_bytes: u64) -> Result<String, FileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(failed(path)(error)),
    };
    let found = file.metadata().map_err(failed(path))?;
    let (owner, mode) = (found.uid(), found.mode() & 0o777);
    if ![0, own_uid()].contains(&owner) || mode & 0o022 != 0 {
        return Err(open(path, owner, mode, "600"));
    }
    let mut text = Vec::new();
    file.take(max_bytes).read_to_end(&mut text).map_err(failed(path))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Replaces the text of a list, whole, while no other process does. The folder is private already.
///
/// # Errors
///
/// Returns why it could not be done; then the list is as it was.
pub fn edit(path: &Path, max_bytes: u64, change: impl FnOnce(&str) -> String) -> Result<(), FileError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let lock_path = folder.join("lock");
    let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&lock_path);
    let lock = lock.map_err(failed(&lock_path))?;
    // Whoever holds it writes a small file, and is done.
    fs2::FileExt::lock_exclusive(&lock).map_err(failed(&lock_path))?;
    let text = change(&list(path, max_bytes)?);
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder).map_err(failed(folder))?;
    file.write_all(text.as_bytes()).map_err(failed(path))?;
    file.as_file().sync_all().map_err(failed(path))?;
    file.persist(path).map_err(|error| failed(path)(error.error))?;
    Ok(())
}

/// Which state of a file this is: it changes whenever the file does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp(Option<(u64, u64, u64, i64, i64, i64, i64)>);

impl Stamp {
    /// That of a file, there or not.
    pub fn of(path: &Path) -> Self {
        Stamp(fs::metadata(path).ok().map(|found| {
            let (mtime, ctime) = ((found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec()));
            (found.dev(), found.ino(), found.size(), mtime.0, mtime.1, ctime.0, ctime.1)
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let top = tempfile::tempdir().expect("a folder");
        let path = top.path().join("a/keys");
        private_folder(&path).expect("a private folder");
        (top, path)
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our own file");
    }

    #[test]
    fn a_key_is_made_once_and_closed_to_others() {
        let (_top, folder) = folder();
        let path = folder.join("client.key");
        let made = secret(&path).expect("a key");
        assert_eq!(secret(&path).expect("the same").public(), made.public());
        let mode = |path: &Path| fs::metadata(path).expect("it is there").mode() & 0o777;
        assert_eq!((mode(&path), mode(&folder)), (0o600, 0o700));
        assert_eq!(fs::read_dir(&folder).expect("ours").count(), 1, "nothing else is left");
    }

    #[test]
    fn many_who_want_a_key_at_once_get_the_same_one() {
        let (_top, folder) = folder();
        let path = folder.join("client.key");
        let keys: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..16).map(|_| scope.spawn(|| secret(&path).expect("a key").public())).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
    }

    #[test]
    fn what_others_can_read_is_refused_with_the_remedy() {
        let (_top, folder) = folder();
        let path = folder.join("client.key");
        secret(&path).expect("a key");
        set_mode(&path, 0o640);
        let error = secret(&path).expect_err("others can read it").to_string();
        assert!(error.contains("mode 640") && error.contains("chmod 600"), "{error}");
        set_mode(&folder, 0o750);
        let error = private_folder(&folder).expect_err("others can enter it").to_string();
        assert!(error.contains("chmod 700"), "{error}");
        assert!(is_own_folder(&folder).is_ok() && is_own_folder(&folder.join("none")).is_ok());
        set_mode(&folder, 0o775);
        let error = is_own_folder(&folder).expect_err("others can write there").to_string();
        assert!(error.contains("chmod go-w"), "{error}");
    }

    #[test]
    fn what_root_would_make_in_a_users_folder_is_refused_and_left_unmade() {
        let top = tempfile::tempdir().expect("a folder");
        if own_uid() == 0 {
            std::os::unix::fs::chown(top.path(), Some(12345), None).expect("root may");
            assert!(is_own_folder(&top.path().join("a/keys")).is_err());
        }
        for path in [top.path().to_owned(), top.path().join(".distcc"), top.path().join("a/b/c")] {
            let error = may_fill(&path, 0).expect_err("another user's").to_string();
            assert!(error.contains(&top.path().display().to_string()), "{error}");
            assert!(may_fill(&path, 12345).is_ok());
        }
        // Whoever opens a folder to all means root, too.
        set_mode(top.path(), 0o777);
        assert!(may_fill(&top.path().join("a"), 0).is_ok());
    }

    #[test]
    fn what_is_no_key_is_not_replaced() {
        let (_top, folder) = folder();
        let path = folder.join("client.key");
        fs::write(&path, "something else").expect("our own file");
        set_mode(&path, 0o600);
        assert!(matches!(secret(&path), Err(FileError::NoKey { .. })));
        assert_eq!(fs::read(&path).expect("it is there"), b"something else");
        fs::remove_file(&path).expect("our own file");
        std::os::unix::fs::symlink("/etc/passwd", &path).expect("a link");
        assert!(secret(&path).is_err());
    }

    #[test]
    fn a_list_that_others_can_write_is_not_used() {
        let (_top, folder) = folder();
        let path = folder.join("authorized_keys");
        assert_eq!(list(&path, 100).expect("no file is an empty list"), "");
        edit(&path, 100, |old| format!("{old}a\n")).expect("a list");
        edit(&path, 100, |old| format!("{old}b\n")).expect("a list");
        assert_eq!(list(&path, 100).expect("a list"), "a\nb\n");
        assert_eq!(list(&path, 3).expect("a list"), "a\nb");
        set_mode(&path, 0o620);
        assert!(list(&path, 100).is_err());
    }

    #[test]
    fn a_stamp_tells_of_every_change() {
        let (_top, folder) = folder();
        let path = folder.join("x");
        let before = Stamp::of(&path);
        edit(&path, 100, |_| "a".to_owned()).expect("a list");
        let first = Stamp::of(&path);
        edit(&path, 100, |_| "b".to_owned()).expect("a list");
        assert!(before != first && first != Stamp::of(&path) && first != Stamp::default());
    }
}
