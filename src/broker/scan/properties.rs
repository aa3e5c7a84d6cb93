//! Whatever the input: no panic, no end of memory, no end of time.

use proptest::prelude::*;

use super::directive;
use super::expression;
use super::macros::Macros;
use super::source::Lines;
use super::symbols::Symbols;
use super::token::{self, Headers, Mode};
use super::value;

fn mode() -> impl Strategy<Value = Mode> {
    any::<[bool; 7]>().prop_map(
        |[raw_strings, digit_separators, line_comments, trigraphs, cxx, assembler, elifdef]| Mode {
            raw_strings,
            digit_separators,
            line_comments,
            trigraphs,
            cxx,
            assembler,
            elifdef,
            ..Mode::default()
        },
    )
}

/// Text made of what matters to a lexer.
fn source() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        "#",
        "if ",
        "elif ",
        "else",
        "endif",
        "define ",
        "undef ",
        "include ",
        "ifdef ",
        "pragma ",
        "once",
        "X",
        "Y(",
        ")",
        "(",
        "\n",
        "\\\n",
        "\\ \n",
        "\"",
        "'",
        "/*",
        "*/",
        "//",
        "R\"(",
        ")\"",
        "<a.h>",
        "??/",
        "??=",
        "%:",
        "1",
        "0x",
        "e+",
        "defined ",
        "__has_include(",
        "&&",
        "||",
        "?",
        ":",
        ",",
        "...",
        "##",
        "__VA_ARGS__",
        "_Pragma(",
        "push_macro(\"X\")",
        " ",
        "\t",
        "\r\n",
        "\r",
        "\0",
        "\u{feff}",
        "é",
        ".incbin",
        "import ",
        "'a'",
        "L'\\x41'",
        "and ",
        "!",
        "-",
        "~",
        "<<",
        "/",
    ]);
    prop::collection::vec(pieces, 0..80).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn lexing_ends_and_jumps_lead_forward(text in source(), mode in mode()) {
        let unit = directive::lex(&text, mode, &mut Symbols::default(), &mut Macros::default());
        if unit.broken.is_none() {
            for (at, directive) in unit.directives.iter().enumerate() {
                let at = at as u32;
                if let directive::Directive::If { next, end, .. } | directive::Directive::Ifdef { next, end, .. } = *directive {
                    prop_assert!(at < next && next <= end && (end as usize) < unit.directives.len());
                }
            }
        }
    }

    #[test]
    fn bytes_never_make_the_lexer_panic(text in prop::collection::vec(any::<u8>(), 0..300), mode in mode()) {
        let found = Lines::new(&text, mode).count();
        prop_assert!(found <= text.len() + 1);
        let mut symbols = Symbols::default();
        let tokens = token::tokenise(&text, mode, Headers::AfterQuery, &mut symbols);
        prop_assert!(tokens.len() <= text.len());
        // What it says of random tokens is of no interest; that it says something is.
        let _ = expression::compile(&tokens, mode, false, &symbols);
        let _ = expression::operand(&tokens, mode, &symbols);
    }

    #[test]
    fn headers_with_other_bytes_in_them_never_make_the_lexer_panic(
        header in prop::sample::select(vec!["stdio.h", "features.h", "stdlib.h", "math.h", "c++/12/bits/c++config.h"]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), source()), 1..12),
        mode in mode(),
    ) {
        let read = std::fs::read(format!("/usr/include/{header}"));
        let mut text = read.unwrap_or_else(|_| std::fs::read("/usr/include/stdio.h").unwrap_or_default());
        for (at, piece) in changes {
            let at = at.index(text.len().max(1));
            text.splice(at..(at + piece.len() / 2).min(text.len()), piece);
        }
        let (mut symbols, mut macros) = (Symbols::default(), Macros::default());
        let unit = directive::lex(&text, mode, &mut symbols, &mut macros);
        prop_assert!(unit.directives.len() <= text.len());
    }

    #[test]
    fn constants_have_the_value_that_is_written(value in any::<u64>()) {
        for text in [format!("{value}"), format!("{value:#x}"), format!("0{value:o}"), format!("{value}ULL")] {
            prop_assert_eq!(value::number(text.as_bytes()).map(|value| value.bits), Ok(value));
        }
    }
}
