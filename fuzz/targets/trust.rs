//! Lists of keys, codes of pairing, and what is said before a link.

use distcc::common::trust::authorized::Authorized;
use distcc::common::trust::certificate;
use distcc::common::trust::introduction::{self, Introduction, Welcome};
use distcc::common::trust::invitation::Invitation;
use distcc::common::trust::key::{Identity, PublicKey};
use distcc::common::trust::known::Known;

/// What is read of each.
pub fn run(data: &[u8]) {
    let _ = PublicKey::of_spki(data);
    let _ = introduction::decode::<Introduction>(data);
    let _ = introduction::decode::<Welcome>(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (list, _) = Authorized::parse(text);
    assert!(list.len() <= text.lines().count());
    let _ = Known::parse(text);
    let _ = Identity::of_secret_text(text);
    let _ = text.parse::<Invitation>();
    if let Ok(key) = text.trim().parse::<PublicKey>() {
        let _ = certificate::of_key(text, &key);
    }
}
