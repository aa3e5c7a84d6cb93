//! The door: accepts connections, turns strangers away, and starts a session for each client.
//!
//! Connections whose client has not said its hello yet are few, and the oldest of them goes when
//! a newer one comes: a client says hello within milliseconds, so whoever dawdles loses. Running
//! out of descriptors pauses the door; it never spins.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::access::Access;
use super::classic;
use super::hurry::{Crowd, drain_begins};
use super::job::Context;
use super::session::{self, Caller, Phase};
use super::stream::{self, Speech};
use super::transport;
use crate::common::protocol::link::HELLO_TIMEOUT;

/// Connections that have not said their hello.
const STRANGERS_MAX: usize = 64;

/// Connections in all. Each costs a few descriptors and some memory.
const CONNECTIONS_MAX: usize = 1024;

/// How long the door stays shut when there are no descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// How long a peer that is turned away may take to show that it would understand why.
const REFUSAL_PATIENCE: Duration = Duration::from_millis(500);

/// Peers that are being told why they are turned away; others are not told.
const REFUSALS_MAX: usize = 64;

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

/// Serves one listening socket until the daemon drains, then waits for its sessions to end.
pub async fn serve(
    listener: TcpListener,
    access: Arc<Access>,
    context: Arc<Context>,
    mut phase: watch::Receiver<Phase>,
) {
    let (mut sessions, mut refusals) = (JoinSet::new(), JoinSet::new());
    let mut strangers = Crowd::new(STRANGERS_MAX);
    let draining = phase.clone();
    loop {
        tokio::select! {
            () = drain_begins(&mut phase) => break,
            Some(_) = sessions.join_next() => {}
            Some(_) = refusals.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => match why_refused(&access, peer, sessions.len()) {
                    None => {
                        context.stats.accepted();
                        let evicted = strangers.admit();
                        let context = Arc::clone(&context);
                        sessions.spawn(from_network(stream, Peer(Some(peer)), evicted, context, draining.clone()));
                    }
                    Some(why) => {
                        tracing::warn!(%peer, "refused: {why}");
                        if refusals.len() < REFUSALS_MAX {
                            refusals.spawn(refuse(stream, why));
                        }
                    }
                },
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
    access: Arc<Access>,
    context: Arc<Context>,
    phase: watch::Receiver<Phase>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    context.stats.accepted();
    if let Some(why) = peer.0.and_then(|address| why_refused(&access, address, 0)) {
        tracing::warn!(%peer, "refused: {why}");
        return refuse(stream, why).await;
    }
    // Nobody evicts the only one.
    let (_stays, evicted) = oneshot::channel();
    connection(stream, peer, evicted, context, phase).await;
}

/// Tells a peer of our own kind why it is turned away; any other would not understand.
async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, why: String) {
    let told = async {
        match stream::listen_to(&mut stream).await? {
            Speech::Native => stream::turn_away(&mut stream, &why).await,
            Speech::Classic | Speech::Unknown(_) => Ok(()),
        }
    };
    // Whoever does not listen is not told.
    let _ = timeout(REFUSAL_PATIENCE, told).await;
}

fn why_refused(access: &Access, peer: SocketAddr, connections: usize) -> Option<String> {
    if !access.allows(peer.ip()) {
        return Some(format!(
            "address {} is not allowed here (see distccd --allow)",
            peer.ip().to_canonical()
        ));
    }
    (connections >= CONNECTIONS_MAX).then(|| format!("there are {connections} connections already"))
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
    peer: Peer,
    evicted: oneshot::Receiver<()>,
    context: Arc<Context>,
    phase: watch::Receiver<Phase>,
) {
    match transport::accept(stream).await {
        Ok(stream) => connection(stream, peer, evicted, context, phase).await,
        Err(error) => tracing::info!(%peer, %error, "closed"),
    }
}

async fn connection<S>(
    mut stream: S,
    peer: Peer,
    evicted: oneshot::Receiver<()>,
    context: Arc<Context>,
    mut phase: watch::Receiver<Phase>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let hello = async move {
        let speech = stream::listen_to(&mut stream).await?;
        let client = match speech {
            Speech::Native => Some(stream::greet(&mut stream).await?),
            Speech::Classic | Speech::Unknown(_) => None,
        };
        io::Result::Ok((stream, speech, client))
    };
    let greeted = tokio::select! {
        greeted = timeout(HELLO_TIMEOUT, hello) => greeted,
        Ok(()) = evicted => return tracing::info!(%peer, "closed: no hello, and others wait"),
        () = drain_begins(&mut phase) => return tracing::info!(%peer, "closed: the daemon ends"),
    };
    match greeted {
        Err(_) => tracing::info!(%peer, "closed: no hello in {} s", HELLO_TIMEOUT.as_secs()),
        Ok(Err(error)) => tracing::info!(%peer, %error, "closed"),
        Ok(Ok((stream, Speech::Classic, _))) => classic::serve(stream, peer, context, phase).await,
        Ok(Ok((_, speech, None))) => tracing::info!(%peer, ?speech, "closed: this protocol is not served"),
        Ok(Ok((stream, _, Some(client)))) => {
            tracing::info!(%peer, client, "link up");
            let end = session::run(stream, Caller { peer, name: client.clone() }, context, phase).await;
            tracing::info!(%peer, client, %end, "link down");
        }
    }
}
