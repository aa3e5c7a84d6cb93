//! Every entry that any client has named, by a number of our own.
//!
//! Clients number entries link by link; a farm that served one link should serve another without
//! comparing paths. So each entry gets one number here, for as long as anybody holds it, and a set
//! is a list of them in the order of their numbers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::common::inputs::Entry;
use crate::remote::store::Key;

/// An entry with its number.
#[derive(Debug)]
pub struct Known {
    /// No other entry has ever had it.
    pub number: u64,
    /// What it is.
    pub entry: Arc<Entry>,
}

impl Known {
    /// Which file of the store it is, if it is a file.
    pub fn key(&self) -> Option<Key> {
        self.entry.kind.file().map(Key::from)
    }
}

/// Entries in the order of their numbers, each once.
pub type Set = Arc<[Arc<Known>]>;

/// Makes a set.
pub fn set(mut entries: Vec<Arc<Known>>) -> Set {
    entries.sort_unstable_by_key(|known| known.number);
    entries.dedup_by_key(|known| known.number);
    entries.into()
}

/// Gives out the numbers.
#[derive(Debug, Default)]
pub struct Catalogue {
    known: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    by_entry: HashMap<Arc<Entry>, Weak<Known>>,
    next: u64,
    /// At this size those that nobody holds are looked for.
    sweep_at: usize,
}

/// Below this many entries nothing is swept.
const SWEEP_MIN: usize = 64 << 10;

impl Catalogue {
    /// The one value for this entry.
    pub fn know(&self, entry: Entry) -> Arc<Known> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = known.by_entry.get(&entry).and_then(Weak::upgrade) {
            return there;
        }
        if known.by_entry.len() >= known.sweep_at.max(SWEEP_MIN) {
            known.by_entry.retain(|_, held| held.strong_count() > 0);
            known.sweep_at = known.by_entry.len() * 2;
        }
        known.next += 1;
        let entry = Arc::new(entry);
        let fresh = Arc::new(Known { number: known.next, entry: Arc::clone(&entry) });
        known.by_entry.insert(entry, Arc::downgrade(&fresh));
        fresh
    }
}

/// What is in one set and not in the other.
#[derive(Debug, Default)]
pub struct Difference {
    /// Only in the first.
    pub gone: Vec<Arc<Known>>,
    /// Only in the second.
    pub fresh: Vec<Arc<Known>>,
}

/// Compares two sets.
pub fn difference(old: &[Arc<Known>], new: &[Arc<Known>]) -> Difference {
    let mut found = Difference::default();
    walk(old, new, |known| found.gone.push(Arc::clone(known)), |known| found.fresh.push(Arc::clone(known)));
    found
}

/// How many entries are in one of two sets and not in the other.
pub fn distance(old: &[Arc<Known>], new: &[Arc<Known>]) -> usize {
    let count = std::cell::Cell::new(0);
    walk(old, new, |_| count.set(count.get() + 1), |_| count.set(count.get() + 1));
    count.get()
}

fn walk(
    old: &[Arc<Known>],
    new: &[Arc<Known>],
    mut gone: impl FnMut(&Arc<Known>),
    mut fresh: impl FnMut(&Arc<Known>),
) {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    loop {
        match (old.peek(), new.peek()) {
            (Some(left), Some(right)) if left.number == right.number => {
                old.next();
                new.next();
            }
            (Some(left), Some(right)) if left.number > right.number => {
                fresh(right);
                new.next();
            }
            (Some(left), _) => {
                gone(left);
                old.next();
            }
            (None, Some(right)) => {
                fresh(right);
                new.next();
            }
            (None, None) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::inputs::EntryKind;

    fn folder(path: &str) -> Entry {
        Entry { path: path.into(), kind: EntryKind::Folder }
    }

    fn paths(entries: &[Arc<Known>]) -> Vec<String> {
        entries.iter().map(|known| known.entry.path.to_text()).collect()
    }

    #[test]
    fn an_entry_has_one_number_while_it_is_held_and_never_that_of_another() {
        let catalogue = Catalogue::default();
        let first = catalogue.know(folder("/a"));
        assert!(Arc::ptr_eq(&first, &catalogue.know(folder("/a"))));
        let link = Entry { path: "/a".into(), kind: EntryKind::Link { target: "b".into() } };
        assert_ne!(catalogue.know(link).number, first.number);
        let number = first.number;
        drop(first);
        assert_ne!(catalogue.know(folder("/a")).number, number);
    }

    #[test]
    fn two_sets_are_compared_entry_by_entry() {
        let catalogue = Catalogue::default();
        let make =
            |names: &str| set(names.split_whitespace().map(|name| catalogue.know(folder(name))).collect());
        let all = make("/a /b /c /d /e");
        for (old, new, gone, fresh) in [
            ("/a /b /c", "/b /c /d", vec!["/a"], vec!["/d"]),
            ("", "/e /a", vec![], vec!["/a", "/e"]),
            ("/a /e", "", vec!["/a", "/e"], vec![]),
            ("/a /c /a", "/c /a", vec![], vec![]),
            ("/a /c /e", "/b /d", vec!["/a", "/c", "/e"], vec!["/b", "/d"]),
        ] {
            let found = difference(&make(old), &make(new));
            assert_eq!((paths(&found.gone), paths(&found.fresh)), (to_strings(&gone), to_strings(&fresh)));
            assert_eq!(distance(&make(old), &make(new)), gone.len() + fresh.len());
        }
        assert_eq!(all.len(), 5);
    }

    fn to_strings(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }
}
