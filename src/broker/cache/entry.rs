//! One result as a file: a mark, its author's digest and its time, the length of what follows, the announcement,
//! the packed bytes, and the digest of all that and of the key that it is kept under: a result under another
//! key is none.

use super::distrust::Origin;
use crate::broker::link::{FilesAnswer, Times};
use crate::common::protocol::link::Compiled;
use crate::common::protocol::wire;
use crate::common::toolchain::Digest;

/// What such files begin with; the number is raised when anything behind it changes.
const MARK: [u8; 8] = *b"DCCache5";

/// The bytes of an entry.
pub fn encode(key: &Digest, answer: &FilesAnswer, origin: &Origin) -> Vec<u8> {
    let announcement = wire::encode(&answer.compiled);
    let mut bytes = Vec::with_capacity(announcement.len() + answer.packed.len() + 128);
    bytes.extend_from_slice(&MARK);
    bytes.extend_from_slice(&origin.author.0);
    bytes.extend_from_slice(&origin.kept.to_le_bytes());
    bytes.extend_from_slice(&(announcement.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&announcement);
    bytes.extend_from_slice(&answer.packed);
    let digest = seal(key, &bytes);
    bytes.extend_from_slice(&digest);
    bytes
}

fn seal(key: &Digest, body: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new_keyed(&key.0).update(body).finalize().as_bytes()
}

/// The result in an entry, and where it is from; `None` for anything but a whole one of this key.
pub fn decode(key: &Digest, bytes: &[u8]) -> Option<(FilesAnswer, Origin)> {
    let (body, digest) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
    if seal(key, body) != *digest {
        return None;
    }
    let (author, rest) = body.strip_prefix(&MARK)?.split_first_chunk()?;
    let (kept, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let origin = Origin { author: Digest(*author), kept: u64::from_le_bytes(*kept) };
    let (announcement, packed) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let compiled: Compiled = wire::decode(announcement).ok()?;
    Some((FilesAnswer { compiled, packed: packed.to_vec(), times: Times::default() }, origin))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::common::action::Ended;
    use crate::common::protocol::link::{Audit, Packing, Part};

    pub fn answer(packed: &[u8]) -> FilesAnswer {
        let part = Part { packing: Packing::Plain, digest: Digest::of(b""), size: 0, packed: 0 };
        let compiled = Compiled {
            job: 1,
            ended: Ended::Exited(0),
            stdout: part,
            stderr: part,
            products: Vec::new(),
            audit: Audit::Agrees,
            wall_us: 1,
            cpu_us: 1,
        };
        FilesAnswer { compiled, packed: packed.to_vec(), times: Times::default() }
    }

    pub const ORIGIN: Origin = Origin { author: Digest([7; 32]), kept: 1_700_000_000 };

    #[test]
    fn an_entry_comes_back_as_it_was() {
        let (answer, key) = (answer(b"packed"), Digest::of(b"key"));
        let (back, origin) = decode(&key, &encode(&key, &answer, &ORIGIN)).expect("an entry");
        assert_eq!((back.compiled, back.packed, origin), (answer.compiled, answer.packed, ORIGIN));
    }

    #[test]
    fn an_entry_that_rotted_or_was_cut_off_is_none() {
        let key = Digest::of(b"key");
        let whole = encode(&key, &answer(b"packed"), &ORIGIN);
        for cut in 0..whole.len() {
            assert!(decode(&key, &whole[..cut]).is_none(), "{cut}");
        }
        for at in 0..whole.len() {
            let mut rotten = whole.clone();
            rotten[at] ^= 1;
            assert!(decode(&key, &rotten).is_none(), "{at}");
        }
    }

    #[test]
    fn an_entry_of_another_key_is_none() {
        let whole = encode(&Digest::of(b"key"), &answer(b"packed"), &ORIGIN);
        assert!(decode(&Digest::of(b"other"), &whole).is_none());
    }
}
