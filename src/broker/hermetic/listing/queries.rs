//! Where a text asks for files, `__has_include` and its kin, and what `##` could make such a query of.
//!
//! As all of this listing it takes more for a query than there is.

use memchr::memmem;

use super::names::{Mentions, has, quoted, skip_comments};
use crate::broker::scan::askers::{Part, missing, part};
use crate::common::bytes::Bytes;

/// The length of `__has_`.
const HEAD_BYTES: u32 = 6;

/// Pieces of queries, wherever they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pieces {
    /// How long the first pieces are, as bits.
    pub heads: u8,
    /// What is missing in front of the last ones, as bits.
    pub tails: u8,
    /// Whether there is what stands between others, and ends where `include` begins.
    pub joint: bool,
}

impl std::ops::BitOrAssign for Pieces {
    fn bitor_assign(&mut self, other: Pieces) {
        self.heads |= other.heads;
        self.tails |= other.tails;
        self.joint |= other.joint;
    }
}

impl Pieces {
    /// Of a word of a command, as in `-DWHAT=include`.
    pub fn of_word(word: &[u8]) -> Pieces {
        let mut pieces = Pieces::default();
        let Some(equal) = memchr::memchr(b'=', word) else { return pieces };
        pieces.joint = has_joint(&word[equal..]);
        for word in word[equal..].split(|byte| !in_word(byte)) {
            match part(word) {
                Some(Part::Tail) => pieces.tails |= 1 << missing(word),
                Some(Part::Head) => pieces.heads |= 1 << word.len(),
                Some(Part::Whole) | None => {}
            }
        }
        pieces
    }

    /// Whether they could become a query.
    pub fn may_ask(self) -> bool {
        let fits = |head: u32, tail: u32| {
            let both = self.heads & 1 << head != 0 && self.tails & 1 << tail != 0;
            both && (head == tail || tail < HEAD_BYTES || self.joint)
        };
        (0..=HEAD_BYTES).any(|tail| (0..=tail).any(|head| fits(head, tail)))
    }
}

/// Whether a text has a word of those that end where `include` begins.
fn has_joint(text: &[u8]) -> bool {
    let is_joint = |at: usize| {
        let ends = text.get(at + 1).is_none_or(|byte| !in_word(byte));
        let starts = |word: &[u8]| {
            let before = text[..=at].strip_suffix(word);
            before.is_some_and(|before| before.last().is_none_or(|byte| !in_word(byte)))
        };
        ends && [&b"_"[..], b"s_", b"as_"].iter().any(|word| starts(word))
    };
    memchr::memchr_iter(b'_', text).any(|at| is_joint(at) && !is_in_comment(text, at))
}

/// Whether a word of a command has `__has_include` or its kin in it, or a piece of them.
pub fn has_query(word: &[u8]) -> bool {
    let word = word.strip_prefix(b"-D").unwrap_or(word);
    word.split(|byte| !in_word(byte)).any(|word| matches!(part(word), Some(Part::Whole | Part::Head)))
}

fn in_word(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$')
}

/// Looks for `__has_include` and its kin, and for what `##` might make them of.
pub fn look(text: &[u8], mentions: &mut Mentions) {
    mentions.pieces.joint |= has_joint(text);
    let mut seen = 0;
    let mut marks: Vec<usize> = [&b"__h"[..], b"has_", b"include", b"embed"]
        .iter()
        .flat_map(|part| memmem::find_iter(text, part))
        .collect();
    marks.sort_unstable();
    for at in marks {
        let start = text[..at].iter().rposition(|byte| !in_word(byte)).map_or(0, |before| before + 1);
        let length = text[start..].iter().position(|byte| !in_word(byte)).unwrap_or(text.len() - start);
        let word = &text[start..start + length];
        let Some(part) = part(word).filter(|_| start + length > seen) else { continue };
        seen = start + length;
        let is_there = || !is_in_comment(text, start) && !is_said(text, start);
        match part {
            Part::Whole => {}
            Part::Head => {
                if is_there() && !makes_declarations(text, start) {
                    mentions.pieces.heads |= 1 << word.len();
                }
                continue;
            }
            Part::Tail => {
                let before = text[..start].trim_ascii_end();
                let is_directive = before.ends_with(b"#") || before.ends_with(b"%:");
                if !is_directive && is_there() {
                    mentions.pieces.tails |= 1 << missing(word);
                }
                continue;
            }
        }
        match asked(text, start, word) {
            Asked::Name(name) => mentions.included.push(name),
            Asked::Unclear if is_there() => {
                mentions.unclear = Some("__has_include of what is not spelt out");
            }
            Asked::Unclear | Asked::Nothing => {}
        }
    }
}

enum Asked {
    Name(Bytes),
    /// Only whether it can be asked.
    Nothing,
    Unclear,
}

/// Where the line begins that a place is in.
fn line_start(text: &[u8], at: usize) -> usize {
    memchr::memrchr(b'\n', &text[..at]).map_or(0, |newline| newline + 1)
}

/// Whether what is at a place is certainly part of a comment.
fn is_in_comment(text: &[u8], at: usize) -> bool {
    // What stands before it on its line has no literal or other comment that it could be within.
    let is_bare = |text: &[u8]| !text.iter().any(|byte| b"\"'<*".contains(byte));
    let before = &text[line_start(text, at)..at];
    if let Some(slashes) = memmem::find(before, b"//")
        && is_bare(&before[..slashes])
        && !has(&before[slashes..], b"*/")
    {
        return true;
    }
    let Some(open) = memmem::rfind(&text[..at], b"/*") else { return false };
    let start = &text[line_start(text, open)..open];
    let inside = &text[open..at];
    let in_raw_string = inside.contains(&b'"') && has(text, b"R\"");
    !has(&inside[2..], b"*/") && is_bare(start) && !has(start, b"//") && !in_raw_string
}

/// Whether what is at a place is certainly part of what an `#error` or `#warning` says, which no compiler expands.
fn is_said(text: &[u8], at: usize) -> bool {
    let before = text[line_start(text, at)..at].trim_ascii_start();
    let Some(directive) = before.strip_prefix(b"#") else { return false };
    let directive = directive.trim_ascii_start();
    // Where a comment ends in the line it may have begun in another directive.
    !has(before, b"*/") && [&b"error"[..], b"warning"].iter().any(|word| directive.starts_with(word))
}

/// Whether a place is certainly within what a macro stands for that no condition can hold: with a brace or a semicolon
/// in it, `#if` is an error. libstdc++ makes `struct __has_##_NTYPE : false_type { };` in that way.
fn makes_declarations(text: &[u8], at: usize) -> bool {
    let start = line_start(text, at);
    let line = &text[start..memchr::memchr(b'\n', &text[at..]).map_or(text.len(), |end| at + end)];
    let directive = line.trim_ascii_start().strip_prefix(b"#").map(<[u8]>::trim_ascii_start);
    // In a literal or a comment they would say nothing.
    let is_bare = !line.iter().any(|byte| b"\"'/".contains(byte));
    directive.is_some_and(|word| word.starts_with(b"define"))
        && is_bare
        && line.iter().any(|byte| b"{};".contains(byte))
}

/// What is asked for where this word stands, a query or a piece of one.
fn asked(text: &[u8], at: usize, word: &[u8]) -> Asked {
    let is_whole = [&b"__has_include"[..], b"__has_embed"].iter().any(|query| word.starts_with(query));
    let before = text[..at].trim_ascii_end();
    let before = before.strip_suffix(b"(").unwrap_or(before).trim_ascii_end();
    if [&b"defined"[..], b"ifdef", b"ifndef", b"undef", b"define"].iter().any(|word| before.ends_with(word)) {
        return Asked::Nothing;
    }
    match skip_comments(&text[at + word.len()..]).strip_prefix(b"(").filter(|_| is_whole) {
        Some(inside) => quoted(skip_comments(inside)).map_or(Asked::Unclear, Asked::Name),
        None => Asked::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use super::super::names::mentions;
    use super::super::names::tests::check;
    use super::*;

    #[test]
    fn what_certainly_is_a_comment_asks_nothing() {
        check("/* what\n __has_include says */\nint x; // and __has_embed(x)\n", &[], false);
        check("#if 1 /* http://x */ && __has_include(X)\n", &[], true);
        check("#if 1 /* a\n // b */ && __has_include(X)\n", &[], true);
        check("#if __has_include(<a//b.h>) && H(__has_include)\n", &["a//b.h"], true);
        check("char *s = \"/*\"; \n#if __has_include(X)\n", &[], true);
        check("char *s = R\"(\n/*\n)\"; \n#if __has_include(X)\n", &[], true);
        check("char *s = \"//\"; H(__has_include)\n", &[], true);
        check("#  error \"see __has_include\"\n # warning __has_include(X)\n", &[], false);
        check("#if 1 /*\n#error */ && __has_include(X)\n", &[], true);
    }

    fn may_ask(text: &str) -> bool {
        let found = mentions(text.as_bytes());
        assert_eq!((&found.included[..], found.unclear), (&[][..], None), "{text}");
        found.pieces.may_ask()
    }

    #[test]
    fn what_could_become_a_query_is_unclear() {
        for text in [
            "#define C(x, y) x##y\n#if C(__has_, include)(\"o.h\")\n",
            "#if C(__has_, embed)(\"o.h\")\n",
            "#if C(__has, _include)(\"o.h\")\n",
            "#if C(__h, as_include)(\"o.h\")\n",
            "#if C(C(__h, as_), include)(\"o.h\")\n",
            "#if C(C(__has, _), include)(\"o.h\")\n",
        ] {
            assert!(may_ask(text), "{text}");
        }
        check("#if C(__has_inc, lude)(\"o.h\")\n", &[], true);
        check("#if C(__, has_include)(\"o.h\")\n", &[], true);
        for text in [
            "struct __has_##_NTYPE; // include\n#if C(x)\n# include A\n",
            "#if C(embed)(\"o.h\") || C(s_include)\n",
            "void include(int __h);\nint class_, has_;\n",
        ] {
            assert!(!may_ask(text), "{text}");
        }
        check("int resolve_has_include(int has_it, int __hash);\n", &[], false);
        check("#ifndef __has_include\n#define __has_include(x) 0\n#endif\n", &[], false);
    }

    /// Of libstdc++'s `<type_traits>`.
    #[test]
    fn what_makes_declarations_asks_nothing() {
        let with = |value: &str| may_ask(&format!("#define H(x) {value}\nvoid include();\n"));
        assert!(!with("\\\n template<class T> struct __has_##x : no { };"));
        for value in ["__has_##x /* { */", "C(__has_, x) // ;", "__has_##x \"{\"", "__has_##x\n{ }"] {
            assert!(with(value), "{value}");
        }
    }

    #[test]
    fn pieces_may_be_in_arguments() {
        let mut pieces = Pieces::of_word(b"-DWHAT=include");
        assert!(!pieces.may_ask() && !Pieces::of_word(b"-include").may_ask());
        pieces |= mentions(b"#if C(__has_, WHAT)(\"o.h\")\n").pieces;
        assert!(pieces.may_ask());
    }

    #[test]
    fn arguments_may_ask_too() {
        for word in ["-DH=__has_include", "-DQ(x)=__has_include(x)", "-Wp,-DQ=__has_embed(<x>)", "-DX=__has_"]
        {
            assert!(has_query(word.as_bytes()), "{word}");
        }
        assert!(!has_query(b"-DHAS_INCLUDE=1") && !has_query(b"-fno-hash_include"));
    }
}
