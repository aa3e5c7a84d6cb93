//! Results of compiles that read compiled modules.

use super::{Cached, Line};

#[test]
fn a_compiled_module_that_changed_is_noticed() {
    let cached = Cached::new();
    cached.write("w/use.cc", "import bar;\nint n() { return b(4); }\n");
    let environment = &[("SOURCE_DATE_EPOCH", "1600000000")];
    let make = |factor: u32| {
        let text = format!("export module bar;\nexport inline int b(int x) {{ return x * {factor}; }}\n");
        cached.write("w/bar.cc", &text);
        cached.here(Line::new("w", "g++ -std=c++20 -fmodules-ts -c bar.cc -o a.o").with(environment));
    };
    let line = Line::new("w", "g++ -O2 -std=c++20 -fmodules-ts -c use.cc -o a.o").with(environment);
    make(2);
    let two = cached.compile_anew(line);
    cached.compile_again(line);
    make(3);
    let three = cached.compile_anew(line);
    assert_ne!(two.object, three.object);
    make(2);
    assert_eq!(cached.compile_again(line).object, two.object);
    cached.farm.finish();
}

#[test]
fn an_interface_comes_from_what_is_kept_with_its_object() {
    let cached = Cached::new();
    cached.write("w/bar.cc", "export module bar;\nexport int b() { return 2; }\n");
    let line = Line::new("w", "g++ -std=c++20 -fmodules-ts -c bar.cc -o a.o")
        .with(&[("SOURCE_DATE_EPOCH", "1600000000")]);
    cached.compile_anew(line);
    let interface = cached.path("w/gcm.cache/bar.gcm");
    let here = std::fs::read(&interface).expect("made here");
    std::fs::remove_dir_all(cached.path("w/gcm.cache")).expect("our own folder");
    cached.play(line, Some(crate::farm::SHIM));
    assert_eq!(std::fs::read(&interface).expect("put in place"), here);
    assert_eq!(cached.counts(), (1, 1));
    cached.farm.finish();
}

#[test]
fn what_a_response_file_says_is_audited_so_its_result_is_kept() {
    let cached = Cached::new();
    cached.write("w/bar.cppm", "export module bar;\nexport int b();\n");
    cached.write("w/use.cc", "import bar;\nint n() { return b(); }\n");
    cached.write("w/a.o.modmap", "-fmodule-file=\"bar=bar.pcm\"\n");
    let make = |text: &str| {
        cached.write("w/bar.cppm", text);
        cached.here(Line::new(
            "w",
            "clang++-16 -std=c++20 -x c++-module -fmodule-output=bar.pcm -c bar.cppm -o a.o",
        ));
    };
    make("export module bar;\nexport inline int b() { return 2; }\n");
    let line = Line::new("w", "clang++-16 -std=c++20 -MD -MF a.o.d @a.o.modmap -c use.cc -o a.o");
    let two = cached.compile_anew(line);
    cached.compile_again(line);
    make("export module bar;\nexport inline int b() { return 3; }\n");
    assert_ne!(cached.compile_anew(line).object, two.object);
    cached.farm.finish();
}

/// clang lists nothing of what it does with one; that it was opened is enough.
#[test]
fn an_object_that_is_made_of_a_compiled_module_is_kept() {
    let cached = Cached::new();
    let make = |value: u32| {
        let text = format!("export module bar;\nexport int b() {{ return {value}; }}\n");
        cached.write("w/bar.cppm", &text);
        let line = "clang++-16 -std=c++20 -x c++-module -fmodule-output=bar.pcm -c bar.cppm -o a.o";
        cached.here(Line::new("w", line));
    };
    make(2);
    let line = Line::new("w", "clang++-16 -std=c++20 -c bar.pcm -o a.o");
    let two = cached.compile_anew(line);
    cached.compile_again(line);
    make(3);
    assert_ne!(cached.compile_anew(line).object, two.object);
    cached.farm.finish();
}
