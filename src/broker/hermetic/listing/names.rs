//! Which names a text spells out: of what may be looked for while it is compiled.
//!
//! This reads no C: it takes more for a name than there is, and says so where a name may be none of
//! those that are spelt out.

use std::borrow::Cow;

use memchr::memmem;

use crate::broker::scan::Dates;
use crate::broker::scan::shown::{self, Named};
use crate::common::bytes::Bytes;

/// Words of a text that are looked at as names of what an assembler reads.
const LITERALS_MAX: usize = 20_000;

/// The longest of them.
const LITERAL_MAX_BYTES: usize = 1024;

/// What a text mentions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mentions {
    /// Names of includes, and of what is asked for.
    pub included: Vec<Bytes>,
    /// Where an assembler may read files: whatever could name one.
    pub literals: Vec<Bytes>,
    /// Files that are shown when there is something to say about their lines.
    pub shown: Vec<Bytes>,
    /// Whether it mentions the date or the time.
    pub clock: Dates,
    /// Something whose name cannot be told.
    pub unclear: Option<&'static str>,
}

fn has(text: &[u8], word: &[u8]) -> bool {
    memmem::find(text, word).is_some()
}

/// Looks through a text.
pub fn mentions(text: &[u8]) -> Mentions {
    let text = unspliced(text);
    let mut mentions = Mentions { clock: Dates::in_text(&text), ..Mentions::default() };
    if has(&text, b"GCC dependency") || has(&text, b"GCC  dependency") {
        mentions.unclear = Some("#pragma GCC dependency");
    }
    for line in text.split(|&byte| byte == b'\n') {
        mentions.included.extend(directive(line));
        match shown(line) {
            Named::File(name) => mentions.shown.push(Bytes(name)),
            Named::Nothing => {}
            Named::Computed => mentions.unclear = Some("#line of what is not spelt out"),
        }
    }
    for word in [&b"__has_include"[..], b"__has_embed"] {
        for at in memmem::find_iter(&text, word).filter(|&at| is_of_directive(&text[..at])) {
            match asked(&text, at, word.len()) {
                Asked::Name(name) => mentions.included.push(name),
                Asked::Nothing => {}
                Asked::Unclear => mentions.unclear = Some("__has_include of what is not spelt out"),
            }
        }
    }
    let reads = [&b"incbin"[..], b"INCBIN", b".include"];
    if reads.iter().any(|word| has(&text, word)) {
        mentions.literals = literals(&text);
    }
    for names in [&mut mentions.included, &mut mentions.shown] {
        names.sort_unstable();
        names.dedup();
    }
    mentions
}

/// The text with lines that go on in the next put together.
fn unspliced(text: &[u8]) -> Cow<'_, [u8]> {
    if !has(text, b"\\\n") && !has(text, b"\\\r\n") {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        let after = &rest[at + 1..];
        rest = match after {
            [b'\n', after @ ..] | [b'\r', b'\n', after @ ..] => after,
            after => {
                out.push(b'\\');
                after
            }
        };
    }
    out.extend_from_slice(rest);
    Cow::Owned(out)
}

/// The text of a line behind its `#`.
fn behind_hash(line: &[u8]) -> Option<&[u8]> {
    let line = line.trim_ascii_start();
    Some(line.strip_prefix(b"#").or_else(|| line.strip_prefix(b"%:"))?.trim_ascii_start())
}

/// The file that a line says the next one is of: `#line 3 "a.y"`, or `# 3 "a.y"` as preprocessors write it.
fn shown(line: &[u8]) -> Named {
    match behind_hash(line) {
        Some(marker) if marker.first().is_some_and(u8::is_ascii_digit) => match shown::named(marker) {
            Named::File(name) => Named::File(name),
            // Assembler's remarks begin like that.
            Named::Nothing | Named::Computed => Named::Nothing,
        },
        Some(text) => text.strip_prefix(b"line").map_or(Named::Nothing, |rest| match rest.first() {
            Some(byte) if byte.is_ascii_whitespace() => shown::named(skip_comments(rest)),
            _ => Named::Nothing,
        }),
        None => Named::Nothing,
    }
}

/// The name in a line that includes something.
fn directive(line: &[u8]) -> Option<Bytes> {
    let line = behind_hash(line)?;
    let words = [&b"include_next"[..], b"include", b"import", b"embed", b"__include_macros"];
    let rest = words.iter().find_map(|word| line.strip_prefix(*word))?;
    quoted(skip_comments(rest))
}

/// A name in quotes or angles at the beginning of a text.
fn quoted(text: &[u8]) -> Option<Bytes> {
    let end = match text.first()? {
        b'<' => b'>',
        b'"' => b'"',
        _ => return None,
    };
    let length = text[1..].iter().take(LITERAL_MAX_BYTES).position(|&byte| byte == end || byte == b'\n')?;
    (text[1 + length] == end).then(|| Bytes::from(&text[1..=length]))
}

/// The text behind blanks and comments.
fn skip_comments(text: &[u8]) -> &[u8] {
    let mut text = text.trim_ascii_start();
    while let Some(after) = text.strip_prefix(b"/*") {
        let Some(end) = memmem::find(after, b"*/") else { return b"" };
        text = after[end + 2..].trim_ascii_start();
    }
    text
}

enum Asked {
    Name(Bytes),
    /// Only whether it can be asked.
    Nothing,
    Unclear,
}

/// Whether what follows this text is part of a directive: all else cannot ask.
fn is_of_directive(before: &[u8]) -> bool {
    let line = &before[memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1)..];
    let begins = line.trim_ascii_start();
    // A comment that ends here may have begun in a directive.
    let goes_on = has(line, b"*/") && !has(line, b"/*");
    goes_on || (begins.starts_with(b"#") || begins.starts_with(b"%:")) && !has(line, b"//")
}

/// What is asked for at `at`, where a word of that length stands.
fn asked(text: &[u8], at: usize, length: usize) -> Asked {
    let behind = &text[at + length..];
    let behind = behind.strip_prefix(b"_next").unwrap_or(behind);
    let behind = behind.strip_prefix(b"__").unwrap_or(behind);
    if behind.first().is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
        return Asked::Nothing;
    }
    let before = text[..at].trim_ascii_end();
    let before = before.strip_suffix(b"(").unwrap_or(before).trim_ascii_end();
    if [&b"defined"[..], b"ifdef", b"ifndef", b"undef"].iter().any(|word| before.ends_with(word)) {
        return Asked::Nothing;
    }
    match skip_comments(behind).strip_prefix(b"(") {
        Some(inside) => quoted(skip_comments(inside)).map_or(Asked::Unclear, Asked::Name),
        None => Asked::Unclear,
    }
}

/// Whatever could be the name of a file.
fn literals(text: &[u8]) -> Vec<Bytes> {
    let ends = |byte: &u8| byte.is_ascii_whitespace() || b"\"'<>(),;\\".contains(byte);
    let is_name = |word: &&[u8]| {
        (1..=LITERAL_MAX_BYTES).contains(&word.len()) && word.iter().any(|byte| matches!(byte, b'.' | b'/'))
    };
    let words = text.split(ends).filter(is_name).take(LITERALS_MAX);
    let mut literals: Vec<Bytes> = words.map(Bytes::from).collect();
    literals.sort_unstable();
    literals.dedup();
    literals
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, included: &[&str], unclear: bool) {
        let found = mentions(text.as_bytes());
        let names: Vec<String> = found.included.iter().map(Bytes::to_text).collect();
        assert_eq!(
            (names, found.unclear.is_some()),
            (included.iter().map(ToString::to_string).collect(), unclear),
            "{text}"
        );
    }

    #[test]
    fn names_that_are_spelt_out_are_found() {
        check(
            "#include <a/b.h>\n  # import \"c.h\" // x\n%:include/**/\"d\"\n#include_next <e>\n",
            &["a/b.h", "c.h", "d", "e"],
            false,
        );
        check("#inclu\\\nde \"a.h\"\n", &["a.h"], false);
        check("#include NAME\n#define include \"x\"\n", &[], false);
        check("#if __has_include(<a.h>) && __has_include_next ( \"b.h\" )\n", &["a.h", "b.h"], false);
        check(
            "#if defined(__has_include) && defined __has_include_next\n#ifdef __has_include\n#endif\n",
            &[],
            false,
        );
    }

    #[test]
    fn what_is_not_spelt_out_is_unclear() {
        check("#if __has_include(NAME)\n", &[], true);
        check("#define HAS __has_include\n", &[], true);
        check("#define HAS(x) __has_include(x)\n", &[], true);
        check("#if /* of\n two lines */ __has_include(NAME)\n", &[], true);
        check("// __has_include is asked\n/* by __has_include */\n#endif // __has_include\n", &[], false);
        check("#pragma GCC dependency \"x\"\n", &[], true);
    }

    #[test]
    fn what_an_assembler_reads_is_among_the_literals() {
        let found = mentions(b"asm(\".incbin \\\"data/blob.bin\\\"\");\nINCBIN(x, \"y.bin\");\n");
        for name in ["data/blob.bin", "y.bin"] {
            assert!(found.literals.contains(&Bytes::from(name)), "{found:?}");
        }
        assert!(mentions(b"int x = \"a.b\";\n").literals.is_empty());
    }

    #[test]
    fn files_that_are_shown_are_those_that_lines_name() {
        let found = mentions(
            b"#line 1 \"g.y\"\n# 3 \"/u/a.h\" 1 3\n#line 4\n#linen \"x\"\n# 4 remarks\n# line 5 \"h.l\"\n",
        );
        assert_eq!(
            (found.shown.as_slice(), found.unclear),
            (&["/u/a.h", "g.y", "h.l"].map(Bytes::from)[..], None)
        );
        assert!(mentions(b"#line 3 FILE\n").unclear.is_some());
    }

    #[test]
    fn the_clock_is_mentioned() {
        assert!(mentions(b"char t[] = __TI\\\nME__;").clock.now && !mentions(b"int __TIME;").clock.any());
    }
}
