//! What other caches of compiles are known to have taken for the same.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};

use super::{Cached, Line};
use crate::farm::{COMMAND_MAX, SHIM, run, wait_until};

const SOURCE: &str = "#include <x.h>\nconst char *file = __FILE__;\nint x = X;\n";

/// A project in each of these folders, with two headers of one name.
fn with_projects(folders: &[&str]) -> Cached {
    let cached = Cached::new();
    for folder in folders {
        for (name, text) in
            [("a.c", SOURCE), ("p/x.h", "#define X 1\n"), ("q/x.h", "#define X 2\n"), ("early/keep", "")]
        {
            cached.write(&format!("{folder}/{name}"), text);
        }
    }
    cached
}

#[test]
fn two_checkouts_an_order_of_directories_and_headers_that_change_places_are_other_compiles() {
    let cached = with_projects(&["one", "other"]);
    let line = Line::new("one", "gcc -g -Iearly -Ip -Iq -c a.c");
    let first = cached.compile_anew(line);
    cached.compile_again(line);
    // The same files elsewhere: their paths are in the debug information.
    assert_ne!(cached.compile_anew(Line { folder: "other", ..line }), first);
    assert_ne!(cached.compile_anew(Line::new("one", "gcc -g -Iearly -Iq -Ip -c a.c")), first);
    // Headers that change places, and back.
    cached.write("one/p/x.h", "#define X 2\n");
    cached.write("one/q/x.h", "#define X 1\n");
    assert_ne!(cached.compile_anew(line), first);
    cached.write("one/p/x.h", "#define X 1\n");
    cached.write("one/q/x.h", "#define X 2\n");
    cached.compile_again(line);
    // One that is found before.
    cached.write("one/early/x.h", "#define X 3\n");
    assert_ne!(cached.compile_anew(line), first);
    fs::remove_file(cached.path("one/early/x.h")).expect("it was there");
    cached.compile_again(line);
    cached.farm.finish();
}

#[test]
fn a_header_that_is_only_asked_for_counts_when_it_appears() {
    let cached = Cached::new();
    cached.write("one/a.c", "#if __has_include(\"h.h\")\nint there;\n#else\nint absent;\n#endif\n");
    for words in ["gcc -c a.c", "clang -c a.c"] {
        let line = Line::new("one", words);
        let absent = cached.compile_anew(line);
        cached.write("one/h.h", "");
        assert_ne!(cached.compile_anew(line), absent);
        fs::remove_file(cached.path("one/h.h")).expect("it was there");
        cached.compile_again(line);
    }
    cached.farm.finish();
}

#[test]
fn variables_that_compilers_read_are_part_of_a_compile() {
    let cached = with_projects(&["one"]);
    cached.write("one/w.c", "int f(unsigned a, int b) { return a < b; }\n");
    let line = Line::new("one", "gcc -g -c a.c");
    let first = cached.compile_anew(line.with(&[("CPATH", "p")]));
    assert_ne!(cached.compile_anew(line.with(&[("CPATH", "q")])), first);
    cached.compile_anew(line.with(&[("C_INCLUDE_PATH", "p")]));
    cached.compile_again(line.with(&[("CPATH", "p")]));
    // A date that the environment decides.
    cached.write("one/d.c", "const char *date = __DATE__;\n");
    let dated = Line::new("one", "gcc -g -c d.c -o a.o");
    let then = cached.compile_anew(dated.with(&[("SOURCE_DATE_EPOCH", "1000000000")]));
    assert_ne!(cached.compile_anew(dated.with(&[("SOURCE_DATE_EPOCH", "2000000000")])), then);
    assert_eq!(cached.compile_again(dated.with(&[("SOURCE_DATE_EPOCH", "1000000000")])), then);
    // What it prints comes back as well, in its language and with its quotation marks.
    let warns = Line::new("one", "gcc -Wextra -c w.c -o a.o");
    let plain = cached.compile_anew(warns.with(&[("LC_ALL", "C")]));
    assert_ne!(cached.compile_anew(warns.with(&[("LC_ALL", "C.UTF-8")])).outcome, plain.outcome);
    assert!(!plain.outcome.stderr.is_empty());
    assert_eq!(cached.compile_again(warns.with(&[("LC_ALL", "C")])), plain);
    cached.farm.finish();
}

#[test]
fn the_directory_is_part_of_a_compile_and_so_is_the_name_it_goes_by() {
    let cached = with_projects(&["one", "other"]);
    let words = format!("gcc -g -I{0}/p -c {0}/a.c -o a.o", cached.path("one").display());
    let first = cached.compile_anew(Line::new("one", &words));
    assert_ne!(cached.compile_anew(Line::new("other", &words)), first);
    // gcc believes $PWD where it is a name of the directory.
    symlink(cached.path("one"), cached.path("alias")).expect("our own link");
    let alias = cached.path("alias").display().to_string();
    let variables = [("PWD", alias.as_str())];
    let by_alias = Line::new("one", &words).with(&variables);
    assert_ne!(cached.compile_anew(by_alias), first);
    cached.compile_again(by_alias);
    assert_eq!(cached.compile_again(Line::new("one", &words)), first);
    cached.farm.finish();
}

#[test]
fn what_options_name_is_part_of_a_compile() {
    let cached = Cached::new();
    cached.write("one/a.c", "#include \"y.h\"\nint x = X + Y;\n");
    cached.write("one/y.h", "#define Y 1\n");
    cached.write("one/z.h", "\n");
    cached.write("one/flags", "-DX=1\n");
    let line = Line::new("one", "gcc -DX=1 -include z.h -c a.c");
    let first = cached.compile_anew(line);
    for (name, text) in [("z.h", "#undef X\n#define X 7\n"), ("y.h", "#define Y 2\n")] {
        let before = fs::read_to_string(cached.path("one").join(name)).expect("there");
        cached.write(&format!("one/{name}"), text);
        assert_ne!(cached.compile_anew(line), first, "{name}");
        cached.write(&format!("one/{name}"), &before);
        assert_eq!(cached.compile_again(line), first, "{name}");
    }
    // The words in a response file are words of the command, to those who tell what was read as well.
    for (compiler, also) in [("gcc", ""), ("clang", ""), ("gcc", "-MD -MF a.d ")] {
        cached.write("one/flags", &format!("-DX=1 {also}'-include' z.h @more\n"));
        cached.write("one/more", "-c\n");
        let words = format!("{compiler} @flags a.c -o a.o");
        let line = Line::new("one", &words);
        let first = cached.compile_anew(line);
        assert_eq!(cached.compile_again(line), first);
        cached.write("one/flags", &format!("-DX=2 {also}-include z.h @more\n"));
        assert_ne!(cached.compile_anew(line), first);
        cached.write("one/more", "-c -g\n");
        cached.compile_anew(line);
    }
    cached.farm.finish();
}

#[test]
fn a_compiler_that_changed_with_size_and_time_kept_is_another() {
    let cached = with_projects(&["one"]);
    // gcc finds its parts beside itself: a copy whose compiler proper can be changed.
    let script = "set -e; gcc=$(readlink -f \"$(command -v gcc)\"); part=$(gcc -print-prog-name=cc1); \
        below=${part#/usr/}; mkdir -p \"usr/bin\" \"usr/${below%/*}\"; cp \"$gcc\" usr/bin/gcc; \
        for name in \"${part%/*}\"/*; do ln -s \"$name\" \"usr/${below%/*}/\"; done; \
        rm \"usr/${below%/*}/cc1\"; cp \"$part\" \"usr/${below%/*}/cc1\"; \
        ln -s \"$(command -v as)\" usr/bin/as; readlink -f \"usr/${below%/*}/cc1\"";
    let mut command = cached.command("sh");
    command.args(["-c", script]).current_dir(cached.path("one"));
    let made = run(command, COMMAND_MAX).expect_success("a copy of gcc");
    let part = String::from_utf8(made.stdout).expect("a path");
    let line = Line::new("one", "usr/bin/gcc -Ip -c a.c");
    let first = cached.compile_anew(line);
    cached.compile_again(line);
    let mut bytes = fs::read(part.trim()).expect("the compiler proper");
    let modified = fs::metadata(part.trim()).and_then(|meta| meta.modified()).expect("its time");
    // What it says of itself in `.ident`: the first word in parentheses of `gcc --version`.
    let mut asked = cached.command("gcc");
    asked.arg("--version");
    let said = run(asked, COMMAND_MAX).stdout;
    let begin = said.iter().position(|&byte| byte == b'(').expect("a word in parentheses");
    let end = said.iter().position(|&byte| byte == b')').expect("its end");
    let word = &said[begin..=end];
    let marks: Vec<usize> =
        (0..bytes.len() - word.len()).filter(|at| bytes[*at..].starts_with(word)).collect();
    assert!(!marks.is_empty(), "gcc has another word for itself");
    marks.iter().for_each(|at| bytes[at + 1] ^= 0x20);
    fs::write(part.trim(), bytes).expect("changed");
    File::options().write(true).open(part.trim()).and_then(|file| file.set_modified(modified)).expect("set");
    let changed = cached.compile_anew(line);
    assert_ne!(changed.object, first.object);
    assert_eq!(cached.compile_again(line), changed);
    cached.farm.finish();
}

#[test]
fn modes_follow_the_umask_of_who_asks_not_of_who_asked_first() {
    let cached = with_projects(&["one"]);
    for (mask, mode) in [("022", 0o644), ("077", 0o600), ("002", 0o664), ("027", 0o640)] {
        let mut command = cached.command("sh");
        let script = format!("umask {mask}; exec \"$@\"");
        command.args(["-c", &script, "sh", SHIM, "gcc", "-Ip", "-c", "a.c"]).current_dir(cached.path("one"));
        run(command, COMMAND_MAX).expect_success("a compile");
        let meta = fs::metadata(cached.path("one/a.o")).expect("an object");
        assert_eq!(meta.permissions().mode() & 0o777, mode, "umask {mask}");
        wait_until("the result is kept", COMMAND_MAX, || cached.kept() == 1);
        fs::remove_file(cached.path("one/a.o")).expect("it was there");
    }
    assert_eq!(cached.counts(), (1, 3));
    cached.farm.finish();
}

#[test]
fn what_differs_each_time_and_what_failed_is_not_kept() {
    let cached = with_projects(&["one"]);
    cached.write("one/d.c", "const char *when = __DATE__ __TIME__;\n");
    cached.write("one/bad.c", "int f(void) { return nothing; }\n");
    for words in ["gcc -c d.c -o a.o", "gcc -c bad.c -o a.o", "gcc -fprofile-arcs -c d.c -o a.o"] {
        for _ in 0..2 {
            let mut command = cached.command(SHIM);
            command.args(words.split(' ')).current_dir(cached.path("one"));
            run(command, COMMAND_MAX);
        }
    }
    // Whatever is kept of those has been kept before this one is.
    cached.compile_anew(Line::new("one", "gcc -Ip -c a.c"));
    assert_eq!((cached.kept(), cached.counts().1), (1, 0), "{}", cached.farm.status());
    cached.farm.finish();
}
