//! Few files may be open.

use std::fs;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::farm::{COMMAND_MAX, Farm, SHIM, run, wait_until};

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

#[test]
fn a_broker_without_descriptors_sends_compiles_home_at_once_and_can_be_stopped() {
    let farm = Farm::new(1);
    fs::write(farm.work().join("a.c"), "int x;\n").expect("our own file");
    farm.shim(["gcc", "-c", "a.c"]).expect_success("compiled");
    let broker = farm.brokers()[0];
    let open = open_files(broker);
    let limit = open.iter().max().expect("some") + 2;
    let pid = Pid::from_raw(i32::try_from(broker).expect("a pid"));
    prlimit(pid, Resource::Nofile, Rlimit { current: Some(limit), maximum: Some(limit) }).expect("lowered");
    let free = usize::try_from(limit).expect("a few") - open.len();
    let connect = || UnixStream::connect(farm.home().join("broker.sock")).expect("a broker");
    let crowd: Vec<UnixStream> = (0..free).map(|_| connect()).collect();
    wait_until("nothing is left", COMMAND_MAX, || open_files(broker).len() + 1 >= open.len() + free);
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
