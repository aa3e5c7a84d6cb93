//! What a command names besides what it includes: files that options read, folders that outputs are
//! written to, the working directory by the name that `$PWD` has for it.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::NotHermetic;
use super::set::{File, Inode, SetBuilder};
use crate::broker::closure::elsewhere::Kind;
use crate::broker::closure::gcc;
use crate::broker::plain_file;
use crate::broker::plan::{Plan, working_directory};
use crate::broker::scan::layout::Layout;
use crate::broker::stamp::Stamp;
use crate::common::bytes::Bytes;
use crate::common::classify::{DRIVEN, INCLUDE_LISTS, Read};
use crate::common::invocation::Invocation;
use crate::common::limits::{INPUT_MAX_BYTES, INPUTS_MAX};
use crate::common::toolchain::Digest;

/// Digests remembered; beyond it the memory starts afresh.
const REMEMBERED_MAX: usize = 10_000;

/// Folders in folders, below one that is read whole.
const DEPTH_MAX: usize = 16;

/// Digests of files that options name.
#[derive(Debug, Default)]
pub struct Digests(Mutex<HashMap<PathBuf, (Stamp, Digest)>>);

impl Digests {
    /// The digest of a file that is there.
    pub fn digest(&self, path: &Path, found: &Metadata) -> Option<Digest> {
        self.file(path, found).map(|file| file.digest)
    }

    /// The file at a real path, as part of a set.
    fn file(&self, path: &Path, found: &Metadata) -> Option<File> {
        let stamp = Stamp::of(found);
        let file = |digest| {
            let inode = Inode { identity: (stamp.device, stamp.inode), modified_s: stamp.modified.0 };
            File { digest, size: stamp.size, executable: is_executable(found), inode }
        };
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(path).copied();
        if let Some((_, digest)) = known.filter(|(known, _)| *known == stamp) {
            return Some(file(digest));
        }
        if stamp.size > INPUT_MAX_BYTES {
            return None;
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(plain_file::open(path).ok()?.0).ok()?;
        let digest = Digest(*hasher.finalize().as_bytes());
        if stamp.is_settled() {
            let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if memory.len() >= REMEMBERED_MAX {
                memory.clear();
            }
            memory.insert(path.to_owned(), (stamp, digest));
        }
        Some(file(digest))
    }
}

/// The folders that a command needs if they are there: those of its outputs, and the working
/// directory under its other name.
pub fn folders(plan: &Plan, invocation: &Invocation) -> Vec<Bytes> {
    let cwd = invocation.cwd.as_path();
    let pwd = invocation.variable("PWD").filter(|pwd| pwd.starts_with(b"/")).map(Bytes::from);
    let products = &plan.job.hermetic.products;
    let places = products.names.iter().chain(&products.beginnings);
    let places = places.filter_map(|product| Some(Bytes::from(cwd.join(product.as_path()).parent()?)));
    let toolchain = &plan.compiler.toolchain;
    // gcc passes over those that it does not find under these names, links and all.
    let sysroots = sysroots(&plan.expanded).filter(|_| !toolchain.clang);
    let searched = sysroots.flat_map(|sysroot| {
        let sysroot = cwd.join(Bytes::from(sysroot).as_path());
        let for_target = sysroot.join("usr/include").join(&toolchain.target);
        let common = gcc::SYSROOT_FOLDERS.map(|name| sysroot.join(name));
        common.into_iter().chain([for_target]).map(Bytes::from_path)
    });
    // clang looks at those for other languages, too, and with a folder it knows the folders above.
    let lists = INCLUDE_LISTS.iter().filter(|_| toolchain.clang).filter_map(|name| invocation.variable(name));
    let listed = lists.flat_map(|list| list.split(|&byte| byte == b':').filter(|path| !path.is_empty()));
    let listed = listed.map(|path| Bytes::from_path(cwd.join(Bytes::from(path).as_path())));
    pwd.into_iter().chain(places).chain(searched).chain(listed).collect()
}

/// What `--sysroot` and `-isysroot` name.
fn sysroots(words: &[Bytes]) -> impl Iterator<Item = &[u8]> {
    values(words, b"--sysroot", b"=").chain(values(words, b"-isysroot", b""))
}

/// Adds the files that options name to a set.
///
/// # Errors
///
/// Returns [`NotHermetic::Unreadable`] for what must be there and is not.
pub fn add(
    builder: &mut SetBuilder,
    plan: &Plan,
    invocation: &Invocation,
    digests: &Digests,
) -> Result<(), NotHermetic> {
    let mut layout = Layout::default();
    if plan.compiler.toolchain.clang && invocation.terminal.is_some() {
        add_terminal(builder, &mut layout, invocation.variable("TERM").unwrap_or_default(), digests);
    }
    for read in &plan.job.hermetic.reads {
        if read.short {
            return Err(NotHermetic::Unreadable(read.path.clone()));
        }
        let path = read.path_in(working_directory(invocation));
        add_read(builder, &mut layout, read, &path, digests)?;
    }
    add_layout(builder, layout);
    Ok(())
}

/// Adds files that must be there to a set.
///
/// # Errors
///
/// Returns [`NotHermetic::Unreadable`] for the first that is not.
pub fn add_files(builder: &mut SetBuilder, paths: &[Bytes], digests: &Digests) -> Result<(), NotHermetic> {
    let mut layout = Layout::default();
    for path in paths {
        add_read(builder, &mut layout, &Read::needed(path), path, digests)?;
    }
    add_layout(builder, layout);
    Ok(())
}

fn add_layout(builder: &mut SetBuilder, layout: Layout) {
    let (links, directories) = layout.finish();
    links.iter().for_each(|link| builder.link(&link.path, &link.target));
    directories.iter().for_each(|path| builder.folder(path));
}

/// Where descriptions of terminals are (terminfo(5)).
const TERMINALS: [&[u8]; 3] = [b"/etc/terminfo", b"/lib/terminfo", b"/usr/share/terminfo"];

/// What clang looks up before it writes in colour.
fn add_terminal(builder: &mut SetBuilder, layout: &mut Layout, name: &[u8], digests: &Digests) {
    let Some((letter, _)) = name.split_first().filter(|_| !name.contains(&b'/')) else { return };
    for folder in TERMINALS {
        let real = Bytes::from(&layout.resolve(&[folder, b"/", &[*letter], b"/", name].concat())[..]);
        let found = fs::metadata(real.as_path()).ok().filter(Metadata::is_file);
        if let Some(file) = found.and_then(|found| digests.file(real.as_path(), &found)) {
            builder.file(&real, file);
        }
    }
}

fn add_read(
    builder: &mut SetBuilder,
    layout: &mut Layout,
    read: &Read,
    path: &Bytes,
    digests: &Digests,
) -> Result<(), NotHermetic> {
    let real = Bytes::from(&layout.resolve(path)[..]);
    let unreadable = || NotHermetic::Unreadable(read.path.clone());
    match fs::metadata(real.as_path()) {
        Ok(found) if found.is_file() => {
            let file = digests.file(real.as_path(), &found).ok_or_else(unreadable)?;
            builder.file(&real, file);
            Ok(())
        }
        Ok(found) if found.is_dir() && read.whole_folder => {
            layout.directory(path);
            let mut left = INPUTS_MAX / 4;
            add_folder(builder, real.as_path(), digests, DEPTH_MAX, &mut left).ok_or_else(unreadable)
        }
        Ok(found) if found.is_dir() => {
            layout.directory(path);
            Ok(())
        }
        Err(error) if read.optional && is_absent(&error) => Ok(()),
        _ => Err(unreadable()),
    }
}

fn is_executable(found: &Metadata) -> bool {
    found.mode() & 0o111 != 0
}

/// Where a command has clang look for a gcc, and for headers.
pub fn places(words: &[Bytes]) -> impl Iterator<Item = (Kind, &[u8])> {
    let gccs = values(words, b"--gcc-toolchain", b"=").map(|path| (Kind::Gcc, path));
    gccs.chain(sysroots(words).map(|path| (Kind::Sysroot, path)))
}

/// The values of an option, in the word itself behind `joint`, or in the next one.
fn values<'a>(
    words: &'a [Bytes],
    option: &'static [u8],
    joint: &'static [u8],
) -> impl Iterator<Item = &'a [u8]> {
    let next = words.iter().skip(1).map(|word| &word[..]).chain([&b""[..]]);
    words.iter().zip(next).filter_map(move |(word, next)| match word.strip_prefix(option)? {
        b"" => Some(next),
        value => value.strip_prefix(joint),
    })
}

/// Folders in a folder of programs in which a driver looks, too: `MACHINE/VERSION`.
const PROGRAMS_DEPTH: usize = 2;

/// The programs that a driver may find by a prefix: one, or those in a folder.
pub fn programs(prefix: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![(prefix.to_owned(), 0)];
    while let Some((path, depth)) = waiting.pop() {
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.is_file() && is_executable(&metadata) && is_driven(&path) {
            found.push(path);
        } else if metadata.is_dir() && depth <= PROGRAMS_DEPTH {
            let within = fs::read_dir(&path).into_iter().flatten().flatten();
            waiting.extend(within.map(|entry| (entry.path(), depth + 1)));
        }
    }
    found
}

/// Whether a program's name is one that a driver looks for, with its machine before it or without.
fn is_driven(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_bytes();
    DRIVEN.iter().any(|driven| {
        let before = name.strip_suffix(driven.as_bytes());
        before.is_some_and(|before| before.is_empty() || before.ends_with(b"-"))
    })
}

/// Whether nothing lies at a path; that a file is where a folder would have to be is one way of that.
fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Adds all that is in a folder; `None` when something in it cannot be sent.
fn add_folder(
    builder: &mut SetBuilder,
    folder: &Path,
    digests: &Digests,
    depth: usize,
    left: &mut usize,
) -> Option<()> {
    for entry in fs::read_dir(folder).ok()? {
        *left = left.checked_sub(1)?;
        let path = entry.ok()?.path();
        let name = Bytes::from(path.as_path());
        let found = fs::symlink_metadata(&path).ok()?;
        if found.is_symlink() {
            builder.link(&name, &Bytes::from(fs::read_link(&path).ok()?.as_path()));
        } else if found.is_dir() {
            builder.folder(&name);
            add_folder(builder, &path, digests, depth.checked_sub(1)?, left)?;
        } else if found.is_file() {
            builder.file(&name, digests.file(&path, &found)?);
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changed_has_another_digest() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("profile");
        let digests = Digests::default();
        for text in ["one", "two"] {
            fs::write(&path, text).expect("written");
            let found = fs::metadata(&path).expect("there");
            let file = digests.file(&path, &found).expect("a file");
            assert_eq!(file.digest, Digest::of(text.as_bytes()));
        }
    }

    #[test]
    fn a_whole_folder_has_all_that_is_in_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let top = directory.path().canonicalize().expect("a path");
        fs::create_dir_all(top.join("a/b")).expect("folders");
        fs::write(top.join("a/b/x"), "x").expect("written");
        std::os::unix::fs::symlink("b/x", top.join("a/link")).expect("a link");
        let mut builder = SetBuilder::default();
        let mut left = 10;
        add_folder(&mut builder, &top.join("a"), &Digests::default(), DEPTH_MAX, &mut left).expect("all");
        let paths: Vec<PathBuf> =
            builder.finish().iter().map(|entry| entry.path.as_path().to_owned()).collect();
        assert_eq!(paths, [top.join("a/b"), top.join("a/b/x"), top.join("a/link")]);
        assert!(add_folder(&mut SetBuilder::default(), &top, &Digests::default(), 1, &mut left).is_none());
    }
}
