//! What a compile reads besides its source and headers, on a volunteer that has none of it: precompiled
//! headers, files that assemblers read, what the include scanner does not follow and the compiler lists.

mod library;
mod textless;

use crate::farm::{COMMAND_MAX, Farm, SHIM, run};
use crate::scene::{Place, Scene, Theatre};

const HEADER: &str = "#ifndef H\n#define H\n#include <vector>\n#include \"inner.h\"\n#define N 3\n#endif\n";
const INNER: &str = "static inline int inner(int unused) { return 3; }\n";
const SOURCE: &str = "#include \"p.h\"\n#include <map>\n\
    int f(unsigned n) { std::vector<int> v(N); std::map<int, int> m; return v[0] < n ? inner(m[1]) : __LINE__; }\n";

/// A compile that has a precompiled header made first, with another command.
fn precompiled(script: &'static str, command: &str) -> Scene {
    let scene = Scene::new(command).file("p.h", HEADER).file("inner.h", INNER).file("a.cc", SOURCE);
    scene.file("inc/keep", "").shell(script)
}

fn sent_as_files(farm: &Farm) -> u64 {
    farm.status()["totals"]["sent_files"].as_u64().expect("a number")
}

#[test]
fn a_precompiled_header_of_gcc_is_used_there_as_it_is_here() {
    let theatre = Theatre::bare();
    // Two of them are never equal, so it goes before the folders are compared.
    for (script, commands) in [
        (
            "g++ -g -O1 -x c++-header p.h -o p.h.gch && \"$@\"; s=$?; rm p.h.gch; exit $s",
            [
                "g++ -g -O1 -Winvalid-pch -Wall -Wextra -H -fdiagnostics-color=always -c a.cc",
                "g++ -g -O1 -Winvalid-pch -MD -include p.h -c a.cc -o b.o",
            ],
        ),
        // One that does not fit is passed over, and said so.
        (
            "g++ -O2 -x c++-header p.h -o p.h.gch && \"$@\"; s=$?; rm p.h.gch; exit $s",
            ["g++ -g -O1 -Winvalid-pch -H -c a.cc", "g++ -g -O1 -MD -c a.cc"],
        ),
        // Several in a folder, of which one fits.
        (
            "mkdir p.h.gch && g++ -O2 -x c++-header p.h -o p.h.gch/1 && g++ -g -x c++-header p.h -o p.h.gch/2 \
             && \"$@\"; s=$?; rm -r p.h.gch; exit $s",
            ["g++ -g -Winvalid-pch -H -c a.cc", "g++ -g -MD -include p.h -c a.cc"],
        ),
        // In a folder without its header.
        (
            "g++ -g -x c++-header p.h -o inc/p.h.gch && \"$@\"; s=$?; rm inc/p.h.gch; exit $s",
            ["g++ -g -iquoteinc -Winvalid-pch -H -Iinc -c a.cc", "g++ -g -Iinc -include p.h -H -c a.cc"],
        ),
    ] {
        for command in commands {
            theatre.check(Place::Remote, &precompiled(script, command));
        }
    }
    theatre.close();
}

#[test]
fn a_precompiled_header_of_clang_is_used_there_as_it_is_here() {
    let theatre = Theatre::bare();
    for (script, command) in [
        (
            "clang++ -g -x c++-header p.h -o p.h.pch && \"$@\"; s=$?; rm p.h.pch; exit $s",
            "clang++ -g -Wall -Wextra -fcolor-diagnostics -include p.h -c a.cc",
        ),
        (
            "clang++ -g -x c++-header p.h -o p.pch && \"$@\"; s=$?; rm p.pch; exit $s",
            "clang++ -g -MD -include-pch p.pch -c a.cc",
        ),
        // What CMake says.
        (
            "clang++ -g -Xclang -emit-pch -Xclang -include -Xclang p.h -x c++-header -c inc/keep -o p.h.pch && \"$@\"; s=$?; rm p.h.pch; exit $s",
            "clang++ -g -MD -Wall -Xclang -include-pch -Xclang p.h.pch -Xclang -include -Xclang p.h -c a.cc -o a.o",
        ),
    ] {
        theatre.check(Place::Remote, &precompiled(script, command));
    }
    theatre.close();
}

#[test]
fn a_directory_of_precompiled_headers_is_opened_as_clang_opens_it_here() {
    let theatre = Theatre::bare();
    for script in [
        "mkdir p.h.pch && \"$@\"; s=$?; rm -r p.h.pch; exit $s",
        "mkdir p.h.pch && echo junk >p.h.pch/x && \"$@\"; s=$?; rm -r p.h.pch; exit $s",
        "mkdir p.h.pch && clang++ -DQ -x c++-header p.h -o p.h.pch/x && \"$@\"; s=$?; rm -r p.h.pch; exit $s",
        "mkdir p.h.pch && clang++ -x c++-header p.h -o p.h.pch/x && \"$@\"; s=$?; rm -r p.h.pch; exit $s",
    ] {
        theatre.check(Place::Either, &precompiled(script, "clang++ -include p.h -MD -c a.cc"));
    }
    theatre.close();
}

#[test]
fn precompiled_headers_that_are_made_there_are_as_good_as_those_made_here() {
    let theatre = Theatre::bare();
    // Of clang's, each byte is the same.
    for command in [
        "clang++ -g -x c++-header p.h -o p.h.pch",
        "clang++ -g -Xclang -emit-pch -Xclang -include -Xclang p.h -x c++-header -c inc/keep -o p.h.pch",
        "clang++ -Xclang -fno-pch-timestamp -x c++-header p.h -o p.h.pch",
    ] {
        theatre.check(
            Place::Remote,
            &precompiled("touch -d @1600000000 p.h inner.h inc/keep && exec \"$@\"", command),
        );
    }
    // As CMake makes it anew: the last one is still there.
    let again = "echo old >p.h.pch; touch -d @1500000000 p.h.pch; touch -d @1600000000 p.h inner.h inc/keep && exec \"$@\"";
    let command =
        "clang++ -g -Xclang -emit-pch -Xclang -include -Xclang p.h -x c++-header -c inc/keep -o p.h.pch";
    theatre.check(Place::Remote, &precompiled(again, command));
    // Of gcc's, no two are; what counts is that this compiler takes it: `!` in front of its name.
    let folder = theatre.farm().work().join("made");
    std::fs::create_dir(&folder).expect("our own folder");
    for (name, text) in [("p.h", HEADER), ("inner.h", INNER), ("a.cc", SOURCE)] {
        std::fs::write(folder.join(name), text).expect("written");
    }
    let before = sent_as_files(theatre.farm());
    let run_here = |program: &str, line: &str| {
        let mut command = theatre.farm().command(program);
        command.args(line.split(' ')).current_dir(&folder);
        run(command, COMMAND_MAX)
    };
    let made = run_here(SHIM, "g++ -g -x c++-header p.h -o p.h.gch");
    assert!(made.status.success(), "{made:?}");
    assert_eq!(sent_as_files(theatre.farm()), before + 1);
    let used = run_here("g++", "-g -Winvalid-pch -H -c a.cc");
    assert!(String::from_utf8_lossy(&used.stderr).starts_with("! p.h.gch\n"), "{used:?}");
    theatre.close();
}

#[test]
fn a_header_that_changed_is_not_mistaken_for_what_was_precompiled() {
    let theatre = Theatre::bare();
    let stale = "g++ -x c++-header p.h -o p.h.gch && touch -d '1 hour ago' p.h.gch \
                 && echo '#define M 1' >>p.h && \"$@\"; s=$?; rm p.h.gch; exit $s";
    theatre.check(Place::Local("text"), &precompiled(stale, "g++ -include p.h -c a.cc"));
    let rejected = "clang++ -x c++-header p.h -o p.h.pch && sleep 1.1 && echo >>inner.h && \"$@\"; s=$?; rm -f p.h.pch; exit $s";
    theatre.check(Place::Either, &precompiled(rejected, "clang++ -include p.h -c a.cc"));
    theatre.close();
}

#[test]
fn what_the_scanner_does_not_follow_the_compiler_lists() {
    let theatre = Theatre::bare();
    let probing = "int spl\\\nit;\n#import \"once.h\"\n#import \"twin.h\"\n#if __has_include(\"there.h\")\nint there;\n#endif\n\
                   #if __has_include(\"not.h\")\n#error no\n#endif\nint x = ONCE;\n";
    let once = "#define ONCE __COUNTER__\n";
    let imports = |command: &str| {
        let scene = Scene::new(command).file("a.c", probing).file("once.h", once).file("twin.h", once);
        scene.file("there.h", "")
    };
    let incbin = "__asm__(\".section .rodata\\n.incbin \\\"data/blob.bin\\\"\\n.text\");\nint x;\n";
    let macros = "#define BIN(name, file) __asm__(\".section .rodata\\n\" #name \": .incbin \\\"\" file \"\\\"\\n.text\")\n\
                  BIN(blob, \"blob.bin\");\nint x;\n";
    let assembly = "#include \"x.h\"\n.include \"more.s\"\n.incbin \"blob.bin\"\n";
    let assembly_alone = ".include \"more.s\"\n.incbin \"inc/blob.bin\"\n";
    let with_files = |command: &str, name: &str, text: &str| {
        let scene =
            Scene::new(command).file(name, text).file("data/blob.bin", "data").file("inc/blob.bin", "x");
        scene.file("blob.bin", "here").file("more.s", ".byte 1\n").file("x.h", "#define X\n")
    };
    for (at, scene) in [
        imports("gcc -g -c a.c"),
        imports("clang -g -MD -c a.c"),
        imports("gcc -g -Wall -Wextra -MD -MF x.d -c a.c -o o.o"),
        with_files("gcc -g -c a.c", "a.c", incbin),
        with_files("clang -g -c a.c", "a.c", incbin),
        with_files("gcc -O2 -Wall -c a.c", "a.c", macros),
        with_files("gcc -c a.S", "a.S", assembly),
        with_files("gcc -c a.S", "a.S", ".include \"deep.s\"\n").file("deep.s", assembly_alone),
        with_files("gcc -c -traditional-cpp -g a.c", "a.c", "#include \"x.h\"\nint a;\n"),
        with_files("gcc -g -c -finput-charset=latin1 a.c", "a.c", "#include \"x.h\"\nint a; /* \u{e4} */\n"),
        with_files("clang -g -c -x objective-c a.c", "a.c", "#import \"x.h\"\nint a;\n"),
    ]
    .iter()
    .enumerate()
    {
        theatre.check(Place::Remote, scene);
        let totals = &theatre.farm().status()["totals"];
        assert_eq!(totals["listed"], at + 1, "{scene:?}: {totals}");
    }
    // Of these nobody can tell.
    let unclear = "int spl\\\nit;\n#define WHAT \"there.h\"\n#import \"there.h\"\n#if __has_include(WHAT)\nint there;\n#endif\n";
    let text = Place::Local("no-text-compiler");
    theatre.check(text, &Scene::new("gcc -c a.c").file("a.c", unclear).file("there.h", ""));
    let clock = "int spl\\\nit;\n#include \"there.h\"\nconst char *t = __TIMESTAMP__;\n";
    theatre.check(text, &Scene::new("gcc -c a.c").file("a.c", clock).file("there.h", ""));
    let totals = &theatre.farm().status()["totals"];
    assert_eq!(
        (&totals["listed"], &totals["sent_texts"]["scan: a word over two lines"]),
        // Once it is known that the volunteer has not the compiler, no text is sent there.
        (&11.into(), &1.into()),
        "{totals}"
    );
    theatre.close();
}

/// clang said that `-MD` was not used, which nobody had written: the volunteer asks by it what was read.
#[test]
fn clang_says_nothing_of_options_that_a_volunteer_adds() {
    let theatre = Theatre::bare();
    let text = "# 1 \"a.c\"\nint f(int n) { int unused; return n; }\n";
    let of = |command: &str, name: &str| Scene::new(command).file(name, text);
    for scene in [
        of("clang -Wall -Wextra -g -c a.i", "a.i"),
        of("clang++ -Wall -Werror=unused-command-line-argument -c a.ii -o b.o", "a.ii"),
        of("clang -Wall -x cpp-output -c a.txt", "a.txt"),
    ] {
        theatre.check(Place::Remote, &scene);
    }
    theatre.close();
}

/// In debug information of an assembler text in which nothing has a place, clang has the folder for temporary files,
/// which there is another: such a text had to stay, and all others with it.
#[test]
fn clang_names_the_folder_for_temporary_files_of_this_machine() {
    let theatre = Theatre::bare();
    let of = |command: &str, text: &str| Scene::new(command).file("a.S", text);
    let (code, data) = ("#define X 3\n.long X\nf: nop\n", "#ifdef X\nnop\n#endif\n.long 3\n");
    for remote in [of("clang -g -c a.S", code), of("clang -g0 -c a.S", data), of("gcc -g -c a.S", data)] {
        theatre.check(Place::Remote, &remote);
    }
    let told = ["-g", "-g -fdebug-prefix-map=/=q"].map(|words| (words, data));
    // No places; and nothing that can be looked at.
    for (words, text) in told.into_iter().chain([("-g -P", code), ("-g -gz", code)]) {
        theatre.check(Place::Local("option"), &of(&format!("clang {words} -c a.S"), text));
    }
    theatre.close();
}

/// The compiler was asked what they read, at the price of preprocessing.
#[test]
fn what_is_imported_is_scanned() {
    let theatre = Theatre::bare();
    let source = "#import \"once.h\"\n#import <twin.h>\n#include \"once.h\"\n#import \"later.h\"\n\
                  #define NAME \"sub/once.h\"\n#import NAME\nint x = ONCE + LATER + SUB;\n";
    let text = "#ifdef ONCE\n#error twice\n#endif\n#define ONCE 1\n";
    let scene = |command: &str| {
        let scene = Scene::new(command).file("a.c", source).file("once.h", text).file("inc/twin.h", "");
        let scene = scene.file("later.h", "#include \"once.h\"\n#import \"once.h\"\n#define LATER 2\n");
        scene.file("sub/once.h", "#import \"../later.h\"\n#define SUB 3\n")
    };
    for command in [
        "gcc -g -Iinc -c a.c",
        "gcc -Wall -Wextra -pedantic -MD -Iinc -c a.c -o o.o",
        "clang -g -Iinc -Wall -pedantic -MD -c a.c",
        "g++ -g -Iinc -x c++ -c a.c",
    ] {
        theatre.check(Place::Remote, &scene(command));
    }
    let totals = &theatre.farm().status()["totals"];
    assert_eq!((&totals["listed"], &totals["sent_files"]), (&0.into(), &4.into()), "{totals}");
    theatre.close();
}

/// They were compiled here, each of them: no preprocessor tells what they read, and none need tell it.
/// gcc shows lines of the file that `#line` names, which no dependency file lists: warnings about what a
/// parser generator made came back without them.
#[test]
fn lines_of_the_file_that_a_line_directive_names_are_shown() {
    let theatre = Theatre::bare();
    let made = |line: &str| format!("{line}\nint f(int n) {{ int unused; return n == 1.5; }}\n");
    let grammar = "%%\nrule: int f(int n) { int unused; of the grammar }\n";
    // Another grammar of the same name must be seen as well, though nothing else changed.
    let other = "%%\nrule: [ another rule, which is shown in its turn ]\n";
    let gcc = "gcc -Wall -Wextra -fdiagnostics-color=always -MD -c src/a.c -o a.o";
    for (command, line) in [
        (gcc, "#line 2 \"g/my.y\""),
        (gcc, "#define NAME \"g/my.y\"\n#line 2 NAME"),
        (gcc, "# 2 \"g/my.y\""),
        (gcc, "#line 2 \"g/../g/none.y\""),
        ("clang -Wall -Wextra -fcolor-diagnostics -MD -c src/a.c -o a.o", "#line 2 \"g/my.y\""),
    ] {
        for grammar in [grammar, other] {
            let scene = Scene::new(command).file("src/a.c", made(line)).file("g/my.y", grammar);
            theatre.check(Place::Remote, &scene);
        }
    }
    let text = made("# 2 \"g/my.y\"");
    let preprocessed = Scene::new("gcc -Wall -Wextra -c a.i").file("a.i", text).file("g/my.y", grammar);
    theatre.check(Place::Remote, &preprocessed);
    theatre.close();
}

#[test]
fn assembler_texts_travel() {
    let theatre = Theatre::bare();
    let text = ".text\n.globl f\nf:\n\tret\n\t.section .note.GNU-stack,\"\",@progbits\n";
    for command in [
        "gcc -c a.s",
        "gcc -g -O2 -Wa,--noexecstack -Iinc -MMD -MF a.d -MT a.o -c -o a.o a.s",
        "clang -g -c a.s -o b.o",
        "gcc -x assembler -c a.s -o b.o",
    ] {
        theatre.check(Place::Remote, &Scene::new(command).file("a.s", text).file("inc/keep", ""));
    }
    // What it reads besides is found where it is spelt out; else it is assembled here.
    let blob = Scene::new("gcc -c a.s").file("a.s", ".data\n.incbin \"blob.bin\"\n").file("blob.bin", "data");
    theatre.check(Place::Remote, &blob);
    let elsewhere =
        Scene::new("gcc -Iinc -c a.s").file("a.s", ".include \"x.inc\"\n").file("inc/x.inc", "nop\n");
    theatre.check(Place::Either, &elsewhere);
    theatre.check(Place::Local("language"), &Scene::new("gcc -S a.s -o b.s").file("a.s", text));
    theatre.close();
}

/// Once lists had been dearer than texts in a broker, all that the scanner declines stayed here for good.
#[test]
fn what_no_text_can_carry_is_listed_however_dear_lists_are() {
    let theatre = Theatre::bare();
    let blob = "__asm__(\".incbin \\\"b.bin\\\"\");\nint a;\n";
    let scene = |compiler: &str, text: &str| {
        let scene = Scene::new(&format!("{compiler} -c a.c")).file("a.c", text);
        scene.file("b.bin", "data").file("x.h", "")
    };
    let declarations: String =
        (0..100_000).map(|number| format!("extern int of_no_use_{number};\n")).collect();
    theatre.check(Place::Remote, &scene("gcc", &(blob.to_owned() + &declarations)));
    // Of this nobody can tell, and no volunteer has the compiler; the text was cheap.
    let unclear = "int spl\\\nit;\n#include \"x.h\"\nconst char *t = __TIMESTAMP__;\n";
    theatre.check(Place::Local("no-text-compiler"), &scene("clang", unclear));
    theatre.check(Place::Remote, &scene("gcc", blob));
    theatre.check(Place::Remote, &scene("clang", "int spl\\\nit;\n#include \"x.h\"\nint a;\n"));
    theatre.close();
}

/// As Linux is built: all its assembly stayed here.
#[test]
fn assembly_whose_debug_information_the_assembler_makes_travels() {
    let theatre = Theatre::bare();
    let text = "#include \"k.h\"\n.text\n.globl f\nf:\n\tWORD\n\tret\n";
    let scene = |command: &str, place| {
        let scene = Scene::new(command).file("o/a.S", text).file("o/k.h", "#define WORD nop\n");
        theatre.check(place, &scene.file("o/a.s", ".text\nf:\tret\n").file("o/a.c", "int f;\n"));
    };
    for command in [
        "gcc -Io -Wa,-gdwarf-5 -c o/a.S -o o/a.o",
        "gcc -D__ASSEMBLY__ -Wp,-MMD,o/a.d -m64 -Wa,--gdwarf-4 -c -o a.o o/a.S",
        "gcc -g -Wa,-g -c o/a.S",
        "gcc -Xassembler -gdwarf-5 -c o/a.s",
        "gcc -P -Wa,-gdwarf-5 -c o/a.s",
    ] {
        scene(command, Place::Remote);
    }
    // There the folder of the compiler's temporary file is named.
    scene("clang -Wa,-gdwarf-5 -c o/a.S", Place::Local("option"));
    theatre.close();
}

/// clang's own intermediate code was not taken for an object.
#[test]
fn intermediate_code_travels() {
    let theatre = Theatre::bare();
    for command in [
        "clang -emit-llvm -O1 -g -MD -c a.c",
        "clang -emit-llvm -S a.c",
        "clang -c -emit-llvm a.c -o x.o",
        "clang -flto=thin -O2 -c a.c",
        "gcc -flto -frandom-seed=a -O2 -c a.c",
    ] {
        theatre.check(
            Place::Remote,
            &Scene::new(command).file("a.c", "int f(int x) { return x + __LINE__; }\n"),
        );
    }
    theatre.close();
}

/// Options that only the linker hears made the scanner decline, so that the compiler preprocessed each file.
#[test]
fn what_the_linker_is_told_does_not_keep_files_from_being_scanned() {
    let theatre = Theatre::bare();
    let source = "#include <stdio.h>\nint f(void) { return puts(__FILE__); }\n";
    for command in [
        "gcc -g -static-libgcc -fuse-ld=bfd -Wl,-z,now -z now -L/x -lm -nolibc -c a.c",
        "g++ -g -static-libstdc++ -static-libgcc -rdynamic -finput-charset=UTF-8 -c a.c",
        "clang -g -static-libgcc -no-canonical-prefixes -c a.c",
    ] {
        theatre.check(Place::Remote, &Scene::new(command).file("a.c", source));
    }
    assert_eq!(theatre.farm().status()["totals"]["listed"], 0);
    theatre.close();
}

/// What means this machine was compiled here wherever volunteers had no compilers of their own.
#[test]
fn this_machine_is_spelt_out_for_files() {
    let theatre = Theatre::bare();
    let source = "#include <stddef.h>\nfloat f(const float *x, size_t n) { float s = 0; \
        for (size_t i = 0; i < n; i++) s += x[i] * x[n - i]; return s; }\n";
    for command in [
        "gcc -O3 -ffast-math -march=native -mtune=native -MD -c a.c",
        "gcc -march=native -O3 -mno-avx512f -fPIC -c a.c -o b.o",
        "clang -O3 -ffast-math -march=native -MD -c a.c",
        "clang -g -O3 -march=native -mtune=native -fPIC -c a.c -o b.o",
    ] {
        theatre.check(Place::Remote, &Scene::new(command).file("a.c", source));
    }
    let flags = Scene::new("gcc @flags -c a.c").file("a.c", source).file("flags", "-O3 -march=native\n");
    theatre.check(Place::Remote, &flags);
    // clang's own features must stand behind the machine's, and it notes what it is told.
    for command in
        ["clang -O3 -march=native -mno-avx -c a.c", "clang -g -march=native -grecord-command-line -c a.c"]
    {
        theatre.check(Place::Local("native"), &Scene::new(command).file("a.c", source));
    }
    theatre.close();
}

/// gcc notes its options in debug information and elsewhere, in an order that spelling this machine out as
/// options changes: such compiles stayed here.
#[test]
fn this_machine_travels_with_debug_information() {
    let theatre = Theatre::bare();
    let source = "#include <stddef.h>\nfloat f(const float *x, size_t n) { float s = 0; \
        for (size_t i = 0; i < n; i++) s += x[i] * x[n - i]; return s; }\n";
    for command in [
        "gcc -g -O3 -march=native -Wall -MD -c a.c",
        "g++ -x c++ -g3 -mno-avx512f -march=native -O2 -mtune=native -c a.c",
        "gcc -mtune=native -g -gsplit-dwarf -O2 -c a.c -o b.o",
        "gcc -m32 -march=native -g -DX=1 -ffreestanding -c a.c",
        "gcc -O2 -march=native -flto -frandom-seed=1 -c a.c",
        "gcc -O2 -march=native -frecord-gcc-switches -save-temps -c a.c",
        "gcc -O2 -march=native -fverbose-asm -S a.c",
        "clang -O2 -march=native -flto=thin -c a.c",
        "clang -O2 -march=native -g -gsplit-dwarf -c a.c",
    ] {
        theatre.check(Place::Remote, &Scene::new(command).file("a.c", source));
    }
    let flags = Scene::new("gcc @flags -c a.c").file("a.c", source).file("flags", "-g -march=native\n");
    theatre.check(Place::Remote, &flags);
    // gcc warns of this one, by its name.
    let deprecated = Scene::new("gcc -O2 -mcpu=native -c a.c").file("a.c", source);
    theatre.check(Place::Local("native"), &deprecated);
    // Specs of the command's own may say otherwise.
    let specs = Scene::new("gcc -specs=./own.specs -g -march=native -c a.c").file("a.c", source);
    theatre.check(Place::Local("native"), &specs.file("own.specs", "*cc1_options:\n+ %{!fpie:-fPIE}\n"));
    theatre.close();
}

/// A project in `/dev/shm` was taken for a device, and stayed here.
#[test]
fn files_that_are_kept_in_memory_are_files() {
    let theatre = Theatre::bare();
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder");
    let (source, object) = (folder.path().join("a.c"), folder.path().join("a.o"));
    std::fs::write(&source, "int f(void) { return 1; }\n").expect("a file");
    for output in ["a.o", object.to_str().expect("a plain name")] {
        let command = format!("gcc -g -MD -c {} -o {output}", source.display());
        theatre.check(Place::Remote, &Scene::new(&command));
    }
    assert!(object.is_file());
    theatre.close();
}

/// What tells the date stayed here even where the environment says which one.
#[test]
fn a_date_that_the_environment_decides_travels() {
    let theatre = Theatre::bare();
    let now = "#include \"x.h\"\nconst char *t = WHEN;\n";
    let scene = |command: &str, word: &str| {
        Scene::new(command).file("a.c", now).file("x.h", format!("#define WHEN {word}\n"))
    };
    let at =
        |epoch: &'static str, word: &str| scene("gcc -g -MD -c a.c", word).env("SOURCE_DATE_EPOCH", epoch);
    for word in ["__DATE__", "__TIME__", "__DATE__ \" \" __TIME__"] {
        theatre.check(Place::Remote, &at("1000000000", word));
    }
    theatre.check(Place::Remote, &at("0", "__TIME__"));
    theatre.check(Place::Remote, &at("253402300799", "__DATE__"));
    let warned = scene("gcc -Wdate-time -c a.c", "__TIME__").env("SOURCE_DATE_EPOCH", "5");
    theatre.check(Place::Remote, &warned);
    // The compiler lists these, for the scanner does not follow them.
    let listed = Scene::new("gcc -c a.c").file("x.h", "").env("SOURCE_DATE_EPOCH", "7");
    let listed = listed.file("a.c", "int spl\\\nit;\n#include \"x.h\"\nconst char *t = __TIME__;\n");
    theatre.check(Place::Remote, &listed);
    // The time of the file itself; values that gcc refuses or reads in its own way; a clang that asks the
    // clock whatever is said: all that is known of these is here.
    theatre.check(Place::Local("no-text-compiler"), &at("1000000000", "__TIMESTAMP__"));
    for epoch in ["", "x", "-1", "253402300800"] {
        theatre.check(Place::Either, &at(epoch, "__DATE__"));
    }
    assert_eq!(sent_as_files(theatre.farm()), 7, "{}", theatre.farm().status());
    // Whoever has another epoch, or none, has another date.
    theatre.check(Place::Remote, &scene("gcc -g -MD -c a.c", "__DATE__"));
    theatre.check(Place::Local("no-text-compiler"), &scene("clang -c a.c", "__DATE__"));
    // A definition in the command mentions it as well.
    let defined = Scene::new("gcc -DWHEN=__DATE__ -c a.c").file("a.c", "const char *t = WHEN;\n");
    theatre.check(Place::Remote, &defined);
    theatre.check(Place::Remote, &defined.env("SOURCE_DATE_EPOCH", "1000000000"));
    theatre.close();
}
