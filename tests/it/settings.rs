//! Settings files, and what services do: the socket that was there before the broker.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::farm::{COMMAND_MAX, Farm, Running, SHIM, run, signal_pid, wait_until};

const BROKER: &str = env!("CARGO_BIN_EXE_distcc-broker");

/// A command of a client whose hosts are in its settings file.
fn client(farm: &Farm, words: &[&str]) -> Command {
    let mut command = farm.command(SHIM);
    command.env_remove("DISTCC_HOSTS").env("DISTCC_CONFIG", farm.work().join("distcc.toml")).args(words);
    command
}

fn write(farm: &Farm, text: &str) {
    fs::write(farm.work().join("distcc.toml"), text).expect("written");
}

fn hosts(farm: &Farm) -> String {
    format!("hosts = [\"{}\"]\n", farm.hosts().replace(' ', "\", \""))
}

#[test]
fn a_settings_file_says_what_the_environment_does_not_and_is_read_again_on_sighup() {
    let farm = Farm::new(1);
    fs::write(farm.work().join("a.c"), "int f(void) { return 1; }\n").expect("written");
    write(&farm, &format!("{}cache = \"off\"\n", hosts(&farm)));
    let compile = || run(client(&farm, &["gcc", "-c", "a.c"]), COMMAND_MAX).expect_success("gcc -c a.c");
    compile();
    assert_eq!(farm.total("remote"), 1);
    let shown = run(client(&farm, &["--print-config"]), COMMAND_MAX).expect_success("--print-config");
    let shown = String::from_utf8(shown.stdout).expect("text");
    assert!(shown.contains("cache = \"off\"") && shown.contains("distcc.toml\n"), "{shown}");
    assert!(shown.contains("idle-timeout = 60") && shown.contains("# $DISTCC_IDLE_TIMEOUT\n"), "{shown}");

    // What is wrong with a file leaves everything as it is.
    let [broker] = farm.brokers()[..] else { panic!("one broker") };
    let log = || fs::read_to_string(farm.home().join("broker.log")).unwrap_or_default();
    let reread = |words: &str| {
        signal_pid(broker, Signal::HUP);
        wait_until(words, Duration::from_secs(10), || log().contains(words));
    };
    write(&farm, "host = \"a\"\n");
    reread("did you mean `hosts`?");
    compile();
    assert_eq!(farm.total("remote"), 2);
    write(&farm, "hosts = []\n");
    reread("read the settings file again");
    compile();
    assert_eq!((farm.total("remote"), farm.local_reason("no-hosts")), (2, 1));
    farm.finish();
}

#[test]
fn a_settings_file_that_is_wrong_is_told_and_the_compile_is_done_here() {
    let farm = Farm::new(0);
    fs::write(farm.work().join("a.c"), "int f(void) { return 1; }\n").expect("written");
    write(&farm, "hots = \"a\"\n");
    let outcome = run(client(&farm, &["gcc", "-c", "a.c"]), COMMAND_MAX).expect_success("gcc -c a.c");
    let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
    assert!(said.contains("there is no setting `hots`; did you mean `hosts`?"), "{said}");
    assert!(farm.work().join("a.o").exists());
    let outcome = run(client(&farm, &["--print-config"]), COMMAND_MAX);
    assert!(!outcome.status.success() && String::from_utf8_lossy(&outcome.stderr).contains("hots"));
    farm.finish();
}

#[test]
fn a_volunteer_reads_its_settings_again_on_sighup_and_names_what_must_wait() {
    let farm = Farm::new(0);
    let path = |name: &str| farm.work().join(name);
    let write = |text: &str| fs::write(path("distccd.toml"), text).expect("written");
    write("jobs = 1\nport = 0\nnice = 1\n");
    let mut command = farm.command(env!("CARGO_BIN_EXE_distccd"));
    command.args(["--no-detach", "--listen", "127.0.0.1", "--config"]).arg(path("distccd.toml"));
    command.arg("--log-file").arg(path("log")).arg("--port-file").arg(path("port"));
    for (option, folder) in [("--temp-dir", "tmp"), ("--state-dir", "state")] {
        fs::create_dir(path(folder)).expect("a folder");
        rustix::fs::chmod(path(folder), rustix::fs::Mode::RWXU).expect("our own folder");
        command.arg(option).arg(path(folder));
    }
    if rustix::process::geteuid().is_root() {
        command.args(["--user", "root"]);
    }
    let daemon = Running::start(command);
    wait_until("distccd serves", COMMAND_MAX, || path("port").exists());
    let log = || fs::read_to_string(path("log")).unwrap_or_default();
    let reread = |text: &str, words: &str| {
        write(text);
        signal_pid(daemon.pid(), Signal::HUP);
        wait_until(words, COMMAND_MAX, || log().contains(words));
    };
    reread("job = 2\n", "did you mean `jobs`?");
    reread("jobs = 2\nport = 0\nnice = 1\nallow = ['127.0.0.1']\n", "read the settings again");
    assert!(!log().contains("started again"), "{}", log());
    reread("jobs = 3\nport = 0\nnice = 2\n", "counts when distccd is started again: nice");
    signal_pid(daemon.pid(), Signal::TERM);
    daemon.finish(COMMAND_MAX).expect_success("distccd");
    farm.finish();
}

#[test]
fn a_broker_takes_the_socket_of_a_service_manager_and_leaves_it_when_it_was_idle() {
    let farm = Farm::new(1);
    fs::write(farm.work().join("a.c"), "int f(void) { return 1; }\n").expect("written");
    let path = farm.home().join("broker.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let start = |idle: &str| {
        let mut command = farm.command("/bin/sh");
        let program = "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" --foreground 3<&0 </dev/null";
        command.args(["-c", program, BROKER]).env("DISTCC_IDLE_TIMEOUT", idle);
        let socket = OwnedFd::from(listener.try_clone().expect("a descriptor"));
        Running::with_input(command, Stdio::from(socket))
    };
    let compile = || farm.shim(["gcc", "-c", "a.c"]).expect_success("gcc -c a.c");
    let first = start("5");
    compile();
    assert_eq!(farm.brokers(), [first.pid()], "no other was started");
    first.finish(COMMAND_MAX).expect_success("the idle broker");
    assert!(path.exists(), "the manager's socket");

    // One that is told to stop makes way for the next, whoever starts that.
    let second = start("60");
    compile();
    assert_eq!(farm.brokers(), [second.pid()]);
    farm.shim(["--stop"]).expect_success("--stop");
    second.finish(COMMAND_MAX).expect_success("the broker that was stopped");
    assert!(!path.exists());
    compile();
    assert_eq!(farm.total("remote") + farm.total("cached"), 1);
    farm.finish();
}
