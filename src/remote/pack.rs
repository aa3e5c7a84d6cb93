//! Results on their way to the client: digested and packed, in memory while they are small.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use tempfile::SpooledTempFile;

use crate::common::protocol::link::Part;
use crate::common::toolchain::Digest;

/// Packed results up to this size stay in memory; larger ones wait in an unnamed file.
const MEMORY_MAX_BYTES: usize = 1 << 20;

/// How much is read at once.
const STEP_BYTES: usize = 64 << 10;

/// Fast, and twice as good as none on objects; the network is slower than this level.
const LEVEL: i32 = 1;

/// One piece of a result, ready to be sent.
#[derive(Debug)]
pub struct Packed {
    /// What is announced of it.
    pub part: Part,
    /// Its packed bytes, from the beginning.
    pub data: SpooledTempFile,
}

/// Packs a file from where it stands to its end. What does not fit into memory waits in `spool`.
///
/// # Errors
///
/// Returns `FileTooLarge` for more than `max_bytes`, else what the file system returns.
pub fn pack(mut file: File, max_bytes: u64, spool: &Path) -> io::Result<Packed> {
    let data = tempfile::spooled_tempfile_in(MEMORY_MAX_BYTES, spool);
    let mut encoder = zstd::stream::write::Encoder::new(data, LEVEL)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; STEP_BYTES];
    let mut size: u64 = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        size += read as u64;
        if size > max_bytes {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        hasher.update(&buffer[..read]);
        encoder.write_all(&buffer[..read])?;
    }
    let digest = Digest(*hasher.finalize().as_bytes());
    if size == 0 {
        // An empty part has no bytes on the way, not even those of an empty frame.
        let data = tempfile::spooled_tempfile_in(0, spool);
        return Ok(Packed { part: Part { digest, size, packed: 0 }, data });
    }
    let mut data = encoder.finish()?;
    let packed = data.stream_position()?;
    data.rewind()?;
    Ok(Packed { part: Part { digest, size, packed }, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(bytes: &[u8], max_bytes: u64) -> io::Result<Packed> {
        let directory = tempfile::tempdir()?;
        let mut file = tempfile::tempfile()?;
        file.write_all(bytes)?;
        file.rewind()?;
        pack(file, max_bytes, directory.path())
    }

    #[test]
    fn what_is_packed_unpacks_to_the_same() {
        let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let mut packed = packed(&bytes, 1 << 30).unwrap();
        let mut travelled = Vec::new();
        packed.data.read_to_end(&mut travelled).unwrap();
        assert_eq!(packed.part.packed, travelled.len() as u64);
        assert_eq!(packed.part.digest, Digest::of(&bytes));
        assert_eq!(zstd::decode_all(&travelled[..]).unwrap(), bytes);
    }

    #[test]
    fn nothing_travels_as_nothing() {
        let packed = packed(b"", 10).unwrap();
        assert_eq!((packed.part.size, packed.part.packed), (0, 0));
        assert_eq!(packed.part.digest, Digest::of(b""));
    }

    #[test]
    fn more_than_the_limit_is_an_error() {
        assert!(packed(b"0123456789", 10).is_ok());
        assert_eq!(packed(b"0123456789x", 10).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
