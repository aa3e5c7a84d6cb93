//! Odd inputs on a volunteer that has nothing: names, contents, lengths, links and options that others
//! stumble over. What comes of them is what comes of them here: files, messages and status.

use crate::scene::{Place, Scene, Theatre};

const PLAIN: &str = "static const char *name = __FILE__;\nconst char *f(void) { return name; }\n";

#[test]
fn names_of_sources_and_outputs() {
    let theatre = Theatre::bare();
    let names: [&[u8]; 13] = [
        b"with space.c",
        b"trailing .c ",
        b"not\xffutf8.c",
        b"new\nline.c",
        b"tab\there.c",
        b"./-dash.c",
        b"./@at.c",
        b"quote\"'`.c",
        b"back\\slash.c",
        b"$dollar#hash%.c",
        b"glob*?[a].c",
        b"colon:equals=comma,.c",
        "\u{e9}t\u{e9}/\u{1f980}.c".as_bytes(),
    ];
    for (at, name) in names.into_iter().enumerate() {
        let compiler = if at % 2 == 0 { "gcc" } else { "clang" };
        let command = format!("{compiler} -g -MD -MF d.d -x c -c");
        let output = [b"o", &name.iter().map(|&byte| byte.max(b'0')).collect::<Vec<_>>()[..]].concat();
        theatre
            .check(Place::Remote, &Scene::new(&command).word(name).word("-o").word(output).file(name, PLAIN));
    }
    // Words that look like options, and are.
    for name in ["-dash.c", "-", "@at.c"] {
        theatre.check(Place::Either, &Scene::new("gcc -c").word(name).file(name, PLAIN));
    }
    theatre.close();
}

#[test]
fn names_of_directories_headers_and_words() {
    let theatre = Theatre::bare();
    for compiler in ["gcc", "clang"] {
        let scene = Scene::new(&format!("{compiler} -g -MD -c a.c"))
            .word(b"-Iin\xff c")
            .word(b"-DWORDS=\"\xff\x01 \\n 'x' $y\"")
            .file(
                b"in\xff c/h eader\xfe.h",
                "static const char *where = __FILE__;\nconst char *at(void) { return where; }\n",
            )
            .file("a.c", b"#include \"h eader\xfe.h\"\nconst char w[] = WORDS;\n");
        theatre.check(Place::Remote, &scene);
        let inside = Scene::new(&format!("{compiler} -g -c a.c"))
            .file(b"d\xff \n-x/a.c", PLAIN)
            .shell("export ODD=\"$(printf '\\377\\n=')\"; cd \"$(printf 'd\\377 \\n-x')\" && exec \"$@\"");
        theatre.check(Place::Remote, &inside);
    }
    theatre.close();
}

#[test]
fn thousands_of_words_and_response_files_in_response_files() {
    let theatre = Theatre::bare();
    let many = |compiler: &str, word: &str, count: usize| {
        let scene = Scene::new(&format!("{compiler} -c a.c")).file("a.c", "int f(void) { return VALUE; }\n");
        (0..count).fold(scene, |scene, _| scene.word(word)).word("-DVALUE=7")
    };
    theatre.check(Place::Remote, &many("gcc", "-w", 10_000));
    let long = format!("-DLONG_{}", "x".repeat(170));
    theatre.check(Place::Remote, &many("clang", &long, 9_000));
    // gcc's driver hands all words to its children in one variable, and may not.
    theatre.check(Place::Either, &many("gcc", &long, 9_000));
    let nested = (0..40).fold(Scene::new("gcc @0 -c a.c"), |scene, at| {
        scene.file(format!("{at}"), format!("-DX{at}=1 @{}\n", at + 1))
    });
    let nested = nested.file("40", "\"-DVALUE=(1 + 2)\" -g\n").file("a.c", "int x = VALUE + X39;\n");
    theatre.check(Place::Remote, &nested);
    let large = "-w ".repeat(500_000);
    theatre.check(Place::Either, &Scene::new("gcc @large -c a.c").file("large", large).file("a.c", PLAIN));
    let script = "exec env $(seq -f V%g=1 40000) \"$@\"";
    theatre.check(Place::Remote, &Scene::new("gcc -g -c a.c").file("a.c", PLAIN).shell(script));
    theatre.close();
}

/// A source that includes headers in each other, so deep.
fn deep(command: &str, depth: usize) -> Scene {
    let scene = Scene::new(command).file("a.c", "#include \"h1.h\"\nint x = __LINE__;\n");
    let header = |at: usize| match at == depth {
        true => "int deepest = __INCLUDE_LEVEL__;\n".to_owned(),
        false => format!("#include \"h{}.h\"\nint i{at};\n", at + 1),
    };
    (1..=depth).fold(scene, |scene, at| scene.file(format!("h{at}.h"), header(at)))
}

#[test]
fn includes_as_deep_as_compilers_go_and_deeper() {
    let theatre = Theatre::bare();
    for compiler in ["gcc", "clang"] {
        let command = format!("{compiler} -g -MD -c a.c");
        theatre.check(Place::Remote, &deep(&command, 199));
        theatre.check(Place::Either, &deep(&command, 201));
    }
    let endless = Scene::new("gcc -c a.c").file("a.c", "#include \"a.c\"\n");
    theatre.check(Place::Either, &endless);
    theatre.close();
}

#[test]
fn links_that_lead_round_nowhere_and_back() {
    let theatre = Theatre::bare();
    let scene = |command: &str, source: &str| {
        Scene::new(command)
            .file("a.c", source)
            .file("one/keep", "")
            .file("two/x.h", "#define X 2\n")
            .file("two/sub/y.h", "#include \"../x.h\"\n#define Y 3\n")
            .file("H.h", "#define UPPER 1\n")
            .file("h.h", "#define LOWER 2\n")
            .link("loop.h", "loop.h")
            .link("ring", "gnir")
            .link("gnir", "ring")
            .link("one/x.h", "nowhere.h")
            .link("down", "two/sub")
    };
    for compiler in ["gcc", "clang"] {
        for (place, options, source) in [
            (Place::Either, "", "#include \"loop.h\"\nint x;\n"),
            (Place::Either, "-Iring -Itwo", "#include <x.h>\nint x = X;\n"),
            (Place::Either, "-Ione -Itwo", "#include <x.h>\nint x = X;\n"),
            (Place::Either, "", "#include \"one/x.h\"\nint x;\n"),
            (Place::Remote, "", "#include \"down/../x.h\"\nint x = X;\n"),
            (Place::Remote, "-Idown/..", "#include <x.h>\n#include <sub/y.h>\nint x = X + Y;\n"),
            (Place::Remote, "", "#include \"H.h\"\n#include \"h.h\"\nint x = UPPER + LOWER;\n"),
            (Place::Either, "-Itwo", "#include <sub>\nint x;\n"),
            (Place::Either, "-include gone.h", "int x;\n"),
            (Place::Remote, "-Inowhere -Itwo", "#include <x.h>\nint x = X;\n"),
            (Place::Either, "-Itwo/x.h -Itwo", "int x;\n"),
            (Place::Either, "-Itwo/x.h/below -Itwo", "int x;\n"),
        ] {
            let command = format!("{compiler} -g -MD {options} -c a.c").replace("  ", " ");
            theatre.check(place, &scene(&command, source));
        }
    }
    theatre.close();
}

#[test]
fn contents_that_are_hardly_text() {
    let theatre = Theatre::bare();
    let cases: [&[u8]; 12] = [
        b"",
        b"int x;",
        b"\n\n\n",
        b"int x;\r\nint y;\r\n#if 1\r\nint z;\r\n#endif\r\n",
        b"int x;\r#define Y 1\rint y;\r",
        b"int x;\n/* \0 */\nint y;\n",
        b"const char s[] = \"a\0b\";\n",
        b"\xef\xbb\xbfint x;\n#define Z\n",
        b"const char s[] = \"\xff\xfe\xe9\"; /* \xe9 */\n",
        b"int x;\n// \\",
        b"#define A 1 \\  \nint x = A\n;\n??=define B 2\nint y;\n",
        b"int x;\x1a\n\x0c\x0bint y;\n",
    ];
    for content in cases {
        for compiler in ["gcc", "clang"] {
            let command = format!("{compiler} -g -Wall -MD -c a.c");
            let scene = Scene::new(&command).file("a.c", content);
            theatre.check(Place::Either, &scene);
            let header =
                Scene::new(&command).file("a.c", "#include \"h.h\"\nint last;\n").file("h.h", content);
            theatre.check(Place::Either, &header);
        }
    }
    theatre.close();
}

#[test]
fn files_that_are_no_headers_go_along() {
    let theatre = Theatre::bare();
    let bytes: Vec<u8> = (0..=255).cycle().take(5000).collect();
    let scene = |command: &str, name: &str, text: &str| {
        Scene::new(command)
            .file(name, text)
            .file("data/blob.bin", &bytes)
            .file("more.s", ".byte 1, 2, 3\n.include \"inner.s\"\n")
            .file("inner.s", ".ascii \"inner\"\n")
            .file("there.h", "int there;\n")
    };
    let incbin =
        "__asm__(\".section .rodata\\nblob: .incbin \\\"data/blob.bin\\\", 16, 100\\n.text\");\nint x;\n";
    let include = "__asm__(\".include \\\"more.s\\\"\");\nint x;\n";
    let asks = "#if __has_include(\"there.h\") && !__has_include(\"data/not.h\")\n#include \"there.h\"\n#endif\n\
                #ifdef __has_embed\nconst unsigned char e[] = {\n#embed \"data/blob.bin\"\n};\n#endif\nint x;\n";
    let embed = "const unsigned char e[] = {\n#embed \"data/blob.bin\"\n};\n";
    for compiler in ["gcc", "clang"] {
        for (name, text) in [("a.c", incbin), ("a.c", include), ("a.c", asks), ("a.c", embed)] {
            theatre.check(Place::Either, &scene(&format!("{compiler} -g -c {name}"), name, text));
        }
        let assembly = ".section .rodata\n.incbin \"data/blob.bin\"\n.include \"more.s\"\n";
        theatre.check(Place::Either, &scene(&format!("{compiler} -c a.S"), "a.S", assembly));
        theatre.check(Place::Either, &scene(&format!("{compiler} -Wa,-Idata -c a.s"), "a.s", assembly));
    }
    theatre.close();
}
