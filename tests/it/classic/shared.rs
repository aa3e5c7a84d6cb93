//! One `DISTCC_DIR` for clients of distcc 3.4 and for ours: slots are shared, and each sees what the
//! other runs.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::fs::{FileType, Mode, mknodat};

use super::{CLIENT, StockDaemon};
use crate::farm::{COMMAND_MAX, Farm, Running, SHIM, names, run, wait_until};

/// The longest that anything here may take to become visible.
const VISIBLE_MAX: Duration = Duration::from_secs(20);

/// A compiler that a test can hold back: it notes its begin and its end, and while the gate is shut
/// it waits in between.
pub struct Gate(PathBuf);

impl Gate {
    /// An open gate in `directory`, where everybody may write.
    pub fn new(directory: &Path) -> Self {
        let gate = directory.join("gate");
        fs::create_dir(&gate).expect("our own directory");
        fs::set_permissions(&gate, fs::Permissions::from_mode(0o777)).expect("our own directory");
        let script = format!(
            "#!/bin/sh\necho + >> {0}/log\n[ ! -e {0}/shut ] || read _ < {0}/fifo\n\
             PATH=/usr/bin:/bin\n$(basename $0) \"$@\"\ncode=$?\necho - >> {0}/log\nexit $code\n",
            gate.display()
        );
        for name in ["x86_64-linux-gnu-gcc", "gcc"] {
            fs::write(gate.join(name), &script).expect("our own file");
            fs::set_permissions(gate.join(name), fs::Permissions::from_mode(0o755)).expect("our own file");
        }
        let everybody = Mode::from_bits_retain(0o666);
        for (name, kind) in [("fifo", FileType::Fifo), ("log", FileType::RegularFile)] {
            mknodat(rustix::fs::CWD, gate.join(name), kind, everybody, 0).expect("our own file");
            fs::set_permissions(gate.join(name), fs::Permissions::from_mode(0o666)).expect("our own file");
        }
        Gate(gate)
    }

    pub fn directory(&self) -> &Path {
        &self.0
    }

    fn shut(&self) {
        fs::write(self.0.join("shut"), "").expect("our own file");
    }

    fn open(&self) {
        fs::remove_file(self.0.join("shut")).expect("our own file");
        self.wave_through();
    }

    /// Lets those through that wait; one that looked before the gate was opened may still come.
    fn wave_through(&self) {
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        drop(fs::File::options().write(true).custom_flags(flags).open(self.0.join("fifo")));
    }

    fn log(&self) -> String {
        fs::read_to_string(self.0.join("log")).unwrap_or_default()
    }

    /// Compilers that have begun and not ended.
    fn inside(&self) -> usize {
        self.log().matches('+').count() - self.log().matches('-').count()
    }

    /// The most that were ever inside at once.
    fn most(&self) -> usize {
        let step = |(now, most): (usize, usize), sign| match sign {
            '+' => (now + 1, most.max(now + 1)),
            '-' => (now - 1, most),
            _ => (now, most),
        };
        self.log().chars().fold((0, 0), step).1
    }
}

fn compile(farm: &Farm, stock: &StockDaemon, client: &str, name: &str) -> Running {
    fs::write(farm.work().join(format!("{name}.c")), "int a;\n").expect("our own file");
    let mut command = farm.command(client);
    command.env("DISTCC_HOSTS", format!("127.0.0.1:{}/2", stock.port)).env("DISTCC_FALLBACK", "0");
    command.env("DISTCC_PAUSE_TIME_MSEC", "20");
    if client == CLIENT {
        command.env("DISTCC_VERBOSE", "1").env("DISTCC_LOG", farm.work().join(format!("{name}.log")));
    }
    command.args(["gcc", "-c"]).arg(format!("{name}.c"));
    Running::start(command)
}

fn log_of(farm: &Farm, name: &str) -> String {
    fs::read_to_string(farm.work().join(format!("{name}.log"))).unwrap_or_default()
}

fn finish(stock: &StockDaemon, running: Vec<Running>) {
    stock.gate.open();
    let pids: Vec<u32> = running.iter().map(Running::pid).collect();
    let lives = |pid: &u32| Path::new(&format!("/proc/{pid}/stat")).exists() && !is_zombie(*pid);
    wait_until("all compiles have ended", COMMAND_MAX, || {
        stock.gate.wave_through();
        !pids.iter().any(lives)
    });
    for running in running {
        running.finish(COMMAND_MAX).expect_success("a compile");
    }
}

fn is_zombie(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
}

#[test]
fn two_slots_are_never_three_jobs_whoever_comes_first() {
    let stock = StockDaemon::start(8);
    let farm = Farm::new(0);
    for (first, second) in [(CLIENT, SHIM), (SHIM, CLIENT)] {
        stock.gate.shut();
        let mut running: Vec<Running> =
            ["a", "b"].iter().map(|name| compile(&farm, &stock, first, name)).collect();
        wait_until("two compilers run", VISIBLE_MAX, || stock.gate.inside() == 2);
        running.extend(["c", "d"].iter().map(|name| compile(&farm, &stock, second, name)));
        // Stock's client says so when it waits; ours is seen by monitors.
        let waiting = || match second {
            CLIENT => ["c", "d"].iter().all(|name| log_of(&farm, name).contains("sleeping")),
            _ => names(&farm.home().join("state")).len() == 4,
        };
        wait_until("the other two wait", VISIBLE_MAX, waiting);
        finish(&stock, running);
    }
    assert_eq!(stock.gate.most(), 2, "{}", stock.gate.log());
    stock.expect_compiled(8, &farm);
    farm.finish();
}

#[test]
fn monitors_of_stock_and_of_ours_show_our_jobs() {
    let stock = StockDaemon::start(8);
    let farm = Farm::new(0);
    stock.gate.shut();
    let running = vec![compile(&farm, &stock, SHIM, "a_source")];
    wait_until("the compiler runs", VISIBLE_MAX, || stock.gate.inside() == 1);
    let show = |mut monitor: Command| {
        monitor.env("DISTCC_DIR", farm.home());
        String::from_utf8(run(monitor, COMMAND_MAX).expect_success("a monitor").stdout).expect("text")
    };
    let stocks = || show(Command::new("/usr/bin/distccmon-text"));
    wait_until("stock's monitor shows the compile", VISIBLE_MAX, || stocks().contains("Compile"));
    let line = format!("{:6}  Compile     a_source.c", running[0].pid());
    assert!(stocks().starts_with(&line), "{}", stocks());
    let mut ours = farm.command(SHIM);
    ours.arg("--monitor");
    assert_eq!(show(ours).trim_end(), stocks().trim_end());
    finish(&stock, running);
    wait_until("the job is gone from sight", VISIBLE_MAX, || stocks().trim().is_empty());
    farm.finish();
}
