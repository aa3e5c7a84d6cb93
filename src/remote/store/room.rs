//! How much a store holds, and what goes so that others can come.

use std::collections::HashMap;
use std::fs;
use std::sync::atomic::Ordering;

use super::index::{lasting, on_disk};
use super::{Key, Store};

/// Why files cannot be there at the same time; in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Shortage {
    /// They are more than the store may ever hold.
    #[error("its store is too small: one job reads {} MiB, and {} MiB may be kept (--store-size)", .needed.div_ceil(1 << 20), .room >> 20)]
    Store {
        /// What they take together.
        needed: u64,
        /// What may be there.
        room: u64,
    },
    /// The disk has not so much to spare now.
    #[error("its disk is too full: one job reads {} MiB, and there is room for {} MiB", .needed.div_ceil(1 << 20), .room >> 20)]
    Disk {
        /// What they take together.
        needed: u64,
        /// What is kept now, and what is to spare.
        room: u64,
    },
}

impl Store {
    /// How often files had to go, so that others could come. What has links to them keeps them on the disk.
    pub fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }

    /// Whether these files, by their sizes in bytes, may be there at the same time, with so many bytes of the disk to spare.
    ///
    /// # Errors
    ///
    /// Returns what they are too many for.
    pub fn could_hold(&self, files: impl Iterator<Item = (Key, u64)>, spare: u64) -> Result<(), Shortage> {
        let sizes: HashMap<Key, u64> = files.collect();
        let needed = sizes.values().fold(0, |sum: u64, size| sum.saturating_add(on_disk(*size)));
        let most = lasting(self.max_bytes);
        let now = self.index().bytes().saturating_add(spare);
        match needed {
            _ if needed > most => Err(Shortage::Store { needed, room: most }),
            _ if needed > now => Err(Shortage::Disk { needed, room: now }),
            _ => Ok(()),
        }
    }

    /// Takes out so many bytes of what was used longest ago.
    pub fn release(&self, bytes: u64) {
        let held = self.index().bytes();
        if held > 0 {
            tracing::warn!(mib = bytes >> 20, "the disk is full: stored files go");
            self.keep_at_most(held.saturating_sub(bytes));
        }
    }

    pub(super) fn make_room(&self) {
        self.keep_at_most(self.max_bytes);
    }

    fn keep_at_most(&self, max_bytes: u64) {
        let surplus = self.index().shrink(max_bytes);
        if !surplus.is_empty() {
            self.evictions.fetch_add(1, Ordering::Relaxed);
        }
        for key in surplus {
            let _ = fs::remove_file(self.path(&key));
        }
    }
}
