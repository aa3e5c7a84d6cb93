//! What a daemon of distcc 3.4 is to be told the compiler is called.
//!
//! Such a daemon takes names, and its list of allowed compilers holds those that its distribution
//! made: with the target in them. The rules are those of its own client, without what went wrong
//! there: the target is that of the compiler itself, not of whoever built distcc.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::common::bytes::Bytes;
use crate::common::program::{basename, candidates};

/// Names that say which compiler is behind `cc`.
const KNOWN: [&[u8]; 4] = [b"gcc", b"g++", b"clang", b"clang++"];

/// A compiler's name and the arguments that must follow all others.
pub type Called = (Bytes, Vec<Bytes>);

/// What the compiler `name` is called elsewhere, when it is for `target` and looked up on `path`.
///
/// A name with a directory is left alone, and so is everything when `as_is`
/// (`DISTCC_NO_REWRITE_CROSS`).
pub fn rename(name: &Bytes, target: &str, path: &[u8], as_is: bool) -> Called {
    if as_is || name.contains(&b'/') || target.is_empty() {
        return (name.clone(), Vec::new());
    }
    let name = behind_cc(name, path).unwrap_or_else(|| name.clone());
    if is_one_of(&name, [b"clang++", b"clang"]) {
        return (name, vec!["-target".into(), target.into()]);
    }
    if is_one_of(&name, [b"g++", b"gcc"]) {
        let full = Bytes([target.as_bytes(), b"-", &name[..]].concat());
        let exists = candidates(&full, path).any(|candidate| is_program(candidate.as_path()));
        return (if exists { full } else { name }, Vec::new());
    }
    (name, Vec::new())
}

/// `gcc`, `gcc-12`.
fn is_one_of(name: &[u8], plain: [&[u8]; 2]) -> bool {
    plain
        .iter()
        .any(|plain| name.strip_prefix(*plain).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"-")))
}

/// What `cc` and `c++` are links to, directly or through the system's alternatives.
fn behind_cc(name: &Bytes, path: &[u8]) -> Option<Bytes> {
    if !matches!(&name[..], b"cc" | b"c++") {
        return None;
    }
    let mut candidates =
        candidates(name, path).filter(|candidate| memchr::memmem::find(candidate, b"distcc").is_none());
    let found = candidates.find(|candidate| is_program(candidate.as_path()))?;
    let mut target = std::fs::read_link(found.as_path()).ok()?;
    if target.starts_with("/etc/alternatives") {
        target = std::fs::read_link(target).unwrap_or_else(|_| PathBuf::new());
    }
    let target = Bytes::from_path(target);
    let name = basename(&target);
    KNOWN.iter().any(|known| name.ends_with(known)).then(|| Bytes::from(name))
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    const TARGET: &str = "x86_64-linux-gnu";

    fn check(directory: &Path, name: &str, expected: &str) {
        let path = Bytes::from_path(directory.to_owned());
        let (name, more) = rename(&name.into(), TARGET, &path, false);
        let words: Vec<String> = [name].iter().chain(&more).map(Bytes::to_text).collect();
        assert_eq!(words.join(" "), expected);
    }

    #[test]
    fn names_get_their_target_where_there_is_such_a_program() {
        let directory = tempfile::tempdir().expect("a directory");
        for name in ["x86_64-linux-gnu-gcc", "x86_64-linux-gnu-g++-12"] {
            let program = directory.path().join(name);
            std::fs::write(&program, "").expect("a file");
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("a mode");
        }
        symlink("x86_64-linux-gnu-gcc", directory.path().join("gcc")).expect("a link");
        symlink("gcc", directory.path().join("cc")).expect("a link");
        let directory = directory.path();
        check(directory, "gcc", "x86_64-linux-gnu-gcc");
        check(directory, "cc", "x86_64-linux-gnu-gcc");
        check(directory, "g++-12", "x86_64-linux-gnu-g++-12");
        check(directory, "g++", "g++");
        check(directory, "clang++-14", "clang++-14 -target x86_64-linux-gnu");
        check(directory, "/usr/bin/gcc", "/usr/bin/gcc");
        check(directory, "c99", "c99");
        check(directory, "i686-w64-mingw32-gcc", "i686-w64-mingw32-gcc");
        let as_is = rename(&"gcc".into(), TARGET, &Bytes::from_path(directory.to_owned()), true);
        assert_eq!(as_is, ("gcc".into(), Vec::new()));
    }
}
