//! A terminal of the test's own: a pseudo terminal whose other side the test holds.
//!
//! What the program writes is kept as it came, and drawn as a terminal would.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::farm::{COMMAND_MAX, wait_until};

/// The size of a terminal that nobody made larger.
const COLUMNS: NonZero<u16> = NonZero::new(80).expect("more than none");
const ROWS: NonZero<u16> = NonZero::new(24).expect("more than none");

/// A program in a terminal.
pub struct InTerminal {
    child: Child,
    /// The side of whoever looks at the terminal.
    ours: Option<File>,
    /// The program's side.
    theirs: OwnedFd,
    /// All that it wrote.
    pub text: Vec<u8>,
    screen: vt100::Parser,
    before: Termios,
}

impl InTerminal {
    /// Starts a program as the leader of a session whose terminal this is.
    pub fn start(mut command: Command) -> InTerminal {
        let ours =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&ours).expect("a terminal");
        unlockpt(&ours).expect("a terminal");
        let name = ptsname(&ours, Vec::new()).expect("its name").into_string().expect("its name");
        let theirs =
            OwnedFd::from(File::options().read(true).write(true).open(&name).expect("its other side"));
        tcsetwinsize(&theirs, size(COLUMNS, ROWS)).expect("a size");
        let before = tcgetattr(&theirs).expect("its settings");
        let side = || theirs.try_clone().expect("a descriptor");
        command.env("TERM", "xterm-256color").stdin(side()).stdout(side()).stderr(side());
        #[allow(unsafe_code, reason = "setsid and the controlling terminal are the child's own affair")]
        // SAFETY: between fork and exec only two system calls are made.
        unsafe {
            command.pre_exec(|| {
                rustix::process::setsid()?;
                rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
                Ok(())
            });
        }
        let child = command.spawn().expect("the program starts");
        let ours = File::from(ours);
        rustix::io::ioctl_fionbio(&ours, true).expect("a terminal");
        InTerminal {
            child,
            ours: Some(ours),
            theirs,
            text: Vec::new(),
            screen: vt100::Parser::new(ROWS, COLUMNS, 0),
            before,
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) {
        self.ours.as_mut().expect("the terminal is there").write_all(keys.as_bytes()).expect("keys");
    }

    /// Makes the terminal another size.
    pub fn resize(&mut self, columns: NonZero<u16>, rows: NonZero<u16>) {
        self.screen.screen_mut().set_size(rows, columns);
        tcsetwinsize(&self.theirs, size(columns, rows)).expect("a size");
    }

    /// Takes what was written meanwhile. Nobody else does: a program waits when much is left.
    fn read(&mut self) {
        let mut buffer = [0; 4096];
        while let Some(Ok(count @ 1..)) = self.ours.as_mut().map(|ours| ours.read(&mut buffer)) {
            self.screen.process(&buffer[..count]);
            self.text.extend(&buffer[..count]);
        }
    }

    /// Waits until the screen shows these words.
    pub fn wait_for(&mut self, words: &str) {
        self.wait_until(&format!("{words:?} is shown"), |screen| screen.contains(words));
    }

    /// Waits until the screen is as it is to be.
    pub fn wait_until(&mut self, what: &str, is_so: impl Fn(&str) -> bool) {
        let start = Instant::now();
        loop {
            self.read();
            let shown = self.screen.screen().contents();
            if is_so(&shown) {
                return;
            }
            assert!(start.elapsed() < COMMAND_MAX, "not within {COMMAND_MAX:?}: {what}\n{shown}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until the program has given the screen back, for the time being or for good.
    pub fn wait_for_the_other_screen(&mut self) {
        wait_until("the screen is given back", COMMAND_MAX, || {
            self.read();
            !self.screen.screen().alternate_screen()
        });
    }

    /// Closes the side of whoever looks, as a window that is closed does.
    pub fn hang_up(&mut self) {
        self.ours = None;
    }

    /// Whether the terminal's settings are as they were.
    pub fn is_as_before(&self) -> bool {
        let (now, before) = (tcgetattr(self.theirs.as_fd()).expect("its settings"), &self.before);
        (now.local_modes, now.input_modes, now.output_modes, now.control_modes)
            == (before.local_modes, before.input_modes, before.output_modes, before.control_modes)
    }

    /// Waits for the program's end.
    pub fn end(&mut self) -> ExitStatus {
        let mut ended = None;
        wait_until("the program ends", COMMAND_MAX, || {
            self.read();
            ended = self.child.try_wait().expect("a child can be waited for");
            ended.is_some()
        });
        self.read();
        ended.expect("it has ended")
    }

    /// Checks that the terminal was taken over and given back: settings, screen, cursor.
    pub fn check_given_back(&mut self) {
        self.wait_for_the_other_screen();
        assert!(self.text.windows(8).any(|part| part == b"\x1b[?1049h"), "the screen was never taken");
        assert!(!self.screen.screen().hide_cursor(), "the cursor is hidden");
        assert!(self.is_as_before(), "the settings are not as they were");
    }
}

impl Drop for InTerminal {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

fn size(columns: NonZero<u16>, rows: NonZero<u16>) -> Winsize {
    Winsize { ws_col: columns.get(), ws_row: rows.get(), ws_xpixel: 0, ws_ypixel: 0 }
}
