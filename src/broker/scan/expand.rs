//! Full macro expansion, for the conditions and includes that need it.
//!
//! A stack of contexts, as in the compilers: a macro is off while its own expansion is being
//! read, and a name met meanwhile is painted and never expanded again.

use std::sync::Arc;

use super::Declined;
use super::macros::Builtin;
use super::substitute::{SPELLING_MAX_BYTES, piece};
use super::symbols::{self, Sym};
use super::token::{Kind, Token};
use super::walk::{Name, Walk};

/// A piece of text being read.
pub(super) struct Context {
    pub(super) tokens: Arc<[Token]>,
    pub(super) at: usize,
    pub(super) owner: Option<Sym>,
    /// What the first token has in front of it here.
    pub(super) gap: Option<bool>,
}

/// A token source: contexts, the innermost last.
pub(super) struct Reader {
    pub(super) stack: Vec<Context>,
    /// Contexts below this index are not read from.
    pub(super) floor: usize,
    /// An expansion to nothing had white space in front.
    pub(super) carry: bool,
    /// `defined X` is an operator.
    pub(super) condition: bool,
    pub(super) argument_depth: usize,
}

impl Reader {
    fn new(tokens: &[Token], condition: bool) -> Self {
        let mut reader = Reader { stack: Vec::new(), floor: 0, carry: false, condition, argument_depth: 0 };
        reader.push(tokens.into(), None, None);
        reader
    }

    pub(super) fn push(&mut self, tokens: Arc<[Token]>, owner: Option<Sym>, gap: Option<bool>) {
        if tokens.is_empty() {
            self.carry |= gap == Some(true);
        }
        // Even an empty one: its macro is off until the next token is asked for.
        self.stack.push(Context { tokens, at: 0, owner, gap });
    }

    fn pop_finished(&mut self) {
        while self.stack.len() > self.floor && self.stack.last().is_some_and(|top| top.at == top.tokens.len())
        {
            self.stack.pop();
        }
    }

    /// The next token, unexpanded.
    pub(super) fn raw(&mut self) -> Option<Token> {
        self.pop_finished();
        if self.stack.len() == self.floor {
            return None;
        }
        let top = self.stack.last_mut()?;
        let mut token = top.tokens[top.at];
        if top.at == 0 {
            token.gap = top.gap.unwrap_or(token.gap);
        }
        top.at += 1;
        token.gap |= std::mem::take(&mut self.carry);
        Some(token)
    }

    fn next_is_open(&mut self) -> bool {
        self.pop_finished();
        if self.stack.len() == self.floor {
            return false;
        }
        self.stack.last().is_some_and(|top| top.tokens[top.at].is(symbols::LEFT))
    }

    pub(super) fn is_off(&self, name: Sym) -> bool {
        self.stack.iter().any(|context| context.owner == Some(name))
    }
}

impl Walk<'_> {
    /// Expands the tokens of a condition; `defined` and the queries are replaced by numbers.
    pub(super) fn expand_condition(&mut self, tokens: &[Token]) -> Result<Vec<Token>, Declined> {
        let mut reader = Reader::new(tokens, true);
        let mut out = Vec::new();
        while let Some(token) = self.next(&mut reader)? {
            if token.sym == symbols::PRAGMA_OPERATOR && token.kind == Kind::Identifier {
                return Err(self.doubt("_Pragma in a condition"));
            }
            out.push(token);
        }
        Ok(out)
    }

    /// Expands the tokens of any other line.
    pub(super) fn expand(&mut self, tokens: &[Token]) -> Result<Vec<Token>, Declined> {
        let mut reader = Reader::new(tokens, false);
        let mut out = Vec::new();
        while let Some(token) = self.next(&mut reader)? {
            out.push(token);
        }
        Ok(out)
    }

    /// The name that an include gets from macros.
    pub(super) fn computed_name(&mut self, tokens: &[Token]) -> Result<Name, Declined> {
        let mut reader = Reader::new(tokens, false);
        let Some(first) = self.next(&mut reader)? else {
            return Err(self.doubt("#include of a macro that is empty"));
        };
        match first.kind {
            Kind::Text | Kind::Header => self.header_name(first.sym),
            Kind::Operator if first.sym == symbols::LESS => {
                let name = self.bracketed(&mut reader)?;
                Ok(Name { sym: name, angled: true })
            }
            _ => Err(self.doubt("#include of something that is no name")),
        }
    }

    /// Puts together what stands between `<`, which is read, and `>`.
    fn bracketed(&mut self, reader: &mut Reader) -> Result<Sym, Declined> {
        let mut name = Vec::new();
        while let Some(token) = self.next(reader)? {
            if token.is(symbols::GREATER) && !token.space {
                return Ok(self.memory.symbols.intern(&name));
            }
            if token.space || token.gap {
                // Compilers differ in what becomes of white space.
                return Err(self.doubt("a header name with white space, made of macros"));
            }
            name.extend_from_slice(self.memory.symbols.text(token.sym));
            if name.len() > SPELLING_MAX_BYTES {
                return Err(Declined::Limit("the length of a token"));
            }
        }
        Err(self.doubt("a header name without its end"))
    }

    /// The next token, fully expanded.
    pub(super) fn next(&mut self, reader: &mut Reader) -> Result<Option<Token>, Declined> {
        loop {
            let Some(mut token) = reader.raw() else { return Ok(None) };
            if token.kind != Kind::Identifier || token.painted {
                return Ok(Some(token));
            }
            if reader.condition && token.sym == symbols::DEFINED {
                return Ok(Some(self.defined(reader, token)?));
            }
            let Some(id) = self.macro_of(token.sym)? else { return Ok(Some(token)) };
            if reader.is_off(token.sym) {
                token.painted = true;
                return Ok(Some(token));
            }
            if let Some(builtin) = self.memory.macros.get(id).builtin {
                return Ok(Some(self.builtin(reader, token, builtin)?));
            }
            if self.memory.macros.get(id).parameters.is_some() {
                if !reader.next_is_open() {
                    return Ok(Some(token));
                }
                self.call(reader, token, id)?;
            } else {
                let body = self.memory.macros.body(id, &mut self.memory.symbols);
                self.spend(body.len())?;
                let body = if body.iter().any(|token| token.kind == Kind::Paste) {
                    let pieces = body.iter().map(|token| piece(*token)).collect();
                    self.paste_all(pieces)?.into()
                } else {
                    body
                };
                reader.push(body, Some(token.sym), Some(token.gap));
            }
        }
    }

    pub(super) fn spend(&mut self, tokens: usize) -> Result<(), Declined> {
        // Each step costs something even when it makes no token.
        match self.tokens_left.checked_sub(tokens + 1) {
            Some(left) => {
                self.tokens_left = left;
                self.steps += tokens as u64 + 1;
                Ok(())
            }
            None => Err(Declined::Limit("tokens of macro expansion")),
        }
    }

    fn number(&mut self, value: i64, like: Token) -> Token {
        let sym = self.memory.symbols.intern(value.to_string().as_bytes());
        Token { kind: Kind::Number, sym, painted: false, ..like }
    }

    fn defined(&mut self, reader: &mut Reader, token: Token) -> Result<Token, Declined> {
        if reader.argument_depth > 0 {
            // Whether its operand is expanded first depends on the compiler.
            return Err(self.doubt("defined in the arguments of a macro"));
        }
        let odd = "defined without a name";
        let mut name = reader.raw().ok_or_else(|| self.doubt(odd))?;
        let bracketed = name.is(symbols::LEFT);
        if bracketed {
            name = reader.raw().ok_or_else(|| self.doubt(odd))?;
        }
        if name.kind != Kind::Identifier {
            return Err(self.doubt(odd));
        }
        if bracketed && !reader.raw().is_some_and(|close| close.is(symbols::RIGHT)) {
            return Err(self.doubt(odd));
        }
        let truth = self.is_defined(name.sym)?;
        Ok(self.number(i64::from(truth), token))
    }

    fn builtin(&mut self, reader: &mut Reader, token: Token, builtin: Builtin) -> Result<Token, Declined> {
        match builtin {
            Builtin::File if self.saw_line => Err(self.doubt("__FILE__ behind #line")),
            Builtin::File => self.file_literal(self.place.path, self.place.relative, token),
            Builtin::BaseFile => {
                self.recorder.spoil();
                let relative = !self.request.main.starts_with(b"/");
                self.file_literal(self.main, relative, token)
            }
            Builtin::IncludeLevel => {
                self.recorder.spoil();
                Ok(self.number(self.depth as i64 - 1, token))
            }
            Builtin::HasInclude | Builtin::HasIncludeNext => {
                let found = self.expanded_query(reader, builtin)?;
                Ok(self.number(i64::from(found), token))
            }
            Builtin::Question => {
                let arguments = self.question_arguments(reader)?;
                let answer = self.ask(token.sym, &arguments)?;
                Ok(self.number(answer.bits as i64, token))
            }
            Builtin::Unknown => Err(self.doubt("a macro whose value the scanner does not know")),
        }
    }

    fn file_literal(&mut self, path: u32, relative: bool, like: Token) -> Result<Token, Declined> {
        let path = self.presented(path, relative);
        if path.iter().any(|byte| matches!(byte, b'"' | b'\\' | b'\n')) {
            return Err(self.doubt("__FILE__ of an odd name"));
        }
        let text = [b"\"", &path[..], b"\""].concat();
        let sym = self.memory.symbols.intern(&text);
        Ok(Token { kind: Kind::Text, sym, painted: false, ..like })
    }

    fn expanded_query(&mut self, reader: &mut Reader, builtin: Builtin) -> Result<bool, Declined> {
        let odd = "__has_include in an unusual form";
        if !reader.raw().is_some_and(|open| open.is(symbols::LEFT)) {
            return Err(self.doubt(odd));
        }
        let name = match self.next(reader)? {
            Some(token) if matches!(token.kind, Kind::Text | Kind::Header) => self.header_name(token.sym)?,
            Some(token) if token.is(symbols::LESS) => Name { sym: self.bracketed(reader)?, angled: true },
            _ => return Err(self.doubt(odd)),
        };
        match self.next(reader)? {
            Some(close) if close.is(symbols::RIGHT) => self.has_include(builtin, name),
            _ => Err(self.doubt(odd)),
        }
    }

    /// gcc expands what is asked about, clang does not.
    fn question_arguments(&mut self, reader: &mut Reader) -> Result<Vec<Token>, Declined> {
        let odd = "a question in an unusual form";
        if !reader.raw().is_some_and(|open| open.is(symbols::LEFT)) {
            return Err(self.doubt(odd));
        }
        let mut arguments = Vec::new();
        let mut depth = 1;
        loop {
            let token = if self.gcc() { self.next(reader)? } else { reader.raw() };
            let Some(token) = token else { return Err(self.doubt(odd)) };
            if token.is(symbols::LEFT) {
                depth += 1;
            } else if token.is(symbols::RIGHT) {
                depth -= 1;
                if depth == 0 {
                    return Ok(arguments);
                }
            }
            arguments.push(token);
        }
    }
}
