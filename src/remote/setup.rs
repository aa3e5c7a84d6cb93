//! What the daemon needs before it serves: sockets, a log, a place to work.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::admit::Policy;
use super::ceiling;
use super::classic::Terms;
use super::clients::Clients;
use super::compile::Workshop;
use super::config::{Config, LogFormat, Role, SandboxChoice};
use super::gate::Gate;
use super::groups::{Groups, GroupsError, Share};
use super::guard::Guard;
use super::hermetic::Hermetic;
use super::job::Context;
use super::log::{self, Destination};
use super::privileges;
use super::process::Limits;
use super::root::Root;
use super::sample;
use super::sandbox::confine::Confinement;
use super::sandbox::{HAS_GROUPS, PROCESSES_MAX};
use super::stats::Stats;
use super::store::Store;
use super::toolchain::Toolchains;
use super::trust::{self, Trust, TrustError};
use super::whitelist::{self, Whitelist};
use crate::common::exit;
use crate::common::limits::OUTPUT_MAX_BYTES;

/// How long a client of the classic protocol may be silent (distccd(1), `DISTCC_IO_TIMEOUT`).
const IO_TIMEOUT: Duration = Duration::from_secs(300);

/// Open files: each connection has its socket, and may have a file or two on its way.
const DESCRIPTORS: u64 = 4096;

/// Memory that is kept free: an eighth of the machine's, but no more than this, in bytes.
const MEMORY_FLOOR_MAX: u64 = 512 << 20;

/// What a C++ compile of middling size needs, in bytes.
const MEMORY_PER_JOB: u64 = 192 << 20;

/// What one process of a job may always have of its own memory, in bytes. Beyond half of the machine's
/// memory none gets anything.
const JOB_DATA_MIN_BYTES: u64 = 2 << 30;

/// Files that one process of a job may have open.
const JOB_FILES_MAX: u64 = 4096;

/// What a job may write into memory, in bytes: at least, and at most.
const SCRATCH_MIN_BYTES: u64 = 512 << 20;
const SCRATCH_MAX_BYTES: u64 = 2 << 30;

/// Why the daemon did not start: what to say, and how to exit.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct StartError {
    /// How to exit.
    pub status: i32,
    /// What to say.
    pub why: String,
}

/// An error of the system as the reason why `what` kept the daemon from starting.
pub fn failed(status: i32, what: impl std::fmt::Display) -> impl FnOnce(io::Error) -> StartError {
    move |error| StartError { status, why: format!("{what}: {error}") }
}

/// Opens the ports: that for jobs, and those for pages that are wanted.
///
/// # Errors
///
/// Returns which port cannot be had.
pub fn bind(config: &Config) -> Result<Doors, StartError> {
    let jobs = bind_each(config, config.port)?;
    let figures = if config.stats { bind_each(config, config.stats_port)? } else { Vec::new() };
    let metrics = config.metrics.map(bind_one).transpose()?;
    let owner = config.dashboard.map(bind_one).transpose()?;
    Ok(Doors { jobs, pages: Pages { figures, metrics, owner } })
}

/// The sockets that the daemon listens on.
#[derive(Debug, Default)]
pub struct Doors {
    /// For jobs.
    pub jobs: Vec<TcpListener>,
    /// For those who want to look.
    pub pages: Pages,
}

/// The sockets on which pages are shown.
#[derive(Debug, Default)]
pub struct Pages {
    /// For the page of figures.
    pub figures: Vec<TcpListener>,
    /// For metrics.
    pub metrics: Option<TcpListener>,
    /// For the owner of the machine.
    pub owner: Option<TcpListener>,
}

fn bind_one(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).map_err(failed(exit::BIND_FAILED, address))
}

/// What `--listen` names: an address, or a machine's addresses.
fn addresses_of(name: &str) -> io::Result<Vec<IpAddr>> {
    if let Ok(address) = name.parse() {
        return Ok(vec![address]);
    }
    let mut addresses: Vec<IpAddr> = (name, 0).to_socket_addrs()?.map(|address| address.ip()).collect();
    addresses.dedup();
    Ok(addresses)
}

fn bind_each(config: &Config, wanted: u16) -> Result<Vec<TcpListener>, StartError> {
    let bind = |address: IpAddr, port| {
        let address = SocketAddr::new(address, port);
        TcpListener::bind(address).map_err(failed(exit::BIND_FAILED, format!("cannot listen on {address}")))
    };
    let (v4, v6) = (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED);
    let mut listeners: Vec<TcpListener> = Vec::new();
    // With port 0 the first socket's port is every socket's.
    let port = |listeners: &[TcpListener]| {
        listeners.first().and_then(|first| first.local_addr().ok()).map_or(wanted, |address| address.port())
    };
    for name in config.listen.iter().filter(|name| *name != "*") {
        let failed = failed(exit::BIND_FAILED, format!("--listen {name}"));
        let addresses = addresses_of(name).map_err(failed)?;
        for address in addresses {
            listeners.push(bind(address, port(&listeners))?);
        }
    }
    if listeners.is_empty() {
        // An IPv6 socket for all addresses takes IPv4 as well where the system is set so.
        listeners.extend(bind(v6.into(), wanted).ok());
        match (bind(v4.into(), port(&listeners)), listeners.is_empty()) {
            (Ok(listener), _) => listeners.push(listener),
            (Err(error), true) => return Err(error),
            (Err(_), false) => {}
        }
    }
    Ok(listeners)
}

/// Sends messages where they belong from now on. A file that cannot be opened keeps no daemon from
/// its work, as with distccd 3.4.
pub fn start_log(config: &Config, role: Role) {
    let open = |path| File::options().append(true).create(true).mode(0o640).open(path);
    let file = config.log_file.as_ref().filter(|_| !config.log_stderr).map(|path| (path, open(path)));
    let destination = match &file {
        Some((_, Ok(file))) => file.try_clone().map_or(Destination::System, Destination::File),
        _ if config.log_stderr || role == Role::Foreground => Destination::Stderr,
        _ => Destination::System,
    };
    log::start(destination, config.log_level.into(), config.log_format == LogFormat::Json);
    if let Some((path, Err(error))) = &file {
        tracing::error!("failed to open logfile {}: {error}", path.display());
        if role == Role::Daemon {
            // Nobody may read the system's log, and whoever started this still listens.
            eprintln!("distccd: ERROR: failed to open logfile {}: {error}", path.display());
        }
    }
}

/// Raises the limit on open files to what the connections that are taken may need.
pub fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(DESCRIPTORS, |maximum| maximum.min(DESCRIPTORS));
    if limit.current.is_some_and(|current| current < wanted) {
        // Where it cannot be raised, the door pauses when there are none.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum });
    }
}

/// Says how willingly this process is ended when memory is short (proc(5), `oom_score_adj`).
///
/// # Errors
///
/// Returns that only root may ask for less than it has.
pub fn set_oom_score(config: &Config) -> Result<(), StartError> {
    let Some(score) = config.oom_score_adj else { return Ok(()) };
    fs::write("/proc/self/oom_score_adj", score.to_string()).map_err(failed(exit::FAILED, "--oom-score-adj"))
}

/// The folder of keys, made while only root may.
///
/// # Errors
///
/// Returns that nobody says where it is, or that it cannot be made.
pub fn state_folder(config: &Config) -> Result<PathBuf, StartError> {
    let unusable = |why: String| StartError { status: exit::FAILED, why };
    let default = || trust::default_folder(rustix::process::geteuid().is_root());
    let folder = config.state_dir.clone().or_else(default);
    let folder = folder.ok_or_else(|| unusable(TrustError::NoPlace.to_string()))?;
    privileges::make_folder_for(config.user.as_deref(), &folder)
        .map_err(|error| unusable(format!("{}: {error}", folder.display())))?;
    Ok(folder)
}

/// Reads the keys, as the user who the daemon is.
///
/// # Errors
///
/// Returns why they cannot be used.
pub fn open_trust(folder: &Path) -> Result<Trust, StartError> {
    Trust::open(folder).map_err(|error| StartError { status: exit::FAILED, why: error.to_string() })
}

/// Takes the daemon's own directories.
///
/// # Errors
///
/// Returns why there is no place to work.
pub fn take_root(config: &Config) -> Result<Root, StartError> {
    let temp = config.temp_dir.clone().unwrap_or_else(std::env::temp_dir);
    let temp = std::path::absolute(&temp).map_err(failed(exit::IO_FAILED, temp.display()))?;
    // No file system is kept busy; and what the guard ends is whoever works in the job directory.
    std::env::set_current_dir("/").map_err(failed(exit::IO_FAILED, "/"))?;
    Root::take(&temp).map_err(|error| StartError { status: exit::IO_FAILED, why: error.to_string() })
}

/// How many jobs run, and what this machine keeps for itself.
pub fn policy(config: &Config) -> Policy {
    let processors = processors();
    let (slots, memory) = (config.slots(processors), sample::memory_total().unwrap_or(u64::MAX));
    Policy {
        slots,
        client_slots: config.client_slots(slots, memory, MEMORY_PER_JOB),
        memory_floor: (sample::memory_total().unwrap_or(0) / 8).min(MEMORY_FLOOR_MAX),
        memory_per_job: MEMORY_PER_JOB,
        disk_floor: config.min_free_disk << 20,
        load_max: config.max_load.unwrap_or(processors * 4),
    }
}

/// Everything that jobs share.
///
/// # Errors
///
/// Returns what is missing.
pub fn context(
    config: &Config,
    root: Root,
    groups: Result<Groups, GroupsError>,
) -> Result<Context, StartError> {
    let policy = policy(config);
    let (slots, disk_floor) = (policy.slots, policy.disk_floor);
    let search_path = search_path();
    let lifetime = Duration::from_secs(config.job_lifetime);
    let limits = limits(config);
    for complaint in ceiling::complaints(ceiling::own, slots) {
        tracing::warn!("{complaint}");
    }
    let store = Store::open(&root.store, config.store_size << 20);
    let scratch_bytes = scratch_bytes(slots);
    let confinement = confinement(config, &root, scratch_bytes)?;
    let hermetic = match config.sandbox {
        SandboxChoice::Off => Err("switched off (--sandbox off)".to_owned()),
        SandboxChoice::Auto | SandboxChoice::Required => Hermetic::new(&root.jobs, slots, scratch_bytes),
    };
    match &hermetic {
        Ok(hermetic) => tracing::info!("hermetic compiles: {}", hermetic.sandbox.describe()),
        Err(why) => tracing::warn!("no hermetic compiles here: {why}"),
    }
    match &groups {
        Ok(groups) => tracing::info!("what a job uses as a whole is limited by {}", groups.describe()),
        Err(why) => tracing::info!("no control groups, so each process of a job is limited by itself: {why}"),
    }
    let workshop =
        Workshop::new(root.jobs.clone(), search_path.clone(), limits, lifetime, disk_floor, confinement);
    let gate = Gate::new(policy);
    gate.sample(&sample::take(&root.jobs));
    Ok(Context {
        gate,
        store: Arc::new(store.map_err(failed(exit::IO_FAILED, root.store.display()))?),
        hermetic,
        toolchains: Toolchains::new(search_path.clone(), config.compiler.clone()),
        classic: Terms::new(whitelist(config, search_path)?, io_timeout()),
        workshop: workshop.with_groups(groups.ok()),
        guard: Guard::start(&root.jobs).map_err(failed(exit::FAILED, "cannot start the guard"))?,
        slots,
        stats: Stats::default(),
        clients: Clients::default(),
        couriers: Arc::default(),
        roster: Arc::default(),
        root,
    })
}

/// What a job may use.
fn limits(config: &Config) -> Limits {
    Limits {
        // Compilers' niceness is the daemon's own and this much more.
        nice: (rustix::process::getpriority_process(None).unwrap_or(0) + config.nice).min(19),
        file_bytes: OUTPUT_MAX_BYTES,
        memory_bytes: config.job_memory.map(|mib| mib << 20),
        data_bytes: sample::memory_total().map(|total| (total / 2).max(JOB_DATA_MIN_BYTES)),
        cpu_seconds: Some(config.job_lifetime),
        open_files: Some(JOB_FILES_MAX),
    }
}

/// What one job may write into memory, its temporary files and outputs: so much that all jobs together
/// leave half of the machine's, as far as a large object still fits.
fn scratch_bytes(slots: u32) -> u64 {
    let total = sample::memory_total().unwrap_or(0);
    (total / (2 * u64::from(slots))).clamp(SCRATCH_MIN_BYTES, SCRATCH_MAX_BYTES)
}

/// A control group for each job, where there can be.
///
/// # Errors
///
/// Returns why there can be none.
pub fn groups(config: &Config) -> Result<Groups, GroupsError> {
    if config.sandbox == SandboxChoice::Off || !HAS_GROUPS {
        return Err(GroupsError::None);
    }
    let limits = limits(config);
    let slots = config.slots(processors());
    let memory = limits.memory_bytes.or(limits.data_bytes).map(|most| most + scratch_bytes(slots));
    let share = Share { memory_bytes: memory, processes: PROCESSES_MAX, nice: limits.nice };
    Groups::take(share, privileges::becomes(config.user.as_deref()))
}

fn processors() -> u32 {
    std::thread::available_parallelism().map_or(1, |number| number.get() as u32)
}

/// How jobs that come as texts are kept in, which is said.
fn confinement(config: &Config, root: &Root, scratch_bytes: u64) -> Result<Confinement, StartError> {
    if config.sandbox == SandboxChoice::Off {
        tracing::warn!("jobs are not confined (--sandbox off)");
        return Ok(Confinement::Off);
    }
    let probed = Confinement::probe(&root.jobs, scratch_bytes);
    let (confinement, why) = probed.map_err(failed(exit::IO_FAILED, root.jobs.display()))?;
    let word = confinement.describe();
    match (why, confinement.weaker()) {
        (Some(why), _) if config.sandbox == SandboxChoice::Required => {
            let why = format!("jobs cannot be confined here (--sandbox required): {why}");
            return Err(StartError { status: exit::FAILED, why });
        }
        (Some(why), Some(weaker)) => {
            tracing::warn!("jobs are confined by {word}, which is weaker than namespaces ({why}): {weaker}");
        }
        _ => tracing::info!("jobs are confined by {word}"),
    }
    Ok(confinement)
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
