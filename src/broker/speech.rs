//! What of a volunteer's words may reach a terminal.
//!
//! Compilers colour what they say, clear to the end of a line and link to their manual; whatever else an
//! escape sequence can do, no compiler does. A volunteer that says such a thing is not believed.
//!
//! Pure.

const ESCAPE: u8 = 0x1b;

/// Whether these are words that a compiler prints: text, line ends, tabs, and the escape sequences SGR
/// (colours), EL (clear to the end of the line) and OSC 8 (links).
pub fn is_a_compilers(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let length = match byte {
            ESCAPE => sequence(after).map(|length| length + 1),
            b'\t' | b'\n' | b'\r' | 0x0c => Some(1),
            0..=0x1f | 0x7f => None,
            // The control characters U+0080 to U+009F, which some terminals obey.
            0xc2 if after.first().is_some_and(|next| (0x80..0xa0).contains(next)) => None,
            _ => Some(1),
        };
        match length {
            Some(length) => rest = &rest[length..],
            None => return false,
        }
    }
    true
}

/// The same words with a question mark in place of each byte that a terminal might obey.
pub fn tamed(text: Vec<u8>) -> Vec<u8> {
    if is_a_compilers(&text) {
        return text;
    }
    let harmless = |byte: u8| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~');
    text.into_iter().map(|byte| if harmless(byte) { byte } else { b'?' }).collect()
}

/// The length of a permitted escape sequence, the escape itself not counted.
fn sequence(after: &[u8]) -> Option<usize> {
    match after.first()? {
        b'[' => {
            let parameters =
                after[1..].iter().take_while(|byte| matches!(byte, b'0'..=b'9' | b';' | b':')).count();
            matches!(after.get(1 + parameters)?, b'm' | b'K').then_some(parameters + 2)
        }
        b']' if after.starts_with(b"]8;") => {
            let link = after[3..].iter().take_while(|byte| (b' '..=b'~').contains(*byte)).count();
            match &after[3 + link..] {
                [0x07, ..] => Some(link + 4),
                [ESCAPE, b'\\', ..] => Some(link + 5),
                _ => None,
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_compilers_say_passes() {
        for text in [
            "a.c:1:2: error: ‘x’ undeclared\n\t1 | x;\r\n",
            "\x1b[01m\x1b[Ka.c:1:2:\x1b[m\x1b[K \x1b[01;31m\x1b[Kerror: \x1b[m\x1b[K",
            "\x1b[0;1;31merror: \x1b[0m\x1b[38:5:4m",
            "[\x1b]8;;https://gcc.gnu.org/x\x1b\\-Wunused\x1b]8;;\x1b\\] \x1b]8;;x\x07y\x1b]8;;\x07",
            "größer: 日本語 À",
        ] {
            assert!(is_a_compilers(text.as_bytes()), "{text:?}");
        }
        assert!(is_a_compilers(b"latin-1: \xe4\xff\x80"));
    }

    #[test]
    fn what_a_terminal_would_do_does_not() {
        for text in [
            &b"\x1b]0;title\x07"[..],
            b"\x1b]52;c;aGk=\x07",
            b"\x1b[2J",
            b"\x1b[1;1H",
            b"\x1b[6n",
            b"\x1b[?1049h",
            b"\x1bc",
            b"\x1bP+q\x1b\\",
            b"\x1b",
            b"\x1b[",
            b"\x1b[31",
            b"\x1b]8;;no end",
            b"\x1b]8;;x\x1b[2J\x1b\\",
            b"a\x08b",
            b"a\x07",
            b"\xc2\x9b2J",
            b"\0",
        ] {
            assert!(!is_a_compilers(text), "{text:?}");
            assert!(is_a_compilers(&tamed(text.to_vec())), "{text:?}");
        }
    }
}
