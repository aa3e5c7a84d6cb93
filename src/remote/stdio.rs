//! stdin and stdout as one connection: what inetd and ssh give a daemon.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::fs::{FileType, OFlags};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Both ends, as pipes or as a socket.
pub struct Stdio {
    reading: AsyncFd<OwnedFd>,
    writing: AsyncFd<OwnedFd>,
}

/// Whether stdin is a socket, as inetd's is.
pub fn is_socket() -> bool {
    rustix::fs::fstat(io::stdin()).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Socket)
}

/// Whether stdin is a connection of the Internet. Asked of our own end: the other may be gone already.
pub fn is_internet() -> bool {
    rustix::net::getsockname(io::stdin()).is_ok_and(|address| SocketAddr::try_from(address).is_ok())
}

/// Who is at the other end, when that is an address of the Internet.
pub fn peer() -> Option<SocketAddr> {
    rustix::net::getpeername(io::stdin())
        .ok()
        .flatten()
        .and_then(|address| SocketAddr::try_from(address).ok())
}

impl Stdio {
    /// Takes stdin and stdout. The process must not use them otherwise.
    ///
    /// # Errors
    ///
    /// Returns that they are no pipes or sockets, which alone can be waited for.
    #[allow(unsafe_code)]
    pub fn take() -> io::Result<Self> {
        let own = |fd: OwnedFd| -> io::Result<AsyncFd<OwnedFd>> {
            let flags = rustix::fs::fcntl_getfl(&fd)?;
            rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
            // SAFETY: the descriptor is owned by what is registered, and is not replaced or closed
            // before it.
            Ok(unsafe { AsyncFd::register(fd) }?)
        };
        Ok(Stdio {
            reading: own(io::stdin().as_fd().try_clone_to_owned()?)?,
            writing: own(io::stdout().as_fd().try_clone_to_owned()?)?,
        })
    }
}

impl AsyncRead for Stdio {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.reading.poll_read_ready(cx))?;
            let room = buffer.initialize_unfilled();
            match ready.try_io(|fd| rustix::io::read(fd, &mut *room).map_err(Into::into)) {
                Ok(read) => {
                    buffer.advance(read?);
                    return Poll::Ready(Ok(()));
                }
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Stdio {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.writing.poll_write_ready(cx))?;
            if let Ok(written) = ready.try_io(|fd| rustix::io::write(fd, bytes).map_err(Into::into)) {
                return Poll::Ready(written);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A socket is shut down; a pipe closes when the process ends, which is next.
        let _ = rustix::net::shutdown(&self.writing, rustix::net::Shutdown::Write);
        Poll::Ready(Ok(()))
    }
}
