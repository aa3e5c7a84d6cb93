//! What a compiler says that it read: a rule for `make`, as `-MD` writes it.
//!
//! Pure: text in, names out. gcc and clang quote alike where they must: a blank with a backslash, and
//! the backslashes before it doubled; `#` with a backslash; `$` doubled.

use crate::common::bytes::Bytes;

/// The names behind the first colon of each rule, in order; `None` for what is no rule.
///
/// Rules without names, as `-MP` adds them, are rules too. What gcc adds about the modules that a unit makes
/// is passed over; those that it imports are names such as `a.b:c.c++m`.
pub fn prerequisites(text: &[u8]) -> Option<Vec<Bytes>> {
    let mut names = Vec::new();
    for line in logical_lines(text) {
        let words = words_of(&line);
        if !words.is_empty() && !is_about_modules(&words) {
            names.extend(behind_colon(words)?);
        }
    }
    Some(names)
}

/// Lines, with those that a backslash ends joined to the next.
fn logical_lines(text: &[u8]) -> Vec<Vec<u8>> {
    let mut lines = vec![Vec::new()];
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'\n' => lines.push(Vec::new()),
            b'\\' if after.starts_with(b"\n") => {
                append(&mut lines, b' ');
                rest = &after[1..];
            }
            b'\\' if after.starts_with(b"\r\n") => {
                append(&mut lines, b' ');
                rest = &after[2..];
            }
            _ => append(&mut lines, byte),
        }
    }
    lines
}

fn append(lines: &mut [Vec<u8>], byte: u8) {
    if let Some(line) = lines.last_mut() {
        line.push(byte);
    }
}

/// A word of a rule, and whether a colon that is not part of a name stands at its end.
#[derive(Debug)]
struct Word {
    name: Vec<u8>,
    is_target: bool,
}

fn words_of(line: &[u8]) -> Vec<Word> {
    let mut words = Vec::new();
    let mut name: Option<Vec<u8>> = None;
    let mut at = 0;
    while let Some(&byte) = line.get(at) {
        let ahead = &line[at + 1..];
        let backslashes = line[at..].iter().take_while(|&&byte| byte == b'\\').count();
        let quoted = line.get(at + backslashes).copied();
        match byte {
            b'\\' if matches!(quoted, Some(b' ' | b'\t')) => {
                // Two before a blank are one; an odd one makes the blank part of the name.
                name.get_or_insert_default().extend(std::iter::repeat_n(b'\\', backslashes / 2));
                if backslashes % 2 == 1 {
                    name.get_or_insert_default().extend(quoted);
                    at += 1;
                }
                at += backslashes;
                continue;
            }
            b'\\' if ahead.first() == Some(&b'#') => {
                name.get_or_insert_default().push(b'#');
                at += 2;
                continue;
            }
            b'$' if ahead.first() == Some(&b'$') => {
                name.get_or_insert_default().push(b'$');
                at += 2;
                continue;
            }
            b' ' | b'\t' | b'\r' => {
                words.extend(name.take().map(|name| Word { name, is_target: false }));
            }
            // A colon ends the targets where a blank or nothing follows; others are part of names.
            b':' if matches!(ahead.first(), None | Some(b' ' | b'\t' | b'\r')) => {
                words.push(Word { name: name.take().unwrap_or_default(), is_target: true });
            }
            _ => name.get_or_insert_default().push(byte),
        }
        at += 1;
    }
    words.extend(name.map(|name| Word { name, is_target: false }));
    words
}

/// Whether a line says where the module of this unit is (`m.c++m: FILE`), that this is no file
/// (`.PHONY: m.c++m`), what is made first (`FILE:| a.o`), or for the linker what is imported.
fn is_about_modules(words: &[Word]) -> bool {
    let module = |word: &Word| word.name.ends_with(b".c++m");
    match words {
        [list, plus, ..] if list.name == b"CXX_IMPORTS" => plus.name == b"+=",
        [target, rest @ ..] if target.is_target && target.name == b".PHONY" => rest.iter().all(module),
        [target, _] if target.is_target => module(target),
        [file, _] => file.name.ends_with(b":|"),
        _ => false,
    }
}

/// What stands behind the colon; `None` without a colon.
fn behind_colon(words: Vec<Word>) -> Option<impl Iterator<Item = Bytes>> {
    let colon = words.iter().position(|word| word.is_target)?;
    Some(words.into_iter().skip(colon + 1).map(|Word { mut name, is_target }| {
        // A second colon is part of a name.
        if is_target {
            name.push(b':');
        }
        Bytes(name)
    }))
}

/// A name as an absolute path, without `.` and empty parts. `..` and links stand as they are.
pub fn absolute(cwd: &[u8], name: &[u8]) -> Bytes {
    let mut path = Vec::with_capacity(cwd.len() + name.len() + 1);
    let whole: [&[u8]; 2] = if name.starts_with(b"/") { [b"", name] } else { [cwd, name] };
    for part in whole.iter().flat_map(|half| half.split(|&byte| byte == b'/')) {
        if !part.is_empty() && part != b"." {
            path.push(b'/');
            path.extend_from_slice(part);
        }
    }
    Bytes(path)
}

/// A rule that [`prerequisites`] reads as these names, as gcc would write it.
pub fn rule(target: &[u8], names: &[Bytes]) -> Vec<u8> {
    let mut text = [target, b":"].concat();
    for name in names {
        text.extend_from_slice(b" \\\n ");
        quote(name, &mut text);
    }
    text.push(b'\n');
    text
}

fn quote(name: &[u8], text: &mut Vec<u8>) {
    let mut backslashes = 0;
    for &byte in name {
        match byte {
            b' ' | b'\t' => {
                text.extend(std::iter::repeat_n(b'\\', backslashes + 1));
            }
            b'#' => text.push(b'\\'),
            b'$' => text.push(b'$'),
            _ => {}
        }
        backslashes = if byte == b'\\' { backslashes + 1 } else { 0 };
        text.push(byte);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let names = prerequisites(text.as_bytes()).unwrap_or_else(|| panic!("no rule: {text:?}"));
        let names: Vec<String> = names.iter().map(Bytes::to_text).collect();
        assert_eq!(names, expected, "{text:?}");
    }

    #[test]
    fn the_names_behind_the_colon_are_what_was_read() {
        check("m.o: m.c a.h\n", &["m.c", "a.h"]);
        check("m.o: m.c \\\n a.h \\\n  b/c.h\n", &["m.c", "a.h", "b/c.h"]);
        check("m.o m.d: m.c\n", &["m.c"]);
        check("m.o: \\\n m.c\r\n", &["m.c"]);
        check("m.o:\n", &[]);
        check("", &[]);
    }

    #[test]
    fn rules_without_names_add_none() {
        check("m.o: m.c a.h\na.h:\n\nb.h:\n", &["m.c", "a.h"]);
        check("m.o: m.c\nn.o: n.c\n", &["m.c", "n.c"]);
    }

    #[test]
    fn modules_that_are_imported_are_names_too() {
        check(
            "m.o gcm.cache/foo.gcm: m.cc h.h\nm.o gcm.cache/foo.gcm: foo:part.c++m bar.c++m\n\
             foo.c++m: gcm.cache/foo.gcm\n.PHONY: foo.c++m\ngcm.cache/foo.gcm:| m.o\n\
             CXX_IMPORTS += foo:part.c++m bar.c++m\n",
            &["m.cc", "h.h", "foo:part.c++m", "bar.c++m"],
        );
        check("u.o: u.cc\nu.o: foo.c++m\nCXX_IMPORTS += foo.c++m\n", &["u.cc", "foo.c++m"]);
    }

    #[test]
    fn quoted_characters_are_part_of_names() {
        check("m.o: m.c a\\ b.h sub/../c$$d.h e\\#f.h\n", &["m.c", "a b.h", "sub/../c$d.h", "e#f.h"]);
        check("m.o: a\\\\\\ b.h a\\b.h\n", &["a\\ b.h", "a\\b.h"]);
        check("m.o: C:x.h a:b.h\n", &["C:x.h", "a:b.h"]);
        check("a\\ b.o: x.c\n", &["x.c"]);
    }

    #[test]
    fn what_is_no_rule_has_no_names() {
        assert_eq!(prerequisites(b"int main(void);\n"), None);
    }

    #[test]
    fn names_become_absolute_without_dots() {
        for (name, expected) in [
            ("a.h", "/w/d/a.h"),
            ("./a.h", "/w/d/a.h"),
            ("../a.h", "/w/d/../a.h"),
            ("/x//y/./z.h", "/x/y/z.h"),
        ] {
            assert_eq!(absolute(b"/w/d", name.as_bytes()).to_text(), expected);
        }
        assert_eq!(absolute(b"/", b"a.h").to_text(), "/a.h");
    }

    proptest! {
        #[test]
        fn any_names_come_back(names in prop::collection::vec("[a-z$#: \\\\]{0,6}[a-z]", 0..8)) {
            let names: Vec<Bytes> = names.iter().map(|name| Bytes::from(name.as_str())).collect();
            prop_assert_eq!(prerequisites(&rule(b"x.o", &names)), Some(names));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let names = prerequisites(&text).unwrap_or_default();
            prop_assert!(names.iter().map(|name| name.len()).sum::<usize>() <= text.len());
        }
    }
}
