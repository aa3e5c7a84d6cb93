//! What clang looks at in places that a command names, before it decides which headers it takes: the gcc of
//! `--gcc-toolchain`, the system of `--sysroot`.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::layout::{Layout, Watched};
use super::{Digests, NotClosed, clang};
use crate::broker::stamp::Stamp;
use crate::common::inputs::Entry;

/// Places remembered; beyond it the memory starts afresh.
const REMEMBERED_MAX: usize = 64;

/// What a place is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A prefix below which a gcc is installed.
    Gcc,
    /// The root of a system.
    Sysroot,
}

/// Places that were looked at.
#[derive(Debug, Default)]
pub struct Places(Mutex<HashMap<(Kind, PathBuf), Arc<Place>>>);

/// What is in a place, and what tells that this still stands.
#[derive(Debug)]
pub struct Place {
    /// Sorted by path.
    pub entries: Vec<Entry>,
    watched: Vec<Watched>,
}

impl Places {
    /// What clang looks at in a place. Blocking.
    ///
    /// # Errors
    ///
    /// [`NotClosed`] says what stands in the way.
    pub fn at(&self, kind: Kind, path: &Path, digests: &Digests) -> Result<Arc<Place>, NotClosed> {
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (kind, path.to_owned());
        let before = known().get(&key).cloned();
        if let Some(place) = before.filter(|place| place.stands()) {
            return Ok(place);
        }
        let mut layout = Layout::default();
        match kind {
            Kind::Gcc => clang::add_prefix(&mut layout, path, &mut BTreeSet::new())?,
            Kind::Sysroot => clang::add_sysroot(&mut layout, path)?,
        }
        let (entries, watched) = layout.finish(digests)?;
        let place = Arc::new(Place { entries, watched });
        let mut known = known();
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        known.insert(key, Arc::clone(&place));
        Ok(place)
    }
}

impl Place {
    fn stands(&self) -> bool {
        self.watched.iter().all(|(path, stamp)| Stamp::at(path) == *stamp)
    }
}
