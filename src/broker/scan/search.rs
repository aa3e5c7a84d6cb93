//! Looking for includes along a chain of directories, with a memory of what was found.

use std::sync::Arc;

use super::files::{Answer, Files, Stat};
use super::symbols::{QuickMap, Sym, Symbols};
use super::{Family, Search};

/// A path, as an index into [`Paths`].
pub type PathId = Sym;

/// Paths by number.
#[derive(Debug, Default)]
pub struct Paths {
    names: Symbols,
    parents: QuickMap<PathId, PathId>,
}

impl Paths {
    /// The number of a path.
    pub fn id(&mut self, path: &[u8]) -> PathId {
        self.names.intern(path)
    }

    /// The path of a number.
    pub fn bytes(&self, id: PathId) -> &[u8] {
        self.names.text(id)
    }

    /// The path up to and with its last slash.
    pub fn parent(&mut self, id: PathId) -> PathId {
        if let Some(&parent) = self.parents.get(&id) {
            return parent;
        }
        let path = self.names.text(id);
        let length = path.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
        let directory = path[..length].to_vec();
        let parent = self.names.intern(&directory);
        self.parents.insert(id, parent);
        parent
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none, which never happens.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Memory in use, in bytes, nearly.
    pub fn size(&self) -> usize {
        self.names.size() + self.parents.len() * 16
    }
}

/// Where a search starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Start {
    /// A directory (with its slash) that is not of the chain, then the whole chain.
    Beside {
        /// The directory.
        directory: PathId,
        /// Whether the compiler knows it relative to the working directory.
        relative: bool,
        /// Whether what is found there is a system header.
        system: bool,
    },
    /// This place in the chain.
    Chain(u16),
    /// The name is absolute.
    Nowhere,
}

/// What a search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The file, under the name by which the compiler will know it.
    pub path: PathId,
    /// The path under which it was looked up.
    pub via: PathId,
    /// Its place in the chain.
    pub at: Option<u16>,
    /// Whether it comes from a system directory.
    pub system: bool,
    /// Whether its name is relative to the working directory.
    pub relative: bool,
    /// What is there.
    pub stat: Stat,
}

/// The end of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Found.
    Hit(Hit),
    /// Not found.
    Missing,
    /// Something is there and cannot be read: compilers stop at it.
    Unreadable(PathId),
}

/// One search and its end.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Where it started.
    pub start: Start,
    /// What it looked for.
    pub name: Sym,
    /// How it ended.
    pub outcome: Outcome,
    /// The last translation unit that used it.
    pub used_by: u32,
}

#[derive(Debug)]
struct Chain {
    search: Search,
    /// How much shorter a relative path is than the absolute one kept for it.
    prefix: usize,
    canonical: bool,
    found: QuickMap<(Start, Sym), u32>,
}

/// All chains and what was found along them, in one epoch of the file system.
#[derive(Debug, Default)]
pub struct Chains {
    chains: Vec<Chain>,
    numbers: std::collections::HashMap<(Search, Vec<u8>, bool), u32>,
    epoch: u64,
    found: Vec<Found>,
    buffer: Vec<u8>,
}

impl Chains {
    /// The number of a chain, for a working directory that ends in a slash.
    pub fn number(&mut self, search: &Search, cwd: &[u8], family: Family, canonical: bool) -> u32 {
        let canonical = canonical && family == Family::Gcc;
        let key = (search.clone(), cwd.to_vec(), canonical);
        if let Some(&number) = self.numbers.get(&key) {
            return number;
        }
        let chain =
            Chain { search: search.clone(), prefix: cwd.len(), canonical, found: QuickMap::default() };
        self.chains.push(chain);
        let number = self.chains.len() as u32 - 1;
        self.numbers.insert(key, number);
        number
    }

    /// Forgets findings of another epoch.
    pub fn at_epoch(&mut self, epoch: u64) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.found.clear();
            self.chains.iter_mut().for_each(|chain| chain.found.clear());
        }
    }

    /// How many directories a chain has.
    pub fn length(&self, chain: u32) -> u16 {
        self.chains[chain as usize].search.directories.len().min(usize::from(u16::MAX)) as u16
    }

    /// How many of them are for quotes alone.
    pub fn quotes(&self, chain: u32) -> u16 {
        self.chains[chain as usize].search.quotes.min(usize::from(u16::MAX)) as u16
    }

    /// A finding.
    pub fn get(&mut self, index: u32) -> &mut Found {
        &mut self.found[index as usize]
    }

    /// Memory in use, in bytes, nearly.
    pub fn size(&self) -> usize {
        self.found.len() * (size_of::<Found>() + 32) + self.chains.len() * 2048
    }

    /// Looks for `name`, or remembers.
    pub fn find(
        &mut self,
        chain: u32,
        start: Start,
        name: Sym,
        text: &[u8],
        paths: &mut Paths,
        files: &mut dyn Files,
    ) -> u32 {
        if let Some(&index) = self.chains[chain as usize].found.get(&(start, name)) {
            return index;
        }
        let outcome = self.search(chain, start, text, paths, files);
        self.found.push(Found { start, name, outcome, used_by: 0 });
        let index = self.found.len() as u32 - 1;
        self.chains[chain as usize].found.insert((start, name), index);
        index
    }

    fn search(
        &mut self,
        chain: u32,
        start: Start,
        name: &[u8],
        paths: &mut Paths,
        files: &mut dyn Files,
    ) -> Outcome {
        let mut buffer = std::mem::take(&mut self.buffer);
        let chain = &self.chains[chain as usize];
        let mut outcome = Outcome::Missing;
        for candidate in candidates(&chain.search, start) {
            candidate.path(name, paths, &mut buffer);
            match files.look(&buffer) {
                Answer::File(stat) => {
                    outcome = Outcome::Hit(hit(chain, &candidate, stat, &buffer, paths, files));
                    break;
                }
                Answer::Absent | Answer::Directory => {}
                Answer::Unreadable => {
                    outcome = Outcome::Unreadable(paths.id(&buffer));
                    break;
                }
            }
        }
        self.buffer = buffer;
        outcome
    }

    /// The paths that a search tried in vain.
    pub fn tried(&self, chain: u32, index: u32, name: &[u8], paths: &Paths, each: &mut dyn FnMut(&[u8])) {
        let found = &self.found[index as usize];
        let via = match found.outcome {
            Outcome::Hit(hit) => Some(hit.via),
            Outcome::Unreadable(path) => Some(path),
            Outcome::Missing => None,
        };
        let mut buffer = Vec::new();
        for candidate in candidates(&self.chains[chain as usize].search, found.start) {
            candidate.path(name, paths, &mut buffer);
            if via.is_some_and(|via| paths.bytes(via) == buffer) {
                return;
            }
            each(&buffer);
        }
    }
}

fn hit(
    chain: &Chain,
    candidate: &Candidate<'_>,
    stat: Stat,
    path: &[u8],
    paths: &mut Paths,
    files: &mut dyn Files,
) -> Hit {
    let via = paths.id(path);
    let mut hit = Hit {
        path: via,
        via,
        at: candidate.at,
        system: candidate.system,
        relative: candidate.relative,
        stat,
    };
    if chain.canonical && candidate.system {
        let length = if candidate.relative { path.len() - chain.prefix } else { path.len() };
        if let Some(real) = files.real_path(path).filter(|real| real.len() < length) {
            hit.path = paths.id(&real);
            hit.relative = false;
        }
    }
    hit
}

struct Candidate<'a> {
    directory: Option<&'a [u8]>,
    beside: PathId,
    at: Option<u16>,
    system: bool,
    relative: bool,
}

impl Candidate<'_> {
    fn path(&self, name: &[u8], paths: &Paths, buffer: &mut Vec<u8>) {
        buffer.clear();
        match self.directory {
            Some(directory) => {
                buffer.extend_from_slice(directory);
                if directory.last() != Some(&b'/') {
                    buffer.push(b'/');
                }
            }
            None => buffer.extend_from_slice(paths.bytes(self.beside)),
        }
        buffer.extend_from_slice(name);
    }
}

fn candidates(search: &Search, start: Start) -> impl Iterator<Item = Candidate<'_>> {
    let beside = match start {
        Start::Beside { directory, relative, system } => {
            Some(Candidate { directory: None, beside: directory, at: None, system, relative })
        }
        Start::Chain(_) => None,
        Start::Nowhere => {
            Some(Candidate { directory: None, beside: 0, at: None, system: false, relative: false })
        }
    };
    let first = match start {
        Start::Beside { .. } => 0,
        Start::Chain(first) => usize::from(first),
        Start::Nowhere => search.directories.len(),
    };
    let chain = search.directories.iter().enumerate().skip(first).map(|(at, directory)| Candidate {
        directory: Some(&directory.path),
        beside: 0,
        at: Some(at as u16),
        system: directory.system,
        relative: directory.relative,
    });
    beside.into_iter().chain(chain)
}

/// A copy of a path to give away.
pub fn shared(paths: &Paths, id: PathId) -> Arc<[u8]> {
    Arc::from(paths.bytes(id))
}
