//! From a command line to the files that it reads.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use super::disk::Disk;
use super::facts::{self, Asker, Compiler, ENVIRONMENT, Listed};
use super::layout::Layout;
use super::options::{self, CommandLine};
use super::shared::{InputFile, InputSet, Question};
use super::walk::{self, Memory, Request};
use super::{Declined, Directory, Facts, Scan, Scanned, Search};
use crate::common::bytes::Bytes;
use crate::common::toolchain::Digest;

/// What a scanner may remember before it starts anew, in bytes.
const MEMORY_MAX_BYTES: usize = 400 << 20;
/// Flag sets whose facts are kept.
const FACTS_MAX: usize = 1000;

/// What is known about a compiler under one set of flags.
#[derive(Debug)]
struct Known {
    compiler: Compiler,
    stamp: ProgramStamp,
    facts: Facts,
    answers: HashMap<Vec<u8>, i64>,
    /// Directories that are its own, or named as system ones by the environment.
    own: Listed,
}

/// Tells whether a program is still the same.
type ProgramStamp = (u64, u64, u64, i64, i64);

/// A directory that was named, and its device and inode at that time.
type Seen = (Vec<u8>, Option<(u64, u64)>);

/// A chain of directories, and what it was made from.
#[derive(Debug)]
struct KnownSearch {
    search: Search,
    /// Each directory that was named, with its identity at that time.
    seen: Vec<Seen>,
}

/// What a compile reads, and where it looks for it.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The files.
    pub scan: Scan,
    /// All directories, in their order.
    pub search: Search,
    /// Those of them that are the compiler's own.
    pub own: Vec<Bytes>,
}

/// Scans commands, and remembers.
#[derive(Debug, Default)]
pub struct Scanner {
    memory: Memory,
    disk: Disk,
    known: HashMap<Compiler, Known>,
    searches: HashMap<(Compiler, Vec<Bytes>), KnownSearch>,
    numbers: u32,
    /// Whether to list names that are looked for in vain.
    pub list_absent: bool,
    /// For measurements: take nothing as changed since the last scan.
    pub trust: bool,
}

/// Scans one command with nothing remembered before or after.
///
/// # Errors
///
/// [`Declined`] with the reason, when there is no certain answer.
pub fn scan_command(argv: &[Bytes], cwd: &Bytes, env: &[Bytes]) -> Result<Scan, Declined> {
    Scanner::default().scan_command(argv, cwd, env)
}

impl Scanner {
    /// The files that a compile reads. `argv` begins with the compiler and has its response
    /// files expanded; `env` has `NAME=value` each.
    ///
    /// # Errors
    ///
    /// [`Declined`] with the reason, when there is no certain answer.
    pub fn scan_command(&mut self, argv: &[Bytes], cwd: &Bytes, env: &[Bytes]) -> Result<Scan, Declined> {
        self.inputs(argv, cwd, env).map(|inputs| inputs.scan)
    }

    /// [`Self::scan_command`], with the directories in which the compile looks.
    ///
    /// # Errors
    ///
    /// [`Declined`] with the reason, when there is no certain answer.
    pub fn inputs(&mut self, argv: &[Bytes], cwd: &Bytes, env: &[Bytes]) -> Result<Inputs, Declined> {
        if self.size() > MEMORY_MAX_BYTES
            || self.known.len() > FACTS_MAX
            || self.searches.len() > 10 * FACTS_MAX
        {
            let (list_absent, trust) = (self.list_absent, self.trust);
            *self = Scanner { list_absent, trust, ..Scanner::default() };
        }
        if !self.trust {
            self.disk.begin();
        }
        let line = options::read(argv)?;
        let compiler = compiler(&line, cwd, env)?;
        self.learn(&compiler, &line)?;
        let search = self.search(&compiler, &line, cwd, env)?;
        let Some(known) = self.known.get_mut(&compiler) else {
            return Err(Declined::Compiler("it went away".to_owned()));
        };
        let request = Request {
            main: &line.source,
            cwd,
            facts: &known.facts,
            search: &search,
            settings: &line.settings,
            imacros: &line.imacros,
            includes: &line.includes,
            list_absent: self.list_absent,
        };
        let mut asker = Asker { compiler: &known.compiler, answers: &mut known.answers };
        let result = walk::scan(&request, &mut self.memory, &mut self.disk, &mut asker);
        let own = known.own.brackets.clone();
        result.map(|scan| Inputs { scan, search, own })
    }

    /// [`Self::inputs`] in the form that jobs are made of.
    ///
    /// # Errors
    ///
    /// [`Declined`] with the reason, when there is no certain answer.
    pub fn input_set(&mut self, question: &Question<'_>) -> Result<Arc<InputSet>, Declined> {
        self.list_absent = question.absent;
        let found = self.inputs(question.argv, question.cwd, question.env)?;
        let mut layout = Layout::default();
        layout.directory(question.cwd);
        found.search.directories.iter().for_each(|directory| layout.directory(&directory.path));
        found.own.iter().for_each(|path| layout.directory(path));
        // Names by which the compiler comes to files that it then knows by shorter ones.
        found.scan.aliases.iter().for_each(|path| drop(layout.resolve(path)));
        let mut files = |list: &[Scanned]| -> Vec<InputFile> {
            list.iter().map(|file| self.input_file(file, &mut layout)).collect()
        };
        let (files, probed) = (files(&found.scan.files), files(&found.scan.probed));
        let (links, directories) = layout.finish();
        let (absent, clock) = (found.scan.absent, found.scan.clock);
        let (search, own) = (found.search, found.own);
        Ok(Arc::new(InputSet { files, probed, links, directories, absent, search, own, clock }))
    }

    fn input_file(&mut self, file: &Scanned, layout: &mut Layout) -> InputFile {
        let (modified, inode) = self.disk.modified(&file.path).unwrap_or_default();
        InputFile {
            path: file.path.clone(),
            real: layout.resolve(&file.path),
            digest: self.disk.digest(file.content),
            size: self.disk.length(file.content),
            modified,
            inode,
        }
    }

    /// The bytes of that digest, if they are in memory or still on disk.
    pub fn bytes(&mut self, digest: &Digest) -> Option<Arc<[u8]>> {
        self.disk.bytes_of(digest)
    }

    /// The digest of a scanned content.
    pub fn digest(&self, content: super::Content) -> Digest {
        self.disk.digest(content)
    }

    /// Memory in use, in bytes, nearly.
    pub fn size(&self) -> usize {
        self.memory.size() + self.disk.size() + self.known.len() * (40 << 10)
    }

    /// Makes sure that the compiler's facts are known and of today.
    fn learn(&mut self, compiler: &Compiler, line: &CommandLine) -> Result<(), Declined> {
        let stamp = stamp(compiler)?;
        if self.known.get(compiler).is_some_and(|known| known.stamp == stamp) {
            return Ok(());
        }
        let canonical = !line.base.iter().any(|argument| argument[..] == *b"-fno-canonical-system-headers");
        let said = compiler.facts(canonical, line.remaps)?;
        let mut own = compiler.clone();
        own.environment.retain(|(name, _)| name[..] != *b"CPATH");
        let own = own.listed()?;
        self.numbers += 1;
        let facts = Facts { number: self.numbers, ..said.facts };
        let known = Known { compiler: compiler.clone(), stamp, facts, answers: said.answers, own };
        self.known.insert(compiler.clone(), known);
        self.searches.retain(|(of, _), _| of != compiler);
        Ok(())
    }

    /// The chain of directories, from the compiler itself.
    fn search(
        &mut self,
        compiler: &Compiler,
        line: &CommandLine,
        cwd: &Bytes,
        env: &[Bytes],
    ) -> Result<Search, Declined> {
        let mut with_paths = compiler.clone();
        with_paths.cwd = cwd.clone();
        let key = (with_paths, line.paths.clone());
        if let Some(known) = self.searches.get(&key) {
            let disk = &mut self.disk;
            if known.seen.iter().all(|(path, identity)| disk.directory(path) == *identity) {
                return Ok(known.search.clone());
            }
        }
        let Some(known) = self.known.get(compiler) else {
            return Err(Declined::Compiler("it went away".to_owned()));
        };
        let mut asked = key.0.clone();
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
        let mut named: Vec<Vec<u8>> =
            search.directories.iter().map(|directory| directory.path.clone()).collect();
        named.extend(listed.ignored.iter().map(|path| absolute(path, cwd)));
        named.extend(
            line.user_directories.iter().chain(&line.system_directories).map(|path| absolute(path, cwd)),
        );
        for variable in ["CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH"] {
            if let Some(list) = lookup(env, variable) {
                named.extend(list.split(|&byte| byte == b':').map(|path| absolute(path, cwd)));
            }
        }
        named.sort();
        named.dedup();
        let disk = &mut self.disk;
        let seen = named.into_iter().map(|path| {
            let identity = disk.directory(&path);
            (path, identity)
        });
        let seen = seen.collect();
        self.searches.insert(key, KnownSearch { search: search.clone(), seen });
        Ok(search)
    }
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

fn lookup<'a>(env: &'a [Bytes], name: &str) -> Option<&'a [u8]> {
    env.iter().rev().find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// The compiler to ask for facts.
fn compiler(line: &CommandLine, cwd: &Bytes, env: &[Bytes]) -> Result<Compiler, Declined> {
    let program = facts::program(line, cwd, lookup(env, "PATH"));
    let program = program.ok_or_else(|| Declined::Compiler("there is no such program".to_owned()))?;
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
    for name in ENVIRONMENT.iter().chain(&["PATH", "TMPDIR", "HOME", "LD_LIBRARY_PATH"]) {
        if let Some(value) = lookup(env, name) {
            environment.push((Bytes::from(*name), Bytes::from(value)));
        }
    }
    Ok(Compiler { program: Bytes::from(program.as_path()), arguments, cwd: at, environment })
}

fn stamp(compiler: &Compiler) -> Result<ProgramStamp, Declined> {
    let metadata = std::fs::metadata(compiler.program.as_path());
    let metadata = metadata.map_err(|error| Declined::Compiler(error.to_string()))?;
    Ok((metadata.dev(), metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec()))
}
