//! `distcc --masquerade DIR`: fills a directory with links to distcc that have the names of the
//! compilers in `PATH`, as stock's `update-distcc-symlinks` does. With that directory in front,
//! every build uses distcc; a daemon that was told of it (`--whitelist-dir`) runs these compilers.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Names of compilers, without a target before or a version behind them.
const COMPILERS: [&str; 8] = ["c++", "c89", "c99", "cc", "clang", "clang++", "g++", "gcc"];

/// What was done about one name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Done {
    /// The link is there.
    Linked(String),
    /// A link to distcc whose compiler is not there any more was removed.
    Removed(String),
    /// Something else has that name; it was left alone.
    Kept(String),
}

/// Fills `directory`, which is made if need be, with links to `distcc` for the compilers along
/// `path`.
///
/// # Errors
///
/// Returns what the file system returned.
pub fn fill(directory: &Path, distcc: &Path, path: &OsStr) -> io::Result<Vec<Done>> {
    fs::create_dir_all(directory)?;
    let own = directory.canonicalize()?;
    let wanted = compilers(path, &own);
    let mut done: Vec<Done> = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_distcc(&entry.path()) && !wanted.contains(&name) {
            fs::remove_file(entry.path())?;
            done.push(Done::Removed(name));
        }
    }
    for name in wanted {
        let link = directory.join(&name);
        done.push(match fs::read_link(&link) {
            Ok(target) if target == distcc => Done::Linked(name),
            _ if is_distcc(&link) => replace(&link, distcc).map(|()| Done::Linked(name))?,
            _ if link.symlink_metadata().is_ok() => Done::Kept(name),
            _ => std::os::unix::fs::symlink(distcc, &link).map(|()| Done::Linked(name))?,
        });
    }
    Ok(done)
}

/// There is no moment without a compiler of that name.
fn replace(link: &Path, distcc: &Path) -> io::Result<()> {
    let fresh = link.with_file_name(format!(".distcc-{}", std::process::id()));
    std::os::unix::fs::symlink(distcc, &fresh)?;
    fs::rename(&fresh, link)
}

/// Whether this is a link that leads to a distcc, be it one that is gone.
fn is_distcc(link: &Path) -> bool {
    let names_it = |path: PathBuf| path.file_name() == Some(OsStr::new("distcc"));
    fs::read_link(link).is_ok_and(names_it)
}

/// The compilers along a path, but for those in `own` and for links to distcc.
fn compilers(path: &OsStr, own: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for directory in std::env::split_paths(path).filter(|directory| directory.is_absolute()) {
        if directory.canonicalize().is_ok_and(|directory| directory == own) {
            continue;
        }
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name();
            let Ok(name) = std::str::from_utf8(name.as_bytes()) else { continue };
            if is_compiler(name) && is_program(&entry.path()) && !is_distcc(&entry.path()) {
                names.insert(name.to_owned());
            }
        }
    }
    names
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// `gcc`, `gcc-12`, `x86_64-linux-gnu-g++-12`, `c99-gcc`; not `gcc-ar`, `clang-format`.
fn is_compiler(name: &str) -> bool {
    let is_version = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let unversioned = match name.rsplit_once('-') {
        Some((front, version)) if is_version(version) => front,
        _ => name,
    };
    match unversioned.rsplit_once('-') {
        None => COMPILERS.contains(&unversioned),
        // A target has several parts.
        Some((front, last)) => {
            COMPILERS.contains(&last) && (front.contains('-') || matches!(front, "c89" | "c99"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_compilers_are_told_from_those_of_tools() {
        for name in
            ["gcc", "c++", "gcc-12", "clang++-14", "x86_64-linux-gnu-g++-12", "arm-none-eabi-gcc", "c99-gcc"]
        {
            assert!(is_compiler(name), "{name}");
        }
        for name in [
            "gcc-ar",
            "x86_64-linux-gnu-gcc-ar-12",
            "clang-format",
            "clang-cpp-14",
            "ccache",
            "cpp",
            "ld",
            "-gcc",
            "make-gcc",
        ] {
            assert!(!is_compiler(name), "{name}");
        }
    }

    #[test]
    fn links_are_made_mended_and_removed_and_nothing_else_is_touched() {
        let directory = tempfile::tempdir().expect("a directory");
        let (bin, links) = (directory.path().join("bin"), directory.path().join("links"));
        fs::create_dir(&bin).expect("a directory");
        fs::create_dir(&links).expect("a directory");
        for name in ["gcc", "g++-12", "clang", "clang-format", "data-gcc-9"] {
            fs::write(bin.join(name), "").expect("a file");
            let mode = if name == "data-gcc-9" { 0o644 } else { 0o755 };
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(mode)).expect("a mode");
        }
        std::os::unix::fs::symlink("/old/distcc", links.join("gcc")).expect("a link");
        std::os::unix::fs::symlink("/old/distcc", links.join("gcc-4")).expect("a link");
        fs::write(links.join("clang"), "mine").expect("a file");
        let path = std::env::join_paths([&links, &bin]).expect("a path");
        let distcc = Path::new("/usr/bin/distcc");
        let mut done = fill(&links, distcc, &path).expect("links");
        done.sort();
        let name = |name: &str| name.to_owned();
        let expected = [
            Done::Linked(name("g++-12")),
            Done::Linked(name("gcc")),
            Done::Removed(name("gcc-4")),
            Done::Kept(name("clang")),
        ];
        assert_eq!(done, expected);
        assert_eq!(fs::read_link(links.join("gcc")).expect("a link"), distcc);
        assert_eq!(fs::read(links.join("clang")).expect("a file"), b"mine");
        assert_eq!(fs::read_dir(&links).expect("a directory").count(), 3);
    }
}
