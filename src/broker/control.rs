//! The command lines of `distcc-broker` and of `distcc`'s control words.
//!
//! The shim execs this program under the name `distcc` for everything that is not a compile, so
//! that the shim itself needs no parser.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use interprocess::ConnectWaitMode;
use interprocess::local_socket::traits::Stream as _;
use interprocess::local_socket::{ConnectOptions, GenericFilePath, ToFsName};

use super::config::places;
use super::host_lists;
use super::scan::Scanner;
use super::status::Report;
use crate::common::bytes::Bytes;
use crate::common::exit;
use crate::common::hosts::{HostList, parse};
use crate::common::invocation::Invocation;
use crate::common::protocol::io::{read_local, write_local};
use crate::common::protocol::local::{Control, ControlReply, Header, Kind};
use crate::common::protocol::wire;
use crate::common::version::version;

/// How long a broker may take to answer a question about itself.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Exit status of `--status` when no broker runs; 3 is what init scripts mean by "not running".
const NOT_RUNNING: u8 = 3;

/// Runs the program under whichever name it was called.
pub fn run() -> ExitCode {
    let name = std::env::args_os().next().unwrap_or_default();
    match Path::new(&name).file_name().is_some_and(|name| name == "distcc") {
        true => run_distcc(),
        false => run_broker(),
    }
}

fn run_broker() -> ExitCode {
    let matches = broker_command().get_matches();
    if matches.get_flag("detach") {
        return super::start::detach(&[]);
    }
    match super::serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("distcc-broker: {error}"));
            ExitCode::from(super::exit_status(&error))
        }
    }
}

fn broker_command() -> Command {
    Command::new("distcc-broker")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Queues the compiles of one user and sends them to volunteers")
        .long_about(
            "Queues the compiles of one user and sends them to volunteers.\n\n\
             The first distcc that finds no broker starts one; there is seldom a reason to run it by hand. \
             It listens on broker.sock in $DISTCC_DIR, else in $XDG_RUNTIME_DIR/distcc, else in \
             $TMPDIR/distcc-UID, and exits when it had nothing to do for $DISTCC_IDLE_TIMEOUT seconds \
             (8 hours). SIGTERM drains it: jobs on volunteers are finished, new ones start the next broker.",
        )
        .arg(flag("detach", "Start in the background; returns when it listens"))
        .arg(flag("foreground", "Stay in the foreground and log to stderr (the default)"))
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

fn run_distcc() -> ExitCode {
    let matches = match distcc_command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version go to stdout and end well; mistakes have distcc's own status.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::BAD_ARGUMENTS as u8 } else { 0 });
        }
    };
    match dispatch(&matches) {
        Ok(code) => code,
        Err(message) => {
            complain(&format!("distcc: {message}"));
            ExitCode::from(exit::FAILED as u8)
        }
    }
}

fn complain(text: &str) {
    // Where stderr is closed there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn dispatch(matches: &ArgMatches) -> Result<ExitCode, String> {
    if let Some(format) = matches.get_one::<String>("status") {
        return status(format == "json" || matches.get_flag("json"));
    }
    if matches.get_flag("show-hosts") {
        return Ok(with_list(show_hosts));
    }
    if matches.get_flag("jobs") {
        return Ok(with_list(jobs));
    }
    if let Some(command) = matches.get_many::<OsString>("scan-includes") {
        let argv: Vec<Bytes> = command.cloned().map(Bytes::from).collect();
        return scan_includes(&argv);
    }
    if matches.get_flag("stop") {
        return stop();
    }
    print(&version("distcc"));
    Ok(ExitCode::SUCCESS)
}

fn distcc_command() -> Command {
    Command::new("distcc")
        .about("Spreads C and C++ compiles over several machines")
        .override_usage("distcc COMPILER ARGUMENTS…\n       distcc ARGUMENTS…          (the compiler is cc)\n       distcc --WORD")
        .long_about(LONG_ABOUT)
        .after_long_help(AFTER_HELP)
        .disable_version_flag(true)
        .arg(flag("version", "Print the version"))
        .arg(
            Arg::new("status")
                .long("status")
                .value_parser(["text", "json"])
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("text")
                .help("Show hosts, queue, running jobs and why jobs stayed here; exit 3 when no broker runs"),
        )
        .arg(flag("json", "With --status: as a JSON document"))
        .arg(flag("show-hosts", "Print the hosts that would be used, one a line"))
        .arg(Arg::new("jobs").short('j').action(ArgAction::SetTrue).help("Print how many jobs the hosts take together"))
        .arg(flag("stop", "Drain the broker: what runs is finished, then it exits"))
        .arg(
            Arg::new("scan-includes")
                .long("scan-includes")
                .value_name("COMMAND")
                .num_args(1..)
                .allow_hyphen_values(true)
                .trailing_var_arg(true)
                .value_parser(clap::value_parser!(OsString))
                .help("Print the files that this compile would read, as the include scanner finds them; with --absent as the first word, also the names that are looked for and not found"),
        )
        .group(clap::ArgGroup::new("word").args(["version", "status", "show-hosts", "jobs", "stop", "scan-includes"]).required(true))
}

const LONG_ABOUT: &str = "Spreads C and C++ compiles over several machines, with the result of a local compile.\n\n\
Put distcc in front of the compiler (CC='distcc gcc'), in its place (CC=distcc), or call it by a link that has \
the compiler's name. What cannot be compiled elsewhere with exactly the same result is compiled here.";

const AFTER_HELP: &str =
    "Hosts: $DISTCC_HOSTS, else $DISTCC_DIR/hosts (~/.distcc/hosts), else /etc/distcc/hosts; \
words such as build7, build7:3632/8, [::1]:3632/4, localhost/2; # begins a comment.

Environment:
  DISTCC_HOSTS         the host list; even an empty one is used
  DISTCC_DIR           directory of the host list, and of the broker's socket
  DISTCC_FALLBACK      0: a job that no volunteer could do fails with status 116
  DISTCC_VERBOSE       1: say where each job ran and why
  DISTCC_LOG           append messages to this file
  DISTCC_IDLE_TIMEOUT  seconds after which an idle broker exits (28800)

Exit status: the compiler's own, or 100 failure, 101 bad arguments, 106 bad host list, 110 no compiler, \
111 distcc called itself, 116 no host and DISTCC_FALLBACK=0.";

/// Connects to the broker of this environment, asks, and gives the answer; `None` without a broker.
fn ask(control: &Control) -> Result<Option<ControlReply>, String> {
    for place in places() {
        let socket = place.socket();
        let name = socket.as_path().to_fs_name::<GenericFilePath>().map_err(|error| error.to_string())?;
        let wait = ConnectWaitMode::Timeout(ANSWER_TIMEOUT);
        let Ok(mut stream) = ConnectOptions::new().name(name).wait_mode(wait).connect_sync() else {
            continue;
        };
        let failed = |error: std::io::Error| format!("the broker does not answer: {error}");
        stream.set_recv_timeout(Some(ANSWER_TIMEOUT)).map_err(failed)?;
        stream.set_send_timeout(Some(ANSWER_TIMEOUT)).map_err(failed)?;
        let body = wire::encode(control);
        write_local(&mut stream, Header::any_build(Kind::Control, body.len()), &body).map_err(failed)?;
        let (header, body) = read_local(&mut stream).map_err(failed)?;
        return match header.kind {
            Kind::ControlReply => wire::decode(&body).map(Some).map_err(|error| error.to_string()),
            Kind::OtherBuild => {
                Err("the broker is of another version; the next compile replaces it".to_owned())
            }
            _ => Err("the broker answered something else".to_owned()),
        };
    }
    Ok(None)
}

fn status(json: bool) -> Result<ExitCode, String> {
    let Some(reply) = ask(&Control::Status)? else {
        match json {
            true => print("{\"schema\":1,\"running\":false}\n"),
            false => print("no broker is running; the first compile starts one\n"),
        }
        return Ok(ExitCode::from(NOT_RUNNING));
    };
    let ControlReply::Status { json: document } = reply else { return Err("no status".to_owned()) };
    let report: Report = serde_json::from_str(&document).map_err(|error| error.to_string())?;
    match json {
        true => print(&format!("{document}\n")),
        false => print(&report.render()),
    }
    Ok(ExitCode::SUCCESS)
}

fn stop() -> Result<ExitCode, String> {
    match ask(&Control::Stop)? {
        Some(_) => print("the broker finishes what runs and exits\n"),
        None => print("no broker is running\n"),
    }
    Ok(ExitCode::SUCCESS)
}

/// This process as if it were a compile: for the sources of the host list.
fn surroundings() -> Invocation {
    let entry =
        |(name, value): (OsString, OsString)| Bytes([name.as_bytes(), b"=", value.as_bytes()].concat());
    let cwd = std::env::current_dir().map(Bytes::from_path).unwrap_or_else(|_| Bytes::from("/"));
    Invocation { cwd, env: std::env::vars_os().map(entry).collect(), ..Invocation::default() }
}

/// Shows something of the host list.
fn with_list(show: impl Fn(&HostList) -> String) -> ExitCode {
    let text = host_lists::read(&surroundings());
    let why = match text.as_deref().map(parse) {
        Some(Ok(list)) => {
            print(&show(&list));
            return ExitCode::SUCCESS;
        }
        Some(Err(error)) => format!("host list: {error}"),
        None => "no hosts are listed\nhint: set DISTCC_HOSTS, or write ~/.distcc/hosts".to_owned(),
    };
    complain(&format!("distcc: {why}"));
    ExitCode::from(exit::BAD_HOST_LIST as u8)
}

fn show_hosts(list: &HostList) -> String {
    list.tokens.iter().map(|token| format!("{token}\n")).collect()
}

fn jobs(list: &HostList) -> String {
    format!("{}\n", list.total_slots())
}

/// Prints the files of one compile, a name a line: `FILE`; `PROBED`, which is opened or asked for but
/// not read; `ABSENT`.
fn scan_includes(words: &[Bytes]) -> Result<ExitCode, String> {
    let (absent, argv) = match words {
        [first, argv @ ..] if *first == *"--absent" => (true, argv),
        argv => (false, argv),
    };
    let around = surroundings();
    let mut scanner = Scanner::default();
    scanner.list_absent = absent;
    let scan = scanner
        .scan_command(argv, &around.cwd, &around.env)
        .map_err(|declined| format!("the scanner declines: {declined}"))?;
    let read = scan.files.iter().map(|file| ("FILE ", &file.path));
    let probed = scan.probed.iter().map(|file| ("PROBED ", &file.path));
    let absent = scan.absent.iter().map(|name| ("ABSENT ", name));
    let mut stdout = std::io::stdout().lock();
    for (kind, name) in read.chain(probed).chain(absent) {
        stdout
            .write_all(&[kind.as_bytes(), name, b"\n"].concat())
            .map_err(|error| format!("cannot write: {error}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(text: &str) {
    let mut stdout = std::io::stdout();
    // A reader that has seen enough is no error of ours.
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
