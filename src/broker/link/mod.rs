//! The links to volunteers.
//!
//! Native: one connection, many jobs. [`peer`] is the protocol as a pure state machine;
//! [`connection`] drives it over a socket; [`transport`] opens the socket, or ssh. Classic, to a
//! distccd of another kind: each job has its own connection ([`classic`]). An attempt sees none of
//! that: it gives a [`LinkHandle`] an action with its packed input and gets an [`Answer`] or a
//! [`Failure`]; dropping the attempt cancels it.

pub mod classic;
pub mod connection;
pub mod peer;
pub mod transport;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use self::classic::ClassicHandle;
use crate::broker::scheduler::api::Failure;
use crate::common::action::{Action, Blob};
use crate::common::protocol::link::JobResult;

/// The packed bytes of a blob, shared by every attempt that sends them.
#[derive(Clone, Debug)]
pub struct PackedBlob {
    /// What it is.
    pub blob: Blob,
    /// Its zstd frame, `blob.packed` bytes.
    pub bytes: Arc<[u8]>,
}

/// One attempt's order to a link.
#[derive(Debug)]
pub struct Order {
    /// What to do.
    pub action: Box<Action>,
    /// Its input.
    pub input: PackedBlob,
    /// How long the volunteer may take.
    pub deadline: Duration,
}

/// What came back: the compiler's result and the bytes of its parts, in the order stdout, stderr,
/// outputs.
#[derive(Debug)]
pub struct Answer {
    /// How it ended, and what the parts are.
    pub result: JobResult,
    /// The parts' bytes, one behind the other, packed.
    pub packed: Vec<u8>,
    /// How they are packed.
    pub packing: Packing,
    /// The dependency file, when the volunteer made it.
    pub dependencies: Option<Vec<u8>>,
}

/// How the parts of an answer travelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Each is a zstd frame, and has a digest.
    Zstd,
    /// As they are, without digests: the classic protocol has none.
    Plain,
}

/// What a session asks of a link.
#[derive(Debug)]
pub enum LinkCommand {
    /// Begin an attempt under this number.
    Start {
        /// The number on this link.
        job: u32,
        /// What to do.
        order: Box<Order>,
        /// Where the outcome goes.
        reply: oneshot::Sender<Result<Answer, Failure>>,
    },
    /// The attempt of this number is not wanted any more.
    Cancel {
        /// The number on this link.
        job: u32,
    },
}

/// How to reach a link that is up. Cheap to clone.
#[derive(Clone, Debug)]
pub enum LinkHandle {
    /// Over one connection.
    Native(NativeHandle),
    /// Over a connection of its own for each job.
    Classic(ClassicHandle),
}

/// How to reach a native link that is up. Cheap to clone.
#[derive(Clone, Debug)]
pub struct NativeHandle {
    commands: mpsc::UnboundedSender<LinkCommand>,
    numbers: Arc<std::sync::atomic::AtomicU32>,
}

impl NativeHandle {
    /// A handle, and the other end of its command channel.
    ///
    /// The channel needs no bound of its own: the scheduler never has more attempts on a host
    /// than it has slots, and each attempt sends two commands at most.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<LinkCommand>) {
        let (commands, receiver) = mpsc::unbounded_channel();
        (NativeHandle { commands, numbers: Arc::default() }, receiver)
    }

    /// Runs one attempt to its end. Dropping the future cancels the attempt.
    ///
    /// # Errors
    ///
    /// Returns the [`Failure`] that the scheduler must know of.
    pub async fn attempt(&self, order: Order) -> Result<Answer, Failure> {
        let job = self.numbers.fetch_add(1, std::sync::atomic::Ordering::Relaxed).wrapping_add(1);
        let (reply, outcome) = oneshot::channel();
        let mut guard = CancelOnDrop { link: self, job, armed: true };
        let start = LinkCommand::Start { job, order: Box::new(order), reply };
        let closed = || Failure::Host { why: "the connection was closed".to_owned() };
        self.commands.send(start).map_err(|_| closed())?;
        let outcome = outcome.await;
        guard.armed = false;
        outcome.unwrap_or_else(|_| Err(closed()))
    }
}

/// Tells the link when an attempt is dropped before its end.
struct CancelOnDrop<'a> {
    link: &'a NativeHandle,
    job: u32,
    armed: bool,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if self.armed {
            // A closed link has cancelled everything already.
            let _ = self.link.commands.send(LinkCommand::Cancel { job: self.job });
        }
    }
}
