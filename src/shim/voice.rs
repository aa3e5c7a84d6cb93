//! Our own messages, and where they go: `DISTCC_LOG`, else `UNCACHED_ERR_FD`, else stderr.
//!
//! Each message is one write, so that those of several shims do not mix. The file is opened for
//! each message: most shims never say anything.

use std::fs::OpenOptions;
use std::io::Write;

use super::relay::write_whole;
use super::settings::Settings;

/// Says things.
pub struct Voice<'a> {
    settings: &'a Settings,
}

impl<'a> Voice<'a> {
    /// A voice that speaks where `settings` say.
    pub fn new(settings: &'a Settings) -> Self {
        Voice { settings }
    }

    /// Whether `debug` says anything; for messages that cost something to make.
    pub fn is_verbose(&self) -> bool {
        self.settings.verbose
    }

    /// Says `text`, with our name before it.
    pub fn say(&self, text: &str) {
        let name = match self.settings.log {
            Some(_) => format!("distcc[{}]", std::process::id()),
            None => "distcc".to_owned(),
        };
        self.say_bytes(format!("{name}: {text}").as_bytes());
    }

    /// Says `text` when `DISTCC_VERBOSE=1`.
    pub fn debug(&self, text: &str) {
        if self.is_verbose() {
            self.say(text);
        }
    }

    /// Says `text` as it stands, which names its speaker itself; nothing when it is empty.
    pub fn say_bytes(&self, text: &[u8]) {
        if text.is_empty() {
            return;
        }
        let mut line = text.to_vec();
        if !line.ends_with(b"\n") {
            line.push(b'\n');
        }
        if !self.write_elsewhere(&line) {
            // Nowhere is left to tell of an error.
            let _ = write_whole(rustix::stdio::stderr(), &line);
        }
    }

    /// Whether the line went where the settings say, rather than having to go to stderr.
    fn write_elsewhere(&self, line: &[u8]) -> bool {
        let (path, create) = match (&self.settings.log, self.settings.message_descriptor) {
            (Some(log), _) => (log.as_path().to_owned(), true),
            (None, Some(number)) => (format!("/proc/self/fd/{number}").into(), false),
            (None, None) => return false,
        };
        let written = OpenOptions::new()
            .append(true)
            .create(create)
            .open(&path)
            .and_then(|mut file| file.write_all(line));
        if let Err(error) = &written {
            let complaint = format!("distcc: failed to open logfile {}: {error}\n", path.display());
            let _ = write_whole(rustix::stdio::stderr(), complaint.as_bytes());
        }
        written.is_ok()
    }
}
