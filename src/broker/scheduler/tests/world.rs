//! A world under virtual time: volunteers, builds and their troubles, driven by the scheduler's actions.
//!
//! The world knows what it did, so it notices when the scheduler asks for what must not be.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::cast::{Build, Volunteer};
use crate::broker::scheduler::Scheduler;
use crate::broker::scheduler::api::*;
use crate::broker::scheduler::config::Config;
use crate::broker::scheduler::rng::Rng;
use crate::common::reason::LocalReason;

#[derive(Clone, Debug)]
pub(super) enum Due {
    Arrive(usize),
    Prepared(JobId),
    Ends(JobId, HostId, u64, End),
    Taken(JobId),
    LeaseBack(JobId),
    ShimGoes(JobId),
    Connected(HostId, u64),
    Flips(HostId),
    Holds(HostId, Hold),
    Drain,
}

#[derive(Clone, Debug)]
pub(super) enum End {
    Answer(Duration),
    Fails(Failure),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Truth {
    pub(super) build: usize,
    pub(super) link: bool,
    pub(super) takes: Duration,
    pub(super) preparing: bool,
    pub(super) attempts: BTreeMap<HostId, u64>,
    pub(super) tried: BTreeSet<HostId>,
    pub(super) answered: BTreeSet<HostId>,
    pub(super) taking: bool,
    pub(super) local: Option<&'static str>,
    pub(super) over: bool,
}

#[derive(Debug)]
pub(super) struct Machine {
    pub(super) is: Volunteer,
    pub(super) linked: bool,
    pub(super) connecting: bool,
    pub(super) asked: Option<Moment>,
    pub(super) flips: u64,
    pub(super) hold: Hold,
    pub(super) used: u32,
}

/// What is printed of a failing run.
#[derive(Debug)]
#[expect(dead_code, reason = "read by Debug alone")]
enum Note {
    Event(Moment, Event),
    Action(Action),
}

pub struct World {
    pub scheduler: Scheduler,
    pub(super) seed: u64,
    pub(super) rng: Rng,
    pub now: Moment,
    pub(super) serial: u64,
    pub(super) due: BTreeMap<(Moment, u64), Due>,
    pub(super) machines: Vec<Machine>,
    pub(super) builds: Vec<Build>,
    pub(super) arrived: Vec<u32>,
    pub(super) jobs: BTreeMap<JobId, Truth>,
    pub(super) here: BTreeMap<&'static str, u32>,
    log: VecDeque<Note>,
    pub sends: u64,
    pub(super) unfinished: u32,
    pub check_all: bool,
}

impl World {
    pub fn new(seed: u64, volunteers: Vec<Volunteer>, builds: Vec<Build>) -> World {
        let machine = |is| Machine {
            is,
            linked: false,
            connecting: false,
            asked: None,
            flips: 0,
            hold: Hold::Free,
            used: 0,
        };
        let mut world = World {
            scheduler: Scheduler::new(Config::default(), seed),
            seed,
            rng: Rng::new(seed ^ 0xD157_CC00),
            now: Moment(1),
            serial: 0,
            due: BTreeMap::new(),
            machines: volunteers.into_iter().map(machine).collect(),
            arrived: vec![0; builds.len()],
            builds,
            jobs: BTreeMap::new(),
            here: BTreeMap::new(),
            log: VecDeque::new(),
            sends: 0,
            unfinished: 0,
            check_all: true,
        };
        for build in 0..world.builds.len() {
            for _ in 0..world.builds[build].outstanding.min(world.builds[build].jobs) {
                world.later(Duration::from_micros(100), Due::Arrive(build));
            }
        }
        for number in 0..world.machines.len() {
            if let Some((lives, _)) = world.machines[number].is.flaps {
                world.later(lives, Due::Flips(HostId(number as u32)));
            }
        }
        world
    }

    pub fn drain_after(&mut self, wait: Duration) {
        self.later(wait, Due::Drain);
    }

    pub fn hold_after(&mut self, wait: Duration, host: HostId, hold: Hold) {
        self.later(wait, Due::Holds(host, hold));
    }

    /// Runs until nothing is left to happen; returns when the last job ended.
    pub fn run(&mut self) -> Duration {
        let mut steps = 0;
        let mut last = Moment(0);
        while let Some(tick) = self.step() {
            steps += 1;
            self.ensure(steps < 400_000, "the world never comes to rest");
            if !tick {
                last = self.now;
            }
            if self.all_over() {
                break;
            }
        }
        self.ensure(self.all_over(), "a job waits for ever");
        let left = self.scheduler.snapshot(self.now);
        self.ensure(left.jobs.is_empty(), "the scheduler still has jobs");
        self.ensure(left.in_use == Default::default(), "local slots are still in use");
        self.ensure(left.hosts.iter().all(|host| host.used == 0), "hosts still hold jobs");
        last.since(Moment(1))
    }

    /// Runs until one build is over; returns when that was.
    pub fn run_until_build_is_over(&mut self, build: usize) -> Duration {
        let over = |world: &World| {
            let mut jobs = world.jobs.values().filter(|job| job.build == build);
            world.arrived[build] >= world.builds[build].jobs && jobs.all(|job| job.over)
        };
        while !over(self) {
            let stepped = self.step();
            self.ensure(stepped.is_some(), "a job waits for ever");
        }
        self.now.since(Moment(1))
    }

    fn all_over(&self) -> bool {
        let arrived = self.builds.iter().zip(&self.arrived).all(|(build, arrived)| *arrived >= build.jobs);
        arrived && self.unfinished == 0
    }

    /// The next thing happens; says whether it was only time.
    fn step(&mut self) -> Option<bool> {
        let next = self.due.first_key_value().map(|((at, _), _)| *at);
        let tick = self.scheduler.poll_timeout();
        if let Some(at) = tick.filter(|at| next.is_none_or(|next| *at < next)) {
            self.now = self.now.max(at);
            self.feed(Event::Tick);
            let again = self.scheduler.poll_timeout();
            self.ensure(again.is_none_or(|again| again > self.now), "a tick changes nothing");
            return Some(true);
        }
        let ((at, _), due) = self.due.pop_first()?;
        self.now = self.now.max(at);
        self.happen(due);
        Some(false)
    }

    pub(super) fn later(&mut self, wait: Duration, due: Due) {
        self.serial += 1;
        self.due.insert((self.now + wait, self.serial), due);
    }

    pub(super) fn ensure(&self, holds: bool, what: &str) {
        if !holds {
            let log: Vec<String> = self.log.iter().map(|note| format!("{note:?}")).collect();
            panic!("seed {}: {what}, at {} us; before:\n{}", self.seed, self.now.0, log.join("\n"));
        }
    }

    fn note(&mut self, what: Note) {
        if self.log.len() >= 60 {
            self.log.pop_front();
        }
        self.log.push_back(what);
    }

    pub fn feed(&mut self, event: Event) {
        self.note(Note::Event(self.now, event.clone()));
        let mut actions = Vec::new();
        self.scheduler.handle(self.now, event, &mut actions);
        for action in actions {
            self.note(Note::Action(action.clone()));
            self.act(action);
        }
        if self.check_all {
            let checked = self.scheduler.check_invariants();
            self.ensure(checked.is_ok(), checked.as_ref().err().map_or("", String::as_str));
        }
    }

    pub(super) fn chance(&mut self, per_mille: u64) -> bool {
        self.rng.below(1000) < per_mille
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Arrive(build) => self.arrive(build),
            Due::Prepared(job) => self.prepared(job),
            Due::Ends(job, host, serial, end) => self.ends(job, host, serial, end),
            Due::Taken(job) => self.taken(job),
            Due::LeaseBack(job) => self.lease_back(job),
            Due::ShimGoes(job) => self.shim_goes(job),
            Due::Connected(host, flips) => self.connected(host, flips),
            Due::Flips(host) => self.flips(host),
            Due::Holds(host, hold) => self.holds(host, hold),
            Due::Drain => self.feed(Event::Drain),
        }
    }

    fn arrive(&mut self, number: usize) {
        let build = self.builds[number].clone();
        self.arrived[number] += 1;
        self.unfinished += 1;
        let job = JobId(self.jobs.len() as u64 + 1);
        let spread = self.rng.below(build.spread.max(1)) as u32;
        let takes = build.takes + build.takes * spread;
        let link = self.chance(build.links);
        self.jobs.insert(job, Truth { build: number, link, takes, ..Truth::default() });
        if self.chance(build.goes) {
            let wait = Duration::from_millis(self.rng.below(3000));
            self.later(wait, Due::ShimGoes(job));
        }
        let id = BuildId(number as u32);
        let event = if link {
            Event::ArrivedLocal { job, build: id, local: build.local, reason: LocalReason::NotACompile }
        } else {
            Event::Arrived(RemoteArrival {
                job,
                build: id,
                hosts: Arc::from(build.hosts),
                local: build.local,
                task: TaskKey(u64::from(self.arrived[number]) % 40 + 1000 * number as u64),
                toolchain: build.toolchain,
                fallback: build.fallback,
                backoff: None,
            })
        };
        self.feed(event);
    }

    fn prepared(&mut self, job: JobId) {
        let truth = &self.jobs[&job];
        if truth.over || !truth.preparing {
            return;
        }
        let troubles = self.builds[truth.build].troubles;
        self.truth(job).preparing = false;
        if self.chance(troubles) {
            self.feed(Event::Unpreparable { job, reason: LocalReason::PreprocessorFailed });
        } else if self.chance(troubles) {
            self.over(job);
            self.feed(Event::Found { job });
        } else {
            self.feed(Event::Prepared { job });
        }
    }

    fn ends(&mut self, job: JobId, host: HostId, serial: u64, end: End) {
        let live = self.jobs[&job].attempts.get(&host) == Some(&serial);
        // A cancelled attempt's answer may be on its way already: now and then it is heard.
        if !live && (self.jobs[&job].attempts.contains_key(&host) || !self.chance(100)) {
            return;
        }
        if live {
            self.truth(job).attempts.remove(&host);
            self.machine(host).used -= 1;
        }
        match end {
            End::Answer(compile) => {
                if live {
                    self.truth(job).answered.insert(host);
                }
                self.feed(Event::Answered { job, host, compile });
            }
            End::Fails(failure) => self.fail(job, host, failure, live),
        }
    }

    fn fail(&mut self, job: JobId, host: HostId, failure: Failure, live: bool) {
        if live && !matches!(failure, Failure::Overloaded { .. }) {
            self.truth(job).tried.insert(host);
        }
        self.feed(Event::Failed { job, host, failure });
    }

    fn taken(&mut self, job: JobId) {
        let truth = &self.jobs[&job];
        if truth.over {
            return;
        }
        let troubles = self.builds[truth.build].troubles;
        self.truth(job).taking = false;
        if self.chance(troubles) {
            self.feed(Event::Unusable { job, reason: LocalReason::RemoteDiagnostics });
        } else {
            self.over(job);
            self.feed(Event::Delivered { job });
        }
    }

    fn lease_back(&mut self, job: JobId) {
        if let Some(kind) = self.jobs[&job].local {
            self.truth(job).local = None;
            *self.here.entry(kind).or_default() -= 1;
            self.over(job);
            self.feed(Event::LeaseReturned { job });
        }
    }

    fn shim_goes(&mut self, job: JobId) {
        if self.jobs[&job].over {
            return;
        }
        if let Some(kind) = self.truth(job).local.take() {
            *self.here.entry(kind).or_default() -= 1;
        }
        let had = self.jobs[&job].attempts.clone();
        self.feed(Event::ShimGone { job });
        self.ensure(self.jobs[&job].attempts.is_empty(), &format!("{job:?} is gone but runs on {had:?}"));
        self.ensure(!self.jobs[&job].preparing, &format!("{job:?} is gone but is being prepared"));
        self.over(job);
    }

    /// A job is answered or abandoned exactly once; its build brings the next one.
    pub(super) fn over(&mut self, job: JobId) {
        self.ensure(!self.jobs[&job].over, &format!("{job:?} ends twice"));
        self.truth(job).over = true;
        self.unfinished -= 1;
        let build = self.jobs[&job].build;
        let queued = self.due.values().filter(|due| matches!(due, Due::Arrive(number) if *number == build));
        if self.arrived[build] + (queued.count() as u32) < self.builds[build].jobs {
            self.later(Duration::from_millis(1), Due::Arrive(build));
        }
    }

    fn connected(&mut self, host: HostId, flips: u64) {
        let machine = self.machine(host);
        machine.connecting = false;
        if machine.is.alive && machine.flips == flips {
            machine.linked = true;
            let credit = machine.is.credit;
            if let Some(jobs) = credit {
                self.feed(Event::Credit { host, jobs });
            }
            self.feed(Event::HostUp { host });
        } else {
            self.feed(Event::HostDown {
                host,
                lost: Lost { why: "connection refused".to_owned(), nobody_home: true },
            });
        }
    }

    fn flips(&mut self, host: HostId) {
        if self.all_over() {
            return;
        }
        let machine = self.machine(host);
        machine.flips += 1;
        machine.is.alive = !machine.is.alive;
        let (alive, linked, flaps) = (machine.is.alive, machine.linked, machine.is.flaps);
        if let Some((lives, dead)) = flaps {
            self.later(if alive { lives } else { dead }, Due::Flips(host));
        }
        if alive || !linked {
            return;
        }
        for job in self.on_host(host) {
            // A report may itself have moved the job; only what is still there is reported.
            if self.truth(job).attempts.remove(&host).is_some() {
                self.machine(host).used -= 1;
                self.fail(job, host, Failure::Host { why: "connection lost".to_owned() }, true);
            }
        }
        // What was sent there meanwhile is lost too, and nobody reports it.
        for job in self.on_host(host) {
            let truth = self.truth(job);
            truth.attempts.remove(&host);
            truth.tried.insert(host);
            self.machine(host).used -= 1;
        }
        self.machine(host).linked = false;
        self.feed(Event::HostDown { host, lost: "connection lost".to_owned().into() });
    }

    fn holds(&mut self, host: HostId, hold: Hold) {
        let machine = self.machine(host);
        if machine.hold != Hold::Distrusted {
            machine.hold = hold;
            if hold == Hold::Free {
                // Its user says that it is well: it may be tried at once.
                machine.asked = None;
            }
        }
        let is = machine.hold;
        self.feed(Event::Hold { host, hold });
        let left = self.on_host(host);
        let emptied = matches!(is, Hold::Excluded | Hold::Distrusted);
        self.ensure(!emptied || left.is_empty(), &format!("{host:?} is {is:?} and has {left:?}"));
        self.ensure(self.scheduler.hold_of(host) == is, &format!("{host:?} is not {is:?}"));
    }

    fn on_host(&self, host: HostId) -> Vec<JobId> {
        let there = self.jobs.iter().filter(|(_, truth)| truth.attempts.contains_key(&host));
        there.map(|(job, _)| *job).collect()
    }

    pub(super) fn truth(&mut self, job: JobId) -> &mut Truth {
        self.jobs.get_mut(&job).expect("the scheduler speaks only of jobs that arrived")
    }

    pub(super) fn machine(&mut self, host: HostId) -> &mut Machine {
        &mut self.machines[host.0 as usize]
    }
}
