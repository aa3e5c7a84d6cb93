//! The promises of distccd(1).

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::process::Signal;

use super::{SETTLE_MAX, all_of, dead_port};
use crate::farm::{VOLUNTEER, signal_pid, wait_until};

/// A directory of a daemon that is started in the background.
struct Ground(tempfile::TempDir);

impl Ground {
    fn new() -> Self {
        let ground = Ground(tempfile::tempdir().expect("a directory"));
        fs::create_dir(ground.path("tmp")).expect("a directory");
        ground
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, words: &str) -> Command {
        let mut command = Command::new(VOLUNTEER);
        if rustix::process::geteuid().is_root() && !words.contains("--user") {
            command.args(["--user", "root"]);
        }
        command.args(words.split_whitespace());
        command.arg("--pid-file").arg(self.path("pid")).arg("--log-file").arg(self.path("log"));
        command.arg("--temp-dir").arg(self.path("tmp")).arg("--state-dir").arg(self.path("state"));
        if !words.contains("--allow") {
            command.args(["--allow", "127.0.0.1"]);
        }
        command
    }

    /// Starts a daemon; when this returns it serves.
    fn start(&self, words: &str) -> u16 {
        let port = dead_port();
        let output = self.run(&format!("{words} --port {port} --listen 127.0.0.1"));
        assert!(output.status.success(), "{output:?}");
        port
    }

    fn run(&self, words: &str) -> Output {
        self.command(words).stdin(std::process::Stdio::null()).output().expect("distccd can be started")
    }

    fn pid(&self) -> u32 {
        fs::read_to_string(self.path("pid")).expect("a pid file").trim().parse().expect("a number")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn stop(&self) {
        let pid = self.pid();
        signal_pid(pid, Signal::TERM);
        wait_until("the daemon ends", SETTLE_MAX, || !Path::new(&format!("/proc/{pid}")).exists());
        assert!(!self.path("pid").exists(), "the pid file stays");
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Ok(pid) = fs::read_to_string(self.path("pid")) {
            signal_pid(pid.trim().parse().expect("a number"), Signal::KILL);
        }
    }
}

fn connect(port: u16) -> TcpStream {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the port is open")
}

#[test]
fn p43_it_detaches_by_default_and_serves_when_the_command_returns() {
    let ground = Ground::new();
    for words in ["", "--daemon"] {
        let port = ground.start(words);
        connect(port);
        let stat = fs::read_to_string(format!("/proc/{}/stat", ground.pid())).expect("it runs");
        // Fields behind the name: state, parent, group, session (proc(5)).
        let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
        assert_eq!(fields[3], ground.pid().to_string(), "a session of its own");
        ground.stop();
    }
}

#[test]
fn p44_nobody_who_only_dawdles_holds_a_daemon_that_is_told_to_end() {
    let ground = Ground::new();
    let port = ground.start("");
    let (idle, mut begun) = (connect(port), connect(port));
    std::io::Write::write_all(&mut begun, b"DIST00000001ARGC00000005ARGV00000003gcc").expect("a socket");
    // A whole exchange behind them: both have been taken.
    assert_eq!(all_of(connect(port), b"DIST00000009"), b"");
    ground.stop();
    drop((idle, begun));
}

#[test]
fn p49_the_niceness_of_compilers_is_the_daemons_and_more() {
    let ground = Ground::new();
    let own: i32 = String::from_utf8_lossy(&Command::new("nice").output().expect("nice").stdout)
        .trim()
        .parse()
        .expect("a number");
    let expected = own + 11;
    // It is given its niceness a moment after it has been started.
    let script = format!(
        "#!/bin/sh\nn=0\nwhile [ $(nice) -lt {expected} ] && [ $n -lt 500 ]; do n=$((n+1)); done\nnice >&2\nexit 3\n"
    );
    fs::write(ground.path("tell-cc"), script).expect("our own file");
    rustix::fs::chmod(ground.path("tell-cc"), rustix::fs::Mode::from_bits_retain(0o755))
        .expect("our own file");
    let port = dead_port();
    let words = format!("--nice 7 --enable-tcp-insecure --port {port} --listen 127.0.0.1");
    let daemon = ground.command(&words);
    let mut command = Command::new("nice");
    command.args(["-n", "4"]).arg(daemon.get_program()).args(daemon.get_args());
    assert!(command.output().expect("distccd can be started").status.success());
    let compiler = ground.path("tell-cc").display().to_string();
    let said = String::from_utf8_lossy(&all_of(connect(port), request(&compiler).as_bytes())).into_owned();
    assert!(said.contains(&format!("SERR00000003{expected}\n")), "{said}");
    ground.stop();
}

#[test]
fn p54_a_log_or_a_pid_file_that_cannot_be_written_keeps_no_daemon_from_its_work() {
    let ground = Ground::new();
    let port = dead_port();
    let mut command = ground.command(&format!("--port {port} --listen 127.0.0.1 --lifetime 2"));
    command.args(["--log-file", "/nonexistent/log", "--pid-file", "/nonexistent/pid"]);
    let output = command.output().expect("distccd can be started");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("/nonexistent/log") && said.contains("/nonexistent/pid"), "{said}");
    assert_eq!(all_of(connect(port), b"DIST00000009"), b"");
    wait_until("it ends by itself", SETTLE_MAX, || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
}

#[test]
fn p45_others_are_closed_at_once_with_nothing_sent_and_a_warning_in_the_log() {
    let ground = Ground::new();
    let port = ground.start("--allow 192.0.2.1 --allow 198.51.100.0/24");
    for question in [&b"DIST00000001ARGC00000001"[..], b""] {
        assert_eq!(all_of(connect(port), question), b"");
    }
    let refused = || ground.log().contains("Warning: refused: address 127.0.0.1 is not allowed");
    wait_until("the refusal is logged", SETTLE_MAX, refused);
    ground.stop();
}

#[test]
fn p47_without_allow_no_client_of_stock_is_served() {
    let ground = Ground::new();
    let port = dead_port();
    let mut command = Command::new(VOLUNTEER);
    if rustix::process::geteuid().is_root() {
        command.args(["--user", "root"]);
    }
    for (option, name) in
        [("--pid-file", "pid"), ("--log-file", "log"), ("--temp-dir", "tmp"), ("--state-dir", "state")]
    {
        command.arg(option).arg(ground.path(name));
    }
    let started = command.args(["--listen", "127.0.0.1", "--port", &port.to_string()]).output();
    assert!(started.expect("distccd can be started").status.success());
    assert_eq!(all_of(connect(port), request("cc").as_bytes()), b"");
    let refused = || ground.log().contains("refused: address 127.0.0.1 is not allowed");
    wait_until("the refusal is logged", SETTLE_MAX, refused);
    let log = ground.log();
    assert!(!log.contains("unauthenticated"), "{log}");
    ground.stop();
    let private = Ground::new();
    private.start("--allow-private");
    let log = private.log();
    assert!(log.contains("unauthenticated: the classic protocol") && log.contains("10.0.0.0/8"), "{log}");
    private.stop();
}

#[test]
fn p51_a_port_that_is_taken_or_is_none_is_said_with_stocks_status() {
    let ground = Ground::new();
    let port = ground.start("");
    let other = Ground::new();
    let output = other.run(&format!("--port {port} --listen 127.0.0.1"));
    assert_eq!(output.status.code(), Some(102), "{output:?}");
    assert_eq!(other.run("--port 65536").status.code(), Some(101));
    assert_eq!(other.run("--bogus").status.code(), Some(101));
    ground.stop();
}

#[test]
fn p52_as_root_it_becomes_the_user_that_is_named() {
    let ground = Ground::new();
    if !rustix::process::geteuid().is_root() {
        // Only root can choose; to others the option means nothing.
        ground.start("--user root");
        assert!(ground.log().contains("--user is ignored"), "{}", ground.log());
        return ground.stop();
    }
    let output = ground.run("--user no-such-user --port 0");
    assert_eq!(output.status.code(), Some(112), "{output:?}");
    for path in [ground.0.path().to_owned(), ground.path("tmp")] {
        rustix::fs::chmod(path, rustix::fs::Mode::from_bits_retain(0o777)).expect("our own directory");
    }
    ground.start("--user nobody");
    let status = fs::read_to_string(format!("/proc/{}/status", ground.pid())).expect("it runs");
    let uid = status.lines().find(|line| line.starts_with("Uid:")).expect("a user");
    assert!(!uid.split_whitespace().skip(1).any(|uid| uid == "0"), "{uid}");
    ground.stop();
}

#[test]
fn p55_the_page_of_figures_has_stocks_names() {
    let ground = Ground::new();
    let page = dead_port();
    ground.start(&format!("--stats --stats-port {page}"));
    let text = String::from_utf8(all_of(connect(page), b"GET / HTTP/1.0\r\n\r\n")).expect("text");
    assert!(text.starts_with("HTTP/1.0 200 OK\n"), "{text}");
    for name in ["<distccstats>", "dcc_tcp_accept ", "dcc_compile_ok 0", "dcc_max_kids ", "</distccstats>"] {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name}: {text}");
    }
    ground.stop();
}

#[test]
fn p56_only_compilers_in_the_folder_run_for_clients_of_stock() {
    let ground = Ground::new();
    fs::create_dir(ground.path("allowed")).expect("our own directory");
    std::os::unix::fs::symlink("/usr/bin/distcc", ground.path("allowed/cc")).expect("a link");
    let port = ground.start(&format!("--whitelist-dir {}", ground.path("allowed").display()));
    let said = |compiler: &str| all_of(connect(port), request(compiler).as_bytes());
    assert!(said("cc").starts_with(b"DONE00000001STAT00000000"));
    assert_eq!(said("nonsense-cc"), b"");
    assert_eq!(said("/bin/sh"), b"");
    assert!(ground.log().contains("none of the folders of allowed compilers"), "{}", ground.log());
    // The line that scripts read.
    let log = ground.log();
    let line = log.lines().find(|line| line.contains("COMPILE_OK")).expect("a line");
    assert!(line.contains("] (dcc_job_summary) client: 127.0.0.1:"), "{line}");
    assert!(
        line.contains(" COMPILE_OK exit:0 sig:0 core:0 ret:0 time:") && line.ends_with("ms cc a.c"),
        "{line}"
    );
    ground.stop();
}

/// A compile of a source of one line, as a client of version 1 sends it.
fn request(compiler: &str) -> String {
    let mut request = "DIST00000001ARGC00000005".to_owned();
    for word in [compiler, "-c", "a.c", "-o", "a.o"] {
        request.push_str(&format!("ARGV{:08x}{word}", word.len()));
    }
    request + "DOTI00000007int a;\n"
}

#[test]
fn the_daemons_lifetime_ends_it() {
    let ground = Ground::new();
    ground.start("--lifetime 1");
    wait_until("it ends by itself", SETTLE_MAX, || !ground.path("pid").exists());
    assert!(ground.log().contains("lifetime is over"), "{}", ground.log());
}
