//! Macros through which a condition asks for files: by `__has_include` or one of its kin.
//!
//! A chain of conditionals with nothing in it is left out when its file is lexed, unless evaluating it asks for
//! files. Whether it does may depend on macros, which may be defined later, and in terms of others. So names of macros
//! that ask are noted, by any definition of them that was ever read, and so are the names in conditions that were left
//! out. A name that turns out to be in both has the files lexed anew that left something out.

use memchr::memmem;

use super::macros::Definition;
use super::symbols::{QuickSet, Sym, Symbols};
use super::token;

/// With more new names than this it is cheaper to look up every word.
const FINDERS_MAX: usize = 16;

/// What is noted.
#[derive(Debug, Default)]
pub struct Askers {
    names: QuickSet<Sym>,
    left_out: QuickSet<Sym>,
    /// Names whose users are not looked for yet.
    new: Vec<Sym>,
}

impl Askers {
    /// Whether a name in a condition may ask for files.
    pub fn is_one(&self, name: Sym, symbols: &Symbols) -> bool {
        self.names.contains(&name) || is_query_or_piece(symbols.text(name))
    }

    /// Notes a definition.
    pub fn defined(&mut self, name: Sym, text: &[u8], symbols: &Symbols) {
        if !self.names.contains(&name) && self.asks(text, symbols) {
            self.names.insert(name);
            self.new.push(name);
        }
    }

    fn asks(&self, text: &[u8], symbols: &Symbols) -> bool {
        let has = |part: &[u8]| memmem::find(text, part).is_some();
        let has_piece = || (has(b"__h") || has(b"has_")) && words(text).any(is_query_or_piece);
        !text.is_empty() && (has_piece() || (!self.names.is_empty() && mentions(text, &self.names, symbols)))
    }

    /// Notes the names in a condition that is left out.
    pub fn leave_out(&mut self, names: &[Sym]) {
        self.left_out.extend(names);
    }

    /// Names that were left out of conditions before they were known to ask. `definitions` are all.
    pub fn missed(&mut self, definitions: &[Definition], symbols: &Symbols) -> QuickSet<Sym> {
        let mut missed = QuickSet::default();
        while !self.new.is_empty() {
            let new: QuickSet<Sym> = self.new.drain(..).collect();
            let known = |name: &&Sym| self.left_out.contains(name);
            missed.extend(new.iter().filter(known));
            let finders: Vec<memmem::Finder<'_>> = match new.len() {
                0..=FINDERS_MAX => new.iter().map(|&name| memmem::Finder::new(symbols.text(name))).collect(),
                _ => Vec::new(),
            };
            for definition in definitions.iter().filter(|one| !self.names.contains(&one.name)) {
                let text = definition.text();
                let may = finders.is_empty() || finders.iter().any(|finder| finder.find(text).is_some());
                if may && mentions(text, &new, symbols) {
                    self.new.push(definition.name);
                }
            }
            self.new.sort_unstable();
            self.new.dedup();
            self.names.extend(&self.new);
        }
        missed
    }

    /// Memory in use, in bytes, nearly.
    pub fn size(&self) -> usize {
        (self.names.len() + self.left_out.len()) * 8
    }
}

/// What a word is to a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// One of them, or what nothing else is called than a piece of one.
    Whole,
    /// Its first half, as other names have it, too: `__has_`.
    Head,
    /// Its second half, an ordinary word: `include`.
    Tail,
}

/// Where the first half of a query ends at the latest, and that of a name that says more.
const HEAD_MAX_BYTES: usize = b"__has_".len();

const QUERIES: [&[u8]; 3] = [b"__has_include_next", b"__has_include", b"__has_embed"];

/// Which part of a query `##` could make of a word.
pub fn part(word: &[u8]) -> Option<Part> {
    if word.starts_with(b"__has_include") || word.starts_with(b"__has_embed") {
        return Some(Part::Whole);
    }
    if word.len() > 2 && QUERIES.iter().any(|query| query.starts_with(word)) {
        return Some(if word.len() > HEAD_MAX_BYTES { Part::Whole } else { Part::Head });
    }
    match missing(word) {
        _ if word.is_empty() => None,
        0..=2 => Some(Part::Whole),
        3..=HEAD_MAX_BYTES => Some(Part::Tail),
        _ => None,
    }
}

/// What is missing in front of a word that a query ends with, in bytes: the least, if it is of several; all, of others.
pub fn missing(word: &[u8]) -> usize {
    let in_front = |query: &&[u8]| Some(query.strip_suffix(word)?.len());
    QUERIES.iter().filter_map(in_front).min().unwrap_or(usize::MAX)
}

/// Whether a word is a query, or the beginning of one that `##` may put together.
fn is_query_or_piece(word: &[u8]) -> bool {
    matches!(part(word), Some(Part::Whole | Part::Head))
}

fn mentions(text: &[u8], names: &QuickSet<Sym>, symbols: &Symbols) -> bool {
    words(text).any(|word| symbols.find(word).is_some_and(|name| names.contains(&name)))
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| !token::goes_on(byte))
        .filter(|word| word.first().is_some_and(|&byte| token::starts_name(byte)))
}
