//! What the environment asks of the shim itself; read once.

use crate::common::bytes::Bytes;

/// Set for every compiler that a shim execs, to one more than the shim found.
const SAFEGUARD: &str = "_DISTCC_SAFEGUARD";

/// What the environment asks of the shim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `DISTCC_VERBOSE=1`: say what happens.
    pub verbose: bool,
    /// `DISTCC_LOG`: the file that takes our messages in place of stderr.
    pub log: Option<Bytes>,
    /// `UNCACHED_ERR_FD`: the descriptor that takes them; ccache keeps what is on stderr.
    pub message_descriptor: Option<u32>,
    /// `DISTCC_FALLBACK` is not `0`: a job that could not be distributed may be compiled here.
    pub fallback: bool,
    /// `DISTCC_IO_TIMEOUT`, when it is no number above 0.
    pub bad_io_timeout: Option<Bytes>,
    /// `DISTCC_BROKER=off`: compile here and ask nobody.
    pub broker_off: bool,
    /// `_DISTCC_SAFEGUARD`: how many shims this one was called from within.
    pub nested: u32,
}

impl Settings {
    /// Reads them.
    pub fn read(environment: &[Bytes]) -> Self {
        let mut settings = Settings { fallback: true, ..Settings::default() };
        for entry in environment {
            // One look at each entry: most begin with another letter.
            if matches!(entry.first(), Some(b'D' | b'_' | b'U')) {
                settings.take(entry);
            }
        }
        settings
    }

    fn take(&mut self, entry: &[u8]) {
        let Some(equals) = entry.iter().position(|&byte| byte == b'=') else { return };
        let value = &entry[equals + 1..];
        match &entry[..equals] {
            b"DISTCC_VERBOSE" => self.verbose = value == b"1",
            b"DISTCC_LOG" if !value.is_empty() => self.log = Some(Bytes::from(value)),
            b"UNCACHED_ERR_FD" => self.message_descriptor = number(value),
            b"DISTCC_FALLBACK" => self.fallback = value != b"0",
            b"DISTCC_IO_TIMEOUT" if number(value.trim_ascii()).is_none_or(|seconds| seconds == 0) => {
                self.bad_io_timeout = Some(Bytes::from(value));
            }
            b"DISTCC_BROKER" => self.broker_off = value == b"off",
            // What is not a number was set by somebody who meant "nested".
            b"_DISTCC_SAFEGUARD" if !value.is_empty() => self.nested = number(value).unwrap_or(1),
            _ => {}
        }
    }
}

fn number(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The value of a variable, as `getenv` finds it: the first entry of that name.
pub fn variable<'a>(environment: &'a [Bytes], name: &str) -> Option<&'a [u8]> {
    environment.iter().find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// The environment for a compiler that runs here: the same, with the recursion guard set.
pub fn nested_environment(environment: &[Bytes], level: u32) -> Vec<Bytes> {
    let guard = format!("{SAFEGUARD}=");
    let others = environment.iter().filter(|entry| !entry.starts_with(guard.as_bytes()));
    others.cloned().chain([Bytes::from(format!("{guard}{level}").as_str())]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(environment: &[&str], expected: &Settings) {
        let environment: Vec<Bytes> = environment.iter().map(|&entry| Bytes::from(entry)).collect();
        assert_eq!(&Settings::read(&environment), expected);
    }

    fn default() -> Settings {
        Settings { fallback: true, ..Settings::default() }
    }

    #[test]
    fn booleans_are_exactly_zero_or_one() {
        check(&["DISTCC_VERBOSE=1"], &Settings { verbose: true, ..default() });
        check(&["DISTCC_VERBOSE=yes", "DISTCC_FALLBACK=no"], &default());
        check(&["DISTCC_FALLBACK=0"], &Settings { fallback: false, ..default() });
    }

    #[test]
    fn a_safeguard_that_is_no_number_still_guards() {
        check(&["_DISTCC_SAFEGUARD=2"], &Settings { nested: 2, ..default() });
        check(&["_DISTCC_SAFEGUARD=yes"], &Settings { nested: 1, ..default() });
        check(&["_DISTCC_SAFEGUARD="], &default());
    }

    #[test]
    fn a_time_out_that_is_no_time_is_kept_for_the_complaint() {
        for value in ["0", "-1", "soon", ""] {
            let bad_io_timeout = Some(Bytes::from(value));
            check(&[&format!("DISTCC_IO_TIMEOUT={value}")], &Settings { bad_io_timeout, ..default() });
        }
        check(&["DISTCC_IO_TIMEOUT=60"], &default());
    }

    #[test]
    fn names_are_compared_whole() {
        check(&["DISTCC_LOGFILE=/l", "UNCACHED_ERR_FD2=3", "DISTCC_LOG="], &default());
    }

    #[test]
    fn the_guard_is_set_once() {
        let environment = ["A=1", "_DISTCC_SAFEGUARD=1", "B=2"].map(Bytes::from);
        let nested = nested_environment(&environment, 2);
        assert_eq!(nested, ["A=1", "B=2", "_DISTCC_SAFEGUARD=2"].map(Bytes::from));
    }
}
