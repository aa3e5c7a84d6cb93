//! Opening what a user's command names, which may be anything: nothing but a plain file is opened.
//!
//! To open a pipe waits for whoever writes to it, which may be for ever, and takes from that one what was meant for
//! the compiler; so it is looked at first, and not waited for where it became one in between.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A plain file to be read, and what it is.
///
/// # Errors
///
/// Returns what the file system returned, or that it is another kind of file.
pub fn open(path: &Path) -> io::Result<(File, Metadata)> {
    check(&fs::metadata(path)?)?;
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let found = file.metadata()?;
    check(&found)?;
    Ok((file, found))
}

/// All that is in a plain file.
///
/// # Errors
///
/// As [`open`].
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let (mut file, found) = open(path)?;
    let mut bytes = Vec::with_capacity(usize::try_from(found.len()).unwrap_or(0).saturating_add(1));
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn check(found: &Metadata) -> io::Result<()> {
    match found.is_file() {
        true => Ok(()),
        false => Err(io::Error::other("not a plain file")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_for_a_pipe_and_who_writes_to_it_is_left_waiting() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .expect("a pipe");
        let writer = {
            let pipe = pipe.clone();
            std::thread::spawn(move || fs::write(pipe, "for the compiler"))
        };
        assert_eq!(open(&pipe).expect_err("it is a pipe").to_string(), "not a plain file");
        assert!(read(&pipe).is_err() && open(folder.path()).is_err());
        assert_eq!(fs::read(&pipe).expect("what was written"), b"for the compiler");
        writer.join().expect("no panic").expect("written");
        fs::write(folder.path().join("file"), "text").expect("written");
        assert_eq!(read(&folder.path().join("file")).expect("a file"), b"text");
    }
}
