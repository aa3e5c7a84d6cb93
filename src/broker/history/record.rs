//! What is kept of a job that is over, and of what happened to hosts.

use serde::{Deserialize, Serialize};

/// A span of time, in microseconds since the broker started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// When it began.
    pub begin: u64,
    /// When it ended.
    pub end: u64,
}

impl Span {
    /// How long it took, in microseconds.
    pub fn length(self) -> u64 {
        self.end.saturating_sub(self.begin)
    }
}

/// One job, from its arrival to its end. Moments are microseconds since the broker started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its number.
    pub job: u64,
    /// The shim's process.
    pub pid: u32,
    /// Its source, cut off where it is long.
    pub source: String,
    /// From its arrival to its end.
    pub life: Span,
    /// When its inputs were made ready.
    pub prepare: Option<Span>,
    /// Where it was tried, in order.
    pub attempts: Vec<Attempt>,
    /// When its outputs were put in place.
    pub write: Option<Span>,
    /// Its run here.
    pub here: Option<Here>,
    /// What became of it.
    pub end: End,
}

/// What became of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// It is not over.
    #[default]
    Open,
    /// Its outputs came from a volunteer.
    Remote,
    /// Its outputs came from the cache of results.
    Cached,
    /// It ran here.
    Local,
    /// It was not allowed to run here.
    Forbidden,
    /// Its shim went away.
    Abandoned,
}

/// One attempt on a volunteer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The volunteer's number.
    pub host: u32,
    /// The lowest lane of the volunteer that was free, from 0.
    pub lane: u32,
    /// From the order to its end.
    pub span: Span,
    /// Of an answer: how long its inputs took to leave, in microseconds.
    pub upload: u64,
    /// How long it waited there.
    pub wait: u64,
    /// How long the compiler ran.
    pub compile: u64,
    /// How long the result took to arrive.
    pub download: u64,
    /// CPU time of the compiler.
    pub cpu: u64,
    /// Why it gave no answer; empty if it gave one.
    pub failure: String,
}

/// A run here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Here {
    /// The lowest lane of this machine that was free, from 0.
    pub lane: u32,
    /// From its start to its end.
    pub span: Span,
    /// The key of the reason.
    pub reason: String,
}

/// Something that happened at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// When, in microseconds since the broker started.
    pub at: u64,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// A volunteer is up.
    Up {
        /// Its number.
        host: u32,
    },
    /// A volunteer is lost, or could not be reached.
    Lost {
        /// Its number.
        host: u32,
        /// Why.
        why: String,
    },
    /// A volunteer is left alone for a while.
    BackedOff {
        /// Its number.
        host: u32,
        /// For how long, in milliseconds.
        wait_ms: u64,
        /// Why.
        why: String,
    },
    /// An attempt failed.
    Failed {
        /// The volunteer's number.
        host: u32,
        /// The job's source.
        source: String,
        /// Why.
        why: String,
    },
    /// A volunteer takes this many of our jobs from now on.
    Slots {
        /// Its number.
        host: u32,
        /// How many.
        slots: u32,
    },
    /// How much there is to do from now on.
    Level(Level),
}

/// How much there is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// Jobs that wait for a slot, here or elsewhere.
    pub waiting: u32,
    /// Attempts on volunteers.
    pub remote: u32,
    /// Compilers that run here.
    pub here: u32,
    /// Bytes sent so far, all volunteers together.
    pub sent: u64,
    /// Bytes received so far.
    pub received: u64,
}
