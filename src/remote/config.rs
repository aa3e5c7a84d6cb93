//! The command line.
//!
//! Option names are those of distcc's own daemon where it has them.

mod choices;

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::{ArgAction, Parser};

use self::choices::level;
pub use self::choices::{Level, LogFormat, SandboxChoice};
use super::access::{Allowed, private_networks};
use super::owner::ask::Request;
use crate::common::protocol::link::DEFAULT_PORT;
use crate::common::{exit, version};

/// The port of the page of figures, as distccd 3.4 has it.
const STATS_PORT: u16 = 3633;

/// Compiles C and C++ for other machines.
///
/// distccd is the volunteer of distcc: it takes compiles from brokers on other machines, runs
/// them, and sends back what they made. They come as files, compiler included, and run in a box
/// that holds nothing else; or as preprocessed texts for compilers of this machine, in a box that
/// holds those (--sandbox).
///
/// Clients prove who they are by keys, as with ssh, and everything is encrypted: only those whose
/// keys are in authorized_keys, in the folder of --state-dir, are served. `distccd --pair` lets one
/// in. Clients of distcc 3.4 have no keys: they are served only from addresses given with --allow.
///
/// A compiler of this machine is used only when it is, program for program, the client's; it is
/// looked for by name in distccd's own PATH, and among those given with --compiler.
#[derive(Clone, Debug, Parser)]
#[command(name = "distccd", disable_version_flag = true, max_term_width = 100, args_override_self = true)]
pub struct Config {
    /// Serve clients of distcc 3.4, which have no keys, from this address, this network, or the
    /// machine of this name, e.g. 192.168.0.0/24, fd00::/8 or build7.example. May be given several
    /// times. Whoever can connect from there can run compilers here, and whoever is on the way can
    /// read and change what is sent.
    #[arg(short, long = "allow", value_name = "ADDRESS[/BITS]", help_heading = "Network")]
    pub allow: Vec<Allowed>,

    /// The same for this machine and private networks (10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16,
    /// 169.254.0.0/16, fc00::/7, fe80::/10).
    #[arg(long, help_heading = "Network")]
    pub allow_private: bool,

    /// Listen on this address of this machine, given as such or by a name, or `*`. May be given
    /// several times. Without it: on all addresses.
    #[arg(long, value_name = "ADDRESS", help_heading = "Network")]
    pub listen: Vec<String>,

    /// Listen on this TCP port; 0 takes any free one.
    #[arg(short, long, value_name = "PORT", default_value_t = DEFAULT_PORT, help_heading = "Network")]
    pub port: u16,

    /// Write the port to this file once it is open; for --port 0.
    #[arg(long, value_name = "FILE", help_heading = "Network")]
    pub port_file: Option<PathBuf>,

    /// Serve one connection on stdin and stdout, as inetd and ssh start it, and exit. It is the
    /// default when stdin is a socket.
    #[arg(long, help_heading = "Network")]
    pub inetd: bool,

    /// Like --inetd, for a broker that reaches this machine by ssh: its link lives for many jobs.
    #[arg(long, conflicts_with = "daemon", help_heading = "Network")]
    pub stdio: bool,

    /// Serve figures about this daemon as a page of text, to the addresses given with --allow, or
    /// without any to this machine.
    #[arg(long, help_heading = "Network")]
    pub stats: bool,

    /// Serve that page on this port.
    #[arg(long, value_name = "PORT", default_value_t = STATS_PORT, help_heading = "Network")]
    pub stats_port: u16,

    /// Keep this daemon's key, and the list of keys that it serves, in this folder, which nobody else
    /// may enter. The default is $STATE_DIRECTORY, else /var/lib/distcc when root starts it, else
    /// $XDG_STATE_HOME/distccd (~/.local/state/distccd).
    #[arg(long, value_name = "DIRECTORY", help_heading = "Keys")]
    pub state_dir: Option<PathBuf>,

    /// Print a code that lets one client in within ten minutes, and exit. There, `distcc --pair
    /// CODE` takes it. ADDRESS is where clients reach this machine, if not by its name.
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, help_heading = "Keys")]
    pub pair: Option<Option<String>>,

    /// Print this volunteer's public key, and exit.
    #[arg(long, help_heading = "Keys")]
    pub key: bool,

    /// Serve figures for Prometheus at /metrics on this port of 127.0.0.1, or on ADDRESS:PORT.
    /// Whoever can reach that address may read them.
    #[arg(long, value_name = "[ADDRESS:]PORT", value_parser = page_address, help_heading = "Network")]
    pub metrics: Option<SocketAddr>,

    /// Serve a page for the owner of this machine on this port of 127.0.0.1, or on ADDRESS:PORT: who
    /// compiles what here, how much of the machine it takes, and a button that pauses it. Its
    /// address, with a token that opens it, is printed when this starts on a terminal, and by
    /// --dashboard-address.
    #[arg(long, value_name = "[ADDRESS:]PORT", value_parser = page_address, help_heading = "Owner")]
    pub dashboard: Option<SocketAddr>,

    /// Print the address of the page of the distccd that runs here, and exit.
    #[arg(long, help_heading = "Owner", group = "ask")]
    pub dashboard_address: bool,

    /// Have the distccd that runs here take no new jobs, and exit. Those that it has are finished;
    /// clients use other volunteers. Needs its page; SIGUSR1 does the same without.
    #[arg(long, help_heading = "Owner", group = "ask")]
    pub pause: bool,

    /// Have it take jobs again, and exit. So does SIGUSR2.
    #[arg(long, help_heading = "Owner", group = "ask")]
    pub resume: bool,

    /// Run at most this many compilers at once, for all clients together. The default is the
    /// number of processors and two more.
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024), help_heading = "Jobs")]
    pub jobs: Option<u32>,

    /// Run at most this many compilers at once for any one client, over all its links. Without it,
    /// clients that want slots have equally many, and one alone may have all.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024), help_heading = "Jobs")]
    pub client_jobs: Option<u32>,

    /// Let the compilers of any one client have at most this much memory together, in MiB: so many
    /// run at once as fit by --job-memory, or by 192 MiB each. The default is three quarters of
    /// the machine's.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(16..=1 << 30), help_heading = "Jobs")]
    pub client_memory: Option<u64>,

    /// Add this to the niceness of compilers.
    #[arg(
        short = 'N',
        long,
        value_name = "N",
        default_value_t = 5,
        allow_hyphen_values = true,
        help_heading = "Jobs"
    )]
    pub nice: i32,

    /// Kill a compiler that runs longer than this many seconds; 0 means a week.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, help_heading = "Jobs")]
    pub job_lifetime: u64,

    /// End the whole daemon after this many seconds, once the jobs that run have ended; 0 means never.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 0,
        hide_default_value = true,
        help_heading = "Daemon"
    )]
    pub lifetime: u64,

    /// Tell the kernel how willingly to end this daemon when memory is short, from -1000 (never)
    /// to 1000.
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = clap::value_parser!(i32).range(-1000..=1000), help_heading = "Jobs")]
    pub oom_score_adj: Option<i32>,

    /// Allow each process of a job this much address space, in MiB. In any case none has more memory
    /// of its own than half of the machine's, and jobs start only while memory is free.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(16..=1 << 30), help_heading = "Jobs")]
    pub job_memory: Option<u64>,

    /// Give slots back while more than this many tasks of others are runnable on this machine,
    /// one for one, down to one slot. The default is four for each processor.
    #[arg(long, value_name = "N", help_heading = "Jobs")]
    pub max_load: Option<u32>,

    /// How jobs are confined. `auto`: in namespaces where this machine can, then a client's own
    /// files and compilers may come; else jobs are preprocessed texts for compilers of this machine, kept
    /// in by Landlock and a filter of system calls where there are such. `required`: refuse to start
    /// without namespaces. `off`: texts only, and they can do what the daemon's user can.
    #[arg(long, value_name = "WHEN", default_value = "auto", help_heading = "Jobs")]
    pub sandbox: SandboxChoice,

    /// Run any program that a client of the classic protocol names, not only compilers whose
    /// names are in a folder of allowed ones.
    #[arg(long, alias = "make-me-a-botnet", help_heading = "Jobs")]
    pub enable_tcp_insecure: bool,

    /// One more folder whose programs clients of the classic protocol may name, besides
    /// /usr/lib/distcc and /usr/local/lib/distcc.
    #[arg(long, value_name = "DIRECTORY", help_heading = "Jobs")]
    pub whitelist_dir: Option<PathBuf>,

    /// Use this compiler too, besides those found by name in PATH. May be given several times.
    #[arg(long, value_name = "PATH", help_heading = "Jobs")]
    pub compiler: Vec<PathBuf>,

    /// Keep inputs and running jobs beneath this directory. The default is $TMPDIR, else /tmp.
    #[arg(long, value_name = "DIRECTORY", help_heading = "Files")]
    pub temp_dir: Option<PathBuf>,

    /// Keep at most this many MiB of inputs and compilers, so that they need not be sent again. A
    /// compiler takes one or two hundred.
    #[arg(long, value_name = "MIB", default_value_t = 4096, value_parser = clap::value_parser!(u64).range(0..=1 << 30), help_heading = "Files")]
    pub store_size: u64,

    /// Take no jobs while less than this many MiB are free in the temporary directory.
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(0..=1 << 40), help_heading = "Files")]
    pub min_free_disk: u64,

    /// Append messages to this file. Without it they go to the system's log, or to stderr with
    /// --no-detach.
    #[arg(long, value_name = "FILE", help_heading = "Files")]
    pub log_file: Option<PathBuf>,

    /// Print messages on stderr, and not into a file.
    #[arg(long, help_heading = "Files")]
    pub log_stderr: bool,

    /// Say everything: --log-level=debug.
    #[arg(long, help_heading = "Files")]
    pub verbose: bool,

    /// Say it as lines of text, or as JSON documents, one a line, with the spans that each is in.
    #[arg(long, value_name = "FORMAT", default_value = "text", help_heading = "Files")]
    pub log_format: LogFormat,

    /// Say this much: error, warning, info or debug, or another word of syslog's.
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = level, help_heading = "Files")]
    pub log_level: Level,

    /// Write the process id to this file.
    #[arg(short = 'P', long, value_name = "FILE", help_heading = "Files")]
    pub pid_file: Option<PathBuf>,

    /// Detach from the terminal, which is the default. When the command returns, the port is
    /// open and the pid file is written, or the reason why not has been printed.
    #[arg(long, help_heading = "Daemon")]
    pub daemon: bool,

    /// Stay in the foreground, e.g. under systemd.
    #[arg(long, help_heading = "Daemon")]
    pub no_detach: bool,

    /// Stay in the foreground and run one job at a time, for debugging.
    #[arg(long, help_heading = "Daemon")]
    pub no_fork: bool,

    /// When started as root, run as this user. The default is `distcc`, else `distccd`, else `nobody`.
    #[arg(long, value_name = "USER", help_heading = "Daemon")]
    pub user: Option<String>,

    /// Read settings from this file, and not from ~/.config/distcc/distccd.toml or
    /// /etc/distcc/distccd.toml. Each long option that says how to serve is a key of it, and a variable:
    /// --store-size is `store-size` and $DISTCCD_STORE_SIZE. The command line counts first, then the environment.
    #[arg(long, value_name = "FILE", help_heading = "Daemon")]
    pub config: Option<PathBuf>,

    /// Print the settings in force, each with where it comes from, as a settings file.
    #[arg(long, help_heading = "Daemon")]
    pub print_config: bool,

    /// Print the version.
    #[arg(short = 'V', long, help_heading = "Daemon")]
    pub version: bool,

    /// Accepted for the sake of scripts; without meaning here.
    #[arg(long, hide = true)]
    pub no_fifo: bool,

    /// Accepted for the sake of scripts; without meaning here.
    #[arg(short = 'W', long, hide = true)]
    pub wizard: bool,

    /// Not offered: the network's own service discovery.
    #[arg(long, hide = true)]
    pub zeroconf: bool,

    /// Not offered: authentication by GSSAPI.
    #[arg(long, hide = true)]
    pub auth: bool,

    /// Words that are no options; distccd 3.4 ignores them.
    #[arg(hide = true)]
    pub ignored: Vec<OsString>,

    /// This is the detached part of --daemon.
    #[arg(long, hide = true, action = ArgAction::SetTrue)]
    pub detached: bool,

    /// Whether root started the daemon.
    #[arg(skip)]
    pub is_roots: bool,

    /// What was given and is not meant as it reads; distccd 3.4 lets it pass, too.
    #[arg(skip)]
    pub odd: Vec<String>,
}

/// The longest that a compiler may run, in seconds.
const JOB_LIFETIME_MAX_S: u64 = 604_800;

fn page_address(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<u16>() {
        Ok(port) => Ok((Ipv4Addr::LOCALHOST, port).into()),
        Err(_) => text.parse().map_err(|_| "neither a port nor ADDRESS:PORT".to_owned()),
    }
}

/// What to do instead of serving.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// What to print.
    pub text: String,
    /// How to exit.
    pub status: i32,
}

impl Config {
    /// Reads a command line, the program's name first. Relative paths become absolute.
    ///
    /// # Errors
    ///
    /// Returns the help that was asked for, or what is wrong, with the exit status.
    pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, Answer> {
        let mut config = Config::try_parse_from(arguments).map_err(|error| Answer {
            text: error.to_string(),
            status: if error.use_stderr() { exit::BAD_ARGUMENTS } else { 0 },
        })?;
        if config.version {
            return Err(Answer { text: version::version("distccd"), status: 0 });
        }
        if config.zeroconf {
            return Err(unoffered(
                "--zeroconf",
                "volunteers are listed by name, in DISTCC_HOSTS or a hosts file",
            ));
        }
        if config.auth {
            return Err(unoffered(
                "--auth (GSSAPI)",
                "clients have keys (--pair), come by ssh, or are allowed by address (--allow)",
            ));
        }
        config.take_what_is_odd();
        if config.allow_private {
            config.allow.extend(private_networks());
        }
        if config.verbose {
            config.log_level = Level::Debug;
        }
        let files = [&mut config.port_file, &mut config.log_file, &mut config.pid_file];
        let folders = [&mut config.temp_dir, &mut config.state_dir];
        for path in files.into_iter().chain(folders).flatten().chain(&mut config.compiler) {
            *path = absolute(path)?;
        }
        Ok(config)
    }

    /// Which settings differ in `next` and count only when the daemon is started again.
    pub fn needs_restart(&self, next: &Config) -> Vec<&'static str> {
        let differs = [
            ("listen", self.listen != next.listen),
            ("port", self.port != next.port),
            ("stats", (self.stats, self.stats_port) != (next.stats, next.stats_port)),
            ("metrics", self.metrics != next.metrics),
            ("dashboard", self.dashboard != next.dashboard),
            ("client-jobs", self.client_jobs != next.client_jobs),
            ("client-memory", self.client_memory != next.client_memory),
            ("nice", self.nice != next.nice),
            ("job-lifetime", self.job_lifetime != next.job_lifetime),
            ("job-memory", self.job_memory != next.job_memory),
            ("lifetime", self.lifetime != next.lifetime),
            ("oom-score-adj", self.oom_score_adj != next.oom_score_adj),
            ("sandbox", self.sandbox != next.sandbox),
            ("compiler", self.compiler != next.compiler),
            ("enable-tcp-insecure", self.enable_tcp_insecure != next.enable_tcp_insecure),
            ("whitelist-dir", self.whitelist_dir != next.whitelist_dir),
            ("temp-dir", self.temp_dir != next.temp_dir),
            ("state-dir", self.state_dir != next.state_dir),
            ("store-size", self.store_size != next.store_size),
            ("log-file", (&self.log_file, self.log_stderr) != (&next.log_file, next.log_stderr)),
            ("log-level", self.log_level != next.log_level),
            ("log-format", self.log_format != next.log_format),
            ("pid-file", self.pid_file != next.pid_file),
            ("user", self.user != next.user),
        ];
        differs.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
    }

    /// Brings values within their bounds that are accepted beyond them.
    fn take_what_is_odd(&mut self) {
        let nice = self.nice.clamp(0, 19);
        if nice != self.nice {
            self.odd.push(format!("--nice {} is taken for {nice}", self.nice));
            self.nice = nice;
        }
        if self.job_lifetime == 0 || self.job_lifetime > JOB_LIFETIME_MAX_S {
            self.job_lifetime = JOB_LIFETIME_MAX_S;
        }
        if self.log_level == Level::Unknown {
            self.odd.push("the level of --log-level is not known, and taken for info".to_owned());
        }
        if !self.ignored.is_empty() {
            let words: Vec<_> = self.ignored.iter().map(|word| word.to_string_lossy()).collect();
            self.odd.push(format!("words without meaning are ignored: {}", words.join(" ")));
        }
    }

    /// What is wanted of a daemon that runs, if that is why this was started.
    pub fn request(&self) -> Option<Request> {
        let wishes = [
            (self.dashboard_address, Request::Address),
            (self.pause, Request::Pause),
            (self.resume, Request::Resume),
        ];
        wishes.into_iter().find_map(|(wanted, request)| wanted.then_some(request))
    }

    /// Compilers at once, on a machine with so many processors.
    pub fn slots(&self, processors: u32) -> u32 {
        if self.no_fork { 1 } else { self.jobs.unwrap_or(processors + 2) }
    }

    /// Compilers at once for one client, on a machine with so much memory, where one is expected to need
    /// so much; in bytes.
    pub fn client_slots(&self, slots: u32, memory: u64, expected: u64) -> u32 {
        let may = self.client_memory.map_or(memory / 4 * 3, |mib| mib << 20);
        let each = self.job_memory.map_or(expected, |mib| mib << 20).max(1);
        let fit = u32::try_from(may / each).unwrap_or(u32::MAX);
        slots.min(self.client_jobs.unwrap_or(slots)).min(fit).max(1)
    }

    /// What to be, when stdin is a socket or not.
    pub fn role(&self, stdin_is_socket: bool) -> Role {
        let asked = self.daemon || self.no_detach || self.no_fork || self.detached;
        match (self.inetd || self.stdio, stdin_is_socket && !asked) {
            (false, false) if self.no_detach || self.no_fork => Role::Foreground,
            (false, false) => Role::Daemon,
            _ => Role::OneConnection,
        }
    }
}

/// What a distccd does with the terminal and its stdin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Serve a port, detached from whoever started it.
    Daemon,
    /// Serve a port, in the foreground.
    Foreground,
    /// Serve the connection that stdin and stdout are.
    OneConnection,
}

fn unoffered(option: &str, instead: &str) -> Answer {
    Answer { text: format!("error: {option} is not offered here: {instead}\n"), status: exit::BAD_ARGUMENTS }
}

fn absolute(path: &Path) -> Result<PathBuf, Answer> {
    std::path::absolute(path).map_err(|error| Answer {
        text: format!("error: {}: {error}\n", path.display()),
        status: exit::BAD_ARGUMENTS,
    })
}

#[cfg(test)]
mod tests;
