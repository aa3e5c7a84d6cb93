//! What the broker is told at its start, read once.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::defaults::Defaults;
use super::scheduler::api::LocalSlots;
use super::scheduler::config::Config as SchedulerConfig;
use super::state;
use crate::common::bytes::Bytes;
use crate::common::invocation::Origin;
use crate::common::place::{Place, Surroundings, candidates};

/// How long a broker without jobs lives.
const IDLE_DEFAULT: Duration = Duration::from_secs(8 * 3600);

/// Everything that the broker is told.
pub struct Config {
    /// Where its socket and its files are.
    pub place: Place,
    /// Its own files, made when it starts: removed and made anew each time.
    pub scratch: PathBuf,
    /// Without jobs for this long, it exits.
    pub idle: Duration,
    /// Its own view of the machine.
    pub origin: Origin,
    /// Who it says it is to volunteers.
    pub client: String,
    /// When its executable was made, to tell an upgrade from a downgrade.
    pub executable_modified_ns: u64,
    /// Local slots where a host list does not say.
    pub local_slots: LocalSlots,
    /// The scheduler's own settings.
    pub scheduler: SchedulerConfig,
    /// Seeds the scheduler's jitter.
    pub seed: u64,
    /// Where slots and states are shared with other clients.
    pub state: Option<PathBuf>,
    /// The mask of whoever started the broker, for what is shared.
    pub umask: u32,
    /// The most shims to serve at once; others are told to ask again.
    pub sessions_max: usize,
}

/// The places where a broker of this environment may be, the best first.
pub fn places() -> Vec<Place> {
    let variables: Vec<(Vec<u8>, Vec<u8>)> = std::env::vars_os()
        .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .collect();
    let lookup = |name: &str| {
        variables.iter().find(|(known, _)| known == name.as_bytes()).map(|(_, value)| value.as_slice())
    };
    let cwd = std::env::current_dir().map(Bytes::from_path).unwrap_or_else(|_| Bytes::from("/"));
    candidates(&Surroundings::of(lookup, &cwd, rustix::process::getuid().as_raw()))
}

impl Config {
    /// Reads the environment and looks at the machine.
    pub fn read(place: Place, descriptors: u64, umask: u32, defaults: &Defaults) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
        let idle = defaults.or_variable("DISTCC_IDLE_TIMEOUT").and_then(|text| text.parse().ok());
        Config {
            scratch: place.file("broker.tmp").as_path().to_owned(),
            idle: idle.map_or(IDLE_DEFAULT, Duration::from_secs),
            origin: origin(),
            client: client(),
            executable_modified_ns: executable_modified_ns(),
            local_slots: LocalSlots { preprocess: cores + 1, compile: cores, link: cores + 2, listed: 0 },
            scheduler: SchedulerConfig::default(),
            seed: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64),
            // Each preprocessor needs a handful of descriptors, each volunteer one.
            sessions_max: usize::try_from(descriptors.saturating_sub(64).max(16) * 3 / 4)
                .unwrap_or(usize::MAX),
            state: state::directory(),
            umask,
            place,
        }
    }
}

/// This process's view of the machine.
pub fn origin() -> Origin {
    let inode = |path| std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    let mount = statx(CWD, "/", AtFlags::empty(), StatxFlags::MNT_ID).ok();
    let mount =
        mount.filter(|root| root.stx_mask & StatxFlags::MNT_ID.bits() != 0).map(|root| root.stx_mnt_id);
    let namespace = || inode("/proc/self/ns/mnt").map_or(0, |(_, inode)| inode);
    Origin {
        mounts: mount.unwrap_or_else(namespace),
        root: inode("/").unwrap_or_default(),
        build: 0,
        pid: std::process::id(),
    }
}

/// Who this is, for people.
pub fn client() -> String {
    let user = std::env::var("USER").unwrap_or_else(|_| rustix::process::getuid().as_raw().to_string());
    let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{user}@{machine}")
}

fn executable_modified_ns() -> u64 {
    let found = std::env::current_exe().and_then(std::fs::metadata);
    found.map_or(0, |found| (found.mtime() as u64).saturating_mul(1_000_000_000) + found.mtime_nsec() as u64)
}
