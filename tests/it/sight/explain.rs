//! `distcc --explain`.

use std::fs;

use super::status::compile;
use crate::farm::{Farm, names};

fn explained(farm: &Farm, words: &[&str]) -> String {
    let outcome = farm.shim([&["--explain"], words].concat()).expect_success("--explain");
    String::from_utf8(outcome.stdout).expect("text")
}

/// The value of a line, the first word of which is its name.
fn line<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(name));
    line.unwrap_or_else(|| panic!("no line {name} in {text}"))[name.len()..].trim()
}

#[test]
fn a_compile_that_would_leave_is_explained_and_nothing_is_made() {
    let farm = Farm::new(1);
    fs::write(farm.work().join("a.h"), "#define X 1\n").expect("our own file");
    fs::write(farm.work().join("a.c"), "#include <stdio.h>\n#include \"a.h\"\nint x = X;\n")
        .expect("our own file");
    fs::create_dir(farm.work().join("out")).expect("our own directory");
    let text = explained(&farm, &["gcc", "-O2", "-c", "a.c", "-o", "out/a b.o"]);
    assert_eq!(line(&text, "verdict"), "sent to a volunteer, as files");
    assert_eq!(line(&text, "source"), "a.c (C)");
    assert!(line(&text, "compiler").contains("gcc version"), "{text}");
    assert_eq!(line(&text, "toolchain").len(), 64, "{text}");
    for kind in ["1 source", "headers", "compiler", "folders"] {
        assert!(text.contains(kind), "{kind} in {text}");
    }
    assert!(line(&text, "command").ends_with("/gcc -O2 -c a.c -o 'out/a b.o'"), "{text}");
    assert_eq!(line(&text, "in"), farm.work().to_string_lossy());
    assert!(line(&text, "hosts").contains("perhaps: not met yet"), "{text}");
    assert_eq!(names(&farm.work()), ["a.c", "a.h", "out"], "something was made");
    assert_eq!(farm.brokers(), [0u32; 0], "a question started a broker");
    compile(&farm, &["b"]);
    let text = explained(&farm, &["gcc", "-c", "a.c"]);
    assert!(line(&text, "hosts").contains("yes: 0 of"), "{text}");
    farm.finish();
}

#[test]
fn a_compile_that_stays_is_explained_as_it_is_counted() {
    let mut farm = Farm::new(0);
    farm.more_hosts.push("127.0.0.1:1,down".to_owned());
    fs::write(farm.work().join("a.c"), "int x;\n").expect("our own file");
    for (words, key) in [
        (&["gcc", "a.o", "-o", "a"][..], "not-a-compile"),
        (&["gcc", "-E", "a.c"], "preprocess-only"),
        (&["gcc", "-c", "a.c", "-fbogus-option-of-nobody=1", "-Zx"], "unknown-option"),
        (&["distcc", "gcc", "-c", "-"], "stdin"),
        (&["no-such-gcc", "-c", "a.c"], "toolchain"),
    ] {
        let text = explained(&farm, words);
        assert_eq!(line(&text, "verdict"), "compiled here", "{words:?}: {text}");
        assert!(line(&text, "reason").ends_with(&format!("({key})")), "{words:?}: {text}");
        assert!(line(&text, "rule").len() > 20, "{text}");
    }
    let text = explained(&farm, &["-c", "a.c"]);
    assert!(line(&text, "hosts").contains("no: listed as down"), "{text}");
    assert!(line(&text, "but").contains("no-volunteer"), "{text}");
    farm.finish();
}

#[test]
fn what_the_scanner_declines_is_said_to_go_as_text_and_why() {
    let farm = Farm::new(1);
    fs::write(farm.work().join("a.c"), "char *when = __TIMESTAMP__;\n").expect("our own file");
    let text = explained(&farm, &["gcc", "-c", "a.c"]);
    assert_eq!(line(&text, "verdict"), "sent to a volunteer, as preprocessed text");
    assert!(line(&text, "reason").contains("(clock)"), "{text}");
    assert!(line(&text, "command").contains(" INPUT "), "{text}");
    farm.finish();
}
