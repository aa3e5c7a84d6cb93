//! The links to volunteers.
//!
//! Native: one connection, many jobs. [`peer`] is the protocol as a pure state machine, with what
//! the volunteer [`known`]s and the files on their way to it ([`supply`]); [`connection`] drives it
//! over a socket; [`transport`] opens the socket, or ssh. Classic, to a distccd of another kind: each
//! job has its own connection ([`classic`]). An attempt sees none of that: it gives a [`LinkHandle`]
//! its [`Work`] and gets an [`Answer`] or a failure; dropping the attempt cancels it.

pub mod arrival;
pub mod classic;
pub mod connection;
mod frames;
pub mod known;
pub mod native;
pub mod peer;
pub mod supply;
pub mod traffic;
pub mod transport;

use std::sync::Arc;
use std::time::Duration;

pub use self::arrival::Forecast;
use self::classic::ClassicHandle;
pub use self::native::{LinkCommand, NativeHandle, Patience};
use crate::broker::hermetic::FilesJob;
use crate::common::action::{Action, Blob};
use crate::common::protocol::link::{Compiled, JobResult};

/// The packed bytes of a blob, shared by every attempt that sends them.
#[derive(Clone, Debug)]
pub struct PackedBlob {
    /// What it is.
    pub blob: Blob,
    /// Its zstd frame, `blob.packed` bytes.
    pub bytes: Arc<[u8]>,
}

/// What an attempt asks of a link.
#[derive(Debug)]
pub enum Work {
    /// A compile of a text.
    Text(Order),
    /// A hermetic compile.
    Files(FilesOrder),
}

impl Work {
    fn deadline(&self) -> Duration {
        match self {
            Work::Text(order) => order.deadline,
            Work::Files(order) => order.deadline,
        }
    }
}

/// A compile of a preprocessed text.
#[derive(Debug)]
pub struct Order {
    /// What to do.
    pub action: Box<Action>,
    /// Its input.
    pub input: PackedBlob,
    /// How long the volunteer may take.
    pub deadline: Duration,
}

/// A compile among the client's own files.
#[derive(Debug)]
pub struct FilesOrder {
    /// What to do, with which files.
    pub job: Arc<FilesJob>,
    /// How long the volunteer may take, from when it has all files.
    pub deadline: Duration,
}

/// When what of an attempt happened: how long each part took, as the broker saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// From the order to the last of its inputs that left.
    pub upload: Duration,
    /// From there to the start of the compiler: a slot there, a box, a disk.
    pub wait: Duration,
    /// The compiler's own time.
    pub compile: Duration,
    /// From its end to the last byte of the result.
    pub download: Duration,
}

/// What came back.
#[derive(Debug)]
pub enum Answer {
    /// Of a compile of a text.
    Text(TextAnswer),
    /// Of a hermetic compile.
    Files(FilesAnswer),
}

impl Answer {
    /// How long the compiler ran.
    pub fn wall(&self) -> Duration {
        Duration::from_micros(match self {
            Answer::Text(answer) => answer.result.wall_us,
            Answer::Files(answer) => answer.compiled.wall_us,
        })
    }

    /// The CPU time that the volunteer says it took; zero from one of the classic protocol, which
    /// does not tell.
    pub fn cpu(&self) -> Duration {
        Duration::from_micros(match self {
            Answer::Text(answer) => answer.result.cpu_us,
            Answer::Files(answer) => answer.compiled.cpu_us,
        })
    }

    /// When what happened.
    pub fn times(&self) -> Times {
        match self {
            Answer::Text(answer) => answer.times,
            Answer::Files(answer) => answer.times,
        }
    }
}

/// The compiler's result and the bytes of its parts, in the order stdout, stderr, outputs.
#[derive(Debug)]
pub struct TextAnswer {
    /// How it ended, and what the parts are.
    pub result: JobResult,
    /// The parts' bytes, one behind the other, packed.
    pub packed: Vec<u8>,
    /// The dependency file, when the volunteer made it.
    pub dependencies: Option<Vec<u8>>,
    /// When what happened.
    pub times: Times,
}

/// A hermetic compile's result and the bytes of its parts, in the order stdout, stderr, products.
#[derive(Debug)]
pub struct FilesAnswer {
    /// How it ended, and what the parts are.
    pub compiled: Compiled,
    /// The parts' bytes, one behind the other, packed.
    pub packed: Vec<u8>,
    /// When what happened.
    pub times: Times,
}

/// Who sent an answer: a volunteer by its key, or by its address where it has proved none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author(pub Arc<str>);

/// How to reach a link that is up. Cheap to clone.
#[derive(Clone, Debug)]
pub enum LinkHandle {
    /// Over one connection.
    Native(NativeHandle),
    /// Over a connection of its own for each job.
    Classic(ClassicHandle),
}

impl LinkHandle {
    /// Who answers on this link.
    pub fn author(&self) -> Author {
        match self {
            LinkHandle::Native(link) => link.author().clone(),
            LinkHandle::Classic(link) => link.author(),
        }
    }
}
