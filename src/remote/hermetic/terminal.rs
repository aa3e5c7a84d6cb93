//! The terminal that a compiler believes its stderr to be.
//!
//! It changes no byte: what comes out is what was written. Somebody must read while the compiler runs,
//! or it would stop when the terminal is full.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize};

use crate::common::invocation::Terminal;
use crate::common::limits::MESSAGES_MAX_BYTES;
use crate::remote::process::Talker;

/// How much is read at once.
const STEP_BYTES: usize = 16 << 10;

/// Our end of it, and what came out so far.
#[derive(Debug)]
pub struct Screen {
    master: File,
    text: Vec<u8>,
    over: bool,
}

impl Screen {
    /// A terminal of that size: our end, and the compiler's.
    ///
    /// # Errors
    ///
    /// Returns what the system returns.
    pub fn open(terminal: Terminal) -> io::Result<(Self, OwnedFd)> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let slave = ioctl_tiocgptpeer(&master, flags)?;
        let mut mode = tcgetattr(&slave)?;
        mode.make_raw();
        tcsetattr(&slave, OptionalActions::Now, &mode)?;
        let Terminal { columns, rows } = terminal;
        tcsetwinsize(&slave, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?;
        rustix::fs::fcntl_setfl(&master, OFlags::NONBLOCK)?;
        Ok((Screen { master: File::from(master), text: Vec::new(), over: false }, slave))
    }

    /// All that came out; nobody must have the other end any more.
    ///
    /// # Errors
    ///
    /// Returns `FileTooLarge` when it was more than a compiler may print.
    pub fn finish(mut self) -> io::Result<Vec<u8>> {
        self.listen();
        match self.text.len() as u64 > MESSAGES_MAX_BYTES {
            true => Err(io::ErrorKind::FileTooLarge.into()),
            false => Ok(self.text),
        }
    }
}

impl Talker for Screen {
    fn ear(&self) -> Option<BorrowedFd<'_>> {
        (!self.over).then(|| self.master.as_fd())
    }

    fn listen(&mut self) {
        let mut buffer = [0; STEP_BYTES];
        while !self.over {
            match self.master.read(&mut buffer) {
                Ok(0) => self.over = true,
                // What is too much is taken all the same, so that the compiler can end; one byte of it
                // tells.
                Ok(read) if self.text.len() as u64 <= MESSAGES_MAX_BYTES => {
                    self.text.extend_from_slice(&buffer[..read]);
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Nobody has the other end.
                Err(_) => self.over = true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn bytes_come_out_of_a_terminal_as_they_went_in() {
        let (screen, slave) = Screen::open(Terminal { columns: 77, rows: 5 }).unwrap();
        assert!(rustix::termios::isatty(&slave));
        assert_eq!(rustix::termios::tcgetwinsize(&slave).unwrap().ws_col, 77);
        let mut slave = File::from(slave);
        let text = b"\x1b[01;31merror\x1b[m\tx\r\n\nend\x04\x03";
        slave.write_all(text).unwrap();
        drop(slave);
        assert_eq!(screen.finish().unwrap(), text);
    }

    #[test]
    fn more_than_a_compiler_may_print_is_taken_and_refused() {
        let (mut screen, slave) = Screen::open(Terminal { columns: 80, rows: 25 }).unwrap();
        let writer = std::thread::spawn(move || {
            File::from(slave).write_all(&vec![b'x'; MESSAGES_MAX_BYTES as usize + 70_000]).unwrap();
        });
        while !screen.over {
            screen.listen();
            std::thread::yield_now();
        }
        writer.join().unwrap();
        assert_eq!(screen.finish().unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
