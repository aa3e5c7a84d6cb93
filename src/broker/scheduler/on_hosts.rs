//! What events and time do to hosts.

use std::time::Duration;

use super::Scheduler;
use super::api::{Action, Failure, Hold, HostId, JobId, Lost, Moment};
use super::hosts::{Link, held_words};
use super::jobs::Attempt;
use super::lanes::PoolId;

impl Scheduler {
    /// Time passes: back-offs and waits end.
    pub(super) fn pass_time(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let before = self.now;
        self.now = self.now.max(now);
        if self.wake.is_some_and(|at| at > self.now) {
            return;
        }
        self.wake = None;
        for number in 0..self.hosts.count() {
            let change = self.hosts[number].next_change(before, &self.config);
            if change.is_some_and(|at| at <= self.now) {
                self.recheck_all = true;
                self.hosts[number].expire_pause(self.now);
                if self.hosts[number].wanted > 0 && !self.draining {
                    self.connect(number, actions);
                }
            }
        }
    }

    /// Asks for links to hosts of a list that have none, unless they are to be left alone.
    pub(super) fn connect_pool(&mut self, pool: PoolId, actions: &mut Vec<Action>) {
        let seats = self.pools.get(pool).map_or(0, |pool| pool.seats.len());
        for place in 0..seats {
            let seat = self.pools.get(pool).and_then(|pool| pool.seats.get(place));
            if let Some(number) = seat.map(|seat| seat.host) {
                self.connect(number, actions);
            }
        }
    }

    fn connect(&mut self, number: usize, actions: &mut Vec<Action>) {
        let host = &mut self.hosts[number];
        if host.due(self.now) {
            host.connecting(self.now);
            self.wake = None;
            actions.push(Action::Connect { host: host.id });
        }
    }

    pub(super) fn on_host_up(&mut self, id: HostId) {
        let number = self.hosts.number(id, &self.config);
        self.hosts[number].up(self.now);
        self.host_changed();
    }

    pub(super) fn on_host_down(&mut self, id: HostId, lost: Lost, actions: &mut Vec<Action>) {
        let number = self.hosts.number(id, &self.config);
        if matches!(self.hosts[number].link, Link::Down { .. }) {
            return;
        }
        let why = lost.why.clone();
        let wait = self.hosts[number].down(self.now, lost, &self.config, &mut self.rng);
        self.tell_backed_off(number, wait, &why, actions);
        // They should have been reported before; none may be left behind.
        let left: Vec<JobId> = self.hosts[number].running.iter().copied().collect();
        for job in left {
            self.end_attempt(job, number);
            self.after_failure(job, number, &Failure::Host { why: why.clone() }, actions);
        }
        self.host_changed();
    }

    /// Timers and prospects of a host may be other than they were.
    pub(super) fn host_changed(&mut self) {
        self.wake = None;
        self.recheck_all = true;
    }

    pub(super) fn on_credit(&mut self, id: HostId, jobs: u32) {
        let number = self.hosts.number(id, &self.config);
        let now = self.now;
        let host = &mut self.hosts[number];
        if jobs == 0 && host.credit != Some(0) {
            host.dry_since = now;
        }
        host.credit = Some(jobs);
        host.cap = u32::MAX;
        if jobs > 0 && host.owner_paused {
            // What it turned away meanwhile says nothing about how full it is.
            (host.owner_paused, host.breath_until, host.breaths) = (false, Moment(0), 0);
        }
        self.host_changed();
    }

    /// A host takes no new jobs for as long as its owner likes: nobody waits for it, and nobody blames it.
    pub(super) fn on_paused(&mut self, id: HostId) {
        let number = self.hosts.number(id, &self.config);
        let host = &mut self.hosts[number];
        host.owner_paused = true;
        host.credit = Some(0);
        self.host_changed();
    }

    /// A host is held, or let go. What is distrusted stays so.
    pub(super) fn on_hold(&mut self, id: HostId, hold: Hold, actions: &mut Vec<Action>) {
        let number = self.hosts.number(id, &self.config);
        if self.hosts[number].hold == Hold::Distrusted {
            return;
        }
        self.hosts[number].hold = hold;
        self.host_changed();
        if hold == Hold::Free {
            self.hosts[number].forgive();
            if self.hosts[number].wanted > 0 && !self.draining {
                self.connect(number, actions);
            }
        }
        if matches!(hold, Hold::Free | Hold::Drained) {
            return;
        }
        let why = held_words(hold).to_owned();
        let jobs: Vec<JobId> = self.hosts[number].running.iter().copied().collect();
        for job in jobs {
            actions.push(Action::Cancel { job, host: id });
            self.end_attempt(job, number);
            self.after_failure(job, number, &Failure::Unable { why: why.clone() }, actions);
        }
    }

    /// What a failed attempt says about its host.
    pub(super) fn blame(
        &mut self,
        job: JobId,
        attempt: Attempt,
        failure: &Failure,
        actions: &mut Vec<Action>,
    ) {
        let Some(route) = self.jobs.get(&job).and_then(|job| job.route.as_ref()) else { return };
        let host = &mut self.hosts[attempt.host];
        match failure {
            Failure::Host { why } => {
                if let Some(wait) = host.strike(self.now, why, &self.config, &mut self.rng) {
                    self.host_changed();
                    self.tell_backed_off(attempt.host, wait, why, actions);
                }
            }
            Failure::Overloaded { .. } => {
                host.breathe(self.now, &self.config);
                self.wake = None;
            }
            Failure::NoToolchain { .. } => {
                host.refused.insert(route.toolchain);
                self.recheck_all = true;
            }
            Failure::Deadline => {
                let expected = self.estimates.expect(route.task);
                let ratio = self.now.since(attempt.sent).as_secs_f64() / expected.likely;
                host.speed.learn_overdue(ratio, expected.noise);
            }
            Failure::Unable { .. }
            | Failure::NoTexts { .. }
            | Failure::Refused { .. }
            | Failure::Unpreparable { .. } => {}
        }
    }

    /// Says once per spell of trouble that a host is left alone.
    fn tell_backed_off(&mut self, number: usize, wait: Duration, why: &str, actions: &mut Vec<Action>) {
        let host = &mut self.hosts[number];
        if !host.told {
            host.told = true;
            actions.push(Action::BackedOff { host: host.id, wait, why: why.to_owned() });
        }
    }
}
