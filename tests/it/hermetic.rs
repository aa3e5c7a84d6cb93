//! Hermetic compiles on a volunteer that has neither compilers nor headers nor the project: what a
//! user gets is what a local compile gives, byte for byte, debug information and diagnostics included.

use std::fs;
use std::process::Command;

use crate::farm::{Farm, VolunteerOptions};
use crate::scene::{Place, Scene, Theatre};

const C: &str = "#include <stdio.h>\n#include \"inc/own.h\"\n\
    int f(int x) { static const char *name = __FILE__; printf(\"%s\", name); return OWN(x) + (int)sizeof(size_t); }\n";
const OWN: &str =
    "#pragma once\n#define OWN(x) ((x) + __LINE__)\ninline static int unused(void) { return 1; }\n";
const CXX: &str = "#include <map>\n#include <string>\n\
    std::map<std::string, int> counts;\nint f(const std::string &s) { return counts[s] += __LINE__; }\n";
const WARNS: &str = "#define BAD(x) int y = x\nint f(int a, unsigned b) { BAD(a < b); switch (a) { case 1: a++; /* fall through */ case 2: return 2; } return 0; }\n";

fn play_all(theatre: &Theatre, source: (&str, &str), cases: &[(Place, &str)]) {
    for (place, command) in cases {
        theatre.check(*place, &Scene::new(command).file(source.0, source.1).file("inc/own.h", OWN));
    }
}

#[test]
fn objects_with_debug_information_are_those_of_a_local_compile() {
    let theatre = Theatre::bare();
    for compiler in ["gcc", "clang", "cc"] {
        let command = |flags: &str| format!("{compiler} {flags} -c a.c");
        for flags in
            ["-O2", "-O2 -g", "-O0 -g3 -MD", "-g -MMD -MP -MF x.d -MT target", "-std=c99 -Wall -S -g"]
        {
            play_all(&theatre, ("a.c", C), &[(Place::Remote, &command(flags))]);
        }
    }
    for compiler in ["g++", "clang++"] {
        for flags in ["-O1 -g", "-std=c++20 -g -MD -fPIC"] {
            play_all(
                &theatre,
                ("a.cc", CXX),
                &[(Place::Remote, &format!("{compiler} {flags} -c a.cc -o b.o"))],
            );
        }
    }
    assert_eq!(
        theatre.farm().status()["totals"]["sent_texts"].as_object().map(serde_json::Map::len),
        Some(0)
    );
    let totals = &theatre.farm().status()["totals"];
    for field in ["scanner_files", "scanner_watches", "scanner_bytes"] {
        assert!(totals[field].as_u64().is_some_and(|number| number > 10), "{field}: {totals}");
    }
    theatre.close();
}

#[test]
fn warnings_come_back_as_they_are_printed_here() {
    let theatre = Theatre::bare();
    for command in [
        "gcc -Wall -Wextra -c a.c",
        "gcc -Wall -Wextra -fdiagnostics-color=always -c a.c",
        "gcc -Wall -Wextra -O2 -g -MD -c a.c -o x.o",
        "clang -Wall -Wextra -c a.c",
        "clang -Weverything -fcolor-diagnostics -c a.c",
    ] {
        theatre.check(Place::Remote, &Scene::new(command).file("a.c", WARNS));
        theatre.check(Place::Remote, &Scene::new(command).file("a.c", WARNS).env("LANG", "C.UTF-8"));
        // `script` says nothing of a width.
        let terminal = Scene::new(command).file("a.c", WARNS).terminal();
        theatre.check(Place::Remote, &terminal);
        theatre.check(Place::Remote, &terminal.env("TERM", "xterm-256color"));
    }
    // A failed compile is repeated here: what it removes, a volunteer does not know of.
    let broken = Scene::new("gcc -c a.c").file("a.c", "int f(void) { return 1 + ; }\n").file("a.o", "old");
    theatre.check(Place::Local("remote-diagnostics"), &broken);
    theatre.close();
}

#[test]
fn every_file_that_an_option_makes_comes_back() {
    let theatre = Theatre::bare();
    for command in [
        "gcc -g -gsplit-dwarf -c sub/a.c -o out/x.o",
        "clang -g -gsplit-dwarf -c sub/a.c -o out/x.o",
        "gcc --coverage -frandom-seed=1 -c sub/a.c -o out/x.o",
        "clang --coverage -frandom-seed=1 -c sub/a.c",
        "gcc -fstack-usage -O2 -c sub/a.c",
        "gcc -fcallgraph-info -O2 -c sub/a.c -o out/x.o",
        "gcc -save-temps -g -c sub/a.c",
        "gcc -save-temps=obj -c sub/a.c -o out/x.o",
        "clang -save-temps -c sub/a.c",
        "gcc -O2 -fdump-tree-optimized -c sub/a.c",
        "clang -ftime-trace -c sub/a.c -o out/x.o",
        "gcc -O2 -fopt-info-all=notes.txt -c sub/a.c",
        "gcc -frecord-gcc-switches -c sub/a.c",
    ] {
        let place = if command.contains("time-trace") { Place::Either } else { Place::Remote };
        let scene =
            Scene::new(command).file("sub/a.c", "int f(int x) { return x * 3; }\n").file("out/keep", "");
        if matches!(place, Place::Remote) {
            theatre.check(place, &scene);
        }
    }
    theatre.close();
}

#[test]
fn files_that_an_option_or_the_assembler_names_go_along() {
    let theatre = Theatre::bare();
    let incbin = "__asm__(\".section .rodata\\n.incbin \\\"blob.bin\\\"\\n.text\");\nint x;\n";
    theatre.check(Place::Either, &Scene::new("gcc -c a.c").file("a.c", incbin).file("blob.bin", "data"));
    let at = Scene::new("gcc @flags -c a.c").file("a.c", "int x = X;\n").file("flags", "-O2 -DX=3 -g\n");
    theatre.check(Place::Remote, &at);
    let list = Scene::new("clang -fsanitize=address -fsanitize-ignorelist=list.txt -c a.c")
        .file("a.c", "int f(int *x) { return *x; }\n")
        .file("list.txt", "fun:f\n");
    theatre.check(Place::Remote, &list);
    theatre.close();
}

#[test]
fn what_is_not_an_input_is_not_there_and_links_are_as_they_are() {
    let theatre = Theatre::bare();
    let probing = "#if __has_include(\"there.h\")\nint there;\n#endif\n#if __has_include(\"not.h\")\n#error no\n#endif\n";
    // clang lists among its dependencies what it only asked for.
    for command in ["gcc -g -c a.c", "clang -g -c a.c"] {
        theatre.check(Place::Remote, &Scene::new(command).file("a.c", probing).file("there.h", ""));
    }
    let linked = Scene::new("gcc -g -Icurrent -Iempty -c src/a.c -o a.o")
        .file("src/a.c", "#include <x.h>\n#include \"../v1/in/../y.h\"\nint a = X + Y;\n")
        .file("v1/x.h", "#define X __LINE__\nstatic const char *fx = __FILE__;\n")
        .file("v1/y.h", "#define Y 2\n")
        .file("v1/in/z.h", "")
        .file("empty/nothing", "")
        .link("current", "v1");
    theatre.check(Place::Remote, &linked);
    theatre.close();
}

#[test]
fn equal_headers_stay_as_many_files_as_they_are_here() {
    let theatre = Theatre::bare();
    for compiler in ["gcc", "clang"] {
        let once = "#pragma once\nX(__COUNTER__)\n";
        let scene = Scene::new(&format!("{compiler} -Ia -Ib -S x.c"))
            .file("x.c", "#define X(n) int v = n;\n#include \"a/h.h\"\n#undef X\n#define X(n) int w = n;\n#include \"b/h.h\"\n")
            .file("a/h.h", once)
            .file("b/h.h", once)
            .shell("touch -d @1000 a/h.h; touch -d @2000 b/h.h; exec \"$@\"");
        theatre.check(Place::Either, &scene);
    }
    theatre.close();
}

#[test]
fn clang_may_call_a_folder_by_the_name_under_which_it_met_it_first() {
    let theatre = Theatre::bare();
    for compiler in ["clang", "gcc"] {
        let command = format!("{compiler} -g -O1 -MD -I. -c sub/a.c -o a.o");
        let scene = Scene::new(&command)
            .file("sub/a.c", "#include \"../common/error.h\"\n#include \"../top.h\"\nint f(void) { return ERROR + TOP; }\n")
            .file("common/error.h", "#include \"../errors.h\"\n")
            .file("top.h", "#include \"errors.h\"\n#define TOP 2\n")
            .file("errors.h", "#ifndef E\n#define E\n#define ERROR 1\n#endif\n");
        theatre.check(Place::Remote, &scene);
    }
    theatre.close();
}

#[test]
fn names_of_any_bytes_travel() {
    let theatre = Theatre::bare();
    let scene = Scene::new("gcc -g -c")
        .word(b"sp ace/\xff\xfe.c")
        .word("-o")
        .word(b"o\xe9.o")
        .file(b"sp ace/\xff\xfe.c", "#include \"own header.h\"\nint x;\n")
        .file("sp ace/own header.h", "int y;\n");
    theatre.check(Place::Remote, &scene);
    theatre.close();
}

#[test]
fn an_equal_compile_is_answered_from_the_cache_and_a_changed_header_is_not() {
    let farm = Farm::with(&[VolunteerOptions { bare: true, ..VolunteerOptions::default() }]);
    let write = |name: &str, text: &str| fs::write(farm.work().join(name), text).expect("our own file");
    write("a.c", "#include \"h.h\"\nint x = X;\n");
    write("h.h", "#define X 1\n");
    let compile = |output: &str| {
        let mut command = farm.command(crate::farm::SHIM);
        command.env("DISTCC_CACHE", farm.home().parent().expect("a farm").join("cache"));
        command.args(["gcc", "-O2", "-c", "a.c", "-o", output]);
        crate::farm::run(command, crate::farm::COMMAND_MAX).expect_success("a compile");
        fs::read(farm.work().join(output)).expect("an object")
    };
    let first = compile("a.o");
    crate::farm::wait_until("the result is kept", crate::farm::COMMAND_MAX, || {
        crate::farm::kept_results(&farm.home().parent().expect("a farm").join("cache")) > 0
    });
    fs::remove_file(farm.work().join("a.o")).expect("it was there");
    assert_eq!(compile("a.o"), first);
    assert_eq!((farm.total("remote"), farm.total("cached")), (1, 1), "{}", farm.status());
    write("h.h", "#define X 2\n");
    assert_ne!(compile("a.o"), first);
    assert_eq!((farm.total("remote"), farm.total("cached")), (2, 1), "{}", farm.status());
    farm.finish();
}

#[test]
fn a_job_that_is_remembered_rests_on_the_files_as_they_are() {
    let farm = Farm::with(&[VolunteerOptions { bare: true, ..VolunteerOptions::default() }]);
    let work = farm.work().to_owned();
    let write = |name: &str, text: &str| fs::write(work.join(name), text).expect("our own file");
    let mut compiles = 0;
    let mut check = |what: &str| {
        let local = Command::new("gcc").args(WORDS).current_dir(&work).status().expect("gcc runs");
        assert!(local.success(), "{what}");
        let expected = fs::read(work.join("a.o")).expect("an object");
        // The second is the remembered one.
        for _ in 0..2 {
            fs::remove_file(work.join("a.o")).expect("it was there");
            let mut command = farm.command(crate::farm::SHIM);
            command.arg("gcc").args(WORDS);
            crate::farm::run(command, crate::farm::COMMAND_MAX).expect_success(what);
            compiles += 1;
            assert!(fs::read(work.join("a.o")).expect("an object") == expected, "{what}");
            assert_eq!(farm.total("remote"), compiles, "{what}: {}", farm.status());
        }
    };
    const WORDS: [&str; 7] = ["-g", "-O1", "-Ione", "-Itwo", "-c", "a.c", "-oa.o"];
    for folder in ["one", "two", "three"] {
        fs::create_dir(work.join(folder)).expect("our own folder");
    }
    write("a.c", "#include <h.h>\n#include <stddef.h>\nint x = X;\n");
    write("two/h.h", "#define X 1\n");
    check("as it is");
    let modified = fs::metadata(work.join("two/h.h")).and_then(|found| found.modified()).expect("a time");
    write("two/h.h", "#define X 2\n");
    let header = fs::File::options().write(true).open(work.join("two/h.h")).expect("ours");
    header.set_modified(modified).expect("set");
    check("other content, same size and time");
    write("one/h.h", "#define X 3\n");
    check("a header that is found sooner");
    fs::remove_file(work.join("one/h.h")).expect("it was there");
    check("and is gone");
    write("three/h.h", "#define X 4\n");
    fs::remove_dir(work.join("one")).expect("it was there");
    std::os::unix::fs::symlink("three", work.join("one")).expect("linked");
    check("a folder that became a link");
    fs::remove_file(work.join("one")).expect("it was there");
    fs::rename(work.join("three"), work.join("one")).expect("moved");
    check("and a folder again");
    write("stddef.h", "#define X 5\n");
    check("a header where nobody looks");
    farm.finish();
}
