//! Results on their way to the client: packed and digested, in memory while they are small.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use lz4::block;
use tempfile::SpooledTempFile;

use crate::common::protocol::link::{LZ4_BLOCK_MAX_BYTES, Packing, Part};
use crate::common::toolchain::Digest;

/// Packed results up to this size stay in memory; larger ones wait in an unnamed file.
const MEMORY_MAX_BYTES: usize = 1 << 20;

/// How much is read at once: what becomes a block of LZ4.
const STEP_BYTES: usize = LZ4_BLOCK_MAX_BYTES;

/// What is not longer travels as it is: a frame would be longer.
const PLAIN_MAX_BYTES: usize = 128;

/// Fast, and twice as good as none on objects.
const ZSTD_LEVEL: i32 = 1;

/// One piece of a result, ready to be sent.
#[derive(Debug)]
pub struct Packed {
    /// What is announced of it.
    pub part: Part,
    /// Its packed bytes, from the beginning.
    pub data: SpooledTempFile,
}

/// Packs a file from where it stands to its end, as `packing` says where that makes it shorter. What does
/// not fit into memory waits in `spool`.
///
/// # Errors
///
/// Returns `FileTooLarge` for more than `max_bytes`, else what the file system returns.
pub fn pack(mut file: File, max_bytes: u64, packing: Packing, spool: &Path) -> io::Result<Packed> {
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(STEP_BYTES);
    let mut buffer = vec![0; length.clamp(PLAIN_MAX_BYTES + 1, STEP_BYTES)];
    let mut read = fill(&mut file, &mut buffer)?;
    let packing = if read <= PLAIN_MAX_BYTES { Packing::Plain } else { packing };
    let mut encoder =
        Encoder::new(packing, Sealed::new(tempfile::spooled_tempfile_in(MEMORY_MAX_BYTES, spool)))?;
    let mut size: u64 = 0;
    while read > 0 {
        size += read as u64;
        if size > max_bytes {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        encoder.write_all(&buffer[..read])?;
        read = fill(&mut file, &mut buffer)?;
    }
    let Sealed { mut data, hasher, written } = encoder.finish()?;
    data.rewind()?;
    let digest = Digest(*hasher.finalize().as_bytes());
    Ok(Packed { part: Part { packing, digest, size, packed: written }, data })
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The bytes that travel, and their digest.
struct Sealed {
    data: SpooledTempFile,
    hasher: blake3::Hasher,
    written: u64,
}

impl Sealed {
    fn new(data: SpooledTempFile) -> Self {
        Sealed { data, hasher: blake3::Hasher::new(), written: 0 }
    }
}

impl Write for Sealed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.data.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.data.flush()
    }
}

enum Encoder {
    Plain(Sealed),
    Zstd(zstd::stream::write::Encoder<'static, Sealed>),
    Lz4(Sealed),
}

impl Encoder {
    fn new(packing: Packing, sealed: Sealed) -> io::Result<Self> {
        Ok(match packing {
            Packing::Plain => Encoder::Plain(sealed),
            Packing::Zstd => Encoder::Zstd(zstd::stream::write::Encoder::new(sealed, ZSTD_LEVEL)?),
            Packing::Lz4 => Encoder::Lz4(sealed),
        })
    }

    /// Takes one step of the contents.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Encoder::Plain(to) => to.write_all(bytes),
            Encoder::Zstd(to) => to.write_all(bytes),
            Encoder::Lz4(to) => {
                let block = block::compress(bytes, None, false)?;
                to.write_all(&(block.len() as u32).to_le_bytes())?;
                to.write_all(&block)
            }
        }
    }

    fn finish(self) -> io::Result<Sealed> {
        match self {
            Encoder::Plain(sealed) | Encoder::Lz4(sealed) => Ok(sealed),
            Encoder::Zstd(encoder) => encoder.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(bytes: &[u8], max_bytes: u64, packing: Packing) -> io::Result<(Part, Vec<u8>)> {
        let directory = tempfile::tempdir()?;
        let mut file = tempfile::tempfile()?;
        file.write_all(bytes)?;
        file.rewind()?;
        let mut packed = pack(file, max_bytes, packing, directory.path())?;
        let mut travelled = Vec::new();
        packed.data.read_to_end(&mut travelled)?;
        assert_eq!(
            (packed.part.packed, packed.part.digest),
            (travelled.len() as u64, Digest::of(&travelled))
        );
        Ok((packed.part, travelled))
    }

    fn unpacked(packing: Packing, packed: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        match packing {
            Packing::Plain => bytes.extend_from_slice(packed),
            Packing::Zstd => bytes = zstd::decode_all(packed).unwrap(),
            Packing::Lz4 => {
                let mut rest = packed;
                while let Some((length, blocks)) = rest.split_first_chunk() {
                    let (block, blocks) = blocks.split_at(u32::from_le_bytes(*length) as usize);
                    bytes.extend(block::decompress(block, Some(LZ4_BLOCK_MAX_BYTES as i32)).unwrap());
                    rest = blocks;
                }
            }
        }
        bytes
    }

    #[test]
    fn what_is_packed_unpacks_to_the_same() {
        let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for packing in [Packing::Plain, Packing::Zstd, Packing::Lz4] {
            for length in [PLAIN_MAX_BYTES + 1, STEP_BYTES, STEP_BYTES + 1, bytes.len()] {
                let (part, travelled) = packed(&bytes[..length], 1 << 30, packing).unwrap();
                assert_eq!((part.packing, part.size), (packing, length as u64));
                assert_eq!(unpacked(packing, &travelled), &bytes[..length]);
            }
        }
    }

    #[test]
    fn what_is_short_travels_as_it_is_and_nothing_as_nothing() {
        for bytes in [&b""[..], b"warning: x\n"] {
            let (part, travelled) = packed(bytes, 100, Packing::Zstd).unwrap();
            assert_eq!(
                (part.packing, part.size, &travelled[..]),
                (Packing::Plain, bytes.len() as u64, bytes)
            );
        }
    }

    #[test]
    fn more_than_the_limit_is_an_error() {
        assert!(packed(b"0123456789", 10, Packing::Lz4).is_ok());
        let error = packed(b"0123456789x", 10, Packing::Lz4).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }
}
