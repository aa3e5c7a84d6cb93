//! Files of C and C++ as the include scanner reads them: directives, expressions, macros.

use distcc::broker::scan::directive;
use distcc::broker::scan::macros::Macros;
use distcc::broker::scan::symbols::Symbols;
use distcc::broker::scan::token::Mode;

/// What is made of it; the first byte chooses the language.
pub fn run(data: &[u8]) {
    let Some((&kind, text)) = data.split_first() else { return };
    let has = |bit: u8| kind & bit != 0;
    let mode = Mode {
        raw_strings: has(1),
        digit_separators: has(2),
        line_comments: has(4),
        trigraphs: has(8),
        cxx: has(16),
        assembler: has(32),
        elifdef: has(64),
        modules: has(128),
        ..Mode::default()
    };
    let unit = directive::lex(text, mode, &mut Symbols::default(), &mut Macros::default());
    // Each directive takes at least its `#` and a newline; a `_Pragma` or a doubt more.
    assert!(unit.directives.len() <= 2 * text.len() + 2);
}
