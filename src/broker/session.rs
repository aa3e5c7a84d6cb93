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

use super::dispatch::{About, Command, Message, NewJob, Whither};
use super::link::{Answer, LinkHandle, Order, PackedBlob};
use super::outcome::{self, Outcome};
use super::plan::{Plan, Planner};
use super::prepare::{self, Prepared, Workshop};
use super::scheduler::api::{BuildId, Event, Failure, HostId, JobId};
use super::sets::FileSet;
use super::state::slots::SlotLease;
use super::volunteers::Ssh;
use super::{AtWork, Shared};
use crate::common::bytes::Bytes;
use crate::common::invocation::Invocation;
use crate::common::protocol::classic::Version;
use crate::common::protocol::io::{LocalFrames, local_frame};
use crate::common::protocol::local::{
    Attempted, Control, ControlReply, Done, Header, Kind, Run, VERSION, build_id,
};
use crate::common::protocol::wire;
use crate::common::reason::LocalReason;
use crate::common::settings::Settings;

/// How long a shim may take to say what it wants, and to take what it is told.
const SHIM_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves one connection.
pub async fn serve(shared: Arc<Shared>, mut stream: Stream) {
    let mut frames = LocalFrames::default();
    match timeout(SHIM_TIMEOUT, frames.next(&mut stream)).await {
        Ok(Ok(Some((header, body)))) => {
            if let Err(error) = answer(&shared, stream, frames, header, &body).await {
                tracing::debug!(%error, "session ended");
            }
        }
        Ok(Ok(None)) => {}
        Ok(Err(error)) => tracing::warn!(%error, "not a shim of ours"),
        Err(_) => tracing::warn!("a connection said nothing"),
    }
}

async fn answer(
    shared: &Arc<Shared>,
    mut stream: Stream,
    frames: LocalFrames,
    header: Header,
    body: &[u8],
) -> io::Result<()> {
    let same_build = header.build == build_id() || header.build == 0;
    match header.kind {
        Kind::Drain => {
            shared.stop();
            write(&mut stream, Kind::Ack, &[]).await
        }
        Kind::Compile | Kind::Control if header.protocol != VERSION || !same_build => {
            write(&mut stream, Kind::OtherBuild, &shared.config.executable_modified_ns.to_le_bytes()).await
        }
        Kind::Compile => {
            let invocation: Invocation = wire::decode(body).map_err(io::Error::other)?;
            write(&mut stream, Kind::Ack, &[]).await?;
            compile(shared, stream, frames, invocation).await
        }
        Kind::Control => {
            let control: Control = wire::decode(body).map_err(io::Error::other)?;
            let reply = wire::encode(&obey(shared, control).await);
            write(&mut stream, Kind::ControlReply, &reply).await
        }
        _ => Ok(()),
    }
}

async fn write(stream: &mut Stream, kind: Kind, body: &[u8]) -> io::Result<()> {
    let frame = local_frame(kind, body);
    timeout(SHIM_TIMEOUT, stream.write_all(&frame)).await.map_err(|_| io::ErrorKind::TimedOut)?
}

async fn obey(shared: &Shared, control: Control) -> ControlReply {
    match control {
        Control::Stop => {
            shared.stop();
            ControlReply::Stopping
        }
        Control::Status => {
            let (reply, status) = oneshot::channel();
            // A dispatcher that is gone leaves an empty document.
            let _ = shared.inbox.send(Message::Status(reply)).await;
            let json = status.await.ok().and_then(|report| serde_json::to_string(&report).ok());
            ControlReply::Status { json: json.unwrap_or_default() }
        }
    }
}

async fn compile(
    shared: &Arc<Shared>,
    stream: Stream,
    frames: LocalFrames,
    invocation: Invocation,
) -> io::Result<()> {
    let planner = Planner {
        compilers: &shared.compilers,
        host_lists: &shared.host_lists,
        origin: shared.config.origin,
    };
    let settings = Settings::of(&invocation);
    let plan = planner.plan(&invocation).await.map(Arc::new);
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
    let new = NewJob { job, build, about, commands: sender, whither };
    shared.inbox.send(Message::Job(Box::new(new))).await.map_err(|_| io::ErrorKind::BrokenPipe)?;
    let session = Session {
        shared: shared.clone(),
        stream,
        frames,
        invocation: Arc::new(invocation),
        plan: plan.ok(),
        settings,
        job,
        work: JoinSet::new(),
        preparing: None,
        prepared: None,
        attempts: Vec::new(),
        answers: Vec::new(),
        at_work: Some(at_work),
    };
    session.run(commands).await
}

/// What people see as the job's name.
fn source_name(invocation: &Invocation, plan: Option<&Plan>) -> String {
    match plan {
        Some(plan) => plan.job.source.to_text(),
        None => invocation.argv.last().map(Bytes::to_text).unwrap_or_default(),
    }
}

/// What a session's own tasks bring.
enum Progress {
    Prepared(Result<Prepared, LocalReason>),
    Attempted(HostId, Result<Answer, Failure>),
    Finished(Result<Outcome, LocalReason>),
}

struct Attempt {
    host: HostId,
    name: Arc<str>,
    task: AbortHandle,
}

struct Session {
    shared: Arc<Shared>,
    stream: Stream,
    frames: LocalFrames,
    invocation: Arc<Invocation>,
    plan: Option<Arc<Plan>>,
    settings: Settings,
    job: JobId,
    work: JoinSet<Progress>,
    preparing: Option<AbortHandle>,
    prepared: Option<Arc<Prepared>>,
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
    /// All that the compile reads, in place of a text.
    set: Option<Arc<FileSet>>,
    /// Ours for as long as the attempt lasts.
    _slot: SlotLease,
}

impl Way {
    async fn attempt(self, plan: &Plan, invocation: &Invocation, order: Order) -> Result<Answer, Failure> {
        match self.link {
            // It came up when the job was prepared for others.
            LinkHandle::Native(_) if self.set.is_some() => {
                Err(Failure::Refused { why: "takes no file sets".to_owned() })
            }
            LinkHandle::Native(link) => link.attempt(order).await,
            LinkHandle::Classic(link) => {
                let classic = plan.classic_order(invocation, self.classic, self.set).await;
                link.attempt(order, classic.map_err(|why| Failure::Refused { why })?).await
            }
        }
    }
}

/// The job's inputs as a file set; `None` when its text must be sent.
async fn file_set(shared: &Arc<Shared>, plan: &Arc<Plan>, invocation: &Arc<Invocation>) -> Option<Prepared> {
    let (shared, plan, invocation) = (shared.clone(), plan.clone(), invocation.clone());
    let work = move || shared.file_sets.prepare(&plan, &invocation);
    match tokio::task::spawn_blocking(work).await.ok()? {
        Ok(prepared) => Some(prepared),
        Err(why) => {
            tracing::debug!(%why, "the text is sent");
            None
        }
    }
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
            Command::Prepare { as_set } => self.start_preparing(as_set),
            Command::CancelPrepare => {
                if let Some(task) = self.preparing.take() {
                    task.abort();
                }
            }
            Command::Send { host, name, link, classic, slot, deadline } => {
                self.start_attempt(host, name, Way { link, classic, set: None, _slot: slot }, deadline);
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

    fn start_preparing(&mut self, as_set: bool) {
        let (Some(plan), invocation) = (self.plan.clone(), self.invocation.clone()) else { return };
        let (shared, settings) = (self.shared.clone(), self.settings);
        let task = self.work.spawn(async move {
            if as_set && let Some(prepared) = file_set(&shared, &plan, &invocation).await {
                return Progress::Prepared(Ok(prepared));
            }
            let workshop = Workshop { program: &plan.compiler.program, scratch: &shared.config.scratch };
            let prepared = prepare::prepare(workshop, &invocation, &plan.job).await;
            if settings.save_temps
                && let Ok(prepared) = &prepared
            {
                prepare::save(prepared, &plan.job, &invocation);
            }
            Progress::Prepared(prepared)
        });
        self.preparing = Some(task);
    }

    fn start_attempt(&mut self, host: HostId, name: Arc<str>, way: Way, deadline: Duration) {
        let (Some(plan), Some(prepared)) = (self.plan.clone(), &self.prepared) else { return };
        let input: PackedBlob = prepared.input.clone();
        let way = Way { set: prepared.set.clone(), ..way };
        let deadline = match self.settings.io_timeout_is_set {
            true => deadline.min(self.settings.io_timeout),
            false => deadline,
        };
        let order = Order { action: Box::new(plan.action(&input)), input, deadline };
        let invocation = self.invocation.clone();
        let task = self.work.spawn(async move {
            // The volunteer enforces the deadline; this is for one that does not.
            let grace = deadline + Duration::from_secs(10);
            let outcome = timeout(grace, way.attempt(&plan, &invocation, order)).await;
            Progress::Attempted(host, outcome.unwrap_or(Err(Failure::Deadline)))
        });
        self.attempts.push(Attempt { host, name, task });
    }

    fn take(&mut self, host: HostId) {
        let (Some(plan), Some(prepared)) = (self.plan.clone(), self.prepared.clone()) else { return };
        let Some(at) = self.answers.iter().position(|(answered, _)| *answered == host) else { return };
        let (_, answer) = self.answers.swap_remove(at);
        let name =
            self.attempts.iter().find(|attempt| attempt.host == host).map(|attempt| attempt.name.clone());
        let (invocation, shared, settings) = (self.invocation.clone(), self.shared.clone(), self.settings);
        self.work.spawn(async move {
            let front_ends = &shared.front_ends;
            let work = outcome::Work {
                plan: &plan,
                prepared: &prepared,
                invocation: &invocation,
                settings,
                front_ends,
            };
            let outcome = outcome::finish(work, answer, &shared.diagnosed).await;
            Progress::Finished(outcome.map(|outcome| Outcome { host: name, ..outcome }))
        });
    }

    async fn advance(&mut self, progress: Progress) -> io::Result<Next> {
        let job = self.job;
        match progress {
            Progress::Prepared(Ok(prepared)) => {
                self.preparing = None;
                let known = !self.settings.remote_is_final()
                    && self.plan.as_ref().is_some_and(|plan| {
                        self.shared.diagnosed.contains(&outcome::fingerprint(plan, &prepared.input))
                    });
                self.prepared = Some(Arc::new(prepared));
                self.tell(match known {
                    true => Event::Unpreparable { job, reason: LocalReason::RemoteDiagnostics },
                    false => Event::Prepared { job },
                })
                .await;
            }
            Progress::Prepared(Err(reason)) => self.tell(Event::Unpreparable { job, reason }).await,
            Progress::Attempted(host, Ok(answer)) => {
                let compile = Duration::from_micros(answer.result.wall_us);
                self.answers.push((host, answer));
                self.tell(Event::Answered { job, host, compile }).await;
            }
            Progress::Attempted(host, Err(failure)) => self.tell(Event::Failed { job, host, failure }).await,
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
        self.prepared = None;
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
