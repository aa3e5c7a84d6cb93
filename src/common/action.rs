//! What one attempt executes: toolchain, arguments, environment, inputs, output names.
//!
//! The same action gives the same result, wherever it runs.

use serde::{Deserialize, Serialize};

use crate::common::bytes::Bytes;
use crate::common::toolchain::{Digest, Toolchain};

/// A content-addressed piece of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Blob {
    /// Digest of the unpacked bytes.
    pub digest: Digest,
    /// Length unpacked, in bytes.
    pub size: u64,
    /// Length as it travels (zstd), in bytes.
    pub packed: u64,
}

/// One argument of the remote command. Paths of the client never leave it in preprocessed mode:
/// the volunteer puts its own names in place of `Input` and `Output`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Argument {
    /// As it stands.
    Plain(Bytes),
    /// The preprocessed source.
    Input,
    /// The output of that index in [`Action::outputs`].
    Output(u16),
}

/// The files that an action reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InputSet {
    /// One preprocessed source, under a name that ends in `suffix` (`.i`, `.ii`, …).
    Preprocessed {
        /// The text.
        source: Blob,
        /// The name's ending, which tells the compiler the language.
        suffix: String,
    },
}

/// One output of an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputName {
    /// The ending of its name (`.o`, `.s`, `.dwo`), for the volunteer's own name of it.
    pub suffix: String,
}

/// A compile that any machine with the toolchain can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// The compiler.
    pub toolchain: Toolchain,
    /// Its arguments, the compiler itself not among them.
    pub arguments: Vec<Argument>,
    /// The environment that compilers read, `NAME=value` each.
    pub environment: Vec<Bytes>,
    /// What it reads.
    pub inputs: InputSet,
    /// What it writes.
    pub outputs: Vec<OutputName>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// It exited with this status.
    Exited(i32),
    /// This signal ended it.
    Killed(i32),
}

impl Ended {
    /// Whether it exited with status 0.
    pub fn is_success(self) -> bool {
        self == Ended::Exited(0)
    }
}
