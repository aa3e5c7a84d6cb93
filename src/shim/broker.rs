//! The dialogue with the broker: one invocation, one outcome, every wait bounded.

use std::io;
use std::time::{Duration, Instant};

use crate::common::bytes::Bytes;
use crate::common::invocation::Invocation;
use crate::common::limits::LOCAL_FRAME_MAX_BYTES;
use crate::common::place::{Place, Surroundings, candidates};
use crate::common::protocol::local::{
    ACK_TIMEOUT, BUSY_MAX, Done, Header, Kind, PING_INTERVAL, Run, VERSION,
};
use crate::common::protocol::wire::{decode, encode};

use super::connection::{ConnectError, Connection};
use super::launch::{self, LaunchError};
use super::settings::variable;
use super::upgrade;
use super::voice::Voice;

/// How long a broker that is merely slow (the machine is) may take for its first `Ack`.
const SLOW_ACK_MAX: Duration = Duration::from_secs(5);

/// Pauses between attempts while the broker is busy: they grow from the first to the second.
const BUSY_PAUSE_MIN: Duration = Duration::from_millis(5);
const BUSY_PAUSE_MAX: Duration = Duration::from_millis(500);

/// How often a broker may be of another build, which happens while one takes over from another, and is over then.
const TURNS_MAX: u32 = 5;

/// How often a broker may close before its first word. One that was just leaving does so once; one that the request
/// itself makes fail would each time.
const CLOSED_MAX: u32 = 2;

/// What became of an invocation.
pub enum Outcome {
    /// The compiler must run here, with the lease open.
    Run {
        /// The broker's words.
        run: Run,
        /// The connection, which ends the lease when it closes.
        lease: Connection,
    },
    /// It is done.
    Done(Done),
}

/// Why the broker gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// It could not be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// None could be started.
    #[error(transparent)]
    Launch(LaunchError),
    /// The working directory does not exist any more.
    #[error("the working directory is gone")]
    NoWorkingDirectory,
    /// The invocation is larger than a frame may be.
    #[error("the arguments and the environment are too large")]
    TooLarge,
    /// There is none, and one that we start would be limited as we are, all day and for everybody.
    #[error("no broker: the size of files is limited (ulimit -f)")]
    Limited,
    /// It is stopped, or does not answer.
    #[error("the broker does not answer")]
    Silent,
    /// It closed the connection before it answered.
    #[error("the broker has gone away")]
    Vanished,
    /// It stayed too busy for too long.
    #[error("the broker is out of descriptors")]
    Busy,
    /// It is of a build that this one cannot talk to.
    #[error("the broker is of another build (protocol {theirs}, here {VERSION})")]
    OtherBuild {
        /// The protocol that it speaks.
        theirs: u16,
    },
    /// It said something that makes no sense.
    #[error("the broker's answer makes no sense: {why}")]
    Nonsense {
        /// What is wrong with it.
        why: String,
    },
    /// The connection failed.
    #[error("the connection to the broker failed: {0}")]
    Io(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Trouble::Silent,
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                Trouble::Vanished
            }
            io::ErrorKind::InvalidData => Trouble::Nonsense { why: error.to_string() },
            _ => Trouble::Io(error),
        }
    }
}

impl From<LaunchError> for Trouble {
    fn from(error: LaunchError) -> Self {
        match error {
            LaunchError::Connect(error) => Trouble::Connect(error),
            error => Trouble::Launch(error),
        }
    }
}

/// One turn of the dialogue, on one connection.
enum Answer {
    Outcome(Outcome),
    /// Ask again in a while.
    Busy,
    /// The connection ended before the broker had taken the request.
    NotTaken,
    OtherBuild(OtherBuild),
}

/// A broker of another build.
pub struct OtherBuild {
    /// The protocol that it speaks.
    pub protocol: u16,
    /// Its executable's modification time, nanoseconds since the epoch.
    pub modified: u64,
    /// Its process id.
    pub pid: Option<u32>,
}

/// Asks the broker about `invocation`; starts a broker where there is none.
///
/// # Errors
///
/// Returns [`Trouble`] when there is no answer; the compile is then to be done here.
pub fn ask(invocation: &Invocation, voice: &Voice<'_>) -> Result<Outcome, Trouble> {
    if invocation.cwd.is_empty() {
        return Err(Trouble::NoWorkingDirectory);
    }
    let body = encode(invocation);
    if body.len() > LOCAL_FRAME_MAX_BYTES as usize {
        return Err(Trouble::TooLarge);
    }
    let mut asking = Asking {
        places: places(invocation),
        environment: &invocation.env,
        limited: invocation.limited,
        voice,
        header: Header::new(Kind::Compile, body.len()),
        turns: 0,
        closed: 0,
        busy_since: None,
        pause: BUSY_PAUSE_MIN,
    };
    loop {
        if let Some(outcome) = asking.turn(&body)? {
            return Ok(outcome);
        }
    }
}

fn places(invocation: &Invocation) -> Vec<Place> {
    let lookup = |name: &str| variable(&invocation.env, name);
    let uid = rustix::process::geteuid().as_raw();
    candidates(&Surroundings { chosen: None, ..Surroundings::of(lookup, &invocation.cwd, uid) })
}

/// The state of a dialogue that may take several connections.
struct Asking<'a> {
    places: Vec<Place>,
    limited: bool,
    environment: &'a [Bytes],
    voice: &'a Voice<'a>,
    header: Header,
    turns: u32,
    closed: u32,
    busy_since: Option<Instant>,
    pause: Duration,
}

impl Asking<'_> {
    /// Asks once; `None` when it should be asked again.
    fn turn(&mut self, body: &[u8]) -> Result<Option<Outcome>, Trouble> {
        let connection = match self.connect() {
            Err(Trouble::Connect(ConnectError::Full)) => return self.wait_for_room().map(|()| None),
            connection => connection?,
        };
        match converse(connection, self.header, body, self.voice)? {
            Answer::Outcome(outcome) => return Ok(Some(outcome)),
            Answer::Busy => self.wait_for_room()?,
            Answer::NotTaken => {
                self.closed += 1;
                if self.closed >= CLOSED_MAX {
                    return Err(Trouble::Vanished);
                }
            }
            Answer::OtherBuild(other) => self.meet(&other)?,
        }
        Ok(None)
    }

    fn connect(&self) -> Result<Connection, Trouble> {
        if let Some(connection) = Connection::open_any(&self.places)? {
            return Ok(connection);
        }
        self.voice.debug("no broker is running; starting one");
        if self.limited {
            return Err(Trouble::Limited);
        }
        Ok(launch::start(&self.places, self.environment)?)
    }

    fn wait_for_room(&mut self) -> Result<(), Trouble> {
        let since = *self.busy_since.get_or_insert_with(Instant::now);
        if since.elapsed() > BUSY_MAX {
            return Err(Trouble::Busy);
        }
        self.voice.debug("the broker is busy; asking again");
        std::thread::sleep(jittered(self.pause));
        self.pause = (self.pause * 2).min(BUSY_PAUSE_MAX);
        Ok(())
    }

    fn count_turn(&mut self, trouble: Trouble) -> Result<(), Trouble> {
        self.turns += 1;
        if self.turns >= TURNS_MAX { Err(trouble) } else { Ok(()) }
    }

    /// Meets a broker of another build: the newer of the two stays.
    fn meet(&mut self, other: &OtherBuild) -> Result<(), Trouble> {
        let trouble = Trouble::OtherBuild { theirs: other.protocol };
        self.count_turn(trouble)?;
        if upgrade::ours_is_newer(other, self.environment) {
            self.voice.debug("the broker is of an older build; replacing it");
            return Ok(launch::replace(&self.places, self.environment, other)?);
        }
        if other.protocol != VERSION || self.header.build == 0 {
            return Err(Trouble::OtherBuild { theirs: other.protocol });
        }
        self.header = Header { build: 0, ..self.header };
        Ok(())
    }
}

/// Spreads shims that were told to wait at the same moment; between half of `pause` and all of it.
pub fn jittered(pause: Duration) -> Duration {
    pause / 2 + pause * (std::process::id() % 64) / 128
}

fn converse(
    mut connection: Connection,
    header: Header,
    body: &[u8],
    voice: &Voice<'_>,
) -> Result<Answer, Trouble> {
    match connection.send(header, body).map_err(Trouble::from) {
        // It may have said why before it closed.
        Ok(()) | Err(Trouble::Vanished) => {}
        Err(trouble) => return Err(trouble),
    }
    wait_for_ack(&mut connection)?;
    let (mut header, mut body) = match connection.receive().map_err(Trouble::from) {
        Err(Trouble::Vanished) => return Ok(Answer::NotTaken),
        first => first?,
    };
    while header.kind == Kind::Ack {
        voice.debug("waiting for the broker");
        wait_for_answer(&mut connection)?;
        (header, body) = connection.receive()?;
    }
    answer(connection, header, &body)
}

fn answer(connection: Connection, header: Header, body: &[u8]) -> Result<Answer, Trouble> {
    match header.kind {
        Kind::Busy => return Ok(Answer::Busy),
        Kind::OtherBuild => {
            let modified = u64::from_le_bytes(body.try_into().map_err(|_| nonsense("OtherBuild"))?);
            let pid = connection.broker_pid;
            return Ok(Answer::OtherBuild(OtherBuild { protocol: header.protocol, modified, pid }));
        }
        _ => {}
    }
    if header.protocol != VERSION {
        return Err(Trouble::OtherBuild { theirs: header.protocol });
    }
    let outcome = match header.kind {
        Kind::Run => Outcome::Run { run: decode(body).map_err(nonsense)?, lease: connection },
        Kind::Done => Outcome::Done(decode(body).map_err(nonsense)?),
        kind => return Err(nonsense(format!("{kind:?}"))),
    };
    Ok(Answer::Outcome(outcome))
}

#[allow(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn nonsense(why: impl std::fmt::Display) -> Trouble {
    Trouble::Nonsense { why: format!("{why}") }
}

/// Waits for the first word. A broker that is stopped is given up at once, one that merely runs
/// late is waited for a little longer.
fn wait_for_ack(connection: &mut Connection) -> Result<(), Trouble> {
    if connection.wait(ACK_TIMEOUT)? {
        return Ok(());
    }
    if is_running(connection.broker_pid) && connection.wait(SLOW_ACK_MAX - ACK_TIMEOUT)? {
        return Ok(());
    }
    Err(Trouble::Silent)
}

/// Waits for the next word, and asks for one when none comes.
fn wait_for_answer(connection: &mut Connection) -> Result<(), Trouble> {
    if connection.wait(PING_INTERVAL)? {
        return Ok(());
    }
    if !is_running(connection.broker_pid) {
        return Err(Trouble::Silent);
    }
    connection.send(Header::new(Kind::Ping, 0), &[])?;
    if connection.wait(PING_INTERVAL)? { Ok(()) } else { Err(Trouble::Silent) }
}

/// Whether the process can be seen and is neither stopped nor dead.
fn is_running(pid: Option<u32>) -> bool {
    let Some(pid) = pid else { return false };
    std::fs::read(format!("/proc/{pid}/stat")).is_ok_and(|stat| may_answer(&stat))
}

/// Reads the state in `/proc/PID/stat` (proc(5)): it stands behind the name, which may hold
/// anything, brackets too.
fn may_answer(stat: &[u8]) -> bool {
    let state = stat.iter().rposition(|&byte| byte == b')').and_then(|end| stat.get(end + 2));
    state.is_some_and(|state| !b"TtZXx".contains(state))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_process_that_is_stopped_or_dead_cannot_answer() {
        for (stat, expected) in [
            ("12 (distcc-broker) S 1 12", true),
            ("12 (distcc-broker) R 1 12", true),
            ("12 (distcc-broker) D 1 12", true),
            ("12 (distcc-broker) T 1 12", false),
            ("12 (a) T (b) S 1 12", true),
            ("12 (distcc-broker) Z 1 12", false),
            ("", false),
        ] {
            assert_eq!(may_answer(stat.as_bytes()), expected, "{stat}");
        }
    }

    #[test]
    fn pauses_stay_within_their_bounds() {
        let pause = jittered(BUSY_PAUSE_MAX);
        assert!(BUSY_PAUSE_MAX / 2 <= pause && pause <= BUSY_PAUSE_MAX);
    }
}
