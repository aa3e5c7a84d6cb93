//! How sessions reach a native link.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use super::peer::Provision;
use super::supply::Progress;
use super::{Answer, Author, Work};
use crate::broker::hermetic::ToolchainSet;
use crate::broker::scheduler::api::Failure;
use crate::common::toolchain::Digest;

/// How long a job waits for its toolchain to be there: with equal files in place, on a fast network,
/// it takes a second or two. A job that has waited so long goes another way, while it travels on.
pub const PROVISION_PATIENCE: Duration = Duration::from_secs(20);

/// How long it waits then where there is no other way: as long as clang takes on 5 Mbit/s, and half as long again.
pub const PROVISION_WAIT_MAX: Duration = Duration::from_secs(300);

/// A toolchain that will take longer is not waited for while this machine has nothing to do.
const PROVISION_QUICK: Duration = Duration::from_secs(8);

/// How often it is looked how far a toolchain is.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

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
        reply: Provision,
    },
}

/// What became of a toolchain, once that is known.
type Provided = watch::Receiver<Option<Result<(), Failure>>>;

/// How to reach a native link that is up. Cheap to clone.
#[derive(Clone, Debug)]
pub struct NativeHandle {
    author: Author,
    commands: mpsc::UnboundedSender<LinkCommand>,
    numbers: Arc<AtomicU32>,
    /// Whether it takes hermetic compiles.
    hermetic: bool,
    /// Toolchains that are there, or on their way.
    toolchains: Arc<Mutex<HashMap<Digest, Provided>>>,
    /// How far files are.
    progress: Arc<Progress>,
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
            progress: Arc::default(),
            lacking: Arc::default(),
        };
        (handle, receiver)
    }

    /// How far files are on their way over this link.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
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

    /// Whether a toolchain is there.
    pub fn has(&self, toolchain: &Digest) -> bool {
        let known = self.toolchains.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(toolchain).is_some_and(|provided| *provided.borrow() == Some(Ok(())))
    }

    /// Waits until a toolchain is there; false when that takes so long that the job should go
    /// another way, which is `patience`. Many jobs may wait; it travels once, whoever gives up. Does `when_slow` once it is
    /// known that it will take a while.
    ///
    /// # Errors
    ///
    /// Returns the [`Failure`] that the scheduler must know of.
    pub async fn provide(
        &self,
        toolchain: &Arc<ToolchainSet>,
        patience: Duration,
        when_slow: impl Future<Output = ()>,
    ) -> Result<bool, Failure> {
        let provided = self.provided(toolchain)?;
        let mut waiting = provided.clone();
        let told = async { waiting.wait_for(Option::is_some).await.map(|told| told.clone()) };
        let waited = timeout(patience, async {
            tokio::pin!(told);
            tokio::select! {
                biased;
                told = &mut told => told,
                () = self.found_slow(patience) => {
                    when_slow.await;
                    told.await
                }
            }
        });
        match waited.await {
            Ok(Ok(Some(Ok(())))) => Ok(true),
            Ok(Ok(Some(Err(failure)))) => {
                // The next job may have more luck.
                let mut known = self.toolchains.lock().unwrap_or_else(PoisonError::into_inner);
                if known.get(&toolchain.digest).is_some_and(|current| current.same_channel(&provided)) {
                    known.remove(&toolchain.digest);
                }
                Err(failure)
            }
            Ok(Ok(None) | Err(_)) => Err(closed()),
            Err(_) => Ok(false),
        }
    }

    /// Where it is told that a toolchain is there. Whoever asks first has it sent.
    fn provided(&self, toolchain: &Arc<ToolchainSet>) -> Result<Provided, Failure> {
        let mut known = self.toolchains.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(provided) = known.get(&toolchain.digest) {
            return Ok(provided.clone());
        }
        let (reply, provided) = watch::channel(None);
        let (provision, digest, toolchain) = (self.number(), toolchain.digest, Arc::clone(toolchain));
        self.commands.send(LinkCommand::Provision { provision, toolchain, reply }).map_err(|_| closed())?;
        known.insert(digest, provided.clone());
        Ok(provided)
    }

    /// Returns when it is known that what is on its way will take long: at once for who is that patient.
    async fn found_slow(&self, patience: Duration) {
        if patience > PROVISION_PATIENCE {
            return;
        }
        let (begun, mut before) = (Instant::now(), self.progress.look());
        loop {
            sleep(PROGRESS_INTERVAL).await;
            let (now, left) = (self.progress.look(), PROVISION_QUICK.checked_sub(begun.elapsed()));
            if left.is_none_or(|left| now.is_slow(&before, PROGRESS_INTERVAL, left)) {
                return;
            }
            before = now;
        }
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
