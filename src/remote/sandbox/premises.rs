//! What of this machine a job sees that comes as a text: its compilers, and nothing of its users.
//!
//! The system's programs, libraries and headers, under their own names, read-only; and for a compiler
//! that is kept elsewhere, its own folder and those beside it in which compilers keep their parts.
//! Nothing of `/home`, `/root`, `/var`, `/run`; of `/etc` what says which compiler and which library a
//! name means. The tree over which all that is mounted is made once; a place that a compiler of another
//! folder needs is added when it is first asked for.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::remote::root::make_missing;
use crate::remote::view::farm::Farm;

/// Folders of programs, libraries and headers. What is a link here is the same link there.
const SYSTEM: [&str; 9] =
    ["/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin", "/nix/store", "/gnu/store"];

/// What else decides what a compiler is, or what it does unasked.
const SETTINGS: [&str; 3] = ["/etc/alternatives", "/etc/ld.so.cache", "/etc/clang"];

/// By these clang knows the system that it works on. They are copied.
const NAMES_OF_SYSTEMS: [&str; 7] = [
    "/etc/os-release",
    "/etc/lsb-release",
    "/etc/debian_version",
    "/etc/redhat-release",
    "/etc/alpine-release",
    "/etc/gentoo-release",
    "/etc/SuSE-release",
];

/// Parts of a compiler beside the folder `bin` that it is in.
const PARTS: [&str; 7] = ["lib", "lib32", "lib64", "libx32", "libexec", "include", "share"];

/// The tree, and what is to be mounted over it.
#[derive(Debug)]
pub struct Premises {
    place: PathBuf,
    jobs: PathBuf,
    root: PathBuf,
    laid_out: Mutex<LaidOut>,
}

/// The tree as it is.
#[derive(Debug)]
struct LaidOut {
    /// Owns it; `None` while there is none.
    farm: Option<Farm>,
    /// What every job sees.
    common: Vec<PathBuf>,
    /// What a compiler of this path needs besides.
    known: HashMap<PathBuf, Arc<[PathBuf]>>,
}

impl Premises {
    /// The tree, in a folder that is made; jobs work beneath `jobs`.
    ///
    /// # Errors
    ///
    /// Returns what the file system returns.
    pub fn new(place: PathBuf, jobs: &Path) -> io::Result<Self> {
        let laid_out = LaidOut { farm: None, common: Vec::new(), known: HashMap::new() };
        let root = Farm::path_in(&place);
        let premises = Premises { place, jobs: jobs.to_owned(), root, laid_out: Mutex::new(laid_out) };
        premises.lay_out(&mut premises.laid_out())?;
        Ok(premises)
    }

    /// Makes the tree, in the place of what is left of one.
    fn lay_out(&self, now: &mut LaidOut) -> io::Result<()> {
        *now = LaidOut { farm: None, common: Vec::new(), known: HashMap::new() };
        let _ = fs::remove_dir_all(&self.place);
        let farm = Farm::new(self.place.clone())?;
        fs::create_dir(self.root.join("tmp"))?;
        let mut common = Vec::new();
        for path in SYSTEM.iter().chain(&SETTINGS).map(PathBuf::from) {
            match fs::read_link(&path) {
                Ok(target) => {
                    self.place(path.parent().unwrap_or(&path), true)?;
                    std::os::unix::fs::symlink(target, self.within(&path))?;
                }
                Err(_) if path.exists() => {
                    self.place(&path, path.is_dir())?;
                    common.push(path);
                }
                Err(_) => {}
            }
        }
        for path in NAMES_OF_SYSTEMS.iter().map(PathBuf::from) {
            if let Ok(text) = fs::read(&path) {
                self.place(&path, false)?;
                fs::write(self.within(&path), text)?;
            }
        }
        self.place(&self.jobs, true)?;
        (now.farm, now.common) = (Some(farm), common);
        Ok(())
    }

    /// Makes the tree again, where somebody removed it, or some of it.
    ///
    /// # Errors
    ///
    /// Returns what the file system returns.
    pub fn mend(&self) -> io::Result<()> {
        let mut now = self.laid_out();
        let is_there = |path: &PathBuf| path.starts_with("/tmp") || self.within(path).exists();
        let places = [PathBuf::from("/proc"), PathBuf::from("/dev/null"), self.jobs.clone()];
        if now.farm.as_ref().is_some_and(Farm::is_there)
            && self.root.join("tmp").exists()
            && places
                .iter()
                .chain(&now.common)
                .chain(now.known.values().flat_map(|paths| &**paths))
                .all(is_there)
        {
            return Ok(());
        }
        self.lay_out(&mut now)
    }

    /// The tree over which things are mounted.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn laid_out(&self) -> MutexGuard<'_, LaidOut> {
        self.laid_out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that a job sees with these programs: its compiler, and what that starts.
    ///
    /// # Errors
    ///
    /// Returns that no place can be made for it.
    pub fn seen_with(&self, programs: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
        let mut now = self.laid_out();
        let mut seen = now.common.clone();
        for program in programs {
            for path in self.needed_by(program, &mut now)?.iter() {
                if !seen.iter().any(|other| path.starts_with(other)) {
                    seen.push(path.clone());
                }
            }
        }
        Ok(seen)
    }

    /// The same where a job has no view of its own, and what is copied into that besides.
    ///
    /// # Errors
    ///
    /// Returns that no place can be made for it.
    pub fn readable_with(&self, programs: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
        let mut paths = self.seen_with(programs)?;
        paths.extend(NAMES_OF_SYSTEMS.iter().map(PathBuf::from));
        Ok(paths)
    }

    fn needed_by(&self, program: &Path, now: &mut LaidOut) -> io::Result<Arc<[PathBuf]>> {
        if let Some(paths) = now.known.get(program) {
            return Ok(Arc::clone(paths));
        }
        let mut paths = parts(program);
        if let Ok(real) = program.canonicalize()
            && real != program
        {
            paths.extend(parts(&real));
        }
        // What is a link here is one in the tree, and its target is there.
        let is_there = |path: &PathBuf| path.ancestors().any(|above| self.within(above).is_symlink());
        paths.retain(|path| !now.common.iter().any(|other| path.starts_with(other)) && path.is_dir());
        paths.retain(|path| !is_there(path));
        paths.sort_unstable();
        paths.dedup();
        for path in &paths {
            self.place(path, true)?;
        }
        let paths: Arc<[PathBuf]> = paths.into();
        now.known.insert(program.to_owned(), Arc::clone(&paths));
        Ok(paths)
    }

    fn within(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Makes a place for a folder or a file. In `/tmp` each job makes its own.
    fn place(&self, path: &Path, is_folder: bool) -> io::Result<()> {
        if path.starts_with("/tmp") {
            return Ok(());
        }
        let folder = if is_folder { Some(path) } else { path.parent() };
        let mut place = self.root.clone();
        for name in folder.into_iter().flat_map(|folder| folder.strip_prefix("/").unwrap_or(folder)) {
            place.push(name);
            make_missing(&place, 0o755)?;
        }
        if is_folder { Ok(()) } else { fs::File::create(self.within(path)).map(drop) }
    }
}

/// The folders that a compiler's parts are in, if it is laid out as compilers are.
fn parts(program: &Path) -> Vec<PathBuf> {
    let Some(folder) = program.parent().filter(|folder| folder.parent().is_some()) else { return Vec::new() };
    let mut parts = vec![folder.to_owned()];
    let prefix = folder.parent().filter(|prefix| prefix.parent().is_some());
    if let Some(prefix) = prefix.filter(|_| folder.ends_with("bin")) {
        parts.extend(PARTS.iter().map(|part| prefix.join(part)));
        // A cross compiler keeps its assembler, headers and libraries in a folder of its target's name.
        let entries = fs::read_dir(prefix).into_iter().flatten().flatten();
        let of_target = |name: &std::ffi::OsStr| name.to_string_lossy().matches('-').count() >= 2;
        parts.extend(entries.filter(|entry| of_target(&entry.file_name())).map(|entry| entry.path()));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn premises(directory: &Path) -> Premises {
        Premises::new(directory.join("premises"), &directory.join("jobs")).unwrap()
    }

    #[test]
    fn nothing_of_users_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let premises = premises(directory.path());
        let seen = premises.seen_with(&["/usr/bin/gcc".into()]).unwrap();
        assert!(seen.contains(&PathBuf::from("/usr")), "{seen:?}");
        let names: Vec<_> = fs::read_dir(premises.root().join("etc"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        for name in ["passwd", "shadow", "hostname", "hosts"] {
            assert!(!names.contains(&name.to_owned()), "{names:?}");
        }
        for path in ["home", "root", "var", "run"] {
            assert!(!premises.root().join(path).exists(), "{path}");
            assert!(!seen.iter().any(|seen| seen.starts_with(Path::new("/").join(path))), "{seen:?}");
        }
    }

    #[test]
    fn a_compiler_that_is_kept_elsewhere_brings_its_parts_and_not_its_neighbours() {
        let directory = tempfile::tempdir().unwrap();
        let prefix = directory.path().join("gcc-99");
        for folder in ["bin", "lib", "libexec", "arm-none-eabi", "secrets"] {
            fs::create_dir_all(prefix.join(folder)).unwrap();
        }
        fs::write(prefix.join("bin/gcc"), "").unwrap();
        let link = directory.path().join("links/cc");
        fs::create_dir(directory.path().join("links")).unwrap();
        std::os::unix::fs::symlink(prefix.join("bin/gcc"), &link).unwrap();
        let seen = premises(directory.path()).seen_with(&[link]).unwrap();
        let mut own: Vec<_> =
            seen.iter().filter_map(|path| path.strip_prefix(directory.path()).ok()).collect();
        own.sort();
        let expected = ["gcc-99/arm-none-eabi", "gcc-99/bin", "gcc-99/lib", "gcc-99/libexec", "links"];
        assert_eq!(own, expected.map(Path::new));
    }

    #[test]
    fn a_compiler_whose_folder_is_a_link_needs_no_place_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let premises = premises(directory.path());
        let plain = premises.seen_with(&[]).unwrap();
        assert_eq!(premises.seen_with(&["/bin/sh".into(), "/usr/bin/env".into()]).unwrap(), plain);
        assert!(Path::new("/bin").is_symlink() == premises.root().join("bin").is_symlink());
    }

    #[test]
    fn what_was_removed_of_the_tree_is_there_again() {
        let directory = tempfile::tempdir().unwrap();
        let premises = premises(directory.path());
        let names = || {
            let entries = fs::read_dir(premises.root()).unwrap();
            let names: std::collections::BTreeSet<_> =
                entries.map(|entry| entry.unwrap().file_name()).collect();
            names
        };
        let before = names();
        for gone in
            ["premises", "premises/tree", "premises/tree/usr", "premises/tree/tmp", "premises/tree/dev"]
        {
            fs::remove_dir_all(directory.path().join(gone)).unwrap();
            premises.mend().unwrap();
            assert_eq!(names(), before, "{gone}");
            assert!(!premises.seen_with(&[]).unwrap().is_empty(), "{gone}");
        }
    }

    #[test]
    fn a_program_at_the_top_does_not_bring_everything() {
        assert_eq!(parts(Path::new("/gcc")), [] as [PathBuf; 0]);
        assert_eq!(parts(Path::new("/bin/gcc")), [PathBuf::from("/bin")]);
    }
}
