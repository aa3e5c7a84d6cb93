//! Finds the directive lines of a file, and what in the rest of it names files.
//!
//! Translation phases 1 to 3 as far as they matter: splices, trigraphs, comments, literals. Text
//! lines vanish; a directive comes out as one cleaned line, comments turned into a blank.

use super::assembly::{self, ASSEMBLER, Statement};
use super::dates::Dates;
use super::modules;
use super::phases::splice;
use super::pragma;
use super::token::{self, Mode};

/// What [`Lines`] finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// A directive: what follows its `#`, cleaned.
    Directive(Vec<u8>),
    /// `_Pragma("…")` in the text: what the string says.
    Pragma(Vec<u8>),
    /// A line that names a module.
    Module(modules::Line),
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
    /// The `asm` statement that is being read.
    statement: Option<Statement>,
    /// The file mentions the date or the time outside directives, or in a macro.
    pub clock: Dates,
}

impl<'a> Lines<'a> {
    /// The findings of `source`, a byte order mark skipped.
    pub fn new(source: &'a [u8], mode: Mode) -> Self {
        let at = if source.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        Lines { source, at, mode, fresh_line: true, statement: None, clock: Dates::default() }
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
        let literal = &self.source[start..self.at];
        if let Some(statement) = self.statement.as_mut().filter(|_| quote == b'"') {
            statement.literal(literal);
        }
        quote == b'"' && assembly::names_file(literal)
    }

    /// Skips to the end of an identifier, number or raw string that starts here.
    fn word(&mut self) -> Option<Found> {
        let start = self.at;
        while self.at < self.source.len() && token::goes_on(self.source[self.at]) {
            self.at += 1;
        }
        let word = &self.source[start..self.at];
        if splice(self.source, self.at) > 0 && self.goes_on_behind_splice() {
            return Some(Found::Doubt("a word over two lines"));
        }
        if self.peek(0) == b'"' && self.mode.raw_strings && token::is_raw_prefix(word) {
            return self.raw_string();
        }
        if let Some(statement) = &mut self.statement {
            statement.name();
        }
        self.clock |= Dates::of_word(self.source, start, self.at);
        match word[0] {
            b'_' => match word {
                b"_Pragma" => return self.pragma_operator(),
                b"__asm__" | b"__asm" => self.statement = Some(Statement::default()),
                _ => {}
            },
            b'p' if matches!(word, b"push_macro" | b"pop_macro") => {
                return Some(Found::Doubt("push_macro outside a #pragma line"));
            }
            b'a' if word == b"asm" => self.statement = Some(Statement::default()),
            b'G' | b'c' if matches!(word, b"GCC" | b"clang") => return self.pragma_words(),
            b'o' if word == b"once" && self.is_pragma_of_macro(start) => {
                return Some(Found::Doubt("_Pragma of a macro"));
            }
            b'i' if word == b"incbin" => return Some(Found::Doubt(ASSEMBLER)),
            b'i' | b'm' | b'e' if self.mode.modules && matches!(word, b"import" | b"module" | b"export") => {
                return modules::found(self.source, start, self.at);
            }
            _ => {}
        }
        None
    }

    /// Whether the splices here are followed by what would be one with the word before them.
    fn goes_on_behind_splice(&mut self) -> bool {
        let here = self.at;
        self.unsplice();
        let next = std::mem::replace(&mut self.at, here);
        self.source.get(next).is_some_and(|&byte| token::goes_on(byte) || matches!(byte, b'"' | b'\''))
    }

    /// `GCC …` or `clang …` in the text: an argument of a macro that makes a pragma of it, perhaps.
    fn pragma_words(&mut self) -> Option<Found> {
        let rest = self.source[self.at..].trim_ascii_start();
        let length = rest.iter().position(|&byte| !token::goes_on(byte)).unwrap_or(rest.len());
        match &rest[..length] {
            b"dependency" | b"pch_preprocess" | b"module" => Some(Found::Doubt("a pragma that names a file")),
            b"target" | b"optimize" | b"push_options" | b"pop_options" | b"reset_options"
            | b"system_header" => Some(Found::Pragma([b"GCC ", &rest[..length]].concat())),
            _ => None,
        }
    }

    /// `PRAGMA(once)`, by the name of what is called.
    fn is_pragma_of_macro(&self, start: usize) -> bool {
        let before = self.source[..start].trim_ascii_end();
        let Some(before) = before.strip_suffix(b"(") else { return false };
        let name = before.trim_ascii_end();
        let name = &name[name.iter().rposition(|&byte| !token::goes_on(byte)).map_or(0, |at| at + 1)..];
        let is_loud = !name.is_empty() && !name.iter().any(u8::is_ascii_lowercase);
        is_loud || memchr::memmem::find(&name.to_ascii_lowercase(), b"pragma").is_some()
    }

    fn raw_string(&mut self) -> Option<Found> {
        let rest = &self.source[self.at..];
        match token::raw_string_end(rest) {
            Some(length) => {
                self.at += length;
                if let Some(statement) = &mut self.statement {
                    statement.literal(&rest[..length]);
                }
                assembly::names_file(&rest[..length]).then_some(Found::Doubt(ASSEMBLER))
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
        let text = pragma::destringise(&self.source[at..at + length]);
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
                    self.statement = None;
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
            b'0'..=b'9' => return self.number(),
            _ if token::starts_name(byte) => return self.word(),
            _ => {
                self.at += 1;
                if let Some(statement) = &mut self.statement
                    && statement.other(byte)
                    && self.statement.take().is_some_and(|statement| statement.names_file())
                {
                    return Some(Found::Doubt(ASSEMBLER));
                }
            }
        }
        None
    }

    fn number(&mut self) -> Option<Found> {
        self.at += token::number_length(&self.source[self.at..], self.mode);
        let goes_on = splice(self.source, self.at) > 0 && self.goes_on_behind_splice();
        goes_on.then_some(Found::Doubt("a word over two lines"))
    }

    fn dot(&mut self) -> Option<Found> {
        self.at += 1;
        let rest = &self.source[self.at..];
        let word = rest.get(..7).unwrap_or(rest).to_ascii_lowercase();
        let reads = word.starts_with(b"incbin")
            || (word == b"include"
                && (self.mode.assembler || rest[7..].trim_ascii_start().starts_with(b"\"")))
            || (self.mode.assembler && rest.starts_with(b"\\") && splice(rest, 0) == 0);
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
        let mut is_spliced = false;
        while self.at < self.source.len() {
            let byte = self.source[self.at];
            match byte {
                b'\n' => break,
                b'\\' if splice(self.source, self.at) > 0 => {
                    is_spliced = true;
                    self.unsplice();
                }
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
        if is_spliced {
            // Its words may have been in two lines each.
            self.clock |= Dates::in_text(&line);
        }
        Found::Directive(line)
    }

    fn copy_word(&mut self, line: &mut Vec<u8>) -> bool {
        let start = self.at;
        while self.at < self.source.len() && token::goes_on(self.source[self.at]) {
            self.at += 1;
        }
        let word = &self.source[start..self.at];
        // With a splice in it or behind it, where it begins and ends is another matter.
        let joined = line.last().is_some_and(|&byte| token::goes_on(byte));
        if self.mode.raw_strings && token::is_raw_prefix(word) {
            let here = self.at;
            self.unsplice();
            let is_string = self.peek(0) == b'"';
            if is_string && (joined || self.at > here) {
                return false;
            }
            self.at = here;
        }
        line.extend_from_slice(word);
        self.clock |= Dates::of_word(self.source, start, self.at);
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
