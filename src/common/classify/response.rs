//! Response files: `@file` stands for the words in the file.

use std::collections::VecDeque;

use crate::common::bytes::Bytes;
use crate::common::limits::{RESPONSE_FILES_MAX, RESPONSE_FILES_MAX_BYTES};
use crate::common::reason::LocalReason;

/// Gives the content of a response file, or says why it cannot.
pub type ResponseReader<'a> = dyn Fn(&[u8]) -> Result<Vec<u8>, String> + 'a;

/// The words of a command whose response files are in their place.
#[derive(Debug, Default)]
pub(super) struct Expanded {
    /// All words.
    pub words: Vec<Bytes>,
    /// The files, as named behind the `@`.
    pub files: Vec<Bytes>,
}

/// Puts the words of response files in their place, nested ones too.
///
/// # Errors
///
/// A file that cannot be read is, for gcc, no response file but the word itself; so the job stays
/// here, as it does when there are too many files, too large ones, or words on whose splitting
/// compilers disagree.
pub(super) fn expand(words: &[Bytes], read: &ResponseReader<'_>) -> Result<Expanded, LocalReason> {
    let mut pending: VecDeque<Bytes> = words.iter().cloned().collect();
    let mut expanded = Expanded { words: Vec::with_capacity(words.len()), files: Vec::new() };
    let mut bytes = 0;
    while let Some(word) = pending.pop_front() {
        let Some(file) = word.strip_prefix(b"@") else {
            expanded.words.push(word);
            continue;
        };
        let refuse = |why: &str| LocalReason::ResponseFile { file: file.into(), why: why.to_owned() };
        expanded.files.push(file.into());
        if expanded.files.len() > RESPONSE_FILES_MAX {
            return Err(refuse("too many response files"));
        }
        let content = read(file).map_err(|why| refuse(&why))?;
        bytes += content.len();
        if bytes > RESPONSE_FILES_MAX_BYTES {
            return Err(refuse("response files are too large"));
        }
        let inner = split(&content).ok_or_else(|| refuse("compilers disagree on its quoting"))?;
        for word in inner.into_iter().rev() {
            pending.push_front(word);
        }
    }
    Ok(expanded)
}

/// Splits a response file into words: blanks separate them, both kinds of quotes keep blanks, a
/// backslash keeps the next byte.
///
/// `None` where compilers differ or the text is broken: a backslash between single quotes, a
/// quote that is not closed, a backslash at the end, a NUL.
fn split(text: &[u8]) -> Option<Vec<Bytes>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<Vec<u8>>, None);
    let mut rest = text.iter().copied();
    while let Some(byte) = rest.next() {
        match (byte, quote) {
            (0, _) | (b'\\', Some(b'\'')) => return None,
            (b'\\', _) => word.get_or_insert_default().push(rest.next().filter(|byte| *byte != 0)?),
            (_, Some(open)) if byte == open => quote = None,
            (b'\'' | b'"', None) => {
                quote = Some(byte);
                word.get_or_insert_default();
            }
            (b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c, None) => words.extend(word.take().map(Bytes)),
            _ => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word.map(Bytes));
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_by_blanks_quotes_and_backslashes() {
        for (text, expected) in [
            ("", vec![]),
            (" \n\t ", vec![]),
            ("-c a.c", vec!["-c", "a.c"]),
            ("-c\n a.c\r\n", vec!["-c", "a.c"]),
            (r#""a b" 'c d'"#, vec!["a b", "c d"]),
            (r#"-DX="a b"c"#, vec!["-DX=a bc"]),
            (r#"-DX=\"a\""#, vec!["-DX=\"a\""]),
            (r"a\ b \\", vec!["a b", "\\"]),
            (r#""a\"b" "it's""#, vec!["a\"b", "it's"]),
            ("''", vec![""]),
        ] {
            let words: Vec<Bytes> = expected.into_iter().map(Bytes::from).collect();
            assert_eq!(split(text.as_bytes()), Some(words), "{text:?}");
        }
    }

    #[test]
    fn text_that_compilers_read_differently_is_not_split() {
        for text in [r"'a\b'", "'open", "\"open", "end\\", "a\0b"] {
            assert_eq!(split(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn a_file_that_names_itself_ends() {
        let result = expand(&["@a".into()], &|_| Ok(b"@a @a".to_vec()));
        assert!(matches!(result, Err(LocalReason::ResponseFile { .. })), "{result:?}");
    }

    #[test]
    fn the_sum_of_the_sizes_is_bounded() {
        let large = vec![b' '; RESPONSE_FILES_MAX_BYTES / 2 + 1];
        let read = |_: &[u8]| Ok(large.clone());
        assert!(expand(&["@a".into()], &read).is_ok());
        assert!(expand(&["@a".into(), "@b".into()], &read).is_err());
    }

    #[test]
    fn nested_words_stand_where_the_file_stood() {
        let read = |file: &[u8]| Ok(if file == b"a" { b"1 @b 4".to_vec() } else { b"2 3".to_vec() });
        let found = expand(&["0".into(), "@a".into(), "5".into()], &read).expect("words");
        assert_eq!(found.files, ["a", "b"].map(Bytes::from));
        assert_eq!(found.words, ["0", "1", "2", "3", "4", "5"].map(Bytes::from));
    }
}
