//! Hermetic mode: the compile's own files travel, not a preprocessed text.
//!
//! [`Hermetic::prepare`] says which files a compile reads (the include scanner), puts them together
//! with its toolchain's (its closure), and numbers what a link must know ([`dictionary`]). What a
//! volunteer lacks of it, it asks for; [`bundle`] packs it. What comes back, [`result`] puts in place.

mod asking;
pub mod audit;
pub mod bundle;
pub mod counts;
pub mod dictionary;
mod jobs;
pub mod listing;
pub mod modules;
mod moment;
pub mod named;
mod reading;
mod refusal;
pub mod result;
pub mod set;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use self::dictionary::{Dictionary, Numbered};
use self::jobs::{Basis, Jobs};
use self::modules::Unknown;
pub use self::refusal::NotHermetic;
use self::set::{File, Inode, SetBuilder};
use super::closure::elsewhere::Places;
use super::closure::{self, Closure, Locale, Part, Surroundings, charset_needs_tables};
use super::link::supply::{Bundle, ToPack};
use super::plan::Plan;
use super::scan::{Dates, Declined, InputSet, Question, SharedScanner};
use crate::common::bytes::Bytes;
use crate::common::dependencies::absolute;
use crate::common::inputs::{Entry, Item, Runs};
use crate::common::invocation::Invocation;
use crate::common::protocol::link::Compile;
use crate::common::toolchain::Digest;

/// Toolchains remembered; beyond it the memory starts afresh.
const TOOLCHAINS_MAX: usize = 64;

/// What hermetic mode remembers.
#[derive(Default)]
pub struct Hermetic {
    /// The broker's one scanner.
    pub scanner: SharedScanner,
    /// How jobs travelled.
    pub counts: counts::Counts,
    /// What asking compilers costs.
    pub costs: listing::Costs,
    listed: listing::Memory,
    inside: listing::Inside,
    dictionary: Dictionary,
    jobs: Jobs,
    toolchains: Mutex<HashMap<(Digest, Part), Arc<ToolchainSet>>>,
    digests: named::Digests,
    modules: modules::Memory,
    large: bundle::Large,
    zones: moment::Zones,
    places: Places,
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
    /// What it has to do with modules.
    pub modules: modules::Found,
    /// Whether it has been told what time it is: a second later it would be another one.
    pub is_of_now: bool,
    /// The digest of all that its result depends on, once somebody has asked for it.
    pub action: OnceLock<Digest>,
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
        let around = Surroundings::of(invocation)?;
        Ok(plan.compiler.closure(&around, &self.programs).await?)
    }

    /// What the scanner finds. Blocking.
    ///
    /// # Errors
    ///
    /// Returns why there is no certain answer.
    pub fn scan(
        &self,
        closure: &Closure,
        plan: &Plan,
        invocation: &Invocation,
    ) -> Result<Arc<InputSet>, Declined> {
        if plan.job.hermetic.modules.as_ref().is_some_and(|modules| modules.is_source) {
            return listing::alone(plan, invocation)
                .map(Arc::new)
                .map_err(|_| Declined::Unreadable(plan.job.source.clone()));
        }
        self.ask_scanner(closure, plan, invocation, |question| self.scanner.inputs(question))
    }

    /// Asks what a job reads.
    fn ask_scanner<T>(
        &self,
        closure: &Closure,
        plan: &Plan,
        invocation: &Invocation,
        ask: impl FnOnce(&Question<'_>) -> T,
    ) -> T {
        let mut argv = plan.expanded.clone();
        argv[0] = Bytes::from(plan.compiler.program.as_path());
        let (cwd, env) = (&invocation.cwd, &invocation.env);
        let folders = named::folders(plan, invocation);
        let toolchain = Some(closure.digest);
        ask(&Question { argv: &argv, cwd, env, toolchain, absent: false, folders: &folders })
    }

    /// The job that the same command was before, if nothing is otherwise. It reads nothing and waits for
    /// nobody, so it is asked for where one must not block.
    fn again(&self, closure: &Closure, plan: &Plan, invocation: &Invocation) -> Option<Arc<FilesJob>> {
        if !is_whole(plan, invocation) {
            return None;
        }
        let scanned = self.ask_scanner(closure, plan, invocation, |question| self.scanner.again(question))?;
        let locales = self.locales(closure, plan).ok()?;
        self.jobs.find(&self.basis(closure, plan, invocation, &locales, &scanned))
    }

    fn basis<'a>(
        &self,
        closure: &Closure,
        plan: &'a Plan,
        invocation: &'a Invocation,
        locales: &'a [Option<Arc<Locale>>; 2],
        scanned: &'a Arc<InputSet>,
    ) -> Basis<'a> {
        let generation = self.dictionary.generation();
        Basis { plan, invocation, toolchain: closure.digest, locales, scanned, generation }
    }

    /// What a job's locale needs, and the tables of character sets where an option names one.
    fn locales(&self, closure: &Closure, plan: &Plan) -> Result<[Option<Arc<Locale>>; 2], NotHermetic> {
        let locale = closure.locale(&environment(closure, plan), &self.programs)?;
        let tables = plan.expanded.iter().any(|word| names_charset(word));
        let tables = if tables { Some(closure.charsets(&self.programs)?) } else { None };
        Ok([Some(locale), tables])
    }

    /// Makes a job's inputs ready: what the scanner finds, or else what the compiler lists.
    ///
    /// # Errors
    ///
    /// Returns why the job must go another way.
    pub async fn files(
        self: &Arc<Self>,
        plan: &Arc<Plan>,
        invocation: &Arc<Invocation>,
    ) -> Result<Arc<FilesJob>, NotHermetic> {
        let closure = self.closure(plan, invocation).await?;
        if let Some(job) = self.again(&closure, plan, invocation) {
            return Ok(job);
        }
        let of = Arc::clone(&closure);
        let first = self.off_the_loop(&closure, plan, invocation, move |hermetic, plan, invocation| {
            Ok(hermetic.scan(&of, plan, invocation)?)
        });
        if plan.job.hermetic.modules.is_some() {
            return self.with_modules(&closure, plan, invocation, first.await).await;
        }
        let declined = match first.await {
            Err(NotHermetic::Declined(declined)) if listing::is_worth_asking(&declined, plan) => declined,
            Err(NotHermetic::Precompiled(found)) => {
                return self.with_its_files(&closure, plan, invocation, found).await;
            }
            done => return done,
        };
        if !matches!(declined, Declined::Textless(_)) && !self.costs.prefer_list(plan) {
            return Err(NotHermetic::Declined(declined));
        }
        self.as_listed(&closure, plan, invocation, declined).await
    }

    /// Finds the files on a thread that may wait, and makes a job of them.
    async fn off_the_loop(
        self: &Arc<Self>,
        closure: &Arc<Closure>,
        plan: &Arc<Plan>,
        invocation: &Arc<Invocation>,
        find: impl FnOnce(&Self, &Plan, &Invocation) -> Result<Arc<InputSet>, NotHermetic> + Send + 'static,
    ) -> Result<Arc<FilesJob>, NotHermetic> {
        let (hermetic, closure) = (Arc::clone(self), Arc::clone(closure));
        let (plan, invocation) = (Arc::clone(plan), Arc::clone(invocation));
        let work = move || {
            let found = find(&hermetic, &plan, &invocation)?;
            hermetic.prepare(&closure, &plan, &invocation, &found)
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| NotHermetic::Thread(error.to_string()))?
    }

    /// Makes a job's inputs ready, once it is known which files of the client's they are. Blocking.
    ///
    /// # Errors
    ///
    /// Returns why it must go another way.
    pub fn prepare(
        &self,
        closure: &Closure,
        plan: &Plan,
        invocation: &Invocation,
        scanned: &Arc<InputSet>,
    ) -> Result<Arc<FilesJob>, NotHermetic> {
        let now = match tells_this_time(scanned.clock, plan, invocation) {
            false => None,
            true => Some(self.now(scanned.clock, plan, invocation).ok_or(NotHermetic::Clock)?),
        };
        if let Some(path) = scanned.of_kernel() {
            return Err(NotHermetic::Kernel(path.into()));
        }
        let locales = self.locales(closure, plan)?;
        let basis = self.basis(closure, plan, invocation, &locales, scanned);
        let job = Arc::new(self.put_together(closure, plan, invocation, (&locales, now), scanned)?);
        if !job.is_of_now
            && is_whole(plan, invocation)
            && scanned.precompiled.is_empty()
            && scanned.is_scanned
        {
            self.jobs.keep(&basis, &job);
        }
        Ok(job)
    }

    fn put_together(
        &self,
        closure: &Closure,
        plan: &Plan,
        invocation: &Invocation,
        (locales, now): (&[Option<Arc<Locale>>; 2], Option<Bytes>),
        scanned: &Arc<InputSet>,
    ) -> Result<FilesJob, NotHermetic> {
        let mut builder = SetBuilder::default();
        let part = Part::of(plan.job.language);
        closure.of(part).for_each(|entry| builder.entry(entry));
        locales.iter().flatten().flat_map(|locale| &locale.entries).for_each(|entry| builder.entry(entry));
        let is_clang = plan.compiler.toolchain.clang;
        if is_clang && (plan.job.hermetic.times || !scanned.precompiled.is_empty()) {
            builder.keep_times();
        }
        add_scanned(&mut builder, scanned);
        let modules =
            self.modules.find(plan, invocation, scanned, &self.digests).map_err(|why| match why {
                Unknown::Stays(why) => NotHermetic::Modules(why),
                Unknown::Ask(paths) => NotHermetic::Compiled(Arc::clone(scanned), paths),
            })?;
        named::add_files(&mut builder, &modules.compiled, &self.digests)?;
        named::add_files(&mut builder, &modules.texts, &self.digests)?;
        if let Some(map) = plan.job.hermetic.modules.as_ref().and_then(|modules| modules.map.as_ref()) {
            named::add_files(&mut builder, &[absolute(&invocation.cwd, map)], &self.digests)?;
        }
        named::add(&mut builder, plan, invocation, &self.digests)?;
        if is_clang && !scanned.precompiled.is_empty() && scanned.is_scanned {
            let Some(inside) = self.inside.of(scanned) else {
                return Err(NotHermetic::Precompiled(Arc::clone(scanned)));
            };
            named::add_files(&mut builder, &inside, &self.digests)?;
        }
        self.add_code(&mut builder, closure, plan, invocation)?;
        let toolchain = self.toolchain(closure, part);
        let is_of_now = now.is_some();
        let mut environment = environment(closure, plan);
        environment.extend(now);
        let mut job = self.number(builder.finish(), &environment, toolchain, plan, invocation);
        let told = &modules.told;
        let reads = reading::reading(plan, &invocation.cwd, &environment, scanned, told, &job.items);
        job.compile.reads = Some(reads);
        job.scanned = Arc::clone(scanned);
        job.modules = modules;
        job.is_of_now = is_of_now;
        Ok(job)
    }

    /// What says what time it is here to a compiler that can be told all that is asked for.
    fn now(&self, mentioned: Dates, plan: &Plan, invocation: &Invocation) -> Option<Bytes> {
        let dates = all_dates(mentioned, plan).settled();
        let entry = self.zones.now(invocation).filter(|_| !dates.modified)?;
        let toolchain = &plan.compiler.toolchain;
        let value = entry.strip_prefix(b"SOURCE_DATE_EPOCH=");
        dates.are_given(toolchain.clang, &toolchain.version, value.into_iter()).then_some(entry)
    }

    /// Code that the compiler loads, or the driver runs, needs its libraries, as the compiler does; and clang tells by what
    /// is in a gcc of another place which of its headers it takes.
    fn add_code(
        &self,
        builder: &mut SetBuilder,
        closure: &Closure,
        plan: &Plan,
        invocation: &Invocation,
    ) -> Result<(), NotHermetic> {
        if plan.compiler.toolchain.clang {
            for (kind, path) in named::places(&plan.expanded) {
                let path = invocation.cwd.as_path().join(Bytes::from(path).as_path());
                let place = self.places.at(kind, &path, &self.programs)?;
                place.entries.iter().for_each(|entry| builder.entry(entry));
            }
        }
        for read in &plan.job.hermetic.reads {
            let path = invocation.cwd.as_path().join(read.path.as_path());
            if read.plugin {
                closure.libraries_of(&path, &self.programs)?.iter().for_each(|entry| builder.entry(entry));
            }
            if read.programs {
                for program in named::programs(&path) {
                    closure.program(&program, &self.programs)?.iter().for_each(|entry| builder.entry(entry));
                }
            }
        }
        Ok(())
    }

    /// Packs files that a volunteer asks for. Blocking.
    pub fn pack(&self, files: &ToPack) -> Bundle {
        bundle::pack(files, &self.scanner, &self.large)
    }

    fn toolchain(&self, closure: &Closure, part: Part) -> Arc<ToolchainSet> {
        let mut known = self.toolchains.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(&(closure.digest, part))
            && known.generation == self.dictionary.generation()
        {
            return Arc::clone(known);
        }
        if known.len() >= TOOLCHAINS_MAX {
            known.clear();
        }
        let entries = closure.of(part).cloned().map(Item::Entry);
        let (generation, items) = self.dictionary.number(entries);
        let set = Arc::new(ToolchainSet { digest: closure.digest_of(part), generation, items });
        known.insert((closure.digest, part), Arc::clone(&set));
        set
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
        let words = words.chain(plan.spelt.as_ref().unwrap_or(&invocation.argv).iter().cloned());
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
            tells_temporary: plan.tells_temporary,
        };
        let (scanned, action) = (Arc::default(), OnceLock::new());
        let modules = modules::Found::default();
        FilesJob { generation, items, compile, toolchain, scanned, modules, is_of_now: false, action }
    }
}

/// The environment of a hermetic compile.
fn environment(closure: &Closure, plan: &Plan) -> Vec<Bytes> {
    let own = plan.hermetic_environment.as_deref().unwrap_or_default();
    own.iter().chain(&closure.environment).cloned().collect()
}

/// Whether a job is made of nothing but its toolchain and what the scanner finds. Files that options name,
/// what clang finds in the places that they name, and what it wants to know of a terminal, are looked at each time.
fn is_whole(plan: &Plan, invocation: &Invocation) -> bool {
    let asks = invocation.terminal.is_some() || named::places(&plan.expanded).next().is_some();
    let asks = asks && plan.compiler.toolchain.clang;
    plan.job.hermetic.reads.is_empty() && plan.job.hermetic.modules.is_none() && !asks
}

/// Whether a compile tells what time it is here, rather than what its environment says.
fn tells_this_time(mentioned: Dates, plan: &Plan, invocation: &Invocation) -> bool {
    let dates = all_dates(mentioned, plan);
    let toolchain = &plan.compiler.toolchain;
    let epochs = invocation.env.iter().filter_map(|entry| entry.strip_prefix(b"SOURCE_DATE_EPOCH="));
    dates.any() && !dates.are_given(toolchain.clang, &toolchain.version, epochs)
}

/// What files and command mention.
fn all_dates(mentioned: Dates, plan: &Plan) -> Dates {
    let mut dates = mentioned;
    plan.expanded.iter().for_each(|word| dates |= Dates::in_word(word));
    dates
}

/// Whether an option names a character set that the C library needs tables for.
fn names_charset(word: &[u8]) -> bool {
    let options: [&[u8]; 3] = [b"-finput-charset=", b"-fexec-charset=", b"-fwide-exec-charset="];
    options.iter().filter_map(|option| word.strip_prefix(*option)).any(charset_needs_tables)
}

fn add_scanned(builder: &mut SetBuilder, scanned: &InputSet) {
    for file in scanned.files.iter().chain(&scanned.probed).chain(&scanned.precompiled) {
        let inode = Inode { identity: file.inode, modified_s: file.modified.0 };
        builder.file(&file.real, File { digest: file.digest, size: file.size, executable: false, inode });
    }
    scanned.links.iter().for_each(|link| builder.link(&link.path, &link.target));
    scanned.directories.iter().for_each(|path| builder.folder(path));
}
