//! What the manuals of distcc 3.4 promise, promise by promise: `pNN` is the promise of that number.
//!
//! Promises that other tests keep: 1 `exact::an_object_is_the_one_that_a_local_compile_writes`;
//! 2 `exact::what_cannot_leave_runs_here_and_says_why`; 3 `shim::ways::implicit_use_means_cc`; 4 and 5
//! `shim::ways::a_masquerade_link_means_the_next_compiler_in_path`; 6
//! `shim::ways::a_loop_ends_with_111_and_says_so`; 7
//! `shim::ways::a_wrapper_before_us_in_path_that_calls_us_does_not_loop`; 8 `builds`; 11 and 16
//! `common::hosts`; 15 `classic::shared`; 17 `classic::ssh`; 19 `broker::scheduler`; 20 `classic`;
//! 30 `exact`; 31 `exact` and `shim::answers`; 33 `exact`; 35 and 36 `classic` and `remote::whitelist`;
//! 37 `exact`; 38 `broker::rename`; 40 `classic`; 44 `remote::a_drain_finishes_jobs_and_refuses_new_ones`;
//! 46 `remote::access`; 50 `remote`; 53 `classic::ssh`; 57 and 58 `remote::whitelist`; 59 `classic`; 60
//! `classic::hostile::a_client_that_goes_away_has_its_compiler_killed`; 61 `classic::shared`.
//!
//! Promises that are none here: 27 (`DISTCC_PAUSE_TIME_MSEC`: jobs wait in a queue, nobody polls), 41
//! (pump's demotion of a whole build: each file is decided on its own).

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use crate::farm::{COMMAND_MAX, Farm, Outcome, SHIM, VolunteerOptions, names, run, wait_until};

mod daemon;

const SETTLE_MAX: Duration = Duration::from_secs(20);

/// Runs the shim with more environment; `HOSTS` stands for the farm's volunteers.
fn shim(farm: &Farm, environment: &str, words: &str) -> Outcome {
    let mut command = farm.command(SHIM);
    for setting in environment.split_whitespace() {
        let (name, value) = setting.split_once('=').expect("NAME=value");
        command.env(name, value.replace("HOSTS", &farm.hosts()));
    }
    run(with_words(command, words), COMMAND_MAX)
}

fn with_words(mut command: Command, words: &str) -> Command {
    command.args(words.split_whitespace());
    command
}

fn write(farm: &Farm, name: &str, text: &str) {
    fs::write(farm.work().join(name), text).expect("our own file");
}

fn stderr(outcome: &Outcome) -> String {
    String::from_utf8_lossy(&outcome.stderr).into_owned()
}

/// A port on which nobody listens.
fn dead_port() -> u16 {
    let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    probe.local_addr().expect("an address").port()
}

#[test]
fn p09_distcc_hosts_beats_the_users_file_which_beats_the_systems() {
    let farm = Farm::new(1);
    write(&farm, "a.c", "int a;\n");
    fs::write(farm.home().join("hosts"), format!("{}\n", farm.hosts())).expect("our own file");
    let hosts = |words: &str, command: Command| {
        String::from_utf8(run(with_words(command, words), COMMAND_MAX).stdout).expect("text")
    };
    let mut command = farm.command(SHIM);
    command.env("DISTCC_HOSTS", "one two/3");
    assert_eq!(hosts("--show-hosts", command), "one\ntwo/3\n");
    let mut command = farm.command(SHIM);
    command.env_remove("DISTCC_HOSTS");
    assert_eq!(hosts("--show-hosts", command), format!("{}\n", farm.hosts()));
    let mut command = farm.command(SHIM);
    command.env_remove("DISTCC_HOSTS");
    run(with_words(command, "gcc -c a.c"), COMMAND_MAX).expect_success("a compile");
    assert_eq!(farm.total("remote"), 1);
    fs::remove_file(farm.home().join("hosts")).expect("our own file");
    farm.finish();
}

#[test]
fn p10_without_hosts_a_compile_is_local_with_one_warning_in_words_that_scripts_know() {
    let farm = Farm::new(0);
    write(&farm, "a.c", "int a;\n");
    let outcome = shim(&farm, "DISTCC_HOSTS=", "gcc -c a.c").expect_success("a compile");
    let said = stderr(&outcome);
    assert!(said.contains("$DISTCC_HOSTS contained no hosts; can't distribute work"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    let forbidden = shim(&farm, "DISTCC_HOSTS= DISTCC_FALLBACK=0", "gcc -c a.c -o b.o");
    assert_eq!(forbidden.status.code(), Some(116), "{}", stderr(&forbidden));
    assert!(!farm.work().join("b.o").exists());
    farm.finish();
}

#[test]
fn p12_with_one_job_at_a_time_the_first_host_is_used() {
    let farm = Farm::new(2);
    let done = |number: usize| farm.volunteers[number].log().matches("COMPILE_OK").count();
    let compile = |number: usize| {
        write(&farm, &format!("{number}.c"), "int a;\n");
        shim(&farm, "", &format!("gcc -c {number}.c")).expect_success("a compile");
    };
    // The first job goes to whichever of them answers first.
    compile(0);
    wait_until("both are known to be up", SETTLE_MAX, || {
        let status = farm.status();
        let hosts = status["hosts"].as_array().expect("hosts");
        hosts.len() == 2 && hosts.iter().all(|host| host["state"] == "up")
    });
    let before = (done(0), done(1));
    (1..5).for_each(compile);
    assert_eq!((done(0), done(1)), (before.0 + 4, before.1));
    farm.finish();
}

#[test]
fn p13_randomize_varies_the_order() {
    let farm = Farm::new(0);
    let hosts: Vec<String> = (0..30).map(|number| format!("h{number}")).collect();
    let list = format!("--randomize {}", hosts.join(" "));
    let order = || {
        let mut command = farm.command(SHIM);
        command.env("DISTCC_HOSTS", &list).arg("--show-hosts");
        run(command, COMMAND_MAX).expect_success("--show-hosts").stdout
    };
    let first = order();
    assert!((0..10).any(|_| order() != first), "ten times the same order of 30");
    farm.finish();
}

#[test]
fn p14_localhost_is_no_daemon_and_needs_none() {
    let farm = Farm::new(0);
    write(&farm, "a.c", "int a;\n");
    let outcome = shim(&farm, "DISTCC_HOSTS=localhost", "gcc -c a.c").expect_success("a compile");
    assert_eq!(stderr(&outcome), "");
    assert_eq!(farm.local_reason("localhost-listed"), 1, "{}", farm.status());
    farm.finish();
}

#[test]
fn p18_localslots_bounds_what_only_runs_here() {
    let farm = Farm::new(0);
    let gcc = farm.bin().join("gcc");
    let script = "#!/bin/sh\necho + >> $LOG\n[ -e $LOG.open ] || read _ < $LOG.fifo\necho - >> $LOG\n";
    fs::write(&gcc, script).expect("our own file");
    rustix::fs::chmod(&gcc, rustix::fs::Mode::RWXU).expect("our own file");
    let log = farm.work().join("log");
    let fifo = farm.work().join("log.fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .expect("our own file");
    let link = |number: usize| {
        let mut command = farm.command(SHIM);
        command.env("DISTCC_HOSTS", "--localslots=2 nowhere.invalid").env("LOG", &log);
        command.args(["gcc", "a.o", "-o"]).arg(number.to_string());
        crate::farm::Running::start(command)
    };
    let running: Vec<_> = (0..5).map(link).collect();
    let signs = |sign: char| fs::read_to_string(&log).unwrap_or_default().matches(sign).count();
    wait_until("two links run", SETTLE_MAX, || signs('+') == 2);
    wait_until("the others are known to wait", SETTLE_MAX, || {
        farm.status()["jobs"].as_array().is_some_and(|jobs| jobs.len() == 5)
    });
    assert_eq!(signs('+'), 2, "{}", farm.status());
    write(&farm, "log.open", "");
    wait_until("all have ended", SETTLE_MAX, || {
        drop(fs::File::options().read(true).write(true).open(&fifo));
        signs('-') == 5
    });
    for running in running {
        running.finish(COMMAND_MAX).expect_success("a link");
    }
    farm.finish();
}

#[test]
fn p21_cpp_without_lzo_is_refused_clearly() {
    let farm = Farm::new(0);
    let outcome = shim(&farm, "DISTCC_HOSTS=build7,cpp", "--show-hosts");
    assert_eq!(outcome.status.code(), Some(106));
    assert!(
        stderr(&outcome).contains("build7,cpp") && stderr(&outcome).contains("lzo"),
        "{}",
        stderr(&outcome)
    );
    farm.finish();
}

#[test]
fn p22_an_unreachable_host_is_left_alone_with_one_warning() {
    let farm = Farm::new(0);
    let hosts = format!("127.0.0.1:{}", dead_port());
    let (mut warnings, mut fallbacks) = (0, 0);
    for number in 0..3 {
        write(&farm, &format!("{number}.c"), "int a;\n");
        let environment = format!("DISTCC_HOSTS={hosts}");
        let outcome = shim(&farm, &environment, &format!("gcc -c {number}.c")).expect_success("a compile");
        warnings += stderr(&outcome).matches("Warning: volunteer").count();
        fallbacks += stderr(&outcome).matches("Warning: failed to distribute").count();
    }
    assert_eq!((warnings, fallbacks), (1, 1));
    // A log is told of each.
    let log = farm.work().join("log");
    for name in ["3.c", "4.c"] {
        write(&farm, name, "int a;\n");
        let environment = format!("DISTCC_HOSTS={hosts} DISTCC_LOG={}", log.display());
        let outcome = shim(&farm, &environment, &format!("gcc -c {name}")).expect_success("a compile");
        assert_eq!(stderr(&outcome), "");
        let said = format!("Warning: failed to distribute {name}, running locally instead\n");
        assert!(fs::read_to_string(&log).expect("a log").contains(&said), "{said}");
    }
    farm.finish();
}

#[test]
fn p23_a_back_off_of_0_does_not_spin() {
    let farm = Farm::new(0);
    write(&farm, "a.c", "int a;\n");
    // Somebody who closes at once: an unreachable host costs no time, so that a client could spin.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let visits = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = visits.clone();
    std::thread::spawn(move || {
        for visitor in listener.incoming() {
            drop(visitor);
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    });
    let environment = format!("DISTCC_HOSTS=127.0.0.1:{port} DISTCC_BACKOFF_PERIOD=0 DISTCC_FALLBACK=0");
    let outcome = shim(&farm, &environment, "gcc -c a.c");
    assert_eq!(outcome.status.code(), Some(116), "{}", stderr(&outcome));
    let visits = visits.load(std::sync::atomic::Ordering::SeqCst);
    assert!((1..100).contains(&visits), "{visits} visits");
    farm.finish();
}

#[test]
fn p24_without_fallback_a_compile_fails_and_a_link_does_not() {
    let farm = Farm::new(0);
    write(&farm, "a.c", "int main(void) { return 0; }\n");
    let environment = format!("DISTCC_HOSTS=127.0.0.1:{} DISTCC_FALLBACK=0", dead_port());
    assert_eq!(shim(&farm, &environment, "gcc -c a.c").status.code(), Some(116));
    assert!(!farm.work().join("a.o").exists());
    shim(&farm, &environment, "gcc a.c -o a").expect_success("a link");
    farm.finish();
}

#[test]
fn p25_with_skip_local_retry_a_remote_error_is_final() {
    let farm = Farm::new(1);
    write(&farm, "a.c", "int f(void) { return 1 + ; }\n");
    let outcome = shim(&farm, "DISTCC_SKIP_LOCAL_RETRY=1", "gcc -c a.c");
    assert_eq!(outcome.status.code(), Some(1));
    assert!(stderr(&outcome).contains("a.c:1:"), "{}", stderr(&outcome));
    assert_eq!(farm.total("local"), 0, "{}", farm.status());
    let again = shim(&farm, "", "gcc -c a.c");
    assert_eq!(again.status.code(), Some(1));
    assert_eq!(farm.total("local"), 1, "{}", farm.status());
    farm.finish();
}

#[test]
fn p26_a_volunteer_that_is_silent_for_too_long_is_given_up() {
    let farm = Farm::new(0);
    write(&farm, "a.c", "int a;\n");
    // It takes connections, closes the first as stock does, and says nothing on the others.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        let mut held: Vec<TcpStream> = Vec::new();
        for (number, visitor) in listener.incoming().enumerate() {
            if number > 0 {
                held.extend(visitor);
            }
        }
    });
    let environment = format!("DISTCC_HOSTS=127.0.0.1:{port} DISTCC_IO_TIMEOUT=1");
    shim(&farm, &environment, "gcc -c a.c").expect_success("a compile");
    assert!(farm.work().join("a.o").exists());
    for wrong in ["0", "-1", "x"] {
        let outcome = shim(&farm, &format!("DISTCC_IO_TIMEOUT={wrong}"), "gcc -c a.c");
        assert_eq!(outcome.status.code(), Some(101), "{}", stderr(&outcome));
    }
    farm.finish();
}

#[test]
fn p28_verbose_explains_and_the_log_takes_all_messages() {
    let farm = Farm::new(1);
    write(&farm, "a.c", "int a;\n");
    let outcome = shim(&farm, "DISTCC_VERBOSE=1", "gcc -c a.c").expect_success("a compile");
    assert!(stderr(&outcome).contains(&farm.volunteers[0].port.to_string()), "{}", stderr(&outcome));
    let log = farm.work().join("log");
    let environment = format!("DISTCC_VERBOSE=1 DISTCC_LOG={}", log.display());
    let outcome = shim(&farm, &environment, "gcc -c a.c").expect_success("a compile");
    assert_eq!(stderr(&outcome), "");
    assert!(fs::read_to_string(log).expect("a log").contains(&farm.volunteers[0].port.to_string()));
    farm.finish();
}

#[test]
fn p29_save_temps_keeps_the_text_and_nothing_is_kept_otherwise() {
    let farm = Farm::new(1);
    write(&farm, "a.c", "int a_name_to_find;\n");
    let kept = farm.work().join("kept");
    fs::create_dir(&kept).expect("our own directory");
    let tmpdir = format!("TMPDIR={}", kept.display());
    shim(&farm, &tmpdir, "gcc -c a.c").expect_success("a compile");
    assert_eq!(names(&kept), [""; 0]);
    shim(&farm, &format!("{tmpdir} DISTCC_SAVE_TEMPS=1"), "gcc -c a.c").expect_success("a compile");
    let [name] = &names(&kept)[..] else { panic!("{:?}", names(&kept)) };
    assert!(name.starts_with("distcc_") && name.ends_with(".i"), "{name}");
    assert!(fs::read_to_string(kept.join(name)).expect("a text").contains("a_name_to_find"));
    farm.finish();
}

#[test]
fn p32_internal_failures_have_their_codes() {
    let farm = Farm::new(1);
    write(&farm, "a.c", "int a;\n");
    let code = |environment: &str, words: &str| shim(&farm, environment, words).status.code();
    assert_eq!(code("", ""), Some(101));
    assert_eq!(code("", "no-such-compiler -c a.c"), Some(110));
    assert_eq!(code("_DISTCC_SAFEGUARD=9", "gcc -c a.c"), Some(111));
    assert_eq!(code("DISTCC_HOSTS=a,bogus", "--show-hosts"), Some(106));
    assert_eq!(code("DISTCC_HOSTS=a,bogus DISTCC_FALLBACK=0", "gcc -c a.c"), Some(116));
    farm.finish();
}

#[test]
fn p34_the_sum_of_slots_and_the_list() {
    let farm = Farm::new(0);
    let mut command = farm.command(SHIM);
    command.env("DISTCC_HOSTS", "localhost a/3 b # and\n@c/2").arg("-j");
    let outcome = run(command, COMMAND_MAX).expect_success("-j");
    assert_eq!(String::from_utf8_lossy(&outcome.stdout), "11\n", "2, 3, 4 and 2");
    farm.finish();
}

#[test]
fn p39_scan_includes_lists_what_a_compile_reads() {
    let farm = Farm::new(0);
    write(&farm, "a.c", "#include <stddef.h>\n#include \"a.h\"\n");
    write(&farm, "a.h", "int a;\n");
    let outcome = shim(&farm, "", "--scan-includes gcc -c a.c").expect_success("--scan-includes");
    let text = String::from_utf8(outcome.stdout).expect("text");
    for name in ["a.c", "a.h", "stddef.h"] {
        assert!(text.lines().any(|line| line.starts_with("FILE") && line.ends_with(name)), "{name}: {text}");
    }
    farm.finish();
}

#[test]
fn p42_a_debugger_finds_the_sources() {
    let farm = Farm::new(1);
    write(&farm, "a.c", "int main(void) { return 0; }\n");
    shim(&farm, "", "gcc -g -c a.c").expect_success("a compile");
    assert_eq!(farm.total("remote"), 1);
    let dump = run(with_words(farm.command("readelf"), "--debug-dump=info a.o"), COMMAND_MAX);
    let text = String::from_utf8_lossy(&dump.stdout).into_owned();
    assert!(text.contains(&farm.work().display().to_string()), "{text}");
    farm.finish();
}

#[test]
fn p62_lsdistcc_prints_those_that_answer_and_tries_a_compiler() {
    let farm = Farm::with(&[VolunteerOptions {
        more: &["--enable-tcp-insecure", "--allow", "127.0.0.1"],
        ..Default::default()
    }]);
    let port = farm.volunteers[0].port;
    let link = farm.bin().join("lsdistcc");
    std::os::unix::fs::symlink(SHIM, &link).expect("a link");
    let list = |words: &str| run(with_words(farm.command(&link), &format!("-r{port} {words}")), COMMAND_MAX);
    let outcome = list("-pgcc 127.0.0.1").expect_success("lsdistcc");
    assert_eq!(String::from_utf8_lossy(&outcome.stdout), format!("127.0.0.1:{port}\n"));
    let none = list("-pno-such-compiler 127.0.0.1").expect_success("the name exists");
    assert_eq!(none.stdout, b"");
    assert_eq!(list("no.such.host.invalid").status.code(), Some(1));
    assert_eq!(list("--help").status.code(), Some(1));
    let stock =
        run(with_words(Command::new("/usr/bin/lsdistcc"), &format!("-r{port} -pgcc 127.0.0.1")), COMMAND_MAX);
    assert_eq!(stock.expect_success("stock's").stdout, outcome.stdout);
    farm.finish();
}

#[test]
fn p63_pump_returns_the_commands_status_and_leaves_nothing() {
    let farm = Farm::new(1);
    let pump = farm.bin().join("pump");
    std::os::unix::fs::symlink(SHIM, &pump).expect("a link");
    write(&farm, "a.c", "int a;\n");
    let bin = std::path::Path::new(SHIM).parent().expect("a directory").display().to_string();
    let mut command = farm.command(&pump);
    command.args(["sh", "-c", "distcc gcc -c a.c && echo $PATH && exit 7"]);
    let outcome = run(command, COMMAND_MAX);
    assert_eq!(outcome.status.code(), Some(7), "{}", stderr(&outcome));
    assert!(String::from_utf8_lossy(&outcome.stdout).starts_with(&format!("{bin}:")));
    assert_eq!(farm.total("remote"), 1);
    let mut shell = farm.command("sh");
    let script = "eval `\"$0\" --startup`; echo $PATH; echo $DISTCC_HOSTS; \"$0\" --shutdown";
    shell.env("DISTCC_POTENTIAL_HOSTS", "h1 h2/3").args(["-c", script]).arg(&pump);
    let said = String::from_utf8(run(shell, COMMAND_MAX).expect_success("a shell").stdout).expect("text");
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with(&format!("{bin}:")), "{said}");
    assert_eq!(lines[1..], ["--randomize h1,cpp,lzo h2/3,cpp,lzo"]);
    assert_eq!(run(farm.command(&pump), COMMAND_MAX).status.code(), Some(1));
    farm.finish();
}

/// Reads until the other side closes.
fn all_of(mut stream: TcpStream, question: &[u8]) -> Vec<u8> {
    stream.set_read_timeout(Some(SETTLE_MAX)).expect("a socket");
    stream.write_all(question).ok();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).ok();
    said
}
