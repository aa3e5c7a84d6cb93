//! Which of the macros that tell a time a text mentions, and what decides their values.

use std::ops::BitOrAssign;

use memchr::memmem;

use super::token;
use crate::common::toolchain::major;

/// What `SOURCE_DATE_EPOCH` may be at most, to gcc and clang alike: the end of the year 9999.
const EPOCH_MAX: u64 = 253_402_300_799;

/// The first gcc and the first clang that go by `SOURCE_DATE_EPOCH`.
const FIRST_GCC: u32 = 7;
const FIRST_CLANG: u32 = 16;

/// Names of the macros.
const NAMES: [&[u8]; 3] = [b"__DATE__", b"__TIME__", b"__TIMESTAMP__"];

/// Which of them are mentioned, and what `##` could make one of.
///
/// Pieces count when all of a unit has them and something that pastes, in whatever file. A name that is put together
/// out of two pieces has one that nothing else is called ([`Dates::OF_NOW`], [`Dates::OF_FILE`]). Of three or more, the first or the last
/// may be underscores alone, and what is between them an ordinary word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dates {
    /// `__DATE__` or `__TIME__`: the time of the compile.
    pub now: bool,
    /// `__TIMESTAMP__`: that of the file.
    pub modified: bool,
    pieces: u8,
}

impl BitOrAssign for Dates {
    fn bitor_assign(&mut self, other: Dates) {
        self.now |= other.now;
        self.modified |= other.modified;
        self.pieces |= other.pieces;
    }
}

impl Dates {
    /// A macro that puts words together.
    const PASTES: u8 = 1;
    /// A piece that nothing else has: the beginning or the end, with a letter, of `__DATE__` or `__TIME__`.
    const OF_NOW: u8 = 2;
    /// Letters that could stand between underscores: `TIME`, `DATE`, or `IME` behind `__T`.
    const LETTERS: u8 = 4;
    /// Two underscores where they could be the last piece.
    const END: u8 = 8;
    /// Letters with one underscore behind them: `TIME_`.
    const LETTERS_AND_ONE: u8 = 16;
    /// One underscore where it could be the last piece.
    const LAST: u8 = 32;
    /// Letters of the time of a file that could stand between underscores: `TIMESTAMP`.
    const FILE_LETTERS: u8 = 64;
    /// The beginning or the end of `__TIMESTAMP__`, with a letter.
    const OF_FILE: u8 = 128;

    fn piece(piece: u8) -> Self {
        Dates { pieces: piece, ..Dates::default() }
    }

    /// What the word from `start` to `end` of a text is.
    pub fn of_word(text: &[u8], start: usize, end: usize) -> Self {
        let word = &text[start..end];
        if word.len() > 13 || !matches!(word[0], b'_' | b'T' | b'I' | b'M' | b'E' | b'D' | b'A' | b'S' | b'P')
        {
            return Dates::default();
        }
        match word {
            b"__DATE__" | b"__TIME__" => Dates { now: true, ..Dates::default() },
            b"__TIMESTAMP__" => Dates { modified: true, ..Dates::default() },
            b"_" if could_be_last(text, start, end) => Dates::piece(Dates::LAST),
            b"__" if could_be_last(text, start, end) => Dates::piece(Dates::END),
            b"_" | b"__" => Dates::default(),
            _ => match pieces(word) {
                // The first half is the last word of what it stands in.
                piece if is_end(piece) && !word.ends_with(b"__") && !could_be_first(text, end) => {
                    Dates::default()
                }
                Dates::LETTERS | Dates::FILE_LETTERS if !could_be_inner(text, start, end) => Dates::default(),
                piece => Dates::piece(piece),
            },
        }
    }

    /// Something that puts words together is in the body of a macro, or in what may be one.
    pub fn of_pasting(text: &[u8]) -> Self {
        let pastes = memmem::find(text, b"##").is_some() || memmem::find(text, b"%:%:").is_some();
        Dates::piece(if pastes { Dates::PASTES } else { 0 })
    }

    /// Which of them are spelt out anywhere.
    pub fn spelt_out(text: &[u8]) -> Self {
        let has = |word: &[u8]| memmem::find(text, word).is_some();
        let (now, modified) = (has(b"__DATE__") || has(b"__TIME__"), has(b"__TIMESTAMP__"));
        Dates { now, modified, pieces: 0 }
    }

    /// What a text mentions, anywhere.
    pub fn in_text(text: &[u8]) -> Self {
        let mut dates = Dates::of_pasting(text);
        dates |= Dates::spelt_out(text);
        let mut at = 0;
        while let Some(start) = text[at..].iter().position(|&byte| token::goes_on(byte)) {
            let start = at + start;
            let length = text[start..].iter().position(|&byte| !token::goes_on(byte));
            at = length.map_or(text.len(), |length| start + length);
            dates |= Dates::of_word(text, start, at);
        }
        dates
    }

    /// What a word of a command mentions: one that defines such a macro itself uses it no more than `-U` does.
    pub fn in_word(word: &[u8]) -> Self {
        let name = word.strip_prefix(b"-D").or_else(|| word.strip_prefix(b"-U")).unwrap_or(word);
        let value = [&b"__DATE__"[..], b"__TIME__", b"__TIMESTAMP__"].iter().find_map(|date| {
            let rest = name.strip_prefix(*date)?;
            (rest.is_empty() && name.len() < word.len()).then_some(rest).or_else(|| rest.strip_prefix(b"="))
        });
        Dates::in_text(value.unwrap_or(word))
    }

    /// With what may be put together counted as mentioned.
    pub fn settled(self) -> Self {
        let all = |these: u8| self.pieces & these == these;
        let pastes = all(Dates::PASTES);
        let is_any = pastes && all(Dates::LETTERS_AND_ONE | Dates::LAST);
        let is_now = is_any || pastes && (all(Dates::OF_NOW) || all(Dates::LETTERS | Dates::END));
        let is_of_file = is_any || pastes && (all(Dates::OF_FILE) || all(Dates::FILE_LETTERS | Dates::END));
        Dates { now: self.now || is_now, modified: self.modified || is_of_file, pieces: 0 }
    }

    /// Whether any is mentioned.
    pub fn any(self) -> bool {
        let settled = self.settled();
        settled.now || settled.modified
    }

    /// Whether a compiler of this version takes all that is mentioned from `SOURCE_DATE_EPOCH`, whose
    /// values these are in its environment. What it would not take is left to it here, with its words.
    pub fn are_given<'a>(
        self,
        clang: bool,
        version: &str,
        mut epochs: impl Iterator<Item = &'a [u8]>,
    ) -> bool {
        let Some(first) = epochs.next() else { return false };
        let honoured = match clang {
            true => major(version).is_some_and(|major| major >= FIRST_CLANG),
            // gcc's manual, "Environment Variables": `__TIMESTAMP__` is the file's.
            false => !self.settled().modified && major(version).is_some_and(|major| major >= FIRST_GCC),
        };
        honoured && is_epoch(first) && epochs.all(|other| other == first)
    }
}

/// Whether a piece is the beginning or the end of a name.
fn is_end(piece: u8) -> bool {
    piece & (Dates::OF_NOW | Dates::OF_FILE) != 0
}

/// Which piece of a name a word could be.
fn pieces(word: &[u8]) -> u8 {
    let has_letter = word.iter().any(|&byte| byte != b'_');
    // `__T` is a parameter of templates in headers of the C library.
    let begins = |name: &&[u8]| word.len() > 3 && name.starts_with(word);
    let ends = |name: &&[u8]| word.ends_with(b"__") && name.ends_with(word);
    let of = NAMES.each_ref().map(|name| has_letter && (begins(name) || ends(name)));
    match (of[0] || of[1], of[2]) {
        (true, true) => return Dates::OF_NOW | Dates::OF_FILE,
        (true, false) => return Dates::OF_NOW,
        (false, true) => return Dates::OF_FILE,
        (false, false) => {}
    }
    let letters = word.strip_prefix(b"_").unwrap_or(word);
    if letters.len() < 2 {
        return 0;
    }
    // A second piece of three: what is shorter stands behind a first one that is known by itself.
    let is_inner = |name: &[u8]| {
        let inner = &name[2..name.len() - 2];
        inner == letters || inner[1..] == *letters
    };
    let ends_once = |name: &&[u8]| word.ends_with(b"_") && name[..name.len() - 1].ends_with(word);
    if is_inner(NAMES[0]) || is_inner(NAMES[1]) {
        Dates::LETTERS
    } else if is_inner(NAMES[2]) {
        Dates::FILE_LETTERS
    } else if NAMES.iter().any(ends_once) {
        Dates::LETTERS_AND_ONE
    } else {
        0
    }
}

/// Whether a word that ends here could be pasted with what follows the argument or body that it is in.
fn could_be_first(text: &[u8], end: usize) -> bool {
    let next = text[end..].iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | 0x0b | 0x0c));
    next.is_none_or(|next| b",)#%/\\\n".contains(next))
}

/// Whether a word could have something pasted to both of its ends: as an operand, as an argument, or as all that a macro
/// stands for.
fn could_be_inner(text: &[u8], start: usize, end: usize) -> bool {
    let blank = |byte: &u8| b" \t\r\n\\".contains(byte);
    let before = text[..start].iter().rposition(|byte| !blank(byte)).map(|at| text[at]);
    let after = text[end..].iter().find(|byte| !blank(byte));
    let next = text[end..].iter().find(|byte| !b" \t\r".contains(byte));
    let ends_line = next.is_none_or(|byte| b"\n/\\".contains(byte));
    let (above, line) = text[..start].split_at(line_start(text, start));
    let line = line.trim_ascii_start();
    // A definition, or the rest of one.
    let is_defined =
        line.starts_with(b"#") || line.starts_with(b"%:") || above.trim_ascii_end().ends_with(b"\\");
    let is_body = ends_line && (is_defined || before == Some(b'='));
    let is_between = before.is_none_or(|byte| b"(,#:/".contains(&byte))
        && after.is_none_or(|byte| b"),#%/".contains(byte));
    is_body || is_between
}

/// Where the line begins that `at` is in.
fn line_start(text: &[u8], at: usize) -> usize {
    text[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1)
}

/// Whether underscores could be the last piece of something: not where more is pasted to them, nor as the first of
/// two in glibc's own macro, nor where they are called.
fn could_be_last(text: &[u8], start: usize, end: usize) -> bool {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let after = &text[end..];
    let after = &after[after.iter().position(|byte| !blank(byte)).unwrap_or(after.len())..];
    let without_blanks = |text: &'_ [u8]| text.iter().rposition(|byte| !blank(byte)).map_or(0, |at| at + 1);
    let is_first = || {
        let before = &text[..without_blanks(&text[..start])];
        let name = before.strip_suffix(b"(").map(|name| &name[..without_blanks(name)]);
        after.starts_with(b",") && name.is_some_and(|name| name.ends_with(b"__CONCAT"))
    };
    let before = &text[..without_blanks(&text[..start])];
    let is_operand = before.ends_with(b"#") || before.ends_with(b",") || before.ends_with(b"%:");
    is_operand
        && !after.starts_with(b"##")
        && !after.starts_with(b"%:%:")
        && !after.starts_with(b"(")
        && !is_first()
}

/// Whether every compiler that goes by it takes a value.
fn is_epoch(value: &[u8]) -> bool {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let number = str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok());
    digits && number.is_some_and(|number| number <= EPOCH_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_defines_the_date_itself_does_not_use_it() {
        let any = |word: &str| Dates::in_word(word.as_bytes()).any();
        for word in
            ["-D__DATE__=\"redacted\"", "-D__TIMESTAMP__=\"r\"", "-D__TIME__", "-U__TIME__", "__DATE__=x"]
        {
            assert!(!any(word), "{word}");
        }
        for word in ["-DX=__DATE__", "-D__DATE__=__TIME__", "-D__TIMESTAMP__(x)=__TIME__", "__DATE__"] {
            assert!(any(word), "{word}");
        }
    }

    #[test]
    fn a_time_that_macros_put_together_is_mentioned() {
        let check = |texts: &[&str], expected: bool| {
            let mut dates = Dates::default();
            texts.iter().for_each(|text| dates |= Dates::in_text(text.as_bytes()));
            assert_eq!(dates.any(), expected, "{texts:?}");
        };
        let pastes = "#define C(a,b) a##b\n";
        for text in [
            "C(__TI,ME__)",
            "C(__,TIME__)",
            "C(_,_DATE__)",
            "C(__TIMESTAMP,__)",
            "C(__T,IME__)",
            "C(__, C(DATE, __))",
            "C(__, C(TI, ME__))",
            "C(C(__, TIME_), _)",
        ] {
            check(&[pastes, text], true);
            check(&["#define C(a,b) a%:%:b\n", text], true);
            check(&[text], false);
        }
        check(&["#define W(x) __##x##__\n", "W(TIME)"], true);
        check(&["-DW(x)=__##x##__", "W(DATE)"], true);
        // As in headers of glibc, Boost, Qt and SQL.
        check(
            &["#define F(x) __CONCAT(__,x)\n#define P(n) n##l\n", "enum { DATE, TIME, TIMESTAMP };"],
            false,
        );
        check(&["#define F(x) __##x\n", "enum { DATE, TIME };", "SQL_##x##_DATE", "DATE_##x"], false);
        let headers = "/* __TIME*_T_TYPE, __*_t */ template<typename __T> bool f(__T __val);\n";
        check(&[pastes, headers, "int __TIMESIZE = f(__T);"], false);
        check(&[pastes, "template<class T> T TE(T, D); _(\"text\"); int DATE_;"], false);
        // As in <sys/socket.h> and <winnt.h>.
        let socket = "#define ONE(type) struct type *__##type##__;\n";
        check(&[socket, "enum { DATE, TIME }; int x = TIME; unsigned u __attribute__((mode(TI)));"], false);
        check(&[socket, "typedef double DATE;\nvoid f(DATE *, TIME t);\nDATE\ng(void);"], false);
        for body in [
            "#define T TIME\n",
            "#define T() TIME // x\n",
            "#define T \\\n  TIME\n",
            "%:define T DATE /* x */",
        ] {
            check(&[socket, body], true);
        }
        check(&[socket, "-DT=DATE"], true);
        check(&[socket, "ONE(\n  IME /* x */ )"], true);
    }

    #[test]
    fn what_macros_could_make_is_the_time_of_the_compile_or_that_of_the_file() {
        let made = |word: &str| {
            let dates = Dates::in_text(format!("#define W(x) __##x##__\nW({word})\n").as_bytes()).settled();
            (dates.now, dates.modified)
        };
        assert_eq!(["TIME", "DATE", "IME", "_TIME"].map(made), [(true, false); 4]);
        assert_eq!(["TIMESTAMP", "IMESTAMP"].map(made), [(false, true); 2]);
        assert_eq!(["TI", "MP", "TIMES", "x"].map(made), [(false, false); 4]);
        let pasted = |words: &str| {
            let dates = Dates::in_text(format!("#define W {words}\n").as_bytes()).settled();
            (dates.now, dates.modified)
        };
        // As in wxWidgets' <wx/chartype.h>.
        assert_eq!(["__ ## DATE__", "__ ## TIME__", "__DA##TE__"].map(pasted), [(true, false); 3]);
        assert_eq!(["__ ## TIMESTAMP__", "_##_TIMES ## TAMP__"].map(pasted), [(false, true); 2]);
        assert_eq!(["__TIME ## STAMP__", "__TI ## ME__"].map(pasted), [(true, true); 2]);
    }

    #[test]
    fn what_the_environment_decides_is_told_from_what_the_clock_does() {
        let check = |text: &str, version: &str, epochs: &[&str], expected: bool| {
            let dates = Dates::in_text(text.as_bytes());
            let clang = version.contains("clang");
            let given = dates.are_given(clang, version, epochs.iter().map(|epoch| epoch.as_bytes()));
            assert_eq!(given, expected, "{text} {version} {epochs:?}");
        };
        let (gcc, clang) = ("gcc version 12.2.0 (Debian 12.2.0-14)", "Ubuntu clang version 16.0.6 (27)");
        for text in ["__DATE__", "int __TIME__;"] {
            check(text, gcc, &["0"], true);
            check(text, clang, &["253402300799"], true);
            check(text, gcc, &[], false);
            check(text, "gcc version 6.5.0", &["0"], false);
            check(text, "Debian clang version 14.0.6", &["0"], false);
            check(text, "Apple clang version 16.0.0 (clang-1600.0.26)", &["0"], false);
            check(text, "gcc", &["0"], false);
            for odd in ["", "x", "-1", " 1", "+1", "1e9", "253402300800", "99999999999999999999999"] {
                check(text, gcc, &[odd], false);
                check(text, clang, &[odd], false);
            }
            check(text, gcc, &["5", "6"], false);
            check(text, gcc, &["5", "5"], true);
        }
        check("__TIMESTAMP__", gcc, &["0"], false);
        check("__TIMESTAMP__", clang, &["0"], true);
        check("__TIMESTAMP__ __TIME__", gcc, &["0"], false);
    }
}
