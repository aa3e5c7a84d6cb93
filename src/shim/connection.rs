//! One connection to the broker: frames with time limits, and who is at the other end.

use std::ffi::OsStr;
use std::io::{self, BufReader, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use interprocess::ConnectWaitMode;
use interprocess::local_socket::{ConnectOptions, GenericFilePath, Stream, prelude::*};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

use crate::common::limits::LOCAL_FRAME_MAX_BYTES;
use crate::common::place::Place;
use crate::common::protocol::io::{read_local, write_local};
use crate::common::protocol::local::{Header, PING_INTERVAL};

/// How long a connection may take, and how long a broker may leave a request unread.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(250);

/// Descriptors below this one are the compiler's stdin, stdout and stderr, even when closed.
const FIRST_DESCRIPTOR: i32 = 3;

/// What is read at once: an `Ack` and most answers behind it.
const BUFFER_BYTES: usize = 8 << 10;

/// A connection to a broker of our own user. Its descriptor is closed on exec.
pub struct Connection {
    reader: BufReader<Waiting>,
    /// The broker's process id, where it has one in our pid namespace.
    pub broker_pid: Option<u32>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody listens there.
    #[error("no broker is running")]
    Absent,
    /// The broker's backlog is full.
    #[error("the broker does not accept connections")]
    Full,
    /// Somebody else's process listens there.
    #[error("the broker's socket belongs to user {uid}")]
    Foreign {
        /// Whose it is.
        uid: u32,
    },
    /// Another failure.
    #[error("cannot reach the broker: {0}")]
    Io(#[from] io::Error),
}

impl ConnectError {
    fn is_somebody_elses(&self) -> bool {
        match self {
            ConnectError::Foreign { .. } => true,
            ConnectError::Io(error) => error.kind() == io::ErrorKind::PermissionDenied,
            ConnectError::Absent | ConnectError::Full => false,
        }
    }
}

impl Connection {
    /// Connects to the broker in the first of `places` that has one; `None` where there is none.
    ///
    /// # Errors
    ///
    /// Returns [`ConnectError`]; where another may do, a broker of somebody else's is no error.
    pub fn open_any(places: &[Place]) -> Result<Option<Self>, ConnectError> {
        let mut closed_to_us = None;
        for place in places {
            match Connection::open(&place.socket()) {
                Ok(connection) => return Ok(Some(connection)),
                Err(ConnectError::Absent) => {}
                Err(error) if error.is_somebody_elses() => closed_to_us = closed_to_us.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        match closed_to_us {
            Some(error) if places.len() == 1 => Err(error),
            _ => Ok(None),
        }
    }

    /// Connects to the broker that listens at `socket`.
    ///
    /// # Errors
    ///
    /// Returns [`ConnectError`]; `Absent` means that a broker may be started.
    pub fn open(socket: &[u8]) -> Result<Self, ConnectError> {
        let name = OsStr::from_bytes(socket).to_fs_name::<GenericFilePath>()?;
        // Non-blocking from birth costs no system call; the waits are polls.
        let options = ConnectOptions::new()
            .name(name)
            .wait_mode(ConnectWaitMode::Timeout(CONNECT_TIMEOUT))
            .nonblocking_stream(true);
        let stream = options.connect_sync().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory => {
                ConnectError::Absent
            }
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ConnectError::Full,
            _ => ConnectError::Io(error),
        })?;
        let peer = stream.peer_creds()?;
        let own = rustix::process::geteuid().as_raw();
        if let Some(uid) = peer.euid().filter(|&uid| uid != own) {
            return Err(ConnectError::Foreign { uid });
        }
        let broker_pid = peer.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|&pid| pid > 0);
        let Stream::UdSocket(stream) = stream;
        let descriptor = above_stdio(stream.into())?;
        let waiting = Waiting { descriptor, ready: false };
        Ok(Connection { reader: BufReader::with_capacity(BUFFER_BYTES, waiting), broker_pid })
    }

    /// The descriptor.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.reader.get_ref().descriptor.as_fd()
    }

    /// Sends one frame. A broker that reads nothing of it for [`CONNECT_TIMEOUT`] is an error.
    ///
    /// # Errors
    ///
    /// Returns `TimedOut`, or what the socket returns.
    pub fn send(&mut self, header: Header, body: &[u8]) -> io::Result<()> {
        write_local(&mut Sending(self.descriptor()), header, body)
    }

    /// Waits until the broker says something, or closes; `false` when `timeout` passed first.
    ///
    /// # Errors
    ///
    /// Returns what `poll` returns.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<bool> {
        if !self.reader.buffer().is_empty() {
            return Ok(true);
        }
        let arrived = poll_for(self.descriptor(), PollFlags::IN, timeout)?;
        self.reader.get_mut().ready = arrived;
        Ok(arrived)
    }

    /// Reads one frame; waits no longer than [`PING_INTERVAL`] for each piece of it.
    ///
    /// # Errors
    ///
    /// Returns `TimedOut`, `UnexpectedEof`, `InvalidData`, or what the socket returns.
    pub fn receive(&mut self) -> io::Result<(Header, Vec<u8>)> {
        read_local(&mut self.reader)
    }
}

/// The same descriptor, or a copy above those of stdin, stdout and stderr.
fn above_stdio(descriptor: OwnedFd) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    match descriptor.as_raw_fd() >= FIRST_DESCRIPTOR {
        true => Ok(descriptor),
        false => Ok(fcntl_dupfd_cloexec(&descriptor, FIRST_DESCRIPTOR)?),
    }
}

/// Polls one descriptor; whether it is ready before `timeout` has passed. A signal that interrupts it is one that
/// stopped this process: then the wait begins anew, and no clock has to be read where there is none.
fn poll_for(descriptor: BorrowedFd<'_>, flags: PollFlags, timeout: Duration) -> io::Result<bool> {
    let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
    loop {
        match poll(&mut [PollFd::new(&descriptor, flags)], Some(&timeout)) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The reading half of a non-blocking socket: each read waits, with a bound.
struct Waiting {
    descriptor: OwnedFd,
    /// A poll has just said that there is something.
    ready: bool,
}

impl Read for Waiting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !std::mem::take(&mut self.ready)
                && !poll_for(self.descriptor.as_fd(), PollFlags::IN, PING_INTERVAL)?
            {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match rustix::io::read(&self.descriptor, &mut *buffer) {
                Err(Errno::INTR | Errno::AGAIN) => {}
                read => return Ok(read?),
            }
        }
    }
}

/// The writing half: never raises SIGPIPE, which may be at its default.
struct Sending<'a>(BorrowedFd<'a>);

impl Write for Sending<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        debug_assert!(
            pieces.iter().map(|piece| piece.len()).sum::<usize>() <= 2 * LOCAL_FRAME_MAX_BYTES as usize
        );
        loop {
            let mut nothing = SendAncillaryBuffer::default();
            match sendmsg(self.0, pieces, &mut nothing, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    if !poll_for(self.0, PollFlags::OUT, CONNECT_TIMEOUT)? {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                sent => return Ok(sent?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
