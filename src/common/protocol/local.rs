//! Shim and broker.
//!
//! ```text
//! shim ── Compile ──▶ broker            shim ── Control ──▶ broker
//!      ◀── Ack ──  (after ACK_DELAY)         ◀── ControlReply ──
//!      ── Ping ──▶ ◀── Ack ──  (each PING_INTERVAL while waiting)
//!      ◀── Run │ Done │ Busy │ OtherBuild ──
//! ```
//!
//! Every frame begins with the same [`Header`], whose layout never changes, so that any two builds
//! understand each other well enough to part in peace: a broker of another build answers
//! `OtherBuild`, and a shim may answer that with `Drain` (the broker stops taking work) or with
//! `Compile` and [`Header::any_build`] (when protocols agree, and the broker is the newer one).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::common::action::Ended;
use crate::common::bytes::Bytes;
use crate::common::limits::LOCAL_FRAME_MAX_BYTES;

/// The protocol of this build. Raised when a body's layout or meaning changes.
pub const VERSION: u16 = 3;

/// When a broker says that it has a request, if it has not answered it by then: what is done sooner is not told
/// twice, which would wake the shim for nothing.
pub const ACK_DELAY: Duration = Duration::from_millis(100);

/// How long a shim waits for the first `Ack`, or the answer. A broker that is well is no later than
/// [`ACK_DELAY`], even with hundreds of jobs; one that is stopped says nothing.
pub const ACK_TIMEOUT: Duration = Duration::from_millis(250);

/// How long a shim listens in silence before it asks whether the broker is still there, and how
/// long it then waits for the answer.
pub const PING_INTERVAL: Duration = Duration::from_secs(5);

/// How long a shim that is told `Busy` keeps asking before it compiles without a slot.
pub const BUSY_MAX: Duration = Duration::from_secs(60);

/// What is in a frame. Numbers never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// Shim: compile this; body [`Invocation`](crate::common::invocation::Invocation).
    Compile = 1,
    /// Shim: a question or an order about the broker; body [`Control`].
    Control = 2,
    /// Shim of a newer build: take no more work. No body.
    Drain = 3,
    /// Shim: are you there? No body.
    Ping = 4,
    /// Broker: the request, or the ping, has arrived. No body.
    Ack = 16,
    /// Broker: run it yourself, and keep this connection open as the lease; body [`Run`].
    Run = 17,
    /// Broker: it is done; body [`Done`].
    Done = 18,
    /// Broker: out of descriptors just now, ask again. No body; the connection closes.
    Busy = 19,
    /// Broker: I am of another build; body: my executable's modification time in nanoseconds
    /// since the epoch, 8 bytes, little-endian.
    OtherBuild = 20,
    /// Broker: the answer to `Control`; body [`ControlReply`].
    ControlReply = 21,
}

impl Kind {
    fn of(number: u16) -> Option<Kind> {
        use Kind::{Ack, Busy, Compile, Control, ControlReply, Done, Drain, OtherBuild, Ping, Run};
        [Compile, Control, Drain, Ping, Ack, Run, Done, Busy, OtherBuild, ControlReply]
            .into_iter()
            .find(|kind| *kind as u16 == number)
    }
}

/// What every frame begins with: 20 bytes, little-endian, `"DCCb"`, protocol, kind, build, length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The sender's [`VERSION`].
    pub protocol: u16,
    /// What follows.
    pub kind: Kind,
    /// The sender's [`build_id`]; 0 in a request that any build may answer.
    pub build: u64,
    /// Length of the body in bytes.
    pub length: u32,
}

/// Why bytes are not a frame of this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// It does not begin with the magic bytes.
    #[error("not a distcc broker")]
    Magic,
    /// A kind that this build does not know.
    #[error("unknown frame kind {0}")]
    Kind(u16),
    /// The body would be larger than any legitimate one.
    #[error("frame of {0} bytes, larger than the limit")]
    Length(u32),
}

const MAGIC: [u8; 4] = *b"DCCb";

impl Header {
    /// Bytes of an encoded header.
    pub const LEN: usize = 20;

    /// The header of a frame of this build.
    pub fn new(kind: Kind, length: usize) -> Self {
        let length = u32::try_from(length).expect("bodies are bounded far below 4 GiB");
        Header { protocol: VERSION, kind, build: build_id(), length }
    }

    /// The same, for a request that a broker of any build may answer.
    pub fn any_build(kind: Kind, length: usize) -> Self {
        Header { build: 0, ..Header::new(kind, length) }
    }

    /// The bytes of the header.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[4..6].copy_from_slice(&self.protocol.to_le_bytes());
        bytes[6..8].copy_from_slice(&(self.kind as u16).to_le_bytes());
        bytes[8..16].copy_from_slice(&self.build.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    /// Reads a header.
    ///
    /// # Errors
    ///
    /// Returns [`HeaderError`] for bytes that no build of this project sends.
    pub fn decode(bytes: &[u8; Self::LEN]) -> Result<Self, HeaderError> {
        let [m0, m1, m2, m3, p0, p1, k0, k1, b0, b1, b2, b3, b4, b5, b6, b7, l0, l1, l2, l3] = *bytes;
        if [m0, m1, m2, m3] != MAGIC {
            return Err(HeaderError::Magic);
        }
        let kind = u16::from_le_bytes([k0, k1]);
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        if length > LOCAL_FRAME_MAX_BYTES {
            return Err(HeaderError::Length(length));
        }
        Ok(Header {
            protocol: u16::from_le_bytes([p0, p1]),
            kind: Kind::of(kind).ok_or(HeaderError::Kind(kind))?,
            build: u64::from_le_bytes([b0, b1, b2, b3, b4, b5, b6, b7]),
            length,
        })
    }
}

/// Identifies this build: a hash of its sources, never 0.
pub fn build_id() -> u64 {
    const ID: u64 = parse_hex(env!("DISTCC_BUILD_ID"));
    ID
}

const fn parse_hex(text: &str) -> u64 {
    let bytes = text.as_bytes();
    let mut value = 0;
    let mut index = 0;
    while index < bytes.len() {
        let digit = match bytes[index] {
            byte @ b'0'..=b'9' => byte - b'0',
            byte => byte - b'a' + 10,
        };
        value = value << 4 | digit as u64;
        index += 1;
    }
    value
}

/// The answer "run it yourself". The connection stays open across the exec; when the compiler
/// exits, the kernel closes it and the broker takes the slot back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Why, for `DISTCC_VERBOSE`.
    pub reason: String,
    /// What to tell of an attempt elsewhere.
    pub attempted: Attempted,
    /// What to say on stderr before the compiler starts; most often nothing.
    pub warning: Bytes,
    /// Exit with this status instead of running anything: `DISTCC_FALLBACK=0` forbids it.
    pub forbidden: Option<i32>,
}

/// What became of a compile elsewhere, before it runs here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attempted {
    /// It was not meant to leave, or its time had not come.
    No,
    /// No volunteer could do it. Those who read along are told so by the first of a build; a log
    /// file by each.
    Undistributed {
        /// Whether it is the first of its build.
        first: bool,
    },
    /// A volunteer's compiler ran, and what it said is said again here.
    Repeated,
}

/// The answer "it is done, the outputs are in place".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// How the compiler ended.
    pub ended: Ended,
    /// What it printed on stdout.
    pub stdout: Bytes,
    /// What it printed on stderr.
    pub stderr: Bytes,
    /// What the broker has to say on stderr, before the compiler's own words.
    pub warning: Bytes,
    /// Where it ran, for `DISTCC_VERBOSE`.
    pub host: String,
}

/// Questions and orders about the broker itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Control {
    /// A snapshot of everything, as JSON (see `broker::status`).
    Status,
    /// Stop taking work, finish what runs, exit.
    Stop,
    /// The latest build's timeline, as JSON (see `broker::trace`).
    Timeline,
    /// A build that is to be traced into this file begins.
    TraceBegin {
        /// The file, absolute.
        file: Bytes,
    },
    /// It is over: finish the file, and say what the build comes to.
    TraceEnd {
        /// The file, absolute.
        file: Bytes,
    },
    /// Give a host no new jobs, or give it jobs again.
    Hold {
        /// The host, by its name in the status.
        host: String,
        /// Whether it is to be held.
        held: bool,
        /// Whether the jobs that it has are to go elsewhere.
        at_once: bool,
    },
    /// Serve the dashboard, if that is not done yet, and say where.
    Dashboard,
}

/// The answers to [`Control`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlReply {
    /// The snapshot.
    Status {
        /// A JSON document.
        json: String,
    },
    /// The broker is draining.
    Stopping,
    /// A document or a text, or what was asked for is done and there is none.
    Text {
        /// It.
        text: String,
    },
    /// There is nothing of that name, or it means several.
    Unknown,
    /// It is there, and this is not done with it.
    Refused,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back_as_it_was() {
        for kind in [Kind::Compile, Kind::Drain, Kind::Done, Kind::ControlReply] {
            let header = Header::new(kind, 12345);
            assert_eq!(Header::decode(&header.encode()), Ok(header));
        }
    }

    #[test]
    fn the_header_of_protocol_1_never_changes() {
        let header = Header { protocol: 1, kind: Kind::Compile, build: 0x0102, length: 3 };
        let golden = b"DCCb\x01\x00\x01\x00\x02\x01\0\0\0\0\0\0\x03\0\0\0";
        assert_eq!(&header.encode(), golden);
    }

    #[test]
    fn a_body_of_four_gigabytes_is_refused() {
        let mut bytes = Header::new(Kind::Compile, 0).encode();
        bytes[16..].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Header::decode(&bytes), Err(HeaderError::Length(u32::MAX)));
    }
}
