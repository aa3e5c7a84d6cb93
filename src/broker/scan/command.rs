//! What is known of a compiler and of its search chain, and when that must be asked again.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::disk::Disk;
use super::facts::{Compiler, ENVIRONMENT, Listed};
use super::files::Files;
use super::ground::{Ground, Named, absolute, awaited};
use super::options::CommandLine;
use super::symbols::Quick;
use super::{Declined, Directory, Facts, Search};
use crate::common::bytes::Bytes;
use crate::common::classify::INCLUDE_LISTS;
use crate::common::toolchain::Digest;

/// Further variables that decide which programs run, and how.
const RUNNING: [&str; 4] = ["PATH", "TMPDIR", "HOME", "LD_LIBRARY_PATH"];

/// A command as far as its files depend on it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Key {
    toolchain: Option<Digest>,
    argv: Box<[Bytes]>,
    cwd: Bytes,
    environment: Box<[(&'static str, Bytes)]>,
}

impl Key {
    /// The key of a command, and a number that is the same for equal ones.
    pub fn new(toolchain: Option<Digest>, argv: &[Bytes], cwd: &Bytes, env: &[Bytes]) -> (u64, Self) {
        let environment = ENVIRONMENT.iter().chain(&RUNNING).filter_map(|name| {
            let value = lookup(env, name)?;
            Some((*name, Bytes::from(value)))
        });
        let key = Key { toolchain, argv: argv.into(), cwd: cwd.clone(), environment: environment.collect() };
        let mut hasher = Quick::default();
        key.toolchain.hash(&mut hasher);
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
    /// Directories of the answer, and those that are awaited.
    named: Named,
    ground: Ground,
    /// The driver, the compiler proper and its configuration.
    programs: Vec<(PathBuf, Option<ProgramStamp>)>,
}

impl Known {
    /// Asks the compiler.
    pub fn ask(
        compiler: &Compiler,
        canonical: bool,
        remaps: bool,
        number: u32,
        disk: &mut Disk,
    ) -> Result<Self, Declined> {
        let at = disk.now();
        let driver = compiler.program.as_path().to_owned();
        let before = stamp(&driver);
        if before.is_none() {
            return Err(Declined::Compiler("there is no such program".to_owned()));
        }
        let said = compiler.facts(canonical, remaps)?;
        let mut own = compiler.clone();
        own.environment.retain(|(name, _)| name[..] != *b"CPATH");
        let own = own.listed()?;
        let mut named = awaited(&own, &compiler.arguments, &compiler.cwd);
        named.these.extend(own.all().map(|path| [&absolute(path, &compiler.cwd)[..], b"/"].concat()));
        named.these.extend(listed_by_environment(&compiler.environment, &compiler.cwd));
        let ground = Ground::new(&named, at, disk)?;
        if !ground.agrees(&own, &compiler.cwd) {
            return Err(Declined::Compiler("directories come and go".to_owned()));
        }
        let mut programs = vec![(driver, before)];
        let used = own.programs.iter().map(|path| compiler.cwd.as_path().join(path.as_path()));
        programs.extend(used.map(|path| (path.clone(), stamp(&path))));
        Ok(Known {
            compiler: compiler.clone(),
            facts: Facts { number, ..said.facts },
            answers: said.answers,
            own_list: own.brackets.clone().into(),
            own,
            named,
            ground,
            programs,
        })
    }

    /// Whether the programs are the ones that were asked.
    pub fn stands(&self) -> bool {
        self.programs.iter().all(|(path, known)| stamp(path) == *known)
    }

    /// Whether they would say the same: the programs are those, and the directories.
    pub fn is_still(&mut self, disk: &mut Disk) -> bool {
        self.stands() && self.ground.is_still(disk)
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

/// A chain of directories, and what it was made from.
#[derive(Debug)]
pub(super) struct KnownSearch {
    pub search: Arc<Search>,
    /// Its number in the walk's memory.
    pub chain: u32,
    /// Each directory that was named, and all that the compiler's own are taken from.
    ground: Ground,
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
        let mut named = named(&search, &listed, line, cwd, env);
        named.these.extend(known.named.these.iter().cloned());
        named.awaits(&known.named);
        let ground = Ground::new(&named, at, disk)?;
        if let Some(path) = ambiguous(&search, line, cwd, env, disk).filter(|_| known.own.is_clang) {
            return Err(Declined::Doubt {
                what: "a directory of headers under two names",
                path: path.into(),
            });
        }
        if !ground.agrees(&listed, cwd) {
            return Err(Declined::Compiler("directories come and go".to_owned()));
        }
        Ok(KnownSearch { search: Arc::new(search), chain: 0, ground })
    }

    /// Whether nothing has happened to any of the directories.
    pub fn stands(&self, disk: &mut Disk) -> bool {
        self.ground.stands(disk)
    }

    /// Whether all directories are the same as before, or are missing as before.
    pub fn is_still(&mut self, disk: &mut Disk) -> bool {
        self.ground.is_still(disk)
    }
}

/// Every directory that was named to the compiler, or that it named.
fn named(search: &Search, listed: &Listed, line: &CommandLine, cwd: &[u8], env: &[Bytes]) -> Named {
    let mut these: Vec<Vec<u8>> = search.directories.iter().map(|directory| directory.path.clone()).collect();
    these.extend(listed.missing.iter().chain(&listed.ignored).map(|path| absolute(path, cwd)));
    these.iter_mut().for_each(|path| path.push(b'/'));
    these.extend(line.user_directories.iter().map(|path| directory(path, cwd)));
    these.extend(others(line, cwd, env));
    Named { these, ..Named::default() }
}

/// The directories that a command names, but for those of `-I`.
fn others(line: &CommandLine, cwd: &[u8], env: &[Bytes]) -> Vec<Vec<u8>> {
    let named = line.quote_directories.iter().chain(&line.system_directories);
    let lists = INCLUDE_LISTS.iter().filter_map(|name| lookup(env, name)).filter(|list| !list.is_empty());
    let listed = lists.flat_map(|list| directories_in(list, cwd));
    named.map(|path| directory(path, cwd)).chain(listed).collect()
}

/// A directory that a command names in two ways of which one is not `-I`. clang gives it the name that it met first,
/// but opens what is in it by one that depends on the kinds of both, and on its version. Of `-I` twice, both are the first.
fn ambiguous(
    search: &Search,
    line: &CommandLine,
    cwd: &[u8],
    env: &[Bytes],
    disk: &mut Disk,
) -> Option<Vec<u8>> {
    let of_user: Vec<Vec<u8>> = line.user_directories.iter().map(|path| directory(path, cwd)).collect();
    let listed = search.directories.iter().map(|known| directory(&known.path, cwd));
    let mut names: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
    for path in others(line, cwd, env).into_iter().chain(listed.filter(|path| !of_user.contains(path))) {
        let Some(identity) = disk.identity(&path) else { continue };
        if *names.entry(identity).or_insert_with(|| path.clone()) != path {
            return Some(path);
        }
    }
    let is_another = |path: &Vec<u8>| {
        let known = disk.identity(path).and_then(|identity| names.get(&identity));
        known.is_some_and(|known| known != path)
    };
    of_user.into_iter().find(is_another)
}

/// A directory as one name: absolute, with one slash at its end, as clang calls it.
fn directory(path: &[u8], cwd: &[u8]) -> Vec<u8> {
    let mut path = absolute(path, cwd);
    path.truncate(path.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1));
    path.push(b'/');
    path
}

fn directories_in(list: &[u8], cwd: &[u8]) -> Vec<Vec<u8>> {
    list.split(|&byte| byte == b':').map(|path| directory(path, cwd)).collect()
}

/// The directories that an environment lists, but for `CPATH`.
fn listed_by_environment(environment: &[(Bytes, Bytes)], cwd: &[u8]) -> Vec<Vec<u8>> {
    let is_list = |name: &[u8]| INCLUDE_LISTS[1..].iter().any(|list| list.as_bytes() == name);
    let lists = environment.iter().filter(|(name, _)| is_list(name));
    lists.flat_map(|(_, list)| directories_in(list, cwd)).collect()
}

fn assemble(listed: &Listed, system: &[&[u8]], cwd: &[u8]) -> Search {
    let directory = |path: &Bytes, system: bool| Directory {
        path: absolute(path, cwd),
        relative: !path.starts_with(b"/"),
        system,
    };
    let mut directories: Vec<Directory> = listed.quotes.iter().map(|path| directory(path, false)).collect();
    // Where there is nothing behind them, gcc looks there for `<…>` as well (libcpp's cpp_set_include_chains).
    let quotes = if listed.brackets.is_empty() && !listed.is_clang { 0 } else { directories.len() };
    directories.extend(listed.brackets.iter().map(|path| directory(path, system.contains(&&path[..]))));
    Search { directories, quotes }
}

/// The value of a variable.
pub(super) fn lookup<'a>(env: &'a [Bytes], name: &str) -> Option<&'a [u8]> {
    env.iter().rev().find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// The compiler to ask for facts.
pub(super) fn compiler(
    line: &CommandLine,
    program: PathBuf,
    toolchain: Option<Digest>,
    cwd: &Bytes,
    env: &[Bytes],
) -> Compiler {
    let mut arguments = line.base.clone();
    arguments.extend([Bytes::from("-x"), Bytes::from(line.language.name())]);
    let relative = line.base.iter().any(|argument| may_name_file(argument));
    let has_lists = ENVIRONMENT.iter().any(|name| lookup(env, name).is_some());
    let at =
        if relative || has_lists || line.compiler.contains(&b'/') { cwd.clone() } else { Bytes::from("/") };
    let mut environment: Vec<(Bytes, Bytes)> = Vec::new();
    for name in ENVIRONMENT.iter().chain(&RUNNING) {
        if let Some(value) = lookup(env, name) {
            environment.push((Bytes::from(*name), Bytes::from(value)));
        }
    }
    Compiler { program: Bytes::from_path(program), toolchain, arguments, cwd: at, environment }
}

/// Whether an argument may name a file or directory, and so depend on the working directory.
fn may_name_file(argument: &[u8]) -> bool {
    let plain =
        [&b"-O"[..], b"-f", b"-m", b"-p", b"-std", b"--std", b"-ansi", b"-nostd", b"-undef", b"-static"];
    let is_plain = plain.iter().any(|start| argument.starts_with(start)) || argument == b"-shared";
    !is_plain || argument.contains(&b'/') || argument.starts_with(b"-fplugin")
}
