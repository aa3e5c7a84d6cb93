//! The native link to one volunteer: one connection, many jobs.
//!
//! [`peer`] is the protocol as a pure state machine; [`connection`] drives it over a socket;
//! [`transport`] opens the socket. An attempt sees none of that: [`LinkHandle::attempt`] takes an
//! action with its packed input and gives an [`Answer`] or a [`Failure`]; dropping the attempt
//! cancels it.

pub mod connection;
pub mod peer;
pub mod transport;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

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

/// What came back: the compiler's result and the packed bytes of its parts, in the order stdout,
/// stderr, outputs.
#[derive(Debug)]
pub struct Answer {
    /// How it ended, and what the parts are.
    pub result: JobResult,
    /// The parts' bytes, one behind the other.
    pub packed: Vec<u8>,
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
pub struct LinkHandle {
    commands: mpsc::UnboundedSender<LinkCommand>,
    numbers: Arc<std::sync::atomic::AtomicU32>,
}

impl LinkHandle {
    /// A handle, and the other end of its command channel.
    ///
    /// The channel needs no bound of its own: the scheduler never has more attempts on a host
    /// than it has slots, and each attempt sends two commands at most.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<LinkCommand>) {
        let (commands, receiver) = mpsc::unbounded_channel();
        (LinkHandle { commands, numbers: Arc::default() }, receiver)
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
    link: &'a LinkHandle,
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
