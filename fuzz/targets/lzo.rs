//! LZO1X, as clients and daemons of distcc 3.4 pack.

use distcc::common::protocol::classic::lzo;

/// The most that is unpacked.
const MAX: usize = 1 << 20;

/// What is done with packed bytes, and with plain ones.
pub fn run(data: &[u8]) {
    if let Ok(plain) = lzo::decompress(data, MAX) {
        assert!(plain.len() <= MAX);
    }
    if !data.is_empty() && data.len() <= MAX {
        assert_eq!(lzo::decompress(&lzo::compress(data), data.len()).as_deref(), Ok(data));
    }
}
