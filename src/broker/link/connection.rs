//! Drives one link over its socket: connects, finds out what the volunteer speaks, reads, writes,
//! pings, and reports what happens.
//!
//! Whoever closes the connection on hearing our opening, without a word, is taken for a distccd of
//! another kind: it is up as well, and its jobs each open a connection of their own ([`super::classic`]).
//! That is found out once for as long as it can be reached, and costs no job. A volunteer whose key is
//! known is never taken for one: nothing is sent to it in the clear.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep};

use super::classic::ClassicHandle;
use super::frames::Frames;
use super::peer::{LinkError, News, Peer};
use super::supply::{Bundle, ToPack};
use super::traffic::{Traffic, Way};
use super::transport::{ConnectError, Connection, Farewell, Route};
use super::{Author, LinkCommand, LinkHandle, NativeHandle};
use crate::broker::clock::{Clock, Timer};
use crate::broker::hermetic::Hermetic;
use crate::broker::scheduler::api::{HostId, Lost};
use crate::broker::trust::{Distrust, Trust, is_closed, is_denied};
use crate::common::protocol::link::{FrameError, HELLO_TIMEOUT};

/// How often it is looked whether the volunteer's key is still a known one.
const TRUST_INTERVAL: Duration = Duration::from_secs(2);

/// How long the hello may take over ssh, which has to log in first.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(30);

/// What a link tells its owner.
#[derive(Debug)]
pub enum LinkEvent {
    /// The volunteer said hello; attempts may be made through the handle.
    Up {
        /// How to reach it.
        handle: LinkHandle,
        /// Its build.
        build: String,
        /// Its slots, if it tells.
        slots: Option<u32>,
        /// How it confines jobs, for people.
        sandbox: String,
    },
    /// See [`News`].
    Credit {
        /// How many jobs it will hold.
        jobs: u32,
        /// Why not more.
        why: String,
    },
    /// See [`News`].
    Paused,
    /// What time it is there, in seconds since 1970.
    Clock(u64),
    /// A ping came back after this long.
    RoundTrip(Duration),
    /// The link is over. Attempts on it have failed.
    Down(Lost),
}

/// What links need of the broker.
#[derive(Clone)]
pub struct Surroundings {
    /// Who the client is, for the volunteers' logs.
    pub client: String,
    /// What time it is.
    pub clock: Clock,
    /// Where files that volunteers ask for come from.
    pub hermetic: Arc<Hermetic>,
    /// What travels is counted here.
    pub traffic: Arc<Traffic>,
    /// Where attempts get their numbers.
    pub numbers: Arc<AtomicU32>,
    /// Who is trusted.
    pub trust: Arc<Trust>,
}

/// Where a link's events go, with the host that they are of.
#[derive(Clone, Debug)]
pub struct Reporter {
    /// Whose link it is.
    pub host: HostId,
    /// The owner.
    pub owner: mpsc::Sender<(HostId, LinkEvent)>,
}

impl Reporter {
    async fn report(&self, event: LinkEvent) {
        // An owner that is gone is about to end this task.
        let _ = self.owner.send((self.host, event)).await;
    }
}

/// Opens a link and runs it until it ends. Everything that the owner must know is reported;
/// `Down` is always the last.
pub async fn run(route: Route, surroundings: Surroundings, reporter: Reporter) {
    let lost = live(Arc::new(route), &surroundings, &reporter).await;
    reporter.report(LinkEvent::Down(lost)).await;
}

/// Opens a link and runs it until it ends; says why it did.
async fn live(route: Arc<Route>, surroundings: &Surroundings, reporter: &Reporter) -> Lost {
    let begun = Instant::now();
    let mut connection = match route.connect(&surroundings.trust).await {
        Ok(connection) => connection,
        Err(ConnectError::Distrust(Distrust::Silent)) => {
            return classic(route, begun.elapsed(), surroundings, reporter).await.into();
        }
        Err(error) => return Lost { why: error.to_string(), nobody_home: error.nobody_home() },
    };
    let round_trip = begun.elapsed();
    let (carrier, key) = (connection.carrier.take(), connection.key);
    let end = serve(connection, carrier.is_some(), &route, surroundings, reporter).await;
    if let (Some(key), true, true) = (key, end.before_hello, end.closed) {
        return surroundings.trust.not_authorised(&key).to_string().into();
    }
    let farewell = match carrier {
        Some(carrier) if end.before_hello => carrier.farewell().await,
        _ => Farewell::Ended,
    };
    let why = match (farewell, end) {
        (Farewell::Unreachable(words), _) => format!("cannot be reached by ssh: {words}"),
        (Farewell::NoDaemon(words), _) => format!("has no distccd that ssh could run: {words}"),
        (Farewell::Ended, End { before_hello: true, closed: true, .. }) => {
            classic(route, round_trip, surroundings, reporter).await
        }
        (Farewell::Ended, end) => end.why,
    };
    why.into()
}

/// A volunteer of the classic protocol is up until it cannot be reached.
async fn classic(
    route: Arc<Route>,
    round_trip: Duration,
    surroundings: &Surroundings,
    reporter: &Reporter,
) -> String {
    reporter.report(LinkEvent::RoundTrip(round_trip)).await;
    let (handle, mut lost) = ClassicHandle::new(route, Arc::clone(&surroundings.traffic));
    let handle = LinkHandle::Classic(handle);
    let (build, sandbox) = ("of the classic protocol".to_owned(), String::new());
    reporter.report(LinkEvent::Up { handle, build, slots: None, sandbox }).await;
    // The dispatcher holds a handle until it hears that the host is down.
    lost.recv().await.unwrap_or_default()
}

/// How an open link ended.
struct End {
    why: String,
    /// The volunteer had not said its hello.
    before_hello: bool,
    /// The volunteer ended it, without a word of nonsense.
    closed: bool,
}

/// Runs an open link until it ends, and says how it did.
async fn serve(
    connection: Connection,
    carried: bool,
    route: &Route,
    surroundings: &Surroundings,
    reporter: &Reporter,
) -> End {
    let address = route.address.to_string();
    let author = connection.key.map_or_else(|| address.clone(), |key| key.to_string());
    let author = Author(author.into());
    let (handle, mut commands) = NativeHandle::new(author, Arc::clone(&surroundings.numbers));
    let traffic = Arc::clone(&surroundings.traffic);
    let mut peer = Peer::new(surroundings.clock.now(), surroundings.client.clone(), traffic);
    peer.tell_progress(handle.progress());
    let mut link = Link { peer: &mut peer, handle: Some(handle), carried };
    let trusted = connection.key.map(|key| move || surroundings.trust.knows(&address, &key));
    let work = exchange(connection, &mut link, &mut commands, surroundings, reporter);
    let ended = tokio::select! {
        ended = work => ended,
        () = while_holds(trusted) => Err(EndOfLink::Forgotten),
    };
    let before_hello = link.handle.is_some();
    let (why, closed) = match ended {
        Ok(()) => ("closed the connection".to_owned(), true),
        Err(EndOfLink::Peer(error)) => (error.to_string(), false),
        Err(EndOfLink::Io(error)) => {
            let why = match error.kind() {
                // In TLS, an end without a word is an error of many words.
                io::ErrorKind::UnexpectedEof => "connection lost: it ended without a word".to_owned(),
                _ => format!("connection lost: {error}"),
            };
            (why, is_closed(&error) || is_denied(&error))
        }
        Err(EndOfLink::NoHello) => (Distrust::Mute.to_string(), false),
        Err(EndOfLink::Forgotten) => (Distrust::Forgotten.to_string(), false),
    };
    peer.fail_all(&why);
    End { why, before_hello, closed }
}

/// Returns when something does not hold any more; never for nothing.
async fn while_holds(holds: Option<impl Fn() -> bool>) {
    let Some(holds) = holds else { return std::future::pending().await };
    while holds() {
        sleep(TRUST_INTERVAL).await;
    }
}

/// Why an open link ended, other than by the volunteer closing it.
enum EndOfLink {
    Peer(LinkError),
    Io(io::Error),
    NoHello,
    /// The volunteer's key is not known any more.
    Forgotten,
}

/// What a link in progress is made of.
struct Link<'a> {
    peer: &'a mut Peer,
    /// Until the hello has come.
    handle: Option<NativeHandle>,
    /// Over ssh, which takes its time to log in.
    carried: bool,
}

impl From<LinkError> for EndOfLink {
    fn from(error: LinkError) -> Self {
        EndOfLink::Peer(error)
    }
}

impl From<io::Error> for EndOfLink {
    fn from(error: io::Error) -> Self {
        EndOfLink::Io(error)
    }
}

async fn exchange(
    connection: Connection,
    link: &mut Link<'_>,
    commands: &mut mpsc::UnboundedReceiver<LinkCommand>,
    surroundings: &Surroundings,
    reporter: &Reporter,
) -> Result<(), EndOfLink> {
    let clock = surroundings.clock;
    let mut packing: JoinSet<Bundle> = JoinSet::new();
    let (mut reader, mut writer) = tokio::io::split(connection.stream);
    let (mut input, mut output, mut written) = (Frames::default(), connection.opening, 0);
    // Bytes that were taken may still be held back, encrypted, where the socket was full.
    let mut held_back = false;
    let hello_by = Instant::now() + if link.carried { LOGIN_TIMEOUT } else { HELLO_TIMEOUT };
    let mut wake = Timer::off();
    loop {
        link.peer.tick(clock.now());
        while let Some(files) = link.peer.next_to_pack() {
            pack(&mut packing, files, &surroundings.hermetic);
        }
        if written == output.len() {
            output.clear();
            written = 0;
            link.peer.fill(&mut output);
        }
        wake.set(Some(if link.handle.is_some() { hello_by } else { clock.instant(link.peer.next_time()) }));
        tokio::select! {
            read = reader.read_buf(input.room()) => {
                let read = read?;
                surroundings.traffic.wire(Way::Back, read);
                match read {
                    0 if input.is_empty() => return Ok(()),
                    0 => return Err(EndOfLink::NoHello),
                    _ => take_frames(&mut input, link, clock, reporter).await?,
                }
            }
            sent = push(&mut writer, &output[written..]), if written < output.len() || held_back => {
                // A flush that comes to its end has nothing left.
                held_back = written < output.len();
                let sent = sent?;
                surroundings.traffic.wire(Way::Out, sent);
                written += sent;
            }
            command = commands.recv() => match command {
                Some(LinkCommand::Start { job, work, reply }) => link.peer.start(job, work, reply),
                Some(LinkCommand::Cancel { job }) => link.peer.cancel(job),
                Some(LinkCommand::Provision { provision, toolchain, reply }) => {
                    link.peer.provision(provision, &toolchain, reply);
                }
                None => return Ok(()),
            },
            Some(packed) = packing.join_next() => {
                link.peer.packed(packed.map_err(io::Error::other)?);
            }
            () = wake.wait() => {
                if link.handle.is_some() {
                    return Err(EndOfLink::NoHello);
                }
                link.peer.on_time(clock.now())?;
            }
        }
    }
}

/// Writes some bytes; where there are none, those that are held back.
async fn push(writer: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<usize> {
    if bytes.is_empty() {
        return writer.flush().await.map(|()| 0);
    }
    match writer.write(bytes).await? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        sent => Ok(sent),
    }
}

/// Packs files on a thread that may wait for the disk.
fn pack(packing: &mut JoinSet<Bundle>, files: ToPack, hermetic: &Arc<Hermetic>) {
    let hermetic = Arc::clone(hermetic);
    packing.spawn(async move {
        let gone = files.files.iter().map(|(number, _)| *number).collect();
        let large = files.large;
        let packed = spawn_blocking(move || hermetic.pack(&files)).await;
        packed.unwrap_or(Bundle { gone, large, ..Bundle::default() })
    });
}

/// Hands every frame in `input` to the peer, as far as it is there.
async fn take_frames(
    input: &mut Frames,
    link: &mut Link<'_>,
    clock: Clock,
    reporter: &Reporter,
) -> Result<(), EndOfLink> {
    let no_frame = |error: FrameError, before_hello| match before_hello {
        true => EndOfLink::NoHello,
        false => LinkError::Protocol(error.to_string()).into(),
    };
    while let Some((header, body)) = input.next().map_err(|error| no_frame(error, link.handle.is_some()))? {
        match link.peer.receive(clock.now(), header, body)? {
            Some(News::Up { build, slots, hermetic, sandbox }) => {
                if let Some(handle) = link.handle.take() {
                    let handle = LinkHandle::Native(handle.able(hermetic));
                    reporter.report(LinkEvent::Up { handle, build, slots: Some(slots), sandbox }).await;
                }
            }
            Some(News::Credit { jobs, why }) => reporter.report(LinkEvent::Credit { jobs, why }).await,
            Some(News::Paused) => reporter.report(LinkEvent::Paused).await,
            Some(News::Clock(seconds)) => reporter.report(LinkEvent::Clock(seconds)).await,
            Some(News::RoundTrip(time)) => reporter.report(LinkEvent::RoundTrip(time)).await,
            None => {}
        }
    }
    Ok(())
}
