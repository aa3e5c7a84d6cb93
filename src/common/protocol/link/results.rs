//! What a compile came to, as a volunteer announces it; its data follows.

use serde::{Deserialize, Serialize};

use crate::common::action::Ended;
use crate::common::bytes::Bytes;
use crate::common::toolchain::Digest;

/// What a compiler did with a hermetic job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compiled {
    /// The job's number.
    pub job: u32,
    /// How the compiler ended.
    pub ended: Ended,
    /// What it printed on stdout.
    pub stdout: Part,
    /// What it printed on stderr.
    pub stderr: Part,
    /// What it left in its writable layer, by path; nothing unless it exited with 0.
    pub products: Vec<Product>,
    /// Whether it read what it should have.
    pub audit: Audit,
    /// From start of the compiler to its end, in microseconds.
    pub wall_us: u64,
    /// User and system time of the compiler and its children, in microseconds.
    pub cpu_us: u64,
}

/// A file that a hermetic compile made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    /// Its absolute path, which leads through no link.
    pub path: Bytes,
    /// Its contents.
    pub part: Part,
}

/// What the compiler read, against what the client said it would.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Audit {
    /// Nobody can tell all that it read, or nothing was asked.
    Unchecked,
    /// The same.
    Agrees,
    /// Something else.
    Differs {
        /// The absolute paths that it read, as it names them, or that it opened; cut off where they would not
        /// fit.
        read: Vec<Bytes>,
    },
}

/// What a compiler did with a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobResult {
    /// The job's number.
    pub job: u32,
    /// How the compiler ended.
    pub ended: Ended,
    /// What it printed on stdout.
    pub stdout: Part,
    /// What it printed on stderr.
    pub stderr: Part,
    /// The action's outputs in its order; none of them unless it exited with 0.
    pub outputs: Vec<Part>,
    /// From start of the compiler to its end, in microseconds.
    pub wall_us: u64,
    /// User and system time of the compiler and its children, in microseconds.
    pub cpu_us: u64,
}

/// One piece of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// How it is packed.
    pub packing: Packing,
    /// Digest of the bytes that travel.
    pub digest: Digest,
    /// Length unpacked, in bytes.
    pub size: u64,
    /// Length as it travels, in bytes.
    pub packed: u64,
}

/// What a block of LZ4 holds at most: it stays in the reader's caches, and smaller ones are dearer to write to a
/// file, one by one.
pub const LZ4_BLOCK_MAX_BYTES: usize = 256 << 10;

/// How a piece of a result is packed, which is for the volunteer to choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Packing {
    /// As it is.
    Plain,
    /// One zstd frame, with a window of at most 2^24.
    Zstd,
    /// Blocks of LZ4, each after its packed length (`u32`, little endian), and of at most [`LZ4_BLOCK_MAX_BYTES`]
    /// unpacked: longer, and unpacked in half the time.
    Lz4,
}
