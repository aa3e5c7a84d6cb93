use super::super::phases;
use super::*;

fn modes() -> Mode {
    Mode { line_comments: true, raw_strings: true, digit_separators: true, cxx: true, ..Mode::default() }
}

fn check(source: &str, expected: &[&str]) {
    check_in(source, modes(), expected);
}

fn check_in(source: &str, mode: Mode, expected: &[&str]) {
    let found: Vec<String> = Lines::new(source.as_bytes(), mode)
        .map(|found| match found {
            Found::Directive(line) => String::from_utf8_lossy(&line).into_owned(),
            Found::Pragma(text) => format!("pragma:{}", String::from_utf8_lossy(&text)),
            Found::Module(line) => format!("module:{}", String::from_utf8_lossy(&line.name)),
            Found::Doubt(why) => format!("doubt:{why}"),
        })
        .collect();
    assert_eq!(found, expected, "{source:?}");
}

#[test]
fn directives_are_found_and_cleaned() {
    check("#define A 1\nint x; # not\n  # /* c */ undef A // gone\n", &["define A 1", "  undef A  "]);
    check("/* a\n b */ #if X\n", &["if X"]);
    check("%: include \"a//b\"\n", &["include \"a//b\""]);
    check("#include <a//b/*c>\n#include <d>", &["include <a//b/*c>", "include <d>"]);
    check("#if __has_include ( <a//b> ) // x", &["if __has_include ( <a//b> )  "]);
    check("#de\\\nfine A \\  \n B\n", &["define A  B"]);
    check("\u{feff}#define A\r\n#define B\r\n", &["define A\r", "define B\r"]);
    check("#define A \\", &["define A "]);
}

#[test]
fn literals_and_comments_hide_directives() {
    check("x = \"/*\";\n#define A\n", &["define A"]);
    check("x = '\"'; y = '\\'';\n#define A\n", &["define A"]);
    check("it's /* here\n#define A\n", &["define A"]);
    check("R\"(\n#define A\n)\" \n#define B\n", &["define B"]);
    check("fooR\"(\n#define A\n", &["define A"]);
    check("x = 1'000; /*\n#define A\n*/\n", &[]);
    check("// a \\\n#define A\n#define B\n", &["define B"]);
    check("\"a\\\n#define A\n#define B", &["define B"]);
    check("\"a\\\\\\\n\"#define A\n#define B", &["define B"]);
    check("/\\\n* x\n#define A\n*\\\n/\n#define B", &["define B"]);
}

#[test]
fn modes_change_what_is_text() {
    let plain = Mode::default();
    check_in("x = 1'000; /*\n#define A\n", plain, &["define A"]);
    check_in("// /*\n#define A\n", plain, &[]);
    check_in("R\"(\"\n#define A\n", plain, &["define A"]);
}

#[test]
fn what_names_files_outside_directives_is_flagged() {
    check("asm(\".incbin \\\"x\\\"\");\n", &["doubt:assembler text that reads a file"]);
    check("a.include(b); c.incbinx;\n", &["doubt:assembler text that reads a file"]);
    check("_Pragma(\"push_macro(\\\"A\\\")\")\n", &["pragma:push_macro(\"A\")"]);
    check("P(push_macro(\"A\"))\n", &["doubt:push_macro outside a #pragma line"]);
    check("a\rb\n", &["doubt:a carriage return inside a line"]);
}

#[test]
fn trigraphs_are_replaced() {
    assert_eq!(phases::replace_trigraphs(b"??=define a ??/\n???"), b"#define a \\\n???");
    assert!(phases::has_trigraph(b"a??(") && !phases::has_trigraph(b"a?? ("));
}

#[test]
fn what_macros_may_make_pragmas_of_is_doubted() {
    check("P(GCC dependency \"a.h\")\n", &["doubt:a pragma that names a file"]);
    check("PRAGMA(once)\nDO(once)\n", &["doubt:_Pragma of a macro", "doubt:_Pragma of a macro"]);
    check("call(once);\nif (once) {}\n", &[]);
    check("P(GCC target(\"avx2\"))\n", &["pragma:GCC target"]);
    check("P(GCC diagnostic push)\n", &[]);
}

#[test]
fn words_over_two_lines_are_doubted() {
    for text in ["R\\\n\"(\", \"x\"", "x\\\nR\"(x)\"", "1\\\n'0'", "_Pra\\\ngma(\"once\")"] {
        let found = Lines::new(text.as_bytes(), modes()).next();
        assert_eq!(found, Some(Found::Doubt("a word over two lines")), "{text:?}");
    }
    check("#define A R\\\n\"(x)\"\n", &["doubt:a raw string in a directive"]);
    check("#define A x\\\nR\"(x)\"\n", &["doubt:a raw string in a directive"]);
    check("f(a, \\\n  b)\n", &[]);
}

#[test]
fn an_assembler_statement_that_reads_a_file_is_doubted() {
    let doubt = format!("doubt:{ASSEMBLER}");
    check("__asm__(\".inc\" \"bin \\\"x\\\"\");\n", &[&doubt]);
    check("asm volatile(\".\" X \" x\");\n", &[&doubt]);
    check("asm goto (\"nop\" : : \"r\" (a.b) : : out); f(\".inc\", \"bin\");\n", &[]);
    check("int f(void) __asm__ (\"\" \"g\");\n", &[]);
}
