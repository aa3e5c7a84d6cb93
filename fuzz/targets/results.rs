//! A piece of a result, packed in any way, against the length that was announced.

use distcc::broker::unpack::Piece;
use distcc::common::protocol::link::{Packing, Part};
use distcc::common::toolchain::Digest;

/// One byte that says how it is packed, two of its length, then the packed bytes.
pub fn run(data: &[u8]) {
    let Some(([way, low, high], packed)) = data.split_first_chunk::<3>() else { return };
    let packing = [Packing::Plain, Packing::Zstd, Packing::Lz4][usize::from(way % 3)];
    let size = u64::from(u16::from_le_bytes([*low, *high]));
    let part = Part { packing, digest: Digest::of(packed), size, packed: packed.len() as u64 };
    if let Ok(bytes) = Piece::take(&mut &packed[..], &part).and_then(Piece::to_vec) {
        assert_eq!(bytes.len() as u64, size);
    }
}
