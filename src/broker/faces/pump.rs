//! `pump`: with distcc 3.4 it starts an include server for a build. Here the broker scans by
//! itself, so what is left of it is the environment in which it runs a command: distcc's directory
//! first in `PATH`, and the hosts of `DISTCC_POTENTIAL_HOSTS`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// The usage.
pub const USAGE: &str = "Usage: pump COMMAND…\n       pump --startup | --shutdown | --help\n\
COMMAND is run with distcc's directory first in PATH. No include server is needed, and none is started:\n\
file sets go to hosts with the options cpp and lzo at any time. --startup prints the environment for a shell.\n";

/// What is wanted.
#[derive(Debug, PartialEq, Eq)]
pub enum Wish<'a> {
    /// To read how it is used.
    Help,
    /// The environment, in the words of a shell.
    Startup,
    /// Nothing: there is no server to end.
    Shutdown,
    /// A command in that environment.
    Run(&'a [OsString]),
}

/// Reads the words behind the name; `None` when they make no sense.
pub fn read(words: &[OsString]) -> Option<Wish<'_>> {
    match words.first()?.as_bytes() {
        b"--help" => Some(Wish::Help),
        b"--startup" => Some(Wish::Startup),
        b"--shutdown" => Some(Wish::Shutdown),
        [b'-', ..] => None,
        _ => Some(Wish::Run(words)),
    }
}

/// `path` with distcc's `directory` at its beginning, once.
pub fn path_with(directory: &Path, path: &OsStr) -> OsString {
    let directory = directory.as_os_str().as_bytes();
    let behind = path.as_bytes().strip_prefix(directory);
    match behind.is_some_and(|rest| rest.is_empty() || rest.starts_with(b":")) {
        true => path.to_owned(),
        false => OsString::from_vec([directory, b":", path.as_bytes()].concat()),
    }
}

/// The host list that `DISTCC_POTENTIAL_HOSTS` means.
pub fn hosts_of(potential: &str) -> String {
    let host = |word: &str| match word.contains(",cpp") || word.starts_with('-') {
        true => format!(" {word}"),
        false => format!(" {},cpp,lzo", word.trim_end_matches(",lzo")),
    };
    potential
        .split_whitespace()
        .filter(|word| *word != "--randomize")
        .map(host)
        .fold("--randomize".to_owned(), |list, host| list + &host)
}

/// A line that sets a variable in a shell, whatever its value holds.
pub fn export(name: &str, value: &OsStr) -> OsString {
    let quoted = value.as_bytes().split(|&byte| byte == b'\'').collect::<Vec<_>>().join(&b"'\\''"[..]);
    OsString::from_vec([b"export ", name.as_bytes(), b"='", &quoted, b"';\n"].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_what_is_no_option() {
        let words = |text: &str| text.split_whitespace().map(OsString::from).collect::<Vec<_>>();
        let command = words("make -j8");
        assert_eq!(read(&command), Some(Wish::Run(&command)));
        assert_eq!(read(&words("--startup")), Some(Wish::Startup));
        assert_eq!(read(&words("--bogus make")), None);
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn the_directory_comes_first_once() {
        let check = |path: &str, expected: &str| {
            assert_eq!(path_with(Path::new("/d/bin"), OsStr::new(path)), OsStr::new(expected));
        };
        check("/bin", "/d/bin:/bin");
        check("/d/bin:/bin", "/d/bin:/bin");
        check("/d/bin", "/d/bin");
        check("/d/binary", "/d/bin:/d/binary");
    }

    #[test]
    fn potential_hosts_are_hosts_that_take_file_sets() {
        assert_eq!(hosts_of("a b/3,lzo c,lzo,cpp"), "--randomize a,cpp,lzo b/3,cpp,lzo c,lzo,cpp");
        assert_eq!(hosts_of("--localslots=3 a"), "--randomize --localslots=3 a,cpp,lzo");
    }

    #[test]
    fn a_shell_reads_any_value_back() {
        assert_eq!(export("A", OsStr::new("it's $x")), OsStr::new("export A='it'\\''s $x';\n"));
    }
}
