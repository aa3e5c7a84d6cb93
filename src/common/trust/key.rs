//! Keys, and how they are written: `ed25519:` and 52 letters of base32.

use std::fmt;
use std::str::FromStr;

use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

/// What a public key begins with.
const PUBLIC: &str = "ed25519:";

/// What a secret key begins with, so that nobody takes the one for the other.
const SECRET: &str = "ed25519-secret:";

/// The letters of base32 (RFC 4648, lower case).
const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// What is in front of an ed25519 key in a `SubjectPublicKeyInfo` (RFC 8410).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// What is in front of an ed25519 seed in PKCS#8 (RFC 8410).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// Letters of a fingerprint: a hundred bits.
const FINGERPRINT_LETTERS: usize = 20;

/// A public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PublicKey(pub [u8; 32]);

/// Why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a key (a key is {PUBLIC} and 52 letters and digits)")]
pub struct NoKey;

impl PublicKey {
    /// The key in a `SubjectPublicKeyInfo`, when it is an ed25519 one.
    pub fn of_spki(der: &[u8]) -> Option<Self> {
        let key = der.strip_prefix(&SPKI_PREFIX)?;
        key.try_into().ok().map(PublicKey)
    }

    /// As a `SubjectPublicKeyInfo`.
    pub fn spki(&self) -> Vec<u8> {
        [&SPKI_PREFIX[..], &self.0].concat()
    }

    /// Short enough to be compared by eye: five groups of four letters.
    pub fn fingerprint(&self) -> String {
        let letters = base32(blake3::hash(&self.spki()).as_bytes());
        let groups = letters.as_bytes()[..FINGERPRINT_LETTERS].chunks(4);
        groups.map(|group| String::from_utf8_lossy(group)).collect::<Vec<_>>().join("-")
    }

    /// Whether `signature` is this key's, of these bytes.
    pub fn has_signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(bytes, signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC}{}", base32(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = NoKey;

    fn from_str(text: &str) -> Result<Self, NoKey> {
        let letters = text.strip_prefix(PUBLIC).ok_or(NoKey)?;
        from_base32(letters).and_then(|bytes| bytes.try_into().ok()).map(PublicKey).ok_or(NoKey)
    }
}

/// A secret key with its public half. It is never shown, but for the one text that is kept in a file.
#[derive(Clone)]
pub struct Identity {
    seed: [u8; 32],
    public: PublicKey,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.public)
    }
}

impl Identity {
    /// A new one. `None` when the system has no random numbers.
    pub fn generate() -> Option<Self> {
        let mut seed = [0; 32];
        SystemRandom::new().fill(&mut seed).ok()?;
        Self::of_seed(seed)
    }

    fn of_seed(seed: [u8; 32]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).ok()?;
        let public = PublicKey(pair.public_key().as_ref().try_into().ok()?);
        Some(Identity { seed, public })
    }

    /// From what [`Self::to_secret_text`] gave.
    ///
    /// # Errors
    ///
    /// Returns that it is none.
    pub fn of_secret_text(text: &str) -> Result<Self, NoKey> {
        let letters = text.trim().strip_prefix(SECRET).ok_or(NoKey)?;
        let seed = from_base32(letters).and_then(|bytes| bytes.try_into().ok()).ok_or(NoKey)?;
        Self::of_seed(seed).ok_or(NoKey)
    }

    /// The line that is kept in a file.
    pub fn to_secret_text(&self) -> String {
        format!("{SECRET}{}\n", base32(&self.seed))
    }

    /// The half that is shown.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// As PKCS#8.
    pub fn pkcs8(&self) -> Vec<u8> {
        [&PKCS8_PREFIX[..], &self.seed].concat()
    }

    /// Signs some bytes.
    pub fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        // A seed that gave a key once gives it again.
        let pair = Ed25519KeyPair::from_seed_unchecked(&self.seed).expect("a seed of 32 bytes");
        pair.sign(bytes).as_ref().to_vec()
    }
}

/// Random bytes. `None` when the system has none.
pub fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).ok().map(|()| bytes)
}

/// Bytes as letters, without padding.
pub fn base32(bytes: &[u8]) -> String {
    let (mut text, mut held, mut bits) = (String::new(), 0u32, 0);
    for &byte in bytes {
        held = held << 8 | u32::from(byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(LETTERS[(held >> bits & 31) as usize]));
        }
    }
    if bits > 0 {
        text.push(char::from(LETTERS[(held << (5 - bits) & 31) as usize]));
    }
    text
}

/// The bytes of what [`base32`] wrote; of each there is one spelling only.
pub fn from_base32(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0u32, 0);
    for letter in text.bytes() {
        let value = LETTERS.iter().position(|&known| known == letter)?;
        held = (held << 5 | value as u32) & 0xfff;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
        }
    }
    (base32(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_comes_back_from_its_text_and_from_its_file() {
        let identity = Identity::generate().expect("random numbers");
        let text = identity.public().to_string();
        assert_eq!((text.len(), text.parse()), (60, Ok(identity.public())));
        let kept = Identity::of_secret_text(&identity.to_secret_text()).expect("the same key");
        assert_eq!(kept.public(), identity.public());
        assert_eq!(PublicKey::of_spki(&identity.public().spki()), Some(identity.public()));
        assert!(!format!("{identity:?}").contains(identity.to_secret_text().trim()));
    }

    #[test]
    fn a_fingerprint_is_short_and_the_keys_own() {
        let print = PublicKey([7; 32]).fingerprint();
        assert_eq!((print.len(), print.matches('-').count()), (24, 4));
        assert_ne!(print, PublicKey([8; 32]).fingerprint());
    }

    #[test]
    fn a_signature_is_of_these_bytes_by_this_key() {
        let identity = Identity::generate().expect("random numbers");
        let signature = identity.sign(b"words");
        assert!(identity.public().has_signed(b"words", &signature));
        assert!(!identity.public().has_signed(b"other", &signature));
        assert!(!PublicKey([7; 32]).has_signed(b"words", &signature));
    }

    #[test]
    fn what_is_not_a_key_is_refused() {
        let good = PublicKey([7; 32]).to_string();
        let secret = Identity::generate().expect("random numbers").to_secret_text();
        for text in
            ["", "ed25519:", &good[1..], &good[..59], &good.to_uppercase(), &format!("{good}a"), &secret]
        {
            assert_eq!(text.parse::<PublicKey>(), Err(NoKey), "{text}");
        }
        assert!(Identity::of_secret_text(&good).is_err());
    }

    proptest! {
        #[test]
        fn letters_mean_the_bytes_that_they_were_made_of(bytes in proptest::collection::vec(any::<u8>(), 0..70)) {
            prop_assert_eq!(from_base32(&base32(&bytes)), Some(bytes));
        }

        #[test]
        fn no_text_ends_in_a_panic(text in ".{0,80}") {
            let _ = text.parse::<PublicKey>();
            let _ = from_base32(&text);
        }
    }
}
