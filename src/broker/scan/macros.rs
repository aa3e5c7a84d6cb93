//! Macro definitions and the table of those in force.

use std::sync::Arc;

use super::askers::Askers;
use super::expression::{self, Expression};
use super::symbols::{self, QuickSet, Sym, Symbols};
use super::token::{self, Headers, Kind, Mode, Token};
use super::value::Value;

/// A definition, as an index into [`Macros`].
pub type MacroId = u32;

/// A macro that the compiler computes anew at each use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builtin {
    /// `__FILE__`.
    File,
    /// `__BASE_FILE__`.
    BaseFile,
    /// `__INCLUDE_LEVEL__`.
    IncludeLevel,
    /// `__has_include`.
    HasInclude,
    /// `__has_include_next`.
    HasIncludeNext,
    /// One whose answer for given arguments is asked of the compiler (`__has_attribute`, …).
    Question,
    /// One whose value the scanner does not know (`__LINE__`, `__COUNTER__`, the clock).
    Unknown,
}

/// One `#define`. The body stays text until the macro is first expanded: most never are.
#[derive(Debug)]
pub struct Definition {
    /// The macro's name.
    pub name: Sym,
    /// Parameters of a function-like macro; of a variadic one the last collects the rest.
    pub parameters: Option<Box<[Sym]>>,
    /// Whether the last parameter collects the rest.
    pub variadic: bool,
    /// Set for macros that no text defines.
    pub builtin: Option<Builtin>,
    mode: Mode,
    text: Box<[u8]>,
    body: Option<Arc<[Token]>>,
    leaf: Leaf,
}

/// What an object-like macro is as an operand of `#if`.
#[derive(Clone, Debug)]
enum Leaf {
    Unasked,
    Operand(Arc<Expression>),
    NotOne,
}

impl Definition {
    fn new(name: Sym, mode: Mode, text: &[u8]) -> Self {
        let text = text.trim_ascii().into();
        let (parameters, variadic, builtin) = (None, false, None);
        Definition { name, parameters, variadic, builtin, mode, text, body: None, leaf: Leaf::Unasked }
    }

    /// The body as it is written.
    pub fn text(&self) -> &[u8] {
        &self.text
    }
}

/// Parses what follows `#define`. `Err` says what is wrong with it.
pub fn parse(line: &[u8], mode: Mode, symbols: &mut Symbols) -> Result<Definition, &'static str> {
    let line = line.trim_ascii();
    let Some(&first) = line.first() else { return Err("#define without a name") };
    if !token::starts_name(first) {
        return Err("#define of something that is no name");
    }
    let length = line.iter().position(|&byte| !token::goes_on(byte)).unwrap_or(line.len());
    let name = symbols.intern(&line[..length]);
    let rest = &line[length..];
    if rest.first() != Some(&b'(') {
        return Ok(Definition::new(name, mode, rest));
    }
    let close = rest.iter().position(|&byte| byte == b')').ok_or("#define with an open parameter list")?;
    let mut definition = Definition::new(name, mode, &rest[close + 1..]);
    let (parameters, variadic) = parse_parameters(&rest[1..close], symbols)?;
    definition.parameters = Some(parameters);
    definition.variadic = variadic;
    Ok(definition)
}

fn parse_parameters(list: &[u8], symbols: &mut Symbols) -> Result<(Box<[Sym]>, bool), &'static str> {
    let mut parameters = Vec::new();
    let mut variadic = false;
    let blank = |byte: &u8| token::is_blank(*byte);
    if list.iter().all(blank) {
        return Ok((Box::default(), false));
    }
    for part in list.split(|&byte| byte == b',') {
        if variadic {
            return Err("#define with parameters behind the variadic one");
        }
        let part = part.trim_ascii();
        let name = match part.strip_suffix(b"...") {
            Some(name) => {
                variadic = true;
                name.trim_ascii()
            }
            None => part,
        };
        if name.is_empty() && variadic {
            parameters.push(symbols::VA_ARGS);
        } else if !name.is_empty()
            && token::starts_name(name[0])
            && name.iter().all(|&byte| token::goes_on(byte))
        {
            parameters.push(symbols.intern(name));
        } else {
            return Err("#define with a malformed parameter list");
        }
    }
    Ok((parameters.into(), variadic))
}

/// All definitions ever read.
#[derive(Debug, Default)]
pub struct Macros {
    definitions: Vec<Definition>,
    text_bytes: usize,
    /// Which of them ask for files.
    pub askers: Askers,
}

impl Macros {
    /// Keeps a definition.
    pub fn add(&mut self, definition: Definition, symbols: &Symbols) -> MacroId {
        self.askers.defined(definition.name, &definition.text, symbols);
        self.push(definition)
    }

    fn push(&mut self, definition: Definition) -> MacroId {
        self.text_bytes += definition.text.len();
        self.definitions.push(definition);
        self.definitions.len() as MacroId - 1
    }

    /// Keeps a macro that the compiler computes.
    pub fn add_builtin(&mut self, name: Sym, builtin: Builtin) -> MacroId {
        let mut definition = Definition::new(name, Mode::default(), b"");
        definition.builtin = Some(builtin);
        self.push(definition)
    }

    /// Names in conditions that were left out before they were known to ask for files.
    pub fn missed(&mut self, symbols: &Symbols) -> QuickSet<Sym> {
        self.askers.missed(&self.definitions, symbols)
    }

    /// The definition of that number.
    pub fn get(&self, id: MacroId) -> &Definition {
        &self.definitions[id as usize]
    }

    /// Memory in use, in bytes, nearly.
    pub fn size(&self) -> usize {
        self.text_bytes + self.askers.size() + self.definitions.len() * (size_of::<Definition>() + 16)
    }

    /// The body's tokens, parameters, `#` and `##` marked.
    pub fn body(&mut self, id: MacroId, symbols: &mut Symbols) -> Arc<[Token]> {
        let definition = &mut self.definitions[id as usize];
        if definition.body.is_none() {
            definition.body = Some(lex_body(definition, symbols));
        }
        definition.body.clone().unwrap_or_else(|| Arc::from([]))
    }

    /// The value of a macro without parameters that is known to stand for a constant.
    pub fn constant(&self, id: MacroId) -> Option<Value> {
        let definition = &self.definitions[id as usize];
        match &definition.leaf {
            Leaf::Operand(expression) if definition.parameters.is_none() => match **expression {
                Expression::Constant(value) => Some(value),
                _ => None,
            },
            _ => None,
        }
    }

    /// The macro as an operand of `#if`, if its body is one number, name, or expression in
    /// parentheses: then it may be evaluated in its place without expanding anything.
    pub fn operand(&mut self, id: MacroId, symbols: &mut Symbols) -> Option<Arc<Expression>> {
        if let Leaf::Unasked = self.definitions[id as usize].leaf {
            let body = self.body(id, symbols);
            let definition = &mut self.definitions[id as usize];
            definition.leaf = match expression::operand(&body, definition.mode, symbols) {
                Some(expression) => Leaf::Operand(Arc::new(expression)),
                None => Leaf::NotOne,
            };
        }
        match &self.definitions[id as usize].leaf {
            Leaf::Operand(expression) => Some(expression.clone()),
            _ => None,
        }
    }
}

fn lex_body(definition: &Definition, symbols: &mut Symbols) -> Arc<[Token]> {
    let mut tokens = token::tokenise(&definition.text, definition.mode, Headers::Never, symbols);
    if let Some(parameters) = &definition.parameters {
        for token in tokens.iter_mut().filter(|token| token.kind == Kind::Identifier) {
            if let Some(index) = parameters.iter().position(|&parameter| parameter == token.sym) {
                token.kind = Kind::Parameter;
                token.sym = index as Sym;
            }
        }
        for at in 0..tokens.len().saturating_sub(1) {
            let next = tokens[at + 1];
            let stringifies = next.kind == Kind::Parameter || next.sym == symbols::VA_OPT;
            if tokens[at].is(symbols::HASH) && stringifies {
                tokens[at].kind = Kind::Stringify;
            }
        }
    }
    for token in tokens.iter_mut().filter(|token| token.is(symbols::PASTE)) {
        token.kind = Kind::Paste;
    }
    if let Some(first) = tokens.first_mut() {
        first.space = false;
        first.gap = false;
    }
    tokens.into()
}

/// No definition.
pub const UNDEFINED: u32 = u32::MAX;
