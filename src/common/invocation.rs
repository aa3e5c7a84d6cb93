//! What the user ran.

use serde::{Deserialize, Serialize};

use crate::common::bytes::Bytes;

/// One run of a compiler, as the shim found it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invocation {
    /// The compiler as it was named (`gcc`, `/opt/x/bin/g++`), then its arguments.
    pub argv: Vec<Bytes>,
    /// The working directory, absolute. `$PWD` is in `env` and may name it otherwise.
    pub cwd: Bytes,
    /// The whole environment, `NAME=value` each, in order. In masquerade use `PATH` is already cut
    /// behind the masquerade directory.
    pub env: Vec<Bytes>,
    /// The file mode creation mask.
    pub umask: u32,
    /// The terminal that stderr is, if it is one: compilers colour and wrap diagnostics for one.
    pub terminal: Option<Terminal>,
    /// Whether it may not write files as large as an output may be (`ulimit -f`): then its compiler fails at
    /// some size, and only a compiler here does so at the same.
    pub limited: bool,
    /// Where the shim runs, to tell whether the broker sees the same files.
    pub origin: Origin,
}

/// What a compiler asks a terminal for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// Its width; 0 where it does not tell.
    pub columns: u16,
    /// Its height; 0 where it does not tell.
    pub rows: u16,
}

/// What identifies the shim's view of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Number of the mount that `/` is on, or the inode of the mount namespace; 0 where neither can be had. Shim and
    /// broker, under one kernel, have the same of the two.
    pub mounts: u64,
    /// Device and inode of `/`: another root is another view, even in the same namespace.
    pub root: (u64, u64),
    /// The shim's process group: one per build started from a shell, so jobs of one `make` share it.
    pub build: u32,
    /// The shim's process id.
    pub pid: u32,
}

impl Invocation {
    /// The value of an environment variable; the last entry of that name wins, as in `getenv` of
    /// most shells' children there is only one.
    pub fn variable(&self, name: &str) -> Option<&[u8]> {
        self.env.iter().rev().find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
    }
}
