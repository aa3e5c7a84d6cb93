//! The broker's half of the native link, as a state machine.
//!
//! It reads no socket and no clock: [`Peer::receive`] takes a frame, [`Peer::fill`] gives bytes to
//! send, [`Peer::on_time`] says whether the other side has died. Whatever a volunteer sends, memory
//! stays bounded: a result's length is checked against the limits when it is announced, and data
//! beyond it is an error.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Answer, Order, Packing};
use crate::broker::scheduler::api::{Failure, Moment};
use crate::common::limits::{LINK_CHUNK_MAX_BYTES, LINK_WINDOW_BYTES, MESSAGES_MAX_BYTES, OUTPUT_MAX_BYTES};
use crate::common::protocol::io::{push_data, push_message};
use crate::common::protocol::link::{
    FrameHeader, FrameKind, JobResult, OPENING, PING_INTERVAL, Part, Refusal, SILENCE_MAX, ToBroker,
    ToVolunteer, VERSION,
};
use crate::common::protocol::wire;

/// What a volunteer said that concerns more than one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// It is ready.
    Up {
        /// Its build, for people.
        build: String,
        /// Its slots, all clients together.
        slots: u32,
    },
    /// It will hold this many of our jobs.
    Credit {
        /// How many.
        jobs: u32,
        /// Why not more, for people; may be empty.
        why: String,
    },
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
    /// It gave up.
    #[error("closed the link: {0}")]
    Fatal(String),
}

/// The transfer of one job's data in both directions.
struct Job {
    order: Box<Order>,
    reply: oneshot::Sender<Result<Answer, Failure>>,
    /// Whether the volunteer asked for the input.
    wanted: bool,
    sent: usize,
    window: u64,
    result: Option<JobResult>,
    expected: u64,
    received: Vec<u8>,
    ungranted: u64,
}

/// The state of one link.
pub struct Peer {
    jobs: BTreeMap<u32, Job>,
    /// Jobs with input to send, in turn.
    sending: VecDeque<u32>,
    /// Encoded messages, before any data.
    outbox: Vec<u8>,
    greeted: bool,
    heard: Moment,
    pinged: Moment,
}

impl Peer {
    /// A new link; its first bytes to send are the hello.
    pub fn new(now: Moment, client: String) -> Self {
        let mut outbox = OPENING.to_vec();
        let build = env!("CARGO_PKG_VERSION").to_owned();
        push_message(&mut outbox, &ToVolunteer::Hello { version: VERSION, build, client });
        Peer {
            jobs: BTreeMap::new(),
            sending: VecDeque::new(),
            outbox,
            greeted: false,
            heard: now,
            pinged: now,
        }
    }

    /// Begins an attempt.
    pub fn start(&mut self, job: u32, order: Box<Order>, reply: oneshot::Sender<Result<Answer, Failure>>) {
        let deadline_ms = u32::try_from(order.deadline.as_millis()).unwrap_or(u32::MAX);
        push_message(&mut self.outbox, &ToVolunteer::Job { job, action: order.action.clone(), deadline_ms });
        let state = Job {
            order,
            reply,
            wanted: false,
            sent: 0,
            window: LINK_WINDOW_BYTES,
            result: None,
            expected: 0,
            received: Vec::new(),
            ungranted: 0,
        };
        self.jobs.insert(job, state);
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
    }

    /// Whether there is anything to send.
    pub fn has_output(&self) -> bool {
        !self.outbox.is_empty() || !self.sending.is_empty()
    }

    /// Appends what is to be sent next to `out`: all messages, then one chunk of each job in turn,
    /// until `out` holds some 256 KiB or windows are empty.
    pub fn fill(&mut self, out: &mut Vec<u8>) {
        const ENOUGH: usize = 256 << 10;
        out.append(&mut self.outbox);
        while out.len() < ENOUGH {
            let Some(number) = self.sending.pop_front() else { return };
            let Some(job) = self.jobs.get_mut(&number) else { continue };
            let rest = &job.order.input.bytes[job.sent..];
            let length = rest.len().min(LINK_CHUNK_MAX_BYTES as usize).min(job.window as usize);
            push_data(out, number, &rest[..length]);
            job.sent += length;
            job.window -= length as u64;
            if job.sent < job.order.input.bytes.len() && job.window > 0 {
                self.sending.push_back(number);
            }
        }
    }

    /// Pings when it is time to, and says when the other side has been silent too long.
    ///
    /// # Errors
    ///
    /// Returns [`LinkError::Silent`] when the link must be given up.
    pub fn on_time(&mut self, now: Moment) -> Result<(), LinkError> {
        let silence = now.since(self.heard);
        if silence >= SILENCE_MAX {
            return Err(LinkError::Silent(silence));
        }
        if self.greeted && now.since(self.pinged) >= PING_INTERVAL {
            self.pinged = now;
            push_message(&mut self.outbox, &ToVolunteer::Ping { token: now.0 });
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
        self.heard = now;
        if header.kind == FrameKind::Data {
            self.receive_data(header.job, body)?;
            return Ok(None);
        }
        let message = wire::decode(body).map_err(|error| LinkError::Protocol(error.to_string()))?;
        if !self.greeted && !matches!(message, ToBroker::Hello { .. } | ToBroker::Fatal { .. }) {
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
                self.greeted = true;
                return Ok(Some(News::Up { build, slots }));
            }
            ToBroker::Credit { jobs, why } => return Ok(Some(News::Credit { jobs, why })),
            ToBroker::Draining => return Ok(Some(News::Credit { jobs: 0, why: "draining".to_owned() })),
            // A pong that nobody asked for is a sign of life, no measurement.
            ToBroker::Pong { token } if token == self.pinged.0 => {
                return Ok(Some(News::RoundTrip(now.since(self.pinged))));
            }
            ToBroker::Pong { .. } => {}
            ToBroker::Fatal { why } => return Err(LinkError::Fatal(why)),
            ToBroker::NeedInput { job } => self.need_input(job),
            ToBroker::Window { job, bytes } => self.widen(job, bytes),
            ToBroker::Refused { job, why } => self.refused(job, &why),
            ToBroker::Result(result) => self.result(result)?,
            ToBroker::Able { .. } => {}
            ToBroker::Provisioned { .. }
            | ToBroker::NeedFiles { .. }
            | ToBroker::BundleWindow { .. }
            | ToBroker::Compiled(_) => return Err(LinkError::Protocol("an answer to nothing".to_owned())),
        }
        Ok(None)
    }

    fn need_input(&mut self, number: u32) {
        if let Some(job) = self.jobs.get_mut(&number)
            && !job.wanted
        {
            job.wanted = true;
            self.sending.push_back(number);
        }
    }

    fn widen(&mut self, number: u32, bytes: u32) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        let stalled = job.wanted && job.window == 0 && job.sent < job.order.input.bytes.len();
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
        };
        let _ = job.reply.send(Err(failure));
    }

    fn result(&mut self, result: JobResult) -> Result<(), LinkError> {
        let number = result.job;
        let Some(job) = self.jobs.get_mut(&number) else { return Ok(()) };
        if job.result.is_some() {
            return Err(LinkError::Protocol("two results of one job".to_owned()));
        }
        let outputs = if result.ended.is_success() { job.order.action.outputs.len() } else { 0 };
        if result.outputs.len() != outputs {
            return Err(LinkError::Protocol(format!(
                "{} outputs where {outputs} were asked for",
                result.outputs.len()
            )));
        }
        job.expected = checked_length(&result)?;
        job.result = Some(result);
        self.finish_if_whole(number);
        Ok(())
    }

    fn receive_data(&mut self, number: u32, body: &[u8]) -> Result<(), LinkError> {
        let Some(job) = self.jobs.get_mut(&number) else { return Ok(()) };
        if job.result.is_none() || job.received.len() as u64 + body.len() as u64 > job.expected {
            return Err(LinkError::Protocol("more data than the result announced".to_owned()));
        }
        job.received.extend_from_slice(body);
        job.ungranted += body.len() as u64;
        let wants_more = (job.received.len() as u64) < job.expected;
        if wants_more && job.ungranted >= LINK_WINDOW_BYTES / 2 {
            let bytes = u32::try_from(std::mem::take(&mut job.ungranted)).unwrap_or(u32::MAX);
            push_message(&mut self.outbox, &ToVolunteer::Window { job: number, bytes });
        }
        self.finish_if_whole(number);
        Ok(())
    }

    fn finish_if_whole(&mut self, number: u32) {
        let whole = |job: &Job| job.result.is_some() && job.received.len() as u64 == job.expected;
        if !self.jobs.get(&number).is_some_and(whole) {
            return;
        }
        let job = self.jobs.remove(&number).expect("it was just there");
        let result = job.result.expect("whole jobs have one");
        let _ = job.reply.send(Ok(Answer {
            result,
            packed: job.received,
            packing: Packing::Zstd,
            dependencies: None,
        }));
    }
}

/// The sum of the packed lengths, after checking every length against the limits.
fn checked_length(result: &JobResult) -> Result<u64, LinkError> {
    // zstd never grows data by more than this.
    let worst = |size: u64| size + size / 128 + 1024;
    let fits = |part: &Part, limit: u64| part.size <= limit && part.packed <= worst(part.size);
    let messages = fits(&result.stdout, MESSAGES_MAX_BYTES) && fits(&result.stderr, MESSAGES_MAX_BYTES);
    if !messages || !result.outputs.iter().all(|part| fits(part, OUTPUT_MAX_BYTES)) {
        return Err(LinkError::Protocol("a result larger than the limits".to_owned()));
    }
    let parts = [&result.stdout, &result.stderr];
    Ok(parts.into_iter().chain(&result.outputs).map(|part| part.packed).sum())
}

#[cfg(test)]
mod tests;
