//! The command that makes a compiler list what it reads, and its answer.

use crate::common::bytes::Bytes;
use crate::common::classify::{INCLUDE_LISTS, takes_next};
use crate::common::dependencies::absolute;
use crate::common::program::basename;

/// What a compiler tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// What it read, absolute, each once; the source is the first.
    pub read: Vec<Bytes>,
    /// Where it looks for what is included, absolute.
    pub directories: Vec<Bytes>,
}

/// Words that go, with the word behind them.
const WITH_NEXT: [&[u8]; 14] = [
    b"-o",
    b"--output",
    b"-MF",
    b"-MT",
    b"-MQ",
    b"-MJ",
    b"-aux-info",
    b"--aux-info",
    b"-serialize-diagnostics",
    b"--serialize-diagnostics",
    b"-dumpbase",
    b"-dumpbase-ext",
    b"-dumpdir",
    b"-Xassembler",
];

/// Those of clang's own front end, which are passed on to it one by one.
const CLANGS_WITH_NEXT: [&[u8]; 7] = [
    b"-o",
    b"-dependency-file",
    b"-dependency-dot",
    b"-diagnostic-log-file",
    b"-header-include-file",
    b"-serialize-diagnostic-file",
    b"-stats-file",
];

/// Words that go.
const ALONE: [&[u8]; 14] = [
    b"-c",
    b"-S",
    b"-M",
    b"-MM",
    b"-MD",
    b"-MMD",
    b"-MP",
    b"-MG",
    b"-H",
    b"-v",
    b"--coverage",
    b"-coverage",
    b"--write-dependencies",
    b"--write-user-dependencies",
];

/// Beginnings of words that go: they write, and change nothing that is read.
const BEGINNINGS: [&[u8]; 23] = [
    b"-o",
    b"--output=",
    b"-d",
    b"-MF",
    b"-MT",
    b"-MQ",
    b"-MJ",
    b"-Wa,",
    b"-save-temps",
    b"--save-temps",
    b"-aux-info",
    b"--serialize-diagnostics=",
    b"-fauto-profile",
    b"-fcallgraph-info",
    b"-fdiagnostics-add-output=",
    b"-fdiagnostics-format=",
    b"-fdiagnostics-set-output=",
    b"-fdump-",
    b"-fopt-info",
    b"-fprofile-",
    b"-fsave-optimization-record",
    b"-fstack-usage",
    b"-ftime-trace",
];

/// The words, without the compiler, that make a compile with `words` list what it reads on stdout and
/// where it looks on stderr, and write nothing.
pub fn question(words: &[Bytes]) -> Vec<Bytes> {
    let mut asked = Vec::with_capacity(words.len() + 2);
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        if WITH_NEXT.contains(&&word[..]) {
            rest.next();
        } else if word.starts_with(b"-Wp,") {
            asked.extend(without_dependencies(word));
        } else if word[..] == *b"-Xclang" {
            let Some(passed) = rest.next() else { break };
            if CLANGS_WITH_NEXT.contains(&&passed[..]) {
                // What it takes is passed on as well.
                rest.next();
                rest.next();
            } else if !goes(passed) {
                asked.extend([word.clone(), passed.clone()]);
            }
        } else if !goes(word) {
            asked.push(word.clone());
            if takes_next(word) {
                asked.extend(rest.next().cloned());
            }
        }
    }
    asked.extend(["-M", "-v"].map(Bytes::from));
    asked
}

/// A list without what gcc says in front of it of a precompiled header that it reads (`-fpch-preprocess`).
pub fn without_pragmas(list: &[u8]) -> &[u8] {
    let mut list = list;
    while list.starts_with(b"#pragma GCC pch_preprocess") {
        list = memchr::memchr(b'\n', list).map_or(&b""[..], |end| &list[end + 1..]);
    }
    list
}

/// Whether a header is among names for which there is that precompiled one: `-fpch-deps` lists what it was made of where it
/// was made with a list of its own.
pub fn names_text_of(names: &[Bytes], precompiled: &[u8]) -> bool {
    let header = basename(precompiled.strip_suffix(b".gch").unwrap_or(precompiled));
    names.iter().any(|name| basename(name) == header)
}

/// Whether a word goes that is no other's value.
fn goes(word: &[u8]) -> bool {
    ALONE.contains(&word) || BEGINNINGS.iter().any(|begin| word.starts_with(begin))
}

/// `-Wp,…` without what it says of dependencies.
fn without_dependencies(word: &[u8]) -> Option<Bytes> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut pieces = word.split(|&byte| byte == b',').skip(1).peekable();
    while let Some(piece) = pieces.next() {
        match piece {
            b"-MD" | b"-MMD" | b"-MF" | b"-MT" | b"-MQ" => {
                pieces.next_if(|next| !next.starts_with(b"-"));
            }
            _ if piece.starts_with(b"-M") => {}
            _ => {
                kept.push(piece);
                if takes_next(piece) {
                    kept.extend(pieces.next());
                }
            }
        }
    }
    let list = || [&b"-Wp,"[..], &kept.join(&b',')].concat().into();
    (!kept.is_empty()).then(list)
}

/// The directories in which a compiler says that it looks; `None` when it does not say.
pub fn directories(messages: &[u8], cwd: &[u8]) -> Option<Told> {
    let mut told = Told::default();
    let (mut inside, mut ended) = (false, false);
    for line in messages.split(|&byte| byte == b'\n') {
        if line.ends_with(b"search starts here:") {
            inside = true;
        } else if line.starts_with(b"End of search list.") {
            (inside, ended) = (false, true);
        } else if let (true, Some(path)) = (inside, line.strip_prefix(b" ")) {
            // Headers of frameworks have other names than they are included by.
            if path.ends_with(b" (framework directory)") {
                return None;
            }
            told.directories.push(absolute(cwd, path));
        } else if let Some(path) = line.strip_prefix(b"ignoring duplicate directory \"") {
            told.directories.push(absolute(cwd, path.strip_suffix(b"\"")?));
        }
    }
    ended.then_some(told)
}

/// The directories of headers that a command names.
pub fn searched<'a>(words: &'a [Bytes], cwd: &'a [u8]) -> impl Iterator<Item = Bytes> + 'a {
    named(words).map(|path| absolute(cwd, path))
}

fn named(words: &[Bytes]) -> impl Iterator<Item = &[u8]> {
    with_next(words).filter_map(|(word, next)| {
        let options = [&b"-isystem"[..], b"-iquote", b"-idirafter", b"-I"];
        let joined = options.iter().find_map(|option| word.strip_prefix(*option))?;
        Some(if joined.is_empty() { next } else { joined })
    })
}

fn with_next(words: &[Bytes]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let behind = words.iter().skip(1).map(|word| &word[..]).chain([&b""[..]]);
    words.iter().map(|word| &word[..]).zip(behind)
}

/// The same as gcc takes them, with those that the environment names: `=` and `$SYSROOT` stand for the folder in which
/// it looks for the system's (gcc's manual, 3.16 and 3.21).
pub fn searched_by_gcc(words: &[Bytes], env: &[Bytes], cwd: &[u8]) -> Vec<Bytes> {
    let root = with_next(words).filter_map(|(word, next)| match word {
        b"--sysroot" | b"-isysroot" => Some(next),
        word => word.strip_prefix(b"--sysroot=").or_else(|| word.strip_prefix(b"-isysroot")),
    });
    let root = root.last().unwrap_or_default();
    let below = |path: &[u8]| match path.strip_prefix(b"=").or_else(|| path.strip_prefix(b"$SYSROOT")) {
        Some(rest) if !root.is_empty() => absolute(cwd, &[root, rest].concat()),
        _ => absolute(cwd, path),
    };
    let lists = env.iter().filter_map(|entry| {
        INCLUDE_LISTS.iter().find_map(|name| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
    });
    let listed = lists.flat_map(|list| list.split(|&byte| byte == b':')).filter(|path| !path.is_empty());
    named(words).map(below).chain(listed.map(|path| absolute(cwd, path))).collect()
}

/// The headers that a command names.
pub fn included(words: &[Bytes]) -> impl Iterator<Item = Bytes> {
    let words = words.iter().filter(|word| word[..] != *b"-Xclang");
    let behind = words.clone().skip(1).map(|word| &word[..]).chain([&b""[..]]);
    words.zip(behind).filter_map(|(word, next)| {
        let names = [&b"--include"[..], b"--imacros", b"-include", b"-imacros"];
        let joined = names.iter().find_map(|name| word.strip_prefix(*name))?;
        let joined = joined.strip_prefix(b"=").filter(|_| word.starts_with(b"--")).unwrap_or(joined);
        match joined {
            b"" => Some(Bytes::from(next)),
            b"-pch" => None,
            _ => Some(Bytes::from(joined)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<Bytes> {
        line.split(' ').filter(|word| !word.is_empty()).map(Bytes::from).collect()
    }

    #[test]
    fn a_question_writes_nothing_and_reads_the_same() {
        let check =
            |line: &str, expected: &str| assert_eq!(question(&words(line)), words(expected), "{line}");
        check("-O2 -g -c a.c -o a.o", "-O2 -g a.c -M -v");
        check("-c a.c --output=a.o -O1 --output a.o", "a.c -O1 -M -v");
        check("-Iinc -MD -MF x.d -MT t -oa.o -S a.c", "-Iinc a.c -M -v");
        check("-Wp,-MD,x.d -Wp,-DX=1,-MT,t -Wp,-DY a.c", "-Wp,-DX=1 -Wp,-DY a.c -M -v");
        check(
            "-fdump-tree-all -ftime-trace -dA -save-temps=obj --coverage -fsanitize=address a.c",
            "-fsanitize=address a.c -M -v",
        );
        check(
            "-Xclang -include-pch -Xclang x.pch -MJ x.json -c a.cc",
            "-Xclang -include-pch -Xclang x.pch a.cc -M -v",
        );
        check("-Xclang -dependency-file -Xclang x.d -Xclang -dwarf-ext-refs -c a.cc", "a.cc -M -v");
    }

    /// `-I $(EMPTY) -d`: the compiler was asked with `-I` alone, which took the next option for its directory.
    #[test]
    fn what_looks_like_an_option_and_is_anothers_value_stays() {
        let check =
            |line: &str, expected: &str| assert_eq!(question(&words(line)), words(expected), "{line}");
        for option in
            ["-I", "-isystem", "-iquote", "-idirafter", "-include", "-imacros", "-D", "-U", "-isysroot"]
        {
            for value in ["-d", "-MD", "-o", "-c", "-MF", "-fdump-x", "-Wp,-MD"] {
                let same = format!("{option} {value} -Ii a.c");
                check(&format!("{same} -c -MD"), &format!("{same} -M -v"));
            }
        }
        check("-Wp,-I,-MD,-MD,x.d a.c", "-Wp,-I,-MD a.c -M -v");
    }

    #[test]
    fn directories_that_a_command_names_are_found_joined_and_apart() {
        let words = words("-Ia -I b -isystem c -idirafterd -iquote /e -DI=x -c u.c");
        let expected = ["/w/a", "/w/b", "/w/c", "/w/d", "/e"].map(Bytes::from);
        assert_eq!(searched(&words, b"/w").collect::<Vec<_>>(), expected);
    }

    #[test]
    fn folders_below_a_sysroot_and_of_the_environment_are_gccs_too() {
        let check = |line: &str, expected: &[&str]| {
            let env = ["CPATH=a:/b:", "OBJC_INCLUDE_PATH=c", "PATH=/p"].map(Bytes::from);
            let mut expected: Vec<Bytes> = expected.iter().copied().map(Bytes::from).collect();
            expected.extend(["/w/a", "/b", "/w/c"].map(Bytes::from));
            assert_eq!(searched_by_gcc(&words(line), &env, b"/w"), expected, "{line}");
        };
        check("-I=/x -I y", &["/w/=/x", "/w/y"]);
        check("--sysroot=/r -I=/x -isystem $SYSROOT/z -Iy", &["/r/x", "/r/z", "/w/y"]);
        check("--sysroot /r -isysroot s -idirafter =x", &["/w/sx"]);
    }

    #[test]
    fn directories_are_told() {
        let text = b"ignoring nonexistent directory \"/no\"\nignoring duplicate directory \"dup\"\n\
            #include \"...\" search starts here:\n q\n#include <...> search starts here:\n inc\n /usr/include\n\
            End of search list.\n";
        let told = directories(text, b"/w").expect("told");
        assert_eq!(told.directories, ["/w/dup", "/w/q", "/w/inc", "/usr/include"].map(Bytes::from));
        assert_eq!(directories(b"gcc version 12\n", b"/w"), None);
    }

    #[test]
    fn headers_that_a_command_names() {
        let check = |line: &str, expected: &[&str]| {
            let found: Vec<Bytes> = included(&words(line)).collect();
            assert_eq!(found, expected.iter().map(|name| Bytes::from(*name)).collect::<Vec<_>>(), "{line}");
        };
        check("gcc -include a.h -imacrosb.h --include=c.h -c x.c", &["a.h", "b.h", "c.h"]);
        check("clang -Xclang -include-pch -Xclang p.pch -Xclang -include -Xclang p", &["p"]);
    }

    #[test]
    fn lists_of_precompiled_headers_are_read() {
        let list = b"#pragma GCC pch_preprocess \"p/a.h.gch\"\na.o: a.c ../a.h\n";
        assert_eq!(without_pragmas(list), b"a.o: a.c ../a.h\n");
        assert_eq!(without_pragmas(b"#pragma GCC pch_preprocess"), b"");
        let names = ["/w/a.c", "../a.h"].map(Bytes::from);
        assert!(names_text_of(&names, b"/w/p/a.h.gch") && !names_text_of(&names, b"/w/p/b.h.gch"));
    }
}
