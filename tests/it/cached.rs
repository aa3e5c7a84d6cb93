//! Kept results: found again when everything is the same, and never otherwise.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::farm::{COMMAND_MAX, Farm, Outcome, SHIM, VolunteerOptions, kept_results, names, run, wait_until};

mod disk;
mod keys;
mod modules;
mod partial;

/// A farm whose client keeps results.
struct Cached {
    farm: Farm,
    /// Where.
    folder: PathBuf,
}

/// What a compile left: the object, and what was printed.
#[derive(Debug, PartialEq, Eq)]
struct Made {
    object: Vec<u8>,
    outcome: Outcome,
}

/// One compile: a folder of the work directory, the words of its command, and more variables.
#[derive(Clone, Copy)]
struct Line<'a> {
    folder: &'a str,
    words: &'a str,
    environment: &'a [(&'a str, &'a str)],
}

impl<'a> Line<'a> {
    fn new(folder: &'a str, words: &'a str) -> Self {
        Line { folder, words, environment: &[] }
    }

    fn with(self, environment: &'a [(&'a str, &'a str)]) -> Self {
        Line { environment, ..self }
    }
}

impl Cached {
    fn new() -> Cached {
        let farm = Farm::with(&[VolunteerOptions { bare: true, ..VolunteerOptions::default() }]);
        let folder = farm.home().parent().expect("a farm").join("cache");
        Cached { farm, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.farm.work().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("our own folder");
        fs::write(path, text).expect("our own file");
    }

    /// What this compile leaves here.
    fn here(&self, line: Line<'_>) -> Made {
        self.play(line, None)
    }

    /// What it leaves through distcc, which must be the same.
    fn compile(&self, line: Line<'_>) -> Made {
        let made = self.play(line, Some(SHIM));
        let here = self.here(line);
        assert!(made == here, "{} in {}: {:?} {:?}", line.words, line.folder, made.outcome, here.outcome);
        made
    }

    fn play(&self, line: Line<'_>, shim: Option<&str>) -> Made {
        let folder = self.path(line.folder);
        let words: Vec<&str> = shim.into_iter().chain(line.words.split(' ')).collect();
        let mut command = self.command(words[0]);
        command.args(&words[1..]).current_dir(&folder).envs(line.environment.iter().copied());
        let outcome = run(command, COMMAND_MAX).expect_success(line.words);
        let object = fs::read(folder.join("a.o")).expect("an object");
        fs::remove_file(folder.join("a.o")).expect("it was there");
        Made { object, outcome }
    }

    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = self.farm.command(program.as_ref());
        command.env("DISTCC_CACHE", &self.folder);
        command
    }

    /// Compiles what is new, and waits until its result is kept.
    fn compile_anew(&self, line: Line<'_>) -> Made {
        let (counts, kept) = (self.counts(), self.kept());
        let made = self.compile(line);
        assert_eq!(self.counts(), (counts.0 + 1, counts.1), "{} in {}", line.words, line.folder);
        wait_until("the result is kept", COMMAND_MAX, || self.kept() > kept);
        made
    }

    /// Compiles what was compiled before.
    fn compile_again(&self, line: Line<'_>) -> Made {
        let counts = self.counts();
        let made = self.compile(line);
        assert_eq!(self.counts(), (counts.0, counts.1 + 1), "{} in {}", line.words, line.folder);
        made
    }

    /// Jobs that were remote, and those that were found.
    fn counts(&self) -> (u64, u64) {
        (self.farm.total("remote"), self.farm.total("cached"))
    }

    /// The files of all results.
    fn results(&self) -> Vec<PathBuf> {
        let below = |folder: &Path| {
            let folder = folder.to_owned();
            names(&folder).into_iter().map(move |name| folder.join(name)).collect::<Vec<_>>()
        };
        let is_folder = |path: &&PathBuf| path.is_dir();
        below(&self.folder).iter().filter(is_folder).flat_map(|folder| below(folder)).collect()
    }

    fn kept(&self) -> usize {
        kept_results(&self.folder)
    }
}
