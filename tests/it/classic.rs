//! distcc 3.4's own programs against ours: each pairing of clients and daemons, in each version of
//! the classic protocol.
//!
//! The programs are those of Debian's package `distcc`. They get a directory and a port of their own
//! on loopback.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::farm::{COMMAND_MAX, Farm, Outcome, Running, VolunteerOptions, run, signal_pid, wait_until};
use includes::IncludeServer;

mod hostile;
mod includes;
mod shared;
mod ssh;

/// The client of distcc 3.4.
const CLIENT: &str = "/usr/bin/distcc";

/// Its daemon.
const DAEMON: &str = "/usr/bin/distccd";

/// The longest that a daemon may take to start or end.
const SETTLE_MAX: Duration = Duration::from_secs(20);

/// Options of a daemon of ours that serves clients of distcc 3.4 on this machine.
const OPEN: &[&str] = &["--enable-tcp-insecure", "--allow", "127.0.0.1"];

const C: &str = "#include <stdio.h>\n#include \"inc/a.h\"\n\
    int main(int c, char **v) { (void)v; return printf(\"%d %s\\n\", c + TWO, __FILE__); }\n";

const CXX: &str = "#include <string>\n#include <vector>\n#include \"inc/a.h\"\n\
    int f(int n) { std::vector<std::string> v(n, \"x\"); return v.size() + TWO; }\n";

/// The daemon of distcc 3.4, on a port of its own.
pub struct StockDaemon {
    child: Child,
    /// The port that it listens on.
    pub port: u16,
    directory: tempfile::TempDir,
    /// Holds its compiler back, when it is shut.
    gate: shared::Gate,
}

impl StockDaemon {
    /// With so many slots.
    pub fn start(jobs: u32) -> Self {
        assert!(Path::new(DAEMON).exists(), "install Debian's package distcc, the peer of these tests");
        // Started by root it becomes somebody else, who needs a place to work.
        let directory = tempfile::tempdir().expect("a directory");
        for (path, mode) in [(directory.path().to_owned(), 0o755), (directory.path().join("tmp"), 0o777)] {
            fs::create_dir_all(&path).expect("a directory of our own");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("our own directory");
        }
        let port = free_port();
        let gate = shared::Gate::new(&directory.path().join("tmp"));
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(DAEMON);
        command.env("PATH", format!("{}:{path}", gate.directory().display()));
        command
            .args(["--daemon", "--no-detach", "--allow", "127.0.0.1", "--listen", "127.0.0.1"])
            .args(["--enable-tcp-insecure", "--log-level", "debug", "--nice", "0"])
            .args(["--port", &port.to_string(), "--jobs", &jobs.to_string()])
            .arg("--log-file")
            .arg(directory.path().join("tmp/log"))
            .env("TMPDIR", directory.path().join("tmp"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().expect("distccd of the package can be started");
        let daemon = StockDaemon { child, port, directory, gate };
        wait_until("stock distccd listens", SETTLE_MAX, || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
        });
        daemon
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.directory.path().join("tmp/log")).unwrap_or_default())
            .into_owned()
    }

    /// Checks how many compiles succeeded, as its log has them. It writes there when a client has had
    /// its answer.
    fn expect_compiled(&self, count: usize, farm: &Farm) {
        let compiled = || self.log().matches("COMPILE_OK").count();
        wait_until("its log tells of the compiles", SETTLE_MAX, || compiled() >= count);
        assert_eq!(compiled(), count, "{}", farm.status());
    }
}

impl Drop for StockDaemon {
    fn drop(&mut self) {
        // It ends its group, and nobody else is in that.
        signal_pid(self.child.id(), Signal::TERM);
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("--- stock distccd\n{}", self.log());
        }
    }
}

fn free_port() -> u16 {
    let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    probe.local_addr().expect("an address").port()
}

/// A project of a few sources in each language.
fn project(directory: &Path) -> Vec<(String, PathBuf)> {
    fs::create_dir_all(directory.join("inc")).expect("our own directory");
    fs::write(directory.join("inc/a.h"), "#define TWO 2\n").expect("our own file");
    let mut sources = Vec::new();
    for number in 0..4 {
        for (compiler, suffix, text) in [("gcc", "c", C), ("g++", "cc", CXX), ("clang", "c", C)] {
            let name = format!("{compiler}{number}.{suffix}").replace('+', "x");
            fs::write(directory.join(&name), format!("{text}int n{number};\n")).expect("our own file");
            sources.push((compiler.to_owned(), directory.join(name)));
        }
    }
    sources
}

/// How the compilers are called in a pairing.
struct Build<'a> {
    farm: &'a Farm,
    client: &'a str,
    hosts: String,
    more: Vec<(&'static str, String)>,
    flags: &'static [&'static str],
}

impl Build<'_> {
    fn command(&self, compiler: &str, source: &Path, object: &Path) -> Command {
        let mut command = self.farm.command(self.client);
        command.env("DISTCC_HOSTS", &self.hosts).env("DISTCC_FALLBACK", "0").arg(compiler);
        // Errors are told once, and nothing runs here unseen.
        command.env("DISTCC_SKIP_LOCAL_RETRY", "1").env("DISTCC_BACKOFF_PERIOD", "0");
        for (name, value) in &self.more {
            command.env(name, value);
        }
        command.args(self.flags).args(["-Iinc", "-I."]).arg("-c").arg(source.file_name().expect("a name"));
        command.arg("-o").arg(object);
        command
    }

    /// Compiles everything at once, and compares with what a compile here gives; from the text, in
    /// those flags in which text alone does not tell where the source was.
    fn check(&self, text_alone: bool) -> usize {
        let mut sources = project(&self.farm.work());
        // clang's text does not say in which directory it was made, and stock's client does not either.
        let nobody_knows = text_alone && self.client == CLIENT;
        sources.retain(|(compiler, _)| !(nobody_knows && compiler == "clang"));
        let objects: Vec<PathBuf> = sources.iter().map(|(_, source)| source.with_extension("o")).collect();
        let running: Vec<_> = std::iter::zip(&sources, &objects)
            .map(|((compiler, source), object)| Running::start(self.command(compiler, source, object)))
            .collect();
        for running in running {
            let outcome = running.finish(COMMAND_MAX).expect_success("a compile");
            assert_eq!(String::from_utf8_lossy(&outcome.stderr), "");
        }
        for ((compiler, source), object) in std::iter::zip(&sources, &objects) {
            let here = object.with_extension("here");
            self.compile_here(compiler, source, &here, text_alone);
            let same = fs::read(object).expect("an object") == fs::read(&here).expect("an object");
            assert!(same, "{} {compiler} {:?} {}", self.client, self.flags, source.display());
        }
        sources.len()
    }

    fn compile_here(&self, compiler: &str, source: &Path, here: &Path, text_alone: bool) {
        let name = source.file_name().expect("a name");
        let compile = |flags: &[&str], input: &Path, output: &Path| -> Outcome {
            let mut command = self.farm.command(compiler);
            command.args(self.flags).args(["-Iinc", "-I."]).args(flags).arg(input).arg("-o").arg(output);
            run(command, COMMAND_MAX)
        };
        if !text_alone {
            compile(&["-c"], Path::new(name), here).expect_success("a compile here");
            return;
        }
        let text = here.with_extension(if compiler == "g++" { "ii" } else { "i" });
        compile(&["-E"], Path::new(name), &text).expect_success("a preprocessor here");
        compile(&["-c"], &text, here).expect_success("a compile here");
    }
}

/// Whether an object compiled from text differs from one compiled from the source.
fn says_where(flags: &[&str]) -> bool {
    flags.contains(&"-g")
}

const FLAGS: [&[&str]; 3] = [&["-O2"], &["-g"], &["-O1", "-g", "-Wall"]];

#[test]
fn our_client_builds_with_stocks_daemon_in_each_version() {
    let stock = StockDaemon::start(8);
    let mut expected = 0;
    for options in ["", ",lzo", ",lzo,cpp"] {
        let farm = Farm::new(0);
        for flags in FLAGS {
            let hosts = format!("127.0.0.1:{}/8{options}", stock.port);
            let build = Build { farm: &farm, client: crate::farm::SHIM, hosts, more: Vec::new(), flags };
            expected += build.check(says_where(flags));
            stock.expect_compiled(expected, &farm);
        }
        farm.finish();
    }
}

/// From the second job on: for the first it is not known yet what the port speaks.
#[test]
fn our_client_sends_file_sets_to_stocks_daemon_with_the_dependency_files_of_a_local_compile() {
    let stock = StockDaemon::start(8);
    let farm = Farm::new(0);
    let hosts = format!("127.0.0.1:{}/8,lzo,cpp", stock.port);
    let flags: &[&[&str]] =
        &[&["-O2", "-MD", "-MT", "x y", "-MF", "it.d"], &["-O1", "-MMD", "-MP", "-MT", "x", "-MF", "it.d"]];
    for flags in flags {
        let build =
            Build { farm: &farm, client: crate::farm::SHIM, hosts: hosts.clone(), more: Vec::new(), flags };
        for (compiler, source) in project(&farm.work()) {
            let (object, here) = (source.with_extension("o"), source.with_extension("here"));
            run(build.command(&compiler, &source, &object), COMMAND_MAX).expect_success("a compile");
            let remote = fs::read_to_string(farm.work().join("it.d")).expect("a dependency file");
            build.compile_here(&compiler, &source, &here, false);
            assert!(
                fs::read(&object).expect("an object") == fs::read(&here).expect("an object"),
                "{source:?}"
            );
            let local = fs::read_to_string(farm.work().join("it.d")).expect("a dependency file");
            assert_eq!(remote, local, "{source:?}");
        }
    }
    stock.expect_compiled(24, &farm);
    assert!(stock.log().matches("CDIR").count() >= 23, "texts were sent");
    farm.finish();
}

#[test]
fn stocks_client_builds_with_our_daemon_in_versions_1_and_2() {
    let options = VolunteerOptions { jobs: 4, more: OPEN, ..VolunteerOptions::default() };
    for version in ["", ",lzo"] {
        let farm = Farm::with(std::slice::from_ref(&options));
        let mut expected = 0;
        for flags in FLAGS {
            let hosts = format!("127.0.0.1:{}/8{version}", farm.volunteers[0].port);
            let build = Build { farm: &farm, client: CLIENT, hosts, more: Vec::new(), flags };
            expected += build.check(says_where(flags));
            assert_eq!(farm.volunteers[0].log().matches("COMPILE_OK").count(), expected);
        }
        forget_stocks_files(&farm);
        farm.finish();
    }
}

#[test]
fn stocks_client_sends_file_sets_to_our_daemon() {
    let options = VolunteerOptions { jobs: 4, more: OPEN, ..VolunteerOptions::default() };
    let farm = Farm::with(&[options]);
    let includes = IncludeServer::start(&farm.work());
    let mut expected = 0;
    for flags in FLAGS {
        let hosts = format!("127.0.0.1:{}/8,lzo,cpp", farm.volunteers[0].port);
        let more = vec![("INCLUDE_SERVER_PORT", includes.socket().display().to_string())];
        let build = Build { farm: &farm, client: CLIENT, hosts, more, flags };
        // The whole source travels, so that not even -g tells the difference.
        expected += build.check(false);
        assert_eq!(farm.volunteers[0].log().matches("COMPILE_OK").count(), expected);
    }
    assert_eq!(includes.asked(), expected, "a job went another way");
    drop(includes);
    forget_stocks_files(&farm);
    farm.finish();
}

/// Stock keeps its lock files.
fn forget_stocks_files(farm: &Farm) {
    fs::remove_dir_all(farm.home().join("lock")).ok();
}
