//! One job: what it may use, where it stands, where it has been.

use super::api::{BuildId, JobId, LocalSlots, Moment, TaskKey, ToolchainId};
use super::fair::Waiter;
use super::lanes::{LaneKey, PoolId};
use crate::common::reason::LocalReason;

/// Which local slots a job takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LocalKind {
    /// A distributable job that came home.
    Compile,
    /// A job that the list itself sends here.
    Listed,
    /// A job that cannot leave.
    Link,
}

/// A job on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The host's dense number.
    pub host: usize,
    /// When it was sent, or its compiler was there.
    pub sent: Moment,
    /// Whether its compiler is still on the way, and will be for a while.
    pub awaits: bool,
}

/// Where a job stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// Waits to be prepared.
    Queued,
    /// Its inputs are being made ready; holds a preprocess slot.
    Preparing,
    /// Waits for a host.
    Ready,
    /// On one host, or on two while hedged.
    Remote {
        /// The live attempts, oldest first; never empty.
        attempts: Vec<Attempt>,
        /// When to look whether it straggles: its key in the table of those.
        look_at: Moment,
    },
    /// An answer is being put in place.
    Taking {
        /// Whose.
        host: usize,
        /// How long it took there, to be learned if the answer is good.
        took: std::time::Duration,
    },
    /// Must run here; waits for a local slot.
    Home {
        /// Of which kind.
        kind: LocalKind,
        /// Why.
        reason: LocalReason,
    },
    /// Runs here; holds a local slot.
    Local {
        /// Of which kind.
        kind: LocalKind,
        /// Whether its duration says something about this machine.
        teaches: bool,
    },
}

/// What only a job that may leave has.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its host list.
    pub pool: PoolId,
    /// For learning.
    pub task: TaskKey,
    /// What it needs.
    pub toolchain: ToolchainId,
    /// Whether it may be compiled here after hosts failed.
    pub fallback: bool,
    /// Hosts that failed it, in the order of their dense numbers.
    pub tried: Vec<usize>,
    /// Hosts that turned it away for its toolchain: not asked again even after they reconnect.
    pub declined: Vec<usize>,
    /// Attempts that counted.
    pub attempts: u32,
    /// Attempts that did not, because the host turned it away unread.
    pub turned_away: u32,
    /// Deadlines that passed.
    pub deadlines: u32,
    /// Whether it was ever hedged; once is enough.
    pub hedged: bool,
    /// The last host that was found slow because of it.
    pub overdue_at: Option<usize>,
    /// The last failure.
    pub why: Option<String>,
    /// Whether all that failed it lack the compiler for texts.
    pub only_texts_failed: bool,
}

impl Route {
    /// Why it is compiled here after it failed elsewhere.
    pub fn reason_for_home(&self, why: String) -> LocalReason {
        if self.only_texts_failed { LocalReason::NoTextCompiler } else { LocalReason::NoVolunteer { why } }
    }
}

/// One job.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its number.
    pub id: JobId,
    /// Whose turn it uses.
    pub build: BuildId,
    /// The order of arrival.
    pub serial: u64,
    /// What it may use here.
    pub local: LocalSlots,
    /// When it arrived.
    pub arrived: Moment,
    /// When its phase began.
    pub since: Moment,
    /// Where it stands.
    pub phase: Phase,
    /// Where it may go; nothing for a job that stays.
    pub route: Option<Route>,
}

impl Job {
    /// What a queue keeps of it.
    pub fn waiter(&self) -> Waiter {
        Waiter { job: self.id, build: self.build, serial: self.serial, local: self.local }
    }

    /// The lane in which it waits for a host.
    pub fn lane(&self) -> Option<LaneKey> {
        self.route.as_ref().map(Route::lane)
    }
}

impl Route {
    /// The lane of jobs that may go exactly where this one may.
    pub fn lane(&self) -> LaneKey {
        LaneKey { pool: self.pool, toolchain: self.toolchain, tried: self.tried.clone() }
    }

    /// `host` is not to have it again.
    pub fn mark_tried(&mut self, host: usize) {
        if let Err(place) = self.tried.binary_search(&host) {
            self.tried.insert(place, host);
        }
    }
}
