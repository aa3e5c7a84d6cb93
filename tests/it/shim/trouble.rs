//! Whatever is wrong with the broker, the compile happens, here.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use distcc::common::protocol::local::Kind;

use distcc::common::place::{Surroundings, candidates};

use super::fake::{PATIENCE, World, assert_closes, done, finish, play, send, shown, success};

/// Compiles in `world`, and expects it to happen here, with a warning that holds `why`.
fn check_local(world: &World, why: &str) {
    check_local_with(world.shim("gcc -c a.c"), why);
}

fn check_local_with(command: Command, why: &str) {
    let text = shown(&finish(command));
    assert!(text.starts_with("compiled\n|distcc[PID] Warning: a.c: "), "{text}");
    assert!(text.contains(why) && text.ends_with("; compiling here\n|0"), "{text}");
}

/// Asks a copy of this test program to be a broker that never answers.
const LISTEN_AT: &str = "DISTCC_TEST_LISTEN_AT";

#[test]
fn a_stopped_broker_is_given_up_in_a_moment() {
    if let Some(path) = std::env::var_os(LISTEN_AT) {
        let _listener = UnixListener::bind(path).expect("a socket");
        std::thread::park_timeout(PATIENCE);
        return;
    }
    let world = World::new("echo compiled");
    let socket = world.path("d/broker.sock");
    let mut broker = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "shim::trouble::a_stopped_broker_is_given_up_in_a_moment"])
        .env(LISTEN_AT, &socket)
        .stdout(Stdio::null())
        .spawn()
        .expect("a broker");
    let end = Instant::now() + PATIENCE;
    while std::os::unix::net::UnixStream::connect(&socket).is_err() {
        assert!(Instant::now() < end, "the broker listens");
        std::thread::yield_now();
    }
    let pid = rustix::process::Pid::from_child(&broker);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("a signal");
    let before = Instant::now();
    check_local(&world, "the broker does not answer");
    // A broker that only ran late would have been given 5 s.
    assert!(before.elapsed() < Duration::from_secs(3), "{:?}", before.elapsed());
    broker.kill().expect("a signal");
    broker.wait().expect("its end");
}

#[test]
fn a_shim_that_is_interrupted_says_so_to_the_broker_by_closing() {
    use std::os::unix::process::ExitStatusExt;
    let world = World::new("echo compiled");
    let told = world.broker(|stream, _| send(stream, Kind::Ack, &[]));
    let mut shim = world.shim("gcc -c a.c").spawn().expect("a shim");
    let mut stream = told.recv_timeout(PATIENCE).expect("a request").stream;
    let pid = rustix::process::Pid::from_child(&shim);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a signal");
    assert_closes(&mut stream);
    assert_eq!(shim.wait().expect("a status").signal(), Some(libc::SIGINT));
}

#[test]
fn a_broker_that_dies_with_the_job_leaves_it_to_us() {
    let world = World::new("echo compiled");
    let _told = world.broker(|stream, _| {
        send(stream, Kind::Ack, &[]);
        stream.shutdown(std::net::Shutdown::Both).expect("a close");
    });
    check_local(&world, "the broker has gone away");
}

#[test]
fn a_broker_that_speaks_nonsense_is_not_believed() {
    let frames: [&[u8]; 3] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"DCCb\x03\x00\x12\x00\x01\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff",
        b"DCCb\x03\x00\x12\x00\x01\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\xff\xff\xff",
    ];
    for frame in frames {
        let world = World::new("echo compiled");
        let _told = world.broker(move |stream, _| stream.write_all(frame).expect("a shim"));
        check_local(&world, "makes no sense");
    }
}

#[test]
fn a_dead_socket_without_a_program_to_listen_is_no_obstacle() {
    let world = World::new("echo compiled");
    drop(world.listener("d/broker.sock"));
    check_local(&world, "distcc-broker is neither beside distcc nor in PATH");
}

#[test]
fn a_plain_file_in_the_sockets_place_is_no_obstacle() {
    let world = World::new("echo compiled");
    std::fs::write(world.path("d/broker.sock"), "text").expect("a file");
    check_local(&world, "no broker: ");
}

#[test]
fn a_directory_that_others_may_write_to_is_not_used() {
    let world = World::new("echo compiled");
    world.script("bin/distcc-broker", "echo started > started");
    // Nor is there a place that could stand in for it.
    let check = || {
        let mut command = world.shim("gcc -c a.c");
        command.env("TMPDIR", "/proc/nowhere");
        check_local_with(command, "belongs to this user alone");
    };
    std::fs::set_permissions(world.path("d"), PermissionsExt::from_mode(0o777)).expect("a mode");
    check();
    std::fs::remove_dir(world.path("d")).expect("a directory");
    std::os::unix::fs::symlink(world.path("w"), world.path("d")).expect("a link");
    check();
    assert!(!world.path("w/started").exists());
}

#[test]
fn a_private_place_stands_in_for_a_directory_that_others_may_write_to() {
    let world = World::new("exit 9");
    std::fs::set_permissions(world.path("d"), PermissionsExt::from_mode(0o777)).expect("a mode");
    let around = Surroundings {
        distcc_dir: Some(&world.text("d").into_bytes()),
        temporary_dir: Some(&world.text("w").into_bytes()),
        uid: rustix::process::geteuid().as_raw(),
        ..Surroundings::default()
    };
    let place = candidates(&around).pop().expect("a place");
    std::fs::create_dir(place.directory.as_path()).expect("a directory");
    let listener = UnixListener::bind(place.socket().as_path()).expect("a socket");
    let _told = play(listener, |stream, _| done(stream, &success()));
    let mut command = world.shim("gcc -c a.c");
    command.env("TMPDIR", world.path("w"));
    assert_eq!(shown(&finish(command)), "||0");
}

#[test]
fn a_directory_that_cannot_be_made_is_no_obstacle() {
    let world = World::new("echo compiled");
    let mut command = world.shim("gcc -c a.c");
    command.env("DISTCC_DIR", "/proc/nowhere").env("TMPDIR", "/proc/nowhere");
    let text = shown(&finish(command));
    let said = "compiled\n|distcc[PID] Warning: a.c: no broker: /proc/nowhere: ";
    assert!(text.starts_with(said), "{text}");
}

#[test]
fn a_directory_that_was_removed_is_no_obstacle() {
    let world = World::new("echo compiled");
    let mut command = world.command("/bin/sh");
    command.args(["-c", "mkdir gone && cd gone && rmdir ../gone && exec \"$0\" gcc -c a.c"]);
    command.arg(world.path("bin/distcc"));
    let text = shown(&finish(command));
    assert!(text.starts_with("compiled\n|") && text.contains("working directory is gone"), "{text}");
}

#[test]
fn without_fallback_a_compile_fails_and_a_link_does_not() {
    let world = World::new("echo compiled");
    for (words, status) in [("gcc -c a.c", 116), ("gcc a.o -o a", 0), ("gcc --version", 0)] {
        let mut command = world.shim(words);
        command.env("DISTCC_FALLBACK", "0");
        assert_eq!(finish(command).status.code(), Some(status), "{words}");
    }
}

#[test]
fn our_words_go_to_the_log_and_the_compilers_to_stderr() {
    let world = World::new("echo compiled >&2");
    let log = world.path("log");
    let mut command = world.shim("gcc -c a.c");
    command.env("DISTCC_LOG", &log);
    assert_eq!(shown(&finish(command)), "|compiled\n|0");
    let text = std::fs::read_to_string(&log).expect("a log");
    assert!(text.starts_with("distcc[") && text.contains("; compiling here\ndistcc["), "{text}");
    // ccache keeps what is on stderr, and names the descriptor that is not kept.
    let mut command = world.command("/bin/sh");
    command.args(["-c", "UNCACHED_ERR_FD=7 exec \"$0\" gcc -c a.c 7>>\"$1\""]);
    command.arg(world.path("bin/distcc")).arg(&log);
    assert_eq!(shown(&finish(command)), "|compiled\n|0");
    assert_eq!(std::fs::read_to_string(&log).expect("a log").matches("compiling here").count(), 2);
}

#[test]
fn a_descriptor_for_messages_need_not_be_one_that_could_be_opened_again() {
    use std::io::Read;
    let world = World::new("echo compiled >&2");
    // A socket: its name in /proc opens nothing.
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().expect("sockets");
    let mut command = world.shim("gcc -c a.c");
    command.env("UNCACHED_ERR_FD", "0").stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)));
    assert_eq!(shown(&finish(command)), "|compiled\n|0");
    let mut said = String::new();
    ours.read_to_string(&mut said).expect("text");
    assert!(said.contains("Warning: a.c: ") && said.contains("; compiling here\n"), "{said}");
    // Where there is no such descriptor, messages are on stderr.
    let mut command = world.shim("gcc -c a.c");
    command.env("UNCACHED_ERR_FD", "77");
    assert!(shown(&finish(command)).contains("Warning: a.c: "));
}

#[test]
fn a_log_that_cannot_be_opened_is_said_and_the_words_go_to_stderr() {
    let world = World::new("echo compiled");
    let mut command = world.shim("gcc -c a.c");
    command.env("DISTCC_LOG", "/nowhere/log");
    let text = shown(&finish(command));
    assert!(
        text.contains("failed to open logfile /nowhere/log") && text.contains("compiling here"),
        "{text}"
    );
}
