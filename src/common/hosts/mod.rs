//! The host list: who may be asked to compile, in the grammar of distcc 3.4.
//!
//! Words are separated by blanks and line ends, `#` begins a comment:
//!
//! - `HOST[:PORT][/N][,OPTION…]`, port and slots in either order, IPv6 addresses in brackets;
//! - `[USER]@HOST[/N][:COMMAND][,OPTION…]` over ssh;
//! - `localhost[/N]`, this machine without any daemon;
//! - `--randomize`, `--localslots=N`, `--localslots_cpp=N`, `+zeroconf`.
//!
//! `=N` is another spelling of `/N`. Options are `lzo`, `cpp`, `down`, `auth[=NAME]`. What stock
//! distcc takes silently and cannot have been meant (`,lzoXYZ`, `--localslots 3`, `/-3`) is an
//! error here. The list keeps what this build cannot use, for others to say so.

mod error;
mod token;

pub use error::{HostsError, HostsErrorKind};

use crate::common::bytes::Bytes;
use crate::common::limits::HOSTS_MAX;

/// The port of the classic protocol and of ours.
pub const DEFAULT_PORT: u16 = 3632;

/// Slots of a host whose `/N` is not given.
pub const DEFAULT_SLOTS: u32 = 4;

/// Slots of `localhost` when its `/N` is not given.
pub const DEFAULT_LOCALHOST_SLOTS: u32 = 2;

/// A host list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostList {
    /// The hosts, in the user's order; this machine is not among them.
    pub hosts: Vec<Host>,
    /// Slots of this machine (`localhost/N`) where it is listed; the largest if several times.
    pub localhost: Option<u32>,
    /// The sum of all that are listed for this machine.
    pub localhost_sum: u64,
    /// Whether the order of the hosts is to be shuffled.
    pub randomize: bool,
    /// Local jobs that cannot be distributed, at once (`--localslots`).
    pub localslots: Option<u32>,
    /// Preprocessors at once (`--localslots_cpp`).
    pub localslots_cpp: Option<u32>,
    /// Whether hosts are to be looked for on the local network as well.
    pub zeroconf: bool,
    /// Every word that names a host, this machine included, verbatim and in order.
    pub tokens: Vec<Bytes>,
    /// What distcc 3.4 lets pass in silence, and takes for something else than was meant, perhaps.
    pub odd: Vec<HostsError>,
}

/// One host of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its name or address, without brackets.
    pub name: String,
    /// Its port; meaningless over ssh.
    pub port: u16,
    /// Jobs at once.
    pub slots: u32,
    /// How it is reached.
    pub transport: Transport,
    /// `,lzo`: stock compresses for it.
    pub lzo: bool,
    /// `,cpp`: stock's pump mode may be used with it.
    pub cpp: bool,
    /// `,down`: listed, but not to be used.
    pub down: bool,
    /// `,auth[=NAME]`: stock authenticates by GSSAPI; the name is empty when it is not given.
    pub auth: Option<Bytes>,
    /// The word as the user wrote it.
    pub token: Bytes,
}

/// How a host is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A connection to its port.
    Tcp,
    /// Through the user's ssh.
    Ssh {
        /// The user there, when named.
        user: Option<Bytes>,
        /// The daemon there, when named.
        command: Option<Bytes>,
    },
}

impl Host {
    /// Whether this build can send a job there, as far as the list tells.
    pub fn is_usable(&self) -> bool {
        !self.down && self.auth.is_none()
    }
}

impl HostList {
    /// Whether nothing is listed that could compile.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty() && !self.zeroconf
    }

    /// Whether any host is reached through ssh.
    pub fn uses_ssh(&self) -> bool {
        self.hosts.iter().any(|host| host.transport != Transport::Tcp)
    }

    /// The sum of all slots, this machine's included: a good number for `make -j`.
    pub fn total_slots(&self) -> u64 {
        let hosts: u64 = self.hosts.iter().map(|host| u64::from(host.slots)).sum();
        hosts + self.localhost_sum
    }
}

/// Reads a host list. An empty one is no error; what is merely odd is noted in it, and taken as
/// distcc 3.4 takes it.
///
/// # Errors
///
/// The first word that is wrong, where it stands, and what may have been meant.
pub fn parse(text: &[u8]) -> Result<HostList, HostsError> {
    let mut list = HostList::default();
    let mut words = 0;
    for (offset, word) in words_of(text) {
        words += 1;
        let located = |kind| HostsError::new(kind, word, offset);
        if words > HOSTS_MAX {
            return Err(located(HostsErrorKind::TooMany));
        }
        let mut odd = Vec::new();
        token::read(word, &mut list, &mut odd).map_err(located)?;
        list.odd.extend(odd.into_iter().map(located));
    }
    Ok(list)
}

/// The words of a list with their offsets, comments left out.
fn words_of(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = skip_blanks_and_comments(&text[at..]);
        let start = text.len() - rest.len();
        let length = rest.iter().position(|byte| is_blank(*byte) || *byte == b'#').unwrap_or(rest.len());
        at = start + length;
        (length > 0).then_some((start, &rest[..length]))
    })
}

fn skip_blanks_and_comments(mut text: &[u8]) -> &[u8] {
    loop {
        match text.first() {
            Some(byte) if is_blank(*byte) => text = &text[1..],
            Some(b'#') => {
                let end = text.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
                text = &text[end.unwrap_or(text.len())..];
            }
            _ => return text,
        }
    }
}

fn is_blank(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

#[cfg(test)]
mod tests;
