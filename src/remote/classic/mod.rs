//! Serves clients of distcc's own protocol: one job on each connection.
//!
//! `order` turns what a client sends into a command that is ours; `receive` takes the request,
//! with the files of version 3 in a `tree`, `run` compiles, and what is sent back is what distccd 3.4 sends. There is no way to say no in
//! this protocol: a job that is not done is a connection that closes, and a line in the log.
//!
//! Never does: hold more of a request in memory than the budget allows, wait for a client without
//! a bound, run a compiler for a client that has gone.

pub mod order;
mod receive;
mod run;
mod tree;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, SemaphorePermit, oneshot, watch};
use tokio::time::timeout;

use self::receive::Received;
use super::admit::PAUSED;
use super::clients::{Good, Held, LinkPass};
use super::hurry::{Crowd, Hurried};
use super::job::Context;
use super::listen::Peer;
use super::log::JOB_SUMMARY;
use super::owner::roster::Who;
use super::process::Control;
use super::session::Phase;
use super::stats::{self, Outcome};
use super::whitelist::{Rejection, Whitelist};
use crate::common::action::Ended;
use crate::common::exit;
use crate::common::protocol::classic::{ClassicError, Response, Version};
use crate::common::protocol::link::Refusal;

/// Memory that requests and results of this protocol may take, all connections together: units of
/// [`UNIT_BYTES`].
const BUDGET_UNITS: u32 = 1 << 10;

/// Requests that come at the same time. A client that has begun one sends it without a pause, so
/// whoever has begun first, and is not done, is the slowest.
const UPLOADS_MAX: usize = 512;

/// How long a client that is turned away may go on sending.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// One unit of the budget.
const UNIT_BYTES: u64 = 1 << 20;

/// What the classic protocol shares among connections.
#[derive(Debug)]
pub struct Terms {
    /// What may be run.
    pub whitelist: Whitelist,
    /// How long a client may send or take nothing.
    pub silence_max: Duration,
    memory: Semaphore,
    /// Connections whose request has not come whole.
    uploads: Mutex<Crowd>,
}

impl Terms {
    /// Terms with a whole budget.
    pub fn new(whitelist: Whitelist, silence_max: Duration) -> Self {
        let memory = Semaphore::new(BUDGET_UNITS as usize);
        Terms { whitelist, silence_max, memory, uploads: Mutex::new(Crowd::new(UPLOADS_MAX, UPLOADS_MAX)) }
    }

    /// A place among those whose request comes; its end is the sign to give that up.
    fn upload(&self) -> oneshot::Receiver<()> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner).admit(None)
    }

    /// The right to hold so many bytes; waits while others hold too many. Each client waits for its own first, so
    /// that nobody stands behind a crowd of another's.
    async fn memory<'a>(&'a self, bytes: u64, client: &'a LinkPass) -> [Option<SemaphorePermit<'a>>; 2] {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).min(BUDGET_UNITS);
        let own = client.memory(units).await;
        // Never closed.
        [own, self.memory.acquire_many(units).await.ok()]
    }
}

/// Why a job was not done.
#[derive(Debug, thiserror::Error)]
enum Closed {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Protocol(#[from] ClassicError),
    #[error("{0}")]
    Command(String),
    #[error("{0}")]
    Tree(#[from] tree::TreeError),
    #[error("{0}")]
    Compiler(#[from] Rejection),
    #[error("{0}")]
    Refused(#[from] Refusal),
    #[error("the client has gone")]
    Gone,
    #[error("the daemon ends")]
    Stopped,
}

impl Closed {
    fn outcome(&self) -> Outcome {
        match self {
            Closed::Io(_) | Closed::Gone => Outcome::Disconnected,
            Closed::Protocol(_) | Closed::Command(_) | Closed::Tree(_) => Outcome::BadRequest,
            Closed::Refused(Refusal::TimedOut { .. }) => Outcome::Timeout,
            Closed::Compiler(_) | Closed::Refused(_) | Closed::Stopped => Outcome::Other,
        }
    }
}

/// Serves one connection whose first four bytes were those of this protocol.
pub async fn serve<S>(
    mut stream: S,
    peer: Peer,
    client: &LinkPass,
    context: Arc<Context>,
    phase: watch::Receiver<Phase>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    if context.gate.is_paused() {
        return turn_away(&mut stream, peer, &context).await;
    }
    let begun = Instant::now();
    let mut about = About { compiler: "-".to_owned(), source: "-".to_owned() };
    let from = peer.0.map_or_else(|| peer.to_string(), |address| address.ip().to_canonical().to_string());
    let who = Who { client: client.client(), name: format!("{from} (distcc 3.4)"), from: peer.to_string() };
    let answered = deliver(&mut stream, (&who, client), &context, phase, &mut about).await;
    let (outcome, ended) = match &answered {
        Ok((ended, _)) => (outcome_of(*ended), *ended),
        Err(closed) => {
            let About { compiler, source } = &about;
            tracing::warn!(client = %peer, compiler, source, "refused: {closed}");
            (closed.outcome(), Ended::Exited(exit::FAILED))
        }
    };
    let (time, ms) = (begun.elapsed(), begun.elapsed().as_millis());
    context.stats.ended(outcome, &about.compiler, time);
    // The line that scripts read.
    tracing::info!(
        target: JOB_SUMMARY,
        "client: {peer} {outcome} {} time:{ms}ms {} {}",
        stats::status(ended),
        about.compiler,
        about.source
    );
    if let Ok((_, last)) = answered {
        // The client that does not take its last byte has told so by going away.
        let _ = send(&mut stream, &last, context.classic.silence_max).await;
    }
    // Only a client that is well waits for this; one that is not has been waited for already.
    let _ = timeout(Duration::from_secs(1), stream.shutdown()).await;
}

/// Closes in peace: who still sends finds a connection that has ended, and not one that was reset.
async fn turn_away(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), peer: Peer, context: &Context) {
    tracing::info!(client = %peer, "refused: {PAUSED}");
    context.stats.ended(Outcome::Other, "-", Duration::ZERO);
    let farewell = async {
        let _ = stream.shutdown().await;
        gone(stream).await;
    };
    let _ = timeout(FAREWELL_TIMEOUT, farewell).await;
}

/// What the log says of a job.
struct About {
    compiler: String,
    source: String,
}

impl About {
    fn know(&mut self, compiler: &[u8], source: &[u8]) {
        self.compiler = receive::printable(compiler);
        self.source = receive::printable(source);
    }
}

/// Answers, but for the last byte: who has the whole answer finds its line in the log.
async fn deliver<S>(
    stream: &mut S,
    who: (&Who, &LinkPass),
    context: &Arc<Context>,
    phase: watch::Receiver<Phase>,
    about: &mut About,
) -> Result<(Ended, Vec<u8>), Closed>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let Encoded { mut bytes, ended, held: _held, .. } = answer(stream, who, context, phase, about).await?;
    let last = bytes.split_off(bytes.len().saturating_sub(1));
    send(stream, &bytes, context.classic.silence_max).await?;
    Ok((ended, last))
}

async fn answer<S>(
    stream: &mut S,
    (who, client): (&Who, &LinkPass),
    context: &Arc<Context>,
    mut phase: watch::Receiver<Phase>,
    about: &mut About,
) -> Result<Encoded, Closed>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut request = Hurried::new(stream, context.classic.upload(), phase.clone());
    let received = receive::receive(&mut request, context, client, about).await?;
    drop(request);
    let control = Arc::new(Control::default());
    let entry = context.roster.begin(who, about.compiler.clone(), about.source.clone(), &control);
    let work = response(received, client, context, Arc::clone(&control));
    tokio::pin!(work);
    let answered = tokio::select! {
        response = &mut work => response,
        () = gone(stream) => Err(Closed::Gone),
        () = stopping(&mut phase) => Err(Closed::Stopped),
    };
    if let Err(Closed::Gone | Closed::Stopped) = answered {
        control.cancel();
        // The compiler has been killed: this ends at once, with its directory.
        let _ = work.await;
    }
    match &answered {
        Ok(encoded) => entry.end(outcome_of(encoded.ended), encoded.cpu),
        Err(closed) => entry.end(closed.outcome(), Duration::ZERO),
    }
    answered
}

fn outcome_of(ended: Ended) -> Outcome {
    if ended.is_success() { Outcome::Ok } else { Outcome::Error }
}

/// Returns when the daemon ends at once.
async fn stopping(phase: &mut watch::Receiver<Phase>) {
    // An error means that the daemon has gone on without us.
    let _ = phase.wait_for(|phase| *phase >= Phase::Stopping).await;
}

/// Returns when the client has closed its side. What it sends meanwhile is of no interest.
async fn gone(reading: &mut (impl AsyncRead + Unpin)) {
    let mut ignored = [0; 512];
    while reading.read(&mut ignored).await.is_ok_and(|read| read > 0) {}
}

async fn send(
    writing: &mut (impl AsyncWrite + Unpin),
    mut bytes: &[u8],
    patience: Duration,
) -> Result<(), Closed> {
    let silent = |_| Closed::Io(std::io::ErrorKind::TimedOut.into());
    while !bytes.is_empty() {
        let written = timeout(patience, writing.write(bytes)).await.map_err(silent)??;
        if written == 0 {
            return Err(Closed::Gone);
        }
        bytes = &bytes[written..];
    }
    timeout(patience, writing.flush()).await.map_err(silent)??;
    Ok(())
}

/// A whole response, as it travels.
struct Encoded {
    bytes: Vec<u8>,
    ended: Ended,
    /// What the compiler took of the processor.
    cpu: Duration,
    /// What the client has less of until it has taken the bytes.
    held: Option<Held>,
}

/// Waits for a slot, compiles, and packs what came of it. Some failures are answers, too.
async fn response(
    received: Received,
    client: &LinkPass,
    context: &Arc<Context>,
    control: Arc<Control>,
) -> Result<Encoded, Closed> {
    let version = received.version;
    let program = match context.classic.whitelist.resolve(&received.work.compiler) {
        Ok(program) => program,
        Err(Rejection::Missing(name)) => {
            return Ok(failed(
                version,
                exit::NO_COMPILER,
                &format!("failed to exec {name}: it was not found"),
            ));
        }
        Err(rejection) => return Err(rejection.into()),
    };
    let member = context.gate.join(client.client());
    let mut place = member.enter();
    tokio::select! {
        granted = place.granted() => granted?,
        () = control.cancelled() => return Err(Closed::Gone),
    }
    let room = client.none(Good::Leaving);
    match run::run(received, program, context, control, (place, room)).await {
        Ok((finished, response, held)) => Ok(Encoded {
            bytes: response.encode(version),
            ended: finished.ended,
            cpu: finished.cpu,
            held: Some(held),
        }),
        Err(Refusal::TimedOut { seconds }) => {
            Ok(failed(version, exit::TIMEOUT, &format!("the compiler ran longer than {seconds} s")))
        }
        Err(refusal) => Err(refusal.into()),
    }
}

/// An answer that says that this daemon failed, in its own words.
fn failed(version: Version, status: i32, why: &str) -> Encoded {
    let stderr = format!("distccd[{}] ERROR: {why}\n", std::process::id()).into_bytes();
    let response = Response { status: (status as u32) << 8, stderr, ..Response::default() };
    Encoded { bytes: response.encode(version), ended: Ended::Exited(status), cpu: Duration::ZERO, held: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::clients::{Client, Clients};
    use crate::remote::whitelist::Policy;

    #[tokio::test]
    async fn nobody_waits_for_memory_behind_the_crowd_of_another_address() {
        let terms = Terms::new(Whitelist::new(Policy::Everything, "/usr/bin".into()), Duration::from_secs(1));
        let clients = Clients::default();
        let [crowd, other] =
            ["192.0.2.1", "192.0.2.2"].map(|address| Client::Address(address.parse().expect("an address")));
        let links: Vec<LinkPass> = (0..20).map(|_| clients.enter(crowd).expect("a connection")).collect();
        let largest = 600 << 20;
        let first = terms.memory(largest, &links[0]).await;
        let mut waiting: Vec<_> =
            links[1..].iter().map(|link| Box::pin(terms.memory(largest, link))).collect();
        for waiting in &mut waiting {
            assert!(timeout(Duration::from_millis(1), waiting.as_mut()).await.is_err(), "one at a time");
        }
        let other = clients.enter(other).expect("a connection");
        let mine = timeout(Duration::from_secs(10), terms.memory(100 << 20, &other)).await;
        assert!(mine.expect("no wait").iter().all(Option::is_some));
        drop(first);
        let next = timeout(Duration::from_secs(10), waiting[0].as_mut()).await;
        assert!(next.expect("its turn").iter().all(Option::is_some));
    }
}
