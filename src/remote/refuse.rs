//! What a volunteer never runs, whoever asks.
//!
//! A compiler with free arguments is an interpreter: options name programs to run, plugins to
//! load and files to read or write. The client keeps such jobs; this is the second wall, for
//! peers that do not.

use crate::common::action::Argument;

/// Options whose presence refuses a job, and what they would do. A trailing `*` takes any ending.
const FORBIDDEN: [(&str, &str); 44] = [
    ("@*", "hides arguments in a file"),
    ("-wrapper*", "runs a program"),
    ("--wrapper*", "runs a program"),
    ("-B*", "runs programs from a directory"),
    ("--prefix*", "runs programs from a directory"),
    ("-specs*", "runs programs"),
    ("--specs*", "runs programs"),
    ("-fplugin*", "loads code"),
    ("-fpass-plugin*", "loads code"),
    ("-iplugindir*", "loads code"),
    ("-load*", "loads code"),
    ("-fmodule*", "runs a program or reads files"),
    ("-fprebuilt-module*", "reads files"),
    ("-Xclang*", "reaches the front end by a side door"),
    ("-Xassembler*", "reaches the assembler by a side door"),
    ("-Xpreprocessor*", "reaches the preprocessor by a side door"),
    ("-Xlinker*", "reaches the linker by a side door"),
    ("-Xarch*", "reaches the front end by a side door"),
    ("-mllvm*", "reaches the back end by a side door"),
    ("-Wp,*", "reaches the preprocessor by a side door"),
    ("-Wl,*", "reaches the linker by a side door"),
    ("--config*", "reads a file of options"),
    ("-resource-dir*", "reads files"),
    ("--sysroot*", "reads files"),
    ("-isysroot*", "reads files"),
    ("--gcc-toolchain*", "runs programs from a directory"),
    ("--gcc-install-dir*", "runs programs from a directory"),
    ("-ccc-*", "changes what the driver runs"),
    ("-ivfsoverlay*", "reads files"),
    ("-include*", "reads files"),
    ("-imacros*", "reads files"),
    ("-fprofile-use*", "reads files"),
    ("-fauto-profile*", "reads files"),
    ("-fdump-*", "writes files"),
    ("-fopt-info*", "writes files"),
    ("-fsave-optimization-record*", "writes files"),
    ("-save-temps*", "writes files"),
    ("--save-temps*", "writes files"),
    ("-aux-info*", "writes files"),
    ("-dump*", "writes files"),
    ("-ftime-trace*", "writes files"),
    ("-fprofile-note*", "writes files"),
    ("-time=*", "writes files"),
    ("-M*", "writes files"),
];

/// Options whose value stands apart and is a word, not a file.
const SEPARATE_VALUES: [&str; 5] = ["-x", "--param", "-target", "-arch", "-std"];

/// What `-Wa,` may say.
const ASSEMBLER: [&str; 4] =
    ["--noexecstack", "--execstack", "-mrelax-relocations=no", "-mrelax-relocations=yes"];

/// Why these arguments are not run; `None` when they may be.
pub fn refuse(arguments: &[Argument]) -> Option<String> {
    let mut value_expected = false;
    let mut output_expected = false;
    for argument in arguments {
        let word = match argument {
            Argument::Plain(word) => &word.0[..],
            Argument::Input | Argument::Output(_) => {
                (value_expected, output_expected) = (false, false);
                continue;
            }
        };
        if output_expected {
            return Some(format!("-o {} names a file", show(word)));
        }
        if std::mem::take(&mut value_expected) {
            continue;
        }
        if let Some(why) = refuse_word(word) {
            return Some(why);
        }
        value_expected = SEPARATE_VALUES.iter().any(|option| option.as_bytes() == word);
        output_expected = word == b"-o";
    }
    match arguments.iter().filter(|argument| **argument == Argument::Input).count() {
        1 => None,
        count => Some(format!("{count} inputs where one is expected")),
    }
}

fn refuse_word(word: &[u8]) -> Option<String> {
    if word.contains(&0) {
        return Some("a NUL byte in an argument".to_owned());
    }
    if !word.starts_with(b"-") && !word.starts_with(b"@") {
        return Some(format!("{} names a file", show(word)));
    }
    if let Some(list) = word.strip_prefix(b"-Wa,") {
        let known = |item: &[u8]| ASSEMBLER.iter().any(|allowed| allowed.as_bytes() == item);
        let unknown = list.split(|&byte| byte == b',').find(|item| !known(item))?;
        return Some(format!("-Wa,{} reaches the assembler by a side door", show(unknown)));
    }
    if word.starts_with(b"-o") && word.len() > 2 {
        return Some(format!("{} names a file", show(word)));
    }
    let hit = FORBIDDEN.iter().find(|(option, _)| matches(option.as_bytes(), word))?;
    Some(format!("{} {}", show(word), hit.1))
}

fn matches(option: &[u8], word: &[u8]) -> bool {
    match option.strip_suffix(b"*") {
        Some(stem) => word.starts_with(stem),
        None => word == option,
    }
}

fn show(word: &[u8]) -> String {
    String::from_utf8_lossy(&word[..word.len().min(80)]).escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::bytes::Bytes;

    /// `IN` is the input, `OUT` the output.
    fn verdict(command: &str) -> Option<String> {
        let arguments: Vec<Argument> = command
            .split_whitespace()
            .map(|word| match word {
                "IN" => Argument::Input,
                "OUT" => Argument::Output(0),
                word => Argument::Plain(Bytes::from(word)),
            })
            .collect();
        refuse(&arguments)
    }

    #[test]
    fn ordinary_compiles_are_run() {
        for command in [
            "-O2 -g -c IN -o OUT",
            "-x cpp-output -std=c11 -Wall -Wextra -fPIC -c IN -o OUT",
            "--param max-inline-insns-single=200 -march=x86-64-v3 -S IN -o OUT",
            "-Wa,--noexecstack -c IN -o OUT",
        ] {
            assert_eq!(verdict(command), None, "{command}");
        }
    }

    #[test]
    fn what_runs_code_or_names_files_is_refused() {
        for option in [
            "-wrapper",
            "-B/tmp",
            "-specs=f",
            "--specs=f",
            "-fplugin=x.so",
            "-fmodule-mapper=|cmd",
            "@file",
            "-Wa,@file",
            "-Wa,-al=F",
            "-Wp,-MD,f",
            "-Xassembler",
            "-Xclang",
            "-mllvm",
            "-fdump-tree-all=F",
            "-aux-info",
            "-fopt-info-vec=F",
            "-dumpdir",
            "-save-temps=obj",
            "-o/etc/x",
            "/etc/passwd",
            "-fpass-plugin=x",
            "--config=f",
            "-ivfsoverlay",
            "-resource-dir=/x",
            "-include",
            "-MJ",
            "-MFx",
            "-MD",
            "-fprofile-use=/etc/x",
            "-Wl,-x",
            "-fauto-profile=f",
            "-ftime-trace",
            "--sysroot=/x",
        ] {
            assert!(verdict(&format!("-O2 {option} -c IN -o OUT")).is_some(), "{option}");
        }
    }

    #[test]
    fn an_output_is_the_volunteers_own_name() {
        assert!(verdict("-c IN -o /etc/cron.d/x").is_some());
        assert!(verdict("-c IN -o -fplugin=x").is_some());
    }

    #[test]
    fn exactly_one_input_is_compiled() {
        assert!(verdict("-c -o OUT").is_some());
        assert!(verdict("-c IN IN -o OUT").is_some());
    }
}
