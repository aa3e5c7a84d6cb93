//! Sources that include C++ libraries and that the compiler itself has to list the inputs of.

use std::fs;

use crate::farm::{COMMAND_MAX, SHIM, run};
use crate::scene::{Place, Scene, Theatre};

/// libstdc++ declares `struct __has_##_NTYPE`, and somewhere says `include`: it might have been a query.
#[test]
fn what_includes_the_standard_library_is_listed_like_all_else() {
    let theatre = Theatre::bare();
    let headers = "#include <iostream>\n#include <string>\n#include <vector>\n#include <memory>\n";
    let incbin = "asm(\".section .rodata\\n.incbin \\\"blob.bin\\\"\\n.text\");\nstd::string x;\n";
    let of = |command: &str| {
        let scene = Scene::new(command).file("a.cc", format!("{headers}{incbin}")).file("blob.bin", "data");
        scene.file("p.h", headers).file("b.cc", "std::string f() { return \"x\"; }\n")
    };
    let precompiled = "clang++ -g -x c++-header p.h -o p.pch && \"$@\"; s=$?; rm p.pch; exit $s";
    for scene in [
        of("g++ -g -c a.cc"),
        of("clang++ -g -MD -c a.cc"),
        of("g++ -std=c++20 -O1 -c a.cc"),
        of("clang++ -g -MD -include-pch p.pch -c b.cc").shell(precompiled),
    ] {
        theatre.check(Place::Remote, &scene);
    }
    theatre.close();
}

/// gcc says of such folders only where they are in the end, and passes over them where it does not find the link: the
/// object was that of another header, or of none.
#[test]
fn headers_of_a_sysroot_are_found_through_links() {
    let theatre = Theatre::bare();
    let queries = "#if __has_include(<zz.h>)\nint has;\n#endif\nint k;\n";
    let of = |command: &str, script: &'static str| {
        let scene = Scene::new(command).file("q.c", queries).file("f.c", "#include <zz.h>\n");
        let scene = scene.file("i/zz.h", "int other;\n").file("p/include/zz.h", "int zz;\n");
        scene.file("p/inc/zz.h", "int inc;\n").shell(script)
    };
    // As musl-cross-make has it, and others.
    let dot = "ln -sfn . p/usr && exec \"$@\"";
    let deep = "mkdir -p p/usr && ln -sfn ../inc p/usr/include && exec \"$@\"";
    let machine =
        "mkdir -p p/usr/include && ln -sfn ../../inc p/usr/include/$(gcc -dumpmachine) && exec \"$@\"";
    for scene in [
        of("gcc --sysroot=p -c q.c", dot),
        of("gcc --sysroot p -idirafter i -MD -c f.c", dot),
        of("g++ -isysroot p -x c++ -c q.c", deep),
        of("gcc -isysrootp -idirafter i -c f.c", deep),
        of("gcc --sysroot=p -c q.c", machine),
        of("clang --sysroot=p -c q.c", dot),
    ] {
        theatre.check(Place::Remote, &scene);
    }
    theatre.close();
}

/// clang looks below a sysroot for a gcc, as Debian's and others have one there, and takes that one's headers: on a volunteer
/// there was none.
#[test]
fn the_gcc_in_a_sysroot_is_clangs_guide_there_as_it_is_here() {
    let theatre = Theatre::bare();
    let of = |command: &str| {
        let scene = Scene::new(command).file("q.cc", "#if __has_include(<own>)\nint has;\n#endif\nint k;\n");
        let scene = scene.file("q.c", "#if __has_include(<own.h>)\nint has;\n#endif\nint k;\n");
        let scene =
            scene.file("f.cc", "#include <own>\nint k;\n").file("s/usr/include/c++/12/own", "int own;\n");
        let scene = scene.file("s/usr/lib/gcc/x86_64-linux-gnu/12/crtbegin.o", "");
        scene.file("s/usr/x86_64-linux-gnu/include/own.h", "int own;\n")
    };
    for command in [
        "clang++ --sysroot=s -c q.cc",
        "clang++ --sysroot s -g -MD -c f.cc",
        "clang --sysroot=s -c q.c",
        "clang++ --target=x86_64-linux-gnu --sysroot=./s/ -c f.cc",
    ] {
        theatre.check(Place::Remote, &of(command));
    }
    theatre.close();
}

/// Apple's say which they are, in objects, too: what was in that file, no volunteer knew.
#[test]
fn the_version_of_a_system_of_apples_is_that_of_now() {
    let theatre = Theatre::bare();
    let folder = theatre.farm().work().join("made");
    fs::create_dir_all(folder.join("sdk/usr/include")).expect("our own folder");
    fs::write(folder.join("a.c"), "int x;\n").expect("written");
    for version in ["11.3", "12.1"] {
        let settings = format!("{{\"Version\":\"{version}\",\"MaximumDeploymentTarget\":\"{version}.99\"}}");
        fs::write(folder.join("sdk/SDKSettings.json"), settings).expect("written");
        let objects = ["clang", SHIM].map(|program| {
            let mut command = theatre.farm().command(program);
            command.args((program == SHIM).then_some("clang")).current_dir(&folder);
            command.args("--target=x86_64-apple-macosx10.15 -isysroot sdk -c a.c".split(' '));
            run(command, COMMAND_MAX).expect_success("compiled");
            fs::read(folder.join("a.o")).expect("an object")
        });
        assert!(objects[0] == objects[1], "{version}");
    }
    assert_eq!(theatre.farm().total("remote"), 2, "{}", theatre.farm().status());
    theatre.close();
}

/// gcc's warning was lost where it is the compiler that lists what is read.
#[test]
fn a_file_among_the_folders_of_headers_is_warned_of() {
    let theatre = Theatre::bare();
    for (command, reason) in [
        ("gcc -Ip1 -c -Ip2 -finput-charset=latin1 a.c", "option"),
        ("gcc --sysroot=. -I=/p1 -c -Ip2 a.c", "no-text-compiler"),
    ] {
        let scene = Scene::new(command).file("a.c", "#include \"h.h\"\nint a;\n").file("p2/h.h", "int h;\n");
        theatre.check(Place::Local(reason), &scene.file("p1", "x\n"));
    }
    theatre.close();
}
