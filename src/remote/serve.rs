//! The daemon's life: start, serve, drain, end.

mod pages;

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::access::Access;
use super::admit::Sample;
use super::config::{Answer, Config, Role};
use super::guard;
use super::job::Context;
use super::layers::{self, Surroundings};
use super::listen::Welcome;
use super::owner::PauseSignals;
use super::owner::ask::{self, AskError};
use super::privileges::{self, Standing};
use super::reticence::Reticence;
use super::session::Phase;
use super::setup::{self, Doors, StartError, failed};
use super::stdio::{self, Stdio};
use super::trust;
use super::trust::pairing::{self, PairError};
use super::{ceiling, daemonize, listen, sample};
use crate::common::exit;
use crate::common::trust::invitation;

/// How often the machine is looked at.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(500);

/// How often names of allowed machines are resolved.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(60);

/// How long that may take, for each name.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a drain may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);

/// How long links may take to end once their jobs have been killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Threads that move bytes; all else has its own or is another program.
const WORKERS: usize = 2;

/// Threads that may wait for disks and compilers: those of one client, which has some two for each slot, are a
/// small part of them. They are there while they are needed.
fn blocking_threads(slots: u32) -> usize {
    512 + 8 * slots as usize
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
    let config = match settings(rustix::process::geteuid().is_root()) {
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

/// Reads the settings: command line, environment, file. `is_root` is who started the daemon.
fn settings(is_root: bool) -> Result<Config, Answer> {
    let around = Surroundings { variable: &|name| std::env::var_os(name), text: &layers::text, is_root };
    let layers = layers::layered(std::env::args_os().collect(), around)?;
    let config = Config { is_roots: is_root, ..Config::read(layers.arguments.clone())? };
    if config.print_config {
        return Err(Answer { text: layers.show()?, status: 0 });
    }
    Ok(config)
}

fn exit_code(status: i32) -> ExitCode {
    ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX))
}

fn live(config: &Config) -> Result<i32, StartError> {
    if config.key || config.pair.is_some() {
        return talk_of_keys(config);
    }
    if let Some(request) = config.request() {
        return ask_daemon(config, request);
    }
    let role = config.role(stdio::is_socket());
    if role == Role::Daemon && !config.detached {
        return daemonize::start().map_err(failed(exit::FAILED, "cannot start in the background"));
    }
    if config.detached {
        daemonize::detach();
    }
    let doors = if role == Role::OneConnection { Doors::default() } else { setup::bind(config)? };
    ceiling::survive_large_files();
    setup::set_oom_score(config)?;
    setup::raise_descriptor_limit();
    // Whoever comes by ssh has shown who it is.
    let needs_keys = role != Role::OneConnection || stdio::is_internet();
    let folder = needs_keys.then(|| setup::state_folder(config)).transpose()?;
    // Only root can have what root was given.
    let groups = setup::groups(config);
    let standing = privileges::drop_root(config.user.as_deref())
        .map_err(|error| StartError { status: exit::SETUID_FAILED, why: error.to_string() })?;
    setup::start_log(config, role);
    say_what_is_odd(config, standing);
    // Compilers need no set-uid programs. Only ever refused by kernels that have no such switch.
    let _ = rustix::thread::set_no_new_privs(true);
    // No core files of compilers, nor of ours: sources are none of this machine's business.
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
    let trust = folder.as_deref().map(setup::open_trust).transpose()?;
    let root = setup::take_root(config)?;
    let context = Arc::new(setup::context(config, root, groups)?);
    let welcome = Welcome {
        access: Access::new(&config.allow),
        trust: trust.map(Arc::new),
        reticence: Reticence::default(),
    };
    if let (Some(folder), false) = (&folder, doors.jobs.is_empty()) {
        let addresses: Vec<_> = doors.jobs.iter().filter_map(|door| door.local_addr().ok()).collect();
        pairing::note_serving(folder, &addresses);
    }
    let served = serve(config, role, doors, welcome, folder.as_deref(), &context);
    context.guard.finish();
    // The guard has removed it; if there was none to do so, this does.
    let _ = fs::remove_dir_all(&context.root.jobs);
    if let Some(path) = &config.pid_file {
        let _ = fs::remove_file(path);
    }
    served.map(|()| 0)
}

/// What the administrator may not have meant.
fn say_what_is_odd(config: &Config, standing: Standing) {
    match standing {
        Standing::Root => tracing::warn!("jobs run as root, because --user says so"),
        Standing::Unchanged => tracing::warn!("--user is ignored: only root can become another user"),
        Standing::Ordinary => {}
    }
    for odd in &config.odd {
        tracing::warn!("{odd}");
    }
    if !config.allow.is_empty() {
        let who = Access::new(&config.allow);
        tracing::warn!("unauthenticated: the classic protocol is served for {who} (--allow)");
    }
    if config.enable_tcp_insecure {
        tracing::warn!("clients of the classic protocol may run any program (--enable-tcp-insecure)");
    }
}

/// The folder of a daemon that may run, as its user from now on: where it is to be found by that user, and
/// what people call it.
fn folder_of_daemon(config: &Config) -> Result<(PathBuf, PathBuf), StartError> {
    let called = setup::state_folder(config)?;
    let found = match called.exists() {
        true => {
            privileges::become_owner_of(&called).map_err(failed(exit::SETUID_FAILED, called.display()))?
        }
        false => called.clone(),
    };
    Ok((found, called))
}

/// Has a daemon that runs do something, and prints what it says.
fn ask_daemon(config: &Config, request: ask::Request) -> Result<i32, StartError> {
    let (folder, called) = folder_of_daemon(config)?;
    let said = ask::ask(&folder, request).map_err(|error| match error {
        AskError::NoPage(_) => AskError::NoPage(called),
        other => other,
    });
    print!("{}", said.map_err(|error| StartError { status: exit::FAILED, why: error.to_string() })?);
    Ok(0)
}

/// Prints the key, or a code for one client.
fn talk_of_keys(config: &Config) -> Result<i32, StartError> {
    let (folder, called) = folder_of_daemon(config)?;
    let unusable =
        |error: &dyn std::fmt::Display| StartError { status: exit::FAILED, why: error.to_string() };
    let Some(address) = &config.pair else {
        let identity = trust::identity(&folder).map_err(|error| unusable(&error))?;
        println!("{}", identity.public());
        return Ok(0);
    };
    let invited = pairing::invite(&folder, address.as_deref()).map_err(|error| match error {
        PairError::NotServing(_) => PairError::NotServing(called),
        other => other,
    });
    let invitation = invited.map_err(|error| unusable(&error))?;
    let minutes = invitation::LIFETIME.as_secs() / 60;
    eprintln!(
        "For one client, within {minutes} minutes, this volunteer's key being {}:",
        invitation.key.fingerprint()
    );
    println!("distcc --pair {invitation}");
    Ok(0)
}

fn serve(
    config: &Config,
    role: Role,
    doors: Doors,
    welcome: Welcome,
    folder: Option<&Path>,
    context: &Arc<Context>,
) -> Result<(), StartError> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(WORKERS).max_blocking_threads(blocking_threads(context.slots)).enable_all();
    let runtime = builder.build();
    let runtime = runtime.map_err(failed(exit::FAILED, "cannot start threads"))?;
    let served = runtime.block_on(async {
        let welcome = Arc::new(welcome);
        resolve(&welcome.access).await;
        let phase = watch::Sender::new(Phase::Running);
        let mut helpers = JoinSet::new();
        helpers.spawn(keep_sampling(Arc::clone(context)));
        helpers.spawn(keep_resolving(Arc::clone(&welcome)));
        helpers.spawn(keep_reading(config.clone(), Arc::clone(context), Arc::clone(&welcome)));
        let mut tasks = JoinSet::new();
        // Before anyone is told that the daemon serves.
        let mut ends = Ends::new(config).map_err(failed(exit::FAILED, "cannot handle signals"))?;
        let pauses = PauseSignals::new().map_err(failed(exit::FAILED, "cannot handle signals"))?;
        helpers.spawn(pauses.heed(Arc::clone(context)));
        let mut note = None;
        if role == Role::OneConnection {
            let stream =
                Stdio::take().map_err(failed(exit::IO_FAILED, "stdin and stdout are no connection"))?;
            let (peer, context) = (listen::Peer(stdio::peer()), Arc::clone(context));
            tasks.spawn(listen::serve_one(stream, peer, welcome, context, phase.subscribe()));
        } else {
            say_who_is_served(&welcome);
            note = pages::show(doors.pages, &config.allow, context, folder, &mut helpers)?;
            open(config, doors.jobs, &welcome, context, &phase, &mut tasks)?;
        }
        ends.wait_and_drain(&phase, &mut tasks).await;
        drop(note);
        helpers.shutdown().await;
        Ok(())
    });
    runtime.shutdown_timeout(STOP_TIMEOUT);
    served
}

fn say_who_is_served(welcome: &Welcome) {
    let Some(trust) = &welcome.trust else { return };
    tracing::info!("this volunteer's key is {} (fingerprint {})", trust.key(), trust.key().fingerprint());
    if trust.is_empty() {
        tracing::warn!("no client is authorised yet: `distccd --pair` shows a code for one");
    }
}

/// Opens the doors, and tells everyone who waits for that.
fn open(
    config: &Config,
    doors: Vec<std::net::TcpListener>,
    welcome: &Arc<Welcome>,
    context: &Arc<Context>,
    phase: &watch::Sender<Phase>,
    tasks: &mut JoinSet<()>,
) -> Result<(), StartError> {
    let mut port = 0;
    for listener in doors {
        let (listener, address) = ready(listener)?;
        tasks.spawn(listen::serve(listener, Arc::clone(welcome), Arc::clone(context), phase.subscribe()));
        tracing::info!("listening on {address}");
        port = address.port();
    }
    announce(config, port)
}

fn ready(listener: std::net::TcpListener) -> Result<(TcpListener, std::net::SocketAddr), StartError> {
    let address = listener.local_addr().map_err(failed(exit::BIND_FAILED, "listen"))?;
    listener.set_nonblocking(true).map_err(failed(exit::BIND_FAILED, "listen"))?;
    Ok((TcpListener::from_std(listener).map_err(failed(exit::BIND_FAILED, "listen"))?, address))
}

/// Tells everyone who waits for it that the port is open.
fn announce(config: &Config, port: u16) -> Result<(), StartError> {
    let write =
        |path: &PathBuf, text: String| fs::write(path, text).map_err(failed(exit::IO_FAILED, path.display()));
    if let Some(path) = &config.pid_file {
        let written = write(path, format!("{}\n", std::process::id()));
        if let Err(error) = written {
            // The daemon serves all the same, as with distccd 3.4.
            tracing::error!("failed to write the pid file: {error}");
            if config.detached {
                eprintln!("distccd: ERROR: failed to write the pid file: {error}");
            }
        }
    }
    if let Some(path) = &config.port_file {
        // Renamed into place, so that whoever waits for the file finds a number in it.
        let mut fresh = path.clone().into_os_string();
        fresh.push(".new");
        let fresh = PathBuf::from(fresh);
        write(&fresh, format!("{port}\n"))?;
        fs::rename(&fresh, path).map_err(failed(exit::IO_FAILED, path.display()))?;
    }
    tell_service_manager(NotifyState::Ready);
    if config.detached {
        daemonize::say_ready().map_err(failed(exit::FAILED, "cannot let go of the terminal"))?;
    }
    Ok(())
}

/// Says how it stands to whatever started this as a service (sd_notify(3)); to nobody, else.
pub(super) fn tell_service_manager(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!("cannot tell the service manager: {error}");
    }
}

async fn keep_sampling(context: Arc<Context>) {
    let mut interval = tokio::time::interval(SAMPLE_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let shared = Arc::clone(&context);
        let look = move || {
            // Before somebody else puts something there. Whatever is in the way, a job is told.
            let _ = shared.mend();
            make_room(&shared)
        };
        let sample = tokio::task::spawn_blocking(look).await;
        if let Ok(sample) = sample {
            context.gate.sample(&sample);
        }
    }
}

/// Lets go of trees and then of stored files, where the disk is nearly full of them; how the machine is then.
fn make_room(context: &Context) -> Sample {
    let look = || sample::take(&context.root.jobs);
    let mut sample = look();
    if context.gate.is_short_of_disk(&sample) {
        if let Ok(hermetic) = &context.hermetic {
            hermetic.pool.forsake();
        }
        sample = look();
        let wanted = context.gate.disk_wanted(&sample);
        if wanted > 0 {
            context.store.release(wanted);
            sample = look();
        }
    }
    sample
}

/// Whether SIGHUP means that the terminal is gone.
fn hangup_ends(config: &Config) -> bool {
    !config.detached && io::stdin().is_terminal()
}

/// Reads the settings again on SIGHUP.
async fn keep_reading(config: Config, context: Arc<Context>, welcome: Arc<Welcome>) {
    if hangup_ends(&config) {
        return;
    }
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    let mut now = config;
    while hangup.recv().await.is_some() {
        match settings(now.is_roots) {
            Ok(next) => {
                welcome.access.replace(&next.allow);
                resolve(&welcome.access).await;
                context.gate.follow(setup::policy(&next));
                let later = now.needs_restart(&next);
                tracing::info!("read the settings again");
                if !later.is_empty() {
                    tracing::warn!("counts when distccd is started again: {}", later.join(", "));
                }
                now = next;
            }
            Err(answer) => tracing::error!("the settings stay as they are: {}", answer.text.trim_end()),
        }
    }
}

/// Machines move: their names are looked up again now and then.
async fn keep_resolving(welcome: Arc<Welcome>) {
    loop {
        tokio::time::sleep(RESOLVE_INTERVAL).await;
        if !welcome.access.names().is_empty() {
            resolve(&welcome.access).await;
        }
    }
}

async fn resolve(access: &Access) {
    let mut addresses = Vec::new();
    for name in access.names() {
        match timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((name.as_str(), 0))).await {
            Ok(Ok(found)) => addresses.extend(found.map(|address| address.ip())),
            Ok(Err(error)) => tracing::warn!("--allow {name}: {error}; it is served once its name is known"),
            Err(_) => tracing::warn!("--allow {name}: no answer in {} s", RESOLVE_TIMEOUT.as_secs()),
        }
    }
    access.resolved(addresses);
}

/// What ends the daemon.
struct Ends {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    /// A terminal that goes away; a daemon without one reads its settings again.
    hangup: tokio::signal::unix::Signal,
    heeds_hangup: bool,
    lifetime: Option<Duration>,
}

impl Ends {
    fn new(config: &Config) -> io::Result<Self> {
        Ok(Ends {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            heeds_hangup: hangup_ends(config),
            lifetime: (config.lifetime > 0).then(|| Duration::from_secs(config.lifetime)),
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.hangup.recv(), if self.heeds_hangup => {}
        }
    }

    /// Serves until a signal, the end of its lifetime, or the last door is closed. Then lets jobs
    /// finish; a second signal, or a minute, ends them.
    async fn wait_and_drain(&mut self, phase: &watch::Sender<Phase>, tasks: &mut JoinSet<()>) {
        let lifetime = self.lifetime;
        tokio::select! {
            () = self.next() => {}
            () = all_of(tasks) => return,
            () = sleep_for(lifetime) => tracing::info!("the daemon's lifetime is over"),
        }
        tracing::info!("draining: jobs that run are finished, new ones are refused");
        tell_service_manager(NotifyState::Stopping);
        phase.send_replace(Phase::Draining);
        tokio::select! {
            () = all_of(tasks) => return tracing::info!("drained"),
            () = self.next() => tracing::info!("ending at once"),
            () = tokio::time::sleep(DRAIN_TIMEOUT) => tracing::warn!("jobs still run; ending them"),
        }
        phase.send_replace(Phase::Stopping);
        let _ = timeout(STOP_TIMEOUT, all_of(tasks)).await;
    }
}

/// Sleeps so long, or for ever.
async fn sleep_for(lifetime: Option<Duration>) {
    match lifetime {
        Some(lifetime) => tokio::time::sleep(lifetime).await,
        None => std::future::pending().await,
    }
}

async fn all_of(tasks: &mut JoinSet<()>) {
    while tasks.join_next().await.is_some() {}
}
