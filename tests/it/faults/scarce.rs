//! Little may be used: few files may be open, or none may be large.

use std::fs;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::farm::{COMMAND_MAX, Farm, SHIM, VolunteerOptions, run, wait_until};

/// What a shim that waits for a broker in vain takes, at the least.
const IN_VAIN: Duration = Duration::from_secs(4);

/// The numbers of a process's open files.
fn open_files(pid: u32) -> Vec<u64> {
    let names = fs::read_dir(format!("/proc/{pid}/fd")).expect("a process of ours");
    names.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

#[test]
fn a_low_limit_of_open_files_starts_no_broker_that_serves_nobody_and_never_ends() {
    let farm = Farm::new(1);
    fs::write(farm.work().join("a.c"), "int x;\n").expect("our own file");
    let mut command = farm.command("sh");
    command.args(["-c", "ulimit -n 16; exec \"$@\"", "sh", SHIM, "gcc", "-c", "a.c"]);
    let outcome = run(command, COMMAND_MAX).expect_success("compiled here");
    let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
    assert!(said.contains("only 16 files may be open (ulimit -n)"), "{said}");
    assert_eq!(farm.brokers(), [0_u32; 0]);
    // A start that failed stands for some seconds.
    wait_until("the next one starts a broker", COMMAND_MAX, || {
        farm.shim(["gcc", "-c", "a.c"]).expect_success("compiled");
        farm.brokers().len() == 1
    });
    wait_until("it serves", COMMAND_MAX, || {
        farm.shim(["gcc", "-c", "a.c"]).expect_success("compiled");
        farm.total("remote") > 0
    });
    farm.finish();
}

/// Whether a broker has closed the connections of all who came: of the last, it does so behind its back.
fn is_alone(farm: &Farm) -> bool {
    let socket = farm.home().join("broker.sock");
    let sockets = fs::read_to_string("/proc/net/unix").expect("Linux has it");
    // The one is the socket that it listens on.
    sockets.lines().filter(|line| line.ends_with(socket.to_str().expect("our own name"))).count() == 1
}

#[test]
fn a_broker_without_descriptors_sends_compiles_home_at_once_and_can_be_stopped() {
    let farm = Farm::new(1);
    fs::write(farm.work().join("a.c"), "int x;\n").expect("our own file");
    farm.shim(["gcc", "-c", "a.c"]).expect_success("compiled");
    let broker = farm.brokers()[0];
    wait_until("the compile is over", COMMAND_MAX, || is_alone(&farm));
    let open = open_files(broker);
    let limit = open.iter().max().expect("some") + 2;
    let pid = Pid::from_raw(i32::try_from(broker).expect("a pid"));
    prlimit(pid, Resource::Nofile, Rlimit { current: Some(limit), maximum: Some(limit) }).expect("lowered");
    let free = usize::try_from(limit).expect("a few") - open.len();
    let connect = || UnixStream::connect(farm.home().join("broker.sock")).expect("a broker");
    let crowd: Vec<UnixStream> = (0..free).map(|_| connect()).collect();
    wait_until("nothing is left", COMMAND_MAX, || open_files(broker).len() == open.len() + free);
    let begun = Instant::now();
    let outcomes = [(); 2].map(|()| farm.shim(["gcc", "-c", "a.c"]).expect_success("compiled here"));
    let stopped = farm.shim(["--stop"]).expect_success("told");
    assert!(begun.elapsed() < IN_VAIN, "{:?}", begun.elapsed());
    let said = outcomes.map(|outcome| String::from_utf8_lossy(&outcome.stderr).into_owned());
    assert!(said[0].contains("ulimit -n") && said[1].is_empty(), "{said:?}");
    assert!(String::from_utf8_lossy(&stopped.stdout).contains("finishes"), "{stopped:?}");
    wait_until("it ends", COMMAND_MAX, || farm.brokers().is_empty());
    drop(crowd);
    farm.finish();
}

/// A compile, and whether a volunteer did it.
fn goes_out(farm: &Farm) -> bool {
    fs::write(farm.work().join("b.c"), "#include <stdlib.h>\nint x = EXIT_FAILURE;\n").expect("our own file");
    let before = farm.total("remote");
    farm.shim(["gcc", "-g", "-c", "b.c"]).expect_success("compiled");
    farm.total("remote") > before
}

#[test]
fn hard_limits_of_a_volunteer_below_those_of_its_jobs_made_every_job_fail_for_ever() {
    // As many processes as a small machine needs; the rest is more than this job does.
    let low = VolunteerOptions {
        setup: Some(
            "prlimit --pid $$ --nproc=400 --fsize=300000000 --cpu=100 --data=1000000000 --sigpending=5 --core=0",
        ),
        jobs: 2,
        ..Default::default()
    };
    let boxless = VolunteerOptions { more: &["--sandbox", "off"], ..low.clone() };
    for options in [low, boxless] {
        let farm = Farm::with(&[options]);
        assert!(goes_out(&farm), "{}", farm.volunteers[0].log());
        let log = farm.volunteers[0].log();
        assert!(!log.contains("cannot set a limit"), "{log}");
        for name in ["FSIZE is 300000000 bytes", "CPU is 100 seconds", "DATA is 1000000000 bytes"] {
            assert_eq!(log.matches(&format!("RLIMIT_{name}")).count(), 1, "{name}: {log}");
        }
        farm.finish();
    }
}

#[test]
fn a_file_beyond_a_volunteers_limit_ended_the_whole_daemon() {
    let low = VolunteerOptions { setup: Some("prlimit --pid $$ --fsize=2000000"), ..Default::default() };
    let farm = Farm::with(&[low]);
    assert!(!goes_out(&farm), "{}", farm.volunteers[0].log());
    let said = farm.status().to_string();
    assert!(said.contains("File too large"), "{said}");
    // That it ends when it is told, and not before, is seen to at the end of every farm.
    farm.finish();
}
