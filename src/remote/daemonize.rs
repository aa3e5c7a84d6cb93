//! Becoming a daemon, so that when the starting command returns, the daemon serves.
//!
//! The command starts this program once more, detached, and waits on a pipe for the word that it
//! is ready. The detached one closes what it inherited, has a session of its own, and says so
//! when its port is open and its pid file written.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

use crate::common::exit;

/// How long the daemon may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// What the detached daemon says when it serves.
const READY: &[u8] = b"ready\n";

/// The starting command's part: the exit status, once the daemon serves or has failed.
///
/// # Errors
///
/// Returns what starting a process returned.
pub fn start() -> io::Result<i32> {
    let mut child = Command::new(super::own_program())
        .arg0("distccd")
        .args(std::env::args_os().skip(1))
        .arg("--detached")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    if is_ready(&mut child)? {
        return Ok(0);
    }
    let status = match child.try_wait()? {
        Some(status) => status,
        None => {
            eprintln!("distccd: not ready after {} s; ending it", START_TIMEOUT.as_secs());
            child.kill()?;
            child.wait()?;
            return Ok(exit::FAILED);
        }
    };
    Ok(exit_status(status))
}

fn exit_status(status: ExitStatus) -> i32 {
    match (status.code(), status.signal()) {
        // A daemon that ended well without having served has not done what was asked.
        (Some(0) | None, None) => exit::FAILED,
        (Some(code), _) => code,
        (None, Some(signal)) => exit::of_signal(signal),
    }
}

/// Whether the child said that it is ready; false when it has ended, or time is over.
fn is_ready(child: &mut Child) -> io::Result<bool> {
    let Some(mut pipe) = child.stdout.take() else { return Ok(false) };
    let deadline = Instant::now() + START_TIMEOUT;
    let mut heard = Vec::new();
    while heard != READY {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        if poll(&mut [PollFd::new(&pipe, PollFlags::IN)], Some(&timeout))? == 0 {
            return Ok(false);
        }
        let mut bytes = [0; READY.len()];
        match pipe.read(&mut bytes)? {
            0 => {
                child.wait()?;
                return Ok(false);
            }
            read => heard.extend_from_slice(&bytes[..read]),
        }
    }
    Ok(true)
}

/// The detached part's beginning: nothing of the starter's is kept but the pipe and stderr.
pub fn detach() {
    close_inherited();
    // Fails only for the leader of a group, which a child just started is not.
    let _ = rustix::process::setsid();
}

/// Closes all descriptors but the first three.
#[allow(unsafe_code)]
fn close_inherited() {
    // SAFETY: called first in `main` of a process that has opened nothing yet, so no descriptor
    // beyond the first three has an owner in this program.
    unsafe { libc::syscall(libc::SYS_close_range, 3 as libc::c_uint, libc::c_uint::MAX, 0 as libc::c_uint) };
}

/// The detached part's word to the starter; from here on, it has no terminal.
///
/// # Errors
///
/// Returns what the pipe or `/dev/null` returned.
pub fn say_ready() -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    // A starter that has given up does not matter any more.
    let _ = stdout.write_all(READY).and_then(|()| stdout.flush());
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(script: &str, ready: bool, status: i32) {
        let mut child = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        assert_eq!(is_ready(&mut child).unwrap(), ready, "{script}");
        assert_eq!(exit_status(child.wait().unwrap()), status, "{script}");
    }

    #[test]
    fn the_starter_knows_how_the_start_went() {
        check("printf 'rea'; printf 'dy\\n'; exit 7", true, 7);
        check("exit 102", false, 102);
        check("exit 0", false, exit::FAILED);
        check("kill -9 $$", false, 137);
    }
}
