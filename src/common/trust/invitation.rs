//! What `distccd --pair` shows and `distcc --pair` takes: where a volunteer is, its key, and a secret that
//! lets one client in, once.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::key::{PublicKey, base32, from_base32};

/// What a code begins with.
const MARK: &str = "distcc-pair:";

/// How long a code counts.
pub const LIFETIME: Duration = Duration::from_secs(600);

/// Bytes of a secret: nobody guesses 128 bits in ten minutes.
pub const SECRET_BYTES: usize = 16;

/// An invitation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// Where the volunteer is: a host name or an IP address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Its key.
    pub key: PublicKey,
    /// What lets the client in.
    pub secret: Secret,
}

/// The secret of an invitation.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub [u8; SECRET_BYTES]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// The name under which a volunteer keeps the invitation. The secret itself is on no disk.
    pub fn file_name(&self) -> String {
        blake3::hash(&self.0).to_hex().to_string()
    }
}

/// Why a word is no code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a code of distccd --pair (it begins with {MARK} and is one word)")]
pub struct NoInvitation;

impl fmt::Display for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let key = base32(&self.key.0);
        write!(f, "{MARK}{host}:{}:{key}:{}", self.port, base32(&self.secret.0))
    }
}

impl FromStr for Invitation {
    type Err = NoInvitation;

    fn from_str(code: &str) -> Result<Self, NoInvitation> {
        let read = || {
            let mut parts = code.trim().strip_prefix(MARK)?.rsplitn(4, ':');
            let secret = from_base32(parts.next()?)?.try_into().ok()?;
            let key = from_base32(parts.next()?)?.try_into().ok()?;
            let port = parts.next()?.parse().ok().filter(|&port| port > 0)?;
            let host = parts.next()?;
            let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
            let good = !bare.is_empty() && bare.len() <= 255 && bare.chars().all(|c| c.is_ascii_graphic());
            let host = bare.to_owned();
            good.then_some(Invitation { host, port, key: PublicKey(key), secret: Secret(secret) })
        };
        read().ok_or(NoInvitation)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_code_comes_back_as_it_was() {
        for host in ["build7.lan", "192.0.2.7", "fd00::7"] {
            let key = PublicKey([7; 32]);
            let invitation = Invitation { host: host.to_owned(), port: 3632, key, secret: Secret([9; 16]) };
            let code = invitation.to_string();
            assert_eq!(code.parse(), Ok(invitation), "{code}");
            assert!(!code.contains(char::is_whitespace));
        }
    }

    #[test]
    fn what_is_no_code_is_refused() {
        for code in ["", "x", "distcc-pair:", "distcc-pair:b:1:a:b", "distcc-pair:b:0:a:b"] {
            assert_eq!(code.parse::<Invitation>(), Err(NoInvitation), "{code}");
        }
    }

    proptest! {
        #[test]
        fn no_word_ends_in_a_panic(word in "(distcc-pair:)?.{0,120}") {
            let _ = word.parse::<Invitation>();
        }
    }
}
