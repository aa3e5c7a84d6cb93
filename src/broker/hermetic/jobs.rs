//! Jobs that were made ready before: the same command among the same files is the same job.
//!
//! What must be looked at for each compile has been looked at before this is asked: whether the scanner's
//! answer stands, the compiler, the locale. Where these are what they were, putting a job together and
//! numbering what it is made of is not done once more.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::FilesJob;
use crate::broker::closure::Locale;
use crate::broker::plan::Plan;
use crate::broker::scan::InputSet;
use crate::common::bytes::Bytes;
use crate::common::invocation::{Invocation, Terminal};
use crate::common::toolchain::Digest;

/// What is remembered before it is begun anew, in bytes.
const MEMORY_MAX_BYTES: usize = 64 << 20;

/// All that a job is made of. Values that never change are the same when they are one.
#[derive(Clone, Copy)]
pub struct Basis<'a> {
    /// What is compiled.
    pub plan: &'a Plan,
    /// As the user ran it.
    pub invocation: &'a Invocation,
    /// The digest of what the compiler needs.
    pub toolchain: Digest,
    /// What its locale needs, and tables of character sets.
    pub locales: &'a [Option<Arc<Locale>>; 2],
    /// What the scanner found.
    pub scanned: &'a Arc<InputSet>,
    /// Of the numbers.
    pub generation: u32,
}

/// The same, kept.
#[derive(Debug)]
struct Kept {
    argv: Vec<Bytes>,
    expanded: Vec<Bytes>,
    spelt: Option<Vec<Bytes>>,
    environment: Vec<Bytes>,
    cwd: Bytes,
    program: PathBuf,
    terminal: Option<Terminal>,
    toolchain: Digest,
    locales: [Option<Arc<Locale>>; 2],
    scanned: Arc<InputSet>,
    job: Arc<FilesJob>,
}

impl Basis<'_> {
    /// What is forgotten when another job of this key is kept.
    fn key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.plan.expanded.hash(&mut hasher);
        self.invocation.cwd.hash(&mut hasher);
        hasher.finish()
    }

    fn environment(&self) -> &[Bytes] {
        self.plan.hermetic_environment.as_deref().unwrap_or_default()
    }

    /// Whether nothing is otherwise than when that job was made.
    fn is(&self, kept: &Kept) -> bool {
        let same_locale = |(one, other): (&Option<Arc<Locale>>, &Option<Arc<Locale>>)| match (one, other) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        };
        Arc::ptr_eq(self.scanned, &kept.scanned)
            && self.generation == kept.job.generation
            && self.toolchain == kept.toolchain
            && self.invocation.terminal == kept.terminal
            && self.invocation.argv == kept.argv
            && self.invocation.cwd == kept.cwd
            && self.plan.expanded == kept.expanded
            && self.plan.spelt == kept.spelt
            && self.plan.compiler.program == kept.program
            && self.environment() == kept.environment
            && self.locales.iter().zip(&kept.locales).all(same_locale)
    }

    fn keep(&self, job: &Arc<FilesJob>) -> Kept {
        Kept {
            argv: self.invocation.argv.clone(),
            expanded: self.plan.expanded.clone(),
            spelt: self.plan.spelt.clone(),
            environment: self.environment().to_vec(),
            cwd: self.invocation.cwd.clone(),
            program: self.plan.compiler.program.clone(),
            terminal: self.invocation.terminal,
            toolchain: self.toolchain,
            locales: self.locales.clone(),
            scanned: Arc::clone(self.scanned),
            job: Arc::clone(job),
        }
    }
}

impl Kept {
    /// Memory, in bytes, nearly.
    fn size(&self) -> usize {
        let words = self.argv.iter().chain(&self.expanded).chain(&self.environment);
        let words = words.chain(self.spelt.iter().flatten());
        words.map(|word| word.len() + size_of::<Bytes>()).sum::<usize>() + self.job.items.len() * 16 + 1024
    }
}

/// What is remembered.
#[derive(Debug, Default)]
pub struct Jobs(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    known: HashMap<u64, Kept>,
    size: usize,
}

impl Jobs {
    /// The job that was made of just this.
    pub fn find(&self, basis: &Basis<'_>) -> Option<Arc<FilesJob>> {
        let memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory.known.get(&basis.key()).filter(|kept| basis.is(kept)).map(|kept| Arc::clone(&kept.job))
    }

    /// Remembers a job that was made of this, unless numbers have begun anew meanwhile.
    pub fn keep(&self, basis: &Basis<'_>, job: &Arc<FilesJob>) {
        if basis.generation != job.generation {
            return;
        }
        let kept = basis.keep(job);
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.size + kept.size() > MEMORY_MAX_BYTES {
            *memory = Memory::default();
        }
        memory.size += kept.size();
        if let Some(old) = memory.known.insert(basis.key(), kept) {
            memory.size -= old.size();
        }
    }
}
