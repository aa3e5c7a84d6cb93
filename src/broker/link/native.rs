//! How sessions reach a native link.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep};

use super::arrival::{Arrival, Forecast};
use super::supply::{Look, Progress};
use super::{Answer, Author, Work};
use crate::broker::hermetic::ToolchainSet;
use crate::broker::scheduler::api::Failure;
use crate::common::toolchain::Digest;

/// How much longer a job waits for its toolchain once that is known to be late ([`super::arrival`]); then it goes
/// another way, while the toolchain travels on.
const LATE_PATIENCE: Duration = Duration::from_secs(10);

/// How long it waits where there is no other way: as long as clang takes on 5 Mbit/s, and half as long again.
/// After so long, another attempt to send a toolchain is a new one.
const WAIT_MAX: Duration = Duration::from_secs(300);

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

/// Where it is told what became of a toolchain that is sent, and when, whether or not anybody waits.
#[derive(Debug)]
pub struct Provision {
    told: watch::Sender<Option<Result<(), Failure>>>,
    ended: Arc<OnceLock<Instant>>,
}

impl Provision {
    /// One that is not over, the word that is waited for, and when it was said.
    pub fn new() -> (Self, Provided, Arc<OnceLock<Instant>>) {
        let ((told, waiting), ended) = (watch::channel(None), Arc::new(OnceLock::new()));
        (Provision { told, ended: Arc::clone(&ended) }, waiting, ended)
    }

    /// It is over, in this way.
    pub fn end(&self, outcome: Result<(), Failure>) {
        self.ended.get_or_init(Instant::now);
        self.told.send_replace(Some(outcome));
    }
}

/// What became of a toolchain, once that is known.
type Provided = watch::Receiver<Option<Result<(), Failure>>>;

/// How patient a job is with a toolchain that is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// It has another way, or may have: it waits while the toolchain will be there soon, and a little.
    WhileSoon,
    /// It has none: as long as anything may come, while free slots here may take it from the first moment.
    ToTheEnd,
}

/// A toolchain that is there, or on its way.
#[derive(Clone, Debug)]
struct Travel {
    provided: Provided,
    /// When it was first wanted, also if it failed to arrive since.
    begun: Instant,
    arrival: Arc<Mutex<Arrival>>,
    /// When it was last sent, when that was over, and how often it had failed before.
    sent: Instant,
    ended: Arc<OnceLock<Instant>>,
    failures: u32,
}

/// What a volunteer could not keep, as one whose store is full of what other clients use, takes an eighth of the line's
/// time at the most, and half as much with each failure, so many times; but it is tried again after the longest rest.
const WASTE: u32 = 8;
const HALVINGS_MAX: u32 = 4;
const REST_MAX: Duration = Duration::from_secs(600);

impl Travel {
    fn has_failed(&self) -> bool {
        matches!(*self.provided.borrow(), Some(Err(_)))
    }

    /// Why it is not sent again yet, if it failed for the volunteer's sake and not long ago. What failed at once may be
    /// tried soon.
    fn rests(&self) -> Option<Failure> {
        let Some(Err(Failure::Host { why })) = &*self.provided.borrow() else { return None };
        let ended = *self.ended.get()?;
        let took = ended.duration_since(self.sent);
        let rest = took.saturating_mul(WASTE << self.failures.min(HALVINGS_MAX)).min(REST_MAX);
        let left = rest.checked_sub(ended.elapsed())?;
        let why = format!("{why}; it is sent again in {} s", left.as_secs() + 1);
        Some(Failure::Refused { why })
    }

    fn forecast(&self, look: Look) -> Forecast {
        let mut arrival = self.arrival.lock().unwrap_or_else(PoisonError::into_inner);
        arrival.look(self.begun.elapsed(), look)
    }
}

/// How to reach a native link that is up. Cheap to clone.
#[derive(Clone, Debug)]
pub struct NativeHandle {
    author: Author,
    commands: mpsc::UnboundedSender<LinkCommand>,
    numbers: Arc<AtomicU32>,
    /// Whether it takes hermetic compiles.
    hermetic: bool,
    /// Toolchains that are there, or on their way.
    toolchains: Arc<Mutex<HashMap<Digest, Travel>>>,
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
        known.get(toolchain).is_some_and(|travel| *travel.provided.borrow() == Some(Ok(())))
    }

    /// What is still to be sent of files while a toolchain is on its way, in bytes before compression, and how long that
    /// will take, where it is known.
    pub fn arriving(&self) -> Option<(u64, Option<Duration>)> {
        let known = self.toolchains.lock().unwrap_or_else(PoisonError::into_inner);
        let travel = known.values().find(|travel| travel.provided.borrow().is_none())?;
        let look = self.progress.look();
        let rest = travel.arrival.lock().unwrap_or_else(PoisonError::into_inner).rest();
        Some((look.asked.saturating_sub(look.left), rest))
    }

    /// Waits until a toolchain is there; false when that takes so long that the job should go
    /// another way. Many jobs may wait; it travels once, whoever gives up. Says to `tell` when it becomes known that it
    /// will be late, and when it becomes known that it will not.
    ///
    /// # Errors
    ///
    /// Returns the [`Failure`] that the scheduler must know of.
    pub async fn provide<F: Future<Output = ()>>(
        &self,
        toolchain: &Arc<ToolchainSet>,
        patience: Patience,
        tell: impl Fn(Forecast) -> F,
    ) -> Result<bool, Failure> {
        let travel = self.travel(toolchain)?;
        let mut waiting = travel.provided.clone();
        let told = async { waiting.wait_for(Option::is_some).await.map(|told| told.clone()) };
        tokio::pin!(told);
        let mut late: Option<Instant> = None;
        loop {
            let forecast = match patience {
                Patience::WhileSoon => travel.forecast(self.progress.look()),
                Patience::ToTheEnd => Forecast::Late,
            };
            if late.is_some() != (forecast == Forecast::Late) {
                late = (forecast == Forecast::Late).then(Instant::now);
                tell(forecast).await;
            }
            let most = if patience == Patience::WhileSoon { LATE_PATIENCE } else { WAIT_MAX };
            if late.is_some_and(|since| since.elapsed() >= most) {
                return Ok(false);
            }
            tokio::select! {
                biased;
                told = &mut told => return match told {
                    Ok(Some(outcome)) => outcome.map(|()| true),
                    Ok(None) | Err(_) => Err(closed()),
                },
                () = sleep(PROGRESS_INTERVAL) => {}
            }
        }
    }

    /// Where it is told that a toolchain is there. Whoever asks first has it sent, and whoever asks after it failed.
    fn travel(&self, toolchain: &Arc<ToolchainSet>) -> Result<Travel, Failure> {
        let mut known = self.toolchains.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.get(&toolchain.digest);
        if let Some(travel) = before.filter(|travel| !travel.has_failed()) {
            return Ok(travel.clone());
        }
        if let Some(failure) = before.and_then(Travel::rests) {
            return Err(failure);
        }
        let (reply, provided, ended) = Provision::new();
        let failures = before.map_or(0, |before| before.failures.saturating_add(1));
        let sent = Instant::now();
        // What a build waits for is bounded, also where it is tried again and again.
        let travel = match before.filter(|travel| travel.begun.elapsed() < WAIT_MAX) {
            Some(before) => Travel { provided, sent, ended, failures, ..before.clone() },
            None => {
                let arrival = Arc::new(Mutex::new(Arrival::new(self.progress.look())));
                Travel { provided, begun: sent, arrival, sent, ended, failures }
            }
        };
        let (provision, digest, toolchain) = (self.number(), toolchain.digest, Arc::clone(toolchain));
        self.commands.send(LinkCommand::Provision { provision, toolchain, reply }).map_err(|_| closed())?;
        known.insert(digest, travel.clone());
        Ok(travel)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(failure: Failure, took: Duration, failures: u32) -> Option<Failure> {
        let (_, provided) = watch::channel(Some(Err(failure)));
        let arrival = Arc::new(Mutex::new(Arrival::new(Look::default())));
        let sent = Instant::now() - took;
        let ended = Arc::new(OnceLock::from(sent + took));
        Travel { provided, begun: sent, arrival, sent, ended, failures }.rests()
    }

    /// Two clients shared a store that did not hold the compilers of both; the second one's was sent for ever.
    #[test]
    fn a_toolchain_that_was_sent_in_vain_is_not_sent_again_at_once() {
        let why = || "full".to_owned();
        let rests = |seconds, failures| match failed(
            Failure::Host { why: why() },
            Duration::from_secs(seconds),
            failures,
        ) {
            Some(Failure::Refused { why }) => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(rests(10, 0), "full; it is sent again in 80 s");
        assert_eq!(rests(10, 1), "full; it is sent again in 160 s");
        assert_eq!(rests(30, 9), "full; it is sent again in 600 s");
        // What fails at once has cost nothing, and what others are to blame for says nothing of this.
        assert_eq!(failed(Failure::Host { why: why() }, Duration::ZERO, 9), None);
        for failure in [Failure::Refused { why: why() }, Failure::Overloaded { why: why() }] {
            assert_eq!(failed(failure, Duration::from_secs(10), 0), None);
        }
    }
}
