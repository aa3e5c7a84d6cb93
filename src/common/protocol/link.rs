//! Broker and volunteer: the native link.
//!
//! One connection carries many jobs. Either side sends frames: a [`FrameHeader`] of 9 bytes, then
//! a message (one [`ToVolunteer`] or [`ToBroker`]) or a chunk of a job's data. Data frames of
//! different jobs interleave, so a large blob never blocks a small answer for long.
//!
//! ```text
//! broker                                     volunteer
//!   OPENING Hello ───────────────────────────▶
//!        ◀──────────── Hello, Able, Clock, Credit
//!   Job ─────────────────────────────────────▶
//!        ◀──────────────────────────── NeedInput     (only when the blob is not in its store)
//!   data … (within the window) ──────────────▶
//!        ◀───────────────────────── Window …
//!        ◀──────────────────────────────── Result, then data …
//!   Window … ────────────────────────────────▶
//! ```
//!
//! A hermetic job is a `Compile` in the place of a `Job`, with items defined before it; the files
//! that the volunteer lacks come in bundles, which belong to no job:
//!
//! ```text
//!   Define, Compile ─────────────────────────▶
//!        ◀────────────────── NeedFiles          (what is neither in its store nor asked for)
//!   Bundle, then data … (within the window) ─▶
//!        ◀────────────────────── BundleWindow …
//!        ◀────────────────────────────── Compiled, then data …
//! ```
//!
//! What is not in the types:
//!
//! - **Windows.** Each direction of each job starts with [`crate::common::limits::LINK_WINDOW_BYTES`]; `Window` adds to it.
//!   Data beyond what was granted, or beyond what was announced, breaks the protocol: `Fatal`.
//!   A side grants no more than what is still to come, so a small blob sees no `Window` at all.
//! - **Input** is exactly [`Blob::packed`](crate::common::action::Blob::packed) bytes of zstd
//!   with a window of at most 2^24 (all of zstd's levels up to 19).
//! - **Bundles** share one window, [`crate::common::limits::BUNDLE_WINDOW_BYTES`] at first.
//! - **Result data** is the packed bytes of stdout, stderr and outputs, one behind the other; each
//!   [`Part`] is packed by itself. A chunk may span parts.
//! - **Unfinished**, for credits, is a job until it is refused, cancelled, or its last byte sent.
//! - **Late frames** of a job that is refused, cancelled or done are ignored, by both sides.
//! - **Keep-alive.** A volunteer that has nothing to say sends a `Pong` of token 0 unasked.
//! - **Another version** is answered by `Hello`, then `Fatal`, and the link closes.
//! - **Draining.** A volunteer that ends closes the link when its last job there is answered. One that was
//!   paused says so too, and goes on with a `Credit` that is not 0.
//!
//! The broker's first bytes are [`OPENING`], so that a port can serve other protocols as well.
//! Variants are only ever appended, and the hello comes first: the version in it decides what
//! else may be said.

mod results;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::common::action::Action;
use crate::common::inputs::{Item, Reading, Runs};
use crate::common::invocation::Terminal;
use crate::common::limits::{LINK_CHUNK_MAX_BYTES, LINK_FRAME_MAX_BYTES};

pub use self::results::{Audit, Compiled, JobResult, LZ4_BLOCK_MAX_BYTES, Packing, Part, Product};

/// The protocol of this build.
pub const VERSION: u16 = 11;

/// The first bytes of a native link; they tell it from other protocols.
pub const MAGIC: [u8; 4] = *b"DCCn";

/// What a broker sends before its first frame: [`MAGIC`], then zeros that are ignored.
///
/// It is this long because a distccd of another kind (3.4) that meets an unknown word goes on to
/// read some 190 bytes for its log, however long they take to come, before it closes. So it closes
/// at once, and that tells what it is.
pub const OPENING: [u8; 256] = {
    let mut opening = [0; 256];
    opening.split_at_mut(MAGIC.len()).0.copy_from_slice(&MAGIC);
    opening
};

/// The port of distcc, for every protocol.
pub const DEFAULT_PORT: u16 = 3632;

/// Each side sends something at least this often.
pub const PING_INTERVAL: Duration = Duration::from_secs(2);

/// A side that has heard nothing for this long gives the link up. Faults are to be noticed
/// within ten seconds.
pub const SILENCE_MAX: Duration = Duration::from_secs(7);

/// How long the hello may take.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(4);

/// What follows a frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// A message; its `job` field is 0, messages name their job themselves.
    Message = 0,
    /// A piece of the data of `job`, in order.
    Data = 1,
    /// A piece of the bundle whose number is in `job`, in order.
    Bundle = 2,
}

/// Length, kind and job of a frame: 9 bytes, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Length of what follows, in bytes.
    pub length: u32,
    /// What follows.
    pub kind: FrameKind,
    /// Whose data it is.
    pub job: u32,
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than any legitimate frame of its kind.
    #[error("frame of {0} bytes, larger than the limit")]
    Length(u32),
    /// A kind that does not exist.
    #[error("unknown frame kind {0}")]
    Kind(u8),
}

impl FrameHeader {
    /// Bytes of an encoded header.
    pub const LEN: usize = 9;

    /// The bytes of the header.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let [l0, l1, l2, l3] = self.length.to_le_bytes();
        let [j0, j1, j2, j3] = self.job.to_le_bytes();
        [l0, l1, l2, l3, self.kind as u8, j0, j1, j2, j3]
    }

    /// Reads a header and checks the length against the limit of its kind.
    ///
    /// # Errors
    ///
    /// Returns [`FrameError`] for frames that no build of this project sends.
    pub fn decode(bytes: &[u8; Self::LEN]) -> Result<Self, FrameError> {
        let [l0, l1, l2, l3, kind, j0, j1, j2, j3] = *bytes;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        let (kind, limit) = match kind {
            0 => (FrameKind::Message, LINK_FRAME_MAX_BYTES),
            1 => (FrameKind::Data, LINK_CHUNK_MAX_BYTES),
            2 => (FrameKind::Bundle, LINK_CHUNK_MAX_BYTES),
            other => return Err(FrameError::Kind(other)),
        };
        if length > limit {
            return Err(FrameError::Length(length));
        }
        Ok(FrameHeader { length, kind, job: u32::from_le_bytes([j0, j1, j2, j3]) })
    }
}

/// What a broker says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToVolunteer {
    /// The first message.
    Hello {
        /// The broker's [`VERSION`].
        version: u16,
        /// Its package version, for people.
        build: String,
        /// User and machine, for the volunteer's log.
        client: String,
    },
    /// Do this. Its input follows as data when asked for.
    Job {
        /// The job's number on this link, never used twice.
        job: u32,
        /// What to do.
        action: Box<Action>,
        /// Give up this long after the job has arrived, in milliseconds.
        deadline_ms: u32,
    },
    /// This job is not wanted any more. It is answered by nothing; late frames of it are ignored.
    Cancel {
        /// The job's number.
        job: u32,
    },
    /// This much more of the job's data may be sent.
    Window {
        /// The job's number.
        job: u32,
        /// Bytes granted on top of what was granted before.
        bytes: u32,
    },
    /// Are you there? Answered by `Pong`.
    Ping {
        /// Comes back in the answer.
        token: u64,
    },
    /// From now on these numbers mean these items. A number is defined once, until `Forget`.
    Define {
        /// Numbers and items.
        items: Vec<(u32, Item)>,
    },
    /// All numbers are forgotten; jobs that are under way keep what they have.
    Forget,
    /// Have these inputs ready: a toolchain, before jobs need it. Answered by `Provisioned`.
    Provision {
        /// Comes back in the answer.
        provision: u32,
        /// What.
        inputs: Runs,
    },
    /// Do this with these very files. Those that are missing are asked for by `NeedFiles`.
    Compile {
        /// The job's number on this link, never used twice.
        job: u32,
        /// What to do.
        compile: Box<Compile>,
        /// Give up this long after the job has arrived, in milliseconds.
        deadline_ms: u32,
    },
    /// These files follow as data of this bundle: one zstd frame of their contents, one behind the
    /// other.
    Bundle {
        /// The bundle's number on this link, never used twice.
        bundle: u32,
        /// The numbers of the files.
        items: Vec<u32>,
        /// Length of the frame, in bytes.
        packed: u64,
    },
    /// These files, which were asked for, are not what they were; jobs that need them must be
    /// refused.
    Unavailable {
        /// Their numbers.
        items: Vec<u32>,
    },
}

/// A hermetic compile: the client's own command among the client's own paths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compile {
    /// Number of the word that is the driver's absolute path.
    pub program: u32,
    /// Numbers of the words of the command; the first is what the driver sees as its own name.
    pub argv: Vec<u32>,
    /// Numbers of the words `NAME=value` of the environment; all that the compiler sees but for
    /// `TMPDIR`.
    pub environment: Vec<u32>,
    /// Number of the word that is the working directory: a path that an entry of the set names.
    pub cwd: u32,
    /// The terminal that stderr is, if it is one.
    pub terminal: Option<Terminal>,
    /// All that exists for the compiler, its toolchain included.
    pub inputs: Runs,
    /// What must have been read, when that is known.
    pub reads: Option<Reading>,
    /// Whether the compiler may tell in what it makes where temporary files are. What does is not given back: on the
    /// volunteer they are elsewhere.
    pub tells_temporary: bool,
}

/// What a volunteer says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToBroker {
    /// The first message.
    Hello {
        /// The volunteer's [`VERSION`].
        version: u16,
        /// Its package version, for people.
        build: String,
        /// How many jobs it runs at once, for all of its clients.
        slots: u32,
    },
    /// From now on, at most this many jobs of this link may be unfinished.
    Credit {
        /// Jobs; 0 while it can take none.
        jobs: u32,
        /// Why it is fewer than its slots, for status; empty when it is not.
        why: String,
    },
    /// Send the input of this job.
    NeedInput {
        /// The job's number.
        job: u32,
    },
    /// This job is not done, for a reason that is not the compiler's.
    Refused {
        /// The job's number.
        job: u32,
        /// Why.
        why: Refusal,
    },
    /// The compiler ran. The data of stdout, stderr and outputs follow, packed, in this order.
    Result(JobResult),
    /// This much more of the job's data may be sent.
    Window {
        /// The job's number.
        job: u32,
        /// Bytes granted on top of what was granted before.
        bytes: u32,
    },
    /// The answer to `Ping`.
    Pong {
        /// The token of the ping.
        token: u64,
    },
    /// No new jobs, please; those that run will be answered.
    Draining,
    /// The link cannot go on; it closes after this.
    Fatal {
        /// Why.
        why: String,
    },
    /// What it can do besides preprocessed compiles; said once, behind the hello.
    Able {
        /// Whether it takes `Compile`.
        hermetic: bool,
        /// How jobs are confined, for people: `namespaces`, or why there are none.
        sandbox: String,
    },
    /// The inputs of a `Provision` are there.
    Provisioned {
        /// Which.
        provision: u32,
        /// Empty: what keeps them from being there is told by `Unprovided`.
        trouble: String,
    },
    /// Send these files, each in one bundle or another. Each is asked for once until it has come.
    NeedFiles {
        /// Their numbers.
        items: Vec<u32>,
    },
    /// This much more of bundles may be sent, all of the link's together.
    BundleWindow {
        /// Bytes granted on top of what was granted before.
        bytes: u32,
    },
    /// The compiler of a `Compile` ran. The data of stdout, stderr and products follow, packed, in
    /// this order.
    Compiled(Compiled),
    /// What time it is there; said once, behind `Able`. Nothing depends on it: it is for people.
    Clock {
        /// Seconds since 1970.
        seconds: u64,
    },
    /// The inputs of a `Provision` cannot be there.
    Unprovided {
        /// Which.
        provision: u32,
        /// Why.
        why: Unprovided,
    },
    /// Of the files that provisions of this link wait for, so much is brought by other clients and is not asked for here,
    /// unless they fail to. Said when it changes; in bytes of contents, since the link began.
    Elsewhere {
        /// What was left to others so far.
        awaited: u64,
        /// What of that has come.
        arrived: u64,
    },
    /// These files were asked for and have come from another client: what of them has not begun to leave need not be sent.
    Spare {
        /// Their numbers.
        items: Vec<u32>,
    },
}

/// Why inputs are not made ready, by whose matter that is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Unprovided {
    /// The volunteer's: it could not do its part, or has no room.
    #[error("{detail}")]
    Volunteer {
        /// What it lacks, or what failed.
        detail: String,
    },
    /// The client's: so much of its own is under way already. Later there will be room.
    #[error("{detail}")]
    Crowded {
        /// Of what there is too much.
        detail: String,
    },
    /// The client's: it does not send any more what it announced.
    #[error("an input changed: {detail}")]
    InputsChanged {
        /// Which.
        detail: String,
    },
    /// The volunteer's: so much never fits into its store; asking again is of no use until it says hello again.
    #[error("{detail}")]
    TooLarge {
        /// How much it is, and how much would fit.
        detail: String,
    },
}

/// Why a volunteer did not do a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// It has no such compiler; asking again is of no use until it says hello again.
    #[error("no such toolchain: {detail}")]
    NoSuchToolchain {
        /// What it has instead.
        detail: String,
    },
    /// It is full, or short of memory or disk: try elsewhere.
    #[error("overloaded: {detail}")]
    Overloaded {
        /// What it lacks.
        detail: String,
    },
    /// The arguments are not acceptable.
    #[error("refused: {detail}")]
    Forbidden {
        /// Which, and why.
        detail: String,
    },
    /// The job ran longer than the volunteer or the broker allows.
    #[error("ran longer than {seconds} s")]
    TimedOut {
        /// The limit.
        seconds: u64,
    },
    /// The volunteer could not do its part.
    #[error("{detail}")]
    Failed {
        /// What failed.
        detail: String,
    },
    /// The client could not send an input as it was announced.
    #[error("an input changed: {detail}")]
    InputsChanged {
        /// Which.
        detail: String,
    },
    /// What the compiler made tells where temporary files are, or may: here they are elsewhere.
    #[error("{detail} tells where temporary files are")]
    TellsTemporary {
        /// Which file.
        detail: String,
    },
}

#[cfg(test)]
mod tests;
