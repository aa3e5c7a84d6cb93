//! What can be wrong with a host list.

use std::fmt;

use crate::common::bytes::Bytes;
use crate::common::limits::{HOST_SLOTS_MAX, HOSTS_MAX};

/// As much of a wrong word as is shown, in bytes.
const SHOWN_MAX_BYTES: usize = 100;

/// A word of a host list that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostsError {
    /// What is wrong.
    pub kind: HostsErrorKind,
    /// The word, or its beginning when it is long.
    pub token: Bytes,
    /// Where the word begins in the list, in bytes.
    pub offset: usize,
}

/// What is wrong with a word.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostsErrorKind {
    /// More words than a list may have.
    #[error("the list has more than {HOSTS_MAX} words")]
    TooMany,
    /// No name where one must be.
    #[error("it has no host name")]
    NoName,
    /// A name that no host can have.
    #[error("{name} is no host name")]
    BadName {
        /// The name.
        name: Bytes,
    },
    /// `::1` instead of `[::1]`.
    #[error("an IPv6 address needs brackets")]
    BareIpv6 {
        /// The address.
        address: Bytes,
    },
    /// Brackets around something else, or not closed.
    #[error("there is no IPv6 address in the brackets")]
    BadIpv6,
    /// A port that is no number from 1 to 65535.
    #[error("{port} is no port")]
    BadPort {
        /// What stands for it.
        port: Bytes,
    },
    /// Slots that are no number, none or too many.
    #[error("{slots} is no number of slots from 1 to {HOST_SLOTS_MAX}")]
    BadSlots {
        /// What stands for it.
        slots: Bytes,
    },
    /// A port or slots given twice, or something behind a bracket that is neither.
    #[error("{rest} is too much")]
    Trailing {
        /// What is left over.
        rest: Bytes,
    },
    /// An option of a host that does not exist.
    #[error("there is no host option {option}")]
    BadOption {
        /// The option.
        option: Bytes,
    },
    /// `,cpp` without `,lzo`.
    #[error("the option cpp needs the option lzo")]
    CppWithoutLzo,
    /// An option of the list that does not exist.
    #[error("there is no such option of a host list")]
    BadListOption,
    /// `--localslots` without its number.
    #[error("it needs a number")]
    NoNumber,
}

impl HostsError {
    /// An error about `word`, which begins at `offset`.
    pub(super) fn new(kind: HostsErrorKind, word: &[u8], offset: usize) -> Self {
        HostsError { kind, token: clip(word), offset }
    }

    /// What may have been meant, as a question or a rule for the person who wrote the list.
    pub fn hint(&self) -> Option<String> {
        match &self.kind {
            HostsErrorKind::BareIpv6 { address } => Some(format!("did you mean [{address}]?")),
            HostsErrorKind::CppWithoutLzo => Some(format!("did you mean {},lzo?", self.token)),
            HostsErrorKind::NoNumber => Some(format!("did you mean {}=4?", self.token)),
            HostsErrorKind::BadOption { .. } => Some("the options are lzo, cpp, down and auth".to_owned()),
            HostsErrorKind::BadListOption => {
                Some("the options are --randomize, --localslots=N and --localslots_cpp=N".to_owned())
            }
            HostsErrorKind::BadSlots { .. } => Some("slots are written HOST/8".to_owned()),
            HostsErrorKind::BadPort { .. } => Some("ports are written HOST:3632".to_owned()),
            HostsErrorKind::BadIpv6 => Some("addresses are written [fe80::1]:3632/8".to_owned()),
            _ => None,
        }
    }
}

impl fmt::Display for HostsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host {} at byte {}: {}", self.token, self.offset, self.kind)?;
        match self.hint() {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for HostsError {}

/// The beginning of a word, so that a file that is no host list does not flood a terminal; and
/// without control characters, so that it cannot steer one.
pub(super) fn clip(word: &[u8]) -> Bytes {
    let shown = &word[..word.len().min(SHOWN_MAX_BYTES)];
    shown.iter().map(|byte| if byte.is_ascii_control() { b'?' } else { *byte }).collect::<Vec<u8>>().into()
}
