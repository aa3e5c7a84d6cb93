//! What the shim makes of the broker's answers.

use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;

use distcc::common::action::Ended;
use distcc::common::bytes::Bytes;
use distcc::common::protocol::local::{Attempted, Done, Kind, Run, VERSION};

use super::fake::{
    PATIENCE, World, assert_closes, done, finish, locally, run, send, shown, success, without_pids,
};

#[test]
fn output_of_any_bytes_and_length_comes_through_as_it_is() {
    let world = World::new("echo must not run; exit 9");
    let stdout: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let stderr = [&b"\xff\x1b[01ma.c:1:1: "[..], &[b'^'; 100_000]].concat();
    let answer = Done { stdout: Bytes(stdout.clone()), stderr: Bytes(stderr.clone()), ..success() };
    let _told = world.broker(move |stream, _| done(stream, &answer));
    let output = finish(world.shim("gcc -c a.c"));
    assert_eq!((output.stdout == stdout, output.stderr == stderr), (true, true));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn every_status_is_the_compilers() {
    let world = World::new("exit 9");
    let (tell, ask) = std::sync::mpsc::channel();
    let _told = world.broker(move |stream, _| {
        let status = ask.recv().expect("a status");
        done(stream, &Done { ended: Ended::Exited(status), ..success() });
    });
    for status in [0, 1, 4, 127, 255] {
        tell.send(status).expect("a broker");
        assert_eq!(finish(world.shim("gcc -c a.c")).status.code(), Some(status));
    }
}

#[test]
fn a_compiler_killed_by_a_signal_kills_the_shim_by_the_same() {
    let world = World::new("exit 9");
    let (tell, ask) = std::sync::mpsc::channel();
    let _told = world.broker(move |stream, _| {
        let ended = Ended::Killed(ask.recv().expect("a signal"));
        done(stream, &Done { ended, stderr: Bytes::from("words\n"), ..success() });
    });
    for signal in [libc::SIGSEGV, libc::SIGABRT, libc::SIGKILL, libc::SIGPIPE] {
        tell.send(signal).expect("a broker");
        let output = finish(world.shim("gcc -c a.c"));
        assert_eq!((output.status.signal(), output.status.core_dumped()), (Some(signal), false));
        assert_eq!(output.stderr, b"words\n");
    }
    // Ignored by whoever started the shim, it kills all the same.
    tell.send(libc::SIGTERM).expect("a broker");
    let mut command = world.command("/bin/sh");
    command.args(["-c", "trap '' TERM; exec \"$0\" gcc -c a.c"]).arg(world.path("bin/distcc"));
    assert_eq!(finish(command).status.signal(), Some(libc::SIGTERM));
}

#[test]
fn the_lease_is_open_while_the_compiler_runs_and_closed_when_it_ends() {
    let world = World::new("echo up; cat >/dev/null; exit 3");
    let told = world.broker(|stream, _| run(stream, &locally()));
    let mut command = world.shim("gcc -c a.c");
    let mut shim = command.stdin(Stdio::piped()).spawn().expect("a shim");
    let mut line = String::new();
    BufReader::new(shim.stdout.as_mut().expect("a pipe")).read_line(&mut line).expect("a line");
    assert_eq!(line, "up\n");
    let mut lease = told.recv_timeout(PATIENCE).expect("a request").stream;
    lease.set_nonblocking(true).expect("a mode");
    let open = lease.read(&mut [0]).expect_err("nothing to read, and no end");
    assert_eq!(open.kind(), ErrorKind::WouldBlock);
    lease.set_nonblocking(false).expect("a mode");
    drop(shim.stdin.take());
    assert_closes(&mut lease);
    assert_eq!(shim.wait().expect("a status").code(), Some(3));
}

#[test]
fn the_brokers_warning_comes_first_and_its_reason_only_when_asked_for() {
    let world = World::new("echo compiled");
    let answer = Run { warning: Bytes::from("Warning: h is down\nhint: start it\n"), ..locally() };
    let _told = world.broker(move |stream, _| run(stream, &answer));
    let output = finish(world.shim("gcc -c a.c"));
    assert_eq!(shown(&output), "compiled\n|distcc[PID] Warning: h is down\nhint: start it\n|0");
    let mut command = world.shim("gcc -c a.c");
    command.env("DISTCC_VERBOSE", "1");
    assert!(shown(&finish(command)).contains("distcc[PID] compiling here: because\n"));
}

#[test]
fn what_is_forbidden_does_not_run() {
    let world = World::new("echo must not run");
    let answer = Run { forbidden: Some(116), ..locally() };
    let _told = world.broker(move |stream, _| run(stream, &answer));
    let output = finish(world.shim("gcc -c a.c"));
    assert_eq!(
        shown(&output),
        "|distcc[PID] ERROR: a.c: failed to distribute and fallbacks are disabled (DISTCC_FALLBACK=0): because\n|116"
    );
}

/// What a log file is told of a compile that ended with `answer`; stderr is told nothing.
fn logged(world: &World) -> String {
    let mut command = world.shim("gcc -c a.c");
    command.env("DISTCC_LOG", world.path("log"));
    let shown = shown(&finish(command));
    assert!(shown.contains("||"), "{shown}");
    without_pids(&std::fs::read_to_string(world.path("log")).expect("a log"))
}

#[test]
fn a_log_is_told_in_words_that_scripts_know_what_became_of_each_compile() {
    let world = World::new("exit 0");
    let (tell, ask) = std::sync::mpsc::channel::<Ended>();
    let _told = world.broker(move |stream, _| {
        let ended = ask.recv().expect("an end");
        done(stream, &Done { ended, host: "h:1".to_owned(), ..success() });
    });
    tell.send(Ended::Exited(0)).expect("a broker");
    let text = logged(&world);
    assert_eq!(text, "distcc[PID] exec on h:1: gcc -c a.c\ndistcc[PID] compile a.c on h:1 completed ok\n");
    tell.send(Ended::Exited(1)).expect("a broker");
    let text = logged(&world);
    assert!(text.ends_with("distcc[PID] ERROR: compile a.c on h:1 failed\n"), "{text}");
}

#[test]
fn a_log_is_told_of_each_compile_that_could_not_be_distributed_and_stderr_of_the_first() {
    let world = World::new("exit 0");
    let mut first = true;
    let _told = world.broker(move |stream, _| {
        let attempted = Attempted::Undistributed { first: std::mem::take(&mut first) };
        run(stream, &Run { attempted, ..locally() });
    });
    let said = "distcc[PID] Warning: failed to distribute a.c, running locally instead\n";
    assert_eq!(shown(&finish(world.shim("gcc -c a.c"))), format!("|{said}|0"));
    assert_eq!(shown(&finish(world.shim("gcc -c a.c"))), "||0");
    assert_eq!(logged(&world), format!("{said}distcc[PID] exec on localhost: gcc -c a.c\n"));
}

#[test]
fn a_compiler_that_is_missing_is_told_on_stderr_too() {
    let world = World::new("exit 0");
    let mut command = world.shim("no-such-cc -c a.c");
    command.env("DISTCC_LOG", world.path("log"));
    let text = shown(&finish(command));
    assert!(text.starts_with("|distcc[PID] ERROR: failed to exec no-such-cc: "), "{text}");
    assert!(text.ends_with("|110"), "{text}");
    assert!(std::fs::read_to_string(world.path("log")).expect("a log").contains("failed to exec"));
}

#[test]
fn a_busy_broker_is_asked_again() {
    let world = World::new("exit 9");
    let mut left = 3;
    let _told = world.broker(move |stream, _| {
        left -= 1;
        if left > 0 {
            send(stream, Kind::Busy, &[]);
            stream.shutdown(std::net::Shutdown::Both).expect("a close");
        } else {
            done(stream, &success());
        }
    });
    assert_eq!(shown(&finish(world.shim("gcc -c a.c"))), "||0");
}

#[test]
fn a_connection_lost_before_it_was_taken_up_is_tried_again() {
    let world = World::new("exit 9");
    let mut first = true;
    let _told = world.broker(move |stream, _| {
        if std::mem::take(&mut first) {
            stream.shutdown(std::net::Shutdown::Both).expect("a close");
        } else {
            done(stream, &success());
        }
    });
    assert_eq!(shown(&finish(world.shim("gcc -c a.c"))), "||0");
}

#[test]
fn a_newer_broker_of_another_build_is_asked_as_any_build_may_be() {
    let world = World::new("exit 9");
    let told = world.broker(move |stream, request| match request.header.build {
        0 => done(stream, &success()),
        _ => send(stream, Kind::OtherBuild, &u64::MAX.to_le_bytes()),
    });
    assert_eq!(shown(&finish(world.shim("gcc -c a.c"))), "||0");
    let builds: Vec<u64> = (0..2).map(|_| told.recv().expect("a request").header.build).collect();
    assert_eq!((builds[0] == 0, builds[1]), (false, 0));
}

#[test]
fn a_broker_of_another_protocol_is_let_be() {
    use std::io::Write;
    let world = World::new("echo compiled");
    let _told = world.broker(move |stream, _| {
        let mut frame = distcc::common::protocol::io::local_frame(Kind::OtherBuild, &[0xff; 8]);
        frame[4..6].copy_from_slice(&(VERSION + 1).to_le_bytes());
        stream.write_all(&frame).expect("a shim");
    });
    let text = shown(&finish(world.shim("gcc -c a.c")));
    assert!(
        text.starts_with("compiled\n|distcc[PID] Warning: a.c: the broker is of another build"),
        "{text}"
    );
}

#[test]
fn a_broker_that_runs_late_is_waited_for() {
    let world = World::new("exit 9");
    let _told = world.broker(move |stream, _| {
        // Longer than the time in which a broker that is well says something.
        std::thread::park_timeout(Duration::from_millis(400));
        done(stream, &success());
    });
    assert_eq!(shown(&finish(world.shim("gcc -c a.c"))), "||0");
}
