//! Connections that have no right to stay yet: whoever has not said what it wants, or is still
//! saying it, gives way to newer ones when there are many, and to the end of the daemon.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::{oneshot, watch};

use super::session::Phase;

/// Those who may have to leave, oldest first.
#[derive(Debug)]
pub struct Crowd {
    max: usize,
    /// Of one origin.
    each_max: usize,
    members: VecDeque<Member>,
}

#[derive(Debug)]
struct Member {
    origin: Option<Origin>,
    evict: oneshot::Sender<()>,
}

/// Where somebody comes from: an IPv4 address, or the network of an IPv6 one, of which one machine has as
/// many addresses as it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin(u128);

impl Origin {
    /// That of an address.
    pub fn of(address: IpAddr) -> Self {
        Origin(match address.to_canonical() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits() >> 64 << 64,
        })
    }
}

impl Crowd {
    /// A crowd of so many at most, and of so many of one origin.
    pub fn new(max: usize, each_max: usize) -> Self {
        Crowd { max, each_max, members: VecDeque::new() }
    }

    /// Makes room, and gives the newcomer's signal to go. Dropping that is leaving the crowd. Whoever has
    /// no origin is not counted with others.
    pub fn admit(&mut self, origin: Option<Origin>) -> oneshot::Receiver<()> {
        self.members.retain(|member| !member.evict.is_closed());
        while origin.is_some() && self.count(origin) >= self.each_max {
            self.evict_oldest(origin);
        }
        while self.members.len() >= self.max {
            // Whoever sends the most loses first: others are not pushed out by it.
            let most =
                self.members.iter().map(|member| member.origin).max_by_key(|origin| self.count(*origin));
            self.evict_oldest(most.flatten());
        }
        let (evict, receiver) = oneshot::channel();
        self.members.push_back(Member { origin, evict });
        receiver
    }

    fn count(&self, origin: Option<Origin>) -> usize {
        self.members.iter().filter(|member| member.origin == origin).count()
    }

    fn evict_oldest(&mut self, origin: Option<Origin>) {
        let oldest = self.members.iter().position(|member| member.origin == origin).unwrap_or(0);
        if let Some(member) = self.members.remove(oldest) {
            let _ = member.evict.send(());
        }
    }
}

/// Returns when the daemon takes nothing new any more.
pub async fn drain_begins(phase: &mut watch::Receiver<Phase>) {
    // An error means that the daemon has gone on without us, which is a drain as well.
    let _ = phase.wait_for(|phase| *phase >= Phase::Draining).await;
}

/// A reader that fails where it would wait, once it has to leave. What is done with bytes that
/// have come is never interrupted.
pub struct Hurried<'a, S> {
    inner: &'a mut S,
    leave: Pin<Box<dyn Future<Output = &'static str> + Send>>,
}

impl<'a, S> Hurried<'a, S> {
    /// Reads from `inner` until `evicted`, or until the daemon drains.
    pub fn new(inner: &'a mut S, evicted: oneshot::Receiver<()>, mut phase: watch::Receiver<Phase>) -> Self {
        let leave = async move {
            tokio::select! {
                Ok(()) = evicted => "others wait that are quicker",
                () = drain_begins(&mut phase) => "the daemon ends",
            }
        };
        Hurried { inner, leave: Box::pin(leave) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Hurried<'_, S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Poll::Ready(read) = Pin::new(&mut *this.inner).poll_read(cx, buffer) {
            return Poll::Ready(read);
        }
        this.leave.as_mut().poll(cx).map(|why| Err(io::Error::new(io::ErrorKind::ConnectionAborted, why)))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let mut crowd = Crowd::new(64, 64);
        let mut signals: Vec<_> = (0..64).map(|_| crowd.admit(None)).collect();
        assert!(signals[0].try_recv().is_err());
        let _newest = crowd.admit(None);
        assert!(signals[0].try_recv().is_ok());
        assert!(signals[1].try_recv().is_err());
    }

    #[test]
    fn whoever_has_left_does_not_count() {
        let mut crowd = Crowd::new(2, 2);
        for _ in 0..20 {
            drop(crowd.admit(None));
        }
        let mut waiting = crowd.admit(None);
        let _other = crowd.admit(None);
        assert!(waiting.try_recv().is_err());
    }

    #[test]
    fn a_flood_from_one_address_pushes_out_nobody_else() {
        let mut crowd = Crowd::new(8, 4);
        let origin = |text: &str| Some(Origin::of(text.parse().expect("an address")));
        let mut quiet = crowd.admit(origin("192.0.2.1"));
        let mut flood: Vec<_> = (0..100).map(|_| crowd.admit(origin("198.51.100.9"))).collect();
        assert!(quiet.try_recv().is_err());
        let left = flood.iter_mut().map(|signal| signal.try_recv().is_err()).filter(|stays| *stays).count();
        assert_eq!(left, 4);
        // From many networks at once, each newcomer costs the largest of them a place.
        let others: Vec<_> = (0..50).map(|n| crowd.admit(origin(&format!("2001:db8:{n}::1")))).collect();
        assert_eq!(others.len(), 50);
    }

    #[test]
    fn a_network_of_ipv6_is_one_origin_and_an_ipv4_address_is_one() {
        let origin = |text: &str| Origin::of(text.parse().expect("an address"));
        assert_eq!(origin("2001:db8::1"), origin("2001:db8::ffff:2"));
        assert_ne!(origin("2001:db8::1"), origin("2001:db8:0:1::1"));
        assert_eq!(origin("::ffff:192.0.2.1"), origin("192.0.2.1"));
        assert_ne!(origin("192.0.2.1"), origin("192.0.2.2"));
    }

    #[tokio::test]
    async fn what_has_come_is_read_and_what_has_not_is_not_waited_for() {
        let (mut stream, other) = tokio::io::duplex(16);
        let (mut near, _far) = (other, tokio::io::AsyncWriteExt::write_all(&mut stream, b"ab").await);
        let phase = watch::Sender::new(Phase::Running);
        let (_stays, evicted) = oneshot::channel();
        let mut hurried = Hurried::new(&mut near, evicted, phase.subscribe());
        phase.send_replace(Phase::Draining);
        let mut two = [0; 2];
        hurried.read_exact(&mut two).await.expect("what has come");
        let error = hurried.read_exact(&mut two).await.expect_err("nothing more comes");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    }
}
