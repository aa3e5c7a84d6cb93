//! Starting a broker, and replacing one.

use std::os::unix::net::UnixListener;
use std::time::{Duration, SystemTime};

use distcc::common::protocol::local::Kind;

use super::fake::{World, done, finish, play, received, send, shown, success};

/// Stands in for the broker's program: notes each start, and puts the socket on which the test
/// listens already into place.
fn starter(world: &World) -> String {
    let (starts, next, socket) = (world.text("starts"), world.text("next"), world.text("d/broker.sock"));
    format!("echo \"$*\" >> {starts}; mv {next} {socket}")
}

fn starts(world: &World) -> Vec<String> {
    let text = std::fs::read_to_string(world.path("starts")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn two_hundred_shims_at_once_start_one_broker() {
    let world = World::new("exit 9");
    let told = play(world.listener("next"), |stream, _| done(stream, &success()));
    world.script("bin/distcc-broker", &starter(&world));
    std::fs::remove_dir(world.path("d")).expect("a directory");
    let shims: Vec<_> = (0..200).map(|_| world.shim("gcc -c a.c").spawn().expect("a shim")).collect();
    for shim in shims {
        assert_eq!(shown(&shim.wait_with_output().expect("its output")), "||0");
    }
    assert_eq!(starts(&world), ["--detach"]);
    assert_eq!(received(&told, 200).len(), 200);
}

#[test]
fn the_broker_gets_none_of_the_builds_environment_or_directory() {
    let world = World::new("echo compiled");
    world.script("bin/distcc-broker", "env > \"$DISTCC_DIR/env\"; pwd >> \"$DISTCC_DIR/env\"; exit 1");
    let mut command = world.shim("gcc -c a.c");
    command.env("MAKEFLAGS", "-j --jobserver-fds=3,4").env("_DISTCC_SAFEGUARD", "");
    finish(command);
    let text = std::fs::read_to_string(world.path("d/env")).expect("an environment");
    let mut lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("OLDPWD=")).collect();
    lines.sort_unstable();
    let names: Vec<&str> = lines.iter().filter_map(|line| line.split('=').next()).collect();
    assert_eq!(names, ["/", "DISTCC_DIR", "PATH", "PWD", "_DISTCC_BROKER_DIR"]);
}

#[test]
fn a_start_that_failed_is_told_and_not_tried_again_at_once() {
    let world = World::new("echo compiled");
    let starts_file = world.text("starts");
    world.script("bin/distcc-broker", &format!("echo x >> {starts_file}; echo no room here >&2; exit 1"));
    for _ in 0..3 {
        let text = shown(&finish(world.shim("gcc -c a.c")));
        assert!(text.contains("the broker did not start: no room here; compiling here"), "{text}");
    }
    assert_eq!(starts(&world), ["x"]);
}

#[test]
fn a_start_succeeds_where_the_end_of_children_is_not_told() {
    let world = World::new("exit 9");
    let told = play(world.listener("next"), |stream, _| done(stream, &success()));
    world.script("bin/distcc-broker", &starter(&world));
    let mut command = world.command("/bin/bash");
    command.args(["-c", "trap '' CHLD; exec \"$0\" gcc -c a.c"]).arg(world.path("bin/distcc"));
    assert_eq!(shown(&finish(command)), "||0");
    assert_eq!(received(&told, 1).len(), 1);
}

#[test]
fn an_unusable_runtime_directory_and_a_long_path_have_stand_ins() {
    let world = World::new("exit 9");
    let note = format!("echo \"$_DISTCC_BROKER_DIR\" >> {}; exit 1", world.text("starts"));
    world.script("bin/distcc-broker", &note);
    let temporary = world.text("w");
    let mut command = world.shim("gcc -c a.c");
    command.env_remove("DISTCC_DIR").env("XDG_RUNTIME_DIR", "/proc/nowhere").env("TMPDIR", &temporary);
    finish(command);
    let long = format!("{}/{}", world.text("w"), "x".repeat(120));
    let mut command = world.shim("gcc -c a.c");
    command.env("DISTCC_DIR", &long).env("TMPDIR", &temporary);
    finish(command);
    let own = format!("{temporary}/distcc-{}", rustix::process::geteuid().as_raw());
    assert_eq!(starts(&world), [own.clone(), long]);
    let sockets = std::fs::read_dir(own).expect("a directory").count();
    // A lock and a log for each of the two.
    assert_eq!(sockets, 4);
}

#[test]
fn an_older_broker_is_drained_and_replaced() {
    let world = World::new("exit 9");
    let told = play(world.listener("next"), |stream, _| done(stream, &success()));
    world.script("bin/distcc-broker", &starter(&world));
    let socket = world.path("d/broker.sock");
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
    let modified = long_ago.duration_since(SystemTime::UNIX_EPOCH).expect("a time").as_nanos() as u64;
    let old = world.broker({
        let socket = socket.clone();
        move |stream, request| match request.header.kind {
            Kind::Drain => std::fs::remove_file(&socket).expect("a socket"),
            _ => send(stream, Kind::OtherBuild, &modified.to_le_bytes()),
        }
    });
    assert_eq!(shown(&finish(world.shim("gcc -c a.c"))), "||0");
    let kinds: Vec<Kind> = received(&old, 2).iter().map(|request| request.header.kind).collect();
    assert_eq!(kinds, [Kind::Compile, Kind::Drain]);
    assert_eq!(starts(&world), ["--detach"]);
    assert_eq!(received(&told, 1).len(), 1);
}

#[test]
fn a_broker_that_listens_is_found_without_its_program() {
    let world = World::new("exit 9");
    let listener: UnixListener = world.listener("d/broker.sock");
    let told = play(listener, |stream, _| done(stream, &success()));
    assert_eq!(shown(&finish(world.shim("gcc -c a.c"))), "||0");
    assert_eq!(received(&told, 1).len(), 1);
}
