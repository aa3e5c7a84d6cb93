//! The door: accepts connections, turns strangers away, and starts a session for each client.
//!
//! The first byte tells what is spoken: TLS, inside of which keys decide, or distcc's own protocol, which
//! is for addresses that `--allow` names. A stranger hears nothing at all: the connection closes, and the
//! log has one line.
//!
//! Connections whose client has not said its hello yet are few, and fewer from one address; the oldest of
//! them goes when a newer one comes: a client says hello within milliseconds, so whoever dawdles loses.
//! Running out of descriptors pauses the door; it never spins.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tracing::Level;

use super::access::Access;
use super::classic;
use super::clients::Client;
use super::hurry::{Crowd, Origin, drain_begins};
use super::job::Context;
use super::line::Line;
use super::reticence::Reticence;
use super::session::{self, Caller, Phase};
use super::stream::{self, Speech};
use super::transport::{self, Discreet, Opened};
use super::trust::{Right, Trust};
use crate::common::protocol::link::HELLO_TIMEOUT;
use crate::common::trust::introduction::{self, Introduction};
use crate::common::trust::invitation::SECRET_BYTES;
use crate::common::trust::key::PublicKey;
use crate::common::trust::tls;

/// Connections that have not said their hello.
const STRANGERS_MAX: usize = 64;

/// Of those, from one address that is not allowed to come without a key.
const STRANGERS_EACH_MAX: usize = 16;

/// Connections in all. Each costs a few descriptors and some memory.
const CONNECTIONS_MAX: usize = 1024;

/// How often it is said how much was not.
const TELL_INTERVAL: Duration = Duration::from_secs(10);

/// How long the door stays shut when there are no descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub Option<SocketAddr>);

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            // IPv4 clients of an IPv6 socket are shown as what they are.
            Some(address) => SocketAddr::new(address.ip().to_canonical(), address.port()).fmt(f),
            None => f.write_str("stdin"),
        }
    }
}

/// Whom the door is open for.
pub struct Welcome {
    /// Addresses from which the classic protocol is taken.
    pub access: Access,
    /// Keys. `None` where whoever carries the connection has let the client in: ssh.
    pub trust: Option<Arc<Trust>>,
    /// How much the log says of those who are not let in.
    pub reticence: Reticence,
}

impl Welcome {
    fn allows(&self, peer: Peer) -> bool {
        self.trust.is_none() || peer.0.is_some_and(|address| self.access.allows(address.ip()))
    }
}

/// Serves one listening socket until the daemon drains, then waits for its sessions to end.
pub async fn serve(
    listener: TcpListener,
    welcome: Arc<Welcome>,
    context: Arc<Context>,
    mut phase: watch::Receiver<Phase>,
) {
    let mut sessions = JoinSet::new();
    let mut strangers = Crowd::new(STRANGERS_MAX, STRANGERS_EACH_MAX);
    let draining = phase.clone();
    let mut tell = tokio::time::interval(TELL_INTERVAL);
    loop {
        tokio::select! {
            _ = tell.tick() => welcome.reticence.tell(),
            () = drain_begins(&mut phase) => break,
            Some(_) = sessions.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((_, peer)) if sessions.len() >= CONNECTIONS_MAX => {
                    let line = format!("refused: there are {CONNECTIONS_MAX} connections already, from {peer}");
                    welcome.reticence.say(Level::WARN, &line);
                }
                Ok((stream, peer)) => {
                    context.stats.accepted();
                    // Clients of distcc 3.4 come with as many connections as they have jobs.
                    let origin = (!welcome.access.allows(peer.ip())).then(|| Origin::of(peer.ip()));
                    let evicted = strangers.admit(origin);
                    let (welcome, context) = (Arc::clone(&welcome), Arc::clone(&context));
                    sessions.spawn(from_network(stream, peer, evicted, welcome, context, draining.clone()));
                }
                Err(error) => pause(&error).await,
            }
        }
    }
    drop(listener);
    while sessions.join_next().await.is_some() {}
}

/// Serves the one connection of a daemon that inetd or ssh started. Whoever came through ssh has
/// been let in by it; an address is judged as on a port.
pub async fn serve_one<S>(
    stream: S,
    peer: Peer,
    welcome: Arc<Welcome>,
    context: Arc<Context>,
    phase: watch::Receiver<Phase>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    context.stats.accepted();
    // Nobody evicts the only one.
    let (_stays, evicted) = oneshot::channel();
    connection((stream, Line::default()), peer, evicted, welcome, context, phase).await;
}

/// What concerns one connection is over with it; what concerns the process needs a rest.
async fn pause(error: &io::Error) {
    let scarce = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    if error.raw_os_error().is_some_and(|number| scarce.contains(&number)) {
        tracing::warn!(%error, "cannot accept connections for a moment");
        tokio::time::sleep(PAUSE).await;
    }
}

async fn from_network(
    stream: TcpStream,
    peer: SocketAddr,
    evicted: oneshot::Receiver<()>,
    welcome: Arc<Welcome>,
    context: Arc<Context>,
    phase: watch::Receiver<Phase>,
) {
    let peer = Peer(Some(peer));
    match transport::prepare(&stream) {
        Ok(()) => {
            let line = Line::of(&stream);
            connection((stream, line), peer, evicted, welcome, context, phase).await;
        }
        Err(error) => welcome.reticence.say(Level::INFO, &format!("closed: {error}, from {peer}")),
    }
}

/// Who came in, and how.
enum Guest<S> {
    /// A broker, over TLS.
    Secured(Box<TlsStream<Discreet<Opened<S>>>>, Caller),
    /// A broker, over ssh.
    Carried(Opened<S>, Caller),
    /// A client of distcc 3.4.
    Classic(Opened<S>),
    /// A client that was invited, and is authorised from now on.
    Paired(String),
}

/// Why somebody is not let in.
#[derive(Debug, thiserror::Error)]
enum Stranger {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("address {0} is not allowed here (the classic protocol is for those given with distccd --allow)")]
    NotAllowed(String),
    #[error("the key {0} is not authorised")]
    NotAuthorised(PublicKey),
    #[error("this protocol is not served (it begins with {0:?})")]
    Unknown(u8),
}

async fn connection<S>(
    (stream, line): (S, Line),
    peer: Peer,
    evicted: oneshot::Receiver<()>,
    welcome: Arc<Welcome>,
    context: Arc<Context>,
    mut phase: watch::Receiver<Phase>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let closed = |why: &dyn fmt::Display| {
        welcome.reticence.say(Level::INFO, &format!("closed: {why}, from {peer}"));
    };
    let met = tokio::select! {
        met = timeout(HELLO_TIMEOUT, meet(stream, peer, &welcome)) => met,
        Ok(()) = evicted => return closed(&"no hello, and others wait"),
        () = drain_begins(&mut phase) => return tracing::info!(%peer, "closed: the daemon ends"),
    };
    match met {
        Err(_) => closed(&format!("no hello in {} s", HELLO_TIMEOUT.as_secs())),
        Ok(Err(Stranger::Io(error))) => closed(&error),
        Ok(Err(why)) => welcome.reticence.say(Level::WARN, &format!("refused: {why}, from {peer}")),
        Ok(Ok(Guest::Paired(client))) => {
            tracing::info!(%peer, client, "paired: it is authorised from now on");
        }
        Ok(Ok(Guest::Classic(stream))) => {
            let client =
                peer.0.map_or(Client::Carrier, |address| Client::Address(address.ip().to_canonical()));
            match context.clients.enter(client) {
                Some(pass) => classic::serve(stream, peer, &pass, context, phase).await,
                None => {
                    let line = format!("refused: too many connections of this client, from {peer}");
                    welcome.reticence.say(Level::WARN, &line);
                }
            }
        }
        Ok(Ok(Guest::Carried(stream, caller))) => link(stream, line, caller, context, phase).await,
        Ok(Ok(Guest::Secured(stream, caller))) => link(stream, line, caller, context, phase).await,
    }
}

async fn link<S>(
    mut stream: S,
    line: Line,
    caller: Caller,
    context: Arc<Context>,
    phase: watch::Receiver<Phase>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (peer, client) = (caller.peer, caller.name.clone());
    let Some(pass) = context.clients.enter(caller.right.client()) else {
        tracing::warn!("refused: too many links of {client}, from {peer}");
        let told = stream::turn_away(&mut stream, "this client has too many links here already");
        let _ = timeout(HELLO_TIMEOUT, told).await;
        return;
    };
    tracing::info!(%peer, client, "link up");
    let end = session::run((stream, line), caller, pass, context, phase).await;
    tracing::info!(%peer, client, %end, "link down");
}

/// Finds out who is there.
async fn meet<S>(stream: S, peer: Peer, welcome: &Welcome) -> Result<Guest<S>, Stranger>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (first, mut stream) = Opened::wait(stream).await?;
    match (first, &welcome.trust) {
        (tls::FIRST_BYTE, Some(trust)) => return meet_secured(stream, peer, trust).await,
        (b'D', None) => {}
        (b'D', Some(_)) if welcome.allows(peer) => {}
        (b'D', Some(_)) => {
            let address = peer.0.map(|address| address.ip().to_canonical().to_string());
            return Err(Stranger::NotAllowed(address.unwrap_or_default()));
        }
        (other, _) => return Err(Stranger::Unknown(other)),
    }
    match stream::listen_to(&mut stream).await? {
        Speech::Classic => Ok(Guest::Classic(stream)),
        Speech::Native if welcome.trust.is_none() => {
            let name = stream::greet(&mut stream).await?;
            Ok(Guest::Carried(stream, Caller { peer, name, right: Right::Carried }))
        }
        Speech::Native | Speech::Introduced | Speech::Unknown(_) => Err(Stranger::Unknown(first)),
    }
}

async fn meet_secured<S>(stream: Opened<S>, peer: Peer, trust: &Arc<Trust>) -> Result<Guest<S>, Stranger>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut stream, key) = trust.shake_hands(Discreet::new(stream)).await?;
    stream.get_mut().0.quiet = false;
    let mut speech = stream::listen_to(&mut stream).await?;
    let mut presented = Vec::new();
    if speech == Speech::Introduced {
        match stream::introduction(&mut stream).await? {
            Introduction::Invited { secret, name } => return pair(stream, trust, key, secret, name).await,
            Introduction::Vouched { certificates } => presented = certificates,
        }
        speech = stream::listen_to(&mut stream).await?;
    }
    let Some(admitted) = trust.admit(&key, &presented) else {
        // A closing word: what was cut off would look like trouble of the network.
        let _ = stream.shutdown().await;
        return Err(Stranger::NotAuthorised(key));
    };
    if speech != Speech::Native {
        return Err(
            io::Error::new(io::ErrorKind::InvalidData, "it speaks something else inside of TLS").into()
        );
    }
    let called = stream::greet(&mut stream).await?;
    let name = match called == admitted.name {
        true => called,
        false => format!("{} ({called})", admitted.name),
    };
    let right = Right::Key { trust: Arc::clone(trust), key, admitted };
    Ok(Guest::Secured(Box::new(stream), Caller { peer, name, right }))
}

async fn pair<S>(
    mut stream: TlsStream<Discreet<Opened<S>>>,
    trust: &Arc<Trust>,
    key: PublicKey,
    secret: [u8; SECRET_BYTES],
    name: String,
) -> Result<Guest<S>, Stranger>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let taker = Arc::clone(trust);
    let taken = spawn_blocking(move || taker.invited(secret, &key, &name)).await.map_err(io::Error::other)?;
    let Some(name) = taken else {
        let _ = stream.shutdown().await;
        return Err(Stranger::NotAuthorised(key));
    };
    stream.write_all(&introduction::encode(&introduction::Welcome { name: name.clone() })).await?;
    stream.shutdown().await?;
    Ok(Guest::Paired(name))
}
