//! Which files a compiler shows lines of and does not read: those that `#line` names.
//!
//! gcc opens them by these names, from its working directory, when it has something to say about a line
//! of theirs, and no dependency file lists them. What a parser generator made says so of its grammar.

use super::directive::{Builder, Directive};
use super::search::Start;
use super::symbols::Sym;
use super::token::{Kind, Token};
use super::walk::Walk;

/// What stands behind `#line`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// A number alone.
    Nothing,
    /// The name of a file.
    File(Vec<u8>),
    /// What macros make of it.
    Computed,
}

/// Reads the text behind `#line`, or behind the `#` of a line marker.
pub fn named(rest: &[u8]) -> Named {
    let rest = rest.trim_ascii();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    match rest[digits..].trim_ascii_start() {
        [] if digits > 0 => Named::Nothing,
        [b'"', name @ ..] if digits > 0 => literal(name).map_or(Named::Computed, Named::File),
        _ => Named::Computed,
    }
}

/// The characters of a string literal, whose opening quote is not in `text`.
fn literal(text: &[u8]) -> Option<Vec<u8>> {
    let mut name = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied().peekable();
    loop {
        match bytes.next()? {
            b'"' => return Some(name),
            b'\\' => {
                let mut value = bytes.next()?;
                if matches!(value, b'0'..=b'7') {
                    value -= b'0';
                    for _ in 0..2 {
                        let Some(digit) = bytes.next_if(|byte| matches!(byte, b'0'..=b'7')) else { break };
                        value = value.wrapping_mul(8).wrapping_add(digit - b'0');
                    }
                }
                name.push(value);
            }
            byte => name.push(byte),
        }
    }
}

impl Builder<'_> {
    /// Takes in a `#line`.
    pub(super) fn line(&mut self, rest: &[u8]) {
        let directive = match named(rest) {
            Named::Nothing => Directive::Line(None),
            Named::File(name) => Directive::Line(Some(self.symbols.intern(&name))),
            Named::Computed => Directive::ComputedLine(self.computed(rest)),
        };
        self.push(directive);
    }
}

impl Walk<'_> {
    /// Follows a `#line` that names a file, if it does.
    pub(super) fn shows(&mut self, name: Option<Sym>) {
        self.saw_line = true;
        self.recorder.spoil();
        let Some(name) = name.filter(|&name| self.gcc() && self.shown != Some(name)) else { return };
        self.shown = Some(name);
        let name = self.memory.symbols.text(name);
        let start = if name.starts_with(b"/") { &b""[..] } else { &self.cwd };
        let path = [start, name].concat();
        let path = self.memory.symbols.intern(&path);
        // One that cannot be read is not shown here either.
        if let Ok((_, Some(hit))) = self.find(Start::Nowhere, path) {
            self.probe(hit);
        }
    }

    /// The name in a `#line` that macros make. What is not followed, such as `__FILE__` behind another
    /// `#line`, names a file that was named before.
    pub(super) fn shown_name(&mut self, tokens: &[Token]) -> Option<Sym> {
        let tokens = self.expand(tokens).ok()?;
        let last = tokens.last().filter(|token| token.kind == Kind::Text)?;
        let name = literal(self.memory.symbols.text(last.sym).strip_prefix(b"\"")?)?;
        Some(self.memory.symbols.intern(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_behind_line_is_read_as_a_string() {
        let check = |text: &str, name: Named| assert_eq!(named(text.as_bytes()), name, "{text}");
        let file = |name: &[u8]| Named::File(name.to_vec());
        check(" 3", Named::Nothing);
        check(" 3 \"a b.y\"", file(b"a b.y"));
        check("12 \"../g.y\" 2 3", file(b"../g.y"));
        check(r#" 1 "a\\b\"\303\274\0.y""#, file(b"a\\b\"\xc3\xbc\0.y"));
        for odd in ["", " LINE", " 3 FILE", " 3 \"open", " 3 \"open\\"] {
            check(odd, Named::Computed);
        }
    }
}
