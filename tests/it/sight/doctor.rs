//! `distcc --doctor`: set-ups that are broken, each in its own way, and one that is not.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use rustix::process::Signal;

use super::old::OldVolunteer;
use crate::farm::{COMMAND_MAX, Farm, SHIM, VolunteerOptions, run, wait_until};

/// A doctor waits for test compiles of three compilers.
const DOCTOR_MAX: Duration = Duration::from_secs(180);

/// What the doctor says to this farm's client, with these variables.
fn doctor(farm: &Farm, change: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = farm.command(SHIM);
    command.arg("--doctor").envs(change.iter().copied());
    let outcome = run(command, DOCTOR_MAX);
    let text = String::from_utf8_lossy(&outcome.stdout).into_owned();
    (outcome.status.code(), text + &String::from_utf8_lossy(&outcome.stderr))
}

/// Fails the test unless a cross says `what`, and its mend `mend`.
fn names(said: &(Option<i32>, String), what: &str, mend: &str) {
    let (status, text) = said;
    assert_eq!(*status, Some(1), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    let found = lines.windows(2).any(|pair| {
        pair[0].starts_with('✗')
            && pair[0].contains(what)
            && pair[1].contains("mend: ")
            && pair[1].contains(mend)
    });
    assert!(found, "no cross says {what:?} with the mend {mend:?}:\n{text}");
}

fn with(options: &VolunteerOptions) -> Farm {
    Farm::with(std::slice::from_ref(options))
}

#[test]
fn a_farm_that_is_well_has_ticks_only() {
    let farm = Farm::new(1);
    let (status, text) = doctor(&farm, &[]);
    assert_eq!(status, Some(0), "{text}");
    for what in [
        "socket",
        "lock",
        "ulimits",
        "PATH",
        "hosts list",
        "slots",
        "connected in",
        "handshake",
        "clock",
        "sandbox",
        "same byte for byte",
        "round trip",
        "bandwidth",
    ] {
        assert!(
            text.lines().any(|line| line.starts_with('✓') && line.contains(what)),
            "no tick for {what}:\n{text}"
        );
    }
    assert!(!text.contains('✗'), "{text}");
    farm.finish();
}

#[test]
fn wrong_port() {
    let mut farm = Farm::new(0);
    farm.more_hosts.push("127.0.0.1:1/2".to_owned());
    names(&doctor(&farm, &[]), "Connection refused", "correct the port");
    farm.finish();
}

#[test]
fn volunteer_down() {
    let mut farm = Farm::new(1);
    farm.volunteers[0].signal(Signal::KILL);
    let port = farm.volunteers[0].port;
    wait_until("the port is closed", COMMAND_MAX, || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err()
    });
    names(&doctor(&farm, &[]), "the volunteer is down", "systemctl start distccd");
    farm.finish();
}

#[test]
fn wrong_key() {
    let farm = Farm::new(1);
    fs::remove_file(farm.home().join("keys/known_volunteers")).expect("our own list");
    names(&doctor(&farm, &[]), "key that is not known", "distccd --pair");
    farm.finish();
}

#[test]
fn old_version() {
    let mut farm = Farm::new(0);
    let old = OldVolunteer::start(&farm);
    farm.more_hosts.push(format!("127.0.0.1:{}/2", old.port));
    names(&doctor(&farm, &[]), "speaks protocol", "old version");
    farm.finish();
}

#[test]
fn no_toolchain() {
    let farm =
        with(&VolunteerOptions { bare: true, more: &["--sandbox", "off"], ..VolunteerOptions::default() });
    names(&doctor(&farm, &[]), "gcc: toolchain", "install this machine's version of gcc");
    farm.finish();
}

#[test]
fn full_disk() {
    let farm =
        with(&VolunteerOptions { more: &["--min-free-disk", "1000000000"], ..VolunteerOptions::default() });
    names(&doctor(&farm, &[]), "disk:", "df -h");
    farm.finish();
}

#[test]
fn hosts_typo() {
    let farm = Farm::new(0);
    let said = doctor(&farm, &[("DISTCC_HOSTS", "build7:36x2/4")]);
    names(&said, "hosts list", "correct the word");
    let said = doctor(&farm, &[("DISTCC_HOSTS", "no-such-host.invalid")]);
    names(&said, "name resolution", "getent hosts");
    farm.finish();
}

#[test]
fn masquerade_loop() {
    let farm = Farm::new(1);
    let script = farm.bin().join("gcc");
    fs::write(&script, format!("#!/bin/sh\nexec {SHIM} gcc \"$@\"\n")).expect("our own file");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("our own file");
    names(&doctor(&farm, &[]), "masquerade loop", "rm ");
    farm.finish();
}

#[test]
fn ccache_first() {
    let farm = Farm::new(1);
    let distcc = farm.work().join("masquerade");
    fs::create_dir(&distcc).expect("our own directory");
    symlink(SHIM, distcc.join("gcc")).expect("our own link");
    let ccache = farm.work().join("ccache");
    fs::create_dir(&ccache).expect("our own directory");
    symlink("/usr/bin/ccache", ccache.join("gcc")).expect("our own link");
    let path = std::env::var("PATH").expect("PATH");
    let path = format!("{}:{}:{path}", ccache.display(), distcc.display());
    let said = doctor(&farm, &[("PATH", &path)]);
    names(&said, "stands before distcc", "CCACHE_PREFIX=distcc");
    farm.finish();
}

#[test]
fn no_user_namespaces() {
    // In a user namespace that may have none below it; what follows the script is a comment.
    let setup =
        "exec unshare -Ur sh -c 'echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"' sh \"$@\" #";
    let farm = with(&VolunteerOptions { setup: Some(setup), ..VolunteerOptions::default() });
    names(&doctor(&farm, &[]), "no user namespaces", "user.max_user_namespaces");
    farm.finish();
}

#[test]
fn clock_off_by_a_day() {
    let setup = "export LD_PRELOAD=$(faketime -f +1d printenv LD_PRELOAD) FAKETIME=+1d DONT_FAKE_MONOTONIC=1";
    let farm = with(&VolunteerOptions { setup: Some(setup), ..VolunteerOptions::default() });
    names(&doctor(&farm, &[]), "clock: 2", "timedatectl");
    farm.finish();
}

#[test]
fn ulimit_64() {
    let farm = Farm::new(1);
    let mut command = farm.command("sh");
    command.args(["-c", "ulimit -n 64 && exec \"$0\" --doctor", SHIM]);
    let outcome = run(command, DOCTOR_MAX);
    let text = String::from_utf8_lossy(&outcome.stdout).into_owned();
    names(&(outcome.status.code(), text), "only 64 open files", "ulimit -n 4096");
    farm.finish();
}
