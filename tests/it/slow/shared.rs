//! Several clients that want the same compiler on the same volunteer at the same time.

use super::behind_a_line;
use super::line::{Kind, Line};
use crate::farm::{COMMAND_MAX, Farm, Running, SHIM, wait_until};

/// gcc takes some seconds on it.
const OFFICE: Kind = Kind { up: 4_000_000, ..Kind::HOME };

/// A compile of a client of its own, over a line of its own. None has another way than the volunteer.
fn compile(farm: &Farm, line: &Line, client: &str) -> Running {
    let mut command = farm.command(SHIM);
    command.args(["gcc", "-O1", "-c", "a.c", "-o"]).arg(format!("{client}.o"));
    command.env("DISTCC_HOSTS", format!("127.0.0.1:{}/8", line.port)).env("DISTCC_FALLBACK", "0");
    command.env("DISTCC_DIR", farm.another_home(client));
    Running::start(command)
}

fn said(farm: &Farm, client: &str, word: &str) -> String {
    let mut command = farm.command(SHIM);
    command.arg(word).env("DISTCC_DIR", farm.another_home(client));
    String::from_utf8_lossy(&crate::farm::run(command, COMMAND_MAX).stdout).into_owned()
}

fn stop(farm: Farm, clients: &[&str]) {
    for client in clients {
        said(&farm, client, "--stop");
    }
    farm.finish();
}

/// Each of them sent it whole.
#[test]
fn a_compiler_that_three_clients_want_at_once_is_sent_once() {
    let (farm, first, _) = behind_a_line(OFFICE);
    let [second, third] = [0; 2].map(|_| Line::to(farm.volunteers[0].port, OFFICE));
    std::fs::write(farm.work().join("a.c"), "int f(void) { return 1; }\n").expect("our own file");
    let mut running = vec![compile(&farm, &first, "first")];
    wait_until("it is on its way", COMMAND_MAX, || first.up() > 1_000_000);
    running.push(compile(&farm, &second, "second"));
    running.push(compile(&farm, &third, "third"));
    // The others see it come, too.
    wait_until("it is seen", COMMAND_MAX, || {
        said(&farm, "second", "--status").contains("a compiler is on its way there: ")
    });
    for compile in running {
        compile.finish(COMMAND_MAX).expect_success("a compile");
    }
    let up = [&first, &second, &third].map(Line::up);
    println!("bytes up: {up:?}");
    assert!(up[0] > 5_000_000 && up[1] < 500_000 && up[2] < 500_000, "{up:?}");
    stop(farm, &["first", "second", "third"]);
}

#[test]
fn a_client_that_stops_sending_a_compiler_does_not_hold_up_another() {
    let (farm, first, _) = behind_a_line(OFFICE);
    let second = Line::to(farm.volunteers[0].port, Kind { up: 1 << 30, ..OFFICE });
    std::fs::write(farm.work().join("a.c"), "int f(void) { return 1; }\n").expect("our own file");
    let held = compile(&farm, &first, "first");
    wait_until("it is on its way", COMMAND_MAX, || first.up() > 1_000_000);
    // The line, and not the broker: a shim gives up a broker that stands still when it looks after it, each 5 s.
    first.hold(true);
    let quick = compile(&farm, &second, "second");
    wait_until("another sends it", COMMAND_MAX, || second.up() > 5_000_000);
    first.hold(false);
    quick.finish(COMMAND_MAX).expect_success("a compile");
    println!("bytes up: {} {}", first.up(), second.up());
    held.finish(COMMAND_MAX).expect_success("a compile");
    stop(farm, &["first", "second"]);
}

/// It waited for its own copy, which crawled over its line, when all of the compiler had long been there.
#[test]
fn a_slow_client_has_its_compiler_when_a_quick_one_has_brought_it() {
    let slow = Kind { up: 300_000, ..Kind::HOME };
    let (farm, first, _) = behind_a_line(slow);
    let second = Line::to(farm.volunteers[0].port, OFFICE);
    std::fs::write(farm.work().join("a.c"), "int f(void) { return 1; }\n").expect("our own file");
    let waiting = compile(&farm, &first, "first");
    wait_until("it is on its way", COMMAND_MAX, || first.up() > 200_000);
    compile(&farm, &second, "second").finish(COMMAND_MAX).expect_success("a compile");
    waiting.finish(COMMAND_MAX).expect_success("a compile");
    println!("bytes up: {} {}", first.up(), second.up());
    // All of it takes three quarters of a minute on that line.
    assert!(first.up() < 9_000_000, "{}", first.up());
    stop(farm, &["first", "second"]);
}
