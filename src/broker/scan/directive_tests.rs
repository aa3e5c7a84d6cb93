use super::*;

fn unit(source: &str) -> Unit {
    let mode = Mode { line_comments: true, ..Mode::default() };
    lex(source.as_bytes(), mode, &mut Symbols::default(), &mut Macros::default())
}

fn check(source: &str, expected: usize) {
    let unit = unit(source);
    assert_eq!(unit.directives.len(), expected, "{source:?} gives {:?}", unit.directives);
}

#[test]
fn conditionals_without_content_vanish() {
    check("#if A\nint x;\n#elif B\n#else\n#endif\n", 0);
    check("#if A\n#if B\n#endif\n#endif\n", 0);
    check("#if A\n#define B\n#endif\n", 3);
    check("#if __has_include(<a>)\n#endif\n", 2);
    check("#pragma GCC diagnostic push\n#warning x\n#\n", 0);
}

#[test]
fn only_macros_that_become_assembler_text_are_doubtful() {
    let doubts = |source: &str| unit(source).directives.iter().any(|one| matches!(one, Directive::Doubt(_)));
    assert!(doubts("#define I(x) asm(\".incbin \" #x)\n"));
    assert!(doubts("#define I .include \"x.s\"\n"));
    assert!(doubts("#define I incbin\n") && doubts("#define P once\n"));
    assert!(doubts("#define P GCC dependency \"a.h\"\n") && !doubts("#define P call_once\n"));
    assert!(!doubts("#define I(a) a.include = f(\"x\")\n"));
}

#[test]
fn a_guard_is_known_only_when_it_covers_everything() {
    assert!(unit("#ifndef A\n#define A\n#endif\n").guard.is_some());
    assert!(unit("#if !defined(A)\n#define A\n#endif\n").guard.is_some());
    assert!(unit("#ifndef A\n#define A\n#else\n#define B\n#endif\n").guard.is_none());
    assert!(unit("#ifndef A\n#define A\n#endif\n#define B\n").guard.is_none());
    assert!(unit("#ifndef A\n#define A\n#endif\n#ifndef A\n#define B\n#endif\n").guard.is_none());
}

#[test]
fn a_file_whose_conditionals_do_not_match_is_broken() {
    for text in ["#endif", "#if A", "#else", "#if A\n#else\n#else", "#if A\n#else\n#elif B\n#endif"] {
        assert!(unit(text).broken.is_some(), "{text:?}");
    }
}
