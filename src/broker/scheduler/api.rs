//! What the scheduler is told and what it asks for.

use std::sync::Arc;
use std::time::Duration;

use crate::common::reason::LocalReason;

/// A point in time: microseconds since the broker started, from a monotonic clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// How long after `earlier` this is; zero when it is not after it.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, wait: Duration) -> Moment {
        Moment(self.0.saturating_add(u64::try_from(wait.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// One invocation, from the shim's request to its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// A volunteer, by the number that the broker gave its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub u32);

/// Jobs of one build share this; builds take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BuildId(pub u32);

/// What the same compile is called from one build to the next, for learning durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskKey(pub u64);

/// A toolchain, by the number that the broker gave its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ToolchainId(pub u32);

/// A volunteer as one job's host list has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostUse {
    /// Which.
    pub host: HostId,
    /// `/N`: no job with this list goes there while it has N of this broker's jobs.
    pub slots: u32,
}

/// The local slots that one job's host list asks for; the broker's own defaults where it is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalSlots {
    /// Preprocessors at once (`--localslots_cpp`).
    pub preprocess: u32,
    /// Compiles here at once, of jobs that could have gone out.
    pub compile: u32,
    /// Links and other local-only jobs at once (`--localslots`).
    pub link: u32,
    /// `localhost/N`: compiles that the list itself sends here; 0 when it is not listed.
    pub listed: u32,
}

/// Whether a host is to be given jobs, and if not, who says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hold {
    /// It is.
    #[default]
    Free,
    /// The user wants no new jobs there; those that it has are finished.
    Drained,
    /// The user wants no jobs there; those that it has go elsewhere.
    Excluded,
    /// It gave another object than this machine makes. It gets no jobs while this broker runs, whatever
    /// the user says.
    Distrusted,
}

/// A job that may leave the client.
#[derive(Clone, Debug)]
pub struct RemoteArrival {
    /// Its number, never used twice.
    pub job: JobId,
    /// Whose turn it uses.
    pub build: BuildId,
    /// Where it may go, in the user's order; earlier ones are preferred when all else is equal.
    pub hosts: Arc<[HostUse]>,
    /// What it may use here.
    pub local: LocalSlots,
    /// For learning.
    pub task: TaskKey,
    /// What it needs.
    pub toolchain: ToolchainId,
    /// Whether it may be compiled here after hosts failed (`DISTCC_FALLBACK`).
    pub fallback: bool,
    /// How long hosts that fail are left alone from now on (`DISTCC_BACKOFF_PERIOD`); `None` for
    /// what the scheduler finds right.
    pub backoff: Option<Duration>,
}

/// Why there is no link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// What to tell people.
    pub why: String,
    /// Its address is known, and nobody answered there.
    pub nobody_home: bool,
}

impl From<String> for Lost {
    /// Somebody was there.
    fn from(why: String) -> Self {
        Lost { why, nobody_home: false }
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A job that may leave.
    Arrived(RemoteArrival),
    /// A job that stays here.
    ArrivedLocal {
        /// Its number.
        job: JobId,
        /// Whose turn it uses.
        build: BuildId,
        /// What it may use here; it takes a `link` slot.
        local: LocalSlots,
        /// Why it stays.
        reason: LocalReason,
    },
    /// The job's inputs are ready to be sent.
    Prepared {
        /// Which.
        job: JobId,
    },
    /// While its inputs were made ready, the job's result was found to be known; what remains is to
    /// deliver it.
    Found {
        /// Which.
        job: JobId,
    },
    /// The job's inputs cannot be sent; it must run here.
    Unpreparable {
        /// Which.
        job: JobId,
        /// Why.
        reason: LocalReason,
    },
    /// The job's compiler is on its way to the host, and will be for a while.
    Awaits {
        /// Which.
        job: JobId,
        /// Where.
        host: HostId,
    },
    /// The job's compiler was not there, and is now: its attempt begins.
    Begins {
        /// Which.
        job: JobId,
        /// Where.
        host: HostId,
    },
    /// A volunteer's compiler gave an answer, and all of it has arrived.
    Answered {
        /// Which.
        job: JobId,
        /// Where.
        host: HostId,
        /// How long the compiler itself ran there, for learning the host's speed.
        compile: Duration,
    },
    /// An attempt ended without an answer.
    Failed {
        /// Which.
        job: JobId,
        /// Where.
        host: HostId,
        /// Why, and so what to do.
        failure: Failure,
    },
    /// The answer that was taken is in place; the job is over.
    Delivered {
        /// Which.
        job: JobId,
    },
    /// The answer that was taken cannot be what the user sees; it must run here.
    Unusable {
        /// Which.
        job: JobId,
        /// Why.
        reason: LocalReason,
    },
    /// A compiler that ran here has ended; the job is over.
    LeaseReturned {
        /// Which.
        job: JobId,
    },
    /// The shim has gone away; nothing of the job is wanted any more.
    ShimGone {
        /// Which.
        job: JobId,
    },
    /// A link is up.
    HostUp {
        /// To whom.
        host: HostId,
    },
    /// A link is down, or could not be opened. Attempts there have been reported as failed.
    HostDown {
        /// To whom.
        host: HostId,
        /// Why.
        lost: Lost,
    },
    /// A volunteer says how many jobs of ours it will hold.
    Credit {
        /// Who.
        host: HostId,
        /// How many.
        jobs: u32,
    },
    /// A volunteer takes no new jobs, by the will of its owner, until it says how many it takes.
    Paused {
        /// Who.
        host: HostId,
    },
    /// A host is to take no jobs, or to take jobs again. One that is distrusted stays so.
    Hold {
        /// Which.
        host: HostId,
        /// Whether it is held, and how.
        hold: Hold,
    },
    /// No more jobs leave; queued ones run here, running ones finish.
    Drain,
    /// Time has passed (see `Scheduler::poll_timeout`).
    Tick,
}

/// Why an attempt gave no answer; decides what is tried next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The host is to blame: it vanished, fell silent or spoke nonsense. It is backed off.
    Host {
        /// What to tell people.
        why: String,
    },
    /// The host is well but full. The job goes elsewhere or waits; no back-off beyond a breath.
    Overloaded {
        /// What to tell people.
        why: String,
    },
    /// The host has no such toolchain: it is not asked again for this one until it reconnects.
    NoToolchain {
        /// What to tell people.
        why: String,
    },
    /// The host cannot do this one job, which says nothing of it or of other jobs: try another.
    Unable {
        /// What to tell people.
        why: String,
    },
    /// The host has this compiler only for compiles that come as files, and this one comes as a text: try another.
    NoTexts {
        /// What to tell people.
        why: String,
    },
    /// The host will not do this job, whoever asks: try no other, run it here.
    Refused {
        /// What to tell people.
        why: String,
    },
    /// The attempt's deadline passed. The job is tried elsewhere once.
    Deadline,
    /// The host takes the job in another form than it was made ready in, and it cannot be made ready
    /// in that one; or no host makes what is made here: run it here. No fault of the host's.
    Unpreparable {
        /// Why.
        reason: LocalReason,
    },
}

/// What the broker must do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make the job's inputs ready; answered by `Prepared`, `Unpreparable` or `Found`.
    Prepare {
        /// Which.
        job: JobId,
    },
    /// Start an attempt; answered by `Answered` or `Failed`, unless cancelled.
    Send {
        /// Which.
        job: JobId,
        /// Where.
        host: HostId,
        /// Report `Failed(Deadline)` after this long.
        deadline: Duration,
    },
    /// Give up an attempt; nothing more is reported of it.
    Cancel {
        /// Which.
        job: JobId,
        /// Where.
        host: HostId,
    },
    /// Stop preparing; nothing more is reported of it.
    CancelPrepare {
        /// Which.
        job: JobId,
    },
    /// Use the answer of this host; answered by `Delivered` or `Unusable`.
    Take {
        /// Which.
        job: JobId,
        /// Whose.
        host: HostId,
    },
    /// Tell the shim to run the compiler; answered by `LeaseReturned`.
    RunLocally {
        /// Which.
        job: JobId,
        /// Why.
        reason: LocalReason,
    },
    /// Tell the shim that it must not run the compiler (`DISTCC_FALLBACK=0`); the job is over.
    Forbid {
        /// Which.
        job: JobId,
        /// Why it could not leave.
        reason: LocalReason,
    },
    /// Open a link, or try again; answered by `HostUp` or `HostDown`.
    Connect {
        /// To whom.
        host: HostId,
    },
    /// A host was backed off: say so, once per build.
    BackedOff {
        /// Who.
        host: HostId,
        /// For how long.
        wait: Duration,
        /// What to tell people.
        why: String,
    },
}
