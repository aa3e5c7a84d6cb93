//! One shim: from its request to its answer.
//!
//! The session holds what belongs to the job (its plan, its prepared input, its attempts) and does
//! what the dispatcher tells it. It decides nothing about where or when.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use interprocess::local_socket::tokio::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tracing::Instrument;

use super::dispatch::{About, Command, Message, NewJob, Whither};
use super::hermetic::result;
use super::history::Note;
use super::inputs::{Inputs, Source};
use super::link::{Answer, Author, LinkHandle, Order};
use super::outcome::{self, Outcome};
use super::plan::{Plan, Planner};
use super::scheduler::api::{BuildId, Event, Failure, HostId, JobId};
use super::settle::Settlement;
use super::state::slots::SlotLease;
use super::volunteers::{Form, Ssh};
use super::{AtWork, Shared};
use crate::common::invocation::Invocation;
use crate::common::protocol::classic::Version;
use crate::common::protocol::io::{LocalFrames, local_frame};
use crate::common::protocol::local::{Attempted, Control, Done, Header, Kind, Run, VERSION, build_id};
use crate::common::protocol::wire;
use crate::common::reason::LocalReason;
use crate::common::settings::Settings;

mod due;
mod orders;
mod provided;
mod turned;

use due::Due;
pub use orders::{hold_host, obey, source_name, trace_wish};
pub use turned::turn_away;

/// How long a shim may take to say what it wants, and to take what it is told.
const SHIM_TIMEOUT: Duration = Duration::from_secs(30);

/// What a connection was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    /// Somebody looked, which keeps no broker alive: a view that is left open looks for ever.
    Look,
    /// Anything else.
    Business,
}

/// Serves one connection.
pub async fn serve(shared: Arc<Shared>, mut stream: Stream) -> Visit {
    let mut frames = LocalFrames::default();
    match timeout(SHIM_TIMEOUT, frames.next(&mut stream)).await {
        Ok(Ok(Some((header, body)))) => {
            return answer(&shared, stream, frames, header, &body).await.unwrap_or_else(|error| {
                tracing::debug!(%error, "session ended");
                Visit::Business
            });
        }
        Ok(Ok(None)) => {}
        Ok(Err(error)) => tracing::warn!(%error, "not a shim of ours"),
        Err(_) => tracing::warn!("a connection said nothing"),
    }
    Visit::Business
}

async fn answer(
    shared: &Arc<Shared>,
    mut stream: Stream,
    frames: LocalFrames,
    header: Header,
    body: &[u8],
) -> io::Result<Visit> {
    let same_build = header.build == build_id() || header.build == 0;
    match header.kind {
        Kind::Drain => {
            shared.stop();
            write(&mut stream, Kind::Ack, &[]).await?;
        }
        Kind::Compile | Kind::Control if header.protocol != VERSION || !same_build => {
            write(&mut stream, Kind::OtherBuild, &shared.config.executable_modified_ns.to_le_bytes()).await?;
        }
        Kind::Compile => {
            let invocation: Invocation = wire::decode(body).map_err(io::Error::other)?;
            compile(shared, stream, frames, shared.completed(invocation)).await?;
        }
        Kind::Control => {
            let control: Control = wire::decode(body).map_err(io::Error::other)?;
            let visit = if control == Control::Status { Visit::Look } else { Visit::Business };
            let reply = wire::encode(&obey(shared, control).await);
            write(&mut stream, Kind::ControlReply, &reply).await?;
            return Ok(visit);
        }
        _ => {}
    }
    Ok(Visit::Business)
}

async fn write(stream: &mut Stream, kind: Kind, body: &[u8]) -> io::Result<()> {
    let frame = local_frame(kind, body);
    timeout(SHIM_TIMEOUT, stream.write_all(&frame)).await.map_err(|_| io::ErrorKind::TimedOut)?
}

async fn compile(
    shared: &Arc<Shared>,
    mut stream: Stream,
    frames: LocalFrames,
    invocation: Invocation,
) -> io::Result<()> {
    let planner = Planner {
        compilers: &shared.compilers,
        host_lists: &shared.host_lists,
        origin: shared.config.origin,
        scratch: &shared.config.scratch,
    };
    let settings = Settings::of(&invocation);
    let mut due = Due::new();
    let plan = due.during(&mut stream, planner.plan(&invocation)).await?.map(Arc::new);
    let at_work = shared.at_work();
    let job = shared.next_job();
    let build = BuildId(invocation.origin.build);
    let (sender, commands) = mpsc::channel(16);
    let whither = match &plan {
        Ok(plan) => Whither::Remote {
            hosts: plan.hosts.clone(),
            ssh: plan.hosts.uses_ssh().then(|| Ssh::of(&invocation)),
            toolchain: plan.compiler.toolchain.id,
            task: plan.task,
            settings,
        },
        Err(reason) => {
            use LocalReason::{BadHostList, EmptyHostList, NoHosts};
            let listless = matches!(reason, NoHosts | EmptyHostList { .. } | BadHostList { .. });
            let hosts = shared.host_lists.of(&invocation).ok();
            Whither::Local { hosts, reason: reason.clone(), forbidden: listless && !settings.fallback }
        }
    };
    let about =
        About { source: source_name(&invocation, plan.as_deref().ok()), pid: invocation.origin.pid, slot: 0 };
    let about_source = about.source.clone();
    let trace = trace_wish(&invocation);
    let new = NewJob { job, build, about, commands: sender, whither, trace };
    shared.inbox.send(Message::Job(Box::new(new))).await.map_err(|_| io::ErrorKind::BrokenPipe)?;
    let session = Session {
        shared: shared.clone(),
        stream,
        due,
        frames,
        invocation: Arc::new(invocation),
        plan: plan.ok(),
        settings,
        job,
        work: JoinSet::new(),
        preparing: None,
        inputs: None,
        attempts: Vec::new(),
        answers: Vec::new(),
        at_work: Some(at_work),
    };
    // The job's span is in every line that is about it.
    let span = tracing::info_span!("job", job = job.0, source = %about_source);
    session.run(commands).instrument(span).await
}

/// What a session's own tasks bring.
enum Progress {
    Prepared(Result<Inputs, LocalReason>),
    /// The result of an equal job is in place.
    Found(Outcome),
    Attempted(HostId, Result<Answer, Failure>),
    Finished(Result<Outcome, LocalReason>),
}

struct Attempt {
    host: HostId,
    name: Arc<str>,
    author: Author,
    task: AbortHandle,
}

struct Session {
    shared: Arc<Shared>,
    stream: Stream,
    due: Due,
    frames: LocalFrames,
    invocation: Arc<Invocation>,
    plan: Option<Arc<Plan>>,
    settings: Settings,
    job: JobId,
    work: JoinSet<Progress>,
    preparing: Option<AbortHandle>,
    inputs: Option<Arc<Inputs>>,
    attempts: Vec<Attempt>,
    answers: Vec<(HostId, Answer)>,
    /// Until a compiler runs under the lease.
    at_work: Option<AtWork>,
}

/// How a volunteer is spoken to.
struct Way {
    link: LinkHandle,
    /// Should it speak the classic protocol.
    classic: Version,
    /// Ours for as long as the attempt lasts.
    _slot: SlotLease,
}

/// What every attempt at a job is made of.
struct Task {
    shared: Arc<Shared>,
    job: JobId,
    host: HostId,
    plan: Arc<Plan>,
    invocation: Arc<Invocation>,
    inputs: Arc<Inputs>,
    deadline: Duration,
}

impl Way {
    async fn attempt(self, task: &Task) -> Result<Answer, Failure> {
        match &self.link {
            LinkHandle::Native(link) => task.natively(link).await,
            LinkHandle::Classic(link) => {
                let order = task.text_order().await?;
                let set = task.inputs.made_text().and_then(|text| text.set.clone());
                let classic = task.plan.classic_order(&task.invocation, self.classic, set).await;
                task.bounded(link.attempt(order, classic.map_err(|why| Failure::Refused { why })?)).await
            }
        }
    }
}

impl Task {
    async fn text_order(&self) -> Result<Order, Failure> {
        let text = self.inputs.text().await.map_err(|reason| Failure::Unpreparable { reason })?;
        self.inputs.count(false);
        let input = text.input.clone();
        Ok(Order { action: Box::new(self.plan.action(&input)), input, deadline: self.deadline })
    }

    /// The volunteer enforces the deadline; this is for one that does not.
    async fn bounded(
        &self,
        attempt: impl Future<Output = Result<Answer, Failure>>,
    ) -> Result<Answer, Failure> {
        let grace = self.deadline + Duration::from_secs(10);
        timeout(grace, attempt).await.unwrap_or(Err(Failure::Deadline))
    }
}

/// Makes a job's inputs ready, and looks whether its result is kept.
async fn prepare(source: Source, form: Form) -> Progress {
    let (plan, invocation) = (source.plan.clone(), source.invocation.clone());
    let inputs = match Inputs::make(source, form).await {
        Ok(inputs) => inputs,
        Err(reason) => return Progress::Prepared(Err(reason)),
    };
    if let Some(answer) = inputs.find_result().await
        && let Ok(outcome) = result::finish(&plan, &invocation, inputs.made(), Arc::new(answer), false).await
    {
        return Progress::Found(outcome);
    }
    Progress::Prepared(Ok(inputs))
}

/// Whether the session goes on.
enum Next {
    Continue,
    End,
}

impl Session {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) -> io::Result<()> {
        loop {
            let next = tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(command) => self.obey(command).await,
                    None => Ok(Next::End),
                },
                heard = self.frames.next(&mut self.stream) => match heard {
                    Ok(Some((header, _))) if header.kind == Kind::Ping => {
                        write(&mut self.stream, Kind::Ack, &[]).await.map(|()| Next::Continue)
                    }
                    // It is gone, or has lost its mind; either way nothing is wanted any more.
                    _ => {
                        self.tell(Event::ShimGone { job: self.job }).await;
                        return Ok(());
                    }
                },
                Some(done) = self.work.join_next() => match done {
                    Ok(progress) => self.advance(progress).await,
                    // Aborted: the dispatcher does not want to hear of it.
                    Err(_) => Ok(Next::Continue),
                },
                () = self.due.wait() => {
                    write(&mut self.stream, Kind::Ack, &[]).await.map(|()| Next::Continue)
                }
            };
            match next {
                Ok(Next::Continue) => {}
                Ok(Next::End) => return Ok(()),
                Err(error) => {
                    self.tell(Event::ShimGone { job: self.job }).await;
                    return Err(error);
                }
            }
        }
    }

    async fn tell(&self, event: Event) {
        // A dispatcher that is gone has ended every session.
        let _ = self.shared.inbox.send(Message::Event(event)).await;
    }

    async fn obey(&mut self, command: Command) -> io::Result<Next> {
        match command {
            Command::Prepare { form } => self.start_preparing(form),
            Command::CancelPrepare => {
                if let Some(task) = self.preparing.take() {
                    task.abort();
                }
            }
            Command::Send { host, name, link, classic, slot, deadline } => {
                self.start_attempt(host, name, Way { link, classic, _slot: slot }, deadline);
            }
            Command::Cancel { host } => {
                self.attempts.retain(|attempt| {
                    let keep = attempt.host != host;
                    if !keep {
                        attempt.task.abort();
                    }
                    keep
                });
                self.answers.retain(|(answered, _)| *answered != host);
            }
            Command::Take { host } => self.take(host),
            Command::RunLocally { reason, attempted, warning } => {
                let reason = reason.to_string();
                return self.lease(Run { reason, attempted, warning, forbidden: None }).await;
            }
            Command::Forbid { reason, warning, status } => {
                let (reason, attempted) = (reason.to_string(), Attempted::No);
                self.lease(Run { reason, attempted, warning, forbidden: Some(status) }).await?;
                return Ok(Next::End);
            }
        }
        Ok(Next::Continue)
    }

    fn start_preparing(&mut self, form: Form) {
        let Some(plan) = self.plan.clone() else { return };
        // Whoever wants to see the text must have one.
        let form = if self.settings.save_temps { Form::Text } else { form };
        let source = Source {
            shared: self.shared.clone(),
            plan,
            invocation: self.invocation.clone(),
            save_temps: self.settings.save_temps,
        };
        let task = self.work.spawn(prepare(source, form).in_current_span());
        self.preparing = Some(task);
    }

    fn start_attempt(&mut self, host: HostId, name: Arc<str>, way: Way, deadline: Duration) {
        let (Some(plan), Some(inputs)) = (self.plan.clone(), self.inputs.clone()) else { return };
        let deadline = match self.settings.io_timeout_is_set {
            true => deadline.min(self.settings.io_timeout),
            false => deadline,
        };
        let (shared, job) = (self.shared.clone(), self.job);
        let task = Task { shared, job, host, plan, invocation: self.invocation.clone(), inputs, deadline };
        let author = way.link.author();
        let work = async move { Progress::Attempted(host, way.attempt(&task).await) };
        let task = self.work.spawn(work.in_current_span());
        self.attempts.push(Attempt { host, name, author, task });
    }

    fn take(&mut self, host: HostId) {
        let (Some(plan), Some(inputs)) = (self.plan.clone(), self.inputs.clone()) else { return };
        let Some(at) = self.answers.iter().position(|(answered, _)| *answered == host) else { return };
        // An attempt and its answer go together.
        let Some(attempt) = self.attempts.iter().find(|attempt| attempt.host == host) else { return };
        let (_, answer) = self.answers.swap_remove(at);
        let settlement = Settlement {
            shared: self.shared.clone(),
            plan,
            invocation: self.invocation.clone(),
            inputs,
            settings: self.settings,
            host,
            name: Some(attempt.name.clone()),
            author: attempt.author.clone(),
        };
        self.work.spawn(async move { Progress::Finished(settlement.settle(answer).await) });
    }

    async fn advance(&mut self, progress: Progress) -> io::Result<Next> {
        let job = self.job;
        match progress {
            Progress::Prepared(Ok(inputs)) => {
                self.preparing = None;
                let known = match (&self.plan, inputs.made_text()) {
                    (Some(plan), Some(text)) if !self.settings.remote_is_final() => {
                        self.shared.diagnosed.contains(&outcome::fingerprint(plan, &text.input))
                    }
                    _ => false,
                };
                self.inputs = Some(Arc::new(inputs));
                self.tell(match known {
                    true => Event::Unpreparable { job, reason: LocalReason::RemoteDiagnostics },
                    false => Event::Prepared { job },
                })
                .await;
            }
            Progress::Prepared(Err(reason)) => self.tell(Event::Unpreparable { job, reason }).await,
            Progress::Attempted(host, Ok(answer)) => {
                let compile = answer.wall();
                let cpu = u64::try_from(answer.cpu().as_micros()).unwrap_or(u64::MAX);
                let note = Note { times: answer.times(), cpu };
                self.answers.push((host, answer));
                // A dispatcher that is gone has ended every session.
                let _ = self.shared.inbox.send(Message::Answered { job, host, compile, note }).await;
            }
            Progress::Attempted(host, Err(failure)) => self.tell(Event::Failed { job, host, failure }).await,
            Progress::Found(outcome) => {
                self.tell(Event::Found { job }).await;
                return self.done(outcome).await;
            }
            Progress::Finished(Ok(outcome)) => return self.done(outcome).await,
            Progress::Finished(Err(reason)) => self.tell(Event::Unusable { job, reason }).await,
        }
        Ok(Next::Continue)
    }

    /// Tells the shim that its outputs are in place.
    async fn done(&mut self, outcome: Outcome) -> io::Result<Next> {
        let (reply, warning) = oneshot::channel();
        let _ = self.shared.inbox.send(Message::Delivered { job: self.job, reply }).await;
        let done = Done {
            ended: outcome.ended,
            stdout: outcome.stdout.into(),
            stderr: outcome.stderr.into(),
            warning: warning.await.unwrap_or_default(),
            host: outcome.host.as_deref().unwrap_or_default().to_owned(),
        };
        write(&mut self.stream, Kind::Done, &wire::encode(&done)).await?;
        Ok(Next::End)
    }

    /// Tells the shim to run the compiler, and waits until the kernel closes the connection.
    async fn lease(&mut self, run: Run) -> io::Result<Next> {
        // What was done so far is of no use any more.
        self.work.abort_all();
        self.inputs = None;
        self.answers.clear();
        write(&mut self.stream, Kind::Run, &wire::encode(&run)).await?;
        if run.forbidden.is_some() {
            return Ok(Next::End);
        }
        self.at_work = None;
        let mut ignored = [0; 64];
        while self.stream.read(&mut ignored).await.is_ok_and(|read| read > 0) {}
        self.tell(Event::LeaseReturned { job: self.job }).await;
        Ok(Next::End)
    }
}
