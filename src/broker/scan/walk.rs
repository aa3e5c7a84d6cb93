//! One translation unit: enters files as the compiler would, directive by directive.

use std::ops::Range;
use std::sync::Arc;

use super::dates::Dates;
use super::directive::{Directive, Pragma, Unit};
use super::effects::Effects;
use super::files::{Content, Files, Identity, Stat, Trail};
use super::macros::{MacroId, Macros, UNDEFINED};
use super::modules::Mentioned;
use super::paths::{PathId, Paths};
use super::record::Recorder;
use super::saved::{self, Saved};
use super::search::{Chains, Hit, Start};
use super::symbols::{self, QuickMap, QuickSet, Sym, Symbols};
use super::table::Table;
use super::token::Mode;
use super::value::Value;
use super::walked::Walked;
use super::{Declined, Facts, Family, Oracle, Scan, Search, TOKENS_MAX};
use crate::common::bytes::Bytes;

/// How often a unit is walked anew because macros turn out to ask for files.
const WALKS_MAX: usize = 50;

/// `-D` or `-U`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Setting {
    /// What a `#define` line would say.
    Define(Vec<u8>),
    /// The name.
    Undefine(Vec<u8>),
}

/// One translation unit to scan.
#[derive(Debug)]
pub struct Request<'a> {
    /// The source, as the compiler is given it.
    pub main: &'a [u8],
    /// The working directory, absolute.
    pub cwd: &'a [u8],
    /// What the compiler says of itself.
    pub facts: &'a Facts,
    /// Where includes are looked for: [`Memory::chain`].
    pub chain: u32,
    /// `-D` and `-U` in order.
    pub settings: &'a [Setting],
    /// `-imacros` in order.
    pub imacros: &'a [Bytes],
    /// `-include` in order.
    pub includes: &'a [Bytes],
    /// So many of the last of them have no precompiled form that would be taken.
    pub included_plainly: usize,
    /// What is made. gcc empties it before it looks for precompiled headers.
    pub made: Option<&'a Bytes>,
    /// Headers that stand in front of those, in the form of this precompiled one (clang).
    pub precompiled: Option<&'a Bytes>,
    /// `-I-`: quotes do not look beside their file.
    pub quotes_elsewhere: bool,
}

/// What is remembered between translation units.
#[derive(Debug, Default)]
pub struct Memory {
    pub(super) symbols: Symbols,
    pub(super) macros: Macros,
    pub(super) table: Table,
    pub(super) saved: Saved,
    pub(super) paths: Paths,
    pub(super) chains: Chains,
    pub(super) effects: Effects,
    pub(super) units: QuickMap<Content, Vec<(Mode, Arc<Unit>)>>,
    pub(super) unit_bytes: usize,
    pub(super) predefined: QuickMap<u32, Arc<[(Sym, MacroId)]>>,
    pub(super) settings: std::collections::HashMap<Setting, (Sym, MacroId)>,
    pub(super) scans: u32,
    /// Which contents gcc would take for a precompiled header.
    pub(super) marked: QuickMap<Content, bool>,
}

impl Memory {
    /// Keeps effects of every header at once, however small: for tests.
    pub fn keep_all_effects(&mut self) {
        self.effects.is_eager = true;
    }

    /// Whether conditions were left out that ask for files, as has turned out since. The files that they are in
    /// are lexed anew when they are read again.
    fn lacks_conditions(&mut self) -> bool {
        let missed = self.macros.missed(&self.symbols);
        if missed.is_empty() {
            return false;
        }
        for units in self.units.values_mut() {
            units.retain(|(_, unit)| !unit.left_out.iter().any(|name| missed.contains(name)));
        }
        // What reading them does was found out without these.
        self.effects.clear();
        true
    }

    /// The number of a search chain.
    pub fn chain(&mut self, search: &Search, cwd: &[u8], facts: &Facts) -> u32 {
        let slash: &[u8] = if cwd.ends_with(b"/") { b"" } else { b"/" };
        self.chains.number(search, &[cwd, slash].concat(), facts.family, facts.canonical)
    }

    /// Memory in use, in bytes, nearly.
    pub fn size(&self) -> usize {
        self.symbols.size()
            + self.macros.size()
            + self.paths.size()
            + self.chains.size()
            + self.unit_bytes
            + self.effects.size()
    }
}

/// The file being walked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) path: PathId,
    pub(super) relative: bool,
    pub(super) stat: Stat,
    pub(super) at: Option<u16>,
    pub(super) system: bool,
    /// Found without a search: the source itself, or by an absolute name.
    pub(super) unsearched: bool,
    /// Where quoted names are looked for from here, once that is known.
    pub(super) beside: Option<Start>,
}

/// How an include names its file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    pub(super) sym: Sym,
    pub(super) angled: bool,
}

pub(super) struct Walk<'a> {
    pub(super) memory: &'a mut Memory,
    pub(super) files: &'a mut dyn Files,
    pub(super) oracle: &'a mut dyn Oracle,
    pub(super) request: &'a Request<'a>,
    pub(super) place: Place,
    pub(super) main: PathId,
    /// Files that are open, the source included.
    pub(super) depth: usize,
    pub(super) tokens_left: usize,
    pub(super) cwd: Vec<u8>,
    pub(super) saw_line: bool,
    /// The file that the last `#line` named.
    pub(super) shown: Option<Sym>,
    /// Arguments of the macro that is being evaluated in place.
    pub(super) parameters: Vec<Value>,
    pub(super) chain: u32,
    pub(super) number: u32,
    pub(super) entries: usize,
    pub(super) recorder: Recorder,
    /// What has been done so far: directives and tokens of expansion.
    pub(super) steps: u64,
    pub(super) order: Vec<(PathId, Content)>,
    /// When each of those was modified.
    pub(super) modified: Vec<i64>,
    pub(super) probed: Vec<(PathId, Content)>,
    pub(super) aliases: Vec<PathId>,
    pub(super) searches: Vec<u32>,
    pub(super) trails: Vec<Trail>,
    /// Findings that no state of a trail vouches for.
    pub(super) fleeting: Vec<(u32, Hit)>,
    /// Names of precompiled headers that were looked for in vain.
    pub(super) no_precompiled: Vec<PathId>,
    /// Precompiled headers that may be taken for the text of the first include.
    pub(super) precompiled: Vec<(PathId, Stat)>,
    /// Which part of `order` that text is.
    pub(super) covered: Range<usize>,
    pub(super) once: QuickSet<(u64, u64, i64)>,
    pub(super) inodes: QuickMap<(u64, u64), PathId>,
    pub(super) beside: QuickMap<PathId, bool>,
    /// No include has been followed yet, so a precompiled header would be taken.
    pub(super) fresh: bool,
    pub(super) target_changed: bool,
    pub(super) optimize_changed: bool,
    /// Only target options depend on the condition being evaluated.
    pub(super) inert: bool,
    pub(super) target_saved: Vec<(bool, bool)>,
    pub(super) target_uncertain: bool,
    /// Any of the three.
    pub(super) doubts_target: bool,
    pub(super) clock: Dates,
    /// What was said of modules so far.
    pub(super) modules: Mentioned,
}

/// Finds the files that one compile reads.
///
/// # Errors
///
/// [`Declined`] with the reason, when the scanner is not certain.
pub fn scan(
    request: &Request<'_>,
    memory: &mut Memory,
    files: &mut dyn Files,
    oracle: &mut dyn Oracle,
) -> Result<Scan, Declined> {
    let walked = walk(request, memory, files, oracle)?;
    Ok(walked.show(memory, files, true))
}

/// [`scan`], without the names looked for in vain, for one who remembers.
///
/// # Errors
///
/// [`Declined`] with the reason, when the scanner is not certain.
pub fn walk(
    request: &Request<'_>,
    memory: &mut Memory,
    files: &mut dyn Files,
    oracle: &mut dyn Oracle,
) -> Result<Walked, Declined> {
    for _ in 0..WALKS_MAX {
        let walked = walk_once(request, memory, files, oracle);
        let lacks_marks = memory.saved.is_grown();
        if lacks_marks {
            memory.effects.clear();
        }
        if !memory.lacks_conditions() && !lacks_marks {
            return walked;
        }
    }
    Err(Declined::Limit("macros that ask for files"))
}

fn walk_once(
    request: &Request<'_>,
    memory: &mut Memory,
    files: &mut dyn Files,
    oracle: &mut dyn Oracle,
) -> Result<Walked, Declined> {
    memory.scans += 1;
    let mut cwd = request.cwd.to_vec();
    if cwd.last() != Some(&b'/') {
        cwd.push(b'/');
    }
    let number = memory.scans;
    memory.table.clear();
    let stat = Stat { content: 0, identity: Identity::default(), size: 0, fleeting: false };
    let place =
        Place { path: 0, relative: false, stat, at: None, system: false, unsearched: true, beside: None };
    let mut walk = Walk {
        memory,
        files,
        oracle,
        request,
        place,
        main: 0,
        depth: 1,
        tokens_left: TOKENS_MAX,
        cwd,
        saw_line: false,
        shown: None,
        parameters: Vec::new(),
        chain: request.chain,
        number,
        entries: 0,
        recorder: Recorder::default(),
        steps: 0,
        order: Vec::new(),
        modified: Vec::new(),
        probed: Vec::new(),
        aliases: Vec::new(),
        searches: Vec::new(),
        trails: Vec::new(),
        fleeting: Vec::new(),
        no_precompiled: Vec::new(),
        precompiled: Vec::new(),
        covered: 0..0,
        once: QuickSet::default(),
        inodes: QuickMap::default(),
        beside: QuickMap::default(),
        fresh: true,
        target_changed: false,
        optimize_changed: false,
        inert: false,
        target_saved: Vec::new(),
        target_uncertain: false,
        doubts_target: false,
        clock: Dates::default(),
        modules: Mentioned::default(),
    };
    let result = walk.translation_unit();
    let walked = result.map(|()| walk.answer());
    walk.memory.table.clear();
    walked
}

/// A doubt that gcc's preprocessor does not clear up for C: it passes over such pragmas.
pub const OPTIONS_DOUBT: &str = "a predefined macro that #pragma GCC target may have changed";

impl Walk<'_> {
    pub(super) fn gcc(&self) -> bool {
        self.request.facts.family == Family::Gcc
    }

    pub(super) fn doubt(&self, what: &'static str) -> Declined {
        Declined::Doubt { what, path: Bytes::from(self.memory.paths.bytes(self.place.path)) }
    }

    fn translation_unit(&mut self) -> Result<(), Declined> {
        self.predefine();
        self.settings()?;
        let mut path = Vec::new();
        let relative = !self.request.main.starts_with(b"/");
        if relative {
            path.extend_from_slice(&self.cwd);
        }
        path.extend_from_slice(self.request.main);
        self.main = self.memory.paths.id(&path);
        let name = self.memory.symbols.intern(&path);
        let (_, hit) = self.find(Start::Nowhere, name)?;
        let Some(Hit { stat, .. }) = hit else {
            return Err(Declined::Missing { name: Bytes(path), from: Bytes::from(self.request.cwd) });
        };
        let unit = self.unit(self.main, stat.content)?;
        self.place.path = self.main;
        self.place.relative = relative;
        self.place.stat = stat;
        self.note_entry(self.main, stat, unit.clock)?;
        self.command_line_includes()?;
        self.run(&unit)
    }

    /// Walks the directives of the file at `self.place`.
    pub(super) fn run(&mut self, unit: &Unit) -> Result<(), Declined> {
        if let Some(what) = unit.broken {
            return Err(self.doubt(what));
        }
        let mut at = 0usize;
        while let Some(&directive) = unit.directives.get(at) {
            at += 1;
            self.steps += 1;
            match directive {
                Directive::Define(name, id) => self.define(name, id)?,
                Directive::Undef(name) => self.memory.table.set(name, UNDEFINED),
                Directive::If { first: true, .. } | Directive::Ifdef { first: true, .. } => {
                    at = self.choose(unit, at - 1)?;
                }
                Directive::If { end, .. } | Directive::Ifdef { end, .. } | Directive::Else { end } => {
                    at = end as usize + 1;
                }
                Directive::Endif => {}
                Directive::Include { kind, angled, name } => {
                    self.include(kind, Name { sym: name, angled })?;
                }
                Directive::Computed(kind, line) => {
                    self.inert = false;
                    let name = self.computed_name(&unit.lines[line as usize])?;
                    self.include(kind, name)?;
                }
                Directive::Pragma(pragma) => self.pragma(pragma)?,
                Directive::Module(at) => self.module(&unit.modules[at as usize])?,
                Directive::Line(name) => self.shows(name),
                Directive::ComputedLine(line) => {
                    self.inert = false;
                    let name = self.shown_name(&unit.lines[line as usize]);
                    self.shows(name);
                }
                Directive::Doubt(what) => return Err(self.doubt(what)),
            }
        }
        Ok(())
    }

    /// Finds the branch that is taken in the chain that starts at `at`; returns where it starts.
    fn choose(&mut self, unit: &Unit, mut at: usize) -> Result<usize, Declined> {
        loop {
            match unit.directives[at] {
                Directive::If { condition, next, inert, .. } => {
                    self.inert = inert;
                    if self.condition(&unit.conditions[condition as usize])? {
                        return Ok(at + 1);
                    }
                    at = next as usize;
                }
                Directive::Ifdef { name, negated, next, inert, .. } => {
                    let is_defined = if self.doubts_target {
                        self.inert = inert;
                        self.is_defined(name)?
                    } else {
                        self.memory.table.get(name).is_some()
                    };
                    if is_defined != negated {
                        return Ok(at + 1);
                    }
                    at = next as usize;
                }
                _ => return Ok(at + 1),
            }
        }
    }

    pub(super) fn is_defined(&mut self, name: Sym) -> Result<bool, Declined> {
        Ok(self.macro_of(name)?.is_some())
    }

    /// The macro in force; a doubt if a pragma may have changed it behind our back.
    pub(super) fn macro_of(&mut self, name: Sym) -> Result<Option<MacroId>, Declined> {
        if self.doubts_target && !self.inert && self.is_of_target(name) {
            return Err(self.doubt(OPTIONS_DOUBT));
        }
        Ok(self.memory.table.get(name))
    }

    fn pragma(&mut self, pragma: Pragma) -> Result<(), Declined> {
        match pragma {
            Pragma::Once => self.mark_once(),
            Pragma::SystemHeader => self.place.system = true,
            Pragma::SystemSomewhere => self.memory.table.set(symbols::SYSTEM_BY_MACRO, saved::BY_MACROS),
            Pragma::PushMacro(name) | Pragma::PopMacro(name) if self.is_builtin(name) => {
                return Err(self.doubt("push_macro of a macro that the compiler computes"));
            }
            Pragma::PushMacro(name) => {
                self.pushed_by_line(name)?;
                self.memory.table.push(name);
            }
            Pragma::PopMacro(name) => {
                self.pushed_by_line(name)?;
                self.memory.table.pop(name);
            }
            Pragma::PushedByMacros(name) => self.pushed_by_macros(name)?,
            Pragma::Poison(name) if self.gcc() => self.memory.table.set(name, UNDEFINED),
            Pragma::Poison(name) if self.memory.table.get(name).is_some() => {
                return Err(self.doubt("a macro that is poisoned"));
            }
            Pragma::Poison(_) => {}
            Pragma::Target if self.gcc() => self.target_changed = true,
            Pragma::TargetSomewhere if self.gcc() => self.target_uncertain = true,
            Pragma::Optimize if self.gcc() => self.optimize_changed = true,
            Pragma::PushOptions => self.target_saved.push((self.target_changed, self.optimize_changed)),
            Pragma::PopOptions => {
                self.recorder.options_popped(self.target_saved.len());
                if let Some(saved) = self.target_saved.pop() {
                    (self.target_changed, self.optimize_changed) = saved;
                }
            }
            Pragma::Target | Pragma::Optimize | Pragma::TargetSomewhere => {}
        }
        self.doubts_target = self.target_changed || self.optimize_changed || self.target_uncertain;
        Ok(())
    }

    fn is_builtin(&mut self, name: Sym) -> bool {
        let id = self.memory.table.get(name);
        id.is_some_and(|id| self.memory.macros.get(id).builtin.is_some())
    }

    /// The path of the current file as `__FILE__` says it.
    pub(super) fn presented(&self, path: PathId, relative: bool) -> Vec<u8> {
        let path = self.memory.paths.bytes(path);
        let skip = if relative && path.starts_with(&self.cwd) { self.cwd.len() } else { 0 };
        path[skip..].to_vec()
    }

    fn answer(&mut self) -> Walked {
        let mut probed = Vec::new();
        let mut seen = QuickSet::default();
        for &(path, content) in &self.probed {
            if !self.memory.paths.is_marked(path, self.number) && seen.insert(path) {
                probed.push((path, content));
            }
        }
        self.aliases.sort_unstable();
        self.aliases.dedup();
        Walked {
            files: std::mem::take(&mut self.order).into(),
            probed: probed.into(),
            aliases: std::mem::take(&mut self.aliases).into(),
            searches: std::mem::take(&mut self.searches).into(),
            no_precompiled: std::mem::take(&mut self.no_precompiled).into(),
            precompiled: self.precompiled.iter().map(|&(path, stat)| (path, stat.content)).collect(),
            covered: self.covered.clone(),
            clock: self.clock,
            modules: std::mem::take(&mut self.modules),
            ended: self.files.now(),
            chain: self.chain,
            trails: std::mem::take(&mut self.trails).into(),
            fleeting: std::mem::take(&mut self.fleeting).into(),
        }
    }
}
