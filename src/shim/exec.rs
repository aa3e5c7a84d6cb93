//! Becomes another program.
//!
//! Not by `std::process::Command`, whose `exec` empties the signal mask and resets SIGPIPE: the
//! compiler must inherit both as the build set them.

use std::ffi::{CString, c_char};
use std::io;
use std::ptr;

use rustix::io::{FdFlags, fcntl_setfd};

use crate::common::bytes::Bytes;

use super::connection::Connection;

/// Becomes the program `file`, with the lease's descriptor left open in it; nothing else of ours
/// is. Returns only when that fails.
///
/// A file that the kernel does not know as a program is run by the shell, as `execvp` does.
pub fn become_program(
    file: &Bytes,
    argv: &[Bytes],
    environment: &[Bytes],
    lease: Option<Connection>,
) -> io::Error {
    if let Some(lease) = lease {
        // A failure would end the lease early; the compile would be as right as ever.
        let _ = fcntl_setfd(lease.descriptor(), FdFlags::empty());
        // Open until the compiler exits: dropping it would close it.
        std::mem::forget(lease);
    }
    let error = match prepared(file, argv, environment) {
        Ok((file, argv, environment)) => execve(&file, &argv, &environment),
        Err(error) => return error,
    };
    if error.raw_os_error() != Some(libc::ENOEXEC) {
        return error;
    }
    let shell = Bytes::from("/bin/sh");
    let words: Vec<Bytes> = [&shell, file].into_iter().chain(argv.iter().skip(1)).cloned().collect();
    match prepared(&shell, &words, environment) {
        Ok((file, argv, environment)) => execve(&file, &argv, &environment),
        Err(error) => error,
    }
}

type Prepared = (CString, Vec<CString>, Vec<CString>);

fn prepared(file: &Bytes, argv: &[Bytes], environment: &[Bytes]) -> io::Result<Prepared> {
    let all = |strings: &[Bytes]| strings.iter().map(terminated).collect::<io::Result<Vec<_>>>();
    Ok((terminated(file)?, all(argv)?, all(environment)?))
}

fn terminated(string: &Bytes) -> io::Result<CString> {
    CString::new(&string[..]).map_err(io::Error::from)
}

#[allow(unsafe_code, reason = "no safe wrapper leaves the signal mask and SIGPIPE alone")]
fn execve(file: &CString, argv: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
    };
    let (argv, environment) = (pointers(argv), pointers(environment));
    // SAFETY: `file` and all that the arrays point to are C strings that live until the call
    // returns, and each array ends with a null pointer.
    unsafe { libc::execve(file.as_ptr(), argv.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}
