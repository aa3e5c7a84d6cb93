//! The end of a walk: what was found, what it rests on, and whether that still stands.

use std::ops::Range;
use std::sync::Arc;

use super::dates::Dates;
use super::files::{Content, Files, Trail};
use super::modules::Mentioned;
use super::paths::{PathId, Paths};
use super::search::{Around, Hit, Outcome};
use super::walk::Memory;
use super::{Scan, Scanned};
use crate::common::bytes::Bytes;

/// What a walk has found, in the memory's own numbers, and what it rests on.
#[derive(Clone, Debug, Default)]
pub struct Walked {
    pub(super) files: Box<[(PathId, Content)]>,
    pub(super) probed: Box<[(PathId, Content)]>,
    pub(super) aliases: Box<[PathId]>,
    pub(super) searches: Box<[u32]>,
    pub(super) no_precompiled: Box<[PathId]>,
    pub(super) precompiled: Box<[(PathId, Content)]>,
    pub(super) covered: Range<usize>,
    pub(super) clock: Dates,
    pub(super) modules: Mentioned,
    /// [`Files::now`] when it ended: a scan takes changes in at its beginning, and looks at what
    /// tells of none before it uses it.
    pub(super) ended: u64,
    pub(super) chain: u32,
    pub(super) trails: Box<[Trail]>,
    pub(super) fleeting: Box<[(u32, Hit)]>,
}

impl Walked {
    /// Memory in use, in bytes, nearly.
    pub fn size(&self) -> usize {
        (self.files.len() + self.probed.len() + self.precompiled.len()) * 8
            + (self.aliases.len() + self.searches.len() + self.trails.len()) * 4
            + self.fleeting.len() * size_of::<(u32, Hit)>()
            + self.modules.imports.iter().map(|name| name.len() + size_of::<Bytes>()).sum::<usize>()
            + size_of::<Walked>()
    }

    /// Whether another walk would find the same: nothing that this one looked at has changed
    /// since it ended.
    pub fn stands(&self, memory: &mut Memory, files: &mut dyn Files) -> bool {
        if !self.trails.iter().all(|&trail| files.state(trail) <= self.ended) {
            return false;
        }
        if self.fleeting.is_empty() {
            return true;
        }
        memory.scans += 1;
        self.fleeting.iter().all(|&(index, hit)| {
            let mut around =
                Around { symbols: &mut memory.symbols, paths: &mut memory.paths, files, scan: memory.scans };
            memory.chains.again(self.chain, index, &mut around) == Outcome::Hit(hit)
        })
    }

    /// The answer that is given away.
    pub fn show(&self, memory: &mut Memory, files: &mut dyn Files, list_absent: bool) -> Scan {
        let shown = |list: &[(PathId, Content)], paths: &mut Paths| -> Vec<Scanned> {
            list.iter().map(|&(path, content)| Scanned { path: paths.shared(path), content }).collect()
        };
        let mut scan = Scan {
            files: shown(&self.files, &mut memory.paths),
            probed: shown(&self.probed, &mut memory.paths),
            precompiled: shown(&self.precompiled, &mut memory.paths),
            covered: self.covered.clone(),
            aliases: self.aliases.iter().map(|&path| memory.paths.shared(path)).collect(),
            absent: Vec::new(),
            clock: self.clock,
            modules: self.modules.clone(),
        };
        if list_absent {
            let paths = &mut memory.paths;
            let mut seen: std::collections::BTreeSet<Arc<[u8]>> =
                self.no_precompiled.iter().map(|&path| paths.shared(path)).collect();
            let scan_number = memory.scans;
            let around = Around { symbols: &mut memory.symbols, paths, files, scan: scan_number };
            for &index in &self.searches {
                memory.chains.tried(index, &around, &mut |path| {
                    seen.insert(path.into());
                });
            }
            scan.absent = seen.into_iter().collect();
        }
        scan
    }
}
