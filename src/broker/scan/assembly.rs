//! Which text makes the assembler read a file: `.incbin` and `.include`, however they are spelled.
//!
//! An assembler statement in C is made of string literals, and those of macros. What is written out
//! is found here: in other letters, in escapes, over several literals. What macros might make of it is
//! told from how the text around them begins or ends.

/// Said of literals (and of assembler text) that make the assembler read a file.
pub const ASSEMBLER: &str = "assembler text that reads a file";

/// Text of one statement that is looked at; there is no reason for more.
const STATEMENT_MAX_BYTES: usize = 4 << 20;

/// Stands for what a macro says, in a statement's text.
const MACRO: u8 = 0;

const DIRECTIVES: [&[u8]; 2] = [b".incbin", b".include"];

/// Whether a literal or line has `.incbin` or `.include` in it, or makes a directive of parts.
pub fn names_file(text: &[u8]) -> bool {
    if !text.contains(&b'\\') && !text.contains(&b'.') {
        return false;
    }
    let clean = clean(text);
    has_directive(&clean) || (makes_directives(&clean) && has(&clean, b".\\"))
}

/// Assembler macros, whose arguments may become parts of directives.
fn makes_directives(text: &[u8]) -> bool {
    [&b".macro"[..], b".irp", b".rept"].iter().any(|word| has(text, word))
}

fn has(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}

fn has_directive(text: &[u8]) -> bool {
    DIRECTIVES.iter().any(|directive| has(text, directive))
}

/// A literal's text in small letters, splices gone, escapes replaced.
fn clean(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte != b'\\' {
            out.push(byte.to_ascii_lowercase());
            continue;
        }
        let (value, length) = escape(rest);
        rest = &rest[length..];
        match value {
            Escape::Nothing => {}
            Escape::Byte(value) => out.push(value.to_ascii_lowercase()),
        }
    }
    out
}

enum Escape {
    /// A line that goes on in the next.
    Nothing,
    Byte(u8),
}

/// What stands behind a backslash, and its length.
fn escape(rest: &[u8]) -> (Escape, usize) {
    if splice_length(rest) > 0 {
        return (Escape::Nothing, splice_length(rest));
    }
    match rest {
        // Of a character beyond ASCII the last bits do as well: what counts is that it is one.
        [b'x' | b'u' | b'U' | b'o', after @ ..] => {
            let (base, most) = match rest[0] {
                b'u' => (16, 4),
                b'U' => (16, 8),
                b'o' => (8, usize::MAX),
                _ => (16, usize::MAX),
            };
            let braced = after.starts_with(b"{");
            let (value, length) =
                digits(&after[usize::from(braced)..], base, if braced { usize::MAX } else { most });
            (
                Escape::Byte(value),
                1 + length + 2 * usize::from(braced && after.get(length + 1) == Some(&b'}')),
            )
        }
        [b'0'..=b'7', ..] => {
            let (value, length) = digits(rest, 8, 3);
            (Escape::Byte(value), length)
        }
        [b'n', ..] => (Escape::Byte(b'\n'), 1),
        [b't', ..] => (Escape::Byte(b'\t'), 1),
        [other, ..] => (Escape::Byte(*other), 1),
        [] => (Escape::Nothing, 0),
    }
}

/// Blanks and the newline behind a backslash.
fn splice_length(rest: &[u8]) -> usize {
    match rest.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | 0x0b | 0x0c)) {
        Some(at) if rest[at] == b'\n' => at + 1,
        _ => 0,
    }
}

fn digits(text: &[u8], base: u32, most: usize) -> (u8, usize) {
    let digit = |byte: &u8| char::from(*byte).to_digit(base);
    let length = text.iter().take(most).take_while(|byte| digit(byte).is_some()).count();
    let value = text[..length]
        .iter()
        .filter_map(digit)
        .fold(0_u32, |sum, digit| sum.wrapping_mul(base).wrapping_add(digit));
    (value as u8, length)
}

/// One `asm` statement, while it is read.
#[derive(Debug, Default)]
pub struct Statement {
    depth: usize,
    text: Vec<u8>,
}

impl Statement {
    /// Takes in a literal, quotes and all.
    pub fn literal(&mut self, literal: &[u8]) {
        let inner = literal.get(1..literal.len().saturating_sub(1)).unwrap_or_default();
        if self.text.len() < STATEMENT_MAX_BYTES {
            self.text.extend(clean(inner).into_iter().filter(|&byte| byte != MACRO));
        }
    }

    /// Takes in a name between the literals: a macro, perhaps.
    pub fn name(&mut self) {
        if self.depth > 0 && self.text.last() != Some(&MACRO) {
            self.text.push(MACRO);
        }
    }

    /// Takes in any other byte; returns whether the statement ends with it.
    pub fn other(&mut self, byte: u8) -> bool {
        match byte {
            b'(' => self.depth += 1,
            b')' => self.depth = self.depth.saturating_sub(1),
            b':' | b',' => self.text.push(b'\n'),
            _ => {}
        }
        matches!(byte, b')' | b';' | b'{' | b'}') && self.depth == 0
    }

    /// Whether it reads a file, or might.
    pub fn names_file(&self) -> bool {
        let known: Vec<u8> = self.text.iter().copied().filter(|&byte| byte != MACRO).collect();
        if self.text.len() >= STATEMENT_MAX_BYTES || has_directive(&known) {
            return true;
        }
        if makes_directives(&known) && (has(&known, b".\\") || has(&self.text, b".\0")) {
            return true;
        }
        let parts: Vec<&[u8]> = self.text.split(|&byte| byte == MACRO).collect();
        parts.windows(2).any(|two| ends_in_directive(two[0]) || goes_on_as_directive(two[1]))
    }
}

/// Whether the text ends within what may become a directive that reads a file.
fn ends_in_directive(text: &[u8]) -> bool {
    let Some(dot) = text.iter().rposition(|&byte| byte == b'.') else { return false };
    let (before, begun) = text.split_at(dot);
    let begins_statement = before.iter().rev().find(|byte| !matches!(byte, b' ' | b'\t'));
    matches!(begins_statement, None | Some(b'\n' | b';' | b':'))
        && DIRECTIVES.iter().any(|directive| directive.starts_with(begun))
}

fn goes_on_as_directive(text: &[u8]) -> bool {
    DIRECTIVES.iter().any(|directive| text.starts_with(&directive[1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directive_is_found_in_every_spelling() {
        for text in [
            r#"".incbin \"x\"""#,
            r#"".INCLUDE \"x\"""#,
            r#""\x2eincbin x""#,
            r#"".\151ncbin x""#,
            "\".inc\\\nbin x\"",
            r#"".macro m x, y\n.\\x\\y \"f\"\n.endm""#,
            r#""\u002eincbin x""#,
            r#"".\x{69}ncbin x""#,
        ] {
            assert!(names_file(text.as_bytes()), "{text}");
        }
        for text in [
            "\"a.include_me\"",
            "\"<include.h>\"",
            r#""incbin""#,
            r#"".macro m\n nop\n.endm""#,
            r#""caf\u00e9.\N{DASH}\o{7""#,
        ] {
            assert_eq!(names_file(text.as_bytes()), text.contains(".include"), "{text}");
        }
    }

    fn statement(parts: &[&str]) -> bool {
        let mut statement = Statement::default();
        statement.other(b'(');
        for part in parts {
            if part.starts_with('"') {
                statement.literal(part.as_bytes());
            } else {
                statement.name();
            }
        }
        statement.names_file()
    }

    #[test]
    fn a_directive_is_found_over_several_literals_and_around_macros() {
        for parts in [
            &["\".inc\"", "\"bin x\""][..],
            &["\".\"", "X", "\" x\""],
            &["\"nop; .in\"", "X"],
            &["DOT", "\"incbin x\""],
        ] {
            assert!(statement(parts), "{parts:?}");
        }
        for parts in [&["\".section .\"", "X"][..], &["\"nop\"", "X", "\"ret\""], &["\".long \"", "X"]] {
            assert!(!statement(parts), "{parts:?}");
        }
    }
}
