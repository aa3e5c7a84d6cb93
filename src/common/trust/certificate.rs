//! A farm key's word for a client's key: adding a client then touches no volunteer.
//!
//! One line: the client's key, the last day, the farm's key, its signature, the client's name. The
//! signature is of the other four, as they are written.

use std::fmt;
use std::str::FromStr;

use super::authorized::printable;
use super::key::{Identity, PublicKey, base32, from_base32};

/// What a client presents at most.
pub const PRESENTED_MAX: usize = 8;

/// A day: the number of days since 1970-01-01, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(pub u32);

impl Day {
    /// The day of a moment, in seconds since 1970.
    pub fn of_unix(seconds: u64) -> Self {
        Day(u32::try_from(seconds / 86_400).unwrap_or(u32::MAX))
    }
}

/// In the manner of ISO 8601 (the civil calendar, counted in eras of 400 years).
impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Years that begin in March have their leap day last.
        let days = u64::from(self.0) + 719_468;
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = year + era * 400 + u64::from(month <= 2);
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

impl FromStr for Day {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.splitn(3, '-').map(|part| part.parse::<u32>().ok());
        let (Some(Some(year)), Some(Some(month)), Some(Some(day))) =
            (parts.next(), parts.next(), parts.next())
        else {
            return Err(());
        };
        if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return Err(());
        }
        let year = if month <= 2 { year - 1 } else { year };
        let (era, of_era) = (year / 400, year % 400);
        let month = if month > 2 { month - 3 } else { month + 9 };
        let of_year = (153 * month + 2) / 5 + day - 1;
        let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year;
        let found = Day(days.checked_sub(719_468).ok_or(())?);
        // The 30th of February is another day, or none.
        if found.to_string() == text { Ok(found) } else { Err(()) }
    }
}

/// A certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The client's key.
    pub key: PublicKey,
    /// The last day on which it counts.
    pub until: Day,
    /// Who vouches.
    pub farm: PublicKey,
    /// What the client is to be called.
    pub name: String,
    signature: Vec<u8>,
}

/// Why a line is no certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a certificate (KEY LAST-DAY FARM-KEY SIGNATURE NAME)")]
pub struct NoCertificate;

impl Certificate {
    /// Vouches for a key.
    pub fn sign(farm: &Identity, key: PublicKey, name: &str, until: Day) -> Self {
        let name = printable(name);
        let signature = farm.sign(&signed(&key, until, &farm.public(), &name));
        Certificate { key, until, farm: farm.public(), name, signature }
    }

    /// Whether the farm's key has signed it.
    pub fn is_genuine(&self) -> bool {
        let bytes = signed(&self.key, self.until, &self.farm, &self.name);
        self.farm.has_signed(&bytes, &self.signature)
    }
}

/// What is signed: nothing else that a farm key ever signs begins so.
fn signed(key: &PublicKey, until: Day, farm: &PublicKey, name: &str) -> Vec<u8> {
    format!("distcc certificate 1\n{key}\n{until}\n{farm}\n{name}\n").into_bytes()
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Certificate { key, until, farm, name, signature } = self;
        write!(f, "{key} {until} {farm} {} {name}", base32(signature))
    }
}

impl FromStr for Certificate {
    type Err = NoCertificate;

    fn from_str(line: &str) -> Result<Self, NoCertificate> {
        let mut words = line.trim().splitn(5, ' ');
        let mut word = || words.next().ok_or(NoCertificate);
        let key = word()?.parse().map_err(|_| NoCertificate)?;
        let until = word()?.parse().map_err(|()| NoCertificate)?;
        let farm = word()?.parse().map_err(|_| NoCertificate)?;
        let signature = from_base32(word()?).filter(|bytes| bytes.len() == 64).ok_or(NoCertificate)?;
        let name = word()?.to_owned();
        if name.is_empty() || printable(&name) != name {
            return Err(NoCertificate);
        }
        Ok(Certificate { key, until, farm, name, signature })
    }
}

/// Those of a file's certificates that are of this key.
pub fn of_key(text: &str, key: &PublicKey) -> Vec<Certificate> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let read = lines.filter_map(|line| line.parse::<Certificate>().ok());
    read.filter(|certificate| certificate.key == *key).take(PRESENTED_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::trust::authorized::Authorized;

    fn identity() -> Identity {
        Identity::generate().expect("random numbers")
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        for (day, text) in [
            (0, "1970-01-01"),
            (31 + 28, "1970-03-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (20_784, "2026-11-27"),
            (47_541, "2100-03-01"),
        ] {
            assert_eq!((Day(day).to_string().as_str(), text.parse()), (text, Ok(Day(day))));
        }
        for text in ["", "2026-2-1", "2026-02-30", "1969-12-31", "2026-13-01", "x-y-z", "2026-01"] {
            assert_eq!(text.parse::<Day>(), Err(()), "{text}");
        }
        for day in (0..200_000).step_by(17) {
            assert_eq!(Day(day).to_string().parse(), Ok(Day(day)));
        }
    }

    #[test]
    fn a_certificate_comes_back_from_its_line() {
        let (farm, client) = (identity(), identity());
        let made = Certificate::sign(&farm, client.public(), "ann at home", Day(20_000));
        let line = made.to_string();
        let read: Certificate = line.parse().expect("a certificate");
        assert!(read == made && read.is_genuine());
        assert_eq!(of_key(&format!("# theirs\n{line}\nx\n"), &client.public()), [read]);
        assert_eq!(of_key(&line, &farm.public()), []);
    }

    #[test]
    fn what_was_changed_is_not_genuine() {
        let (farm, client) = (identity(), identity());
        let line = Certificate::sign(&farm, client.public(), "ann", Day(20_000)).to_string();
        let other = identity().public().to_string();
        let changes = [
            (client.public().to_string(), other.clone()),
            ("2024-10-04".to_owned(), "2034-10-04".to_owned()),
            (farm.public().to_string(), other),
            ("ann".to_owned(), "bob".to_owned()),
        ];
        for (from, to) in changes {
            assert!(line.contains(&from), "{line}");
            let forged: Certificate = line.replace(&from, &to).parse().expect("a certificate in form");
            assert!(!forged.is_genuine(), "{from}");
        }
        assert_eq!(line.replace(" ann", "").parse::<Certificate>(), Err(NoCertificate));
    }

    #[test]
    fn a_certificate_counts_for_its_farms_volunteers_until_its_last_day() {
        let (farm, client) = (identity(), identity());
        let certificate = Certificate::sign(&farm, client.public(), "ann", Day(100));
        let vouched = |text: &str, day| Authorized::parse(text).0.vouched(&certificate, Day(day));
        let ours = format!("farm {}\n", farm.public());
        assert!(vouched(&ours, 100));
        assert!(!vouched(&ours, 101));
        assert!(!vouched(&format!("farm {}\n", identity().public()), 100));
        assert!(!vouched(&format!("{} ann\n", farm.public()), 100));
        assert!(!vouched(&format!("{ours}revoked {}\n", client.public()), 100));
        assert!(!vouched(&format!("{ours}revoked {}\n", farm.public()), 100));
    }
}
