//! What a world does when the scheduler asks for something, and what it will not do.

use std::time::Duration;

use super::world::{Due, End, World};
use crate::broker::scheduler::api::*;
use crate::common::reason::LocalReason;

impl World {
    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Prepare { job } => {
                self.ensure(self.idle(job) && !self.jobs[&job].link, "prepares what is not idle");
                self.truth(job).preparing = true;
                let wait = Duration::from_millis(5 + self.rng.below(60));
                self.later(wait, Due::Prepared(job));
            }
            Action::CancelPrepare { job } => {
                self.ensure(self.jobs[&job].preparing, "cancels a preparation that is not");
                self.truth(job).preparing = false;
            }
            Action::Send { job, host, deadline } => self.send(job, host, deadline),
            Action::Cancel { job, host } => {
                let was = self.truth(job).attempts.remove(&host);
                self.ensure(was.is_some(), "cancels what is not there");
                self.machine(host).used -= 1;
            }
            Action::Take { job, host } => {
                let good = self.jobs[&job].answered.contains(&host) && self.jobs[&job].attempts.is_empty();
                self.ensure(good && self.idle(job), "takes an answer that is not the only one");
                self.truth(job).taking = true;
                self.later(Duration::from_millis(1), Due::Taken(job));
            }
            Action::RunLocally { job, reason } => self.run_here(job, &reason),
            Action::Forbid { job, .. } => {
                self.ensure(!self.builds[self.jobs[&job].build].fallback, "forbids what may run here");
                self.ensure(self.idle(job), "forbids what is not idle");
                self.over(job);
            }
            Action::Connect { host } => self.connect(host),
            Action::BackedOff { wait, .. } => {
                self.ensure(wait <= Duration::from_secs(60), "backs off for more than a minute");
            }
        }
    }

    fn idle(&self, job: JobId) -> bool {
        let truth = &self.jobs[&job];
        !truth.over && !truth.preparing && !truth.taking && truth.attempts.is_empty() && truth.local.is_none()
    }

    fn send(&mut self, job: JobId, host: HostId, deadline: Duration) {
        self.sends += 1;
        let truth = &self.jobs[&job];
        let build = &self.builds[truth.build];
        self.ensure(!truth.over && !truth.preparing && truth.local.is_none(), "sends what is elsewhere");
        self.ensure(truth.attempts.len() < 2, "sends a third copy");
        self.ensure(!truth.tried.contains(&host), "tries a host twice");
        let listed: u32 = build.hosts.iter().filter(|seat| seat.host == host).map(|seat| seat.slots).sum();
        let (toolchain, takes) = (build.toolchain, truth.takes);
        let machine = &self.machines[host.0 as usize];
        self.ensure(machine.linked, "sends to a host that is not there");
        self.ensure(machine.hold == Hold::Free, "sends to a host that is held");
        let slots = listed.min(machine.is.credit.unwrap_or(u32::MAX));
        self.ensure(machine.used < slots, "a host holds more than its slots");
        let (is, crowded) = (machine.is.clone(), machine.used >= machine.is.holds);
        let why = String::new;
        let noise = 0.9 + self.rng.below(200) as f64 / 1000.0;
        let compile = takes.mul_f64(is.slowness * noise);
        let soon = Duration::from_millis(1);
        let (wait, end) = if is.lacks == Some(toolchain) {
            (soon, End::Fails(Failure::NoToolchain { why: why() }))
        } else if crowded {
            (soon, End::Fails(Failure::Overloaded { why: why() }))
        } else if self.chance(is.silent) || compile >= deadline {
            (deadline, End::Fails(Failure::Deadline))
        } else if self.chance(is.fails) {
            (compile / 2, End::Fails(Failure::Host { why: "nonsense".to_owned() }))
        } else {
            (compile + soon, End::Answer(compile))
        };
        self.machine(host).used += 1;
        let serial = self.serial + 1;
        self.truth(job).attempts.insert(host, serial);
        self.later(wait, Due::Ends(job, host, serial, end));
    }

    fn run_here(&mut self, job: JobId, reason: &LocalReason) {
        self.ensure(self.idle(job), "runs here what is not idle");
        let truth = &self.jobs[&job];
        let local = self.builds[truth.build].local;
        let (kind, limit) = match reason {
            _ if truth.link => ("link", local.link),
            LocalReason::LocalhostListed => ("listed", local.listed),
            _ => ("compile", local.compile),
        };
        let used = self.here.get(kind).copied().unwrap_or(0);
        self.ensure(used < limit, &format!("{used} of {limit} {kind} slots are in use already"));
        let takes = truth.takes;
        *self.here.entry(kind).or_default() += 1;
        self.truth(job).local = Some(kind);
        self.later(takes, Due::LeaseBack(job));
    }

    fn connect(&mut self, host: HostId) {
        let now = self.now;
        let machine = self.machine(host);
        let idle = !machine.linked && !machine.connecting;
        let paced = machine.asked.is_none_or(|asked| now.since(asked) >= Duration::from_secs(1));
        machine.connecting = true;
        machine.asked = Some(now);
        let (wait, flips) = (machine.is.connects_in, machine.flips);
        self.ensure(idle, "connects what is connected");
        self.ensure(paced, "connects more than once in a second");
        self.later(wait, Due::Connected(host, flips));
    }
}
