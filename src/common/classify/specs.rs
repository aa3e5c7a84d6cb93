//! What a file of gcc's specs may say without the job's staying here.
//!
//! Specs make options of others, and gcc's compilers are run with what comes of it. So what is in such a
//! file must be known as well as what is in a command: each word in it is looked up as an option is, and
//! only what changes nothing but the code, the macros or the link may stand there. Whatever else the
//! language of specs has (gcc's manual, "Spec Files") is not read at all: files that it draws in,
//! functions, programs, suffixes.

use super::scan::is_placeless;
use super::table::{Class, Names, Value, find, harmless_shape, names_no_file};

/// Specs that only a link looks at: what is in them is not read.
const LINKING: [&[u8]; 10] = [
    b"endfile",
    b"lib",
    b"libgcc",
    b"link",
    b"link_command",
    b"link_gcc_c_sequence",
    b"link_gomp",
    b"link_libgcc",
    b"link_ssp",
    b"startfile",
];

/// Options with a directory of headers, which a compiler tells of when it is asked for its own.
const DIRECTORIES: [&[u8]; 4] = [b"-I", b"-idirafter", b"-iquote", b"-isystem"];

/// Whether a file of specs does no more than choose among options that say all that they do.
pub fn plain_specs(text: &[u8]) -> bool {
    let mut place = Place::Between;
    let mut linking: Vec<&[u8]> = LINKING.to_vec();
    text.split(|&byte| byte == b'\n').all(|line| match (&place, line) {
        (_, [b'#', ..]) => true,
        // A blank line right behind a name would be passed over, and what follows be the spec.
        (Place::Named, []) => false,
        (_, []) => {
            place = Place::Between;
            true
        }
        (Place::Linking, _) => true,
        (Place::Between, [b'*', name @ .., b':']) => {
            place = if linking.contains(&name) { Place::Linking } else { Place::Named };
            name.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'_')
        }
        (Place::Between, _) => {
            line.strip_prefix(b"%rename").is_some_and(|names| renames(names, &mut linking))
        }
        (Place::Named | Place::Within, _) => {
            place = Place::Within;
            Body { rest: line, depth: 0, waiting: None, linking: &linking }.reads_plainly()
        }
    })
}

/// Where in a file of specs a line is.
enum Place {
    /// Where the name of a spec may stand, as `*cc1_options:`; a command or a suffix begins otherwise.
    Between,
    /// Behind such a name.
    Named,
    /// In the text of a spec.
    Within,
    /// In one that only a link looks at.
    Linking,
}

/// `%rename OLD NEW`; what is of a link is to be known by its new name, too.
fn renames<'a>(names: &'a [u8], linking: &mut Vec<&'a [u8]>) -> bool {
    let mut words = names.split(|byte| b" \t".contains(byte)).filter(|word| !word.is_empty());
    let (Some(old), Some(new), None) = (words.next(), words.next(), words.next()) else { return false };
    let is_name = |name: &[u8]| name.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !names.starts_with(b" ") && !names.starts_with(b"\t") || !is_name(old) || !is_name(new) {
        return false;
    }
    if linking.contains(&old) {
        linking.push(new);
        // A name of its own, and none that a compile looks at.
        return LINKING.contains(&old)
            && new.len() > old.len()
            && new.windows(old.len()).any(|part| part == old);
    }
    true
}

/// The text of one spec, read a line at a time.
struct Body<'a> {
    rest: &'a [u8],
    /// Braces that are open.
    depth: usize,
    /// What the next word is the value of.
    waiting: Option<Waiting>,
    /// Specs that only a link looks at.
    linking: &'a [&'a [u8]],
}

/// An option whose value is the next word.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// One for the linker.
    Link,
    /// One of [`DIRECTORIES`].
    Directory,
}

impl<'a> Body<'a> {
    fn reads_plainly(mut self) -> bool {
        while let Some(&byte) = self.rest.first() {
            let is_known = match byte {
                b' ' | b'\t' => self.skip(1),
                // It stands before what is added to a spec.
                b'+' if self.depth == 0 && self.waiting.is_none() => self.skip(1),
                b'%' if self.waiting == Some(Waiting::Directory) => self.choice(),
                b'%' => self.directive(),
                b'}' | b';' if self.depth > 0 => self.branch(byte),
                _ => self.word(),
            };
            if !is_known {
                return false;
            }
        }
        self.depth == 0 && self.waiting.is_none()
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
                let is_known = !name.is_empty() && !self.linking.contains(&name);
                is_known && name.iter().copied().all(is_of_a_name) && self.skip(length + 1)
            }
            _ => false,
        }
    }

    /// `%{CONDITION:DIRECTORY; CONDITION:DIRECTORY; :DIRECTORY}`, which is one word, whichever it becomes.
    fn choice(&mut self) -> bool {
        let Some(inner) = self.rest.strip_prefix(b"%{") else { return false };
        let Some(length) = inner.iter().position(|&byte| byte == b'}') else { return false };
        let is_one_word = inner[..length].split(|&byte| byte == b';').all(|branch| {
            let branch = branch.trim_ascii_start();
            let Some(colon) = branch.iter().position(|&byte| byte == b':') else { return false };
            let (condition, directory) = (&branch[..colon], &branch[colon + 1..]);
            let is_plain = |&byte: &u8| byte.is_ascii_alphanumeric() || b"_-+./".contains(&byte);
            let directory = directory.strip_prefix(b"%*").unwrap_or(directory);
            let directory = directory.strip_suffix(b"%*").unwrap_or(directory);
            condition.iter().all(|&byte| is_of_a_name(byte) || b"!|&*".contains(&byte))
                && directory.iter().all(is_plain)
        });
        self.waiting = None;
        let ends = inner.get(length + 1).is_none_or(|byte| b" \t".contains(byte));
        is_one_word && ends && self.skip(length + 3)
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
        if self.waiting.is_some() {
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
        match self.waiting.take() {
            Some(Waiting::Link) => return is_whole && names_no_file(word),
            Some(Waiting::Directory) => return is_whole && !word.is_empty(),
            None => {}
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
                let is_directory = DIRECTORIES.contains(&row.name.as_bytes());
                self.waiting = match row.class {
                    Class::Link => Some(Waiting::Link),
                    _ => is_directory.then_some(Waiting::Directory),
                };
                return self.waiting.is_some();
            }
        };
        if DIRECTORIES.contains(&row.name.as_bytes()) {
            return true;
        }
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
            // As those of newlib and picolibc.
            "# Of newlib\n%rename link                nano_link\n%rename cpp_unique_options\t\tnano_cpp\n\n\
             *cpp_unique_options:\n-isystem /usr/include/newlib/nano %(nano_cpp)\n\n*nano_libc:\n-lc_nano\n\n\
             *link:\n%(nano_link) %:replace-outfile(-lc -lc_nano)\n\n\
             *lib:\n%{!shared:%{g*:-lg_nano} %{!p:%{!pg:-lc_nano}}%{p:-lc_p}%{pg:-lc_p}}\n",
            "*cpp:\n-isystem %{-p=*:%*/include/; -b=*:/usr/include/%*; :/usr/include} %(old_cpp)\n\n\
             *endfile:\n\n\n*startfile:\n%{-c=*:%*/crt0%O;:%O} crtbegin%O%s\n",
            "*cc1:\n-I/usr/x -idirafter /y\n",
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
            "-isystem %{a:/x -fplugin=y}",
            "-isystem %{a:/x}y",
            "-isystem %{a:%{b:/x}}",
            "-isystem",
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
            "%:getenv(X)",
            "*cc1:\n%{!x:%:find-plugindir()}",
            ".c:\ncc1 %i",
            "@c:\n-fPIE",
            "*cc1:\n-mtune=%*",
            "*cc1:\n%{m:-fx",
            "*cc1:\n-fx}",
            "*cc1:\n%{:-fPIE%}",
            "*cc1:\n%i",
            "*self_spec:\n-z %{x}",
            "*cc1:\n%{x:-fPIE\n}",
            "*c c1:\n",
            // What a link alone looks at is not read, and so must not be looked at by others.
            "*link:\n-fplugin=x\n\n*cc1:\n%(link)\n",
            "*link:\n-fplugin=x\n\n%rename link old_link\n\n*cc1:\n%(old_link)\n",
            "*link:\n-fplugin=x\n\n%rename link cc1\n",
            "%rename link old_link\n%rename old_link old_link_cc1\n",
            "%rename cc1\n",
            "%renamelink old_link\n",
            // Names that are none, because no blank line is before them, or one too few.
            "*cc1:\n-fx\n*link:\n-fplugin=x\n",
            "*cc1:\n\n*link:\n-fplugin=x\n",
            "*link:\n\n-fplugin=x\n",
            "-fPIE\n",
        ] {
            assert!(!plain_specs(text.as_bytes()), "{text}");
        }
    }
}
