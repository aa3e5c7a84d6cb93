//! From the command that a client sends to the one that is run.
//!
//! The client has preprocessed the source and left out what only the preprocessor needs, but not
//! all of it. What it sends is read like a command line here, by the same table of options; what
//! could reach outside of the job's directory, or would leave a file that this protocol cannot
//! carry back, is refused, and the client compiles at home, with the right result.

use crate::common::action::Argument;
use crate::common::bytes::Bytes;
use crate::common::classify::{CompileJob, Language, Verdict, classify, refuse_remote};

/// Words that stock sends along and that mean nothing to a source that is preprocessed already.
const MEANINGLESS: [&[u8]; 9] =
    [b"-C", b"-CC", b"-P", b"-dD", b"-dI", b"-dN", b"-dU", b"-fworking-directory", b"-Xpreprocessor"];

/// A command of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The compiler as the client names it.
    pub compiler: Bytes,
    /// Its arguments.
    pub arguments: Vec<Argument>,
    /// The ending of the input's name.
    pub input: &'static str,
    /// The ending of the output's name.
    pub output: &'static str,
    /// The source as the client names it, for the log.
    pub source: Bytes,
}

/// Reads the command of versions 1 and 2.
///
/// # Errors
///
/// Returns why it is not run.
pub fn read(words: &[Bytes]) -> Result<Command, String> {
    let words = words.iter().filter(|word| !MEANINGLESS.contains(&&word[..])).cloned();
    let (aside, words): (Vec<Bytes>, Vec<Bytes>) = words.partition(|word| is_link_time_optimization(word));
    let words = without_output_names(words);
    let verdict = classify(&words, &|_| Err("files of arguments do not travel".to_owned()));
    let mut job = match verdict {
        Verdict::Remote(job) => *job,
        Verdict::Local(reason) => return Err(reason.to_string()),
    };
    if let Err(reason) = job.as_text() {
        return Err(reason.to_string());
    }
    if !job.native.is_empty() {
        return Err("options that mean the client's own machine".to_owned());
    }
    if let Some(why) = refuse_remote(&job.compile) {
        return Err(why);
    }
    job.compile.splice(0..0, aside.into_iter().map(Argument::Plain));
    let output = if job.compile.iter().any(|argument| *argument == Argument::Plain("-S".into())) {
        ".s"
    } else {
        ".o"
    };
    let input = input_ending(&job);
    Ok(Command { compiler: job.compiler, arguments: job.compile, input, output, source: job.source })
}

/// Our own client sends no text with these, because their objects differ from one time to the next; that
/// does a client no harm that sends them all the same.
fn is_link_time_optimization(word: &[u8]) -> bool {
    let plain = |rest: &[u8]| rest.iter().all(|byte| byte.is_ascii_alphanumeric() || b"=-".contains(byte));
    [&b"-flto"[..], b"-ffat-lto", b"-fno-lto", b"-fno-fat-lto"]
        .iter()
        .any(|beginning| word.strip_prefix(*beginning).is_some_and(plain))
}

/// The same command with outputs of a name that anything may have: what is written here has a name
/// of ours, and the client's own may be of a device, or not be one of a file.
fn without_output_names(mut words: Vec<Bytes>) -> Vec<Bytes> {
    for at in 1..words.len() {
        if *words[at - 1] == *b"-o" {
            words[at] = "out".into();
        }
    }
    words
}

fn input_ending(job: &CompileJob) -> &'static str {
    match job.language {
        Language::C => ".i",
        Language::Cxx => ".ii",
        Language::ObjC => ".mi",
        Language::ObjCxx => ".mii",
        Language::Assembler => ".s",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Result<&str, &str>) {
        let words: Vec<Bytes> = line.split(' ').map(Bytes::from).collect();
        let shown = read(&words).map(|command| {
            let words = command.arguments.iter().map(|argument| match argument {
                Argument::Plain(word) => word.to_text(),
                Argument::Input => format!("IN{}", command.input),
                Argument::Output(_) => format!("OUT{}", command.output),
            });
            words.collect::<Vec<_>>().join(" ")
        });
        match expected {
            Ok(expected) => assert_eq!(shown.as_deref(), Ok(expected), "{line}"),
            Err(part) => assert!(shown.as_ref().is_err_and(|why| why.contains(part)), "{line}: {shown:?}"),
        }
    }

    #[test]
    fn what_stock_sends_is_run() {
        check("gcc -c a.c -o a.o", Ok("-c -x cpp-output IN.i -o OUT.o"));
        check("gcc -O2 -g -Wall -c sub/a.c", Ok("-O2 -g -Wall -c -x cpp-output IN.i -o OUT.o"));
        check("g++ -std=c++17 -S a.cc -o x.s", Ok("-std=c++17 -S -x c++-cpp-output IN.ii -o OUT.s"));
        check(
            "gcc -c a.c -iquote . --sysroot=/ -isysroot / -C -P -o a.o",
            Ok("-c -x cpp-output IN.i -o OUT.o"),
        );
        check("gcc -c a.c -ofoo.o", Ok("-c -x cpp-output IN.i -o OUT.o"));
        check("gcc -c -o /dev/null -c a.c", Ok("-c -x cpp-output IN.i -o OUT.o"));
        check("gcc -S a.c -o -", Ok("-S -x cpp-output IN.i -o OUT.s"));
        check("gcc -flto=auto -c a.i -o a.o", Ok("-flto=auto -c -x cpp-output IN.i -o OUT.o"));
        check(
            "clang -c a.m -o a.o -target x86_64-pc-linux-gnu",
            Ok("-target x86_64-pc-linux-gnu -c -x objective-c-cpp-output IN.mi -o OUT.o"),
        );
        check("false -c a.c -o a.o", Ok("-c -x cpp-output IN.i -o OUT.o"));
    }

    #[test]
    fn what_could_do_harm_or_lose_a_file_is_not_run() {
        check("gcc a.c -o a", Err(""));
        check("gcc -E a.c", Err(""));
        check("gcc @args", Err(""));
        for option in [
            "-fplugin=/tmp/x.so",
            "-specs=/tmp/x",
            "-specs /tmp/x",
            "-wrapper /bin/sh",
            "-B/tmp",
            "-save-temps",
            "-Xclang -load",
            "-gsplit-dwarf",
            "-fdump-tree-all",
            "-o /etc/passwd -o b.o",
            "-march=native",
            "-Wa,-al=/tmp/x",
            "-fstack-usage",
            "-dumpdir /tmp/",
            "--param @x",
            "-fprofile-use=/etc/passwd",
        ] {
            check(&format!("gcc {option} -c a.c -o a.o"), Err(""));
        }
    }
}
