//! The broker's one event loop: turns everything that happens into events for the scheduler, and
//! its actions into commands for sessions and links. It decides nothing itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::alarm::Alarm;
use super::clock::{Clock, Timer};
use super::config::Config;
use super::effort::Effort;
use super::hermetic::Hermetic;
use super::history::History;
use super::history::record::Record;
use super::host_lists::NO_ZEROCONF;
use super::link::connection::{self, LinkEvent, Reporter, Surroundings};
use super::notices::Notices;
use super::scheduler::Scheduler;
use super::scheduler::api::{
    Action, BuildId, Event, Failure, Hold, HostId, HostUse, JobId, LocalSlots, Moment, RemoteArrival,
    TaskKey, ToolchainId,
};
use super::state::phases::StateFiles;
use super::state::slots::{self, SlotFiles, SlotLease};
use super::trace::live::{self, Traces, Wish};
use super::trust::Trust;
use super::volunteers::Volunteers;
use crate::common::bytes::Bytes;
use crate::common::exit;
use crate::common::hosts::HostList;
use crate::common::protocol::local::Attempted;
use crate::common::reason::LocalReason;
use crate::common::toolchain::Digest;

mod messages;
mod report;

pub use messages::{About, Command, Held, Message, NewJob, Whither};

/// Slots of this machine that have files; distcc 3.4 stops there, too.
const LOCAL_SLOTS_MAX: u32 = 10_000;

struct Job {
    build: BuildId,
    about: About,
    commands: mpsc::Sender<Command>,
    /// Where it may go.
    uses: HostUses,
    /// What it needs, if it may leave.
    toolchain: Option<(ToolchainId, Digest)>,
    /// The slot here that its compiler has.
    here: Option<SlotLease>,
}

/// Owns the scheduler and all that is known of jobs and hosts.
pub struct Dispatcher {
    config: Arc<Config>,
    clock: Clock,
    hermetic: Arc<Hermetic>,
    trust: Arc<Trust>,
    scheduler: Scheduler,
    jobs: HashMap<JobId, Job>,
    volunteers: Volunteers,
    toolchains: HashMap<Digest, ToolchainId>,
    notices: Notices,
    history: History,
    traces: Traces,
    alarm: Alarm,
    effort: Effort,
    /// Where attempts on all links get their numbers, from a random one on.
    numbers: Arc<AtomicU32>,
    slots: SlotFiles,
    states: StateFiles,
    links: JoinSet<()>,
    link_events: mpsc::Sender<(HostId, LinkEvent)>,
}

impl Dispatcher {
    /// A dispatcher with nothing to do, and where its links' events come from.
    pub fn new(
        config: Arc<Config>,
        clock: Clock,
        hermetic: Arc<Hermetic>,
        trust: Arc<Trust>,
    ) -> (Self, mpsc::Receiver<(HostId, LinkEvent)>) {
        let (link_events, receiver) = mpsc::channel(1024);
        let dispatcher = Dispatcher {
            scheduler: Scheduler::new(config.scheduler.clone(), config.seed),
            clock,
            hermetic,
            trust,
            jobs: HashMap::new(),
            volunteers: Volunteers::new(config.seed),
            toolchains: HashMap::new(),
            notices: Notices::default(),
            history: History::default(),
            traces: Traces::default(),
            alarm: Alarm::default(),
            effort: Effort::default(),
            numbers: Arc::new(AtomicU32::new(config.seed as u32)),
            slots: SlotFiles::open(config.state.as_deref(), config.umask),
            states: StateFiles::open(config.state.as_deref(), config.umask),
            links: JoinSet::new(),
            link_events,
            config,
        };
        (dispatcher, receiver)
    }

    /// Runs until every sender of messages is gone.
    pub async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Message>,
        mut link_events: mpsc::Receiver<(HostId, LinkEvent)>,
    ) {
        let mut trace = interval(live::INTERVAL);
        trace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut wake, mut look) = (Timer::off(), Timer::off());
        loop {
            wake.set(self.scheduler.poll_timeout().map(|moment| self.clock.instant(moment)));
            look.set(self.states.due().map(Instant::from_std));
            tokio::select! {
                message = inbox.recv() => match message {
                    Some(message) => self.on_message(message),
                    None => return,
                },
                Some((host, event)) = link_events.recv() => self.on_link(host, event),
                Some(_) = self.links.join_next() => {}
                () = look.wait() => self.show_states(),
                _ = trace.tick(), if !self.traces.is_empty() => self.write_traces(),
                () = wake.wait() => self.handle(Event::Tick),
            }
        }
    }

    fn on_message(&mut self, message: Message) {
        match message {
            Message::Job(new) => self.on_job(*new),
            Message::Event(event) => self.handle(event),
            Message::Answered { job, host, compile, note } => {
                self.history.note(job, host, note);
                if let Some((toolchain, digest)) = self.jobs.get(&job).and_then(|job| job.toolchain) {
                    self.volunteers.knows(host, toolchain, digest);
                }
                self.handle(Event::Answered { job, host, compile });
            }
            Message::Delivered { job, reply } => {
                let warning =
                    self.jobs.get(&job).map(|job| (job.build, job.about.pid)).map(|(build, pid)| {
                        self.effort.shim(pid);
                        self.alarm.elsewhere(self.clock.now());
                        self.notices.take(build)
                    });
                // A session that is gone needs no warning.
                let _ = reply.send(warning.unwrap_or_default());
                self.handle(Event::Delivered { job });
            }
            Message::Status(reply) => {
                let _ = reply.send(self.report());
            }
            Message::Hold { host, hold, reply } => drop(reply.send(self.hold(&host, hold))),
            Message::Timeline(reply) => drop(reply.send(self.timeline())),
            Message::TraceBegin(path) => self.traces.begin(&path),
            Message::TraceEnd(path, reply) => {
                self.traces.end(self.clock.now(), &path, reply);
                self.write_traces();
            }
            Message::Quarantine { host, report } => self.quarantine(host, &report),
            Message::Drain => self.handle(Event::Drain),
        }
    }

    /// Holds all hosts of this name, or lets them go: the same address may be listed in several ways.
    fn hold(&mut self, name: &str, hold: Hold) -> Held {
        let found = self.volunteers.find(name);
        let Some(name) = found.first().map(|host| self.volunteers.name(*host).to_string()) else {
            return Held::Unknown;
        };
        let distrusted = found.iter().any(|host| self.scheduler.hold_of(*host) == Hold::Distrusted);
        for host in found {
            self.handle(Event::Hold { host, hold });
        }
        if distrusted { Held::Distrusted(name) } else { Held::Done(name) }
    }

    /// Sends no more jobs to a host that was caught lying, and tells everybody.
    fn quarantine(&mut self, host: HostId, report: &str) {
        let name = self.volunteers.name(host);
        tracing::error!(host = %name, report, "a volunteer sent another object than this machine makes");
        let text = format!(
            "Warning: volunteer {name} sent another object than this machine makes; it is used no more. Report: {report}"
        );
        self.notices.tell_all(&format!("quarantine {name}"), &text);
        self.handle(Event::Hold { host, hold: Hold::Distrusted });
    }

    fn on_job(&mut self, new: NewJob) {
        let NewJob { job, build, about, commands, whither, trace } = new;
        self.notices.seen(self.clock.now(), build);
        let (mut uses, mut needs) = (HostUses::default(), None);
        let event = match whither {
            Whither::Remote { hosts, ssh, toolchain, task, settings } => {
                self.warn_of_list(build, &hosts);
                uses = self.volunteers.intern(&hosts, ssh.as_ref());
                needs = Some((self.toolchain(toolchain), toolchain));
                Event::Arrived(RemoteArrival {
                    job,
                    build,
                    local: self.local_slots(Some(&hosts)),
                    hosts: uses.clone(),
                    task,
                    toolchain: self.toolchain(toolchain),
                    fallback: settings.fallback,
                    backoff: settings.backoff,
                })
            }
            Whither::Local { hosts, reason, forbidden: true } => {
                self.notices.hint(build, &reason);
                // A job without any host to go to.
                Event::Arrived(RemoteArrival {
                    job,
                    build,
                    local: self.local_slots(hosts.as_deref()),
                    hosts: uses.clone(),
                    task: TaskKey(0),
                    toolchain: self.toolchain(Digest([0; 32])),
                    fallback: false,
                    backoff: None,
                })
            }
            Whither::Local { hosts, reason, forbidden: false } => {
                self.notices.hint(build, &reason);
                Event::ArrivedLocal { job, build, local: self.local_slots(hosts.as_deref()), reason }
            }
        };
        if let Some(wish) = &trace {
            self.traces.arrived(self.clock.now(), wish, &self.history);
        }
        self.history.arrived(self.clock.now(), job, about.pid, &about.source, trace);
        self.jobs.insert(job, Job { build, about, commands, uses, toolchain: needs, here: None });
        self.handle(event);
    }

    /// What in a list is not as its author may think.
    fn warn_of_list(&mut self, build: BuildId, list: &HostList) {
        for odd in &list.odd {
            self.notices.tell(build, &format!("odd {}", odd.token), || format!("Warning: host list: {odd}"));
        }
        if list.zeroconf {
            self.notices.tell(build, "zeroconf", || format!("Warning: host list: {NO_ZEROCONF}"));
        }
        // Listed, and meant to be used, but not reached in a way that is known here.
        for host in list.hosts.iter().filter(|host| !host.is_usable() && !host.down) {
            self.notices.tell(build, &format!("unusable {}", host.token), || {
                format!("Warning: host {}: GSSAPI is not spoken here; it is not used", host.token)
            });
        }
    }

    fn local_slots(&self, hosts: Option<&HostList>) -> LocalSlots {
        let defaults = self.config.local_slots;
        LocalSlots {
            preprocess: hosts.and_then(|list| list.localslots_cpp).unwrap_or(defaults.preprocess),
            link: hosts.and_then(|list| list.localslots).unwrap_or(defaults.link),
            compile: defaults.compile,
            listed: hosts.and_then(|list| list.localhost).unwrap_or(0),
        }
    }

    fn toolchain(&mut self, digest: Digest) -> ToolchainId {
        let next = ToolchainId(u32::try_from(self.toolchains.len()).unwrap_or(u32::MAX));
        *self.toolchains.entry(digest).or_insert(next)
    }

    fn on_link(&mut self, host: HostId, event: LinkEvent) {
        match event {
            LinkEvent::Up { handle, build, slots, sandbox } => {
                tracing::info!(host = %self.volunteers.name(host), %build, ?slots, %sandbox, "volunteer is up");
                self.volunteers.up(host, handle, &sandbox);
                // Until it says how many of them are ours.
                if let Some(jobs) = slots {
                    self.handle(Event::Credit { host, jobs });
                }
                self.handle(Event::HostUp { host });
            }
            LinkEvent::Credit { jobs, why } => {
                self.volunteers.credit(host, &why);
                self.handle(Event::Credit { host, jobs });
            }
            LinkEvent::Paused => {
                self.volunteers.credit(host, "it takes no new jobs");
                self.handle(Event::Paused { host });
            }
            LinkEvent::Clock(seconds) => self.volunteers.clock(host, seconds),
            LinkEvent::RoundTrip(time) => self.volunteers.round_trip(host, time),
            LinkEvent::Down(lost) => {
                tracing::info!(host = %self.volunteers.name(host), why = %lost.why, "volunteer is down");
                self.volunteers.down(host);
                self.handle(Event::HostDown { host, lost });
            }
        }
    }

    /// Tells the scheduler, and does what it asks for.
    fn handle(&mut self, event: Event) {
        let over = match &event {
            Event::Delivered { job } | Event::LeaseReturned { job } | Event::ShimGone { job } => Some(*job),
            _ => None,
        };
        let now = self.clock.now();
        let mut actions = Vec::new();
        let over_now = self.history.event(now, &event);
        self.trace(now, over_now);
        self.scheduler.handle(now, event, &mut actions);
        for action in actions {
            let over_now = self.history.action(now, &action);
            self.trace(now, over_now);
            self.perform(action);
        }
        self.history.note_level(now, || {
            let traffic = self.volunteers.all_traffic();
            (traffic.sent, traffic.received)
        });
        if let Some(job) = over {
            self.jobs.remove(&job);
        }
        self.states.happened(self.clock.instant(now).into_std());
    }

    fn trace(&mut self, now: Moment, over: Option<(Wish, Arc<Record>)>) {
        if let Some((wish, record)) = over {
            self.traces.over(now, &wish, record);
        }
    }

    fn write_traces(&mut self) {
        self.traces.write(self.clock.now(), &self.history, || self.volunteers.names());
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Prepare { job } => {
                let uses = self.jobs.get(&job).map(|job| job.uses.clone()).unwrap_or_default();
                let form = self.volunteers.form(&uses);
                self.command(job, Command::Prepare { form });
            }
            Action::CancelPrepare { job } => self.command(job, Command::CancelPrepare),
            Action::Send { job, host, deadline } => self.send(job, host, deadline),
            Action::Cancel { job, host } => self.command(job, Command::Cancel { host }),
            Action::Take { job, host } => self.command(job, Command::Take { host }),
            Action::RunLocally { job, reason } => {
                self.sound_alarm(job, &reason);
                let (attempted, warning) = (self.attempted(job, &reason), self.warning(job));
                let slot = self.slots.take(slots::HERE, LOCAL_SLOTS_MAX);
                if let Some(entry) = self.jobs.get_mut(&job) {
                    entry.about.slot = slot.as_ref().map_or(0, |slot| slot.number);
                    entry.here = slot;
                }
                self.command(job, Command::RunLocally { reason, attempted, warning });
            }
            Action::Forbid { job, reason } => {
                let warning = self.warning(job);
                self.command(job, Command::Forbid { reason, warning, status: exit::NO_HOSTS });
                self.jobs.remove(&job);
            }
            Action::Connect { host } => self.connect(host),
            Action::BackedOff { host, wait, why } => {
                let name = self.volunteers.name(host);
                let text = format!(
                    "Warning: volunteer {name} {why}; it is left alone for {}s",
                    wait.as_secs().max(1)
                );
                tracing::warn!(host = %name, %why, ?wait, "backed off");
                self.notices.tell_all(&format!("host {name}"), &text);
            }
        }
    }

    /// What a shim is to tell of the attempts elsewhere.
    fn attempted(&mut self, job: JobId, reason: &LocalReason) -> Attempted {
        match reason {
            LocalReason::NoVolunteer { .. } => {
                let build = self.jobs.get(&job).map(|job| job.build);
                let first = build.is_some_and(|build| self.notices.is_first(build, "undistributed"));
                Attempted::Undistributed { first }
            }
            LocalReason::RemoteDiagnostics | LocalReason::RemoteKilled => Attempted::Repeated,
            _ => Attempted::No,
        }
    }

    fn sound_alarm(&mut self, job: JobId, reason: &LocalReason) {
        let said = self.alarm.here(self.clock.now(), reason);
        if let (Some(text), Some(job)) = (said, self.jobs.get(&job)) {
            self.notices.say(job.build, text);
        }
    }

    fn warning(&mut self, job: JobId) -> Bytes {
        let build = self.jobs.get(&job).map(|job| job.build);
        build.map(|build| self.notices.take(build)).unwrap_or_default()
    }

    fn command(&mut self, job: JobId, command: Command) {
        let Some(entry) = self.jobs.get(&job) else { return };
        // A full channel is a session that hangs, a closed one a session that ended; either way its
        // shim is gone, or will go and say so.
        if let Err(error) = entry.commands.try_send(command) {
            tracing::debug!(?job, %error, "session does not listen");
        }
    }

    fn send(&mut self, job: JobId, host: HostId, deadline: Duration) {
        match self.volunteers.link(host) {
            Some((name, link)) => {
                let classic = self.volunteers.classic_version(host);
                let Some(slot) = self.take_slot(job, host) else {
                    let why =
                        "has no slot that is free here: others have them, or attempts that are about to end"
                            .to_owned();
                    return self.handle(Event::Failed { job, host, failure: Failure::Overloaded { why } });
                };
                self.command(job, Command::Send { host, name, link, classic, slot, deadline });
            }
            None => {
                let why = "the connection was lost".to_owned();
                let failure = Failure::Host { why };
                self.handle(Event::Failed { job, host, failure });
            }
        }
    }

    /// A slot of a host, unless other clients of the same `DISTCC_DIR` hold what is left of them.
    fn take_slot(&mut self, job: JobId, host: HostId) -> Option<SlotLease> {
        let entry = self.jobs.get_mut(&job)?;
        let count = entry.uses.iter().find(|used| used.host == host).map_or(0, |used| used.slots);
        let slot = self.slots.take(&slots::prefix(&self.volunteers.route(host).address), count)?;
        entry.about.slot = slot.number;
        Some(slot)
    }

    fn connect(&mut self, host: HostId) {
        let route = self.volunteers.route(host);
        let reporter = Reporter { host, owner: self.link_events.clone() };
        let surroundings = Surroundings {
            client: self.config.client.clone(),
            clock: self.clock,
            hermetic: Arc::clone(&self.hermetic),
            traffic: self.volunteers.traffic(host),
            numbers: Arc::clone(&self.numbers),
            trust: Arc::clone(&self.trust),
        };
        self.links.spawn(connection::run(route, surroundings, reporter));
    }
}

/// A host list's volunteers as the scheduler takes them.
pub type HostUses = Arc<[HostUse]>;
