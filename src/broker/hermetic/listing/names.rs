//! Which names a text spells out: of what may be looked for while it is compiled.
//!
//! This reads no C: it takes more for a name than there is, and says so where a name may be none of
//! those that are spelt out.

use std::borrow::Cow;

use memchr::memmem;

use crate::broker::scan::shown::{self, Named};
use crate::broker::scan::{Dates, phases};
use crate::common::bytes::Bytes;

use super::queries::{self, Pieces};

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
    /// What `##` could make `__has_include` of.
    pub pieces: Pieces,
    /// Something whose name cannot be told.
    pub unclear: Option<&'static str>,
    /// Whether it has a `_Pragma` that says what is read: gcc leaves out all that is no directive where it lists.
    pub operates: bool,
    /// Whether a pragma of either kind sets options, and with them macros: for C, gcc passes over it where it lists.
    pub sets_options: bool,
}

pub(super) fn has(text: &[u8], word: &[u8]) -> bool {
    memmem::find(text, word).is_some()
}

/// Looks through a text.
pub fn mentions(text: &[u8]) -> Mentions {
    if text.starts_with(b"CPCH") || text.starts_with(b"gpch") {
        // A compiled header has names of all kinds in it; the texts that it was made of are read, too.
        return Mentions { clock: Dates::spelt_out(text), ..Mentions::default() };
    }
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut mentions = Mentions::default();
    look_through(&unspliced(text), &mut mentions);
    if phases::has_trigraph(text) {
        // Whether they are ones is for the options to say: it may be either.
        look_through(&unspliced(&phases::replace_trigraphs(text)), &mut mentions);
    }
    for names in [&mut mentions.included, &mut mentions.shown, &mut mentions.literals] {
        names.sort_unstable();
        names.dedup();
    }
    mentions
}

fn look_through(text: &[u8], mentions: &mut Mentions) {
    mentions.clock |= Dates::in_text(text);
    if memmem::find_iter(text, b"dependency").any(|at| is_pragma(&text[..at])) {
        mentions.unclear = Some("#pragma GCC dependency");
    }
    let operators = memmem::find_iter(text, b"_Pragma").filter_map(|at| operator(&text[at..]));
    for said in operators {
        mentions.operates |=
            [&b"once"[..], b"push_macro", b"pop_macro"].iter().any(|word| said.starts_with(word));
        mentions.sets_options |= sets_options(said);
    }
    for behind in behind_hashes(text) {
        mentions.sets_options |=
            behind.strip_prefix(b"pragma").is_some_and(|said| sets_options(skip_comments(said)));
        mentions.included.extend(directive(behind));
        match shown(behind) {
            Named::File(name) => mentions.shown.push(Bytes(name)),
            Named::Nothing => {}
            Named::Computed => mentions.unclear = Some("#line of what is not spelt out"),
        }
    }
    queries::look(text, mentions);
    let reads = [&b"incbin"[..], b"INCBIN", b".include"];
    if reads.iter().any(|word| has(text, word)) {
        mentions.literals.extend(literals(text));
    }
}

/// Whether a text ends with `GCC`, or `clang`, as a pragma begins that goes on with what follows.
fn is_pragma(before: &[u8]) -> bool {
    let mut before = before.trim_ascii_end();
    while let Some(rest) = before.strip_suffix(b"*/") {
        before = memmem::rfind(rest, b"/*").map_or(&b""[..], |at| &rest[..at]).trim_ascii_end();
    }
    before.ends_with(b"GCC") || before.ends_with(b"clang")
}

/// What a `_Pragma("…")` says with which a text begins.
fn operator(text: &[u8]) -> Option<&[u8]> {
    let text = skip_comments(skip_comments(text.strip_prefix(b"_Pragma")?).strip_prefix(b"(")?);
    let quote = memchr::memchr(b'"', text).filter(|at| *at <= 2)?;
    Some(text[quote + 1..].trim_ascii_start())
}

/// Whether what a pragma says sets options of the compiler.
fn sets_options(said: &[u8]) -> bool {
    let said = said.strip_prefix(b"GCC").map(skip_comments).unwrap_or_default();
    said.starts_with(b"target") || said.starts_with(b"optimize")
}

/// The text with lines that go on in the next put together, blanks behind the backslash or not.
fn unspliced(text: &[u8]) -> Cow<'_, [u8]> {
    let is_splice = |at: &usize| phases::splice(text, *at) > 0;
    let Some(first) = memchr::memchr_iter(b'\\', text).find(is_splice) else { return Cow::Borrowed(text) };
    let mut out = Vec::with_capacity(text.len());
    out.extend_from_slice(&text[..first]);
    let mut at = first;
    while at < text.len() {
        let length = phases::splice(text, at);
        let rest = &text[at + length..];
        // A backslash that is none goes along with what follows it.
        let skip = usize::from(length == 0);
        let next = memchr::memchr(b'\\', rest.get(skip..).unwrap_or_default());
        let end = next.map_or(rest.len(), |next| next + skip);
        out.extend_from_slice(&rest[..end]);
        at += length + end;
    }
    Cow::Owned(out)
}

/// The texts behind each `#` that may begin a directive.
fn behind_hashes(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let begins = |before: &[u8]| {
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | 0x0b | 0x0c | b'\r' | 0);
        let end = before.iter().rposition(|byte| !blank(byte)).map_or(0, |at| at + 1);
        end == 0 || before[end - 1] == b'\n' || before[..end].ends_with(b"*/")
    };
    let hashes = memchr::memchr2_iter(b'#', b'%', text).filter(move |&at| begins(&text[..at]));
    hashes.filter_map(|at| {
        let hash = &text[at..];
        Some(skip_comments(hash.strip_prefix(b"#").or_else(|| hash.strip_prefix(b"%:"))?))
    })
}

/// The file that a line says the next one is of: `#line 3 "a.y"`, or `# 3 "a.y"` as preprocessors write it.
fn shown(text: &[u8]) -> Named {
    let text = &text[..memchr::memchr(b'\n', text).unwrap_or(text.len())];
    if text.first().is_some_and(u8::is_ascii_digit) {
        return match shown::named(text) {
            Named::File(name) => Named::File(name),
            // Assembler's remarks begin like that.
            Named::Nothing | Named::Computed => Named::Nothing,
        };
    }
    text.strip_prefix(b"line").map_or(Named::Nothing, |rest| match rest.first() {
        Some(byte) if byte.is_ascii_whitespace() || *byte == b'/' => shown::named(skip_comments(rest)),
        _ => Named::Nothing,
    })
}

/// The name in a line that includes something, behind its `#`.
fn directive(line: &[u8]) -> Option<Bytes> {
    let words = [&b"include_next"[..], b"include", b"import", b"embed", b"__include_macros"];
    let rest = words.iter().find_map(|word| line.strip_prefix(*word))?;
    quoted(skip_comments(rest))
}

/// A name in quotes or angles at the beginning of a text.
pub(super) fn quoted(text: &[u8]) -> Option<Bytes> {
    let end = match text.first()? {
        b'<' => b'>',
        b'"' => b'"',
        _ => return None,
    };
    let length = text[1..].iter().take(LITERAL_MAX_BYTES).position(|&byte| byte == end || byte == b'\n')?;
    (text[1 + length] == end).then(|| Bytes::from(&text[1..=length]))
}

/// The text behind blanks and comments.
pub(super) fn skip_comments(text: &[u8]) -> &[u8] {
    let mut text = text.trim_ascii_start();
    while let Some(after) = text.strip_prefix(b"/*") {
        let Some(end) = memmem::find(after, b"*/") else { return b"" };
        text = after[end + 2..].trim_ascii_start();
    }
    text
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
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn check(text: &str, included: &[&str], unclear: bool) {
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
    fn what_is_asked_for_is_found_wherever_it_stands() {
        for text in [
            "#if 1 /* see http://foo.com */ && __has_include(\"o.h\")\n",
            "#if 0 && \\ \n __has_include(\"o.h\")\n",
            "#if 1 /* a\n b */ /* c */ && __has_include(\"o.h\")\n",
            "/* x */ #if __has_include(\"o.h\")\n",
            "\u{feff}#if __has_include(\"o.h\")\n",
            "??=if __has_include(\"o.h\")\n",
            "#if 1 && ??/\n __has_include(\"o.h\")\n",
            "/* x */ # /* y */ include /* a\n b */ \"o.h\"\n",
            "/* a\n b */ ??=include \"o.h\"\n",
            "\u{feff}#include \"o.h\"\n",
            "#define H(x) 1\n#if H(__has_include(\"o.h\"))\n",
        ] {
            check(text, &["o.h"], false);
        }
        check("#if __has_include(<a//b.h>) || __has_include(\"o.h\")\n", &["a//b.h", "o.h"], false);
    }

    #[test]
    fn names_in_a_compiled_header_are_not_those_of_a_text() {
        check("CPCH __has_include(X) has_include #include \"x.h\"\n", &[], false);
        check("gpch __has_include(X)", &[], false);
    }

    #[test]
    fn pragmas_that_name_a_file_are_unclear() {
        for text in ["#pragma GCC\tdependency \"x\"", "#pragma clang /* */ dependency \"x\""] {
            check(text, &[], true);
        }
        check("int a_dependency; // GCC has a dependency\n", &[], false);
    }

    #[test]
    fn operators_that_say_what_is_read_are_noted() {
        for text in [
            "_Pragma(\"once\")",
            "x _Pragma /* */ ( L\" pop_macro(\\\"X\\\")\")",
            "_Prag\\\nma(\"push_macro(\\\"X\\\")\")",
        ] {
            assert!(mentions(text.as_bytes()).operates, "{text}");
        }
        for text in ["_Pragma(\"GCC diagnostic push\")", "_Pragma(#x) \"once\"", "_Pragma", "#pragma once"] {
            assert!(!mentions(text.as_bytes()).operates, "{text}");
        }
    }

    #[test]
    fn pragmas_that_set_options_are_noted() {
        for text in [
            "#pragma GCC target(\"x\")",
            " # pragma /* */ GCC optimize 3",
            "_Pragma(\"GCC optimize(\\\"O0\\\")\")",
        ] {
            assert!(mentions(text.as_bytes()).sets_options, "{text}");
        }
        for text in [
            "#pragma GCC push_options",
            "_Pragma(\"GCC diagnostic push\")",
            "#pragma target",
            "// GCC target",
        ] {
            assert!(!mentions(text.as_bytes()).sets_options, "{text}");
        }
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
