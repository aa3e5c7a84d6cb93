//! What of this machine a build through distcc needs.

use std::os::unix::fs::MetadataExt;

use rustix::process::{Resource, getrlimit};

use super::AskReport;
use super::check::Check;
use crate::broker::config::places;
use crate::common::hosts::HostList;
use crate::common::invocation::Invocation;

/// Fewer open files than this are too few for a broker of some dozen jobs: each may need a handful.
const FILES_MIN: u64 = 1024;

/// The broker's directory, socket and lock.
pub fn place(around: &Invocation, report: AskReport<'_>) -> Vec<Check> {
    let mut checks = Vec::new();
    if around.variable("DISTCC_BROKER") == Some(b"off") {
        checks.push(
            Check::bad("broker", "DISTCC_BROKER=off is set: every compile runs here and asks nobody")
                .mend("unset DISTCC_BROKER"),
        );
    }
    let Some(place) = places().into_iter().next() else {
        return vec![
            Check::bad("socket", "there is no place for the broker's socket")
                .mend("export DISTCC_DIR=$HOME/.distcc"),
        ];
    };
    let directory = place.directory.as_path().display().to_string();
    let uid = rustix::process::geteuid().as_raw();
    match std::fs::metadata(place.directory.as_path()) {
        Ok(found) if found.uid() != uid => checks.push(
            Check::bad("socket", &format!("{directory} belongs to user {}", found.uid()))
                .mend("export DISTCC_DIR to a directory of your own"),
        ),
        Ok(found) if found.mode() & 0o022 != 0 && found.is_dir() => checks.push(
            Check::bad("socket", &format!("others can write into {directory}"))
                .mend(&format!("chmod 700 {directory}")),
        ),
        Ok(_) => checks.push(Check::good("socket", &format!("{directory} is yours alone"))),
        Err(_) => checks.push(Check::good("socket", &format!("{directory} is made by the first compile"))),
    }
    checks.push(match report() {
        Some(report) => {
            Check::good("lock", &format!("one broker runs, version {} (pid {})", report.version, report.pid))
        }
        None => Check::good("lock", "no broker runs; the first compile starts one"),
    });
    checks
}

/// What the kernel lets this user's processes have.
pub fn limits(report: AskReport<'_>) -> Vec<Check> {
    let own = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let broker = report().and_then(|report| files_of(report.pid));
    let mut checks = vec![files("here", own)];
    checks.extend(broker.filter(|files| *files < FILES_MIN).map(|broker| Check {
        mend: Some("distcc --stop; the next compile starts another, with this shell's limit".to_owned()),
        ..files("for the broker that runs", broker)
    }));
    checks
}

fn files(whose: &str, files: u64) -> Check {
    match files {
        u64::MAX => Check::good("ulimits", "any number of open files"),
        FILES_MIN.. => Check::good("ulimits", &format!("{files} open files {whose}")),
        _ => Check::bad(
            "ulimits",
            &format!("only {files} open files {whose}: compiles would wait for each other or run here"),
        )
        .mend("ulimit -n 4096 before the build; for good, a nofile line in /etc/security/limits.conf"),
    }
}

/// The open files that a process may have (`/proc/PID/limits`).
fn files_of(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The hosts list: what reads otherwise than it was meant, and whether it offers more than this machine.
pub fn list(name: &str, list: &HostList) -> Vec<Check> {
    let mut checks: Vec<Check> = list
        .odd
        .iter()
        .map(|odd| {
            Check::bad("hosts list", &format!("{name}: {odd}")).mend(&format!("correct the word in {name}"))
        })
        .collect();
    let unusable = list.hosts.iter().filter(|host| !host.is_usable());
    checks.extend(unusable.map(|host| {
        match host.down {
            true => Check::good("hosts list", &format!("{} is listed as down, and left out", host.token)),
            false => Check::bad("hosts list", &format!("{}: GSSAPI is not spoken here", host.token))
                .mend("take ,auth away, or reach it by ssh: @host"),
        }
    }));
    let usable = list.hosts.iter().filter(|host| host.is_usable()).count();
    if usable == 0 {
        checks.push(
            Check::bad("hosts list", &format!("{name} names no volunteer that can be used"))
                .mend("export DISTCC_HOSTS='build7 build8/16'"),
        );
        return checks;
    }
    checks.push(Check::good("hosts list", &format!("{name} names {usable} volunteers")));
    let slots: u32 =
        list.hosts.iter().filter(|host| host.is_usable()).fold(0, |sum, host| sum.saturating_add(host.slots));
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    let found = format!(
        "{slots} slots listed, {cores} processors here: build with -j{}",
        slots.saturating_add(cores)
    );
    checks.push(Check::good("slots", &found));
    checks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::hosts::parse;

    #[test]
    fn few_open_files_are_told_with_the_command_that_mends_it() {
        assert!(
            !files("here", 64).good && files("here", 64).mend.is_some_and(|mend| mend.contains("ulimit -n"))
        );
        assert!(files("here", 4096).good && files("here", u64::MAX).good);
        assert!(files_of(std::process::id()).is_some_and(|files| files > 0));
    }

    #[test]
    fn a_list_without_a_host_to_use_is_no_list() {
        let bad = |text: &str| {
            let list = parse(text.as_bytes()).expect("a list");
            super::list("$DISTCC_HOSTS", &list).iter().filter(|check| !check.good).count()
        };
        assert_eq!([bad("build7/4"), bad("build7,down"), bad("localhost/2"), bad("a,auth b")], [0, 1, 1, 1]);
    }
}
