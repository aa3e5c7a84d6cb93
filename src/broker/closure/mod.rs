//! Toolchains that travel: which files, links and folders a compiler needs in an empty root.
//!
//! A [`Closure`] holds the driver under the path by which it was found, the programs that it runs,
//! their libraries and loader, and whatever else the driver looks for before it decides what to
//! run. In a root with nothing else but sources and headers it does what it does here, byte for
//! byte. Headers are no part of it: the include scanner finds those.
//!
//! What the driver itself can tell it is asked ([`ask`]); libraries are found as the loader finds
//! them ([`loader`]), from the files' own headers. What is not in here: what options name
//! (`-fplugin=`, `-specs=`, `-B`, `--sysroot`), locales ([`locale`]) and character sets, which are
//! small sets of their own.

mod ask;
mod cache;
mod clang;
mod digests;
pub mod elf;
pub mod elsewhere;
pub mod gcc;
mod habits;
mod imports;
mod layout;
mod loader;
mod locale;
mod settings;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub use self::ask::Answers;
pub use self::digests::Digests;
pub use self::elf::ElfError;
pub use self::locale::{Locale, charset_needs_tables};

use self::layout::{Layout, Watched};
use self::loader::{Loader, SearchPath};
use self::locale::Locales;
use super::lookout::{Lookout, Seen};
use super::stamp::Stamp;
use crate::common::bytes::Bytes;
use crate::common::classify::Language;
use crate::common::inputs::{Entry, EntryKind};
use crate::common::invocation::Invocation;
use crate::common::toolchain::Digest;

/// What of a job's environment decides which files make up its compiler.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Surroundings {
    /// `PATH`: drivers look there for the assembler.
    pub path: Bytes,
    /// `LD_LIBRARY_PATH`.
    pub library_path: Bytes,
}

impl Surroundings {
    /// Those of a job. What is relative in its `PATH` means its own directory, and counts only where
    /// that holds a program which compilers run: otherwise each directory would be a toolchain of its own.
    ///
    /// # Errors
    ///
    /// Returns [`NotClosed::Colon`] where such a directory cannot stand in a `PATH`.
    pub fn of(invocation: &Invocation) -> Result<Self, NotClosed> {
        let variable = |name| invocation.variable(name).unwrap_or_default();
        let mut folders = Vec::new();
        for folder in variable("PATH").split(|&byte| byte == b':') {
            if folder.starts_with(b"/") {
                folders.push(folder.to_vec());
                continue;
            }
            let place = invocation.cwd.as_path().join(Bytes::from(folder).as_path());
            if ask::GCC_PROGRAMS.iter().any(|name| place.join(name).is_file()) {
                let place = Bytes::from(place.as_path());
                if place.contains(&b':') {
                    return Err(NotClosed::Colon { path: place });
                }
                folders.push(place.to_vec());
            }
        }
        let path = folders.join(&b':').into();
        Ok(Surroundings { path, library_path: variable("LD_LIBRARY_PATH").into() })
    }
}

/// How long what was seen is taken to stand: no longer than a file system's clock needs to tell two
/// changes apart, so whoever upgrades a compiler and then runs it gets the new one.
const TRUSTED: Duration = Duration::from_millis(20);

/// How often it is tried to close a compiler that is being replaced.
const ATTEMPTS: usize = 3;

/// What of a compiler a job needs: gcc has a program of its own for each language, and a job that runs one of them need not
/// wait for the other on its way to a volunteer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Compiles of C.
    C,
    /// Compiles of C++.
    Cxx,
    /// Compiles of Objective-C.
    ObjC,
    /// Compiles of Objective-C++.
    ObjCxx,
    /// Whatever it is.
    All,
}

impl Part {
    /// What a compile of this language needs.
    pub fn of(language: Language) -> Self {
        match language {
            Language::C => Part::C,
            Language::Cxx => Part::Cxx,
            Language::ObjC => Part::ObjC,
            Language::ObjCxx => Part::ObjCxx,
            Language::Assembler => Part::All,
        }
    }
}

/// Everything that a compiler needs.
#[derive(Debug)]
pub struct Closure {
    /// Files, links and folders, sorted by path.
    pub entries: Vec<Entry>,
    /// The digest of all that: which toolchain it is.
    pub digest: Digest,
    /// Programs that only compiles of one language run.
    proper: Vec<(Part, Bytes)>,
    /// Variables without which its programs do not start, as `NAME=value`.
    pub environment: Vec<Bytes>,
    watched: Vec<Watched>,
    interpreter: Option<PathBuf>,
    locale_folders: Vec<PathBuf>,
    search: SearchPath,
    seen: Seen,
    looked: LastLook,
    /// Sets of the locales that jobs had.
    locales: Locales,
}

/// When it was last seen that something stands, in milliseconds behind `since`.
#[derive(Debug)]
struct LastLook {
    since: Instant,
    at: AtomicU64,
}

impl LastLook {
    fn new() -> Self {
        LastLook { since: Instant::now(), at: AtomicU64::new(u64::MAX) }
    }

    /// Whether `paths` look as they did: as seen within the last `trusted`, or by looking now.
    fn stands(&self, paths: &[Watched], trusted: Duration) -> bool {
        let now = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let age = now.checked_sub(self.at.load(Ordering::Relaxed));
        if age.is_some_and(|age| u128::from(age) < trusted.as_millis()) {
            return true;
        }
        let stands = paths.iter().all(|(path, stamp)| Stamp::at(path) == *stamp);
        if stands {
            self.at.store(now, Ordering::Relaxed);
        }
        stands
    }
}

/// Why a compiler cannot travel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotClosed {
    /// Something that must be there is not.
    #[error("{path} is not there")]
    Missing {
        /// What.
        path: Bytes,
    },
    /// A script could run anything.
    #[error("{path} is a script: what it runs cannot be told")]
    Script {
        /// Which.
        path: Bytes,
    },
    /// A program that runs a compiler, such as `mpicc` and caches: what it does cannot be told.
    #[error("{path} is no compiler, but runs one")]
    Wrapper {
        /// Which.
        path: Bytes,
    },
    /// Not a program of this kind of machine.
    #[error("{path} is neither an ELF program nor a script")]
    NotElf {
        /// Which.
        path: Bytes,
    },
    /// A program whose headers make no sense.
    #[error("{path} is damaged: {why}")]
    Broken {
        /// Which.
        path: Bytes,
        /// How.
        why: ElfError,
    },
    /// A library that its loader would not find either, or finds where we do not look.
    #[error("{of} needs the library {name}, which is not found")]
    Library {
        /// Its name.
        name: Bytes,
        /// What needs it.
        of: Bytes,
    },
    /// A file that cannot be read.
    #[error("{path} cannot be read: {why}")]
    Unreadable {
        /// Which.
        path: Bytes,
        /// What the system says.
        why: String,
    },
    /// A device, socket or pipe where a file should be.
    #[error("{path} is neither file nor folder")]
    Special {
        /// Which.
        path: Bytes,
    },
    /// A plugin that may read, or depend on, what nobody names.
    #[error("{path} calls {function}: what else it depends on cannot be told")]
    Reaching {
        /// Which.
        path: Bytes,
        /// The function.
        function: Bytes,
    },
    /// Larger than what may be sent.
    #[error("{path} is too large")]
    TooLarge {
        /// Which.
        path: Bytes,
    },
    /// More files than any compiler has.
    #[error("{path} has too many parts")]
    TooMany {
        /// Of what.
        path: Bytes,
    },
    /// It is being replaced at this moment.
    #[error("{path} changes while it is read")]
    Changing {
        /// Which.
        path: Bytes,
    },
    /// The driver does not tell what it is asked.
    #[error("{program} does not say {what}: {why}")]
    Silent {
        /// The driver.
        program: Bytes,
        /// What it was asked.
        what: String,
        /// What happened instead.
        why: String,
    },
    /// A configuration file says what does not hold elsewhere.
    #[error("{path} sets {what}")]
    Set {
        /// Which.
        path: Bytes,
        /// What it says.
        what: String,
    },
    /// Programs lie in a directory that no `PATH` can name.
    #[error("{path} has a colon in it, and programs of the compiler")]
    Colon {
        /// Which.
        path: Bytes,
    },
    /// Locales from another place than the C library's own.
    #[error("{variable} is set: locales come from elsewhere")]
    Locale {
        /// The variable.
        variable: &'static str,
    },
}

/// Collects what the compiler at `program` needs, after it was asked ([`Answers`]).
///
/// Reads from disk, and the first time all of it: call it where one may block.
///
/// # Errors
///
/// [`NotClosed`] says what stands in the way.
pub fn close(answers: &Answers, around: &Surroundings, digests: &Digests) -> Result<Closure, NotClosed> {
    let mut layout = Layout::default();
    let search = SearchPath { library_path: around.library_path.clone() };
    let mut loader = Loader::new(&search);
    loader.program(&mut layout, &answers.program)?;
    let driver = layout.file(&answers.program)?;
    let interpreter = loader::read_needs(&driver)?.interpreter;
    // What each of the two has in it since there is one: wrappers know neither.
    let sign: &[u8] = if answers.clang { b"-cc1as" } else { b"Using built-in specs." };
    if !loader::has_text(&driver, sign)? {
        return Err(NotClosed::Wrapper { path: Bytes::from(answers.program.as_path()) });
    }
    let proper = if answers.clang {
        clang::add(&mut layout, &mut loader, answers, around)?;
        Vec::new()
    } else {
        gcc::add(&mut layout, &mut loader, answers, around)?
    };
    let used_library_path = loader.used_library_path;
    let (entries, watched) = layout.finish(digests)?;
    let environment = match used_library_path {
        true => vec![Bytes([b"LD_LIBRARY_PATH=", &around.library_path[..]].concat())],
        false => Vec::new(),
    };
    Ok(Closure {
        digest: identity(&entries, &environment),
        entries,
        proper,
        environment,
        watched,
        interpreter: interpreter.map(|path| path.as_path().to_owned()),
        locale_folders: locale::folders(answers),
        search,
        seen: Seen::default(),
        looked: LastLook::new(),
        locales: Locales::default(),
    })
}

/// Asks the compiler, then collects what it needs.
///
/// # Errors
///
/// As [`close`].
pub async fn closure_of(
    program: &Path,
    clang: bool,
    around: &Surroundings,
    digests: &Arc<Digests>,
) -> Result<Closure, NotClosed> {
    let changing = || NotClosed::Changing { path: Bytes::from(program) };
    for _ in 0..ATTEMPTS {
        let answers = Answers::ask(program, clang, around).await?;
        let (around, digests) = (around.clone(), digests.clone());
        let task = tokio::task::spawn_blocking(move || close(&answers, &around, &digests));
        // A panic of ours is no reason to give up the build: the job stays here.
        match task.await.map_err(|_| changing())? {
            Err(NotClosed::Changing { .. }) => {}
            result => return result,
        }
    }
    Err(changing())
}

impl Closure {
    /// The entries that a part of it needs, sorted by path.
    pub fn of(&self, part: Part) -> impl Iterator<Item = &Entry> {
        let is_other = move |entry: &Entry| {
            part != Part::All && self.proper.iter().any(|(of, path)| *of != part && *path == entry.path)
        };
        self.entries.iter().filter(move |entry| !is_other(entry))
    }

    /// The digest of a part of it.
    pub fn digest_of(&self, part: Part) -> Digest {
        if part == Part::All || self.proper.is_empty() {
            return self.digest;
        }
        identity(self.of(part), &self.environment)
    }

    /// Whether everything that it is made of looks as it did: some fifty questions to the kernel, asked
    /// when it has told of a change, or, where it does not tell, once for jobs that come within [`TRUSTED`].
    pub fn is_unchanged(&self, lookout: &Lookout) -> bool {
        lookout.stands(&self.seen, self.watched(), || self.looked.stands(&self.watched, self.trusted()))
    }

    /// How long a look is good for: not at all where the next one may be the last for long.
    fn trusted(&self) -> Duration {
        if self.seen.is_untold() { TRUSTED } else { Duration::ZERO }
    }

    /// The paths that [`Closure::is_unchanged`] looks at.
    pub fn watched(&self) -> impl Iterator<Item = &Path> {
        self.watched.iter().map(|(path, _)| path.as_path())
    }

    /// The program at `path`, which an option has the driver run, with the libraries that it needs.
    ///
    /// # Errors
    ///
    /// As [`close`].
    pub fn program(&self, path: &Path, digests: &Digests) -> Result<Vec<Entry>, NotClosed> {
        let mut layout = Layout::default();
        Loader::new(&self.search).program(&mut layout, path)?;
        Ok(layout.finish(digests)?.0)
    }

    /// The library at `path`, such as a plugin that an option names, with the libraries that it
    /// needs: entries that go along with those of the closure, sorted by path.
    ///
    /// # Errors
    ///
    /// As [`close`], and [`NotClosed::Reaching`] for one that may read more than options name.
    pub fn libraries_of(&self, path: &Path, digests: &Digests) -> Result<Vec<Entry>, NotClosed> {
        let mut layout = Layout::default();
        match &self.interpreter {
            Some(interpreter) => {
                Loader::new(&self.search).library(&mut layout, path, interpreter)?;
            }
            None => {
                layout.file(path)?;
            }
        }
        let entries = layout.finish(digests)?.0;
        imports::reaches_for_nothing(path)?;
        let is_known = |path: &Bytes| self.entries.binary_search_by(|known| known.path.cmp(path)).is_ok();
        let is_own = |entry: &&Entry| {
            entry.kind.file().is_some() && !is_known(&entry.path) && !imports::is_common(&entry.path)
        };
        entries
            .iter()
            .filter(is_own)
            .try_for_each(|entry| imports::reaches_for_nothing(entry.path.as_path()))?;
        Ok(entries)
    }
}

/// The digest of a set of entries and of the variables that belong to it.
fn identity<'a>(entries: impl IntoIterator<Item = &'a Entry>, environment: &[Bytes]) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key("distcc toolchain closure 1");
    // Each part has its length before it, so that no two sets read the same.
    let mut add = |part: &[u8]| {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    };
    for Entry { path, kind } in entries {
        add(path);
        match kind {
            EntryKind::File(file) | EntryKind::Dated { file, .. } => {
                add(if file.executable { b"program" } else { b"file" });
                add(&file.digest.0);
            }
            EntryKind::Link { target } => {
                add(b"link");
                add(target);
            }
            EntryKind::Folder => add(b"folder"),
        }
    }
    add(b"environment");
    for variable in environment {
        add(variable);
    }
    Digest(*hasher.finalize().as_bytes())
}
