//! Time bounds of attempts, and what is done for jobs that wait too long: overflow and hedging.

use std::time::Duration;

use super::Scheduler;
use super::api::{Action, HostId, JobId, Moment, TaskKey};
use super::fair::Waiter;
use super::jobs::{Attempt, Job, LocalKind, Phase};
use crate::common::reason::LocalReason;

/// How soon a straggler for which nothing could be done is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How soon it is looked again whether this machine has room for a job that waits for its compiler elsewhere.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(50);

impl Scheduler {
    /// How long an attempt may take.
    pub(super) fn deadline(&self, task: TaskKey, host: usize) -> Duration {
        let expected = self.estimates.expect(task);
        let slowness = self.hosts[host].speed.slowness().max(1.0);
        let likely = seconds(self.config.deadline_factor * expected.at_most * slowness);
        let least = if expected.known { self.config.deadline_min } else { self.config.deadline_unknown };
        likely.max(least).min(self.config.deadline_max)
    }

    /// When to look for the first time whether an attempt that begins now straggles. By then more may be
    /// known of what can be expected, so this is early.
    pub(super) fn first_look(&self, task: TaskKey) -> Moment {
        let long = seconds(self.config.straggler_factor * self.estimates.expect(task).likely);
        self.now + long.clamp(self.config.straggler_min, self.config.deadline_max)
    }

    /// Jobs for which waiting takes clearly longer than compiling here are compiled here: those that
    /// came last, and none that was prepared already.
    pub(super) fn overflow(&mut self, actions: &mut Vec<Action>) {
        while self.home.compile.is_empty() {
            let Some(waiter) = self.next_to_overflow() else { return };
            self.next_local_test = self.totals.remote + self.config.local_test_every;
            self.bring_home(waiter.job, LocalReason::Sooner, actions);
            self.run_here(actions);
        }
    }

    fn next_to_overflow(&self) -> Option<Waiter> {
        self.lanes.iter().find_map(|(key, lane)| {
            let waiter = lane.queued.last()?;
            let route = self.jobs.get(&waiter.job)?.route.as_ref()?;
            let may = route.fallback && self.in_use.may_run(LocalKind::Compile, &waiter.local);
            (may && self.sooner_here(key, route)).then_some(waiter)
        })
    }

    /// Looks after the attempts that take far longer than expected. While others wait, all that comes of it is
    /// that the host is known to be slow: a second copy would take a slot from a first.
    pub(super) fn look_for_stragglers(&mut self, actions: &mut Vec<Action>) {
        while self.looks.first().is_some_and(|(at, _)| *at <= self.now) {
            // Taken out, so that the loop ends whatever becomes of the job.
            let Some((_, id)) = self.looks.pop_first() else { return };
            if self.awaits(id) {
                if !self.take_over(id, actions) {
                    self.look_again(id, self.now + LOOK_FOR_ROOM, None);
                }
                continue;
            }
            let wait = self.until_straggler(id);
            if !wait.is_zero() {
                self.look_again(id, self.now + wait, None);
            } else if self.waiting > 0 || (!self.hedge(id, actions) && !self.overtake(id, actions)) {
                // Rarer with age: what nobody could help for a minute will not mind some seconds.
                let age = self.jobs.get(&id).map_or(Duration::ZERO, |job| self.now.since(job.since));
                self.look_again(id, self.now + LOOK_AGAIN.max(age / 8), None);
            }
        }
    }

    /// The compiler of a job is on its way to a host: as soon as this machine has nothing to do, it has the job.
    pub(super) fn on_awaits(&mut self, id: JobId, host: HostId) {
        self.change_attempt(id, host, |attempt, _| attempt.awaits = true);
        self.look_again(id, self.now, None);
    }

    /// The compiler is there. That it took a while says nothing about the host's speed.
    pub(super) fn on_begins(&mut self, id: JobId, host: HostId) {
        self.change_attempt(id, host, |attempt, now| (attempt.awaits, attempt.sent) = (false, now));
        if let Some(task) = self.jobs.get(&id).and_then(|job| job.route.as_ref()).map(|route| route.task) {
            self.look_again(id, self.first_look(task), None);
        }
    }

    fn change_attempt(&mut self, id: JobId, host: HostId, change: impl Fn(&mut Attempt, Moment)) {
        let (host, now) = (self.hosts.find(host), self.now);
        if let Some(Job { phase: Phase::Remote { attempts, .. }, .. }) = self.jobs.get_mut(&id) {
            let same = attempts.iter_mut().filter(|attempt| Some(attempt.host) == host);
            same.for_each(|attempt| change(attempt, now));
        }
    }

    /// Whether all that a job waits for is its compiler, on the way to a host.
    fn awaits(&self, id: JobId) -> bool {
        let Some(Phase::Remote { attempts, .. }) = self.phase(id) else { return false };
        attempts.iter().all(|attempt| attempt.awaits)
    }

    /// Compiles here what waits for its compiler elsewhere, where there is room.
    fn take_over(&mut self, id: JobId, actions: &mut Vec<Action>) -> bool {
        let Some(Job { route: Some(route), local, .. }) = self.jobs.get(&id) else { return false };
        let free = self.home.compile.is_empty() && self.in_use.may_run(LocalKind::Compile, local);
        if !(free && route.fallback) {
            return false;
        }
        self.cancel_attempts(id, None, actions);
        self.bring_home(id, LocalReason::ToolchainUnderway, actions);
        self.run_here(actions);
        true
    }

    /// How long until the latest attempt of a job is to be looked at; zero if it straggles. Then its host
    /// learns of it, once for a task that was never seen: that one may just be large.
    fn until_straggler(&mut self, id: JobId) -> Duration {
        let Some(Job { phase: Phase::Remote { attempts, .. }, route: Some(route), .. }) =
            self.jobs.get_mut(&id)
        else {
            return LOOK_AGAIN;
        };
        let Some(attempt) = attempts.last() else { return LOOK_AGAIN };
        let expected = self.estimates.expect(route.task);
        let age = self.now.since(attempt.sent);
        let long = seconds(self.config.straggler_factor * expected.at_most).max(self.config.straggler_min);
        if age < long {
            return (long - age).min(age / 2).max(LOOK_AGAIN);
        }
        if expected.known || route.overdue_at != Some(attempt.host) {
            route.overdue_at = Some(attempt.host);
            let ratio = age.as_secs_f64() / expected.at_most;
            self.hosts[attempt.host].speed.learn_overdue(ratio, expected.noise);
        }
        Duration::ZERO
    }

    /// Sends a straggler to a second host beside the first.
    fn hedge(&mut self, id: JobId, actions: &mut Vec<Action>) -> bool {
        let Some(Job { phase: Phase::Remote { attempts, .. }, route: Some(route), .. }) = self.jobs.get(&id)
        else {
            return false;
        };
        if route.hedged || self.draining || route.attempts >= self.config.attempts_max {
            return false;
        }
        let (mut key, task) = (route.lane(), route.task);
        key.tried.extend(attempts.iter().map(|attempt| attempt.host));
        key.tried.extend(&route.declined);
        let Some((number, _)) = self.choose(&key) else { return false };
        if let Some(route) = self.jobs.get_mut(&id).and_then(|job| job.route.as_mut()) {
            route.hedged = true;
            route.attempts += 1;
        }
        self.totals.hedged += 1;
        self.note_sent(number);
        self.look_again(
            id,
            self.first_look(task),
            Some(Attempt { host: number, sent: self.now, awaits: false }),
        );
        let deadline = self.deadline(task, number);
        actions.push(Action::Send { job: id, host: self.hosts[number].id, deadline });
        true
    }

    /// Gives a straggler up and compiles it here.
    fn overtake(&mut self, id: JobId, actions: &mut Vec<Action>) -> bool {
        let Some(Job { phase: Phase::Remote { attempts, .. }, route: Some(route), local, .. }) =
            self.jobs.get(&id)
        else {
            return false;
        };
        let expected = self.estimates.expect(route.task);
        let here = self.estimates.local.rank() * expected.at_most;
        let least = if expected.known { self.config.overtake_min } else { self.config.overtake_unknown };
        let long = seconds(self.config.straggler_factor * here).max(least);
        let slow = attempts.first().is_some_and(|first| self.now.since(first.sent) >= long);
        let free = self.home.compile.is_empty() && self.in_use.may_run(LocalKind::Compile, local);
        if !(slow && free && route.fallback) {
            return false;
        }
        self.cancel_attempts(id, None, actions);
        self.bring_home(id, LocalReason::Straggler, actions);
        self.run_here(actions);
        true
    }

    /// Puts off the next look at a job on hosts, and adds an attempt to it.
    fn look_again(&mut self, id: JobId, at: Moment, more: Option<Attempt>) {
        self.release(id);
        if let Some(Job { phase: Phase::Remote { attempts, look_at }, .. }) = self.jobs.get_mut(&id) {
            *look_at = at;
            attempts.extend(more);
        }
        self.acquire(id);
    }
}

/// A duration from estimates, which may be absurd.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}
