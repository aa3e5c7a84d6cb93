//! Starts a broker where there is none: exactly one, however many shims find that out at once.
//!
//! Under a lock, one shim starts `distcc-broker --detach`, which exits when the broker listens;
//! the others try to connect until they can. When a start fails, the reason stays in a file for a
//! few seconds, and shims that find it there do not try again.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, Mode, lstat, mkdir};
use rustix::io::Errno;

use crate::common::bytes::Bytes;
use crate::common::place::{CHOSEN, Place, is_open_to};
use crate::common::protocol::local::{Header, Kind};

use super::broker::{OtherBuild, jittered};
use super::connection::{ConnectError, Connection};
use super::control::broker_program;

/// How long a shim waits until somebody, itself or another, has started a broker.
const START_MAX: Duration = Duration::from_secs(10);

/// How long `distcc-broker --detach` may take.
const DETACH_MAX: Duration = Duration::from_secs(5);

/// How long a broker of an older build may take to close its socket when told to drain.
const DRAIN_MAX: Duration = Duration::from_secs(3);

/// After a failed start, nobody tries again for so long.
const FAILURE_STANDS: Duration = Duration::from_secs(5);

/// Pauses between attempts grow from the first to the second.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// What is kept of a message about a failed start.
const MESSAGE_MAX_BYTES: u64 = 400;

/// Variables that a broker keeps of the shim that started it, besides `DISTCC_*`. Each job brings
/// its own environment for everything else.
const KEPT_VARIABLES: [&str; 9] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "SSH_AUTH_SOCK",
];

/// Why no broker could be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The directory for its socket cannot be made or looked at.
    #[error("no broker: {directory}: {why}")]
    Directory {
        /// Which.
        directory: Bytes,
        /// What happened.
        why: io::Error,
    },
    /// The directory is not ours alone.
    #[error("no broker: {directory} is not a directory that belongs to this user alone")]
    NotPrivate {
        /// Which.
        directory: Bytes,
    },
    /// The program is missing.
    #[error("no broker: distcc-broker is neither beside distcc nor in PATH")]
    NoProgram,
    /// It ended with a message.
    #[error("the broker did not start: {why}")]
    Failed {
        /// Its message.
        why: String,
    },
    /// Nobody had started one in time.
    #[error("no broker was started within {} s", START_MAX.as_secs())]
    TimedOut,
    /// An older one was told to drain and still listens.
    #[error("the broker of an older build does not give way")]
    OldStays,
    /// One runs, but cannot be talked to.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// Returns a connection to a broker that this shim or another one has started.
///
/// # Errors
///
/// Returns [`LaunchError`] when there is none after all.
pub fn start(places: &[Place], environment: &[Bytes]) -> Result<Connection, LaunchError> {
    let place = usable(places)?;
    let lock = open(place, &place.start_lock(), false)?;
    let until = Instant::now() + START_MAX;
    let mut pause = PAUSE_MIN;
    loop {
        if try_lock(place, &lock)? {
            if let Some(connection) = Connection::open_any(places)? {
                return Ok(connection);
            }
            launch(place, environment)?;
            return Connection::open_any(places)?.ok_or(LaunchError::Connect(ConnectError::Absent));
        }
        if Instant::now() >= until {
            return Err(LaunchError::TimedOut);
        }
        sleep(jittered(pause));
        pause = (pause * 2).min(PAUSE_MAX);
        if let Some(connection) = Connection::open_any(places)? {
            return Ok(connection);
        }
    }
}

/// Puts a broker of this build in the place of `old`, unless another shim has done so.
///
/// # Errors
///
/// Returns [`LaunchError`] when the old one stays, or no new one starts.
pub fn replace(places: &[Place], environment: &[Bytes], old: &OtherBuild) -> Result<(), LaunchError> {
    let place = usable(places)?;
    let lock = open(place, &place.start_lock(), false)?;
    let until = Instant::now() + START_MAX;
    while !try_lock(place, &lock)? {
        if Instant::now() >= until {
            return Err(LaunchError::TimedOut);
        }
        sleep(jittered(PAUSE_MAX));
    }
    match Connection::open_any(places)? {
        Some(connection) if connection.broker_pid == old.pid => drain(connection, places)?,
        Some(_) => return Ok(()),
        None => {}
    }
    launch(place, environment)
}

/// Tells a broker to take no more work, and waits until its socket is closed.
fn drain(mut connection: Connection, places: &[Place]) -> Result<(), LaunchError> {
    // When this fails, the broker has gone, and the loop below sees it.
    let _ = connection.send(Header::new(Kind::Drain, 0), &[]);
    let until = Instant::now() + DRAIN_MAX;
    while Connection::open_any(places)?.is_some() {
        if Instant::now() >= until {
            return Err(LaunchError::OldStays);
        }
        sleep(PAUSE_MIN);
    }
    Ok(())
}

/// The first place whose directory is there, or can be made, and is ours alone; else why the best
/// one is not.
fn usable(places: &[Place]) -> Result<&Place, LaunchError> {
    let mut first_error = None;
    for place in places {
        match prepare(place) {
            Ok(()) => return Ok(place),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    Err(first_error.unwrap_or(LaunchError::NoProgram))
}

fn prepare(place: &Place) -> Result<(), LaunchError> {
    let directory = &place.directory;
    let failed = |error: Errno| LaunchError::Directory { directory: directory.clone(), why: error.into() };
    let uid = rustix::process::geteuid().as_raw();
    let parent = directory.as_path().parent().and_then(|parent| lstat(parent).ok());
    let is_closed = parent.is_some_and(|parent| !is_open_to(parent.st_uid, parent.st_mode, uid));
    // One of our own that is there is as good as any.
    if is_closed && lstat(&directory[..]).is_err() {
        return Err(LaunchError::NotPrivate { directory: directory.clone() });
    }
    match mkdir(&directory[..], Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        // It may be there on a file system that cannot be written to; looking tells.
        Err(error) => drop(lstat(&directory[..]).map_err(|_| failed(error))?),
    }
    let found = lstat(&directory[..]).map_err(failed)?;
    let is_directory = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
    if is_directory && place.accepts(found.st_uid, found.st_mode, uid) {
        return Ok(());
    }
    Err(LaunchError::NotPrivate { directory: directory.clone() })
}

fn open(place: &Place, path: &Bytes, truncate: bool) -> Result<File, LaunchError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(truncate).mode(0o600);
    options
        .custom_flags(libc::O_NOFOLLOW)
        .open(path.as_path())
        .map_err(|why| LaunchError::Directory { directory: place.directory.clone(), why })
}

fn try_lock(place: &Place, lock: &File) -> Result<bool, LaunchError> {
    match fs2::FileExt::try_lock_exclusive(lock) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Ok(false)
        }
        Err(why) => Err(LaunchError::Directory { directory: place.directory.clone(), why }),
    }
}

/// Starts a broker in `place` and waits until it listens. The caller holds the lock.
fn launch(place: &Place, environment: &[Bytes]) -> Result<(), LaunchError> {
    let mut log = open(place, &place.start_log(), false)?;
    if let Some(why) = recent_failure(&mut log) {
        return Err(LaunchError::Failed { why });
    }
    let ended = run(place, environment);
    if matches!(ended, Ok(status) if status.success()) {
        // What it may have said is no failure, which anything in this file is.
        let _ = log.set_len(0);
        return Ok(());
    }
    let status = ended?;
    let why = message(&mut log).unwrap_or_else(|| status.to_string());
    // So that the shims behind us need not try too, whatever the broker itself wrote and when.
    let _ = std::fs::write(place.start_log().as_path(), &why);
    Err(LaunchError::Failed { why })
}

fn run(place: &Place, environment: &[Bytes]) -> Result<ExitStatus, LaunchError> {
    let program = broker_program(environment).ok_or(LaunchError::NoProgram)?;
    let failed = |error: io::Error| LaunchError::Failed { why: format!("{program}: {error}") };
    // Where stdin, stdout or stderr is closed, files would get their numbers.
    let _plugs = plugs().map_err(failed)?;
    let log = open(place, &place.start_log(), true)?;
    let mut child = Command::new(program.as_os_str())
        .arg("--detach")
        .env_clear()
        .envs(kept(environment))
        .env(CHOSEN, place.asked.as_os_str())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(failed)?;
    wait(&mut child).map_err(failed)
}

/// Descriptors on `/dev/null` in place of closed ones among the first three.
fn plugs() -> io::Result<Vec<OwnedFd>> {
    let mut plugs = Vec::new();
    loop {
        let plug = OwnedFd::from(File::open("/dev/null")?);
        if plug.as_raw_fd() > 2 {
            return Ok(plugs);
        }
        plugs.push(plug);
    }
}

fn wait(child: &mut Child) -> io::Result<ExitStatus> {
    let until = Instant::now() + DETACH_MAX;
    let mut pause = Duration::from_millis(1);
    loop {
        match child.try_wait() {
            Ok(None) => {}
            // Where SIGCHLD is ignored, children end without telling how: connecting will show it.
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Ok(ExitStatus::default()),
            ended => return ended.map(Option::unwrap_or_default),
        }
        if Instant::now() >= until {
            child.kill()?;
            return child.wait();
        }
        sleep(pause);
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn kept(environment: &[Bytes]) -> impl Iterator<Item = (&OsStr, &OsStr)> {
    environment.iter().filter_map(|entry| {
        let equals = entry.iter().position(|&byte| byte == b'=')?;
        let (name, value) = (&entry[..equals], &entry[equals + 1..]);
        let keep = name.starts_with(b"DISTCC_") || KEPT_VARIABLES.iter().any(|kept| name == kept.as_bytes());
        keep.then(|| (OsStr::from_bytes(name), OsStr::from_bytes(value)))
    })
}

/// Why a start failed a moment ago; `None` when none did.
fn recent_failure(log: &mut File) -> Option<String> {
    let written = log.metadata().and_then(|metadata| metadata.modified()).ok()?;
    // A time in the future is a clock that was set back: no reason to wait for it.
    written.elapsed().ok().filter(|age| *age < FAILURE_STANDS)?;
    message(log)
}

/// The first line in the file, bounded; `None` when there is none.
fn message(log: &mut File) -> Option<String> {
    use std::io::Seek;
    log.rewind().ok()?;
    let mut text = Vec::new();
    log.take(MESSAGE_MAX_BYTES).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_keeps_only_what_is_not_the_builds() {
        let environment =
            ["PATH=/bin", "DISTCC_HOSTS=a b", "MAKEFLAGS=-j", "_DISTCC_SAFEGUARD=1", "CC=gcc", "odd"];
        let environment = environment.map(Bytes::from);
        let names: Vec<_> = kept(&environment).map(|(name, _)| name.to_owned()).collect();
        assert_eq!(names, ["PATH", "DISTCC_HOSTS"]);
    }

    #[test]
    fn a_failure_stands_for_a_while_and_an_empty_file_is_none() {
        let mut file = tempfile::tempfile().expect("a file");
        assert_eq!(recent_failure(&mut file), None);
        io::Write::write_all(&mut file, b"\n  no room \nmore").expect("a write");
        assert_eq!(recent_failure(&mut file), Some("no room".to_owned()));
        file.set_modified(std::time::SystemTime::now() - 2 * FAILURE_STANDS).expect("a time");
        assert_eq!(recent_failure(&mut file), None);
    }
}
