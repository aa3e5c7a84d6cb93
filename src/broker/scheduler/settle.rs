//! Does everything that an event has made possible.

use super::Scheduler;
use super::api::{Action, JobId};
use super::fair::{Turn, Waiter};
use super::hosts::Prospect;
use super::jobs::{Attempt, LocalKind, Phase};
use super::lanes::LaneKey;
use crate::common::reason::LocalReason;

impl Scheduler {
    pub(super) fn settle(&mut self, actions: &mut Vec<Action>) {
        // First, since what it finds out about hosts decides where jobs go.
        self.look_for_stragglers(actions);
        while self.recheck_all || !self.recheck.is_empty() {
            self.bring_hopeless_home(actions);
            self.send_ready(actions);
        }
        self.send_ready(actions);
        self.run_here(actions);
        if self.waiting > 0 && !self.draining {
            self.use_listed(actions);
            self.overflow(actions);
            self.prepare(actions);
        }
        // Joining a lane that was found to have hope a moment ago needs no second look.
        self.recheck.clear();
    }

    /// Jobs that no host can take and none will soon come home.
    fn bring_hopeless_home(&mut self, actions: &mut Vec<Action>) {
        let mut keys = std::mem::take(&mut self.recheck);
        if std::mem::take(&mut self.recheck_all) {
            keys = self.lanes.keys().cloned().collect();
        }
        for key in keys {
            if self.prospect(&key) != Prospect::None {
                continue;
            }
            let Some(lane) = self.lanes.get(&key) else { continue };
            let hopeless: Vec<JobId> = lane.waiters().map(|waiter| waiter.job).collect();
            for job in hopeless {
                let why = self.why_hopeless(job, &key);
                let route = self.jobs.get(&job).and_then(|job| job.route.as_ref());
                let reason = route.map(|route| route.reason_for_home(why));
                self.bring_home(job, reason.unwrap_or(LocalReason::NoHosts), actions);
            }
        }
    }

    fn why_hopeless(&self, job: JobId, key: &LaneKey) -> String {
        let route = self.jobs.get(&job).and_then(|job| job.route.as_ref());
        if let Some(why) = route.and_then(|route| route.why.clone()) {
            return why;
        }
        match self.seats(key).next() {
            Some((_, host)) => host.trouble(),
            None => "none has this toolchain".to_owned(),
        }
    }

    /// Ready jobs leave while hosts can take them.
    fn send_ready(&mut self, actions: &mut Vec<Action>) {
        while self.ready > 0 {
            let Some((waiter, host)) = self.next_to_send() else { return };
            let declined = self.jobs.get(&waiter.job).and_then(|job| job.route.as_ref());
            if declined.is_some_and(|route| route.declined.contains(&host)) {
                self.set_apart(waiter.job, host);
                continue;
            }
            self.turns.serve(waiter.build, Turn::Send);
            self.send(waiter.job, host, actions);
        }
    }

    /// Among lanes with an open host, the job whose build's turn it is.
    fn next_to_send(&self) -> Option<(Waiter, usize)> {
        let mut next: Option<(u64, Waiter, usize)> = None;
        for (key, lane) in &self.lanes {
            let Some(waiter) = lane.ready.next(&self.turns, Turn::Send, |_| true) else { continue };
            let served = self.turns.served(waiter.build, Turn::Send);
            if next.is_some_and(|(least, first, _)| (least, first.serial) <= (served, waiter.serial)) {
                continue;
            }
            if let Some((host, _)) = self.choose(key) {
                next = Some((served, waiter, host));
            }
        }
        next.map(|(_, waiter, host)| (waiter, host))
    }

    /// A host that once declined this job for its toolchain has reconnected: it is not asked again.
    fn set_apart(&mut self, id: JobId, host: usize) {
        self.release(id);
        if let Some(route) = self.jobs.get_mut(&id).and_then(|job| job.route.as_mut()) {
            route.mark_tried(host);
        }
        self.acquire(id);
        self.recheck_all = true;
    }

    fn send(&mut self, id: JobId, number: usize, actions: &mut Vec<Action>) {
        let Some(route) = self.jobs.get_mut(&id).and_then(|job| job.route.as_mut()) else { return };
        route.attempts += 1;
        if route.why.is_some() {
            self.totals.retried += 1;
        }
        let task = route.task;
        let look_at = self.first_look(task);
        let attempts = vec![Attempt { host: number, sent: self.now, awaits: false }];
        self.note_sent(number);
        self.enter(id, Phase::Remote { attempts, look_at });
        let deadline = self.deadline(task, number);
        actions.push(Action::Send { job: id, host: self.hosts[number].id, deadline });
    }

    pub(super) fn note_sent(&mut self, number: usize) {
        let now = self.now;
        let host = &mut self.hosts[number];
        host.last_sent = now;
        let burst = host.burst();
        // It was open a moment ago; an empty bucket would only make it a little late.
        let _ = host.bucket.take(now, burst);
        if let Err(throttled) = host.bucket.peek(now, burst) {
            self.throttled_until = self.throttled_until.max(throttled.until);
        }
    }

    /// Fills local slots with those that wait for one.
    pub(super) fn run_here(&mut self, actions: &mut Vec<Action>) {
        for kind in [LocalKind::Link, LocalKind::Compile, LocalKind::Listed] {
            loop {
                let in_use = self.in_use;
                let queue = self.home.of(kind);
                if queue.is_empty() {
                    break;
                }
                let next = queue.next(&self.turns, Turn::Local, |local| in_use.may_run(kind, local));
                let Some(waiter) = next else { break };
                self.run_one_here(waiter, kind, actions);
            }
        }
    }

    fn run_one_here(&mut self, waiter: Waiter, kind: LocalKind, actions: &mut Vec<Action>) {
        let Some(Phase::Home { reason, .. }) = self.phase(waiter.job) else { return };
        let reason = reason.clone();
        self.turns.serve(waiter.build, Turn::Local);
        *self.totals.local.entry(reason.key()).or_default() += 1;
        self.enter(waiter.job, Phase::Local { kind, teaches: teaches(&reason) });
        actions.push(Action::RunLocally { job: waiter.job, reason });
    }

    /// Jobs that the list itself sends here: as to a host as fast as this machine.
    fn use_listed(&mut self, actions: &mut Vec<Action>) {
        while let Some(waiter) = self.next_listed() {
            let (kind, reason) = (LocalKind::Listed, LocalReason::LocalhostListed);
            self.enter(waiter.job, Phase::Home { kind, reason });
            self.run_one_here(waiter, kind, actions);
        }
    }

    fn next_listed(&self) -> Option<Waiter> {
        let may_run = |local: &_| self.in_use.may_run(LocalKind::Listed, local);
        self.lanes.iter().find_map(|(key, lane)| {
            let waiter = lane.queued.next(&self.turns, Turn::Local, may_run)?;
            let load = f64::from(self.in_use.listed) / f64::from(waiter.local.listed.max(1));
            let here = self.estimates.local.rank() * (1.0 + load);
            let ahead = self.pools.get(key.pool).map_or(0, |pool| pool.ahead);
            let there = if ahead < self.field(key, false).free { self.choose(key) } else { None };
            there.is_none_or(|(_, score)| here < score).then_some(waiter)
        })
    }

    /// Starts preparing what hosts will want soon.
    fn prepare(&mut self, actions: &mut Vec<Action>) {
        while let Some(waiter) = self.next_to_prepare() {
            self.turns.serve(waiter.build, Turn::Prepare);
            self.enter(waiter.job, Phase::Preparing);
            actions.push(Action::Prepare { job: waiter.job });
        }
    }

    fn next_to_prepare(&self) -> Option<Waiter> {
        let mut next: Option<(u64, Waiter)> = None;
        for (key, lane) in &self.lanes {
            let waiter = lane.queued.next(&self.turns, Turn::Prepare, |local| self.in_use.may_prepare(local));
            let Some(waiter) = waiter else { continue };
            let served = self.turns.served(waiter.build, Turn::Prepare);
            let later = next.is_some_and(|(least, first)| (least, first.serial) <= (served, waiter.serial));
            if !later && self.wants_ahead(key, &waiter.local) {
                next = Some((served, waiter));
            }
        }
        next.map(|(_, waiter)| waiter)
    }
}

/// Whether the time that a job takes here is the time of a compile that went as usual.
fn teaches(reason: &LocalReason) -> bool {
    matches!(
        reason,
        LocalReason::NoVolunteer { .. }
            | LocalReason::NoTextCompiler
            | LocalReason::ToolchainUnderway
            | LocalReason::NoHosts
            | LocalReason::EmptyHostList { .. }
            | LocalReason::LocalhostListed
            | LocalReason::Sooner
            | LocalReason::Straggler
            | LocalReason::Draining
    )
}
