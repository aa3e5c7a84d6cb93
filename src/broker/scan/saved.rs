//! Macros that other macros push and pop (`#define P _Pragma("push_macro(\"min\")")`, as libc++ has them).
//!
//! When such a macro is used is not seen: it may stand in any line of text. As long as what it pushes is no macro,
//! all of that does nothing. So from the line on that defines the first, what it names must not become a macro, and
//! must not be one there: else there is no certain answer.

use super::Declined;
use super::macros::MacroId;
use super::symbols::{Sym, Symbols};
use super::token;
use super::walk::Walk;

/// Names that macros push and pop: libc++ has five. They are looked through for each definition.
const NAMES_MAX: usize = 256;

/// In the table, under the mark of a name: macros push it; or under that of system headers: macros make them.
pub(super) const BY_MACROS: MacroId = 1;
/// The same: a `#pragma` line pushed or popped it.
const BY_LINES: MacroId = 2;

/// The names that macros push and pop, in any text that was read, each with its mark. The mark's own name cannot
/// be that of a macro, so what is noted under it is recorded and repeated as macros are.
#[derive(Debug, Default)]
pub struct Saved {
    names: Vec<(Sym, Sym)>,
    is_grown: bool,
}

impl Saved {
    /// Whether names came since this was asked: what was found out before may lack what is noted of them.
    pub fn is_grown(&mut self) -> bool {
        std::mem::take(&mut self.is_grown)
    }

    fn mark(&self, name: Sym) -> Option<Sym> {
        self.names.iter().find(|(known, _)| *known == name).map(|(_, mark)| *mark)
    }

    fn add(&mut self, name: Sym, symbols: &mut Symbols) -> Sym {
        if let Some(mark) = self.mark(name) {
            return mark;
        }
        let mark = symbols.intern(&[b"pushed ", symbols.text(name)].concat());
        self.names.push((name, mark));
        self.is_grown = true;
        mark
    }
}

/// What a macro of this text pushes and pops; `None` where that is not spelt out.
pub(super) fn names(text: &[u8]) -> Option<Vec<&[u8]>> {
    let words =
        memchr::memmem::find_iter(text, b"push_macro").chain(memchr::memmem::find_iter(text, b"pop_macro"));
    let name = |at: usize| {
        let behind = &text[at..];
        let open = behind.iter().position(|&byte| byte == b'(')?;
        let is_word = matches!(&behind[..open], b"push_macro" | b"pop_macro");
        let inside = behind[open..].strip_prefix(b"(\\\"").filter(|_| is_word)?;
        let length = inside.iter().position(|&byte| !token::goes_on(byte))?;
        let is_whole = length > 0 && inside[length..].starts_with(b"\\\")");
        is_whole.then(|| &inside[..length])
    };
    words.map(name).collect()
}

impl Walk<'_> {
    /// A macro pushes and pops this name from here on.
    pub(super) fn pushed_by_macros(&mut self, name: Sym) -> Result<(), Declined> {
        let memory = &mut *self.memory;
        if memory.saved.names.len() >= NAMES_MAX && memory.saved.mark(name).is_none() {
            return Err(Declined::Limit("macros that push others"));
        }
        let mark = memory.saved.add(name, &mut memory.symbols);
        if memory.table.get(name).is_some() || memory.table.get(mark) == Some(BY_LINES) {
            return Err(self.doubt("a macro that pushes another"));
        }
        memory.table.set(mark, BY_MACROS);
        Ok(())
    }

    /// A line pushes or pops this name.
    pub(super) fn pushed_by_line(&mut self, name: Sym) -> Result<(), Declined> {
        let Some(mark) = self.memory.saved.mark(name) else { return Ok(()) };
        if self.memory.table.get(mark) == Some(BY_MACROS) {
            return Err(self.doubt("push_macro of what a macro pushes"));
        }
        self.memory.table.set(mark, BY_LINES);
        Ok(())
    }

    /// Puts a definition in force.
    #[inline]
    pub(super) fn define(&mut self, name: Sym, id: MacroId) -> Result<(), Declined> {
        if !self.memory.saved.names.is_empty()
            && let Some(mark) = self.memory.saved.mark(name)
            && self.memory.table.get(mark) == Some(BY_MACROS)
        {
            return Err(self.doubt("a definition of what a macro pushes"));
        }
        self.memory.table.set(name, id);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_where_they_are_spelt_out() {
        let check = |text: &str, expected: Option<&[&str]>| {
            let found = names(text.as_bytes());
            let expected = expected.map(|names| names.iter().map(|name| name.as_bytes()).collect::<Vec<_>>());
            assert_eq!(found, expected, "{text}");
        };
        let one = r#"P _Pragma("push_macro(\"min\")") _Pragma("pop_macro(\"max\")")"#;
        check(one, Some(&["min", "max"]));
        check("P 1", Some(&[]));
        for unclear in [
            r#"P(x) _Pragma("push_macro(" #x ")")"#,
            r#"P __pragma(push_macro("min"))"#,
            r#"P _Pragma("push_macro (\"min\")")"#,
            r#"P _Pragma("push_macro(\"\")")"#,
            r#"P _Pragma("push_macro(\"a b\")")"#,
            r#"P _Pragma("push_macro(\"min\")") _Pragma("pop_macros(\"min\")")"#,
            "P push_macro",
        ] {
            check(unclear, None);
        }
    }
}
