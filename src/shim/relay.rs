//! Ends as the remote compile ended: its output, then its status or its signal.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::common::action::Ended;
use crate::common::exit;
use crate::common::protocol::local::Done;

use super::voice::Voice;

/// Writes what the compile printed, and returns the status to exit with; does not return when a
/// signal ended the compile.
pub fn deliver(done: &Done, voice: &Voice<'_>) -> i32 {
    let stdout = write_whole(rustix::stdio::stdout(), &done.stdout);
    // As with a compiler: nobody is left to hear of it.
    let _ = write_whole(rustix::stdio::stderr(), &done.stderr);
    match (done.ended, stdout) {
        (Ended::Exited(0), Err(error)) => {
            voice.say(&format!("ERROR: cannot write the compiler's standard output: {error}"));
            exit::IO_FAILED
        }
        (Ended::Exited(status), _) => status,
        (Ended::Killed(signal), _) => die_of(signal),
    }
}

/// Writes all of `bytes`, waiting where the descriptor is non-blocking and full.
///
/// The wait has no bound, as the compiler's own write would have none: whoever reads the other
/// end of the pipe decides, and ^C ends it.
///
/// # Errors
///
/// Returns what the descriptor returns, for instance that it is closed.
pub fn write_whole(descriptor: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(descriptor, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                poll(&mut [PollFd::new(&descriptor, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Dies of `signal`; where that does not kill, returns the status that a shell shows for it.
fn die_of(signal: i32) -> i32 {
    // The core would be the shim's, not the compiler's.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    raise(signal);
    exit::of_signal(signal)
}

#[allow(unsafe_code, reason = "there is no safe wrapper for signal dispositions and masks")]
fn raise(signal: i32) {
    // SAFETY: the set is initialised by sigemptyset before it is used; this process has one
    // thread and no signal handlers; an invalid number makes each call fail and do nothing.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::signal(signal, libc::SIG_DFL);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
        libc::raise(signal);
    }
}
