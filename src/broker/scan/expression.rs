//! `#if` expressions: compiled once, evaluated often.

use super::symbols::{self, Sym, Symbols};
use super::token::{Kind, Mode, Token};
use super::value::{self, Value, character, number};

/// Operators that one expression may have: below what recursion over its tree can take.
const OPERATORS_MAX: usize = 1000;
/// Nested parentheses and prefix operators that one expression may have.
const DEPTH_MAX: usize = 128;

/// A compiled expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Expression {
    /// A constant.
    Constant(Value),
    /// A name: 0 unless a macro of that name is in force.
    Name(Sym),
    /// `defined X`.
    Defined(Sym),
    /// Within a macro's body: the value of that argument.
    Parameter(u32),
    /// A name with arguments, up to the closing parenthesis.
    Call(Sym, Box<[Token]>),
    /// `__has_include` and `__has_include_next` of a literal header name.
    Has {
        /// `__has_include` or `__has_include_next`.
        query: Sym,
        /// The name with its quotes or angle brackets.
        header: Sym,
    },
    /// A prefix operator.
    Prefix(Sym, Box<Expression>),
    /// A binary operator.
    Binary(Sym, Box<(Expression, Expression)>),
    /// `a ? b : c`.
    Choice(Box<(Expression, Expression, Expression)>),
    /// Something that is an error when it is evaluated.
    Bad(&'static str),
}

impl Expression {
    /// Whether any part is a call, or asks for files.
    fn calls(&self) -> bool {
        match self {
            Expression::Call(..) | Expression::Has { .. } => true,
            Expression::Prefix(_, inner) => inner.calls(),
            Expression::Binary(_, sides) => sides.0.calls() || sides.1.calls(),
            Expression::Choice(parts) => parts.0.calls() || parts.1.calls() || parts.2.calls(),
            _ => false,
        }
    }

    /// Whether evaluating it asks for files.
    pub fn asks_for_files(&self) -> bool {
        match self {
            Expression::Has { .. } => true,
            Expression::Call(name, tokens) => {
                is_query(*name) || tokens.iter().any(|token| is_query(token.sym))
            }
            Expression::Prefix(_, inner) => inner.asks_for_files(),
            Expression::Binary(_, sides) => sides.0.asks_for_files() || sides.1.asks_for_files(),
            Expression::Choice(parts) => {
                parts.0.asks_for_files() || parts.1.asks_for_files() || parts.2.asks_for_files()
            }
            _ => false,
        }
    }
}

/// Whether `__has_include` or one of its kin.
pub fn is_query(sym: Sym) -> bool {
    (symbols::HAS_INCLUDE..=symbols::HAS_EMBED).contains(&sym)
}

/// Compiles a whole line. With `expanded`, macros are done with: every name is 0 (or `true`).
pub fn compile(
    tokens: &[Token],
    mode: Mode,
    expanded: bool,
    symbols: &Symbols,
) -> Result<Expression, &'static str> {
    let mut parser = Parser { tokens, at: 0, mode, expanded, symbols, operators: 0, depth: 0 };
    let expression = parser.comma()?;
    if parser.at < tokens.len() {
        return Err("an #if expression with something behind its end");
    }
    Ok(expression)
}

/// Compiles a macro body that can stand for itself as an operand.
pub fn operand(tokens: &[Token], mode: Mode, symbols: &Symbols) -> Option<Expression> {
    let mut parser = Parser { tokens, at: 0, mode, expanded: false, symbols, operators: 0, depth: 0 };
    let plain = |token: &Token| !matches!(token.kind, Kind::Stringify | Kind::Paste);
    if tokens.is_empty() || tokens.len() > 200 || !tokens.iter().all(plain) {
        return None;
    }
    // `defined` out of a macro is left to the expander.
    if tokens.iter().any(|token| token.kind == Kind::Identifier && token.sym == symbols::DEFINED) {
        return None;
    }
    let expression = parser.prefix().ok()?;
    // A name at the end may find its arguments behind the macro's own end.
    let complete = parser.at == tokens.len();
    let open_ended = tokens.len() > 1 && tokens[tokens.len() - 1].kind == Kind::Identifier;
    // What arguments do to calls within is left to the expander, too.
    let calls_with = tokens.iter().any(|token| token.kind == Kind::Parameter) && expression.calls();
    (complete && !open_ended && !calls_with).then_some(expression)
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    mode: Mode,
    expanded: bool,
    symbols: &'a Symbols,
    operators: usize,
    depth: usize,
}

/// How tightly a binary operator binds; higher is tighter.
fn precedence(operator: Sym) -> Option<u8> {
    Some(match operator {
        symbols::OR_OR => 1,
        symbols::AND_AND => 2,
        symbols::BAR => 3,
        symbols::CARET => 4,
        symbols::AMPERSAND => 5,
        symbols::EQUAL | symbols::NOT_EQUAL => 6,
        symbols::LESS | symbols::GREATER | symbols::LESS_EQUAL | symbols::GREATER_EQUAL => 7,
        symbols::SHIFT_LEFT | symbols::SHIFT_RIGHT => 8,
        symbols::PLUS | symbols::MINUS => 9,
        symbols::STAR | symbols::SLASH | symbols::PERCENT => 10,
        _ => return None,
    })
}

impl Parser<'_> {
    fn operator(&self) -> Option<Sym> {
        let token = self.tokens.get(self.at)?;
        match token.kind {
            Kind::Operator => Some(token.sym),
            Kind::Identifier if self.mode.cxx && symbols::is_named_operator(token.sym) => {
                Some(symbols::named_operator(token.sym))
            }
            _ => None,
        }
    }

    fn take(&mut self, operator: Sym) -> bool {
        let taken = self.operator() == Some(operator);
        self.at += usize::from(taken);
        taken
    }

    fn comma(&mut self) -> Result<Expression, &'static str> {
        let mut left = self.conditional()?;
        while self.take(symbols::COMMA) {
            left = fold(symbols::COMMA, left, self.conditional()?);
            self.count(&left)?;
        }
        Ok(left)
    }

    /// Bounds the tree; what is constant is folded as it is read and adds nothing to it.
    fn count(&mut self, built: &Expression) -> Result<(), &'static str> {
        self.operators += usize::from(!matches!(built, Expression::Constant(_)));
        if self.operators > OPERATORS_MAX { Err("an #if expression of too many operators") } else { Ok(()) }
    }

    fn conditional(&mut self) -> Result<Expression, &'static str> {
        self.enter()?;
        let condition = self.binary(1)?;
        let result = if self.take(symbols::QUESTION) {
            let yes = self.comma()?;
            if !self.take(symbols::COLON) {
                return Err("an #if expression with ? and no :");
            }
            let no = self.conditional()?;
            choose(condition, yes, no)
        } else {
            condition
        };
        self.depth -= 1;
        Ok(result)
    }

    fn enter(&mut self) -> Result<(), &'static str> {
        self.depth += 1;
        if self.depth > DEPTH_MAX { Err("an #if expression nested too deeply") } else { Ok(()) }
    }

    fn binary(&mut self, least: u8) -> Result<Expression, &'static str> {
        let mut left = self.prefix()?;
        while let Some(operator) = self.operator() {
            let Some(binds) = precedence(operator).filter(|&binds| binds >= least) else { break };
            self.at += 1;
            let right = self.binary(binds + 1)?;
            left = fold(operator, left, right);
            self.count(&left)?;
        }
        Ok(left)
    }

    fn prefix(&mut self) -> Result<Expression, &'static str> {
        let Some(token) = self.tokens.get(self.at).copied() else {
            return Err("an #if expression that ends too soon");
        };
        if let Some(operator) = self.operator() {
            self.at += 1;
            return self.prefix_operator(operator);
        }
        self.at += 1;
        match token.kind {
            Kind::Number => Ok(Expression::Constant(number(self.symbols.text(token.sym))?)),
            Kind::Character => Ok(Expression::Constant(character(self.symbols.text(token.sym), self.mode)?)),
            Kind::Identifier => self.name(token.sym),
            Kind::Parameter => Ok(Expression::Parameter(token.sym)),
            _ => Err("an #if expression with a token that cannot be there"),
        }
    }

    fn prefix_operator(&mut self, operator: Sym) -> Result<Expression, &'static str> {
        self.enter()?;
        let result = match operator {
            symbols::LEFT => {
                let inner = self.comma()?;
                if !self.take(symbols::RIGHT) {
                    return Err("an #if expression with an open parenthesis");
                }
                inner
            }
            symbols::NOT | symbols::MINUS | symbols::PLUS | symbols::TILDE => match self.prefix()? {
                Expression::Constant(value) => Expression::Constant(value::prefix(operator, value)),
                inner => Expression::Prefix(operator, Box::new(inner)),
            },
            _ => return Err("an #if expression with an operator out of place"),
        };
        self.depth -= 1;
        Ok(result)
    }

    fn name(&mut self, name: Sym) -> Result<Expression, &'static str> {
        if self.expanded {
            return Ok(Expression::Constant(Value::truth(self.mode.truth && name == symbols::TRUE)));
        }
        if name == symbols::DEFINED {
            return self.defined();
        }
        if self.operator() != Some(symbols::LEFT) {
            return Ok(Expression::Name(name));
        }
        let start = self.at + 1;
        let end = self.closing().ok_or("an #if expression with open arguments")?;
        self.at = end + 1;
        let arguments = &self.tokens[start..end];
        if let ([header], true) = (arguments, is_query(name) && name != symbols::HAS_EMBED)
            && matches!(header.kind, Kind::Header | Kind::Text)
        {
            return Ok(Expression::Has { query: name, header: header.sym });
        }
        Ok(Expression::Call(name, arguments.into()))
    }

    fn defined(&mut self) -> Result<Expression, &'static str> {
        let bracketed = self.take(symbols::LEFT);
        let Some(token) = self.tokens.get(self.at).filter(|token| token.kind == Kind::Identifier) else {
            return Err("defined without a name");
        };
        self.at += 1;
        if bracketed && !self.take(symbols::RIGHT) {
            return Err("defined with an open parenthesis");
        }
        Ok(Expression::Defined(token.sym))
    }

    /// The index of the parenthesis that closes the one at `self.at`.
    fn closing(&self) -> Option<usize> {
        let mut depth = 0usize;
        for (offset, token) in self.tokens[self.at..].iter().enumerate() {
            if token.is(symbols::LEFT) {
                depth += 1;
            } else if token.is(symbols::RIGHT) {
                depth -= 1;
                if depth == 0 {
                    return Some(self.at + offset);
                }
            }
        }
        None
    }
}

/// A binary expression, or its value if both sides are constants and it has one.
fn fold(operator: Sym, left: Expression, right: Expression) -> Expression {
    if let (Expression::Constant(a), Expression::Constant(b)) = (&left, &right) {
        let value = match operator {
            symbols::AND_AND => Ok(Value::truth(a.is_true() && b.is_true())),
            symbols::OR_OR => Ok(Value::truth(a.is_true() || b.is_true())),
            _ => value::binary(operator, *a, *b),
        };
        if let Ok(value) = value {
            return Expression::Constant(value);
        }
    }
    Expression::Binary(operator, Box::new((left, right)))
}

/// `a ? b : c`, or its value.
fn choose(condition: Expression, yes: Expression, no: Expression) -> Expression {
    if let (Expression::Constant(c), Expression::Constant(a), Expression::Constant(b)) =
        (&condition, &yes, &no)
    {
        let taken = if c.is_true() { a } else { b };
        return Expression::Constant(Value { unsigned: a.unsigned || b.unsigned, ..*taken });
    }
    Expression::Choice(Box::new((condition, yes, no)))
}
