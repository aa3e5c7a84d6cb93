//! What `--status` shows, as plain data.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Scheduler;
use super::api::{BuildId, Hold, HostId, JobId, Moment, ToolchainId};
use super::hosts::{Host, Link};
use super::jobs::{Job, Phase};
use super::slots::InUse;

/// Everything at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// In the order of their first mention.
    pub hosts: Vec<HostView>,
    /// In the order of their numbers.
    pub jobs: Vec<JobView>,
    /// Since the broker started.
    pub totals: Totals,
    /// Local slots in use.
    pub in_use: InUse,
    /// Whether the broker is draining.
    pub draining: bool,
}

/// One host.
#[derive(Clone, Debug, PartialEq)]
pub struct HostView {
    /// Which.
    pub host: HostId,
    /// Whether it can be used.
    pub state: HostState,
    /// Jobs of ours there.
    pub used: u32,
    /// How many it will hold, if it said so.
    pub credit: Option<u32>,
    /// Answers that were used.
    pub done: u64,
    /// How fast it is: 2 takes half as long as usual, 1 until known.
    pub speed: f64,
    /// Toolchains it does not have.
    pub refused: Vec<ToolchainId>,
    /// Whether it is to take jobs.
    pub hold: Hold,
}

/// Whether a host can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostState {
    /// No job asked for it yet.
    Untried,
    /// A link is being made.
    Connecting,
    /// In use.
    Up,
    /// There, and taking no new jobs by the will of its owner.
    Paused,
    /// Left alone for a while.
    BackedOff {
        /// What went wrong.
        why: String,
        /// How much longer.
        left: Duration,
    },
    /// No link, and none is asked for until a job wants it.
    Down {
        /// What went wrong.
        why: String,
    },
}

/// One job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobView {
    /// Which.
    pub job: JobId,
    /// Of which build.
    pub build: BuildId,
    /// Where it stands.
    pub phase: PhaseView,
    /// Since it arrived.
    pub age: Duration,
    /// Since it entered this phase.
    pub phase_age: Duration,
}

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PhaseView {
    /// Waits to be prepared.
    Queued,
    /// Is being prepared.
    Preparing,
    /// Waits for a host.
    Ready,
    /// Runs on a host.
    Remote {
        /// Which.
        host: HostId,
        /// The second one, while it is hedged.
        hedge: Option<HostId>,
    },
    /// Its answer is being put in place.
    Taking {
        /// Whose.
        host: HostId,
    },
    /// Waits for a local slot.
    Home,
    /// Runs here.
    Local,
}

/// Counts since the broker started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Jobs whose answer came from a volunteer.
    pub remote: u64,
    /// Jobs whose result was known.
    pub found: u64,
    /// Attempts that followed a failed one.
    pub retried: u64,
    /// Second attempts beside a slow one.
    pub hedged: u64,
    /// Jobs that ran here, by `LocalReason::key`.
    pub local: BTreeMap<&'static str, u64>,
    /// Jobs that were not allowed to run here.
    pub forbidden: u64,
    /// Jobs whose shim went away.
    pub abandoned: u64,
}

impl Scheduler {
    /// What there is at `now`.
    pub fn snapshot(&self, now: Moment) -> Snapshot {
        Snapshot {
            hosts: self.hosts.iter().map(|host| host_view(host, now)).collect(),
            jobs: self.jobs.values().map(|job| self.job_view(job, now)).collect(),
            totals: self.totals.clone(),
            in_use: self.in_use,
            draining: self.draining,
        }
    }

    /// Whether a host is to take jobs.
    pub fn hold_of(&self, host: HostId) -> Hold {
        self.hosts.find(host).map_or(Hold::Free, |number| self.hosts[number].hold)
    }

    fn job_view(&self, job: &Job, now: Moment) -> JobView {
        let id = |host: usize| self.hosts[host].id;
        let phase = match &job.phase {
            Phase::Queued => PhaseView::Queued,
            Phase::Preparing => PhaseView::Preparing,
            Phase::Ready => PhaseView::Ready,
            Phase::Remote { attempts, .. } => {
                let mut at = attempts.iter().map(|attempt| id(attempt.host));
                match at.next() {
                    Some(host) => PhaseView::Remote { host, hedge: at.next() },
                    None => PhaseView::Ready,
                }
            }
            Phase::Taking { host, .. } => PhaseView::Taking { host: id(*host) },
            Phase::Home { .. } => PhaseView::Home,
            Phase::Local { .. } => PhaseView::Local,
        };
        let (age, phase_age) = (now.since(job.arrived), now.since(job.since));
        JobView { job: job.id, build: job.build, phase, age, phase_age }
    }
}

fn host_view(host: &Host, now: Moment) -> HostView {
    HostView {
        host: host.id,
        state: host_state(host, now),
        used: host.used(),
        credit: host.credit,
        done: host.done,
        speed: 1.0 / host.speed.slowness(),
        refused: host.refused.iter().copied().collect(),
        hold: host.hold,
    }
}

fn host_state(host: &Host, now: Moment) -> HostState {
    match (&host.link, &host.paused) {
        (Link::Untried, _) => HostState::Untried,
        (Link::Connecting { .. }, _) => HostState::Connecting,
        (Link::Up, Some((until, why))) => HostState::BackedOff { why: why.clone(), left: until.since(now) },
        (Link::Up, None) if host.owner_paused => HostState::Paused,
        (Link::Up, None) => HostState::Up,
        (Link::Down { until, why }, _) if *until > now => {
            HostState::BackedOff { why: why.clone(), left: until.since(now) }
        }
        (Link::Down { why, .. }, _) => HostState::Down { why: why.clone() },
    }
}
