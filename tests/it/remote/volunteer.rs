//! A daemon under test, its machine and its compilers.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use distcc::common::bytes::Bytes;
use distcc::common::protocol::link::{OPENING, ToBroker, ToVolunteer, VERSION};
use distcc::common::toolchain::{Digest, QUESTIONS, Toolchain, identify, read_banner};
use distcc::common::trust::files;
use distcc::common::trust::key::Identity;

use super::link::Link;

/// No wait in these tests is longer.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Returns when `condition` holds.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A machine with a daemon and a directory of compilers; all of it goes with the value.
pub struct Volunteer {
    pub directory: tempfile::TempDir,
    pub daemon: Child,
    pub port: u16,
}

impl Drop for Volunteer {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

impl Volunteer {
    pub fn start(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("bin")).unwrap();
        let (daemon, port) = launch(directory.path(), options);
        Volunteer { directory, daemon, port }
    }

    /// One that root starts and that becomes `nobody`; an ordinary user's is one already.
    pub fn start_as_nobody() -> Self {
        Volunteer::start_as_nobody_with(&[])
    }

    /// The same with more options.
    pub fn start_as_nobody_with(options: &[&str]) -> Self {
        if !rustix::process::geteuid().is_root() {
            return Volunteer::start(options);
        }
        let directory = tempfile::tempdir().unwrap();
        for name in ["bin", "tmp"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        authorize(directory.path());
        let nobody = "nobody";
        let changed = Command::new("chown").arg("-R").arg(nobody).arg(directory.path()).status();
        assert!(changed.unwrap().success());
        // The client's key stays the client's.
        std::os::unix::fs::chown(directory.path().join("client.key"), Some(0), None).unwrap();
        let (daemon, port) = launch(directory.path(), &[&["--user", nobody], options].concat());
        Volunteer { directory, daemon, port }
    }

    /// One on a machine that makes no namespaces for anybody.
    pub fn start_without_namespaces() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("bin")).unwrap();
        let mut command = without_namespaces(directory.path(), &[]);
        let (daemon, port) = wait_until_open(directory.path(), &mut command);
        Volunteer { directory, daemon, port }
    }

    /// The command that starts such a one.
    pub fn without_namespaces(options: &[&str]) -> Command {
        let directory = tempfile::tempdir().unwrap().keep();
        fs::create_dir(directory.join("tmp")).unwrap();
        without_namespaces(&directory, options)
    }

    pub fn restart(&mut self) {
        (self.daemon, self.port) = launch(self.directory.path(), &[]);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Installs a compiler that does what `script` says, in a box where it sees the folder `bin`.
    pub fn fake_compiler(&self, script: &str) -> Toolchain {
        let banner = "Target: fake-linux\ngcc version 1.0 (fake)";
        let text = format!(
            "#!/bin/sh\ncase $1 in -v) echo '{banner}' >&2; exit;; -print-prog-name=*) exit;; esac\n\
             {script}\n"
        );
        // Written under another name by another process: a file that we had open for writing
        // could not be run while a child of another test still had our descriptors.
        fs::write(self.path("fakecc"), text).unwrap();
        fs::set_permissions(self.path("fakecc"), fs::Permissions::from_mode(0o755)).unwrap();
        let copied =
            Command::new("cp").arg("-p").args([self.path("fakecc"), self.path("bin")]).status().unwrap();
        assert!(copied.success());
        toolchain_of(&self.path("bin/fakecc"))
    }

    pub fn link(&self) -> Link {
        let mut link = self.connect();
        link.hello();
        link
    }

    /// A connection over TLS, on which nothing has been said.
    pub fn connect(&self) -> Link {
        Link::connect(self.port, &client_of(self.directory.path()))
    }

    /// What it says that it can do.
    pub fn abilities(&self) -> ToBroker {
        let mut link = self.connect();
        link.stream.write_all(&OPENING).unwrap();
        link.send(&ToVolunteer::Hello { version: VERSION, build: "test".into(), client: "test".into() });
        link.wait(|message| matches!(message, ToBroker::Hello { .. }));
        link.wait(|message| matches!(message, ToBroker::Able { .. }))
    }

    /// The process that a fake compiler runs as.
    pub fn compiler_pid(&self) -> u32 {
        wait_for("the compiler starts", || !self.compilers().is_empty());
        self.compilers()[0]
    }

    /// The processes that fake compilers run as, seen from outside of their boxes.
    pub fn compilers(&self) -> Vec<u32> {
        let words = [&b"/bin/sh\0"[..], self.path("bin/fakecc").as_os_str().as_bytes(), b"\0-c\0"].concat();
        let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
        let compiles =
            |path: &PathBuf| fs::read(path.join("cmdline")).is_ok_and(|line| line.starts_with(&words));
        let number = |path: PathBuf| path.file_name().unwrap().to_string_lossy().parse().ok();
        processes.filter(compiles).filter_map(number).collect()
    }

    /// What of jobs is left in the daemon's directories.
    pub fn jobs_left(&self) -> Vec<PathBuf> {
        let Ok(base) = fs::read_dir(self.path("tmp")) else { return Vec::new() };
        let daemons = base.flat_map(|base| fs::read_dir(base.unwrap().path()).unwrap());
        let entries = daemons.flat_map(|daemon| fs::read_dir(daemon.unwrap().path()).unwrap());
        let jobs = entries.map(|entry| entry.unwrap().path());
        jobs.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("jobs-")).collect()
    }

    /// The directories of jobs that run.
    pub fn job_directories(&self) -> Vec<PathBuf> {
        let entries = self.jobs_left().into_iter().flat_map(|jobs| fs::read_dir(jobs).unwrap());
        let is_job = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().parse::<u32>().is_ok();
        entries.map(|entry| entry.unwrap().path()).filter(is_job).collect()
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.daemon.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

/// The client that the daemon of this directory knows.
pub fn client_of(directory: &Path) -> Identity {
    files::secret(&directory.join("client.key")).unwrap()
}

/// Makes the daemon of this directory know [`client_of`] it.
pub fn authorize(directory: &Path) {
    let (state, line) = (directory.join("state"), format!("{} test\n", client_of(directory).public()));
    fs::create_dir_all(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(state.join("authorized_keys"), line).unwrap();
}

pub fn launch(directory: &Path, options: &[&str]) -> (Child, u16) {
    let mut command = daemon_command(directory);
    command.arg("--no-detach").args(options);
    wait_until_open(directory, &mut command)
}

fn without_namespaces(directory: &Path, options: &[&str]) -> Command {
    let daemon = daemon_command(directory);
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c", script, "sh"]);
    command.arg(daemon.get_program()).args(daemon.get_args()).arg("--no-detach").args(options);
    if !rustix::process::geteuid().is_root() {
        // In there, it is root.
        command.args(["--user", "root"]);
    }
    for (name, value) in daemon.get_envs() {
        command.env(name, value.unwrap());
    }
    command
}

/// Starts a daemon by a command that ends in being one.
pub fn wait_until_open(directory: &Path, command: &mut Command) -> (Child, u16) {
    let port_file = directory.join("port");
    let _ = fs::remove_file(&port_file);
    fs::create_dir_all(directory.join("tmp")).unwrap();
    let mut daemon = command.stderr(Stdio::inherit()).spawn().unwrap();
    wait_for("the port is open", || port_file.exists() || daemon.try_wait().unwrap().is_some());
    assert_eq!(daemon.try_wait().unwrap(), None, "the daemon has ended");
    (daemon, fs::read_to_string(&port_file).unwrap().trim().parse().unwrap())
}

pub fn daemon_command(directory: &Path) -> Command {
    if !directory.join("state").exists() {
        authorize(directory);
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_distccd"));
    let path = |name: &str| directory.join(name).display().to_string();
    // Root in a container has to say that it means it.
    if rustix::process::geteuid().is_root() {
        command.args(["--user", "root"]);
    }
    command
        .args(["--listen", "127.0.0.1", "--port", "0", "--min-free-disk", "0", "--jobs", "2"])
        .args(["--port-file", &path("port"), "--temp-dir", &path("tmp"), "--log-file", &path("log")])
        .args(["--state-dir", &path("state")])
        .env("PATH", format!("{}:/usr/bin:/bin", path("bin")))
        .stdin(Stdio::null());
    command
}

/// The identity of a compiler, made as the protocol says and not as the daemon does it.
pub fn toolchain_of(compiler: &Path) -> Toolchain {
    let ask = |question: &str| Command::new(compiler).arg(question).env("LC_ALL", "C").output().unwrap();
    let banner = read_banner(&String::from_utf8_lossy(&ask(QUESTIONS[0]).stderr)).unwrap();
    let digest = |path: PathBuf| fs::read(path).ok().map(|bytes| Digest::of(&bytes));
    let mut programs = vec![digest(compiler.to_owned())];
    for question in &QUESTIONS[1..] {
        let answer = String::from_utf8(ask(question).stdout).unwrap().trim_end().to_owned();
        programs.push(match answer.as_str() {
            "" => None,
            name if name.contains('/') => digest(PathBuf::from(name)),
            name => digest(Path::new("/usr/bin").join(name)),
        });
    }
    Toolchain {
        id: identify(&banner, &programs),
        names: vec![Bytes::from(Path::new(compiler.file_name().unwrap()))],
        version: banner.version,
        target: banner.target,
        clang: banner.clang,
    }
}
