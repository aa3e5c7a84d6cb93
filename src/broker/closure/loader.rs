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
use std::sync::Arc;

use object::read::ReadCache;

use super::NotClosed;
use super::cache::{self, Cache};
use super::elf::{self, ElfError, Machine, Needs};
use super::habits::Habits;
use super::layout::Layout;
use crate::common::bytes::Bytes;
use crate::common::program::basename;

/// Libraries of one program: the largest known have some hundred.
const LIBRARIES_MAX: usize = 4096;

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
    /// By loader.
    habits: HashMap<PathBuf, Arc<Habits>>,
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
            habits: HashMap::new(),
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
        let habits = self.habits(layout, interpreter, needs.machine)?;
        let mut loaded = vec![Loaded { path: path.to_owned(), needs, by: None }];
        // The loader is known to all by the name in its path.
        let mut known: BTreeSet<Bytes> = BTreeSet::new();
        known.insert(Bytes::from(basename(interpreter.as_os_str().as_bytes())));
        let mut queue: VecDeque<usize> = VecDeque::from([0]);
        while let Some(at) = queue.pop_front() {
            for name in loaded[at].needs.libraries.clone() {
                if habits.is_itself(&name) || !known.insert(name.clone()) {
                    continue;
                }
                if loaded.len() >= LIBRARIES_MAX {
                    return Err(NotClosed::TooMany { path: Bytes::from(path) });
                }
                let (path, needs) = self.find(layout, &name, &loaded, at, &habits)?;
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
        habits: &Habits,
    ) -> Result<(PathBuf, Needs), NotClosed> {
        let machine = loaded[0].needs.machine;
        let missing =
            || NotClosed::Library { name: name.clone(), of: Bytes::from(loaded[at].path.as_path()) };
        if name.contains(&b'/') {
            let path = habits.expand(name, &loaded[at].path).ok_or_else(missing)?;
            return fitting(&path, machine).map(|needs| (path, needs)).ok_or_else(missing);
        }
        let own = own_paths(loaded, at, habits);
        if let Some(found) = search(layout, &own.before, name, machine) {
            return Ok(found);
        }
        if let Some(found) = self.by_variable(layout, name, machine) {
            self.used_library_path = true;
            return Ok(found);
        }
        if let Some(found) = search(layout, &own.after, name, machine) {
            return Ok(found);
        }
        if loaded[at].needs.own_paths_only {
            return Err(missing());
        }
        let by_directory = || habits.usual.iter().find_map(|folder| fit(folder, name, machine));
        if habits.musl {
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

    /// The user's own directories may be where builds write, so only the name is watched there.
    fn by_variable(&self, layout: &mut Layout, name: &Bytes, machine: Machine) -> Option<(PathBuf, Needs)> {
        self.library_path.iter().find_map(|folder| {
            let found = fit(folder, name, machine);
            if found.is_none() {
                layout.watch(&folder.join(name.as_os_str()));
            }
            found
        })
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

    fn habits(
        &mut self,
        layout: &mut Layout,
        path: &Path,
        machine: Machine,
    ) -> Result<Arc<Habits>, NotClosed> {
        if let Some(known) = self.habits.get(path) {
            return Ok(known.clone());
        }
        let habits = Arc::new(Habits::of(layout, path, machine)?);
        self.habits.insert(path.to_owned(), habits.clone());
        Ok(habits)
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
fn own_paths(loaded: &[Loaded], at: usize, habits: &Habits) -> OwnPaths {
    let mut paths = OwnPaths::default();
    let expanded = |path: &Option<Bytes>, file: &Loaded| {
        let elements = path.as_deref().unwrap_or_default().split(|&byte| byte == b':');
        let elements = elements.filter_map(|element| habits.expand(element, &file.path));
        elements.collect::<Vec<_>>()
    };
    let this = &loaded[at];
    paths.after = expanded(&this.needs.runpath, this);
    if this.needs.runpath.is_none() || habits.musl {
        // An RPATH counts for what it brings in as well.
        let mut next = Some(at);
        while let Some(file) = next.map(|at| &loaded[at]) {
            let inherited = if habits.musl {
                file.needs.runpath.as_ref().or(file.needs.rpath.as_ref())
            } else {
                file.needs.rpath.as_ref()
            };
            paths.before.extend(expanded(&inherited.cloned(), file));
            next = file.by;
        }
    }
    if habits.musl {
        paths.after = std::mem::take(&mut paths.before);
    }
    paths
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}

/// The first library of that name in `folders`; one that appears in one before it counts.
fn search(
    layout: &mut Layout,
    folders: &[PathBuf],
    name: &Bytes,
    machine: Machine,
) -> Option<(PathBuf, Needs)> {
    folders.iter().find_map(|folder| {
        let found = fit(folder, name, machine);
        if found.is_none() {
            layout.watch(folder);
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

/// Whether `text` is somewhere in the file at `path`.
///
/// # Errors
///
/// [`NotClosed::Unreadable`].
pub fn has_text(path: &Path, text: &[u8]) -> Result<bool, NotClosed> {
    let unreadable =
        |error: std::io::Error| NotClosed::Unreadable { path: Bytes::from(path), why: error.to_string() };
    let mut file = File::open(path).map_err(unreadable)?;
    let mut buffer = vec![0; 1 << 20];
    let mut kept = 0;
    loop {
        let read = file.read(&mut buffer[kept..]).map_err(unreadable)?;
        let filled = kept + read;
        if contains(&buffer[..filled], text) {
            return Ok(true);
        }
        if read == 0 {
            return Ok(false);
        }
        // The text may begin in this part and end in the next.
        kept = filled.min(text.len().saturating_sub(1));
        buffer.copy_within(filled - kept..filled, 0);
    }
}

#[cfg(test)]
#[path = "loader_tests.rs"]
mod tests;
