//! Users of one machine: each has a broker of its own, and a daemon that a user starts knows that user's
//! client. Where root runs the tests, the users are others than root; else both are whoever runs them, and
//! what one could do to the other is seen from modes.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Signal, geteuid};

use crate::farm::{COMMAND_MAX, Farm, Outcome, SHIM, VOLUNTEER, run, signal_pid, wait_until};

const ANN: u32 = 54_321;
const BOB: u32 = 54_322;

/// A machine with programs that everybody may run, and a place for temporary files that all share.
struct Machine {
    farm: Farm,
    top: PathBuf,
}

impl Machine {
    fn new() -> Self {
        let farm = Farm::new(0);
        let top = farm.work().join("machine");
        for (path, mode) in
            [(farm.work(), 0o755), (top.clone(), 0o755), (top.join("bin"), 0o755), (top.join("tmp"), 0o1777)]
        {
            fs::create_dir_all(&path).expect("our own folder");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("our own folder");
        }
        fs::set_permissions(farm.work().parent().expect("a folder"), fs::Permissions::from_mode(0o755))
            .expect("our own folder");
        for program in [SHIM, VOLUNTEER, env!("CARGO_BIN_EXE_distcc-broker")] {
            let name = Path::new(program).file_name().expect("a name");
            fs::copy(program, top.join("bin").join(name)).expect("a copy");
        }
        Machine { farm, top }
    }

    fn home(&self, user: u32) -> PathBuf {
        let home = self.top.join(format!("home{user}"));
        if !home.exists() {
            fs::create_dir(&home).expect("our own folder");
            fs::write(home.join("a.c"), "int a;\n").expect("our own file");
            let owner = geteuid().is_root().then_some(user);
            chown(&home, owner, owner).expect("root may");
        }
        home
    }

    /// A command of a user, at home.
    fn command(&self, user: u32, program: &str, hosts: &str) -> Command {
        let program = self.top.join("bin").join(program);
        let mut command = Command::new(&program);
        if geteuid().is_root() {
            command = Command::new("setpriv");
            let user = user.to_string();
            command.args(["--reuid", &user, "--regid", &user, "--clear-groups"]).arg(program);
        }
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.home(user));
        command.env("TMPDIR", self.top.join("tmp")).env("DISTCC_HOSTS", hosts).env("DISTCC_CACHE", "off");
        command.env("DISTCC_IDLE_TIMEOUT", "60").current_dir(self.home(user)).stdin(Stdio::null());
        command
    }

    fn distcc(&self, user: u32, hosts: &str, words: &[&str]) -> Outcome {
        let mut command = self.command(user, "distcc", hosts);
        command.args(words);
        run(command, COMMAND_MAX)
    }

    fn status(&self, user: u32) -> serde_json::Value {
        serde_json::from_slice(&self.distcc(user, "", &["--status=json"]).stdout).unwrap_or_default()
    }

    /// Where a user's broker is by default.
    fn place(&self, user: u32) -> PathBuf {
        let user = if geteuid().is_root() { user } else { geteuid().as_raw() };
        self.top.join(format!("tmp/distcc-{user}"))
    }

    fn finish(self) {
        for user in [ANN, BOB] {
            if self.top.join(format!("home{user}")).exists() {
                self.distcc(user, "", &["--stop"]);
            }
        }
        wait_until("the brokers end", COMMAND_MAX, || self.farm.brokers().is_empty());
        self.farm.finish();
    }
}

#[test]
fn two_users_have_brokers_of_their_own_and_neither_can_use_see_or_stop_the_others() {
    let machine = Machine::new();
    let users = if geteuid().is_root() { vec![ANN, BOB] } else { vec![ANN] };
    for user in &users {
        machine.distcc(*user, "127.0.0.1:1", &["gcc", "-c", "a.c"]).expect_success("a compile");
        assert_eq!(machine.status(*user)["totals"]["local"], 1, "{}", machine.status(*user));
        let place = fs::metadata(machine.place(*user)).expect("a broker's folder");
        assert_eq!(place.mode() & 0o777, 0o700);
        let socket = fs::metadata(machine.place(*user).join("broker.sock")).expect("a socket");
        assert_eq!(socket.mode() & 0o777, 0o600);
    }
    if geteuid().is_root() {
        let pids = users.iter().map(|user| machine.status(*user)["pid"].clone()).collect::<Vec<_>>();
        assert_ne!(pids[0], pids[1]);
        // Even by name, and even where the folder can be entered, Bob gets nothing of Ann's broker.
        fs::set_permissions(machine.place(ANN), fs::Permissions::from_mode(0o755)).expect("root may");
        for (words, expected) in [(&["--status"][..], 3), (&["--stop"], 0)] {
            let mut command = machine.command(BOB, "distcc", "");
            let outcome = run(
                {
                    command.env("DISTCC_DIR", machine.place(ANN)).args(words);
                    command
                },
                COMMAND_MAX,
            );
            assert_eq!(outcome.status.code(), Some(expected), "{outcome:?}");
            assert!(String::from_utf8_lossy(&outcome.stdout).contains("no broker is running"), "{outcome:?}");
        }
        assert_eq!(machine.status(ANN)["pid"], pids[0], "it was stopped");
        machine.distcc(BOB, "", &["--stop"]).expect_success("--stop");
        wait_until("Bob's broker ends", COMMAND_MAX, || machine.status(BOB)["pid"].is_null());
        assert_eq!(machine.status(ANN)["pid"], pids[0], "it was the wrong one");
    }
    machine.finish();
}

#[test]
fn a_place_that_another_user_has_prepared_is_not_used() {
    if !geteuid().is_root() {
        // One user cannot prepare a folder of another's; a folder that others may write to is as bad.
        let machine = Machine::new();
        fs::create_dir(machine.place(ANN)).expect("our own folder");
        fs::set_permissions(machine.place(ANN), fs::Permissions::from_mode(0o777)).expect("our own folder");
        machine.distcc(ANN, "127.0.0.1:1", &["gcc", "-c", "a.c"]).expect_success("a compile");
        assert!(!machine.place(ANN).join("broker.sock").exists());
        return machine.finish();
    }
    let machine = Machine::new();
    let place = machine.place(ANN);
    fs::create_dir(&place).expect("our own folder");
    let trap = UnixListener::bind(place.join("broker.sock")).expect("a socket");
    trap.set_nonblocking(true).expect("a socket");
    for path in [place.clone(), place.join("broker.sock")] {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("root may");
        chown(&path, Some(BOB), Some(BOB)).expect("root may");
    }
    machine.distcc(ANN, "127.0.0.1:1", &["gcc", "-c", "a.c"]).expect_success("a compile");
    assert!(machine.home(ANN).join("a.o").exists());
    // It may have looked who listens there; it told nothing.
    while let Ok((mut caller, _)) = trap.accept() {
        let mut told = Vec::new();
        caller.read_to_end(&mut told).ok();
        assert_eq!(told, b"", "a broker of somebody else was asked");
    }
    machine.finish();
}

#[test]
fn a_daemon_that_a_user_starts_knows_that_users_client_and_no_other() {
    let machine = Machine::new();
    let port_file = machine.home(ANN).join("port");
    let mut daemon = machine.command(ANN, "distccd", "");
    daemon.args(["--no-detach", "--listen", "127.0.0.1", "--port", "0", "--max-load", "100000"]);
    daemon.arg("--port-file").arg(&port_file).arg("--temp-dir").arg(machine.home(ANN));
    daemon.arg("--log-file").arg(machine.home(ANN).join("log"));
    let mut child = daemon.spawn().expect("distccd can be started");
    wait_until("it serves", COMMAND_MAX, || port_file.exists());
    let port = fs::read_to_string(&port_file).expect("a port");
    let hosts = format!("127.0.0.1:{}", port.trim());
    let compile = |user: u32| {
        let mut command = machine.command(user, "distcc", &hosts);
        command.args(["gcc", "-c", "a.c"]);
        run(command, COMMAND_MAX).expect_success("a compile")
    };
    compile(ANN);
    assert_eq!(machine.status(ANN)["totals"]["remote"], 1, "{}", machine.status(ANN));
    if geteuid().is_root() {
        let said = String::from_utf8_lossy(&compile(BOB).stderr).into_owned();
        assert!(said.contains("a key that is not known here"), "{said}");
        assert_eq!(machine.status(BOB)["totals"]["remote"], 0, "{}", machine.status(BOB));
    }
    signal_pid(child.id(), Signal::TERM);
    wait_until("the daemon ends", Duration::from_secs(20), || {
        child.try_wait().is_ok_and(|end| end.is_some())
    });
    machine.finish();
}
