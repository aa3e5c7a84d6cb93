//! Puts a job's outputs where the compiler would have put them.
//!
//! Each file is written without a name where the file system can do that, else beside its
//! destination, and gets its name when all are whole; so a cancelled or failed delivery leaves
//! nothing, and a killed broker hardly ever does. How an existing file is treated follows what compilers do
//! ([`Existing`]). One that this user may not write to is left to the compiler here, and so is, before a job
//! leaves, anything but a plain file ([`check_destination`]).

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::unpack::{Piece, Unplaced};
use crate::common::classify::Existing;

/// What the kernel leaves out of modes in this process. Until it is known, every mode is set.
static MASK: AtomicU32 = AtomicU32::new(0o777);

/// Says what the mask of this process is.
pub fn mask_is(mask: u32) {
    MASK.store(mask, Ordering::Relaxed);
}

/// Whether a file that was made with this mode may lack some of it.
pub fn is_masked(mode: u32) -> bool {
    mode & MASK.load(Ordering::Relaxed) != 0
}

/// What compilers ask for when they make a file.
const NEW_MODE: u32 = 0o666;

/// Where the kernel has a file's access control list (acl(5)).
const ACCESS_LIST: &str = "system.posix_acl_access";

/// One file to be put in place.
pub struct Delivery<'a> {
    /// Where, absolute.
    pub path: PathBuf,
    /// What is in it.
    pub contents: Contents<'a>,
    /// What becomes of a file that is there.
    pub existing: Existing,
}

/// What is in a file.
pub enum Contents<'a> {
    /// A text that was made here.
    Text(Vec<u8>),
    /// What a volunteer sent, packed.
    Piece(Piece<'a>),
}

impl Contents<'_> {
    /// All of it.
    ///
    /// # Errors
    ///
    /// Returns that it is not what was announced.
    pub fn to_vec(&self) -> Result<Vec<u8>, Unplaced> {
        match self {
            Contents::Text(text) => Ok(text.clone()),
            Contents::Piece(piece) => piece.to_vec(),
        }
    }

    fn write(&self, file: &mut File) -> Result<(), Unplaced> {
        match self {
            Contents::Text(text) => Ok(file.write_all(text)?),
            Contents::Piece(piece) => piece.unpack(|bytes| file.write_all(bytes)),
        }
    }
}

/// What is at `path`, where a compiler's output may be put: a plain file, or nothing in a directory that is
/// there. `None` where none may be put.
pub fn check_destination(path: &Path) -> Option<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(found) => found.is_file().then_some(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.parent()?.is_dir().then_some(None),
        Err(_) => None,
    }
}

/// Puts all files in place, or none.
///
/// # Errors
///
/// Returns what the file system returned, or that a piece is not what was announced; nothing is left behind.
pub fn deliver(deliveries: &[Delivery<'_>], umask: u32) -> Result<(), Unplaced> {
    let staged: Result<Vec<Staged<'_>>, Unplaced> =
        deliveries.iter().map(|one| stage(one, umask).map_err(|why| why.at(&one.path))).collect();
    // What was appended cannot be taken back.
    let (last, first): (Vec<_>, Vec<_>) =
        staged?.into_iter().partition(|staged| matches!(staged, Staged::Appended { .. }));
    first.into_iter().chain(last).try_for_each(Staged::commit)
}

/// A file that is whole but not yet in place; dropping it removes what was made for it.
enum Staged<'a> {
    /// Without a name yet (`O_TMPFILE`).
    Nameless { file: File, path: &'a Path, unlinks: bool },
    /// Beside its destination, to be renamed.
    Renamed { temporary: PathBuf, path: &'a Path, committed: bool },
    /// To be written into the file that is there.
    InPlace { file: File, path: &'a Path, contents: Vec<u8> },
    /// To be written behind what is in the file, which need not be there.
    Appended { path: &'a Path, mode: u32, contents: Vec<u8> },
}

fn stage<'a>(delivery: &'a Delivery<'_>, umask: u32) -> Result<Staged<'a>, Unplaced> {
    let path = delivery.path.as_path();
    let existing = match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => Some(found),
        Ok(_) => return Err(Unplaced::NotAFile(delivery.path.clone())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    let mode = NEW_MODE & !umask;
    let new = || write_beside(delivery, mode, false);
    let Some(found) = existing.filter(|_| delivery.existing != Existing::Appended) else {
        return match delivery.existing {
            Existing::Appended => Ok(Staged::Appended { path, mode, contents: delivery.contents.to_vec()? }),
            _ => new(),
        };
    };
    match delivery.existing {
        Existing::ReplacedUnlessEmpty if found.size() > 0 => new(),
        // clang looks whether it might write to the file that it replaces.
        Existing::Replaced if is_ours(&found) => new(),
        Existing::Replaced => open_in_place(path).map(drop).map_err(Unplaced::from).and_then(|()| new()),
        // What else may be known of a file, only itself keeps: then it is written as compilers do.
        Existing::Rewritten if found.nlink() == 1 && is_ours(&found) && !has_list(path) => {
            write_beside(delivery, found.mode() & 0o7777, true)
        }
        // Nothing is cut short before the rest is known to be whole.
        _ => Ok(Staged::InPlace { file: open_in_place(path)?, path, contents: delivery.contents.to_vec()? }),
    }
}

/// Opens a file; where there is none, one of this mode.
///
/// # Errors
///
/// Returns what the file system returned.
pub fn open_or_make(options: &OpenOptions, path: &Path, mode: u32) -> io::Result<File> {
    match options.clone().create_new(true).mode(mode).open(path) {
        Ok(file) if has_own_list(&file) => {
            // What is asked for at creation is what the list leaves of it.
            drop(file);
            fs::remove_file(path)?;
            options.clone().create_new(true).mode(NEW_MODE).open(path)
        }
        Ok(file) => {
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.open(path),
        Err(error) => Err(error),
    }
}

/// Whether a file is this user's, and may be written to.
fn is_ours(found: &Metadata) -> bool {
    found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o200 != 0
}

fn open_in_place(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW).open(path)
}

fn write_beside<'a>(delivery: &'a Delivery<'_>, mode: u32, exactly: bool) -> Result<Staged<'a>, Unplaced> {
    let path = delivery.path.as_path();
    let (mut file, mut named) = create(path, mode)?;
    if has_own_list(&file) {
        if exactly {
            return Ok(Staged::InPlace {
                file: open_in_place(path)?,
                path,
                contents: delivery.contents.to_vec()?,
            });
        }
        drop(named.take());
        (file, named) = create(path, NEW_MODE)?;
    } else if exactly || is_masked(mode) {
        file.set_permissions(fs::Permissions::from_mode(mode))?;
    }
    delivery.contents.write(&mut file)?;
    Ok(named.unwrap_or(Staged::Nameless { file, path, unlinks: delivery.existing != Existing::Rewritten }))
}

/// Whether the file at `path` has an access control list.
fn has_list(path: &Path) -> bool {
    rustix::fs::getxattr_query(path, ACCESS_LIST).is_ok_and(|length| length > 0)
}

/// Whether a new file has an access control list from its directory: there that says who may do what, and no umask does
/// (acl(5), "OBJECT CREATION AND DEFAULT ACLs").
fn has_own_list(file: &File) -> bool {
    rustix::fs::fgetxattr_query(file, ACCESS_LIST).is_ok_and(|length| length > 0)
}

/// A new file in the directory of `path`: nameless where that works, else beside it, to be renamed; dropping that removes it.
fn create(path: &Path, mode: u32) -> io::Result<(File, Option<Staged<'_>>)> {
    let directory = directory_of(path)?;
    let mut options = OpenOptions::new();
    options.write(true).mode(mode);
    if let Ok(file) = options.clone().custom_flags(libc::O_TMPFILE).open(directory) {
        return Ok((file, None));
    }
    let temporary = beside(path)?;
    let file = options.create_new(true).open(&temporary)?;
    Ok((file, Some(Staged::Renamed { temporary, path, committed: false })))
}

/// Gives a nameless file a name that is free (open(2), "O_TMPFILE").
fn name_it(file: &File, path: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, linkat};
    let source = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(linkat(CWD, source, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

fn directory_of(path: &Path) -> io::Result<&Path> {
    path.parent().ok_or_else(|| io::Error::other("the destination has no directory"))
}

/// A name in the same directory that nobody else uses.
fn beside(path: &Path) -> io::Result<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    Ok(directory_of(path)?.join(format!(".distcc-{}-{number}.tmp", std::process::id())))
}

impl Staged<'_> {
    fn path(&self) -> &Path {
        match self {
            Staged::Nameless { path, .. }
            | Staged::Renamed { path, .. }
            | Staged::InPlace { path, .. }
            | Staged::Appended { path, .. } => path,
        }
    }

    fn commit(mut self) -> Result<(), Unplaced> {
        self.put().map_err(|why| Unplaced::from(why).at(self.path()))
    }

    fn put(&mut self) -> io::Result<()> {
        match self {
            Staged::Nameless { file, path, unlinks } => {
                // A name can only be given, not taken over. What compilers unlink is unlinked; ext4
                // would write a file out at once that is renamed over another.
                if *unlinks {
                    let _ = fs::remove_file(&**path);
                }
                if name_it(file, path).is_err() {
                    let temporary = beside(path)?;
                    name_it(file, &temporary)?;
                    Staged::Renamed { temporary, path, committed: false }.put()?;
                }
            }
            Staged::Renamed { temporary, path, committed } => {
                fs::rename(temporary, path)?;
                *committed = true;
            }
            Staged::InPlace { file, contents, .. } => {
                file.set_len(0)?;
                file.write_all(contents)?;
            }
            Staged::Appended { path, mode, contents } => {
                let mut options = OpenOptions::new();
                options.append(true).custom_flags(libc::O_NOFOLLOW);
                let mut file = open_or_make(&options, path, *mode)?;
                file.write_all(contents)?;
            }
        }
        Ok(())
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if let Staged::Renamed { temporary, committed: false, .. } = self {
            // Nothing more can be done about a file that will not go away.
            let _ = fs::remove_file(temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::protocol::link::{Packing, Part};
    use crate::common::toolchain::Digest;

    fn deliver_one(path: &Path, existing: Existing) -> Result<(), Unplaced> {
        let delivery = Delivery { path: path.to_owned(), contents: new(), existing };
        deliver(&[delivery], 0o027)
    }

    fn new() -> Contents<'static> {
        Contents::Text(b"new".to_vec())
    }

    fn only_file(directory: &Path) -> usize {
        fs::read_dir(directory).expect("a directory").count()
    }

    #[test]
    fn a_new_file_has_the_mode_that_the_umask_leaves() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.o");
        deliver_one(&path, Existing::ReplacedUnlessEmpty).expect("delivered");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o640);
        assert_eq!(only_file(directory.path()), 1);
    }

    /// It was put down to the broker, and no file was named.
    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        use crate::common::reason::LocalReason;
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("gone/a.o");
        let why = LocalReason::from(deliver_one(&path, Existing::Replaced).expect_err("no folder"));
        let said = format!("output {} cannot be written: No such file", path.display());
        assert!(why.key() == "output" && why.to_string().starts_with(&said), "{why}");
    }

    #[test]
    fn an_object_replaces_the_file_and_a_text_keeps_its_mode() {
        let directory = tempfile::tempdir().expect("a directory");
        for (existing, mode) in [
            (Existing::ReplacedUnlessEmpty, 0o640),
            (Existing::Replaced, 0o640),
            (Existing::Rewritten, 0o604),
        ] {
            let path = directory.path().join("x");
            fs::write(&path, "old").expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).expect("set");
            deliver_one(&path, existing).expect("delivered");
            assert_eq!(fs::read(&path).expect("there"), b"new");
            assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, mode);
            fs::remove_file(&path).expect("removed");
        }
    }

    #[test]
    fn a_file_with_several_names_stays_one_file_when_rewritten() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, other) = (directory.path().join("a.d"), directory.path().join("b.d"));
        fs::write(&path, "old").expect("written");
        fs::hard_link(&path, &other).expect("linked");
        deliver_one(&path, Existing::Rewritten).expect("delivered");
        assert_eq!(fs::read(&other).expect("there"), b"new");
    }

    #[test]
    fn an_empty_file_that_waits_for_its_object_is_filled_not_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.o");
        fs::write(&path, "").expect("written");
        let inode = fs::metadata(&path).expect("there").ino();
        deliver_one(&path, Existing::ReplacedUnlessEmpty).expect("delivered");
        assert_eq!(fs::metadata(&path).expect("there").ino(), inode);
    }

    #[test]
    fn what_clang_replaces_it_replaces_when_it_is_empty_too() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, other) = (directory.path().join("a.s"), directory.path().join("b.s"));
        for old in ["", "old"] {
            fs::write(&path, old).expect("written");
            fs::hard_link(&path, &other).expect("linked");
            deliver_one(&path, Existing::Replaced).expect("delivered");
            assert_eq!(fs::read(&path).expect("there"), b"new");
            assert_eq!(fs::read(&other).expect("there"), old.as_bytes());
            fs::remove_file(&other).expect("removed");
        }
    }

    #[test]
    fn what_is_appended_leaves_what_was_there_and_waits_for_all_else() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("log");
        for expected in ["new", "newnew"] {
            deliver_one(&path, Existing::Appended).expect("delivered");
            assert_eq!(fs::read_to_string(&path).expect("there"), expected);
        }
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o640);
        let log = Delivery { path: path.clone(), contents: new(), existing: Existing::Appended };
        let bad =
            Delivery { path: directory.path().join("a.o"), contents: new(), existing: Existing::Rewritten };
        fs::create_dir(&bad.path).expect("a directory in its way");
        assert!(deliver(&[log, bad], 0o022).is_err());
        assert_eq!(fs::read_to_string(&path).expect("there"), "newnew");
    }

    #[test]
    fn when_one_output_cannot_be_placed_none_is() {
        let directory = tempfile::tempdir().expect("a directory");
        let good =
            Delivery { path: directory.path().join("a.d"), contents: new(), existing: Existing::Rewritten };
        let bad =
            Delivery { path: directory.path().join("no/a.o"), contents: new(), existing: Existing::Replaced };
        assert!(deliver(&[good, bad], 0o022).is_err());
        assert_eq!(only_file(directory.path()), 0);
    }

    /// An access control list as the kernel has it (acl(5)): entries of a kind, rights, and whose they are.
    fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut bytes = 2u32.to_le_bytes().to_vec();
        for (kind, rights, whose) in entries {
            bytes.extend(
                kind.to_le_bytes().into_iter().chain(rights.to_le_bytes()).chain(whose.to_le_bytes()),
            );
        }
        bytes
    }

    #[test]
    fn a_folder_with_a_default_list_decides_who_may_read_outputs() {
        let directory = tempfile::tempdir().expect("a directory");
        let nobody = u32::MAX;
        let entries = [(1, 7, nobody), (2, 7, 33), (4, 7, nobody), (0x10, 7, nobody), (0x20, 5, nobody)];
        let flags = rustix::fs::XattrFlags::empty();
        let set = rustix::fs::setxattr(directory.path(), "system.posix_acl_default", &list(&entries), flags);
        set.expect("this file system has lists");
        let by_compiler = directory.path().join("local");
        OpenOptions::new().write(true).create_new(true).mode(0o666).open(&by_compiler).expect("made");
        let expected = fs::metadata(&by_compiler).expect("there").mode() & 0o7777;
        assert_eq!(expected, 0o664, "no umask counts there");
        for existing in [Existing::Replaced, Existing::Appended] {
            let path = directory.path().join(format!("{existing:?}"));
            let delivery =
                Delivery { path: path.clone(), contents: Contents::Text(b"new".to_vec()), existing };
            deliver(&[delivery], 0o077).expect("delivered");
            assert_eq!(fs::metadata(&path).expect("there").mode() & 0o7777, expected, "{existing:?}");
            // What is written again keeps its list.
            let delivery = Delivery {
                path: path.clone(),
                contents: Contents::Text(b"again".to_vec()),
                existing: Existing::Rewritten,
            };
            deliver(&[delivery], 0o077).expect("delivered");
            assert_eq!(fs::metadata(&path).expect("there").mode() & 0o7777, expected);
            assert_eq!(fs::read(&path).expect("there"), b"again");
        }
        let left = fs::read_dir(directory.path()).expect("a directory").count();
        assert_eq!(left, 3);
    }

    #[test]
    fn a_piece_that_cannot_be_unpacked_leaves_the_old_file_and_nothing_else() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.o");
        let packed = b"no frame";
        let part = Part { packing: Packing::Lz4, digest: Digest::of(packed), size: 3, packed: 8 };
        let piece = Piece::take(&mut &packed[..], &part).expect("a piece");
        for old in ["old", ""] {
            fs::write(&path, old).expect("written");
            let delivery = Delivery {
                path: path.clone(),
                contents: Contents::Piece(piece),
                existing: Existing::ReplacedUnlessEmpty,
            };
            assert!(matches!(deliver(&[delivery], 0o022), Err(Unplaced::Damaged(_))));
            assert_eq!(fs::read(&path).expect("there"), old.as_bytes());
            assert_eq!(only_file(directory.path()), 1);
        }
    }
}
