//! A farm on loopback: one user's shim and broker, and volunteers, all in one temporary directory.
//!
//! Every process that belongs to a farm names the farm's directory in its environment, its command
//! line or its working directory. That is how the idle check finds what was left behind, also
//! orphans, without ever touching a process of anybody else.
//!
//! Nothing here sleeps for a fixed time: everything waits on a condition, with a bound.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

mod keys;
mod running;

pub use running::{Outcome, Running, run, wait_until};

/// The shim under test.
pub const SHIM: &str = env!("CARGO_BIN_EXE_distcc");
/// The volunteer's daemon under test.
pub const VOLUNTEER: &str = env!("CARGO_BIN_EXE_distccd");

/// The longest that any one compile or command of these tests may take. Generous, for two busy
/// cores; a hang is what it is there to end.
pub const COMMAND_MAX: Duration = Duration::from_secs(60);

/// The longest that starting, stopping and coming to rest may take.
const SETTLE_MAX: Duration = Duration::from_secs(20);

/// One `distccd` of a farm.
pub struct Volunteer {
    child: Child,
    /// The port that it listens on.
    pub port: u16,
    directory: PathBuf,
    killed: bool,
}

/// How a volunteer is started.
#[derive(Clone, Debug)]
pub struct VolunteerOptions {
    /// Slots (`--jobs`).
    pub jobs: u32,
    /// A shell command that runs first, in a mount namespace of its own, with `$DIR` as the
    /// volunteer's temporary directory.
    pub setup: Option<&'static str>,
    /// More options of distccd.
    pub more: &'static [&'static str],
    /// Without compilers and headers, and without the client's files.
    pub bare: bool,
}

impl Default for VolunteerOptions {
    fn default() -> Self {
        VolunteerOptions { jobs: 8, setup: None, more: &[], bare: false }
    }
}

impl Volunteer {
    fn start(farm: &Path, number: usize, options: &VolunteerOptions) -> Volunteer {
        let directory = farm.join(format!("volunteer{number}"));
        let temporary = directory.join("tmp");
        fs::create_dir_all(&temporary).expect("a directory of our own");
        let port_file = directory.join("port");
        fs::remove_file(&port_file).ok();
        let log = fs::File::create(directory.join("stderr")).expect("a file of our own");
        let mut command = volunteer_command(&temporary, options);
        if options.bare {
            command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/without-compilers"));
            command.arg(VOLUNTEER).env("HIDDEN", farm.join("work"));
        }
        command.args(["--no-detach", "--listen", "127.0.0.1", "--port", "0", "--log-level", "debug"]);
        command.arg("--jobs").arg(options.jobs.to_string());
        // Client and volunteers are one machine here: its load says nothing about a volunteer's.
        command.args(["--nice", "0", "--max-load", "100000"]).args(options.more);
        // Whoever is set up, or has no compilers, is root in a namespace, whatever it is outside.
        if rustix::process::geteuid().is_root() || options.setup.is_some() || options.bare {
            // Else it would give root up, and with it the way into the farm's directory.
            command.args(["--user", "root"]);
        }
        command.arg("--port-file").arg(&port_file).arg("--temp-dir").arg(&temporary);
        command.arg("--log-file").arg(directory.join("log"));
        command.arg("--state-dir").arg(directory.join("state"));
        hermetic(&mut command, farm);
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .spawn()
            .expect("distccd can be started");
        let mut volunteer = Volunteer { child, port: 0, directory, killed: false };
        wait_until("distccd wrote its port file", SETTLE_MAX, || volunteer.read_port(&port_file));
        volunteer
    }

    fn read_port(&mut self, port_file: &Path) -> bool {
        if let Ok(Some(status)) = self.child.try_wait() {
            panic!("distccd ended at once, {status}: {}", self.log());
        }
        let text = fs::read_to_string(port_file).unwrap_or_default();
        self.port = text.trim().parse().unwrap_or(0);
        self.port != 0
    }

    /// Where its keys are.
    pub fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// What it logged, for messages of failed tests.
    pub fn log(&self) -> String {
        ["stderr", "log"]
            .map(|name| fs::read_to_string(self.directory.join(name)).unwrap_or_default())
            .concat()
    }

    /// Sends it a signal.
    pub fn signal(&mut self, signal: Signal) {
        self.killed |= signal == Signal::KILL;
        signal_pid(self.child.id(), signal);
    }

    /// Ends it as a user would.
    fn finish(&mut self) {
        if self.killed {
            self.child.wait().ok();
            return;
        }
        self.signal(Signal::TERM);
        let mut ended = None;
        wait_until("distccd ends on SIGTERM", SETTLE_MAX, || {
            ended = self.child.try_wait().expect("a child can be waited for");
            ended.is_some()
        });
        let ended = ended.expect("it has ended");
        assert!(ended.success(), "distccd ended with {ended} on SIGTERM: {}", self.log());
    }

    /// What it left that is not its store: `distccd-UID/N/{lock,files}`.
    fn left_behind(&self) -> Vec<PathBuf> {
        let temporary = self.directory.join("tmp");
        let below = |path: &PathBuf| names(path).into_iter().map(|name| path.join(name)).collect::<Vec<_>>();
        let daemons = below(&temporary).iter().flat_map(below).collect::<Vec<_>>();
        let strange =
            daemons.iter().flat_map(below).filter(|path| !path.ends_with("lock") && !path.ends_with("files"));
        strange.collect()
    }
}

/// The words that start distccd, with its set-up before it where there is one.
fn volunteer_command(temporary: &Path, options: &VolunteerOptions) -> Command {
    let Some(setup) = options.setup else { return Command::new(VOLUNTEER) };
    let mut command = Command::new("unshare");
    // Without root, a user namespace gives the right to mount in a namespace of one's own.
    command.arg(if rustix::process::geteuid().is_root() { "-m" } else { "-Urm" });
    command.args(["sh", "-c", &format!("{setup} && exec \"$@\""), "sh", VOLUNTEER]);
    command.env("DIR", temporary);
    command
}

/// Gives a command the environment of a farm and nothing of the machine's.
fn hermetic(command: &mut Command, farm: &Path) {
    let kept: Vec<(OsString, OsString)> =
        command.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut with_bin = farm.join("bin").into_os_string();
    with_bin.push(":");
    with_bin.push(path);
    command.env_clear().env("PATH", with_bin).env("HOME", farm).env("TMPDIR", farm.join("tmp"));
    // A result of an earlier test would be no test of anything.
    command.env("DISTCC_CACHE", "off").envs(kept);
}

/// A process of a farm.
pub struct Process {
    /// Its process id.
    pub pid: u32,
    /// The name of its executable, or its first word where that cannot be read.
    pub program: String,
    /// Its whole command line.
    pub command: String,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.pid, self.program, self.command)
    }
}

/// The fixture.
pub struct Farm {
    directory: TempDir,
    /// The volunteers, in the order of the host list.
    pub volunteers: Vec<Volunteer>,
    /// Words of the host list in front of the volunteers.
    pub more_hosts: Vec<String>,
    finished: bool,
}

impl Farm {
    /// A farm with so many volunteers of eight slots each.
    pub fn new(volunteers: usize) -> Farm {
        Farm::with(&vec![VolunteerOptions::default(); volunteers])
    }

    /// A farm with these volunteers.
    pub fn with(volunteers: &[VolunteerOptions]) -> Farm {
        let directory =
            tempfile::Builder::new().prefix("distcc-farm-").tempdir().expect("a temporary directory");
        for name in ["bin", "home", "tmp", "work"] {
            fs::create_dir(directory.path().join(name)).expect("a directory of our own");
        }
        rustix::fs::chmod(directory.path().join("home"), rustix::fs::Mode::RWXU).expect("our own directory");
        let mut farm = Farm { directory, volunteers: Vec::new(), more_hosts: Vec::new(), finished: false };
        for number in 0..volunteers.len() {
            keys::introduce(&farm.home(), &farm.directory.path().join(format!("volunteer{number}/state")));
        }
        for (number, options) in volunteers.iter().enumerate() {
            farm.volunteers.push(Volunteer::start(farm.directory.path(), number, options));
        }
        farm
    }

    /// Where the test's own files go.
    pub fn work(&self) -> PathBuf {
        self.directory.path().join("work")
    }

    /// A directory that is first in `PATH`, for the client and for the volunteers.
    pub fn bin(&self) -> PathBuf {
        self.directory.path().join("bin")
    }

    /// A file of the test's own that nobody else looks at.
    pub fn directory_of_tests(&self, name: &str) -> PathBuf {
        self.directory.path().join("tmp").join(name)
    }

    /// Makes this farm's client and one more volunteer, whose keys are in this folder, know each other.
    pub fn introduce(&self, state: &Path) {
        keys::introduce(&self.home(), state);
    }

    /// Ends a volunteer, lets something happen to its store, and starts it again.
    pub fn restart(&mut self, number: usize, options: &VolunteerOptions, between: impl FnOnce(&Path)) {
        self.volunteers[number].finish();
        between(&self.store(number));
        self.volunteers[number] = Volunteer::start(self.directory.path(), number, options);
    }

    /// The folder of a volunteer in which its store is.
    pub fn store(&self, number: usize) -> PathBuf {
        self.volunteers[number].directory.join("tmp")
    }

    /// The `DISTCC_DIR` of another client of the same user: a broker of its own, the same keys.
    pub fn another_home(&self, name: &str) -> PathBuf {
        let home = self.home().with_file_name(name);
        if fs::create_dir(&home).is_ok() {
            let mut copy = Command::new("cp");
            copy.arg("-a").arg(self.home().join("keys")).arg(home.join("keys"));
            run(copy, COMMAND_MAX).expect_success("a copy of keys");
        }
        home
    }

    /// `$DISTCC_DIR`.
    pub fn home(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    /// The host list: all volunteers, and what the test added.
    pub fn hosts(&self) -> String {
        let own = self.volunteers.iter().map(|volunteer| format!("127.0.0.1:{}/8", volunteer.port));
        self.more_hosts.iter().cloned().chain(own).collect::<Vec<_>>().join(" ")
    }

    /// A command in the farm's environment, in its work directory.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        hermetic(&mut command, self.directory.path());
        command.env("DISTCC_DIR", self.home()).env("DISTCC_HOSTS", self.hosts());
        // A broker that a failing test forgets ends by itself.
        command.env("DISTCC_IDLE_TIMEOUT", "60").current_dir(self.work());
        command
    }

    /// Runs the shim with these words.
    pub fn shim<I: IntoIterator<Item: AsRef<OsStr>>>(&self, words: I) -> Outcome {
        let mut command = self.command(SHIM);
        command.args(words);
        run(command, COMMAND_MAX)
    }

    /// What `distcc --status=json` says; `Null` where no broker answers.
    pub fn status(&self) -> Value {
        let outcome = self.shim(["--status=json"]);
        serde_json::from_slice(&outcome.stdout).unwrap_or(Value::Null)
    }

    /// A number of the status's totals; 0 where no broker answers.
    pub fn total(&self, name: &str) -> u64 {
        self.status()["totals"][name].as_u64().unwrap_or(0)
    }

    /// How often this broker kept a job here for this reason.
    pub fn local_reason(&self, key: &str) -> u64 {
        self.status()["totals"]["local_reasons"][key].as_u64().unwrap_or(0)
    }

    /// Every living process of the farm.
    pub fn processes(&self) -> Vec<Process> {
        let needle = self.directory.path().as_os_str().as_bytes();
        numbers_in_proc().into_iter().filter_map(|pid| belongs(pid, needle)).collect()
    }

    /// The process ids of the farm's brokers.
    pub fn brokers(&self) -> Vec<u32> {
        let ours = |process: &Process| process.program == "distcc-broker";
        self.processes().iter().filter(|process| ours(process)).map(|process| process.pid).collect()
    }

    /// The farm's processes that are neither broker nor volunteer: shims, compilers, make.
    pub fn workers(&self) -> Vec<Process> {
        // A volunteer's guard is another process of the same program.
        let at_rest = |process: &Process| ["distcc-broker", "distccd"].contains(&process.program.as_str());
        self.processes().into_iter().filter(|process| !at_rest(process)).collect()
    }

    /// Waits until nothing but brokers and volunteers runs: everything has been answered, and no
    /// compiler outlived its job.
    pub fn settle(&self) {
        let mut left = Vec::new();
        let start = Instant::now();
        while start.elapsed() < SETTLE_MAX {
            left = self.workers();
            if left.is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("still running: {left:#?}");
    }

    /// Stops everything and checks that nothing is left: no process, no temporary file.
    pub fn finish(mut self) {
        self.settle();
        self.shim(["--stop"]);
        wait_until("the broker ends when told to stop", SETTLE_MAX, || self.brokers().is_empty());
        for volunteer in &mut self.volunteers {
            volunteer.finish();
        }
        wait_until("every process has ended", SETTLE_MAX, || self.processes().is_empty());
        for volunteer in &self.volunteers {
            assert_eq!(volunteer.left_behind(), [""; 0].map(PathBuf::from), "distccd left files behind");
        }
        assert_eq!(names(&self.directory.path().join("tmp")), [""; 0], "temporary files were left behind");
        let kept =
            ["broker.lock", "broker.log", "broker.tmp", "keys", "lock", "start.lock", "start.log", "state"];
        assert_eq!(names(&self.home().join("state")), [""; 0], "the broker left states of jobs");
        assert_eq!(names(&self.home().join("broker.tmp")), [""; 0], "the broker left temporary files");
        let mut home = names(&self.home());
        home.retain(|name| !kept.contains(&name.as_str()));
        assert_eq!(home, [""; 0], "files were left in DISTCC_DIR");
        self.finished = true;
    }

    /// Prints the logs, for a test that fails.
    fn show_logs(&self) {
        let broker = fs::read_to_string(self.home().join("broker.log")).unwrap_or_default();
        eprintln!("--- broker\n{}", tail(&broker));
        for report in names(&self.home().join("audit")) {
            let text = fs::read_to_string(self.home().join("audit").join(report)).unwrap_or_default();
            eprintln!("--- audit\n{}", text.lines().take(40).collect::<Vec<_>>().join("\n"));
        }
        for volunteer in &self.volunteers {
            eprintln!("--- volunteer {}\n{}", volunteer.port, tail(&volunteer.log()));
        }
    }
}

impl Drop for Farm {
    /// Ends what a failed test left, by process id.
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        self.show_logs();
        for _ in 0..100 {
            let left = self.processes();
            if left.is_empty() {
                break;
            }
            for process in left {
                signal_pid(process.pid, Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        for volunteer in &mut self.volunteers {
            volunteer.child.wait().ok();
        }
    }
}

/// The last lines of a log.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

/// How many results of compiles are whole in a cache's folder.
pub fn kept_results(cache: &Path) -> usize {
    let within = names(cache).into_iter().flat_map(|folder| names(&cache.join(folder)));
    within.filter(|name| !name.starts_with(".new-")).count()
}

/// Sends a signal to a process; one that has ended already is no trouble.
pub fn signal_pid(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a process id"), signal).ok();
}

/// The names in a directory, sorted.
pub fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn numbers_in_proc() -> Vec<u32> {
    names(Path::new("/proc")).iter().filter_map(|name| name.parse().ok()).collect()
}

/// The process, if the farm's directory is in its environment, command line or working directory.
fn belongs(pid: u32, needle: &[u8]) -> Option<Process> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let command = fs::read(proc.join("cmdline")).ok()?;
    let environment = fs::read(proc.join("environ")).unwrap_or_default();
    let cwd = fs::read_link(proc.join("cwd")).unwrap_or_default();
    let names_it = |bytes: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    if pid == std::process::id()
        || ![&command, &environment, cwd.as_os_str().as_bytes()].into_iter().any(names_it)
    {
        return None;
    }
    let words: Vec<_> = command.split(|&byte| byte == 0).map(String::from_utf8_lossy).collect();
    let executable = fs::read_link(proc.join("exe")).unwrap_or_else(|_| PathBuf::from(&*words[0]));
    let program = executable.file_name().unwrap_or_default().to_string_lossy().into_owned();
    // A binary that was rebuilt while it ran.
    let program = program.trim_end_matches(" (deleted)").to_owned();
    // A control word is the broker's program under another name, and no broker.
    let program = if words[0] == "distcc" { "distcc".to_owned() } else { program };
    Some(Process { pid, program, command: words.join(" ") })
}

#[test]
fn a_farm_compiles_one_file_and_leaves_nothing_behind() {
    let farm = Farm::new(1);
    fs::write(farm.work().join("a.c"), "int answer(void) { return 42; }\n").expect("our own file");
    farm.shim(["gcc", "-O2", "-c", "a.c"]).expect_success("a compile");
    assert_eq!(farm.total("remote"), 1, "{}", farm.status());
    assert_eq!(names(&farm.work()), ["a.c", "a.o"]);
    assert_eq!(farm.brokers().len(), 1);
    farm.finish();
}

#[test]
fn a_control_word_needs_no_broker() {
    let farm = Farm::new(0);
    let version = farm.shim(["--version"]).expect_success("--version");
    assert!(version.stdout.starts_with(b"distcc "), "{version:?}");
    farm.shim(["--help"]).expect_success("--help");
    farm.shim(["--status"]);
    assert_eq!(farm.brokers(), [0u32; 0], "a question started a broker");
    farm.finish();
}
