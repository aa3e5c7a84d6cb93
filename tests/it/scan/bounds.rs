//! Files made to last for ever: the scanner answers as the compiler, or declines, in time.

use std::path::Path;
use std::time::{Duration, Instant};

use distcc::broker::scan::{Declined, Scanner};
use distcc::common::bytes::Bytes;

/// Far above what any of these takes on a machine that does nothing else.
const PATIENCE: Duration = Duration::from_secs(60);

fn scan(directory: &Path, text: &[u8]) -> Result<usize, Declined> {
    std::fs::write(directory.join("a.c"), text).expect("a file");
    let argv = ["gcc", "-nostdinc", "-c", "a.c"].map(Bytes::from);
    let env = [Bytes::from("PATH=/usr/bin:/bin")];
    let begin = Instant::now();
    let found = Scanner::default().scan_command(&argv, &Bytes::from(directory), &env);
    assert!(begin.elapsed() < PATIENCE, "{:?}", begin.elapsed());
    found.map(|scan| scan.files.len())
}

/// Whether gcc gets through, and then how many files it lists.
fn gcc(directory: &Path) -> Option<usize> {
    let mut run = std::process::Command::new("gcc");
    let run = run.args(["-nostdinc", "-M", "a.c"]).current_dir(directory).output().expect("gcc runs");
    let text = String::from_utf8(run.stdout).expect("plain names").replace("\\\n", " ");
    let names: std::collections::BTreeSet<&str> = text.split_whitespace().skip(1).collect();
    run.status.success().then_some(names.len())
}

/// As gcc, or declined.
fn check(text: &[u8]) -> bool {
    let directory = tempfile::tempdir().expect("a directory");
    for name in ["x.h", "y.h"] {
        std::fs::write(directory.path().join(name), "").expect("a file");
    }
    let answer = scan(directory.path(), text);
    if let Ok(count) = answer {
        assert_eq!(Some(count), gcc(directory.path()), "{:?}", text.get(..80));
    }
    answer.is_ok()
}

#[test]
fn a_file_that_includes_itself_is_followed_as_far_as_gcc_goes() {
    let until = |level: usize| format!("#if __INCLUDE_LEVEL__ < {level}\n#include \"a.c\"\n#endif\n");
    assert!(check(until(150).as_bytes()));
    assert!(check(until(198).as_bytes()));
    for level in [199, 200, 201] {
        check(until(level).as_bytes());
    }
    assert!(!check(b"#include \"a.c\"\n"));
    assert!(!check(b"#include \"a.c\"\n#include \"a.c\"\n"));
}

#[test]
fn macros_that_grow_without_end_are_given_up() {
    let doubling: String = (1..40).map(|n| format!("#define A{n} A{} A{}\n", n - 1, n - 1)).collect();
    assert!(!check(format!("#define A0 1+\n{doubling}#if A39 1\n#include \"x.h\"\n#endif\n").as_bytes()));
    let nested: String = (1..12).map(|n| format!("#define F{n}(x) F{}(F{}(x x))\n", n - 1, n - 1)).collect();
    assert!(!check(format!("#define F0(x) x x\n{nested}#if F11(1)\n#include \"x.h\"\n#endif\n").as_bytes()));
    let small: String = (1..12).map(|n| format!("#define A{n} A{} A{}\n", n - 1, n - 1)).collect();
    assert!(check(format!("#define A0 1+\n{small}#if A11 1\n#include \"x.h\"\n#endif\n").as_bytes()));
    let pasted = "#define P(a, b) a ## b\n#define Q(x) P(x, x)\n".to_owned()
        + &"#define X Q(X)\n#if X\n#endif\n".repeat(50);
    check(pasted.as_bytes());
    // Not expanded, so not counted.
    assert!(check(format!("#define A0 1+\n{doubling}int x = A39;\n#include \"x.h\"\n").as_bytes()));
}

#[test]
fn a_line_of_a_hundred_megabytes_is_given_up() {
    let mut text = b"#include \"x.h\"\n#define A ".to_vec();
    text.resize(100 << 20, b'a');
    assert!(!check(&text));
    text[14] = b' ';
    assert!(!check(&text));
}

#[test]
fn nul_bytes_are_blanks() {
    let mut text = b"#include \"x.h\"\n".to_vec();
    text.resize(4 << 20, 0);
    text.extend_from_slice(b"\n#include\0\"y.h\"\0\n");
    check(&text);
    assert!(check(b"\0#include \"x.h\"\n"));
}

#[test]
fn conditions_nested_without_end_are_given_up() {
    for (depth, answered) in [(30, true), (100_000, false)] {
        let text = format!("{}#include \"x.h\"\n{}", "#if 1\n".repeat(depth), "#endif\n".repeat(depth));
        assert_eq!(check(text.as_bytes()), answered, "{depth}");
        let text = format!("#if {}1{}\n#include \"x.h\"\n#endif\n", "(".repeat(depth), ")".repeat(depth));
        assert_eq!(check(text.as_bytes()), answered, "{depth}");
        check(format!("#if {}1\n#include \"x.h\"\n#endif\n", "!".repeat(depth)).as_bytes());
        check(format!("#if {}1\n#include \"x.h\"\n#endif\n", "1 ? 2 : ".repeat(depth)).as_bytes());
    }
}
