//! Conditions that ask for files through macros.

use super::*;

#[test]
fn conditions_that_ask_through_macros_are_asked_though_nothing_depends_on_them() {
    let check = |definition: &str, setting: Option<&str>, condition: &str, expected: bool| {
        for family in [Family::Gcc, Family::Clang] {
            let settings = setting.map(|text| Setting::Define(text.into())).into_iter().collect();
            let case = Case { family, settings, includes: Vec::new() };
            let source = format!("#include \"d.h\"\n{condition}\nint yes;\n#endif\n");
            let definition = format!("{definition}\n");
            let files = [("/w/m.cc", &source[..]), ("/w/d.h", &definition[..]), ("/w/o.h", "int x;")];
            let scan = case.scan(&files).unwrap_or_else(|why| panic!("{definition} {condition}: {why}"));
            assert_eq!(!scan.probed.is_empty(), expected, "{definition} {condition}");
        }
    };
    check("#define H(x) __has_include(x)", None, "#if H(\"o.h\")", true);
    check("#define H(x) __has_include(x)", None, "#if 0\n#elif 1 && H(\"o.h\")", true);
    check("#define H __has_include", None, "#if H(\"o.h\")", true);
    check("#define H __has_include(\"o.h\")", None, "#if H", true);
    check("", Some("H __has_include"), "#if H(\"o.h\")", true);
    check("", Some("Q(x) __has_include(x)"), "#if Q(\"o.h\")", true);
    check("#define Q(x) H(x)\n#define H(x) __has_include(x)", None, "#if Q(\"o.h\")", true);
    check("#define C(x) __has_##x", None, "#if C(include)(\"o.h\")", true);
    check("#define C(x, y) x##y\n#define D(x, y) C(x, y)", None, "#if D(__ha, s_include)(\"o.h\")", true);
    check("#define C(x, y) x##y", None, "#if C(__, has_include)(\"o.h\")", true);
    check("#define H(x) 1", None, "#if H(\"o.h\")", false);
    check("#define H(x) __has_include(x)", None, "#if defined H", false);
}

#[test]
fn what_a_macro_asks_is_known_of_files_that_were_read_before_it_was() {
    let files = [
        ("/w/n.cc", "#include \"n.h\"\n#include \"u.h\"\n"),
        ("/w/y.cc", "#include \"y.h\"\n#include \"u.h\"\n"),
        ("/w/n.h", "#define H(x) 0\n"),
        ("/w/y.h", "#define H(x) __has_include(x)\n"),
        ("/w/u.h", "#if H(\"o.h\")\nint x;\n#endif\n#include \"v.h\"\n"),
        ("/w/v.h", "#if 1\n#if G(\"o.h\")\n#endif\n#endif\n"),
        ("/w/o.h", ""),
        ("/w/g.cc", "#define G(x) H(x)\n#include \"y.h\"\n#include \"v.h\"\n"),
    ];
    let mut map = Map::new(&files);
    for eager in [false, true] {
        let mut memory = Memory::default();
        if eager {
            memory.keep_all_effects();
        }
        let mut probed = |main: &str| {
            let scan = gcc().scan_in(main.as_bytes(), &mut map, &mut memory);
            scan.map(|scan| scan.probed.len())
        };
        for _ in 0..3 {
            assert_eq!(probed("n.cc"), Ok(0));
        }
        for _ in 0..3 {
            assert_eq!((probed("y.cc"), probed("n.cc")), (Ok(1), Ok(0)));
        }
        // What is no macro there, and is in no group that is read in the other way, is called in vain.
        for _ in 0..3 {
            assert_eq!(probed("g.cc"), Ok(1));
        }
    }
}

#[test]
fn what_a_macro_pushes_is_known_of_headers_that_were_read_before_it_was() {
    let pushes = "#define P _Pragma(\"push_macro(\\\"X\\\")\")\n";
    let files = [
        ("/w/defines.cc", "#include \"x.h\"\n"),
        ("/w/both.cc", "#include \"p.h\"\n#include \"x.h\"\n"),
        ("/w/pushes.cc", "#include \"p.h\"\n#ifdef X\n#include \"o.h\"\n#endif\n"),
        ("/w/p.h", pushes),
        ("/w/x.h", "#define X 1\n#undef X\n#define Y 1\n"),
        ("/w/o.h", ""),
    ];
    let mut map = Map::new(&files);
    let mut memory = Memory::default();
    memory.keep_all_effects();
    let mut read = |main: &str| {
        let scan = gcc().scan_in(main.as_bytes(), &mut map, &mut memory);
        scan.map(|scan| scan.files.len()).ok()
    };
    for _ in 0..3 {
        assert_eq!(read("defines.cc"), Some(2));
    }
    for _ in 0..3 {
        assert_eq!((read("both.cc"), read("pushes.cc"), read("defines.cc")), (None, Some(2), Some(2)));
    }
}
