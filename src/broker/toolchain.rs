//! Finds the compiler that an invocation names, and what it is.
//!
//! A compiler is asked once ([`QUESTIONS`]) and remembered while the files that make it up stand
//! unchanged (device, inode, size, times); an upgraded compiler is another toolchain at the next
//! job. Nothing here decides: a compiler that cannot be asked is a [`LocalReason`].

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;

use super::closure::{Closure, Digests, NotClosed, Surroundings, closure_of};
use super::lookout::{Lookout, Seen};
use super::native::Natives;
use super::plain_file;
use super::plugins::PluginFolders;
use super::questions::{answer_in, program_places, question, question_in, succeeded};
use super::spec_files::SpecFiles;
use super::stamp::Stamp;
use crate::common::bytes::Bytes;
use crate::common::program::{basename, candidates};
use crate::common::reason::LocalReason;
use crate::common::toolchain::{
    Banner, Digest, QUESTIONS, Settings, Toolchain, identify, is_setting, read_banner, read_settings,
    setting_digest,
};

/// How long one question to a compiler may take.
pub(super) const QUESTION_TIMEOUT: Duration = Duration::from_secs(20);

/// How long it is remembered that a compiler cannot travel: what it lacks may be installed
/// meanwhile, but each attempt costs some processes.
const REFUSAL: Duration = Duration::from_secs(20);

/// Surroundings of one compiler that are told apart; beyond it the memory starts afresh.
const CLOSURES_MAX: usize = 16;

/// What drivers look for on `PATH` to assemble, unless they have one of their own.
const ASSEMBLER: &[u8] = b"as";

/// The parts that [`QUESTIONS`] ask for.
const PARTS: [&str; 3] = ["cc1", "cc1plus", "as"];

/// Compilers remembered; beyond it the memory starts afresh.
const REMEMBERED_MAX: usize = 256;

/// A compiler on this machine.
#[derive(Debug)]
pub struct Compiler {
    /// The program that the name led to; links are not resolved, as drivers look at their name.
    pub program: PathBuf,
    /// What it is.
    pub toolchain: Toolchain,
    /// The files that make it up, and those that would in the place of one; and how they looked when it was asked.
    parts: Vec<(PathBuf, Option<Stamp>)>,
    seen: Seen,
    lookout: Arc<Lookout>,
    /// What options that mean "this machine" expand to, by those options.
    natives: Natives,
    /// Where its plugins are.
    pub plugins: PluginFolders,
    /// Which files of specs its commands mean.
    pub specs: SpecFiles,
    maker: OnceCell<Bytes>,
    /// What it needs to travel, by what surrounds it.
    closures: Mutex<HashMap<Surroundings, ClosureCell>>,
}

type ClosureCell = Arc<OnceCell<Closed>>;

/// How closing a compiler went, and when.
#[derive(Debug)]
struct Closed {
    result: Result<Arc<Closure>, NotClosed>,
    at: Instant,
}

impl Closed {
    fn stands(&self, lookout: &Lookout) -> bool {
        match &self.result {
            Ok(closure) => closure.is_unchanged(lookout),
            Err(NotClosed::Changing { .. }) => false,
            Err(_) => self.at.elapsed() < REFUSAL,
        }
    }
}

/// Why a compiler could not be asked.
#[derive(Clone, Debug)]
struct AskError {
    why: String,
    /// Whether asking again is of no use: it is no compiler, rather than out of sorts.
    lasting: bool,
}

impl From<String> for AskError {
    fn from(why: String) -> Self {
        AskError { why, lasting: false }
    }
}

type Asked = Arc<OnceCell<Result<Arc<Compiler>, AskError>>>;

/// A program, its device and inode, and the assembler that it finds where it has none of its own.
type Key = (PathBuf, u64, u64, Option<PathBuf>);

/// The compilers met so far.
#[derive(Default)]
pub struct Compilers {
    /// By program and its stamp, so that a replaced program is a new entry.
    known: Mutex<HashMap<Key, Asked>>,
    /// Programs by name.
    found: Mutex<HashMap<Wanted, Arc<Found>>>,
    lookout: Arc<Lookout>,
}

/// What a program is looked up by: its name, `PATH`, and the working directory where that matters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Wanted {
    name: Bytes,
    path: Bytes,
    cwd: PathBuf,
}

impl Wanted {
    fn new(name: &Bytes, path: &[u8], cwd: &Path) -> Self {
        let is_absolute = match name.contains(&b'/') {
            true => name.starts_with(b"/"),
            false => path.split(|&byte| byte == b':').all(|folder| folder.starts_with(b"/")),
        };
        let cwd = if is_absolute { PathBuf::new() } else { cwd.to_owned() };
        Wanted { name: name.clone(), path: Bytes::from(path), cwd }
    }
}

/// A program that was found, and all places where another could come to be found before it.
#[derive(Debug)]
struct Found {
    program: PathBuf,
    stamp: Stamp,
    /// What drivers that have no assembler of their own run as one.
    assembler: Option<PathBuf>,
    places: Vec<PathBuf>,
    seen: Seen,
}

impl Compilers {
    /// The compiler that `name` means to a process with this `PATH` and working directory.
    ///
    /// # Errors
    ///
    /// Returns why it cannot be used remotely: not found, not gcc or clang, does not answer.
    pub async fn resolve(&self, name: &Bytes, path: &[u8], cwd: &Path) -> Result<Arc<Compiler>, LocalReason> {
        let fail = |why: String| LocalReason::Toolchain { compiler: name.clone(), why };
        for _ in 0..2 {
            let found = self.find(name, path, cwd).ok_or_else(|| fail("not found".to_owned()))?;
            let (program, stamp) = (&found.program, found.stamp);
            let key = (program.clone(), stamp.device, stamp.inode, found.assembler.clone());
            let asked = self.entry(&key);
            let answer = asked.get_or_init(|| ask(name, program, (path, cwd), &self.lookout)).await.clone();
            if answer.as_ref().is_ok_and(|compiler| compiler.is_unchanged()) {
                return answer.map_err(|error| fail(error.why));
            }
            let lasting = answer.as_ref().is_err_and(|error| error.lasting);
            if !lasting {
                self.forget(&key, &asked);
            }
            answer.map_err(|error| fail(error.why))?;
        }
        Err(fail("changes while it is asked".to_owned()))
    }

    /// The program that a name means. Remembered as long as nothing could lead to another.
    fn find(&self, name: &Bytes, path: &[u8], cwd: &Path) -> Option<Arc<Found>> {
        let wanted = Wanted::new(name, path, cwd);
        let known = || self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known().get(&wanted).cloned();
        if let Some(found) = before {
            let places = found.places.iter().map(PathBuf::as_path);
            let look = || {
                let program = find(name, path, cwd);
                program.as_ref() == Some(&found.program)
                    && Stamp::at(&found.program) == Some(found.stamp)
                    && find_part(ASSEMBLER, path, cwd) == found.assembler
            };
            // Where a path climbs, links decide what it climbs from.
            let stands = match found.places.iter().any(|place| climbs(place)) {
                true => look(),
                false => self.lookout.stands(&found.seen, places, look),
            };
            if stands {
                return Some(found);
            }
        }
        let program = find(name, path, cwd)?;
        let stamp = Stamp::at(&program)?;
        let last = Bytes::from(basename(name));
        let places = candidates(name, path).chain(candidates(&last, path)).chain(candidates(ASSEMBLER, path));
        let places = places.map(|place| cwd.join(place.as_path())).collect();
        let assembler = find_part(ASSEMBLER, path, cwd);
        let found = Arc::new(Found { program, stamp, assembler, places, seen: Seen::default() });
        let mut known = known();
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        known.insert(wanted, Arc::clone(&found));
        Some(found)
    }

    fn entry(&self, key: &Key) -> Asked {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        known.entry(key.clone()).or_default().clone()
    }

    fn forget(&self, key: &Key, asked: &Asked) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get(key).is_some_and(|current| Arc::ptr_eq(current, asked)) {
            known.remove(key);
        }
    }
}

impl Compiler {
    /// What it needs in an empty root, for a job with these surroundings. Asked and collected once,
    /// while all of it looks as it did.
    ///
    /// # Errors
    ///
    /// Returns why it cannot travel.
    pub async fn closure(
        &self,
        around: &Surroundings,
        digests: &Arc<Digests>,
    ) -> Result<Arc<Closure>, NotClosed> {
        for _ in 0..2 {
            let cell = self.closure_cell(around, None);
            let closing = async || {
                let result = closure_of(&self.program, self.toolchain.clang, around, digests).await;
                Closed { result: result.map(Arc::new), at: Instant::now() }
            };
            let closed = cell.get_or_init(closing).await;
            if closed.stands(&self.lookout) {
                return closed.result.clone();
            }
            drop(self.closure_cell(around, Some(&cell)));
        }
        Err(NotClosed::Changing { path: Bytes::from(self.program.as_path()) })
    }

    /// The cell for such surroundings; a new one in the place of `stale`.
    fn closure_cell(&self, around: &Surroundings, stale: Option<&ClosureCell>) -> ClosureCell {
        let mut known = self.closures.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= CLOSURES_MAX {
            known.clear();
        }
        let cell = known.entry(around.clone()).or_default();
        if stale.is_some_and(|stale| Arc::ptr_eq(stale, cell)) {
            *cell = ClosureCell::default();
        }
        Arc::clone(cell)
    }

    fn is_unchanged(&self) -> bool {
        let look = || self.parts.iter().all(|(path, stamp)| Stamp::at(path) == *stamp);
        self.lookout.stands(&self.seen, self.parts.iter().map(|(path, _)| path.as_path()), look)
    }

    /// What `options` (such as `-march=native`) mean on this machine, as options that say so,
    /// where a command has these `machines` in it; `None` when the driver does not tell.
    pub async fn expand_native(&self, options: &[Bytes], machines: &[Bytes]) -> Option<Vec<Bytes>> {
        self.natives.expand(&self.program, self.toolchain.clang, options, machines).await
    }

    /// A file of specs in `folder` that says of this machine what gcc finds out about it for such a command;
    /// `None` when the driver does not run the same with it.
    pub async fn native_specs(&self, machines: &[Bytes], folder: &Path) -> Option<PathBuf> {
        self.natives.specs(&self.program, machines, folder).await
    }

    /// What its objects say of their maker (`.ident`); empty when it cannot be told. Asked for once.
    pub async fn maker(&self) -> Bytes {
        self.maker.get_or_init(|| self.ask_maker()).await.clone()
    }

    async fn ask_maker(&self) -> Bytes {
        let arguments = ["-S", "-x", "c", "/dev/null", "-o", "-"].map(OsStr::new);
        let assembly = question(&self.program, &arguments).await.map(|(text, _)| text).unwrap_or_default();
        let ident = assembly.lines().rev().find_map(|line| line.trim_start().strip_prefix(".ident"));
        Bytes::from(ident.map(|text| text.trim().trim_matches('"')).unwrap_or_default())
    }
}

/// The first program on `path` of that name that can be executed and is not distcc itself.
fn find(name: &Bytes, path: &[u8], cwd: &Path) -> Option<PathBuf> {
    let found = find_program(name, path, cwd)?;
    if !leads_to(&found, "ccache") {
        return Some(found);
    }
    // ccache's link is no compiler: it runs the next one of that name.
    let name = Bytes::from(basename(name));
    let behind = path.split(|&byte| byte == b':').filter(|directory| {
        let program = Bytes([directory, &b"/"[..], &name[..]].concat());
        !leads_to(&cwd.join(program.as_path()), "ccache")
    });
    find_program(&name, &behind.collect::<Vec<_>>().join(&b":"[..]), cwd)
}

fn find_program(name: &Bytes, path: &[u8], cwd: &Path) -> Option<PathBuf> {
    let shim = shim();
    let found = candidates(name, path).map(|candidate| cwd.join(candidate.as_path())).find(|candidate| {
        let runs = std::fs::metadata(candidate).is_ok_and(|found| {
            found.is_file() && found.mode() & 0o111 != 0 && shim != Some((found.dev(), found.ino()))
        });
        runs && !leads_to(candidate, "distcc")
    });
    found.map(|program| without_dots(&program))
}

/// The shim beside us, which may go by a compiler's name as a hard link, too.
fn shim() -> Option<(u64, u64)> {
    let shim = std::env::current_exe().ok()?.with_file_name("distcc");
    std::fs::metadata(shim).ok().map(|found| (found.dev(), found.ino()))
}

/// A program's path without `.` and `..`, which volunteers take for a way out of a job's root. The last
/// name stays a link, if it is one: drivers look at it.
pub fn without_dots(program: &Path) -> PathBuf {
    let plain: PathBuf = program.components().collect();
    let real =
        plain.parent().filter(|_| climbs(&plain)).and_then(|folder| std::fs::canonicalize(folder).ok());
    match (real, plain.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => plain,
    }
}

/// Whether `..` is in a path.
pub fn climbs(path: &Path) -> bool {
    path.components().any(|part| part == Component::ParentDir)
}

/// Whether a program is a masquerade link of distcc's or ccache's.
fn leads_to(program: &Path, tool: &str) -> bool {
    let is_link = std::fs::symlink_metadata(program).is_ok_and(|found| found.is_symlink());
    is_link && std::fs::canonicalize(program).is_ok_and(|real| real.file_name() == Some(OsStr::new(tool)))
}

/// Asks a driver, as a job with this `PATH` and working directory would run it.
async fn ask(
    name: &Bytes,
    program: &Path,
    (path, cwd): (&[u8], &Path),
    lookout: &Arc<Lookout>,
) -> Result<Arc<Compiler>, AskError> {
    let absolute = absolute_path(path, cwd);
    let around = [("PATH", absolute.as_os_str())];
    let said = answer_in(program, &[OsStr::new(QUESTIONS[0])], &around).await?;
    let banner = read_banner(&String::from_utf8_lossy(&said.stderr))
        .ok_or_else(|| AskError { why: "is neither gcc nor clang".to_owned(), lasting: true })?;
    let (_, said) = succeeded(said)?;
    // What comes there while it is asked is another part already.
    let (folders, _) = question_in(program, &[OsStr::new("-print-search-dirs")], &around).await?;
    let places = PARTS.iter().flat_map(|part| program_places(&folders, &banner.target, part, &absolute));
    let places: Vec<_> = places.map(|place| (Stamp::at(&place), place)).collect();
    let mut parts = vec![Some(program.to_owned())];
    for asked in &QUESTIONS[1..] {
        let (answer, _) = question_in(program, &[OsStr::new(asked)], &around).await?;
        parts.push(find_part(answer.strip_suffix(b"\n").unwrap_or(&answer), path, cwd));
    }
    let (settings, own) = (read_settings(&said), banner.clang.then(|| program.to_owned()));
    let task = tokio::task::spawn_blocking(move || {
        let (mut digests, mut parts) = digest_parts(parts);
        add_settings(&settings, own.as_deref(), &mut digests, &mut parts);
        (digests, parts)
    });
    let (digests, mut parts) = task.await.map_err(|error| error.to_string())?;
    parts.extend(places.into_iter().map(|(stamp, place)| (place, stamp)));
    let toolchain = describe(name, program, banner, &digests);
    tracing::info!(compiler = %name, id = %toolchain.id.short(), version = %toolchain.version, "new toolchain");
    Ok(Arc::new(Compiler {
        program: program.to_owned(),
        toolchain,
        parts,
        seen: Seen::default(),
        lookout: Arc::clone(lookout),
        natives: Natives::default(),
        plugins: PluginFolders::default(),
        specs: SpecFiles::default(),
        maker: OnceCell::new(),
        closures: Mutex::default(),
    }))
}

/// Adds what a driver is told besides its command line: by the same name on a volunteer it may be told something else.
fn add_settings(
    settings: &Settings,
    clang: Option<&Path>,
    digests: &mut Vec<Option<Digest>>,
    parts: &mut Vec<(PathBuf, Option<Stamp>)>,
) {
    let own = clang.and_then(|program| std::fs::canonicalize(program).ok()?.parent().map(Path::to_owned));
    let mut files: BTreeSet<PathBuf> = settings.files.iter().map(|path| path.as_path().to_owned()).collect();
    for folder in settings.folders.iter().map(|path| path.as_path().to_owned()).chain(own) {
        parts.push((folder.clone(), Stamp::at(&folder)));
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        files.extend(
            entries.filter(|entry| is_setting(entry.file_name().as_bytes())).map(|entry| entry.path()),
        );
    }
    for file in files {
        let (stamp, text) = (Stamp::at(&file), plain_file::read(&file).unwrap_or_default());
        let name = file.file_name().unwrap_or_default().as_bytes();
        digests.push(Some(setting_digest(name, &text, "client")));
        parts.push((file, stamp));
    }
}

fn describe(name: &Bytes, program: &Path, banner: Banner, digests: &[Option<Digest>]) -> Toolchain {
    let mut names = vec![Bytes::from(basename(name))];
    let real = std::fs::canonicalize(program).ok();
    if let Some(real) = real.as_deref().and_then(Path::file_name) {
        let real = Bytes::from(real.to_owned());
        if !names.contains(&real) {
            names.push(real);
        }
    }
    let id = identify(&banner, digests);
    Toolchain { id, names, version: banner.version, target: banner.target, clang: banner.clang }
}

/// The file that a driver runs as this part of itself, by what it says. What has no slash it looks for on its
/// `PATH`; what is nowhere is `None`.
fn find_part(said: &[u8], path: &[u8], cwd: &Path) -> Option<PathBuf> {
    let runs = |place: &PathBuf| {
        std::fs::metadata(place).is_ok_and(|found| found.is_file() && found.mode() & 0o111 != 0)
    };
    candidates(said, path).map(|place| cwd.join(place.as_path())).find(runs)
}

/// A `PATH` that means the same in every directory.
fn absolute_path(path: &[u8], cwd: &Path) -> Bytes {
    let folders = path.split(|&byte| byte == b':').map(|folder| match folder.starts_with(b"/") {
        true => folder.to_vec(),
        false => Bytes::from(cwd.join(Bytes::from(folder).as_path()).as_path()).to_vec(),
    });
    folders.collect::<Vec<_>>().join(&b':').into()
}

type Digested = (Vec<Option<Digest>>, Vec<(PathBuf, Option<Stamp>)>);

fn digest_parts(parts: Vec<Option<PathBuf>>) -> Digested {
    let mut stamps = Vec::new();
    let digests = parts
        .into_iter()
        .map(|part| {
            let part = part?;
            let stamp = Stamp::at(&part)?;
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(std::fs::File::open(&part).ok()?).ok()?;
            stamps.push((part, Some(stamp)));
            Some(Digest(*hasher.finalize().as_bytes()))
        })
        .collect();
    (digests, stamps)
}
