//! `#pragma` lines, and `_Pragma` in the text.

use super::directive::{Builder, Directive};
use super::symbols::{self, Sym};
use super::token::{self, Headers, Kind, Token};

/// What a `#pragma` does to the scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pragma {
    /// `once`.
    Once,
    /// `GCC system_header`.
    SystemHeader,
    /// The same out of a macro: of which files, is not known.
    SystemSomewhere,
    /// `push_macro("X")`.
    PushMacro(Sym),
    /// `pop_macro("X")`.
    PopMacro(Sym),
    /// A macro is defined that pushes or pops X wherever it is used.
    PushedByMacros(Sym),
    /// `GCC poison X`, once per name.
    Poison(Sym),
    /// `GCC target` changes predefined macros, perhaps.
    Target,
    /// `GCC optimize` changes others.
    Optimize,
    /// The same out of a macro: when, is not known.
    TargetSomewhere,
    /// `GCC push_options`.
    PushOptions,
    /// `GCC pop_options`.
    PopOptions,
}

impl Builder<'_> {
    pub(super) fn pragma(&mut self, rest: &[u8]) {
        let tokens = token::tokenise(rest, self.mode, Headers::Never, self.symbols);
        self.pragma_tokens(&tokens);
    }

    pub(super) fn pragma_tokens(&mut self, tokens: &[Token]) {
        let word = |at: usize| tokens.get(at).map_or(&b""[..], |token| self.symbols.text(token.sym));
        let pragma = match (word(0), word(1)) {
            (b"once", _) => Pragma::Once,
            (b"push_macro" | b"pop_macro", _) => return self.saved_macro(tokens),
            (b"GCC" | b"clang", b"system_header") | (b"system_header", _) => Pragma::SystemHeader,
            (b"GCC" | b"clang", b"poison") => return self.poison(&tokens[2..]),
            (b"poison", _) => return self.poison(&tokens[1..]),
            (b"GCC", b"target") => Pragma::Target,
            (b"GCC", b"optimize") => Pragma::Optimize,
            (b"GCC", b"push_options") => Pragma::PushOptions,
            (b"GCC", b"pop_options" | b"reset_options") => Pragma::PopOptions,
            (b"GCC", b"dependency" | b"pch_preprocess") | (b"dependency", _) | (b"clang", b"module") => {
                return self.push(Directive::Doubt("a pragma that names a file"));
            }
            (b"include_alias" | b"hdrstop", _) => {
                return self.push(Directive::Doubt("a pragma about includes"));
            }
            _ => return,
        };
        self.push(Directive::Pragma(pragma));
    }

    pub(super) fn poison(&mut self, names: &[Token]) {
        for name in names.iter().filter(|token| token.kind == Kind::Identifier) {
            self.push(Directive::Pragma(Pragma::Poison(name.sym)));
        }
    }

    pub(super) fn saved_macro(&mut self, tokens: &[Token]) {
        let [which, open, name, close, ..] = tokens else {
            return self.push(Directive::Doubt("a malformed push_macro"));
        };
        let literal = self.symbols.text(name.sym).to_vec();
        let bare = literal.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\""));
        let plain = bare.filter(|text| !text.is_empty() && text.iter().all(|&byte| token::goes_on(byte)));
        let (Some(text), true) = (plain, open.is(symbols::LEFT) && close.is(symbols::RIGHT)) else {
            return self.push(Directive::Doubt("a malformed push_macro"));
        };
        let pushes = self.symbols.text(which.sym) == b"push_macro";
        let macro_name = self.symbols.intern(text);
        let pragma = if pushes { Pragma::PushMacro(macro_name) } else { Pragma::PopMacro(macro_name) };
        self.push(Directive::Pragma(pragma));
    }

    /// `_Pragma` in the text. When it acts, relative to the lines around it, is not always when
    /// it stands there, so one that matters is a doubt.
    pub(super) fn operator_pragma(&mut self, text: &[u8]) {
        let before = self.here();
        self.pragma(text);
        if self.here() > before {
            self.unit.directives.truncate(before as usize);
            let tokens = token::tokenise(text, self.mode, Headers::Never, self.symbols);
            let options = tokens.get(1).map(|token| self.symbols.text(token.sym));
            self.push(match options {
                Some(b"target" | b"optimize" | b"push_options" | b"pop_options" | b"reset_options") => {
                    Directive::Pragma(Pragma::TargetSomewhere)
                }
                Some(b"system_header") => Directive::Pragma(Pragma::SystemSomewhere),
                _ => Directive::Doubt("a _Pragma that matters"),
            });
        }
    }
}

/// What the string of a `_Pragma` says.
pub(super) fn destringise(literal: &[u8]) -> Vec<u8> {
    let start = literal.iter().position(|&byte| byte == b'"').map_or(0, |at| at + 1);
    let inner = &literal[start..literal.len().saturating_sub(1).max(start)];
    let mut out = Vec::with_capacity(inner.len());
    let mut at = 0;
    while at < inner.len() {
        if inner[at] == b'\\' && matches!(inner.get(at + 1), Some(b'"' | b'\\')) {
            at += 1;
        }
        out.push(inner[at]);
        at += 1;
    }
    out
}
