//! What a user gets is what a local compile gives: exit status, stdout, stderr, the bytes and modes
//! of every file. Each case runs twice in one directory, here and through the shim.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::scene::{Place, Scene, Theatre};

const PLAIN: &str = "#include <stddef.h>\nint f(int x) { return x * (int)sizeof(size_t); }\n";
const UNUSED: &str =
    "static int g(int x) { int y; return x; }\nint f(int a, int b) { return a == b ? 1 : 2 ;}\n";
const BROKEN: &str = "int f(void) { return 1 + ; }\nstruct s { int a };\n";
const CXX: &str =
    "#include <vector>\nint f(std::vector<int> &v) { v.push_back(__LINE__); return v.size(); }\n";

/// Plays scenes that differ only in their command line, on the same source.
fn check_all(source: (&str, &str), cases: &[(Place, &str)]) {
    let theatre = Theatre::new();
    for (place, command) in cases {
        theatre.check(*place, &Scene::new(command).file(source.0, source.1));
    }
    theatre.close();
}

#[test]
fn an_object_is_the_one_that_a_local_compile_writes() {
    check_all(
        ("a.c", PLAIN),
        &[
            (Place::Remote, "gcc -c a.c"),
            (Place::Remote, "gcc -O2 -c a.c -o b.o"),
            (Place::Remote, "gcc -O2 -Wall -Wextra -Werror -c -o b.o a.c"),
            (Place::Remote, "gcc -std=gnu99 -fPIC -fvisibility=hidden -DX=1 -DY= -UZ -I. -I /usr -c a.c"),
            (Place::Remote, "gcc -O1 -S a.c"),
            (Place::Remote, "gcc -O1 -S a.c -o other.asm"),
            (Place::Remote, "cc -c a.c"),
            (Place::Remote, "clang -O2 -c a.c"),
            (Place::Remote, "clang -O2 -Wall -fPIC -c a.c -o b.o"),
            (Place::Remote, "clang -S a.c"),
        ],
    );
}

#[test]
fn cxx_and_languages_that_an_option_names() {
    check_all(
        ("a.cc", CXX),
        &[
            (Place::Remote, "g++ -O2 -c a.cc"),
            (Place::Remote, "g++ -std=c++20 -fno-exceptions -c a.cc -o x.o"),
            (Place::Remote, "gcc -c a.cc"),
            (Place::Remote, "clang++ -O1 -c a.cc"),
            (Place::Remote, "g++ -x c++ -c a.cc"),
            (Place::Either, "gcc -x c -c a.cc"),
            (Place::Either, "gcc -x assembler -c a.cc"),
        ],
    );
}

#[test]
fn what_cannot_leave_runs_here_and_says_why() {
    check_all(
        ("a.c", PLAIN),
        &[
            (Place::Local("preprocess-only"), "gcc -E a.c"),
            (Place::Local("preprocess-only"), "gcc -MM a.c"),
            (Place::Local("not-a-compile"), "gcc -shared -fPIC a.c -o liba.so"),
            (Place::Local("not-a-compile"), "gcc --version"),
            (Place::Local("no-source"), "gcc -c"),
            (Place::Local("unknown-option"), "gcc -c a.c --no-such-thing"),
            (Place::Either, "gcc -c nowhere.c"),
            (Place::Either, "gcc -c a.c -fno-such-option"),
            (Place::Either, "gcc -c a.c -o"),
            (Place::Either, "gcc -save-temps -c a.c"),
            (Place::Either, "gcc -fstack-usage -c a.c"),
            (Place::Either, "gcc -g -gsplit-dwarf -S a.c"),
            (Place::Either, "gcc -fdump-tree-optimized -O1 -c a.c"),
            (Place::Either, "gcc -march=native -O2 -c a.c"),
            (Place::Either, "gcc -flto -frandom-seed=7 -O2 -c a.c"),
        ],
    );
}

#[test]
fn warnings_and_errors_read_as_they_do_here() {
    let said = Place::Local("remote-diagnostics");
    check_all(
        ("a.c", BROKEN),
        &[(said, "gcc -c a.c"), (said, "clang -c a.c"), (said, "gcc -O2 -Wall -c a.c -o a.o")],
    );
    check_all(
        ("a.c", UNUSED),
        &[
            (said, "gcc -Wall -Wextra -c a.c"),
            (said, "gcc -Wall -Wextra -Werror -c a.c"),
            (said, "gcc -Wall -Wextra -fdiagnostics-color=always -c a.c"),
            (Place::Either, "gcc -Wall -Wextra -fdiagnostics-format=json -c a.c"),
            (said, "clang -Wall -Wextra -c a.c"),
            (said, "clang -Wall -Wextra -Werror -fcolor-diagnostics -c a.c"),
        ],
    );
}

#[test]
fn what_the_preprocessor_says_reads_as_it_does_here() {
    let theatre = Theatre::new();
    for compiler in ["gcc", "clang"] {
        let scene = |source: &str| Scene::new(&format!("{compiler} -Wall -c a.c")).file("a.c", source);
        theatre.check(Place::Either, &scene("#warning careful\nint x;\n"));
        theatre.check(Place::Local("preprocessor-failed"), &scene("#error no\nint x;\n"));
        theatre.check(Place::Local("preprocessor-failed"), &scene("#include \"nowhere.h\"\n"));
        theatre.check(Place::Either, &scene("#define A 1\n#define A 2\nint x = A;\n#pragma unheard of\n"));
    }
    theatre.close();
}

#[test]
fn a_terminal_gets_the_colours_that_it_gets_here() {
    let theatre = Theatre::new();
    for command in ["gcc -Wall -Wextra -c a.c", "clang -Wall -Wextra -c a.c", "gcc -c a.c"] {
        theatre.check(Place::Either, &Scene::new(command).file("a.c", UNUSED).terminal());
    }
    theatre.close();
}

/// A compiler that behaves like gcc until it compiles a source that holds the word.
fn install_faulty_compiler(theatre: &Theatre, name: &str, when_compiling: &str) {
    let script = format!(
        "#!/bin/sh\nmode=compile\nfor word; do\n  case $word in -E|-v|-print-*|--version|-dump*|-###) mode=ask;; esac\ndone\n\
         if [ $mode = compile ]; then\n  {when_compiling}\nfi\nexec gcc \"$@\"\n"
    );
    let path = theatre.farm().bin().join(name);
    fs::write(&path, script).expect("our own file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own file");
}

#[test]
fn an_internal_compiler_error_reads_as_it_does_here() {
    let theatre = Theatre::new();
    install_faulty_compiler(
        &theatre,
        "ice-gcc",
        "echo 'a.c:1:1: internal compiler error: in fold' >&2; exit 4",
    );
    let scene = Scene::new("ice-gcc -O2 -c a.c").file("a.c", PLAIN);
    theatre.check(Place::Either, &scene);
    theatre.close();
}

#[test]
fn a_compiler_that_a_signal_ends_ends_the_build_in_the_same_way() {
    let theatre = Theatre::new();
    for signal in ["SEGV", "ABRT", "KILL", "TERM"] {
        let name = format!("{}-gcc", signal.to_lowercase());
        install_faulty_compiler(&theatre, &name, &format!("kill -{signal} $$"));
        theatre.check(Place::Either, &Scene::new(&format!("{name} -c a.c")).file("a.c", PLAIN));
    }
    theatre.close();
}

#[test]
fn a_compiler_that_says_something_and_succeeds() {
    let theatre = Theatre::new();
    install_faulty_compiler(&theatre, "chatty-gcc", "echo to stdout; echo to stderr >&2");
    theatre.check(Place::Either, &Scene::new("chatty-gcc -c a.c").file("a.c", PLAIN));
    theatre.close();
}

#[test]
fn odd_contents() {
    let theatre = Theatre::new();
    let cases: [(&str, &[u8]); 9] = [
        ("empty", b""),
        ("no newline at the end", b"int x;"),
        ("CRLF", b"int x;\r\nint y;\r\n#if 1\r\nint z;\r\n#endif\r\n"),
        ("a NUL byte", b"int x;\n/* \0 */\nint y;\n"),
        ("a NUL byte in a literal", b"const char s[] = \"a\0b\";\n"),
        ("a BOM", b"\xef\xbb\xbfint x;\n"),
        ("not UTF-8", b"const char s[] = \"\xff\xfe\xe9\"; /* \xe9 */\n"),
        ("a backslash at the end", b"int x;\n// \\"),
        (
            "a line marker of its own",
            b"# 7 \"elsewhere.c\"\nint x;\n#line 9 \"more \\\"odd\\\" name.c\"\nint y;\n",
        ),
    ];
    for (what, content) in cases {
        for compiler in ["gcc", "clang"] {
            println!("{what}, {compiler}");
            let command = format!("{compiler} -c a.c");
            theatre.check(Place::Either, &Scene::new(&command).file("a.c", content));
        }
    }
    theatre.close();
}

#[test]
fn odd_names() {
    let theatre = Theatre::new();
    let names: [&[u8]; 9] = [
        b"with space.c",
        b"not\xffutf8.c",
        b"new\nline.c",
        b"./-dash.c",
        b"quote\".c",
        b"back\\slash.c",
        b"$dollar#hash.c",
        b"deep/er/a.b.c",
        "\u{e9}t\u{e9}.c".as_bytes(),
    ];
    for name in names {
        theatre.check(Place::Either, &Scene::new("gcc -MD -c").word(name).file(name, PLAIN));
        let output = [b"o-", &name.replace_slashes()[..], b".o"].concat();
        theatre.check(
            Place::Either,
            &Scene::new("gcc -O1 -c").word(name).word("-o").word(output).file(name, PLAIN),
        );
    }
    theatre.close();
}

/// A name's bytes with its directories made part of the name.
trait ReplaceSlashes {
    fn replace_slashes(&self) -> Vec<u8>;
}

impl ReplaceSlashes for [u8] {
    fn replace_slashes(&self) -> Vec<u8> {
        self.iter().map(|&byte| if byte == b'/' { b'_' } else { byte }).collect()
    }
}

#[test]
fn dependency_files_in_every_spelling() {
    let theatre = Theatre::new();
    for command in [
        "gcc -MD -c a.c",
        "gcc -MMD -c a.c -o out/b.o",
        "gcc -MD -MF dep.d -c a.c",
        "gcc -MDdep.d -c a.c",
        "gcc -MMD -MP -MF out/dep.d -c a.c",
        "gcc -MD -MT target -MT other -c a.c",
        "gcc -MD -MQ $(x) -c a.c -o out/a.o",
        "gcc -MD -MF - -c a.c",
        "gcc -Wp,-MD,dep.d -c a.c",
        "gcc -Wp,-MMD,out/.a.d -c a.c -o out/a.o",
        "gcc -MD -MG -c a.c",
        "gcc -MD -S a.c",
        "gcc -MD -o x.y.o -c a.c",
        "clang -MD -c a.c",
        "clang -MMD -MP -MF dep.d -MT t -c a.c -o out/b.o",
        "clang -MD -MF - -c a.c",
    ] {
        let scene = Scene::new(command)
            .file("a.c", "#include \"h.h\"\n#include <stddef.h>\nint f(void) { return H; }\n")
            .file("h.h", "#define H 1\n")
            .file("out/keep", "");
        theatre.check(Place::Either, &scene);
    }
    theatre.close();
}

#[test]
fn modes_follow_the_umask_of_the_one_who_asks() {
    let theatre = Theatre::new();
    for script in ["umask 077; exec \"$@\"", "umask 0; exec \"$@\"", "umask 027; exec \"$@\""] {
        theatre.check(Place::Remote, &Scene::new("gcc -MD -c a.c").file("a.c", PLAIN).shell(script));
    }
    theatre.close();
}

#[test]
fn closed_descriptors_are_no_trouble() {
    let theatre = Theatre::new();
    let check = |place: Place, script: &'static str| {
        theatre.check(place, &Scene::new("gcc -c a.c").file("a.c", PLAIN).shell(script));
        theatre.check(place, &Scene::new("gcc -Wall -Wextra -c a.c").file("a.c", UNUSED).shell(script));
    };
    for script in ["exec \"$@\" <&-", "exec \"$@\" >&-", "exec \"$@\" <&- >&-"] {
        check(Place::Either, script);
    }
    check(Place::Unasked, "exec \"$@\" 2>&-");
    theatre.close();
}

#[test]
fn outputs_in_odd_places() {
    let theatre = Theatre::new();
    let scene = |command: &str| Scene::new(command).file("a.c", PLAIN);
    theatre.check(Place::Remote, &scene("gcc -c a.c -o out/a.o").file("out/keep", ""));
    theatre.check(Place::Remote, &scene("gcc -c a.c -o old.o").file("old.o", "what was there before"));
    theatre.check(
        Place::Either,
        &scene("gcc -c a.c -o link.o").link("link.o", "target.o").file("target.o", "old"),
    );
    theatre.check(Place::Either, &scene("gcc -c a.c -o link.o").link("link.o", "dangling.o"));
    theatre.check(Place::Either, &scene("gcc -c a.c -o link/a.o").link("link", "real").file("real/keep", ""));
    theatre.check(Place::Either, &scene("gcc -c a.c -o no/such/a.o"));
    theatre.check(Place::Either, &scene("gcc -c a.c -o out").file("out/keep", ""));
    theatre.check(Place::Either, &scene("gcc -c a.c -o /sys/a.o"));
    theatre.check(Place::Either, &scene("gcc -c a.c -o -"));
    theatre.check(Place::Either, &scene("gcc -MD -MF no/such/a.d -c a.c"));
    theatre.close();
}

#[test]
fn a_failed_compile_leaves_what_a_failed_local_one_leaves() {
    let theatre = Theatre::new();
    let scene = Scene::new("gcc -MD -c a.c").file("a.c", BROKEN).file("a.o", "old").file("a.d", "old");
    theatre.check(Place::Local("remote-diagnostics"), &scene);
    theatre.close();
}

#[test]
fn thousands_of_arguments_and_a_large_environment() {
    let theatre = Theatre::new();
    let mut scene = Scene::new("gcc -c a.c").file("a.c", "int f(void) { return VALUE; }\n");
    // Short ones: gcc's driver hands them all to its children in one variable of 128 kB at most.
    for _ in 0..10_000 {
        scene = scene.word("-w");
    }
    let scene = scene.word("-DVALUE=7");
    theatre.check(Place::Remote, &scene);
    let script = "export BIG=$(head -c 100000 /dev/zero | tr '\\0' x); exec \"$@\"";
    theatre.check(Place::Remote, &Scene::new("gcc -c a.c").file("a.c", PLAIN).shell(script));
    theatre.close();
}

#[test]
fn response_files() {
    let theatre = Theatre::new();
    let scene = |command: &str| Scene::new(command).file("a.c", PLAIN);
    theatre.check(Place::Remote, &scene("gcc @args").file("args", "-O2 -DX='a b' -c a.c -o b.o\n"));
    theatre.check(Place::Remote, &scene("gcc @one -c").file("one", "@two\n").file("two", "-O1 \"a.c\""));
    theatre.check(Place::Either, &scene("gcc @nowhere -c a.c"));
    theatre.check(Place::Either, &scene("gcc @self -c a.c").file("self", "@self"));
    theatre.close();
}

#[test]
fn variables_that_compilers_read() {
    let theatre = Theatre::new();
    let includes = "#include \"h.h\"\nint f(void) { return H; }\n";
    let scene = Scene::new("gcc -c a.c").file("a.c", includes).file("inc/h.h", "#define H 7\n");
    for name in ["CPATH", "C_INCLUDE_PATH"] {
        theatre.check(Place::Either, &scene.clone().env(name, "inc"));
    }
    theatre.check(Place::Either, &scene.clone().env("DEPENDENCIES_OUTPUT", "deps.d").env("CPATH", "inc"));
    let dated = Scene::new("gcc -c a.c").file("a.c", "const char d[] = __DATE__ __TIME__ __FILE__;\n");
    theatre.check(Place::Remote, &dated.env("SOURCE_DATE_EPOCH", "1000000000"));
    let said = Scene::new("gcc -Wall -Wextra -c a.c").file("a.c", UNUSED);
    theatre.check(Place::Either, &said.env("GCC_COLORS", "error=01;31").env("LC_ALL", "C.UTF-8"));
    theatre.close();
}

#[test]
fn inputs_that_options_name() {
    let theatre = Theatre::new();
    let scene = |command: &str| {
        Scene::new(command)
            .file("src/a.c", "#include \"h.h\"\n#include <i.h>\nint f(void) { return H + I + P; }\n")
            .file("inc/h.h", "#define H 1\n")
            .file("sys/i.h", "#define I 1\n")
            .file("pre.h", "#define P 1\n")
    };
    theatre.check(Place::Remote, &scene("gcc -Iinc -isystem sys -include pre.h -c src/a.c"));
    theatre.check(Place::Remote, &scene("gcc -iquote inc -idirafter sys -imacros pre.h -c src/a.c -o a.o"));
    theatre.check(Place::Remote, &scene("clang -Iinc -isystem sys -include pre.h -c src/a.c"));
    let incbin = "asm(\".section .rodata\\n.incbin \\\"blob\\\"\\n\");\nint x;\n";
    let scene = Scene::new("gcc -c a.c").file("a.c", incbin).file("blob", "client's own bytes");
    theatre.check(Place::Local("text"), &scene);
    theatre.close();
}

#[test]
fn paths_in_debug_information_are_the_clients() {
    let theatre = Theatre::new();
    for compiler in ["gcc", "clang"] {
        let directory = theatre.farm().work().join(format!("debug-{compiler}"));
        fs::create_dir_all(directory.join("src")).expect("our own directory");
        fs::write(directory.join("src/a.c"), "int f(int a)\n{\n    return a + 1;\n}\n")
            .expect("our own file");
        let path = directory.to_string_lossy().into_owned();
        let mut command = theatre.farm().command(crate::farm::SHIM);
        command.current_dir(&directory).args([compiler, "-g", "-O1", "-c", "src/a.c"]);
        crate::farm::run(command, crate::farm::COMMAND_MAX).expect_success("a compile with -g");
        let object = fs::read(directory.join("a.o")).expect("the object");
        let holds = |needle: &str| object.windows(needle.len()).any(|window| window == needle.as_bytes());
        assert!(holds("src/a.c"), "{compiler}: the source's name");
        assert!(holds(&path), "{compiler}: the working directory");
        assert!(
            !holds("volunteer0") && !holds("volunteer1"),
            "{compiler}: a volunteer's directory is in the object"
        );
    }
    assert_eq!(theatre.farm().total("remote"), 2, "{}", theatre.farm().status());
    theatre.close();
}
