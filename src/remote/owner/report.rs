//! What the owner's page shows, as a document: who compiles what here, and what it takes of the machine.
//!
//! `schema` is raised when a field changes meaning; fields are only ever added. docs/owner.md
//! describes it.

use std::time::Instant;

use serde::Serialize;

use super::roster::{Live, Tally};
use super::usage::{self, Course, STEP, Used};
use crate::remote::job::Context;
use crate::remote::sample;
use crate::remote::stats::Counts;

/// The schema of this build's documents.
const SCHEMA: u32 = 1;

/// Jobs that are shown; the rest is counted. More than any machine runs at once.
const JOBS_MAX: usize = 500;

/// Seconds of a figure in the long course.
const LONG_STEP_S: u64 = 300;

/// Everything.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    schema: u32,
    host: String,
    version: &'static str,
    uptime_s: u64,
    paused: bool,
    /// Why no job is taken at this moment; empty when jobs are.
    closed: String,
    slots: u32,
    running: u32,
    waiting: u32,
    hermetic: bool,
    sandbox: String,
    machine: Machine,
    store: StoreReport,
    totals: Counts,
    jobs: Vec<JobReport>,
    clients: Vec<ClientReport>,
}

/// The machine, and what of it is taken.
#[derive(Clone, Debug, Serialize)]
struct Machine {
    processors: usize,
    load: [f64; 3],
    memory_bytes: u64,
    memory_available_bytes: u64,
    disk_free_bytes: u64,
    /// Of all processes of this daemon.
    taken_memory_bytes: u64,
    /// In processors: 1.5 is one and a half of them.
    taken_processors: f64,
    recent: Vec<f64>,
    recent_step_s: u64,
    day: Vec<f64>,
    day_step_s: u64,
}

#[derive(Clone, Debug, Serialize)]
struct StoreReport {
    bytes: u64,
    max_bytes: u64,
    files: usize,
}

#[derive(Clone, Debug, Serialize)]
struct JobReport {
    client: String,
    compiler: String,
    source: String,
    /// `running`, or `waiting` for its inputs or for a slot.
    state: &'static str,
    age_ms: u64,
    cpu_ms: u64,
    memory_bytes: u64,
}

#[derive(Clone, Debug, Serialize)]
struct ClientReport {
    name: String,
    from: String,
    jobs: u32,
    ok: u64,
    failed: u64,
    other: u64,
    cpu_ms: u64,
    idle_s: u64,
}

impl Report {
    /// Looks at everything. Blocking, as long as reading `/proc` takes.
    pub fn of(context: &Context, course: &Course, started: Instant) -> Self {
        let now = Instant::now();
        let (sandbox, hermetic) = match &context.hermetic {
            Ok(hermetic) => (hermetic.sandbox.describe().to_owned(), true),
            Err(why) => (format!("{}; no files: {why}", context.workshop.confinement().describe()), false),
        };
        let (bytes, max_bytes, files) = context.store.held();
        Report {
            schema: SCHEMA,
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            version: env!("CARGO_PKG_VERSION"),
            uptime_s: now.saturating_duration_since(started).as_secs(),
            paused: context.gate.is_paused(),
            closed: context.gate.closed().unwrap_or_default(),
            slots: context.slots,
            running: context.gate.running(),
            waiting: context.gate.waiting(),
            hermetic,
            sandbox,
            machine: Machine::of(context, course),
            store: StoreReport { bytes, max_bytes, files },
            totals: context.stats.counts(),
            jobs: context.roster.live().iter().take(JOBS_MAX).map(|live| JobReport::of(live, now)).collect(),
            clients: context.roster.tallies().iter().map(|tally| ClientReport::of(tally, now)).collect(),
        }
    }

    /// As JSON.
    pub fn to_json(&self) -> String {
        // Numbers and texts always can be.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Machine {
    fn of(context: &Context, course: &Course) -> Self {
        let sample = sample::take(context.workshop.spool());
        Machine {
            processors: sample::processors(),
            load: sample::load_averages(),
            memory_bytes: sample::memory_total().unwrap_or(0),
            memory_available_bytes: sample.memory.unwrap_or(0),
            disk_free_bytes: sample.disk.unwrap_or(0),
            taken_memory_bytes: usage::of_tree(rustix::process::getpid()).memory,
            taken_processors: course.now(),
            recent: course.recent(),
            recent_step_s: STEP.as_secs(),
            day: course.long(),
            day_step_s: LONG_STEP_S,
        }
    }
}

impl JobReport {
    fn of(live: &Live, now: Instant) -> Self {
        let Used { cpu, memory } = live.leader.map(usage::of_tree).unwrap_or_default();
        JobReport {
            client: live.client.clone(),
            compiler: live.compiler.clone(),
            source: live.source.clone(),
            state: if live.leader.is_some() { "running" } else { "waiting" },
            age_ms: now.saturating_duration_since(live.begun).as_millis() as u64,
            cpu_ms: cpu.as_millis() as u64,
            memory_bytes: memory,
        }
    }
}

impl ClientReport {
    fn of(tally: &Tally, now: Instant) -> Self {
        ClientReport {
            name: tally.name.clone(),
            from: tally.from.clone(),
            jobs: tally.jobs,
            ok: tally.ok,
            failed: tally.failed,
            other: tally.other,
            cpu_ms: tally.cpu.as_millis() as u64,
            idle_s: if tally.jobs > 0 { 0 } else { now.saturating_duration_since(tally.last).as_secs() },
        }
    }
}
