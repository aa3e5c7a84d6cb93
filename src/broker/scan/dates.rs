//! Which of the macros that tell a time a text mentions, and what decides their values.

use std::ops::BitOrAssign;

use memchr::memmem;

use crate::common::toolchain::major;

/// What `SOURCE_DATE_EPOCH` may be at most, to gcc and clang alike: the end of the year 9999.
const EPOCH_MAX: u64 = 253_402_300_799;

/// The first gcc and the first clang that go by `SOURCE_DATE_EPOCH`.
const FIRST_GCC: u32 = 7;
const FIRST_CLANG: u32 = 16;

/// Which of them are mentioned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dates {
    /// `__DATE__` or `__TIME__`: the time of the compile.
    pub now: bool,
    /// `__TIMESTAMP__`: that of the file.
    pub modified: bool,
}

impl BitOrAssign for Dates {
    fn bitor_assign(&mut self, other: Dates) {
        self.now |= other.now;
        self.modified |= other.modified;
    }
}

impl Dates {
    /// What a word is.
    pub fn of_word(word: &[u8]) -> Self {
        Dates { now: matches!(word, b"__DATE__" | b"__TIME__"), modified: word == b"__TIMESTAMP__" }
    }

    /// What a text mentions, anywhere.
    pub fn in_text(text: &[u8]) -> Self {
        let has = |word: &[u8]| memmem::find(text, word).is_some();
        Dates { now: has(b"__DATE__") || has(b"__TIME__"), modified: has(b"__TIMESTAMP__") }
    }

    /// Whether any is mentioned.
    pub fn any(self) -> bool {
        self.now || self.modified
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
            false => !self.modified && major(version).is_some_and(|major| major >= FIRST_GCC),
        };
        honoured && is_epoch(first) && epochs.all(|other| other == first)
    }
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
