//! Which compiled modules a compile reads.
//!
//! The text says which modules it imports, the command where compiled ones lie, and each compiled one which
//! others it was made with: [`gcc`] reads that from the file, [`clang`] is asked, once for each content. A
//! compile may be given more than it reads, never less: what is not there ends it there, and it is done here.

mod clang;
mod gcc;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use super::named::Digests;
use crate::broker::plan::Plan;
use crate::broker::prepare::run_quietly;
use crate::broker::scan::{InputSet, modules::Mentioned};
use crate::common::bytes::Bytes;
use crate::common::classify::Modules;
use crate::common::dependencies::absolute;
use crate::common::invocation::Invocation;
use crate::common::reason::ModuleRule;
use crate::common::toolchain::Digest;
use gcc::Map;

/// Compiled modules that one compile may read.
const MODULES_MAX: usize = 4096;

/// Compiled modules of which is remembered what is in them; beyond it the memory starts afresh.
const REMEMBERED_MAX: usize = 10_000;

/// How often compilers are asked for one compile: each time for all that is known by then.
pub const ROUNDS_MAX: usize = 64;

/// What a compiled module was made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Inside {
    /// The modules that it imports, and the files of these where that is told.
    imports: Vec<(Bytes, Option<Bytes>)>,
    /// The texts that are in it.
    texts: Vec<Bytes>,
}

/// What a compile reads because of modules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Compiled modules, absolute.
    pub compiled: Vec<Bytes>,
    /// Texts that are in them, absolute, as far as they are there.
    pub texts: Vec<Bytes>,
    /// Compiled modules that it may make besides what its command names.
    pub made: Vec<Bytes>,
    /// What gcc will list for those that it imports.
    pub told: Vec<Bytes>,
    /// Whether two compiles here may differ in the order of some things: it follows from where the compiler's
    /// memory lies.
    pub is_unsettled: bool,
}

/// Why that is not known.
#[derive(Debug)]
pub enum Unknown {
    /// The compile must stay here.
    Stays(ModuleRule),
    /// The compiler must be asked what is in these first.
    Ask(Vec<Bytes>),
}

/// What is remembered of compiled modules: by content, and for clang by the working directory, to which paths in
/// them may be relative. Which words said where others are when it was asked does not matter: those of each
/// compile are looked at besides.
#[derive(Debug, Default)]
pub struct Memory(Mutex<HashMap<Key, Arc<Inside>>>);

type Key = (Digest, Option<Bytes>);

impl Memory {
    /// What a compile reads and makes because of modules. Blocking.
    ///
    /// # Errors
    ///
    /// Returns why that is not known.
    pub fn find(
        &self,
        plan: &Plan,
        invocation: &Invocation,
        scanned: &InputSet,
        digests: &Digests,
    ) -> Result<Found, Unknown> {
        let Some(said) = &plan.job.hermetic.modules else { return Ok(Found::default()) };
        let cwd = &invocation.cwd;
        let look = Look { memory: self, digests, cwd };
        match plan.compiler.toolchain.clang {
            true => look.clang(plan, said, &scanned.modules),
            false => {
                let found = look.gcc(said, scanned, has_epoch(plan))?;
                let is_unsettled = plan.job.dependencies.is_some() && found.told.len() > 1;
                Ok(Found { is_unsettled, ..found })
            }
        }
    }

    /// Asks the compiler what is in compiled modules.
    ///
    /// # Errors
    ///
    /// Returns why that is not known.
    pub async fn ask(
        &self,
        plan: &Plan,
        invocation: &Invocation,
        paths: &[Bytes],
        digests: &Digests,
    ) -> Result<(), Unknown> {
        let places = clang::places(&plan.expanded);
        for path in paths {
            let before = digest(path, digests);
            let words = clang::question(&places, path);
            let answer = run_quietly(&plan.compiler.program, &words, invocation).await;
            let (told, _) = answer.map_err(|_| Unknown::Stays(ModuleRule::Unknown))?;
            let inside = clang::inside(&told, &invocation.cwd).map_err(Unknown::Stays)?;
            match (before, digest(path, digests)) {
                (Some(before), Some(after)) if before == after => {
                    self.keep((after, Some(invocation.cwd.clone())), inside);
                }
                _ => return Err(Unknown::Stays(ModuleRule::Unknown)),
            }
        }
        Ok(())
    }

    fn known(&self, key: &Key) -> Option<Arc<Inside>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn keep(&self, key: Key, inside: Inside) -> Arc<Inside> {
        let inside = Arc::new(inside);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        known.insert(key, Arc::clone(&inside));
        inside
    }
}

fn digest(path: &Bytes, digests: &Digests) -> Option<Digest> {
    let found = fs::metadata(path.as_path()).ok().filter(fs::Metadata::is_file)?;
    digests.digest(path.as_path(), &found)
}

/// Whether the environment says what time it is to gcc.
fn has_epoch(plan: &Plan) -> bool {
    let environment = plan.hermetic_environment.as_deref().unwrap_or_default();
    environment.iter().any(|entry| entry.starts_with(b"SOURCE_DATE_EPOCH="))
}

/// One compile's search for its compiled modules.
struct Look<'a> {
    memory: &'a Memory,
    digests: &'a Digests,
    cwd: &'a Bytes,
}

/// Files that are to be looked into, each once.
#[derive(Default)]
struct Queue {
    seen: HashSet<Bytes>,
    waiting: Vec<Bytes>,
}

impl Queue {
    /// Adds a file if it is there; whether it is.
    fn add(&mut self, path: Bytes) -> bool {
        let is_there = path.as_path().is_file();
        if is_there && self.seen.insert(path.clone()) {
            self.waiting.push(path);
        }
        is_there
    }

    fn next(&mut self) -> Result<Option<Bytes>, Unknown> {
        if self.seen.len() > MODULES_MAX {
            return Err(Unknown::Stays(ModuleRule::Unknown));
        }
        Ok(self.waiting.pop())
    }
}

impl Look<'_> {
    fn clang(&self, plan: &Plan, said: &Modules, text: &Mentioned) -> Result<Found, Unknown> {
        let (mut found, mut queue, mut ask) = (Found::default(), Queue::default(), Vec::new());
        found.is_unsettled = said.is_interface && !text.imports.is_empty();
        if said.is_source {
            queue.add(absolute(self.cwd, &plan.job.source));
        }
        // Those without a name are read in any case, the others perhaps.
        for (_, file) in &said.files {
            queue.add(absolute(self.cwd, file));
        }
        let any = said.files.iter().any(|(name, _)| name.is_none());
        for name in &text.imports {
            let named = said.files.iter().any(|(known, _)| known.as_ref() == Some(name));
            if !self.in_folders(said, name, &mut queue) && !named && !any {
                return Err(Unknown::Stays(ModuleRule::Unknown));
            }
        }
        while let Some(path) = queue.next()? {
            let digest = digest(&path, self.digests).ok_or(Unknown::Stays(ModuleRule::Unknown))?;
            match self.memory.known(&(digest, Some(self.cwd.clone()))) {
                None => ask.push(path.clone()),
                Some(inside) => {
                    for (name, file) in &inside.imports {
                        self.in_folders(said, name, &mut queue);
                        if let Some(file) = file {
                            queue.add(absolute(self.cwd, file));
                        }
                    }
                    found.texts.extend(inside.texts.iter().filter(|text| text.as_path().is_file()).cloned());
                }
            }
            found.compiled.push(path);
        }
        found.texts.sort_unstable();
        found.texts.dedup();
        if ask.is_empty() { Ok(found) } else { Err(Unknown::Ask(ask)) }
    }

    /// Adds what lies in a folder under the name of a module; whether something does.
    fn in_folders(&self, said: &Modules, name: &Bytes, queue: &mut Queue) -> bool {
        let file = [&gcc::flat(name)[..], b".pcm"].concat();
        let path = |folder: &Bytes| absolute(self.cwd, &[folder, &b"/"[..], &file].concat());
        let first = said.folders.iter().map(path).find(|path| path.as_path().is_file());
        first.is_some_and(|path| queue.add(path))
    }

    fn gcc(&self, said: &Modules, scanned: &InputSet, has_epoch: bool) -> Result<Found, Unknown> {
        let text = &scanned.modules;
        let map = match &said.map {
            None => Map::usual(),
            Some(file) => Map::read(&absolute(self.cwd, file)).map_err(Unknown::Stays)?,
        };
        if self.translates_headers(&map, scanned) {
            return Err(Unknown::Stays(ModuleRule::Header));
        }
        let (mut found, mut queue) = (Found::default(), Queue::default());
        if let Some(unit) = text.unit.as_ref().filter(|_| text.is_importable) {
            if !has_epoch {
                return Err(Unknown::Stays(ModuleRule::Time));
            }
            found.made = map.places(unit, None);
        }
        for name in &text.imports {
            let mut places = map.places(name, None).into_iter();
            if !places.any(|place| queue.add(absolute(self.cwd, &place))) {
                return Err(Unknown::Stays(ModuleRule::Unknown));
            }
            found.told.push(absolute(self.cwd, &[name, &b".c++m"[..]].concat()));
        }
        while let Some(path) = queue.next()? {
            let digest = digest(&path, self.digests).ok_or(Unknown::Stays(ModuleRule::Unknown))?;
            let key = (digest, None);
            let inside = match self.memory.known(&key) {
                Some(inside) => inside,
                None => {
                    let imports = gcc::imports(path.as_path()).map_err(Unknown::Stays)?;
                    self.memory.keep(key, Inside { imports, texts: Vec::new() })
                }
            };
            for (name, file) in &inside.imports {
                for place in map.places(name, file.as_ref()) {
                    queue.add(absolute(self.cwd, &place));
                }
            }
            found.compiled.push(path);
        }
        Ok(found)
    }

    /// Whether gcc finds a compiled header where it looks for one at each include.
    fn translates_headers(&self, map: &Map, scanned: &InputSet) -> bool {
        map.has_headers() || {
            let firsts: HashSet<&[u8]> = scanned.files.iter().map(|file| first_part(&file.path)).collect();
            let roots = map.roots();
            roots.iter().any(|root| {
                let root = absolute(self.cwd, root);
                let below = |part: &[u8]| Bytes([&root[..], b"/", part].concat());
                // Those that are named by relative paths, beside and above the working directory; and hardly
                // ever is there as much as the first folder of an absolute one.
                let relative = [&b","[..], b",,"].iter().any(|part| below(part).as_path().is_dir());
                let present: HashSet<&[u8]> =
                    firsts.iter().copied().filter(|first| below(first).as_path().exists()).collect();
                let is_there = |path: &[u8]| Bytes([&root[..], path, b".gcm"].concat()).as_path().is_file();
                let mut beneath =
                    scanned.files.iter().filter(|file| present.contains(first_part(&file.path)));
                relative || beneath.any(|file| is_there(&file.path))
            })
        }
    }
}

/// The first folder of an absolute path.
fn first_part(path: &[u8]) -> &[u8] {
    path.split(|&byte| byte == b'/').nth(1).unwrap_or_default()
}
