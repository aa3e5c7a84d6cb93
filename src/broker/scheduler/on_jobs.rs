//! What events do to jobs.

use std::time::Duration;

use super::Scheduler;
use super::api::{Action, BuildId, Failure, HostId, JobId, LocalSlots, RemoteArrival};
use super::jobs::{Attempt, Job, LocalKind, Phase, Route};
use crate::common::reason::LocalReason;

/// What a round trip may take beside the compile itself before it counts against a host.
const ROUND_TRIP_FREE: Duration = Duration::from_millis(100);

impl Scheduler {
    pub(super) fn on_arrived(&mut self, arrival: &RemoteArrival, actions: &mut Vec<Action>) {
        if self.jobs.contains_key(&arrival.job) {
            return;
        }
        self.config.fix_backoff(arrival.backoff);
        let pool = self.pools.number(&arrival.hosts, &mut self.hosts, &self.config);
        let route = Route {
            pool,
            task: arrival.task,
            toolchain: arrival.toolchain,
            fallback: arrival.fallback,
            tried: Vec::new(),
            declined: Vec::new(),
            attempts: 0,
            turned_away: 0,
            deadlines: 0,
            hedged: false,
            overdue_at: None,
            why: None,
            only_texts_failed: false,
        };
        self.join_pool(pool);
        let phase = self.first_phase(&arrival.hosts, arrival.local);
        self.add_job(arrival.job, arrival.build, arrival.local, phase, Some(route));
        match self.jobs.get(&arrival.job).map(|job| &job.phase) {
            Some(Phase::Queued) => self.connect_pool(pool, actions),
            // It may have to be forbidden rather than queued here.
            Some(Phase::Home { kind: LocalKind::Compile, reason }) => {
                let reason = reason.clone();
                self.bring_home(arrival.job, reason, actions);
            }
            _ => {}
        }
    }

    fn first_phase(&self, hosts: &[super::api::HostUse], local: LocalSlots) -> Phase {
        if self.draining {
            Phase::Home { kind: LocalKind::Compile, reason: LocalReason::Draining }
        } else if !hosts.is_empty() {
            Phase::Queued
        } else if local.listed > 0 {
            Phase::Home { kind: LocalKind::Listed, reason: LocalReason::LocalhostListed }
        } else {
            Phase::Home { kind: LocalKind::Compile, reason: LocalReason::NoHosts }
        }
    }

    fn join_pool(&mut self, id: super::lanes::PoolId) {
        let Some(pool) = self.pools.get_mut(id) else { return };
        pool.live += 1;
        if pool.live == 1 {
            self.wake = None;
            for seat in &pool.seats {
                self.hosts[seat.host].wanted += 1;
            }
        }
    }

    fn add_job(&mut self, id: JobId, build: BuildId, local: LocalSlots, phase: Phase, route: Option<Route>) {
        self.serial += 1;
        self.turns.join(build);
        let (serial, now) = (self.serial, self.now);
        self.jobs.insert(id, Job { id, build, serial, local, arrived: now, since: now, phase, route });
        self.acquire(id);
    }

    pub(super) fn on_arrived_local(
        &mut self,
        job: JobId,
        build: BuildId,
        local: LocalSlots,
        reason: LocalReason,
    ) {
        if !self.jobs.contains_key(&job) {
            self.add_job(job, build, local, Phase::Home { kind: LocalKind::Link, reason }, None);
        }
    }

    pub(super) fn on_prepared(&mut self, job: JobId) {
        if self.phase(job) == Some(&Phase::Preparing) {
            self.enter(job, Phase::Ready);
        }
    }

    /// Whatever was decided meanwhile, the job has what it wanted.
    pub(super) fn on_found(&mut self, id: JobId, actions: &mut Vec<Action>) {
        if !self.jobs.contains_key(&id) {
            return;
        }
        self.cancel_attempts(id, None, actions);
        self.totals.found += 1;
        self.finish(id);
    }

    pub(super) fn on_unpreparable(&mut self, job: JobId, reason: LocalReason, actions: &mut Vec<Action>) {
        if self.phase(job) == Some(&Phase::Preparing) {
            // It has ended by itself, so there is nothing to cancel.
            self.enter(job, Phase::Queued);
            self.bring_home(job, reason, actions);
        }
    }

    pub(super) fn on_answered(
        &mut self,
        job: JobId,
        host: HostId,
        compile: Duration,
        actions: &mut Vec<Action>,
    ) {
        let Some((host, attempt)) = self.live_attempt(job, host) else { return };
        if self.hosts[host].paused.is_some() {
            self.host_changed();
        }
        self.hosts[host].answered();
        let wall = self.now.since(attempt.sent);
        // What counts is when the answer is here, but a short wait on the way is no slowness.
        let took = compile.min(wall).max(wall.saturating_sub(ROUND_TRIP_FREE));
        self.cancel_attempts(job, Some(host), actions);
        self.enter(job, Phase::Taking { host, took });
        actions.push(Action::Take { job, host: self.hosts[host].id });
    }

    pub(super) fn on_failed(
        &mut self,
        job: JobId,
        host: HostId,
        failure: &Failure,
        actions: &mut Vec<Action>,
    ) {
        let Some((host, attempt)) = self.live_attempt(job, host) else { return };
        self.end_attempt(job, host);
        self.blame(job, attempt, failure, actions);
        self.after_failure(job, host, failure, actions);
    }

    /// Takes one attempt off a job; the job stays where it is.
    pub(super) fn end_attempt(&mut self, id: JobId, host: usize) {
        self.release(id);
        if let Some(Job { phase: Phase::Remote { attempts, .. }, .. }) = self.jobs.get_mut(&id) {
            attempts.retain(|attempt| attempt.host != host);
        }
        self.acquire(id);
    }

    /// Notes a failed attempt, and finds another place for the job unless another attempt still runs.
    pub(super) fn after_failure(
        &mut self,
        id: JobId,
        host: usize,
        failure: &Failure,
        actions: &mut Vec<Action>,
    ) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Some(route) = job.route.as_mut() else { return };
        let why = note_failure(route, host, failure);
        let home = route.reason_for_home(why);
        if matches!(&job.phase, Phase::Remote { attempts, .. } if !attempts.is_empty()) {
            return;
        }
        if let Failure::Unpreparable { reason } = failure {
            return self.bring_home(id, reason.clone(), actions);
        }
        let enough = matches!(failure, Failure::Refused { .. })
            || route.deadlines >= 2
            || route.attempts >= self.config.attempts_max
            || route.turned_away >= self.config.turned_away_max;
        let is_full = matches!(failure, Failure::Overloaded { .. });
        if enough || self.draining || is_full && self.is_better_here(id) {
            self.bring_home(id, home, actions);
        } else {
            self.enter(id, Phase::Ready);
        }
    }

    /// Whether a job that was turned away again and again need not wait: there is room here, and no host has any now.
    fn is_better_here(&self, id: JobId) -> bool {
        let Some(job) = self.jobs.get(&id) else { return false };
        let Some(route) = &job.route else { return false };
        route.fallback
            && route.turned_away >= self.config.turned_away_with_room
            && self.home.compile.is_empty()
            && self.in_use.may_run(LocalKind::Compile, &job.local)
            && self.choose(&route.lane()).is_none()
    }

    pub(super) fn on_delivered(&mut self, id: JobId) {
        let Some(Job { phase: Phase::Taking { host, took }, route: Some(route), .. }) = self.jobs.get(&id)
        else {
            return;
        };
        let host = &mut self.hosts[*host];
        host.done += 1;
        self.estimates.learn(route.task, *took, &mut host.speed);
        self.totals.remote += 1;
        self.finish(id);
    }

    pub(super) fn on_unusable(&mut self, job: JobId, reason: LocalReason, actions: &mut Vec<Action>) {
        if matches!(self.phase(job), Some(Phase::Taking { .. })) {
            self.bring_home(job, reason, actions);
        }
    }

    pub(super) fn on_lease_returned(&mut self, id: JobId) {
        let Some(Job { phase: Phase::Local { teaches, .. }, route, since, .. }) = self.jobs.get(&id) else {
            return;
        };
        if let (true, Some(route)) = (*teaches, route) {
            self.estimates.learn_local(route.task, self.now.since(*since));
        }
        self.finish(id);
    }

    pub(super) fn on_shim_gone(&mut self, id: JobId, actions: &mut Vec<Action>) {
        let Some(job) = self.jobs.get(&id) else { return };
        if matches!(job.phase, Phase::Preparing) {
            actions.push(Action::CancelPrepare { job: id });
        }
        // A compiler that runs here has the shim's connection: that it is gone means that it ended.
        if !matches!(job.phase, Phase::Local { .. }) {
            self.totals.abandoned += 1;
        }
        self.cancel_attempts(id, None, actions);
        self.finish(id);
    }

    pub(super) fn on_drain(&mut self, actions: &mut Vec<Action>) {
        self.draining = true;
        let waiting: Vec<JobId> =
            self.lanes.values().flat_map(|lane| lane.waiters()).map(|w| w.job).collect();
        for job in waiting {
            self.bring_home(job, LocalReason::Draining, actions);
        }
    }

    /// Asks for the end of every live attempt but the one on `keep`.
    pub(super) fn cancel_attempts(&self, id: JobId, keep: Option<usize>, actions: &mut Vec<Action>) {
        let Some(Phase::Remote { attempts, .. }) = self.phase(id) else { return };
        for attempt in attempts.iter().filter(|attempt| Some(attempt.host) != keep) {
            actions.push(Action::Cancel { job: id, host: self.hosts[attempt.host].id });
        }
    }

    pub(super) fn phase(&self, id: JobId) -> Option<&Phase> {
        self.jobs.get(&id).map(|job| &job.phase)
    }

    /// The attempt that an event speaks of, unless it is one that was given up.
    fn live_attempt(&self, id: JobId, host: HostId) -> Option<(usize, Attempt)> {
        let host = self.hosts.find(host)?;
        let Some(Phase::Remote { attempts, .. }) = self.phase(id) else { return None };
        attempts.iter().find(|attempt| attempt.host == host).map(|attempt| (host, *attempt))
    }
}

/// Writes a failure into the job's history; returns it for people.
fn note_failure(route: &mut Route, host: usize, failure: &Failure) -> String {
    let for_texts = matches!(failure, Failure::NoTexts { .. });
    route.only_texts_failed = for_texts && (route.why.is_none() || route.only_texts_failed);
    let why = match failure {
        Failure::Host { why }
        | Failure::Unable { why }
        | Failure::NoTexts { why }
        | Failure::Refused { why } => {
            route.mark_tried(host);
            why.clone()
        }
        Failure::Deadline => {
            route.mark_tried(host);
            route.deadlines += 1;
            "it gave no answer in time".to_owned()
        }
        Failure::Unpreparable { reason } => {
            route.mark_tried(host);
            reason.to_string()
        }
        Failure::NoToolchain { why } => {
            route.declined.push(host);
            route.attempts = route.attempts.saturating_sub(1);
            route.turned_away += 1;
            why.clone()
        }
        Failure::Overloaded { why } => {
            route.attempts = route.attempts.saturating_sub(1);
            route.turned_away += 1;
            why.clone()
        }
    };
    route.why = Some(why.clone());
    why
}
