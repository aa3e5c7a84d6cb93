//! Full macro expansion, for the conditions and includes that need it.
//!
//! A stack of contexts, as in the compilers: a macro is off while its own expansion is being
//! read, and a name met meanwhile is painted and never expanded again.

use std::sync::Arc;

use super::Declined;
use super::macros::{Builtin, Definition, MacroId};
use super::symbols::{self, Sym};
use super::token::{self, Headers, Kind, Token};
use super::walk::{Name, Walk};

/// Arguments within arguments that are expanded.
const ARGUMENT_DEPTH_MAX: usize = 200;
/// The longest token that pasting or stringifying may make, in bytes.
const SPELLING_MAX_BYTES: usize = 1 << 16;

struct Context {
    tokens: Arc<[Token]>,
    at: usize,
    owner: Option<Sym>,
    /// What the first token has in front of it here.
    gap: Option<bool>,
}

/// A token source: contexts, the innermost last.
struct Reader {
    stack: Vec<Context>,
    /// Contexts below this index are not read from.
    floor: usize,
    /// An expansion to nothing had white space in front.
    carry: bool,
    /// `defined X` is an operator.
    condition: bool,
    argument_depth: usize,
}

impl Reader {
    fn new(tokens: &[Token], condition: bool) -> Self {
        let mut reader = Reader { stack: Vec::new(), floor: 0, carry: false, condition, argument_depth: 0 };
        reader.push(tokens.into(), None, None);
        reader
    }

    fn push(&mut self, tokens: Arc<[Token]>, owner: Option<Sym>, gap: Option<bool>) {
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
    fn raw(&mut self) -> Option<Token> {
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

    fn is_off(&self, name: Sym) -> bool {
        self.stack.iter().any(|context| context.owner == Some(name))
    }
}

/// One argument of a call.
#[derive(Default)]
struct Argument {
    tokens: Vec<Token>,
    expanded: Option<Vec<Token>>,
}

/// A piece of a body while arguments are put in.
enum Piece {
    Token(Token),
    /// Nothing, where `##` needs something.
    Placemarker,
    Paste,
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
    fn next(&mut self, reader: &mut Reader) -> Result<Option<Token>, Declined> {
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

    fn spend(&mut self, tokens: usize) -> Result<(), Declined> {
        // Each step costs something even when it makes no token.
        match self.tokens_left.checked_sub(tokens + 1) {
            Some(left) => {
                self.tokens_left = left;
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
                let relative = !self.request.main.starts_with(b"/");
                self.file_literal(self.main, relative, token)
            }
            Builtin::IncludeLevel => Ok(self.number(self.depth as i64 - 1, token)),
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

    /// Reads the arguments of a function-like macro and pushes its expansion.
    fn call(&mut self, reader: &mut Reader, name: Token, id: MacroId) -> Result<(), Declined> {
        let definition = self.memory.macros.get(id);
        let parameters = definition.parameters.as_ref().map_or(0, |list| list.len());
        let variadic = definition.variadic;
        let mut arguments = self.arguments(reader, parameters, variadic)?;
        let fits = arguments.len() == parameters
            || (variadic && arguments.len() + 1 == parameters)
            || (parameters == 0 && arguments.len() == 1 && arguments[0].tokens.is_empty());
        if !fits {
            return Err(self.doubt("a macro with the wrong number of arguments"));
        }
        arguments.resize_with(parameters, Argument::default);
        let body = self.memory.macros.body(id, &mut self.memory.symbols);
        let mut pieces = Vec::new();
        self.substitute(reader, id, &body, &mut arguments, &mut pieces)?;
        let mut tokens = self.paste_all(pieces)?;
        self.spend(tokens.len())?;
        if let Some(first) = tokens.first_mut() {
            first.gap = name.gap;
        }
        reader.push(tokens.into(), Some(name.sym), Some(name.gap));
        Ok(())
    }

    fn arguments(
        &mut self,
        reader: &mut Reader,
        parameters: usize,
        variadic: bool,
    ) -> Result<Vec<Argument>, Declined> {
        reader.raw();
        let mut arguments = vec![Argument::default()];
        let mut depth = 1;
        loop {
            let Some(mut token) = reader.raw() else {
                return Err(self.doubt("a macro call without its end"));
            };
            self.spend(0)?;
            if token.kind == Kind::Identifier && self.memory.table.get(token.sym).is_some() {
                // A macro that is off where its name is read stays unexpanded for good.
                token.painted |= reader.is_off(token.sym);
            }
            if token.is(symbols::LEFT) {
                depth += 1;
            } else if token.is(symbols::RIGHT) {
                depth -= 1;
                if depth == 0 {
                    return Ok(arguments);
                }
            } else if token.is(symbols::COMMA) && depth == 1 && !(variadic && arguments.len() == parameters) {
                arguments.push(Argument::default());
                continue;
            }
            if let Some(last) = arguments.last_mut() {
                last.tokens.push(token);
            }
        }
    }

    /// The body with arguments put in; `##` is still to be carried out.
    fn substitute(
        &mut self,
        reader: &mut Reader,
        id: MacroId,
        body: &[Token],
        arguments: &mut [Argument],
        pieces: &mut Vec<Piece>,
    ) -> Result<(), Declined> {
        let mut at = 0;
        while at < body.len() {
            let token = body[at];
            at += 1;
            let pasted_left = at >= 2 && body[at - 2].kind == Kind::Paste;
            let pasted_right = body.get(at).is_some_and(|next| next.kind == Kind::Paste);
            match token.kind {
                Kind::Stringify => {
                    let next = body[at];
                    at += 1;
                    if next.kind != Kind::Parameter {
                        return Err(self.doubt("#__VA_OPT__"));
                    }
                    let text = self.stringify(&arguments[next.sym as usize].tokens)?;
                    pieces.push(Piece::Token(Token { space: token.space, gap: token.gap, ..text }));
                }
                Kind::Parameter if pasted_left || pasted_right => {
                    let argument = &arguments[token.sym as usize];
                    let definition = self.memory.macros.get(id);
                    if pasted_left && is_rest(definition, token) && self.after_comma(pieces) {
                        pieces.pop();
                        if argument.tokens.is_empty() {
                            pieces.pop();
                        }
                    } else if argument.tokens.is_empty() {
                        pieces.push(Piece::Placemarker);
                    }
                    put(pieces, &argument.tokens, token.gap);
                }
                Kind::Parameter => {
                    self.expand_argument(reader, &mut arguments[token.sym as usize])?;
                    let expanded = arguments[token.sym as usize].expanded.as_deref().unwrap_or(&[]);
                    put(pieces, expanded, token.gap);
                    self.spend(expanded.len())?;
                }
                Kind::Identifier if token.sym == symbols::VA_OPT && self.memory.macros.get(id).variadic => {
                    if pasted_left {
                        return Err(self.doubt("__VA_OPT__ beside ##"));
                    }
                    at = self.optional(reader, id, body, at, arguments, pieces)?;
                }
                _ => pieces.push(piece(token)),
            }
        }
        Ok(())
    }

    /// `__VA_OPT__ ( … )`: what is inside, if there are variable arguments. Returns its end.
    fn optional(
        &mut self,
        reader: &mut Reader,
        id: MacroId,
        body: &[Token],
        at: usize,
        arguments: &mut [Argument],
        pieces: &mut Vec<Piece>,
    ) -> Result<usize, Declined> {
        let mut depth = 0usize;
        let mut end = at;
        loop {
            match body.get(end) {
                Some(token) if token.is(symbols::LEFT) => depth += 1,
                Some(token) if token.is(symbols::RIGHT) => depth -= 1,
                Some(_) if depth > 0 => {}
                _ => return Err(self.doubt("__VA_OPT__ in an unusual form")),
            }
            end += 1;
            if depth == 0 {
                break;
            }
        }
        let inside = &body[at + 1..end - 1];
        let pastes = |token: Option<&Token>| token.is_some_and(|token| token.kind == Kind::Paste);
        if pastes(body.get(end)) || pastes(inside.first()) || pastes(inside.last()) {
            return Err(self.doubt("__VA_OPT__ beside ##"));
        }
        let Some(last) = arguments.len().checked_sub(1) else {
            return Err(self.doubt("__VA_OPT__ in an unusual form"));
        };
        self.expand_argument(reader, &mut arguments[last])?;
        if arguments[last].expanded.as_ref().is_some_and(|tokens| !tokens.is_empty()) {
            self.substitute(reader, id, inside, arguments, pieces)?;
        }
        Ok(end)
    }

    /// Whether `pieces` ends in a comma and `##`: GNU's way to drop a comma.
    fn after_comma(&self, pieces: &[Piece]) -> bool {
        matches!(pieces, [.., Piece::Token(comma), Piece::Paste] if comma.is(symbols::COMMA))
    }

    fn expand_argument(&mut self, reader: &mut Reader, argument: &mut Argument) -> Result<(), Declined> {
        if argument.expanded.is_some() {
            return Ok(());
        }
        if reader.argument_depth >= ARGUMENT_DEPTH_MAX {
            return Err(Declined::Limit("macro arguments nested too deeply"));
        }
        let floor = std::mem::replace(&mut reader.floor, reader.stack.len());
        let carry = std::mem::take(&mut reader.carry);
        reader.push(argument.tokens.as_slice().into(), None, None);
        reader.argument_depth += 1;
        let mut expanded = Vec::new();
        while let Some(token) = self.next(reader)? {
            expanded.push(token);
        }
        reader.argument_depth -= 1;
        reader.floor = floor;
        reader.carry = carry;
        argument.expanded = Some(expanded);
        Ok(())
    }

    fn stringify(&mut self, tokens: &[Token]) -> Result<Token, Declined> {
        let mut text = vec![b'"'];
        for (index, token) in tokens.iter().enumerate() {
            if index > 0 && token.gap {
                text.push(b' ');
            }
            let literal = matches!(token.kind, Kind::Text | Kind::Character);
            for &byte in self.memory.symbols.text(token.sym) {
                if literal && matches!(byte, b'"' | b'\\') {
                    text.push(b'\\');
                }
                text.push(byte);
            }
            if text.len() > SPELLING_MAX_BYTES {
                return Err(Declined::Limit("the length of a token"));
            }
        }
        text.push(b'"');
        self.spend(text.len() / 16)?;
        Ok(Token::new(Kind::Text, self.memory.symbols.intern(&text)))
    }

    fn paste_all(&mut self, pieces: Vec<Piece>) -> Result<Vec<Token>, Declined> {
        let mut out: Vec<Token> = Vec::with_capacity(pieces.len());
        // Whether the last thing was nothing, standing where `##` needs something.
        let mut nothing = false;
        let mut paste = false;
        for piece in pieces {
            let right = match piece {
                Piece::Paste => {
                    paste = true;
                    continue;
                }
                Piece::Token(token) => Some(token),
                Piece::Placemarker => None,
            };
            let pasting = std::mem::take(&mut paste);
            match (pasting, right) {
                (true, Some(right)) if !nothing => {
                    let Some(left) = out.pop() else {
                        return Err(self.doubt("## at the start of a macro"));
                    };
                    let pasted = self.paste(left, right)?;
                    out.push(pasted);
                }
                (true, None) if !nothing => {}
                (_, Some(right)) => {
                    nothing = false;
                    out.push(right);
                }
                (_, None) => nothing = true,
            }
        }
        Ok(out)
    }

    fn paste(&mut self, left: Token, right: Token) -> Result<Token, Declined> {
        let text = [self.memory.symbols.text(left.sym), self.memory.symbols.text(right.sym)].concat();
        if text.len() > SPELLING_MAX_BYTES {
            return Err(Declined::Limit("the length of a token"));
        }
        self.spend(text.len() / 16)?;
        let mode = self.request.facts.mode;
        let mut tokens = token::tokenise(&text, mode, Headers::Never, &mut self.memory.symbols);
        match (tokens.pop(), tokens.is_empty()) {
            (Some(token), true) if token.kind != Kind::Other => {
                Ok(Token { space: left.space, gap: left.gap, ..token })
            }
            _ => Err(self.doubt("## that makes no token")),
        }
    }
}

fn piece(token: Token) -> Piece {
    if token.kind == Kind::Paste { Piece::Paste } else { Piece::Token(token) }
}

/// Whether a parameter is the one that collects the rest.
fn is_rest(definition: &Definition, parameter: Token) -> bool {
    let count = definition.parameters.as_ref().map_or(0, |list| list.len());
    definition.variadic && parameter.sym as usize + 1 == count
}

/// Puts an argument's tokens in; the first has in front of it what the parameter had.
fn put(pieces: &mut Vec<Piece>, tokens: &[Token], gap: bool) {
    for (index, &token) in tokens.iter().enumerate() {
        let gap = if index == 0 { gap } else { token.gap };
        pieces.push(Piece::Token(Token { gap, ..token }));
    }
}
