//! Moving a job from one phase to the next.
//!
//! Each phase holds something: a place in a queue, a slot here, a slot on a host. Only this file takes
//! and gives back, so nothing can leak: leaving a phase gives back all that it holds.

use super::Scheduler;
use super::api::{Action, JobId};
use super::jobs::{Job, LocalKind, Phase};
use crate::common::reason::LocalReason;

impl Scheduler {
    /// Ends the phase of a job and begins another.
    pub(super) fn enter(&mut self, id: JobId, phase: Phase) {
        self.release(id);
        if let Some(job) = self.jobs.get_mut(&id) {
            job.phase = phase;
            job.since = self.now;
        }
        self.acquire(id);
    }

    /// Ends a job: whatever it holds is given back.
    pub(super) fn finish(&mut self, id: JobId) {
        self.release(id);
        let Some(job) = self.jobs.remove(&id) else { return };
        self.turns.leave(job.build);
        let Some(route) = job.route else { return };
        let Some(pool) = self.pools.get_mut(route.pool) else { return };
        pool.live = pool.live.saturating_sub(1);
        if pool.live == 0 {
            self.wake = None;
            for seat in &pool.seats {
                let host = &mut self.hosts[seat.host];
                host.wanted = host.wanted.saturating_sub(1);
            }
        }
    }

    /// Brings a job home: it will run here when a compile slot is free, or is forbidden to.
    pub(super) fn bring_home(&mut self, id: JobId, reason: LocalReason, actions: &mut Vec<Action>) {
        let Some(job) = self.jobs.get(&id) else { return };
        if matches!(job.phase, Phase::Preparing) {
            actions.push(Action::CancelPrepare { job: id });
        }
        let failed = matches!(
            reason,
            LocalReason::NoVolunteer { .. } | LocalReason::NoTextCompiler | LocalReason::NoHosts
        );
        if failed && job.route.as_ref().is_some_and(|route| !route.fallback) {
            self.totals.forbidden += 1;
            actions.push(Action::Forbid { job: id, reason });
            self.finish(id);
        } else {
            self.enter(id, Phase::Home { kind: LocalKind::Compile, reason });
        }
    }

    /// Gives back what the phase of a job holds.
    pub(super) fn release(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        match &job.phase {
            Phase::Queued | Phase::Preparing | Phase::Ready => self.leave_lane(id),
            Phase::Remote { attempts, look_at } => {
                for attempt in attempts {
                    self.hosts[attempt.host].running.remove(&id);
                }
                self.looks.remove(&(*look_at, id));
            }
            Phase::Taking { .. } => {}
            Phase::Home { kind, .. } => self.home.of(*kind).remove(job.build, job.serial),
            Phase::Local { kind, .. } => {
                let count = self.in_use.count(*kind);
                *count = count.saturating_sub(1);
            }
        }
    }

    /// Takes what the phase of a job holds.
    pub(super) fn acquire(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        match &job.phase {
            Phase::Queued | Phase::Preparing | Phase::Ready => self.join_lane(id),
            Phase::Remote { attempts, look_at } => {
                for attempt in attempts {
                    self.hosts[attempt.host].running.insert(id);
                }
                self.looks.insert((*look_at, id));
            }
            Phase::Taking { .. } => {}
            Phase::Home { kind, .. } => self.home.of(*kind).push(job.waiter()),
            Phase::Local { kind, .. } => *self.in_use.count(*kind) += 1,
        }
    }

    fn join_lane(&mut self, id: JobId) {
        let Some((job, key)) = self.jobs.get(&id).and_then(with_lane) else { return };
        let pool = self.pools.get_mut(key.pool);
        let lane = self.lanes.entry(key.clone()).or_default();
        let mut ahead = 1;
        match job.phase {
            Phase::Preparing => {
                lane.preparing.insert(job.serial, job.waiter());
                self.in_use.preprocess += 1;
            }
            Phase::Ready => {
                lane.ready.push(job.waiter());
                self.ready += 1;
            }
            _ => {
                lane.queued.push(job.waiter());
                ahead = 0;
            }
        }
        self.waiting += 1;
        if let Some(pool) = pool {
            pool.waiting += 1;
            pool.ahead += ahead;
        }
        if !matches!(job.phase, Phase::Preparing) && self.recheck.last() != Some(&key) {
            self.recheck.push(key);
        }
    }

    fn leave_lane(&mut self, id: JobId) {
        let Some((job, key)) = self.jobs.get(&id).and_then(with_lane) else { return };
        let pool = self.pools.get_mut(key.pool);
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        let mut ahead = 1;
        match job.phase {
            Phase::Preparing => {
                lane.preparing.remove(&job.serial);
                self.in_use.preprocess = self.in_use.preprocess.saturating_sub(1);
            }
            Phase::Ready => {
                lane.ready.remove(job.build, job.serial);
                self.ready = self.ready.saturating_sub(1);
            }
            _ => {
                lane.queued.remove(job.build, job.serial);
                ahead = 0;
            }
        }
        self.waiting = self.waiting.saturating_sub(1);
        if let Some(pool) = pool {
            pool.waiting = pool.waiting.saturating_sub(1);
            pool.ahead = pool.ahead.saturating_sub(ahead);
        }
        if lane.is_empty() {
            self.lanes.remove(&key);
        }
    }
}

fn with_lane(job: &Job) -> Option<(&Job, super::lanes::LaneKey)> {
    job.lane().map(|key| (job, key))
}
