//! What stands before the first line of a source: predefined macros, `-D` and `-U`, headers that
//! the command line names.

use super::Declined;
use super::directive::{self, Directive};
use super::macros::{self, MacroId, UNDEFINED};
use super::paths::PathId;
use super::search::{Beside, Start};
use super::symbols::Sym;
use super::walk::{Setting, Walk};
use crate::common::bytes::Bytes;

impl Walk<'_> {
    pub(super) fn predefine(&mut self) {
        let facts = self.request.facts;
        let memory = &mut *self.memory;
        if !memory.predefined.contains_key(&facts.number) {
            let unit = directive::lex(&facts.predefined, facts.mode, &mut memory.symbols, &mut memory.macros);
            let mut list: Vec<(Sym, MacroId)> = Vec::new();
            for &(name, builtin) in &facts.builtins {
                let sym = memory.symbols.intern(name.as_bytes());
                list.push((sym, memory.macros.add_builtin(sym, builtin)));
            }
            for directive in &unit.directives {
                if let Directive::Define(sym, id) = *directive {
                    list.push((sym, id));
                }
            }
            memory.predefined.insert(facts.number, list.into());
        }
        if let Some(list) = memory.predefined.get(&facts.number) {
            for &(sym, id) in list.iter() {
                memory.table.set(sym, id);
            }
        }
    }

    pub(super) fn settings(&mut self) -> Result<(), Declined> {
        for setting in self.request.settings {
            let memory = &mut *self.memory;
            if let Some(&(sym, id)) = memory.settings.get(setting) {
                memory.table.set(sym, id);
                continue;
            }
            let bad = |text: &[u8]| Declined::Option(Bytes::from(text));
            let (sym, id) = match setting {
                // What it does is not followed where lines of text may do it.
                Setting::Define(text) if memchr::memmem::find(text, b"_Pragma").is_some() => {
                    return Err(bad(text));
                }
                Setting::Define(text) => {
                    let parsed = macros::parse(text, self.request.facts.mode, &mut memory.symbols);
                    let definition = parsed.map_err(|_| bad(text))?;
                    (definition.name, memory.macros.add(definition, &memory.symbols))
                }
                Setting::Undefine(name) => (memory.symbols.intern(name), UNDEFINED),
            };
            let mode = self.request.facts.mode;
            if directive::cannot_be_macro(sym, mode) {
                return Err(bad(memory.symbols.text(sym)));
            }
            memory.settings.insert(setting.clone(), (sym, id));
            memory.table.set(sym, id);
        }
        Ok(())
    }

    pub(super) fn command_line_includes(&mut self) -> Result<(), Declined> {
        let mut directory = self.cwd.clone();
        if self.gcc() {
            directory.extend_from_slice(b"./");
        }
        let directory = self.memory.paths.id(&directory);
        for name in self.request.imacros {
            self.command_line_include(directory, name)?;
        }
        if let Some(name) = self.request.facts.preinclude {
            let sym = self.memory.symbols.intern(name.as_bytes());
            let quotes = self.memory.chains.quotes(self.chain);
            // It may be missing, and it does not count as an include where one looks for
            // precompiled headers.
            if let (_, Some(hit)) = self.find(Start::Chain(quotes), sym)? {
                self.enter(hit, false, None)?;
            }
        }
        if let Some(name) = self.request.precompiled {
            self.named_precompiled(name, directory)?;
        }
        let plainly_from = self.request.includes.len() - self.request.included_plainly;
        for (at, name) in self.request.includes.iter().enumerate() {
            let from = self.order.len();
            let taken = !self.gcc() && at < plainly_from && self.precompiled_prefix(name)?;
            self.command_line_include(directory, name)?;
            if taken {
                self.cover(from)?;
            }
        }
        Ok(())
    }

    pub(super) fn command_line_include(&mut self, directory: PathId, name: &Bytes) -> Result<(), Declined> {
        let sym = self.memory.symbols.intern(name);
        let start = match name.first() {
            Some(b'/') => Start::Nowhere,
            _ => self.memory.chains.beside(Beside { directory, relative: true, system: false }),
        };
        self.follow(start, sym)
    }
}
