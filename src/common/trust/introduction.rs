//! The first words inside of TLS, where a client's key alone does not let it in: an invitation, or a
//! farm's word. Whoever has neither says nothing of this, and begins with the link's own opening.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::invitation::SECRET_BYTES;
use crate::common::protocol::wire::{self, WireError};

/// What an introduction, and the answer to it, begin with.
pub const MAGIC: [u8; 4] = *b"DCCk";

/// Bytes of mark and length.
pub const HEAD_LEN: usize = MAGIC.len() + 2;

/// The longest introduction: its sender is not known yet.
const BODY_MAX_BYTES: usize = 4 << 10;

/// What a client says for itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Introduction {
    /// It was invited. Answered by [`Welcome`]; then the connection closes.
    Invited {
        /// The invitation's secret.
        secret: [u8; SECRET_BYTES],
        /// What it would like to be called.
        name: String,
    },
    /// Farm keys vouch for it: lines of [certificates](super::certificate). The link's opening follows.
    Vouched {
        /// One a line.
        certificates: Vec<String>,
    },
}

/// What a volunteer says to one that was invited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// What the client is called there.
    pub name: String,
}

/// A message with mark and length in front of it. One that is too long is cut into nonsense, which the
/// other side refuses; none of ours is.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    let body = wire::encode(message);
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
    [&MAGIC[..], &length.to_be_bytes(), &body].concat()
}

/// How long the body is, or `None` when it is too long.
pub fn body_length(length: [u8; 2]) -> Option<usize> {
    Some(usize::from(u16::from_be_bytes(length))).filter(|&length| length <= BODY_MAX_BYTES)
}

/// The message in a body.
///
/// # Errors
///
/// Returns that it is none.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, WireError> {
    wire::decode(body)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_comes_back_as_it_was() {
        let said = Introduction::Invited { secret: [7; 16], name: "ann".to_owned() };
        let bytes = encode(&said);
        let (head, body) = bytes.split_at(HEAD_LEN);
        assert_eq!(body_length([head[4], head[5]]), Some(body.len()));
        assert_eq!(decode(body), Ok(said));
    }

    #[test]
    fn a_long_one_is_not_waited_for() {
        assert_eq!(body_length([0x10, 0x01]), None);
        assert_eq!(body_length([0x10, 0x00]), Some(4096));
    }

    proptest! {
        #[test]
        fn no_bytes_end_in_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<Introduction>(&bytes);
        }
    }
}
