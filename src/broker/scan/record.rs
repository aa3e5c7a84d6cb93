//! Recording what reading a header does, and doing it again without reading.

use super::dates::Dates;
use super::effects::{Effect, NO_SLOT, OnceKey, Way};
use super::files::Content;
use super::paths::PathId;
use super::search::{Around, Hit, Outcome};
use super::symbols::{QuickMap, QuickSet, Sym};
use super::table::Mark;
use super::walk::{Place, Walk};
use super::{DEPTH_MAX, Declined};

/// What happens to the set of files that are read once.
#[derive(Clone, Copy, Debug)]
enum Once {
    Asked(OnceKey, bool),
    Marked(OnceKey),
}

/// A header whose reading is being recorded.
#[derive(Debug)]
struct Frame {
    slot: u32,
    way: Way,
    mark: Mark,
    weight: u64,
    /// Where its part of each list begins.
    files: usize,
    probed: usize,
    searches: usize,
    once: usize,
    besides: usize,
    /// The deepest include outside of it so far, and where it is itself.
    deepest: usize,
    depth: usize,
    steps: u64,
    options: usize,
    is_spoilt: bool,
}

/// What has been recorded: one list of each kind, shared by the frames.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    frames: Vec<Frame>,
    files: Vec<u32>,
    probed: Vec<(PathId, Content)>,
    searches: Vec<u32>,
    once: Vec<Once>,
    besides: Vec<(PathId, Option<bool>, bool)>,
    /// The deepest include so far.
    deepest: usize,
}

impl Recorder {
    #[inline]
    pub fn is_on(&self) -> bool {
        !self.frames.is_empty()
    }

    #[inline]
    pub fn searched(&mut self, index: u32) {
        if self.is_on() {
            self.searches.push(index);
        }
    }

    #[inline]
    pub fn file(&mut self, index: u32) {
        if self.is_on() {
            self.files.push(index);
        }
    }

    pub fn probed(&mut self, path: PathId, content: Content) {
        if self.is_on() {
            self.probed.push((path, content));
        }
    }

    pub fn once_asked(&mut self, key: OnceKey, answer: bool) {
        if self.is_on() {
            self.once.push(Once::Asked(key, answer));
        }
    }

    pub fn once_marked(&mut self, key: OnceKey) {
        if self.is_on() {
            self.once.push(Once::Marked(key));
        }
    }

    pub fn beside(&mut self, directory: PathId, before: Option<bool>, after: bool) {
        if self.is_on() {
            self.besides.push((directory, before, after));
        }
    }

    #[inline]
    pub fn at_depth(&mut self, depth: usize) {
        self.deepest = self.deepest.max(depth);
    }

    /// What is being read depends on, or does, what effects do not tell.
    pub fn spoil(&mut self) {
        self.frames.iter_mut().for_each(|frame| frame.is_spoilt = true);
    }

    /// Options are taken back that were kept when there were `count` of them.
    pub fn options_popped(&mut self, count: usize) {
        for frame in self.frames.iter_mut().filter(|frame| count <= frame.options) {
            frame.is_spoilt = true;
        }
    }

    fn clear(&mut self) {
        *self = Recorder { deepest: self.deepest, ..Recorder::default() };
    }

    fn weight(&self) -> Option<u64> {
        self.frames.last().map(|frame| frame.weight)
    }
}

impl Walk<'_> {
    /// How a header at that place was come to; `None` where more than that matters.
    pub(super) fn way(&self, inside: &Place) -> Option<Way> {
        let is_plain = !self.fresh && !self.saw_line && !self.doubts_target;
        is_plain.then_some(Way {
            facts: self.request.facts.number,
            at: inside.at,
            system: inside.system,
            quotes_elsewhere: self.request.quotes_elsewhere,
        })
    }

    /// Does what reading the header of that slot would do, if that is known; else `None`. What
    /// is known is the macro that guards it.
    pub(super) fn repeat(&mut self, slot: u32, way: Way) -> Result<Option<Option<Sym>>, Declined> {
        let mut index = 0;
        while let Some(variant) = self.memory.effects.variants(slot).get(index) {
            let (made_at, version) = (variant.made_at, variant.version);
            if variant.way != way || !self.memory.table.fits(&variant.effect.traffic) {
                index += 1;
                continue;
            }
            let effect = variant.effect.clone();
            if !self.fits(&effect) {
                index += 1;
                continue;
            }
            let Some((made_at, version)) = self.still_stands(&effect, made_at, version) else {
                self.memory.effects.forget(slot, index);
                continue;
            };
            self.memory.effects.used(slot, index, self.number, made_at, version);
            self.apply(&effect)?;
            return Ok(Some(effect.guard));
        }
        Ok(None)
    }

    /// Whether all but macros and searches is as it was.
    fn fits(&self, effect: &Effect) -> bool {
        self.depth + effect.levels < DEPTH_MAX
            && effect.once_asked.iter().all(|&(key, answer)| self.once.contains(&key) == answer)
            && effect.besides.iter().all(|&(path, before, after)| match self.beside.get(&path) {
                Some(&system) => system == before.unwrap_or(after),
                None => before.is_none(),
            })
    }

    /// Whether the searches would find the same now; as of when that is known.
    fn still_stands(&mut self, effect: &Effect, made_at: u64, version: u64) -> Option<(u64, u64)> {
        let chains = &mut self.memory.chains;
        let same = |&lane: &u32| self.files.state(chains.trail(lane)) <= made_at;
        if !effect.is_fleeting && effect.lanes.iter().all(same) {
            return Some((made_at, version));
        }
        let memory = &mut *self.memory;
        let (symbols, paths) = (&mut memory.symbols, &mut memory.paths);
        let mut around = Around { symbols, paths, files: self.files, scan: self.number };
        for &index in &effect.searches {
            if memory.chains.refresh(self.chain, index, &mut around) > version {
                return None;
            }
        }
        Some((self.files.now(), self.memory.chains.version()))
    }

    fn apply(&mut self, effect: &Effect) -> Result<(), Declined> {
        for &index in &effect.searches {
            if self.memory.chains.get(index).used_by != self.number {
                self.memory.chains.get(index).used_by = self.number;
                self.searched_anew(index);
            }
        }
        for &lane in &effect.lanes {
            self.trails.extend(self.memory.chains.use_lane(lane, self.number));
        }
        for &index in &effect.files {
            if let Outcome::Hit(Hit { path, stat, .. }) = self.memory.chains.get(index).outcome
                && !self.memory.paths.is_marked(path, self.number)
            {
                self.note_entry(path, stat, Dates::default())?;
            }
        }
        self.probed.extend_from_slice(&effect.probed);
        self.once.extend(effect.once_marked.iter().copied());
        for &(path, before, after) in &effect.besides {
            let before = self.beside.get(&path).copied().or(before);
            self.beside.insert(path, after);
            self.recorder.beside(path, before, after);
        }
        self.clock |= effect.clock;
        self.steps += effect.weight;
        self.memory.table.repeat(&effect.traffic);
        let recorder = &mut self.recorder;
        recorder.deepest = recorder.deepest.max(self.depth + effect.levels);
        if recorder.is_on() {
            recorder.searches.extend_from_slice(&effect.searches);
            recorder.files.extend_from_slice(&effect.files);
            recorder.probed.extend_from_slice(&effect.probed);
            recorder.once.extend(effect.once_asked.iter().map(|&(key, answer)| Once::Asked(key, answer)));
            recorder.once.extend(effect.once_marked.iter().map(|&key| Once::Marked(key)));
        }
        Ok(())
    }

    /// Begins to record a header, if that is due; [`Self::finish`] must follow.
    pub(super) fn record(&mut self, slot: u32, way: Way) -> bool {
        let Some(weight) = self.memory.effects.is_due(slot, self.recorder.weight(), self.number) else {
            return false;
        };
        let mark = self.memory.table.begin();
        let recorder = &mut self.recorder;
        recorder.frames.push(Frame {
            slot,
            way,
            mark,
            weight,
            files: recorder.files.len(),
            probed: recorder.probed.len(),
            searches: recorder.searches.len(),
            once: recorder.once.len(),
            besides: recorder.besides.len(),
            deepest: recorder.deepest,
            depth: self.depth,
            steps: self.steps,
            options: self.target_saved.len(),
            is_spoilt: false,
        });
        recorder.deepest = self.depth;
        true
    }

    /// Ends the recording that began last, and keeps what it shows.
    pub(super) fn finish(&mut self, index: u32, guard: Option<Sym>) {
        let Some(frame) = self.recorder.frames.pop() else { return };
        let levels = self.recorder.deepest - frame.depth;
        self.recorder.deepest = self.recorder.deepest.max(frame.deepest);
        let traffic = self.memory.table.end(frame.mark);
        let is_settled = !self.doubts_target && self.target_saved.len() == frame.options;
        let weight = self.steps - frame.steps;
        if let Some(traffic) = traffic
            && is_settled
            && !frame.is_spoilt
        {
            let recorded = Effect { traffic, levels, weight, guard, ..Effect::default() };
            let effect = self.gather(recorded, &frame);
            let slot = match frame.slot {
                NO_SLOT => self.memory.effects.weigh(NO_SLOT, weight, self.number),
                slot => slot,
            };
            self.memory.chains.get(index).slot = slot;
            let as_of = (self.files.now(), self.memory.chains.version());
            self.memory.effects.keep(slot, frame.way, effect, self.number, as_of);
        }
        if !self.recorder.is_on() {
            self.recorder.clear();
        }
    }

    /// The lists of a frame, each thing once.
    fn gather(&mut self, mut effect: Effect, frame: &Frame) -> Effect {
        let (recorder, mode) = (&self.recorder, self.request.facts.mode);
        let mut searches = recorder.searches[frame.searches..].to_vec();
        searches.sort_unstable();
        searches.dedup();
        let mut lanes: Vec<u32> = Vec::new();
        let chains = &mut self.memory.chains;
        for &index in &searches {
            let found = chains.get(index);
            lanes.push(found.lane());
            effect.is_fleeting |= matches!(found.outcome, Outcome::Hit(hit) if hit.stat.fleeting);
        }
        lanes.sort_unstable();
        lanes.dedup();
        let mut seen = QuickSet::default();
        let mut files = Vec::new();
        for &index in &recorder.files[frame.files..] {
            if let Outcome::Hit(hit) = chains.get(index).outcome
                && seen.insert(hit.path)
            {
                files.push(index);
                let units = self.memory.units.get(&hit.stat.content);
                let unit = units.and_then(|units| units.iter().find(|(of, _)| *of == mode));
                effect.clock |= unit.map(|(_, unit)| unit.clock).unwrap_or_default();
            }
        }
        let mut probed = recorder.probed[frame.probed..].to_vec();
        probed.sort_unstable();
        probed.dedup();
        let mut asked = Vec::new();
        let mut marked: QuickMap<OnceKey, bool> = QuickMap::default();
        for once in &recorder.once[frame.once..] {
            match *once {
                Once::Asked(key, answer) => {
                    marked.entry(key).or_insert_with(|| {
                        asked.push((key, answer));
                        false
                    });
                }
                Once::Marked(key) => drop(marked.insert(key, true)),
            }
        }
        let mut directories = QuickSet::default();
        let besides = recorder.besides[frame.besides..].iter().filter(|beside| directories.insert(beside.0));
        effect.besides = besides.copied().collect();
        effect.once_asked = asked.into();
        effect.once_marked = marked.iter().filter(|(_, marked)| **marked).map(|(&key, _)| key).collect();
        (effect.searches, effect.lanes) = (searches.into(), lanes.into());
        (effect.files, effect.probed) = (files.into(), probed.into());
        effect
    }
}
