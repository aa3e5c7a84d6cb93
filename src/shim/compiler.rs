//! Finds the compiler: the next program of its name in PATH that is not distcc itself.
//!
//! Where PATH leads to ourselves first (masquerade), it is cut behind that directory, so that
//! nothing that the compiler runs comes back here.

use rustix::fs::{Access, FileType, access, readlink, stat};

use crate::common::bytes::Bytes;
use crate::common::exit;
use crate::common::program::{basename, candidates};

use super::settings::variable;

/// Where `execvp` looks when there is no PATH.
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";

/// Symbolic links that are followed to learn a program's name, as the kernel bounds them.
const LINKS_MAX: usize = 40;

/// A compiler, found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiler {
    /// Its `argv[0]`.
    pub name: Bytes,
    /// The file to exec.
    pub file: Bytes,
    /// The value that PATH must have from here on, where that is another than it was.
    path: Option<Bytes>,
}

impl Compiler {
    /// Puts the shorter PATH into the environment, at the place of the old one.
    pub fn cut_path(&self, environment: &mut [Bytes]) {
        let Some(path) = &self.path else { return };
        for entry in environment.iter_mut().filter(|entry| entry.starts_with(b"PATH=")) {
            *entry = Bytes([b"PATH=", &path[..]].concat());
        }
    }
}

/// Why there is no compiler to run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompilerError {
    /// No directory of PATH has it.
    #[error(
        "failed to exec {name}: command not found\nhint: the compiler must be installed here too; PATH is {path}"
    )]
    Missing {
        /// The name asked for.
        name: Bytes,
        /// PATH as it was searched.
        path: Bytes,
    },
    /// Only distcc itself goes by that name.
    #[error(
        "failed to exec {name}: nothing but distcc itself has that name\nhint: PATH has no compiler behind distcc's directory: {path}"
    )]
    OnlyOurselves {
        /// The name asked for.
        name: Bytes,
        /// PATH as it was searched.
        path: Bytes,
    },
}

impl CompilerError {
    /// The status to exit with.
    pub fn exit_status(&self) -> i32 {
        match self {
            Self::Missing { .. } => exit::NO_COMPILER,
            Self::OnlyOurselves { .. } => exit::RECURSION,
        }
    }
}

/// Whether the broker must be told another thing than what was called: by or with a masquerade link. Only we know
/// that it is one, whatever our own file is called.
pub fn may_be_ourselves(name: &[u8], called_as: Option<&Bytes>) -> bool {
    called_as.is_some() || (name.contains(&b'/') && leads_to_distcc(name))
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Missing,
    Ourselves,
    Program,
}

/// Finds the compiler `name`; `called_as` is our own `argv[0]` in masquerade use.
///
/// # Errors
///
/// Returns [`CompilerError`] when there is none.
pub fn locate(
    name: &Bytes,
    called_as: Option<&Bytes>,
    environment: &[Bytes],
    cwd: Option<&[u8]>,
) -> Result<Compiler, CompilerError> {
    let path = variable(environment, "PATH").unwrap_or(DEFAULT_PATH);
    let rest = called_as.and_then(|called_as| behind_masquerade(path, called_as, cwd?));
    let own = Identity::own();
    let compiler = search(name, rest.unwrap_or(path), |file| own.look(file))?;
    // What search has cut is behind what the masquerade has cut.
    let cut = compiler.path.or_else(|| rest.map(Bytes::from));
    Ok(Compiler { path: cut, ..compiler })
}

/// Searches `path` for `name`, over ourselves.
fn search(name: &[u8], path: &[u8], look: impl Fn(&[u8]) -> Look) -> Result<Compiler, CompilerError> {
    if name.contains(&b'/') {
        match look(name) {
            Look::Program => {
                return Ok(Compiler { name: Bytes::from(name), file: Bytes::from(name), path: None });
            }
            // A masquerade link named in full: what it stands for is meant.
            Look::Ourselves => return search_path(basename(name), path, true, look),
            Look::Missing => {}
        }
        return Err(CompilerError::Missing { name: Bytes::from(name), path: Bytes::from(path) });
    }
    search_path(name, path, false, look)
}

fn search_path(
    name: &[u8],
    path: &[u8],
    mut met_ourselves: bool,
    look: impl Fn(&[u8]) -> Look,
) -> Result<Compiler, CompilerError> {
    let mut cut = None;
    for (index, file) in candidates(name, path).enumerate() {
        match look(&file) {
            Look::Missing => {}
            Look::Ourselves => {
                met_ourselves = true;
                cut = behind(path, index);
            }
            Look::Program => {
                return Ok(Compiler { name: Bytes::from(name), file, path: cut.map(Bytes::from) });
            }
        }
    }
    let (name, path) = (Bytes::from(name), Bytes::from(path));
    Err(match met_ourselves {
        true => CompilerError::OnlyOurselves { name, path },
        false => CompilerError::Missing { name, path },
    })
}

/// What follows the element `index` of `path`; `None` when nothing does.
fn behind(path: &[u8], index: usize) -> Option<&[u8]> {
    let colon = path.iter().enumerate().filter(|(_, byte)| **byte == b':').nth(index)?.0;
    Some(&path[colon + 1..])
}

/// What follows the first element of `path` that is the directory of `called_as`, compared as
/// text; `None` when there is no such element, nothing follows it, or we were found through PATH.
fn behind_masquerade<'a>(path: &'a [u8], called_as: &[u8], cwd: &[u8]) -> Option<&'a [u8]> {
    let slash = called_as.iter().rposition(|&byte| byte == b'/')?;
    let directory = folded(&called_as[..slash.max(1)], cwd);
    let index = path.split(|&byte| byte == b':').position(|element| folded(element, cwd) == directory)?;
    behind(path, index).filter(|rest| !rest.is_empty())
}

/// An absolute path without `.`, `..` and doubled slashes, by text alone.
fn folded(path: &[u8], cwd: &[u8]) -> Vec<u8> {
    let base = if path.starts_with(b"/") { &b""[..] } else { cwd };
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in base.split(|&byte| byte == b'/').chain(path.split(|&byte| byte == b'/')) {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join(&b'/')
}

/// Our own executable.
struct Identity(Option<(u64, u64)>);

impl Identity {
    fn own() -> Self {
        Identity(stat("/proc/self/exe").ok().map(|file| (file.st_dev, file.st_ino)))
    }

    fn look(&self, file: &[u8]) -> Look {
        if access(file, Access::EXEC_OK).is_err() {
            return Look::Missing;
        }
        match stat(file) {
            Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::RegularFile => {
                let ours = self.0 == Some((found.st_dev, found.st_ino)) || leads_to_distcc(file);
                if ours { Look::Ourselves } else { Look::Program }
            }
            _ => Look::Missing,
        }
    }
}

/// Whether the file is, through links, a program called `distcc`: another installation of ours,
/// or the one that we replace. Only names matter, so directories that are links may stay so.
fn leads_to_distcc(file: &[u8]) -> bool {
    let mut current = Bytes::from(file);
    for _ in 0..LINKS_MAX {
        if basename(&current) == b"distcc" {
            return true;
        }
        let Ok(target) = readlink(&current[..], Vec::new()) else { return false };
        let target = target.into_bytes();
        let slash = current.iter().rposition(|&byte| byte == b'/');
        current = match (target.starts_with(b"/"), slash) {
            (true, _) | (false, None) => Bytes(target),
            (false, Some(slash)) => Bytes([&current[..=slash], &target[..]].concat()),
        };
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `files` holds paths; those that end in `!` are ourselves.
    fn check(name: &str, path: &str, files: &[&str], expected: &str) {
        let look = |file: &[u8]| {
            let file = String::from_utf8_lossy(file).into_owned();
            match (files.contains(&&*file), files.contains(&&*format!("{file}!"))) {
                (true, _) => Look::Program,
                (_, true) => Look::Ourselves,
                _ => Look::Missing,
            }
        };
        let shown = match search(name.as_bytes(), path.as_bytes(), look) {
            Ok(Compiler { name, file, path: None }) => format!("{name} = {file}"),
            Ok(Compiler { name, file, path: Some(path) }) => format!("{name} = {file}, PATH={path}"),
            Err(error) => error.exit_status().to_string(),
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn the_first_program_of_the_name_is_taken() {
        check("gcc", "/a:/b:/c", &["/b/gcc", "/c/gcc"], "gcc = /b/gcc");
    }

    #[test]
    fn ourselves_are_skipped_and_path_is_cut_behind_us() {
        check("gcc", "/m:/a:/n:/b", &["/m/gcc!", "/n/gcc!", "/b/gcc"], "gcc = /b/gcc, PATH=/b");
    }

    #[test]
    fn a_directory_of_ours_behind_the_compiler_stays() {
        check("gcc", "/b:/m", &["/b/gcc", "/m/gcc!"], "gcc = /b/gcc");
    }

    #[test]
    fn a_masquerade_link_named_in_full_means_what_it_stands_for() {
        check("/m/gcc", "/m:/b", &["/m/gcc!", "/b/gcc"], "gcc = /b/gcc, PATH=/b");
        check("/b/gcc", "/m:/b", &["/m/gcc!", "/b/gcc"], "/b/gcc = /b/gcc");
    }

    #[test]
    fn nothing_but_ourselves_is_a_recursion_and_nothing_at_all_a_missing_compiler() {
        check("gcc", "/m:/a", &["/m/gcc!"], "111");
        check("gcc", "/m:/a", &[], "110");
        check("./gcc", "/m:/a", &[], "110");
    }

    fn check_cut(path: &str, called_as: &str, expected: Option<&str>) {
        let rest = behind_masquerade(path.as_bytes(), called_as.as_bytes(), b"/work");
        assert_eq!(rest.map(String::from_utf8_lossy).as_deref(), expected, "{called_as}");
    }

    #[test]
    fn path_is_cut_behind_the_directory_we_were_called_from() {
        check_cut("/c:/m:/b", "/m/gcc", Some("/b"));
        check_cut("/c:/m/:/b:/m:/d", "/x/../m//gcc", Some("/b:/m:/d"));
        check_cut("/c:m:/b", "./m/gcc", Some("/b"));
    }

    #[test]
    fn path_stays_when_nothing_would_be_left_or_it_does_not_name_us() {
        check_cut("/c:/m", "/m/gcc", None);
        check_cut("/c:/b", "/m/gcc", None);
        check_cut("/c:/m:/b", "gcc", None);
    }
}
