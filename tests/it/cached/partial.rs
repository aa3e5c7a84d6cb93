//! Compiles whose compilers do not list all that they read: what they open is audited, and they are kept.

use std::fs;

use super::{Cached, Line, Made};
use crate::farm::{COMMAND_MAX, run};

/// A project with a header of its own and one that counts as the system's.
fn with_project() -> Cached {
    let cached = Cached::new();
    let source = "#include <stdio.h>\n#include <sys.h>\n#include \"own.h\"\n\
                  #if __has_include(<other.h>)\nint other;\n#endif\nint x = SYS + OWN;\n";
    for (name, text) in [
        ("a.c", source),
        ("a.cc", source),
        ("own.h", "#define OWN 1\n"),
        ("sys/sys.h", "#define SYS 1\n"),
        ("sys/other.h", "\n"),
    ] {
        cached.write(&format!("w/{name}"), text);
    }
    cached
}

/// The same, with the list of dependencies that it made.
fn with_list(cached: &Cached, list: &str, compile: impl FnOnce() -> Made) -> (Made, Vec<u8>) {
    let path = cached.path("w").join(list);
    let _ = fs::remove_file(&path);
    let made = compile();
    (made, fs::read(path).expect("a list"))
}

#[test]
fn a_list_without_the_systems_headers_is_no_reason_to_compile_again() {
    let cached = with_project();
    for (words, list) in [
        ("gcc -MMD -g -isystem sys -c a.c", "a.d"),
        ("clang -MMD -MP -MF x.d -g -isystem sys -c a.c", "x.d"),
        ("g++ -MMD -MT t -isystem sys -Wp,-DX -c a.cc -o a.o", "a.d"),
        ("clang++ -MMD -O1 -isystem sys -c a.cc -o a.o", "a.d"),
        ("gcc -Wp,-MMD,k.d -isystem sys -c a.c", "k.d"),
    ] {
        let line = Line::new("w", words);
        let here = with_list(&cached, list, || cached.here(line));
        assert!(!String::from_utf8_lossy(&here.1).contains("sys.h"), "{words}");
        // What is compiled there, and what is kept of it, is what this machine makes.
        let there = with_list(&cached, list, || {
            cached.compile_anew(line);
            let _ = fs::remove_file(cached.path("w").join(list));
            let counts = cached.counts();
            let made = cached.play(line, Some(crate::farm::SHIM));
            assert_eq!(cached.counts(), (counts.0, counts.1 + 1), "{words}");
            made
        });
        assert!(there == here, "{words}");
    }
    assert_eq!(cached.farm.total("local"), 0);
    cached.farm.finish();
}

#[test]
fn a_header_of_the_systems_that_changed_is_noticed_though_no_list_has_it() {
    let cached = with_project();
    for compiler in ["gcc", "clang"] {
        let words = format!("{compiler} -MMD -isystem sys -c a.c");
        let line = Line::new("w", &words);
        let first = cached.compile_anew(line);
        cached.write("w/sys/sys.h", "#define SYS 2\n");
        assert_ne!(cached.compile_anew(line), first);
        cached.write("w/sys/sys.h", "#define SYS 1\n");
        assert_eq!(cached.compile_again(line), first);
    }
    cached.farm.finish();
}

/// clang lists nothing of what is no text any more, and lists files that options name as well.
#[test]
fn what_clang_lists_otherwise_than_others_is_audited_all_the_same() {
    let cached = with_project();
    cached.write("w/ignored.txt", "fun:f\n");
    cached.write("w/t.i", "int t;\n");
    cached.write("w/t.s", "nop\n");
    for words in [
        "clang -fsanitize=address -fsanitize-ignorelist=ignored.txt -isystem sys -c a.c",
        "clang -frecord-command-line -isystem sys -c a.c",
        "clang -O1 -c t.i -o a.o",
        "clang -c t.s -o a.o",
    ] {
        let line = Line::new("w", words);
        cached.compile_anew(line);
        cached.compile_again(line);
    }
    cached.farm.finish();
}

/// clang lists what a precompiled header was made of, and opens none of it: that was an audit that failed.
#[test]
fn what_is_in_a_precompiled_header_need_not_be_opened() {
    let cached = with_project();
    cached.write("w/p.h", "#include <stdio.h>\n#include \"own.h\"\n");
    cached.write("w/made.h", "#ifndef MADE\n#define MADE 1\n#endif\n");
    for (precompile, words) in [
        ("clang -x c-header p.h -o p.pch", "clang -MMD -include-pch p.pch -isystem sys -c a.c"),
        // As CMake has it: the header is named as well, and others that are in it too.
        (
            "clang -x c-header -include made.h p.h -o p.pch",
            "clang -MMD -include made.h -Xclang -include-pch -Xclang p.pch -Xclang -include -Xclang p.h -c a.c \
             -isystem sys",
        ),
        ("clang -x c-header p.h -o p.h.pch", "clang -MMD -include p.h -isystem sys -c a.c"),
        ("gcc -x c-header p.h -o p.h.gch", "gcc -MMD -include p.h -isystem sys -c a.c"),
    ] {
        let mut command = cached.command("sh");
        command.args(["-c", precompile]).current_dir(cached.path("w"));
        run(command, COMMAND_MAX).expect_success(precompile);
        let line = Line::new("w", words);
        cached.compile_anew(line);
        cached.compile_again(line);
        for made in ["p.pch", "p.h.pch", "p.h.gch"] {
            let _ = fs::remove_file(cached.path("w").join(made));
        }
    }
    cached.farm.finish();
}
