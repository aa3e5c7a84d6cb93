//! Following one include: where its search starts, what it finds, and entering it.

use std::sync::Arc;

use super::dates::Dates;
use super::directive::{self, Include, Unit};
use super::effects::{NO_SLOT, Way};
use super::files::{Answer, Content, Stat};
use super::macros::Builtin;
use super::paths::PathId;
use super::search::{Around, Beside, Found, Hit, Outcome, Start};
use super::symbols::{self, Sym};
use super::walk::{Name, Place, Walk};
use super::{DEPTH_MAX, Declined, ENTRIES_MAX};
use crate::common::bytes::Bytes;
use crate::common::dependencies::absolute;

/// What became of an include.
pub(super) enum Entered {
    /// The file is not read, nor will it be in this translation unit: it has said so.
    Not,
    /// It is read, or was: not again while this macro is defined.
    Under(Option<Sym>),
}

impl Walk<'_> {
    /// gcc takes files of equal bytes and time for the same, clang those of one inode.
    pub(super) fn once_key(&self, stat: Stat) -> (u64, u64, i64) {
        if self.gcc() {
            (u64::from(stat.content), 0, stat.identity.modified_s)
        } else {
            (stat.identity.device, stat.identity.inode, 0)
        }
    }

    pub(super) fn mark_once(&mut self) {
        if self.depth == 1 && !self.gcc() {
            return;
        }
        let key = self.once_key(self.place.stat);
        self.once.insert(key);
        self.recorder.once_marked(key);
    }

    pub(super) fn include(&mut self, kind: Include, name: Name) -> Result<(), Declined> {
        let start = self.start(kind, name)?;
        match kind {
            Include::Import => self.import(start, name.sym),
            Include::Plain | Include::Next => self.follow(start, name.sym),
        }
    }

    /// Where the search for `name` starts, from the file at `self.place`.
    pub(super) fn start(&mut self, kind: Include, name: Name) -> Result<Start, Declined> {
        let text = self.memory.symbols.text(name.sym);
        if text.starts_with(b"/") {
            return Ok(Start::Nowhere);
        }
        if kind == Include::Next && self.depth > 1 {
            let next = match self.place.at {
                Some(at) => Some(at + 1),
                None if self.gcc() && !self.place.unsearched => Some(0),
                None => None,
            };
            if let Some(next) = next {
                if next >= self.memory.chains.length(self.chain) {
                    return Err(self.missing(name.sym));
                }
                return Ok(Start::Chain(next));
            }
        }
        if name.angled {
            return Ok(Start::Chain(self.memory.chains.quotes(self.chain)));
        }
        if self.request.quotes_elsewhere {
            return Ok(Start::Chain(0));
        }
        if let Some(start) = self.place.beside {
            return Ok(start);
        }
        let directory = self.memory.paths.parent(self.place.path);
        // The directory is a system one or not as it was when the compiler first made it.
        let before = self.beside.get(&directory).copied();
        let system = before.unwrap_or(self.place.system);
        if before.is_none() {
            self.beside.insert(directory, system);
        }
        self.recorder.beside(directory, before, system);
        let beside = Beside { directory, relative: self.place.relative, system };
        let start = self.memory.chains.beside(beside);
        self.place.beside = Some(start);
        Ok(start)
    }

    pub(super) fn missing(&self, name: Sym) -> Declined {
        Declined::Missing {
            name: Bytes::from(self.memory.symbols.text(name)),
            from: Bytes::from(self.memory.paths.bytes(self.place.path)),
        }
    }

    /// Looks for a name; notes the search.
    pub(super) fn find(&mut self, start: Start, name: Sym) -> Result<(u32, Option<Hit>), Declined> {
        let memory = &mut *self.memory;
        let (symbols, paths) = (&mut memory.symbols, &mut memory.paths);
        let mut around = Around { symbols, paths, files: self.files, scan: self.number };
        let (index, is_new) = memory.chains.find(self.chain, start, name, &mut around);
        let Found { outcome, .. } = *memory.chains.get(index);
        if is_new {
            self.searched_anew(index);
        }
        self.recorder.searched(index);
        match outcome {
            Outcome::Hit(hit) => {
                if matches!(start, Start::Beside(_)) && hit.at.is_none() && !hit.system {
                    self.check_name_beside(hit)?;
                }
                Ok((index, Some(hit)))
            }
            Outcome::Missing => Ok((index, None)),
            Outcome::Unreadable(path) => {
                Err(Declined::Unreadable(Bytes::from(self.memory.paths.bytes(path))))
            }
        }
    }

    /// gcc knows what lies beside a system header by its real path, where that is shorter. Once there is a macro that may
    /// make a system header of any file (`_Pragma("GCC system_header")`), that must not make a difference.
    fn check_name_beside(&mut self, hit: Hit) -> Result<(), Declined> {
        // It is looked up as a macro is, so what is remembered of a file holds only where it says the same.
        if self.memory.table.get(symbols::SYSTEM_BY_MACRO).is_none() {
            return Ok(());
        }
        let path = self.memory.paths.bytes(hit.path);
        let real = self.files.real_path(path);
        match real.is_some_and(|real| self.memory.chains.is_renamed(self.chain, path, hit.relative, &real)) {
            true => Err(self.doubt("a _Pragma that may make a system header of a file that has two names")),
            false => Ok(()),
        }
    }

    /// Notes a search that is new in this translation unit, and what it rests on.
    pub(super) fn searched_anew(&mut self, index: u32) {
        let found = *self.memory.chains.get(index);
        self.searches.push(index);
        self.trails.extend(self.memory.chains.use_lane(found.lane(), self.number));
        if let Outcome::Hit(hit) = found.outcome {
            if hit.stat.fleeting {
                self.fleeting.push((index, hit));
            }
            if hit.via != hit.path {
                self.aliases.push(hit.via);
            }
        }
    }

    pub(super) fn check_depth(&mut self) -> Result<(), Declined> {
        if self.depth >= DEPTH_MAX {
            return Err(Declined::Limit("includes nested too deeply"));
        }
        self.recorder.at_depth(self.depth);
        Ok(())
    }

    pub(super) fn follow(&mut self, start: Start, name: Sym) -> Result<(), Declined> {
        self.check_depth()?;
        let (index, hit) = self.find(start, name)?;
        if std::mem::take(&mut self.fresh) {
            self.note_precompiled(index)?;
            if let (false, Some(hit)) = (self.precompiled.is_empty(), hit) {
                let from = self.order.len();
                self.enter(hit, start == Start::Nowhere, Some(index))?;
                return self.cover(from);
            }
        }
        let Some(hit) = hit else {
            return Err(match self.precompiled.first() {
                Some((path, _)) => Declined::Textless(Bytes::from(self.memory.paths.bytes(*path))),
                None => self.missing(name),
            });
        };
        let Found { done_in, entered_by, guard, .. } = *self.memory.chains.get(index);
        if done_in == self.number {
            self.recorder.once_asked(self.once_key(hit.stat), true);
            self.recorder.probed(hit.path, hit.stat.content);
            return Ok(());
        }
        if entered_by == self.number && guard.is_some_and(|guard| self.memory.table.get(guard).is_some()) {
            self.recorder.file(index);
            return Ok(());
        }
        let entered = self.enter(hit, start == Start::Nowhere, Some(index))?;
        let found = self.memory.chains.get(index);
        match entered {
            Entered::Not => found.done_in = self.number,
            Entered::Under(guard) => (found.entered_by, found.guard) = (self.number, guard),
        }
        Ok(())
    }

    /// gcc looks for `X.gch` beside every path that it tries for the first include, and takes the first
    /// that fits the compile. The one that is made itself it has emptied by then.
    pub(super) fn note_precompiled(&mut self, index: u32) -> Result<(), Declined> {
        if !self.gcc() {
            return Ok(());
        }
        let memory = &mut *self.memory;
        let made = self.request.made.map(|made| absolute(self.request.cwd, made));
        let (symbols, paths) = (&mut memory.symbols, &mut memory.paths);
        let mut around = Around { symbols, paths, files: self.files, scan: self.number };
        let (mut vain, mut rejected, mut taken) = (Vec::new(), Vec::new(), Vec::new());
        let marked = &mut memory.marked;
        let found = memory.chains.endings(index, b".gch", &mut around, &mut |(path, name), answer, files| {
            if made.as_ref().is_some_and(|made| *made == absolute(b"", name)) {
                return true;
            }
            let stat = match answer {
                Answer::Absent => {
                    vain.push(path);
                    return true;
                }
                Answer::File(stat) if !stat.fleeting => stat,
                // Nobody tells when it changes.
                Answer::File(_) | Answer::Directory | Answer::Unreadable => return false,
            };
            // One without the mark is opened and passed over. Of the others it is the compiler that
            // knows which it takes.
            let is_marked = marked
                .get(&stat.content)
                .copied()
                .unwrap_or_else(|| files.bytes(stat.content).is_none_or(|bytes| bytes.starts_with(b"gpch")));
            marked.insert(stat.content, is_marked);
            match is_marked {
                true => taken.push((path, stat)),
                false => rejected.push((path, stat.content)),
            }
            true
        });
        if let Some(path) = found {
            return Err(Declined::Precompiled(Bytes(path)));
        }
        self.no_precompiled.extend(vain);
        self.probed.extend(rejected);
        self.precompiled.extend(taken);
        Ok(())
    }

    /// clang looks for `X.pch` and `X.gch` when it is told `-include X`, and nowhere else. Whether there
    /// is one.
    pub(super) fn precompiled_prefix(&mut self, name: &[u8]) -> Result<bool, Declined> {
        let before = self.precompiled.len();
        for ending in [&b".pch"[..], b".gch"] {
            let start = if name.starts_with(b"/") { &b""[..] } else { &self.cwd };
            let path = [start, name, ending].concat();
            let sym = self.memory.symbols.intern(&path);
            if let Some(hit) = self.find(Start::Nowhere, sym)?.1 {
                self.precompiled.push((hit.path, hit.stat));
            }
        }
        Ok(self.precompiled.len() > before)
    }

    /// The text of a precompiled header that clang is told of by name: of the header that is included
    /// after it. What else might be in it is not known here.
    pub(super) fn named_precompiled(&mut self, name: &Bytes, directory: PathId) -> Result<(), Declined> {
        let of = |header: &&Bytes| {
            let ending = name.strip_prefix(&header[..]);
            ending.is_some_and(|ending| matches!(ending, b".pch" | b".gch"))
        };
        let request = self.request;
        let header = request.includes.iter().find(of);
        let header = header.ok_or_else(|| Declined::Precompiled(name.clone()))?;
        let from = self.order.len();
        self.precompiled_prefix(header)?;
        self.command_line_include(directory, header)?;
        self.cover(from)
    }

    /// What was entered from `from` on is what a precompiled header stands for. One that is older than
    /// its text may say something else.
    pub(super) fn cover(&mut self, from: usize) -> Result<(), Declined> {
        let newest = self.modified[from..].iter().max();
        if let Some((path, _)) = self
            .precompiled
            .iter()
            .find(|(_, stat)| newest.is_some_and(|&newest| stat.identity.modified_s < newest))
        {
            return Err(Declined::Stale(Bytes::from(self.memory.paths.bytes(*path))));
        }
        if self.covered.is_empty() {
            self.covered = from..self.order.len();
        }
        Ok(())
    }

    /// `__has_include` and `__has_include_next`.
    pub(super) fn has_include(&mut self, builtin: Builtin, name: Name) -> Result<bool, Declined> {
        let kind = if builtin == Builtin::HasIncludeNext { Include::Next } else { Include::Plain };
        let start = match self.start(kind, name) {
            Ok(start) => start,
            Err(Declined::Missing { .. }) => return Ok(false),
            Err(declined) => return Err(declined),
        };
        let (index, hit) = self.find(start, name.sym)?;
        if self.fresh {
            self.note_precompiled(index)?;
            if let Some((path, _)) = self.precompiled.first() {
                return Err(Declined::Precompiled(Bytes::from(self.memory.paths.bytes(*path))));
            }
        }
        if let Some(hit) = hit {
            self.probe(hit);
        }
        Ok(hit.is_some())
    }

    /// Notes a file that is opened and not read.
    pub(super) fn probe(&mut self, hit: Hit) {
        self.probed.push((hit.path, hit.stat.content));
        self.recorder.probed(hit.path, hit.stat.content);
    }

    /// Reads a file, found by the search of that index.
    pub(super) fn enter(
        &mut self,
        hit: Hit,
        unsearched: bool,
        index: Option<u32>,
    ) -> Result<Entered, Declined> {
        let key = self.once_key(hit.stat);
        let is_done = !self.once.is_empty() && self.once.contains(&key);
        self.recorder.once_asked(key, is_done);
        if is_done {
            self.probe(hit);
            return Ok(Entered::Not);
        }
        self.go_in(hit, unsearched, index)
    }

    /// The same for one that has not said that it is read once.
    pub(super) fn go_in(
        &mut self,
        hit: Hit,
        unsearched: bool,
        index: Option<u32>,
    ) -> Result<Entered, Declined> {
        if let Some(index) = index {
            self.recorder.file(index);
        }
        let unit = self.unit(hit.path, hit.stat.content)?;
        let known = self.memory.paths.is_marked(hit.path, self.number);
        if known && unit.guard.is_some_and(|guard| self.memory.table.get(guard).is_some()) {
            return Ok(Entered::Under(unit.guard));
        }
        if !known {
            self.note_entry(hit.path, hit.stat, unit.clock)?;
        }
        self.entries += 1;
        if self.entries > ENTRIES_MAX {
            return Err(Declined::Limit("files entered"));
        }
        // For clang, what lies beside its includer was found where that was found.
        let inherits = !self.gcc() && !unsearched;
        let inside = Place {
            path: hit.path,
            relative: hit.relative,
            stat: hit.stat,
            at: hit.at.or(if inherits { self.place.at } else { None }),
            system: hit.system || self.place.system,
            unsearched,
            beside: None,
        };
        let way = index.and_then(|_| self.way(&inside));
        if let (Some(index), Some(way)) = (index, way) {
            let slot = self.memory.chains.get(index).slot;
            if let Some(guard) = self.repeat(slot, way)? {
                return Ok(Entered::Under(guard));
            }
        }
        self.read(inside, &unit, index.zip(way))?;
        Ok(Entered::Under(unit.guard))
    }

    /// Walks a file, and records what that does where it is worth it.
    fn read(&mut self, inside: Place, unit: &Unit, search: Option<(u32, Way)>) -> Result<(), Declined> {
        let before = self.steps;
        let slot = search.map_or(NO_SLOT, |(index, _)| self.memory.chains.get(index).slot);
        let is_recorded = search.is_some_and(|(_, way)| self.record(slot, way));
        let outside = std::mem::replace(&mut self.place, inside);
        self.depth += 1;
        let result = self.run(unit);
        self.depth -= 1;
        self.place = outside;
        result?;
        let Some((index, _)) = search else { return Ok(()) };
        if is_recorded {
            self.finish(index, unit.guard);
        } else {
            let slot = self.memory.effects.weigh(slot, self.steps - before, self.number);
            self.memory.chains.get(index).slot = slot;
        }
        Ok(())
    }

    pub(super) fn note_entry(&mut self, path: PathId, stat: Stat, clock: Dates) -> Result<(), Declined> {
        self.memory.paths.mark(path, self.number);
        self.order.push((path, stat.content));
        self.modified.push(stat.identity.modified_s);
        self.clock |= clock;
        if !self.gcc() {
            let key = (stat.identity.device, stat.identity.inode);
            match self.inodes.get(&key) {
                Some(&first) if first != path => self.same_directory(first, path)?,
                Some(_) => {}
                None => {
                    self.inodes.insert(key, path);
                }
            }
        }
        Ok(())
    }

    /// clang knows a file by its inode and looks beside the name it saw last: two names in
    /// different directories are too much.
    pub(super) fn same_directory(&mut self, first: PathId, second: PathId) -> Result<(), Declined> {
        let mut real = |path: PathId| {
            let parent = self.memory.paths.parent(path);
            self.files.real_path(self.memory.paths.bytes(parent))
        };
        let (one, other) = (real(first), real(second));
        if one.is_some() && one == other {
            return Ok(());
        }
        Err(Declined::Doubt {
            what: "one file under two names",
            path: Bytes::from(self.memory.paths.bytes(second)),
        })
    }

    /// The lexed form of a file.
    pub(super) fn unit(&mut self, path: PathId, content: Content) -> Result<Arc<Unit>, Declined> {
        let mode = self.request.facts.mode;
        let memory = &mut *self.memory;
        let known = memory.units.get(&content).and_then(|units| units.iter().find(|(of, _)| *of == mode));
        if let Some((_, unit)) = known {
            return Ok(unit.clone());
        }
        let Some(bytes) = self.files.bytes_at(content, memory.paths.bytes(path)) else {
            return Err(Declined::Changed(Bytes::from(memory.paths.bytes(path))));
        };
        let unit = Arc::new(directive::lex(&bytes, mode, &mut memory.symbols, &mut memory.macros));
        memory.unit_bytes += unit.size();
        memory.units.entry(content).or_default().push((mode, unit.clone()));
        Ok(unit)
    }
}
