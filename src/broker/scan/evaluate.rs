//! The value of `#if`: in place where that is exact, through full macro expansion otherwise.

use super::Declined;
use super::directive::Condition;
use super::expression::{self, Expression};
use super::macros::{Builtin, MacroId};
use super::symbols::{self, Sym};
use super::token::{Kind, Token};
use super::value::{self, Value};
use super::walk::{Name, Walk};

/// Macros within macros that are evaluated in place.
const NESTING_MAX: usize = 40;

/// Why an expression has no value yet.
pub(super) enum Stop {
    /// Macros must be expanded first.
    Expand,
    /// There is no certain value.
    Declined(Box<Declined>),
}

impl From<Declined> for Stop {
    fn from(declined: Declined) -> Self {
        Stop::Declined(Box::new(declined))
    }
}

impl Walk<'_> {
    /// Whether a condition holds.
    pub(super) fn condition(&mut self, condition: &Condition) -> Result<bool, Declined> {
        match self.value(&condition.expression, 0) {
            Ok(value) => return Ok(value.is_true()),
            Err(Stop::Declined(declined)) => return Err(*declined),
            Err(Stop::Expand) => {}
        }
        let mode = self.request.facts.mode;
        let tokens = self.expand_condition(&condition.tokens)?;
        let compiled = expression::compile(&tokens, mode, true, &self.memory.symbols);
        let expression = compiled.map_err(|what| self.doubt(what))?;
        match self.value(&expression, 0) {
            Ok(value) => Ok(value.is_true()),
            Err(Stop::Declined(declined)) => Err(*declined),
            Err(Stop::Expand) => Err(self.doubt("a condition that expands without end")),
        }
    }

    fn value(&mut self, expression: &Expression, nesting: usize) -> Result<Value, Stop> {
        match expression {
            Expression::Constant(value) => Ok(*value),
            Expression::Name(name) => self.name_value(*name, nesting),
            Expression::Parameter(index) => self.parameters.get(*index as usize).copied().ok_or(Stop::Expand),
            Expression::Defined(name) => Ok(Value::truth(self.is_defined(*name)?)),
            Expression::Call(name, arguments) => self.call_value(*name, arguments, nesting),
            Expression::Has { query, header } => self.has_value(*query, *header),
            Expression::Prefix(operator, inner) => Ok(value::prefix(*operator, self.value(inner, nesting)?)),
            Expression::Binary(operator, sides) => self.binary_value(*operator, sides, nesting),
            Expression::Choice(parts) => {
                let condition = self.value(&parts.0, nesting)?.is_true();
                let (taken, other) = if condition { (&parts.1, &parts.2) } else { (&parts.2, &parts.1) };
                self.skipped(other)?;
                let value = self.value(taken, nesting)?;
                Ok(Value { unsigned: value.unsigned || self.is_unsigned(other)?, ..value })
            }
            // Macros may make sense of what does not parse as it stands.
            Expression::Bad(what @ ("#elifdef" | "#ifdef without a name")) => Err(self.doubt(what).into()),
            Expression::Bad(_) => Err(Stop::Expand),
        }
    }

    /// Whether the side of `?:` that is not taken makes the result unsigned.
    fn is_unsigned(&self, expression: &Expression) -> Result<bool, Stop> {
        match expression {
            Expression::Constant(value) => Ok(value.unsigned),
            Expression::Parameter(index) => {
                Ok(self.parameters.get(*index as usize).is_some_and(|value| value.unsigned))
            }
            Expression::Defined(_) | Expression::Has { .. } | Expression::Prefix(symbols::NOT, _) => {
                Ok(false)
            }
            Expression::Prefix(_, inner) => self.is_unsigned(inner),
            Expression::Binary(operator, sides) => match *operator {
                symbols::AND_AND | symbols::OR_OR | symbols::EQUAL | symbols::NOT_EQUAL => Ok(false),
                symbols::LESS | symbols::GREATER | symbols::LESS_EQUAL | symbols::GREATER_EQUAL => Ok(false),
                symbols::SHIFT_LEFT | symbols::SHIFT_RIGHT => self.is_unsigned(&sides.0),
                symbols::COMMA => self.is_unsigned(&sides.1),
                _ => Ok(self.is_unsigned(&sides.0)? || self.is_unsigned(&sides.1)?),
            },
            Expression::Choice(parts) => Ok(self.is_unsigned(&parts.1)? || self.is_unsigned(&parts.2)?),
            Expression::Name(_) | Expression::Call(..) | Expression::Bad(_) => Err(Stop::Expand),
        }
    }

    fn binary_value(
        &mut self,
        operator: Sym,
        sides: &(Expression, Expression),
        nesting: usize,
    ) -> Result<Value, Stop> {
        if let Some(differ) = self.counters_differ(operator, sides)? {
            return Ok(Value::truth(differ));
        }
        let left = self.value(&sides.0, nesting)?;
        match (operator, left.is_true()) {
            (symbols::AND_AND, false) | (symbols::OR_OR, true) => {
                self.skipped(&sides.1)?;
                Ok(Value::truth(left.is_true()))
            }
            (symbols::AND_AND | symbols::OR_OR, _) => {
                Ok(Value::truth(self.value(&sides.1, nesting)?.is_true()))
            }
            _ => {
                let right = self.value(&sides.1, nesting)?;
                let result = value::binary(operator, left, right);
                result.map_err(|what| self.doubt(what).into())
            }
        }
    }

    /// `__COUNTER__ != __COUNTER__`, by which gnulib asks whether the counter counts: its value depends on all
    /// text before it, but no two in a row are equal.
    fn counters_differ(
        &mut self,
        operator: Sym,
        sides: &(Expression, Expression),
    ) -> Result<Option<bool>, Stop> {
        let counter = Expression::Name(symbols::COUNTER);
        if !matches!(operator, symbols::EQUAL | symbols::NOT_EQUAL)
            || sides.0 != counter
            || sides.1 != counter
        {
            return Ok(None);
        }
        let counts = self.macro_of(symbols::COUNTER)?.is_some_and(|id| {
            // Not one of the source's own.
            self.memory.macros.get(id).builtin == Some(Builtin::Unknown)
        });
        Ok(counts.then_some(operator == symbols::NOT_EQUAL))
    }

    /// What is not evaluated must still parse: a call of no macro does not, and a macro that is
    /// more than an operand may change the whole expression.
    fn skipped(&mut self, expression: &Expression) -> Result<(), Stop> {
        match expression {
            // Compilers ask for the file even so.
            Expression::Has { query, header } => self.has_value(*query, *header).map(|_| ()),
            Expression::Call(name, _) => match self.macro_of(*name)? {
                None => Err(self.doubt("a call of something that is no macro in #if").into()),
                Some(id) if self.asks_for_files(id) => Err(Stop::Expand),
                Some(_) => Ok(()),
            },
            Expression::Name(name) => match self.macro_of(*name)? {
                Some(id) if self.memory.macros.get(id).parameters.is_none() => {
                    let memory = &mut *self.memory;
                    match memory.macros.operand(id, &mut memory.symbols) {
                        Some(inner) if !inner.asks_for_files() => Ok(()),
                        _ => Err(Stop::Expand),
                    }
                }
                _ => Ok(()),
            },
            Expression::Prefix(_, inner) => self.skipped(inner),
            Expression::Binary(_, sides) => {
                self.skipped(&sides.0)?;
                self.skipped(&sides.1)
            }
            Expression::Choice(parts) => {
                self.skipped(&parts.0)?;
                self.skipped(&parts.1)?;
                self.skipped(&parts.2)
            }
            Expression::Bad(_) => Err(Stop::Expand),
            _ => Ok(()),
        }
    }

    /// Whether a macro's own body asks for files, or is the compiler's own way to ask.
    fn asks_for_files(&mut self, id: MacroId) -> bool {
        let memory = &mut *self.memory;
        if matches!(memory.macros.get(id).builtin, Some(Builtin::HasInclude | Builtin::HasIncludeNext)) {
            return true;
        }
        let body = memory.macros.body(id, &mut memory.symbols);
        body.iter().any(|token| token.kind == Kind::Identifier && expression::is_query(token.sym))
    }

    fn name_value(&mut self, name: Sym, nesting: usize) -> Result<Value, Stop> {
        let Some(id) = self.macro_of(name)? else {
            return Ok(Value::truth(name == symbols::TRUE && self.request.facts.mode.truth));
        };
        if nesting > NESTING_MAX {
            return Err(Stop::Expand);
        }
        let memory = &mut *self.memory;
        if let Some(value) = memory.macros.constant(id) {
            return Ok(value);
        }
        let definition = memory.macros.get(id);
        if definition.builtin.is_some() {
            return Err(Stop::Expand);
        }
        if definition.parameters.is_some() {
            // Named without arguments: the name stays, and is 0.
            return Ok(Value::signed(0));
        }
        match memory.macros.operand(id, &mut memory.symbols) {
            Some(expression) => self.value(&expression, nesting + 1),
            None => Err(Stop::Expand),
        }
    }

    fn call_value(&mut self, name: Sym, arguments: &[Token], nesting: usize) -> Result<Value, Stop> {
        let Some(id) = self.macro_of(name)? else {
            return Err(self.doubt("a call of something that is no macro in #if").into());
        };
        let memory = &mut *self.memory;
        let definition = memory.macros.get(id);
        match definition.builtin {
            Some(Builtin::Question) => return self.question_value(name, arguments),
            Some(_) => return Err(Stop::Expand),
            None => {}
        }
        if definition.parameters.is_none() || nesting > NESTING_MAX {
            return Err(Stop::Expand);
        }
        let Some(body) = memory.macros.operand(id, &mut memory.symbols) else {
            let name = self.pasted_name(id, arguments).ok_or(Stop::Expand)?;
            return self.name_value(name, nesting + 1);
        };
        // A macro that ignores its arguments, such as `#define __has_feature(x) 0`.
        if matches!(*body, Expression::Constant(_)) {
            return self.value(&body, nesting + 1);
        }
        let values = self.argument_values(id, arguments, nesting)?;
        let outer = std::mem::replace(&mut self.parameters, values);
        let value = self.value(&body, nesting + 1);
        self.parameters = outer;
        value
    }

    /// The name that `#define M(x) NAME ## x` makes of one name, as glibc's feature tests do.
    fn pasted_name(&mut self, id: MacroId, arguments: &[Token]) -> Option<Sym> {
        let [argument] = arguments else { return None };
        let memory = &mut *self.memory;
        let definition = memory.macros.get(id);
        if definition.variadic || definition.parameters.as_ref().is_none_or(|list| list.len() != 1) {
            return None;
        }
        let body = memory.macros.body(id, &mut memory.symbols);
        let [start, paste, parameter] = &body[..] else { return None };
        let shape = (start.kind, paste.kind, parameter.kind, argument.kind);
        if shape != (Kind::Identifier, Kind::Paste, Kind::Parameter, Kind::Identifier) {
            return None;
        }
        let text = [memory.symbols.text(start.sym), memory.symbols.text(argument.sym)].concat();
        Some(memory.symbols.intern(&text)).filter(|&name| name != symbols::DEFINED)
    }

    /// The values of arguments that are a number or a name each, as in `PREREQ(2, 7)`.
    fn argument_values(
        &mut self,
        id: MacroId,
        arguments: &[Token],
        nesting: usize,
    ) -> Result<Vec<Value>, Stop> {
        let definition = self.memory.macros.get(id);
        let count = definition.parameters.as_ref().map_or(0, |list| list.len());
        if definition.variadic || count == 0 || arguments.len() + 1 != count * 2 {
            return Err(Stop::Expand);
        }
        let mut values = Vec::with_capacity(count);
        for (at, token) in arguments.iter().enumerate() {
            match token.kind {
                Kind::Operator if at % 2 == 1 && token.sym == symbols::COMMA => {}
                Kind::Number if at % 2 == 0 => {
                    let value = value::number(self.memory.symbols.text(token.sym));
                    values.push(value.map_err(|_| Stop::Expand)?);
                }
                Kind::Identifier if at % 2 == 0 && !symbols::is_named_operator(token.sym) => {
                    values.push(self.name_value(token.sym, nesting + 1)?);
                }
                _ => return Err(Stop::Expand),
            }
        }
        Ok(values)
    }

    fn question_value(&mut self, name: Sym, arguments: &[Token]) -> Result<Value, Stop> {
        if self.gcc() && self.has_macro(arguments) {
            return Err(Stop::Expand);
        }
        Ok(self.ask(name, arguments)?)
    }

    /// Whether any of these is the name of a macro.
    fn has_macro(&mut self, tokens: &[Token]) -> bool {
        let table = &mut self.memory.table;
        tokens.iter().any(|token| token.kind == Kind::Identifier && table.get(token.sym).is_some())
    }

    /// What the compiler says to `name(arguments)`.
    pub(super) fn ask(&mut self, name: Sym, arguments: &[Token]) -> Result<Value, Declined> {
        // Which of its questions clang asks of a macro's name, and which of what the macro stands for,
        // is another matter in each version.
        if !self.gcc() && self.has_macro(arguments) {
            return Err(self.doubt("a question about a name that is a macro"));
        }
        let mut question = self.memory.symbols.text(name).to_vec();
        question.push(b'(');
        for token in arguments {
            question.extend_from_slice(self.memory.symbols.text(token.sym));
        }
        question.push(b')');
        match self.oracle.answer(&question) {
            Some(answer) => Ok(Value::signed(answer)),
            None => Err(self.doubt("a question that the compiler does not answer")),
        }
    }

    fn has_value(&mut self, query: Sym, header: Sym) -> Result<Value, Stop> {
        let Some(id) = self.macro_of(query)? else {
            return Err(self.doubt("a call of something that is no macro in #if").into());
        };
        let Some(builtin) = self.memory.macros.get(id).builtin else { return Err(Stop::Expand) };
        let name = self.header_name(header)?;
        Ok(Value::truth(self.has_include(builtin, name)?))
    }

    /// The name inside `<…>` or `"…"`.
    pub(super) fn header_name(&mut self, header: Sym) -> Result<Name, Declined> {
        let text = self.memory.symbols.text(header);
        if text.len() < 3 || !matches!(text[0], b'<' | b'"') {
            return Err(self.doubt("an odd header name"));
        }
        let angled = text[0] == b'<';
        let name = text[1..text.len() - 1].to_vec();
        Ok(Name { sym: self.memory.symbols.intern(&name), angled })
    }
}
