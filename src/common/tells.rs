//! Where a compile tells what it reads, by its command: in a list of dependencies that is whole, or not.
//!
//! gcc lists what it reads where `SUNPRO_DEPENDENCIES` says, unless its command has a list written
//! anyway. clang has no such variable, but one that adds options, and then `-MD` makes the list. A list
//! that leaves out the system's headers (`-MMD`) is none: neither compiler writes another one besides,
//! or names those headers elsewhere without changing that list or what it prints.

use crate::common::bytes::Bytes;
use crate::common::dependencies::absolute;

/// Variables with which a client says itself what a volunteer would.
const VARIABLES: [&str; 3] = ["SUNPRO_DEPENDENCIES", "DEPENDENCIES_OUTPUT", "CCC_OVERRIDE_OPTIONS"];

/// Options whose lists leave something out, or have names between quotes of NMake's (`-MV`), or that do nothing but list.
const PARTIAL: [&[u8]; 7] =
    [b"-MMD", b"-MV", b"-M", b"-MM", b"--dependencies", b"--user-dependencies", b"--write-user-dependencies"];

/// Where a compile lists all that it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum List {
    /// Nowhere, whatever it is told besides.
    Nowhere,
    /// Where it is told to.
    Anywhere,
    /// In a file that its command names.
    At(Bytes),
    /// In a file that its command makes it write somewhere.
    Somewhere,
}

/// Where a compile with these words, the compiler's name not among them, lists what it reads. The words of
/// response files are in their place; one that could not be looked at is left as it is.
pub fn list<'a>(
    words: &[&[u8]],
    environment: impl IntoIterator<Item = &'a [u8]>,
    cwd: &[u8],
    is_clang: bool,
) -> List {
    let mut environment = environment.into_iter();
    match asked_for(words, cwd) {
        Some(list) => list,
        None if environment.any(is_variable) => List::Nowhere,
        None if is_clang && words.iter().any(|word| shows_options(word)) => List::Nowhere,
        None if !is_clang && lists_modules(words) => List::Nowhere,
        None => List::Anywhere,
    }
}

fn is_variable(entry: &[u8]) -> bool {
    let named = |name: &str| entry.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(b"="));
    VARIABLES.iter().any(|name| named(name))
}

/// Whether gcc would say that it cannot list modules: it preprocesses apart from compiling, and only the one could.
fn lists_modules(words: &[&[u8]]) -> bool {
    let apart: [&[u8]; 4] = [b"-save-temps", b"--save-temps", b"-no-integrated-cpp", b"--no-integrated-cpp"];
    words.contains(&&b"-fmodules-ts"[..])
        && words.iter().any(|word| apart.iter().any(|apart| word.starts_with(apart)))
}

/// Whether with this word clang would show an option that was added, or not know what it is for.
fn shows_options(word: &[u8]) -> bool {
    let exact: [&[u8]; 7] =
        [b"-v", b"-###", b"assembler", b"-xassembler", b"-ccc-print-phases", b"ir", b"-xir"];
    let begins: [&[u8]; 4] = [b"-fembed-bitcode", b"-frecord", b"-grecord", b"--verbose"];
    // Of what is not preprocessed there are no dependencies, and it says that the option is not used.
    let ends: [&[u8]; 8] = [b".s", b".i", b".ii", b".mi", b".mii", b".ll", b".bc", b"cpp-output"];
    exact.contains(&word)
        || begins.iter().any(|begin| word.starts_with(begin))
        || ends.iter().any(|end| word.ends_with(end))
}

/// Where the command itself has dependencies written, if it does.
fn asked_for(words: &[&[u8]], cwd: &[u8]) -> Option<List> {
    let mut found = None;
    let mut rest = words.iter();
    while let Some(&word) = rest.next() {
        match word {
            b"-MD" | b"--write-dependencies" => found = found.or(Some(List::Somewhere)),
            word if PARTIAL.contains(&word) => return Some(List::Nowhere),
            b"-MF" => {
                if let Some(path) = rest.next() {
                    found = Some(List::At(absolute(cwd, path)));
                }
            }
            word if word.starts_with(b"-MF") => found = Some(List::At(absolute(cwd, &word[3..]))),
            word if word.starts_with(b"-Wp,") => {
                let pieces: Vec<&[u8]> = word.split(|&byte| byte == b',').collect();
                match pieces.iter().position(|piece| piece.starts_with(b"-M")) {
                    Some(at) if pieces[at] == b"-MD" && at + 1 < pieces.len() => {
                        found = Some(List::At(absolute(cwd, pieces[at + 1])));
                    }
                    Some(_) => return Some(List::Nowhere),
                    None => {}
                }
            }
            // One that could not be looked at.
            word if word.starts_with(b"@") => return Some(List::Nowhere),
            _ => {}
        }
    }
    // `-MF` alone has nothing written.
    let is_written =
        |word: &&&[u8]| matches!(**word, b"-MD" | b"--write-dependencies") || word.starts_with(b"-Wp,-MD");
    if words.iter().any(|word| is_written(&word)) { found } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(command: &str, expected: &str) {
        let (compiler, words) = command.split_once(' ').expect("a compiler");
        let words: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
        let found = match list(&words, [&b"LC_ALL=C"[..]], b"/w", compiler == "clang") {
            List::Nowhere => "nowhere".to_owned(),
            List::Anywhere => "anywhere".to_owned(),
            List::At(path) => path.to_text(),
            List::Somewhere => "somewhere".to_owned(),
        };
        assert_eq!(found, expected, "{command}");
    }

    #[test]
    fn a_command_that_has_a_list_written_is_not_asked_again() {
        check("gcc -c a.c", "anywhere");
        check("clang -c a.c", "anywhere");
        check("gcc -MD -c a.c", "somewhere");
        check("gcc -MD -MF d/a.d -c a.c", "/w/d/a.d");
        check("gcc -MF/x/a.d -MD -c a.c", "/x/a.d");
        check("gcc -Wp,-MD,./.a.d -c a.c", "/w/.a.d");
        check("gcc -MF a.d -c a.c", "anywhere");
    }

    #[test]
    fn a_list_that_is_not_whole_is_none() {
        for options in
            ["-MMD", "-MMD -MF a.d", "-MD -MMD", "-Wp,-MMD,a.d", "-MD -MV", "-M", "@file", "-MD @file"]
        {
            check(&format!("gcc {options} -c a.c"), "nowhere");
        }
        for options in [
            "-v",
            "-frecord-command-line",
            "-fembed-bitcode=marker",
            "-fembed-bitcode-marker",
            "-xassembler",
            "a.s",
            "a.ii",
            "-x cpp-output",
            "a.ll",
        ] {
            check(&format!("clang {options} -c a.c"), "nowhere");
        }
        check("gcc -fmodules-ts -save-temps=obj -c a.cc", "nowhere");
        check("gcc -fmodules-ts -c a.cc", "anywhere");
    }

    #[test]
    fn what_the_environment_says_already_is_not_said_again() {
        for entry in ["SUNPRO_DEPENDENCIES=x", "DEPENDENCIES_OUTPUT=x y", "CCC_OVERRIDE_OPTIONS="] {
            assert_eq!(list(&[b"-c", b"a.c"], [entry.as_bytes()], b"/w", false), List::Nowhere, "{entry}");
        }
        assert_eq!(list(&[b"-c", b"a.c"], [&b"DEPENDENCIES=x"[..]], b"/w", false), List::Anywhere);
    }
}
