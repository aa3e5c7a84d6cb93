//! Finds the directive lines of a file, and what in the rest of it names files.
//!
//! Translation phases 1 to 3 as far as they matter: splices, trigraphs, comments, literals. Text
//! lines vanish; a directive comes out as one cleaned line, comments turned into a blank.

use super::token::{self, Mode};

/// What [`Lines`] finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// A directive: what follows its `#`, cleaned.
    Directive(Vec<u8>),
    /// `_Pragma("…")` in the text: what the string says.
    Pragma(Vec<u8>),
    /// Something outside directives that may name a file or change macros.
    Doubt(&'static str),
}

/// An iterator over the findings of one file.
#[derive(Debug)]
pub struct Lines<'a> {
    source: &'a [u8],
    at: usize,
    mode: Mode,
    fresh_line: bool,
    /// The file mentions the date or the time outside directives, or in a macro.
    pub clock: bool,
}

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
fn splice(source: &[u8], at: usize) -> usize {
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

impl<'a> Lines<'a> {
    /// The findings of `source`, a byte order mark skipped.
    pub fn new(source: &'a [u8], mode: Mode) -> Self {
        let at = if source.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        Lines { source, at, mode, fresh_line: true, clock: false }
    }

    fn peek(&self, ahead: usize) -> u8 {
        self.source.get(self.at + ahead).copied().unwrap_or(b'\n')
    }

    /// Skips splices here.
    fn unsplice(&mut self) {
        loop {
            match splice(self.source, self.at) {
                0 => return,
                length => self.at += length,
            }
        }
    }

    /// If a comment starts here, skips it. A line comment's newline stays.
    fn comment(&mut self) -> bool {
        if self.peek(0) != b'/' {
            return false;
        }
        let mut next = self.at + 1;
        loop {
            match splice(self.source, next) {
                0 => break,
                length => next += length,
            }
        }
        match self.source.get(next) {
            Some(b'*') => self.block_comment(next + 1),
            Some(b'/') if self.mode.line_comments => self.line_comment(next + 1),
            _ => return false,
        }
        true
    }

    fn block_comment(&mut self, mut at: usize) {
        while at < self.source.len() {
            if self.source[at] == b'*' {
                let mut next = at + 1;
                loop {
                    match splice(self.source, next) {
                        0 => break,
                        length => next += length,
                    }
                }
                if self.source.get(next) == Some(&b'/') {
                    self.at = next + 1;
                    return;
                }
            }
            at += 1;
        }
        self.at = self.source.len();
    }

    fn line_comment(&mut self, mut at: usize) {
        while at < self.source.len() && self.source[at] != b'\n' {
            at += splice(self.source, at).max(1);
        }
        self.at = at.min(self.source.len());
    }

    /// Skips a quoted literal that starts here; an unterminated one ends with its line. Returns
    /// whether it holds an assembler directive that reads a file.
    fn literal(&mut self) -> bool {
        let quote = self.source[self.at];
        let start = self.at;
        self.at += 1;
        while self.at < self.source.len() {
            match self.source[self.at] {
                b'\\' => {
                    let length = splice(self.source, self.at);
                    if length > 0 {
                        self.at += length;
                    } else {
                        self.at += 1;
                        self.unsplice();
                        self.at += usize::from(self.at < self.source.len() && self.source[self.at] != b'\n');
                    }
                }
                b'\n' => break,
                byte => {
                    self.at += 1;
                    if byte == quote {
                        break;
                    }
                }
            }
        }
        quote == b'"' && names_assembler_file(&self.source[start..self.at])
    }

    /// Skips to the end of an identifier, number or raw string that starts here.
    fn word(&mut self) -> Option<Found> {
        let start = self.at;
        while self.at < self.source.len() && token::goes_on(self.source[self.at]) {
            self.at += 1;
        }
        let word = &self.source[start..self.at];
        if self.peek(0) == b'"' && self.mode.raw_strings && token::is_raw_prefix(word) {
            return self.raw_string();
        }
        match word[0] {
            b'_' => match word {
                b"_Pragma" => return self.pragma_operator(),
                b"__DATE__" | b"__TIME__" | b"__TIMESTAMP__" => self.clock = true,
                _ => {}
            },
            b'p' if matches!(word, b"push_macro" | b"pop_macro") => {
                return Some(Found::Doubt("push_macro outside a #pragma line"));
            }
            b'i' | b'm' | b'e' if self.mode.modules => return self.module_line(start),
            _ => {}
        }
        None
    }

    /// `import`, `module` or `export …` as the first word of a line may name another unit.
    fn module_line(&mut self, start: usize) -> Option<Found> {
        let word = &self.source[start..self.at];
        let mut before = self.source[..start].iter().rev();
        let before = before.find(|&&byte| byte == b'\n' || !token::is_blank(byte));
        if before.is_some_and(|&byte| byte != b'\n') {
            return None;
        }
        match word {
            b"import" | b"module" => Some(Found::Doubt("a module or import line")),
            b"export" => {
                let rest = self.source[self.at..].trim_ascii_start();
                let named = rest.starts_with(b"module") || rest.starts_with(b"import");
                named.then_some(Found::Doubt("a module or import line"))
            }
            _ => None,
        }
    }

    fn raw_string(&mut self) -> Option<Found> {
        let rest = &self.source[self.at..];
        match token::raw_string_end(rest) {
            Some(length) => {
                self.at += length;
                names_assembler_file(&rest[..length]).then_some(Found::Doubt(ASSEMBLER))
            }
            None => {
                self.at = self.source.len();
                Some(Found::Doubt("an unterminated raw string"))
            }
        }
    }

    fn pragma_operator(&mut self) -> Option<Found> {
        let mut at = self.at;
        let blank = |at: &mut usize| {
            while self.source.get(*at).is_some_and(|&byte| token::is_blank(byte)) {
                *at += 1;
            }
        };
        blank(&mut at);
        if self.source.get(at) != Some(&b'(') {
            return Some(Found::Doubt("_Pragma in an unusual form"));
        }
        at += 1;
        blank(&mut at);
        if self.source.get(at) != Some(&b'"') {
            // Within a macro's arguments, or of a macro: what it says is not known here.
            return Some(Found::Doubt("_Pragma of a macro"));
        }
        let (kind, length) = token::one(&self.source[at..], self.mode, false);
        if kind != token::Kind::Text {
            return Some(Found::Doubt("_Pragma in an unusual form"));
        }
        let text = destringise(&self.source[at..at + length]);
        self.at = at + length;
        Some(Found::Pragma(text))
    }

    /// Handles what starts at this byte of a text line.
    fn text(&mut self) -> Option<Found> {
        let byte = self.source[self.at];
        match byte {
            b'\n' => {
                self.fresh_line = true;
                self.at += 1;
            }
            b'"' | b'\'' => {
                if self.literal() {
                    return Some(Found::Doubt(ASSEMBLER));
                }
            }
            b'/' => {
                if !self.comment() {
                    self.at += 1;
                }
            }
            b'\\' => self.at += splice(self.source, self.at).max(1),
            b'\r' => {
                self.at += 1;
                if self.at < self.source.len() && self.source[self.at] != b'\n' {
                    return Some(Found::Doubt("a carriage return inside a line"));
                }
            }
            b'.' => return self.dot(),
            b'0'..=b'9' => self.at += token::number_length(&self.source[self.at..], self.mode),
            _ if token::starts_name(byte) => return self.word(),
            _ => self.at += 1,
        }
        None
    }

    fn dot(&mut self) -> Option<Found> {
        self.at += 1;
        let rest = &self.source[self.at..];
        let reads = rest.starts_with(b"incbin")
            || rest
                .strip_prefix(b"include")
                .is_some_and(|after| self.mode.assembler || after.trim_ascii_start().starts_with(b"\""));
        if reads {
            return Some(Found::Doubt(ASSEMBLER));
        }
        if rest.first().is_some_and(u8::is_ascii_digit) {
            self.at += token::number_length(rest, self.mode);
        }
        None
    }

    /// White space and comments at a line's start; then whether a directive begins here.
    fn directive_starts(&mut self) -> bool {
        loop {
            match self.peek(0) {
                b' ' | b'\t' | 0x0b | 0x0c | 0 if self.at < self.source.len() => self.at += 1,
                b'\\' if splice(self.source, self.at) > 0 => self.unsplice(),
                b'/' if self.comment() => {}
                b'#' => {
                    self.at += 1;
                    return true;
                }
                b'%' if self.peek(1) == b':' && !self.mode.assembler => {
                    self.at += 2;
                    return true;
                }
                _ => return false,
            }
        }
    }

    /// Reads the rest of a directive's logical line.
    fn directive(&mut self) -> Found {
        let mut line = Vec::with_capacity(48);
        while self.at < self.source.len() {
            let byte = self.source[self.at];
            match byte {
                b'\n' => break,
                b'\\' if splice(self.source, self.at) > 0 => self.unsplice(),
                b'/' if self.comment() => line.push(b' '),
                _ if line.is_empty() && byte != b'\r' && token::is_blank(byte) => self.at += 1,
                b'"' | b'\'' | b'<' => {
                    let header = byte != b'\'' && expects_header(&line);
                    if byte == b'<' && !header {
                        line.push(byte);
                        self.at += 1;
                    } else {
                        self.copy_quoted(byte, header, &mut line);
                    }
                }
                b'\r' if self.peek(1) != b'\n' => {
                    self.at += 1;
                    return Found::Doubt("a carriage return inside a line");
                }
                _ if token::starts_name(byte) => {
                    if !self.copy_word(&mut line) {
                        return Found::Doubt("a raw string in a directive");
                    }
                }
                b'0'..=b'9' => {
                    let length = token::number_length(&self.source[self.at..], self.mode);
                    line.extend_from_slice(&self.source[self.at..self.at + length]);
                    self.at += length;
                }
                _ => {
                    line.push(byte);
                    self.at += 1;
                }
            }
        }
        Found::Directive(line)
    }

    fn copy_word(&mut self, line: &mut Vec<u8>) -> bool {
        let start = self.at;
        while self.at < self.source.len() && token::goes_on(self.source[self.at]) {
            self.at += 1;
        }
        let word = &self.source[start..self.at];
        line.extend_from_slice(word);
        if matches!(word, b"__DATE__" | b"__TIME__" | b"__TIMESTAMP__") {
            self.clock = true;
        }
        if self.mode.raw_strings && self.peek(0) == b'"' && token::is_raw_prefix(word) {
            let rest = &self.source[self.at..];
            let Some(length) = token::raw_string_end(rest) else { return false };
            // Over several lines inside a directive it is an error to one compiler and not to another.
            if rest[..length].contains(&b'\n') {
                return false;
            }
            line.extend_from_slice(&rest[..length]);
            self.at += length;
        }
        true
    }

    /// Copies a literal or a header name, splices removed; an unterminated one ends with its line.
    fn copy_quoted(&mut self, open: u8, header: bool, line: &mut Vec<u8>) {
        let close = if open == b'<' { b'>' } else { open };
        line.push(open);
        self.at += 1;
        while self.at < self.source.len() {
            self.unsplice();
            let Some(&byte) = self.source.get(self.at) else { return };
            if byte == b'\n' {
                return;
            }
            line.push(byte);
            self.at += 1;
            if byte == close {
                return;
            }
            if byte == b'\\' && !header {
                self.unsplice();
                if let Some(&escaped) = self.source.get(self.at).filter(|&&byte| byte != b'\n') {
                    line.push(escaped);
                    self.at += 1;
                }
            }
        }
    }
}

/// Said of literals (and of assembler text) that make the assembler read a file.
pub const ASSEMBLER: &str = "assembler text that reads a file";

/// Whether a string has `.incbin` or `.include` in it.
pub fn names_assembler_file(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&byte| byte == b'.') {
        rest = &rest[at + 1..];
        if rest.starts_with(b"incbin") || rest.starts_with(b"include") {
            return true;
        }
    }
    false
}

/// Whether, behind this part of a directive line, `<` or `"` opens a header name.
fn expects_header(line: &[u8]) -> bool {
    let line = line.trim_ascii_end();
    if let Some(before) = line.strip_suffix(b"(") {
        let before = before.trim_ascii_end();
        return [&b"__has_include"[..], b"__has_include_next", b"__has_embed"]
            .iter()
            .any(|query| before.ends_with(query));
    }
    matches!(
        line.trim_ascii_start(),
        b"include" | b"include_next" | b"import" | b"embed" | b"__include_macros"
    )
}

fn destringise(literal: &[u8]) -> Vec<u8> {
    let start = literal.iter().position(|&byte| byte == b'"').map_or(0, |at| at + 1);
    let inner = &literal[start..literal.len().saturating_sub(1).max(start)];
    let mut out = Vec::with_capacity(inner.len());
    let mut at = 0;
    while at < inner.len() {
        if inner[at] == b'\\' && matches!(inner.get(at + 1), Some(b'"' | b'\\')) {
            at += 1;
        }
        out.push(inner[at]);
        at += 1;
    }
    out
}

impl Iterator for Lines<'_> {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        while self.at < self.source.len() {
            if self.fresh_line {
                self.fresh_line = false;
                if self.directive_starts() {
                    return Some(self.directive());
                }
                if self.at >= self.source.len() {
                    break;
                }
            }
            if let Some(found) = self.text() {
                return Some(found);
            }
        }
        None
    }
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
