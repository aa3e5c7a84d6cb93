//! The comma lists that reach the preprocessor and the assembler: `-Wp,…` and `-Wa,…`.

use super::table::{Class, DependencyOption, Value, find, names_no_file};
use crate::common::bytes::Bytes;

/// What a `-Wp,` list asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PreprocessorWords {
    /// Only what the preprocessor alone reads: the word stays as it is.
    Plain {
        /// Whether it names the dependency file's target.
        target: bool,
    },
    /// The dependency file as well.
    Dependencies {
        /// `-MD` or `-MMD`.
        option: Bytes,
        /// Where it goes.
        file: Bytes,
        /// Whether the list names the target.
        target: bool,
        /// The other pieces, to be given as a list again.
        rest: Vec<Bytes>,
    },
}

/// Reads the list behind `-Wp,`. `None`: a piece is unknown, or not for the preprocessor alone.
///
/// gcc hands the pieces to its preprocessor, whose `-MD` takes the file as its next word.
pub(super) fn preprocessor_words(list: &[u8]) -> Option<PreprocessorWords> {
    let (mut write, mut target, mut rest) = (None, false, Vec::new());
    let mut pieces = list.split(|byte| *byte == b',');
    while let Some(piece) = pieces.next() {
        let (row, value) = find(piece)?;
        let next = match (row.class, value) {
            (Class::Dependency(DependencyOption::Write), _) if write.is_none() => {
                write =
                    Some((Bytes::from(piece), Bytes::from(pieces.next().filter(|file| !file.is_empty())?)));
                continue;
            }
            (_, Value::Next) => Some(pieces.next()?),
            _ => None,
        };
        match row.class {
            Class::Preprocess | Class::Dependency(DependencyOption::Flag) => {}
            Class::Dependency(DependencyOption::Target) => target = true,
            _ => return None,
        }
        rest.push(Bytes::from(piece));
        rest.extend(next.map(Bytes::from));
    }
    Some(match write {
        None => PreprocessorWords::Plain { target },
        Some((option, file)) => PreprocessorWords::Dependencies { option, file, target, rest },
    })
}

/// Whether a word behind `-Xpreprocessor` is for the preprocessor alone, and whole.
pub(super) fn lone_preprocessor_word(word: &[u8]) -> bool {
    find(word).is_some_and(|(row, value)| row.class == Class::Preprocess && value != Value::Next)
}

/// Assembler options that change the object and touch nothing else.
const ASSEMBLER: [&[u8]; 18] = [
    b"--32",
    b"--64",
    b"--compress-debug-sections",
    b"--execstack",
    b"--fatal-warnings",
    b"--keep-locals",
    b"--no-pad-sections",
    b"--no-warn",
    b"--nocompress-debug-sections",
    b"--noexecstack",
    b"--reduce-memory-overheads",
    b"--strip-local-absolute",
    b"--warn",
    b"--x32",
    b"-L",
    b"-W",
    b"-force_cpusubtype_ALL",
    b"-noexecstack",
];

/// Whether every piece of a list behind `-Wa,` may leave the client.
pub(super) fn assembler_words(list: &[u8]) -> bool {
    let mut pieces = list.split(|byte| *byte == b',');
    while let Some(piece) = pieces.next() {
        let allowed = match piece {
            b"--defsym" | b"-defsym" => {
                pieces.next().is_some_and(|value| !value.is_empty() && names_no_file(value))
            }
            piece => assembler_word(piece),
        };
        if !allowed {
            return false;
        }
    }
    true
}

/// Whether a single assembler option may leave the client.
pub(super) fn assembler_word(piece: &[u8]) -> bool {
    let valued =
        [b"--compress-debug-sections=".as_slice(), b"--elf-stt-common=", b"--hash-size=", b"-meabi="];
    let machine = piece.starts_with(b"-m") && !piece.starts_with(b"-mllvm") && names_no_file(piece);
    ASSEMBLER.contains(&piece)
        || machine
        || valued.iter().any(|name| piece.strip_prefix(*name).is_some_and(names_no_file))
}

/// What a piece of a list behind `-Wa,` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listing<'a> {
    /// Nothing, or a listing on stdout.
    None,
    /// A listing in a file.
    File(&'a [u8]),
    /// Debug information of the assembler's own (`-gdwarf-5`).
    Debug(&'a [u8]),
}

/// The forms of gas's options for debug information of its own (as, "-g", "--gdwarf-N").
const DEBUG: [&[u8]; 11] = [
    b"-g",
    b"--gen-debug",
    b"-gdwarf2",
    b"-gdwarf-2",
    b"-gdwarf-3",
    b"-gdwarf-4",
    b"-gdwarf-5",
    b"--gdwarf-2",
    b"--gdwarf-3",
    b"--gdwarf-4",
    b"--gdwarf-5",
];

/// What a piece writes: it is one that may leave anyhow, or asks for a listing (`-adhln=FILE`).
///
/// Without `n` a listing has the name of the compiler's temporary file on each page, and with `g` the
/// time; both are others each time, so such pieces are not known here.
pub(super) fn listing(piece: &[u8]) -> Option<Listing<'_>> {
    if assembler_word(piece) {
        return Some(Listing::None);
    }
    if DEBUG.contains(&piece) {
        return Some(Listing::Debug(piece));
    }
    let rest = piece.strip_prefix(b"-a")?;
    let (letters, file) = match rest.iter().position(|&byte| byte == b'=') {
        Some(equals) => (&rest[..equals], Some(&rest[equals + 1..])),
        None => (rest, None),
    };
    let repeatable = letters.contains(&b'n') && letters.iter().all(|letter| b"cdhilmns".contains(letter));
    match file {
        Some(file) if repeatable && !file.is_empty() && !file.starts_with(b"@") => Some(Listing::File(file)),
        None if repeatable => Some(Listing::None),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_without_the_names_of_temporary_files_are_known() {
        assert_eq!(listing(b"-adhln=o/a.lst"), Some(Listing::File(b"o/a.lst")));
        assert_eq!(listing(b"-aln"), Some(Listing::None));
        assert_eq!(listing(b"--noexecstack"), Some(Listing::None));
        assert_eq!(listing(b"--gdwarf-5"), Some(Listing::Debug(b"--gdwarf-5")));
        for piece in
            ["-a", "-a=x", "-al=x", "-adhlng=x", "-aln=", "-aln=@x", "--MD", "-gstabs", "@x", "-I.", ""]
        {
            assert_eq!(listing(piece.as_bytes()), None, "{piece}");
        }
    }

    #[test]
    fn only_known_pieces_reach_the_assembler() {
        for list in
            ["--noexecstack", "-march=armv8-a+crc,--fatal-warnings", "--defsym,A=1", "-mrelax-relocations=no"]
        {
            assert!(assembler_words(list.as_bytes()), "{list}");
        }
        for list in
            ["-al=x", "-a", "@f", "-I.", "--MD,x", "--MD", "", "--noexecstack,", "--defsym", "-mllvm", "-o,x"]
        {
            assert!(!assembler_words(list.as_bytes()), "{list}");
        }
    }

    #[test]
    fn the_pieces_of_a_dependency_list_are_told_apart() {
        assert_eq!(
            preprocessor_words(b"-MMD,x.d,-MT,foo,-DA"),
            Some(PreprocessorWords::Dependencies {
                option: "-MMD".into(),
                file: "x.d".into(),
                target: true,
                rest: ["-MT", "foo", "-DA"].map(Bytes::from).to_vec(),
            })
        );
        assert_eq!(preprocessor_words(b"-D,A,-UB"), Some(PreprocessorWords::Plain { target: false }));
        for list in ["-MD", "-MD,", "-O2", "-MD,a,-MD,b", "", "-D", "-fplugin=x", "-MF,x", "-P"] {
            assert_eq!(preprocessor_words(list.as_bytes()), None, "{list}");
        }
    }
}
