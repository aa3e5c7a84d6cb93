//! The line markers of preprocessed text: which files it was made of.

use crate::common::bytes::Bytes;

/// So many files are looked at before the first word of a text: more than any header includes
/// before it says something itself.
const LEADING_MAX: usize = 256;

/// The files that a text enters before its first word, as the markers name them. gcc takes a
/// precompiled header only there.
///
/// `text` may be cut anywhere.
pub fn leading_includes(text: &[u8]) -> Vec<Bytes> {
    let mut files = Vec::new();
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        let Some(line) = line.strip_suffix(b"\n") else { break };
        if line.is_empty() {
            continue;
        }
        if line.starts_with(b"#pragma ") {
            continue;
        }
        let Some(marker) = marker(line) else { break };
        if marker.enters && files.len() < LEADING_MAX {
            files.push(marker.file);
        }
    }
    files
}

/// Whether a header is one of gcc's own: `…/gcc/TARGET/VERSION/include/NAME`.
pub fn is_gccs_own(path: &[u8]) -> bool {
    let mut parts = path.rsplit(|&byte| byte == b'/').skip(1);
    let is_include = parts.next() == Some(b"include");
    let is_version = parts.next().is_some_and(|version| version.first().is_some_and(u8::is_ascii_digit));
    let is_target = parts.next().is_some_and(|target| target.contains(&b'-') || target == b"avr");
    is_include && is_version && is_target && parts.next() == Some(b"gcc")
}

/// `# 7 "file" 1 3`
struct Marker {
    file: Bytes,
    /// Whether an `#include` begins here.
    enters: bool,
}

fn marker(line: &[u8]) -> Option<Marker> {
    let rest = line.strip_prefix(b"# ")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let quoted = rest.get(digits..)?.strip_prefix(b" \"")?;
    let (file, behind) = unquote(quoted)?;
    (digits > 0).then(|| Marker { file, enters: behind.starts_with(b" 1") })
}

/// A string whose first quote was read, and what is behind its last one.
fn unquote(text: &[u8]) -> Option<(Bytes, &[u8])> {
    let mut file = Vec::new();
    let mut at = 0;
    loop {
        match *text.get(at)? {
            b'"' => return Some((Bytes(file), &text[at + 1..])),
            b'\\' => {
                let digits = text.get(at + 1..at + 4).filter(|digits| digits.iter().all(is_octal));
                if let Some(digits) = digits {
                    file.push(digits.iter().fold(0u8, |byte, digit| (byte << 3) | (digit - b'0')));
                    at += 4;
                } else {
                    file.push(*text.get(at + 1)?);
                    at += 2;
                }
            }
            byte => {
                file.push(byte);
                at += 1;
            }
        }
    }
}

fn is_octal(byte: &u8) -> bool {
    (b'0'..=b'7').contains(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let files: Vec<String> = leading_includes(text.as_bytes()).iter().map(Bytes::to_text).collect();
        assert_eq!(files.join(" "), expected, "{text}");
    }

    #[test]
    fn what_is_entered_before_the_first_word_is_told() {
        let start =
            "# 0 \"a.c\"\n# 0 \"<built-in>\"\n# 1 \"/usr/include/stdc-predef.h\" 1 3 4\n# 1 \"a.c\"\n";
        check(start, "/usr/include/stdc-predef.h");
        check(
            &format!("{start}# 1 \"p.h\" 1\n\n#pragma once\n# 1 \"q.h\" 1\nint x;\n# 2 \"r.h\" 1\n"),
            "/usr/include/stdc-predef.h p.h q.h",
        );
        check("int x;\n# 1 \"p.h\" 1\n", "");
        check("# 1 \"a \\\"b\\\" \\\\c\\344.h\" 1\n", "a \"b\" \\c\u{fffd}.h");
        check("# 1 \"cut.h\" 1", "");
        check("# 1 \"open\n# 1 \"p.h\" 1\n", "");
    }
}
