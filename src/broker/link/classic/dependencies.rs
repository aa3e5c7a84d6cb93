//! Dependency files that were made elsewhere.
//!
//! A daemon of distcc 3.4 takes its folder out of the paths, and leaves lines broken where its
//! compiler broke them when the folder was there. Here they are broken again, where a compiler
//! would that never saw the folder.

/// Whose way of breaking lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Columns {
    /// gcc's: a name that would reach beyond column 72 begins a new line.
    Gcc,
    /// clang's: 75, and the target stands on the first line alone with what fits.
    Clang,
}

/// A dependency file with the lines of its rule broken anew.
pub fn rewrap(text: &[u8], columns: Columns) -> Vec<u8> {
    let end = rule_end(text);
    let (rule, rest) = text.split_at(end);
    let words = words(rule);
    let mut wrapped = Vec::with_capacity(text.len());
    let mut column = 0;
    for word in words {
        let length = word.len();
        let full = match columns {
            Columns::Gcc => column > 0 && column + length > 72,
            Columns::Clang => column > 0 && column + length + 3 > 75,
        };
        match (column, full) {
            (0, _) => {}
            (_, false) => {
                wrapped.push(b' ');
                column += 1;
            }
            (_, true) => {
                wrapped.extend_from_slice(b" \\\n ");
                column = 1;
                if columns == Columns::Clang {
                    wrapped.push(b' ');
                    column = 3;
                }
            }
        }
        wrapped.extend_from_slice(word);
        column += length;
    }
    wrapped.extend_from_slice(rest);
    wrapped
}

/// Where the first line ends that is not continued.
fn rule_end(text: &[u8]) -> usize {
    let mut ends = memchr::memchr_iter(b'\n', text);
    ends.find(|&at| at == 0 || text[at - 1] != b'\\').unwrap_or(text.len())
}

/// The names of a rule, quoted as they are.
fn words(rule: &[u8]) -> Vec<&[u8]> {
    let (mut words, mut begin, mut at) = (Vec::new(), None, 0);
    while at < rule.len() {
        let quoted = rule[at] == b'\\' && rule.get(at + 1).is_some_and(|&next| next != b'\n');
        let breaks = !quoted && matches!(rule[at], b' ' | b'\t' | b'\n' | b'\\');
        match (breaks, begin) {
            (true, Some(from)) => {
                words.push(&rule[from..at]);
                begin = None;
            }
            (false, None) => begin = Some(at),
            _ => {}
        }
        at += if quoted { 2 } else { 1 };
    }
    words.extend(begin.map(|from| &rule[from..]));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(columns: Columns, text: &str, expected: &str) {
        let wrapped = rewrap(text.as_bytes(), columns);
        assert_eq!(String::from_utf8_lossy(&wrapped), expected);
    }

    #[test]
    fn a_short_rule_is_one_line_and_what_follows_stays() {
        check(Columns::Gcc, "a.o: a.c \\\n inc/a.h\n\ninc/a.h:\n", "a.o: a.c inc/a.h\n\ninc/a.h:\n");
        check(Columns::Gcc, "a.o: a\\ b.c \\\n x.h\n", "a.o: a\\ b.c x.h\n");
        check(Columns::Gcc, "", "");
    }

    #[test]
    fn names_are_broken_where_the_compiler_breaks_them() {
        let (x, y) = ("x".repeat(60), "y".repeat(20));
        check(Columns::Gcc, &format!("a.o: {x} {y}\n"), &format!("a.o: {x} \\\n {y}\n"));
        check(Columns::Clang, &format!("a.o: {x} {y}\n"), &format!("a.o: {x} \\\n  {y}\n"));
    }
}
