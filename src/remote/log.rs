//! The daemon's log: to a file, to stderr, or to the system's log, in lines that begin as those
//! of distccd 3.4 do: `distccd[PID] (…) LEVEL: `. Where stock names a function there is the time,
//! but in the lines that scripts read.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::sync::Mutex;

use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

/// The target of lines that say how a job ended. Scripts know them by the name of the function that
/// writes them in distccd 3.4.
pub const JOB_SUMMARY: &str = "dcc_job_summary";

/// Where the system's log listens (syslog(3)).
const SYSTEM_LOG: &str = "/dev/log";

/// The facility `daemon` of RFC 5424, shifted to its place in a priority.
const DAEMON: u8 = 3 << 3;

/// Where lines go.
#[derive(Debug)]
pub enum Destination {
    /// To this file.
    File(File),
    /// To stderr.
    Stderr,
    /// To the system's log; nowhere when there is none.
    System,
}

/// Sends what the daemon says to `destination` from now on, up to `level`; as JSON documents if `json`.
pub fn start(destination: Destination, level: tracing::level_filters::LevelFilter, json: bool) {
    let log = tracing_subscriber::fmt().with_max_level(level).with_ansi(false);
    if json {
        let log = log.json();
        return match destination {
            Destination::Stderr => log.with_writer(io::stderr).init(),
            Destination::File(file) => log.with_writer(Mutex::new(file)).init(),
            Destination::System => log.with_writer(SystemLog::new()).init(),
        };
    }
    match destination {
        Destination::Stderr => log.event_format(Line { with_time: true }).with_writer(io::stderr).init(),
        Destination::File(file) => {
            log.event_format(Line { with_time: true }).with_writer(Mutex::new(file)).init();
        }
        Destination::System => {
            log.event_format(Line { with_time: false }).with_writer(SystemLog::new()).init();
        }
    }
}

struct Line {
    with_time: bool,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write!(writer, "distccd[{}] ", std::process::id())?;
        let target = event.metadata().target();
        if target == JOB_SUMMARY {
            write!(writer, "({target}) ")?;
        } else if self.with_time {
            write!(writer, "(")?;
            SystemTime.format_time(&mut writer)?;
            write!(writer, ") ")?;
        }
        match *event.metadata().level() {
            Level::ERROR => write!(writer, "ERROR: ")?,
            Level::WARN => write!(writer, "Warning: ")?,
            _ => {}
        }
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// The system's log.
struct SystemLog {
    /// `None` where it could not be opened; then nobody wants to know.
    socket: Option<UnixDatagram>,
}

impl SystemLog {
    fn new() -> Self {
        let socket = UnixDatagram::unbound().and_then(|socket| {
            socket.connect(SYSTEM_LOG)?;
            // A log that takes nothing must not stop the daemon.
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        SystemLog { socket: socket.ok() }
    }
}

impl<'a> MakeWriter<'a> for SystemLog {
    type Writer = Message<'a>;

    fn make_writer(&'a self) -> Message<'a> {
        Message { log: self, severity: 6, text: Vec::new() }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Message<'a> {
        let severity = match *meta.level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        Message { log: self, severity, text: Vec::new() }
    }
}

/// One line on its way; it is sent when this goes.
struct Message<'a> {
    log: &'a SystemLog,
    severity: u8,
    text: Vec<u8>,
}

impl Write for Message<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Message<'_> {
    fn drop(&mut self) {
        let Some(socket) = &self.log.socket else { return };
        let priority = format!("<{}>", DAEMON | self.severity).into_bytes();
        // Nothing can be done about a log that is full.
        let _ = socket.send(&[&priority, self.text.trim_ascii_end()].concat());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_log_gets_whole_lines_with_their_priority() {
        let (ours, theirs) = UnixDatagram::pair().expect("sockets");
        let log = SystemLog { socket: Some(ours) };
        let mut message = Message { log: &log, severity: 4, text: Vec::new() };
        message.write_all(b"distccd[1] Warning: refused\n").expect("memory");
        drop(message);
        let mut heard = [0; 100];
        let length = theirs.recv(&mut heard).expect("a message");
        assert_eq!(&heard[..length], b"<28>distccd[1] Warning: refused");
    }
}
