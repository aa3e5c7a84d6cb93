//! The first phases of translation: trigraphs, and lines that go on in the next.

/// Replaces trigraphs where the mode has them. `None` when that cannot be done faithfully,
/// because raw strings keep theirs.
pub fn replace_trigraphs(source: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(source.len());
    let mut at = 0;
    while at < source.len() {
        let replaced = match source[at..] {
            [b'?', b'?', third, ..] => trigraph(third),
            _ => None,
        };
        out.push(replaced.unwrap_or(source[at]));
        at += if replaced.is_some() { 3 } else { 1 };
    }
    out
}

/// Whether the text has any trigraph.
pub fn has_trigraph(source: &[u8]) -> bool {
    source.windows(3).any(|three| three[0] == b'?' && three[1] == b'?' && trigraph(three[2]).is_some())
}

fn trigraph(third: u8) -> Option<u8> {
    Some(match third {
        b'=' => b'#',
        b'/' => b'\\',
        b'\'' => b'^',
        b'(' => b'[',
        b')' => b']',
        b'!' => b'|',
        b'<' => b'{',
        b'>' => b'}',
        b'-' => b'~',
        _ => return None,
    })
}

/// The length of a line splice at `at`: a backslash, blanks, a newline. 0 if there is none.
pub fn splice(source: &[u8], at: usize) -> usize {
    if source.get(at) != Some(&b'\\') {
        return 0;
    }
    let mut end = at + 1;
    while let Some(&byte) = source.get(end) {
        match byte {
            b'\n' => return end + 1 - at,
            b' ' | b'\t' | 0x0b | 0x0c | b'\r' => end += 1,
            _ => return 0,
        }
    }
    // A backslash that ends the file: compilers supply the newline.
    end - at
}
