//! What a loader does of its own: which directories it searches at last, what stands for them in
//! search paths, which names it takes for itself.

use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::NotClosed;
use super::elf::Machine;
use super::layout::Layout;
use crate::common::bytes::Bytes;
use crate::common::program::basename;

/// The largest loader: they have some hundred kB.
const LOADER_MAX_BYTES: u64 = 16 << 20;

/// The ways of one loader.
#[derive(Debug, PartialEq, Eq)]
pub struct Habits {
    /// Whether it is musl's, which differs in much.
    pub musl: bool,
    /// The directories that it searches at last.
    pub usual: Vec<PathBuf>,
    /// What `$LIB` stands for.
    lib: Bytes,
}

impl Habits {
    /// Those of the loader at `interpreter`, for programs of `machine`.
    ///
    /// # Errors
    ///
    /// [`NotClosed`] when its own list of directories cannot be sent.
    pub fn of(layout: &mut Layout, interpreter: &Path, machine: Machine) -> Result<Self, NotClosed> {
        let name = basename(interpreter.as_os_str().as_bytes());
        if name.starts_with(b"ld-musl-") {
            let usual = musl_directories(layout, name)?;
            return Ok(Habits { musl: true, usual, lib: Bytes::from("lib") });
        }
        let mut usual = usual_directories(&text_of(interpreter));
        if usual.is_empty() {
            let known: &[&str] = if machine.wide {
                &["/lib64", "/usr/lib64", "/lib", "/usr/lib"]
            } else {
                &["/lib", "/usr/lib"]
            };
            usual = known.iter().map(PathBuf::from).collect();
        }
        // The first of them is the one that it was made for.
        let lib = usual.first().and_then(|first| first.strip_prefix("/").ok()).map(Bytes::from);
        Ok(Habits { musl: false, lib: lib.unwrap_or_default(), usual })
    }

    /// Puts in what `$ORIGIN` and its like stand for in a path that `file` has in its headers;
    /// `None` for one that is not absolute then.
    pub fn expand(&self, element: &[u8], file: &Path) -> Option<PathBuf> {
        let origin = file.parent()?.as_os_str().as_bytes();
        let mut text = element.to_vec();
        for (name, value) in [(&b"ORIGIN"[..], origin), (b"LIB", &self.lib)] {
            text = replace(&text, &[b"${", name, b"}"].concat(), value);
            text = replace(&text, &[b"$", name].concat(), value);
        }
        // `$PLATFORM` is the processor's name, which is another on another machine.
        let path = Bytes(text);
        (path.starts_with(b"/") && !path.contains(&b'$')).then(|| path.as_path().to_owned())
    }

    /// Whether a library of that name is the loader itself.
    pub fn is_itself(&self, name: &[u8]) -> bool {
        let parts: [&[u8]; 7] = [b"c", b"pthread", b"rt", b"m", b"dl", b"util", b"xnet"];
        let name = name.strip_prefix(b"lib").and_then(|name| name.strip_suffix(b".so"));
        self.musl && name.is_some_and(|name| parts.contains(&name))
    }
}

fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memmem::find(rest, from) {
        result.extend_from_slice(&rest[..at]);
        result.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    result.extend_from_slice(rest);
    result
}

fn text_of(interpreter: &Path) -> Vec<u8> {
    let Ok(file) = File::open(interpreter) else { return Vec::new() };
    let mut text = Vec::new();
    // What cannot be read has no text; known directories are taken then.
    let _ = file.take(LOADER_MAX_BYTES).read_to_end(&mut text);
    text
}

/// The directories in a loader's text: the longest row of strings `/…lib…/`, each behind the NUL
/// of the one before, as glibc has them.
fn usual_directories(text: &[u8]) -> Vec<PathBuf> {
    let mut best: Vec<&[u8]> = Vec::new();
    let mut row: Vec<&[u8]> = Vec::new();
    // An empty string ends the last row.
    for string in text.split(|&byte| byte == 0).chain([&b""[..]]) {
        let is_directory = (2..4096).contains(&string.len())
            && string.starts_with(b"/")
            && string.ends_with(b"/")
            && string.iter().all(u8::is_ascii_graphic)
            && memchr::memmem::find(string, b"lib").is_some();
        if is_directory {
            row.push(string);
            continue;
        }
        if row.len() > best.len() {
            best.clone_from(&row);
        }
        row.clear();
    }
    let trimmed = |string: &[u8]| Bytes::from(&string[..string.len() - 1]).as_path().to_owned();
    best.into_iter().map(trimmed).collect()
}

/// musl's directories: those in its file of paths, or the usual ones.
fn musl_directories(layout: &mut Layout, name: &[u8]) -> Result<Vec<PathBuf>, NotClosed> {
    let stem = name.strip_suffix(b".so.1").unwrap_or(name);
    let file = Bytes([b"/etc/", stem, b".path"].concat());
    let text = match layout.add(file.as_path())? {
        Some(_) => text_of(file.as_path()),
        None => b"/lib:/usr/local/lib:/usr/lib".to_vec(),
    };
    let elements = text.split(|&byte| byte == b':' || byte == b'\n');
    let absolute = elements.filter(|element| element.starts_with(b"/"));
    Ok(absolute.map(|element| Bytes::from(element).as_path().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_directories_are_in_the_loader_s_text() {
        let made = b"junk/\0/etc/x/\0/usr/lib/\0\0/lib64/\0/usr/lib64/\0no\0/lib/";
        assert_eq!(usual_directories(made), [PathBuf::from("/lib64"), PathBuf::from("/usr/lib64")]);
        assert_eq!(usual_directories(b"/lib/"), [PathBuf::from("/lib")]);
        assert!(usual_directories(b"").is_empty());
    }

    fn habits(musl: bool) -> Habits {
        Habits { musl, usual: Vec::new(), lib: Bytes::from("lib/x86_64-linux-gnu") }
    }

    #[test]
    fn tokens_stand_for_where_a_file_is() {
        let check = |element: &str, expected: Option<&str>| {
            let found = habits(false).expand(element.as_bytes(), Path::new("/opt/x/bin/gcc"));
            assert_eq!(found, expected.map(PathBuf::from), "{element}");
        };
        check("$ORIGIN/../lib", Some("/opt/x/bin/../lib"));
        check("${ORIGIN}", Some("/opt/x/bin"));
        check("/usr/$LIB/y", Some("/usr/lib/x86_64-linux-gnu/y"));
        check("/usr/$PLATFORM", None);
        check("relative", None);
        check("", None);
    }

    #[test]
    fn musl_is_its_own_libraries() {
        for (name, expected) in
            [("libc.so", true), ("libpthread.so", true), ("libz.so", false), ("libc.so.6", false)]
        {
            assert_eq!(habits(true).is_itself(name.as_bytes()), expected, "{name}");
            assert!(!habits(false).is_itself(name.as_bytes()));
        }
    }
}
