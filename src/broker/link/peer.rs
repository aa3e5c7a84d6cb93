//! The broker's half of the native link, as a state machine.
//!
//! It reads no socket and no clock: [`Peer::receive`] takes a frame, [`Peer::fill`] gives bytes to
//! send, [`Peer::on_time`] says whether the other side has died. Whatever a volunteer sends, memory
//! stays bounded: a result's length is checked against the limits when it is announced, and data
//! beyond it is an error.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use self::transfer::{Announced, Job};
use super::known::{Defined, Known};
use super::native::Provision;
use super::supply::{Bundle, Progress, Supply, ToPack};
use super::traffic::{Traffic, Way};
use super::{Answer, Work};
use crate::broker::hermetic::ToolchainSet;
use crate::broker::scheduler::api::{Failure, Moment};
use crate::common::inputs::Runs;
use crate::common::limits::{LINK_CHUNK_MAX_BYTES, LINK_WINDOW_BYTES};
use crate::common::protocol::io::{push_data, push_message};
use crate::common::protocol::link::{
    FrameHeader, FrameKind, OPENING, PING_INTERVAL, Refusal, SILENCE_MAX, ToBroker, ToVolunteer, Unprovided,
    VERSION,
};
use crate::common::protocol::wire;
use crate::common::reason::{LocalReason, OptionRule};

mod transfer;

/// What a volunteer said that concerns more than one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// It is ready.
    Up {
        /// Its build, for people.
        build: String,
        /// Its slots, all clients together.
        slots: u32,
        /// Whether it takes hermetic compiles.
        hermetic: bool,
        /// How it confines jobs, for people.
        sandbox: String,
    },
    /// It will hold this many of our jobs.
    Credit {
        /// How many.
        jobs: u32,
        /// Why not more, for people; may be empty.
        why: String,
    },
    /// It takes no new jobs until it says how many.
    Paused,
    /// What time it is there, in seconds since 1970.
    Clock(u64),
    /// A ping came back.
    RoundTrip(Duration),
}

/// Why the link cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// It does not speak our protocol.
    #[error("speaks protocol {theirs}, this broker {ours}: upgrade the older of the two")]
    Version {
        /// Ours.
        ours: u16,
        /// Theirs.
        theirs: u16,
    },
    /// It spoke nonsense.
    #[error("broke the protocol: {0}")]
    Protocol(String),
    /// It said nothing for too long.
    #[error("sent nothing for {}s", .0.as_secs())]
    Silent(Duration),
    /// It said little of what it had announced.
    #[error("sent {bytes} bytes of a result in {}s", .span.as_secs())]
    Trickle {
        /// How many.
        bytes: u64,
        /// In what time.
        span: Duration,
    },
    /// It gave up.
    #[error("closed the link: {0}")]
    Fatal(String),
}

/// The state of one link.
pub struct Peer {
    jobs: BTreeMap<u32, Job>,
    /// Jobs with input to send, in turn.
    sending: VecDeque<u32>,
    /// Toolchains that are on their way.
    provisions: BTreeMap<u32, Provision>,
    known: Known,
    supply: Supply,
    /// Encoded messages, before any data.
    outbox: Vec<u8>,
    /// Its build and slots, once it has said hello.
    greeting: Option<(String, u32)>,
    /// What travels is counted here.
    traffic: Arc<Traffic>,
    /// The latest moment that it was told of.
    now: Moment,
    /// When files last left.
    supplied: Moment,
    heard: Moment,
    pinged: Moment,
    /// What of results has come since this moment, in bytes.
    brought: (Moment, u64),
}

/// Who has not looked for so long was stopped itself: it looks at each [`PING_INTERVAL`].
const STOPPED_MIN: Duration = PING_INTERVAL.saturating_mul(2);

/// While a result is on its way, a link brings something: so many bytes in so long, all results together.
/// That is a sixteenth of what a modem of the last century brings.
const TRICKLE_SPAN: Duration = Duration::from_secs(14);
const TRICKLE_MIN_BYTES: u64 = 4 << 10;

impl Peer {
    /// A new link; its first bytes to send are the hello.
    pub fn new(now: Moment, client: String, traffic: Arc<Traffic>) -> Self {
        let mut outbox = OPENING.to_vec();
        let build = env!("CARGO_PKG_VERSION").to_owned();
        push_message(&mut outbox, &ToVolunteer::Hello { version: VERSION, build, client });
        Peer {
            jobs: BTreeMap::new(),
            sending: VecDeque::new(),
            provisions: BTreeMap::new(),
            known: Known::default(),
            supply: Supply::default(),
            outbox,
            greeting: None,
            traffic,
            now,
            supplied: Moment(0),
            heard: now,
            pinged: now,
            brought: (now, 0),
        }
    }

    /// Has the progress of files told there.
    pub fn tell_progress(&mut self, progress: Arc<Progress>) {
        self.supply.tell(progress);
    }

    /// It is `now`: for the times that answers tell.
    pub fn tick(&mut self, now: Moment) {
        self.now = now;
    }

    /// Begins an attempt.
    pub fn start(&mut self, job: u32, work: Box<Work>, reply: oneshot::Sender<Result<Answer, Failure>>) {
        let deadline_ms = u32::try_from(work.deadline().as_millis()).unwrap_or(u32::MAX);
        let message = match &*work {
            Work::Text(order) => ToVolunteer::Job { job, action: order.action.clone(), deadline_ms },
            Work::Files(order) => {
                let files = &order.job;
                if !self.define(files.generation, &files.items) {
                    let _ = reply.send(Err(outdated()));
                    return;
                }
                ToVolunteer::Compile { job, compile: Box::new(files.compile.clone()), deadline_ms }
            }
        };
        push_message(&mut self.outbox, &message);
        self.jobs.insert(job, Job::new(self.now, work, reply));
    }

    /// Has a toolchain made ready.
    pub fn provision(&mut self, provision: u32, toolchain: &ToolchainSet, reply: Provision) {
        if !self.define(toolchain.generation, &toolchain.items) {
            reply.end(Err(outdated()));
            return;
        }
        let mut numbers: Vec<u32> = toolchain.items.iter().map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        push_message(&mut self.outbox, &ToVolunteer::Provision { provision, inputs: Runs::of(&numbers) });
        self.provisions.insert(provision, reply);
    }

    /// Whether the volunteer can be told of these items, and has been.
    fn define(&mut self, generation: u32, items: &[(u32, Arc<crate::common::inputs::Item>)]) -> bool {
        let defined = self.known.define(generation, items, &mut self.outbox);
        if defined == Defined::Anew {
            self.supply.forget();
        }
        defined != Defined::Over
    }

    /// Files that the volunteer asked for and that can be packed now.
    pub fn next_to_pack(&mut self) -> Option<ToPack> {
        self.supply.next_to_pack()
    }

    /// They have been packed.
    pub fn packed(&mut self, bundle: Bundle) {
        self.traffic.contents(Way::Out, bundle.packed.len() as u64, bundle.plain);
        self.supply.packed(bundle, &mut self.outbox);
    }

    /// Gives up an attempt; late frames of it are ignored.
    pub fn cancel(&mut self, job: u32) {
        if self.jobs.remove(&job).is_some() {
            push_message(&mut self.outbox, &ToVolunteer::Cancel { job });
        }
    }

    /// Ends every attempt: the link is down.
    pub fn fail_all(&mut self, why: &str) {
        for (_, job) in std::mem::take(&mut self.jobs) {
            let _ = job.reply.send(Err(Failure::Host { why: why.to_owned() }));
        }
        for (_, reply) in std::mem::take(&mut self.provisions) {
            reply.end(Err(Failure::Host { why: why.to_owned() }));
        }
    }

    /// Whether there is anything to send.
    pub fn has_output(&self) -> bool {
        !self.outbox.is_empty() || !self.sending.is_empty() || self.supply.has_output()
    }

    /// Appends what is to be sent next to `out`: all messages, then one chunk of each job in turn,
    /// until `out` holds some 256 KiB or windows are empty.
    pub fn fill(&mut self, out: &mut Vec<u8>) {
        const ENOUGH: usize = 256 << 10;
        out.append(&mut self.outbox);
        while out.len() < ENOUGH && (self.supply.has_output() || !self.sending.is_empty()) {
            if self.supply.has_output() {
                self.supplied = self.now;
                self.supply.fill(out);
            }
            self.fill_input(out);
        }
    }

    /// Appends one chunk of the next job's input.
    fn fill_input(&mut self, out: &mut Vec<u8>) {
        let Some(number) = self.sending.pop_front() else { return };
        let Some(job) = self.jobs.get_mut(&number) else { return };
        let rest = &job.input()[job.sent..];
        let length = rest.len().min(LINK_CHUNK_MAX_BYTES as usize).min(job.window as usize);
        push_data(out, number, &rest[..length]);
        job.fed = self.now;
        job.sent += length;
        job.window -= length as u64;
        if job.sent < job.input().len() && job.window > 0 {
            self.sending.push_back(number);
        }
    }

    /// Pings when it is time to, and says when the other side has been silent too long.
    ///
    /// # Errors
    ///
    /// Returns [`LinkError::Silent`] or [`LinkError::Trickle`] when the link must be given up.
    pub fn on_time(&mut self, now: Moment) -> Result<(), LinkError> {
        if now.since(self.now) > STOPPED_MIN {
            // What came meanwhile has not been read.
            (self.heard, self.brought) = (now, (now, 0));
        }
        let silence = now.since(self.heard);
        if silence >= SILENCE_MAX {
            return Err(LinkError::Silent(silence));
        }
        if self.greeting.is_some() && now.since(self.pinged) >= PING_INTERVAL {
            self.pinged = now;
            push_message(&mut self.outbox, &ToVolunteer::Ping { token: now.0 });
        }
        let (since, bytes) = self.brought;
        let span = now.since(since);
        let waits = self.jobs.values().any(|job| job.announced_before(since));
        if waits && span >= TRICKLE_SPAN && bytes < TRICKLE_MIN_BYTES {
            return Err(LinkError::Trickle { bytes, span });
        }
        if !waits || span >= TRICKLE_SPAN {
            self.brought = (now, 0);
        }
        Ok(())
    }

    /// When [`Peer::on_time`] has something to do next.
    pub fn next_time(&self) -> Moment {
        (self.pinged + PING_INTERVAL).min(self.heard + SILENCE_MAX)
    }

    /// Takes one frame.
    ///
    /// # Errors
    ///
    /// Returns why the link cannot go on.
    pub fn receive(
        &mut self,
        now: Moment,
        header: FrameHeader,
        body: &[u8],
    ) -> Result<Option<News>, LinkError> {
        (self.heard, self.now) = (now, now);
        if header.kind == FrameKind::Data {
            self.brought.1 += body.len() as u64;
            self.receive_data(header.job, body)?;
            return Ok(None);
        }
        let message = wire::decode(body).map_err(|error| LinkError::Protocol(error.to_string()))?;
        if self.greeting.is_none() && !matches!(message, ToBroker::Hello { .. } | ToBroker::Fatal { .. }) {
            return Err(LinkError::Protocol("spoke before its hello".to_owned()));
        }
        self.receive_message(now, message)
    }

    fn receive_message(&mut self, now: Moment, message: ToBroker) -> Result<Option<News>, LinkError> {
        match message {
            ToBroker::Hello { version, build, slots } => {
                if version != VERSION {
                    return Err(LinkError::Version { ours: VERSION, theirs: version });
                }
                self.greeting = Some((build, slots));
            }
            ToBroker::Able { hermetic, sandbox } => {
                let (build, slots) = self.greeting.clone().unwrap_or_default();
                return Ok(Some(News::Up { build, slots, hermetic, sandbox }));
            }
            ToBroker::Credit { jobs, why } => return Ok(Some(News::Credit { jobs, why })),
            ToBroker::Draining => return Ok(Some(News::Paused)),
            // A pong that nobody asked for is a sign of life, no measurement.
            ToBroker::Pong { token } if token == self.pinged.0 => {
                return Ok(Some(News::RoundTrip(now.since(self.pinged))));
            }
            ToBroker::Pong { .. } => {}
            ToBroker::Clock { seconds } => return Ok(Some(News::Clock(seconds))),
            ToBroker::Fatal { why } => return Err(LinkError::Fatal(why)),
            ToBroker::NeedInput { job } => self.need_input(job),
            ToBroker::Window { job, bytes } => self.widen(job, bytes),
            ToBroker::Refused { job, why } => self.refused(job, &why),
            ToBroker::Result(result) => self.announced(result.job, Announced::Text(result))?,
            ToBroker::Compiled(compiled) => self.announced(compiled.job, Announced::Files(compiled))?,
            ToBroker::Provisioned { provision, .. } => self.provisioned(provision, Ok(())),
            ToBroker::Unprovided { provision, why } => self.provisioned(provision, Err(&why)),
            ToBroker::NeedFiles { items } => self.need_files(&items)?,
            ToBroker::BundleWindow { bytes } => self.supply.widen(bytes),
            ToBroker::Spare { items } => self.supply.spare(&items),
            ToBroker::Elsewhere { awaited, arrived } => self.supply.elsewhere(awaited, arrived),
        }
        Ok(None)
    }

    fn need_input(&mut self, number: u32) {
        if let Some(job) = self.jobs.get_mut(&number)
            && !job.wanted
        {
            job.wanted = true;
            let (packed, plain) = job.input_lengths();
            self.traffic.contents(Way::Out, packed, plain);
            self.sending.push_back(number);
        }
    }

    fn widen(&mut self, number: u32, bytes: u32) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        let stalled = job.wanted && job.window == 0 && job.sent < job.input().len();
        job.window = job.window.saturating_add(u64::from(bytes));
        if stalled && bytes > 0 {
            self.sending.push_back(number);
        }
    }

    fn refused(&mut self, number: u32, refusal: &Refusal) {
        let Some(job) = self.jobs.remove(&number) else { return };
        let why = refusal.to_string();
        let failure = match refusal {
            Refusal::NoSuchToolchain { .. } => Failure::NoToolchain { why },
            Refusal::Overloaded { .. } => Failure::Overloaded { why },
            Refusal::Forbidden { .. } | Refusal::InputsChanged { .. } => Failure::Refused { why },
            Refusal::TimedOut { .. } => Failure::Deadline,
            Refusal::Failed { .. } => Failure::Host { why },
            Refusal::TellsTemporary { .. } => {
                let (option, why) = ("-g".into(), OptionRule::Records);
                Failure::Unpreparable { reason: LocalReason::Option { option, why } }
            }
        };
        let _ = job.reply.send(Err(failure));
    }

    fn provisioned(&mut self, provision: u32, outcome: Result<(), &Unprovided>) {
        let Some(reply) = self.provisions.remove(&provision) else { return };
        reply.end(outcome.map_err(|unprovided| {
            let why = format!("could not take the toolchain: {unprovided}");
            match unprovided {
                // It would not take it a moment later, and sending it is dear.
                Unprovided::Volunteer { .. } => Failure::Host { why },
                Unprovided::Crowded { .. } => Failure::Overloaded { why },
                Unprovided::InputsChanged { .. } => Failure::Refused { why },
                Unprovided::TooLarge { .. } => Failure::NoToolchain { why },
            }
        }));
    }

    fn need_files(&mut self, items: &[u32]) -> Result<(), LinkError> {
        for &number in items {
            let item = self.known.get(number);
            let item =
                item.ok_or_else(|| LinkError::Protocol("wants a file that it was not told of".to_owned()))?;
            self.supply.want(number, Arc::clone(item));
        }
        Ok(())
    }

    fn announced(&mut self, number: u32, announced: Announced) -> Result<(), LinkError> {
        let Some(job) = self.jobs.get_mut(&number) else { return Ok(()) };
        let (packed, plain) = announced.lengths();
        job.announce(self.now, announced)?;
        self.traffic.contents(Way::Back, packed, plain);
        self.finish_if_whole(number);
        Ok(())
    }

    fn receive_data(&mut self, number: u32, body: &[u8]) -> Result<(), LinkError> {
        let Some(job) = self.jobs.get_mut(&number) else { return Ok(()) };
        if !job.take(body) {
            return Err(LinkError::Protocol("more data than the result announced".to_owned()));
        }
        if !job.is_whole() && job.ungranted >= LINK_WINDOW_BYTES / 2 {
            let bytes = u32::try_from(std::mem::take(&mut job.ungranted)).unwrap_or(u32::MAX);
            push_message(&mut self.outbox, &ToVolunteer::Window { job: number, bytes });
        }
        self.finish_if_whole(number);
        Ok(())
    }

    fn finish_if_whole(&mut self, number: u32) {
        if self.jobs.get(&number).is_some_and(Job::is_whole)
            && let Some(job) = self.jobs.remove(&number)
        {
            job.finish(self.now, self.supplied);
        }
    }
}

/// The job's numbers were made before the table was begun anew.
fn outdated() -> Failure {
    Failure::Refused { why: "it waited so long that the names of its files are forgotten".to_owned() }
}

#[cfg(test)]
mod tests;
