//! Values to bytes and back. All use of the codec is here, so that it can be replaced.
//!
//! bincode 2.0.1 trusts length prefixes unless told a limit, accepts trailing bytes, and has no
//! way to evolve; so decoding is limited to [`DECODED_MAX_BYTES`], must consume everything, and messages are
//! versioned by the protocols' own hello. Wire types are never recursive: the decoder would be.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What one message may claim when decoded. Frames are shorter than this on both protocols.
pub const DECODED_MAX_BYTES: usize = 128 << 20;

/// Why bytes are not the message that they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The codec refused them.
    #[error("malformed message: {0}")]
    Malformed(String),
    /// There is more than the message.
    #[error("{0} bytes behind the message")]
    Trailing(usize),
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<DECODED_MAX_BYTES>()
}

/// The bytes of `message`.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    let unlimited = bincode::config::standard();
    bincode::serde::encode_to_vec(message, unlimited).expect("wire types always encode")
}

/// The message in `bytes`, which must hold nothing else.
///
/// # Errors
///
/// Returns [`WireError`] when the bytes are not exactly one message of this type.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    let (message, used) = bincode::serde::decode_from_slice(bytes, config())
        .map_err(|error| WireError::Malformed(error.to_string()))?;
    match bytes.len() - used {
        0 => Ok(message),
        more => Err(WireError::Trailing(more)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::bytes::Bytes;

    #[test]
    fn a_message_comes_back_as_it_was() {
        let message = vec![Bytes(vec![0, 255, 10]), Bytes::default()];
        assert_eq!(decode::<Vec<Bytes>>(&encode(&message)), Ok(message));
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = encode(&7u32);
        bytes.push(0);
        assert_eq!(decode::<u32>(&bytes), Err(WireError::Trailing(1)));
    }

    #[test]
    fn a_length_that_lies_is_refused_before_it_is_allocated() {
        let lie = [252, 255, 255, 255, 255];
        assert!(decode::<Vec<u64>>(&lie).is_err());
        assert!(decode::<Bytes>(&lie).is_err());
    }
}
