//! C++20 modules on a volunteer that has nothing: compiled modules are read and made there as here.

use std::path::Path;

use crate::scene::{Place, Scene, Theatre};

const BAR: &str = "export module bar;\nexport inline int b(int x) { return x * 2; }\nexport int c();\n";
const PART: &str = "module;\n#include <stddef.h>\nexport module foo:part;\nexport size_t p() { return 3; }\n";
const FOO: &str = "module;\n#include \"h.h\"\nexport module foo;\nexport import :part;\nimport bar;\n\
    export inline int f(int x) { return b(x) + N; }\nexport int g(int unused);\n";
const IMPLEMENTATION: &str =
    "module;\n#include \"h.h\"\nmodule foo;\nimport bar;\nint g(int) { return b(N); }\n";
const IMPORTER: &str = "#include \"h.h\"\n#include <stddef.h>\n#ifdef N\nimport foo;\n#else\nimport nowhere;\n#endif\n\
    int main(int unused, char **v) { return f(unused) + p() + g(4); }\n";

/// The files of a project with modules, all of one age.
fn project(command: &str) -> Scene {
    Scene::new(command)
        .file("bar.cppm", BAR)
        .file("part.cppm", PART)
        .file("foo.cppm", FOO)
        .file("impl.cc", IMPLEMENTATION)
        .file("use.cc", IMPORTER)
        .file("h.h", "#define N 7\n")
}

/// A command among compiled modules that are made here before it, as old as each other.
fn with_gcc(script: &'static str, command: &str) -> Scene {
    project(command).env("SOURCE_DATE_EPOCH", "1600000000").shell(script)
}

#[test]
fn interfaces_of_gcc_are_read_there_as_they_are_here() {
    let theatre = Theatre::bare();
    let made = "for f in bar part foo; do g++ -std=c++20 -fmodules-ts -x c++ -c $f.cppm -o $f.o || exit; done\n\
                exec \"$@\"";
    for command in [
        "g++ -g -std=c++20 -fmodules-ts -Wall -Wextra -c use.cc",
        "g++ -g -O2 -std=c++20 -fmodules-ts -MD -c use.cc -o u.o",
        "g++ -std=c++20 -fmodules-ts -MMD -c impl.cc -o u.o",
        // Made anew, in the place of those that are there.
        "g++ -g -std=c++20 -fmodules-ts -x c++ -c foo.cppm -o f.o",
        "g++ -std=c++20 -fmodules-ts -MD -x c++ -c part.cppm",
    ] {
        theatre.check(Place::Remote, &with_gcc(made, command));
    }
    // The first of all: its folder is made, too.
    let (umask, first) = ("umask 027; exec \"$@\"", "g++ -std=c++20 -fmodules-ts -x c++ -c part.cppm -o o.o");
    theatre.check(Place::Remote, &with_gcc(umask, first));
    theatre.close();
}

#[test]
fn a_map_says_where_interfaces_of_gcc_are() {
    let theatre = Theatre::bare();
    let made = "mkdir -p o/q; for f in bar part foo; do \
                g++ -std=c++20 -fmodules-ts -fmodule-mapper=map -x c++ -c $f.cppm -o $f.o || exit; done; exec \"$@\"";
    let maps = [
        "foo o/foo.gcm\nbar o/q/bar.gcm\nfoo:part o/p.gcm\n",
        "$root o\nfoo foo.gcm\nbar q/bar.gcm\nfoo:part foo-part.gcm\n",
    ];
    for map in maps {
        for command in [
            "g++ -g -std=c++20 -fmodules-ts -fmodule-mapper=map -MD -c use.cc -o u.o",
            "g++ -g -std=c++20 -fmodules-ts -fmodule-mapper=map -x c++ -c foo.cppm -o f.o",
        ] {
            theatre.check(Place::Remote, &with_gcc(made, command).file("map", map));
        }
    }
    theatre.close();
}

#[test]
fn what_gcc_cannot_repeat_or_nobody_can_follow_stays_here() {
    let theatre = Theatre::bare();
    let made = "g++ -std=c++20 -fmodules-ts -x c++ -c bar.cppm -o bar.o && exec \"$@\"";
    let check = |script, command: &str, scene: fn(Scene) -> Scene| {
        theatre.check(Place::Local("modules"), &scene(with_gcc(script, command)));
    };
    // Without the epoch an interface says when it was made.
    let untimed = "unset SOURCE_DATE_EPOCH; \"$@\"; s=$?; rm -r gcm.cache; exit $s";
    check(untimed, "g++ -std=c++20 -fmodules-ts -x c++ -c bar.cppm -o b.o", |scene| scene);
    // Headers that are modules, made and read, written or not.
    let header = "g++ -std=c++20 -fmodules-ts -x c++-header h.h && exec \"$@\"";
    check("exec \"$@\"", "g++ -std=c++20 -fmodules-ts -x c++-header h.h", |scene| scene);
    check(header, "g++ -std=c++20 -fmodules-ts -c a.cc", |scene| {
        scene.file("a.cc", "import \"h.h\";\nint n = N;\n")
    });
    check(header, "g++ -std=c++20 -fmodules-ts -c a.cc", |scene| {
        scene.file("a.cc", "#include \"h.h\"\nint n = N;\n")
    });
    // One that is not there: the compiler says so.
    check(made, "g++ -std=c++20 -fmodules-ts -c use.cc", |scene| scene);
    theatre.close();
}

/// Such clangs that are here as know modules of several parts.
pub fn clangs_with_partitions() -> Vec<String> {
    let names = (16..30).map(|version| format!("clang++-{version}"));
    let found: Vec<String> = names.filter(|name| Path::new("/usr/bin").join(name).exists()).collect();
    assert!(!found.is_empty(), "clang-16 or a newer one is not installed");
    found
}

/// Compiled modules that are made here before a command, as old as each other.
fn with_clang(compiler: &str, made: &str, command: &str) -> Scene {
    let script = format!("C='{compiler} -std=c++20 -g'; {made} touch -d @1600000001 *.pcm; exec \"$@\"");
    project(&format!("{compiler} -std=c++20 -g {command}"))
        .file("foo.cppm", FOO.replace("export import :part;\n", ""))
        .file("use.cc", IMPORTER.replace(" + p()", ""))
        .shell(script.leak())
}

/// The same where modules have parts.
fn with_partitions(compiler: &str, command: &str) -> Scene {
    let script = format!(
        "C='{compiler} -std=c++20 -g'; $C --precompile bar.cppm -o bar.pcm && $C --precompile part.cppm -o foo-part.pcm \
         && $C -fprebuilt-module-path=. --precompile foo.cppm -o foo.pcm && touch -d @1600000001 *.pcm && exec \"$@\""
    );
    project(&format!("{compiler} -std=c++20 -g {command}")).shell(script.leak())
}

#[test]
fn modules_of_the_usual_clang_are_read_and_made_there_as_they_are_here() {
    let theatre = Theatre::bare();
    let bar = "$C --precompile bar.cppm -o bar.pcm;";
    let both =
        "$C --precompile bar.cppm -o bar.pcm; $C -fprebuilt-module-path=. --precompile foo.cppm -o foo.pcm;";
    for (made, command) in [
        ("", "--precompile bar.cppm -o b.pcm"),
        ("", "-x c++-module --precompile bar.cppm -MD -o b.pcm"),
        (bar, "-fprebuilt-module-path=. --precompile foo.cppm -MD -o f.pcm"),
        (bar, "-fmodule-file=bar.pcm --precompile foo.cppm"),
        (bar, "-c bar.pcm -o b.o"),
        (both, "-c foo.pcm -o f.o"),
        (both, "-O2 -Wall -Wextra -fprebuilt-module-path=. -MD -c use.cc"),
        (both, "-fprebuilt-module-path=none -fprebuilt-module-path=. -c use.cc -o u.o"),
        (both, "-fmodule-file=foo.pcm -c use.cc -o u.o"),
        (both, "-fmodule-file=foo=foo.pcm -fmodule-file=bar=bar.pcm -MMD -c use.cc -o u.o"),
        (both, "-fmodule-file=foo.pcm -c impl.cc -o u.o"),
    ] {
        theatre.check(Place::Remote, &with_clang("clang++", made, command));
    }
    theatre.close();
}

#[test]
fn modules_of_newer_clangs_are_read_and_made_there_as_they_are_here() {
    let theatre = Theatre::bare();
    for compiler in clangs_with_partitions() {
        for command in [
            "-fprebuilt-module-path=. --precompile foo.cppm -MD -o f.pcm",
            "-fprebuilt-module-path=. -fmodule-output -c foo.cppm -o f.o",
            "-fprebuilt-module-path=. -fmodule-output=x.pcm -MD -x c++-module -c foo.cppm -o f.o",
            "-fprebuilt-module-path=. -c foo.pcm -o f.o",
            "-O2 -Wall -Wextra -fprebuilt-module-path=. -MD -c use.cc",
            "-fprebuilt-module-path=. -c impl.cc",
            "-fmodule-file=foo=foo.pcm -fmodule-file=bar=bar.pcm -fmodule-file=foo:part=foo-part.pcm -MD -c use.cc -o u.o",
            "-fmodule-file=foo=foo.pcm -fmodule-file=bar=bar.pcm -fmodule-file=foo:part=foo-part.pcm -c impl.cc -o i.o",
            "-fmodule-file=bar=bar.pcm -fmodule-file=foo:part=foo-part.pcm -c foo.pcm -o f.o",
        ] {
            theatre.check(Place::Remote, &with_partitions(&compiler, command));
        }
    }
    theatre.close();
}

#[test]
fn what_nobody_can_follow_of_clangs_modules_stays_here() {
    let theatre = Theatre::bare();
    let gone = "$C --precompile bar.cppm -o bar.pcm; $C -fprebuilt-module-path=. --precompile foo.cppm -o foo.pcm; rm bar.pcm;";
    let bar = "$C --precompile bar.cppm -o bar.pcm;";
    // One that is not there, and what reads one that is not there: the compiler says so.
    for (made, command) in
        [(bar, "-fprebuilt-module-path=. -c use.cc"), ("", "-fprebuilt-module-path=. -c impl.cc")]
    {
        theatre.check(Place::Local("modules"), &with_clang("clang++", made, command));
    }
    theatre.check(Place::Either, &with_clang("clang++", gone, "-fprebuilt-module-path=. -c use.cc"));
    // A name that a macro makes, and a header.
    for text in ["#define M bar\nimport M;\nint n = b(1);\n", "import \"h.h\";\nint n = N;\n"] {
        let scene = with_clang("clang++", bar, "-fprebuilt-module-path=. -c a.cc").file("a.cc", text);
        theatre.check(Place::Either, &scene);
    }
    theatre.close();
}

#[test]
fn what_cmake_says_in_its_maps_of_modules_is_followed_and_audited() {
    let theatre = Theatre::bare();
    for compiler in clangs_with_partitions() {
        let command = "-MD -MT u.o -MF u.o.d @u.o.modmap -o u.o -c";
        let importer = "-fmodule-file=\"foo=foo.pcm\"\n-fmodule-file=\"bar=bar.pcm\"\n-fmodule-file=\"foo:part=foo-part.pcm\"\n";
        let scene = with_partitions(&compiler, &format!("{command} use.cc")).file("u.o.modmap", importer);
        theatre.check(Place::Remote, &scene);
        let interface = "-x c++-module\n-fmodule-output=\"b.pcm\"\n";
        let scene = with_partitions(&compiler, &format!("{command} bar.cppm")).file("u.o.modmap", interface);
        theatre.check(Place::Remote, &scene);
    }
    theatre.close();
}
