//! The keys that a volunteer serves: its file `authorized_keys`.
//!
//! A line is a key and a name; `farm` before it lets the key vouch for others ([`super::certificate`]),
//! `revoked` shuts it out, whoever vouches for it. `#` begins a comment.

use std::collections::{BTreeMap, BTreeSet};

use super::certificate::{Certificate, Day};
use super::key::PublicKey;

/// The longest name.
pub const NAME_MAX_CHARS: usize = 100;

/// The longest file; no farm has as many clients.
pub const FILE_MAX_BYTES: u64 = 4 << 20;

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authorized {
    clients: BTreeMap<PublicKey, String>,
    farms: BTreeMap<PublicKey, String>,
    revoked: BTreeSet<PublicKey>,
}

/// A line that says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {number} is ignored: {why}")]
pub struct OddLine {
    /// Which; the first is 1.
    pub number: usize,
    /// What is wrong with it.
    pub why: String,
}

impl Authorized {
    /// Reads a file's text; a line that is wrong shuts out nobody else.
    pub fn parse(text: &str) -> (Self, Vec<OddLine>) {
        let (mut authorized, mut odd) = (Authorized::default(), Vec::new());
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if !line.is_empty()
                && let Err(why) = authorized.take(line)
            {
                odd.push(OddLine { number: number + 1, why });
            }
        }
        (authorized, odd)
    }

    fn take(&mut self, line: &str) -> Result<(), String> {
        let (kind, rest) = match line.split_once(char::is_whitespace) {
            Some((kind @ ("farm" | "revoked"), rest)) => (kind, rest.trim_start()),
            _ => ("", line),
        };
        let (key, name) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let key: PublicKey = key.parse().map_err(|error| format!("{key:.60}: {error}"))?;
        let name = match printable(name) {
            name if name.is_empty() => key.fingerprint(),
            name => name,
        };
        match kind {
            "farm" => drop(self.farms.insert(key, name)),
            "revoked" => drop(self.revoked.insert(key)),
            _ => drop(self.clients.insert(key, name)),
        }
        Ok(())
    }

    /// Adds what another file says.
    pub fn extend(&mut self, other: Authorized) {
        self.clients.extend(other.clients);
        self.farms.extend(other.farms);
        self.revoked.extend(other.revoked);
    }

    /// Adds one client.
    pub fn insert(&mut self, key: PublicKey, name: &str) {
        self.clients.insert(key, name.to_owned());
    }

    /// The name of the client that has this key, if it is served.
    pub fn name(&self, key: &PublicKey) -> Option<&str> {
        let served = self.clients.get(key).filter(|_| !self.revoked.contains(key));
        served.map(String::as_str)
    }

    /// Whether anybody may vouch for others.
    pub fn takes_certificates(&self) -> bool {
        !self.farms.is_empty()
    }

    /// Whether a certificate, whose signature was [checked](Certificate::is_genuine), lets the client in.
    pub fn vouched(&self, certificate: &Certificate, today: Day) -> bool {
        let out = |key| self.revoked.contains(key);
        self.farms.contains_key(&certificate.farm)
            && !out(&certificate.farm)
            && !out(&certificate.key)
            && today <= certificate.until
    }

    /// How many clients are named.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether nobody can get in.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty() && self.farms.is_empty()
    }
}

/// A name without what could spoil a log or a file.
pub fn printable(name: &str) -> String {
    let name = name.trim().chars().filter(|letter| !letter.is_control() && *letter != '#');
    name.take(NAME_MAX_CHARS).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> PublicKey {
        PublicKey([number; 32])
    }

    #[test]
    fn a_line_is_a_key_and_a_name() {
        let text = format!("# ours\n\n{} ann at home # old\n  {}\t bob\r\n{}\n", key(1), key(2), key(3));
        let (authorized, odd) = Authorized::parse(&text);
        assert_eq!(odd, []);
        assert_eq!(authorized.name(&key(1)), Some("ann at home"));
        assert_eq!(authorized.name(&key(2)), Some("bob"));
        assert_eq!(authorized.name(&key(3)), Some(&*key(3).fingerprint()));
        assert_eq!(authorized.name(&key(4)), None);
        assert!(!authorized.takes_certificates());
    }

    #[test]
    fn a_line_that_is_wrong_is_told_and_shuts_out_nobody_else() {
        let (authorized, odd) = Authorized::parse(&format!("ssh-rsa AAAA x\n{} ann\nfarm\n", key(1)));
        assert_eq!(odd.iter().map(|line| line.number).collect::<Vec<_>>(), [1, 3]);
        assert!(odd[0].to_string().starts_with("line 1 is ignored: ssh-rsa: not a key"), "{}", odd[0]);
        assert_eq!(authorized.name(&key(1)), Some("ann"));
    }

    #[test]
    fn a_revoked_key_is_not_served_wherever_else_it_stands() {
        let (authorized, _) = Authorized::parse(&format!("revoked {} lost\n{} ann\n", key(1), key(1)));
        assert_eq!(authorized.name(&key(1)), None);
    }

    #[test]
    fn a_farm_key_is_no_clients_key() {
        let (authorized, odd) = Authorized::parse(&format!("farm {} ours\n", key(1)));
        assert_eq!((authorized.name(&key(1)), odd.len()), (None, 0));
        assert!(authorized.takes_certificates() && !authorized.is_empty());
    }

    #[test]
    fn names_cannot_spoil_a_log() {
        assert_eq!(printable(" a\x1b[2Jb\n#c "), "a[2Jbc");
        assert_eq!(printable(&"x".repeat(300)).len(), NAME_MAX_CHARS);
    }
}
