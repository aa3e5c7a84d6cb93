//! What `distcc --status` shows: a snapshot as data, and the same as text.
//!
//! The JSON document is this module's types; its `schema` is raised when a field changes meaning,
//! and fields are only ever added.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::dispatch::About;
use super::hermetic::counts::Travelled;
use super::scheduler::api::Moment;
use super::scheduler::snapshot::{HostState, HostView, JobView, PhaseView, Totals};
use super::state::phases::Phase;
use super::volunteers::Volunteers;

/// The schema of this build's documents.
const SCHEMA: u32 = 1;

/// Everything about a broker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The document's schema.
    pub schema: u32,
    /// The broker's process.
    pub pid: u32,
    /// Its package version.
    pub version: String,
    /// How long it has been running, in seconds.
    pub uptime_s: u64,
    /// Volunteers, in the order in which they became known.
    pub hosts: Vec<HostReport>,
    /// Jobs that are not over, oldest first.
    pub jobs: Vec<JobReport>,
    /// Counts since the broker started.
    pub totals: TotalsReport,
}

/// One volunteer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostReport {
    /// Its name as the list has it, with the port where it is not the usual one.
    pub host: String,
    /// `untried`, `connecting`, `up`, `backed-off` or `down`.
    pub state: String,
    /// Why it is not up, or takes fewer jobs than it has slots; may be empty.
    pub why: String,
    /// How long it will be left alone, in milliseconds.
    pub back_off_ms: u64,
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
    /// Toolchains that it refused since it came up.
    pub refused_toolchains: u32,
    /// Whether it takes hermetic compiles; unknown until it has been up.
    #[serde(default)]
    pub hermetic: Option<bool>,
    /// How it confines jobs, in its own words.
    #[serde(default)]
    pub sandbox: String,
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
    /// Attempts that left as preprocessed text, by reason.
    #[serde(default)]
    pub sent_texts: BTreeMap<String, u64>,
}

impl HostReport {
    /// What people see of a host.
    pub fn new(view: &HostView, volunteers: &Volunteers) -> Self {
        let (state, why, wait) = match &view.state {
            HostState::Untried => ("untried", "", None),
            HostState::Connecting => ("connecting", "", None),
            HostState::Up => ("up", volunteers.credit_why(view.host), None),
            HostState::BackedOff { why, left } => ("backed-off", why.as_str(), Some(*left)),
            HostState::Down { why } => ("down", why.as_str(), None),
        };
        HostReport {
            host: volunteers.name(view.host).to_string(),
            state: state.to_owned(),
            why: why.to_owned(),
            back_off_ms: wait.map_or(0, |wait| wait.as_millis() as u64),
            slots_used: view.used,
            slots: view.credit.unwrap_or(0),
            done: view.done,
            speed: view.speed,
            round_trip_us: volunteers.last_round_trip(view.host).map(|time| time.as_micros() as u64),
            refused_toolchains: view.refused.len() as u32,
            hermetic: volunteers.is_hermetic(view.host),
            sandbox: volunteers.sandbox(view.host).to_owned(),
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
            slot: about.map_or(0, |about| about.slot),
        }
    }
}

impl JobReport {
    /// Its host without the port, as monitors of distcc 3.4 show it.
    pub fn host_name(&self) -> &str {
        let bracketed = self.host.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        match bracketed {
            Some((address, _)) => address,
            None => self.host.split_once(':').map_or(&self.host, |(name, _)| name),
        }
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

impl Report {
    /// Puts a document together.
    pub fn new(
        hosts: Vec<HostReport>,
        jobs: Vec<JobReport>,
        totals: &Totals,
        travelled: Travelled,
        now: Moment,
    ) -> Self {
        let reasons = totals.local.iter().map(|(key, count)| ((*key).to_owned(), *count));
        let totals = TotalsReport {
            remote: totals.remote,
            cached: totals.found,
            local: totals.local.values().sum(),
            local_reasons: reasons.collect(),
            retried: totals.retried,
            hedged: totals.hedged,
            forbidden: totals.forbidden,
            abandoned: totals.abandoned,
            sent_files: travelled.files,
            sent_texts: travelled.texts,
        };
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let uptime_s = now.since(Moment(0)).as_secs();
        Report { schema: SCHEMA, pid: std::process::id(), version, uptime_s, hosts, jobs, totals }
    }

    /// The document as a table of at most 80 columns.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ =
            writeln!(text, "broker {} (pid {}), up {}", self.version, self.pid, age(self.uptime_s * 1000));
        self.render_hosts(&mut text);
        self.render_jobs(&mut text);
        self.render_totals(&mut text);
        text
    }

    fn render_hosts(&self, text: &mut String) {
        if self.hosts.is_empty() {
            text.push_str("\nno volunteer has been asked yet\n");
            return;
        }
        let _ = writeln!(
            text,
            "\n{:<30} {:<11} {:>7} {:>7} {:>6} {:>7}",
            "HOST", "STATE", "SLOTS", "DONE", "SPEED", "RTT"
        );
        for host in &self.hosts {
            let slots = format!("{}/{}", host.slots_used, host.slots);
            let rtt = host
                .round_trip_us
                .map_or_else(|| "-".to_owned(), |us| format!("{:.1}ms", us as f64 / 1000.0));
            let _ = writeln!(
                text,
                "{:<30} {:<11} {:>7} {:>7} {:>6.2} {:>7}",
                clip(&host.host, 30),
                host.state,
                slots,
                host.done,
                host.speed,
                rtt
            );
            if !host.why.is_empty() {
                let wait = if host.back_off_ms > 0 {
                    format!(" (for {})", age(host.back_off_ms))
                } else {
                    String::new()
                };
                let _ = writeln!(text, "    {}{wait}", clip(&host.why, 60));
            }
            if host.hermetic == Some(false) && !host.sandbox.is_empty() {
                let _ = writeln!(text, "    takes texts only: {}", clip(&host.sandbox, 55));
            }
            if host.refused_toolchains > 0 {
                let _ = writeln!(text, "    lacks {} of our toolchains", host.refused_toolchains);
            }
        }
    }

    fn render_jobs(&self, text: &mut String) {
        if self.jobs.is_empty() {
            text.push_str("\nno jobs\n");
            return;
        }
        let waiting = self.jobs.iter().filter(|job| job.host.is_empty()).count();
        let _ = writeln!(text, "\n{} jobs, {waiting} of them waiting", self.jobs.len());
        let _ = writeln!(text, "{:<34} {:<13} {:<20} {:>7}", "SOURCE", "PHASE", "HOST", "AGE");
        const SHOWN: usize = 40;
        for job in self.jobs.iter().take(SHOWN) {
            let source = clip_left(&job.source, 34);
            let _ = writeln!(
                text,
                "{source:<34} {:<13} {:<20} {:>7}",
                job.phase,
                clip(&job.host, 20),
                age(job.age_ms)
            );
        }
        if self.jobs.len() > SHOWN {
            let _ = writeln!(text, "… and {} more", self.jobs.len() - SHOWN);
        }
    }

    fn render_totals(&self, text: &mut String) {
        let totals = &self.totals;
        let _ = writeln!(
            text,
            "\n{} jobs remote, {} cached, {} here; {} retried, {} hedged, {} abandoned",
            totals.remote, totals.cached, totals.local, totals.retried, totals.hedged, totals.abandoned
        );
        for (reason, count) in &totals.local_reasons {
            let _ = writeln!(text, "    {count:>7} here: {reason}");
        }
        if totals.sent_files > 0 {
            let _ = writeln!(text, "    {:>7} sent as files", totals.sent_files);
        }
        for (reason, count) in &totals.sent_texts {
            let _ = writeln!(text, "    {count:>7} sent as text: {}", clip(reason, 50));
        }
    }
}

/// At most `width` letters of a text.
fn clip(text: &str, width: usize) -> String {
    match text.chars().count() > width {
        true => text.chars().take(width - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

/// The same from the end: of a path the end matters.
fn clip_left(text: &str, width: usize) -> String {
    let length = text.chars().count();
    match length > width {
        true => ['…'].into_iter().chain(text.chars().skip(length - width + 1)).collect(),
        false => text.to_owned(),
    }
}

fn age(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{}.{}s", ms / 1000, ms % 1000 / 100),
        10_000..600_000 => format!("{}s", ms / 1000),
        600_000..36_000_000 => format!("{}m", ms / 60_000),
        _ => format!("{}h", ms / 3_600_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let long = "x".repeat(300);
        let host = HostReport {
            host: format!("{long}:3632"),
            state: "backed-off".to_owned(),
            why: long.clone(),
            back_off_ms: 12_000,
            slots: 1024,
            slots_used: 1000,
            done: 9_999_999,
            speed: 0.1,
            round_trip_us: Some(123_456),
            refused_toolchains: 1,
            hermetic: Some(false),
            sandbox: long.clone(),
        };
        let job = JobReport {
            source: format!("/{long}/a.c"),
            pid: 1,
            host: long.clone(),
            phase: "waiting-local".to_owned(),
            age_ms: 700_000,
            slot: 0,
        };
        let totals = TotalsReport {
            remote: 10_000_000,
            local: 7,
            local_reasons: [("not-a-compile".to_owned(), 7)].into(),
            sent_files: 3,
            sent_texts: [(long.clone(), 7)].into(),
            ..TotalsReport::default()
        };
        Report { pid: 4_000_000, hosts: vec![host], jobs: vec![job; 50], totals, ..Report::default() }
    }

    #[test]
    fn the_table_fits_eighty_columns_whatever_is_long() {
        let text = report().render();
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
        }
        assert!(text.contains("a.c"), "the end of a path is what matters");
    }

    #[test]
    fn a_broker_that_has_done_nothing_says_so() {
        let text = Report::default().render();
        assert!(text.contains("no volunteer has been asked yet") && text.contains("no jobs"), "{text}");
    }

    #[test]
    fn the_document_comes_back_as_it_was() {
        let json = serde_json::to_string(&report()).expect("json");
        assert_eq!(serde_json::from_str::<Report>(&json).expect("a report"), report());
    }
}
