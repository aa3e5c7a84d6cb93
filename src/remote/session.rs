//! One native link: a broker's connection and its jobs.
//!
//! A reader and a writer move frames; one loop owns everything else, and each thing that happens
//! is one call of a synchronous handler. Jobs run in tasks of their own that the loop owns too:
//! when the link ends, for whatever reason, its jobs are killed and waited for.
//!
//! Never does: wait for a peer without a bound, hold more of a job's input than its window, take
//! more jobs than the credit it gave at most.

mod desk;
mod elsewhere;
mod feed;
mod outcome;
mod wants;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::Instrument;

use self::desk::Desk;
use self::elsewhere::{Courier, LOOK_INTERVAL};
use self::feed::Feed;
use super::admit::Credit;
use super::clients::{ARRIVING_MAX_BYTES, Good, Held, LinkPass};
use super::compile;
use super::gate::Member;
use super::job::{self, Context, Event, Order};
use super::line::Line;
use super::listen::Peer;
use super::outbox::Outbox;
use super::owner::roster::Entry;
use super::process::Control;
use super::stats::Outcome;
use super::stream;
use super::trust::Right;
use crate::common::action::Action;
use crate::common::limits::{LINK_WINDOW_BYTES, PREPROCESSED_MAX_BYTES, PROVISIONS_MAX};
use crate::common::protocol::io::{push_message, read_link};
use crate::common::protocol::link::{
    FrameHeader, FrameKind, PING_INTERVAL, Refusal, SILENCE_MAX, ToBroker, ToVolunteer, VERSION,
};
use crate::common::protocol::wire;

/// Frames that were read and wait to be handled.
const FRAMES_WAITING: usize = 4;

/// What jobs have told and waits to be handled.
const EVENTS_WAITING: usize = 64;

/// How long the last words may take to leave.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// What the daemon as a whole is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Work.
    Running,
    /// Finish what runs, take nothing new.
    Draining,
    /// End now.
    Stopping,
}

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkEnd {
    /// The client closed it between frames.
    #[error("the client closed the link")]
    Closed,
    /// All work of a drain is done.
    #[error("drained")]
    Drained,
    /// The daemon ends.
    #[error("the daemon stops")]
    Stopped,
    /// The client's key is no longer among those that are served.
    #[error("the client's key is not authorised any more")]
    Revoked,
    /// The connection broke, or was silent.
    #[error("{0}")]
    Broken(std::io::Error),
    /// The client broke the protocol; it is told so.
    #[error("protocol error: {0}")]
    Protocol(String),
}

/// A job that has no answer yet.
struct LiveJob {
    control: Arc<Control>,
    /// What the owner of the machine sees of it.
    entry: Entry,
    /// The preprocessed text, for those that have one.
    input: Option<Input>,
    /// What the client takes of the result.
    result_window: u64,
    /// Counts it among the client's.
    pass: Held,
}

/// A job's input on its way from the reader to the job.
struct Input {
    feed: Feed,
    /// What the client may still send.
    window: u64,
}

/// Whose link it is.
#[derive(Clone)]
pub struct Caller {
    /// Where it comes from.
    pub peer: Peer,
    /// What it is called here, and what it calls itself.
    pub name: String,
    /// Why it is served.
    pub right: Right,
}

/// Everything that one link's loop owns.
struct Session {
    client: Caller,
    line: Line,
    pass: LinkPass,
    context: Arc<Context>,
    member: Arc<Member>,
    jobs: HashMap<u32, LiveJob>,
    desk: Desk,
    courier: Courier,
    outbox: Outbox,
    tasks: JoinSet<()>,
    events: mpsc::Sender<Event>,
    draining: bool,
    /// Data that may still come of jobs that are over.
    late: u64,
}

/// Serves a link whose client has said its hello ([`stream::greet`]), until it ends. All of its
/// jobs are over when this returns.
pub async fn run<S>(
    (stream, line): (S, Line),
    client: Caller,
    pass: LinkPass,
    context: Arc<Context>,
    phase: watch::Receiver<Phase>,
) -> LinkEnd
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (reading, writing) = tokio::io::split(stream);
    let (frames_in, mut frames) = mpsc::channel(FRAMES_WAITING);
    let (batches, batches_out) = mpsc::channel(1);
    let (events, mut told) = mpsc::channel(EVENTS_WAITING);
    let (mut reader, mut writer) = (JoinSet::new(), JoinSet::new());
    reader.spawn(read_frames(reading, frames_in));
    writer.spawn(stream::write_batches(writing, batches_out));
    let member = Arc::new(context.gate.join(pass.client()));
    let courier = Courier::new(&context.couriers);
    let mut session = Session {
        client,
        line,
        pass,
        context,
        member,
        jobs: HashMap::new(),
        desk: Desk::default(),
        courier,
        outbox: Outbox::default(),
        tasks: JoinSet::new(),
        events,
        draining: false,
        late: 0,
    };
    session.outbox.message(&session.hello());
    session.outbox.message(&session.abilities());
    session.outbox.message(&desk::clock());
    let end = session.serve(&mut frames, &mut told, &batches, phase).await;
    // Jobs that want to tell something must not wait for a loop that is over.
    drop(told);
    session.cancel_all();
    session.say_farewell(&end, batches).await;
    while session.tasks.join_next().await.is_some() {}
    if !matches!(end, LinkEnd::Closed | LinkEnd::Broken(_)) {
        let _ = tokio::time::timeout(SILENCE_MAX, writer.join_next()).await;
        // Until the peer closes too: unread data would make the kernel drop our last words.
        let rest = async { while frames.recv().await.is_some() {} };
        let _ = tokio::time::timeout(FAREWELL_TIMEOUT, rest).await;
    }
    writer.shutdown().await;
    reader.shutdown().await;
    end
}

async fn read_frames(
    reading: impl AsyncRead + Unpin,
    frames: mpsc::Sender<std::io::Result<(FrameHeader, Vec<u8>)>>,
) {
    let mut reading = stream::Heard::new(reading, SILENCE_MAX);
    loop {
        let frame = read_link(&mut reading).await.transpose();
        let Some(frame) = frame else { return };
        let over = frame.is_err();
        if frames.send(frame).await.is_err() || over {
            return;
        }
    }
}

impl Session {
    async fn serve(
        &mut self,
        frames: &mut mpsc::Receiver<std::io::Result<(FrameHeader, Vec<u8>)>>,
        told: &mut mpsc::Receiver<Event>,
        batches: &mpsc::Sender<Vec<u8>>,
        mut phase: watch::Receiver<Phase>,
    ) -> LinkEnd {
        let mut credit = self.member.credit.clone();
        credit.mark_changed();
        phase.mark_changed();
        let mut keep_alive = tokio::time::interval(PING_INTERVAL);
        let mut others = tokio::time::interval(LOOK_INTERVAL);
        others.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if self.draining && self.jobs.is_empty() && self.outbox.is_empty() {
                return LinkEnd::Drained;
            }
            let step = tokio::select! {
                frame = frames.recv(), if self.outbox.has_room() => match frame {
                    Some(Ok((header, body))) => {
                        let _turn = self.pass.turn().await;
                        self.on_frame(header, &body)
                    }
                    Some(Err(error)) => Err(broken(error)),
                    None => Err(LinkEnd::Closed),
                },
                Some(event) = told.recv() => {
                    let _turn = self.pass.turn().await;
                    self.on_event(event)
                }
                permit = batches.reserve(), if self.outbox.is_ready() => match permit {
                    Ok(permit) => self.outbox.next_batch().map(|batch| permit.send(batch)).map_err(LinkEnd::Broken),
                    Err(_) => Err(LinkEnd::Broken(std::io::ErrorKind::BrokenPipe.into())),
                },
                Ok(()) = credit.changed() => self.on_credit(&credit.borrow_and_update()),
                Ok(()) = phase.changed() => { let phase = *phase.borrow_and_update(); self.on_phase(phase) }
                _ = keep_alive.tick() => self.on_tick(),
                _ = others.tick(), if self.desk.wants.may_come_elsewhere() => { self.on_look_elsewhere(); Ok(()) }
                Some(_) = self.tasks.join_next() => Ok(()),
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    fn hello(&self) -> ToBroker {
        let build = env!("CARGO_PKG_VERSION").to_owned();
        ToBroker::Hello { version: VERSION, build, slots: self.context.slots }
    }

    fn on_frame(&mut self, header: FrameHeader, body: &[u8]) -> Result<(), LinkEnd> {
        match header.kind {
            FrameKind::Message => {}
            FrameKind::Data => return self.on_data(header.job, body),
            FrameKind::Bundle => return self.on_bundle_data(header.job, body),
        }
        let message = wire::decode(body).map_err(|error| LinkEnd::Protocol(error.to_string()))?;
        match message {
            ToVolunteer::Hello { .. } => return Err(LinkEnd::Protocol("a second hello".to_owned())),
            ToVolunteer::Job { job, action, deadline_ms } => return self.on_job(job, *action, deadline_ms),
            ToVolunteer::Cancel { job } => self.on_cancel(job),
            ToVolunteer::Window { job, bytes } => self.on_window(job, u64::from(bytes)),
            ToVolunteer::Ping { token } => self.outbox.message(&ToBroker::Pong { token }),
            other => return self.on_hermetic(other),
        }
        Ok(())
    }

    /// The right to a new job, and to work at it; if there is none now, the job is refused.
    fn may_begin(&mut self, job: u32) -> Result<Option<(Held, Held)>, LinkEnd> {
        if self.jobs.contains_key(&job) || self.outbox.holds(job) {
            return Err(LinkEnd::Protocol(format!("job {job} twice")));
        }
        let max = self.context.gate.credit_max() as u64;
        let passes = match self.why_not_now() {
            Some(why) => Err(why),
            None => match (self.pass.take(Good::Jobs, 1, max), self.task()) {
                (Some(pass), Some(task)) => Ok((pass, task)),
                (None, _) => Err(format!("{max} jobs of this client are unfinished")),
                (_, None) => Err("jobs that this client has cancelled are not over yet".to_owned()),
            },
        };
        match passes {
            Ok(passes) => Ok(Some(passes)),
            Err(detail) => {
                self.refuse(job, detail);
                Ok(None)
            }
        }
    }

    fn refuse(&mut self, job: u32, detail: String) {
        self.outbox.message(&ToBroker::Refused { job, why: Refusal::Overloaded { detail } });
    }

    /// The right to work at something. Jobs that were cancelled are worked at until that has been noticed.
    fn task(&self) -> Option<Held> {
        let max = 2 * self.context.gate.credit_max() + PROVISIONS_MAX;
        self.pass.take(Good::Tasks, 1, max as u64)
    }

    fn on_job(&mut self, job: u32, action: Action, deadline_ms: u32) -> Result<(), LinkEnd> {
        let Some((pass, task)) = self.may_begin(job)? else { return Ok(()) };
        let text = compile::source(&action).size.min(PREPROCESSED_MAX_BYTES);
        let Some(room) = self.pass.take(Good::Arriving, text, ARRIVING_MAX_BYTES) else {
            self.refuse(job, "this client's texts are many gigabytes".to_owned());
            return Ok(());
        };
        let control = Arc::new(Control::default());
        let (feed, input) = Feed::new(compile::source(&action).packed);
        let compiler = action.toolchain.names.first().map(|name| name.to_text()).unwrap_or_default();
        let entry = self.enter(compiler, "-".to_owned(), &control);
        let begun = entry.begun;
        let live = LiveJob {
            control: Arc::clone(&control),
            entry,
            input: Some(Input { feed, window: LINK_WINDOW_BYTES }),
            result_window: LINK_WINDOW_BYTES,
            pass,
        };
        let patience = Duration::from_millis(u64::from(deadline_ms));
        let order = Order {
            job,
            action: Arc::new(action),
            deadline: begun + patience,
            deadline_seconds: patience.as_secs(),
            control,
            input,
            held: Arc::new([task, room]),
        };
        self.jobs.insert(job, live);
        let (member, context) = (Arc::clone(&self.member), Arc::clone(&self.context));
        let span = tracing::info_span!("job", attempt = job);
        self.tasks.spawn(job::run(order, member, context, self.events.clone()).instrument(span));
        Ok(())
    }

    /// Why no job is taken at this moment, if none is.
    fn why_not_now(&self) -> Option<String> {
        if self.draining {
            return Some("draining".to_owned());
        }
        let unfinished = self.jobs.len() + self.outbox.streams();
        if unfinished >= self.context.gate.credit_max() {
            return Some(format!("{unfinished} jobs of this link are unfinished"));
        }
        self.context.gate.closed()
    }

    fn on_cancel(&mut self, job: u32) {
        self.outbox.forget(job);
        if let Some(live) = self.over(job) {
            live.control.cancel();
            self.log(job, &live, Outcome::Disconnected, "cancelled", None);
        }
    }

    /// A job that is not waited for any more. What its client may send is still under way.
    fn over(&mut self, job: u32) -> Option<LiveJob> {
        let live = self.jobs.remove(&job)?;
        self.late = self.late.saturating_add(live.input.as_ref().map_or(0, |input| input.window));
        Some(live)
    }

    fn on_window(&mut self, job: u32, bytes: u64) {
        match self.jobs.get_mut(&job) {
            Some(live) => live.result_window = live.result_window.saturating_add(bytes),
            None => self.outbox.grant(job, bytes),
        }
    }

    /// Data of a job that is over is late, not wrong, as long as it was granted.
    fn on_data(&mut self, job: u32, bytes: &[u8]) -> Result<(), LinkEnd> {
        let length = bytes.len() as u64;
        let Some(live) = self.jobs.get_mut(&job) else {
            let late = self.late.checked_sub(length);
            self.late = late.ok_or_else(|| LinkEnd::Protocol(format!("job {job}: data of no job")))?;
            return Ok(());
        };
        let granted = live.input.as_mut().filter(|input| length <= input.window);
        let taken = granted.is_some_and(|input| {
            input.window -= length;
            input.feed.take(bytes)
        });
        match taken {
            true => Ok(()),
            false => Err(LinkEnd::Protocol(format!("job {job}: more data than granted or announced"))),
        }
    }

    fn on_event(&mut self, event: Event) -> Result<(), LinkEnd> {
        match event {
            Event::NeedInput { job } => {
                if self.jobs.contains_key(&job) {
                    self.outbox.message(&ToBroker::NeedInput { job });
                }
            }
            Event::Consumed { job, bytes } => self.on_consumed(job, bytes),
            Event::Want(want) => self.on_want(want),
            Event::Provisioned { provision, outcome } => self.on_provisioned(provision, outcome),
            Event::BundleConsumed { bundle, bytes } => self.on_bundle_consumed(bundle, bytes),
            Event::BundleDone { bundle, outcome } => return self.on_bundle_done(bundle, outcome),
            Event::Done { job, outcome } => {
                if let Some(live) = self.over(job) {
                    self.on_done(job, live, outcome);
                }
            }
        }
        Ok(())
    }

    fn on_consumed(&mut self, job: u32, bytes: u64) {
        let Some(input) = self.jobs.get_mut(&job).and_then(|live| live.input.as_mut()) else { return };
        input.feed.consumed();
        // What the client may send already reaches to the end: it needs no more.
        if input.feed.missing() > input.window {
            input.window += bytes;
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            self.outbox.message(&ToBroker::Window { job, bytes });
        }
    }

    fn on_credit(&mut self, credit: &Credit) -> Result<(), LinkEnd> {
        if credit.paused {
            self.outbox.message(&ToBroker::Draining);
        }
        self.outbox.message(&ToBroker::Credit { jobs: credit.jobs, why: credit.why.clone() });
        Ok(())
    }

    fn on_phase(&mut self, phase: Phase) -> Result<(), LinkEnd> {
        match phase {
            Phase::Running => {}
            Phase::Draining if self.draining => {}
            Phase::Draining => {
                self.draining = true;
                self.outbox.message(&ToBroker::Draining);
            }
            Phase::Stopping => return Err(LinkEnd::Stopped),
        }
        Ok(())
    }

    /// Something is said at every interval, asked or not.
    fn on_tick(&mut self) -> Result<(), LinkEnd> {
        if !self.client.right.stands() {
            return Err(LinkEnd::Revoked);
        }
        if self.outbox.is_empty() {
            self.outbox.message(&ToBroker::Pong { token: 0 });
        }
        Ok(())
    }

    fn cancel_all(&mut self) {
        for (job, live) in std::mem::take(&mut self.jobs) {
            live.control.cancel();
            self.log(job, &live, Outcome::Disconnected, "killed with its link", None);
        }
        // Whoever waits for files waits no longer.
        self.desk = Desk::default();
        self.courier.leave();
    }

    async fn say_farewell(&mut self, end: &LinkEnd, batches: mpsc::Sender<Vec<u8>>) {
        let why = match end {
            LinkEnd::Protocol(_) | LinkEnd::Stopped | LinkEnd::Revoked => end.to_string(),
            LinkEnd::Closed | LinkEnd::Drained | LinkEnd::Broken(_) => return,
        };
        let mut last = Vec::new();
        push_message(&mut last, &ToBroker::Fatal { why });
        let _ = tokio::time::timeout(FAREWELL_TIMEOUT, batches.send(last)).await;
    }
}

/// Bytes that are no frame are the peer's fault; the rest is the network's.
fn broken(error: std::io::Error) -> LinkEnd {
    match error.kind() {
        std::io::ErrorKind::InvalidData => LinkEnd::Protocol(error.to_string()),
        _ => LinkEnd::Broken(error),
    }
}

#[cfg(test)]
mod tests;
