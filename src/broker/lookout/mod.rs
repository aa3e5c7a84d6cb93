//! Whether anything happened to what was looked at before: the kernel tells, so nobody looks at fifty files for
//! each compile to find out that a compiler is what it was.
//!
//! A path is watched along its whole way: every directory on it for the name that comes next, links as they
//! lead on, and what lies at the end. Something that happens to any of these is a *change*, and after a change
//! everything is looked at once more by whoever rests on it. Where the kernel does not tell of everything
//! ([`trust`]), nothing is taken to stand without looking.

pub(in crate::broker) mod trust;
pub(in crate::broker) mod watch;

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use self::trust::Trust;
use self::watch::{Event, Watches};
use crate::common::bytes::Bytes;

/// Directories and files that are watched: some hundred for each compiler.
const WATCHES_MAX: usize = 8192;

/// Links that a path may cross, as in the kernel (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// Watches what others look at.
#[derive(Debug)]
pub struct Lookout(Mutex<State>);

/// When something was last seen to stand.
#[derive(Debug, Default)]
pub struct Seen(AtomicU64);

/// The value of [`Seen`] where the kernel does not tell.
const UNTOLD: u64 = u64::MAX;

#[derive(Debug)]
struct State {
    watches: Option<Watches>,
    interests: HashMap<i32, Interest>,
    /// Changes so far, and one.
    changes: u64,
}

/// What of a watched thing matters.
#[derive(Debug)]
enum Interest {
    /// A file as such.
    File,
    /// These names in a directory.
    Names(HashSet<OsString>),
    /// All names in a directory.
    AllNames,
}

impl Default for Lookout {
    fn default() -> Self {
        let (watches, interests) = (Watches::new(), HashMap::new());
        Lookout(Mutex::new(State { watches, interests, changes: 1 }))
    }
}

impl Lookout {
    /// Whether something that rests on `paths` stands: as it was `seen` to, while nothing has changed since,
    /// else as `look` finds. Paths are absolute.
    pub fn stands<'a>(
        &self,
        seen: &Seen,
        paths: impl IntoIterator<Item = &'a Path>,
        look: impl FnOnce() -> bool,
    ) -> bool {
        let known = seen.0.load(Ordering::Relaxed);
        if known == UNTOLD {
            return look();
        }
        let at = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.catch_up();
            if state.changes == known {
                return true;
            }
            let told = paths.into_iter().all(|path| state.follow(path));
            // What happens from here on is a change again.
            state.catch_up();
            if told { state.changes } else { UNTOLD }
        };
        let stands = look();
        seen.0.store(if stands || at == UNTOLD { at } else { 0 }, Ordering::Relaxed);
        stands
    }
}

impl Seen {
    /// Whether the kernel does not tell of changes to it.
    pub fn is_untold(&self) -> bool {
        self.0.load(Ordering::Relaxed) == UNTOLD
    }
}

impl State {
    fn catch_up(&mut self) {
        let Some(mut watches) = self.watches.take() else { return };
        watches.drain(&mut |event| self.event(event));
        self.watches = Some(watches);
    }

    fn event(&mut self, event: Event<'_>) {
        let matters = match event {
            Event::Anything => true,
            Event::Itself { watch } => self.interests.contains_key(&watch),
            Event::Gone { watch } => self.interests.remove(&watch).is_some(),
            Event::Name { watch, name, .. } => match self.interests.get(&watch) {
                Some(Interest::Names(names)) => names.contains(OsStr::from_bytes(name)),
                Some(Interest::AllNames) => true,
                Some(Interest::File) | None => false,
            },
        };
        self.changes += u64::from(matters);
    }

    /// Watches a path along its whole way; whether all that can happen to it will be told.
    fn follow(&mut self, path: &Path) -> bool {
        let words = |path: &Path| path.iter().map(OsStr::to_owned).collect::<VecDeque<OsString>>();
        let (mut at, mut rest, mut links) = (PathBuf::from("/"), words(path), 0);
        while let Some(name) = rest.pop_front() {
            match name.as_bytes() {
                b"/" => at = PathBuf::from("/"),
                b"." => {}
                // No link is left in what was gone.
                b".." => drop(at.pop()),
                _ => {
                    if !self.directory(&at, Some(&name)) {
                        return false;
                    }
                    let next = at.join(&name);
                    match fs::symlink_metadata(&next) {
                        // That it comes is told.
                        Err(error) => {
                            return matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
                        }
                        Ok(found) if found.is_symlink() => {
                            links += 1;
                            let Ok(target) = fs::read_link(&next) else { return false };
                            if links > LINKS_MAX {
                                return true;
                            }
                            words(&target).into_iter().rev().for_each(|word| rest.push_front(word));
                        }
                        Ok(found) if found.is_dir() => at = next,
                        Ok(_) if rest.is_empty() => return self.file(&next),
                        // Nothing lies beneath a file, as long as it is one.
                        Ok(_) => return true,
                    }
                }
            }
        }
        self.directory(&at, None)
    }

    fn file(&mut self, path: &Path) -> bool {
        let Some(watch) = self.watches.as_ref().and_then(|watches| watches.file(&Bytes::from(path))) else {
            return false;
        };
        self.interests.entry(watch).or_insert(Interest::File);
        self.interests.len() <= WATCHES_MAX
    }

    /// Watches a directory for a name, or for all.
    fn directory(&mut self, path: &Path, name: Option<&OsStr>) -> bool {
        let Some(watches) = self.watches.as_ref() else { return false };
        let Some(watch) = watches.directory(&Bytes::from(path)) else { return false };
        if !self.interests.contains_key(&watch) {
            let trust = fs::File::open(path).map_or(Trust::Nothing, |directory| trust::trust(&directory));
            if trust != Trust::Notifications || self.interests.len() >= WATCHES_MAX {
                return false;
            }
        }
        let interest = self.interests.entry(watch).or_insert_with(|| Interest::Names(HashSet::new()));
        match (interest, name) {
            (Interest::Names(names), Some(name)) if !names.contains(name) => {
                names.insert(name.to_owned());
            }
            (interest @ Interest::Names(_), None) => *interest = Interest::AllNames,
            _ => {}
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::os::unix::fs::symlink;

    use super::*;

    struct Scene {
        root: tempfile::TempDir,
        lookout: Lookout,
        seen: Seen,
        looks: Cell<usize>,
    }

    impl Scene {
        fn new() -> Self {
            let root = tempfile::tempdir().expect("a directory");
            Scene { root, lookout: Lookout::default(), seen: Seen::default(), looks: Cell::new(0) }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.root.path().join(name)
        }

        /// Asks whether these stand; whether it was looked.
        fn looked(&self, names: &[&str]) -> bool {
            let before = self.looks.get();
            let paths: Vec<PathBuf> = names.iter().map(|name| self.path(name)).collect();
            let look = || {
                self.looks.set(before + 1);
                true
            };
            assert!(self.lookout.stands(&self.seen, paths.iter().map(PathBuf::as_path), look));
            self.looks.get() > before
        }

        /// Something happens, and is noticed once.
        fn check(&self, names: &[&str], what: &str, happens: impl FnOnce(&Scene)) {
            self.looked(names);
            assert!(!self.looked(names), "nothing happened before: {what}");
            happens(self);
            assert!(self.looked(names), "{what}");
            assert!(!self.looked(names), "nothing happened since: {what}");
        }
    }

    #[test]
    fn every_change_on_the_way_is_noticed() {
        let scene = Scene::new();
        fs::create_dir_all(scene.path("a/b")).expect("made");
        fs::create_dir(scene.path("c")).expect("made");
        fs::write(scene.path("a/b/gcc-1"), "1").expect("written");
        symlink("../a/b/gcc-1", scene.path("c/gcc")).expect("linked");
        if !scene.lookout.0.lock().expect("no panic").follow(&scene.path("c/gcc")) {
            // Nothing is taken to stand here without looking.
            assert!(scene.looked(&["c/gcc"]) && scene.looked(&["c/gcc"]));
            return;
        }
        let all = ["c/gcc", "none/gcc", "c/as"];
        scene.check(&all, "written in place", |s| fs::write(s.path("a/b/gcc-1"), "2").expect("written"));
        scene.check(&all, "replaced", |s| {
            fs::write(s.path("a/b/new"), "3").expect("written");
            fs::rename(s.path("a/b/new"), s.path("a/b/gcc-1")).expect("renamed");
        });
        scene.check(&all, "relinked", |s| {
            fs::write(s.path("a/gcc-2"), "4").expect("written");
            fs::remove_file(s.path("c/gcc")).expect("removed");
            symlink("../a/gcc-2", s.path("c/gcc")).expect("linked");
        });
        scene.check(&all, "written behind the new link", |s| {
            fs::write(s.path("a/gcc-2"), "5").expect("written");
        });
        scene.check(&all, "a name that was missing", |s| fs::write(s.path("c/as"), "").expect("written"));
        scene.check(&all, "a folder that was missing", |s| fs::create_dir(s.path("none")).expect("made"));
        scene.check(&all, "a file in it", |s| fs::write(s.path("none/gcc"), "").expect("written"));
        scene.check(&all, "a folder on the way is moved", |s| {
            fs::rename(s.path("a"), s.path("d")).expect("renamed");
        });
        scene.check(&all, "and comes back", |s| fs::rename(s.path("d"), s.path("a")).expect("renamed"));
        scene.check(&all, "through another name of the file", |s| {
            fs::hard_link(s.path("a/gcc-2"), s.path("other")).expect("linked");
            fs::write(s.path("other"), "6").expect("written");
        });
    }

    #[test]
    fn what_happens_beside_is_no_change() {
        let scene = Scene::new();
        fs::write(scene.path("gcc"), "1").expect("written");
        scene.looked(&["gcc"]);
        if scene.seen.is_untold() {
            return;
        }
        fs::write(scene.path("a.o"), "1").expect("written");
        fs::remove_file(scene.path("a.o")).expect("removed");
        assert!(!scene.looked(&["gcc"]));
    }

    #[test]
    fn a_folder_stands_with_all_that_is_in_it() {
        let scene = Scene::new();
        fs::create_dir(scene.path("gconv")).expect("made");
        scene.looked(&["gconv"]);
        if scene.seen.is_untold() {
            return;
        }
        scene.check(&["gconv"], "a new name", |s| fs::write(s.path("gconv/x.so"), "").expect("written"));
    }

    #[test]
    fn what_does_not_stand_is_looked_at_again() {
        let scene = Scene::new();
        let path = scene.path("gcc");
        for _ in 0..2 {
            assert!(!scene.lookout.stands(&scene.seen, [path.as_path()], || false));
        }
        assert!(scene.lookout.stands(&scene.seen, [path.as_path()], || true));
    }
}
