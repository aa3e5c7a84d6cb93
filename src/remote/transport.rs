//! What a connection is made of: a socket whose first byte tells what is spoken on it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::common::trust::tls::ALERT_BYTE;

/// How long a peer may be unreachable before the kernel gives the connection up, in case nobody here has
/// anything to say (tcp(7), `TCP_USER_TIMEOUT`).
const UNREACHABLE_MAX: Duration = Duration::from_secs(60);

/// Prepares a connection that was just accepted.
///
/// # Errors
///
/// Returns what the socket returns.
pub fn prepare(stream: &TcpStream) -> io::Result<()> {
    // Small answers must not wait for large ones to fill a packet.
    stream.set_nodelay(true)?;
    // A client whose machine is gone is noticed by the classic protocol as well, which has no pings.
    rustix::net::sockopt::set_socket_keepalive(stream, true)?;
    let _ = rustix::net::sockopt::set_tcp_user_timeout(stream, UNREACHABLE_MAX.as_millis() as u32);
    Ok(())
}

/// A stream whose first byte was looked at.
pub struct Opened<S> {
    first: Option<u8>,
    inner: S,
}

impl<S: AsyncRead + Unpin> Opened<S> {
    /// Waits for the first byte, which stays to be read.
    ///
    /// # Errors
    ///
    /// Returns what the stream returns; `UnexpectedEof` when there is none.
    pub async fn wait(mut inner: S) -> io::Result<(u8, Self)> {
        let first = inner.read_u8().await?;
        Ok((first, Opened { first: Some(first), inner }))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Opened<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() > 0
            && let Some(first) = self.first.take()
        {
            buffer.put_slice(&[first]);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Opened<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// A stream that says nothing to whoever speaks no TLS: while it is [`quiet`](Self::quiet), alerts in the
/// clear are not sent. Those inside of an encrypted handshake are.
pub struct Discreet<S> {
    inner: S,
    /// To be ended with the handshake: what is written later need not begin with a record.
    pub quiet: bool,
}

impl<S> Discreet<S> {
    /// Quiet at first.
    pub fn new(inner: S) -> Self {
        Discreet { inner, quiet: true }
    }
}

/// Whether these bytes are an alert in the clear, which is always written alone.
fn is_alert(bytes: &[u8]) -> bool {
    matches!(bytes, [ALERT_BYTE, 3, _, 0, 2, _, _])
}

impl<S: AsyncRead + Unpin> AsyncRead for Discreet<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Discreet<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.quiet && is_alert(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match slices.iter().find(|slice| !slice.is_empty()) {
            Some(first) if self.quiet => self.poll_write(cx, first),
            _ => Pin::new(&mut self.inner).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn the_first_byte_is_looked_at_and_stays() {
        let (mut peer, stream) = duplex(16);
        peer.write_all(b"DIST").await.expect("room");
        drop(peer);
        let (first, mut stream) = Opened::wait(stream).await.expect("a byte");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.expect("the rest");
        assert_eq!((first, &all[..]), (b'D', &b"DIST"[..]));
    }

    #[tokio::test]
    async fn alerts_in_the_clear_are_swallowed_only_while_it_is_quiet() {
        const ALERT: [u8; 7] = [ALERT_BYTE, 3, 3, 0, 2, 2, 70];
        let (mut peer, stream) = duplex(64);
        let mut stream = Discreet::new(stream);
        stream.write_all(&ALERT).await.expect("swallowed");
        stream.write_all(b"hello").await.expect("room");
        stream.quiet = false;
        stream.write_all(&ALERT).await.expect("room");
        drop(stream);
        let mut all = Vec::new();
        peer.read_to_end(&mut all).await.expect("all of it");
        assert_eq!(all, [b"hello", &ALERT[..]].concat());
    }
}
