//! What a compile left in its layers.
//!
//! Every regular file there was made or changed by the compile. Anything else than files and folders
//! is more than we can give back (links, pipes, and the marks by which a layer says that an input was
//! removed), so it is refused with its name.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use memchr::memmem;
use object::{CompressionFormat, Object, ObjectSection};
use rustix::fs::{Dir, Mode, OFlags, ResolveFlags};

use crate::common::bytes::Bytes;
use crate::common::limits::{OUTPUT_MAX_BYTES, PATH_MAX_BYTES, PRODUCTS_MAX};
use crate::common::protocol::link::Refusal;
use crate::remote::compile::disk_refusal;
use crate::remote::sandbox::layer;

/// Things that one compile may have made, folders included.
const THINGS_MAX: usize = 4 * PRODUCTS_MAX;

/// All files of one compile, in bytes: as much as a client takes. Files with holes need no room to be large, but
/// each byte is read.
const ALL_MAX_BYTES: u64 = 2 * OUTPUT_MAX_BYTES;

/// Files that are searched for a path, in bytes, each held in memory meanwhile: what is assembled by hand is no larger.
const TOLD_MAX_BYTES: u64 = 16 << 20;

/// A file that a compile made.
#[derive(Debug)]
pub struct Made {
    /// Its path, as the compile sees it.
    pub path: Bytes,
    /// Its place in what the box has handed over.
    place: Vec<u8>,
}

impl Made {
    /// The file, from its beginning. It is opened when it is needed: a thousand of each of many jobs would be more than
    /// this process may have open.
    ///
    /// # Errors
    ///
    /// Returns what the file system returns.
    pub fn open(&self, scratch: &OwnedFd) -> io::Result<File> {
        open(scratch, &self.place, OFlags::NOFOLLOW | OFlags::NONBLOCK).map(File::from)
    }
}

/// The files in the layers over these folders, in the order of their paths.
///
/// # Errors
///
/// Returns a refusal for what cannot be given back, or is too much.
pub fn collect(scratch: &OwnedFd, writable: &[Vec<u8>]) -> Result<Vec<Made>, Refusal> {
    let mut search = Search::default();
    for (index, folder) in writable.iter().enumerate() {
        let folder = folder.strip_suffix(b"/").unwrap_or(folder);
        search.waiting.push((folder.to_vec(), layer(index).into_bytes()));
    }
    while let Some((path, place)) = search.waiting.pop() {
        search.look_into(scratch, &path, &place)?;
    }
    let mut made = search.made;
    made.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(made)
}

/// The contents of a file of the job's private folder; nothing when it is not there.
pub fn private(scratch: &OwnedFd, name: &str, max_bytes: u64) -> Option<Vec<u8>> {
    let path = format!("{}/{name}", crate::remote::sandbox::PRIVATE_LAYER);
    let file = File::from(open(scratch, path.as_bytes(), OFlags::NONBLOCK).ok()?);
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    let read = file.take(max_bytes + 1).read_to_end(&mut bytes).ok()?;
    (read as u64 <= max_bytes).then_some(bytes)
}

/// Whether a file may have this path in it: it has all of it but the beginning, which options may put something else
/// for (`-fdebug-prefix-map=/=x`), or parts of it are compressed, or it cannot be looked at.
pub fn may_tell(file: File, path: &[u8]) -> bool {
    let mut bytes = Vec::new();
    let read = file.take(TOLD_MAX_BYTES + 1).read_to_end(&mut bytes);
    let is_compressed = |object: &object::File<'_>| {
        object.sections().any(|section| {
            section.compressed_file_range().map_or(true, |range| range.format != CompressionFormat::None)
        })
    };
    !read.is_ok_and(|length| length as u64 <= TOLD_MAX_BYTES)
        || memmem::find(&bytes, path.strip_prefix(b"/").unwrap_or(path)).is_some()
        || object::File::parse(&bytes[..]).is_ok_and(|object| is_compressed(&object))
}

#[derive(Default)]
struct Search {
    /// Folders: their paths, and their places.
    waiting: Vec<(Vec<u8>, Vec<u8>)>,
    made: Vec<Made>,
    things: usize,
    bytes: u64,
}

impl Search {
    fn look_into(&mut self, scratch: &OwnedFd, path: &[u8], place: &[u8]) -> Result<(), Refusal> {
        let folder = open(scratch, place, OFlags::DIRECTORY).map_err(taking)?;
        for entry in Dir::read_from(&folder).map_err(|error| taking(error.into()))? {
            let entry = entry.map_err(|error| taking(error.into()))?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            self.things += 1;
            let [path, place] = [path, place].map(|above| [above, b"/", name].concat());
            if self.things > THINGS_MAX || path.len() as u64 > PATH_MAX_BYTES {
                return Err(refused(&path, "one thing too many"));
            }
            self.take(&folder, name, path, place)?;
        }
        Ok(())
    }

    fn take(&mut self, folder: &OwnedFd, name: &[u8], path: Vec<u8>, place: Vec<u8>) -> Result<(), Refusal> {
        // Opening a device could do something: what is looked at is the name.
        let thing = open(folder, name, OFlags::PATH | OFlags::NOFOLLOW).map_err(taking)?;
        let meta = File::from(thing.try_clone().map_err(taking)?).metadata().map_err(taking)?;
        let kind = meta.file_type();
        if kind.is_dir() {
            self.waiting.push((path, place));
            return Ok(());
        }
        if !kind.is_file() {
            return Err(refused(
                &path,
                if kind.is_char_device() { "it was removed" } else { "it is no plain file" },
            ));
        }
        self.bytes += meta.len().min(ALL_MAX_BYTES + 1);
        if meta.len() > OUTPUT_MAX_BYTES || self.bytes > ALL_MAX_BYTES {
            return Err(refused(&path, "it is too large"));
        }
        if self.made.len() >= PRODUCTS_MAX {
            return Err(refused(&path, "one file too many"));
        }
        // An output that its owner may not read is as good as any.
        if meta.mode() & 0o400 == 0 {
            let _ = rustix::fs::chmodat(folder.as_fd(), name, Mode::RUSR, rustix::fs::AtFlags::empty());
        }
        self.made.push(Made { path: path.into(), place });
        Ok(())
    }
}

fn open(at: &OwnedFd, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let opened = rustix::fs::openat2(at, path, flags | OFlags::CLOEXEC, Mode::empty(), within);
    opened.map_err(io::Error::from)
}

#[allow(clippy::needless_pass_by_value, reason = "it is used as a function of errors")]
fn taking(error: io::Error) -> Refusal {
    disk_refusal("take what the compiler made", &error)
}

fn refused(path: &[u8], why: &str) -> Refusal {
    Refusal::Failed {
        detail: format!("{}, which the compile made or changed: {why}", String::from_utf8_lossy(path)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Seek, Write};

    use super::*;

    fn handed_over() -> (tempfile::TempDir, OwnedFd) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(layer(0))).unwrap();
        let opened = File::open(folder.path()).unwrap().into();
        (folder, opened)
    }

    #[test]
    fn a_thousand_files_and_folders_need_few_descriptors() {
        let (folder, scratch) = handed_over();
        for number in 0..1000 {
            let below = folder.path().join(layer(0)).join(format!("{number}"));
            fs::create_dir(&below).unwrap();
            fs::write(below.join("x"), format!("{number}")).unwrap();
        }
        let open = || fs::read_dir("/proc/self/fd").unwrap().count();
        let before = open();
        let made = collect(&scratch, &[b"/w".to_vec()]).unwrap();
        // Other tests have files open, too.
        assert!(open() < before + 500);
        assert_eq!(made.len(), 1000);
        let last = made.iter().find(|made| made.path.0 == b"/w/999/x").unwrap();
        let mut text = String::new();
        last.open(&scratch).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "999");
    }

    #[test]
    fn files_with_holes_count_by_their_length_together() {
        let (folder, scratch) = handed_over();
        let holes = |number: u32| {
            let file = File::create(folder.path().join(layer(0)).join(format!("{number}"))).unwrap();
            file.set_len(400 << 20).unwrap();
        };
        (0..2).for_each(holes);
        assert_eq!(collect(&scratch, &[b"/".to_vec()]).unwrap().len(), 2);
        holes(2);
        assert!(collect(&scratch, &[b"/".to_vec()]).is_err());
    }

    #[test]
    fn a_path_is_found_in_what_can_be_looked_at() {
        let check = |bytes: &[u8], expected| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            file.rewind().unwrap();
            assert_eq!(may_tell(file, b"/.distccd/tmp"), expected, "{bytes:?}");
        };
        check(b"\x7fELF .distccd /tmp", false);
        check(b"/.distccd/tmp/a.S", true);
        // -fdebug-prefix-map=/=x
        check(b"x.distccd/tmp/a.S", true);
        let empty = tempfile::tempfile().unwrap();
        empty.set_len(TOLD_MAX_BYTES + 1).unwrap();
        assert!(may_tell(empty, b"/.distccd/tmp"));
    }
}
