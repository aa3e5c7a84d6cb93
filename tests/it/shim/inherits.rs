//! What the broker is told, and what a compiler that runs here inherits.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use distcc::common::bytes::Bytes;

use super::fake::{World, done, finish, locally, run, shown, success};

#[test]
fn arguments_environment_directory_and_mask_arrive_as_they_are() {
    let world = World::new("exit 9");
    let told = world.broker(|stream, _| done(stream, &success()));
    let odd = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let directory = world.path("w").join(odd(b"d\xff r\n"));
    std::fs::create_dir(&directory).expect("a directory");
    let mut command = world.command("/bin/sh");
    command.args(["-c", "umask 027; exec \"$0\" \"$@\""]).arg(world.path("bin/distcc"));
    command.args([odd(b"gcc"), odd(b"-DX=\xfe\n '\""), odd(b""), odd(b"-c"), odd(b"\xc3.c")]);
    command.env("ODD", odd(b"\x80=\n")).env("PWD", &directory).current_dir(&directory);
    assert_eq!(shown(&finish(command)), "||0");
    let invocation = told.recv().expect("a request").invocation();
    let expected: [&[u8]; 5] = [b"gcc", b"-DX=\xfe\n '\"", b"", b"-c", b"\xc3.c"];
    assert_eq!(invocation.argv, expected.map(Bytes::from));
    assert_eq!(invocation.cwd, Bytes::from(&*directory));
    assert_eq!(invocation.umask, 0o027);
    assert_eq!(invocation.terminal, None);
    assert_eq!(invocation.variable("ODD"), Some(&b"\x80=\n"[..]));
    let path = format!("{}:/usr/bin:/bin", world.text("c"));
    assert_eq!(invocation.variable("PATH"), Some(path.as_bytes()));
    assert_eq!(invocation.variable("DISTCC_DIR"), Some(world.text("d").as_bytes()));
    assert_eq!(invocation.variable("_DISTCC_SAFEGUARD"), None);
    assert_ne!((invocation.origin.mounts, invocation.origin.root.1), (0, 0));
}

/// A compile that gcc fails for want of stderr succeeded.
#[test]
fn with_stderr_closed_the_compiler_runs_here_and_nobody_is_asked() {
    for (closed, expected) in [("2>&-", "here\n||9"), ("<&- >&- 2>&-", "||9")] {
        let world = World::new("echo here 2>/dev/null; exit 9");
        let told = world.broker(|stream, _| done(stream, &success()));
        let mut command = world.command("/bin/sh");
        command.args(["-c", &format!("exec \"$0\" gcc -c a.c {closed}")]).arg(world.path("bin/distcc"));
        assert_eq!(shown(&finish(command)), expected, "{closed}");
        assert!(told.try_recv().is_err(), "{closed}");
        assert_eq!(shown(&finish(world.shim("gcc -c a.c"))), "||0", "the broker would have answered");
        told.recv().expect("a request");
    }
}

#[test]
fn two_megabytes_of_arguments_and_environment_arrive() {
    let world = World::new("exit 9");
    let told = world.broker(|stream, _| done(stream, &success()));
    let mut command = world.shim("gcc -c a.c");
    let define = "x".repeat(1000);
    command.args((0..1000).map(|number| format!("-D{define}{number}")));
    for number in 0..10 {
        command.env(format!("LONG{number}"), "y".repeat(100_000));
    }
    assert_eq!(shown(&finish(command)), "||0");
    let invocation = told.recv().expect("a request").invocation();
    assert_eq!(invocation.argv.len(), 1003);
    assert_eq!(invocation.argv[1002], Bytes::from(&*format!("-D{define}999")));
    assert_eq!(invocation.variable("LONG9").map(<[u8]>::len), Some(100_000));
}

#[test]
fn a_compiler_here_inherits_one_descriptor_of_ours_and_the_guard() {
    let world = World::new("echo \"$0 $* $_DISTCC_SAFEGUARD\"; ls -l /proc/self/fd | grep -c socket:");
    let _told = world.broker(|stream, _| run(stream, &locally()));
    let expected = format!("{} -c a.c 1\n1\n||0", world.text("c/gcc"));
    assert_eq!(shown(&finish(world.shim("gcc -c a.c"))), expected);
}

#[test]
fn closed_descriptors_stay_closed_and_are_not_taken_for_the_lease() {
    let world =
        World::new("for n in 0 1; do if [ -e /proc/$$/fd/$n ]; then echo $n is open >&2; fi; done; exit 5");
    let _told = world.broker(|stream, _| run(stream, &locally()));
    let mut command = world.command("/bin/sh");
    command.args(["-c", "exec \"$0\" gcc -c a.c <&- >&-"]).arg(world.path("bin/distcc"));
    assert_eq!(shown(&finish(command)), "||5");
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let world = World::new("exit 9");
    let answer = distcc::common::protocol::local::Done { stdout: Bytes::from("a.o: a.c\n"), ..success() };
    let _told = world.broker(move |stream, _| done(stream, &answer));
    let mut command = world.command("/bin/sh");
    command.args(["-c", "exec \"$0\" gcc -c a.c >&-"]).arg(world.path("bin/distcc"));
    let output = finish(command);
    assert_eq!(output.status.code(), Some(107));
    assert!(String::from_utf8_lossy(&output.stderr).contains("standard output"));
}

#[test]
fn the_compiler_sees_sigpipe_as_the_build_left_it() {
    let world = World::new("kill -PIPE $$; echo survived");
    let _told = world.broker(|stream, _| run(stream, &locally()));
    let text = shown(&finish(world.shim("gcc -c a.c")));
    assert!(text.starts_with("||signal: 13"), "{text}");
    let mut command = world.command("/bin/sh");
    command.args(["-c", "trap '' PIPE; exec \"$0\" gcc -c a.c"]).arg(world.path("bin/distcc"));
    assert_eq!(shown(&finish(command)), "survived\n||0");
}

#[test]
fn a_compiler_without_an_interpreter_line_is_run_by_the_shell() {
    let world = World::new("exit 9");
    let _told = world.broker(|stream, _| run(stream, &locally()));
    let make = "printf 'echo by the shell: \"$1\"\\n' > \"$0\"; chmod 755 \"$0\"";
    let mut writer = world.command("/bin/sh");
    writer.args(["-c", make]).arg(world.path("c/plain"));
    assert_eq!(shown(&finish(writer)), "||0");
    assert_eq!(shown(&finish(world.shim("plain a.c"))), "by the shell: a.c\n||0");
}
