//! The command lines of `distcc-broker` and of `distcc`'s control words.
//!
//! The shim execs this program under the name `distcc` for everything that is not a compile, so
//! that the shim itself needs no parser.

use std::ffi::{OsStr, OsString};
use std::io::{ErrorKind, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::ArgMatches;
use interprocess::ConnectWaitMode;
use interprocess::local_socket::traits::{Stream as _, StreamCommon as _};
use interprocess::local_socket::{ConnectOptions, GenericFilePath, ToFsName};

mod holds;
mod looks;
mod words;

pub use self::words::{broker_command, distcc_command};

use super::config::places;
use super::defaults::Defaults;
use super::faces::masquerade::{self, Done};
use super::faces::{listing, monitor, pump};
use super::host_lists;
use super::scan::{Question, SharedScanner};
use super::scheduler::rng::Rng;
use super::status::Report;
use super::status::render::Style;
use super::trust::words as keys;
use super::watch;
use crate::common::bytes::Bytes;
use crate::common::exit;
use crate::common::hosts::{HostList, parse};
use crate::common::invocation::Invocation;
use crate::common::protocol::io::{read_local, write_local};
use crate::common::protocol::local::{Control, ControlReply, Header, Kind};
use crate::common::protocol::wire;
use crate::common::reason::LocalReason;
use crate::common::version::version;

/// How long a broker may take to answer a question about itself.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Exit status of `--status` when no broker runs; 3 is what init scripts mean by "not running".
const NOT_RUNNING: u8 = 3;

/// Runs the program under whichever name it was called.
pub fn run() -> ExitCode {
    let name = std::env::args_os().next().unwrap_or_default();
    let words = || -> Vec<String> {
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect()
    };
    match Path::new(&name).file_name().and_then(OsStr::to_str) {
        Some("distcc") => run_distcc(),
        Some("distccmon-text") => finish(monitor(&words(), "distccmon-text")),
        Some("lsdistcc") => finish(Ok(listing(&words()))),
        Some("pump" | "distcc-pump") => finish(pump()),
        _ => run_broker(),
    }
}

fn run_broker() -> ExitCode {
    let matches = broker_command().get_matches();
    if matches.get_flag("detach") {
        return super::start::detach(&[]);
    }
    super::memory::set_up();
    match super::serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("distcc-broker: {error}"));
            ExitCode::from(super::exit_status(&error))
        }
    }
}

fn run_distcc() -> ExitCode {
    let matches = match distcc_command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version go to stdout and end well; mistakes have distcc's own status.
            let printed = delivered(error.print());
            return match error.use_stderr() {
                true => ExitCode::from(exit::BAD_ARGUMENTS as u8),
                false => finish(printed.map(|()| ExitCode::SUCCESS)),
            };
        }
    };
    finish(dispatch(&matches))
}

fn finish(ended: Result<ExitCode, String>) -> ExitCode {
    match ended {
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
    if let Some(every) = matches.get_one::<Duration>("watch") {
        return watch::run(ask, *every, looks::look());
    }
    if matches.get_flag("dashboard") {
        return looks::dashboard();
    }
    for hold in holds::WORDS {
        if let Some(hosts) = matches.get_many::<String>(hold.word) {
            return holds::hold(hold, &hosts.collect::<Vec<_>>());
        }
    }
    if matches.get_flag("show-hosts") {
        return with_list(show_hosts);
    }
    if matches.get_flag("jobs") {
        return with_list(jobs);
    }
    if let Some(command) = matches.get_many::<OsString>("scan-includes") {
        let argv: Vec<Bytes> = command.cloned().map(Bytes::from).collect();
        return scan_includes(&argv);
    }
    if let Some(command) = matches.get_many::<OsString>("explain") {
        let argv: Vec<Bytes> = command.cloned().map(Bytes::from).collect();
        return looks::explain(argv);
    }
    if matches.get_flag("doctor") {
        return looks::doctor(style());
    }
    if let Some(words) = matches.get_many::<OsString>("trace") {
        return looks::trace(&words.cloned().collect::<Vec<_>>());
    }
    if matches.get_flag("print-config") {
        let variable = |name: &str| std::env::var_os(name);
        let defaults = Defaults::read(variable).map_err(|error| error.to_string())?;
        print(&defaults.show(variable));
        return Ok(ExitCode::SUCCESS);
    }
    if matches.get_flag("stop") {
        return stop();
    }
    if let Some(words) = matches.get_many::<String>("monitor") {
        return monitor(&words.cloned().collect::<Vec<_>>(), "distcc --monitor");
    }
    if let Some(words) = matches.get_many::<String>("list-volunteers") {
        return Ok(listing(&words.cloned().collect::<Vec<_>>()));
    }
    if let Some(directory) = matches.get_one::<OsString>("masquerade") {
        return fill(Path::new(directory));
    }
    if let Some(words) = keys_answer(matches) {
        return words.map(|text| {
            print(&text);
            ExitCode::SUCCESS
        });
    }
    if matches.get_flag("show-principal") {
        return Err("GSSAPI is not spoken here, so there is no principal\n\
                    hint: volunteers are reached through ssh (@host), or know this client's key (distccd --pair)"
            .to_owned());
    }
    print(&version("distcc"));
    Ok(ExitCode::SUCCESS)
}

/// What the words about keys answer, where one was given.
fn keys_answer(matches: &ArgMatches) -> Option<Result<String, String>> {
    if let Some(code) = matches.get_one::<String>("pair") {
        return Some(keys::pair(code).inspect(|_| holds::forgive_all()));
    }
    if let Some(words) = matches.get_many::<String>("sign-key") {
        return Some(keys::sign_key(&words.cloned().collect::<Vec<_>>()));
    }
    if matches.get_flag("farm-key") {
        return Some(keys::farm_key());
    }
    matches.get_flag("key").then(keys::key)
}

/// Connects to the broker of this environment, asks, and gives the answer; `None` without a broker.
fn ask(control: &Control) -> Result<Option<ControlReply>, String> {
    for place in places() {
        let socket = place.socket();
        let name = socket.as_path().to_fs_name::<GenericFilePath>().map_err(|error| error.to_string())?;
        let wait = ConnectWaitMode::Timeout(ANSWER_TIMEOUT);
        let Ok(mut stream) = ConnectOptions::new().name(name).wait_mode(wait).connect_sync() else {
            continue;
        };
        let peer =
            stream.peer_creds().map_err(|error| format!("whose the broker is cannot be told: {error}"))?;
        check_owner(socket.as_path(), peer.euid())?;
        let broker = peer.pid();
        let failed = |error: std::io::Error| unanswered(broker, &error);
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

/// Refuses a broker of another user, who may answer anything.
fn check_owner(socket: &Path, theirs: Option<libc::uid_t>) -> Result<(), String> {
    let ours = rustix::process::geteuid().as_raw();
    match theirs {
        Some(theirs) if theirs == ours => Ok(()),
        _ => Err(format!(
            "the broker's socket {} belongs to {}\nhint: DISTCC_DIR names a folder of your own for it",
            socket.display(),
            theirs.map_or("nobody known".to_owned(), |theirs| format!("user {theirs}"))
        )),
    }
}

/// That a broker, of this process, did not answer, and what to do about it.
fn unanswered(broker: Option<libc::pid_t>, error: &std::io::Error) -> String {
    let silent = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
    match broker.filter(|_| silent) {
        Some(broker) => format!(
            "the broker (process {broker}) has not answered for {} s; compiles run here meanwhile\n\
             hint: if it was stopped, `kill -CONT {broker}` lets it go on; after `kill -KILL {broker}` the next compile starts another",
            ANSWER_TIMEOUT.as_secs()
        ),
        None => format!("the broker does not answer: {error}"),
    }
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
        false => print(&report.render(style())),
    }
    Ok(ExitCode::SUCCESS)
}

/// Colours are for terminals whose owner does not mind (no-color.org).
fn style() -> Style {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let dumb = set("TERM").is_none_or(|term| term == "dumb");
    Style { colours: std::io::stdout().is_terminal() && set("NO_COLOR").is_none() && !dumb }
}

fn stop() -> Result<ExitCode, String> {
    match ask(&Control::Stop)? {
        Some(_) => print("the broker finishes what runs and exits\n"),
        None => print("no broker is running\n"),
    }
    Ok(ExitCode::SUCCESS)
}

/// What runs, once or again and again.
fn monitor(words: &[String], name: &str) -> Result<ExitCode, String> {
    let delay = match monitor::read(words) {
        Ok(delay) => delay,
        Err(why) => {
            complain(&format!("{name}: {why}\nusage: {name} [DELAY]"));
            return Ok(ExitCode::FAILURE);
        }
    };
    loop {
        let report = match ask(&Control::Status)? {
            Some(ControlReply::Status { json }) => {
                serde_json::from_str(&json).map_err(|error| error.to_string())?
            }
            _ => Report::default(),
        };
        print(&monitor::render(&report));
        match delay {
            Some(delay) => std::thread::sleep(delay),
            None => return Ok(ExitCode::SUCCESS),
        }
    }
}

fn listing(words: &[String]) -> ExitCode {
    let any = match listing::read(words) {
        Ok(request) => listing::list(&request, |line| print(&format!("{line}\n"))),
        Err(word) => {
            if !word.is_empty() {
                complain(&format!("lsdistcc: what does {word} mean?"));
            }
            print(listing::USAGE);
            false
        }
    };
    if any { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a command in the environment that `pump` makes, or prints that.
fn pump() -> Result<ExitCode, String> {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let location = std::env::var_os("DISTCC_LOCATION").map(Into::into);
    let directory = location.or_else(|| own.parent().map(Path::to_owned)).unwrap_or_default();
    let path = pump::path_with(&directory, &std::env::var_os("PATH").unwrap_or_default());
    let hosts = std::env::var("DISTCC_POTENTIAL_HOSTS").ok().map(|hosts| pump::hosts_of(&hosts));
    match pump::read(&words) {
        Some(pump::Wish::Run(command)) => {
            let mut run = std::process::Command::new(&command[0]);
            run.args(&command[1..]).env("PATH", path).envs(hosts.map(|hosts| ("DISTCC_HOSTS", hosts)));
            let error = std::os::unix::process::CommandExt::exec(&mut run);
            Err(format!("{}: {error}", Path::new(&command[0]).display()))
        }
        Some(pump::Wish::Startup) => {
            let hosts = hosts.map(|hosts| pump::export("DISTCC_HOSTS", OsStr::new(&hosts)));
            let lines = hosts.into_iter().chain([pump::export("PATH", &path)]);
            lines.for_each(|line| print_bytes(line.as_bytes()));
            Ok(ExitCode::SUCCESS)
        }
        Some(pump::Wish::Shutdown) => Ok(ExitCode::SUCCESS),
        Some(pump::Wish::Help) => {
            print(pump::USAGE);
            Ok(ExitCode::SUCCESS)
        }
        None => {
            complain(pump::USAGE.trim_end());
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Fills a directory with links to the distcc beside this program.
fn fill(directory: &Path) -> Result<ExitCode, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let distcc = own.with_file_name("distcc");
    if !distcc.exists() {
        return Err(format!("{} is not there", distcc.display()));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let done = masquerade::fill(directory, &distcc, &path)
        .map_err(|error| format!("{}: {error}", directory.display()))?;
    for done in done {
        match done {
            Done::Linked(name) => print(&format!("{name}\n")),
            Done::Removed(name) => complain(&format!("distcc: {name}: removed, there is no such compiler")),
            Done::Kept(name) => {
                complain(&format!("distcc: {name}: left alone, it is there and no link to distcc"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// This process as if it were a compile: for the sources of the host list.
fn surroundings() -> Result<Invocation, String> {
    let entry =
        |(name, value): (OsString, OsString)| Bytes([name.as_bytes(), b"=", value.as_bytes()].concat());
    let cwd = std::env::current_dir().map(Bytes::from_path).unwrap_or_else(|_| Bytes::from("/"));
    let mut here = Invocation { cwd, env: std::env::vars_os().map(entry).collect(), ..Invocation::default() };
    let defaults = Defaults::read(|name| std::env::var_os(name)).map_err(|error| error.to_string())?;
    defaults.complete(&mut here);
    Ok(here)
}

/// Shows something of the host list.
fn with_list(show: impl Fn(&HostList) -> String) -> Result<ExitCode, String> {
    let text = host_lists::read(&surroundings()?);
    let why = match text.as_ref().map(|(name, text)| (name, parse(text))) {
        Some((name, Ok(list))) if list.tokens.is_empty() => {
            let source_name = name.clone();
            format!("Warning: {}", LocalReason::EmptyHostList { source_name })
        }
        Some((_, Ok(list))) => {
            for odd in &list.odd {
                complain(&format!("distcc: Warning: host list: {odd}"));
            }
            print(&show(&list));
            return Ok(ExitCode::SUCCESS);
        }
        Some((_, Err(error))) => format!("ERROR: host list: {error}"),
        None => "ERROR: no hosts are listed\nhint: set DISTCC_HOSTS, or write ~/.distcc/hosts".to_owned(),
    };
    complain(&format!("distcc: {why}"));
    Ok(ExitCode::from(exit::BAD_HOST_LIST as u8))
}

fn show_hosts(list: &HostList) -> String {
    let mut tokens: Vec<_> = list.tokens.iter().collect();
    if list.randomize {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
        Rng::new(now ^ u64::from(std::process::id())).shuffle(&mut tokens);
    }
    tokens.iter().map(|token| format!("{token}\n")).collect()
}

fn jobs(list: &HostList) -> String {
    format!("{}\n", list.total_slots())
}

/// Prints what one compile reads, a name a line: `FILE`; `PROBED`, which is opened or asked for but
/// not read; `LINK`, a symbolic link on the way to them, and what it says; `ABSENT`.
fn scan_includes(words: &[Bytes]) -> Result<ExitCode, String> {
    let (absent, argv) = match words {
        [first, argv @ ..] if *first == *"--absent" => (true, argv),
        argv => (false, argv),
    };
    let around = surroundings()?;
    let question =
        Question { argv, cwd: &around.cwd, env: &around.env, toolchain: None, absent, folders: &[] };
    let set = SharedScanner::default()
        .inputs(&question)
        .map_err(|declined| format!("the scanner declines: {declined}"))?;
    let mut lines: Vec<Vec<u8>> = Vec::new();
    let mut line =
        |kind: &str, words: &[&[u8]]| lines.push([kind.as_bytes(), &words.concat(), b"\n"].concat());
    set.files.iter().for_each(|file| line("FILE ", &[&file.path]));
    set.probed.iter().for_each(|file| line("PROBED ", &[&file.path]));
    set.links.iter().for_each(|link| line("LINK ", &[&link.path, b" -> ", &link.target]));
    set.absent.iter().for_each(|name| line("ABSENT ", &[name]));
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&lines.concat()).map_err(|error| format!("cannot write: {error}"))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints, or ends the program with what went wrong: a disk that is full must not look like success.
fn print(text: &str) {
    print_bytes(text.as_bytes());
}

fn print_bytes(bytes: &[u8]) {
    let mut stdout = std::io::stdout();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    if let Err(message) = delivered(written) {
        complain(&format!("distcc: {message}"));
        std::process::exit(exit::FAILED);
    }
}

/// What is wrong where something could not be printed. A reader that has seen enough is no error of ours.
fn delivered(written: std::io::Result<()>) -> Result<(), String> {
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(format!("cannot write: {error}")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Error;

    use super::*;

    #[test]
    fn a_broker_of_another_user_is_not_asked() {
        let ours = rustix::process::geteuid().as_raw();
        let check = |theirs| check_owner(Path::new("/tmp/d/broker.sock"), theirs);
        assert_eq!(check(Some(ours)), Ok(()));
        let refused = check(Some(ours + 1)).expect_err("another's");
        assert!(refused.contains(&format!("/tmp/d/broker.sock belongs to user {}", ours + 1)), "{refused}");
        assert!(check(None).is_err());
    }

    #[test]
    fn what_could_not_be_printed_is_no_success_unless_the_reader_left() {
        let full = File::options().write(true).open("/dev/full").and_then(|mut full| full.write_all(b"x"));
        assert!(delivered(full).is_err_and(|message| message.contains("No space left")));
        assert_eq!(delivered(Err(Error::from(ErrorKind::BrokenPipe))), Ok(()));
        assert_eq!(delivered(Ok(())), Ok(()));
    }
}
