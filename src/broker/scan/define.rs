//! `#define` lines: what is kept of them, and which may make something that names a file.

use super::assembly;
use super::directive::{Builder, Directive, Pragma};
use super::macros;
use super::saved;
use super::token::{self, Headers, Kind};

impl Builder<'_> {
    /// Whether a macro's text reads a file when it becomes assembler text: `.include` may as well
    /// be a member of something, unless a string has it or a string follows.
    fn assembles(&mut self, rest: &[u8]) -> bool {
        let tokens = token::tokenise(rest, self.mode, Headers::Never, self.symbols);
        tokens.iter().enumerate().any(|(at, token)| {
            let text = self.symbols.text(token.sym);
            match token.kind {
                Kind::Text | Kind::Other => assembly::names_file(text),
                Kind::Identifier if text.eq_ignore_ascii_case(b"incbin") => true,
                Kind::Identifier if text == b"include" => {
                    tokens.get(at + 1).is_some_and(|next| next.kind == Kind::Text)
                }
                _ => false,
            }
        })
    }

    pub(super) fn define(&mut self, rest: &[u8]) {
        let reads = memchr::memmem::find(&rest.to_ascii_lowercase(), b"incbin").is_some();
        if (reads || assembly::names_file(rest)) && self.assembles(rest) {
            self.push(Directive::Doubt(assembly::ASSEMBLER));
        }
        let has = |text: &[u8]| memchr::memmem::find(rest, text).is_some();
        let names_file = has(b"GCC") && (has(b"dependency") || has(b"pch_preprocess"));
        if names_file || rest.trim_ascii().ends_with(b" once") {
            // Another macro may make a pragma of it.
            self.push(Directive::Doubt("a pragma in a macro"));
        }
        match saved::names(rest) {
            None => self.push(Directive::Doubt("push_macro outside a #pragma line")),
            Some(names) => names.into_iter().for_each(|name| {
                let name = self.symbols.intern(name);
                self.push(Directive::Pragma(Pragma::PushedByMacros(name)));
            }),
        }
        if has(b"_Pragma") {
            if has(b"GCC target") || has(b"_options") || has(b"GCC optimize") {
                self.push(Directive::Pragma(Pragma::TargetSomewhere));
            }
            if has(b"system_header") {
                self.push(Directive::Pragma(Pragma::SystemSomewhere));
            }
            if has(b"\"once\"") || has(b"GCC poison") || has(b"dependency") {
                self.push(Directive::Doubt("_Pragma in a macro"));
            }
        }
        self.pastes |= has(b"##") || has(b"%:%:");
        match macros::parse(rest, self.mode, self.symbols) {
            Ok(definition) => {
                let name = definition.name;
                if self.cannot_be_macro(name) {
                    return self.push(Directive::Doubt("a macro of a name that cannot be one"));
                }
                let id = self.macros.add(definition, self.symbols);
                self.push(Directive::Define(name, id));
            }
            Err(why) => self.push(Directive::Doubt(why)),
        }
    }
}
