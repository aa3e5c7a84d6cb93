//! `distccd` as a process, spoken to over TCP.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

pub mod client;
mod hermetic;
pub mod link;
mod opened;
pub mod volunteer;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use distcc::common::action::Ended;
use distcc::common::protocol::io::push_data;
use distcc::common::protocol::link::{
    FrameHeader, FrameKind, HELLO_TIMEOUT, OPENING, Refusal, ToBroker, ToVolunteer, VERSION,
};
use distcc::common::toolchain::Digest;

use link::Link;
use volunteer::{Volunteer, client_of, daemon_command, toolchain_of, wait_for};

fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

const HELLO: &[u8] =
    b"# 1 \"hello.c\"\nint puts(const char *);\nint main(void) { return puts(\"hello\"); }\n";

/// What `gcc` makes of the same text here.
fn compiled_here(text: &[u8]) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("in.i"), text).unwrap();
    let status =
        Command::new("gcc").args(["-O2", "-c", "in.i", "-o", "out.o"]).current_dir(&directory).status();
    assert!(status.unwrap().success());
    fs::read(directory.path().join("out.o")).unwrap()
}

#[test]
fn an_object_is_that_of_a_local_compile_and_the_input_travels_once() {
    let volunteer = Volunteer::start(&[]);
    let gcc = toolchain_of(Path::new("/usr/bin/gcc"));
    let mut link = volunteer.link();
    let packed = link.submit(1, &gcc, HELLO, &["-O2"]);
    link.wait(|message| *message == ToBroker::NeedInput { job: 1 });
    let mut bytes = Vec::new();
    push_data(&mut bytes, 1, &packed);
    link.stream.write_all(&bytes).unwrap();
    for job in 1..=2 {
        let (result, parts) = link.result();
        assert_eq!((result.job, result.ended), (job, Ended::Exited(0)));
        assert!(result.cpu_us > 0 && result.wall_us > 0);
        assert_eq!((parts[0].as_slice(), parts[1].as_slice()), (&b""[..], &b""[..]));
        assert_eq!(parts[2], compiled_here(HELLO), "job {job}");
        if job == 1 {
            // No input is asked for: the result comes straight away.
            link.submit(2, &gcc, HELLO, &["-O2"]);
        }
    }
    wait_for("the log has a line for the job", || {
        volunteer.log().contains("COMPILE_OK exit:0 sig:0 core:0 ret:0 time:")
    });
}

#[test]
fn a_failing_compile_is_an_answer_with_its_words_and_without_outputs() {
    let volunteer = Volunteer::start(&[]);
    let mut link = volunteer.link();
    link.start_job(1, &toolchain_of(Path::new("/usr/bin/gcc")), b"# 1 \"a.c\"\nint main( {}\n");
    let (result, parts) = link.result();
    assert_eq!((result.ended, result.outputs.len()), (Ended::Exited(1), 0));
    assert!(String::from_utf8_lossy(&parts[1]).contains("a.c:1"), "{parts:?}");
}

#[test]
fn a_success_without_its_output_is_refused() {
    let volunteer = Volunteer::start(&[]);
    let compiler = volunteer.fake_compiler("exit 0");
    let mut link = volunteer.link();
    link.start_job(1, &compiler, b"text");
    assert!(matches!(link.refusal(), Refusal::Failed { detail } if detail.contains("out.o")));
}

#[test]
fn a_large_result_comes_through_the_window() {
    let volunteer = Volunteer::start(&[]);
    let compiler = volunteer.fake_compiler("head -c 5000000 /dev/urandom > out.o");
    let mut link = volunteer.link();
    link.start_job(1, &compiler, b"text");
    assert_eq!(link.result().1[2].len(), 5_000_000);
}

#[test]
fn a_cancelled_job_is_killed_whole_and_leaves_no_directory() {
    let volunteer = Volunteer::start(&[]);
    let compiler = volunteer.fake_compiler("sleep 600 & sleep 601");
    let mut link = volunteer.link();
    link.start_job(1, &compiler, b"text");
    let pid = volunteer.compiler_pid();
    link.send(&ToVolunteer::Cancel { job: 1 });
    wait_for("the compiler is gone", || !is_running(pid));
    wait_for("its directory is gone", || volunteer.job_directories().is_empty());
    // The link goes on.
    link.submit(2, &compiler, b"text", &["-fplugin=x.so"]);
    assert!(matches!(link.refusal(), Refusal::Forbidden { .. }));
}

#[test]
fn the_jobs_of_a_lost_client_are_killed() {
    let volunteer = Volunteer::start(&[]);
    let compiler = volunteer.fake_compiler("sleep 600");
    let mut link = volunteer.link();
    link.start_job(1, &compiler, b"text");
    let pid = volunteer.compiler_pid();
    drop(link);
    wait_for("the compiler is gone", || !is_running(pid));
}

#[test]
fn a_job_that_runs_too_long_is_killed_and_said_so() {
    let volunteer = Volunteer::start(&["--job-lifetime", "1"]);
    let compiler = volunteer.fake_compiler("sleep 600");
    let mut link = volunteer.link();
    link.start_job(1, &compiler, b"text");
    assert_eq!(link.refusal(), Refusal::TimedOut { seconds: 1 });
    assert_eq!(volunteer.compilers(), [] as [u32; 0]);
}

#[test]
fn a_compiler_that_is_not_here_is_refused_with_what_is() {
    let volunteer = Volunteer::start(&[]);
    let mut wanted = toolchain_of(Path::new("/usr/bin/gcc"));
    wanted.id = Digest::of(b"another compiler");
    let mut link = volunteer.link();
    link.submit(1, &wanted, b"text", &[]);
    assert!(matches!(link.refusal(), Refusal::NoSuchToolchain { detail } if detail.contains("gcc version")));
}

#[test]
fn an_input_that_is_not_what_was_announced_is_refused() {
    let volunteer = Volunteer::start(&[]);
    let compiler = volunteer.fake_compiler("cp in.i out.o");
    let mut link = volunteer.link();
    let packed = link.submit(1, &compiler, b"some text", &[]);
    link.wait(|message| *message == ToBroker::NeedInput { job: 1 });
    let mut bytes = Vec::new();
    push_data(&mut bytes, 1, &vec![b'x'; packed.len()]);
    link.stream.write_all(&bytes).unwrap();
    assert!(matches!(link.refusal(), Refusal::Failed { detail } if detail.contains("announced")));
}

#[test]
fn garbage_and_lies_about_lengths_close_the_connection() {
    let volunteer = Volunteer::start(&[]);
    let huge = FrameHeader { length: u32::MAX, kind: FrameKind::Message, job: 0 }.encode();
    let kind = [1, 0, 0, 0, 77, 0, 0, 0, 0];
    let nonsense = [&[3, 0, 0, 0, 0, 0, 0, 0, 0][..], b"\xff\xff\xff"].concat();
    for first in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], b"DIST00000001ARGVxxxxxxxx", &[&OPENING[..], &huge].concat()]
    {
        let mut link = volunteer.connect();
        link.stream.write_all(first).unwrap();
        assert!(link.is_closed());
    }
    for later in [&huge[..], &kind, &nonsense] {
        let mut link = volunteer.link();
        link.stream.write_all(later).unwrap();
        assert!(link.is_closed());
    }
    volunteer.link();
}

#[test]
fn another_version_is_told_so() {
    let volunteer = Volunteer::start(&[]);
    let mut link = volunteer.connect();
    link.stream.write_all(&OPENING).unwrap();
    link.send(&ToVolunteer::Hello { version: VERSION + 1, build: "9".into(), client: "test".into() });
    assert!(matches!(link.next(), ToBroker::Hello { version: VERSION, .. }));
    assert!(matches!(link.next(), ToBroker::Fatal { why } if why.contains("version")));
    assert!(link.is_closed());
}

#[test]
fn whoever_says_hello_too_slowly_is_dropped_and_others_are_served() {
    let volunteer = Volunteer::start(&[]);
    let begin = Instant::now();
    let mut slow: Vec<Link> = (0..100).map(|_| volunteer.connect()).collect();
    for link in &mut slow {
        // Some are dropped already.
        link.stream.write_all(&OPENING[..1]).ok();
    }
    volunteer.link();
    for link in &mut slow {
        assert!(link.is_closed());
    }
    assert!(begin.elapsed() < HELLO_TIMEOUT + Duration::from_secs(4));
}

#[test]
fn a_full_disk_takes_no_jobs_and_says_why() {
    let volunteer = Volunteer::start(&["--min-free-disk", "1000000000"]);
    let mut link = volunteer.connect();
    link.stream.write_all(&OPENING).unwrap();
    link.send(&ToVolunteer::Hello { version: VERSION, build: "test".into(), client: "test".into() });
    link.next();
    let credit = link.wait(|message| matches!(message, ToBroker::Credit { .. }));
    assert!(matches!(credit, ToBroker::Credit { jobs: 0, why } if why.contains("disk")));
    link.submit(1, &toolchain_of(Path::new("/usr/bin/gcc")), b"text", &[]);
    assert!(matches!(link.refusal(), Refusal::Overloaded { detail } if detail.contains("disk")));
}

#[test]
fn a_daemon_that_is_killed_leaves_no_compiler_and_no_directory() {
    let mut volunteer = Volunteer::start(&[]);
    let compiler = volunteer.fake_compiler("sleep 600 & setsid sleep 601");
    let mut link = volunteer.link();
    link.start_job(1, &compiler, b"text");
    let pid = volunteer.compiler_pid();
    let jobs = volunteer.jobs_left();
    assert_eq!(jobs.len(), 1);
    volunteer.signal("-KILL");
    volunteer.daemon.wait().unwrap();
    wait_for("the compiler is gone", || !is_running(pid));
    wait_for("the directory is gone", || !jobs[0].exists());
    volunteer.restart();
    volunteer.link();
}

#[test]
fn what_even_the_guard_could_not_remove_goes_at_the_next_start() {
    let mut volunteer = Volunteer::start(&[]);
    volunteer.signal("-KILL");
    volunteer.daemon.wait().unwrap();
    wait_for("the guard is done", || volunteer.jobs_left().is_empty());
    let own = fs::read_dir(volunteer.path("tmp")).unwrap().next().unwrap().unwrap().path().join("0");
    fs::create_dir_all(own.join("jobs-dead/1")).unwrap();
    volunteer.restart();
    assert!(!own.join("jobs-dead").exists());
}

#[test]
fn a_terminated_daemon_finishes_what_runs_and_takes_nothing_new() {
    let mut volunteer = Volunteer::start(&[]);
    let gate = volunteer.path("bin/gate");
    let compiler = volunteer
        .fake_compiler(&format!("while [ ! -e {} ]; do sleep 0.02; done; cp in.i out.o", gate.display()));
    let mut link = volunteer.link();
    link.start_job(1, &compiler, b"text");
    volunteer.compiler_pid();
    volunteer.signal("-TERM");
    link.wait(|message| *message == ToBroker::Draining);
    link.submit(2, &compiler, b"other", &[]);
    assert!(matches!(link.refusal(), Refusal::Overloaded { detail } if detail == "draining"));
    fs::write(gate, "").unwrap();
    assert_eq!(link.result().1[2], b"text");
    drop(link);
    assert!(volunteer.daemon.wait().unwrap().success());
    assert_eq!(volunteer.jobs_left(), [] as [PathBuf; 0]);
}

#[test]
fn a_second_signal_ends_the_daemon_at_once() {
    let mut volunteer = Volunteer::start(&[]);
    let compiler = volunteer.fake_compiler("sleep 600");
    let mut link = volunteer.link();
    link.start_job(1, &compiler, b"text");
    let pid = volunteer.compiler_pid();
    volunteer.signal("-TERM");
    link.wait(|message| *message == ToBroker::Draining);
    volunteer.signal("-TERM");
    volunteer.daemon.wait().unwrap();
    assert!(!is_running(pid));
    assert_eq!(volunteer.jobs_left(), [] as [PathBuf; 0]);
}

#[test]
fn when_the_starting_command_returns_the_port_is_open() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("tmp")).unwrap();
    let pid_file = directory.path().join("pid");
    let started = daemon_command(directory.path()).arg("--pid-file").arg(&pid_file).output().unwrap();
    assert!(started.status.success(), "{started:?}");
    let port = fs::read_to_string(directory.path().join("port")).unwrap().trim().parse().unwrap();
    let pid = fs::read_to_string(&pid_file).unwrap().trim().to_owned();
    Link::connect(port, &client_of(directory.path())).hello();
    assert!(Command::new("kill").arg(&pid).status().unwrap().success());
    wait_for("the daemon is gone", || !pid_file.exists() && !is_running(pid.parse().unwrap()));
}

#[test]
fn a_port_that_is_taken_is_status_102_in_both_ways_of_starting() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let directory = tempfile::tempdir().unwrap();
    for way in ["--no-detach", "--daemon"] {
        let output = daemon_command(directory.path()).args([way, "--port", &port]).output().unwrap();
        assert_eq!(output.status.code(), Some(102), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("cannot listen on"), "{output:?}");
    }
}

#[test]
fn without_descriptors_the_door_waits_and_opens_again() {
    let volunteer = Volunteer::start(&[]);
    let pid = volunteer.daemon.id().to_string();
    let limit = |number: &str| {
        let set = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={number}")]).status();
        assert!(set.unwrap().success());
    };
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    limit(&format!("{}:4096", open + 2));
    let crowd: Vec<Link> = (0..8).map(|_| volunteer.connect()).collect();
    wait_for("the daemon says so", || volunteer.log().contains("cannot accept"));
    drop(crowd);
    limit("1024:4096");
    volunteer.link();
}
