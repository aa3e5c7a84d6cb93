//! The broker: one per user, knows everything worth remembering, and decides where jobs run.
//!
//! ```text
//! listen ─▶ session ─▶ plan (classify, hosts, toolchain) ─▶ dispatch ◀─▶ scheduler
//!              │ ◀────────────── commands ────────────────────┘  ▲
//!              ├─▶ prepare ─▶ link (one per volunteer) ──────────┘ events
//!              └─▶ outcome ─▶ deliver ─▶ the shim
//! ```
//!
//! Sessions do, the scheduler decides, the dispatcher carries between them.

pub mod activation;
pub mod alarm;
pub mod cache;
pub mod clock;
pub mod closure;
pub mod config;
pub mod control;
pub mod dashboard;
pub mod defaults;
pub mod deliver;
pub mod dispatch;
pub mod doctor;
pub mod effort;
pub mod explain;
pub mod faces;
mod family;
pub mod frontend;
pub mod hermetic;
pub mod history;
mod home;
pub mod host_lists;
pub mod inputs;
pub mod link;
pub mod listen;
pub mod log;
pub mod lookout;
pub mod markers;
mod memory;
pub mod metrics;
pub mod native;
pub mod notices;
pub mod outcome;
mod plain_file;
pub mod plan;
pub mod plugins;
pub mod prepare;
pub mod questions;
pub mod rename;
pub mod scan;
pub mod scheduler;
pub mod session;
pub mod sets;
pub mod settle;
pub mod spec_files;
pub mod speech;
pub mod stamp;
pub mod start;
pub mod state;
pub mod status;
pub mod text;
pub mod toolchain;
pub mod trace;
pub mod trust;
pub mod unpack;
pub mod verify;
pub mod visitors;
pub mod volunteers;
pub mod watch;

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch::Sender as Flag;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use activation::Inherited;
use cache::Caches;
use config::Config;
use defaults::{Defaults, SettingsError};
use dispatch::{Dispatcher, Message};
use hermetic::Hermetic;
use host_lists::HostLists;
use listen::{Door, DoorError, fresh_scratch};
use outcome::Diagnosed;
use scheduler::api::JobId;
use sets::FileSets;
use toolchain::Compilers;
use trust::Trust;

use crate::common::exit;
use crate::common::invocation::Invocation;
use crate::common::place::Place;

/// What every session shares.
pub struct Shared {
    config: Arc<Config>,
    inbox: mpsc::Sender<Message>,
    compilers: Compilers,
    host_lists: HostLists,
    diagnosed: Diagnosed,
    /// What the settings file says.
    defaults: Mutex<Defaults>,
    /// The files of hermetic jobs.
    hermetic: Arc<Hermetic>,
    /// Results of earlier hermetic jobs.
    caches: Caches,
    /// File sets for volunteers of the classic protocol's version 3.
    file_sets: FileSets,
    /// Preprocessors that may run at once for jobs that were to travel as files, and cannot.
    preprocessors: Semaphore,
    /// Front ends that may run here at once (see [`frontend`]).
    front_ends: Semaphore,
    jobs: AtomicU64,
    /// Those who want to know where the dashboard is.
    dashboard: mpsc::Sender<dashboard::Asker>,
    /// Becomes true once, when the broker is to stop.
    stopping: Flag<bool>,
    /// Jobs that need the broker: all but those whose compiler runs here, under a lease.
    working: Flag<usize>,
}

impl Shared {
    fn next_job(&self) -> JobId {
        JobId(self.jobs.fetch_add(1, Ordering::Relaxed))
    }

    /// A compile with what the settings file says and its own environment does not.
    fn completed(&self, mut invocation: Invocation) -> Invocation {
        self.defaults.lock().unwrap_or_else(PoisonError::into_inner).complete(&mut invocation);
        invocation
    }

    /// Asks the broker to stop: it drains and exits.
    fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Returns when the broker is to stop.
    async fn stopped(&self) {
        // The sender lives as long as `self`.
        let _ = self.stopping.subscribe().wait_for(|stopping| *stopping).await;
    }

    /// Counts a job as one that needs the broker, until the guard is dropped.
    fn at_work(self: &Arc<Self>) -> AtWork {
        self.working.send_modify(|jobs| *jobs += 1);
        AtWork(self.clone())
    }

    /// Returns when no job needs the broker any more.
    async fn at_rest(&self) {
        // The sender lives as long as `self`.
        let _ = self.working.subscribe().wait_for(|jobs| *jobs == 0).await;
    }

    async fn drain(&self) {
        // A dispatcher that is gone has nothing left to drain.
        let _ = self.inbox.send(Message::Drain).await;
    }
}

/// A job that needs the broker.
pub struct AtWork(Arc<Shared>);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.working.send_modify(|jobs| *jobs -= 1);
    }
}

/// The program `distcc-broker`.
pub fn run() -> ExitCode {
    control::run()
}

/// Why a broker does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It cannot open its door.
    #[error(transparent)]
    Door(#[from] DoorError),
    /// What it is told is wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// It could start, and serve nobody.
    #[error("only {limit} files may be open (ulimit -n), and a broker needs {DESCRIPTORS_MIN}")]
    Descriptors {
        /// How many may be.
        limit: u64,
    },
}

/// So many files must a broker be allowed to have open: a dozen and a half are its own, and the rest is for a few jobs.
const DESCRIPTORS_MIN: u64 = 64;

/// Whether a broker can live with so many descriptors.
fn is_enough(descriptors: u64) -> Result<(), ServeError> {
    match descriptors < DESCRIPTORS_MIN {
        true => Err(ServeError::Descriptors { limit: descriptors }),
        false => Ok(()),
    }
}

/// Sets the mask that this process and the compilers that it questions make files with: what it was started
/// with, as far as that only keeps others from writing. Files with another mode get it when they are made
/// ([`deliver`]). Returns the one that it was started with.
fn set_mask() -> rustix::fs::Mode {
    use rustix::fs::Mode;
    let started = rustix::process::umask(Mode::WGRP | Mode::WOTH);
    let kept = started & (Mode::WGRP | Mode::WOTH);
    rustix::process::umask(kept);
    deliver::mask_is(kept.as_raw_mode());
    started
}

/// Runs a broker in this process until it is told to stop.
///
/// # Errors
///
/// Returns why it cannot start.
pub fn serve() -> Result<(), ServeError> {
    let descriptors = raise_limits();
    is_enough(descriptors)?;
    let umask = set_mask();
    let defaults = Defaults::read(|name| std::env::var_os(name))?;
    let places = config::places();
    let inherited = activation::inherited()
        .map_err(|error| DoorError::Io { what: "the socket that was handed over".to_owned(), error })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .build()
        .map_err(|error| DoorError::Io { what: "the runtime".to_owned(), error })?;
    runtime.block_on(async {
        let door = open_door(places, inherited)?;
        let config = Config::read(door.place().clone(), descriptors, umask.as_raw_mode(), &defaults);
        let config = Arc::new(config);
        fresh_scratch(&config.scratch)
            .map_err(|error| DoorError::Io { what: config.scratch.display().to_string(), error })?;
        let as_json = defaults.or_variable("DISTCC_LOG_FORMAT").is_some_and(|format| format == "json");
        log::start(&config.place, start::is_detached(), as_json);
        if let Err(error) = start::ready() {
            tracing::warn!(%error, "cannot let go of stdin, stdout and stderr");
        }
        tell_service_manager(NotifyState::Ready);
        live(door, config.clone(), defaults).await;
        // What is left of it is removed at the next start.
        let _ = std::fs::remove_dir_all(&config.scratch);
        Ok(())
    })
}

/// Says how it stands to whatever started this as a service (sd_notify(3)); to nobody, else.
fn tell_service_manager(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "cannot tell the service manager");
    }
}

fn open_door(places: Vec<Place>, inherited: Option<Inherited>) -> Result<Door, DoorError> {
    if let Some(inherited) = inherited {
        return Door::inherit(places, inherited);
    }
    let mut last = DoorError::Taken;
    for place in places {
        match Door::open(place) {
            Ok(door) => return Ok(door),
            Err(DoorError::Taken) => return Err(DoorError::Taken),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn live(door: Door, config: Arc<Config>, defaults: Defaults) {
    let clock = clock::Clock::start();
    let (inbox, messages) = mpsc::channel(4096);
    let hermetic = Arc::new(Hermetic::default());
    let trust = Arc::new(Trust::of_environment());
    let (caches, to_write) = Caches::new(trust.folder().ok());
    let (dispatcher, link_events) = Dispatcher::new(config.clone(), clock, Arc::clone(&hermetic), trust);
    let front_ends = Semaphore::new(config.local_slots.compile as usize);
    let preprocessors = Semaphore::new(config.local_slots.preprocess as usize);
    let metrics_wanted = defaults.or_variable("DISTCC_METRICS").unwrap_or_default();
    let (dashboard, askers) = dashboard::asking();
    let shared = Arc::new(Shared {
        config,
        inbox,
        compilers: Compilers::default(),
        host_lists: HostLists::default(),
        diagnosed: Diagnosed::default(),
        defaults: Mutex::new(defaults),
        hermetic,
        caches,
        file_sets: FileSets::default(),
        preprocessors,
        front_ends,
        jobs: AtomicU64::new(1),
        dashboard,
        stopping: Flag::new(false),
        working: Flag::new(0),
    });
    tracing::info!(pid = std::process::id(), place = %shared.config.place.directory, "broker is listening");
    // Tasks, not branches of what the runtime blocks on: to wake that one it writes to a descriptor of its own, and
    // each of them would be looked at whenever one has something to do.
    let mut whole = JoinSet::new();
    whole.spawn(dispatcher.run(messages, link_events));
    whole.spawn(stop_on_signal(shared.clone()));
    whole.spawn(read_again_on_hangup(shared.clone()));
    whole.spawn(metrics::serve(metrics::listen(&metrics_wanted).await, shared.clone()));
    whole.spawn(dashboard::run(askers, shared.clone()));
    let keeper = shared.clone();
    whole.spawn(async move { keeper.caches.write(to_write).await });
    whole.spawn(door.serve(shared));
    // None ends before the broker does, but for one that panicked: then all of it ends, and shims compile themselves.
    if let Some(Err(error)) = whole.join_next().await
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

/// Turns SIGTERM and SIGINT into a drain; never returns.
async fn stop_on_signal(shared: Arc<Shared>) {
    let signals =
        signal(SignalKind::terminate()).and_then(|term| Ok((term, signal(SignalKind::interrupt())?)));
    let Ok((mut term, mut interrupt)) = signals else { return std::future::pending().await };
    loop {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to stop: draining");
        tell_service_manager(NotifyState::Stopping);
        shared.stop();
    }
}

/// Reads the settings file again on SIGHUP; never returns.
async fn read_again_on_hangup(shared: Arc<Shared>) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return std::future::pending().await };
    loop {
        hangup.recv().await;
        match Defaults::read(|name| std::env::var_os(name)) {
            Ok(defaults) => {
                tracing::info!(file = ?defaults.path, "read the settings file again");
                *shared.defaults.lock().unwrap_or_else(PoisonError::into_inner) = defaults;
            }
            Err(error) => tracing::error!("the settings stay as they are: {error}"),
        }
    }
}

/// Raises the limits that the build had which started us as far as they go, and says how many files may be open.
fn raise_limits() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    for resource in [Resource::Fsize, Resource::Cpu, Resource::As, Resource::Data] {
        let limit = getrlimit(resource);
        // What stays limited is met where it is reached.
        let _ = setrlimit(resource, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    let limit = getrlimit(Resource::Nofile);
    // Where it cannot be raised, sessions are limited to what there is.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(1 << 20)
}

/// The status of a broker that could not start.
pub fn exit_status(error: &ServeError) -> u8 {
    match error {
        // Somebody else serves: whoever started us has what it wants.
        ServeError::Door(DoorError::Taken) => 0,
        ServeError::Settings(_) => exit::BAD_ARGUMENTS as u8,
        ServeError::Door(_) | ServeError::Descriptors { .. } => exit::FAILED as u8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_could_serve_nobody_does_not_start_and_names_the_limit() {
        for (limit, refused) in
            [(10, true), (16, true), (63, true), (64, false), (1024, false), (1 << 20, false)]
        {
            let said = is_enough(limit).err().map(|error| error.to_string());
            assert_eq!(said.is_some(), refused, "{limit}");
            let names = |said: String| said.contains("ulimit -n") && said.contains(&limit.to_string());
            assert!(said.is_none_or(names), "{limit}");
        }
    }
}
