//! One compile, run here and through the shim in the same directory, and everything that each of
//! the two left behind.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use crate::farm::{COMMAND_MAX, Farm, Outcome, SHIM, VolunteerOptions, run};

/// Where a compile is meant to run.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// On a volunteer.
    Remote,
    /// Here in the end, counted under this word (`LocalReason::key`).
    Local(&'static str),
    /// Here, without anybody being asked.
    Unasked,
    /// Either: only the result counts.
    Either,
}

/// A compile: files, and a command line.
#[derive(Clone, Debug)]
pub struct Scene {
    files: Vec<(OsString, Vec<u8>)>,
    links: Vec<(&'static str, &'static str)>,
    argv: Vec<OsString>,
    environment: Vec<(&'static str, &'static str)>,
    shell: Option<&'static str>,
    terminal: bool,
}

impl Scene {
    /// A command line, its words apart by single spaces.
    pub fn new(command: &str) -> Scene {
        Scene {
            files: Vec::new(),
            links: Vec::new(),
            argv: command.split(' ').map(OsString::from).collect(),
            environment: Vec::new(),
            shell: None,
            terminal: false,
        }
    }

    /// One more word of the command line, of any bytes.
    pub fn word(mut self, word: impl AsRef<[u8]>) -> Scene {
        self.argv.push(OsString::from_vec(word.as_ref().to_vec()));
        self
    }

    /// A file, of any name and content; its directories are made.
    pub fn file(mut self, name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Scene {
        self.files.push((OsString::from_vec(name.as_ref().to_vec()), content.as_ref().to_vec()));
        self
    }

    /// A symbolic link.
    pub fn link(mut self, name: &'static str, target: &'static str) -> Scene {
        self.links.push((name, target));
        self
    }

    /// An environment variable.
    pub fn env(mut self, name: &'static str, value: &'static str) -> Scene {
        self.environment.push((name, value));
        self
    }

    /// A piece of shell that ends in running the command as `"$@"`, e.g. `umask 077; exec "$@"`.
    pub fn shell(mut self, script: &'static str) -> Scene {
        self.shell = Some(script);
        self
    }

    /// With a terminal as stdin, stdout and stderr.
    pub fn terminal(mut self) -> Scene {
        self.terminal = true;
        self
    }

    /// Files of both plays are as old as each other: `__TIMESTAMP__` shows it, to a second.
    fn lay_out(&self, directory: &Path, written: SystemTime) {
        for (name, content) in &self.files {
            let path = directory.join(name);
            fs::create_dir_all(path.parent().expect("a file in our directory")).expect("our own directory");
            fs::write(&path, content).expect("our own file");
            fs::File::open(&path).and_then(|file| file.set_modified(written)).expect("our own file");
        }
        for (name, target) in &self.links {
            std::os::unix::fs::symlink(target, directory.join(name)).expect("our own link");
        }
    }

    fn command(&self, farm: &Farm, directory: &Path, shim: Option<&str>) -> Command {
        let mut words: Vec<OsString> =
            shim.map(OsString::from).into_iter().chain(self.argv.clone()).collect();
        if let Some(script) = self.shell {
            words.splice(0..0, ["sh", "-c", script, "sh"].map(OsString::from));
        }
        if self.terminal {
            words = under_a_terminal(&words);
        }
        let mut command = farm.command(&words[0]);
        command.args(&words[1..]).current_dir(directory).envs(self.environment.iter().copied());
        command
    }
}

/// The words that run other words with a terminal, whose output comes to stdout.
fn under_a_terminal(words: &[OsString]) -> Vec<OsString> {
    let quoted: Vec<String> =
        words.iter().map(|word| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"))).collect();
    ["script", "-qec", &quoted.join(" "), "/dev/null"].map(OsString::from).to_vec()
}

/// A file, link or directory as a compile left it.
#[derive(Clone, PartialEq, Eq)]
pub enum Entry {
    /// A file's mode and bytes.
    File(u32, Vec<u8>),
    /// A link's target.
    Link(PathBuf),
    /// A directory's mode.
    Directory(u32),
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Entry::File(mode, bytes) if bytes.len() <= 2000 => {
                write!(f, "file {mode:o} \"{}\"", bytes.escape_ascii())
            }
            Entry::File(mode, bytes) => write!(f, "file {mode:o} of {} bytes", bytes.len()),
            Entry::Link(target) => write!(f, "link to {}", target.display()),
            Entry::Directory(mode) => write!(f, "directory {mode:o}"),
        }
    }
}

/// Everything below a directory, by name.
pub fn snapshot(directory: &Path) -> BTreeMap<PathBuf, Entry> {
    let mut found = BTreeMap::new();
    collect(directory, Path::new(""), &mut found);
    found
}

fn collect(root: &Path, below: &Path, found: &mut BTreeMap<PathBuf, Entry>) {
    for entry in fs::read_dir(root.join(below)).expect("our own directory").flatten() {
        let name = below.join(entry.file_name());
        let path = root.join(&name);
        let metadata = fs::symlink_metadata(&path).expect("our own file");
        let mode = metadata.permissions().mode();
        let kind = metadata.file_type();
        if kind.is_symlink() {
            found.insert(name, Entry::Link(fs::read_link(&path).expect("our own link")));
        } else if kind.is_dir() {
            collect(root, &name, found);
            found.insert(name, Entry::Directory(mode));
        } else {
            found.insert(name, Entry::File(mode, fs::read(&path).unwrap_or_default()));
        }
    }
}

/// Compares scenes on one farm.
pub struct Theatre {
    farm: Farm,
    scenes: Cell<u32>,
}

impl Theatre {
    /// A theatre with two volunteers that take preprocessed texts only.
    pub fn new() -> Theatre {
        let texts = VolunteerOptions { more: &["--sandbox", "off"], ..VolunteerOptions::default() };
        Theatre { farm: Farm::with(&[texts.clone(), texts]), scenes: Cell::new(0) }
    }

    /// A theatre with a volunteer that has no compiler, no header and none of the client's files.
    pub fn bare() -> Theatre {
        let bare = VolunteerOptions { bare: true, ..VolunteerOptions::default() };
        Theatre { farm: Farm::with(&[bare]), scenes: Cell::new(0) }
    }

    /// Its farm.
    pub fn farm(&self) -> &Farm {
        &self.farm
    }

    /// Plays the scene here and through the shim, in the same directory, and fails the test where
    /// status, stdout, stderr, a file's bytes or a file's mode differ, or where the compile ran
    /// elsewhere than expected.
    pub fn check(&self, place: Place, scene: &Scene) {
        self.scenes.set(self.scenes.get() + 1);
        let directory = self.farm.work().join(format!("scene{}", self.scenes.get()));
        let written = SystemTime::now();
        let (local, local_files) = self.play(scene, &directory, None, written);
        let before = self.farm.status();
        let (remote, remote_files) = self.play(scene, &directory, Some(SHIM), written);
        let what: Vec<_> = scene.argv.iter().map(|word| shorten(word)).collect();
        assert_eq!(show(&remote), show(&local), "{what:?}: what was printed (left: distcc, right: here)");
        for name in local_files.keys().chain(remote_files.keys()) {
            let (ours, theirs) = (remote_files.get(name), local_files.get(name));
            assert_eq!(ours, theirs, "{what:?}: {} (left: distcc, right: here)", name.display());
        }
        let after = self.farm.status();
        let grew = |path: &str| {
            after.pointer(path).and_then(|v| v.as_u64()).unwrap_or(0)
                - before.pointer(path).and_then(|v| v.as_u64()).unwrap_or(0)
        };
        match place {
            Place::Remote => assert_eq!(grew("/totals/remote"), 1, "{what:?} is not remote: {after}"),
            Place::Local(key) => {
                let path = format!("/totals/local_reasons/{key}");
                assert_eq!(grew(&path), 1, "{what:?} is not local for {key}: {after}");
            }
            Place::Unasked => {
                assert_eq!(grew("/totals/remote") + grew("/totals/local"), 0, "{what:?}: {after}");
            }
            Place::Either => {
                assert_eq!(grew("/totals/remote") + grew("/totals/local"), 1, "{what:?}: {after}");
            }
        }
    }

    fn play(
        &self,
        scene: &Scene,
        directory: &Path,
        shim: Option<&str>,
        written: SystemTime,
    ) -> (Outcome, BTreeMap<PathBuf, Entry>) {
        fs::create_dir(directory).expect("our own directory");
        scene.lay_out(directory, written);
        let outcome = run(scene.command(&self.farm, directory, shim), COMMAND_MAX);
        let files = snapshot(directory);
        fs::remove_dir_all(directory).expect("our own directory");
        (outcome, files)
    }

    /// Ends the farm, with the check that nothing is left.
    pub fn close(self) {
        self.farm.finish();
    }
}

fn show(outcome: &Outcome) -> String {
    format!(
        "{}\nstdout: {}\nstderr: {}",
        outcome.status,
        String::from_utf8_lossy(&outcome.stdout),
        String::from_utf8_lossy(&outcome.stderr)
    )
}

fn shorten(word: &OsStr) -> String {
    let mut text = word.as_bytes().escape_ascii().to_string();
    text.truncate(100);
    text
}
