//! How sessions reach a native link.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OnceCell, mpsc, oneshot};
use tokio::time::timeout;

use super::{Answer, Author, Work};
use crate::broker::hermetic::ToolchainSet;
use crate::broker::scheduler::api::Failure;
use crate::common::toolchain::Digest;

/// How long a job waits for its toolchain to be there: with equal files in place, on a fast network,
/// it takes a second or two. A job that has waited so long goes another way, while it travels on.
const PROVISION_PATIENCE: Duration = Duration::from_secs(20);

/// What a session asks of a link.
#[derive(Debug)]
pub enum LinkCommand {
    /// Begin an attempt under this number.
    Start {
        /// The number on this link.
        job: u32,
        /// What to do.
        work: Box<Work>,
        /// Where the outcome goes.
        reply: oneshot::Sender<Result<Answer, Failure>>,
    },
    /// The attempt of this number is not wanted any more.
    Cancel {
        /// The number on this link.
        job: u32,
    },
    /// Have a toolchain ready there.
    Provision {
        /// The number on this link.
        provision: u32,
        /// What.
        toolchain: Arc<ToolchainSet>,
        /// Where the outcome goes.
        reply: oneshot::Sender<Result<(), Failure>>,
    },
}

type Provisioned = Arc<OnceCell<Result<(), Failure>>>;

/// How to reach a native link that is up. Cheap to clone.
#[derive(Clone, Debug)]
pub struct NativeHandle {
    author: Author,
    commands: mpsc::UnboundedSender<LinkCommand>,
    numbers: Arc<AtomicU32>,
    /// Whether it takes hermetic compiles.
    hermetic: bool,
    /// Toolchains that are there, or on their way.
    toolchains: Arc<Mutex<HashMap<Digest, Provisioned>>>,
    /// Toolchains that it has not of its own, for compiles that come as texts, and its words.
    lacking: Arc<Mutex<HashMap<Digest, String>>>,
}

impl NativeHandle {
    /// A handle, and the other end of its command channel.
    ///
    /// The channel needs no bound of its own: the scheduler never has more attempts on a host
    /// than it has slots, and each attempt sends three commands at most.
    ///
    /// `numbers` is one for all links of a broker, so that a number is one attempt's alone: it is in
    /// the logs of both machines.
    pub fn new(author: Author, numbers: Arc<AtomicU32>) -> (Self, mpsc::UnboundedReceiver<LinkCommand>) {
        let (commands, receiver) = mpsc::unbounded_channel();
        let handle = NativeHandle {
            author,
            commands,
            numbers,
            hermetic: false,
            toolchains: Arc::default(),
            lacking: Arc::default(),
        };
        (handle, receiver)
    }

    /// The same link, known to take hermetic compiles or not.
    pub fn able(self, hermetic: bool) -> Self {
        NativeHandle { hermetic, ..self }
    }

    /// Who is at the other end.
    pub fn author(&self) -> &Author {
        &self.author
    }

    /// Whether it takes hermetic compiles.
    pub fn is_hermetic(&self) -> bool {
        self.hermetic
    }

    /// Runs one attempt to its end. Dropping the future cancels the attempt.
    ///
    /// # Errors
    ///
    /// Returns the [`Failure`] that the scheduler must know of.
    pub async fn attempt(&self, work: Work) -> Result<Answer, Failure> {
        let job = self.number();
        let (reply, outcome) = oneshot::channel();
        let mut guard = CancelOnDrop { link: self, job, armed: true };
        let start = LinkCommand::Start { job, work: Box::new(work), reply };
        self.commands.send(start).map_err(|_| closed())?;
        tracing::debug!(attempt = job, "sent");
        let outcome = outcome.await;
        guard.armed = false;
        tracing::debug!(attempt = job, answered = matches!(outcome, Ok(Ok(_))), "over");
        outcome.unwrap_or_else(|_| Err(closed()))
    }

    /// What the volunteer said when a text was sent to it that needs this toolchain, if it has not.
    pub fn lacks_for_texts(&self, toolchain: &Digest) -> Option<String> {
        self.lacking.lock().unwrap_or_else(PoisonError::into_inner).get(toolchain).cloned()
    }

    /// Spares further texts the way, for as long as this link lasts.
    pub fn note_lack_for_texts(&self, toolchain: Digest, why: String) {
        self.lacking.lock().unwrap_or_else(PoisonError::into_inner).insert(toolchain, why);
    }

    /// Waits until a toolchain is there; false when that takes so long that the job should go
    /// another way. Many jobs may wait; it travels once, whoever gives up.
    ///
    /// # Errors
    ///
    /// Returns the [`Failure`] that the scheduler must know of.
    pub async fn provide(&self, toolchain: &Arc<ToolchainSet>) -> Result<bool, Failure> {
        let cell = {
            let mut known = self.toolchains.lock().unwrap_or_else(PoisonError::into_inner);
            known.entry(toolchain.digest).or_default().clone()
        };
        if cell.get() == Some(&Ok(())) {
            return Ok(true);
        }
        let outcome = match timeout(PROVISION_PATIENCE, cell.get_or_init(|| self.provision(toolchain))).await
        {
            Ok(outcome) => outcome.clone(),
            Err(_) => return Ok(false),
        };
        if outcome.is_err() {
            // The next job may have more luck.
            let mut known = self.toolchains.lock().unwrap_or_else(PoisonError::into_inner);
            if known.get(&toolchain.digest).is_some_and(|current| Arc::ptr_eq(current, &cell)) {
                known.remove(&toolchain.digest);
            }
        }
        outcome.map(|()| true)
    }

    async fn provision(&self, toolchain: &Arc<ToolchainSet>) -> Result<(), Failure> {
        let (reply, outcome) = oneshot::channel();
        let (provision, toolchain) = (self.number(), Arc::clone(toolchain));
        self.commands.send(LinkCommand::Provision { provision, toolchain, reply }).map_err(|_| closed())?;
        outcome.await.unwrap_or_else(|_| Err(closed()))
    }

    fn number(&self) -> u32 {
        self.numbers.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }
}

fn closed() -> Failure {
    Failure::Host { why: "the connection was closed".to_owned() }
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
