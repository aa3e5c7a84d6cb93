//! The words of the two command lines, and their help.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Arg, ArgAction, Command};

/// The command line of `distcc-broker`.
pub fn broker_command() -> Command {
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

/// A word that takes all words behind it.
fn words_behind(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name(value)
        .num_args(1..)
        .allow_hyphen_values(true)
        .trailing_var_arg(true)
        .value_parser(clap::value_parser!(OsString))
        .help(help)
}

/// A word that takes hosts, by their names in the status.
fn hosts(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("HOST").num_args(1..).help(help)
}

/// How often a live view looks.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    match (0.2..=3600.0).contains(&seconds) {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err("0.2 to 3600 seconds".to_owned()),
    }
}

/// The command line of `distcc`'s control words.
pub fn distcc_command() -> Command {
    with_keys(Command::new("distcc"))
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
        .arg(
            Arg::new("watch")
                .long("watch")
                .value_name("SECONDS")
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("1")
                .value_parser(seconds)
                .help("Show the same live on the whole screen, anew every second or every so many; ? there explains its keys"),
        )
        .arg(flag("dashboard", "Print the address of the same as a page for a browser of this machine, which the broker serves from now on, to whoever has the address"))
        .arg(hosts("drain", "Give these hosts no new jobs; those that they have are finished. Lasts as long as the broker"))
        .arg(hosts("exclude", "Give these hosts no jobs, and the jobs that they have to others. Lasts as long as the broker"))
        .arg(hosts("use", "Give these hosts jobs again, after --drain or --exclude"))
        .arg(flag("show-hosts", "Print the hosts that would be used, one a line"))
        .arg(Arg::new("jobs").short('j').action(ArgAction::SetTrue).help("Print how many jobs the hosts take together"))
        .arg(flag("print-config", "Print the settings in force, each with where it comes from, as a settings file"))
        .arg(flag("stop", "Drain the broker: what runs is finished, then it exits"))
        .arg(words_behind("scan-includes", "COMMAND", "Print the files that this compile would read, as the include scanner finds them, and the symbolic links on the way to them; with --absent as the first word, also the names that are looked for and not found"))
        .arg(words_behind("explain", "COMMAND", "Say what would become of this compile and why: verdict, rule, compiler, inputs, hosts, the command elsewhere; compiles nothing"))
        .arg(flag("doctor", "Check step by step what a build through distcc needs, here and on each host: a tick or a cross, a sentence, and what mends it; exit 1 when something is wrong"))
        .arg(words_behind("trace", "FILE", "Write a timeline that Perfetto opens: of the build that the words behind -- run, else of the latest one; prints what held it back"))
        .arg(
            Arg::new("monitor")
                .long("monitor")
                .value_name("DELAY")
                .num_args(0..)
                .help("Print what runs, as distccmon-text does; with a DELAY in seconds, again and again"),
        )
        .arg(
            Arg::new("list-volunteers")
                .long("list-volunteers")
                .value_name("WORD")
                .num_args(0..)
                .allow_hyphen_values(true)
                .trailing_var_arg(true)
                .help("Print those of these hosts that answer, as lsdistcc does; --list-volunteers --help tells more"),
        )
        .arg(
            Arg::new("masquerade")
                .long("masquerade")
                .value_name("DIR")
                .value_parser(clap::value_parser!(OsString))
                .help("Fill this directory with links to distcc for the compilers in PATH"),
        )
        .arg(flag("show-principal", "Not offered: GSSAPI").hide(true))
        .group(clap::ArgGroup::new("word").args(WORDS).required(true))
}

/// The words about keys.
fn with_keys(command: Command) -> Command {
    command
        .arg(
            Arg::new("pair")
                .long("pair")
                .value_name("CODE")
                .help("Make this client and a volunteer know each other, by a code that distccd --pair showed there"),
        )
        .arg(flag("key", "Print this client's public key, for a volunteer's authorized_keys"))
        .arg(flag("farm-key", "Print the public key with which --sign-key signs here; it is made when first needed"))
        .arg(
            Arg::new("sign-key")
                .long("sign-key")
                .value_name("KEY")
                .num_args(1..)
                .help("Print a certificate: KEY NAME [LAST-DAY]; volunteers that know the farm key take it for a year, or until that day"),
        )
}

/// The words of `distcc`; one of them at a time.
const WORDS: [&str; 23] = [
    "version",
    "status",
    "watch",
    "dashboard",
    "drain",
    "exclude",
    "use",
    "show-hosts",
    "jobs",
    "print-config",
    "stop",
    "scan-includes",
    "explain",
    "doctor",
    "trace",
    "monitor",
    "list-volunteers",
    "masquerade",
    "pair",
    "key",
    "farm-key",
    "sign-key",
    "show-principal",
];

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
  DISTCC_METRICS       port of 127.0.0.1, or ADDRESS:PORT, at which a broker that starts serves /metrics
  DISTCC_TRACE         write a timeline of the jobs into this file, best an absolute path
  DISTCC_IDLE_TIMEOUT  seconds after which an idle broker exits (28800)

Exit status: the compiler's own, or 100 failure, 101 bad arguments, 106 bad host list, 110 no compiler, \
111 distcc called itself, 116 no host and DISTCC_FALLBACK=0.";
