//! How fast a client's line is, as the kernel knows it: that decides how results are packed.
//!
//! On a fast line the client's processor is what there is too little of, and LZ4 takes half of its time; on
//! a slow one bytes are, and zstd makes fewer.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::protocol::link::Packing;

/// What a line of a gigabit a second carries at most, in bytes a second. Where more than that has been
/// carried, it is not what results wait for.
const FAST_BYTES_PER_S: u64 = 125_000_000;

/// A connection to a client, to be asked about. Cheap to clone; the default knows nothing.
#[derive(Clone, Debug, Default)]
pub struct Line(Option<Arc<Socket>>);

#[derive(Debug)]
struct Socket {
    descriptor: OwnedFd,
    /// The best rate that was seen of late, in bytes a second.
    best: AtomicU64,
}

impl Line {
    /// The line that a connection uses; it stays open until all clones are gone.
    pub fn of(socket: &impl AsFd) -> Self {
        let descriptor = socket.as_fd().try_clone_to_owned();
        Line(descriptor.ok().map(|descriptor| Arc::new(Socket { descriptor, best: AtomicU64::new(0) })))
    }

    /// How a result is best packed now. A line of which nothing is known counts as slow.
    pub fn packing(&self) -> Packing {
        let Some(socket) = &self.0 else { return Packing::Zstd };
        let best = best(delivered(&socket.descriptor), socket.best.load(Ordering::Relaxed));
        // Of several that ask at once, any may be the last to say.
        socket.best.store(best, Ordering::Relaxed);
        if best >= FAST_BYTES_PER_S { Packing::Lz4 } else { Packing::Zstd }
    }
}

/// What is known after one more look. A client that is slow to read for a moment makes no slow line, so what
/// was seen before is forgotten bit by bit.
fn best(seen: Option<u64>, before: u64) -> u64 {
    seen.unwrap_or(0).max(before - before / 8)
}

/// The rate at which TCP saw data arrive, in bytes a second: `tcpi_delivery_rate` (linux/tcp.h, since 4.9), the
/// last one, or a better one before it that was held back by nothing but what there was to send. It is no more
/// than the line carries, and, unlike what the times of round trips would say, no less where acknowledgements
/// come late.
#[allow(unsafe_code, reason = "no safe wrapper has this option")]
fn delivered(socket: &impl AsRawFd) -> Option<u64> {
    /// Where the figure lies in `struct tcp_info`, which only ever grows at its end.
    const AT: usize = 160;
    const END: usize = AT + size_of::<u64>();
    let mut info = [0_u8; END];
    let mut length = END as libc::socklen_t;
    // SAFETY: the descriptor is open, and the kernel writes at most `length` bytes into `info`.
    let asked = unsafe {
        let into = info.as_mut_ptr().cast();
        libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, into, &raw mut length)
    };
    let rate = info[AT..].first_chunk().map(|bytes| u64::from_ne_bytes(*bytes));
    rate.filter(|_| asked == 0 && length as usize == END)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_moment_in_which_the_client_does_not_read_makes_no_slow_line() {
        let fast = best(Some(4 * FAST_BYTES_PER_S), 0);
        let after = |looks: usize| (0..looks).fold(fast, |before, _| best(Some(1_000_000), before));
        assert!(after(8) >= FAST_BYTES_PER_S, "{}", after(8));
        assert!(after(16) < FAST_BYTES_PER_S, "{}", after(16));
        assert_eq!(best(None, 0), 0);
    }

    #[test]
    fn a_connection_that_has_carried_something_has_a_rate_and_nothing_else_does() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut near = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
        let (mut far, _) = listener.accept().expect("accepted");
        for _ in 0..8 {
            near.write_all(&[0; 60_000]).expect("sent");
            far.read_exact(&mut [0; 60_000]).expect("received");
        }
        assert!(delivered(&near).is_some_and(|rate| rate > 0), "{:?}", delivered(&near));
        assert_eq!(delivered(&std::fs::File::open("/").expect("a folder")), None);
        assert_eq!(Line::default().packing(), Packing::Zstd);
    }
}
