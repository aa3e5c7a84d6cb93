//! Preprocessing tokens of one cleaned directive line or macro body.

use super::symbols::{self, Sym, Symbols};

/// How a language mode changes lexing; each bit is asked of the compiler, not derived from flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mode {
    /// `R"x(…)x"` is one literal.
    pub raw_strings: bool,
    /// `1'000` is one number.
    pub digit_separators: bool,
    /// `//` starts a comment.
    pub line_comments: bool,
    /// `??=` is `#`, and so on.
    pub trigraphs: bool,
    /// C++: words that are operators.
    pub cxx: bool,
    /// Assembler source: unknown directives are comments.
    pub assembler: bool,
    /// `true` is 1 in `#if`.
    pub truth: bool,
    /// `#elifdef` and `#elifndef` are directives.
    pub elifdef: bool,
    /// `char` is unsigned.
    pub unsigned_char: bool,
    /// `wchar_t` is unsigned.
    pub unsigned_wide: bool,
    /// `import` and `module` lines may name files.
    pub modules: bool,
}

/// What kind of token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A name.
    Identifier,
    /// A preprocessing number.
    Number,
    /// A character constant.
    Character,
    /// A string literal, its quotes and prefix included.
    Text,
    /// `<…>` where a header name is expected.
    Header,
    /// An operator or a bracket.
    Operator,
    /// Anything else, an unterminated quote included.
    Other,
    /// In a macro's body: the parameter of that index (`sym`).
    Parameter,
    /// In a macro's body: `#` in front of a parameter.
    Stringify,
    /// In a macro's body: `##`.
    Paste,
}

/// One token: 12 bytes, copied freely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its kind.
    pub kind: Kind,
    /// White space stood in front of it where it was written.
    pub space: bool,
    /// White space stands in front of it where it now appears.
    pub gap: bool,
    /// It is never expanded again.
    pub painted: bool,
    /// Its spelling, or a parameter's index.
    pub sym: Sym,
}

impl Token {
    /// A token of that kind and spelling with nothing in front.
    pub fn new(kind: Kind, sym: Sym) -> Self {
        Token { kind, space: false, gap: false, painted: false, sym }
    }

    /// Whether it is the operator `sym`.
    pub fn is(&self, sym: Sym) -> bool {
        self.kind == Kind::Operator && self.sym == sym
    }
}

/// Whether `byte` may start an identifier. Bytes above ASCII may: both compilers take UTF-8.
pub fn starts_name(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte == b'$' || byte >= 0x80
}

/// Whether `byte` may go on in an identifier.
pub fn goes_on(byte: u8) -> bool {
    starts_name(byte) || byte.is_ascii_digit()
}

/// White space inside a directive. NUL counts, as it does for compilers.
pub fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | 0x0b | 0x0c | 0 | b'\r' | b'\n')
}

/// Where `<…>` is a header name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Headers {
    /// Only right behind `__has_include (` and its kin.
    AfterQuery,
    /// Everywhere: the rest of an `#include` line.
    Everywhere,
    /// Nowhere.
    Never,
}

/// Cuts a cleaned line (no comments, no splices) into tokens.
pub fn tokenise(line: &[u8], mode: Mode, headers: Headers, symbols: &mut Symbols) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut at = 0;
    while at < line.len() {
        let start = at;
        while at < line.len() && is_blank(line[at]) {
            at += 1;
        }
        let space = at > start;
        if at == line.len() {
            break;
        }
        let in_header = match headers {
            Headers::Everywhere => true,
            Headers::Never => false,
            Headers::AfterQuery => expects_header(&tokens),
        };
        let (kind, length) = one(&line[at..], mode, in_header);
        let sym = symbols.intern(&line[at..at + length]);
        let sym = if kind == Kind::Operator { digraph(sym, &line[at..at + length]) } else { sym };
        tokens.push(Token { kind, space, gap: space, painted: false, sym });
        at += length;
    }
    tokens
}

fn expects_header(tokens: &[Token]) -> bool {
    let [.., query, open] = tokens else { return false };
    open.is(symbols::LEFT)
        && query.kind == Kind::Identifier
        && (symbols::HAS_INCLUDE..=symbols::HAS_EMBED).contains(&query.sym)
}

fn digraph(sym: Sym, text: &[u8]) -> Sym {
    match text {
        b"%:" => symbols::HASH,
        b"%:%:" => symbols::PASTE,
        _ => sym,
    }
}

/// Kind and length of the token at the start of `rest`, which is not empty.
pub fn one(rest: &[u8], mode: Mode, in_header: bool) -> (Kind, usize) {
    let first = rest[0];
    if in_header
        && first == b'<'
        && let Some(end) = rest.iter().position(|&byte| byte == b'>')
    {
        return (Kind::Header, end + 1);
    }
    if first == b'"' || first == b'\'' {
        return quoted(rest, 0, in_header);
    }
    if starts_name(first) {
        return name_or_literal(rest, mode);
    }
    if first.is_ascii_digit() || (first == b'.' && rest.get(1).is_some_and(u8::is_ascii_digit)) {
        return (Kind::Number, number_length(rest, mode));
    }
    match operator_length(rest) {
        0 => (Kind::Other, 1),
        length => (Kind::Operator, length),
    }
}

/// A literal whose quote stands at `from`; an unterminated one takes the whole line.
fn quoted(rest: &[u8], from: usize, no_escapes: bool) -> (Kind, usize) {
    let quote = rest[from];
    let mut at = from + 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' if !no_escapes => at += 1,
            byte if byte == quote => {
                let kind = if quote == b'"' { Kind::Text } else { Kind::Character };
                return (kind, at + 1);
            }
            _ => {}
        }
        at += 1;
    }
    (Kind::Other, rest.len())
}

fn name_or_literal(rest: &[u8], mode: Mode) -> (Kind, usize) {
    let length = rest.iter().position(|&byte| !goes_on(byte)).unwrap_or(rest.len());
    let quote = rest.get(length).copied();
    match (&rest[..length], quote) {
        (prefix, Some(b'"')) if mode.raw_strings && is_raw_prefix(prefix) => {
            match raw_string_end(&rest[length..]) {
                Some(end) => (Kind::Text, length + end),
                None => (Kind::Other, rest.len()),
            }
        }
        (b"L" | b"u" | b"U" | b"u8", Some(b'"' | b'\'')) => quoted(rest, length, false),
        _ => (Kind::Identifier, length),
    }
}

/// Whether `R`, `LR`, `uR`, `UR` or `u8R`.
pub fn is_raw_prefix(name: &[u8]) -> bool {
    matches!(name, b"R" | b"LR" | b"uR" | b"UR" | b"u8R")
}

/// The length of a raw string's `"delimiter(…)delimiter"`, if it ends in `rest`.
pub fn raw_string_end(rest: &[u8]) -> Option<usize> {
    let open = rest.iter().take(18).position(|&byte| byte == b'(')?;
    let delimiter = &rest[1..open];
    let mut at = open + 1;
    while let Some(close) = rest[at..].iter().position(|&byte| byte == b')') {
        let after = &rest[at + close + 1..];
        if after.starts_with(delimiter) && after.get(delimiter.len()) == Some(&b'"') {
            return Some(at + close + 1 + delimiter.len() + 1);
        }
        at += close + 1;
    }
    None
}

/// The length of the preprocessing number at the start of `rest`.
pub fn number_length(rest: &[u8], mode: Mode) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'+' | b'-' if matches!(rest[at - 1], b'e' | b'E' | b'p' | b'P') => at += 1,
            b'\'' if mode.digit_separators && rest.get(at + 1).is_some_and(|&next| goes_on(next)) => at += 2,
            byte if goes_on(byte) || byte == b'.' => at += 1,
            _ => break,
        }
    }
    at
}

/// Longest first within one length.
const OPERATORS: [&[&[u8]]; 4] = [
    &[b"%:%:"],
    &[b"...", b"<<=", b">>=", b"->*", b"<=>"],
    &[
        b"<<", b">>", b"<=", b">=", b"==", b"!=", b"&&", b"||", b"##", b"->", b"++", b"--", b"+=", b"-=",
        b"*=", b"/=", b"%=", b"&=", b"|=", b"^=", b"::", b".*", b"%:", b"<:", b":>", b"<%", b"%>",
    ],
    &[
        b"(", b")", b",", b"#", b"<", b">", b"+", b"-", b"*", b"/", b"%", b"&", b"|", b"^", b"!", b"~", b"?",
        b":", b";", b"=", b".", b"[", b"]", b"{", b"}",
    ],
];

fn operator_length(rest: &[u8]) -> usize {
    let found = OPERATORS.iter().flat_map(|group| group.iter()).find(|operator| rest.starts_with(operator));
    found.map_or(0, |operator| operator.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, mode: Mode, headers: Headers, expected: &[&str]) {
        let mut symbols = Symbols::default();
        let tokens = tokenise(line.as_bytes(), mode, headers, &mut symbols);
        let texts: Vec<String> =
            tokens.iter().map(|t| String::from_utf8_lossy(symbols.text(t.sym)).into_owned()).collect();
        assert_eq!(texts, expected, "{line}");
    }

    #[test]
    fn lines_are_cut_as_compilers_cut_them() {
        let c = Mode::default();
        let cxx = Mode { raw_strings: true, digit_separators: true, cxx: true, ..c };
        check("a+++b", c, Headers::Never, &["a", "++", "+", "b"]);
        check("1.5e+3x 0x1p-3", c, Headers::Never, &["1.5e+3x", "0x1p-3"]);
        check("1'000'a", cxx, Headers::Never, &["1'000'a"]);
        check("1'000'a", c, Headers::Never, &["1", "'000'", "a"]);
        check(r#"u8R"x(a"b)x" L'\''"#, cxx, Headers::Never, &[r#"u8R"x(a"b)x""#, r"L'\''"]);
        check(r#"R"x(a"b)x""#, c, Headers::Never, &["R", r#""x(a""#, "b", ")", "x", "\""]);
        check("%:define a %:%: b", c, Headers::Never, &["#", "define", "a", "##", "b"]);
        check("<a/b.h> x", c, Headers::Everywhere, &["<a/b.h>", "x"]);
        check(
            "__has_include(<a/b.h>) < c",
            c,
            Headers::AfterQuery,
            &["__has_include", "(", "<a/b.h>", ")", "<", "c"],
        );
    }
}
