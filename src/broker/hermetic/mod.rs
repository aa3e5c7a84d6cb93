//! Hermetic mode: the compile's own files travel, not a preprocessed text.
//!
//! [`Hermetic::prepare`] says which files a compile reads (the include scanner), puts them together
//! with its toolchain's (its closure), and numbers what a link must know ([`dictionary`]). What a
//! volunteer lacks of it, it asks for; [`bundle`] packs it. What comes back, [`result`] puts in place.

pub mod audit;
pub mod bundle;
pub mod counts;
pub mod dictionary;
pub mod named;
pub mod result;
pub mod set;

use std::sync::Arc;

use self::dictionary::{Dictionary, Numbered};
use self::set::{File, Inode, SetBuilder};
use super::closure::{self, Closure, NotClosed, Surroundings, charset_needs_tables};
use super::link::supply::{Bundle, ToPack};
use super::plan::Plan;
use super::scan::{Declined, InputSet, Question, SharedScanner};
use crate::common::bytes::Bytes;
use crate::common::inputs::{Entry, Item, Runs, reading_digest};
use crate::common::invocation::Invocation;
use crate::common::protocol::link::Compile;
use crate::common::reason::LocalReason;
use crate::common::toolchain::Digest;

/// What hermetic mode remembers.
#[derive(Default)]
pub struct Hermetic {
    /// The broker's one scanner.
    pub scanner: SharedScanner,
    /// How jobs travelled.
    pub counts: counts::Counts,
    dictionary: Dictionary,
    digests: named::Digests,
    /// Digests of programs and their libraries.
    programs: Arc<closure::Digests>,
}

/// A hermetic job, ready to be sent to any volunteer that can.
#[derive(Debug)]
pub struct FilesJob {
    /// Of the numbers.
    pub generation: u32,
    /// All items that `compile` names.
    pub items: Vec<Numbered>,
    /// The message, but for the job's number.
    pub compile: Compile,
    /// The part of the items that is its toolchain.
    pub toolchain: Arc<ToolchainSet>,
    /// What the scanner found.
    pub scanned: Arc<InputSet>,
}

/// A toolchain as volunteers are sent it.
#[derive(Debug)]
pub struct ToolchainSet {
    /// Of its contents.
    pub digest: Digest,
    /// Of the numbers.
    pub generation: u32,
    /// Its files, links and folders.
    pub items: Vec<Numbered>,
}

/// Why a job does not travel as files.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotHermetic {
    /// The command must say something else elsewhere.
    #[error("{0}")]
    Command(LocalReason),
    /// The compiler cannot be sent.
    #[error("compiler: {0}")]
    Toolchain(#[from] NotClosed),
    /// Which files it reads is not certain.
    #[error("scan: {0}")]
    Declined(#[from] Declined),
    /// The result depends on the time of day, which is another there.
    #[error("a file mentions the date or the time")]
    Clock,
    /// The compiler notes when headers were modified.
    #[error("the compiler notes the times of headers")]
    Times,
    /// The broker is at its end.
    #[error("a thread ended: {0}")]
    Thread(String),
    /// A file that an option names is not there, or not plain.
    #[error("{0} cannot be read")]
    Unreadable(Bytes),
}

impl NotHermetic {
    /// The word under which `--status` counts this reason.
    pub fn key(&self) -> String {
        match self {
            NotHermetic::Command(reason) => reason.key().to_owned(),
            NotHermetic::Toolchain(_) => "toolchain".to_owned(),
            NotHermetic::Declined(declined) => format!("scan: {}", declined.kind()),
            NotHermetic::Clock => "clock".to_owned(),
            NotHermetic::Times => "times".to_owned(),
            NotHermetic::Thread(_) => "broker".to_owned(),
            NotHermetic::Unreadable(_) => "unreadable".to_owned(),
        }
    }
}

impl Hermetic {
    /// What a job's compiler needs. The first time it is asked, and all of it read.
    ///
    /// # Errors
    ///
    /// Returns why the job must go another way.
    pub async fn closure(&self, plan: &Plan, invocation: &Invocation) -> Result<Arc<Closure>, NotHermetic> {
        let hermetic = &plan.job.hermetic;
        if let Some(reason) = hermetic.refused.as_ref().or(plan.hermetic_environment.as_ref().err()) {
            return Err(NotHermetic::Command(reason.clone()));
        }
        if hermetic.times {
            return Err(NotHermetic::Times);
        }
        let variable = |name| Bytes::from(invocation.variable(name).unwrap_or_default());
        let around = Surroundings { path: variable("PATH"), library_path: variable("LD_LIBRARY_PATH") };
        Ok(plan.compiler.closure(&around, &self.programs).await?)
    }

    /// Makes a job's inputs ready. Blocking.
    ///
    /// # Errors
    ///
    /// Returns why it must go another way.
    pub fn prepare(
        &self,
        closure: &Closure,
        plan: &Plan,
        invocation: &Invocation,
    ) -> Result<FilesJob, NotHermetic> {
        let mut argv = plan.expanded.clone();
        argv[0] = Bytes::from(plan.compiler.program.as_path());
        let (cwd, env) = (&invocation.cwd, &invocation.env);
        let folders = named::folders(plan, invocation);
        let question = Question { argv: &argv, cwd, env, absent: false, folders: &folders };
        let scanned = self.scanner.inputs(&question)?;
        if scanned.clock {
            return Err(NotHermetic::Clock);
        }
        let mut environment = plan.hermetic_environment.clone().unwrap_or_default();
        environment.extend(closure.environment.iter().cloned());
        let mut builder = SetBuilder::default();
        closure.entries.iter().for_each(|entry| builder.entry(entry));
        let locale = closure.locale(&environment, &self.programs)?;
        locale.entries.iter().for_each(|entry| builder.entry(entry));
        if argv.iter().any(|word| names_charset(word)) {
            closure.charsets(&self.programs)?.entries.iter().for_each(|entry| builder.entry(entry));
        }
        add_scanned(&mut builder, &scanned);
        named::add(&mut builder, plan, invocation, &self.digests)?;
        let is_clang = plan.compiler.toolchain.clang;
        // clang lists among its dependencies what `__has_include` found, too.
        let asked = scanned.probed.iter().filter(|_| is_clang);
        let reads = reading_digest(scanned.files.iter().chain(asked).map(|file| &*file.path));
        let toolchain = self.toolchain(closure);
        let mut job = self.number(builder.finish(), &environment, toolchain, plan, invocation);
        // And some of the files that options name.
        let lists_more = is_clang && !plan.job.hermetic.reads.is_empty();
        job.compile.reads = (!lists_more).then_some(reads);
        job.scanned = scanned;
        Ok(job)
    }

    /// Packs files that a volunteer asks for. Blocking.
    pub fn pack(&self, files: &ToPack) -> Bundle {
        bundle::pack(files, &self.scanner)
    }

    fn toolchain(&self, closure: &Closure) -> Arc<ToolchainSet> {
        let entries = closure.entries.iter().cloned().map(Item::Entry);
        let (generation, items) = self.dictionary.number(entries);
        Arc::new(ToolchainSet { digest: closure.digest, generation, items })
    }

    fn number(
        &self,
        entries: Vec<Entry>,
        environment: &[Bytes],
        toolchain: Arc<ToolchainSet>,
        plan: &Plan,
        invocation: &Invocation,
    ) -> FilesJob {
        let count = entries.len();
        let program = Bytes::from(plan.compiler.program.as_path());
        let words = [program, invocation.cwd.clone()].into_iter();
        let words = words.chain(environment.iter().cloned());
        let words = words.chain(invocation.argv.iter().cloned());
        let items = entries.into_iter().map(Item::Entry).chain(words.map(Item::Word));
        let (generation, items) = self.dictionary.number(items);
        let number = |at: usize| items.get(at).map_or(0, |(number, _)| *number);
        let mut inputs: Vec<u32> = items[..count].iter().map(|(number, _)| *number).collect();
        inputs.sort_unstable();
        let environment = count + 2..count + 2 + environment.len();
        let compile = Compile {
            program: number(count),
            cwd: number(count + 1),
            environment: environment.clone().map(number).collect(),
            argv: (environment.end..items.len()).map(number).collect(),
            terminal: invocation.terminal,
            inputs: Runs::of(&inputs),
            reads: None,
        };
        FilesJob { generation, items, compile, toolchain, scanned: Arc::default() }
    }
}

/// Whether an option names a character set that the C library needs tables for.
fn names_charset(word: &[u8]) -> bool {
    let options: [&[u8]; 3] = [b"-finput-charset=", b"-fexec-charset=", b"-fwide-exec-charset="];
    options.iter().filter_map(|option| word.strip_prefix(*option)).any(charset_needs_tables)
}

fn add_scanned(builder: &mut SetBuilder, scanned: &InputSet) {
    for file in scanned.files.iter().chain(&scanned.probed) {
        let inode = Inode { identity: file.inode, modified_s: file.modified.0 };
        builder.file(&file.real, File { digest: file.digest, size: file.size, inode });
    }
    scanned.links.iter().for_each(|link| builder.link(&link.path, &link.target));
    scanned.directories.iter().for_each(|path| builder.folder(path));
}
