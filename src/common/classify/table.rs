//! How an option is found in the table, and what the table says of it.

use super::effects::Effect;
use super::options::OPTIONS;
use crate::common::reason::OptionRule;

/// How an option takes its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// It has none: `-c`.
    Alone,
    /// The rest of the word: `-std=c99`.
    Joined,
    /// The next word: `-target T`.
    Separate,
    /// The rest of the word, or the next word when nothing is left: `-I.`, `-I .`.
    Either,
    /// Behind `=`, or the next word: `--sysroot=/`, `--sysroot /`.
    Long,
    /// Every word that begins so, whatever follows: `-fdump…`.
    Prefix,
}

/// What an option's value names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// No file: a word, a number, a list. It must look like one to leave the client.
    Nothing,
    /// No file, but text that may look like a path: a prefix map.
    Text,
    /// A file that is read.
    Input,
    /// A file that is written.
    Output,
    /// A directory, or a part of one, in which headers are looked for.
    Include,
    /// A macro.
    Define,
}

/// What the compile makes in the end.
///
/// Of several, the greatest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Emit {
    /// An object file (`-c`).
    Object,
    /// Assembly (`-S`).
    Assembly,
    /// A compiled module (`--precompile`).
    Module,
}

/// What an option says about the dependency file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DependencyOption {
    /// That it is written.
    Write,
    /// Where.
    File,
    /// What its target is called.
    Target,
    /// How it looks.
    Flag,
}

/// What becomes of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// In the preprocessor's command and in the remote one.
    Kept,
    /// Kept, and its value may be `native`.
    Machine,
    /// `-fsanitize=`: kept, unless what it puts into the object says where in the source it is.
    Sanitizers,
    /// `-fverbose-asm`: kept, unless it is the assembly that is wanted.
    Annotations,
    /// For the preprocessor alone.
    Preprocess,
    /// For the linker, so unused here. clang says so, once: in the preprocessor's command.
    Link,
    /// `-c`, `-S`, `--precompile`.
    Mode(Emit),
    /// `-o`.
    OutputFile,
    /// `-x`.
    Language,
    /// `-MD` and its kin.
    Dependency(DependencyOption),
    /// `-finput-charset=`: the preprocessor's text is UTF-8 already.
    InputCharset,
    /// `-Wp,`.
    PreprocessorWords,
    /// `-Xpreprocessor`.
    PreprocessorWord,
    /// `-Wa,`.
    AssemblerWords,
    /// `-Xassembler`.
    AssemblerWord,
    /// `-E`, `-M`, `-MM`.
    PreprocessOnly,
    /// An option that says the language is not by the source's name.
    OtherLanguage,
    /// `-Xclang`.
    FrontEndWord,
    /// `-mllvm`.
    CodeWord,
    /// It keeps the job from travelling as text, but not from running among the client's own files.
    Among(OptionRule, Effect),
    /// It keeps the job here.
    Here(OptionRule),
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// The option, up to its value.
    pub name: &'static str,
    /// How it takes its value.
    pub takes: Takes,
    /// What the value names.
    pub names: Names,
    /// What becomes of it.
    pub class: Class,
}

/// A row.
pub(super) const fn entry(name: &'static str, takes: Takes, names: Names, class: Class) -> Entry {
    Entry { name, takes, names, class }
}

/// A row of an option that keeps the job here.
pub(super) const fn here(name: &'static str, takes: Takes, rule: OptionRule) -> Entry {
    let names = match rule {
        OptionRule::ReadsFiles => Names::Input,
        OptionRule::WritesFiles => Names::Output,
        _ => Names::Nothing,
    };
    Entry { name, takes, names, class: Class::Here(rule) }
}

/// A row of an option that only a compile among the client's own files can have.
pub(super) const fn among(name: &'static str, takes: Takes, rule: OptionRule, effect: Effect) -> Entry {
    let names = match effect {
        Effect::Nothing | Effect::Word => Names::Text,
        Effect::Writes => Names::Output,
        _ => Names::Input,
    };
    Entry { name, takes, names, class: Class::Among(rule, effect) }
}

/// Where the value of a found option is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// There is none.
    Absent,
    /// In the word itself.
    Here(&'a [u8]),
    /// In the next word.
    Next,
}

/// The longest name in the table, in bytes.
const LONGEST: usize = {
    let (mut longest, mut at) = (0, 0);
    while at < OPTIONS.len() {
        if OPTIONS[at].name.len() > longest {
            longest = OPTIONS[at].name.len();
        }
        at += 1;
    }
    longest
};

/// Finds the row of a word: the one with the longest name that the word can be.
pub(super) fn find(word: &[u8]) -> Option<(&'static Entry, Value<'_>)> {
    (1..=word.len().min(LONGEST)).rev().find_map(|length| {
        let (name, rest) = word.split_at(length);
        let row = OPTIONS.binary_search_by(|row| row.name.as_bytes().cmp(name)).ok()?;
        let row = &OPTIONS[row];
        Some((row, value_of(row.takes, rest, name)?))
    })
}

/// Whether a word is an option whose value is the next word, whatever that looks like.
pub fn takes_next(word: &[u8]) -> bool {
    matches!(find(word), Some((_, Value::Next)))
}

/// Whether an option is for the linker alone; then, whether its value is the next word.
pub fn only_links(word: &[u8]) -> Option<bool> {
    let (row, value) = find(word)?;
    (row.class == Class::Link).then_some(value == Value::Next)
}

/// Where the value is, or `None` when this is another option that only begins alike.
fn value_of<'a>(takes: Takes, rest: &'a [u8], name: &[u8]) -> Option<Value<'a>> {
    match (takes, rest) {
        (Takes::Alone, []) => Some(Value::Absent),
        (Takes::Separate | Takes::Either | Takes::Long, []) => Some(Value::Next),
        (Takes::Joined, []) if !name.ends_with(b"=") && !name.ends_with(b",") => None,
        (Takes::Joined | Takes::Either | Takes::Prefix, rest) => Some(Value::Here(rest)),
        (Takes::Long, [b'=', rest @ ..]) => Some(Value::Here(rest)),
        (Takes::Alone | Takes::Separate | Takes::Long, _) => None,
    }
}

/// Whether a word that the table does not know may leave: it tunes the compile and names no file.
pub(super) fn harmless_shape(word: &[u8]) -> bool {
    let tunes = matches!(word, [b'-', b'f' | b'm' | b'W' | b'O' | b'g', ..]);
    tunes && names_no_file(&word[1..])
}

/// Whether a value can only be a word, a number or a list of such: no directory, no file name
/// with an ending, nothing that a shell or a response file would take apart.
pub(super) fn names_no_file(value: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_+=:,.-".contains(byte);
    let ending = |pair: &[u8]| pair[0] == b'.' && !pair[1].is_ascii_digit();
    value.iter().all(plain) && !value.windows(2).any(ending) && !value.ends_with(b".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_has_no_option_twice() {
        for pair in OPTIONS.windows(2) {
            assert!(pair[0].name < pair[1].name, "{} must come after {}", pair[1].name, pair[0].name);
        }
    }

    #[test]
    fn every_row_is_found_by_its_own_name() {
        for row in OPTIONS {
            let word = match row.takes {
                Takes::Joined => format!("{}x", row.name),
                _ => row.name.to_owned(),
            };
            let (found, _) = find(word.as_bytes()).expect("a row");
            assert_eq!(found.name, row.name);
        }
    }

    #[test]
    fn what_leaves_names_no_file() {
        for row in OPTIONS.iter().filter(|row| matches!(row.class, Class::Kept | Class::Machine)) {
            assert!(matches!(row.names, Names::Nothing | Names::Text), "{} names a file", row.name);
        }
    }

    #[test]
    fn the_longest_name_wins() {
        let name = |word: &str| find(word.as_bytes()).map(|(row, _)| row.name);
        assert_eq!(name("-MD"), Some("-MD"));
        assert_eq!(name("-includefoo.h"), Some("-include"));
        assert_eq!(name("-include-pch"), Some("-include-pch"));
        assert_eq!(name("-fmodule-mapper=|sh"), Some("-fmodule-mapper="));
        assert_eq!(name("-undef"), Some("-undef"));
        assert_eq!(name("-iwithprefixbefore"), Some("-iwithprefixbefore"));
        assert_eq!(name("-c99"), None);
    }

    #[test]
    fn an_unknown_option_is_harmless_only_by_its_shape() {
        for word in ["-fnew-thing", "-mavx1024", "-Wno-thing=2", "-Og", "-ggdb3", "-mfpu=v3.2-a+x"] {
            assert!(harmless_shape(word.as_bytes()), "{word}");
        }
        for word in ["-fx=/etc", "-fx=a.txt", "-fx=|sh", "-Wx=@f", "-gx=~", "-zoom", "--new", "-fx=.."] {
            assert!(!harmless_shape(word.as_bytes()), "{word}");
        }
    }
}
