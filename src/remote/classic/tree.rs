//! The files of one job of version 3, below a root of its own.
//!
//! A client names files by their absolute paths and links by their targets, and may say anything.
//! Nothing is made outside of the root: a name is absolute and has no `..`, and nothing lies below
//! a link or a file. A link leads to another place below the root, or to the folder of the same
//! name on this machine when that is one in which compilers keep their headers: with such links,
//! which climb out of the root, distcc 3.4 says which folders it does not send.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::common::bytes::Bytes;
use crate::common::classify::depth;
use crate::common::limits::CLASSIC_FILES_MAX;

/// Where compilers keep headers. Links to these folders and what is below them lead out.
const SYSTEM_FOLDERS: [&str; 7] = [
    "/usr/include",
    "/usr/lib",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/local/include",
    "/usr/local/lib",
    "/opt",
];

/// Why a name or a link is not taken.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    #[error("{0} is no absolute path without `..`")]
    Name(Bytes),
    #[error("{0} is below a link or a file")]
    Below(Bytes),
    #[error("{0} comes twice")]
    Twice(Bytes),
    #[error("more than {CLASSIC_FILES_MAX} folders")]
    TooMany,
    #[error("the link {name} leads out of the job's folder, to {target}")]
    Link { name: Bytes, target: Bytes },
    #[error("{path}: {error}")]
    Io { path: Bytes, error: io::Error },
}

/// What has been made so far.
#[derive(Debug)]
pub struct Tree {
    root: PathBuf,
    folders: HashSet<Vec<u8>>,
    leaves: HashSet<Vec<u8>>,
}

impl Tree {
    /// A tree whose root, an absolute path that does not exist yet, is made.
    pub fn new(root: PathBuf) -> Result<Self, TreeError> {
        fs::create_dir(&root).map_err(failed(root.as_os_str().as_bytes()))?;
        Ok(Tree { root, folders: HashSet::new(), leaves: HashSet::new() })
    }

    /// The root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the client's `path` lies.
    pub fn place(&self, path: &[u8]) -> PathBuf {
        self.root.join(OsStr::from_bytes(path.trim_ascii_start_slashes()))
    }

    /// Makes a folder, and those that it is in.
    pub fn folder(&mut self, name: &[u8]) -> Result<PathBuf, TreeError> {
        let name = normal(name)?;
        self.make_folders(&name)?;
        Ok(self.place(&name))
    }

    /// Makes room for a file that is to be created at the path that is returned.
    pub fn file(&mut self, name: &[u8]) -> Result<PathBuf, TreeError> {
        let name = normal(name)?;
        self.make_folders(parent(&name))?;
        if self.folders.contains(&name) || !self.leaves.insert(name.clone()) {
            return Err(TreeError::Twice(name.into()));
        }
        Ok(self.place(&name))
    }

    /// Makes a link.
    pub fn link(&mut self, name: &[u8], target: &[u8]) -> Result<(), TreeError> {
        let path = self.file(name)?;
        let name = normal(name)?;
        let target = self
            .target(&name, target)
            .ok_or_else(|| TreeError::Link { name: name.clone().into(), target: target.into() })?;
        std::os::unix::fs::symlink(&target, path).map_err(failed(&name))
    }

    /// Where a link is to lead, if it may.
    fn target(&self, name: &[u8], target: &[u8]) -> Option<PathBuf> {
        if target.contains(&0) {
            return None;
        }
        if target.starts_with(b"/") {
            // Without any `..`: what is behind a link on the way may lie less deep.
            return normal(target).ok().map(|target| self.place(&target));
        }
        let mut rest = target;
        let mut climbs = 0;
        while let Some(behind) = rest.strip_prefix(b"../") {
            rest = behind.trim_ascii_start_slashes();
            climbs += 1;
        }
        let level = depth(0, parent(name))?;
        let has_more = rest.split(|&byte| byte == b'/').any(|part| part == b"..");
        match (climbs <= level, has_more) {
            (_, true) => None,
            (true, false) => Some(OsStr::from_bytes(target).into()),
            (false, false) => {
                let same = rest == name.trim_ascii_start_slashes() && is_system_folder(name);
                same.then(|| OsStr::from_bytes(name).into())
            }
        }
    }

    fn make_folders(&mut self, folder: &[u8]) -> Result<(), TreeError> {
        if self.folders.contains(folder) || folder.is_empty() {
            return Ok(());
        }
        if self.leaves.contains(folder) {
            return Err(TreeError::Below(folder.into()));
        }
        if self.folders.len() as u64 >= CLASSIC_FILES_MAX {
            return Err(TreeError::TooMany);
        }
        self.make_folders(parent(folder))?;
        fs::create_dir(self.place(folder)).map_err(failed(folder))?;
        self.folders.insert(folder.to_vec());
        Ok(())
    }
}

fn failed(path: &[u8]) -> impl FnOnce(io::Error) -> TreeError {
    let path = Bytes::from(path);
    move |error| TreeError::Io { path, error }
}

fn is_system_folder(name: &[u8]) -> bool {
    SYSTEM_FOLDERS.iter().any(|folder| {
        name.strip_prefix(folder.as_bytes()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    })
}

/// An absolute path without `..`, as `/a/b`; the root itself as nothing.
fn normal(path: &[u8]) -> Result<Vec<u8>, TreeError> {
    let mut clean = Vec::with_capacity(path.len());
    let parts = || path.split(|&byte| byte == b'/');
    if !path.starts_with(b"/") || path.contains(&0) || parts().any(|part| part == b"..") {
        return Err(TreeError::Name(path.into()));
    }
    for part in parts().filter(|part| !part.is_empty() && *part != b".") {
        clean.push(b'/');
        clean.extend_from_slice(part);
    }
    Ok(clean)
}

fn parent(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
    &path[..end]
}

trait Slashes {
    fn trim_ascii_start_slashes(&self) -> &[u8];
}

impl Slashes for [u8] {
    fn trim_ascii_start_slashes(&self) -> &[u8] {
        let begin = self.iter().position(|&byte| byte != b'/').unwrap_or(self.len());
        &self[begin..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scene {
        _directory: tempfile::TempDir,
        tree: Tree,
    }

    fn scene() -> Scene {
        let directory = tempfile::tempdir().expect("a directory");
        let tree = Tree::new(directory.path().join("root")).expect("a tree");
        Scene { _directory: directory, tree }
    }

    #[test]
    fn files_lie_under_their_own_names() {
        let Scene { _directory, mut tree } = scene();
        let path = tree.file(b"/home//me/./a.c").expect("a place");
        assert_eq!(path, tree.root().join("home/me/a.c"));
        fs::write(path, "x").expect("a file");
        assert_eq!(tree.folder(b"/home/me").expect("a folder"), tree.root().join("home/me"));
        assert_eq!(tree.folder(b"/").expect("the root"), tree.root());
        assert!(matches!(tree.file(b"/home/me/a.c"), Err(TreeError::Twice(_))));
        assert!(matches!(tree.file(b"/home/me"), Err(TreeError::Twice(_))));
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let Scene { _directory, mut tree } = scene();
        for name in ["a.c", "", "../a", "/../a", "/a/../../b", "/a/..", "/a\0b"] {
            assert!(matches!(tree.file(name.as_bytes()), Err(TreeError::Name(_))), "{name}");
        }
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let Scene { _directory, mut tree } = scene();
        tree.link(b"/usr/include", b"../../../../../../usr/include").expect("a system folder");
        assert_eq!(
            fs::read_link(tree.root().join("usr/include")).expect("a link"),
            Path::new("/usr/include")
        );
        for name in [&b"/usr/include/x.h"[..], b"/usr/include/sys/x.h"] {
            assert!(matches!(tree.file(name), Err(TreeError::Below(_))));
        }
    }

    #[test]
    fn links_stay_in_the_tree() {
        let Scene { _directory, mut tree } = scene();
        for (name, target, expected) in [
            ("/a/b/c", "../x/y", Some("../x/y")),
            ("/a/b/d", "../../z", Some("../../z")),
            ("/a/b/e", "f", Some("f")),
            ("/a/b/g", "../../../etc/passwd", None),
            ("/a/b/h", "x/../../../..", None),
            ("/a/b/i", "../../../a/b/i", None),
            ("/etc", "../../../../etc", None),
            ("/usr/include", "../../../../../etc", None),
            ("/usr/includes", "../../../../../usr/includes", None),
            ("/a/b/j", "/a/../../x", None),
            ("/a/b/k", "x\0y", None),
        ] {
            let made = tree.link(name.as_bytes(), target.as_bytes());
            assert_eq!(made.is_ok(), expected.is_some(), "{name} {target}: {made:?}");
            if let Some(expected) = expected {
                assert_eq!(fs::read_link(tree.place(name.as_bytes())).expect("a link"), Path::new(expected));
            }
        }
        tree.link(b"/a/l", b"/b/m").expect("an absolute link");
        assert_eq!(fs::read_link(tree.root().join("a/l")).expect("a link"), tree.root().join("b/m"));
    }
}
