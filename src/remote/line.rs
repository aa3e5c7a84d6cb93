//! How fast a client's line is, as the kernel knows it: that decides how results are packed.
//!
//! On a fast line the client's processor is what there is too little of, and LZ4 takes half of its time; on
//! a slow one bytes are, and zstd makes fewer. A client that is slow to read leaves the estimate as it is.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use crate::common::protocol::link::Packing;

/// What a line of a gigabit a second carries at most, in bytes a second. Where more than that could be on
/// its way, it is not what results wait for.
const FAST_BYTES_PER_S: u64 = 125_000_000;

/// A connection to a client, to be asked about. Cheap to clone; the default knows nothing.
#[derive(Clone, Debug, Default)]
pub struct Line(Option<Arc<OwnedFd>>);

impl Line {
    /// The line that a connection uses; it stays open until all clones are gone.
    pub fn of(socket: &impl AsFd) -> Self {
        Line(socket.as_fd().try_clone_to_owned().ok().map(Arc::new))
    }

    /// How a result is best packed now. A line of which nothing is known counts as slow.
    pub fn packing(&self) -> Packing {
        suited_to(self.0.as_ref().and_then(|socket| bytes_per_s(&**socket)))
    }
}

fn suited_to(bytes_per_s: Option<u64>) -> Packing {
    match bytes_per_s {
        Some(FAST_BYTES_PER_S..) => Packing::Lz4,
        _ => Packing::Zstd,
    }
}

/// What TCP may have on its way at once, for each round trip (tcp(7), "TCP_INFO").
#[allow(unsafe_code, reason = "no safe wrapper has this option")]
fn bytes_per_s(socket: &impl AsRawFd) -> Option<u64> {
    let mut info = std::mem::MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the descriptor is open, and the kernel writes at most `length` bytes into `info`, whose fields
    // are integers, for which zeroes are values.
    let info = unsafe {
        let into = info.as_mut_ptr().cast();
        let asked =
            libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, into, &raw mut length);
        (asked == 0).then(|| info.assume_init())?
    };
    let (window, segment) = (u64::from(info.tcpi_snd_cwnd), u64::from(info.tcpi_snd_mss));
    let round_trip_us = u64::from(info.tcpi_rtt).max(1);
    Some(window * segment * 1_000_000 / round_trip_us)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn bytes_are_saved_where_the_line_is_slow_and_time_where_it_is_fast() {
        assert_eq!(suited_to(Some(FAST_BYTES_PER_S)), Packing::Lz4);
        assert_eq!(suited_to(Some(FAST_BYTES_PER_S - 1)), Packing::Zstd);
        assert_eq!(suited_to(None), Packing::Zstd);
    }

    #[test]
    fn a_connection_has_a_rate_and_nothing_else_does() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut near = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
        let (mut far, _) = listener.accept().expect("accepted");
        near.write_all(b"x").expect("sent");
        far.read_exact(&mut [0]).expect("received");
        assert!(bytes_per_s(&near).is_some_and(|rate| rate > 0));
        assert_eq!(bytes_per_s(&std::fs::File::open("/").expect("a folder")), None);
        assert_eq!(Line::default().packing(), Packing::Zstd);
    }
}
