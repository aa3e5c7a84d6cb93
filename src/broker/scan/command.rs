//! What is known of a compiler and of its search chain, and when that must be asked again.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::disk::Disk;
use super::facts::{Compiler, ENVIRONMENT, Listed};
use super::files::{Files, Trail};
use super::options::CommandLine;
use super::symbols::Quick;
use super::{Declined, Directory, Facts, Search};
use crate::common::bytes::Bytes;

/// Further variables that decide which programs run, and how.
const RUNNING: [&str; 4] = ["PATH", "TMPDIR", "HOME", "LD_LIBRARY_PATH"];

/// A command as far as its files depend on it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Key {
    argv: Box<[Bytes]>,
    cwd: Bytes,
    environment: Box<[(&'static str, Bytes)]>,
}

impl Key {
    /// The key of a command, and a number that is the same for equal ones.
    pub fn new(argv: &[Bytes], cwd: &Bytes, env: &[Bytes]) -> (u64, Self) {
        let environment = ENVIRONMENT.iter().chain(&RUNNING).filter_map(|name| {
            let value = lookup(env, name)?;
            Some((*name, Bytes::from(value)))
        });
        let key = Key { argv: argv.into(), cwd: cwd.clone(), environment: environment.collect() };
        let mut hasher = Quick::default();
        key.argv.hash(&mut hasher);
        key.cwd.hash(&mut hasher);
        key.environment.hash(&mut hasher);
        (hasher.finish(), key)
    }

    /// Memory in use, in bytes, nearly.
    pub fn size(&self) -> usize {
        let words: usize = self.argv.iter().map(|word| word.len() + 40).sum();
        let environment: usize = self.environment.iter().map(|(_, value)| value.len() + 56).sum();
        words + environment + self.cwd.len() + 128
    }
}

/// Tells whether a program is still the same.
type ProgramStamp = (u64, u64, u64, (i64, i64), (i64, i64));

/// What is known about a compiler under one set of flags.
#[derive(Debug)]
pub(super) struct Known {
    pub compiler: Compiler,
    pub facts: Facts,
    pub answers: HashMap<Vec<u8>, i64>,
    /// Directories that are its own, or named as system ones by the environment.
    pub own: Listed,
    own_list: Arc<[Bytes]>,
    /// The driver, the compiler proper and its configuration.
    programs: Vec<(PathBuf, Option<ProgramStamp>)>,
}

impl Known {
    /// Asks the compiler.
    pub fn ask(compiler: &Compiler, canonical: bool, remaps: bool, number: u32) -> Result<Self, Declined> {
        let driver = compiler.program.as_path().to_owned();
        let before = stamp(&driver);
        if before.is_none() {
            return Err(Declined::Compiler("there is no such program".to_owned()));
        }
        let said = compiler.facts(canonical, remaps)?;
        let mut own = compiler.clone();
        own.environment.retain(|(name, _)| name[..] != *b"CPATH");
        let own = own.listed()?;
        let mut programs = vec![(driver, before)];
        programs.extend(own.programs.iter().map(|path| (path.as_path().to_owned(), stamp(path.as_path()))));
        Ok(Known {
            compiler: compiler.clone(),
            facts: Facts { number, ..said.facts },
            answers: said.answers,
            own_list: own.brackets.clone().into(),
            own,
            programs,
        })
    }

    /// Whether the programs are the ones that were asked.
    pub fn stands(&self) -> bool {
        self.programs.iter().all(|(path, known)| stamp(path) == *known)
    }

    /// The directories that are the compiler's own.
    pub fn own_list(&self) -> Arc<[Bytes]> {
        self.own_list.clone()
    }
}

fn stamp(program: &std::path::Path) -> Option<ProgramStamp> {
    let metadata = std::fs::metadata(program).ok()?;
    let modified = (metadata.mtime(), metadata.mtime_nsec());
    let changed = (metadata.ctime(), metadata.ctime_nsec());
    Some((metadata.dev(), metadata.ino(), metadata.size(), modified, changed))
}

/// A directory that was named, and its device and inode at that time.
type Seen = (Vec<u8>, Option<(u64, u64)>);

/// A chain of directories, and what it was made from.
#[derive(Debug)]
pub(super) struct KnownSearch {
    pub search: Arc<Search>,
    /// Its number in the walk's memory.
    pub chain: u32,
    /// Each directory that was named, with its identity at that time.
    seen: Vec<Seen>,
    trail: Trail,
    at: u64,
}

impl KnownSearch {
    /// Asks the compiler.
    pub fn ask(
        compiler: &Compiler,
        known: &Known,
        line: &CommandLine,
        cwd: &Bytes,
        env: &[Bytes],
        disk: &mut Disk,
    ) -> Result<Self, Declined> {
        let mut asked = compiler.clone();
        let at = disk.now();
        let has_cpath = asked.environment.iter().any(|(name, _)| name[..] == *b"CPATH");
        let listed = if line.paths.is_empty() && !has_cpath {
            known.own.clone()
        } else {
            asked.arguments.extend(line.paths.iter().cloned());
            asked.listed()?
        };
        let mut system: Vec<&[u8]> = known.own.brackets.iter().map(|path| &path[..]).collect();
        system.extend(line.system_directories.iter().map(|path| &path[..]));
        let search = assemble(&listed, &system, cwd);
        let named = named(&search, &listed, line, cwd, env);
        let seen: Vec<Seen> = named.into_iter().map(|path| (path.clone(), disk.identity(&path))).collect();
        if let Some((path, _)) = seen.iter().find(|seen| !is_told_apart(seen)) {
            return Err(Declined::Unreadable(Bytes::from(&path[..])));
        }
        let trail = disk.trail(&seen.iter().map(|(path, _)| &path[..]).collect::<Vec<_>>());
        Ok(KnownSearch { search: Arc::new(search), chain: 0, seen, trail, at })
    }

    /// Whether nothing has happened to any of the directories.
    pub fn stands(&self, disk: &mut Disk) -> bool {
        disk.state(self.trail) <= self.at
    }

    /// Whether all directories are the same as before, or are missing as before.
    pub fn is_still(&mut self, disk: &mut Disk) -> bool {
        let at = disk.now();
        if disk.state(self.trail) <= self.at {
            return true;
        }
        let is_still = self.seen.iter().all(|(path, identity)| disk.identity(path) == *identity);
        let is_still = is_still && self.seen.iter().all(is_told_apart);
        if is_still {
            self.at = at.max(self.at);
        }
        is_still
    }
}

/// Whether a directory is there, or nothing is. Of anything else (a plain file, a link that leads round, what may
/// not be entered) compilers complain, and a volunteer that does not have it would not.
fn is_told_apart((path, identity): &Seen) -> bool {
    let is_absent = |error: std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    identity.is_some() || std::fs::metadata(Bytes::from(&path[..]).as_path()).is_err_and(is_absent)
}

/// Every directory that was named to the compiler, or that it named, each ending in a slash.
fn named(search: &Search, listed: &Listed, line: &CommandLine, cwd: &[u8], env: &[Bytes]) -> Vec<Vec<u8>> {
    let mut named: Vec<Vec<u8>> = search.directories.iter().map(|directory| directory.path.clone()).collect();
    named.extend(listed.ignored.iter().map(|path| absolute(path, cwd)));
    named
        .extend(line.user_directories.iter().chain(&line.system_directories).map(|path| absolute(path, cwd)));
    for variable in ["CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "OBJC_INCLUDE_PATH"] {
        if let Some(list) = lookup(env, variable) {
            named.extend(list.split(|&byte| byte == b':').map(|path| absolute(path, cwd)));
        }
    }
    named.iter_mut().for_each(|path| path.push(b'/'));
    named.sort();
    named.dedup();
    named
}

fn absolute(path: &[u8], cwd: &[u8]) -> Vec<u8> {
    if path.starts_with(b"/") {
        return path.to_vec();
    }
    let slash: &[u8] = if cwd.ends_with(b"/") { b"" } else { b"/" };
    [cwd, slash, path].concat()
}

fn assemble(listed: &Listed, system: &[&[u8]], cwd: &[u8]) -> Search {
    let directory = |path: &Bytes, system: bool| Directory {
        path: absolute(path, cwd),
        relative: !path.starts_with(b"/"),
        system,
    };
    let mut directories: Vec<Directory> = listed.quotes.iter().map(|path| directory(path, false)).collect();
    let quotes = directories.len();
    directories.extend(listed.brackets.iter().map(|path| directory(path, system.contains(&&path[..]))));
    Search { directories, quotes }
}

/// The value of a variable.
pub(super) fn lookup<'a>(env: &'a [Bytes], name: &str) -> Option<&'a [u8]> {
    env.iter().rev().find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// The compiler to ask for facts.
pub(super) fn compiler(line: &CommandLine, program: PathBuf, cwd: &Bytes, env: &[Bytes]) -> Compiler {
    let mut arguments = line.base.clone();
    arguments.extend([Bytes::from("-x"), Bytes::from(line.language.name())]);
    // Facts depend on the working directory only through relative names in arguments.
    let names_file = |argument: &Bytes| {
        [&b"-specs"[..], b"--specs", b"-B", b"-fplugin="].iter().any(|start| argument.starts_with(start))
    };
    let relative = line
        .base
        .iter()
        .any(|argument| argument.contains(&b'/') || !argument.starts_with(b"-") || names_file(argument));
    let has_lists = ENVIRONMENT.iter().any(|name| lookup(env, name).is_some());
    let at =
        if relative || has_lists || line.compiler.contains(&b'/') { cwd.clone() } else { Bytes::from("/") };
    let mut environment: Vec<(Bytes, Bytes)> = Vec::new();
    for name in ENVIRONMENT.iter().chain(&RUNNING) {
        if let Some(value) = lookup(env, name) {
            environment.push((Bytes::from(*name), Bytes::from(value)));
        }
    }
    Compiler { program: Bytes::from_path(program), arguments, cwd: at, environment }
}
