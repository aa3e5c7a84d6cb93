//! A thin, long line: what goes through waits half a round trip, and no faster than so many bytes a second.
//!
//! It stands between two programs on loopback. What waits in it is bounded, as in a router, so that the
//! sender feels it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// One packet, nearly.
const PIECE_BYTES: usize = 1400;

/// How a line is.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// From one end to the other and back.
    pub round_trip: Duration,
    /// Bytes a second towards the volunteer.
    pub up: u64,
    /// Bytes a second from it.
    pub down: u64,
}

impl Kind {
    /// 5 Mbit/s up, 50 down, a tenth of a second.
    pub const HOME: Kind = Kind { round_trip: Duration::from_millis(100), up: 625_000, down: 6_250_000 };
}

/// What went through, in bytes, and whether anything may.
#[derive(Debug, Default)]
pub struct Counts {
    up: AtomicU64,
    /// Nothing goes up.
    held: AtomicBool,
}

/// A line, until it is dropped.
pub struct Line {
    /// Where its near end listens.
    pub port: u16,
    counts: Arc<Counts>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Line {
    /// A line to a port of this machine.
    pub fn to(port: u16, kind: Kind) -> Line {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
        // What the kernel would hold for us is not on any real line.
        rustix::net::sockopt::set_socket_recv_buffer_size(&listener, 64 << 10).expect("a socket of our own");
        let near = listener.local_addr().expect("it is bound").port();
        let (counts, stop) = (Arc::<Counts>::default(), Arc::new(AtomicBool::new(false)));
        let (counted, stopped) = (Arc::clone(&counts), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                if stopped.load(Ordering::Acquire) {
                    break;
                }
                if let Ok(volunteer) = TcpStream::connect(("127.0.0.1", port)) {
                    carry(&client, &volunteer, kind, &counted);
                }
            }
        });
        Line { port: near, counts, stop, thread: Some(thread) }
    }

    /// Holds back what goes up, or lets it go.
    pub fn hold(&self, held: bool) {
        self.counts.held.store(held, Ordering::Release);
    }

    /// What went up so far, in bytes.
    pub fn up(&self) -> u64 {
        self.counts.up.load(Ordering::Relaxed)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.hold(false);
        TcpStream::connect(("127.0.0.1", self.port)).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Carries both ways until either end closes.
fn carry(client: &TcpStream, volunteer: &TcpStream, kind: Kind, counts: &Arc<Counts>) {
    let half = kind.round_trip / 2;
    for (from, to, rate, is_up) in [(client, volunteer, kind.up, true), (volunteer, client, kind.down, false)]
    {
        let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { return };
        to.set_nodelay(true).ok();
        // A tenth of a second of the line waits in it, as in a router, and what is on its way.
        let pieces = (rate as f64 * (half.as_secs_f64() + 0.1)) as usize / PIECE_BYTES + 1;
        let (sender, receiver) = sync_channel(pieces);
        std::thread::spawn(move || take(from, &sender));
        let counts = Arc::clone(counts);
        std::thread::spawn(move || give(to, &receiver, half, rate, &counts, is_up));
    }
}

fn take(mut from: TcpStream, sender: &SyncSender<(Instant, Vec<u8>)>) {
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        if sender.send((Instant::now(), piece[..length].to_vec())).is_err() {
            return;
        }
    }
}

fn give(
    mut to: TcpStream,
    receiver: &Receiver<(Instant, Vec<u8>)>,
    half: Duration,
    rate: u64,
    counts: &Counts,
    is_up: bool,
) {
    let mut free = Instant::now();
    for (taken, piece) in receiver {
        // It leaves when the line is free, and arrives half a round trip later.
        free = free.max(taken) + Duration::from_secs_f64((piece.len() + 40) as f64 / rate as f64);
        std::thread::sleep((free + half).saturating_duration_since(Instant::now()));
        while is_up && counts.held.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(5));
        }
        if to.write_all(&piece).is_err() {
            break;
        }
        if is_up {
            counts.up.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
    }
    to.shutdown(Shutdown::Write).ok();
}
