//! A socket that a service manager listens on for the broker (sd_listen_fds(3)).
//!
//! The first shim that connects has the broker started, and finds it at the same place as one that a
//! shim starts: `contrib/systemd/user/distcc-broker.socket`.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;

use crate::common::bytes::Bytes;

/// A socket that was handed over, and where it is bound.
#[derive(Debug)]
pub struct Inherited {
    /// The listening socket.
    pub socket: OwnedFd,
    /// Its path.
    pub path: Bytes,
}

/// The socket that this process was started with, if any. To be called once, before other threads
/// are started.
///
/// # Errors
///
/// Returns that what was handed over is not one listening Unix socket with a path.
pub fn inherited() -> io::Result<Option<Inherited>> {
    let mut descriptors = sd_notify::listen_fds()?;
    let Some(first) = descriptors.next() else { return Ok(None) };
    if descriptors.len() > 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "more than one socket was handed over"));
    }
    let listener = UnixListener::from(own(first));
    let address = listener.local_addr()?;
    let path = address.as_pathname().map(|path| Bytes::from(path.as_os_str().as_bytes()));
    let path = path.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the socket has no path"))?;
    listener.set_nonblocking(true)?;
    Ok(Some(Inherited { socket: listener.into(), path }))
}

/// Takes a descriptor that the service manager left for us.
#[allow(unsafe_code, reason = "a number in the environment is all that there is of it")]
fn own(descriptor: RawFd) -> OwnedFd {
    // SAFETY: the protocol gives these descriptors to this process (LISTEN_PID was compared), and
    // nothing else here knows of them.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}
