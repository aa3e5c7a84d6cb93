//! Precompiled headers of gcc's whose texts lie where nobody looks for them, as meson has them made.

use crate::farm::{COMMAND_MAX, SHIM, run};
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

/// gcc has emptied its output by the time that it looks for precompiled headers. The old one was taken for the header that
/// `-include` names: such a header was made here if anything in it had changed, or else there in vain.
#[test]
fn a_precompiled_header_that_is_made_anew_is_not_made_of_itself() {
    let theatre = Theatre::bare();
    let fresh = "gcc -x c-header all.h -o all.h.gch && exec \"$@\"";
    let stale = "gcc -x c-header all.h -o all.h.gch && touch -d '1 hour ago' all.h.gch && exec \"$@\"";
    let folder = theatre.farm().work().join("made");
    for script in [fresh, stale] {
        std::fs::create_dir_all(&folder).expect("our own folder");
        for (name, text) in [
            ("all.h", "#include \"v.h\"\n"),
            ("v.h", "int v;\n"),
            ("e.c", ""),
            ("u.c", "#include \"all.h\"\n"),
        ] {
            std::fs::write(folder.join(name), text).expect("written");
        }
        let run_there = |words: &[&str]| {
            let mut command = theatre.farm().command("sh");
            command.args(words).current_dir(&folder);
            run(command, COMMAND_MAX)
        };
        let before = theatre.farm().total("remote");
        let line = "gcc -Winvalid-pch -x c-header -include ./all.h -MD -MF d -o all.h.gch -c e.c";
        let make: Vec<&str> = ["-c", script, "sh", SHIM].into_iter().chain(line.split(' ')).collect();
        run_there(&make).expect_success("made");
        assert_eq!(theatre.farm().total("remote"), before + 1, "{}", theatre.farm().status());
        let used = run_there(&["-c", "gcc -H -include ./all.h -c u.c"]).expect_success("used");
        assert!(String::from_utf8_lossy(&used.stderr).starts_with("! ././all.h.gch"), "{used:?}");
    }
    theatre.close();
}
