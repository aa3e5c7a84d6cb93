//! Effects of whole headers: what reading one does, kept together with all that this depends on.
//!
//! Where the same holds again, the effects are had without reading. What they depend on: the
//! macros that were asked for before the header changed them itself, what its searches found,
//! which files were marked `#pragma once`, how its includers' directories were first seen, and
//! how it was itself found. What else could matter (line markers, options of pragmas that stay changed, macros
//! pushed on one side and popped on the other, the depth of includes) keeps effects from being
//! kept at all ([`super::record`]).

use std::sync::Arc;

use super::dates::Dates;
use super::files::Content;
use super::paths::PathId;
use super::table::Traffic;

/// How gcc or clang tell files apart that are read once.
pub(super) type OnceKey = (u64, u64, i64);

/// A header that takes less work than this is simply read.
const WEIGHT_MIN: u64 = 150;
/// Effects of one header that are kept, by what was in force.
const VARIANTS_MAX: usize = 4;
/// What effects may take in all, in bytes.
const BYTES_MAX: usize = 48 << 20;

/// No slot.
pub(super) const NO_SLOT: u32 = u32::MAX;

/// What reading a header did.
#[derive(Debug, Default)]
pub(super) struct Effect {
    pub traffic: Traffic,
    /// Searches that found the files that were read, or would have been but for their guard.
    pub files: Box<[u32]>,
    pub probed: Box<[(PathId, Content)]>,
    /// All searches, and the lanes that they went along.
    pub searches: Box<[u32]>,
    pub lanes: Box<[u32]>,
    /// Whether any of them must be made anew in each scan.
    pub is_fleeting: bool,
    pub once_asked: Box<[(OnceKey, bool)]>,
    pub once_marked: Box<[OnceKey]>,
    /// Directories, whether they were known to be system ones, and whether they then were.
    pub besides: Box<[(PathId, Option<bool>, bool)]>,
    /// Includes within includes.
    pub levels: usize,
    pub weight: u64,
    pub clock: Dates,
    pub guard: Option<super::symbols::Sym>,
}

impl Effect {
    fn size(&self) -> usize {
        (self.traffic.reads.len() + self.traffic.writes.len() + self.probed.len()) * 8
            + (self.files.len() + self.searches.len() + self.lanes.len()) * 4
            + self.once_asked.len() * 32
            + self.once_marked.len() * 24
            + self.besides.len() * 8
            + size_of::<Variant>()
            + size_of::<Effect>()
    }
}

/// How the header was come to, as far as its search does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub facts: u32,
    pub at: Option<u16>,
    pub system: bool,
    pub quotes_elsewhere: bool,
}

/// Effects under certain conditions.
#[derive(Clone, Debug)]
pub(super) struct Variant {
    pub way: Way,
    pub effect: Arc<Effect>,
    /// When its searches were last known to stand.
    pub made_at: u64,
    /// [`super::search::Chains::version`] at that time.
    pub version: u64,
    used_by: u32,
}

/// A header by the search that finds it.
#[derive(Debug)]
struct Slot {
    weight: u64,
    /// The scan that first read it.
    first: u32,
    variants: Vec<Variant>,
    /// How often effects were kept, and how often they were of use.
    kept: u32,
    uses: u32,
}

/// All effects that are kept.
#[derive(Debug, Default)]
pub(super) struct Effects {
    slots: Vec<Slot>,
    bytes: usize,
    uses: u64,
    /// Keep everything at once, however small: for tests.
    pub is_eager: bool,
}

impl Effects {
    /// Memory in use, in bytes, nearly.
    pub fn size(&self) -> usize {
        self.bytes + self.slots.len() * size_of::<Slot>()
    }

    /// How often effects were of use.
    pub fn uses(&self) -> u64 {
        self.uses
    }

    /// What is kept for the header of that slot.
    pub fn variants(&self, slot: u32) -> &[Variant] {
        self.slots.get(slot as usize).map_or(&[], |slot| &slot.variants)
    }

    /// Notes that the effects were used, and that they stand as of now.
    pub fn used(&mut self, slot: u32, index: usize, scan: u32, made_at: u64, version: u64) {
        let slot = &mut self.slots[slot as usize];
        slot.uses = slot.uses.saturating_add(1);
        self.uses += 1;
        let variant = &mut slot.variants[index];
        (variant.used_by, variant.made_at, variant.version) = (scan, made_at, version);
        slot.variants[..=index].rotate_right(1);
    }

    /// Forgets effects that no longer stand.
    pub fn forget(&mut self, slot: u32, index: usize) {
        let slot = &mut self.slots[slot as usize];
        let variant = slot.variants.remove(index);
        slot.kept = slot.kept.saturating_sub(1);
        self.bytes -= variant.effect.size();
    }

    /// Notes what it took to read a header; the number of its slot, if it is worth one.
    pub fn weigh(&mut self, slot: u32, weight: u64, scan: u32) -> u32 {
        if let Some(known) = self.slots.get_mut(slot as usize) {
            known.weight = weight;
            return slot;
        }
        if weight < WEIGHT_MIN && !self.is_eager {
            return NO_SLOT;
        }
        self.slots.push(Slot { weight, first: scan, variants: Vec::new(), kept: 0, uses: 0 });
        self.slots.len() as u32 - 1
    }

    /// Whether to record what reading a header does, within a recording of one that weighs
    /// `outer`; its weight.
    pub fn is_due(&self, slot: u32, outer: Option<u64>, scan: u32) -> Option<u64> {
        if self.is_eager {
            return Some(0);
        }
        let slot = self.slots.get(slot as usize)?;
        // Recordings within recordings cost again what they have in them: half at most, so that
        // all together they cost little more than one.
        let is_small = outer.is_none_or(|outer| slot.weight * 2 <= outer);
        // What never fits is not tried for ever.
        let is_of_use = slot.kept < VARIANTS_MAX as u32 + slot.uses / 2;
        (slot.first != scan && is_small && is_of_use && slot.weight >= WEIGHT_MIN).then_some(slot.weight)
    }

    /// Keeps effects.
    pub fn keep(&mut self, slot: u32, way: Way, effect: Effect, scan: u32, as_of: (u64, u64)) {
        let Some(entry) = self.slots.get_mut(slot as usize) else { return };
        self.bytes += effect.size();
        entry.kept = entry.kept.saturating_add(1);
        if entry.variants.len() >= VARIANTS_MAX
            && let Some(last) = entry.variants.pop()
        {
            self.bytes -= last.effect.size();
        }
        let (made_at, version) = as_of;
        let effect = Arc::new(effect);
        entry.variants.insert(0, Variant { way, effect, made_at, version, used_by: scan });
        if self.bytes > BYTES_MAX {
            self.halve();
        }
    }

    /// Forgets all effects.
    pub fn clear(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.variants.clear());
        self.bytes = 0;
    }

    /// Forgets the half that was not used for longest.
    fn halve(&mut self) {
        let mut ages: Vec<u32> =
            self.slots.iter().flat_map(|slot| &slot.variants).map(|variant| variant.used_by).collect();
        let middle = ages.len() / 2;
        let (_, &mut age, _) = ages.select_nth_unstable(middle);
        for slot in &mut self.slots {
            slot.variants.retain(|variant| variant.used_by > age);
        }
        let left = self.slots.iter().flat_map(|slot| &slot.variants);
        self.bytes = left.map(|variant| variant.effect.size()).sum();
    }
}
