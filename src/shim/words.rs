//! What the shim reads from its command line: how it was called, and little more.

use crate::common::bytes::Bytes;
use crate::common::program::basename;

/// What implicit use runs.
const IMPLIED_COMPILER: &str = "cc";

/// First words that are for the broker's program. Some take a value behind `=`.
///
/// Any other first word that begins with `-` is an argument of the implied compiler.
const CONTROL_WORDS: [&str; 26] = [
    "--help",
    "--version",
    "--status",
    "--show-hosts",
    "--print-config",
    "--stop",
    "-j",
    "--explain",
    "--doctor",
    "--trace",
    "--watch",
    "--dashboard",
    "--drain",
    "--exclude",
    "--use",
    "--json",
    "--metrics",
    "--scan-includes",
    "--show-principal",
    "--monitor",
    "--list-volunteers",
    "--masquerade",
    "--key",
    "--pair",
    "--farm-key",
    "--sign-key",
];

/// Names under which the broker's program is another tool of distcc 3.4.
pub const FACES: [&[u8]; 4] = [b"distccmon-text", b"lsdistcc", b"pump", b"distcc-pump"];

/// Endings of names that are sources or objects, never compilers.
const FILE_ENDINGS: [&[u8]; 20] = [
    b"c", b"cc", b"cp", b"cpp", b"CPP", b"cxx", b"c++", b"C", b"i", b"ii", b"m", b"mm", b"M", b"mi", b"mii",
    b"s", b"S", b"sx", b"o", b"a",
];

/// How the shim was called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Without a word.
    Usage,
    /// With a word for the broker's program.
    Control,
    /// In place of a compiler.
    Compile {
        /// The compiler's name, then its arguments.
        argv: Vec<Bytes>,
        /// `argv[0]` of the shim when it is a link with the compiler's name (masquerade).
        called_as: Option<Bytes>,
    },
}

/// Reads the shim's own arguments, its name first.
pub fn way_in(arguments: &[Bytes]) -> Way {
    let (name, words) = match arguments {
        [] => (&b"distcc"[..], &[][..]),
        [name, words @ ..] => (&name[..], words),
    };
    let name_of_file = basename(name);
    if FACES.contains(&name_of_file) {
        return Way::Control;
    }
    if !contains(name_of_file, b"distcc") && !name_of_file.is_empty() {
        let argv = [Bytes::from(name_of_file)].into_iter().chain(words.iter().cloned()).collect();
        return Way::Compile { argv, called_as: Some(Bytes::from(name)) };
    }
    let Some(first) = words.first() else { return Way::Usage };
    if is_control(first) {
        return Way::Control;
    }
    let implied = is_argument(first).then(|| Bytes::from(IMPLIED_COMPILER));
    Way::Compile { argv: implied.into_iter().chain(words.iter().cloned()).collect(), called_as: None }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

fn is_control(word: &[u8]) -> bool {
    let name = word.split(|&byte| byte == b'=').next().unwrap_or(word);
    CONTROL_WORDS.iter().any(|known| name == known.as_bytes() && (name.len() > 2 || word == name))
}

/// Whether the word is an argument of a compiler rather than its name.
fn is_argument(word: &[u8]) -> bool {
    matches!(word.first(), None | Some(b'-' | b'@')) || is_file(word)
}

fn is_file(word: &[u8]) -> bool {
    let name = basename(word);
    match name.iter().rposition(|&byte| byte == b'.') {
        Some(dot) if dot > 0 => FILE_ENDINGS.contains(&&name[dot + 1..]),
        _ => false,
    }
}

/// Whether a broker could have distributed this, as far as a glance tells: it has `-c` or `-S` and
/// does not merely preprocess. Only for `DISTCC_FALLBACK=0` when no broker can be asked.
pub fn may_be_distributed(argv: &[Bytes]) -> bool {
    let has = |words: &[&str]| argv.iter().any(|word| words.iter().any(|&known| *word == *known));
    has(&["-c", "-S"]) && !has(&["-E", "-M", "-MM"])
}

/// The first word that looks like a source, for messages.
pub fn source_of(argv: &[Bytes]) -> Option<&[u8]> {
    let mut words = argv.iter().skip(1);
    words
        .find(|word| !word.starts_with(b"-") && is_file(word) && !word.ends_with(b".o"))
        .map(|word| &word[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<Bytes> {
        text.split_whitespace().map(Bytes::from).collect()
    }

    fn check(command: &str, expected: &str) {
        let shown = match way_in(&split(command)) {
            Way::Usage => "usage".to_owned(),
            Way::Control => "control".to_owned(),
            Way::Compile { argv, called_as } => {
                let argv: Vec<String> = argv.iter().map(Bytes::to_text).collect();
                called_as.map(|name| format!("[{name}] ")).unwrap_or_default() + &argv.join(" ")
            }
        };
        assert_eq!(shown, expected, "{command}");
    }

    #[test]
    fn tools_of_stock_are_the_brokers_program_under_another_name() {
        check("distccmon-text 2", "control");
        check("/usr/bin/lsdistcc -p gcc", "control");
        check("pump make -j8", "control");
        check("distcc --monitor 1", "control");
        check("distcc --masquerade /usr/lib/distcc", "control");
    }

    #[test]
    fn a_first_word_that_is_a_name_is_the_compiler() {
        check("distcc gcc -c a.c", "gcc -c a.c");
        check("/usr/bin/distcc ./my.gcc -c a.c", "./my.gcc -c a.c");
        check("mydistcc2 clang++-14 --version", "clang++-14 --version");
        check("distcc x86_64-linux-gnu-gcc-12.2 -c a.c", "x86_64-linux-gnu-gcc-12.2 -c a.c");
    }

    #[test]
    fn a_first_word_that_is_an_option_or_a_file_implies_cc() {
        check("distcc -c a.c", "cc -c a.c");
        check("distcc a.c", "cc a.c");
        check("distcc dir/a.c++ -c", "cc dir/a.c++ -c");
        check("distcc a.o -o a", "cc a.o -o a");
        check("distcc @args", "cc @args");
    }

    #[test]
    fn an_option_of_nobodys_goes_to_the_compiler() {
        check("distcc --bogus", "cc --bogus");
        check("distcc -v --version", "cc -v --version");
        check("distcc -j8", "cc -j8");
        check("distcc -j=8", "cc -j=8");
    }

    #[test]
    fn control_words_count_only_in_the_first_place() {
        check("distcc --status", "control");
        check("distcc --status=json", "control");
        check("distcc -j", "control");
        check("distcc --watch=2", "control");
        check("distcc --drain build7", "control");
        check("distcc --explain gcc -c a.c", "control");
        check("distcc gcc --version", "gcc --version");
        check("gcc --version", "[gcc] gcc --version");
        check("gcc --status", "[gcc] gcc --status");
    }

    #[test]
    fn another_name_is_the_compilers() {
        check("/usr/lib/distcc/g++ -c a.cc", "[/usr/lib/distcc/g++] g++ -c a.cc");
        check("x86_64-linux-gnu-gcc-12", "[x86_64-linux-gnu-gcc-12] x86_64-linux-gnu-gcc-12");
    }

    #[test]
    fn no_word_at_all_is_answered_by_a_hint() {
        check("distcc", "usage");
        check("", "usage");
    }

    #[test]
    fn only_compiles_count_as_distributable() {
        for (command, expected) in [
            ("gcc -c a.c", true),
            ("gcc -S a.c", true),
            ("gcc a.o -o a", false),
            ("gcc -E -c a.c", false),
            ("gcc --version", false),
        ] {
            assert_eq!(may_be_distributed(&split(command)), expected, "{command}");
        }
    }

    #[test]
    fn a_message_names_the_source() {
        assert_eq!(source_of(&split("gcc -c dir/a.c -o a.o")), Some(&b"dir/a.c"[..]));
        assert_eq!(source_of(&split("gcc a.o -o a")), None);
    }
}
