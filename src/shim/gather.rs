//! Gathers what the broker must know about this run, in few system calls.

use rustix::fs::{AtFlags, CWD, Mode, StatxFlags, makedev, stat, statx};
use rustix::io::Errno;
use rustix::process::{Resource, getcwd, getpid, getrlimit, umask};
use rustix::termios::{isatty, tcgetwinsize};

use crate::common::bytes::Bytes;
use crate::common::invocation::{Invocation, Origin, Terminal};
use crate::common::limits::FILE_SIZE_FREE_BYTES;

/// The working directory; `None` when it has been removed or lies outside of our root.
pub fn cwd() -> Option<Bytes> {
    let path = getcwd(Vec::new()).ok()?.into_bytes();
    path.starts_with(b"/").then_some(Bytes(path))
}

/// stderr is closed: what a compiler does then is its own affair (gcc fails when it would warn).
pub struct Closed;

/// The invocation of `argv` here and now, with what stderr is. Without a working directory its `cwd` is empty.
pub fn invocation(
    argv: Vec<Bytes>,
    cwd: Option<Bytes>,
    env: Vec<Bytes>,
    terminal: Option<Terminal>,
) -> Invocation {
    Invocation {
        argv,
        cwd: cwd.unwrap_or_default(),
        env,
        umask: current_umask(),
        terminal,
        limited: getrlimit(Resource::Fsize).current.is_some_and(|most| most < FILE_SIZE_FREE_BYTES),
        origin: origin(),
    }
}

/// What a compiler would find out about stderr. One call tells what it is, and that it is.
///
/// # Errors
///
/// Returns that it is closed.
pub fn terminal() -> Result<Option<Terminal>, Closed> {
    let stderr = rustix::stdio::stderr();
    let found = match tcgetwinsize(stderr) {
        Ok(size) => Some(Terminal { columns: size.ws_col, rows: size.ws_row }),
        Err(Errno::NOTTY) => None,
        Err(Errno::BADF) => return Err(Closed),
        Err(_) => isatty(stderr).then(Terminal::default),
    };
    Ok(found)
}

/// The mask can only be read by setting it; nothing else runs in this process meanwhile.
fn current_umask() -> u32 {
    let mask = umask(Mode::empty());
    umask(mask);
    mask.bits()
}

fn origin() -> Origin {
    let (mounts, root) = view();
    Origin { mounts, root, build: process_group(), pid: getpid().as_raw_nonzero().get().unsigned_abs() }
}

/// What tells mounts apart, and the device and inode of `/`. The mount that `/` is on has a number that no other
/// has (Linux 5.8); a name below `/proc` costs an inode for each process that asks.
fn view() -> (u64, (u64, u64)) {
    match statx(CWD, "/", AtFlags::empty(), StatxFlags::INO | StatxFlags::MNT_ID) {
        Ok(root) if root.stx_mask & StatxFlags::MNT_ID.bits() != 0 => {
            (root.stx_mnt_id, (makedev(root.stx_dev_major, root.stx_dev_minor), root.stx_ino))
        }
        _ => (
            stat("/proc/self/ns/mnt").map_or(0, |namespace| namespace.st_ino),
            stat("/").map_or((0, 0), |root| (root.st_dev, root.st_ino)),
        ),
    }
}

/// The process group, which all shims of one `make` share; 0 where it began outside of this
/// container's process namespace, a value that rustix takes for impossible.
#[allow(unsafe_code, reason = "the safe wrapper asserts that it is not 0")]
fn process_group() -> u32 {
    // SAFETY: takes nothing, touches no memory and cannot fail (getpgrp(2)).
    unsafe { libc::getpgrp() }.unsigned_abs()
}
