//! The farms that there are, and which one suits a job best.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::catalogue::{Set, distance};
use super::farm::Farm;
use crate::remote::root::make_missing;

/// A farm that is this near to the set is taken without looking at others.
const NEAR: usize = 8;

/// A farm of which more than one in so many entries would change is left as it is, as long as there may
/// be another one: to make one takes some times as long as that.
const FAR_DIVISOR: usize = 2;

/// Bounded: as many farms as there may be jobs at once, and as many again that keep the trees of
/// other projects.
#[derive(Debug)]
pub struct Pool {
    root: PathBuf,
    max: usize,
    state: Mutex<State>,
    next: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// The one used last comes last.
    idle: Vec<Farm>,
    /// All of them, those in use included.
    count: usize,
    /// [`Store::look`](crate::remote::store::Store::look) when it was last asked.
    epoch: u64,
    /// [`Store::evictions`](crate::remote::store::Store::evictions) when it was last asked.
    evictions: u64,
}

impl Pool {
    /// No farms yet; they will be beneath `root`, which must be on the store's file system.
    pub fn new(root: &Path, max: usize) -> Self {
        Pool { root: root.to_owned(), max, state: Mutex::default(), next: AtomicU64::new(1) }
    }

    /// A farm for this set, which it need not hold yet. It is to be given back, or dropped through
    /// [`Self::discard`].
    ///
    /// # Errors
    ///
    /// Returns what making a new one returns.
    pub fn take(&self, set: &Set) -> io::Result<Farm> {
        while let Some(farm) = self.take_idle(set) {
            if farm.is_whole() {
                return Ok(farm);
            }
            self.discard(farm);
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let made = Farm::new(self.root.join(number.to_string()));
        if made.is_err() {
            self.state().count -= 1;
        }
        made
    }

    /// The farm that suits best; `None` where another one is to be made, which is counted.
    fn take_idle(&self, set: &Set) -> Option<Farm> {
        let mut state = self.state();
        let may_grow = state.count < self.max;
        match nearest(&state.idle, set) {
            Some((index, distance)) if !may_grow || distance <= set.len() / FAR_DIVISOR => {
                Some(state.idle.remove(index))
            }
            _ => {
                state.count += 1;
                None
            }
        }
    }

    /// Makes the folder of all farms again, where somebody removed it.
    ///
    /// # Errors
    ///
    /// Returns what the file system returns.
    pub fn mend(&self) -> io::Result<()> {
        if make_missing(&self.root, 0o755)? {
            self.forsake();
        }
        Ok(())
    }

    /// The job that had this farm is over.
    pub fn give(&self, farm: Farm) {
        let mut state = self.state();
        state.idle.push(farm);
        // More jobs at once than there may be farms: the oldest goes, outside of the lock.
        let surplus = if state.count > self.max { Some(state.idle.remove(0)) } else { None };
        if let Some(surplus) = surplus {
            state.count -= 1;
            drop(state);
            drop(surplus);
        }
    }

    /// Lets go of all idle farms: what is no more in the store takes room on the disk for as long as a farm has it.
    pub fn forsake(&self) {
        let idle = {
            let mut state = self.state();
            state.count -= state.idle.len();
            std::mem::take(&mut state.idle)
        };
        drop(idle);
    }

    /// Lets go of all idle farms where stored files, to which they have links, were changed since.
    pub fn renew(&self, epoch: u64) {
        if std::mem::replace(&mut self.state().epoch, epoch) != epoch {
            self.forsake();
        }
    }

    /// Lets go of all idle farms where files went out of the store since: a farm may have links to them, and then they still
    /// take room on the disk.
    pub fn shed(&self, evictions: u64) {
        if std::mem::replace(&mut self.state().evictions, evictions) != evictions {
            self.forsake();
        }
    }

    /// This farm is not what it should be.
    pub fn discard(&self, farm: Farm) {
        self.state().count -= 1;
        drop(farm);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which farm is the nearest, and how far it is; among equals the one used last.
fn nearest(idle: &[Farm], set: &Set) -> Option<(usize, usize)> {
    let mut best: Option<(usize, usize)> = None;
    for (index, farm) in idle.iter().enumerate().rev() {
        let far = distance(farm.set(), set);
        if best.is_none_or(|(_, nearest)| far < nearest) {
            best = Some((index, far));
        }
        if far <= NEAR {
            break;
        }
    }
    best
}

#[cfg(test)]
mod tests;
