//! The ways in: explicit, implicit, masquerade, control words, and distcc within distcc.

use distcc::common::bytes::Bytes;

use super::fake::{World, done, finish, shown, success};

/// A compiler that says who it is and what it was given.
const TELLS: &str = "echo \"$(basename \"$0\") $*; PATH=$PATH; level $_DISTCC_SAFEGUARD\"";

#[test]
fn implicit_use_means_cc() {
    let world = World::new("exit 9");
    world.script("c/cc", "exit 9");
    let told = world.broker(|stream, _| done(stream, &success()));
    for words in ["-c a.c", "a.c -c", "--bogus"] {
        assert_eq!(shown(&finish(world.shim(words))), "||0");
        assert_eq!(told.recv().expect("a request").invocation().argv[0], *"cc");
    }
}

#[test]
fn no_words_give_a_hint_and_101() {
    let world = World::new("exit 9");
    let output = finish(world.shim(""));
    assert_eq!(output.status.code(), Some(101));
    assert!(output.stderr.starts_with(b"distcc["));
}

#[test]
fn control_words_go_to_the_brokers_program_under_our_name() {
    let world = World::new("exit 9");
    let told = "tr '\\0' ' ' < /proc/$$/cmdline";
    world.script("bin/distcc-broker", told);
    let text = shown(&finish(world.shim("--status=json --watch")));
    assert!(text.contains("distcc-broker --status=json --watch"), "{text}");
    std::fs::remove_file(world.path("bin/distcc-broker")).expect("a file");
    assert_eq!(finish(world.shim("--status")).status.code(), Some(100));
}

#[test]
fn a_masquerade_link_means_the_next_compiler_in_path() {
    let world = World::new("exit 9");
    let told = world.broker(|stream, _| done(stream, &success()));
    let rest = format!("{}:/usr/bin:/bin", world.text("c"));
    let path = format!("{}:/nowhere:{rest}", world.text("m"));
    let cut = format!("/nowhere:{rest}");
    // Called by its path, named in full to distcc itself, and by a name that the broker looks up.
    let (link, distcc) = (world.path("m/gcc"), world.path("bin/distcc"));
    let in_full = format!("{} -c a.c", world.text("m/gcc"));
    for (program, words, path_told) in
        [(&link, "-c a.c", &cut), (&distcc, &in_full[..], &cut), (&distcc, "gcc -c a.c", &path)]
    {
        let mut command = world.command(program);
        command.args(words.split(' ')).env("PATH", &path);
        assert_eq!(shown(&finish(command)), "||0");
        let invocation = told.recv().expect("a request").invocation();
        assert_eq!(invocation.argv, ["gcc", "-c", "a.c"].map(Bytes::from));
        assert_eq!(invocation.variable("PATH"), Some(path_told.as_bytes()));
    }
    let mut command = world.command("/bin/sh");
    command.args(["-c", "gcc -c a.c"]).env("PATH", &path);
    assert_eq!(shown(&finish(command)), "||0");
    let invocation = told.recv().expect("a request").invocation();
    assert_eq!(invocation.argv[0], *"gcc");
    assert_eq!(invocation.variable("PATH"), Some(cut.as_bytes()));
}

#[test]
fn a_compiler_that_runs_here_finds_no_masquerade_link_in_path() {
    let world = World::new(TELLS);
    let path = format!("{}:{}:/bin", world.text("m"), world.text("c"));
    let expected = format!("gcc -c a.c; PATH={}:/bin; level 1\n||0", world.text("c"));
    for script in ["distcc gcc -c a.c", "gcc -c a.c"] {
        let mut command = world.command("/bin/sh");
        command.args(["-c", script]).env("DISTCC_BROKER", "off");
        command.env("PATH", format!("{}:{path}", world.text("bin")));
        let told = finish(command);
        assert_eq!(shown(&told), expected, "{script}");
    }
}

#[test]
fn called_from_within_another_distcc_it_compiles_without_the_broker() {
    let world = World::new(TELLS);
    let told = world.broker(|stream, _| done(stream, &success()));
    let path = format!("{}:{}:/bin", world.text("m"), world.text("c"));
    let mut command = world.command(world.path("m/gcc"));
    command.args(["-c", "a.c"]).env("PATH", path).env("_DISTCC_SAFEGUARD", "1");
    let expected = format!("gcc -c a.c; PATH={}:/bin; level 2\n||0", world.text("c"));
    assert_eq!(shown(&finish(command)), expected);
    assert!(told.try_recv().is_err());
}

#[test]
fn a_wrapper_before_us_in_path_that_calls_us_does_not_loop() {
    // As ccache's directory of links does: it runs the next gcc behind itself.
    let world = World::new(TELLS);
    std::fs::create_dir(world.path("cache")).expect("a directory");
    let (cache, ours, real) = (world.text("cache"), world.text("m"), world.text("c"));
    let next = "IFS=:; for d in $PATH; do [ $d = CACHE ] || [ ! -x $d/gcc ] || exec $d/gcc \"$@\"; done";
    world.script("cache/gcc", &next.replace("CACHE", &cache));
    for path in [format!("{cache}:{ours}:{real}:/bin"), format!("{ours}:{cache}:{real}:/bin")] {
        let mut command = world.shim("gcc -c a.c");
        command.env("PATH", path).env("DISTCC_BROKER", "off");
        let output = finish(command);
        assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
        assert!(output.stdout.starts_with(b"gcc -c a.c; "), "{}", shown(&output));
    }
}

#[test]
fn a_loop_ends_with_111_and_says_so() {
    let world = World::new("exit 9");
    world.script("c/gcc", &format!("exec {} gcc \"$@\"", world.text("bin/distcc")));
    let mut command = world.shim("gcc -c a.c");
    command.env("DISTCC_BROKER", "off");
    let output = finish(command);
    assert_eq!(output.status.code(), Some(111));
    assert!(String::from_utf8_lossy(&output.stderr).contains("distcc calls itself"));
}

#[test]
fn distcc_is_not_its_own_compiler() {
    let world = World::new("exit 9");
    let mut command = world.shim("distcc gcc -c a.c");
    command.env("PATH", world.path("bin"));
    assert_eq!(finish(command).status.code(), Some(111));
}

#[test]
fn a_compiler_that_is_not_there_is_110() {
    let world = World::new("exit 9");
    for words in ["nocc -c a.c", "/nowhere/gcc -c a.c", "./w -c a.c"] {
        let output = finish(world.shim(words));
        assert_eq!(output.status.code(), Some(110), "{words}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(": command not found"));
    }
}
