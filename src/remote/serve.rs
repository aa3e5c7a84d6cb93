//! The daemon's life: start, serve, drain, end.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::access::Access;
use super::admit::Policy;
use super::classic::Terms;
use super::compile::Workshop;
use super::config::Config;
use super::gate::Gate;
use super::guard::{self, Guard};
use super::job::Context;
use super::process::Limits;
use super::root::Root;
use super::session::Phase;
use super::store::Store;
use super::toolchain::Toolchains;
use super::whitelist::{self, Whitelist};
use super::{daemonize, listen, privileges, sample};
use crate::common::exit;
use crate::common::limits::OUTPUT_MAX_BYTES;

/// How often the machine is looked at.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(500);

/// How long a drain may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);

/// How long links may take to end once their jobs have been killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a client of the classic protocol may be silent (distccd(1), `DISTCC_IO_TIMEOUT`).
const IO_TIMEOUT: Duration = Duration::from_secs(300);

/// Threads that move bytes; all else has its own or is another program.
const WORKERS: usize = 2;

/// Memory that is kept free: an eighth of the machine's, but no more than this, in bytes.
const MEMORY_FLOOR_MAX: u64 = 512 << 20;

/// What a C++ compile of middling size needs, in bytes.
const MEMORY_PER_JOB: u64 = 192 << 20;

/// Why the daemon did not start: what to say, and how to exit.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
struct StartError {
    status: i32,
    why: String,
}

fn failed(status: i32, what: impl std::fmt::Display) -> impl FnOnce(io::Error) -> StartError {
    move |error| StartError { status, why: format!("{what}: {error}") }
}

/// Runs `distccd` with this process's arguments.
pub fn run() -> ExitCode {
    let mut arguments = std::env::args_os();
    if let (_, Some(first), Some(jobs)) = (arguments.next(), arguments.next(), arguments.next())
        && first == guard::ARGUMENT
    {
        guard::main(Path::new(&jobs));
        return ExitCode::SUCCESS;
    }
    let config = match Config::read(std::env::args_os()) {
        Ok(config) => config,
        Err(answer) if answer.status == 0 => {
            print!("{}", answer.text);
            return ExitCode::SUCCESS;
        }
        Err(answer) => {
            eprint!("distccd: {}", answer.text);
            return exit_code(answer.status);
        }
    };
    match live(&config) {
        Ok(status) => exit_code(status),
        Err(error) => {
            eprintln!("distccd: {error}");
            exit_code(error.status)
        }
    }
}

fn exit_code(status: i32) -> ExitCode {
    ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX))
}

fn live(config: &Config) -> Result<i32, StartError> {
    if config.daemon && !config.detached {
        return daemonize::start().map_err(failed(exit::FAILED, "cannot start in the background"));
    }
    if config.detached {
        daemonize::detach();
    }
    let listeners = bind(config)?;
    let still_root = privileges::drop_root(config.user.as_deref())
        .map_err(|error| StartError { status: exit::SETUID_FAILED, why: error.to_string() })?;
    start_log(config)?;
    if still_root {
        tracing::warn!("jobs run as root, because --user says so");
    }
    // Compilers need no set-uid programs. Only ever refused by kernels that have no such switch.
    let _ = rustix::thread::set_no_new_privs(true);
    // No core files of compilers, nor of ours: sources are none of this machine's business.
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
    let root = take_root(config)?;
    let context = Arc::new(context(config, &root)?);
    let served = serve(config, listeners, &root, &context);
    context.guard.finish();
    // The guard has removed it; if there was none to do so, this does.
    let _ = fs::remove_dir_all(&root.jobs);
    if let Some(path) = &config.pid_file {
        let _ = fs::remove_file(path);
    }
    served.map(|()| 0)
}

fn bind(config: &Config) -> Result<Vec<TcpListener>, StartError> {
    let bind = |address: IpAddr, port| {
        let address = SocketAddr::new(address, port);
        TcpListener::bind(address).map_err(failed(exit::BIND_FAILED, format!("cannot listen on {address}")))
    };
    let (v4, v6) = match config.allow.is_empty() {
        true => (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST),
        false => (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED),
    };
    let mut listeners: Vec<TcpListener> = Vec::new();
    // With port 0 the first socket's port is every socket's.
    let port = |listeners: &[TcpListener]| {
        listeners
            .first()
            .and_then(|first| first.local_addr().ok())
            .map_or(config.port, |address| address.port())
    };
    for address in &config.listen {
        listeners.push(bind(*address, port(&listeners))?);
    }
    if listeners.is_empty() {
        // An IPv6 socket for all addresses takes IPv4 as well where the system is set so.
        listeners.extend(bind(v6.into(), config.port).ok());
        match (bind(v4.into(), port(&listeners)), listeners.is_empty()) {
            (Ok(listener), _) => listeners.push(listener),
            (Err(error), true) => return Err(error),
            (Err(error), false) if v4.is_loopback() => return Err(error),
            (Err(_), false) => {}
        }
    }
    Ok(listeners)
}

fn start_log(config: &Config) -> Result<(), StartError> {
    let level = tracing::level_filters::LevelFilter::from(config.log_level);
    let log = tracing_subscriber::fmt().with_max_level(level).with_target(false);
    match &config.log_file {
        None => log.with_ansi(false).with_writer(io::stderr).init(),
        Some(path) => {
            let file = File::options().append(true).create(true).mode(0o640).open(path);
            let file = file.map_err(failed(exit::IO_FAILED, path.display()))?;
            log.with_ansi(false).with_writer(Mutex::new(file)).init();
        }
    }
    Ok(())
}

fn take_root(config: &Config) -> Result<Root, StartError> {
    let temp = config.temp_dir.clone().unwrap_or_else(std::env::temp_dir);
    let temp = std::path::absolute(&temp).map_err(failed(exit::IO_FAILED, temp.display()))?;
    // No file system is kept busy; and what the guard ends is whoever works in the job directory.
    std::env::set_current_dir("/").map_err(failed(exit::IO_FAILED, "/"))?;
    Root::take(&temp).map_err(|error| StartError { status: exit::IO_FAILED, why: error.to_string() })
}

fn context(config: &Config, root: &Root) -> Result<Context, StartError> {
    let processors = std::thread::available_parallelism().map_or(1, |number| number.get() as u32);
    let slots = config.slots(processors);
    let disk_floor = config.min_free_disk << 20;
    let search_path = search_path();
    let policy = Policy {
        slots,
        memory_floor: (sample::memory_total().unwrap_or(0) / 8).min(MEMORY_FLOOR_MAX),
        memory_per_job: MEMORY_PER_JOB,
        disk_floor,
        load_max: config.max_load.unwrap_or(processors * 4),
    };
    let limits = Limits {
        nice: config.nice,
        file_bytes: OUTPUT_MAX_BYTES,
        memory_bytes: config.job_memory.map(|mib| mib << 20),
    };
    let lifetime = Duration::from_secs(config.job_lifetime);
    let store = Store::open(&root.store, config.store_size << 20);
    let gate = Gate::new(policy);
    gate.sample(&sample::take(&root.jobs));
    Ok(Context {
        gate,
        store: store.map_err(failed(exit::IO_FAILED, root.store.display()))?,
        toolchains: Toolchains::new(search_path.clone(), config.compiler.clone()),
        classic: Terms::new(whitelist(config, search_path.clone())?, io_timeout()),
        workshop: Workshop::new(root.jobs.clone(), search_path, limits, lifetime, disk_floor),
        guard: Guard::start(&root.jobs).map_err(failed(exit::FAILED, "cannot start the guard"))?,
        slots,
    })
}

/// Where programs are looked for.
fn search_path() -> OsString {
    let named = |name| std::env::var_os(name).filter(|path| !path.is_empty());
    named("DISTCCD_PATH").or_else(|| named("PATH")).unwrap_or_else(|| OsString::from("/usr/bin:/bin"))
}

/// How long a client of the classic protocol may be silent.
fn io_timeout() -> Duration {
    let seconds = std::env::var("DISTCC_IO_TIMEOUT").ok().and_then(|text| text.parse().ok());
    seconds.filter(|&seconds| seconds > 0).map_or(IO_TIMEOUT, Duration::from_secs)
}

/// Which compilers clients of the classic protocol may name.
fn whitelist(config: &Config, search_path: OsString) -> Result<Whitelist, StartError> {
    let words = std::env::var("DISTCC_CMDLIST_NUMWORDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let policy = match std::env::var_os("DISTCC_CMDLIST") {
        Some(list) => whitelist::Policy::list(Path::new(&list), words)
            .map_err(failed(exit::BAD_ARGUMENTS, format!("DISTCC_CMDLIST: {}", list.display())))?,
        None if config.enable_tcp_insecure => whitelist::Policy::Everything,
        None => whitelist::Policy::folders(config.whitelist_dir.as_deref()),
    };
    Ok(Whitelist::new(policy, search_path))
}

fn serve(
    config: &Config,
    listeners: Vec<TcpListener>,
    root: &Root,
    context: &Arc<Context>,
) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    let runtime = runtime.map_err(failed(exit::FAILED, "cannot start threads"))?;
    let access = Arc::new(Access::new(&config.allow));
    let served = runtime.block_on(async {
        let phase = watch::Sender::new(Phase::Running);
        let mut tasks = JoinSet::new();
        let mut port = 0;
        for listener in listeners {
            let address = listener.local_addr().map_err(failed(exit::BIND_FAILED, "listen"))?;
            listener.set_nonblocking(true).map_err(failed(exit::BIND_FAILED, "listen"))?;
            let listener =
                tokio::net::TcpListener::from_std(listener).map_err(failed(exit::BIND_FAILED, "listen"))?;
            tasks.spawn(listen::serve(listener, Arc::clone(&access), Arc::clone(context), phase.subscribe()));
            tracing::info!("listening on {address}");
            port = address.port();
        }
        let mut helpers = JoinSet::new();
        helpers.spawn(keep_sampling(Arc::clone(context), root.jobs.clone()));
        let signals = Signals::new().map_err(failed(exit::FAILED, "cannot handle signals"))?;
        announce(config, port)?;
        signals.wait_and_drain(&phase, &mut tasks).await;
        helpers.shutdown().await;
        Ok(())
    });
    runtime.shutdown_timeout(STOP_TIMEOUT);
    served
}

/// Tells everyone who waits for it that the port is open.
fn announce(config: &Config, port: u16) -> Result<(), StartError> {
    let write =
        |path: &PathBuf, text: String| fs::write(path, text).map_err(failed(exit::IO_FAILED, path.display()));
    if let Some(path) = &config.pid_file {
        write(path, format!("{}\n", std::process::id()))?;
    }
    if let Some(path) = &config.port_file {
        // Renamed into place, so that whoever waits for the file finds a number in it.
        let mut fresh = path.clone().into_os_string();
        fresh.push(".new");
        let fresh = PathBuf::from(fresh);
        write(&fresh, format!("{port}\n"))?;
        fs::rename(&fresh, path).map_err(failed(exit::IO_FAILED, path.display()))?;
    }
    if config.detached {
        daemonize::say_ready().map_err(failed(exit::FAILED, "cannot let go of the terminal"))?;
    }
    Ok(())
}

async fn keep_sampling(context: Arc<Context>, directory: PathBuf) {
    let mut interval = tokio::time::interval(SAMPLE_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let directory = directory.clone();
        let sample = tokio::task::spawn_blocking(move || sample::take(&directory)).await;
        if let Ok(sample) = sample {
            context.gate.sample(&sample);
        }
    }
}

/// What ends the daemon.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Serves until a signal, then lets jobs finish; a second signal, or a minute, ends them.
    async fn wait_and_drain(mut self, phase: &watch::Sender<Phase>, tasks: &mut JoinSet<()>) {
        self.next().await;
        tracing::info!("draining: jobs that run are finished, new ones are refused");
        phase.send_replace(Phase::Draining);
        tokio::select! {
            () = all_of(tasks) => return tracing::info!("drained"),
            () = self.next() => tracing::info!("ending at once"),
            () = tokio::time::sleep(DRAIN_TIMEOUT) => tracing::warn!("jobs still run; ending them"),
        }
        phase.send_replace(Phase::Stopping);
        let _ = tokio::time::timeout(STOP_TIMEOUT, all_of(tasks)).await;
    }
}

async fn all_of(tasks: &mut JoinSet<()>) {
    while tasks.join_next().await.is_some() {}
}
