//! Precompiled headers of gcc's whose texts lie where nobody looks for them, as meson has them made.

use crate::scene::{Place, Scene, Theatre};

const MADE: &str =
    "mkdir p && gcc -O1 -MD -MF p/d -o p/all.h.gch -c pch/all.h && \"$@\"; s=$?; rm -r p; exit $s";
const MADE_SILENTLY: &str =
    "mkdir p && gcc -O1 -o p/all.h.gch -c pch/all.h && \"$@\"; s=$?; rm -r p; exit $s";

/// Each of them was compiled here: the scanner found no such file, and the preprocessor alone reads no such header.
#[test]
fn precompiled_headers_whose_texts_lie_elsewhere_are_used_there() {
    let theatre = Theatre::bare();
    let of = |command: &str, script| {
        let scene = Scene::new(command).file("pch/all.h", "#include <stdio.h>\n#define NAME \"own.h\"\n");
        let scene = scene.file("a.c", "#include NAME\nint main(void) { puts(OWN); }\n");
        let scene =
            scene.file("b.c", "#include \"all.h\"\n#include NAME\nint f(int a) { return puts(OWN); }\n");
        scene.file("own.h", "#define OWN \"own\"\n").shell(script)
    };
    for command in [
        "gcc -O1 -Ip -fpch-preprocess -include all.h -MD -MF a.d -c a.c",
        "gcc -O1 -Ip -include all.h -c a.c -o o.o",
        "gcc -O1 -Wall -Wextra -Ip -c b.c",
    ] {
        theatre.check(Place::Remote, &of(command, MADE));
    }
    // It does not say what it was made of, so nobody knows what its macros ask for.
    let silent = of("gcc -O1 -Ip -fpch-preprocess -include all.h -c a.c", MADE_SILENTLY);
    theatre.check(Place::Local("option"), &silent);
    theatre.close();
}
