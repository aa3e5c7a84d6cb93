//! Hosts behind ssh: one ssh for as long as the broker lives where the daemon is ours, one for each
//! job where it is stock's. The ssh of these tests logs in nowhere: it notes its words and runs the
//! command that was meant for the other side.

use std::fs;

use super::{Build, DAEMON};
use crate::farm::{COMMAND_MAX, Farm, SHIM, VOLUNTEER, run};

/// Installs an ssh, and the daemon that it finds as `distccd`.
fn behind_ssh(daemon: &str) -> Farm {
    let farm = Farm::new(0);
    let calls = farm.work().join("calls");
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {calls}\nwhile [ $# -gt 0 ]; do case $1 in\n\
         -l|-p) shift 2;; nowhere) echo 'no route to host' >&2; exit 255;; *) shift; break;; esac; done\n\
         exec \"$@\"\n",
        calls = calls.display()
    );
    let ssh = farm.bin().join("fake-ssh");
    fs::write(&ssh, script).expect("our own file");
    rustix::fs::chmod(&ssh, rustix::fs::Mode::RWXU).expect("our own file");
    // Started by root, stock's becomes somebody who may not enter the farm's directory, and ours is
    // told not to; its store stays.
    let wrapper = match daemon == VOLUNTEER {
        true => format!("#!/bin/sh\nexec {daemon} \"$@\" --user root --temp-dir {}\n", farm.work().display()),
        false => format!("#!/bin/sh\nTMPDIR=/tmp exec {daemon} \"$@\"\n"),
    };
    fs::write(farm.bin().join("distccd"), wrapper).expect("our own file");
    rustix::fs::chmod(farm.bin().join("distccd"), rustix::fs::Mode::RWXU).expect("our own file");
    farm
}

fn calls(farm: &Farm) -> Vec<String> {
    let text = fs::read_to_string(farm.work().join("calls")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn build(farm: &Farm, options: &str) -> usize {
    let more = vec![("DISTCC_SSH", "fake-ssh -p 2222".to_owned())];
    let hosts = format!("me@build7/4{options}");
    Build { farm, client: SHIM, hosts, more, flags: &["-O2"] }.check(false)
}

#[test]
fn one_ssh_carries_all_jobs_to_a_daemon_of_ours() {
    let farm = behind_ssh(VOLUNTEER);
    let jobs = build(&farm, ",lzo");
    assert_eq!(farm.total("remote"), jobs as u64, "{}", farm.status());
    assert_eq!(calls(&farm), ["-p 2222 -l me build7 distccd --stdio"]);
    farm.finish();
}

#[test]
fn each_job_has_its_ssh_to_a_daemon_of_stocks() {
    let farm = behind_ssh(DAEMON);
    let jobs = build(&farm, ",lzo,cpp");
    assert_eq!(farm.total("remote"), jobs as u64, "{}", farm.status());
    let calls = calls(&farm);
    assert_eq!(calls[0], "-p 2222 -l me build7 distccd --stdio");
    assert_eq!(calls[1..], vec!["-p 2222 -l me build7 distccd --inetd --enable-tcp-insecure"; jobs]);
    farm.finish();
}

#[test]
fn an_ssh_that_cannot_log_in_is_said_once_and_the_build_goes_on() {
    let farm = behind_ssh(VOLUNTEER);
    fs::write(farm.work().join("a.c"), "int a;\n").expect("our own file");
    let mut command = farm.command(SHIM);
    command.env("DISTCC_SSH", "fake-ssh").env("DISTCC_HOSTS", "@nowhere").args(["gcc", "-c", "a.c"]);
    let outcome = run(command, COMMAND_MAX).expect_success("a compile");
    let stderr = String::from_utf8_lossy(&outcome.stderr);
    assert!(stderr.contains("@nowhere") && stderr.contains("no route to host"), "{stderr}");
    assert!(farm.work().join("a.o").exists());
    farm.finish();
}

#[test]
fn stocks_client_reaches_our_daemon_through_ssh() {
    let farm = behind_ssh(VOLUNTEER);
    let more = vec![("DISTCC_SSH", "fake-ssh".to_owned())];
    let hosts = "@build7/4,lzo".to_owned();
    let jobs = Build { farm: &farm, client: super::CLIENT, hosts, more, flags: &["-O2"] }.check(false);
    assert_eq!(calls(&farm), vec!["build7 distccd --inetd --enable-tcp-insecure"; jobs]);
    super::forget_stocks_files(&farm);
    farm.finish();
}
