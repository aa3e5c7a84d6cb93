//! A file as a flat list of directives, made once per content and language mode.

use super::dates::Dates;
use super::expression::{self, Expression};
use super::macros::{MacroId, Macros};
use super::modules::{self, Named};
use super::phases;
pub use super::pragma::Pragma;
use super::source::{Found, Lines};
use super::symbols::{self, Sym, Symbols};
use super::token::{self, Headers, Kind, Mode, Token};

/// The largest file that is lexed: more would cost more than it can save.
pub const FILE_MAX_BYTES: usize = 256 << 20;
/// The longest directive that is followed, in bytes: longer ones are data.
const LINE_MAX_BYTES: usize = 1 << 20;
/// Directives of one file, more than a hundred times what the largest headers have.
const DIRECTIVES_MAX: usize = 2_000_000;
/// Conditionals that may be open at once in one file.
const CONDITIONALS_MAX: usize = 4096;

/// Which `#include`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Include {
    /// `#include`.
    Plain,
    /// `#include_next`.
    Next,
    /// `#import`: not again, whatever includes it then.
    Import,
}

/// One directive. `next` is where to go when a branch is not taken, `end` the chain's `#endif`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Directive {
    /// `#if`, or `#elif` when `first` is not set.
    If {
        /// Index into [`Unit::conditions`].
        condition: u32,
        /// Whether it opens the chain.
        first: bool,
        /// Whether nothing but target options depends on the chain.
        inert: bool,
        /// The next branch.
        next: u32,
        /// The chain's end.
        end: u32,
    },
    /// `#ifdef`, `#ifndef`, `#elifdef`, `#elifndef`.
    Ifdef {
        /// The macro.
        name: Sym,
        /// Whether it must be undefined.
        negated: bool,
        /// Whether it opens the chain.
        first: bool,
        /// Whether nothing but target options depends on the chain.
        inert: bool,
        /// The next branch.
        next: u32,
        /// The chain's end.
        end: u32,
    },
    /// `#else`.
    Else {
        /// The chain's end.
        end: u32,
    },
    /// `#endif`.
    Endif,
    /// `#define`.
    Define(Sym, MacroId),
    /// `#undef`.
    Undef(Sym),
    /// An include with a literal name: quotes or brackets are not part of `name`.
    Include {
        /// Which.
        kind: Include,
        /// Whether in `<…>`.
        angled: bool,
        /// The name.
        name: Sym,
    },
    /// An include whose name macros make: index into [`Unit::lines`].
    Computed(Include, u32),
    /// A pragma that matters.
    Pragma(Pragma),
    /// A line that names a module: index into [`Unit::modules`].
    Module(u32),
    /// `#line`, and the file that it names.
    Line(Option<Sym>),
    /// A `#line` that macros make: index into [`Unit::lines`].
    ComputedLine(u32),
    /// What the scanner does not follow.
    Doubt(&'static str),
}

/// A condition: compiled, and its tokens for when macros must be expanded first.
#[derive(Debug)]
pub struct Condition {
    /// The compiled form.
    pub expression: Expression,
    /// The line.
    pub tokens: Box<[Token]>,
}

/// A lexed file.
#[derive(Debug, Default)]
pub struct Unit {
    /// The directives in order.
    pub directives: Vec<Directive>,
    /// Conditions of `#if` and `#elif`.
    pub conditions: Vec<Condition>,
    /// Token lines of what macros make: computed includes, `#line`.
    pub lines: Vec<Box<[Token]>>,
    /// Lines that name modules.
    pub modules: Vec<Named>,
    /// The macro that guards the whole file, if one does.
    pub guard: Option<Sym>,
    /// Whether the text mentions the date or the time.
    pub clock: Dates,
    /// Names in conditions that are left out, since nothing is in their branches; sorted.
    pub left_out: Vec<Sym>,
    /// What is wrong with the file's structure.
    pub broken: Option<&'static str>,
}

impl Unit {
    /// Memory in use, in bytes, nearly.
    pub fn size(&self) -> usize {
        let tokens: usize = self.conditions.iter().map(|condition| condition.tokens.len()).sum();
        self.directives.len() * size_of::<Directive>()
            + tokens * 3 * size_of::<Token>()
            + self.left_out.len() * 4
            + 128
    }
}

/// Lexes a file.
pub fn lex(content: &[u8], mode: Mode, symbols: &mut Symbols, macros: &mut Macros) -> Unit {
    if content.len() > FILE_MAX_BYTES {
        return Unit { broken: Some("a file too large to scan"), ..Unit::default() };
    }
    if content.starts_with(b"\xff\xfe") || content.starts_with(b"\xfe\xff") {
        return Unit { broken: Some("a file in UTF-16"), ..Unit::default() };
    }
    if memchr::memchr(0x1a, content).is_some() {
        // The end of the file to a clang that is told to be Microsoft's.
        return Unit { broken: Some("a file with a control-Z"), ..Unit::default() };
    }
    if mode.trigraphs && phases::has_trigraph(content) {
        if mode.raw_strings {
            return Unit { broken: Some("trigraphs where raw strings may be"), ..Unit::default() };
        }
        return build(&phases::replace_trigraphs(content), mode, symbols, macros);
    }
    build(content, mode, symbols, macros)
}

fn build(content: &[u8], mode: Mode, symbols: &mut Symbols, macros: &mut Macros) -> Unit {
    let mut builder =
        Builder { symbols, macros, mode, unit: Unit::default(), pastes: false, open: Vec::new() };
    let mut lines = Lines::new(content, mode);
    for found in lines.by_ref() {
        if builder.unit.broken.is_some() {
            break;
        }
        match found {
            Found::Directive(line) => builder.directive(&line),
            Found::Pragma(text) => builder.operator_pragma(&text),
            Found::Module(line) => builder.module(line),
            Found::Doubt(why) => builder.push(Directive::Doubt(why)),
        }
    }
    builder.unit.clock = lines.clock;
    if builder.pastes {
        builder.unit.clock |= Dates::of_pasting(b"##");
    }
    builder.finish()
}

/// Names that compilers do not let anyone define.
pub fn cannot_be_macro(name: Sym, mode: Mode) -> bool {
    matches!(name, symbols::DEFINED | symbols::VA_ARGS | symbols::VA_OPT | symbols::PRAGMA_OPERATOR)
        || (symbols::HAS_INCLUDE..=symbols::HAS_EMBED).contains(&name)
        || (mode.cxx && symbols::is_named_operator(name))
}

/// A chain of branches not yet closed.
struct Open {
    branches: Vec<u32>,
    has_else: bool,
    /// Evaluating it asks for files, so it stays even when nothing is in it.
    asks: bool,
}

/// Makes a unit, line by line.
pub(super) struct Builder<'a> {
    pub(super) symbols: &'a mut Symbols,
    pub(super) macros: &'a mut Macros,
    pub(super) mode: Mode,
    pub(super) unit: Unit,
    /// Whether a macro's body puts words together.
    pub(super) pastes: bool,
    open: Vec<Open>,
}

impl Builder<'_> {
    pub(super) fn push(&mut self, directive: Directive) {
        if self.unit.directives.len() >= DIRECTIVES_MAX {
            return self.breaks("too many directives");
        }
        self.unit.directives.push(directive);
    }

    /// The first thing that is wrong is the one that is told.
    fn breaks(&mut self, what: &'static str) {
        self.unit.broken.get_or_insert(what);
    }

    pub(super) fn here(&self) -> u32 {
        self.unit.directives.len() as u32
    }

    fn directive(&mut self, line: &[u8]) {
        let line = line.trim_ascii();
        let length = line.iter().position(|&byte| !token::goes_on(byte)).unwrap_or(line.len());
        let (name, rest) = line.split_at(length);
        if line.len() > LINE_MAX_BYTES && !matches!(name, b"error" | b"warning" | b"pragma") {
            return self.breaks("a directive too long");
        }
        match name {
            b"if" => self.condition(rest, true),
            b"elif" => self.condition(rest, false),
            b"ifdef" => self.defined(rest, false, true),
            b"ifndef" => self.defined(rest, true, true),
            b"elifdef" => self.defined(rest, false, false),
            b"elifndef" => self.defined(rest, true, false),
            b"else" => self.otherwise(),
            b"endif" => self.close(),
            b"define" => self.define(rest),
            b"undef" => self.undefine(rest),
            b"include" => self.include(Include::Plain, rest),
            b"include_next" => self.include(Include::Next, rest),
            b"pragma" => self.pragma(rest),
            b"warning" | b"ident" | b"sccs" => {}
            b"line" => self.line(rest),
            b"error" => self.push(Directive::Doubt("#error")),
            b"import" => self.include(Include::Import, rest),
            b"assert" | b"unassert" => self.push(Directive::Doubt("#assert")),
            b"embed" => self.push(Directive::Doubt("#embed")),
            b"" if line.is_empty() || self.mode.assembler => {}
            _ if self.mode.assembler => {}
            b"" => self.push(Directive::Doubt("something else behind #")),
            _ if name[0].is_ascii_digit() => self.push(Directive::Doubt("a line marker")),
            _ => self.push(Directive::Doubt("an unknown directive")),
        }
    }

    fn module(&mut self, line: modules::Line) {
        let words = line.name.split(|byte| matches!(byte, b'.' | b':')).filter(|word| !word.is_empty());
        let words = words.map(|word| self.symbols.intern(word)).collect();
        self.unit.modules.push(Named { line, words });
        self.push(Directive::Module(self.unit.modules.len() as u32 - 1));
    }

    fn condition(&mut self, rest: &[u8], first: bool) {
        let tokens = token::tokenise(rest, self.mode, Headers::AfterQuery, self.symbols);
        let expression = expression::compile(&tokens, self.mode, false, self.symbols);
        let asks = match &expression {
            Ok(expression) => expression.asks_for_files(),
            Err(_) => false,
        };
        let asks = asks || tokens.iter().any(|token| self.asks(token));
        let shape = match &expression {
            Ok(Expression::Defined(name)) => Some((*name, false)),
            Ok(Expression::Prefix(symbols::NOT, inner)) => match **inner {
                Expression::Defined(name) => Some((name, true)),
                _ => None,
            },
            _ => None,
        };
        let directive = match shape {
            Some((name, negated)) => Directive::Ifdef { name, negated, first, inert: false, next: 0, end: 0 },
            None => {
                let condition = self.unit.conditions.len() as u32;
                // What does not parse may still parse once macros are expanded.
                let expression = expression.unwrap_or_else(Expression::Bad);
                self.unit.conditions.push(Condition { expression, tokens: tokens.into() });
                Directive::If { condition, first, inert: false, next: 0, end: 0 }
            }
        };
        self.branch(directive, first, asks);
    }

    /// Whether what a token stands for may ask for files.
    fn asks(&self, token: &Token) -> bool {
        token.kind == Kind::Identifier && self.macros.askers.is_one(token.sym, self.symbols)
    }

    /// Notes what the conditions of a chain name that is left out: it may turn out to ask for files.
    fn leave_out(&mut self, branches: &[u32]) {
        let conditions = branches.iter().filter_map(|&branch| match self.unit.directives[branch as usize] {
            Directive::If { condition, .. } => Some(condition as usize),
            _ => None,
        });
        let Some(first) = conditions.min() else { return };
        // Those of chains within were left out before, or are among these.
        for condition in self.unit.conditions.drain(first..) {
            let names = condition.tokens.iter().filter(|token| token.kind == Kind::Identifier);
            self.unit.left_out.extend(names.map(|token| token.sym));
        }
    }

    fn defined(&mut self, rest: &[u8], negated: bool, first: bool) {
        let unknown = !first && !self.mode.elifdef;
        let Some(name) = self.name(rest).filter(|_| !unknown) else {
            // An error only where it is evaluated.
            let condition = self.unit.conditions.len() as u32;
            let expression = Expression::Bad(if unknown { "#elifdef" } else { "#ifdef without a name" });
            self.unit.conditions.push(Condition { expression, tokens: Box::default() });
            let directive = Directive::If { condition, first, inert: false, next: 0, end: 0 };
            return self.branch(directive, first, false);
        };
        self.branch(Directive::Ifdef { name, negated, first, inert: false, next: 0, end: 0 }, first, false);
    }

    fn name(&mut self, rest: &[u8]) -> Option<Sym> {
        let rest = rest.trim_ascii();
        let length = rest.iter().position(|&byte| !token::goes_on(byte)).unwrap_or(rest.len());
        let name = &rest[..length];
        name.first().filter(|&&byte| token::starts_name(byte))?;
        Some(self.symbols.intern(name))
    }

    fn branch(&mut self, directive: Directive, first: bool, asks: bool) {
        let here = self.here();
        if first {
            if self.open.len() >= CONDITIONALS_MAX {
                self.breaks("conditionals nested too deeply");
                return;
            }
            self.open.push(Open { branches: vec![here], has_else: false, asks });
        } else {
            match self.open.last_mut() {
                Some(open) if !open.has_else => {
                    open.branches.push(here);
                    open.asks |= asks;
                }
                _ => {
                    self.breaks("#elif out of place");
                    return;
                }
            }
        }
        self.push(directive);
    }

    fn otherwise(&mut self) {
        let here = self.here();
        match self.open.last_mut() {
            Some(open) if !open.has_else => {
                open.has_else = true;
                open.branches.push(here);
                self.push(Directive::Else { end: 0 });
            }
            _ => self.breaks("#else out of place"),
        }
    }

    fn close(&mut self) {
        let Some(open) = self.open.pop() else {
            self.breaks("#endif without #if");
            return;
        };
        let start = open.branches[0] as usize;
        if !open.asks && self.unit.directives.len() - start == open.branches.len() {
            // Nothing in any branch: whichever is taken, nothing happens.
            self.leave_out(&open.branches);
            self.unit.directives.truncate(start);
            return;
        }
        let at = self.here();
        let only_options =
            self.unit.directives[start..].iter().all(|directive| self.is_about_options(directive));
        for (index, &branch) in open.branches.iter().enumerate() {
            let following = open.branches.get(index + 1).copied().unwrap_or(at);
            match &mut self.unit.directives[branch as usize] {
                Directive::If { inert, next, end, .. } | Directive::Ifdef { inert, next, end, .. } => {
                    *inert = only_options;
                    *next = following;
                    *end = at;
                }
                Directive::Else { end } => *end = at,
                _ => {}
            }
        }
        self.push(Directive::Endif);
    }

    /// As the compiler's own headers do around functions for a processor: they test a macro,
    /// push options, and remember in `__DISABLE_X__` to pop them; or define intrinsics.
    fn is_about_options(&self, directive: &Directive) -> bool {
        match *directive {
            Directive::Define(name, _) | Directive::Undef(name) => {
                let text = self.symbols.text(name);
                text.starts_with(b"__DISABLE_") || text.starts_with(b"_mm") || text.starts_with(b"_MM")
            }
            Directive::Pragma(pragma) => {
                matches!(pragma, Pragma::Target | Pragma::PushOptions | Pragma::PopOptions)
            }
            Directive::If { .. } | Directive::Ifdef { .. } | Directive::Else { .. } | Directive::Endif => {
                true
            }
            _ => false,
        }
    }

    pub(super) fn cannot_be_macro(&self, name: Sym) -> bool {
        cannot_be_macro(name, self.mode)
    }

    fn undefine(&mut self, rest: &[u8]) {
        match self.name(rest) {
            Some(name) if self.cannot_be_macro(name) => {
                self.push(Directive::Doubt("a macro of a name that cannot be one"));
            }
            Some(name) => self.push(Directive::Undef(name)),
            None => self.push(Directive::Doubt("#undef without a name")),
        }
    }

    fn include(&mut self, kind: Include, rest: &[u8]) {
        let rest = rest.trim_ascii();
        let close = match rest.first() {
            Some(b'<') => b'>',
            Some(b'"') => b'"',
            Some(_) => {
                let line = self.computed(rest);
                return self.push(Directive::Computed(kind, line));
            }
            None => return self.push(Directive::Doubt("#include without a name")),
        };
        match rest[1..].iter().position(|&byte| byte == close) {
            Some(length) if length > 0 => {
                let name = self.symbols.intern(&rest[1..=length]);
                self.push(Directive::Include { kind, angled: close == b'>', name });
            }
            _ => self.push(Directive::Doubt("#include without a name")),
        }
    }

    /// Keeps a line that macros make; its index.
    pub(super) fn computed(&mut self, rest: &[u8]) -> u32 {
        let tokens = token::tokenise(rest, self.mode, Headers::Everywhere, self.symbols);
        self.unit.lines.push(tokens.into());
        self.unit.lines.len() as u32 - 1
    }

    fn finish(mut self) -> Unit {
        if !self.open.is_empty() {
            self.breaks("#if without #endif");
        }
        self.unit.directives.shrink_to_fit();
        self.unit.left_out.sort_unstable();
        self.unit.left_out.dedup();
        self.unit.left_out.shrink_to_fit();
        self.macros.askers.leave_out(&self.unit.left_out);
        let last = self.unit.directives.len().saturating_sub(1) as u32;
        if let Some(&Directive::Ifdef { name, negated: true, next, end, .. }) = self.unit.directives.first()
            && next == end
            && end == last
        {
            self.unit.guard = Some(name);
        }
        self.unit
    }
}

#[cfg(test)]
#[path = "directive_tests.rs"]
mod tests;
