//! Pieces of a result as they came.
//!
//! A piece is checked against its digest before anything is made of it, and unpacked bit by bit on its way
//! into a file: a large object is never in memory as a whole, and what is written lies in the innermost
//! caches. Never trusts a length that a volunteer tells further than it has got.

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};

use lz4::block;
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use crate::common::limits::MESSAGES_MAX_BYTES;
use crate::common::protocol::link::{LZ4_BLOCK_MAX_BYTES, Packing, Part};
use crate::common::reason::LocalReason;
use crate::common::toolchain::Digest;

/// How much zstd unpacks at once.
const STEP_BYTES: usize = 256 << 10;

/// The most that a block takes: where nothing in it repeats (lz4.h, `LZ4_COMPRESSBOUND`).
const LZ4_PACKED_MAX_BYTES: usize = LZ4_BLOCK_MAX_BYTES + LZ4_BLOCK_MAX_BYTES / 255 + 16;

/// zstd's window, by its logarithm: the protocol's (`common::protocol::link`, "Result data").
const WINDOW_LOG_MAX: u32 = 24;

/// Why a piece was not put where it belongs.
#[derive(Debug, thiserror::Error)]
pub enum Unplaced {
    /// It is not what the volunteer announced.
    #[error("the answer was damaged: {0}")]
    Damaged(&'static str),
    /// Where it belongs is something else than a plain file.
    #[error("{} is not a plain file", .0.display())]
    NotAFile(PathBuf),
    /// It cannot be written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It cannot be put there.
    #[error("{} cannot be written: {why}", .path.display())]
    Unwritable {
        /// Where it belongs.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
}

impl Unplaced {
    /// The same, of a file that belongs there.
    pub fn at(self, path: &Path) -> Self {
        match self {
            Unplaced::Io(why) => Unplaced::Unwritable { path: path.to_owned(), why },
            other => other,
        }
    }
}

impl From<Unplaced> for LocalReason {
    fn from(unplaced: Unplaced) -> Self {
        match unplaced {
            Unplaced::Damaged(_) => LocalReason::NoVolunteer { why: unplaced.to_string() },
            Unplaced::NotAFile(path) => LocalReason::OutputNotAFile { output: path.as_path().into() },
            Unplaced::Io(error) => LocalReason::Broker { why: error.to_string() },
            Unplaced::Unwritable { path, why } => {
                LocalReason::OutputUnwritable { output: path.as_path().into(), why: why.to_string() }
            }
        }
    }
}

/// One piece of a result, whose bytes are those that were announced.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    packed: &'a [u8],
    part: Part,
}

impl<'a> Piece<'a> {
    /// Takes the piece that `bytes` begin with.
    ///
    /// # Errors
    ///
    /// Returns [`Unplaced::Damaged`] when they are too few, or others than were announced.
    pub fn take(bytes: &mut &'a [u8], part: &Part) -> Result<Self, Unplaced> {
        let packed = usize::try_from(part.packed).ok().and_then(|length| bytes.split_at_checked(length));
        let (packed, rest) = packed.ok_or(Unplaced::Damaged("it is too short"))?;
        if Digest::of(packed) != part.digest {
            return Err(Unplaced::Damaged("digests differ"));
        }
        *bytes = rest;
        Ok(Piece { packed, part: *part })
    }

    /// All of it.
    ///
    /// # Errors
    ///
    /// Returns [`Unplaced::Damaged`] when it cannot be unpacked, or has another length than was announced.
    pub fn to_vec(self) -> Result<Vec<u8>, Unplaced> {
        let mut contents = Vec::with_capacity(self.part.size.min(MESSAGES_MAX_BYTES) as usize);
        self.unpack(|bytes| {
            contents.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok(contents)
    }

    /// Hands the contents to `take`, bit by bit.
    ///
    /// # Errors
    ///
    /// Returns [`Unplaced::Damaged`] when it cannot be unpacked, or has another length than was announced:
    /// no more than that much is ever handed over. Else what `take` returned.
    pub fn unpack(self, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> Result<(), Unplaced> {
        let mut left = self.part.size;
        let mut bounded = |bytes: &[u8]| {
            left = left.checked_sub(bytes.len() as u64).ok_or(Unplaced::Damaged("it is too long"))?;
            Ok(take(bytes)?)
        };
        match self.part.packing {
            Packing::Plain => bounded(self.packed)?,
            Packing::Zstd => unpack_zstd(self.packed, bounded)?,
            Packing::Lz4 => unpack_lz4(self.packed, bounded)?,
        }
        if left > 0 { Err(Unplaced::Damaged("it is too short")) } else { Ok(()) }
    }
}

fn unpack_lz4(
    mut packed: &[u8],
    mut take: impl FnMut(&[u8]) -> Result<(), Unplaced>,
) -> Result<(), Unplaced> {
    thread_local! {
        static KEPT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    KEPT.with_borrow_mut(|buffer| {
        buffer.resize(LZ4_BLOCK_MAX_BYTES, 0);
        while !packed.is_empty() {
            let (length, rest) = packed.split_first_chunk().ok_or(Unplaced::Damaged("it is too short"))?;
            let block = rest.split_at_checked(u32::from_le_bytes(*length) as usize);
            let (block, rest) = block.ok_or(Unplaced::Damaged("it is too short"))?;
            if block.len() > LZ4_PACKED_MAX_BYTES {
                return Err(Unplaced::Damaged("a block of LZ4 is too long"));
            }
            let unpacked = block::decompress_to_buffer(block, Some(LZ4_BLOCK_MAX_BYTES as i32), buffer);
            let unpacked = unpacked.map_err(|_| Unplaced::Damaged("it is no LZ4 block"))?;
            take(&buffer[..unpacked])?;
            packed = rest;
        }
        Ok(())
    })
}

fn unpack_zstd(packed: &[u8], mut take: impl FnMut(&[u8]) -> Result<(), Unplaced>) -> Result<(), Unplaced> {
    thread_local! {
        // Making one takes longer than unpacking most messages does.
        static KEPT: RefCell<Option<(Decoder<'static>, Vec<u8>)>> = const { RefCell::new(None) };
    }
    let wrong = |_: io::Error| Unplaced::Damaged("it is no zstd frame");
    KEPT.with_borrow_mut(|kept| {
        let (decoder, buffer) = match kept {
            Some(kept) => kept,
            None => {
                let mut decoder = Decoder::new()?;
                decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
                kept.insert((decoder, vec![0; STEP_BYTES]))
            }
        };
        decoder.reinit()?;
        let mut input = InBuffer::around(packed);
        loop {
            let mut output = OutBuffer::around(&mut buffer[..]);
            let wanted = decoder.run(&mut input, &mut output).map_err(wrong)?;
            let unpacked = output.pos();
            let is_full = unpacked == buffer.len();
            take(&buffer[..unpacked])?;
            if wanted == 0 {
                return Ok(());
            }
            if input.pos() == packed.len() && !is_full {
                return Err(Unplaced::Damaged("it is too short"));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part_of(packing: Packing, contents: &[u8], packed: &[u8]) -> Part {
        Part { packing, digest: Digest::of(packed), size: contents.len() as u64, packed: packed.len() as u64 }
    }

    fn lz4_block(contents: &[u8]) -> Vec<u8> {
        block::compress(contents, None, false).expect("packed")
    }

    fn packed(packing: Packing, contents: &[u8]) -> Vec<u8> {
        match packing {
            Packing::Plain => contents.to_vec(),
            Packing::Zstd => zstd::encode_all(contents, 1).expect("packed"),
            Packing::Lz4 => {
                let blocks = contents.chunks(LZ4_BLOCK_MAX_BYTES).map(lz4_block);
                let framed = blocks.map(|block| [&(block.len() as u32).to_le_bytes()[..], &block].concat());
                framed.collect::<Vec<_>>().concat()
            }
        }
    }

    fn unpacked(packed: &[u8], part: &Part) -> Result<Vec<u8>, String> {
        let mut bytes = packed;
        Piece::take(&mut bytes, part).and_then(Piece::to_vec).map_err(|error| error.to_string())
    }

    const ALL: [Packing; 3] = [Packing::Plain, Packing::Zstd, Packing::Lz4];

    fn contents() -> Vec<u8> {
        (0..600_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 27) as u8).collect()
    }

    #[test]
    fn a_piece_is_what_was_packed_whatever_its_length() {
        for packing in ALL {
            for length in [0, 1, 262_143, 262_144, 262_145, 524_288, 600_000] {
                let contents = &contents()[..length];
                let packed = packed(packing, contents);
                let part = part_of(packing, contents, &packed);
                assert_eq!(unpacked(&packed, &part).as_deref(), Ok(contents), "{packing:?} {length}");
            }
        }
    }

    #[test]
    fn a_piece_that_is_not_what_it_claims_to_be_is_refused() {
        for packing in ALL {
            let contents = contents();
            let packed = packed(packing, &contents);
            let part = part_of(packing, &contents, &packed);
            for wrong in [
                Part { size: part.size - 1, ..part },
                Part { size: part.size + 1, ..part },
                Part { packed: part.packed + 1, ..part },
                Part { packed: part.packed - 1, ..part },
                Part { digest: Digest::of(b"other"), ..part },
            ] {
                let error = unpacked(&packed, &wrong).expect_err("refused");
                assert!(error.starts_with("the answer was damaged: "), "{packing:?} {error}");
            }
        }
    }

    #[test]
    fn what_was_cut_off_before_it_was_digested_is_refused() {
        for packing in [Packing::Zstd, Packing::Lz4] {
            let contents = contents();
            let whole = packed(packing, &contents);
            for length in (0..whole.len()).step_by(997) {
                let part = part_of(packing, &contents, &whole[..length]);
                assert!(unpacked(&whole[..length], &part).is_err(), "{packing:?} {length}");
            }
        }
    }

    #[test]
    fn a_block_longer_than_blocks_are_is_refused() {
        let contents = vec![0; LZ4_BLOCK_MAX_BYTES + 1];
        let block = lz4_block(&contents);
        let packed = [&(block.len() as u32).to_le_bytes()[..], &block].concat();
        let refused = unpacked(&packed, &part_of(Packing::Lz4, &contents, &packed));
        assert_eq!(refused, Err("the answer was damaged: it is no LZ4 block".to_owned()));
    }

    #[test]
    fn a_block_that_takes_more_than_it_can_is_refused_and_one_that_takes_the_most_is_not() {
        let contents: Vec<u8> = (0..LZ4_BLOCK_MAX_BYTES as u64 / 8)
            .flat_map(|n| Digest::of(&n.to_le_bytes()).0.into_iter().take(8))
            .collect();
        let whole = packed(Packing::Lz4, &contents);
        assert!(whole.len() > contents.len());
        assert_eq!(unpacked(&whole, &part_of(Packing::Lz4, &contents, &whole)).as_ref(), Ok(&contents));
        let mut longer = whole[4..].to_vec();
        longer.resize(LZ4_PACKED_MAX_BYTES + 1, 0);
        let framed = [&(longer.len() as u32).to_le_bytes()[..], &longer].concat();
        let refused = unpacked(&framed, &part_of(Packing::Lz4, &contents, &framed));
        assert_eq!(refused, Err("the answer was damaged: a block of LZ4 is too long".to_owned()));
    }

    #[test]
    fn a_bomb_is_not_unpacked_beyond_what_it_claims() {
        for packing in [Packing::Zstd, Packing::Lz4] {
            let bomb = packed(packing, &vec![0; 16 << 20]);
            let part = Part { size: 1000, ..part_of(packing, b"", &bomb) };
            let mut taken = 0;
            let piece = Piece::take(&mut &bomb[..], &part).expect("a piece");
            let unplaced = piece.unpack(|bytes| {
                taken += bytes.len();
                Ok(())
            });
            assert!(matches!(unplaced, Err(Unplaced::Damaged(_))), "{packing:?}");
            assert!(taken <= 1000, "{packing:?} {taken}");
        }
    }

    #[test]
    fn a_disk_that_takes_no_more_is_no_damage() {
        let contents = contents();
        let whole = packed(Packing::Lz4, &contents);
        let part = part_of(Packing::Lz4, &contents, &whole);
        let piece = Piece::take(&mut &whole[..], &part).expect("a piece");
        let full = piece.unpack(|_| Err(io::ErrorKind::StorageFull.into()));
        assert!(matches!(full, Err(Unplaced::Io(error)) if error.kind() == io::ErrorKind::StorageFull));
    }
}
