//! Detaching the broker from the build that started it.
//!
//! `distcc-broker --detach` starts the same program with `--foreground` in a session of its own,
//! in `/`, with no descriptor of the build, and exits when that one says that it listens. So a
//! `make` or `ninja` that waits for the end of a pipe never waits for the broker.

use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use crate::common::exit;

/// Set for a broker whose stdout leads to the process that waits for [`READY`].
const DETACHED: &str = "_DISTCC_BROKER_DETACHED";

/// What a broker says on stdout when it listens.
const READY: &[u8] = b"ready\n";

/// How long a broker may take until it listens; less than a shim waits for `--detach`.
const READY_MAX: Duration = Duration::from_millis(4500);

/// Descriptors that are looked at one by one where the kernel cannot mark them all at once.
const DESCRIPTORS_MAX: u32 = 65_536;

/// What a broker may say on stdout before that.
const SAID_MAX_BYTES: usize = 4096;

/// Why a broker did not come up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It could not be run.
    #[error("cannot start: {0}")]
    Spawn(#[from] io::Error),
    /// It ended, and has said why on stderr.
    #[error("ended before it was ready ({status})")]
    Ended {
        /// How.
        status: std::process::ExitStatus,
    },
    /// It neither ended nor said anything.
    #[error("was not ready after {} ms", READY_MAX.as_millis())]
    Silent,
}

/// Starts this program again, detached, with `--foreground` and then `arguments` (the program's
/// own name and `--detach` not among them), and returns when it is ready or has failed.
///
/// Call it before any thread is started. Until it is ready, the broker's stderr is ours.
pub fn detach(arguments: &[OsString]) -> ExitCode {
    let mut command = Command::new(own_program());
    match detach_as(command.arg("--foreground").args(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to hear that stderr is closed.
            let _ = io::Write::write_all(&mut io::stderr(), format!("distcc-broker: {error}\n").as_bytes());
            ExitCode::from(exit::FAILED as u8)
        }
    }
}

/// Runs `command`, which calls [`ready`] in the end, detached from this process's surroundings, and
/// returns when it is ready. This process leaves its session on the way.
///
/// # Errors
///
/// Returns [`StartError`] when it ended, or was not ready in time; then it does not run any more.
pub fn detach_as(command: &mut Command) -> Result<(), StartError> {
    // Fails in a process that leads a group already, for instance when a person typed this;
    // `ready` does it again in the new process, which leads none.
    let _ = rustix::process::setsid();
    // What the broker makes is the user's own, whatever the mask of the build is.
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    close_on_exec_from(3);
    let mut child =
        command.env(DETACHED, "1").current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let said = wait_for_ready(&mut child)?;
    if said {
        return Ok(());
    }
    match child.try_wait()? {
        Some(status) => Err(StartError::Ended { status }),
        None => {
            // Closing stdout without a word is no way for it to live on.
            child.kill()?;
            child.wait()?;
            Err(StartError::Silent)
        }
    }
}

/// Whether the child says that it is ready before its stdout closes and its time is over.
fn wait_for_ready(child: &mut Child) -> io::Result<bool> {
    let Some(mut stdout) = child.stdout.take() else { return Ok(false) };
    let until = Instant::now() + READY_MAX;
    let mut said = Vec::new();
    while !is_ready(&said) && said.len() < SAID_MAX_BYTES {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&stdout, PollFlags::IN)], Some(&left)) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let mut piece = [0; 256];
        match stdout.read(&mut piece)? {
            0 => return wait_for_end(child, until).map(|()| false),
            read => said.extend_from_slice(&piece[..read]),
        }
    }
    Ok(is_ready(&said))
}

/// Whether a line of its own says so; libraries may have said other things.
fn is_ready(said: &[u8]) -> bool {
    said.starts_with(READY) || said.windows(READY.len() + 1).any(|text| text == b"\nready\n")
}

/// Gives a child that has closed its stdout the time to end, so that its status can be told.
fn wait_for_end(child: &mut Child, until: Instant) -> io::Result<()> {
    while child.try_wait()?.is_none() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// This program's file, under its own name for those who look at processes; where it has been
/// replaced meanwhile, still the program that runs.
fn own_program() -> PathBuf {
    std::env::current_exe().ok().filter(|path| path.exists()).unwrap_or_else(|| "/proc/self/exe".into())
}

/// Whether this process was started by [`detach`].
pub fn is_detached() -> bool {
    std::env::var_os(DETACHED).as_deref() == Some(OsStr::new("1"))
}

/// Says that the broker listens, and lets go of the last things of whoever started it.
///
/// To be called once, when the socket listens. Does nothing in a broker that was not started by
/// [`detach`]. Afterwards stdin, stdout and stderr are `/dev/null`: messages belong into the log.
///
/// # Errors
///
/// Returns what the system returns; the broker may go on all the same.
pub fn ready() -> io::Result<()> {
    if !is_detached() {
        return Ok(());
    }
    // Fails where `detach` has done it; then we are in a session of our own already.
    let _ = rustix::process::setsid();
    let nothing = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    dup2_stdin(nothing.as_fd())?;
    dup2_stderr(nothing.as_fd())?;
    // The other side may have given up waiting; then nobody needs the word.
    let _ = rustix::io::write(rustix::stdio::stdout(), READY);
    dup2_stdout(nothing.as_fd())?;
    Ok(())
}

/// Marks every descriptor from `first` on as closed on exec.
#[allow(unsafe_code, reason = "descriptors that nobody in this process owns have no safe type")]
fn close_on_exec_from(first: u32) {
    // SAFETY: neither call touches memory; marking a descriptor changes nothing for its owner in
    // this process, and a number that is no descriptor is an error that changes nothing.
    unsafe {
        let marked =
            libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int);
        if marked == 0 {
            return;
        }
        let end = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let end = u32::try_from(end.unwrap_or(u64::MAX)).unwrap_or(u32::MAX).min(DESCRIPTORS_MAX);
        for descriptor in first..end {
            libc::fcntl(descriptor as libc::c_int, libc::F_SETFD, libc::FD_CLOEXEC);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_line_of_its_own_says_ready() {
        for (said, expected) in [
            ("ready\n", true),
            ("words\nready\n", true),
            ("ready", false),
            ("not ready\n", false),
            ("", false),
        ] {
            assert_eq!(is_ready(said.as_bytes()), expected, "{said}");
        }
    }
}
