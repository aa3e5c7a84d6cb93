//! The directories that an answer of a compiler rests on, and whether they are still what they were.

use std::hash::{Hash, Hasher};

use super::Declined;
use super::disk::Disk;
use super::facts::Listed;
use super::files::{Files, Trail};
use super::symbols::Quick;
use crate::common::bytes::Bytes;

/// What was seen of a directory: its device and inode, if it is there.
type Identity = Option<(u64, u64)>;

/// Directories, each absolute and ending in a slash.
#[derive(Clone, Debug, Default)]
pub(super) struct Named {
    /// Those that a compiler looks into: it complains where one is something else.
    pub these: Vec<Vec<u8>>,
    /// Those that it would look into, if they were there.
    pub awaited: Vec<Vec<u8>>,
    /// Those in which it chooses, by the names that are in them.
    pub holders: Vec<Vec<u8>>,
}

impl Named {
    /// Takes up those that are awaited with another answer.
    pub fn awaits(&mut self, other: &Named) {
        self.awaited.extend(other.awaited.iter().cloned());
        self.holders.extend(other.holders.iter().cloned());
    }
}

/// Directories as they were when a compiler was asked.
#[derive(Debug)]
pub(super) struct Ground {
    these: Box<[(Vec<u8>, Identity)]>,
    awaited: Box<[(Vec<u8>, Identity)]>,
    holders: Box<[(Vec<u8>, u64)]>,
    /// All of them, and the last ones alone.
    trail: Trail,
    held: Trail,
    at: u64,
}

impl Ground {
    /// Looks at them; `at` is [`Disk::now`] before the compiler was asked.
    ///
    /// # Errors
    ///
    /// [`Declined::Unreadable`] where something else than a directory, or than nothing, is.
    pub fn new(named: &Named, at: u64, disk: &mut Disk) -> Result<Self, Declined> {
        let mut look = |list: &[Vec<u8>]| -> Box<[(Vec<u8>, Identity)]> {
            let mut seen: Vec<_> = list.iter().map(|path| (path.clone(), disk.identity(path))).collect();
            seen.sort();
            seen.dedup();
            seen.into()
        };
        let (these, awaited) = (look(&named.these), look(&named.awaited));
        if let Some((path, _)) = these.iter().find(|seen| !is_told_apart(seen)) {
            return Err(Declined::Unreadable(Bytes::from(&path[..])));
        }
        let within = named.holders.iter().filter(|path| is_of_gccs(path)).flat_map(|path| folders(path));
        let mut holders: Vec<Vec<u8>> = named.holders.iter().cloned().chain(within).collect();
        holders.sort();
        holders.dedup();
        holders.iter().for_each(|path| disk.tell_all(path));
        let counted = holders.into_iter().map(|path| (names(&path), path));
        let holders: Box<[(Vec<u8>, u64)]> = counted.map(|(count, path)| (path, count)).collect();
        let held: Vec<&[u8]> = holders.iter().map(|(path, _)| &path[..]).collect();
        let seen = these.iter().chain(&awaited).map(|(path, _)| &path[..]);
        let all: Vec<&[u8]> = seen.chain(held.iter().copied()).collect();
        let (trail, held) = (disk.trail(&all), disk.trail(&held));
        Ok(Ground { these, awaited, holders, trail, held, at })
    }

    /// Whether nothing has happened to any of them.
    pub fn stands(&self, disk: &mut Disk) -> bool {
        disk.state(self.trail) <= self.at
    }

    /// Whether all are what they were, or are missing as before.
    pub fn is_still(&mut self, disk: &mut Disk) -> bool {
        let at = disk.now();
        if self.stands(disk) {
            return true;
        }
        let seen = self.these.iter().chain(&self.awaited);
        let is_still = seen.into_iter().all(|(path, identity)| disk.identity(path) == *identity)
            && self.these.iter().all(is_told_apart)
            && (disk.state(self.held) <= self.at
                || self.holders.iter().all(|(path, before)| names(path) == *before));
        if is_still {
            self.at = at.max(self.at);
        }
        is_still
    }

    /// Whether the compiler saw what is here: what it found is there, what it did not is not.
    pub fn agrees(&self, listed: &Listed, cwd: &[u8]) -> bool {
        let is_there = |path: &Bytes| {
            let path = [&absolute(path, cwd)[..], b"/"].concat();
            let known = self.these.binary_search_by(|(known, _)| known.cmp(&path));
            known.ok().map(|at| self.these[at].1.is_some())
        };
        listed.quotes.iter().chain(&listed.brackets).all(|path| is_there(path) != Some(false))
            && listed.missing.iter().all(|path| is_there(path) != Some(true))
    }
}

/// Whether a directory is there, or nothing is. Of anything else (a plain file, a link that leads round, what may
/// not be entered) compilers complain, and a volunteer that does not have it would not.
fn is_told_apart((path, identity): &(Vec<u8>, Identity)) -> bool {
    let is_absent = |error: std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    identity.is_some() || std::fs::metadata(Bytes::from(&path[..]).as_path()).is_err_and(is_absent)
}

/// Whether versions of gcc for one machine are in a directory (`/usr/lib/gcc/x86_64-linux-gnu/`): clang takes one only
/// when its `crtbegin.o` is there.
fn is_of_gccs(path: &[u8]) -> bool {
    let above = path.strip_suffix(b"/").and_then(|path| path.rsplitn(2, |&byte| byte == b'/').nth(1));
    above.is_some_and(|above| above.ends_with(b"/gcc") || above.ends_with(b"/gcc-cross"))
}

/// The directories in a directory, each ending in a slash.
fn folders(path: &[u8]) -> Vec<Vec<u8>> {
    let Ok(entries) = std::fs::read_dir(Bytes::from(path).as_path()) else { return Vec::new() };
    let folders = entries.flatten().filter(|entry| entry.path().is_dir());
    folders.map(|entry| [path, entry.file_name().as_encoded_bytes(), b"/"].concat()).collect()
}

/// A number for the names in a directory, in no order.
fn names(path: &[u8]) -> u64 {
    let Ok(entries) = std::fs::read_dir(Bytes::from(path).as_path()) else { return 0 };
    entries.flatten().fold(1, |sum, entry| {
        let mut hasher = Quick::default();
        entry.file_name().hash(&mut hasher);
        sum.wrapping_add(hasher.finish() | 1)
    })
}

/// Directories that a compiler does not tell of while they are missing: clang's driver looks whether they are
/// there before it names them, gcc's only for those of `-B`.
pub(super) fn awaited(own: &Listed, arguments: &[Bytes], cwd: &[u8]) -> Named {
    let mut named = Named::default();
    for prefix in prefixes(arguments) {
        let prefix = absolute(prefix, cwd);
        let ends = [&b"/include/"[..], b"/include-fixed/", b"include/", b"include-fixed/"];
        named.awaited.extend(ends.iter().map(|end| [&prefix[..], end].concat()));
    }
    let directories = own.brackets.iter().chain(&own.missing).chain(&own.ignored);
    for directory in directories.filter(|_| own.is_clang) {
        let directory = absolute(directory, cwd);
        named.holders.extend(versions_above(&directory));
        let Some(root) = directory.strip_suffix(b"/include") else { continue };
        let within = own.targets.iter().map(|target| [&directory[..], b"/", target, b"/"].concat());
        named.awaited.extend(within);
        named.holders.push([&directory[..], b"/c++/"].concat());
        if root.ends_with(b"/usr") || root.is_empty() {
            // Where clang looks for a gcc, and takes its headers of C++.
            for library in [&b"/lib/gcc/"[..], b"/lib64/gcc/", b"/lib/gcc-cross/"] {
                named.holders.push([root, library].concat());
                named.holders.extend(own.targets.iter().map(|target| [root, library, target, b"/"].concat()));
            }
        }
    }
    for list in [&mut named.awaited, &mut named.holders] {
        list.sort();
        list.dedup();
    }
    named
}

/// The values of `-B`.
fn prefixes(arguments: &[Bytes]) -> impl Iterator<Item = &[u8]> {
    let following = arguments.iter().skip(1).map(|word| &word[..]).chain([&b""[..]]);
    arguments.iter().zip(following).filter_map(|(word, next)| match word.strip_prefix(b"-B")? {
        b"" => Some(next),
        joined => Some(joined),
    })
}

/// Those above a directory in which one of several versions is chosen: of a gcc, of a library of C++.
fn versions_above(path: &[u8]) -> Vec<Vec<u8>> {
    let mut holders = Vec::new();
    let mut behind_gcc = false;
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    for at in slashes.skip(1) {
        let above = &path[..at];
        let is_gcc = above.ends_with(b"/gcc") || above.ends_with(b"/gcc-cross");
        if is_gcc || behind_gcc || above.ends_with(b"/c++") {
            holders.push([above, b"/"].concat());
        }
        behind_gcc = is_gcc;
    }
    holders
}

/// A path of a compiler's that runs in `cwd`.
pub(super) fn absolute(path: &[u8], cwd: &[u8]) -> Vec<u8> {
    if path.starts_with(b"/") {
        return path.to_vec();
    }
    let slash: &[u8] = if cwd.ends_with(b"/") { b"" } else { b"/" };
    [cwd, slash, path].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_a_compiler_keeps_to_itself_while_it_is_missing_is_awaited() {
        let check = |own: &Listed, arguments: &[&str], awaits: &[&str], holders: &[&str]| {
            let arguments: Vec<Bytes> = arguments.iter().map(|word| Bytes::from(*word)).collect();
            let named = awaited(own, &arguments, b"/w");
            let texts = |list: &[Vec<u8>]| -> Vec<String> {
                list.iter().map(|path| Bytes(path.clone()).to_text()).collect()
            };
            assert_eq!((texts(&named.awaited), texts(&named.holders)), (strings(awaits), strings(holders)));
        };
        let paths = |list: &[&str]| list.iter().map(|path| Bytes::from(*path)).collect::<Vec<_>>();
        let gcc = Listed { brackets: paths(&["/usr/include"]), ..Listed::default() };
        check(&gcc, &[], &[], &[]);
        check(
            &gcc,
            &["-Bt"],
            &["/w/t/include-fixed/", "/w/t/include/", "/w/tinclude-fixed/", "/w/tinclude/"],
            &[],
        );
        let clang = Listed {
            is_clang: true,
            brackets: paths(&["/r/usr/include"]),
            ignored: paths(&["/usr/bin/../lib/gcc/m/12/../../../../include/c++/12"]),
            targets: paths(&["m"]),
            ..Listed::default()
        };
        let holders = [
            "/r/usr/include/c++/",
            "/r/usr/lib/gcc-cross/",
            "/r/usr/lib/gcc-cross/m/",
            "/r/usr/lib/gcc/",
            "/r/usr/lib/gcc/m/",
            "/r/usr/lib64/gcc/",
            "/r/usr/lib64/gcc/m/",
            "/usr/bin/../lib/gcc/",
            "/usr/bin/../lib/gcc/m/",
            "/usr/bin/../lib/gcc/m/12/../../../../include/c++/",
        ];
        check(&clang, &[], &["/r/usr/include/m/"], &holders);
    }
}
