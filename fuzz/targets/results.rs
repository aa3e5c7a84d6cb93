//! Contents of a result, packed with zstd, against the length and digest that were announced.

use distcc::broker::link::Packing;
use distcc::broker::outcome::unpack;
use distcc::common::protocol::link::Part;
use distcc::common::toolchain::Digest;

/// Two bytes of length, then the packed bytes.
pub fn run(data: &[u8]) {
    let Some(([low, high], packed)) = data.split_first_chunk::<2>() else { return };
    let size = u64::from(u16::from_le_bytes([*low, *high]));
    let digest = zstd::decode_all(packed).map_or(Digest::of(b""), |bytes| Digest::of(&bytes));
    let part = Part { digest, size, packed: packed.len() as u64 };
    if let Ok(bytes) = unpack(packed, &part, Packing::Zstd) {
        assert_eq!(bytes.len() as u64, size);
    }
}
