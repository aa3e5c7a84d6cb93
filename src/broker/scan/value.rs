//! Values of `#if`, and what operators do to them.

use super::symbols::{self, Sym};
use super::token::Mode;

/// A value of `#if`: 64 bits, signed or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    /// The bits.
    pub bits: u64,
    /// Whether they are `uintmax_t`.
    pub unsigned: bool,
}

impl Value {
    /// A signed value.
    pub fn signed(bits: i64) -> Self {
        Value { bits: bits as u64, unsigned: false }
    }

    /// 1 or 0.
    pub fn truth(truth: bool) -> Self {
        Value::signed(i64::from(truth))
    }

    /// Whether it is not 0.
    pub fn is_true(self) -> bool {
        self.bits != 0
    }
}

/// An integer constant as `#if` reads it.
pub fn number(text: &[u8]) -> Result<Value, &'static str> {
    let text: Vec<u8> =
        text.iter().copied().filter(|&byte| byte != b'\'').map(|b| b.to_ascii_lowercase()).collect();
    let (radix, digits) = match &text[..] {
        [b'0', b'x', rest @ ..] => (16, rest),
        [b'0', b'b', rest @ ..] => (2, rest),
        [b'0', ..] => (8, &text[..]),
        _ => (10, &text[..]),
    };
    let is_digit = |byte: &u8| char::from(*byte).is_digit(radix);
    let length = digits.iter().position(|byte| !is_digit(byte)).unwrap_or(digits.len());
    let suffix = match &digits[length..] {
        b"" | b"l" | b"ll" => false,
        b"u" | b"ul" | b"ull" | b"lu" | b"llu" => true,
        _ => return Err("a number that #if cannot have"),
    };
    if length == 0 {
        return Err("a number that #if cannot have");
    }
    let mut bits: u64 = 0;
    for &digit in &digits[..length] {
        let digit = char::from(digit).to_digit(radix).unwrap_or(0);
        let shifted = bits.checked_mul(u64::from(radix)).and_then(|bits| bits.checked_add(u64::from(digit)));
        bits = shifted.ok_or("a number too large for #if")?;
    }
    Ok(Value { bits, unsigned: suffix || bits > i64::MAX as u64 })
}

/// A character constant of one character: ASCII, or an escape of one byte.
pub fn character(text: &[u8], mode: Mode) -> Result<Value, &'static str> {
    const ODD: Result<Value, &str> = Err("an unusual character constant");
    let (text, narrow, unsigned) = match text.strip_prefix(b"L") {
        Some(text) => (text, false, mode.unsigned_wide),
        None => (text, true, mode.unsigned_char),
    };
    let Some(inner) = text.strip_prefix(b"'").and_then(|text| text.strip_suffix(b"'")) else { return ODD };
    let code = match inner {
        [plain] if *plain != b'\\' => u32::from(*plain),
        [b'\\', escaped] if !escaped.is_ascii_digit() => match escaped {
            b'n' => 10,
            b't' => 9,
            b'r' => 13,
            b'a' => 7,
            b'b' => 8,
            b'f' => 12,
            b'v' => 11,
            b'\\' | b'\'' | b'"' | b'?' => u32::from(*escaped),
            _ => return ODD,
        },
        [b'\\', b'x', hex @ ..] if hex.len() <= 2 => radix_value(hex, 16).unwrap_or(256),
        [b'\\', octal @ ..] if octal.len() <= 3 => radix_value(octal, 8).unwrap_or(256),
        _ => return ODD,
    };
    match code {
        0..0x80 => Ok(Value { bits: u64::from(code), unsigned }),
        // An escape above ASCII is a negative `char`, where that is signed.
        0x80..0x100 if inner.len() > 1 && narrow && !unsigned => {
            Ok(Value::signed(i64::from(code as u8 as i8)))
        }
        0x80..0x100 if inner.len() > 1 => Ok(Value { bits: u64::from(code), unsigned }),
        _ => ODD,
    }
}

fn radix_value(digits: &[u8], radix: u32) -> Option<u32> {
    let value =
        digits.iter().try_fold(0u32, |value, &byte| Some(value * radix + char::from(byte).to_digit(radix)?));
    value.filter(|_| !digits.is_empty())
}

/// Applies a prefix operator.
pub fn prefix(operator: Sym, value: Value) -> Value {
    match operator {
        symbols::NOT => Value::truth(!value.is_true()),
        symbols::MINUS => Value { bits: value.bits.wrapping_neg(), ..value },
        symbols::TILDE => Value { bits: !value.bits, ..value },
        _ => value,
    }
}

/// Applies a binary operator whose both sides are evaluated.
pub fn binary(operator: Sym, left: Value, right: Value) -> Result<Value, &'static str> {
    let unsigned = left.unsigned || right.unsigned;
    let (a, b) = (left.bits, right.bits);
    let less = |a: u64, b: u64| if unsigned { a < b } else { (a as i64) < (b as i64) };
    let bits = match operator {
        symbols::COMMA => return Ok(right),
        symbols::EQUAL => return Ok(Value::truth(a == b)),
        symbols::NOT_EQUAL => return Ok(Value::truth(a != b)),
        symbols::LESS => return Ok(Value::truth(less(a, b))),
        symbols::GREATER => return Ok(Value::truth(less(b, a))),
        symbols::LESS_EQUAL => return Ok(Value::truth(!less(b, a))),
        symbols::GREATER_EQUAL => return Ok(Value::truth(!less(a, b))),
        symbols::SHIFT_LEFT | symbols::SHIFT_RIGHT => return shift(operator, left, b),
        symbols::PLUS => a.wrapping_add(b),
        symbols::MINUS => a.wrapping_sub(b),
        symbols::STAR => a.wrapping_mul(b),
        symbols::SLASH | symbols::PERCENT => divide(operator, unsigned, a, b)?,
        symbols::AMPERSAND => a & b,
        symbols::BAR => a | b,
        symbols::CARET => a ^ b,
        _ => return Err("an operator that #if cannot have"),
    };
    Ok(Value { bits, unsigned })
}

fn shift(operator: Sym, left: Value, count: u64) -> Result<Value, &'static str> {
    if count > 63 {
        // Compilers differ here.
        return Err("a shift in #if beyond the width");
    }
    let bits = match (operator, left.unsigned) {
        (symbols::SHIFT_LEFT, _) => left.bits << count,
        (_, true) => left.bits >> count,
        (_, false) => ((left.bits as i64) >> count) as u64,
    };
    Ok(Value { bits, ..left })
}

fn divide(operator: Sym, unsigned: bool, a: u64, b: u64) -> Result<u64, &'static str> {
    if b == 0 {
        return Err("a division by zero in #if");
    }
    Ok(match (operator, unsigned) {
        (symbols::SLASH, true) => a / b,
        (symbols::SLASH, false) => (a as i64).wrapping_div(b as i64) as u64,
        (_, true) => a % b,
        (_, false) => (a as i64).wrapping_rem(b as i64) as u64,
    })
}
