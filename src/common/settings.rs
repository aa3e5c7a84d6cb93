//! What an invocation's environment asks of the broker: the variables of distcc(1) that mean
//! something for one job.
//!
//! Booleans are exactly `0` or `1`; anything else means the default, as in distcc 3.4.

use std::time::Duration;

use super::bytes::Bytes;
use super::invocation::Invocation;

/// How long a connection may be silent by default, in seconds (distcc(1), `DISTCC_IO_TIMEOUT`).
const IO_TIMEOUT_S: u64 = 300;

/// A longer one means for ever.
const SECONDS_MAX: u64 = 365 * 24 * 3600;

/// The settings of one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `DISTCC_FALLBACK` is not `0`: a job that no volunteer could do may be compiled here.
    pub fallback: bool,
    /// `DISTCC_SKIP_LOCAL_RETRY` is set: what a volunteer's compiler says is final, be it an error.
    pub skip_local_retry: bool,
    /// `DISTCC_IO_TIMEOUT`: how long a volunteer may be silent.
    pub io_timeout: Duration,
    /// Whether that was asked for, and so holds for native links, too, which know better else.
    pub io_timeout_is_set: bool,
    /// `DISTCC_BACKOFF_PERIOD`: how long a host that failed is left alone, in place of what is
    /// learned.
    pub backoff: Option<Duration>,
    /// `DISTCC_NO_REWRITE_CROSS` is set: volunteers are told the compiler's name as it is.
    pub keeps_names: bool,
    /// `DISTCC_SAVE_TEMPS` is `1`: preprocessed texts are kept in `TMPDIR`.
    pub save_temps: bool,
    /// `DISTCC_VERIFY`: which share of the compiles that volunteers do is done here as well, in millionths.
    pub verify_millionths: u32,
}

/// A whole, in millionths.
pub const MILLION: u32 = 1_000_000;

/// Reads a share such as `0.01` or `1`; nothing when it is none.
fn share(text: &[u8]) -> Option<u32> {
    let share: f64 = std::str::from_utf8(text).ok()?.trim().parse().ok()?;
    (0.0..=1.0).contains(&share).then_some((share * f64::from(MILLION)).ceil() as u32)
}

impl Settings {
    /// Of an invocation. What is not a number means the default; the shim has complained.
    pub fn of(invocation: &Invocation) -> Self {
        let seconds = |name| {
            let text = std::str::from_utf8(invocation.variable(name)?).ok()?;
            text.trim().parse::<u64>().ok().map(|seconds| seconds.min(SECONDS_MAX))
        };
        let io_timeout = seconds("DISTCC_IO_TIMEOUT").filter(|&seconds| seconds > 0);
        Settings {
            fallback: invocation.variable("DISTCC_FALLBACK") != Some(b"0"),
            skip_local_retry: invocation.variable("DISTCC_SKIP_LOCAL_RETRY").is_some(),
            io_timeout: Duration::from_secs(io_timeout.unwrap_or(IO_TIMEOUT_S)),
            io_timeout_is_set: io_timeout.is_some(),
            backoff: seconds("DISTCC_BACKOFF_PERIOD").map(Duration::from_secs),
            keeps_names: invocation.variable("DISTCC_NO_REWRITE_CROSS").is_some(),
            save_temps: invocation.variable("DISTCC_SAVE_TEMPS") == Some(b"1"),
            verify_millionths: invocation.variable("DISTCC_VERIFY").and_then(share).unwrap_or(0),
        }
    }

    /// Whether the words of a volunteer's compiler are what the user gets, when they are not
    /// certain to be those of a compile here.
    pub fn remote_is_final(&self) -> bool {
        self.skip_local_retry || !self.fallback
    }
}

/// Where results are kept (`DISTCC_CACHE`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheSetting {
    /// Nowhere.
    Off,
    /// It says what nobody can read: nothing is kept.
    Unclear,
    /// In a directory.
    On {
        /// Which; `None` where neither the variable nor the environment leads to one.
        directory: Option<Bytes>,
        /// How much is kept, in bytes, where that is said.
        size: Option<u64>,
    },
}

/// Reads `DISTCC_CACHE`: `off`, an absolute directory, a size such as `10G`, or both with a comma
/// between them. Without it, results are kept below `$XDG_CACHE_HOME` or `~/.cache`; with something else, nowhere.
pub fn cache_setting(invocation: &Invocation) -> CacheSetting {
    let set = invocation.variable("DISTCC_CACHE").unwrap_or_default();
    let (mut directory, mut size) = (None, None);
    for word in set.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|word| !word.is_empty()) {
        match (word, read_size(word)) {
            ([b'/', ..], _) => directory = Some(Bytes::from(word)),
            (_, Some(bytes)) if bytes > 0 => size = Some(bytes),
            _ if [&b"off"[..], b"0", b"no", b"none", b"false"].contains(&&word.to_ascii_lowercase()[..]) => {
                return CacheSetting::Off;
            }
            _ => return CacheSetting::Unclear,
        }
    }
    CacheSetting::On { directory: directory.or_else(|| default_cache(invocation)), size }
}

fn default_cache(invocation: &Invocation) -> Option<Bytes> {
    let absolute = |name| invocation.variable(name).filter(|path| path.starts_with(b"/"));
    let below = |base: &[u8], rest: &[u8]| Bytes([base, rest].concat());
    match absolute("XDG_CACHE_HOME") {
        Some(base) => Some(below(base, b"/distcc/results")),
        None => absolute("HOME").map(|home| below(home, b"/.cache/distcc/results")),
    }
}

/// A number of bytes, with `K`, `M`, `G` or `T` behind it or not; powers of 1024.
fn read_size(word: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(word).ok()?.trim();
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_number_up_to_one() {
        for (text, expected) in [
            ("0.01", Some(10_000)),
            ("1", Some(MILLION)),
            ("0", Some(0)),
            ("1e-9", Some(1)),
            (" .5 ", Some(500_000)),
            ("1.1", None),
            ("-1", None),
            ("NaN", None),
            ("yes", None),
            ("", None),
        ] {
            assert_eq!(share(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn where_results_are_kept_is_read_from_one_variable() {
        let of = |environment: &[&str]| {
            let env = environment.iter().map(|&entry| Bytes::from(entry)).collect();
            cache_setting(&Invocation { env, ..Invocation::default() })
        };
        let on =
            |directory: Option<&str>, size| CacheSetting::On { directory: directory.map(Bytes::from), size };
        assert_eq!(of(&["DISTCC_CACHE=off", "HOME=/h"]), CacheSetting::Off);
        assert_eq!(of(&[]), on(None, None));
        assert_eq!(of(&["HOME=/h"]), on(Some("/h/.cache/distcc/results"), None));
        assert_eq!(of(&["HOME=/h", "XDG_CACHE_HOME=/c"]), on(Some("/c/distcc/results"), None));
        assert_eq!(of(&["DISTCC_CACHE=/x", "HOME=/h"]), on(Some("/x"), None));
        assert_eq!(of(&["DISTCC_CACHE=/x,2G"]), on(Some("/x"), Some(2 << 30)));
        assert_eq!(
            of(&["DISTCC_CACHE=500M", "HOME=/h"]),
            on(Some("/h/.cache/distcc/results"), Some(500 << 20))
        );
        for off in ["OFF", " off ", "0", "none", "no"] {
            assert_eq!(of(&[&format!("DISTCC_CACHE={off}"), "HOME=/h"]), CacheSetting::Off, "{off}");
        }
        for unclear in ["99999999999999T", "5x", "-1", "~/x", "/x,lots"] {
            assert_eq!(
                of(&[&format!("DISTCC_CACHE={unclear}"), "HOME=/h"]),
                CacheSetting::Unclear,
                "{unclear}"
            );
        }
    }

    fn of(environment: &[&str]) -> Settings {
        let env = environment.iter().map(|&entry| Bytes::from(entry)).collect();
        Settings::of(&Invocation { env, ..Invocation::default() })
    }

    #[test]
    fn without_any_variable_everything_is_as_the_manual_says() {
        let settings = of(&[]);
        assert!(settings.fallback && !settings.remote_is_final() && !settings.save_temps);
        assert_eq!((settings.io_timeout.as_secs(), settings.backoff), (300, None));
    }

    #[test]
    fn each_variable_is_read() {
        let settings = of(&[
            "DISTCC_IO_TIMEOUT=7",
            "DISTCC_BACKOFF_PERIOD=0",
            "DISTCC_SKIP_LOCAL_RETRY=",
            "DISTCC_NO_REWRITE_CROSS=1",
            "DISTCC_SAVE_TEMPS=1",
        ]);
        assert_eq!((settings.io_timeout.as_secs(), settings.io_timeout_is_set), (7, true));
        assert_eq!(settings.backoff, Some(Duration::ZERO));
        assert!(settings.remote_is_final() && settings.keeps_names && settings.save_temps);
        assert!(!of(&["DISTCC_FALLBACK=0"]).fallback && of(&["DISTCC_FALLBACK=no"]).fallback);
        assert!(of(&["DISTCC_FALLBACK=0"]).remote_is_final());
    }

    #[test]
    fn what_is_no_number_is_not_taken_for_one() {
        assert_eq!(of(&["DISTCC_IO_TIMEOUT=-3", "DISTCC_BACKOFF_PERIOD=x"]), of(&[]));
        assert!(!of(&["DISTCC_SAVE_TEMPS=yes"]).save_temps);
    }
}
