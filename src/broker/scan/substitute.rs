//! Calls of function-like macros: arguments, `#`, `##`, `__VA_OPT__`.

use super::Declined;
use super::expand::Reader;
use super::macros::{Definition, MacroId};
use super::symbols;
use super::token::{self, Headers, Kind, Token};
use super::walk::Walk;

/// Arguments within arguments that are expanded.
const ARGUMENT_DEPTH_MAX: usize = 200;
/// The longest token that pasting or stringifying may make, in bytes.
pub(super) const SPELLING_MAX_BYTES: usize = 1 << 16;

/// One argument of a call.
#[derive(Default)]
struct Argument {
    tokens: Vec<Token>,
    expanded: Option<Vec<Token>>,
}

/// A piece of a body while arguments are put in.
pub(super) enum Piece {
    Token(Token),
    /// Nothing, where `##` needs something.
    Placemarker,
    Paste,
}

impl Walk<'_> {
    /// Reads the arguments of a function-like macro and pushes its expansion.
    pub(super) fn call(&mut self, reader: &mut Reader, name: Token, id: MacroId) -> Result<(), Declined> {
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

    pub(super) fn paste_all(&mut self, pieces: Vec<Piece>) -> Result<Vec<Token>, Declined> {
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

/// A body's token as a piece.
pub(super) fn piece(token: Token) -> Piece {
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
