//! One volunteer, from its name to a test compile.

use std::net::{TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::AskReport;
use super::check::Check;
use super::trial::{Bench, Trial};
use crate::broker::link::transport::Address;
use crate::broker::status::HostReport;
use crate::broker::status::render::{bytes, round_trip};
use crate::common::hosts::{Host, Transport};
use crate::common::protocol::link::PING_INTERVAL;

/// How long a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(4);

/// The longest back-off that is waited for, so that a host that is well again is found well.
const BACK_OFF_MAX: Duration = Duration::from_secs(20);

/// A clock that is off by more makes dates of files and of logs lie, and hints at a machine that
/// nobody looks after.
const CLOCK_MAX_S: i64 = 60;

/// Bytes that do not compress, to see how fast they travel.
const LOAD_BYTES: usize = 4 << 20;

/// Looks at one volunteer.
pub fn examine(
    host: &Host,
    compilers: &[(&'static str, PathBuf)],
    report: AskReport<'_>,
    tell: &mut dyn FnMut(Check),
) {
    let name = address(host);
    if matches!(host.transport, Transport::Tcp) && !reach(host, &name, tell) {
        return;
    }
    let mut bench = match Bench::new() {
        Ok(bench) => bench,
        Err(why) => {
            return tell(
                Check::bad(&name, &format!("there is no room for a test compile here: {why}"))
                    .mend("df -h ${TMPDIR:-/tmp}"),
            );
        }
    };
    wait_for_back_off(&name, report);
    let token = host.token.to_text();
    let mut met = false;
    for (compiler, file) in compilers {
        let trial = bench.compile(&token, file, 0);
        let known = report().and_then(|report| report.hosts.into_iter().find(|known| known.host == name));
        if !met {
            met = true;
            if !handshake(&name, known.as_ref(), &trial, tell) {
                return;
            }
        }
        tell(toolchain(&name, compiler, &trial, known.as_ref()));
    }
    if let Some((_, compiler)) = compilers.first() {
        measure(&name, &token, compiler, &mut bench, report, tell);
    }
}

fn address(host: &Host) -> String {
    Address::of(host, &[]).to_string()
}

/// Its name is known and its port is open.
fn reach(host: &Host, name: &str, tell: &mut dyn FnMut(Check)) -> bool {
    let addresses = match (host.name.as_str(), host.port).to_socket_addrs() {
        Ok(addresses) => addresses.collect::<Vec<_>>(),
        Err(error) => {
            tell(Check::bad(name, &format!("name resolution: {error}")).mend(&format!(
                "getent hosts {}; correct the name in the hosts list, or add it to /etc/hosts",
                host.name
            )));
            return false;
        }
    };
    let mut last = "it has no address".to_owned();
    for address in &addresses {
        let start = Instant::now();
        match TcpStream::connect_timeout(address, CONNECT_MAX) {
            Ok(_) => {
                let took = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
                tell(Check::good(name, &format!("{address} answers, connected in {}", round_trip(took))));
                return true;
            }
            Err(error) => last = format!("{address}: {error}"),
        }
    }
    tell(Check::bad(name, &format!("connection: {last}: the volunteer is down, or listens on another port")).mend(&format!(
        "on {}: systemctl start distccd, or distccd --daemon --port {}; else correct the port in the hosts list",
        host.name, host.port
    )));
    false
}

fn wait_for_back_off(name: &str, report: AskReport<'_>) {
    let until = Instant::now() + BACK_OFF_MAX;
    let left = || report()?.hosts.into_iter().find(|known| known.host == name).map(|known| known.back_off_ms);
    while let Some(wait @ 1..) = left().filter(|_| Instant::now() < until) {
        std::thread::sleep(Duration::from_millis(wait.min(500)));
    }
}

/// It speaks our protocol, its clock is right, it takes jobs, and how.
fn handshake(name: &str, known: Option<&HostReport>, trial: &Trial, tell: &mut dyn FnMut(Check)) -> bool {
    let Some(known) = known else {
        let why = match trial {
            Trial::Failed(why) => why.clone(),
            _ => "no broker could be asked".to_owned(),
        };
        tell(Check::bad(name, &why).mend("distcc --status; ls -l the directory of the socket"));
        return false;
    };
    if !["up", "paused", "backed-off"].contains(&known.state.as_str())
        || (known.state == "backed-off" && known.link == "none")
    {
        tell(handshake_failed(name, &known.why));
        return false;
    }
    tell(Check::good(
        name,
        &format!("handshake: speaks our protocol ({}, security {})", known.link, known.security),
    ));
    if let Some(off) = known.clock_offset_s {
        tell(clock(name, off));
    }
    if known.slots == 0 && known.link != "tcp classic" {
        tell(no_slots(name, &known.why));
        return false;
    }
    tell(Check::good(name, &format!("slots: grants {} of ours", known.slots)));
    tell(sandbox(name, known));
    true
}

fn handshake_failed(name: &str, why: &str) -> Check {
    let shown = if why.is_empty() { "not made yet" } else { why };
    let check = Check::bad(name, &format!("handshake: {shown}"));
    let of_this_machine = ["client.key", "No space left", "Read-only file system"];
    let mend = if why.is_empty() {
        "once more in a moment; if it stays so, is distccd running there, and not stopped?"
    } else if of_this_machine.iter().any(|word| why.contains(word)) {
        "here: see to the file or folder that is named; distcc --key then says whether this machine has its key"
    } else if why.contains("speaks protocol") {
        "old version: install the same version of distcc on both machines, and restart distccd there"
    } else if why.contains("key") || why.contains("trust") || why.contains("authoris") {
        "on the volunteer: distccd --pair; then here: distcc --pair CODE, with the code that it prints"
    } else {
        "on the volunteer: journalctl -u distccd, or its --log-file, says why it closed the connection; a distccd of 3.4 must --allow this machine"
    };
    check.mend(mend)
}

fn clock(name: &str, off: i64) -> Check {
    let check = |good, found: String| if good { Check::good(name, &found) } else { Check::bad(name, &found) };
    let seconds = off.unsigned_abs();
    match off.abs() {
        0..=CLOCK_MAX_S => check(true, format!("clock: within {} s of this machine's", seconds.max(1))),
        _ => {
            let way = if off > 0 { "ahead of" } else { "behind" };
            let hours = seconds / 3600;
            check(false, format!("clock: {hours} h {} min {way} this machine's", seconds % 3600 / 60))
                .mend("on whichever is wrong: timedatectl set-ntp true")
        }
    }
}

fn no_slots(name: &str, why: &str) -> Check {
    let check = Check::bad(
        name,
        &format!("slots: it takes no jobs: {}", if why.is_empty() { "it does not say why" } else { why }),
    );
    if why.starts_with("paused") {
        check.mend("its owner has paused it: distccd --resume there, or SIGUSR2, or the button of its page")
    } else if why.starts_with("disk") {
        check.mend(
            "on the volunteer: df -h of its --temp-dir; make room there, or choose another with --temp-dir",
        )
    } else if why.starts_with("memory") {
        check.mend("on the volunteer: free -m; fewer slots with --jobs")
    } else {
        check.mend("on the volunteer: look at its log")
    }
}

fn sandbox(name: &str, known: &HostReport) -> Check {
    match known.hermetic {
        Some(false) if known.link.ends_with("classic") => {
            Check::good(name, "sandbox: none that is known of, it speaks the classic protocol; takes preprocessed texts")
        }
        Some(false) => Check::bad(name, &format!("sandbox: no user namespaces, so it takes preprocessed texts only: {}", known.sandbox))
            .mend("on the volunteer: sysctl -w user.max_user_namespaces=15000 kernel.unprivileged_userns_clone=1, not --sandbox off; in a container: run it with --privileged; restart distccd"),
        _ => Check::good(name, &format!("sandbox: {}", known.sandbox)),
    }
}

fn toolchain(name: &str, compiler: &str, trial: &Trial, known: Option<&HostReport>) -> Check {
    match trial {
        Trial::Equal { took } => Check::good(
            name,
            &format!("{compiler}: a test compile there is the same byte for byte ({} ms)", took.as_millis()),
        ),
        Trial::Different => Check::bad(
            name,
            &format!("{compiler}: a test compile there gives another object than here"),
        )
        .mend(&format!(
            "take {name} out of the hosts list, and report this: distcc --explain of the command helps"
        )),
        Trial::Failed(why) => {
            let refused = known.is_some_and(|known| known.refused_toolchains > 0);
            let check =
                Check::bad(name, &format!("{compiler}: toolchain: a test compile is not done there: {why}"));
            if known.is_some_and(|known| matches!(&known.hold[..], "drained" | "excluded")) {
                return check.mend(&format!("distcc --use {name} lets it have jobs again"));
            }
            if why.contains("--store-size") {
                return check.mend("start distccd there with a larger --store-size");
            }
            if why.contains("disk is too full") {
                return check.mend("make room on its disk, where its --temp-dir is");
            }
            match refused || why.contains("toolchain") || why.contains("no compiler") {
                true => check.mend(&format!("no toolchain: install this machine's version of {compiler} there, or let it make user namespaces, so that compilers can be sent")),
                false => check.mend("distcc --status tells what the host says; so does its log"),
            }
        }
    }
}

/// Round trip and bandwidth.
fn measure(
    name: &str,
    token: &str,
    compiler: &std::path::Path,
    bench: &mut Bench,
    report: AskReport<'_>,
    tell: &mut dyn FnMut(Check),
) {
    let sent = || {
        report()?
            .hosts
            .into_iter()
            .find(|known| known.host == name)
            .map(|known| (known.bytes_sent, known.round_trip_us, known.link.contains("classic")))
    };
    let Trial::Equal { took: small } = bench.compile(token, compiler, 0) else { return };
    let before = sent();
    let Trial::Equal { took: large } = bench.compile(token, compiler, LOAD_BYTES) else { return };
    let Some(((before, ..), (after, mut trip, is_classic))) = before.zip(sent()) else { return };
    // A link that has just come up is measured by its next ping.
    let until = Instant::now() + PING_INTERVAL * 2;
    while trip.is_none() && !is_classic && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
        trip = sent().and_then(|(_, trip, _)| trip);
    }
    if let Some(trip) = trip {
        tell(Check::good(name, &format!("round trip: {}", round_trip(trip))));
    }
    let (load, more) =
        (after.saturating_sub(before), large.saturating_sub(small).max(Duration::from_millis(1)));
    if load < LOAD_BYTES as u64 / 4 {
        // What travels as a text is without the comment that makes it long.
        return;
    }
    let rate = (load as f64 / more.as_secs_f64()) as u64;
    let found = format!("bandwidth: at least {} a second", bytes(rate));
    // A preprocessed unit of C++ is some megabytes: on a slower line it takes longer than the compile.
    tell(if rate > 100 << 10 {
        Check::good(name, &found)
    } else {
        Check::bad(name, &found)
            .mend("a line this slow helps large files only: list the host last, with few slots")
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_volunteer_says_leads_to_its_mend() {
        let mend = |check: Check| check.mend.unwrap_or_default();
        assert!(mend(handshake_failed("a", "speaks protocol 1, this broker 3")).starts_with("old version"));
        assert!(mend(handshake_failed("a", "has another key than is known here")).contains("distccd --pair"));
        assert!(mend(handshake_failed("a", "client.key is no secret key")).starts_with("here: "));
        assert!(handshake_failed("a", "").found.ends_with("not made yet"));
        assert!(mend(handshake_failed("a", "closed the connection")).contains("--allow"));
        assert!(mend(no_slots("a", "disk: 1 MiB free")).contains("df -h"));
        assert!(mend(no_slots("a", "paused by its owner")).contains("--resume"));
        assert!(clock("a", -3).good && !clock("a", 86_400).good && !clock("a", -86_400).good);
        assert_eq!(clock("a", 86_460).found, "clock: 24 h 1 min ahead of this machine's");
        let texts = HostReport { hermetic: Some(false), link: "tcp".to_owned(), ..HostReport::default() };
        assert!(!sandbox("a", &texts).good);
        let drained = HostReport { hold: "drained".to_owned(), ..HostReport::default() };
        let trial = Trial::Failed("every host is excluded".to_owned());
        assert!(mend(toolchain("a", "gcc", &trial, Some(&drained))).starts_with("distcc --use a"));
        let stock = HostReport { link: "tcp classic".to_owned(), ..texts };
        assert!(sandbox("a", &stock).good);
    }
}
