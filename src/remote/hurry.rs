//! Connections that have no right to stay yet: whoever has not said what it wants, or is still
//! saying it, gives way to newer ones when there are many, and to the end of the daemon.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::{oneshot, watch};

use super::session::Phase;

/// Those who may have to leave, oldest first.
#[derive(Debug)]
pub struct Crowd {
    max: usize,
    evict: VecDeque<oneshot::Sender<()>>,
}

impl Crowd {
    /// A crowd of so many at most.
    pub fn new(max: usize) -> Self {
        Crowd { max, evict: VecDeque::new() }
    }

    /// Makes room, and gives the newcomer's signal to go. Dropping that is leaving the crowd.
    pub fn admit(&mut self) -> oneshot::Receiver<()> {
        self.evict.retain(|member| !member.is_closed());
        while self.evict.len() >= self.max {
            if let Some(oldest) = self.evict.pop_front() {
                let _ = oldest.send(());
            }
        }
        let (sender, receiver) = oneshot::channel();
        self.evict.push_back(sender);
        receiver
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
        let mut crowd = Crowd::new(64);
        let mut signals: Vec<_> = (0..64).map(|_| crowd.admit()).collect();
        assert!(signals[0].try_recv().is_err());
        let _newest = crowd.admit();
        assert!(signals[0].try_recv().is_ok());
        assert!(signals[1].try_recv().is_err());
    }

    #[test]
    fn whoever_has_left_does_not_count() {
        let mut crowd = Crowd::new(2);
        for _ in 0..20 {
            drop(crowd.admit());
        }
        let mut waiting = crowd.admit();
        let _other = crowd.admit();
        assert!(waiting.try_recv().is_err());
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
