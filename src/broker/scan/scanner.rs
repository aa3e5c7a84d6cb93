//! From a command line to the files that it reads, with everything remembered that may be.

mod given;

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use self::given::Given;
use super::command::{self, Key, Known, KnownSearch};
use super::disk::{Disk, DiskReport};
use super::facts::{self, Asker, Compiler};
use super::files::{Files, Trail};
use super::options::{self, CommandLine};
use super::shared::InputFile;
use super::symbols::QuickMap;
use super::walk::{self, Memory, Request};
use super::walked::Walked;
use super::{Declined, Scan, Search};
use crate::common::bytes::Bytes;
use crate::common::toolchain::Digest;

/// What a scanner may remember before it starts anew, in bytes.
const MEMORY_MAX_BYTES: usize = 400 << 20;
/// What it may remember of whole translation units.
const UNITS_MAX_BYTES: usize = 48 << 20;
/// Flag sets whose facts are kept.
const FACTS_MAX: usize = 1000;
/// How often a scan is begun again because files change under it.
const ATTEMPTS_MAX: usize = 5;

/// What a compile reads, and where it looks for it.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The files.
    pub scan: Scan,
    /// All directories, in their order.
    pub search: Arc<Search>,
    /// Those of them that are the compiler's own.
    pub own: Arc<[Bytes]>,
}

/// What a scanner remembers, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Of the disk.
    pub disk: DiskReport,
    /// Translation units whose whole answer is kept.
    pub units: usize,
    /// Compilers with their flags.
    pub compilers: usize,
    /// Bytes in all, nearly.
    pub size: usize,
    /// How often the effects of a header were known.
    pub effects: u64,
    /// How often everything was forgotten because it was too much.
    pub restarts: u64,
}

/// A scanned translation unit: what was found, and what else that rests on.
#[derive(Debug)]
struct Unit {
    key: Key,
    known: usize,
    search: usize,
    walked: Arc<Walked>,
    /// The answer as it was given away last.
    given: Option<Given>,
}

impl Unit {
    fn size(&self) -> usize {
        self.key.size() + self.walked.size() + self.given.as_ref().map_or(0, Given::size)
    }
}

/// The answer in the scanner's own numbers.
struct Answer {
    /// Under which it is remembered.
    number: u64,
    walked: Arc<Walked>,
    search: Arc<Search>,
    own: Arc<[Bytes]>,
}

/// Scans commands, and remembers.
#[derive(Debug, Default)]
pub struct Scanner {
    memory: Memory,
    disk: Disk,
    known: Vec<Known>,
    known_numbers: HashMap<Compiler, usize>,
    searches: Vec<KnownSearch>,
    search_numbers: HashMap<(Compiler, Vec<Bytes>), usize>,
    programs: HashMap<(Bytes, Bytes), (PathBuf, Trail, u64)>,
    units: QuickMap<u64, Unit>,
    units_by_age: VecDeque<u64>,
    units_bytes: usize,
    /// Files of answers, by path.
    shared: HashMap<Arc<[u8]>, Arc<InputFile>>,
    restarts: u64,
    /// Whether to list names that are looked for in vain.
    pub list_absent: bool,
    /// That of the question that is being answered.
    toolchain: Option<Digest>,
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
    /// A scanner that looks at every file in every scan, as where the kernel tells nothing.
    pub fn without_notifications() -> Self {
        Scanner { disk: Disk::without_notifications(), ..Scanner::default() }
    }

    /// Keeps effects of every header at once, however small: for tests.
    pub fn keep_all_effects(&mut self) {
        self.memory.keep_all_effects();
    }

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
        let Answer { walked, search, own, .. } = self.answer(argv, cwd, env)?;
        let scan = walked.show(&mut self.memory, &mut self.disk, self.list_absent);
        Ok(Inputs { scan, search, own })
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
        let known = self.known.len() * (40 << 10) + self.searches.len() * (4 << 10);
        let shared = self.shared.len() * (size_of::<InputFile>() + 100);
        self.memory.size() + self.disk.size() + known + self.units_bytes + shared
    }

    /// What is remembered, in numbers.
    pub fn report(&self) -> Report {
        Report {
            disk: self.disk.report(),
            units: self.units.len(),
            compilers: self.known.len(),
            effects: self.memory.effects.uses(),
            size: self.size(),
            restarts: self.restarts,
        }
    }

    /// Forgets everything when it has become too much.
    fn bound(&mut self) {
        let too_many = self.known.len() > FACTS_MAX || self.searches.len() > 10 * FACTS_MAX;
        if too_many || self.size() > MEMORY_MAX_BYTES {
            let (list_absent, toolchain) = (self.list_absent, self.toolchain);
            let restarts = self.restarts + 1;
            *self = Scanner { list_absent, toolchain, restarts, ..Scanner::default() };
        }
    }

    fn answer(&mut self, argv: &[Bytes], cwd: &Bytes, env: &[Bytes]) -> Result<Answer, Declined> {
        self.bound();
        self.disk.begin();
        let (number, key) = Key::new(self.toolchain, argv, cwd, env);
        if let Some(answer) = self.remembered(number, &key) {
            return Ok(answer);
        }
        let line = options::read(argv)?;
        for _ in 0..ATTEMPTS_MAX {
            let before = self.disk.now();
            let result = self.attempt(&line, cwd, env);
            self.disk.catch_up();
            let (known, search, walked) = match result {
                Ok(found) => found,
                Err(declined) if self.disk.now() == before => return Err(declined),
                // What was declined may have been half written.
                Err(_) => continue,
            };
            if walked.stands(&mut self.memory, &mut self.disk) {
                let walked = Arc::new(walked);
                let unit = Unit { key, known, search, walked: walked.clone(), given: None };
                self.remember(number, unit);
                let (search, own) = (self.searches[search].search.clone(), self.known[known].own_list());
                return Ok(Answer { number, walked, search, own });
            }
        }
        Err(Declined::Changed(line.source))
    }

    fn attempt(
        &mut self,
        line: &CommandLine,
        cwd: &Bytes,
        env: &[Bytes],
    ) -> Result<(usize, usize, Walked), Declined> {
        let program = self.program(line, cwd, env)?;
        let compiler = command::compiler(line, program, self.toolchain, cwd, env);
        let known = self.learn(&compiler, line)?;
        let search = self.search(&compiler, known, line, cwd, env)?;
        let Known { facts, compiler, answers, .. } = &mut self.known[known];
        let request = Request {
            main: &line.source,
            cwd,
            facts,
            chain: self.searches[search].chain,
            settings: &line.settings,
            imacros: &line.imacros,
            includes: &line.includes,
            included_plainly: line.included_plainly,
            made: line.output.as_ref(),
            precompiled: line.precompiled.as_ref(),
            quotes_elsewhere: line.quotes_elsewhere,
        };
        let mut asker = Asker { compiler, answers };
        let walked = walk::walk(&request, &mut self.memory, &mut self.disk, &mut asker)?;
        Ok((known, search, walked))
    }

    fn remembered(&mut self, number: u64, key: &Key) -> Option<Answer> {
        let unit = self.units.get(&number).filter(|unit| unit.key == *key)?;
        let (known, search, walked) = (unit.known, unit.search, unit.walked.clone());
        let search = &self.searches[search];
        let stands = self.known[known].stands()
            && search.stands(&mut self.disk)
            && self.programs.values().all(|(_, trail, at)| self.disk.state(*trail) <= *at)
            && walked.stands(&mut self.memory, &mut self.disk);
        let search = search.search.clone();
        stands.then(|| Answer { number, walked, search, own: self.known[known].own_list() })
    }

    fn remember(&mut self, number: u64, unit: Unit) {
        self.units_bytes += unit.size();
        if let Some(old) = self.units.insert(number, unit) {
            self.units_bytes -= old.size();
        } else {
            self.units_by_age.push_back(number);
        }
        while self.units_bytes > UNITS_MAX_BYTES
            && let Some(oldest) = self.units_by_age.pop_front()
            && let Some(old) = self.units.remove(&oldest)
        {
            self.units_bytes -= old.size();
        }
    }

    /// The program that a command names.
    fn program(&mut self, line: &CommandLine, cwd: &Bytes, env: &[Bytes]) -> Result<PathBuf, Declined> {
        let none = || Declined::Compiler("there is no such program".to_owned());
        let path = command::lookup(env, "PATH");
        let Some(path) = path.filter(|_| !line.compiler.contains(&b'/')) else {
            return facts::program(line, cwd, path).ok_or_else(none);
        };
        let key = (line.compiler.clone(), Bytes::from(path));
        if path.split(|&byte| byte == b':').any(|part| !part.starts_with(b"/")) {
            return facts::program(line, cwd, Some(path)).ok_or_else(none);
        }
        if let Some((program, trail, at)) = self.programs.get(&key)
            && self.disk.state(*trail) <= *at
        {
            return Ok(program.clone());
        }
        let directories: Vec<Vec<u8>> =
            path.split(|&byte| byte == b':').map(|part| [part, b"/"].concat()).collect();
        let trail = match self.programs.get(&key) {
            Some(&(_, trail, _)) => trail,
            None => self.disk.trail(&directories.iter().map(|path| &path[..]).collect::<Vec<_>>()),
        };
        self.disk.interest(&line.compiler);
        self.disk.state(trail);
        let at = self.disk.now();
        let program = facts::program(line, cwd, Some(path)).ok_or_else(none)?;
        self.programs.insert(key, (program.clone(), trail, at));
        Ok(program)
    }

    /// Makes sure that the compiler's facts are known and of today; their number.
    fn learn(&mut self, compiler: &Compiler, line: &CommandLine) -> Result<usize, Declined> {
        if let Some(&number) = self.known_numbers.get(compiler)
            && self.known[number].is_still(&mut self.disk)
        {
            return Ok(number);
        }
        let canonical = !line.base.iter().any(|argument| argument[..] == *b"-fno-canonical-system-headers");
        let number = self.known.len();
        let known = Known::ask(compiler, canonical, line.remaps, number as u32, &mut self.disk)?;
        self.known.push(known);
        self.known_numbers.insert(compiler.clone(), number);
        self.search_numbers.retain(|(of, _), _| !of.is_like(compiler));
        Ok(number)
    }

    /// The chain of directories, from the compiler itself; its number.
    fn search(
        &mut self,
        compiler: &Compiler,
        known: usize,
        line: &CommandLine,
        cwd: &Bytes,
        env: &[Bytes],
    ) -> Result<usize, Declined> {
        let mut with_paths = compiler.clone();
        with_paths.cwd = cwd.clone();
        let key = (with_paths, line.paths.clone());
        if let Some(&number) = self.search_numbers.get(&key)
            && self.searches[number].is_still(&mut self.disk)
        {
            return Ok(number);
        }
        let mut search = KnownSearch::ask(&key.0, &self.known[known], line, cwd, env, &mut self.disk)?;
        search.chain = self.memory.chain(&search.search, cwd, &self.known[known].facts);
        self.searches.push(search);
        let number = self.searches.len() - 1;
        self.search_numbers.insert(key, number);
        Ok(number)
    }
}
