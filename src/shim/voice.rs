//! Our own messages, and where they go: `DISTCC_LOG`, else `UNCACHED_ERR_FD`, else stderr.
//!
//! Scripts know these messages by how they begin and by some of their words, which are those of
//! distcc 3.4: `distcc[PID] `, then `Warning: ` or `ERROR: ` where it is one. A log file is told
//! what became of each compile; stderr only what somebody should look at.
//!
//! Each message is one write, so that those of several shims do not mix.

use std::cell::OnceCell;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{FromRawFd, RawFd};

use super::relay::write_whole;
use super::settings::Settings;

/// What begins a line that belongs to the message before it.
const HINT: &str = "hint: ";

/// Says things.
pub struct Voice<'a> {
    settings: &'a Settings,
    /// Where to, once something was said; `None` for stderr.
    elsewhere: OnceCell<Option<File>>,
}

impl<'a> Voice<'a> {
    /// A voice that speaks where `settings` say.
    pub fn new(settings: &'a Settings) -> Self {
        let elsewhere = OnceCell::new();
        if let (None, Some(number)) = (&settings.log, settings.message_descriptor) {
            // At once: later the number might be of a descriptor of our own.
            let _ = elsewhere.set(inherited(number).ok());
        }
        Voice { settings, elsewhere }
    }

    /// Whether `note` says anything; for messages that cost something to make.
    pub fn has_log(&self) -> bool {
        self.settings.verbose || self.settings.log.is_some()
    }

    /// Says `text`, with our name before it.
    pub fn say(&self, text: &str) {
        self.write(named(text).as_bytes());
    }

    /// Says what became of a compile: to a log file, or when `DISTCC_VERBOSE=1`.
    pub fn note(&self, text: &str) {
        let is_heard = self.settings.verbose || (self.settings.log.is_some() && self.elsewhere().is_some());
        if is_heard {
            self.say(text);
        }
    }

    /// Says `text` when `DISTCC_VERBOSE=1`.
    pub fn debug(&self, text: &str) {
        if self.settings.verbose {
            self.say(text);
        }
    }

    /// Says what belongs to the compile's own output, too: on stderr, wherever else messages go.
    pub fn say_aloud(&self, text: &str) {
        self.say(text);
        if self.elsewhere().is_some() {
            write_to_stderr(named(text).as_bytes());
        }
    }

    /// Says each line of `text`, which the broker made; hints stay with what they are for.
    pub fn say_lines(&self, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        let named: String = text.lines().map(named).collect();
        if !named.is_empty() {
            self.write(named.as_bytes());
        }
    }

    fn write(&self, lines: &[u8]) {
        let written = self.elsewhere().map(|mut file| file.write_all(lines));
        if !matches!(written, Some(Ok(()))) {
            write_to_stderr(lines);
        }
    }

    fn elsewhere(&self) -> Option<&File> {
        self.elsewhere.get_or_init(|| self.open()).as_ref()
    }

    /// Opens the log file; says so when that cannot be done.
    fn open(&self) -> Option<File> {
        let path = self.settings.log.as_ref()?.as_path();
        let opened = OpenOptions::new().append(true).create(true).open(path);
        opened
            .inspect_err(|error| {
                let text = format!("ERROR: failed to open logfile {}: {error}", path.display());
                write_to_stderr(named(&text).as_bytes());
            })
            .ok()
    }
}

/// A copy of a descriptor that we were given. Opening it anew by its name in /proc would ask for a
/// right that its giver may have had, and we have not.
#[allow(unsafe_code, reason = "a number in a variable has no safe type")]
fn inherited(number: u32) -> io::Result<File> {
    let number = RawFd::try_from(number).map_err(io::Error::other)?;
    // SAFETY: the call touches no memory, and fails for a number that is no descriptor; what it
    // returns is new, and belongs to nobody else.
    unsafe {
        match libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) {
            -1 => Err(io::Error::last_os_error()),
            copy => Ok(File::from_raw_fd(copy)),
        }
    }
}

fn named(text: &str) -> String {
    match text.starts_with(HINT) {
        true => format!("{text}\n"),
        false => format!("distcc[{}] {text}\n", std::process::id()),
    }
}

fn write_to_stderr(bytes: &[u8]) {
    // Nowhere is left to tell of an error.
    let _ = write_whole(rustix::stdio::stderr(), bytes);
}
