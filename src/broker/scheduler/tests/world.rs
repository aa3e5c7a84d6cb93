//! A world under virtual time: volunteers, builds and their troubles, driven by the scheduler's actions.
//!
//! The world knows what it did, so it notices when the scheduler asks for what must not be.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::broker::scheduler::Scheduler;
use crate::broker::scheduler::api::*;
use crate::broker::scheduler::config::Config;
use crate::broker::scheduler::rng::Rng;
use crate::common::reason::LocalReason;

/// How a volunteer is.
#[derive(Clone, Debug)]
pub struct Volunteer {
    /// How many times longer than normal it takes.
    pub slowness: f64,
    /// What it really holds; more is turned away.
    pub holds: u32,
    /// What it says it holds; nothing for one of the classic kind.
    pub credit: Option<u32>,
    /// Per mille of attempts that fail by its fault.
    pub fails: u64,
    /// Per mille of attempts that are never answered.
    pub silent: u64,
    /// A toolchain it has not.
    pub lacks: Option<ToolchainId>,
    /// How long it lives and how long it is dead, in turn.
    pub flaps: Option<(Duration, Duration)>,
    /// Whether it can be reached at first.
    pub alive: bool,
    /// How long a connection takes; longer than anyone waits when packets are swallowed.
    pub connects_in: Duration,
}

impl Volunteer {
    pub fn good(slots: u32) -> Volunteer {
        Volunteer {
            slowness: 1.0,
            holds: slots,
            credit: Some(slots),
            fails: 0,
            silent: 0,
            lacks: None,
            flaps: None,
            alive: true,
            connects_in: Duration::from_millis(2),
        }
    }
}

/// A closed loop: `outstanding` jobs at any time until `jobs` are done.
#[derive(Clone, Debug)]
pub struct Build {
    pub outstanding: u32,
    pub jobs: u32,
    pub hosts: Vec<HostUse>,
    pub local: LocalSlots,
    pub fallback: bool,
    pub toolchain: ToolchainId,
    /// Per mille of jobs that are links, give up their shim, cannot be prepared, or have unusable answers.
    pub links: u64,
    pub goes: u64,
    pub troubles: u64,
    /// What a normal compile takes, and how many times longer the longest may.
    pub takes: Duration,
    pub spread: u64,
}

#[derive(Clone, Debug)]
enum Due {
    Arrive(usize),
    Prepared(JobId),
    Ends(JobId, HostId, u64, End),
    Taken(JobId),
    LeaseBack(JobId),
    ShimGoes(JobId),
    Connected(HostId, u64),
    Flips(HostId),
    Drain,
}

#[derive(Clone, Debug)]
enum End {
    Answer(Duration),
    Fails(Failure),
}

#[derive(Clone, Debug, Default)]
struct Truth {
    build: usize,
    link: bool,
    takes: Duration,
    preparing: bool,
    attempts: BTreeMap<HostId, u64>,
    tried: BTreeSet<HostId>,
    answered: BTreeSet<HostId>,
    taking: bool,
    local: Option<&'static str>,
    over: bool,
}

#[derive(Debug)]
struct Machine {
    is: Volunteer,
    linked: bool,
    connecting: bool,
    asked: Option<Moment>,
    flips: u64,
    used: u32,
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
    seed: u64,
    rng: Rng,
    pub now: Moment,
    serial: u64,
    due: BTreeMap<(Moment, u64), Due>,
    machines: Vec<Machine>,
    builds: Vec<Build>,
    arrived: Vec<u32>,
    jobs: BTreeMap<JobId, Truth>,
    here: BTreeMap<&'static str, u32>,
    log: VecDeque<Note>,
    pub sends: u64,
    unfinished: u32,
    pub check_all: bool,
}

impl World {
    pub fn new(seed: u64, volunteers: Vec<Volunteer>, builds: Vec<Build>) -> World {
        let machine = |is| Machine { is, linked: false, connecting: false, asked: None, flips: 0, used: 0 };
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

    fn later(&mut self, wait: Duration, due: Due) {
        self.serial += 1;
        self.due.insert((self.now + wait, self.serial), due);
    }

    fn ensure(&self, holds: bool, what: &str) {
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

    fn chance(&mut self, per_mille: u64) -> bool {
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
    fn over(&mut self, job: JobId) {
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
            self.feed(Event::HostDown { host, why: "connection refused".to_owned() });
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
        self.feed(Event::HostDown { host, why: "connection lost".to_owned() });
    }

    fn on_host(&self, host: HostId) -> Vec<JobId> {
        let there = self.jobs.iter().filter(|(_, truth)| truth.attempts.contains_key(&host));
        there.map(|(job, _)| *job).collect()
    }

    fn act(&mut self, action: Action) {
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

    fn truth(&mut self, job: JobId) -> &mut Truth {
        self.jobs.get_mut(&job).expect("the scheduler speaks only of jobs that arrived")
    }

    fn machine(&mut self, host: HostId) -> &mut Machine {
        &mut self.machines[host.0 as usize]
    }
}

/// Every volunteer, with as many slots as it says.
pub fn all(volunteers: &[Volunteer]) -> Vec<HostUse> {
    let seat = |(number, is): (usize, &Volunteer)| HostUse { host: HostId(number as u32), slots: is.holds };
    volunteers.iter().enumerate().map(seat).collect()
}

/// A plain build of `jobs` alike compiles of one second.
pub fn build(outstanding: u32, jobs: u32, hosts: Vec<HostUse>) -> Build {
    Build {
        outstanding,
        jobs,
        hosts,
        local: LocalSlots { preprocess: 4, compile: 4, link: 2, listed: 0 },
        fallback: true,
        toolchain: ToolchainId(1),
        links: 0,
        goes: 0,
        troubles: 0,
        takes: Duration::from_secs(1),
        spread: 1,
    }
}
