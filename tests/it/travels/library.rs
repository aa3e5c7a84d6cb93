//! Sources that include C++ libraries and that the compiler itself has to list the inputs of.

use crate::scene::{Place, Scene, Theatre};

/// libstdc++ declares `struct __has_##_NTYPE`, and somewhere says `include`: it might have been a query.
#[test]
fn what_includes_the_standard_library_is_listed_like_all_else() {
    let theatre = Theatre::bare();
    let headers = "#include <iostream>\n#include <string>\n#include <vector>\n#include <memory>\n";
    let incbin = "asm(\".section .rodata\\n.incbin \\\"blob.bin\\\"\\n.text\");\nstd::string x;\n";
    let of = |command: &str| {
        let scene = Scene::new(command).file("a.cc", &format!("{headers}{incbin}")).file("blob.bin", "data");
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
