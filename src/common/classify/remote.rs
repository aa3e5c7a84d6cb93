//! The volunteer's end: what of a command that a peer sends may run.

use super::names::{Form, language_by_name};
use super::pieces::{assembler_word, assembler_words};
use super::table::{Class, Emit, Names, Value, find, harmless_shape, names_no_file};
use super::{Driver, Language};
use crate::common::action::Argument;
use crate::common::bytes::Bytes;

/// What the broker puts before the arguments of a compile by clang.
///
/// gcc's preprocessed text says in which directory it was made, clang's does not. And about the
/// options of the preprocessor and linker, clang's `-E` has said already that they are unused; a
/// preprocessed source had no `-E`, so there it stays silent about nothing.
pub fn clang_arguments(directory: &[u8], preprocessed: bool) -> Vec<Argument> {
    let directory = [b"-fdebug-compilation-dir=".as_slice(), directory].concat();
    let mut arguments = vec![Argument::Plain(directory.into())];
    if !preprocessed {
        arguments.push(Argument::Plain("-Qunused-arguments".into()));
    }
    arguments
}

/// Why a volunteer must not run a compiler with these arguments; `None` when it may.
///
/// It reads the same table as [`super::classify`], so whatever a client of this version sends
/// passes, and denies what it does not know: an option that could run code, load or write a file,
/// or name any path but the job's own input and output.
pub fn refuse_remote(arguments: &[Argument]) -> Option<String> {
    let (mut inputs, mut outputs, mut modes) = (0, 0, 0);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let word = match argument {
            Argument::Input => {
                inputs += 1;
                continue;
            }
            Argument::Output(_) => return Some("an output without -o".to_owned()),
            Argument::Plain(word) => word,
        };
        match accept(word, &mut rest) {
            Some(Accepted::Option) => {}
            Some(Accepted::Mode) => modes += 1,
            Some(Accepted::Output) => outputs += 1,
            None => return Some(format!("argument {word} is not allowed here")),
        }
    }
    match (inputs, outputs, modes) {
        (1, 1, 1..) => None,
        _ => Some(format!("{inputs} inputs, {outputs} outputs and {modes} of -c and -S")),
    }
}

/// What an accepted word is.
enum Accepted {
    Option,
    Mode,
    Output,
}

/// Accepts a word and the value behind it, or says `None`.
fn accept(word: &Bytes, rest: &mut std::slice::Iter<'_, Argument>) -> Option<Accepted> {
    if word.contains(&0) {
        return None;
    }
    let Some((row, value)) = find(word) else {
        return harmless_shape(word).then_some(Accepted::Option);
    };
    if row.class == Class::OutputFile {
        let separate = value == Value::Next && matches!(rest.next(), Some(Argument::Output(_)));
        return separate.then_some(Accepted::Output);
    }
    let value = match value {
        Value::Absent => b"",
        Value::Here(value) => value,
        Value::Next => match rest.next() {
            // A word that begins with an @ is a response file, wherever it stands.
            Some(Argument::Plain(next)) if !next.starts_with(b"@") && !next.contains(&0) => &**next,
            _ => return None,
        },
    };
    let allowed = match row.class {
        Class::Kept | Class::Sanitizers | Class::Annotations => {
            row.names == Names::Text || names_no_file(value)
        }
        Class::Machine => names_no_file(value) && !value.starts_with(b"native"),
        Class::InputCharset => value.eq_ignore_ascii_case(b"utf-8") || value.eq_ignore_ascii_case(b"utf8"),
        Class::Language => language_by_name(value, Driver::named(b"")).is_some_and(|(language, form)| {
            // An assembler text may read any file.
            form == Form::Preprocessed && language != Language::Assembler
        }),
        Class::AssemblerWords => assembler_words(value),
        Class::AssemblerWord => assembler_word(value),
        Class::Mode(Emit::Object | Emit::Assembly) => return Some(Accepted::Mode),
        _ => false,
    };
    allowed.then_some(Accepted::Option)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Arguments from text: `IN` and `OUT` are the job's own files.
    fn arguments(text: &str) -> Vec<Argument> {
        let argument = |word| match word {
            "IN" => Argument::Input,
            "OUT" => Argument::Output(0),
            word => Argument::Plain(word.into()),
        };
        text.split_whitespace().map(argument).collect()
    }

    #[test]
    fn a_plain_compile_of_preprocessed_text_may_run() {
        for options in [
            "",
            "-O2 -g -Wall -std=c99 -fPIC -march=x86-64-v3",
            "-target aarch64-linux-gnu --param ggc-min-expand=10",
            "-undef -A machine=x86 -fdebug-prefix-map=/a=/b -Wa,--noexecstack",
            "-fdebug-compilation-dir=/work/dir -Qunused-arguments",
        ] {
            let line = format!("{options} -c -x cpp-output IN -o OUT");
            assert_eq!(refuse_remote(&arguments(&line)), None, "{line}");
        }
    }

    /// Options that reach outside the job, one after each semicolon.
    const OUTSIDE: &str = "
        -fplugin=x.so ; -specs=x ; -specs x ; --specs=x ; -wrapper sh,-c,id ; -B/x ; -B x ; @x ;
        -fmodule-mapper=|id ; -Wa,@x ; -Wa,-al=x ; -Wa,-I/x ; -Wp,-MD,x ; -Xclang -load ; -mllvm x ;
        -Xassembler @x ; -Xpreprocessor -MD ; -include /etc/passwd ; -imacros x ; -I/etc ; -isystem x ;
        -o /etc/x ; -o x ; -ox ; --output=x ; --output x ; -MD ; -MF x ; -fdump-tree-all=x ;
        -aux-info x ; -dumpdir x ; -save-temps ; -fprofile-use=x ; -fopt-info=x ; -gsplit-dwarf ;
        /etc/passwd ; x.c ; - ; -- ; -E ; -M ; -v ; -x c ; -x none ; -xassembler ; -x c-header ;
        -target @x ; --param @x ; -march=native ; -mcpu=native ; -fnew=/x ; -fnew=x.so ; -Wl,-x ; -lfoo ;
        -L/x ; --sysroot=/ ; --config x ; -fsanitize-ignorelist=x ; -D@x ; OUT ; IN ; -target IN ; -T x ;
        -Xlinker x ; -time=x ; -MJ x ; -no-integrated-cpp ; -finput-charset=latin1 ; -dM";

    #[test]
    fn what_reaches_outside_the_job_is_refused() {
        for options in OUTSIDE.split(';') {
            let line = format!("{options} -c -x cpp-output IN -o OUT");
            assert!(refuse_remote(&arguments(&line)).is_some(), "{line}");
        }
    }

    #[test]
    fn an_incomplete_command_is_refused() {
        for line in
            ["", "-c IN", "-c -o OUT", "IN -o OUT", "-c IN -o", "-c IN -o OUT -o OUT", "-c IN -o OUT --param"]
        {
            assert!(refuse_remote(&arguments(line)).is_some(), "{line}");
        }
    }

    #[test]
    fn a_nul_in_an_argument_is_refused() {
        let mut line = arguments("-c -x cpp-output IN -o OUT");
        line.push(Argument::Plain(Bytes::from(b"-fdebug-prefix-map=a\0b=c".as_slice())));
        assert!(refuse_remote(&line).is_some());
    }
}
