//! Decides where each job runs.
//!
//! The scheduler answers one question: given what just happened, what must the broker do next?
//! It opens no socket, reads no clock and spawns nothing, so a failing run is a seed and a list of
//! events, not a race.
//!
//! An event changes a job or a host ([`Scheduler::handle`]); then everything that has become possible is
//! done, in one order: stragglers are rescued, hopeless jobs come home, ready jobs leave, local slots are
//! filled, queued jobs are prepared. No event looks at all jobs: those that may go to the same hosts
//! share a lane, and an event costs a few passes over lanes and hosts.
//!
//! Invariants, checked by the simulation after every event:
//! - a job is answered or abandoned exactly once;
//! - a host never holds more jobs than it has slots;
//! - no host that failed a job has it again;
//! - with every host down, every job runs here;
//! - a free usable slot and a ready job never stay together;
//! - local slots are never exceeded;
//! - no job waits for ever.

pub mod api;
pub mod bucket;
#[cfg(test)]
mod check;
pub mod config;
pub mod estimate;
pub mod fair;
pub mod hosts;
pub mod jobs;
pub mod lanes;
mod on_hosts;
mod on_jobs;
mod phases;
mod place;
mod rescue;
pub mod rng;
mod settle;
pub mod slots;
pub mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use api::{Action, Event, JobId, Moment};
use config::Config;
use estimate::Estimates;
use fair::{FairQueue, Turns};
use hosts::Hosts;
use jobs::{Job, LocalKind};
use lanes::{Lane, LaneKey, Pools};
use rng::Rng;
use slots::InUse;
use snapshot::Totals;

/// No host will change by time alone.
const NEVER: Moment = Moment(u64::MAX);

/// Owns slots, queues, back-off and hedging; nothing else in the broker does.
#[derive(Debug)]
pub struct Scheduler {
    config: Config,
    rng: Rng,
    /// The latest moment that an event brought.
    now: Moment,
    draining: bool,
    /// Counts arrivals.
    serial: u64,
    jobs: BTreeMap<JobId, Job>,
    hosts: Hosts,
    pools: Pools,
    lanes: BTreeMap<LaneKey, Lane>,
    turns: Turns,
    home: HomeQueues,
    in_use: InUse,
    estimates: Estimates,
    /// Jobs on hosts, by when to look whether they straggle.
    looks: BTreeSet<(Moment, JobId)>,
    totals: Totals,
    /// After so many remote jobs one may find out how fast this machine is.
    next_local_test: u64,
    /// Jobs that wait for a host, in all lanes.
    waiting: usize,
    /// Of these, the prepared ones.
    ready: usize,
    /// When a host changes next by time alone; `None` when it must be looked for again.
    wake: Option<Moment>,
    /// Until then some host may be out of tokens.
    throttled_until: Moment,
    /// A host changed, so every lane may have lost its last hope.
    recheck_all: bool,
    /// Lanes that a job entered since they were last checked.
    recheck: Vec<LaneKey>,
}

/// Jobs that wait for a local slot, by its kind.
#[derive(Debug, Default)]
struct HomeQueues {
    compile: FairQueue,
    listed: FairQueue,
    link: FairQueue,
}

impl HomeQueues {
    fn of(&mut self, kind: LocalKind) -> &mut FairQueue {
        match kind {
            LocalKind::Compile => &mut self.compile,
            LocalKind::Listed => &mut self.listed,
            LocalKind::Link => &mut self.link,
        }
    }
}

impl Scheduler {
    /// Knows nothing yet. The seed decides jitter, so the same events give the same actions.
    pub fn new(config: Config, seed: u64) -> Scheduler {
        let estimates = Estimates::new(config.tasks_max);
        Scheduler {
            next_local_test: config.local_test_every,
            config,
            rng: Rng::new(seed),
            now: Moment(0),
            draining: false,
            serial: 0,
            jobs: BTreeMap::new(),
            hosts: Hosts::default(),
            pools: Pools::default(),
            lanes: BTreeMap::new(),
            turns: Turns::default(),
            home: HomeQueues::default(),
            in_use: InUse::default(),
            estimates,
            looks: BTreeSet::new(),
            totals: Totals::default(),
            waiting: 0,
            ready: 0,
            wake: None,
            throttled_until: Moment(0),
            recheck_all: false,
            recheck: Vec::new(),
        }
    }

    /// Takes in what happened at `now` and appends what must be done, in this order. Events of unknown
    /// jobs, hosts and attempts are late and change nothing; a `now` in the past counts as the latest.
    pub fn handle(&mut self, now: Moment, event: Event, actions: &mut Vec<Action>) {
        self.pass_time(now, actions);
        self.on(event, actions);
        self.settle(actions);
        if self.wake.is_none() {
            self.wake = Some(self.next_wake());
        }
    }

    fn next_wake(&self) -> Moment {
        let changes = self.hosts.iter().filter_map(|host| host.next_change(self.now, &self.config));
        changes.min().unwrap_or(NEVER)
    }

    fn on(&mut self, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Arrived(arrival) => self.on_arrived(&arrival, actions),
            Event::ArrivedLocal { job, build, local, reason } => {
                self.on_arrived_local(job, build, local, reason);
            }
            Event::Prepared { job } => self.on_prepared(job),
            Event::Found { job } => self.on_found(job, actions),
            Event::Unpreparable { job, reason } => self.on_unpreparable(job, reason, actions),
            Event::Awaits { job, host } => self.on_awaits(job, host),
            Event::Begins { job, host } => self.on_begins(job, host),
            Event::Answered { job, host, compile } => self.on_answered(job, host, compile, actions),
            Event::Failed { job, host, failure } => self.on_failed(job, host, &failure, actions),
            Event::Delivered { job } => self.on_delivered(job),
            Event::Unusable { job, reason } => self.on_unusable(job, reason, actions),
            Event::LeaseReturned { job } => self.on_lease_returned(job),
            Event::ShimGone { job } => self.on_shim_gone(job, actions),
            Event::HostUp { host } => self.on_host_up(host),
            Event::HostDown { host, lost } => self.on_host_down(host, lost, actions),
            Event::Credit { host, jobs } => self.on_credit(host, jobs),
            Event::Paused { host } => self.on_paused(host),
            Event::Hold { host, hold } => self.on_hold(host, hold, actions),
            Event::Drain => self.on_drain(actions),
            Event::Tick => {}
        }
    }

    /// The earliest moment at which a [`Event::Tick`] is useful, if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Moment> {
        let changes = self.wake.filter(|at| *at != NEVER);
        let throttled = self.ready > 0 && self.throttled_until > self.now;
        let tokens = if throttled { self.next_token() } else { None };
        let look = self.looks.first().map(|(at, _)| *at);
        [changes, tokens, look].into_iter().flatten().min()
    }

    fn next_token(&self) -> Option<Moment> {
        let open = self.hosts.iter().filter(|host| host.free(u32::MAX, self.now) > 0);
        open.filter_map(|host| host.bucket.peek(self.now, host.burst()).err()).map(|no| no.until).min()
    }
}
