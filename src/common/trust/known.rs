//! The volunteers that a client trusts: its file `known_volunteers`.
//!
//! A line is an address as in a host list (`build7`, `build7:4000`, `[fd00::7]:4000`) and a key; `#`
//! begins a comment. An address with several lines may have any of their keys, so that a key can be
//! replaced without a gap. A volunteer is known by its key: one that is listed under another name only is
//! the same one, wherever it is met; but where an address has lines, they alone count.

use super::authorized::OddLine;
use super::key::PublicKey;

/// The longest file.
pub const FILE_MAX_BYTES: u64 = 4 << 20;

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    lines: Vec<(String, PublicKey)>,
}

/// What is to be thought of a volunteer that showed a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the one that is meant.
    Known,
    /// Nothing is known of that address or that key.
    Unknown,
    /// The address has other keys.
    Changed {
        /// The first of them.
        known: PublicKey,
    },
}

impl Known {
    /// Reads a file's text.
    pub fn parse(text: &str) -> (Self, Vec<OddLine>) {
        let (mut known, mut odd) = (Known::default(), Vec::new());
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default();
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                [] => {}
                [address, key] => match key.parse() {
                    Ok(key) => known.lines.push((canonical(address), key)),
                    Err(error) => {
                        odd.push(OddLine { number: number + 1, why: format!("{key:.60}: {error}") });
                    }
                },
                _ => odd.push(OddLine { number: number + 1, why: "not an address and a key".to_owned() }),
            }
        }
        (known, odd)
    }

    /// Adds what another file says.
    pub fn extend(&mut self, other: Known) {
        self.lines.extend(other.lines);
    }

    /// Adds a key that counts at any address.
    pub fn insert(&mut self, key: PublicKey) {
        // No address of a host list is empty.
        self.lines.push((String::new(), key));
    }

    fn keys_of(&self, address: &str) -> impl Iterator<Item = PublicKey> {
        let address = canonical(address);
        self.lines.iter().filter(move |(listed, _)| *listed == address).map(|(_, key)| *key)
    }

    /// What is to be thought of this key at this address.
    pub fn judge(&self, address: &str, key: &PublicKey) -> Verdict {
        match self.keys_of(address).next() {
            Some(_) if self.keys_of(address).any(|known| known == *key) => Verdict::Known,
            Some(known) => Verdict::Changed { known },
            None if self.lines.iter().any(|(_, known)| known == key) => Verdict::Known,
            None => Verdict::Unknown,
        }
    }

    /// Whether the address has a key: then nothing is said to it before it has proved that.
    pub fn pins(&self, address: &str) -> bool {
        self.keys_of(address).next().is_some()
    }
}

/// Names of machines know no case, and the usual port need not be said.
fn canonical(address: &str) -> String {
    let address = address.to_ascii_lowercase();
    match address.strip_suffix(":3632") {
        Some(name) if name.starts_with('[') == name.ends_with(']') && !name.is_empty() => name.to_owned(),
        _ => address,
    }
}

/// The file's text with this key in the place of what the address had.
pub fn with(text: &str, address: &str, key: &PublicKey) -> String {
    let (address, mut fresh) = (canonical(address), String::new());
    for line in text.lines() {
        let first = line.split_whitespace().next().unwrap_or_default();
        if canonical(first) != address {
            fresh.push_str(line);
            fresh.push('\n');
        }
    }
    fresh.push_str(&format!("{address} {key}\n"));
    fresh
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> PublicKey {
        PublicKey([number; 32])
    }

    fn known() -> Known {
        let text =
            format!("# farm\nBuild7 {}\nbuild7:4000 {}\n[fd00::7]:3632 {} # new\n", key(1), key(2), key(3));
        let (known, odd) = Known::parse(&text);
        assert_eq!(odd, []);
        known
    }

    #[test]
    fn an_address_has_the_keys_of_its_lines() {
        let known = known();
        assert_eq!(known.judge("build7", &key(1)), Verdict::Known);
        assert_eq!(known.judge("build7:3632", &key(1)), Verdict::Known);
        assert_eq!(known.judge("build7:4000", &key(2)), Verdict::Known);
        assert_eq!(known.judge("[fd00::7]", &key(3)), Verdict::Known);
        assert_eq!(known.judge("build7", &key(2)), Verdict::Changed { known: key(1) });
        assert_eq!(known.judge("build8", &key(4)), Verdict::Unknown);
        assert!(known.pins("BUILD7") && !known.pins("build8"));
    }

    #[test]
    fn a_volunteer_that_is_known_by_another_name_is_known() {
        assert_eq!(known().judge("192.0.2.7", &key(1)), Verdict::Known);
    }

    #[test]
    fn an_address_may_have_several_keys_while_one_replaces_another() {
        let (known, _) = Known::parse(&format!("b {}\nb {}\n", key(1), key(2)));
        for number in [1, 2] {
            assert_eq!(known.judge("b", &key(number)), Verdict::Known);
        }
        assert_eq!(known.judge("b", &key(3)), Verdict::Changed { known: key(1) });
    }

    #[test]
    fn pairing_anew_replaces_the_lines_of_the_address_and_no_others() {
        let text = format!("# mine\nb {}\nc {}\nB:3632 {}\n", key(1), key(2), key(3));
        assert_eq!(with(&text, "b", &key(4)), format!("# mine\nc {}\nb {}\n", key(2), key(4)));
        assert_eq!(with("", "c:9", &key(4)), format!("c:9 {}\n", key(4)));
    }

    #[test]
    fn lines_that_are_wrong_are_told() {
        let (known, odd) = Known::parse("build7\nbuild8 xyz\nbuild9 a b\n");
        assert_eq!((known, odd.len()), (Known::default(), 3));
    }
}
