//! Which compiler of this machine is the one that a client asks for.
//!
//! A client names a toolchain by the digest of its programs and gives a few names under which it
//! may be found. Only names without a slash are looked for, in the daemon's own `PATH` and among
//! the compilers that the administrator named; what is found is asked the same questions as the
//! client asked its own, and must come to the same identity.
//!
//! Blocking: to be called from threads that may wait. Answers are kept while no program's file
//! changes.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::compile::disk_refusal;
use super::guard::Guard;
use super::process::{self, Control, Limits, Program, Watch};
use super::stamp::Stamp;
use crate::common::action::Ended;
use crate::common::bytes::Bytes;
use crate::common::program::{basename, candidates};
use crate::common::protocol::link::Refusal;
use crate::common::toolchain::{
    Banner, Digest, QUESTIONS, Settings, Toolchain, identify, is_setting, read_banner, read_settings,
    setting_digest,
};

/// How long a compiler may think about one question.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest answer that is read, in bytes.
const ANSWER_MAX_BYTES: u64 = 64 << 10;

/// Names that are looked for on behalf of one job.
const NAMES_MAX: usize = 16;

/// What a name without a toolchain may have cost: candidates that are looked at.
const CANDIDATES_MAX: usize = 256;

/// The compilers of this machine.
#[derive(Debug)]
pub struct Toolchains {
    search_path: OsString,
    told: Vec<PathBuf>,
    known: Mutex<HashMap<PathBuf, Known>>,
}

/// What is known of one compiler, while its files are unchanged.
#[derive(Clone, Debug)]
struct Known {
    /// Of the compiler, of the programs that it starts, and of what it is told besides.
    stamps: Vec<(PathBuf, Stamp)>,
    /// How many of them are programs.
    programs: usize,
    nature: Option<Nature>,
}

/// What a compiler is.
#[derive(Clone, Debug)]
struct Nature {
    id: Digest,
    banner: Banner,
}

/// A compiler of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiler {
    /// Its path.
    pub path: PathBuf,
    /// Those of the programs that it starts.
    pub programs: Vec<PathBuf>,
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    Ok(Stamp::from(&fs::metadata(path)?))
}

impl Known {
    fn still_holds(&self) -> bool {
        self.stamps.iter().all(|(path, then)| stamp(path).is_ok_and(|now| now == *then))
    }
}

impl Toolchains {
    /// Compilers in `search_path`, and those that were `told` by path.
    pub fn new(search_path: OsString, told: Vec<PathBuf>) -> Self {
        Toolchains { search_path, told, known: Mutex::default() }
    }

    /// The path of the compiler that is `wanted`.
    ///
    /// # Errors
    ///
    /// Returns [`Refusal::NoSuchToolchain`] with what there is instead, or
    /// [`Refusal::Forbidden`] for names that are no names.
    pub fn find(&self, wanted: &Toolchain, guard: &Guard) -> Result<Compiler, Refusal> {
        let bad = |name: &&Bytes| {
            name.is_empty() || name.contains(&b'/') || name.contains(&0) || name.starts_with(b".")
        };
        if let Some(name) = wanted.names.iter().find(bad) {
            let detail = format!("{:?} is not the name of a compiler", name.to_text());
            return Err(Refusal::Forbidden { detail });
        }
        // One at a time: the others find the answer here.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut instead, mut trouble) = (Vec::new(), None);
        for path in self.places(wanted) {
            match self.nature(&mut known, &path, guard) {
                Ok(Some(nature)) if nature.id == wanted.id => return Ok(with_programs(path, &known)),
                Ok(Some(nature)) => instead.push(describe(&path, &nature, wanted)),
                Ok(None) => {}
                Err(error) => trouble = Some(disk_refusal(&format!("ask {}", path.display()), &error)),
            }
        }
        // A client takes "no such toolchain" as the last word; trouble passes.
        Err(trouble.unwrap_or_else(|| Refusal::NoSuchToolchain { detail: explain(wanted, &instead) }))
    }

    /// Where the wanted compiler may be: each name along the path, then what we were told of.
    fn places(&self, wanted: &Toolchain) -> Vec<PathBuf> {
        let path = self.search_path.as_bytes();
        let named = wanted.names.iter().take(NAMES_MAX).flat_map(|name| candidates(name, path));
        let named = named.map(|candidate| candidate.as_path().to_owned());
        // An empty element of PATH is the working directory, which is no place for compilers.
        let mut places: Vec<PathBuf> = Vec::new();
        for place in named.filter(|place| place.is_absolute()).chain(self.told.iter().cloned()) {
            if places.len() < CANDIDATES_MAX && !places.contains(&place) && is_program(&place) {
                places.push(place);
            }
        }
        places
    }

    /// What a program is; `None` when it is no compiler. An error is not remembered.
    fn nature(
        &self,
        known: &mut HashMap<PathBuf, Known>,
        path: &Path,
        guard: &Guard,
    ) -> io::Result<Option<Nature>> {
        if let Some(known) = known.get(path).filter(|known| known.still_holds()) {
            return Ok(known.nature.clone());
        }
        let mut stamps = vec![(path.to_owned(), stamp(path)?)];
        let mut settings = Vec::new();
        let nature = self.ask(path, guard, &mut stamps, &mut settings)?;
        if let Some(Nature { id, banner }) = &nature {
            tracing::info!(path = %path.display(), id = %id.short(), version = banner.version, "compiler found");
        }
        let programs = stamps.len();
        stamps.extend(settings);
        known.insert(path.to_owned(), Known { stamps, programs, nature: nature.clone() });
        Ok(nature)
    }

    /// Finds out what a program is; the stamps of the programs that it starts go to `stamps`, those of what it is told
    /// besides its command line to `settings`.
    fn ask(
        &self,
        path: &Path,
        guard: &Guard,
        stamps: &mut Vec<(PathBuf, Stamp)>,
        settings: &mut Vec<(PathBuf, Stamp)>,
    ) -> io::Result<Option<Nature>> {
        let real = path.canonicalize()?;
        if basename(real.as_os_str().as_bytes()) == b"distcc" {
            return Ok(None);
        }
        let [who, programs @ ..] = QUESTIONS;
        let answer = self.answer(path, who, guard)?;
        let Some(banner) = read_banner(&String::from_utf8_lossy(&answer.stderr)) else { return Ok(None) };
        let mut digests = vec![Some(digest(&real)?)];
        for question in programs {
            let answer = self.answer(path, question, guard)?;
            let program = self.sub_program(answer.stdout.trim_ascii_end());
            if let Some(program) = &program {
                stamps.push((program.clone(), stamp(program)?));
            }
            digests.push(program.map(|program| digest(&program)).transpose()?);
        }
        let own = real.parent().filter(|_| banner.clang);
        digests.extend(settings_of(&read_settings(&answer.stderr), own, settings)?.into_iter().map(Some));
        Ok(Some(Nature { id: identify(&banner, &digests), banner }))
    }

    /// The file that a driver means by its answer: a path, or a name to be found on the path.
    fn sub_program(&self, answer: &[u8]) -> Option<PathBuf> {
        if answer.is_empty() {
            return None;
        }
        candidates(answer, self.search_path.as_bytes())
            .map(|candidate| candidate.as_path().to_owned())
            .filter(|candidate| candidate.is_absolute())
            .find(|candidate| is_program(candidate))
    }

    fn answer(&self, compiler: &Path, question: &str, guard: &Guard) -> io::Result<Answer> {
        let memory = || rustix::fs::memfd_create("answer", rustix::fs::MemfdFlags::CLOEXEC).map(File::from);
        let (mut stdout, mut stderr) = (memory()?, memory()?);
        let program = Program {
            path: compiler,
            arguments: &[question.into()],
            environment: &question_environment(&self.search_path),
            directory: Path::new("/"),
            stdout: stdout.try_clone()?,
            stderr: stderr.try_clone()?,
        };
        let limits = Limits { file_bytes: ANSWER_MAX_BYTES, ..Limits::default() };
        let (control, deadline) = (Control::default(), Instant::now() + ANSWER_TIMEOUT);
        let watch = Watch { limits: &limits, groups: None, control: &control, guard, deadline };
        let finished = watch.over(|_| process::spawn(program), None)?;
        if finished.timed_out {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if let Ended::Killed(signal) = finished.ended {
            return Err(io::Error::other(format!("signal {signal} killed it")));
        }
        Ok(Answer { stdout: read_answer(&mut stdout)?, stderr: read_answer(&mut stderr)? })
    }
}

/// The digests of what a driver is told besides its command line, `own` being the folder of a clang.
fn settings_of(
    settings: &Settings,
    own: Option<&Path>,
    stamps: &mut Vec<(PathBuf, Stamp)>,
) -> io::Result<Vec<Digest>> {
    let mut files: BTreeSet<PathBuf> = settings.files.iter().map(|path| path.as_path().to_owned()).collect();
    for folder in settings.folders.iter().map(Bytes::as_path).chain(own).filter(|folder| folder.is_dir()) {
        stamps.push((folder.to_owned(), stamp(folder)?));
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if is_setting(entry.file_name().as_bytes()) {
                files.insert(entry.path());
            }
        }
    }
    let digest_of = |file: PathBuf| {
        let text = if file.is_file() { fs::read(&file).unwrap_or_default() } else { Vec::new() };
        let digest = setting_digest(basename(file.as_os_str().as_bytes()), &text, "volunteer");
        // A link that leads nowhere says nothing until it leads somewhere.
        stamps.extend(stamp(&file).map(|stamp| (file, stamp)));
        digest
    };
    Ok(files.into_iter().map(digest_of).collect())
}

fn with_programs(path: PathBuf, known: &HashMap<PathBuf, Known>) -> Compiler {
    let stamps = known.get(&path).map(|known| &known.stamps[..known.programs]).unwrap_or_default();
    // The first is the compiler's own.
    let programs = stamps.iter().skip(1).map(|(path, _)| path.clone()).collect();
    Compiler { path, programs }
}

struct Answer {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

fn read_answer(file: &mut File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(ANSWER_MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn question_environment(search_path: &OsStr) -> [(OsString, OsString); 3] {
    [
        ("PATH".into(), search_path.to_owned()),
        ("LC_ALL".into(), "C".into()),
        // A wrapper that calls distcc would ask us for a compile of our own.
        ("_DISTCC_SAFEGUARD".into(), "1".into()),
    ]
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn digest(path: &Path) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok(Digest(*hasher.finalize().as_bytes()))
}

fn describe(path: &Path, nature: &Nature, wanted: &Toolchain) -> String {
    let path = path.display();
    match nature.banner.version == wanted.version && nature.banner.target == wanted.target {
        true => format!("{path} says the same of itself, but its programs differ"),
        false => format!("{path} is {} for {}", nature.banner.version, nature.banner.target),
    }
}

fn explain(wanted: &Toolchain, instead: &[String]) -> String {
    let wanted = format!("{} for {} is wanted", wanted.version, wanted.target);
    match instead {
        [] => format!("{wanted}; no compiler of that name is here"),
        instead => format!("{wanted}; {}", instead.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::bytes::Bytes;
    use crate::remote::testing::Machine;

    fn find(toolchains: &Toolchains, wanted: &Toolchain) -> Result<PathBuf, Refusal> {
        toolchains.find(wanted, &Guard::none()).map(|compiler| compiler.path)
    }

    #[test]
    fn a_compiler_with_the_same_programs_is_found_and_asked_once() {
        let machine = Machine::new("fakecc");
        let (toolchains, wanted) = (machine.toolchains(&[]), machine.wanted("fakecc"));
        let path = machine.path("fakecc");
        for _ in 0..3 {
            assert_eq!(find(&toolchains, &wanted), Ok(path.clone()));
        }
        assert_eq!(machine.times_asked(), QUESTIONS.len());
    }

    #[test]
    fn a_compiler_that_died_when_asked_is_trouble_and_asked_again() {
        let machine = Machine::new("fakecc");
        let (toolchains, wanted) = (machine.toolchains(&[]), machine.wanted("fakecc"));
        machine.program("fakecc", "kill -9 $$");
        assert!(matches!(find(&toolchains, &wanted), Err(Refusal::Failed { .. })));
        let again = Machine::new("fakecc");
        let copied =
            std::process::Command::new("cp").args([again.path("fakecc"), machine.path("fakecc")]).status();
        assert!(copied.unwrap().success());
        assert!(matches!(find(&toolchains, &wanted), Err(Refusal::NoSuchToolchain { .. })));
    }

    #[test]
    fn a_compiler_that_was_replaced_is_another_one() {
        let machine = Machine::new("fakecc");
        let (toolchains, wanted) = (machine.toolchains(&[]), machine.wanted("fakecc"));
        assert!(find(&toolchains, &wanted).is_ok());
        machine.program("as", "exit 1");
        let refusal = find(&toolchains, &wanted).expect_err("another assembler").to_string();
        assert!(refusal.contains("its programs differ"), "{refusal}");
    }

    #[test]
    fn a_refusal_says_what_is_here_instead() {
        let machine = Machine::new("fakecc");
        let mut wanted = machine.wanted("fakecc");
        (wanted.id, wanted.version) = (Digest::of(b"other"), "gcc version 9".to_owned());
        let refusal = find(&machine.toolchains(&[]), &wanted).expect_err("not here").to_string();
        assert!(refusal.contains("gcc version 9 for fake-linux is wanted"), "{refusal}");
        assert!(refusal.contains("fakecc is gcc version 1.2.3 (fake)"), "{refusal}");
    }

    #[test]
    fn a_name_is_never_a_path() {
        let machine = Machine::new("fakecc");
        let mut wanted = machine.wanted("fakecc");
        for name in ["/bin/sh", "../sh", "", ".", "x/y"] {
            wanted.names = vec![Bytes::from(name)];
            assert!(
                matches!(find(&machine.toolchains(&[]), &wanted), Err(Refusal::Forbidden { .. })),
                "{name}"
            );
        }
        assert_eq!(machine.times_asked(), 0);
    }

    #[test]
    fn our_own_shim_is_not_a_compiler() {
        let machine = Machine::new("distcc");
        std::os::unix::fs::symlink("distcc", machine.path("gcc")).unwrap();
        let mut wanted = machine.wanted("distcc");
        wanted.names = vec![Bytes::from("gcc")];
        assert!(find(&machine.toolchains(&[]), &wanted).is_err());
        assert_eq!(machine.times_asked(), 0);
    }

    #[test]
    fn a_compiler_that_we_were_told_of_needs_no_place_on_the_path() {
        let machine = Machine::new("hidden-cc");
        let told = machine.path("hidden-cc");
        let toolchains = machine.toolchains(&[&told]);
        let mut wanted = machine.wanted("hidden-cc");
        wanted.names = vec![Bytes::from("no-such-name-cc")];
        assert_eq!(find(&toolchains, &wanted), Ok(told));
    }
}
