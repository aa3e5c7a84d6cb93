//! Compiles that seem to need nothing but their text, and do. Each was once done elsewhere, with
//! another result than here.

use std::fs;

use crate::farm::{COMMAND_MAX, Farm, SHIM, run};
use crate::scene::{Place, Scene, Theatre};

/// A header that is in place of nothing, and sources that use it.
const HEADER: &str = "#define P 1\nint pp;\n";

fn check_all(scenes: &[(Place, Scene)]) {
    let theatre = Theatre::new();
    for (place, scene) in scenes {
        theatre.check(*place, scene);
    }
    theatre.close();
}

fn scene(command: &str, source: &str) -> Scene {
    Scene::new(command).file("a.c", source)
}

#[test]
fn columns_that_go_into_the_object_are_those_of_the_source() {
    let globals = "#define API __attribute__((visibility(\"default\")))\nAPI    int      a[9];API int b;\n\
                   int f(int i) { return   a[i] + b; }\n";
    let asks = "#define ID(x) x\nint f(void) { return ID(1)   +   __builtin_LINE(); }\n";
    let mut scenes = Vec::new();
    for compiler in ["gcc", "clang"] {
        for option in ["-fsanitize=address", "-fsanitize=undefined", "-fsanitize=bounds,leak"] {
            scenes.push((Place::Local("option"), scene(&format!("{compiler} {option} -c a.c"), globals)));
        }
        scenes.push((Place::Remote, scene(&format!("{compiler} -fsanitize=thread -c a.c"), globals)));
        scenes.push((Place::Local("text"), scene(&format!("{compiler} -c a.c"), asks)));
    }
    let located = "#include <source_location>\n#define ID(x) x\nint g(std::source_location l = \
                   std::source_location::current()) { return l.column(); }\nint h() { return ID(1)   +   g(); }\n";
    let located = Scene::new("g++ -std=c++20 -c a.cc").file("a.cc", located);
    scenes.push((Place::Local("text"), located));
    check_all(&scenes);
}

#[test]
fn the_source_between_the_lines_of_assembly_is_here() {
    let source = "int f(int x)\n{\n    return x + 1;\n}\n";
    check_all(&[
        (Place::Local("option"), scene("gcc -S -fverbose-asm a.c", source)),
        (Place::Remote, scene("gcc -c -fverbose-asm a.c", source)),
    ]);
}

#[test]
fn what_the_kernel_makes_up_as_it_is_read_is_asked_about_here() {
    let asks = "#if __has_include(\"/proc/self/comm\")\nint yes;\n#endif\n";
    check_all(&[(Place::Remote, scene("gcc -c a.c", asks)), (Place::Remote, scene("clang -c a.c", asks))]);
}

#[test]
fn this_machine_among_other_machines() {
    let source = "float f(float *a, float *b)\n{\n    float s = 0;\n    for (int i = 0; i < 64; i++)\n        \
                  s += a[i] * b[i];\n    return s;\n}\n";
    let check =
        |options: &str| (Place::Either, scene(&format!("gcc -O3 -ffast-math {options} -c a.c"), source));
    check_all(&[
        check("-march=native"),
        check("-mno-avx -march=native"),
        check("-march=native -mno-avx"),
        check("-march=native -march=x86-64"),
        check("-march=x86-64 -march=native"),
        check("-mtune=generic -march=native"),
        check("-mno-sse3 -mtune=native"),
    ]);
}

#[test]
fn a_source_is_not_written_over() {
    let mut scenes = Vec::new();
    for compiler in ["gcc", "clang"] {
        for output in ["a.c", "./a.c", "link.c"] {
            let command = format!("{compiler} -c a.c -o {output}");
            scenes.push((Place::Local("output"), scene(&command, "int x;\n").link("link.c", "a.c")));
        }
    }
    check_all(&scenes);
}

#[test]
fn what_only_the_compile_itself_can_read() {
    let piped = "echo 'int piped;' | \"$@\"";
    let mut scenes = Vec::new();
    for compiler in ["gcc", "clang"] {
        for (place, command, source) in [
            (Place::Local("source"), "-x c -c /dev/stdin -o b.o", ""),
            (Place::Local("source"), "-x c -c /proc/self/fd/0 -o b.o", ""),
            (Place::Local("source"), "-include /dev/stdin -c a.c", "int x;\n"),
            (Place::Local("source"), "-imacros/dev/stdin -c a.c", "int x;\n"),
            (Place::Local("text"), "-c a.c", "#include \"/dev/stdin\"\n"),
            (Place::Local("stdin"), "-x c -c - -o b.o", ""),
        ] {
            scenes.push((place, scene(&format!("{compiler} {command}"), source).shell(piped)));
        }
    }
    let fifo = "mkfifo pipe && (echo 'int piped;' >pipe &) && \"$@\" && rm pipe";
    scenes.push((Place::Local("source"), Scene::new("gcc -x c -c pipe -o b.o").shell(fifo)));
    check_all(&scenes);
}

#[test]
fn a_precompiled_header_is_used_wherever_the_header_is_found() {
    // Older than the header, so that it is plain which of the two was read; left as it was made,
    // since one differs from the next.
    let make = "gcc -x c-header inc/p.h -o inc/p.h.gch && echo '#define P 2' >inc/p.h && \"$@\"; \
                status=$?; rm inc/p.h.gch; exit $status";
    let made = |command: &str, source: &str| {
        (Place::Local("text"), scene(command, source).file("inc/p.h", HEADER).shell(make))
    };
    check_all(&[
        made("gcc -Iinc -c a.c", "#include \"p.h\"\nint y = P;\n"),
        made("gcc -Iinc -include p.h -c a.c", "int y = P;\n"),
        made("gcc -include inc/p.h -c a.c", "int y = P;\n"),
        (
            Place::Remote,
            scene("gcc -Iinc -c a.c", "int x;\n#include \"p.h\"\nint y = P;\n")
                .file("inc/p.h", HEADER)
                .file("inc/p.h.gch", "too late to be taken"),
        ),
    ]);
}

#[test]
fn directives_in_text_that_was_preprocessed_already() {
    let mut scenes = Vec::new();
    for compiler in ["gcc", "clang"] {
        for (place, text) in [
            (Place::Local("text"), "# 1 \"a.c\"\n#include \"p.h\"\nint x = P;\n"),
            (Place::Local("text"), "# 1 \"a.c\"\n#if __has_include(<stdio.h>)\nint x;\n#endif\n"),
            (Place::Remote, "# 1 \"a.c\"\n#pragma GCC visibility push(hidden)\nint x;\n"),
        ] {
            let scene = Scene::new(&format!("{compiler} -c a.i")).file("a.i", text).file("p.h", HEADER);
            scenes.push((place, scene));
        }
    }
    check_all(&scenes);
}

#[test]
fn names_that_are_endings_only() {
    check_all(&[
        (Place::Either, Scene::new("gcc -c .c").file(".c", "int x;\n")),
        (Place::Either, Scene::new("gcc -c k/.c").file("k/.c", "int x;\n")),
        (Place::Either, Scene::new("clang -c .c").file(".c", "int x;\n")),
        (Place::Either, Scene::new("gcc -MD -c a.c -o k/.o").file("a.c", "int x;\n").file("k/keep", "")),
    ]);
}

/// Runs a line of shell in a farm's folder, with `$CC` as the compiler; whether it went well, and what it left.
fn line(farm: &Farm, compiler: &str, line: &str, output: &str) -> (Option<i32>, Vec<u8>, String) {
    let mut command = farm.command("sh");
    command.args(["-c", line]).env("CC", compiler);
    let outcome = run(command, COMMAND_MAX);
    let left = fs::read(farm.work().join(output)).unwrap_or_default();
    (outcome.status.code(), left, String::from_utf8_lossy(&outcome.stderr).into_owned())
}

#[test]
fn messages_that_go_into_the_output_itself_do_not_end_up_in_the_object() {
    let farm = Farm::new(1);
    fs::write(farm.work().join("v.c"), "static int unused;\nint v;\n").expect("written");
    for redirected in ["$CC -Wall -c v.c 2>v.o", "$CC -Wall -c v.c >v.o 2>&1"] {
        let here = line(&farm, "gcc", redirected, "v.o");
        let there = line(&farm, &format!("{SHIM} gcc"), redirected, "v.o");
        assert!(here.1.starts_with(b"\x7fELF") && here == there, "{redirected}");
    }
    assert_eq!(farm.status()["totals"]["local_reasons"]["output"], 2, "{}", farm.status());
    farm.finish();
}

#[test]
fn a_response_file_that_is_a_pipe_stops_nobody() {
    let farm = Farm::new(1);
    fs::write(farm.work().join("a.c"), "int a = VALUE;\n").expect("written");
    // gcc wants to know how long it is first; clang reads it.
    let piped = "mkfifo words; (echo -DVALUE=7 >words) & $CC @words -c a.c; wait; rm words";
    let here = line(&farm, "clang", piped, "a.o");
    assert!(here.0 == Some(0) && here.1.starts_with(b"\x7fELF"), "{}", here.2);
    assert_eq!(line(&farm, &format!("{SHIM} clang"), piped, "a.o"), here);
    // Nobody writes to it.
    let silent = "mkfifo words; timeout 1 $CC @words -c a.c; rm words; $CC -DVALUE=7 -c a.c";
    let (status, _, said) = line(&farm, &format!("{SHIM} gcc"), silent, "a.o");
    assert_eq!(status, Some(0), "{said}");
    assert_eq!(farm.total("remote"), 1, "{}", farm.status());
    farm.finish();
}

#[test]
fn warnings_of_the_assembler_name_temporary_files_of_this_machine() {
    let farm = Farm::new(1);
    fs::write(farm.work().join("a.c"), "asm(\".warning \\\"said\\\"\");\n").expect("written");
    let (status, object, said) = line(&farm, &format!("{SHIM} gcc"), "TMPDIR=$PWD $CC -c a.c", "a.o");
    assert!(status == Some(0) && object.starts_with(b"\x7fELF"), "{said}");
    let own = format!("{}/cc", farm.work().display());
    assert!(said.starts_with(&own) && said.contains("said"), "{said}");
    farm.finish();
}

#[test]
fn a_directory_of_headers_under_two_names_is_the_one_that_clang_opens() {
    let theatre = Theatre::bare();
    let scene = |command: &str| {
        let source = "#include \"h.h\"\n#if __has_include(<g.h>)\n#include <g.h>\n#endif\nconst char *g = FILE_OF_H;\n";
        let header = "#define FILE_OF_H __FILE__\nstatic int unused(void) { return 1; }\n";
        let scene =
            Scene::new(command).file("a.c", source).file("real/h.h", header).file("real/g.h", "int g2;\n");
        scene.link("l0", "real").link("l4", "real")
    };
    for compiler in ["clang", "clang-16", "gcc"] {
        for options in [
            "-isystem l0 -Ireal -MD",
            "-Il4 -isystem l0 -MMD",
            "-iquote l0 -Il4 -MD",
            "-iquote l4 -isystem l0 -MMD",
            "-isystem l0 -idirafter l4 -MD",
            "-Il0 -Ireal -I./real -MD",
            "-Ireal/ -isystem real -MMD",
        ] {
            let command = format!("{compiler} -g -Wall -Wextra {options} -c a.c");
            theatre.check(Place::Remote, &scene(&command));
        }
    }
    theatre.close();
}

#[test]
fn where_nothing_but_quotes_is_searched_gcc_looks_there_for_angles_too() {
    let theatre = Theatre::bare();
    let source = "#if __has_include(<q.h>)\n#include <q.h>\n#endif\nint end;\n";
    for (compiler, place) in [("gcc", Place::Remote), ("clang", Place::Remote)] {
        let command = format!("{compiler} -iquote inc -nostdinc -MD -c a.c");
        theatre.check(place, &Scene::new(&command).file("a.c", source).file("inc/q.h", "int q;\n"));
    }
    // A link that leads round: gcc complains of it.
    let round = Scene::new("gcc -iquote l1 -Iinc -c a.c").link("l1", "l2").link("l2", "l1");
    theatre.check(Place::Either, &round.file("a.c", source).file("inc/q.h", "int q;\n"));
    theatre.close();
}

#[test]
fn a_header_with_two_names_is_one_file_to_clang_in_a_folder_of_many_as_well() {
    let theatre = Theatre::bare();
    let header = "#pragma once\n#define CAT2(a,b) a##b\n#define CAT(a,b) CAT2(a,b)\n\
                  static int CAT(q,__COUNTER__) __attribute__((used)) = 3;\n";
    let mut source = String::new();
    let mut scene = Scene::new("clang -Ia -Ic -MD -c u.c").file("a/h7.h", header).file("c/keep", "");
    for number in 0..12 {
        scene = scene.file(format!("a/k{number}.h"), format!("int v{number};\n"));
        source += &format!("#include \"k{number}.h\"\n");
    }
    source += "#include \"h7.h\"\n#include \"h5.h\"\n";
    theatre.check(Place::Remote, &scene.file("u.c", source).shell("ln a/h7.h c/h5.h && exec \"$@\""));
    theatre.close();
}

/// What gcc lists of itself was written into the output, and the result had no `stdc-predef.h`.
#[test]
fn an_output_that_a_long_option_names_is_compiled_as_one_that_a_short_one_does() {
    let theatre = Theatre::bare();
    let source = "#ifdef __STDC_IEC_559__\nint yes;\n#else\nint no;\n#endif\n";
    for command in [
        "gcc -c a.c --output=b.o",
        "gcc -c a.c --output b.o -MD -MF b.d",
        "g++ -c a.c --output=b.o -MMD",
        // What the scanner does not follow, the compiler lists.
        "gcc -c a.c --output=b.o --include-directory=.",
    ] {
        theatre.check(Place::Remote, &scene(command, source));
    }
    theatre.close();
}

/// The volunteer could not write there, and was left alone for it.
#[test]
fn outputs_go_into_a_folder_behind_a_link_out_of_the_working_directory() {
    let theatre = Theatre::bare();
    let script = "mkdir -p w out/deep && ln -s ../out w/obj && cd w && \"$@\"; s=$?; rm obj; exit $s";
    for command in [
        "gcc -g -c ../a.c -o obj/a.o -MD",
        "clang -g -c ../a.c -o obj/deep/a.o -MMD -MF obj/a.d",
        "gcc -c ../a.c -o a.o -fstack-usage -aux-info obj/a.txt",
    ] {
        theatre.check(Place::Remote, &scene(command, "int a = __LINE__;\n").shell(script));
    }
    theatre.close();
}

/// They arrived as files that may not be run, and gcc passed over them.
#[test]
fn programs_that_an_option_has_the_driver_find_are_run_there() {
    let theatre = Theatre::bare();
    let another = "mkdir tool && LC_ALL=C sed 's/GNU AS /GNU QQ /g' \"$(readlink -f \"$(command -v as)\")\" >tool/as \
                   && chmod +x tool/as && \"$@\"; s=$?; rm -r tool; exit $s";
    let assembly = Scene::new("gcc -Btool/ -g -c a.s").file("a.s", ".globl q\nq: nop\n");
    theatre.check(Place::Remote, &assembly.shell(another));
    let compiled = scene("gcc -B tool -g -c a.c", "int a;\n");
    theatre.check(Place::Remote, &compiled.shell(another));
    let script = "mkdir tool && printf '#!/bin/sh\\nexec as \"$@\"\\n' >tool/as && chmod +x tool/as \
                  && \"$@\"; s=$?; rm -r tool; exit $s";
    theatre.check(Place::Local("option"), &scene("gcc -Btool/ -c a.c", "int a;\n").shell(script));
    theatre.close();
}

/// clang lists them with slashes.
#[test]
fn names_with_backslashes_are_audited_as_clang_lists_them() {
    let theatre = Theatre::bare();
    for compiler in ["clang", "gcc"] {
        let named = Scene::new(&format!("{compiler} -c")).word(b"b\\s.c").word("-o").word("a.o");
        let named = named.file(b"b\\s.c", "#include \"d\\e.h\"\n").file(b"d\\e.h", "int a;\n");
        theatre.check(Place::Remote, &named);
    }
    theatre.close();
}

/// Such units were taken for ones that tell the time, which only a text could carry, and no text without a compiler there.
#[test]
fn headers_that_paste_underscores_and_words_like_date_make_no_time() {
    let theatre = Theatre::bare();
    let source = "#include <sys/socket.h>\ntypedef unsigned u128 __attribute__((mode(TI)));\n\
                  enum { NONE, DATE, TIME };\nint f(int);\nu128 x = TIME;\nint g(void) { return f(DATE); }\n";
    for compiler in ["gcc", "gcc -MD -O2"] {
        theatre.check(Place::Remote, &scene(&format!("{compiler} -c a.c"), source));
    }
    let plain = source.replace("f(DATE)", "f(1)").replace("NONE, ", "");
    theatre.check(Place::Remote, &scene("clang -c a.c", &plain));
    theatre.close();
}

/// gcc follows it where it compiles, not where it lists: a volunteer found other files read than were listed.
#[test]
fn a_header_that_asks_by_an_operator_to_be_read_once_is_no_audits_matter() {
    let theatre = Theatre::bare();
    let once = "_Pragma(\"once\")\n#ifdef SEEN\n#include \"there.h\"\n#endif\n#define SEEN\n";
    let twice = "int spl\\\nit;\n#include \"once.h\"\n#include \"once.h\"\n";
    let scene = Scene::new("gcc -MD -c a.c").file("a.c", twice).file("once.h", once).file("there.h", "");
    theatre.check(Place::Local("no-text-compiler"), &scene);
    theatre.close();
}

/// gcc follows them as it compiles C, and not as it preprocesses or lists: the macros that they change were those of
/// another program, with another object.
#[test]
fn pragmas_that_set_options_change_macros_in_compiles_alone() {
    let asks = |pragma: &str, name: &str| {
        format!("{pragma}\n#ifdef {name}\nint a = 1;\n#else\nint b = 2;\n#endif\n")
    };
    let scenes = || {
        [
            ("gcc -O2", "#pragma GCC target(\"avx2\")", "__AVX2__"),
            ("gcc -O2", "#pragma GCC optimize(\"O0\")", "__OPTIMIZE__"),
            ("gcc", "_Pragma(\"GCC optimize(\\\"fast-math\\\")\")", "__FAST_MATH__"),
        ]
        .map(|(gcc, pragma, name)| scene(&format!("{gcc} -c a.c"), &asks(pragma, name)))
    };
    let optimize = asks("#pragma GCC optimize(\"O0\")", "__OPTIMIZE__");
    let cxx = Scene::new("g++ -O2 -c a.cc").file("a.cc", &optimize);
    let mut all: Vec<(Place, Scene)> = scenes().map(|scene| (Place::Local("text"), scene)).into();
    all.extend([
        (Place::Remote, cxx),
        (Place::Remote, scene("clang -O2 -c a.c", &optimize)),
        (Place::Remote, scene("gcc -c a.c", "#include <immintrin.h>\nint x;\n")),
    ]);
    check_all(&all);
    let theatre = Theatre::bare();
    // Which branch is compiled, the scanner need not know where nothing is included there.
    for scene in scenes() {
        theatre.check(Place::Remote, &scene);
    }
    let headers = "#pragma GCC optimize(\"O0\")\n#include <stdio.h>\n#include <stdlib.h>\n";
    theatre.check(Place::Local("text"), &scene("gcc -O2 -c a.c", headers));
    theatre.close();
}
