//! Short ways to tell a scheduler what happened, and to say what it did.

use std::sync::Arc;
use std::time::Duration;

use crate::broker::scheduler::Scheduler;
use crate::broker::scheduler::api::*;
use crate::broker::scheduler::config::Config;

/// A scheduler, the time, and short ways to say things. Actions are compared as short words.
pub struct Rig {
    pub scheduler: Scheduler,
    pub now: u64,
    next: u64,
    pub hosts: Vec<HostUse>,
    pub local: LocalSlots,
    pub fallback: bool,
    pub build: u32,
    pub task: Option<u64>,
}

pub const LOCAL: LocalSlots = LocalSlots { preprocess: 4, compile: 2, link: 1, listed: 0 };

impl Rig {
    /// Hosts 0, 1, … of so many slots, not yet connected.
    pub fn new(slots: &[u32]) -> Rig {
        let seat = |(number, slots): (usize, &u32)| HostUse { host: HostId(number as u32), slots: *slots };
        Rig {
            scheduler: Scheduler::new(Config::default(), 1),
            now: 0,
            next: 1,
            hosts: slots.iter().enumerate().map(seat).collect(),
            local: LOCAL,
            fallback: true,
            build: 1,
            task: None,
        }
    }

    /// The same, connected.
    pub fn up(slots: &[u32]) -> Rig {
        let mut rig = Rig::new(slots);
        for host in 0..slots.len() as u32 {
            rig.on(Event::HostUp { host: HostId(host) });
        }
        rig
    }

    pub fn on(&mut self, event: Event) -> String {
        let mut actions = Vec::new();
        self.scheduler.handle(Moment(self.now), event, &mut actions);
        if let Err(what) = self.scheduler.check_invariants() {
            panic!("{what}");
        }
        actions.iter().map(say).collect::<Vec<_>>().join(", ")
    }

    pub fn wait(&mut self, time: Duration) -> String {
        let end = self.now + time.as_micros() as u64;
        let mut said = Vec::new();
        while let Some(at) = self.scheduler.poll_timeout().filter(|at| at.0 <= end) {
            self.now = self.now.max(at.0);
            said.push(self.on(Event::Tick));
        }
        self.now = end;
        said.retain(|words| !words.is_empty());
        said.join(", ")
    }

    pub fn arrives(&mut self) -> String {
        let job = JobId(self.next);
        self.next += 1;
        self.on(Event::Arrived(RemoteArrival {
            job,
            build: BuildId(self.build),
            hosts: Arc::from(self.hosts.clone()),
            local: self.local,
            task: TaskKey(self.task.unwrap_or(job.0)),
            toolchain: ToolchainId(1),
            fallback: self.fallback,
            backoff: None,
        }))
    }

    pub fn prepared(&mut self, job: u64) -> String {
        self.on(Event::Prepared { job: JobId(job) })
    }

    pub fn ready(&mut self) -> String {
        let job = self.next;
        assert_eq!(self.arrives(), format!("prepare {job}"));
        self.prepared(job)
    }

    pub fn answered(&mut self, job: u64, host: u32) -> String {
        let compile = Duration::from_secs(60);
        self.on(Event::Answered { job: JobId(job), host: HostId(host), compile })
    }

    pub fn delivered(&mut self, job: u64) -> String {
        self.on(Event::Delivered { job: JobId(job) })
    }

    pub fn fails(&mut self, job: u64, host: u32, failure: Failure) -> String {
        self.on(Event::Failed { job: JobId(job), host: HostId(host), failure })
    }

    pub fn goes_down(&mut self, host: u32) -> String {
        self.on(Event::HostDown { host: HostId(host), lost: "gone".to_owned().into() })
    }

    pub fn is_not_there(&mut self, host: u32) -> String {
        let lost = Lost { why: "refused".to_owned(), nobody_home: true };
        self.on(Event::HostDown { host: HostId(host), lost })
    }

    pub fn returns(&mut self, job: u64) -> String {
        self.on(Event::LeaseReturned { job: JobId(job) })
    }

    pub fn local_count(&self, key: &str) -> u64 {
        self.scheduler.snapshot(Moment(self.now)).totals.local.get(key).copied().unwrap_or(0)
    }
}

fn say(action: &Action) -> String {
    match action {
        Action::Prepare { job } => format!("prepare {}", job.0),
        Action::Send { job, host, .. } => format!("send {} to {}", job.0, host.0),
        Action::Cancel { job, host } => format!("cancel {} on {}", job.0, host.0),
        Action::CancelPrepare { job } => format!("stop preparing {}", job.0),
        Action::Take { job, host } => format!("take {} of {}", job.0, host.0),
        Action::RunLocally { job, reason } => format!("run {}: {}", job.0, reason.key()),
        Action::Forbid { job, reason } => format!("forbid {}: {}", job.0, reason.key()),
        Action::Connect { host } => format!("connect {}", host.0),
        Action::BackedOff { host, .. } => format!("{} is backed off", host.0),
    }
}
