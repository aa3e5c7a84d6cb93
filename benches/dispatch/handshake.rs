//! What it costs to begin a link: a TLS handshake between two keys, up to the volunteer's hello, beside a
//! connection that says one byte and is closed.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use distcc::common::protocol::io::push_message;
use distcc::common::protocol::link::{OPENING, ToVolunteer, VERSION};
use distcc::common::trust::{files, tls};
use rustix::time::{ClockId, clock_gettime};
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::rig::{Cpu, Rig};

/// Handshakes; one after the other.
const ROUNDS: u32 = 500;

/// Measures both against a rig's volunteer, and prints a line for each.
///
/// # Errors
///
/// Fails when the volunteer does not serve.
pub fn run(rig: &Rig) -> io::Result<()> {
    let (port, volunteer, key) = rig.door().ok_or(io::ErrorKind::NotConnected)?;
    let client = files::secret(&key).map_err(io::Error::other)?;
    let config = tls::client(&client, Box::new(|_| true)).map_err(io::Error::other)?.config;
    println!("{:<44} {:>9} {:>10} {:>12}", "", "wall ms", "client ms", "volunteer ms");
    measure("a connection, one byte, closed", volunteer, || turned_away(port))?;
    measure("a connection, TLS, both hellos", volunteer, || link(port, &config))
}

fn measure(name: &str, volunteer: u32, once: impl Fn() -> io::Result<()>) -> io::Result<()> {
    for _ in 0..ROUNDS / 10 {
        once()?;
    }
    let (cpu, theirs, begun) = (own_cpu(), Cpu::of(volunteer)?, Instant::now());
    for _ in 0..ROUNDS {
        once()?;
    }
    let each = |time: Duration| time.as_secs_f64() * 1e3 / f64::from(ROUNDS);
    let (wall, own) = (begun.elapsed(), own_cpu() - cpu);
    let theirs = Cpu::of(volunteer)?.since(theirs).own;
    println!("{name:<44} {:>9.2} {:>10.2} {:>12.2}", each(wall), each(own), each(theirs));
    Ok(())
}

/// Processor time of this process so far.
fn own_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

fn turned_away(port: u16) -> io::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(b"x")?;
    stream.read_to_end(&mut Vec::new()).map(drop)
}

fn link(port: u16, config: &Arc<ClientConfig>) -> io::Result<()> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    let connection = ClientConnection::new(Arc::clone(config), tls::nobody_in_particular());
    let mut stream = StreamOwned::new(connection.map_err(io::Error::other)?, stream);
    let mut first = OPENING.to_vec();
    push_message(
        &mut first,
        &ToVolunteer::Hello { version: VERSION, build: "bench".into(), client: "bench".into() },
    );
    stream.write_all(&first)?;
    stream.read_exact(&mut [0; 1])
}
