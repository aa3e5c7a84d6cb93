//! What a file of gcc's specs may say without the job's staying here.
//!
//! Specs make options of others, and gcc's compilers are run with what comes of it. So what is in such a
//! file must be known as well as what is in a command: each word in it is looked up as an option is, and
//! only what changes nothing but the code, the macros or the link may stand there. Whatever else the
//! language of specs has (gcc's manual, "Spec Files") is not read at all: files that it draws in,
//! functions, programs, suffixes.

use super::scan::is_placeless;
use super::table::{Class, Names, Value, find, harmless_shape, names_no_file};

/// Whether a file of specs does no more than choose among options that say all that they do.
pub(super) fn plain_specs(text: &[u8]) -> bool {
    text.split(|&byte| byte == b'\n').all(|line| match line {
        // The name of what is said, as `*cc1_options:`; a command or a suffix begins otherwise.
        [b'*', name @ .., b':'] => name.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'_'),
        _ => Body { rest: line, depth: 0, waiting: false }.reads_plainly(),
    })
}

/// The text of one spec, read a line at a time.
struct Body<'a> {
    rest: &'a [u8],
    /// Braces that are open.
    depth: usize,
    /// Whether the next word is the value of an option for the linker.
    waiting: bool,
}

impl<'a> Body<'a> {
    fn reads_plainly(mut self) -> bool {
        while let Some(&byte) = self.rest.first() {
            let is_known = match byte {
                b' ' | b'\t' => self.skip(1),
                // It stands before what is added to a spec.
                b'+' if self.depth == 0 && !self.waiting => self.skip(1),
                b'%' => self.directive(),
                b'}' | b';' if self.depth > 0 => self.branch(byte),
                _ => self.word(),
            };
            if !is_known {
                return false;
            }
        }
        self.depth == 0
    }

    fn skip(&mut self, count: usize) -> bool {
        self.rest = &self.rest[count..];
        true
    }

    /// `%{CONDITION:`, `%{OPTION}`, `%<OPTION`, `%(NAME)`.
    fn directive(&mut self) -> bool {
        match self.rest.get(1) {
            Some(b'{') => {
                self.depth += 1;
                self.skip(2) && self.condition()
            }
            Some(b'<') => {
                let length = self.rest[2..].iter().take_while(|&&byte| is_of_a_name(byte)).count();
                length > 0 && self.skip(2 + length)
            }
            Some(b'(') => {
                let Some(length) = self.rest.iter().position(|&byte| byte == b')') else { return false };
                let name = &self.rest[2..length];
                !name.is_empty() && name.iter().copied().all(is_of_a_name) && self.skip(length + 1)
            }
            _ => false,
        }
    }

    /// Names of options with what joins them, up to the colon, or to the brace where it stands for the options
    /// themselves: these are in the command.
    fn condition(&mut self) -> bool {
        let length = self.rest.iter().take_while(|&&byte| is_of_a_name(byte) || b"!|&* ".contains(&byte));
        let length = length.count();
        self.skip(length);
        match self.rest.first() {
            Some(b':') => self.skip(1),
            Some(b'}') if length > 0 => true,
            _ => false,
        }
    }

    /// The end of what a condition holds for: `}`, or `;` and another condition.
    fn branch(&mut self, byte: u8) -> bool {
        if self.waiting {
            return false;
        }
        self.skip(1);
        if byte == b'}' {
            self.depth -= 1;
            return true;
        }
        self.condition()
    }

    fn word(&mut self) -> bool {
        let ends = |byte: &u8| matches!(byte, b' ' | b'\t' | b'}' | b';' | b'%');
        let length = self.rest.iter().position(ends).unwrap_or(self.rest.len());
        let word = &self.rest[..length];
        let is_whole = self.rest.get(length) != Some(&b'%');
        self.skip(length);
        if std::mem::take(&mut self.waiting) {
            return is_whole && names_no_file(word);
        }
        is_whole && !word.is_empty() && self.option(word)
    }

    /// Whether an option touches no file, and nothing of this machine.
    fn option(&mut self, word: &[u8]) -> bool {
        let Some((row, value)) = find(word) else { return harmless_shape(word) };
        let value = match value {
            Value::Absent => &b""[..],
            Value::Here(value) => value,
            Value::Next => {
                self.waiting = row.class == Class::Link;
                return self.waiting;
            }
        };
        match row.class {
            Class::Machine => !value.starts_with(b"native") && names_no_file(value),
            Class::Sanitizers => value.split(|&byte| byte == b',').all(is_placeless),
            Class::Preprocess => row.names == Names::Define || row.names == Names::Nothing,
            Class::Kept | Class::Link => names_no_file(value),
            _ => false,
        }
    }
}

/// Whether a byte may be in the name of an option or a spec.
fn is_of_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-=+.,".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_that_choose_among_plain_options_travel() {
        for text in [
            "*cc1_options:\n+ %{!r:%{!fpie:%{!fPIE:%{!fpic:%{!fPIC:%{!fno-pic:-fPIE}}}}}}\n",
            "*self_spec:\n+ %{!static:%{!shared:%{!r:%{!fno-PIE:%{!no-pie:-fPIE -pie}}}}}\n",
            "*self_spec:\n+ %{!shared:%{!r:%{!fPIE:%{!pie:-fno-PIE -no-pie}}}}\n",
            "*link:\n+ -z now\n",
            "*self_spec:\n+ %{!static:%{!shared:%{!r:-pie}}}\n\n*link:\n+ %{r|nostdlib:;:-z relro} -z now\n\n",
            "*cc1:\n%(cc1_cpu) %{O*:-fstack-protector-strong} %<fno-pic -D_FORTIFY_SOURCE=2 %{f*}\n",
            "",
        ] {
            assert!(plain_specs(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn specs_that_add_an_option_with_files_stay_here() {
        for words in [
            "%{O2:-fprofile-use -Wno-missing-profile}",
            "-fprofile-use=/pgo",
            "-march=native",
            "%{g:-gsplit-dwarf}",
            "--coverage",
            "-save-temps",
            "-include x.h",
            "-isystem /x",
            "-fplugin=annobin",
            "-wrapper x",
            "-Bx",
            "-fdump-tree-all",
            "-MD",
            "-o x",
            "-x c++",
            "-E",
            "-Xclang -load",
            "@x",
            "a.c",
            "-specs=x",
            "-fsanitize=address",
        ] {
            assert!(!plain_specs(format!("*cc1_options:\n+ {words}\n").as_bytes()), "{words}");
        }
    }

    #[test]
    fn specs_that_reach_further_stay_here() {
        for text in [
            "%include <nosys.specs>",
            "%rename cc1 old",
            "%:getenv(X)",
            "*cc1:\n%{!x:%:find-plugindir()}",
            ".c:\ncc1 %i",
            "@c:\n-fPIE",
            "*cc1:\n-mtune=%*",
            "*cc1:\n%{m:-fx",
            "*cc1:\n-fx}",
            "*cc1:\n%{:-fPIE%}",
            "*cc1:\n%i",
            "*link:\n-z %{x}",
            "*cc1:\n%{x:-fPIE\n}",
            "*c c1:\n",
        ] {
            assert!(!plain_specs(text.as_bytes()), "{text}");
        }
    }
}
