//! What a daemon of distcc 3.4 would refuse, so that it is never asked.
//!
//! Such a daemon reads the command that it receives as its client does, and closes the connection
//! when it finds that the job "must be local". It counts words: one that ends like an object is
//! another output to it, one that ends like a source another input, even as the value of an option.

use crate::common::action::Argument;

/// Endings that it takes for those of sources.
const SOURCES: [&[u8]; 16] = [
    b".i", b".ii", b".c", b".cc", b".cpp", b".cxx", b".cp", b".c++", b".C", b".m", b".mm", b".mi", b".mii",
    b".M", b".s", b".S",
];

/// Options that are local to it, exactly as they stand.
const EXACT: [&[u8]; 9] = [
    b"-flto",
    b"-frepo",
    b"-fprofile-arcs",
    b"-ftest-coverage",
    b"--coverage",
    b"-fprofile-correction",
    b"-march=native",
    b"-mtune=native",
    b"-E",
];

/// Beginnings of options that are local to it, or closed upon without a word.
const BEGINNINGS: [&[u8]; 7] =
    [b"-fprofile-generate", b"-fprofile-use", b"-fauto-profile", b"-specs=", b"-fplugin=", b"-dr", b"-M"];

/// Why a daemon of distcc 3.4 would close the connection on these arguments; `None` when it would
/// do the job.
pub fn refuse_classic(arguments: &[Argument]) -> Option<String> {
    arguments.iter().find_map(|argument| match argument {
        Argument::Plain(word) if is_refused(word) => Some(format!("distcc 3.4 takes no jobs with {word}")),
        _ => None,
    })
}

fn is_refused(word: &[u8]) -> bool {
    if !word.starts_with(b"-") {
        return word.ends_with(b".o") || SOURCES.iter().any(|ending| word.ends_with(ending));
    }
    let listing = |list: &[u8]| {
        list.windows(3).any(|part| part == b",-a") || list.windows(4).any(|part| part == b"--MD")
    };
    EXACT.contains(&word)
        || BEGINNINGS.iter().any(|beginning| word.starts_with(beginning))
        || word.strip_prefix(b"-Wa").is_some_and(listing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &str, refused: bool) {
        let arguments: Vec<Argument> = words.split(' ').map(|word| Argument::Plain(word.into())).collect();
        assert_eq!(refuse_classic(&arguments).is_some(), refused, "{words}");
    }

    #[test]
    fn what_stock_keeps_local_is_not_sent_to_it() {
        for words in [
            "-flto",
            "-Wa,-W,-al=x",
            "-Wa,--MD,x",
            "-march=native",
            "-fprofile-use=x",
            "--param x.o",
            "-T a.c",
        ] {
            check(words, true);
        }
        for words in
            ["-O2 -g -c", "-flto=auto", "-Wa,--noexecstack", "--param max-x=3", "-fno-rtti -std=c++17"]
        {
            check(words, false);
        }
    }
}
