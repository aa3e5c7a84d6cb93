//! A directory with a shim, fake compilers, and a broker that a thread plays.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use distcc::common::action::Ended;
use distcc::common::bytes::Bytes;
use distcc::common::invocation::Invocation;
use distcc::common::protocol::io::{local_frame, read_local};
use distcc::common::protocol::local::{Attempted, Done, Header, Kind, Run};
use distcc::common::protocol::wire::{decode, encode};

/// Nothing that a test waits for takes longer, on the slowest machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One test's own directory:
/// `bin/distcc`, `m/gcc` (a masquerade link), `c/gcc` (a fake compiler), `d` (`DISTCC_DIR`), `w`.
pub struct World {
    directory: tempfile::TempDir,
}

impl World {
    /// A world whose compiler is the shell script `compiler`.
    pub fn new(compiler: &str) -> Self {
        let world = World { directory: tempfile::tempdir().expect("a directory") };
        for name in ["bin", "m", "c", "d", "w"] {
            std::fs::create_dir(world.path(name)).expect("a directory");
        }
        std::fs::set_permissions(world.path("d"), PermissionsExt::from_mode(0o700)).expect("a mode");
        // The shim looks for the broker's program beside itself: not in the build's directory.
        let shim = env!("CARGO_BIN_EXE_distcc");
        let copied = Command::new("cp").arg(shim).arg(world.path("bin/distcc")).status();
        assert!(copied.expect("cp").success());
        std::os::unix::fs::symlink("../bin/distcc", world.path("m/gcc")).expect("a link");
        world.script("c/gcc", compiler);
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("a path of ASCII").to_owned()
    }

    /// Writes a shell script. Another process writes it: a descriptor of ours could be inherited
    /// by a program that another test starts just then, and the script be "busy".
    pub fn script(&self, name: &str, text: &str) {
        let mut writer = Command::new("sh")
            .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
            .arg(self.path(name))
            .stdin(Stdio::piped())
            .spawn()
            .expect("sh");
        let script = format!("#!/bin/sh\n{text}\n");
        writer.stdin.take().expect("a pipe").write_all(script.as_bytes()).expect("a script");
        assert!(writer.wait().expect("sh").success());
    }

    /// A command in this world's environment, which is nearly empty.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.env_clear().env("PATH", format!("{}:/usr/bin:/bin", self.text("c")));
        command.env("DISTCC_DIR", self.path("d")).current_dir(self.path("w"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// `distcc WORDS`.
    pub fn shim(&self, words: &str) -> Command {
        let mut command = self.command(self.path("bin/distcc"));
        command.args(words.split_whitespace());
        command
    }

    /// A socket on which a broker may listen.
    pub fn listener(&self, name: &str) -> UnixListener {
        UnixListener::bind(self.path(name)).expect("a socket")
    }

    /// Plays a broker: each connection's request is passed to `answer`, and then told to the test.
    pub fn broker(
        &self,
        answer: impl FnMut(&mut UnixStream, &Request) + Send + 'static,
    ) -> Receiver<Request> {
        play(self.listener("d/broker.sock"), answer)
    }
}

/// The requests that a played broker got: it tells of each after it has answered, so they may be a
/// moment late.
pub fn received(told: &Receiver<Request>, count: usize) -> Vec<Request> {
    let in_time = (0..count).map_while(|_| told.recv_timeout(PATIENCE).ok()).collect::<Vec<_>>();
    in_time.into_iter().chain(told.try_iter()).collect()
}

/// What a shim sent.
pub struct Request {
    pub header: Header,
    pub body: Vec<u8>,
    /// The connection, still open on this side.
    pub stream: UnixStream,
}

impl Request {
    pub fn invocation(&self) -> Invocation {
        decode(&self.body).expect("an invocation")
    }
}

/// Plays a broker on `listener`.
pub fn play(
    listener: UnixListener,
    mut answer: impl FnMut(&mut UnixStream, &Request) + Send + 'static,
) -> Receiver<Request> {
    let (tell, told) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            // A shim that only looks whether somebody listens sends nothing.
            let Ok((header, body)) = read_local(&mut stream) else { continue };
            let copy = stream.try_clone().expect("a copy");
            let request = Request { header, body, stream: copy };
            answer(&mut stream, &request);
            if tell.send(request).is_err() {
                return;
            }
        }
    });
    told
}

/// Sends a frame; the shim may be gone.
pub fn send(stream: &mut UnixStream, kind: Kind, body: &[u8]) {
    let _ = stream.write_all(&local_frame(kind, body));
}

/// Answers `Ack` and `Done`.
pub fn done(stream: &mut UnixStream, done: &Done) {
    send(stream, Kind::Ack, &[]);
    send(stream, Kind::Done, &encode(done));
}

/// Answers `Ack` and `Run`.
pub fn run(stream: &mut UnixStream, run: &Run) {
    send(stream, Kind::Ack, &[]);
    send(stream, Kind::Run, &encode(run));
}

/// A compile that went well on host `h`.
pub fn success() -> Done {
    let (stdout, stderr, warning) = Default::default();
    Done { ended: Ended::Exited(0), stdout, stderr, warning, host: "h".into() }
}

/// "Run it yourself".
pub fn locally() -> Run {
    Run { reason: "because".into(), attempted: Attempted::No, warning: Bytes::default(), forbidden: None }
}

/// Runs the command to its end, which must come.
pub fn finish(mut command: Command) -> Output {
    let (tell, told) = channel();
    let child = command.spawn().expect("a process");
    thread::spawn(move || tell.send(child.wait_with_output()));
    told.recv_timeout(PATIENCE).expect("the shim ends").expect("its output")
}

/// What was printed, and the status, as one text.
pub fn shown(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let status = output.status.code().map_or_else(|| output.status.to_string(), |code| code.to_string());
    format!("{}|{}|{status}", text(&output.stdout), without_pids(&text(&output.stderr)))
}

/// Messages with a word in place of each process's number.
pub fn without_pids(text: &str) -> String {
    let mut parts = text.split("distcc[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |shown, part| {
        let rest = part.trim_start_matches(|letter: char| letter.is_ascii_digit());
        format!("{shown}distcc[PID{rest}")
    })
}

/// Checks that the other side of `stream` closes it, whether or not it has read everything.
pub fn assert_closes(stream: &mut UnixStream) {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    match stream.read(&mut [0]) {
        Ok(read) => assert_eq!(read, 0),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
}
