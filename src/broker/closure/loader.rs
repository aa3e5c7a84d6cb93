//! Finds the libraries of a program as its loader would, without running anything.
//!
//! What decides is in the files: the program's headers name its loader, and the loader's own text
//! names the directories that it searches. The order is that of glibc (ld.so(8)): `RPATH` of the
//! file and of those that brought it in, `LD_LIBRARY_PATH`, `RUNPATH`, the cache, the usual
//! directories. musl has no cache and takes `LD_LIBRARY_PATH` first.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use object::read::ReadCache;

use super::NotClosed;
use super::cache::{self, Cache};
use super::elf::{self, ElfError, Machine, Needs};
use super::layout::Layout;
use crate::common::bytes::Bytes;
use crate::common::program::basename;

/// Libraries of one program: the largest known have some hundred.
const LIBRARIES_MAX: usize = 4096;
/// The largest loader: they have some hundred kB.
const LOADER_MAX_BYTES: u64 = 16 << 20;

/// Where the loader looks besides what files say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SearchPath {
    /// `LD_LIBRARY_PATH`.
    pub library_path: Bytes,
}

/// A file that was loaded, and by which others.
struct Loaded {
    /// By which path the loader knows it.
    path: PathBuf,
    needs: Needs,
    /// Who brought it in: an index; the program itself has none.
    by: Option<usize>,
}

/// Finds libraries, and remembers what it read.
pub struct Loader {
    library_path: Vec<PathBuf>,
    cache: Option<Cache>,
    /// The usual directories, by loader.
    usual: HashMap<PathBuf, Vec<PathBuf>>,
    /// Whether something was found through `LD_LIBRARY_PATH`.
    pub used_library_path: bool,
    /// Programs and libraries that are in already, with the loader that they were found for.
    done: BTreeSet<(PathBuf, PathBuf)>,
}

impl Loader {
    /// A loader that has read nothing.
    pub fn new(search: &SearchPath) -> Self {
        // An empty element is the working directory: no compiler's libraries are meant to be there.
        let elements = search.library_path.split(|&byte| byte == b':' || byte == b';');
        let absolute = elements.filter(|element| element.starts_with(b"/"));
        Loader {
            library_path: absolute.map(|element| Bytes::from(element).as_path().to_owned()).collect(),
            cache: None,
            usual: HashMap::new(),
            used_library_path: false,
            done: BTreeSet::new(),
        }
    }

    /// Adds the program at `path`, its loader, and the libraries of all.
    ///
    /// # Errors
    ///
    /// [`NotClosed`]: a script, something that is not ELF, a library that is not found.
    pub fn program(&mut self, layout: &mut Layout, path: &Path) -> Result<(), NotClosed> {
        let real = layout.file(path)?;
        let needs = read_needs(&real)?;
        let Some(interpreter) = needs.interpreter.clone() else {
            // Static: it needs nothing. (A library has no loader either, but cannot be run.)
            return Ok(());
        };
        let interpreter = interpreter.as_path().to_owned();
        layout.file(&interpreter)?;
        self.libraries(layout, &real, needs, &interpreter)
    }

    /// Adds the library at `path` with its libraries, as found for programs of `interpreter`.
    ///
    /// # Errors
    ///
    /// As [`Loader::program`].
    pub fn library(&mut self, layout: &mut Layout, path: &Path, interpreter: &Path) -> Result<(), NotClosed> {
        let real = layout.file(path)?;
        let needs = read_needs(&real)?;
        self.libraries(layout, path, needs, interpreter)
    }

    fn libraries(
        &mut self,
        layout: &mut Layout,
        path: &Path,
        needs: Needs,
        interpreter: &Path,
    ) -> Result<(), NotClosed> {
        if !self.done.insert((path.to_owned(), interpreter.to_owned())) {
            return Ok(());
        }
        let mut loaded = vec![Loaded { path: path.to_owned(), needs, by: None }];
        // The loader is known to all by the name in its path.
        let mut known: BTreeSet<Bytes> = BTreeSet::new();
        known.insert(Bytes::from(basename(interpreter.as_os_str().as_bytes())));
        let mut queue: VecDeque<usize> = VecDeque::from([0]);
        while let Some(at) = queue.pop_front() {
            for name in loaded[at].needs.libraries.clone() {
                if is_musl(interpreter) && is_part_of_musl(&name) || !known.insert(name.clone()) {
                    continue;
                }
                if loaded.len() >= LIBRARIES_MAX {
                    return Err(NotClosed::TooMany { path: Bytes::from(path) });
                }
                let (path, needs) = self.find(layout, &name, &loaded, at, interpreter)?;
                layout.file(&path)?;
                queue.push_back(loaded.len());
                loaded.push(Loaded { path, needs, by: Some(at) });
            }
        }
        Ok(())
    }

    /// Where the library `name` is that `loaded[at]` needs.
    fn find(
        &mut self,
        layout: &mut Layout,
        name: &Bytes,
        loaded: &[Loaded],
        at: usize,
        interpreter: &Path,
    ) -> Result<(PathBuf, Needs), NotClosed> {
        let machine = loaded[0].needs.machine;
        let missing =
            || NotClosed::Library { name: name.clone(), of: Bytes::from(loaded[at].path.as_path()) };
        if name.contains(&b'/') {
            let path = expand(name, &loaded[at].path, machine).ok_or_else(missing)?;
            return fitting(&path, machine).map(|needs| (path, needs)).ok_or_else(missing);
        }
        let musl = is_musl(interpreter);
        let own = own_paths(loaded, at, musl);
        let before: Vec<PathBuf> = if musl { Vec::new() } else { own.before };
        let library_path = std::mem::take(&mut self.library_path);
        let by_variable = |layout: &mut Layout| search(layout, &library_path, name, machine);
        let found = search(layout, &before, name, machine).map(|found| (found, false));
        let found = found.or_else(|| by_variable(layout).map(|found| (found, true)));
        self.library_path = library_path;
        if let Some((found, by_variable)) = found {
            self.used_library_path |= by_variable;
            return Ok(found);
        }
        if let Some(found) = search(layout, &own.after, name, machine) {
            return Ok(found);
        }
        if loaded[at].needs.own_paths_only {
            return Err(missing());
        }
        let usual = self.usual(layout, interpreter, machine)?;
        let by_directory = || usual.iter().find_map(|folder| fit(folder, name, machine));
        if musl {
            return by_directory().ok_or_else(missing);
        }
        match self.by_cache(layout, name, machine) {
            None => by_directory().ok_or_else(missing),
            Some((path, needs)) => {
                let plain = by_directory().filter(|(other, _)| same_file(other, &path));
                if plain.is_none() {
                    // Only the cache leads there, so it goes along.
                    layout.file(Path::new(cache::PATH))?;
                    self.variants(layout, name, machine)?;
                }
                Ok(plain.unwrap_or((path, needs)))
            }
        }
    }

    /// Adds the forms of a library for certain processors: with the cache, the loader takes the one
    /// for the processor that it runs on.
    fn variants(&self, layout: &mut Layout, name: &Bytes, machine: Machine) -> Result<(), NotClosed> {
        let paths = self.cache.iter().flat_map(|cache| cache.paths(name, machine));
        for path in paths.map(Bytes::as_path).filter(|path| fitting(path, machine).is_some()) {
            layout.file(path)?;
        }
        Ok(())
    }

    fn by_cache(&mut self, layout: &mut Layout, name: &Bytes, machine: Machine) -> Option<(PathBuf, Needs)> {
        let path = Path::new(cache::PATH);
        let cache = self.cache.get_or_insert_with(|| {
            layout.watch(path);
            Cache::read(path)
        });
        // What is made for some processors only is not what is there for all.
        let plain = |path: &&Bytes| !contains(path, b"/glibc-hwcaps/");
        let mut paths = cache.paths(name, machine).filter(plain);
        paths.find_map(|path| {
            let path = path.as_path().to_owned();
            fitting(&path, machine).map(|needs| (path, needs))
        })
    }

    /// The directories that a loader searches at last.
    fn usual(
        &mut self,
        layout: &mut Layout,
        interpreter: &Path,
        machine: Machine,
    ) -> Result<Vec<PathBuf>, NotClosed> {
        if let Some(known) = self.usual.get(interpreter) {
            return Ok(known.clone());
        }
        let usual = if is_musl(interpreter) {
            musl_directories(layout, interpreter)?
        } else {
            let text = read_loader(interpreter);
            let usual = usual_directories(&text);
            let fallback: &[&str] = if machine.wide {
                &["/lib64", "/usr/lib64", "/lib", "/usr/lib"]
            } else {
                &["/lib", "/usr/lib"]
            };
            if usual.is_empty() { fallback.iter().map(PathBuf::from).collect() } else { usual }
        };
        self.usual.insert(interpreter.to_owned(), usual.clone());
        Ok(usual)
    }
}

/// The search paths in the files themselves.
#[derive(Default)]
struct OwnPaths {
    /// Searched before `LD_LIBRARY_PATH`.
    before: Vec<PathBuf>,
    /// Searched after it.
    after: Vec<PathBuf>,
}

/// The search paths for what `loaded[at]` needs.
fn own_paths(loaded: &[Loaded], at: usize, musl: bool) -> OwnPaths {
    let mut paths = OwnPaths::default();
    let expanded = |path: &Option<Bytes>, file: &Loaded| {
        let elements = path.as_deref().unwrap_or_default().split(|&byte| byte == b':');
        let elements = elements.filter_map(|element| expand(element, &file.path, file.needs.machine));
        elements.collect::<Vec<_>>()
    };
    let this = &loaded[at];
    paths.after = expanded(&this.needs.runpath, this);
    if this.needs.runpath.is_none() || musl {
        // An RPATH counts for what it brings in as well.
        let mut next = Some(at);
        while let Some(file) = next.map(|at| &loaded[at]) {
            let inherited = if musl {
                file.needs.runpath.as_ref().or(file.needs.rpath.as_ref())
            } else {
                file.needs.rpath.as_ref()
            };
            paths.before.extend(expanded(&inherited.cloned(), file));
            next = file.by;
        }
    }
    if musl {
        paths.after = std::mem::take(&mut paths.before);
    }
    paths
}

/// Puts in what `$ORIGIN` and its like stand for; `None` for a path that is not absolute then.
fn expand(element: &[u8], file: &Path, machine: Machine) -> Option<PathBuf> {
    let origin = file.parent()?.as_os_str().as_bytes();
    let lib: &[u8] = if machine.wide { b"lib64" } else { b"lib" };
    let mut text = element.to_vec();
    for (name, value) in [(&b"ORIGIN"[..], origin), (b"LIB", lib)] {
        text = replace(&text, &[b"${", name, b"}"].concat(), value);
        text = replace(&text, &[b"$", name].concat(), value);
    }
    // `$PLATFORM` is the processor's name, which is another on another machine.
    let path = Bytes(text);
    (path.starts_with(b"/") && !path.contains(&b'$')).then(|| path.as_path().to_owned())
}

fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memmem::find(rest, from) {
        result.extend_from_slice(&rest[..at]);
        result.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    result.extend_from_slice(rest);
    result
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}

/// The first library of that name in `folders`; those that are passed over are watched.
fn search(
    layout: &mut Layout,
    folders: &[PathBuf],
    name: &Bytes,
    machine: Machine,
) -> Option<(PathBuf, Needs)> {
    folders.iter().find_map(|folder| {
        let path = folder.join(name.as_os_str());
        let found = fitting(&path, machine).map(|needs| (path.clone(), needs));
        if found.is_none() {
            let there = folder.is_dir();
            layout.watch(if there { &path } else { folder });
        }
        found
    })
}

fn fit(folder: &Path, name: &Bytes, machine: Machine) -> Option<(PathBuf, Needs)> {
    let path = folder.join(name.as_os_str());
    fitting(&path, machine).map(|needs| (path, needs))
}

/// The headers of the library at `path`, if it is one of `machine`.
fn fitting(path: &Path, machine: Machine) -> Option<Needs> {
    if !path.is_file() {
        return None;
    }
    read_needs(path).ok().filter(|needs| needs.machine == machine)
}

fn same_file(one: &Path, other: &Path) -> bool {
    let real = |path| std::fs::canonicalize(path).ok();
    real(one).is_some_and(|one| real(other) == Some(one))
}

/// The headers of the program or library at `path`.
///
/// # Errors
///
/// [`NotClosed`]: a script, or nothing that can be loaded.
pub fn read_needs(path: &Path) -> Result<Needs, NotClosed> {
    let unreadable =
        |error: std::io::Error| NotClosed::Unreadable { path: Bytes::from(path), why: error.to_string() };
    let mut file = File::open(path).map_err(unreadable)?;
    let mut begin = Vec::new();
    file.by_ref().take(2).read_to_end(&mut begin).map_err(unreadable)?;
    if begin == b"#!" {
        return Err(NotClosed::Script { path: Bytes::from(path) });
    }
    let cached = ReadCache::new(file);
    elf::read(&cached).map_err(|error| match error {
        ElfError::NotElf => NotClosed::NotElf { path: Bytes::from(path) },
        ElfError::Broken(_) => NotClosed::Broken { path: Bytes::from(path), why: error },
    })
}

fn read_loader(interpreter: &Path) -> Vec<u8> {
    let Ok(file) = File::open(interpreter) else { return Vec::new() };
    let mut text = Vec::new();
    // What cannot be read has no text; the usual directories are taken then.
    let _ = file.take(LOADER_MAX_BYTES).read_to_end(&mut text);
    text
}

/// The directories in a loader's text: the longest row of strings `/…/`, each behind the NUL of
/// the one before, as glibc has them.
fn usual_directories(text: &[u8]) -> Vec<PathBuf> {
    let mut best: Vec<&[u8]> = Vec::new();
    let mut row: Vec<&[u8]> = Vec::new();
    for string in text.split(|&byte| byte == 0) {
        // What stands before the first of them may not be a string at all.
        let is_directory = string.len() > 1
            && string.len() < 4096
            && string.starts_with(b"/")
            && string.ends_with(b"/")
            && string.iter().all(|byte| byte.is_ascii_graphic())
            && contains(string, b"lib");
        if is_directory {
            row.push(string);
            continue;
        }
        if row.len() > best.len() {
            best.clone_from(&row);
        }
        row.clear();
    }
    let trimmed = |string: &[u8]| Bytes::from(&string[..string.len() - 1]).as_path().to_owned();
    best.into_iter().map(trimmed).collect()
}

fn is_musl(interpreter: &Path) -> bool {
    basename(interpreter.as_os_str().as_bytes()).starts_with(b"ld-musl-")
}

/// Names that musl's loader takes for itself.
fn is_part_of_musl(name: &[u8]) -> bool {
    let parts: [&[u8]; 7] = [b"c", b"pthread", b"rt", b"m", b"dl", b"util", b"xnet"];
    let name = name.strip_prefix(b"lib").and_then(|name| name.strip_suffix(b".so"));
    name.is_some_and(|name| parts.contains(&name))
}

/// musl's directories: those in its file of paths, or the usual ones.
fn musl_directories(layout: &mut Layout, interpreter: &Path) -> Result<Vec<PathBuf>, NotClosed> {
    let name = basename(interpreter.as_os_str().as_bytes());
    let stem = name.strip_suffix(b".so.1").unwrap_or(name);
    let file = Bytes([b"/etc/", stem, b".path"].concat());
    let text = match layout.probe(file.as_path())? {
        Some(_) => std::fs::read(file.as_path()).unwrap_or_default(),
        None => b"/lib:/usr/local/lib:/usr/lib".to_vec(),
    };
    let elements = text.split(|&byte| byte == b':' || byte == b'\n');
    Ok(elements
        .filter(|element| element.starts_with(b"/"))
        .map(|e| Bytes::from(e).as_path().to_owned())
        .collect())
}
