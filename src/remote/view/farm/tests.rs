//! Farms on a real file system, compared with what they should hold.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use proptest::prelude::*;

use super::super::catalogue::{Catalogue, set};
use super::*;
use crate::common::inputs::{Entry, FileEntry};
use crate::common::toolchain::Digest;

/// A store, a catalogue, and a place for farms.
struct Place {
    directory: tempfile::TempDir,
    store: Store,
    catalogue: Catalogue,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store"), 1 << 30).unwrap();
        Place { directory, store, catalogue: Catalogue::default() }
    }

    fn farm(&self) -> Farm {
        Farm::new(self.directory.path().join("farm")).unwrap()
    }

    /// A set from words: `/path=text` is a file, `/path@5=text` one with a time, `/path>target` a link, `/path` a folder.
    fn set(&self, words: &str) -> Set {
        set(words.split_whitespace().map(|word| self.catalogue.know(self.entry(word))).collect())
    }

    fn entry(&self, word: &str) -> Entry {
        if let Some((path, text)) = word.split_once('=') {
            let (path, time) = path.split_once('@').map_or((path, None), |(path, time)| (path, Some(time)));
            let digest = Digest::of(text.as_bytes());
            if !self.store.has(&Key::plain(digest)) {
                let mut file = self.store.incoming().unwrap();
                file.write_all(text.as_bytes()).unwrap();
                self.store.commit(file, &Key::plain(digest)).unwrap();
            }
            let file = FileEntry { digest, size: text.len() as u64, executable: false, twin: 0, age: 0 };
            let kind = match time {
                Some(time) => EntryKind::Dated { file, modified_s: time.parse().unwrap() },
                None => EntryKind::File(file),
            };
            Entry { path: path.into(), kind }
        } else if let Some((path, target)) = word.split_once('>') {
            Entry { path: path.into(), kind: EntryKind::Link { target: target.into() } }
        } else {
            Entry { path: word.into(), kind: EntryKind::Folder }
        }
    }
}

/// Everything in a tree, in the words of [`Place::set`], but for what every farm has.
fn contents(farm: &Farm) -> String {
    let mut found = BTreeMap::new();
    let mut folders = vec![(farm.path().to_owned(), String::new())];
    while let Some((folder, name)) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let name = format!("{name}/{}", entry.file_name().to_string_lossy());
            if matches!(name.as_str(), "/dev" | "/proc" | PRIVATE) {
                continue;
            }
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            let what = if kind.is_symlink() {
                format!(">{}", fs::read_link(path).unwrap().display())
            } else if kind.is_dir() {
                folders.push((path, name.clone()));
                String::new()
            } else {
                format!("={}", fs::read_to_string(path).unwrap())
            };
            found.insert(name, what);
        }
    }
    found.into_iter().map(|(name, what)| format!("{name}{what}")).collect::<Vec<_>>().join(" ")
}

/// What becomes of a farm that holds these sets one after the other.
fn check(sets: &[&str], expected: &str) {
    let place = Place::new();
    let mut farm = place.farm();
    for words in sets {
        farm.hold(&place.set(words), &place.store).unwrap();
    }
    assert_eq!(contents(&farm), expected, "{sets:?}");
}

#[test]
fn equal_files_have_the_times_that_the_client_says() {
    use std::os::unix::fs::MetadataExt;
    let place = Place::new();
    let mut farm = place.farm();
    for times in [["/a@5=x", "/b@7=x"], ["/a@6=x", "/b@7=x"]] {
        farm.hold(&place.set(&times.join(" ")), &place.store).unwrap();
        let found = ["a", "b"].map(|name| fs::metadata(farm.path().join(name)).unwrap());
        let expected = times.map(|word| i64::from(word.as_bytes()[3] - b'0'));
        assert_eq!(found.each_ref().map(MetadataExt::mtime), expected);
        assert_ne!(found[0].ino(), found[1].ino());
        assert!(found.iter().all(|meta| meta.mode() & 0o222 == 0));
    }
}

#[test]
fn a_farm_holds_its_set_and_nothing_else() {
    check(&["/a/b=x /a/c>b /d"], "/a /a/b=x /a/c>b /d");
    check(&["/a/b=x /a/c>b /d", ""], "");
    check(&["/a/b=x /d/e=y", "/a/b=x"], "/a /a/b=x");
    check(&["/a/b=x", "/a/b=y"], "/a /a/b=y");
}

#[test]
fn a_folder_that_is_neither_named_nor_needed_goes() {
    check(&["/a/b/c=x", "/a/d=x"], "/a /a/d=x");
    check(&["/a/b/c=x /a/b", "/a/b"], "/a /a/b");
    check(&["/a/b /a/b/c=x", "/a/b/c=x"], "/a /a/b /a/b/c=x");
    check(&["/a/b", "/a"], "/a");
}

#[test]
fn a_folder_that_was_parked_comes_back_empty() {
    let both = "/a/b/c=x /a/b/d=y /e/f";
    check(
        &[both, "/g=x", both, "/h", "/a/b /e/f/g/h/i/j"],
        "/a /a/b /e /e/f /e/f/g /e/f/g/h /e/f/g/h/i /e/f/g/h/i/j",
    );
}

#[test]
fn a_thing_may_become_one_of_another_kind() {
    check(&["/a/b=x", "/a=y"], "/a=y");
    check(&["/a=y", "/a/b=x"], "/a /a/b=x");
    check(&["/a>b", "/a/c>d"], "/a /a/c>d");
    check(&["/a/b/c=x /a/b/d=x", "/a>z"], "/a>z");
}

#[test]
fn a_link_is_never_followed_out_of_the_farm() {
    let place = Place::new();
    let outside = place.directory.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let link = format!("/l>{}", outside.display());
    for words in [format!("{link} /l/file=x"), format!("{link} /l/folder"), format!("{link} /l/more>x")] {
        let mut farm = place.farm();
        let error = farm.hold(&place.set(&words), &place.store).expect_err("a contradiction");
        assert!(matches!(error, FarmError::Contradiction(_)), "{error}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{words}");
    }
}

#[test]
fn sets_that_contradict_themselves_are_refused() {
    let place = Place::new();
    for words in
        ["/a=x /a=y", "/a=x /a/b=y", "/a>x /a=y", "/a /a=x", "/.distccd/x=y", "/dev/null=x", "/proc/self>x"]
    {
        let error = place.farm().hold(&place.set(words), &place.store).expect_err(words);
        assert!(matches!(error, FarmError::Contradiction(_)), "{words}: {error}");
    }
    place.farm().hold(&place.set("/dev /proc /a /a/b=x"), &place.store).unwrap();
}

#[test]
fn what_is_kept_in_memory_lies_among_devices() {
    let place = Place::new();
    let mut farm = place.farm();
    for words in ["/dev /dev/shm /dev/shm/a/b=x", "/a=x", "/dev/shm/c=x", "/dev /a=x", "/dev/shm"] {
        farm.hold(&place.set(words), &place.store).unwrap();
        assert!(farm.path().join("dev/null").is_file(), "{words}");
        assert_eq!(farm.path().join("dev/shm").is_dir(), words.contains("shm"), "{words}");
        assert_eq!(farm.path().join("dev/shm/a/b").is_file(), words.contains("b=x"), "{words}");
    }
}

#[test]
fn a_file_is_the_stores_own_and_a_lost_one_is_told() {
    let place = Place::new();
    let (mut farm, words) = (place.farm(), place.set("/a=x"));
    farm.hold(&words, &place.store).unwrap();
    let key = words[0].key().unwrap();
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    let stored = place.directory.path().join("store").join(key.name());
    assert_eq!(inode(&farm.path().join("a")), inode(&stored));
    fs::remove_file(stored).unwrap();
    assert_eq!(fs::read(farm.path().join("a")).unwrap(), b"x");
    let error = farm.hold(&place.set("/b=x"), &place.store).expect_err("lost");
    assert!(matches!(error, FarmError::Lost(lost) if lost == key));
    assert!(!place.store.has(&key));
}

/// Waits until whatever is changed gets a later time than what was changed before.
fn next_tick() {
    let now = || rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    let then = now();
    while now() == then {
        std::thread::yield_now();
    }
}

/// A single header was removed from a tree, and what asked for it with `__has_include` was compiled without.
#[test]
fn what_others_do_to_the_names_in_a_tree_is_seen() {
    let others: [fn(&Path); 6] = [
        |tree| fs::remove_file(tree.join("a/b")).unwrap(),
        |tree| fs::remove_dir_all(tree.join("a/c")).unwrap(),
        |tree| fs::remove_file(tree.join("dev/null")).unwrap(),
        |tree| drop(File::create_new(tree.join("a/c/d/new")).unwrap()),
        |tree| fs::rename(tree.join("a/c/d"), tree.join("a/e")).unwrap(),
        |tree| fs::set_permissions(tree.join("a"), fs::Permissions::from_mode(0o700)).unwrap(),
    ];
    for (number, others) in others.into_iter().enumerate() {
        let place = Place::new();
        let mut farm = place.farm();
        farm.hold(&place.set("/a/b=x /a/c/d>e"), &place.store).unwrap();
        farm.hold(&place.set("/a/b=x /a/c/d/f=y"), &place.store).unwrap();
        next_tick();
        assert!(farm.is_whole(), "{number}");
        others(farm.path());
        assert!(!farm.is_whole(), "{number}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn after_any_sets_a_farm_is_as_one_that_was_made_for_the_last(
        sets in prop::collection::vec(prop::collection::btree_set("/[ab](/[ab]){0,2}(=[xy]|>z|)", 0..6), 1..6),
    ) {
        let place = Place::new();
        let mut farm = place.farm();
        for words in &sets {
            let words = words.iter().cloned().collect::<Vec<_>>().join(" ");
            let mut fresh = Farm::new(place.directory.path().join("fresh")).unwrap();
            let possible = fresh.hold(&place.set(&words), &place.store).is_ok();
            let held = farm.hold(&place.set(&words), &place.store).is_ok();
            prop_assert_eq!(held, possible, "{}", words);
            if !possible {
                break;
            }
            prop_assert_eq!(contents(&farm), contents(&fresh), "{}", words);
            prop_assert!(farm.is_whole());
        }
    }
}
