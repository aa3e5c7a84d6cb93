//! Drives one link over its socket: connects, reads, writes, pings, and reports what happens.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::peer::{LinkError, News, Peer};
use super::transport::{self, Address, Stream};
use super::{LinkCommand, LinkHandle};
use crate::broker::clock::Clock;
use crate::broker::scheduler::api::HostId;
use crate::common::protocol::link::{FrameHeader, HELLO_TIMEOUT};

/// How long a connect may take, name resolution included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// What a link tells its owner.
#[derive(Debug)]
pub enum LinkEvent {
    /// The volunteer said hello; attempts may be made through the handle.
    Up {
        /// How to reach it.
        handle: LinkHandle,
        /// Its build.
        build: String,
        /// Its slots.
        slots: u32,
    },
    /// See [`News`].
    Credit {
        /// How many jobs it will hold.
        jobs: u32,
        /// Why not more.
        why: String,
    },
    /// A ping came back after this long.
    RoundTrip(Duration),
    /// The link is over. Attempts on it have failed.
    Down {
        /// Why.
        why: String,
    },
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
pub async fn run(address: Address, client: String, clock: Clock, reporter: Reporter) {
    let why = match open(&address).await {
        Ok(stream) => serve(stream, client, clock, &reporter).await,
        Err(why) => why,
    };
    reporter.report(LinkEvent::Down { why }).await;
}

async fn open(address: &Address) -> Result<Box<dyn Stream>, String> {
    match timeout(CONNECT_TIMEOUT, transport::connect(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(format!("cannot connect: {error}")),
        Err(_) => Err(format!("no answer to the connection for {}s", CONNECT_TIMEOUT.as_secs())),
    }
}

/// Runs an open link until it ends, and says why it did.
async fn serve(stream: Box<dyn Stream>, client: String, clock: Clock, reporter: &Reporter) -> String {
    let (handle, mut commands) = LinkHandle::new();
    let mut peer = Peer::new(clock.now(), client);
    let mut handle = Some(handle);
    let why = match exchange(stream, &mut peer, &mut commands, clock, &mut handle, reporter).await {
        Ok(()) => "closed the connection".to_owned(),
        Err(EndOfLink::Peer(error)) => error.to_string(),
        Err(EndOfLink::Io(error)) => format!("connection lost: {error}"),
        Err(EndOfLink::NoHello) => "is no distccd of this kind: it did not say hello".to_owned(),
    };
    peer.fail_all(&why);
    why
}

/// Why an open link ended, other than by the volunteer closing it.
enum EndOfLink {
    Peer(LinkError),
    Io(io::Error),
    NoHello,
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
    stream: Box<dyn Stream>,
    peer: &mut Peer,
    commands: &mut mpsc::UnboundedReceiver<LinkCommand>,
    clock: Clock,
    handle: &mut Option<LinkHandle>,
    reporter: &Reporter,
) -> Result<(), EndOfLink> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let (mut input, mut output, mut written) = (Vec::new(), Vec::new(), 0);
    let hello_by = Instant::now() + HELLO_TIMEOUT;
    loop {
        if written == output.len() {
            output.clear();
            written = 0;
            peer.fill(&mut output);
        }
        let wake = match handle {
            Some(_) => hello_by.min(clock.instant(peer.next_time())),
            None => clock.instant(peer.next_time()),
        };
        input.reserve(64 << 10);
        tokio::select! {
            read = reader.read_buf(&mut input) => {
                if read? == 0 {
                    return if handle.is_some() { Err(EndOfLink::NoHello) } else { Ok(()) };
                }
                take_frames(&mut input, peer, clock, handle, reporter).await?;
            }
            sent = writer.write(&output[written..]), if written < output.len() => {
                match sent? {
                    0 => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                    sent => written += sent,
                }
            }
            command = commands.recv() => match command {
                Some(LinkCommand::Start { job, order, reply }) => peer.start(job, order, reply),
                Some(LinkCommand::Cancel { job }) => peer.cancel(job),
                None => return Ok(()),
            },
            () = sleep_until(wake) => {
                if handle.is_some() && Instant::now() >= hello_by {
                    return Err(EndOfLink::NoHello);
                }
                peer.on_time(clock.now())?;
            }
        }
    }
}

/// Hands every whole frame in `input` to the peer and keeps the rest.
async fn take_frames(
    input: &mut Vec<u8>,
    peer: &mut Peer,
    clock: Clock,
    handle: &mut Option<LinkHandle>,
    reporter: &Reporter,
) -> Result<(), EndOfLink> {
    let mut at = 0;
    while let Some((head, rest)) = input[at..].split_first_chunk::<{ FrameHeader::LEN }>() {
        let header = match FrameHeader::decode(head) {
            Ok(header) => header,
            Err(_) if handle.is_some() => return Err(EndOfLink::NoHello),
            Err(error) => return Err(LinkError::Protocol(error.to_string()).into()),
        };
        let Some(body) = rest.get(..header.length as usize) else { break };
        match peer.receive(clock.now(), header, body)? {
            Some(News::Up { build, slots }) => {
                if let Some(handle) = handle.take() {
                    reporter.report(LinkEvent::Up { handle, build, slots }).await;
                }
            }
            Some(News::Credit { jobs, why }) => reporter.report(LinkEvent::Credit { jobs, why }).await,
            Some(News::RoundTrip(time)) => reporter.report(LinkEvent::RoundTrip(time)).await,
            None => {}
        }
        at += FrameHeader::LEN + header.length as usize;
    }
    input.drain(..at);
    Ok(())
}
