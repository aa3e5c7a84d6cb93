//! What `distcc --status` shows: a snapshot as data, and the same as text.
//!
//! The JSON document is this module's types; its `schema` is raised when a field changes meaning,
//! and fields are only ever added. docs/status.md describes it.

pub mod render;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::dispatch::About;
use super::hermetic::counts::Travelled;
use super::history::record::{Mark, What};
use super::link::traffic::Bytes as Traffic;
use super::scan;
use super::scheduler::api::{Hold, HostId, Moment};
use super::scheduler::snapshot::{HostState, HostView, JobView, PhaseView, Totals};
use super::state::phases::Phase;
use super::volunteers::{Volunteers, without_port};

/// The schema of this build's documents.
pub const SCHEMA: u32 = 1;

/// Everything about a broker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The document's schema.
    pub schema: u32,
    /// Whether a broker runs; without one this and `schema` are the whole document.
    #[serde(default)]
    pub running: bool,
    /// The broker's process.
    pub pid: u32,
    /// Its package version.
    pub version: String,
    /// How long it has been running, in seconds.
    pub uptime_s: u64,
    /// Whether it finishes what runs and takes no more work for volunteers.
    #[serde(default)]
    pub draining: bool,
    /// Volunteers, in the order in which they became known.
    pub hosts: Vec<HostReport>,
    /// Jobs that are not over, oldest first.
    pub jobs: Vec<JobReport>,
    /// Counts since the broker started.
    pub totals: TotalsReport,
    /// What went wrong last, newest first.
    #[serde(default)]
    pub troubles: Vec<TroubleReport>,
}

/// One volunteer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostReport {
    /// Its name as the list has it, with the port where it is not the usual one.
    pub host: String,
    /// `untried`, `connecting`, `up`, `paused`, `backed-off` or `down`.
    pub state: String,
    /// Why it is not up, or takes fewer jobs than it has slots; may be empty.
    pub why: String,
    /// How long it will be left alone, in milliseconds.
    pub back_off_ms: u64,
    /// Whether it gets no jobs because it gave another object than this machine makes (`DISTCC_VERIFY`).
    #[serde(default)]
    pub held: bool,
    /// `free`; or why it is to take no jobs: `drained`, `excluded` or `distrusted`.
    #[serde(default)]
    pub hold: String,
    /// How it is reached: `tcp` or `ssh`, with ` classic` behind it for the protocol of distcc 3.4.
    #[serde(default)]
    pub link: String,
    /// What keeps others out of the link: `tls`, `ssh`, `none`, or `classic` for its want of any.
    #[serde(default)]
    pub security: String,
    /// Jobs that it has of ours.
    pub slots_used: u32,
    /// Jobs that it may have of ours.
    pub slots: u32,
    /// Jobs that it has done for us.
    pub done: u64,
    /// Its learned speed; 1 is an average volunteer, more is faster.
    pub speed: f64,
    /// The last ping's round trip, in microseconds.
    pub round_trip_us: Option<u64>,
    /// How far its clock is ahead of this machine's, in seconds, when it came up; unknown of daemons of
    /// distcc 3.4.
    #[serde(default)]
    pub clock_offset_s: Option<i64>,
    /// What is still to be sent to it, in bytes before compression, while a compiler is on its way and jobs may wait for it.
    #[serde(default)]
    pub arriving_bytes: Option<u64>,
    /// How long that will take, in milliseconds, where it is known.
    #[serde(default)]
    pub arriving_ms: Option<u64>,
    /// Toolchains that it refused since it came up.
    pub refused_toolchains: u32,
    /// Toolchains with which it has done jobs for us, by the first 16 digits of their digests.
    #[serde(default)]
    pub toolchains: Vec<String>,
    /// Whether it takes hermetic compiles; unknown until it has been up.
    #[serde(default)]
    pub hermetic: Option<bool>,
    /// How it confines jobs, in its own words.
    #[serde(default)]
    pub sandbox: String,
    /// Bytes sent to it, on the connection; over TLS or ssh, before encryption.
    #[serde(default)]
    pub bytes_sent: u64,
    /// Bytes received from it.
    #[serde(default)]
    pub bytes_received: u64,
}

/// One job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JobReport {
    /// Its source.
    pub source: String,
    /// The shim's process.
    pub pid: u32,
    /// Where it runs; empty while it runs nowhere, `localhost` for here.
    pub host: String,
    /// `queued`, `preparing`, `ready`, `remote`, `delivering`, `waiting-local` or `local`.
    pub phase: String,
    /// How long it has been known, in milliseconds.
    pub age_ms: u64,
    /// How long it has been in this phase, in milliseconds.
    #[serde(default)]
    pub phase_age_ms: u64,
    /// The number of its slot there.
    #[serde(default)]
    pub slot: u32,
}

/// Counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TotalsReport {
    /// Jobs whose outputs came from a volunteer.
    pub remote: u64,
    /// Jobs whose outputs came from the cache of results.
    #[serde(default)]
    pub cached: u64,
    /// Jobs that ran here.
    pub local: u64,
    /// Those, by reason.
    pub local_reasons: BTreeMap<String, u64>,
    /// Attempts made again after a failure.
    pub retried: u64,
    /// Second attempts of stragglers.
    pub hedged: u64,
    /// Jobs that `DISTCC_FALLBACK=0` kept from running here.
    pub forbidden: u64,
    /// Jobs whose shim went away.
    pub abandoned: u64,
    /// Attempts that left as files (hermetic mode).
    #[serde(default)]
    pub sent_files: u64,
    /// Jobs whose files the compiler listed, because the scanner declined.
    pub listed: u64,
    /// Attempts that left as preprocessed text, by reason.
    #[serde(default)]
    pub sent_texts: BTreeMap<String, u64>,
    /// Files that the include scanner remembers.
    #[serde(default)]
    pub scanner_files: u64,
    /// Files and directories of whose changes the kernel tells it.
    #[serde(default)]
    pub scanner_watches: u64,
    /// Memory that it takes, in bytes, nearly.
    #[serde(default)]
    pub scanner_bytes: u64,
    /// Bytes sent to all volunteers.
    #[serde(default)]
    pub bytes_sent: u64,
    /// The same, had nothing been compressed.
    #[serde(default)]
    pub bytes_sent_plain: u64,
    /// Bytes received from all volunteers.
    #[serde(default)]
    pub bytes_received: u64,
    /// The same, had nothing been compressed.
    #[serde(default)]
    pub bytes_received_plain: u64,
    /// CPU time of the volunteers' compilers whose outputs were used, in milliseconds.
    #[serde(default)]
    pub remote_cpu_ms: u64,
    /// CPU time of the broker, its children and the shims, in milliseconds.
    #[serde(default)]
    pub client_cpu_ms: u64,
    /// The first less the second.
    #[serde(default)]
    pub cpu_saved_ms: i64,
}

/// Something that went wrong.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TroubleReport {
    /// How long ago, in milliseconds.
    pub age_ms: u64,
    /// With which host.
    pub host: String,
    /// What.
    pub what: String,
}

/// Figures that belong to no host and to no job.
pub struct Figures {
    /// The scheduler's counts.
    pub totals: Totals,
    /// In which form jobs travelled.
    pub travelled: Travelled,
    /// What the include scanner remembers.
    pub scanner: scan::Report,
    /// What went over all links.
    pub traffic: Traffic,
    /// CPU time of compilers elsewhere, in microseconds.
    pub remote_cpu: u64,
    /// CPU time of the client, in microseconds.
    pub client_cpu: u64,
}

/// Whether a host is to take jobs, in the word for it.
fn hold_word(hold: Hold) -> &'static str {
    match hold {
        Hold::Free => "free",
        Hold::Drained => "drained",
        Hold::Excluded => "excluded",
        Hold::Distrusted => "distrusted",
    }
}

impl HostReport {
    /// What people see of a host.
    pub fn new(view: &HostView, volunteers: &Volunteers) -> Self {
        let (state, why, wait) = match &view.state {
            HostState::Untried => ("untried", "", None),
            HostState::Connecting => ("connecting", "", None),
            HostState::Up => ("up", volunteers.credit_why(view.host), None),
            HostState::Paused => ("paused", volunteers.credit_why(view.host), None),
            HostState::BackedOff { why, left } => ("backed-off", why.as_str(), Some(*left)),
            HostState::Down { why } => ("down", why.as_str(), None),
        };
        let (link, security) = volunteers.link_kind(view.host);
        let traffic = volunteers.traffic(view.host).bytes();
        let arriving = volunteers.arriving(view.host);
        HostReport {
            host: volunteers.name(view.host).to_string(),
            state: state.to_owned(),
            why: why.to_owned(),
            back_off_ms: wait.map_or(0, |wait| wait.as_millis() as u64),
            held: view.hold == Hold::Distrusted,
            hold: hold_word(view.hold).to_owned(),
            link: link.to_owned(),
            security: security.to_owned(),
            slots_used: view.used,
            slots: view.credit.unwrap_or(0),
            done: view.done,
            speed: view.speed,
            round_trip_us: volunteers.last_round_trip(view.host).map(|time| time.as_micros() as u64),
            clock_offset_s: volunteers.clock_offset_s(view.host),
            arriving_bytes: arriving.map(|(bytes, _)| bytes),
            arriving_ms: arriving.and_then(|(_, rest)| rest).map(|rest| rest.as_millis() as u64),
            refused_toolchains: view.refused.len() as u32,
            toolchains: volunteers.toolchains(view.host),
            hermetic: volunteers.is_hermetic(view.host),
            sandbox: volunteers.sandbox(view.host).to_owned(),
            bytes_sent: traffic.sent,
            bytes_received: traffic.received,
        }
    }
}

impl JobReport {
    /// What people see of a job.
    pub fn new(view: &JobView, about: Option<&About>, volunteers: &Volunteers) -> Self {
        let (phase, host) = match &view.phase {
            PhaseView::Queued => ("queued", String::new()),
            PhaseView::Preparing => ("preparing", String::new()),
            PhaseView::Ready => ("ready", String::new()),
            PhaseView::Remote { host, .. } => ("remote", volunteers.name(*host).to_string()),
            PhaseView::Taking { host } => ("delivering", volunteers.name(*host).to_string()),
            PhaseView::Home => ("waiting-local", String::new()),
            PhaseView::Local => ("local", "localhost".to_owned()),
        };
        JobReport {
            source: about.map(|about| about.source.clone()).unwrap_or_default(),
            pid: about.map_or(0, |about| about.pid),
            host,
            phase: phase.to_owned(),
            age_ms: view.age.as_millis() as u64,
            phase_age_ms: view.phase_age.as_millis() as u64,
            slot: about.map_or(0, |about| about.slot),
        }
    }

    /// Its host without the port, as monitors of distcc 3.4 show it.
    pub fn host_name(&self) -> &str {
        without_port(&self.host)
    }

    /// Its phase as monitors of distcc 3.4 know it.
    pub fn shown_phase(&self) -> Phase {
        match self.phase.as_str() {
            "preparing" => Phase::Preprocess,
            "remote" | "local" => Phase::Compile,
            "delivering" => Phase::Receive,
            _ => Phase::Blocked,
        }
    }
}

impl TroubleReport {
    /// What people see of a trouble; nothing of what is none.
    pub fn new(mark: &Mark, now: Moment, volunteers: &Volunteers) -> Option<Self> {
        let (host, what) = match &mark.what {
            What::Lost { host, why } => (host, format!("lost: {why}")),
            What::BackedOff { host, wait_ms, why } => {
                (host, format!("left alone for {}s: {why}", wait_ms / 1000))
            }
            What::Failed { host, source, why } => (host, format!("{source}: {why}")),
            What::Up { .. } | What::Slots { .. } | What::Level(_) => return None,
        };
        let age_ms = now.since(Moment(mark.at)).as_millis() as u64;
        Some(TroubleReport { age_ms, host: volunteers.name(HostId(*host)).to_string(), what })
    }
}

impl TotalsReport {
    fn new(figures: &Figures) -> Self {
        let Figures { totals, travelled, scanner, traffic, remote_cpu, client_cpu } = figures;
        let reasons = totals.local.iter().map(|(key, count)| ((*key).to_owned(), *count));
        let ms = |us: u64| i64::try_from(us / 1000).unwrap_or(i64::MAX);
        TotalsReport {
            remote: totals.remote,
            cached: totals.found,
            local: totals.local.values().sum(),
            local_reasons: reasons.collect(),
            retried: totals.retried,
            hedged: totals.hedged,
            forbidden: totals.forbidden,
            abandoned: totals.abandoned,
            sent_files: travelled.files,
            listed: travelled.lists,
            sent_texts: travelled.texts.clone(),
            scanner_files: scanner.disk.files as u64,
            scanner_watches: scanner.disk.watches as u64,
            scanner_bytes: scanner.size as u64,
            bytes_sent: traffic.sent,
            bytes_sent_plain: traffic.sent_plain,
            bytes_received: traffic.received,
            bytes_received_plain: traffic.received_plain,
            remote_cpu_ms: remote_cpu / 1000,
            client_cpu_ms: client_cpu / 1000,
            cpu_saved_ms: ms(*remote_cpu) - ms(*client_cpu),
        }
    }
}

impl Report {
    /// Puts a document together.
    pub fn new(
        hosts: Vec<HostReport>,
        jobs: Vec<JobReport>,
        troubles: Vec<TroubleReport>,
        figures: &Figures,
        now: Moment,
    ) -> Self {
        Report {
            schema: SCHEMA,
            running: true,
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: now.since(Moment(0)).as_secs(),
            draining: false,
            hosts,
            jobs,
            totals: TotalsReport::new(figures),
            troubles,
        }
    }
}

#[cfg(test)]
mod tests;
