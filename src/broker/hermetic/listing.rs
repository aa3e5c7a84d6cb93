//! Which files a compile reads, asked of its compiler: where the include scanner declines.
//!
//! `-M` costs what preprocessing costs, and tells exactly what is read. It leaves out what is only
//! looked for: what `__has_include` asks about, a file that was read under another name already, a
//! precompiled header, what the assembler reads. So every name that is spelt out in a file ([`names`])
//! goes along wherever it leads to a file here. One too many does no harm, for it lies here as well;
//! what nobody can tell from the text is declined, and what is missing all the same ends the compile
//! there, which is then done here.

mod names;
mod queries;
mod question;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::named;
use crate::broker::markers::is_gccs_own;
use crate::broker::plain_file;
use crate::broker::plan::{Plan, has_debug};
use crate::broker::prepare::run_quietly;
use crate::broker::scan::layout::Layout;
use crate::broker::scan::{Declined, InputFile, InputSet, OPTIONS_DOUBT};
use crate::broker::stamp::Stamp;
use crate::common::bytes::Bytes;
use crate::common::classify::Language;
use crate::common::dependencies::{absolute, prerequisites};
use crate::common::invocation::Invocation;
use crate::common::limits::{INPUT_MAX_BYTES, INPUTS_MAX};
use crate::common::toolchain::Digest;
use names::Mentions;
use queries::Pieces;
use question::Told;

/// Files of which is remembered what they mention.
const REMEMBERED_MAX: usize = 20_000;

/// Places that are looked at for names, for one compile.
const LOOKS_MAX: usize = 200_000;

/// Larger files are not looked through for names: nobody writes such ones.
const TEXT_MAX_BYTES: u64 = 64 << 20;

/// Why a compiler's list is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoList {
    /// The compiler would not make one.
    #[error("the compiler did not tell what it reads")]
    Compiler,
    /// A file mentions what cannot be told from its text.
    #[error("{path}: {what}")]
    Unclear {
        /// What it is.
        what: &'static str,
        /// Where.
        path: Bytes,
    },
    /// A file that was read cannot be read.
    #[error("{0}: cannot be read")]
    Unreadable(Bytes),
    /// A file changed meanwhile.
    #[error("{0}: changed meanwhile")]
    Changed(Bytes),
    /// A bound was reached.
    #[error("too many {0}")]
    TooMany(&'static str),
}

/// Whether the compiler of a plan is asked at all when the scanner said this.
pub fn is_worth_asking(why: &Declined, plan: &Plan) -> bool {
    match why {
        Declined::Doubt { what: OPTIONS_DOUBT, .. } => !passes_over_options(plan),
        // The compile will fail, or meets files that are being written.
        Declined::Missing { .. } | Declined::Unreadable(_) | Declined::Changed(_) | Declined::Stale(_) => {
            false
        }
        // Modules are read by names that no list has.
        Declined::Doubt { what, .. } => !what.contains("module"),
        Declined::Source(what) => *what != "the source is standard input",
        Declined::Option(_)
        | Declined::Compiler(_)
        | Declined::Precompiled(_)
        | Declined::Textless(_)
        | Declined::Limit(_) => true,
    }
}

/// Whether the compiler follows pragmas that set options as it compiles, and not as it lists or preprocesses: gcc for C. For
/// C++ it does neither, having read all of the source by then.
fn passes_over_options(plan: &Plan) -> bool {
    !plan.compiler.toolchain.clang && matches!(plan.job.language, Language::C | Language::ObjC)
}

/// Toolchains of which it is remembered that their texts are not taken.
const UNTAKEN_MAX: usize = 1000;

/// What asking costs beside preprocessing, measured as it goes: microseconds, averages.
#[derive(Debug, Default)]
pub struct Costs {
    list_us: AtomicU64,
    text_us: AtomicU64,
    /// Toolchains whose texts some volunteer did not take.
    untaken: Mutex<HashSet<Digest>>,
}

impl Costs {
    /// A list took this long.
    pub fn list(&self, took: Duration) {
        average(&self.list_us, took);
    }

    /// A text took this long.
    pub fn text(&self, took: Duration) {
        average(&self.text_us, took);
    }

    /// A volunteer has no compiler of its own for this toolchain's texts.
    pub fn text_not_taken(&self, toolchain: Digest) {
        let mut untaken = self.untaken.lock().unwrap_or_else(PoisonError::into_inner);
        if untaken.len() >= UNTAKEN_MAX {
            untaken.clear();
        }
        untaken.insert(toolchain);
    }

    fn is_taken(&self, toolchain: &Digest) -> bool {
        !self.untaken.lock().unwrap_or_else(PoisonError::into_inner).contains(toolchain)
    }

    /// Whether a list is what this job needs. With debug information or warnings a text does not give
    /// the same, and one that nobody takes gives nothing; else what has been cheaper so far.
    pub fn prefer_list(&self, plan: &Plan) -> bool {
        let warns = |word: &Bytes| word.starts_with(b"-W") && word.get(3) != Some(&b',');
        let text = self.text_us.load(Ordering::Relaxed);
        plan.job.hermetic.needed.is_some()
            || has_debug(&plan.arguments)
            || plan.expanded.iter().any(warns)
            || text == 0
            || !self.is_taken(&plan.compiler.toolchain.id)
            || self.list_us.load(Ordering::Relaxed) <= text
    }
}

fn average(sum: &AtomicU64, took: Duration) {
    let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    let old = sum.load(Ordering::Relaxed);
    sum.store(
        if old == 0 { us } else { (old / 8).saturating_mul(7).saturating_add(us / 8) },
        Ordering::Relaxed,
    );
}

/// Which files precompiled headers of clang's were made of, beside those that the scanner finds.
#[derive(Debug, Default)]
pub struct Inside(Mutex<HashMap<Vec<Digest>, Arc<[Bytes]>>>);

/// Precompiled headers of which that is remembered.
const INSIDE_MAX: usize = 1000;

impl Inside {
    /// The files, once they were learnt.
    pub fn of(&self, set: &InputSet) -> Option<Arc<[Bytes]>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&Inside::key(set)).cloned()
    }

    /// Learns them from what the compiler says of a compile that uses these headers.
    pub fn learn(&self, set: &InputSet, answer: &Answer) {
        let found: HashSet<&[u8]> = set.files.iter().map(|file| &*file.path).collect();
        let more = answer.told.read.iter().filter(|path| !found.contains(&path[..])).cloned().collect();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= INSIDE_MAX {
            known.clear();
        }
        known.insert(Inside::key(set), more);
    }

    fn key(set: &InputSet) -> Vec<Digest> {
        set.precompiled.iter().map(|file| file.digest).collect()
    }
}

/// What is remembered of files.
#[derive(Debug, Default)]
pub struct Memory(Mutex<HashMap<PathBuf, (Stamp, Arc<Looked>)>>);

/// A file that was looked through.
#[derive(Debug)]
struct Looked {
    digest: Digest,
    mentions: Mentions,
}

/// What a compiler said.
#[derive(Debug)]
pub struct Answer {
    told: Told,
    began: SystemTime,
}

/// Asks the compiler of a plan. Where a precompiled header stands for its text, gcc reads it (`textless`), and
/// lists what it was made of.
///
/// # Errors
///
/// Returns [`NoList::Compiler`] when it does not tell, or [`NoList::Unclear`] for a precompiled header that does not.
pub async fn ask(plan: &Plan, invocation: &Invocation, textless: Option<&Bytes>) -> Result<Answer, NoList> {
    let began = SystemTime::now();
    let source = absolute(&invocation.cwd, &plan.job.source);
    if plan.job.preprocessed {
        return Ok(Answer { told: Told { read: vec![source], ..Told::default() }, began });
    }
    // gcc warns of a file among them, but not where it is asked; on a volunteer there would be none.
    let is_file = |path: &Bytes| fs::metadata(path.as_path()).is_ok_and(|found| !found.is_dir());
    let folders = || question::searched_by_gcc(&plan.expanded, &invocation.env, &invocation.cwd);
    if !plan.compiler.toolchain.clang && folders().iter().any(is_file) {
        return Err(NoList::Compiler);
    }
    let mut words = question::question(&plan.expanded[1..]);
    if textless.is_some() {
        words.extend(["-fpch-preprocess", "-fpch-deps"].map(Bytes::from));
    }
    let answer = run_quietly(&plan.compiler.program, &words, invocation).await;
    let (list, messages) = answer.map_err(|_| NoList::Compiler)?;
    // The source is among them at the least.
    let rules = question::without_pragmas(&list);
    let names = prerequisites(rules).filter(|names| !names.is_empty()).ok_or(NoList::Compiler)?;
    if let Some(path) = textless.filter(|path| !question::names_text_of(&names, path)) {
        return Err(NoList::Unclear { what: "it does not say what it was made of", path: path.clone() });
    }
    let mut told = question::directories(&messages, &invocation.cwd).ok_or(NoList::Compiler)?;
    // clang tells one of a directory's names, whichever it opens what is in it by.
    for path in question::searched(&plan.expanded, &invocation.cwd) {
        if !told.directories.contains(&path) && path.as_path().is_dir() {
            told.directories.push(path);
        }
    }
    told.read = vec![source];
    told.read.extend(names.iter().map(|name| absolute(&invocation.cwd, name)));
    let mut seen = HashSet::new();
    told.read.retain(|path| seen.insert(path.clone()));
    Ok(Answer { told, began })
}

/// The input set of a compile that reads nothing but its source, as far as its scanner could tell. Blocking.
///
/// # Errors
///
/// Returns that it cannot be read.
pub fn alone(plan: &Plan, invocation: &Invocation) -> Result<InputSet, NoList> {
    let mut layout = Layout::default();
    let source = absolute(&invocation.cwd, &plan.job.source);
    let real = layout.resolve(&source);
    let found = fs::metadata(Bytes::from(&real[..]).as_path()).ok().filter(fs::Metadata::is_file);
    found.ok_or_else(|| NoList::Unreadable(plan.job.source.clone()))?;
    for folder in [&invocation.cwd].into_iter().chain(&named::folders(plan, invocation)) {
        layout.directory(folder);
    }
    let (links, directories) = layout.finish();
    Ok(InputSet { links, directories, ..InputSet::default() })
}

impl Memory {
    /// Makes an input set of what a compiler said. Blocking.
    ///
    /// # Errors
    ///
    /// Returns why it is of no use.
    pub fn assemble(
        &self,
        answer: &Answer,
        plan: &Plan,
        invocation: &Invocation,
    ) -> Result<InputSet, NoList> {
        let mut work = Assembly {
            memory: self,
            answer,
            cwd: &invocation.cwd,
            layout: Layout::default(),
            names: BTreeMap::new(),
            extra: BTreeMap::new(),
            precompiled: BTreeMap::new(),
            tried: HashSet::new(),
        };
        let mut set = InputSet::default();
        let mut pieces = Pieces::default();
        plan.expanded.iter().for_each(|word| pieces |= Pieces::of_word(word));
        for path in &answer.told.read {
            let (file, looked) = work.file(path)?;
            if let Some(what) = looked.mentions.unclear {
                return Err(NoList::Unclear { what, path: path.clone() });
            }
            let Mentions { operates, sets_options, .. } = looked.mentions;
            let passes_over = sets_options && passes_over_options(plan) && !is_gccs_own(path);
            if passes_over || operates && !plan.compiler.toolchain.clang {
                let what = "a pragma that gcc does not follow where it lists";
                return Err(NoList::Unclear { what, path: path.clone() });
            }
            set.clock |= looked.mentions.clock;
            pieces |= looked.mentions.pieces;
            work.mention(path, &looked, set.files.is_empty());
            set.files.push(Arc::new(file));
        }
        if pieces.may_ask() {
            let path = plan.job.source.clone();
            return Err(NoList::Unclear { what: "what could become __has_include", path });
        }
        work.named_by(plan)?;
        work.look()?;
        for path in
            answer.told.directories.iter().chain([&invocation.cwd]).chain(&named::folders(plan, invocation))
        {
            work.layout.directory(path);
        }
        let read: HashSet<&[u8]> = set.files.iter().map(|file| &*file.path).collect();
        set.probed =
            work.extra.into_values().filter(|file| !read.contains(&*file.path)).map(Arc::new).collect();
        set.precompiled = work.precompiled.into_values().map(Arc::new).collect();
        if !set.precompiled.is_empty() {
            set.covered = 1..set.files.len();
        }
        (set.links, set.directories) = work.layout.finish();
        Ok(set)
    }

    fn look_through(&self, path: &Path, stamp: Stamp) -> Option<Arc<Looked>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
        if let Some((_, looked)) = known.filter(|(then, _)| *then == stamp) {
            return Some(looked);
        }
        let looked = if stamp.size > TEXT_MAX_BYTES {
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(plain_file::open(path).ok()?.0).ok()?;
            let digest = Digest(*hasher.finalize().as_bytes());
            Looked { digest, mentions: Mentions::default() }
        } else {
            let text = plain_file::read(path).ok()?;
            Looked { digest: Digest::of(&text), mentions: names::mentions(&text) }
        };
        let looked = Arc::new(looked);
        if stamp.is_settled() {
            let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if memory.len() >= REMEMBERED_MAX {
                memory.clear();
            }
            memory.insert(path.to_owned(), (stamp, Arc::clone(&looked)));
        }
        Some(looked)
    }
}

/// A set that is being put together.
struct Assembly<'a> {
    memory: &'a Memory,
    answer: &'a Answer,
    cwd: &'a Bytes,
    layout: Layout,
    /// Names that are looked for, each with whether it is one of the first that are included, and the
    /// folders beside whose files it stands.
    names: BTreeMap<Bytes, (bool, HashSet<Bytes>)>,
    extra: BTreeMap<Bytes, InputFile>,
    precompiled: BTreeMap<Bytes, InputFile>,
    tried: HashSet<Bytes>,
}

impl Assembly<'_> {
    fn file(&mut self, path: &Bytes) -> Result<(InputFile, Arc<Looked>), NoList> {
        let unreadable = || NoList::Unreadable(path.clone());
        let real = self.layout.resolve(path);
        let place = Bytes::from(&real[..]);
        let found =
            fs::metadata(place.as_path()).ok().filter(fs::Metadata::is_file).ok_or_else(unreadable)?;
        let stamp = Stamp::of(&found);
        if stamp.size > INPUT_MAX_BYTES {
            return Err(unreadable());
        }
        let began = self.answer.began.duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let of = |(s, ns): (i64, i64)| {
            Duration::new(u64::try_from(s).unwrap_or(0), u32::try_from(ns).unwrap_or(0))
        };
        // A file may have a time that lies ahead; its changes have not.
        if (began..=now).contains(&of(stamp.changed)) {
            return Err(NoList::Changed(path.clone()));
        }
        let looked = self.memory.look_through(place.as_path(), stamp).ok_or_else(unreadable)?;
        let (modified, inode) = (stamp.modified, (stamp.device, stamp.inode));
        let path: Arc<[u8]> = path[..].into();
        Ok((InputFile { path, real, digest: looked.digest, size: stamp.size, modified, inode }, looked))
    }

    /// Notes what a file mentions.
    fn mention(&mut self, path: &Bytes, looked: &Looked, is_source: bool) {
        let beside = path.as_path().parent().map(|folder| Bytes::from(folder.as_os_str().as_bytes()));
        let mentions = &looked.mentions;
        for name in &mentions.included {
            let (first, places) = self.names.entry(name.clone()).or_default();
            *first |= is_source;
            places.extend(beside.clone());
        }
        for name in mentions.literals.iter().chain(&mentions.shown) {
            self.names.entry(name.clone()).or_default().1.insert(self.cwd.clone());
        }
    }

    /// Notes what the command itself names.
    fn named_by(&mut self, plan: &Plan) -> Result<(), NoList> {
        // What `-D` asks for is looked for beside whatever file uses it.
        if let Some(word) = plan.expanded.iter().find(|word| queries::has_query(word)) {
            return Err(NoList::Unclear { what: "__has_include in an argument", path: word.clone() });
        }
        for (name, is_clang) in
            question::included(&plan.expanded).map(|name| (name, plan.compiler.toolchain.clang))
        {
            let (first, places) = self.names.entry(name.clone()).or_default();
            *first = true;
            places.insert(self.cwd.clone());
            if is_clang {
                self.precompiled(&[&name, &b".pch"[..]].concat().into(), &self.cwd.clone())?;
            }
        }
        Ok(())
    }

    /// Looks for all names wherever they may lead, and for those in what an assembler reads there.
    fn look(&mut self) -> Result<(), NoList> {
        while !self.names.is_empty() {
            self.look_once()?;
        }
        if self.extra.len() > INPUTS_MAX / 4 { Err(NoList::TooMany("files")) } else { Ok(()) }
    }

    fn look_once(&mut self) -> Result<(), NoList> {
        let answer = self.answer;
        for (name, (first, places)) in std::mem::take(&mut self.names) {
            for folder in places.iter().chain(&answer.told.directories) {
                if self.tried.len() > LOOKS_MAX {
                    return Err(NoList::TooMany("names"));
                }
                self.look_at(&name, folder)?;
                if first {
                    self.precompiled(&[&name, &b".gch"[..]].concat().into(), folder)?;
                }
            }
        }
        Ok(())
    }

    fn look_at(&mut self, name: &Bytes, folder: &Bytes) -> Result<(), NoList> {
        let path = absolute(folder, name);
        if self.tried.insert(path.clone()) && path.as_path().is_file() {
            let (file, looked) = self.file(&path)?;
            self.extra.insert(path, file);
            for name in &looked.mentions.literals {
                self.names.entry(name.clone()).or_default().1.insert(self.cwd.clone());
            }
        }
        Ok(())
    }

    /// A precompiled header, or a folder of such, if there is one.
    fn precompiled(&mut self, name: &Bytes, folder: &Bytes) -> Result<(), NoList> {
        let path = absolute(folder, name);
        if !self.tried.insert(path.clone()) {
            return Ok(());
        }
        let mut paths = vec![path.clone()];
        if path.as_path().is_dir() {
            self.layout.directory(&path);
            let entries = fs::read_dir(path.as_path()).map_err(|_| NoList::Unreadable(path.clone()))?;
            paths = entries.filter_map(Result::ok).map(|entry| Bytes::from_path(entry.path())).collect();
        }
        for path in paths {
            if path.as_path().is_file() {
                let (file, _) = self.file(&path)?;
                self.precompiled.insert(path, file);
            }
        }
        Ok(())
    }
}
