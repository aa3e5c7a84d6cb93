//! Whose results count no more: volunteers that were caught with an object that this machine does not make.
//!
//! A line each in `distrusted`, in the folder of keys: who, and when it was caught, in seconds since 1970. What was
//! kept from it until then is served by no broker of this user any more. What it sent later counts if a
//! later broker asks it again; the one that has caught it does not, and keeps nothing of it either.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::broker::link::Author;
use crate::common::toolchain::Digest;
use crate::common::trust::files::{self, Stamp};

/// The longest list.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// Lines that are kept; the oldest go first. Each is one liar.
const LINES_MAX: usize = 4096;

/// Who made a result, and when it was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The digest of the author's name.
    pub author: Digest,
    /// In seconds since 1970.
    pub kept: u64,
}

impl Origin {
    /// Of what this author has sent just now.
    pub fn now(author: &Author) -> Self {
        Origin { author: Digest::of(author.0.as_bytes()), kept: now() }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Those who were caught.
#[derive(Debug, Default)]
pub struct Distrusted {
    /// Where later brokers find them; nowhere without a folder of keys.
    file: Option<PathBuf>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// What the file looked like when it was read last, if it could be.
    stamp: Option<Stamp>,
    /// Until when what they sent does not count.
    until: HashMap<Digest, u64>,
    /// Caught by this very broker.
    here: HashSet<Digest>,
}

impl Distrusted {
    /// Those in this list, which need not be there yet.
    pub fn listed_in(file: Option<PathBuf>) -> Self {
        Distrusted { file, known: Mutex::default() }
    }

    /// Somebody was caught. Blocking.
    pub fn add(&self, author: &Author) {
        let Origin { author: digest, kept: until } = Origin::now(author);
        {
            let mut known = self.known();
            known.here.insert(digest);
            known.until.insert(digest, until);
        }
        let Some(file) = &self.file else { return };
        let change = |text: &str| {
            let others = text.lines().filter(|line| line.split_whitespace().next() != Some(&*author.0));
            let line = format!("{} {until}", author.0);
            let mut lines: Vec<&str> = others.chain([line.as_str()]).collect();
            lines.drain(..lines.len().saturating_sub(LINES_MAX));
            lines.join("\n") + "\n"
        };
        let folder = file.parent().map_or(Ok(()), files::private_folder);
        if let Err(error) = folder.and_then(|()| files::edit(file, FILE_MAX_BYTES, change)) {
            tracing::error!(%error, author = %author.0, "later brokers will not know who was caught");
        }
    }

    /// Whether a kept result, or one to be kept, does not count. Blocking.
    pub fn refuses(&self, origin: &Origin) -> bool {
        let mut known = self.known();
        // A list that cannot be read might name anybody.
        if !self.read(&mut known) {
            return true;
        }
        known.here.contains(&origin.author)
            || known.until.get(&origin.author).is_some_and(|until| origin.kept <= *until)
    }

    /// Reads the list if it is another one; whether it is known what it says.
    fn read(&self, known: &mut Known) -> bool {
        let Some(file) = &self.file else { return true };
        let stamp = Stamp::of(file);
        if known.stamp.as_ref() == Some(&stamp) {
            return true;
        }
        let text = match files::list(file, FILE_MAX_BYTES) {
            Ok(text) => text,
            Err(error) => {
                tracing::error!("no kept result is used: {error}");
                return false;
            }
        };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            if let (Some(author), Some(Ok(until))) = (words.next(), words.next().map(str::parse)) {
                known.until.insert(Digest::of(author.as_bytes()), until);
            }
        }
        known.stamp = Some(stamp);
        true
    }

    /// A thread that panicked left a whole list: each change is one call.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn author(name: &str) -> Author {
        Author(name.into())
    }

    /// A folder, and where the list of one user is.
    fn place() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a directory");
        let list = folder.path().join("keys/distrusted");
        (folder, list)
    }

    #[test]
    fn what_was_kept_before_its_author_was_caught_counts_for_no_broker() {
        let (_folder, list) = place();
        let old = Origin::now(&author("liar"));
        let other = Origin::now(&author("other"));
        let [here, elsewhere] = [(); 2].map(|()| Distrusted::listed_in(Some(list.clone())));
        assert!(!here.refuses(&old) && !elsewhere.refuses(&old));
        here.add(&author("liar"));
        let later = Distrusted::listed_in(Some(list));
        for broker in [&here, &elsewhere, &later] {
            assert!(broker.refuses(&old) && !broker.refuses(&other));
        }
        // Whoever asks it again takes it at its word again; who has caught it never does.
        let fresh = Origin { kept: old.kept + 1000, ..old };
        assert!(here.refuses(&fresh) && !later.refuses(&fresh));
    }

    #[test]
    fn each_liar_has_one_line() {
        let (_folder, list) = place();
        let distrusted = Distrusted::listed_in(Some(list.clone()));
        for name in ["a", "b", "a"] {
            distrusted.add(&author(name));
        }
        let text = fs::read_to_string(list).expect("a list");
        let names: Vec<_> = text.lines().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(names, ["b", "a"]);
    }

    #[test]
    fn a_list_that_others_can_change_makes_nothing_count() {
        let (_folder, list) = place();
        files::private_folder(list.parent().expect("a folder")).expect("ours");
        fs::write(&list, "").expect("a list");
        fs::set_permissions(&list, fs::Permissions::from_mode(0o666)).expect("ours");
        assert!(Distrusted::listed_in(Some(list)).refuses(&Origin::now(&author("anybody"))));
        assert!(!Distrusted::listed_in(None).refuses(&Origin::now(&author("anybody"))));
    }
}
