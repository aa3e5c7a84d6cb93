//! Running a command to its end, with a bound.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Waits until `condition` holds, and fails the test when it does not within `bound`.
pub fn wait_until(what: &str, bound: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < bound, "not within {bound:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a command left: how it ended and what it printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Exit status or signal.
    pub status: ExitStatus,
    /// Its stdout.
    pub stdout: Vec<u8>,
    /// Its stderr.
    pub stderr: Vec<u8>,
}

impl Outcome {
    /// Fails the test unless the command exited with status 0.
    pub fn expect_success(self, what: &str) -> Outcome {
        let (stdout, stderr) = (String::from_utf8_lossy(&self.stdout), String::from_utf8_lossy(&self.stderr));
        assert!(self.status.success(), "{what}: {}\nstdout: {stdout}\nstderr: {stderr}", self.status);
        self
    }
}

/// Runs a command to its end, stdin empty, and fails the test when that takes longer than `bound`.
pub fn run(command: Command, bound: Duration) -> Outcome {
    Running::start(command).finish(bound)
}

/// A command under way.
pub struct Running {
    what: String,
    child: Child,
    stdout: mpsc::Receiver<Vec<u8>>,
    stderr: mpsc::Receiver<Vec<u8>>,
}

impl Running {
    /// Starts it, stdin empty.
    pub fn start(command: Command) -> Running {
        Running::with_input(command, Stdio::null())
    }

    /// Starts it with this as stdin.
    pub fn with_input(mut command: Command, stdin: Stdio) -> Running {
        let what = format!("{command:?}");
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{what}: {error}"));
        let stdout = drain(child.stdout.take().expect("stdout is piped"));
        let stderr = drain(child.stderr.take().expect("stderr is piped"));
        Running { what, child, stdout, stderr }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end, which is the end of its output too: a daemon that kept a descriptor of
    /// the build open would hang every build system, and so fails the test here.
    pub fn finish(mut self, bound: Duration) -> Outcome {
        let deadline = Instant::now() + bound;
        let left = || deadline.saturating_duration_since(Instant::now());
        match (self.stdout.recv_timeout(left()), self.stderr.recv_timeout(left())) {
            (Ok(stdout), Ok(stderr)) => {
                let status = self.child.wait().expect("a child can be waited for");
                Outcome { status, stdout, stderr }
            }
            _ => {
                let ended = self.child.try_wait();
                self.child.kill().ok();
                self.child.wait().ok();
                panic!("output still open after {bound:?} ({ended:?}): {}", self.what);
            }
        }
    }
}

/// Reads a stream to its end on a thread of its own.
fn drain(mut stream: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).ok();
        sender.send(bytes).ok();
    });
    receiver
}
