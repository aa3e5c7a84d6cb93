//! `distcc --watch`, and the words that hold hosts.

use std::fs;
use std::num::NonZero;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::status::compile;
use super::terminal::InTerminal;
use crate::farm::{COMMAND_MAX, Farm, SHIM, run, signal_pid, wait_until};

fn watch(farm: &Farm) -> InTerminal {
    let mut command = farm.command(SHIM);
    command.arg("--watch=0.2");
    InTerminal::start(command)
}

#[test]
fn the_view_shows_what_the_status_does_and_leaves_the_terminal_as_it_was() {
    let farm = Farm::new(1);
    compile(&farm, &["a", "b"]);
    let mut view = watch(&farm);
    let host = format!("127.0.0.1:{}", farm.volunteers[0].port);
    view.wait_for(&host);
    assert!(!view.is_as_before(), "keys are read as they come");
    view.press("?");
    view.wait_for("it finishes what it has");
    view.press("?q");
    assert_eq!(view.end().code(), Some(0));
    view.check_given_back();
    farm.finish();
}

#[test]
fn every_end_gives_the_terminal_back() {
    let farm = Farm::new(0);
    for (number, signal) in [(15, Signal::TERM), (1, Signal::HUP), (2, Signal::INT), (3, Signal::QUIT)] {
        let mut view = watch(&farm);
        view.wait_for("the first compile starts one");
        signal_pid(view.pid(), signal);
        assert_eq!(view.end().code(), Some(128 + number), "{signal:?}");
        view.check_given_back();
    }
    for keys in ["q", "\x03"] {
        let mut view = watch(&farm);
        view.wait_for("the first compile starts one");
        view.press(keys);
        assert_eq!(view.end().code(), Some(0), "{keys:?}");
        view.check_given_back();
    }
    farm.finish();
}

#[test]
fn a_window_that_is_closed_ends_the_view() {
    let farm = Farm::new(0);
    let mut view = watch(&farm);
    view.wait_for("the first compile starts one");
    view.press("p");
    view.hang_up();
    let ended = view.end();
    assert_ne!(ended.code(), Some(0), "{ended}");
    farm.finish();
}

#[test]
fn a_view_that_was_stopped_takes_the_screen_again() {
    let farm = Farm::new(0);
    let mut view = watch(&farm);
    view.wait_for("the first compile starts one");
    view.press("\x1a");
    view.wait_for_the_other_screen();
    wait_until("the terminal is given back", COMMAND_MAX, || view.is_as_before());
    let stat = format!("/proc/{}/stat", view.pid());
    wait_until("it is stopped", COMMAND_MAX, || {
        fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T "))
    });
    signal_pid(view.pid(), Signal::CONT);
    view.wait_for("the first compile starts one");
    view.press("q");
    assert_eq!(view.end().code(), Some(0));
    view.check_given_back();
    farm.finish();
}

/// In the process that the next test starts, this is the program; else it does nothing.
#[test]
fn a_view_that_panics() {
    if std::env::var_os("DISTCC_TEST_PANICS").is_some() {
        let _screen = distcc::broker::watch::screen::Screen::enter().expect("a terminal");
        panic!("a bug");
    }
}

#[test]
fn a_panic_gives_the_terminal_back_before_it_is_told() {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "sight::watch::a_view_that_panics", "--nocapture"]);
    command.env("DISTCC_TEST_PANICS", "1");
    let mut view = InTerminal::start(command);
    assert!(!view.end().success());
    view.check_given_back();
    let text = String::from_utf8_lossy(&view.text).into_owned();
    assert!(text.find("a bug") > text.find("\x1b[?1049l"), "{text:?}");
}

#[test]
fn a_view_outlives_its_broker_and_finds_the_next_one() {
    let farm = Farm::new(1);
    let mut view = watch(&farm);
    view.wait_for("the first compile starts one");
    compile(&farm, &["a"]);
    view.wait_for(&format!("127.0.0.1:{}", farm.volunteers[0].port));
    let first = farm.brokers()[0];
    signal_pid(first, Signal::KILL);
    view.wait_for("GONE");
    compile(&farm, &["b"]);
    let second = farm.brokers().into_iter().find(|pid| *pid != first).expect("the next broker");
    view.wait_for(&format!("(pid {second})"));
    view.resize(NonZero::new(120).expect("columns"), NonZero::new(40).expect("rows"));
    view.wait_until("all columns are used", |screen| {
        screen.lines().any(|line| line.contains("HOST 1") && line.trim_end().len() > 110)
    });
    view.press("q");
    assert_eq!(view.end().code(), Some(0));
    view.check_given_back();
    farm.finish();
}

#[test]
fn where_there_is_no_terminal_the_view_says_so() {
    let farm = Farm::new(0);
    let outcome = farm.shim(["--watch"]);
    assert_eq!(outcome.status.code(), Some(100));
    let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
    assert!(said.contains("stdout is no terminal") && said.contains("distcc --status"), "{said}");
    assert!(outcome.stdout.is_empty());
    let mut command = farm.command("script");
    command.args(["-qec", &format!("{SHIM} --watch"), "/dev/null"]).env("TERM", "dumb");
    let outcome = run(command, COMMAND_MAX);
    assert!(String::from_utf8_lossy(&outcome.stdout).contains("TERM is dumb"), "{outcome:?}");
    assert_eq!(farm.shim(["--watch=0"]).status.code(), Some(101));
    assert_eq!(farm.shim(["--watch=soon"]).status.code(), Some(101));
    farm.finish();
}

#[test]
fn a_view_keeps_no_broker_alive() {
    let farm = Farm::new(0);
    let mut command = farm.command(SHIM);
    command.args(["gcc", "--version"]).env("DISTCC_IDLE_TIMEOUT", "2");
    run(command, COMMAND_MAX).expect_success("anything that starts a broker");
    let mut view = watch(&farm);
    view.wait_for("no volunteer has been asked yet");
    view.wait_for("GONE");
    view.press("q");
    assert_eq!(view.end().code(), Some(0));
    farm.finish();
}

/// The screen of a session of tmux, and tmux itself.
struct Tmux<'a> {
    farm: &'a Farm,
    socket: std::path::PathBuf,
}

impl Tmux<'_> {
    fn run(&self, words: &[&str]) -> String {
        let mut command = self.farm.command("tmux");
        command.arg("-f").arg("/dev/null").arg("-S").arg(&self.socket).args(words).env("LC_ALL", "C.UTF-8");
        String::from_utf8_lossy(&run(command, COMMAND_MAX).expect_success("tmux").stdout).into_owned()
    }

    fn screen(&self) -> String {
        self.run(&["capture-pane", "-p"])
    }
}

impl Drop for Tmux<'_> {
    fn drop(&mut self) {
        let mut command = self.farm.command("tmux");
        command.arg("-S").arg(&self.socket).arg("kill-server");
        command.output().ok();
        fs::remove_file(&self.socket).ok();
    }
}

/// How long the screen may take to be the expected one.
const PICTURE_MAX: Duration = Duration::from_secs(10);

/// What differs from one run to the next is put alike: numbers of processes and ports, times, sizes.
fn alike(screen: &str) -> String {
    let mut text = String::new();
    let mut digits = false;
    for letter in screen.chars() {
        if letter.is_ascii_digit() || letter == '.' && digits {
            if !digits {
                text.push('N');
            }
            digits = true;
        } else {
            digits = false;
            text.push(letter);
        }
    }
    // A round trip may not be known yet, and little CPU may be lost rather than saved.
    let word = |word: &str| match word {
        "-" | "Nms" => "RTT".to_owned(),
        word => word.replace("-N", "N"),
    };
    let lines = text.lines().map(|line| line.split_whitespace().map(word).collect::<Vec<_>>().join(" "));
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn in_tmux_the_screen_is_this() {
    let farm = Farm::new(1);
    compile(&farm, &["a", "b", "c"]);
    farm.shim(["gcc", "a.o", "b.o", "-shared", "-o", "x.so"]).expect_success("a link");
    farm.settle();
    let tmux = Tmux { farm: &farm, socket: farm.directory_of_tests("tmux") };
    tmux.run(&["new-session", "-d", "-x", "80", "-y", "24", SHIM, "--watch=0.2"]);
    // The second look makes rates of the first.
    wait_until("there are rates", COMMAND_MAX, || tmux.screen().contains("0.0/s"));
    let expected = include_str!("watch.txt");
    // The build has come to rest: what is not as expected at once is a picture half drawn, or a defect.
    let (mut shown, start) = (String::new(), Instant::now());
    while shown != expected && start.elapsed() < PICTURE_MAX {
        shown = alike(&tmux.screen());
    }
    if std::env::var_os("DISTCC_BLESS").is_some() {
        fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/sight/watch.txt"), &shown)
            .expect("the sources");
    }
    assert_eq!(shown, expected, "{}", tmux.screen());
    tmux.run(&["send-keys", "Down", "d"]);
    wait_until("it is drained", COMMAND_MAX, || {
        tmux.screen().contains("is drained: it finishes what it has")
    });
    assert_eq!(farm.status()["hosts"][0]["hold"], "drained");
    compile(&farm, &["d"]);
    assert_eq!((farm.total("remote"), farm.local_reason("no-volunteer")), (3, 1), "{}", farm.status());
    tmux.run(&["send-keys", "d"]);
    wait_until("it gets jobs", COMMAND_MAX, || tmux.screen().contains("gets jobs again"));
    compile(&farm, &["e"]);
    assert_eq!(farm.total("remote"), 4);
    tmux.run(&["send-keys", "q"]);
    // The session ends with its program, and tmux with its last session.
    farm.settle();
    drop(tmux);
    farm.finish();
}
