//! `#import`: an include that happens once.
//!
//! To gcc (`import` in its manual's "Alternatives to Wrapper #ifndef") and to clang alike, an imported file is
//! from then on one that is read once, as if it had said so itself; and it is not read at all where it was
//! before, by whatever directive. What is the same file is as for `#pragma once`.

use super::Declined;
use super::include::Entered;
use super::search::{Hit, Start};
use super::symbols::Sym;
use super::walk::Walk;

impl Walk<'_> {
    /// Follows one.
    pub(super) fn import(&mut self, start: Start, name: Sym) -> Result<(), Declined> {
        // What was read before decides, which effects do not tell.
        self.recorder.spoil();
        if self.fresh || !self.precompiled.is_empty() {
            // The first include may find a precompiled header, and what that has read is not known here.
            self.fresh = false;
            let (index, _) = self.find(start, name)?;
            self.note_precompiled(index)?;
            if !self.precompiled.is_empty() {
                return Err(self.doubt("#import with a precompiled header"));
            }
        }
        self.check_depth()?;
        let (index, hit) = self.find(start, name)?;
        let hit = hit.ok_or_else(|| self.missing(name))?;
        let key = self.once_key(hit.stat);
        let is_known = self.once.contains(&key) || self.was_read(hit)?;
        self.once.insert(key);
        if is_known {
            self.probe(hit);
        } else {
            let entered = self.go_in(hit, start == Start::Nowhere, Some(index))?;
            debug_assert!(matches!(entered, Entered::Under(_)));
        }
        // Whoever asks for it again is told that it is done.
        self.memory.chains.get(index).done_in = self.number;
        Ok(())
    }

    /// Whether a file, or what the compiler takes for the same, was read before, the source included.
    fn was_read(&self, hit: Hit) -> Result<bool, Declined> {
        if self.memory.paths.is_marked(hit.path, self.number) {
            return Ok(true);
        }
        if !self.gcc() {
            return Ok(self.inodes.contains_key(&(hit.stat.identity.device, hit.stat.identity.inode)));
        }
        // gcc holds it against files that it has only opened as well: under another name, of which one file
        // can have several (`c/x.h` and `./c/x.h`).
        if self.probed.iter().any(|&(_, content)| content == hit.stat.content) {
            return Err(self.doubt("#import of what was asked for before"));
        }
        let mut read = self.order.iter().zip(&self.modified);
        Ok(read.any(|(&(_, content), &modified)| {
            content == hit.stat.content && modified == hit.stat.identity.modified_s
        }))
    }
}
